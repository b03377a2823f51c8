/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: borrowed header lists. Gives: copies that outlive a callback. Owns: the copies.
 * Thread: one. */
#ifndef PROXY_FIELDS_H
#define PROXY_FIELDS_H

#include "h2/h2.h"

/* A copy of a field list with room for a few more fields: one block. Zero-initialised is empty. */
struct fields {
    struct h2_field *v; /* the block: cap fields, then their bytes */
    size_t count, cap;
    uint8_t *bytes; /* unused rest of the block */
    size_t bytes_left;
};

/* Which fields of a list are copied. */
typedef bool (*fields_filter)(struct bytes name);

/* Makes f (empty) a copy of the fields of h that keep lets through (NULL: all), with room for extra
 * more fields of extra_bytes bytes in all. Names and values are copied, so that a short header
 * cannot pin a read slab. Errors: ERR_NOMEM. */
MUST_CHECK enum err fields_copy(struct fields *f, struct objects *o, struct h2_fields h,
                                fields_filter keep, size_t extra, size_t extra_bytes);
/* Adds a field into the room that was asked for: more is our bug. */
void fields_add(struct fields *f, struct bytes name, struct bytes value);
/* Adds a field whose bytes outlive f: constants. */
void fields_add_static(struct fields *f, struct bytes name, struct bytes value);
void fields_fini(struct fields *f, struct objects *o);
struct h2_fields fields_view(const struct fields *f);
/* The value of the first field with that name; {NULL, 0} when there is none. */
struct bytes fields_find(struct h2_fields h, struct bytes name);

#endif
