/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: the calls of h2 for small objects, which the linker turns into these. Gives: the same,
 * or no memory when failing_alloc says so. Small objects come by the chunk, so that malloc would
 * seldom be asked: here each asks it once. */
#include <stdlib.h>

#include "base/objects.h"

void *__real_objects_alloc(struct objects *o, size_t n);
void *__real_objects_calloc(struct objects *o, size_t count, size_t n);
void *__real_objects_realloc(struct objects *o, void *p, size_t n);
void *__wrap_objects_alloc(struct objects *o, size_t n);
void *__wrap_objects_calloc(struct objects *o, size_t count, size_t n);
void *__wrap_objects_realloc(struct objects *o, void *p, size_t n);

static bool has_memory(void)
{
    void *volatile p = malloc(1);
    bool has = p != NULL;

    free(p);
    return has;
}

void *__wrap_objects_alloc(struct objects *o, size_t n)
{
    return has_memory() ? __real_objects_alloc(o, n) : NULL;
}

void *__wrap_objects_calloc(struct objects *o, size_t count, size_t n)
{
    return has_memory() ? __real_objects_calloc(o, count, n) : NULL;
}

void *__wrap_objects_realloc(struct objects *o, void *p, size_t n)
{
    return has_memory() ? __real_objects_realloc(o, p, n) : NULL;
}
