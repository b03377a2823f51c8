/* SPDX-License-Identifier: Apache-2.0 */
/* A thread counts in a block of its own, so that workers do not pull cache lines from each other at
 * every message; a reader adds the blocks up. A gauge that one thread raises and another lowers is
 * right in the sum: the arithmetic is modulo 2^64. */
#include "base/metrics.h"

#include <stdatomic.h>

#define BLOCKS 320 /* more than there are threads; if not, the last one is shared */
#define SLOTS ((uint32_t)METRIC_COUNT + (uint32_t)ERR_COUNT)

struct block {
    _Alignas(64) _Atomic uint64_t slots[SLOTS];
};

static struct block blocks[BLOCKS];
static _Atomic uint32_t taken;
static _Thread_local struct block *own;

static struct block *block_take(void)
{
    uint32_t i = atomic_fetch_add_explicit(&taken, 1, memory_order_relaxed);

    own = &blocks[i < BLOCKS - 1 ? i : BLOCKS - 1];
    return own;
}

static void add(uint32_t slot, uint64_t n)
{
    struct block *b = own != NULL ? own : block_take();
    _Atomic uint64_t *at = &b->slots[slot];

    if (b == &blocks[BLOCKS - 1])
        atomic_fetch_add_explicit(at, n, memory_order_relaxed);
    else /* nobody else writes it */
        atomic_store_explicit(at, atomic_load_explicit(at, memory_order_relaxed) + n,
                              memory_order_relaxed);
}

static uint64_t sum(uint32_t slot)
{
    uint32_t count = atomic_load_explicit(&taken, memory_order_relaxed);
    uint64_t n = 0;

    for (uint32_t i = 0; i < count && i < BLOCKS; i++)
        n += atomic_load_explicit(&blocks[i].slots[slot], memory_order_relaxed);
    return n;
}

void metric_add(enum metric m, uint64_t n)
{
    add((uint32_t)m, n);
}

void metric_sub(enum metric m, uint64_t n)
{
    add((uint32_t)m, 0 - n);
}

uint64_t metric_get(enum metric m)
{
    return sum((uint32_t)m);
}

void metric_refused(enum err e)
{
    add(METRIC_COUNT + (uint32_t)e, 1);
}

uint64_t metric_refused_get(enum err e)
{
    return sum(METRIC_COUNT + (uint32_t)e);
}
