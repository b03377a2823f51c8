/* SPDX-License-Identifier: Apache-2.0 */
#include "base/metrics.h"

#include <stdatomic.h>

static _Atomic uint64_t counters[METRIC_COUNT];
static _Atomic uint64_t refused[ERR_COUNT];

void metric_add(enum metric m, uint64_t n)
{
    atomic_fetch_add_explicit(&counters[m], n, memory_order_relaxed);
}

void metric_sub(enum metric m, uint64_t n)
{
    atomic_fetch_sub_explicit(&counters[m], n, memory_order_relaxed);
}

uint64_t metric_get(enum metric m)
{
    return atomic_load_explicit(&counters[m], memory_order_relaxed);
}

void metric_refused(enum err e)
{
    atomic_fetch_add_explicit(&refused[e], 1, memory_order_relaxed);
}

uint64_t metric_refused_get(enum err e)
{
    return atomic_load_explicit(&refused[e], memory_order_relaxed);
}
