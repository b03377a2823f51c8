/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by select.c, rule_list.c and resources.c. */
#ifndef CONFIG_RESOURCES_INT_H
#define CONFIG_RESOURCES_INT_H

#include <stdarg.h>

#include "config/config_int.h"
#include "config/resources.h"

/* As enc_config_select, for a name that is split; the first without the way over wildcards. */
size_t config__select_exact(const struct enc_config *c, struct group_resource gr, size_t *indexes,
                            size_t max);
size_t config__select(const struct enc_config *c, struct group_resource gr, size_t *indexes,
                      size_t max);

/* NULL when there is none. */
struct key_rule *config__find_rule(struct key_rules *r, enum key_rule_kind kind,
                                   const char *prefix);
/* A rule with these entries, shown as gr when there are any. One that is there already gets them,
 * too: two resources under one prefix are both covered. Takes prefix (NULL: out of memory, as is
 * told). Errors: ERR_NOMEM. */
MUST_CHECK enum err config__take_rule(struct key_rules *r, enum key_rule_kind kind, char *prefix,
                                      struct group_resource gr, const size_t *indexes,
                                      size_t index_count);
/* A line of its own among the warnings. Errors: ERR_NOMEM. */
MUST_CHECK enum err config__add_warning(struct key_rules *r, const char *fmt, va_list args)
    PRINTF_LIKE(2, 0);

#endif
