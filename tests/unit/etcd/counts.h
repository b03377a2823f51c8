/* SPDX-License-Identifier: Apache-2.0 */
/* What plans have counted, summed up: for tests that compare two ways of doing the same. */
#ifndef TESTS_UNIT_ETCD_COUNTS_H
#define TESTS_UNIT_ETCD_COUNTS_H

#include "etcd/plan.h"

struct counts {
    struct {
        struct etcd_count count; /* need is void */
        const struct dek *dek;
    } v[64];
    size_t count, sealed, opened, plain;
};

/* Takes the counts out of the plan, as the lane does behind every step. Aborts when there are too
 * many different ones. */
void counts_take(struct counts *c, struct etcd_plan *p);
bool counts_same(const struct counts *a, const struct counts *b);

#endif
