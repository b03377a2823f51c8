/* SPDX-License-Identifier: Apache-2.0 */
#include "pb/pb_int.h"

static struct bytes behind(struct bytes b, size_t n)
{
    return bytes_of(b.p + n, b.n - n);
}

/* A span is a whole message: what ends too early is malformed. */
static enum pb_result whole(enum pb_result r)
{
    return r == PB_MORE ? PB_BAD : r;
}

/* Moves *in, which is behind the start tag that open describes, behind the end tag. */
static enum pb_result skip_group(struct bytes *in, const struct pb__head *open)
{
    struct pb__groups groups = {.depth = 0};
    struct pb__head h = *open;

    if (!pb__groups_step(&groups, &h))
        return PB_BAD;
    while (groups.depth > 0) {
        enum pb_result r = whole(pb__head_decode(*in, &h));

        if (r != PB_FIELD)
            return r;
        if (!pb__groups_step(&groups, &h))
            return PB_BAD;
        *in = behind(*in, h.len);
        if (h.wire == PB_LEN) {
            if (h.varint > in->n)
                return PB_BAD;
            *in = behind(*in, (size_t)h.varint);
        }
    }
    return PB_FIELD;
}

enum pb_result pb_span_next(struct bytes *in, struct pb_span *f)
{
    struct pb__head h;
    struct bytes rest;
    enum pb_result r;

    if (in->n == 0)
        return PB_END;
    r = whole(pb__head_decode(*in, &h));
    if (r != PB_FIELD)
        return r;
    if (h.wire == PB_END_GROUP)
        return PB_BAD;
    *f = (struct pb_span){.number = h.number, .wire = h.wire};
    rest = behind(*in, h.len);
    if (h.wire == PB_LEN) {
        if (h.varint > rest.n)
            return PB_BAD;
        f->value = bytes_of(rest.p, (size_t)h.varint);
        rest = behind(rest, f->value.n);
    } else if (h.wire == PB_GROUP) {
        const uint8_t *from = rest.p;

        r = skip_group(&rest, &h);
        if (r != PB_FIELD)
            return r;
        f->value = bytes_of(from, (size_t)(rest.p - from));
    } else {
        f->varint = h.varint;
        f->value = bytes_of(in->p + h.tag_len, h.len - h.tag_len);
    }
    *in = rest;
    return PB_FIELD;
}
