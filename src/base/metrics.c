/* SPDX-License-Identifier: Apache-2.0 */
/* A thread counts in a block of its own, so that workers do not pull cache lines from each other at
 * every message; a reader adds the blocks up. A gauge that one thread raises and another lowers is
 * right in the sum: the arithmetic is modulo 2^64. */
#include "base/metrics.h"

#include <stdatomic.h>
#include <time.h>

#define BLOCKS 320 /* more than there are threads; if not, the last one is shared */
#define SLOTS ((uint32_t)METRIC_COUNT + (uint32_t)ERR_COUNT)

struct block {
    _Alignas(64) _Atomic uint64_t slots[SLOTS];
    _Atomic uint64_t shed_ms; /* when room was missing last; 0: never */
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

static uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static bool is_for_want_of_room(enum err e)
{
    return e == ERR_NOMEM || e == ERR_MEMORY_LIMIT || e == ERR_CONNECTION_LIMIT ||
           e == ERR_OPENING_LIMIT || e == ERR_NO_DESCRIPTOR;
}

void metric_refused(enum err e)
{
    add(METRIC_COUNT + (uint32_t)e, 1);
    if (is_for_want_of_room(e)) /* own is there now; a shared one's latest is late enough */
        atomic_store_explicit(&own->shed_ms, now_ms(), memory_order_relaxed);
}

uint64_t metric_shed_ago_ms(void)
{
    uint32_t count = atomic_load_explicit(&taken, memory_order_relaxed);
    uint64_t last = 0, now = now_ms();

    for (uint32_t i = 0; i < count && i < BLOCKS; i++) {
        uint64_t at = atomic_load_explicit(&blocks[i].shed_ms, memory_order_relaxed);

        last = at > last ? at : last;
    }
    return last == 0 ? UINT64_MAX : now > last ? now - last : 0;
}

uint64_t metric_refused_get(enum err e)
{
    return sum(METRIC_COUNT + (uint32_t)e);
}
