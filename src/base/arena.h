/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: sizes. Gives: short-lived memory that is freed all at once. Owns: its blocks.
 * Thread: one. For what lives as long as one message: gathered keys, plans. */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include "base/err.h"

struct arena_block;

struct arena {
    struct arena_block *blocks; /* newest first */
    size_t used;                /* of the newest */
    size_t size;                /* of all blocks */
};

/* Zero-initialised is empty and valid. Memory is aligned to 16 bytes and not cleared. NULL when
 * out of memory. */
MUST_CHECK void *arena_alloc(struct arena *a, size_t n);
/* Forgets everything; keeps one block of the default size for the next round. */
void arena_reset(struct arena *a);
void arena_fini(struct arena *a);

#endif
