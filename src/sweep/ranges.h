/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: a rule set, what of it is wanted. Gives: the ranges of keys to look through. Owns:
 * their bytes. Thread: any. */
#ifndef SWEEP_RANGES_H
#define SWEEP_RANGES_H

#include "policy/ruleset.h"

/* What is wanted; none of a kind: all. Borrowed. */
struct sweep_filter {
    const char *const *resources; /* as rules name them: "secrets", "jobs.batch", "*.*" */
    size_t resource_count;
    const char *const *namespaces;
    size_t namespace_count;
};

struct sweep_range {
    struct bytes key, end; /* from key on, before end */
};

struct sweep_ranges {
    struct sweep_range *v; /* in order, and none touches another */
    size_t count;
    uint8_t *text;
};

/* Where protected keys that the filter wants may lie: a superset, for a longer rule may hide some.
 * Errors: ERR_NOMEM. */
MUST_CHECK enum err sweep_ranges_make(const struct ruleset *rules, const struct sweep_filter *f,
                                      struct sweep_ranges *out);
void sweep_ranges_fini(struct sweep_ranges *r);
/* Is it this resource that is wanted? */
bool sweep_wants_resource(const struct sweep_filter *f, const char *resource);
/* Is the key wanted? list: its own, not NULL. The namespace is the segment before the last one. */
bool sweep_wants(const struct sweep_filter *f, struct bytes key, const struct provider_list *list);

#endif
