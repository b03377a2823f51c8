/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of HPACK share.
 *
 *   hpack_in.c                       decoding a block
 *   hpack_table.c, hpack_huffman.c   its tables; coded strings
 *   hpack_memo.c                     blocks that came before
 *   hpack_out.c, hpack_lists.c       encoding; lists that came before */
#ifndef H2_HPACK_INT_H
#define H2_HPACK_INT_H

#include "h2/h2_int.h"

/* ---------------------------------------------------------------- integers */

/* RFC 7541 section 5.1: *p is at a byte of which the low bits are the prefix, before end; moves
 * behind the integer. False: it ends behind end, or is above 32 bits or more than 5 bytes behind
 * its prefix. */
MUST_CHECK bool h2__hpack_int_long(const uint8_t **p, const uint8_t *end, uint32_t *n);

MUST_CHECK static inline bool h2__hpack_int(const uint8_t **p, const uint8_t *end, unsigned bits,
                                            uint32_t *n)
{
    uint32_t max = (1u << bits) - 1;

    *n = *(*p)++ & max;
    return *n < max || h2__hpack_int_long(p, end, n);
}

/* ---------------------------------------------------------------- hpack_huffman.c */

/* out has room for in.n * 8 / 5 bytes: the shortest code has 5 bits. False: not a coded string. */
MUST_CHECK bool h2__huffman_decode(struct bytes in, uint8_t *out, size_t *out_len);

/* ---------------------------------------------------------------- hpack_table.c */

#define H2__HPACK_STATIC 61u

/* A field of the dynamic table. */
struct h2__hpack_entry {
    struct h2__hpack_entry *next; /* in the list of the dead */
    uint32_t lent;                /* the last block whose field list points into it */
    uint16_t name_len, value_len;
    uint16_t class; /* as of h2__message_name and _value */
    uint8_t data[];
};

/* A field of either table. */
struct h2__hpack_item {
    struct h2_field field;
    unsigned class;
    struct h2__hpack_entry *entry; /* NULL: static */
};

static inline struct h2__hpack_item h2__hpack_item_of(struct h2__hpack_entry *e)
{
    return (struct h2__hpack_item){
        {bytes_of(e->data, e->name_len), bytes_of(e->data + e->name_len, e->value_len)},
        e->class,
        e};
}

extern const struct h2__hpack_item h2__hpack_static[H2__HPACK_STATIC];

/* The dynamic entry that was inserted last is 0; at < t->count. */
static inline struct h2__hpack_entry *h2__hpack_dynamic(const struct h2__hpack_table *t,
                                                        uint32_t at)
{
    return t->ring[(t->newest + at) & (t->ring_cap - 1)];
}

/* False: there is no such index. */
MUST_CHECK static inline bool h2__hpack_lookup(const struct h2__hpack_table *t, uint32_t index,
                                               struct h2__hpack_item *out)
{
    if (index - 1 < H2__HPACK_STATIC) {
        *out = h2__hpack_static[index - 1];
        return true;
    }
    if (index == 0 || index - 1 - H2__HPACK_STATIC >= t->count)
        return false;
    *out = h2__hpack_item_of(h2__hpack_dynamic(t, index - 1 - H2__HPACK_STATIC));
    return true;
}

void h2__hpack_table_init(struct h2__hpack_table *t, struct objects *mem);
void h2__hpack_table_fini(struct h2__hpack_table *t);
/* Copies the field, which may lie in an entry that goes to make room. *out: NULL when the field is
 * larger than the table, which is empty then. Errors: ERR_NOMEM. */
MUST_CHECK enum err h2__hpack_insert(struct h2__hpack_table *t, struct h2_field f, unsigned class,
                                     struct h2__hpack_entry **out);
/* A size update; max is at most H2__HPACK_TABLE. */
void h2__hpack_resize(struct h2__hpack_table *t, uint32_t max);
/* Frees the entries that have gone since the last call, but were lent. */
void h2__hpack_bury(struct h2__hpack_table *t);

/* ---------------------------------------------------------------- hpack_memo.c */

/* NULL: not remembered, or not valid any more, or beyond the limits. */
const struct h2__headers *h2__hpack_memo_find(const struct h2__hpack_in *in, struct bytes block,
                                              enum h2__block kind, struct h2__hpack_limits limits);
/* Remembers in->headers as what block says, or does not. */
void h2__hpack_memo_keep(struct h2__hpack_in *in, struct bytes block);
void h2__hpack_memo_fini(struct h2__hpack_in *in);

/* ---------------------------------------------------------------- hpack_lists.c */

#define H2__TIMEOUT "grpc-timeout"
#define H2__TIMEOUT_MAX 40u  /* longer ones are fields like any other; gRPC has 9 bytes at most */
#define H2__TIMEOUT_ROOM 64u /* for one as a literal, behind a block */

/* A list that was encoded before, without its grpc-timeout. */
struct h2__hpack_list {
    uint64_t generation;
    size_t key, count, block_len;
    uint8_t *block; /* with room for a timeout behind it */
    struct h2_field fields[];
};

static inline bool h2__hpack_is_timeout(const struct h2_field *f)
{
    return bytes_eq(f->name, BYTES_LIT(H2__TIMEOUT)) && f->value.n <= H2__TIMEOUT_MAX;
}

/* NULL: the list is not known. *timeout: the index of its grpc-timeout, which is not in the block;
 * f.count: it has none. */
const struct h2__hpack_list *h2__hpack_list_find(const struct h2__hpack_out *o, struct h2_fields f,
                                                 size_t *timeout);
/* Keeps f but for the field at timeout, with the block in o->buf, or does not. */
void h2__hpack_list_keep(struct h2__hpack_out *o, struct h2_fields f, size_t timeout);

#endif
