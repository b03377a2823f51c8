/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: what to measure. Gives: one JSON line a case on standard output. Owns: what the cases
 * share: a provider list of one KMS v2 provider, its DEK, rules on /registry/secrets, slabs, random
 * bytes. Thread: one. */
#ifndef BENCH_MICRO_H
#define BENCH_MICRO_H

#include "base/randpool.h"
#include "envelope/envelope.h"
#include "etcd/plan.h"
#include "etcd/rules.h"

#define MICRO_KEY "/registry/secrets/namespace/name-of-the-secret-of-63-bytes-in-all"

struct micro {
    struct slab_pool pool;
    struct randpool random;
    struct envelope_ctx *ctx;
    struct dek *dek;
    struct provider provider;
    const struct provider *order[1];
    struct provider_list list;
    struct etcd_rules *rules;
};

void micro_init(struct micro *m);

struct micro_case {
    const char *module, *name;
    size_t bytes; /* that one run works on */
    void *arg;
    /* Makes what run i of a batch consumes; not measured. NULL: nothing. */
    void (*prepare)(void *arg, size_t i);
    void (*run)(void *arg, size_t i);
};

#define MICRO_BATCH 256u /* at most; fewer when a case is large: i is below it */

/* Measures batches by the CPU time of the thread, and prints their median. */
void micro_measure(const struct micro_case *c);
/* Measures two cases, a batch of the one and a batch of the other in turn, and prints both. The
 * first line has "of_second": the median of their ratios, which a slow minute of the machine
 * spares. */
void micro_measure_pair(const struct micro_case *first, const struct micro_case *second);
/* Ends the program when e is an error. */
void micro_must(enum err e);

#endif
