/* SPDX-License-Identifier: Apache-2.0 */
/* Receives / Gives: reference counts of immutable objects that several threads hold (DEKs, rule
 * sets). Owns: nothing. Thread: any. Everything else in the program is owned by one thread. */
#ifndef BASE_REFCOUNT_H
#define BASE_REFCOUNT_H

#include <stdatomic.h>

#include "base/base.h"

struct refcount {
    _Atomic uint32_t n;
};

static inline void refcount_init(struct refcount *r)
{
    atomic_init(&r->n, 1);
}

static inline void refcount_ref(struct refcount *r)
{
    atomic_fetch_add_explicit(&r->n, 1, memory_order_relaxed);
}

/* True when this was the last reference: the caller frees. */
MUST_CHECK static inline bool refcount_drop(struct refcount *r)
{
    return atomic_fetch_sub_explicit(&r->n, 1, memory_order_acq_rel) == 1;
}

#endif
