/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: the rule set of a state. Gives: what is protected by what. Owns: nothing. Thread:
 * control.
 *
 * Rules with the same provider lists make a group, which is shown as one: with "*.*" there is a
 * rule for each kind of Kubernetes. A group is known by the index of its first rule. Rules without
 * a provider list (what nothing selects) are in no group. */
#ifndef PAGES_PROTECTION_H
#define PAGES_PROTECTION_H

#include "pages/state.h"

/* The first group at or behind rule i; rules->key_rules->count: there are no more. */
size_t pages__group_next(const struct ruleset *rules, size_t i);
/* The rule of the group behind rule i; rules->key_rules->count: there are no more. */
size_t pages__group_rule_next(const struct ruleset *rules, size_t i);

/* One way to seal or to read: a provider, with one of its keys. */
struct pages_way {
    const struct provider *provider;
    /* What names the key: "sha256:..." of a KMS v2 plugin's key id, the name of a local key; ""
     * where nothing does, or where it is not known yet. */
    char key[256];
};
/* The n-th way of the group: 0 is what new values are sealed with, the others are for reading
 * alone. False: there are not so many; of 0: values are stored as they are. A KMS plugin is one
 * way, though it may read with older keys, too. */
MUST_CHECK bool pages__group_way(const struct pages_state *st, size_t group, size_t n,
                                 struct pages_way *out);
/* "kms v2 local", "aesgcm v1", "identity": how people call the provider. Returns out. */
const char *pages__provider_words(const struct provider *p, char out[static 300]);

#endif
