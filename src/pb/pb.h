/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: protobuf wire bytes, contiguous or in a chain. Gives: one field after the other.
 * Owns: nothing; cursors only. Thread: any.
 *
 * Rules of the wire (protobuf encoding document; Go's decoder): varints have at most 10 bytes and
 * 64 bits, non-minimal ones are legal; field numbers 1..2^29-1; wire types 6 and 7 and a stray
 * end-group are malformed; groups nest and must close with their own number. We give up at
 * PB_GROUP_DEPTH levels of groups (PB_BAD), where Go goes on to 10,000: no writer makes any. */
#ifndef PB_PB_H
#define PB_PB_H

#include "base/slice.h"

#define PB_GROUP_DEPTH 128u

enum pb_wire {
    PB_VARINT = 0,
    PB_FIXED64 = 1,
    PB_LEN = 2,
    PB_GROUP = 3,
    PB_END_GROUP = 4,
    PB_FIXED32 = 5
};

enum pb_result {
    PB_BAD = 0, /* malformed */
    PB_FIELD,   /* *f is filled; the reader stands behind the field */
    PB_END,     /* the message is over */
    PB_MORE, /* well formed so far, but the chain ends inside this field: the reader did not move */
};

/* Reads the fields of one message inside a chain. The chain may be shorter than the message (a
 * large answer that is still arriving): then PB_MORE. */
struct pb_reader {
    struct chain_pos pos;
    size_t end; /* chain offset behind the message */
};

struct pb_field {
    uint32_t number;
    enum pb_wire wire;
    size_t at;              /* chain offset of the tag */
    size_t value_at;        /* chain offset of the value; PB_LEN: behind the length */
    size_t value_len;       /* bytes of the value; PB_GROUP: through its end tag */
    uint64_t varint;        /* PB_VARINT: the value; fixed types: the little-endian number */
    struct chain_pos value; /* position of value_at */
};

struct pb_reader pb_reader_all(const struct chain *msg);
/* The message is bytes [off, off + len) of the chain, of which the last may still be missing;
 * off <= msg->len. A chain that changes (that grows after PB_MORE, say) voids its readers: make a
 * new one here from the old one's pos.at. Linear in slices. */
struct pb_reader pb_reader_range(const struct chain *msg, size_t off, size_t len);
/* A reader for the message in field f (PB_LEN). */
struct pb_reader pb_reader_sub(const struct pb_field *f);
/* f is valid on PB_FIELD only. */
MUST_CHECK enum pb_result pb_next(struct pb_reader *r, struct pb_field *f);
/* Like pb_next, but for a PB_LEN field it needs only tag and length to be there and leaves the
 * reader at the value: for walking into a message that is still arriving. */
MUST_CHECK enum pb_result pb_next_head(struct pb_reader *r, struct pb_field *f);

/* The same over a whole contiguous message: never PB_MORE. in is moved behind the field. */
struct pb_span {
    uint32_t number;
    enum pb_wire wire;
    uint64_t varint;
    struct bytes value; /* PB_LEN: the value; PB_GROUP: through its end tag; else its bytes */
};
MUST_CHECK enum pb_result pb_span_next(struct bytes *in, struct pb_span *f);

#define PB_VARINT_MAX 10
static inline size_t pb_varint_len(uint64_t v)
{
    size_t n = 1;

    while (v >= 0x80) {
        v >>= 7;
        n++;
    }
    return n;
}
/* Minimal encoding; returns the bytes written (1..10). out has room for pb_varint_len(v). */
size_t pb_put_varint(uint8_t *out, uint64_t v);
static inline uint64_t pb_tag(uint32_t number, enum pb_wire wire)
{
    return (uint64_t)number << 3 | wire;
}
/* Go's utf8.Valid: surrogates and overlong forms are refused. */
MUST_CHECK bool pb_utf8_valid(struct bytes s);

#endif
