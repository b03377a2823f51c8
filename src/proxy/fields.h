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
    size_t size; /* of the block */
};

/* What a call looks at in a field list: of each the first, {NULL, 0} when there is none. Borrowed.
 */
struct fields_head {
    struct bytes method, path, authority, status; /* pseudo-header fields */
    struct bytes content_type, encoding, timeout, grpc_status;
    size_t grpc_status_count;
};

/* All of them in one walk. */
void fields_look(struct h2_fields h, struct fields_head *out);
/* Does the field go on to the other side? Not those that end at a proxy (RFC 9110 section 7.6.1),
 * those that it sets itself (the content-type is one), and pseudo-header fields. */
bool fields_is_passed(struct bytes name);

/* Makes f (empty) a block with room for count fields of bytes bytes in all. Errors: ERR_NOMEM. */
MUST_CHECK enum err fields_new(struct fields *f, struct objects *o, size_t count, size_t bytes);
/* Makes f (empty) a copy of the fields of h that are passed on. Names and values are copied, so
 * that a short header cannot pin a read slab. Errors: ERR_NOMEM. */
MUST_CHECK enum err fields_copy(struct fields *f, struct objects *o, struct h2_fields h);
/* Adds those fields into the room that was asked for. */
void fields_add_passed(struct fields *f, struct h2_fields h);
/* Adds a field into the room that was asked for: more is our bug. */
void fields_add(struct fields *f, struct bytes name, struct bytes value);
/* Adds a field whose bytes outlive f: constants. */
void fields_add_static(struct fields *f, struct bytes name, struct bytes value);
void fields_fini(struct fields *f, struct objects *o);
struct h2_fields fields_view(const struct fields *f);
/* The list with the block that it is in, for h2_request_take and the like; f is empty then. */
struct h2_fields fields_take(struct fields *f);
/* Bytes of all names and values. */
size_t fields_bytes(struct h2_fields h);

#endif
