/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "pb/pb.h"

static void varint_lengths(void **state)
{
    static const struct {
        uint64_t v;
        size_t len;
    } cases[] = {
        {0, 1},
        {1, 1},
        {127, 1},
        {128, 2},
        {16383, 2},
        {16384, 3},
        {2097151, 3},
        {2097152, 4},
        {UINT32_MAX, 5},
        {1ull << 35, 6},
        {UINT64_MAX >> 1, 9},
        {UINT64_MAX, 10},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uint8_t out[1 + PB_VARINT_MAX] = {PB_VARINT};
        struct bytes in;
        struct pb_span f;

        out[0] = (uint8_t)pb_tag(1, PB_VARINT);
        assert_int_equal(pb_varint_len(cases[i].v), cases[i].len);
        assert_int_equal(pb_put_varint(out + 1, cases[i].v), cases[i].len);
        in = bytes_of(out, 1 + cases[i].len);
        assert_int_equal(pb_span_next(&in, &f), PB_FIELD);
        assert_true(f.varint == cases[i].v);
        assert_int_equal(in.n, 0);
    }
}

static void utf8_accepts(void **state)
{
    static const char *const good[] = {
        "",
        "a",
        "plain text \x7f",
        "\xc2\x80",
        "\xdf\xbf",
        "\xe0\xa0\x80",
        "\xed\x9f\xbf",
        "\xee\x80\x80",
        "\xef\xbf\xbf",
        "\xf0\x90\x80\x80",
        "\xf4\x8f\xbf\xbf",
        "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        assert_true(pb_utf8_valid(bytes_str(good[i])));
    assert_true(pb_utf8_valid(bytes_of("\0", 1)));
    assert_true(pb_utf8_valid(bytes_of(NULL, 0)));
}

static void utf8_refuses(void **state)
{
    static const char *const bad[] = {
        "\x80", /* lone continuation */
        "\xbf",
        "\xc0\x80", /* overlong */
        "\xc1\xbf",
        "\xe0\x9f\xbf",
        "\xf0\x8f\xbf\xbf",
        "\xed\xa0\x80", /* surrogates */
        "\xed\xbf\xbf",
        "\xf4\x90\x80\x80", /* above U+10FFFF */
        "\xf5\x80\x80\x80",
        "\xfe",
        "\xff",
        "\xc2", /* cut */
        "\xe2\x82",
        "\xf0\x9f\x98",
        "\xc2\x41", /* no continuation */
        "\xe2\x82\x41",
        "\xf0\x9f\x98\x41",
        "\xe2\x28\xa1",
        "ok\xff",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(pb_utf8_valid(bytes_str(bad[i])));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(varint_lengths),
        cmocka_unit_test(utf8_accepts),
        cmocka_unit_test(utf8_refuses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
