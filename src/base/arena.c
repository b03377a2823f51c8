/* SPDX-License-Identifier: Apache-2.0 */
/* Memory is taken from the newest block, from its start on; when it does not fit a new block is
 * made, of ARENA_BLOCK bytes or to measure. arena_reset frees all but one block of ARENA_BLOCK.
 * Failure modes: no memory for a block: NULL, and the arena is as before. */
#include "base/arena.h"

#include <stdlib.h>

#define ARENA_BLOCK 8192u
#define ARENA_ALIGN 16u

struct arena_block {
    struct arena_block *next;
    size_t cap;
    _Alignas(ARENA_ALIGN) uint8_t data[];
};

void *arena_alloc(struct arena *a, size_t n)
{
    struct arena_block *b = a->blocks;
    size_t need;

    if (n > SIZE_MAX / 4)
        return NULL;
    need = (n + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
    if (b == NULL || b->cap - a->used < need) {
        size_t cap = need > ARENA_BLOCK ? need : ARENA_BLOCK;

        b = malloc(sizeof *b + cap);
        if (b == NULL)
            return NULL;
        b->cap = cap;
        b->next = a->blocks;
        a->blocks = b;
        a->used = 0;
        a->size += cap;
    }
    a->used += need;
    return b->data + a->used - need;
}

void arena_reset(struct arena *a)
{
    struct arena_block *keep = NULL;

    while (a->blocks != NULL) {
        struct arena_block *b = a->blocks;

        a->blocks = b->next;
        if (keep == NULL && b->cap == ARENA_BLOCK)
            keep = b;
        else
            free(b);
    }
    if (keep != NULL)
        keep->next = NULL;
    a->blocks = keep;
    a->used = 0;
    a->size = keep == NULL ? 0 : keep->cap;
}

void arena_fini(struct arena *a)
{
    arena_reset(a);
    free(a->blocks);
    a->blocks = NULL;
    a->size = 0;
}
