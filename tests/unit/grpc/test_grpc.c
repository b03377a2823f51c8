/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "grpc/grpc.h"

static void prefix(void **state)
{
    static const uint8_t bytes[] = {1, 0x01, 0x02, 0x03, 0x04, 'x'};
    struct slab_pool pool;
    struct grpc_prefix p;
    uint8_t out[GRPC_PREFIX_LEN];

    (void)state;
    slab_pool_init(&pool, 1);
    for (size_t cut = 1; cut < GRPC_PREFIX_LEN; cut++) {
        struct chain c = {0};
        struct slab *second = slab_new(&pool, 16, 0);
        struct slice s = {second, 0, (uint32_t)(sizeof bytes - cut)};

        assert_int_equal(chain_push_copy(&c, &pool, bytes, cut, 0), ERR_OK);
        assert_false(grpc_prefix_peek(&c, &p));
        assert_non_null(second);
        memcpy(second->data, bytes + cut, sizeof bytes - cut);
        assert_int_equal(chain_push(&c, &s), ERR_OK);
        assert_true(grpc_prefix_peek(&c, &p));
        assert_int_equal(p.flag, 1);
        assert_int_equal(p.length, 0x01020304);
        chain_fini(&c);
    }
    slab_pool_fini(&pool);

    grpc_prefix_put(out, 0xfffefdfc);
    assert_memory_equal(out, "\x00\xff\xfe\xfd\xfc", 5);
}

static void timeout_reads(void **state)
{
    static const struct {
        const char *text;
        uint64_t ns;
    } cases[] = {
        {"1n", 1},
        {"0n", 0},
        {"00000007u", 7000},
        {"100m", 100000000},
        {"3S", 3000000000},
        {"2M", 120000000000},
        {"1H", 3600000000000},
        {"99999999H", UINT64_MAX}, /* saturates */
        {"5124095H", 5124095 * 3600000000000ull},
        {"5124096H", UINT64_MAX},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uint64_t ns = 42;

        assert_true(grpc_timeout_parse(bytes_str(cases[i].text), &ns));
        assert_true(ns == cases[i].ns);
    }
}

static void timeout_refuses(void **state)
{
    static const char *const bad[] = {"",  "S",   "1",  "123456789S", "1s",   "-1S",  "+1S", " 1S",
                                      "1", "1 S", "1X", "1SS",        "0x1S", "1.5S", "1S "};
    uint64_t ns;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(grpc_timeout_parse(bytes_str(bad[i]), &ns));
    assert_false(grpc_timeout_parse(bytes_of("1\0S", 3), &ns));
}

static void timeout_writes(void **state)
{
    static const struct {
        uint64_t ns;
        const char *text;
    } cases[] = {
        {0, "1n"},
        {1, "1n"},
        {99999999, "99999999n"},
        {100000000, "100000u"},
        {100000999, "100000u"}, /* down */
        {1000000000, "1000000u"},
        {99999999999, "99999999u"},
        {100000000000, "100000m"},
        {100000000000000, "100000S"},
        {99999999ull * 1000000000, "99999999S"},
        {100000000ull * 1000000000, "1666666M"},
        {UINT64_MAX, "5124095H"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char out[GRPC_TIMEOUT_MAX];
        uint64_t back;
        size_t n = grpc_timeout_format(cases[i].ns, out);

        assert_string_equal(out, cases[i].text);
        assert_int_equal(n, strlen(out));
        assert_true(grpc_timeout_parse(bytes_str(out), &back));
        assert_true(back <= cases[i].ns || cases[i].ns == 0);
    }
}

/* As printf writes it, for numbers of every length. */
static void timeout_writes_all_lengths(void **state)
{
    char out[GRPC_TIMEOUT_MAX], wanted[32];

    (void)state;
    for (uint64_t power = 1; power <= 10000000; power *= 10) {
        for (uint64_t ns = power; ns < power * 10; ns += power / 7 + 1) {
            snprintf(wanted, sizeof wanted, "%un", (unsigned)ns);
            assert_int_equal(grpc_timeout_format(ns, out), strlen(wanted));
            assert_string_equal(out, wanted);
        }
    }
}

static void message_encodes(void **state)
{
    char out[64];

    (void)state;
    assert_int_equal(grpc_message_encode(BYTES_LIT("plain ~ text"), out, sizeof out), 12);
    assert_string_equal(out, "plain ~ text");
    assert_int_equal(grpc_message_encode(BYTES_LIT("100%\n\x7f\xc3\xa9"), out, sizeof out), 18);
    assert_string_equal(out, "100%25%0A%7F%C3%A9");
    assert_int_equal(grpc_message_encode(bytes_of("\0", 1), out, sizeof out), 3);
    assert_string_equal(out, "%00");
    assert_int_equal(grpc_message_encode(bytes_of(NULL, 0), out, sizeof out), 0);
    assert_string_equal(out, "");
}

static void message_is_cut_between_escapes(void **state)
{
    static const char whole[] = "a%25b";

    (void)state;
    for (size_t cap = 1; cap <= sizeof whole; cap++) {
        static const size_t fits[] = {0, 1, 1, 1, 4, 5};
        char out[8];

        memset(out, 'X', sizeof out);
        assert_int_equal(grpc_message_encode(BYTES_LIT("a%b"), out, cap), fits[cap - 1]);
        assert_memory_equal(out, whole, fits[cap - 1]);
        assert_int_equal(out[fits[cap - 1]], '\0');
        for (size_t i = cap; i < sizeof out; i++)
            assert_int_equal(out[i], 'X');
    }
    assert_int_equal(grpc_message_encode(BYTES_LIT("a"), NULL, 0), 0);
}

static void message_decodes(void **state)
{
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"", ""},           {"plain", "plain"}, {"100%25%0A%c3%A9", "100%\n\xc3\xa9"},
        {"%", "%"}, /* malformed ones stay */
        {"%4", "%4"},       {"%4g", "%4g"},     {"%%41", "%A"},
        {"%g1%41", "%g1A"},
    };
    char out[32];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(grpc_message_decode(bytes_str(cases[i].in), out, sizeof out),
                         strlen(cases[i].out));
        assert_string_equal(out, cases[i].out);
    }
    assert_int_equal(grpc_message_decode(BYTES_LIT("abc%41"), out, 4), 3);
    assert_string_equal(out, "abc");
    assert_int_equal(grpc_message_decode(BYTES_LIT("abc"), NULL, 0), 0);
}

static void message_there_and_back(void **state)
{
    uint8_t all[256];
    char enc[3 * sizeof all + 1], dec[sizeof all + 1];
    size_t n;

    (void)state;
    for (size_t i = 0; i < sizeof all; i++)
        all[i] = (uint8_t)i;
    n = grpc_message_encode(bytes_of(all, sizeof all), enc, sizeof enc);
    assert_int_equal(grpc_message_decode(bytes_of(enc, n), dec, sizeof dec), sizeof all);
    assert_memory_equal(dec, all, sizeof all);
}

static void content_type(void **state)
{
    static const char *const good[] = {
        "application/grpc",         "application/grpc+proto", "application/grpc;charset=utf-8",
        "application/grpc+proto;x", "application/grpc+json",  "application/grpc+charset=utf-8"};
    static const char *const bad[] = {"",
                                      "application/json",
                                      "application/grp",
                                      "application/grpc-web",
                                      "application/grpcx",
                                      "Application/grpc",
                                      " application/grpc"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        assert_true(grpc_content_type_ok(bytes_str(good[i])));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(grpc_content_type_ok(bytes_str(bad[i])));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prefix),
        cmocka_unit_test(timeout_reads),
        cmocka_unit_test(timeout_refuses),
        cmocka_unit_test(timeout_writes),
        cmocka_unit_test(timeout_writes_all_lengths),
        cmocka_unit_test(message_encodes),
        cmocka_unit_test(message_is_cut_between_escapes),
        cmocka_unit_test(message_decodes),
        cmocka_unit_test(message_there_and_back),
        cmocka_unit_test(content_type),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
