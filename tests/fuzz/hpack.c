/* SPDX-License-Identifier: Apache-2.0 */
/* Targets: h2/hpack_*.c. Blocks and field lists in any order, each to our code and to nghttp2's:
 * the same fields, the same class of error, the same tables (tests/unit/h2/hpack_like.c).
 *
 * Input: steps of a first byte. Its low 3 bits: 0 to 2: a block of this kind, 3 and 4: a list to
 * encode, 5: a list for nghttp2 to encode, 6: a table size, 7: the last block again. 8: the length
 * of a block has two bytes; 16: do it three times; 32: with limits. */
#include <string.h>

#include "fuzz.h"
#include "hpack_like.h"

enum { LONG = 8, AGAIN = 16, LIMITED = 32 };

#define FIELDS_MAX 20u

struct run {
    struct bytes in;
    struct hpack_like *l;
    struct bytes last;
    bool is_over;
};

static struct bytes name_of(struct bytes *in)
{
    static const char *const names[] = {":path",         ":authority", ":status", "content-type",
                                        "authorization", "token",      "te",      "grpc-timeout",
                                        "user-agent",    "grpc-status"};
    uint8_t b = fuzz_u8(in);

    if (b < 200)
        return bytes_str(names[b % ARRAY_LEN(names)]);
    return fuzz_take(in, b - 199);
}

static struct h2_fields list_of(struct bytes *in, struct h2_field *v)
{
    size_t n = fuzz_u8(in) % FIELDS_MAX;

    for (size_t i = 0; i < n; i++) {
        v[i].name = name_of(in);
        v[i].value = fuzz_take(in, fuzz_u8(in));
    }
    return (struct h2_fields){v, n};
}

static void block(struct run *r, uint8_t op, unsigned kind)
{
    size_t bytes_max = SIZE_MAX, fields_max = SIZE_MAX;

    if ((op & LIMITED) != 0) {
        bytes_max = fuzz_u16(&r->in);
        fields_max = fuzz_u8(&r->in);
    }
    if ((op & 7) != 7)
        r->last = fuzz_take(&r->in, (op & LONG) != 0 ? fuzz_u16(&r->in) : fuzz_u8(&r->in));
    for (int i = 0; i < ((op & AGAIN) != 0 ? 3 : 1); i++)
        r->is_over = r->is_over || !hpack_like_decode(r->l, r->last, kind, bytes_max, fields_max);
}

static void step(struct run *r)
{
    struct h2_field v[FIELDS_MAX];
    uint8_t op = fuzz_u8(&r->in);
    struct h2_fields f;

    switch (op & 7) {
    case 3:
    case 4:
        f = list_of(&r->in, v);
        for (int i = 0; i < ((op & AGAIN) != 0 ? 3 : 1); i++)
            hpack_like_encode(r->l, f);
        break;
    case 5:
        f = list_of(&r->in, v);
        hpack_like_deflate(r->l, f, op);
        break;
    case 6:
        hpack_like_resize(r->l, fuzz_u16(&r->in) % 5000u);
        break;
    default:
        block(r, op, (op & 7) % HPACK_LIKE_KINDS);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct run r = {.in = bytes_of(data, size), .l = hpack_like_new()};

    while (r.in.n > 0 && !r.is_over)
        step(&r);
    if (hpack_like_blocks_known(r.l) > 0 && hpack_like_lists_known(r.l) > 0)
        fuzz_deep();
    hpack_like_free(r.l);
    return 0;
}
