/* SPDX-License-Identifier: Apache-2.0 */
/* Targets: pb_next, pb_next_head, pb_reader_range, pb_reader_sub, pb_span_next, pb_utf8_valid.
 * The chain reader, cut anywhere or still arriving, and the span reader see the same fields. */
#include "fuzz.h"

#include "pb/pb.h"

#define DEPTH 4

static void check_field(const struct pb_field *f, const struct pb_span *s, const struct chain *c)
{
    struct chain_pos pos = f->value;

    CHECK(f->number == s->number && f->wire == s->wire);
    CHECK(f->at < f->value_at || f->wire == PB_VARINT || f->wire == PB_FIXED32 ||
          f->wire == PB_FIXED64);
    CHECK(f->value_len == s->value.n && f->value_at + f->value_len <= c->len);
    CHECK(f->wire == PB_LEN || f->wire == PB_GROUP || f->varint == s->varint);
    CHECK(pos.at == f->value_at);
    for (size_t i = 0; i < s->value.n; i++)
        CHECK(chain_next(&pos) == s->value.p[i]);
}

/* Both readers over one message, and into its length-delimited fields. */
static void walk(struct pb_reader r, struct bytes in, const struct chain *c, unsigned depth)
{
    for (;;) {
        struct pb_reader before = r, head = r;
        struct pb_field f, h;
        struct pb_span s;
        enum pb_result a = pb_next(&r, &f), b = pb_span_next(&in, &s);

        CHECK(a == b);
        if (a != PB_FIELD) {
            CHECK(a == PB_BAD || a == PB_END);
            CHECK(a != PB_END || (in.n == 0 && r.pos.at == r.end));
            return;
        }
        check_field(&f, &s, c);
        CHECK(r.pos.at == f.value_at + f.value_len && f.at == before.pos.at);
        CHECK(pb_next_head(&head, &h) == PB_FIELD);
        CHECK(h.number == f.number && h.wire == f.wire && h.value_len == f.value_len &&
              h.value_at == f.value_at);
        CHECK(head.pos.at == (f.wire == PB_LEN ? f.value_at : r.pos.at));
        if (f.wire == PB_LEN) {
            bool is_text = pb_utf8_valid(s.value);

            if (depth < DEPTH)
                walk(pb_reader_sub(&f), s.value, c, depth + 1);
            if (is_text)
                fuzz_deep();
        }
    }
}

/* While the message arrives byte by byte the reader says MORE and stays, or has the same verdict as
 * in the end. */
static void arrive(struct kit *k, struct bytes in)
{
    struct chain whole, part = {0};
    size_t at = 0;

    kit_chain(k, in, 1, &whole);
    for (size_t n = 0; n <= in.n; n += 1 + kit_random(k, 9)) {
        CHECK(chain_share(&part, &whole, part.len, n - part.len) == ERR_OK);
        for (;;) {
            struct pb_reader r = pb_reader_range(&part, at, in.n - at);
            struct bytes rest = bytes_of(in.p + at, in.n - at);
            struct pb_field f;
            struct pb_span s;
            enum pb_result res = pb_next(&r, &f);

            if (res == PB_MORE) {
                CHECK(r.pos.at == at);
                break;
            }
            CHECK(res == pb_span_next(&rest, &s));
            if (res != PB_FIELD)
                goto out;
            check_field(&f, &s, &part);
            at = r.pos.at;
        }
    }
out:
    chain_fini(&part);
    chain_fini(&whole);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes in = bytes_of(data, size);
    struct kit *k = kit_get(fuzz_u8(&in));
    struct chain c;

    kit_chain(k, in, 1 + kit_random(k, 20), &c);
    walk(pb_reader_all(&c), in, &c, 0);
    chain_fini(&c);
    if (in.n <= 4096)
        arrive(k, in);
    kit_done(k);
    return 0;
}
