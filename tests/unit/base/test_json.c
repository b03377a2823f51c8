/* SPDX-License-Identifier: Apache-2.0 */
/* JSON that any reader takes, whatever the values; and which bytes are UTF-8. */
#include "base/json.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/utf8.h"

static char *text;
static size_t len;

static void begin(struct json *j)
{
    free(text);
    text = NULL;
    *j = (struct json){.f = open_memstream(&text, &len)};
    assert_non_null(j->f);
}

static const char *end(struct json *j)
{
    fclose(j->f);
    return text;
}

static int teardown(void **state)
{
    (void)state;
    free(text);
    text = NULL;
    return 0;
}

static void test_nested(void **state)
{
    struct json j;

    (void)state;
    begin(&j);
    json_open(&j, NULL, '{');
    json_text(&j, "a", "b");
    json_open(&j, "list", '[');
    json_number(&j, NULL, INT64_MIN);
    json_bool(&j, NULL, true);
    json_nothing(&j, NULL);
    json_open(&j, NULL, '{');
    json_close(&j, '}');
    json_close(&j, ']');
    json_bool(&j, "no", false);
    json_close(&j, '}');
    assert_string_equal(end(&j),
                        "{\"a\":\"b\",\"list\":[-9223372036854775808,true,null,{}],\"no\":false}");
}

static void test_decimals(void **state)
{
    static const struct {
        double v;
        const char *want;
    } cases[] = {{0, "0"},      {1.5, "1.5"},       {1e20, "1e+20"},
                 {NAN, "null"}, {INFINITY, "null"}, {-INFINITY, "null"}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct json j;

        begin(&j);
        json_decimal(&j, NULL, cases[i].v);
        assert_string_equal(end(&j), cases[i].want);
    }
}

/* Every byte alone, and in a text behind one: no control character, no quote that ends the string
 * and no half of a character gets out. */
static void test_any_byte(void **state)
{
    (void)state;
    for (int c = 1; c < 256; c++) {
        const char v[] = {'x', (char)c, 'y', '\0'};
        struct json j;
        bool is_escaped;

        begin(&j);
        json_text(&j, NULL, v);
        end(&j);
        is_escaped = c < 0x20 || c > 0x7e || c == '"' || c == '\\';
        assert_int_equal(len, c < 0x20 || c > 0x7e ? 10 : is_escaped ? 6 : 5);
        for (size_t i = 0; i < len; i++)
            assert_in_range(text[i], 0x20, 0x7e);
        assert_true(text[1] == 'x' && text[len - 2] == 'y' && (text[2] == '\\') == is_escaped);
    }
}

static void test_utf8_text(void **state)
{
    struct json j;

    (void)state;
    begin(&j);
    json_text(&j, NULL, "\xc3\xa9 \xf0\x9f\x94\x91 \xc3");
    assert_string_equal(end(&j), "\"\xc3\xa9 \xf0\x9f\x94\x91 \\u00c3\"");
    begin(&j);
    json_bytes(&j, NULL, bytes_str("\xc3\xa9"));
    assert_string_equal(end(&j), "\"\\u00c3\\u00a9\"");
}

/* As RFC 3629 writes a character; 0 where it has none. */
static size_t encode(uint32_t c, uint8_t out[static 4])
{
    if (c < 0x80) {
        out[0] = (uint8_t)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (uint8_t)(0xc0 | c >> 6);
        out[1] = (uint8_t)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (uint8_t)(0xe0 | c >> 12);
        out[1] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
        out[2] = (uint8_t)(0x80 | (c & 0x3f));
        return c >= 0xd800 && c < 0xe000 ? 0 : 3;
    }
    out[0] = (uint8_t)(0xf0 | c >> 18);
    out[1] = (uint8_t)(0x80 | (c >> 12 & 0x3f));
    out[2] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
    out[3] = (uint8_t)(0x80 | (c & 0x3f));
    return c < 0x110000 ? 4 : 0;
}

/* All characters there are, whole and cut; and the sequences beside them that are none. */
static void test_utf8(void **state)
{
    static const char *const bad[] = {"\x80",
                                      "\xc0\x80",
                                      "\xc1\xbf",
                                      "\xe0\x80\x80",
                                      "\xe0\x9f\xbf",
                                      "\xf0\x80\x80\x80",
                                      "\xf0\x8f\xbf\xbf",
                                      "\xf5\x80\x80\x80",
                                      "\xff",
                                      "\xc3(",
                                      "\xe2\x82(",
                                      "\xf0\x9f\x94("};
    uint8_t v[4];

    (void)state;
    for (uint32_t c = 0; c < 0x120000; c++) {
        size_t n = encode(c, v);

        if (utf8_len(bytes_of(v, n == 0 ? (c < 0x10000 ? 3 : 4) : n)) != n)
            fail_msg("U+%04X", c);
        for (size_t cut = 0; cut < n; cut++)
            if (utf8_len(bytes_of(v, cut)) != 0)
                fail_msg("U+%04X, cut to %zu", c, cut);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(utf8_len(bytes_str(bad[i])), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_nested, teardown),
        cmocka_unit_test_teardown(test_decimals, teardown),
        cmocka_unit_test_teardown(test_any_byte, teardown),
        cmocka_unit_test_teardown(test_utf8_text, teardown),
        cmocka_unit_test(test_utf8),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
