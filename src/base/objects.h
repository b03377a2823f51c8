/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: sizes. Gives: small objects that come and go by the thousand (calls, streams, header
 * fields). Owns: chunks of memory with free lists by size; a freed object is reused by the next of
 * its size. Thread: one. malloc's own thread cache keeps 7 objects of a size; a connection has a
 * hundred. */
#ifndef BASE_OBJECTS_H
#define BASE_OBJECTS_H

#include "base/base.h"

#define OBJECTS_CLASSES 21
#define OBJECTS_MAX 4096u /* with the head; more is malloc's */

struct objects_chunk;

struct objects {
    struct objects_chunk *chunks;
    size_t chunk_count; /* of 64 KiB each */
    uint8_t *fresh;     /* unused rest of the newest chunk */
    size_t fresh_len;
    void *free[OBJECTS_CLASSES];
    size_t live;                            /* objects handed out, large ones included */
    uint8_t class_of[OBJECTS_MAX / 16 + 1]; /* by sixteenths of the size, rounded up */
};

/* Gives back the chunks in which every object is free. Visits all free objects: for quiet times. */
void objects_trim(struct objects *o);
/* Zero-initialised is empty and valid. Every object must have been freed. */
void objects_fini(struct objects *o);
/* Aligned to 16 bytes, not cleared. NULL when out of memory. Above 4 KiB it is malloc's. */
MUST_CHECK void *objects_alloc(struct objects *o, size_t n);
MUST_CHECK void *objects_calloc(struct objects *o, size_t count, size_t n);
/* As realloc(3). */
MUST_CHECK void *objects_realloc(struct objects *o, void *p, size_t n);
/* p may be NULL. */
void objects_free(struct objects *o, void *p);

#endif
