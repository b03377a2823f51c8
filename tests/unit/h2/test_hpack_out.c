/* SPDX-License-Identifier: Apache-2.0 */
/* Encoding: where grpc-timeout goes, which lists are remembered and for how long, what is never
 * indexed. That both decoders give what went in: test_hpack_like.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "h2/hpack_int.h"

struct fix {
    struct objects mem;
    struct h2__hpack_out out;
    struct h2__hpack_in in; /* what the peer makes of it */
    const struct h2__headers *h;
    struct bytes block;
};

static void setup(struct fix *f)
{
    *f = (struct fix){0};
    assert_int_equal(h2__hpack_out_init(&f->out, &f->mem), ERR_OK);
    assert_int_equal(h2__hpack_in_init(&f->in, &f->mem), ERR_OK);
}

static void teardown(struct fix *f)
{
    h2__hpack_out_fini(&f->out);
    h2__hpack_out_fini(&f->out); /* of nothing */
    h2__hpack_in_fini(&f->in);
    objects_fini(&f->mem);
}

/* Encodes and decodes. Returns whether the list was remembered. */
static bool pass(struct fix *f, const struct h2_field *v, size_t count)
{
    assert_int_equal(h2__hpack_encode(&f->out, (struct h2_fields){v, count}, &f->block), ERR_OK);
    assert_int_equal(h2__hpack_decode(&f->in, f->block, H2__REQUEST,
                                      (struct h2__hpack_limits){SIZE_MAX, SIZE_MAX}, &f->h),
                     ERR_OK);
    assert_int_equal(f->h->count, count);
    return f->block.p != f->out.buf;
}

static void assert_fields(const struct fix *f, const struct h2_field *v, size_t count)
{
    for (size_t i = 0; i < count; i++)
        assert_true(bytes_eq(f->h->v[i].name, v[i].name) && bytes_eq(f->h->v[i].value, v[i].value));
}

#define FIELD(n, v)                                                                                \
    {                                                                                              \
        BYTES_LIT(n), BYTES_LIT(v)                                                                 \
    }

static const struct h2_field request[] = {
    FIELD(":method", "POST"),
    FIELD(":scheme", "http"),
    FIELD(":path", "/etcdserverpb.KV/Range"),
    FIELD(":authority", "127.0.0.1:2379"),
    FIELD("content-type", "application/grpc"),
    FIELD("user-agent", "grpc-go/1.72.0"),
    FIELD("te", "trailers"),
    FIELD("x-a", "1.2"),
};

#define COUNT ARRAY_LEN(request)
#define PSEUDO 4u

static void test_a_list_that_comes_again(void **state)
{
    struct fix f;

    (void)state;
    setup(&f);
    assert_false(pass(&f, request, COUNT)); /* fills the table */
    assert_false(pass(&f, request, COUNT)); /* inserts nothing any more */
    for (int i = 0; i < 5; i++) {
        assert_true(pass(&f, request, COUNT));
        assert_fields(&f, request, COUNT);
    }
    teardown(&f);
}

/* Any one byte that differs, any field that is missing: not the same list. */
static void test_a_list_that_differs(void **state)
{
    (void)state;
    for (size_t at = 0; at < COUNT; at++) {
        for (int in_value = 0; in_value < 2; in_value++) {
            struct bytes b = in_value ? request[at].value : request[at].name;

            for (size_t i = 0; i <= b.n; i++) {
                struct h2_field v[COUNT];
                uint8_t copy[40];
                struct fix f;

                setup(&f);
                for (int k = 0; k < 3; k++)
                    (void)pass(&f, request, COUNT);
                memcpy(v, request, sizeof request);
                memcpy(copy, b.p, b.n);
                if (i < b.n)
                    copy[i] ^= 1;
                *(in_value ? &v[at].value : &v[at].name) = bytes_of(copy, i < b.n ? b.n : b.n - 1);
                assert_false(pass(&f, v, COUNT));
                assert_fields(&f, v, COUNT);
                assert_false(pass(&f, request, COUNT - 1));
                teardown(&f);
            }
        }
    }
}

/* The bytes between two strings may not be moved from the one to the other. */
static void test_the_same_bytes_cut_otherwise(void **state)
{
    static const struct h2_field one[] = {FIELD(":path", "/aab"), FIELD(":path", "")};
    static const struct h2_field two[] = {FIELD(":path", "/a"), FIELD("ab:pa", "th")};
    struct fix f;

    (void)state;
    setup(&f);
    for (int i = 0; i < 3; i++)
        (void)pass(&f, one, 2);
    assert_true(pass(&f, one, 2));
    assert_false(pass(&f, two, 2));
    assert_fields(&f, two, 2);
    teardown(&f);
}

/* grpc-timeout, wherever it stands and whatever it says: behind the others, as a literal without
 * indexing, and the table stays as it is. One that is long is like any other field. (Pseudo-header
 * fields are first, and only then a list is found again.) */
static void test_timeouts(void **state)
{
    static const uint8_t literal[] = "\0\14grpc-timeout";

    (void)state;
    for (size_t at = 0; at <= COUNT; at++) {
        struct h2_field v[COUNT + 1];
        struct fix f;

        setup(&f);
        memcpy(v, request, at * sizeof *v);
        memcpy(v + at + 1, request + at, (COUNT - at) * sizeof *v);
        (void)pass(&f, request, COUNT);
        (void)pass(&f, request, COUNT);
        for (size_t n = 0; n <= 64; n++) {
            char value[64];
            uint32_t entries = f.in.table.count;
            bool is_known;

            memset(value, '0' + (int)(n % 10), sizeof value);
            v[at] = (struct h2_field){BYTES_LIT("grpc-timeout"), bytes_of(value, n)};
            is_known = pass(&f, v, COUNT + 1);
            if (at >= PSEUDO || n > 40)
                assert_int_equal(is_known, n <= 40);
            if (n > 40) {
                assert_fields(&f, v, COUNT + 1);
                continue;
            }
            assert_fields(&f, request, COUNT);
            assert_true(bytes_eq(f.h->v[COUNT].name, v[at].name) &&
                        bytes_eq(f.h->v[COUNT].value, v[at].value));
            assert_int_equal(f.in.table.count, entries);
            assert_memory_equal(f.block.p + f.block.n - n - 1 - (sizeof literal - 1), literal,
                                sizeof literal - 1);
        }
        teardown(&f);
    }
}

/* Of two grpc-timeouts the order may matter: neither is moved, and the list is encoded anew. */
static void test_two_timeouts(void **state)
{
    (void)state;
    for (size_t first = 0; first < COUNT; first++) {
        for (size_t second = first + 1; second < COUNT; second++) {
            struct h2_field v[COUNT];
            struct fix f;

            setup(&f);
            memcpy(v, request, sizeof v);
            v[first] = (struct h2_field)FIELD("grpc-timeout", "1m");
            for (int i = 0; i < 3; i++)
                (void)pass(&f, v, COUNT);
            assert_true(pass(&f, v, COUNT));
            v[second] = (struct h2_field)FIELD("grpc-timeout", "2m");
            for (int i = 0; i < 3; i++) {
                assert_false(pass(&f, v, COUNT));
                assert_fields(&f, v, COUNT);
            }
            teardown(&f);
        }
    }
}

/* Another field in the table, and another size of it, change what a block means. */
static void test_a_changed_table_forgets(void **state)
{
    static const struct h2_field other[] = {FIELD("x-new", "1")};

    (void)state;
    for (int change = 0; change < 3; change++) {
        struct fix f;

        setup(&f);
        for (int i = 0; i < 3; i++)
            (void)pass(&f, request, COUNT);
        assert_true(pass(&f, request, COUNT));
        if (change == 0)
            (void)pass(&f, other, 1);
        else
            h2__hpack_out_set_table_size(&f.out, change == 1 ? 100 : 4096);
        assert_false(pass(&f, request, COUNT));
        assert_fields(&f, request, COUNT);
        if (change != 0)
            assert_int_equal(f.block.p[0] & 0xe0, 0x20); /* a size update */
        teardown(&f);
    }
}

/* RFC 7541 section 7.1.3. A list with a credential is neither kept nor found. */
static void test_secrets(void **state)
{
    static const char *const names[] = {"authorization", "token"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct h2_field v[] = {FIELD(":path", "/x"), {bytes_str(names[i]), BYTES_LIT("<secret>")}};
        uint8_t copy[100];
        struct fix f;
        size_t n;

        setup(&f);
        for (int k = 0; k < 5; k++) {
            assert_false(pass(&f, v, 2));
            assert_fields(&f, v, 2);
            assert_int_equal(f.in.table.count, 0);
            for (size_t m = 0; m < H2__HPACK_LISTS; m++)
                assert_null(f.out.lists[m]);
        }
        /* The bytes of the block are gone when the next is made. */
        assert_true(f.out.has_secret && f.block.n < sizeof copy);
        memcpy(copy, f.block.p, f.block.n);
        n = f.block.n;
        assert_false(pass(&f, v, 1));
        assert_false(f.out.has_secret);
        assert_null(memmem(f.out.buf, f.out.buf_cap, copy + n - 5, 5));
        teardown(&f);
    }
}

/* More lists than there are places, and lists that are too large to be kept. */
static void test_more_lists_than_places(void **state)
{
    static uint8_t large[5000];
    struct h2_field v[] = {FIELD(":path", "/x"), FIELD(":path", "/x"), FIELD(":path", "/x")};
    struct h2_field many[200];
    struct fix f;

    (void)state;
    setup(&f);
    memset(large, 'l', sizeof large);
    for (unsigned i = 0; i < 300; i++) {
        char path[20];

        v[1].value = bytes_of(path, (size_t)snprintf(path, sizeof path, "/%u", i % (1 + i / 10)));
        (void)pass(&f, v, 3);
        assert_fields(&f, v, 3);
    }
    v[1].value = bytes_of(large, sizeof large);
    for (int i = 0; i < 3; i++)
        assert_false(pass(&f, v, 3));
    for (size_t i = 0; i < ARRAY_LEN(many); i++)
        many[i] = v[0];
    for (int i = 0; i < 3; i++)
        assert_false(pass(&f, many, ARRAY_LEN(many)));
    (void)pass(&f, v, 1);
    assert_true(f.out.buf_cap <= 4096 && f.out.nv_cap <= 128);
    assert_false(pass(&f, v, 0));
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_list_that_comes_again),
        cmocka_unit_test(test_a_list_that_differs),
        cmocka_unit_test(test_the_same_bytes_cut_otherwise),
        cmocka_unit_test(test_timeouts),
        cmocka_unit_test(test_two_timeouts),
        cmocka_unit_test(test_a_changed_table_forgets),
        cmocka_unit_test(test_secrets),
        cmocka_unit_test(test_more_lists_than_places),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
