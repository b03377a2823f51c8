/* SPDX-License-Identifier: Apache-2.0 */
/* The reader over a chain. A head (at most 20 bytes) is decoded where it lies, or, when it may lie
 * across slices, from a copy on the stack; payloads are only skipped.
 *
 * What ends too early is PB_BAD if the message itself is over (r->end), PB_MORE if only the chain
 * is. On either the reader stays where it was. */
#include "pb/pb_int.h"

struct pb_reader pb_reader_all(const struct chain *msg)
{
    return (struct pb_reader){chain_begin(msg), msg->len};
}

struct pb_reader pb_reader_range(const struct chain *msg, size_t off, size_t len)
{
    return (struct pb_reader){chain_seek(msg, off), off + len};
}

struct pb_reader pb_reader_sub(const struct pb_field *f)
{
    DCHECK(f->wire == PB_LEN);
    return (struct pb_reader){f->value, f->value_at + f->value_len};
}

/* Bytes between pos and the end of what may be read of the message now. */
static size_t reader_left(const struct chain_pos *pos, size_t end)
{
    size_t limit = pos->chain->len < end ? pos->chain->len : end;

    return limit - pos->at;
}

/* The next want bytes at pos, which lie in several slices. */
static struct bytes gather(struct chain_pos pos, size_t want, uint8_t *buf)
{
    chain_take(&pos, buf, want);
    return bytes_of(buf, want);
}

static enum pb_result head_at(const struct chain_pos *pos, size_t end, struct pb__head *h)
{
    NOT_CLEARED uint8_t buf[PB__HEAD_MAX];
    size_t left = reader_left(pos, end);
    size_t want = left < PB__HEAD_MAX ? left : PB__HEAD_MAX;
    struct bytes b = chain_peek(pos, want);
    enum pb_result r = pb__head_decode(b.n == want ? b : gather(*pos, want, buf), h);

    if (r == PB_MORE && pos->at + left == end)
        return PB_BAD;
    return r;
}

/* Moves pos by n bytes of the message. */
static enum pb_result skip(struct chain_pos *pos, size_t end, uint64_t n)
{
    if (n > end - pos->at)
        return PB_BAD;
    if (n > reader_left(pos, end))
        return PB_MORE;
    chain_skip(pos, (size_t)n);
    return PB_FIELD;
}

/* Moves pos, which is behind the start tag that open describes, behind the end tag. */
static enum pb_result skip_group(struct chain_pos *pos, size_t end, const struct pb__head *open)
{
    struct pb__groups groups = {.depth = 0};
    struct pb__head h = *open;
    enum pb_result r;

    if (!pb__groups_step(&groups, &h))
        return PB_BAD;
    while (groups.depth > 0) {
        r = head_at(pos, end, &h);
        if (r != PB_FIELD)
            return r;
        if (!pb__groups_step(&groups, &h))
            return PB_BAD;
        chain_skip(pos, h.len);
        if (h.wire == PB_LEN) {
            r = skip(pos, end, h.varint);
            if (r != PB_FIELD)
                return r;
        }
    }
    return PB_FIELD;
}

/* Fills f and moves pos to the payload (PB_LEN, PB_GROUP) or behind the field (others). */
static enum pb_result field_head(struct chain_pos *pos, size_t end, struct pb__head *h,
                                 struct pb_field *f)
{
    enum pb_result r;

    if (pos->at == end)
        return PB_END;
    r = head_at(pos, end, h);
    if (r != PB_FIELD)
        return r;
    if (h->wire == PB_END_GROUP)
        return PB_BAD;
    *f = (struct pb_field){.number = h->number, .wire = h->wire, .at = pos->at, .value = *pos};
    chain_skip(&f->value, h->wire == PB_LEN ? h->len : h->tag_len);
    f->value_at = f->value.at;
    chain_skip(pos, h->len);
    if (h->wire == PB_LEN) {
        if (h->varint > end - pos->at)
            return PB_BAD;
        f->value_len = (size_t)h->varint;
    } else {
        f->value_len = h->len - h->tag_len;
        f->varint = h->varint;
    }
    return PB_FIELD;
}

NEVER_INLINE static enum pb_result next_general(struct pb_reader *r, struct pb_field *f)
{
    struct chain_pos pos = r->pos;
    struct pb__head h;
    enum pb_result res = field_head(&pos, r->end, &h, f);

    if (res != PB_FIELD)
        return res;
    if (h.wire == PB_LEN)
        res = skip(&pos, r->end, f->value_len);
    else if (h.wire == PB_GROUP)
        res = skip_group(&pos, r->end, &h);
    if (res != PB_FIELD)
        return res;
    if (h.wire == PB_GROUP)
        f->value_len = pos.at - f->value_at;
    r->pos = pos;
    return PB_FIELD;
}

/* A varint whose bytes all lie in [p, end). Returns how many they are, or 0: leave it to
 * next_general. */
static inline uint32_t varint_here(const uint8_t *p, const uint8_t *end, uint64_t *v)
{
    uint64_t value = 0;

    for (uint32_t i = 0; i < PB_VARINT_MAX - 1 && p + i < end; i++) {
        value |= (uint64_t)(p[i] & 0x7f) << (7 * i);
        if (p[i] < 0x80) {
            *v = value;
            return i + 1;
        }
    }
    return 0;
}

/* The fast path, for the common field: a tag of one byte, then a varint or bytes, its head within
 * one slice. False, and nothing has changed: another field, a malformed one, or not all there.
 * Positions are written member by member, because copying a struct whose members were just written
 * stalls the processor (no store forwarding). */
static inline bool next_here(struct pb_reader *r, struct pb_field *f)
{
    struct bytes b = chain_peek(&r->pos, r->end - r->pos.at);
    uint32_t used, wire, head = 1;
    size_t len;
    uint64_t v;

    if (b.n < 2 || b.p[0] >= 0x80 || b.p[0] < 8)
        return false;
    wire = b.p[0] & 7;
    if (wire != PB_VARINT && wire != PB_LEN)
        return false;
    used = varint_here(b.p + 1, b.p + b.n, &v);
    if (used == 0)
        return false;
    len = used;
    f->varint = v;
    if (wire == PB_LEN) {
        head += used;
        if (v > b.n - head && v > reader_left(&r->pos, r->end) - head)
            return false;
        len = (size_t)v;
        f->varint = 0;
    }
    f->number = b.p[0] >> 3;
    f->wire = (enum pb_wire)wire;
    f->at = r->pos.at;
    f->value_len = len;
    if (len + head >= b.n) { /* it reaches the end of the slice, or goes on in others */
        chain_skip(&r->pos, head);
        f->value = r->pos;
        chain_skip(&r->pos, len);
    } else {
        f->value.chain = r->pos.chain;
        f->value.index = r->pos.index;
        f->value.off = r->pos.off + head;
        f->value.at = r->pos.at + head;
        r->pos.off += head + (uint32_t)len;
        r->pos.at += head + len;
    }
    f->value_at = f->at + head;
    return true;
}

enum pb_result pb_next(struct pb_reader *r, struct pb_field *f)
{
    if (next_here(r, f))
        return PB_FIELD;
    return next_general(r, f);
}

enum pb_result pb_next_head(struct pb_reader *r, struct pb_field *f)
{
    struct chain_pos pos = r->pos;
    struct pb__head h;
    enum pb_result res = field_head(&pos, r->end, &h, f);

    if (res != PB_FIELD)
        return res;
    if (h.wire == PB_GROUP) {
        res = skip_group(&pos, r->end, &h);
        if (res != PB_FIELD)
            return res;
        f->value_len = pos.at - f->value_at;
    }
    r->pos = pos;
    return PB_FIELD;
}
