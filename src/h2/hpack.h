/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: whole header blocks; field lists. Gives: field lists, looked at by message.c; header
 * blocks. Owns: the two compression contexts of a connection. Thread: its loop's.
 * Source: RFC 7541. */
#ifndef H2_HPACK_H
#define H2_HPACK_H

#include <nghttp2/nghttp2.h>

#include "base/objects.h"
#include "h2/h2.h"

/* What a header block is, which decides what message.c allows in it. */
enum h2__block { H2__REQUEST, H2__ANSWER, H2__TRAILERS };

/* A field list that was received. */
struct h2__headers {
    struct h2_field *v;
    size_t count, cap;
    size_t bytes; /* as of RFC 9113 section 6.5.2, also of the fields that are gone */
    bool is_over; /* a limit was passed: the fields from there on are gone */
    /* Used by message.c. */
    enum h2__block kind;
    unsigned seen;    /* pseudo-header fields */
    bool has_regular; /* a field that is no pseudo-header field came */
    bool is_malformed;
};

/* ---------------------------------------------------------------- in */

/* The size of the decoder's table: the protocol's default, which our SETTINGS do not change. */
#define H2__HPACK_TABLE 4096u

struct h2__hpack_limits {
    size_t bytes;  /* RFC 9113 section 6.5.2 */
    size_t fields; /* SIZE_MAX: any number */
};

struct h2__hpack_entry;
struct h2__hpack_memo;

/* RFC 7541 section 2.3.2. */
struct h2__hpack_table {
    struct objects *mem;
    struct h2__hpack_entry **ring; /* a power of two of places */
    struct h2__hpack_entry *dead;  /* evicted, but a field list points into them */
    uint64_t generation;           /* changes whenever the table does */
    uint32_t ring_cap, newest, count;
    uint32_t size, max; /* as of RFC 7541 section 4.1 */
    uint32_t block;     /* number of the present block */
};

#define H2__HPACK_MEMOS 4

struct h2__hpack_in {
    struct objects *mem;
    struct h2__hpack_table table;
    struct h2__headers headers;
    uint8_t *text; /* literals of the present block */
    size_t text_len, text_cap;
    bool has_secret; /* text has a credential */
    bool is_broken;  /* an error came */
    struct h2__hpack_memo *memos[H2__HPACK_MEMOS];
    uint64_t seen[H2__HPACK_MEMOS]; /* fingerprints of blocks that came once */
    uint8_t memo_next, seen_next;
};

/* mem (borrowed) outlives in, which must not move. Errors: ERR_NOMEM; fini is not needed then. */
MUST_CHECK enum err h2__hpack_in_init(struct h2__hpack_in *in, struct objects *mem);
/* in may be zeroed memory that was never initialised. */
void h2__hpack_in_fini(struct h2__hpack_in *in);
/* Decodes one whole block (the payloads of HEADERS and its CONTINUATIONs, without padding and
 * priority). Every block of a connection has to come here, in order, also those of streams that
 * nobody wants. *out and its bytes, none of which lie in block, are valid until the next call for
 * in. A field list beyond the limits, or a malformed one, is no error: see is_over, is_malformed.
 * Errors, after which in takes no further block and the connection has to end: ERR_CLOSED (then it
 * is COMPRESSION_ERROR), ERR_NOMEM. Memory while it runs: 1.6 times the block, and the list. */
MUST_CHECK enum err h2__hpack_decode(struct h2__hpack_in *in, struct bytes block,
                                     enum h2__block kind, struct h2__hpack_limits limits,
                                     const struct h2__headers **out);
/* The last list is not needed any more, and not valid: gives back what a large one took, and wipes
 * credentials. Otherwise the next call of h2__hpack_decode does so. */
void h2__hpack_release(struct h2__hpack_in *in);

/* ---------------------------------------------------------------- out */

struct h2__hpack_list;

#define H2__HPACK_LISTS 8

struct h2__hpack_out {
    struct objects *mem;
    nghttp2_mem allocator; /* for nghttp2, which keeps a pointer to it */
    nghttp2_hd_deflater *deflater;
    nghttp2_nv *nv;
    size_t nv_cap;
    uint8_t *buf; /* a block that is not remembered */
    size_t buf_len, buf_cap;
    bool has_secret;                               /* buf has a credential */
    uint64_t generation;                           /* changes whenever the table does */
    struct h2__hpack_list *lists[H2__HPACK_LISTS]; /* remembered */
    uint8_t list_next;
};

/* As those of in. */
MUST_CHECK enum err h2__hpack_out_init(struct h2__hpack_out *o, struct objects *mem);
void h2__hpack_out_fini(struct h2__hpack_out *o);
/* The table size that the peer's SETTINGS allow; more than the protocol's default is not used. */
void h2__hpack_out_set_table_size(struct h2__hpack_out *o, uint32_t size);
/* Encodes a list. Every block has to be sent, whole and in the order of the calls. *block is valid
 * until the next call for o. Credentials (authorization, token) stay out of the table; a
 * grpc-timeout goes behind the other fields, several stay where they are. Errors: ERR_NOMEM, after
 * which the connection has to end: what the peer's table holds is not known. */
MUST_CHECK enum err h2__hpack_encode(struct h2__hpack_out *o, struct h2_fields f,
                                     struct bytes *block);

#endif
