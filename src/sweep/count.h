/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: a rule set, etcd. Gives: how many keys there are to look at. Owns: nothing.
 * Thread: its loop's. */
#ifndef SWEEP_COUNT_H
#define SWEEP_COUNT_H

#include "sweep/etcd.h"
#include "sweep/ranges.h"

/* Embedded in its owner. */
struct sweep_count {
    struct sweep_etcd *etcd;
    struct sweep_ranges ranges;
    size_t range_at;
    struct sweep_call call;
    uint8_t *request;
    uint64_t count; /* the result: keys of the ranges, some of which may not be wanted */
    void (*fn)(struct sweep_count *self, const struct client_answer *a);
};

/* fn is called once, from the loop: with an answer that is good, or the one that was not. Errors:
 * ERR_NOMEM, ERR_CONFIG (nothing is wanted); sweep_count_fini is due in any case. */
MUST_CHECK enum err sweep_count_start(struct sweep_count *c, struct sweep_etcd *etcd,
                                      const struct ruleset *rules, const struct sweep_filter *f,
                                      void (*fn)(struct sweep_count *self,
                                                 const struct client_answer *a));
void sweep_count_fini(struct sweep_count *c);

#endif
