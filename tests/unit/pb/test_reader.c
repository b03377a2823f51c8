/* SPDX-License-Identifier: Apache-2.0 */
/* The chain reader is held against the span reader: every message, cut into slices at every pair
 * of places, gives the same fields; every prefix of it gives the fields that are whole and then
 * PB_MORE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "pb/pb.h"

static struct slab_pool pool;

static int setup(void **state)
{
    (void)state;
    slab_pool_init(&pool, 8);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    slab_pool_fini(&pool);
    return 0;
}

/* A slab of its own per piece, so that pieces are never joined. */
static void push_piece(struct chain *c, const uint8_t *p, size_t n)
{
    struct slab *slab;
    struct slice s;

    if (n == 0)
        return;
    slab = slab_new(&pool, n, 0);
    assert_non_null(slab);
    memcpy(slab->data, p, n);
    slab->fill = (uint32_t)n;
    s = (struct slice){slab, 0, (uint32_t)n};
    assert_int_equal(chain_push(c, &s), ERR_OK);
}

static void chain_cut(struct chain *c, struct bytes b, size_t first, size_t second)
{
    push_piece(c, b.p, first);
    push_piece(c, b.p + first, second - first);
    push_piece(c, b.p + second, b.n - second);
}

static const struct bytes messages[] = {
    BYTES_LIT("\x08\x96\x01"
              "\x11\x01\x02\x03\x04\x05\x06\x07\x08"
              "\x1a\x03"
              "abc"
              "\x23\x08\x01\x2b\x12\x02zz\x2c\x24"
              "\x35\x01\x00\x00\x80"
              "\x3a\x00"),
    BYTES_LIT("\x8a\x80\x80\x80\x80\x80\x80\x80\x80\x00"
              "\x82\x80\x80\x80\x80\x80\x80\x80\x80\x00"
              "hi"
              "\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
    BYTES_LIT("\x0a\x01"), /* malformed ones */
    BYTES_LIT("\x08\x01\x0c"),
    BYTES_LIT("\x08\x01\x00"),
    BYTES_LIT("\x08\x01\x0b\x14"),
    BYTES_LIT("\x08\x01\x0b\x0a\x05\x0c"),
    BYTES_LIT("\x08\x01\x88"),
    BYTES_LIT("\x12\x01x\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01x"),
    BYTES_LIT("\x12\x01x\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00"),
    BYTES_LIT(""),
};

static void check_same_field(const struct chain *c, const struct pb_field *f,
                             const struct pb_span *s, size_t end)
{
    uint8_t buf[64];

    assert_int_equal(f->number, s->number);
    assert_int_equal(f->wire, s->wire);
    assert_true(f->varint == s->varint);
    assert_int_equal(f->value_len, s->value.n);
    assert_int_equal(f->value.at, f->value_at);
    assert_int_equal(f->value_at + f->value_len, end);
    chain_copy(c, f->value_at, f->value_len, buf);
    assert_true(bytes_eq(bytes_of(buf, f->value_len), s->value));
}

static void check_like_span(const struct chain *c, struct bytes msg)
{
    struct pb_reader r = pb_reader_all(c);
    struct bytes in = msg;
    struct pb_field f;
    struct pb_span s;
    enum pb_result want, got;

    do {
        size_t at = r.pos.at;

        want = pb_span_next(&in, &s);
        got = pb_next(&r, &f);
        assert_int_equal(got, want);
        if (got != PB_FIELD) {
            assert_int_equal(r.pos.at, at);
            break;
        }
        assert_int_equal(f.at, at);
        assert_int_equal(r.pos.at, msg.n - in.n);
        check_same_field(c, &f, &s, r.pos.at);
    } while (true);
}

static void any_cut_reads_the_same(void **state)
{
    (void)state;
    for (size_t m = 0; m < ARRAY_LEN(messages); m++) {
        struct bytes msg = messages[m];

        for (size_t i = 0; i <= msg.n; i++) {
            for (size_t j = i; j <= msg.n; j++) {
                struct chain c = {0};

                chain_cut(&c, msg, i, j);
                check_like_span(&c, msg);
                chain_fini(&c);
            }
        }
    }
}

/* Reads with next what is there of a message of total bytes; returns how it ended. */
static enum pb_result drain(const struct chain *c, size_t total, uint32_t *fields, size_t *at,
                            enum pb_result (*next)(struct pb_reader *, struct pb_field *))
{
    struct pb_reader r = pb_reader_range(c, 0, total);
    struct pb_field f;
    enum pb_result res;

    *fields = 0;
    while ((res = next(&r, &f)) == PB_FIELD)
        ++*fields;
    *at = r.pos.at;
    return res;
}

static void a_prefix_wants_more(void **state)
{
    static const size_t ends[] = {3, 12, 17, 27, 32, 34}; /* of the fields of messages[0] */
    struct bytes msg = messages[0];

    (void)state;
    assert_int_equal(msg.n, ends[ARRAY_LEN(ends) - 1]);
    for (size_t have = 0; have < msg.n; have++) {
        struct chain c = {0};
        uint32_t whole = 0, fields;
        size_t at;

        while (ends[whole] <= have)
            whole++;
        chain_cut(&c, bytes_of(msg.p, have), have / 3, have / 2);
        assert_int_equal(drain(&c, msg.n, &fields, &at, pb_next), PB_MORE);
        assert_int_equal(fields, whole);
        assert_int_equal(at, whole == 0 ? 0 : ends[whole - 1]);
        chain_fini(&c);
    }
}

/* That a message is over is known even while its bytes are still missing. */
static void a_field_beyond_the_message_is_bad(void **state)
{
    struct chain c = {0};
    struct pb_reader r;
    struct pb_field f;

    (void)state;
    push_piece(&c, (const uint8_t *)"\x0a\x05", 2);
    r = pb_reader_range(&c, 0, 6);
    assert_int_equal(pb_next(&r, &f), PB_BAD);
    assert_int_equal(pb_next_head(&r, &f), PB_BAD);
    r = pb_reader_range(&c, 0, 7);
    assert_int_equal(pb_next(&r, &f), PB_MORE);
    assert_int_equal(pb_next_head(&r, &f), PB_FIELD);
    chain_fini(&c);
}

static void next_head_walks_into_an_arriving_message(void **state)
{
    struct chain c = {0};
    struct pb_reader r, sub;
    struct pb_field f;

    (void)state;
    push_piece(&c, (const uint8_t *)"\x0a\x08\x08\x07\x12", 5);
    r = pb_reader_range(&c, 0, 10);
    assert_int_equal(pb_next_head(&r, &f), PB_FIELD);
    assert_int_equal(f.value_at, 2);
    assert_int_equal(f.value_len, 8);
    assert_int_equal(r.pos.at, 2);
    sub = pb_reader_sub(&f);
    assert_int_equal(sub.end, 10);
    assert_int_equal(pb_next(&sub, &f), PB_FIELD);
    assert_int_equal(f.varint, 7);
    assert_int_equal(pb_next(&sub, &f), PB_MORE);

    push_piece(&c,
               (const uint8_t *)"\x04"
                                "abcd",
               5);
    sub = pb_reader_range(&c, sub.pos.at, sub.end - sub.pos.at);
    assert_int_equal(pb_next(&sub, &f), PB_FIELD);
    assert_int_equal(f.value_len, 4);
    assert_int_equal(pb_next(&sub, &f), PB_END);
    chain_fini(&c);
}

static void next_head_takes_other_fields_whole(void **state)
{
    struct chain c = {0};
    struct pb_reader r;
    struct pb_field f;

    (void)state;
    chain_cut(&c, BYTES_LIT("\x0b\x08\x01\x0c\x10\x05\x15\x01\x00\x00\x00"), 2, 5);
    r = pb_reader_all(&c);
    assert_int_equal(pb_next_head(&r, &f), PB_FIELD);
    assert_int_equal(f.wire, PB_GROUP);
    assert_int_equal(f.value_len, 3);
    assert_int_equal(pb_next_head(&r, &f), PB_FIELD);
    assert_int_equal(f.varint, 5);
    assert_int_equal(pb_next_head(&r, &f), PB_FIELD);
    assert_int_equal(f.varint, 1);
    assert_int_equal(pb_next_head(&r, &f), PB_END);
    chain_fini(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_cut_reads_the_same),
        cmocka_unit_test(a_prefix_wants_more),
        cmocka_unit_test(a_field_beyond_the_message_is_bad),
        cmocka_unit_test(next_head_walks_into_an_arriving_message),
        cmocka_unit_test(next_head_takes_other_fields_whole),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
