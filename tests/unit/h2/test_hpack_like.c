/* SPDX-License-Identifier: Apache-2.0 */
/* Random sequences of lists, through our encoder and through nghttp2's, with tables of any size:
 * what goes in comes out of both decoders, and the tables stay the same (hpack_like.c). */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "hpack_like.h"

#define FIELDS_MAX 40u
#define TEXT 6000u

static uint64_t seed;

static uint32_t below(uint32_t n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33) % n;
}

static const char *const names[] = {
    ":method",      ":path", ":authority",    ":status",
    "content-type", "te",    "grpc-timeout",  "grpc-timeout",
    "token",        "x-new", "authorization", "grpc-status",
    "user-agent",   "x-",    "date",          "a-name-that-takes-some-more-room-than-others",
};

static const char *const values[] = {
    "", "POST", "/etcdserverpb.KV/Range", "application/grpc", "trailers", "grpc-go/1.72.0", "0",
};

static uint8_t text[TEXT];

/* Few different ones, so that they come again, and now and then some of any bytes and length. */
static struct bytes value(void)
{
    uint32_t n;

    if (below(4) != 0)
        return bytes_str(values[below(ARRAY_LEN(values))]);
    n = below(50) != 0 ? below(60) : below(5000);
    for (uint32_t i = 0; i < n; i++)
        text[i] = (uint8_t)(below(3) != 0 ? 'a' + below(26) : below(256));
    return bytes_of(text, n);
}

struct sample {
    struct h2_field v[FIELDS_MAX];
    size_t count;
    uint8_t copies[FIELDS_MAX][TEXT];
};

static void make(struct sample *l)
{
    l->count = below(10) != 0 ? below(12) : below(FIELDS_MAX);
    for (size_t i = 0; i < l->count; i++) {
        struct bytes v = value();

        if (v.n > 0)
            memcpy(l->copies[i], v.p, v.n);
        l->v[i].name = bytes_str(names[below(ARRAY_LEN(names))]);
        l->v[i].value = bytes_of(l->copies[i], v.n);
    }
}

static struct h2_fields fields_of(const struct sample *l)
{
    return (struct h2_fields){l->v, l->count};
}

/* changing: in how many steps of 100 the table gets another size. */
static void run(uint64_t start, uint32_t steps, uint32_t changing)
{
    static struct sample lists[8];
    struct hpack_like *l = hpack_like_new();

    seed = start;
    for (size_t i = 0; i < ARRAY_LEN(lists); i++)
        make(&lists[i]);
    for (uint32_t i = 0; i < steps; i++) {
        struct sample *list = &lists[below(ARRAY_LEN(lists))];

        if (below(3) == 0)
            make(list);
        if (below(100) < changing)
            hpack_like_resize(l, below(3) == 0 ? 4096 : below(5000));
        for (uint32_t k = below(3); k < 3; k++) {
            hpack_like_encode(l, fields_of(list));
            hpack_like_deflate(l, fields_of(list), below(8) == 0 ? below(1 << 20) : 0);
        }
    }
    assert_true(hpack_like_lists_known(l) > 0);
    assert_true(hpack_like_blocks_known(l) > 0);
    hpack_like_free(l);
}

static void test_one_size(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 10; i++)
        run(i, 800, 0);
}

static void test_changing_sizes(void **state)
{
    (void)state;
    for (uint64_t i = 100; i < 110; i++)
        run(i, 800, 10);
}

/* A client's calls: the same list, and a grpc-timeout that is new each time, which nghttp2 and Go
 * index. Many more than the table has room for. */
static void test_a_timeout_that_changes(void **state)
{
    struct h2_field v[] = {
        {BYTES_LIT(":method"), BYTES_LIT("POST")},
        {BYTES_LIT(":path"), BYTES_LIT("/etcdserverpb.KV/Range")},
        {BYTES_LIT("content-type"), BYTES_LIT("application/grpc")},
        {BYTES_LIT("grpc-timeout"), BYTES_LIT("")},
        {BYTES_LIT("te"), BYTES_LIT("trailers")},
    };
    struct hpack_like *l = hpack_like_new();

    (void)state;
    for (unsigned i = 0; i < 2000; i++) {
        char timeout[16];

        v[3].value = bytes_of(timeout, (size_t)snprintf(timeout, sizeof timeout, "%um", i * 7919));
        hpack_like_encode(l, (struct h2_fields){v, ARRAY_LEN(v)});
        hpack_like_deflate(l, (struct h2_fields){v, ARRAY_LEN(v)}, 0);
    }
    assert_true(hpack_like_lists_known(l) > 1990);
    hpack_like_free(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_size),
        cmocka_unit_test(test_changing_sizes),
        cmocka_unit_test(test_a_timeout_that_changes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
