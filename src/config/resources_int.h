/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by select.c, rule_list.c and resources.c. */
#ifndef CONFIG_RESOURCES_INT_H
#define CONFIG_RESOURCES_INT_H

#include <stdarg.h>

#include "config/config_int.h"
#include "config/resources.h"

/* As enc_config_select, for a name that is split. config__select_exact takes only entries that have
 * this very name, and no wildcard that covers it. */
size_t config__select_exact(const struct enc_config *c, struct group_resource gr, size_t *indexes,
                            size_t max);
size_t config__select(const struct enc_config *c, struct group_resource gr, size_t *indexes,
                      size_t max);

/* NULL when there is none. */
struct key_rule *config__find_rule(struct key_rules *r, enum key_rule_kind kind,
                                   const char *prefix);
/* Adds a rule with these entries; its resource is gr's name, "" without entries. A rule for the
 * same prefix that is there already gets the entries in addition, so that two resources under one
 * prefix are both covered. Takes prefix, which may be the NULL of a failed allocation. Errors:
 * ERR_NOMEM. */
MUST_CHECK enum err config__take_rule(struct key_rules *r, enum key_rule_kind kind, char *prefix,
                                      struct group_resource gr, const size_t *indexes,
                                      size_t index_count);
/* A line of its own among the warnings. Errors: ERR_NOMEM. */
MUST_CHECK enum err config__add_warning(struct key_rules *r, const char *fmt, va_list args)
    PRINTF_LIKE(2, 0);

#endif
