/* SPDX-License-Identifier: Apache-2.0 */
#include "pb/pb_int.h"

#define FIELD_NUMBER_MAX ((1u << 29) - 1)

/* Sets *used to the bytes read. At most 10 bytes and 64 bits: the tenth byte holds one bit. */
static enum pb_result varint_decode(struct bytes in, uint64_t *v, uint32_t *used)
{
    uint64_t value = 0;

    for (uint32_t i = 0; i < PB_VARINT_MAX; i++) {
        if (i == in.n)
            return PB_MORE;
        if (i == PB_VARINT_MAX - 1 && in.p[i] > 1)
            return PB_BAD;
        value |= (uint64_t)(in.p[i] & 0x7f) << (7 * i);
        if (in.p[i] < 0x80) {
            *v = value;
            *used = i + 1;
            return PB_FIELD;
        }
    }
    return PB_BAD;
}

/* The fast path: nearly all tags and lengths are one byte. */
static inline enum pb_result varint_short(struct bytes in, uint64_t *v, uint32_t *used)
{
    if (in.n == 0 || in.p[0] >= 0x80)
        return varint_decode(in, v, used);
    *v = in.p[0];
    *used = 1;
    return PB_FIELD;
}

static enum pb_result fixed_decode(struct bytes in, uint32_t width, uint64_t *v)
{
    uint64_t value = 0;

    if (in.n < width)
        return PB_MORE;
    for (uint32_t i = 0; i < width; i++)
        value |= (uint64_t)in.p[i] << (8 * i);
    *v = value;
    return PB_FIELD;
}

static enum pb_result tag_decode(struct bytes in, struct pb__head *h)
{
    uint64_t tag;
    enum pb_result r = varint_short(in, &tag, &h->tag_len);

    if (r != PB_FIELD)
        return r;
    if (tag >> 3 < 1 || tag >> 3 > FIELD_NUMBER_MAX || (tag & 7) > PB_FIXED32)
        return PB_BAD;
    h->number = (uint32_t)(tag >> 3);
    h->wire = (enum pb_wire)(tag & 7);
    return PB_FIELD;
}

enum pb_result pb__head_decode(struct bytes in, struct pb__head *h)
{
    enum pb_result r = tag_decode(in, h);
    uint32_t rest = 0;

    if (r != PB_FIELD)
        return r;
    in = bytes_of(in.p + h->tag_len, in.n - h->tag_len);
    h->varint = 0;
    switch (h->wire) {
    case PB_VARINT:
    case PB_LEN:
        r = varint_short(in, &h->varint, &rest);
        break;
    case PB_FIXED64:
        rest = 8;
        r = fixed_decode(in, rest, &h->varint);
        break;
    case PB_FIXED32:
        rest = 4;
        r = fixed_decode(in, rest, &h->varint);
        break;
    case PB_GROUP:
    case PB_END_GROUP:
        break;
    }
    h->len = h->tag_len + rest;
    return r;
}

bool pb__groups_step(struct pb__groups *g, const struct pb__head *h)
{
    if (h->wire == PB_GROUP) {
        if (g->depth == PB_GROUP_DEPTH)
            return false;
        g->number[g->depth++] = h->number;
    } else if (h->wire == PB_END_GROUP) {
        if (g->depth == 0 || g->number[g->depth - 1] != h->number)
            return false;
        g->depth--;
    }
    return true;
}

size_t pb_put_varint(uint8_t *out, uint64_t v)
{
    size_t n = 0;

    while (v >= 0x80) {
        out[n++] = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    out[n++] = (uint8_t)v;
    return n;
}

/* Length of the well-formed character at the start of s, 0 if there is none (RFC 3629 section 4:
 * only the second byte has a range that depends on the first). */
static size_t utf8_char_len(struct bytes s)
{
    uint8_t b = s.p[0];
    uint8_t low = 0x80, high = 0xbf;
    size_t n;

    if (b < 0x80)
        return 1;
    if (b < 0xc2 || b > 0xf4)
        return 0;
    n = b < 0xe0 ? 2 : b < 0xf0 ? 3 : 4;
    if (s.n < n)
        return 0;
    if (b == 0xe0)
        low = 0xa0; /* below: overlong */
    else if (b == 0xed)
        high = 0x9f; /* above: surrogates */
    else if (b == 0xf0)
        low = 0x90; /* below: overlong */
    else if (b == 0xf4)
        high = 0x8f; /* above: U+10FFFF */
    if (s.p[1] < low || s.p[1] > high)
        return 0;
    for (size_t i = 2; i < n; i++)
        if ((s.p[i] & 0xc0) != 0x80)
            return 0;
    return n;
}

bool pb_utf8_valid(struct bytes s)
{
    while (s.n > 0) {
        size_t n = utf8_char_len(s);

        if (n == 0)
            return false;
        s = bytes_of(s.p + n, s.n - n);
    }
    return true;
}
