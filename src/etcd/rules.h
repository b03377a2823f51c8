/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: rules on etcd keys. Gives: the providers of a key, or none. Owns: its index; prefixes
 * and lists are borrowed and outlive it. Thread: any; immutable once built. */
#ifndef ETCD_RULES_H
#define ETCD_RULES_H

#include "envelope/envelope.h"

struct etcd_rule {
    struct bytes prefix; /* "/registry/secrets": matches itself and what begins with it and "/" */
    bool is_dotless;     /* matches only when the segment behind prefix "/" holds no dot */
    const struct provider_list *list; /* NULL: never transformed; hides shorter rules */
};

struct etcd_rules;

/* Of the rules that match a key the longest prefix wins; at equal length one that is not dotless.
 * Errors: ERR_NOMEM. */
MUST_CHECK enum err etcd_rules_new(const struct etcd_rule *rules, size_t count,
                                   struct etcd_rules **out);
void etcd_rules_free(struct etcd_rules *r);
/* Is there any key that old protects and fresh does not? *key is one, the caller's to free, or NULL
 * when there is none; exact, not a sample. Errors: ERR_NOMEM. */
MUST_CHECK enum err etcd_rules_lost(const struct etcd_rules *old, const struct etcd_rules *fresh,
                                    char **key);
/* NULL: the key is not protected. */
const struct provider_list *etcd_rules_find(const struct etcd_rules *r, struct bytes key);
/* The same for one of many keys that mostly match the same rule: *near is that of the last key,
 * NULL at first. */
const struct provider_list *etcd_rules_find_near(const struct etcd_rules *r, struct bytes key,
                                                 const struct etcd_rule **near);
/* Can a key of the range be protected? end empty: the one key; end "\0": everything from key on.
 * When in doubt, yes. */
bool etcd_rules_touch(const struct etcd_rules *r, struct bytes key, struct bytes end);

#endif
