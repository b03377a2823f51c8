/* SPDX-License-Identifier: Apache-2.0 */
/* No value can end its field, begin another one or a line, or leave ASCII; and a reader gets back
 * what was logged. */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/logfmt.h"

static char line[2048];

PRINTF_LIKE(3, 4) static size_t write_line(char *out, size_t cap, const char *fmt, ...)
{
    va_list ap;
    size_t n;

    va_start(ap, fmt);
    n = logfmt_vwrite(out, cap, fmt, ap);
    va_end(ap);
    return n;
}

#define IS(want, ...)                                                                              \
    do {                                                                                           \
        assert_int_equal(write_line(line, sizeof line, __VA_ARGS__), strlen(want));                \
        assert_string_equal(line, want);                                                           \
    } while (0)

static void numbers(void **state)
{
    (void)state;
    IS("a=-5 b=7 c=18446744073709551615 d=0", "a=%d b=%u c=%llu d=%zu", -5, 7u, ~0ull, (size_t)0);
    IS("mode 0644 x=ff -9223372036854775808", "mode %04o x=%x %lld", 0644u, 255u, LLONG_MIN);
    IS("100% 12", "100%% %lu", 12ul);
    IS("007", "%03d", 7);
}

static void plain_words_stay(void **state)
{
    (void)state;
    IS("peer=127.0.0.1:2379 path=/a/b_c-d", "peer=%s path=%s", "127.0.0.1:2379", "/a/b_c-d");
    IS("why=\"two words\" ok=1", "why=\"%s\" ok=%d", "two words", 1);
    IS("method=/a end", "method=%.*s end", 2, "/abc");
    IS("empty= quoted=\"\"", "empty=%s quoted=\"%s\"", "", "");
}

static void values_are_quoted_and_escaped(void **state)
{
    (void)state;
    IS("a=\"x status=OK\"", "a=%s", "x status=OK");
    IS("a=\"x=y\" b=1", "a=%s b=1", "x=y");
    IS("a=\"x\\\" level=\\\"error\"", "a=\"%s\"", "x\" level=\"error");
    IS("a=\"x\\\" b=\\\"y\"", "a=%s", "x\" b=\"y");
    IS("a=\"1\\n2\\r3\\t4\\\\5\\x01\\x7f\\xff\\xe2\\x80\\xae\"", "a=%s",
       "1\n2\r3\t4\\5\x01\x7f\xff\xe2\x80\xae");
}

static void only_the_format_opens_quotes(void **state)
{
    (void)state;
    /* after a value with an odd number of quotes the next one is still quoted by need */
    IS("a=\"\\\"\" b=\"c d\"", "a=%s b=%s", "\"", "c d");
    IS("a=\"\\\"\" b=\"c d\"", "a=\"%s\" b=\"%s\"", "\"", "c d");
}

/* Reads one field key=value, undoes the escapes. NULL: no well-formed field. */
static const char *read_field(const char *p, const char *key, uint8_t *out, size_t *n)
{
    size_t key_len = strlen(key);

    *n = 0;
    if (strncmp(p, key, key_len) != 0 || p[key_len] != '=')
        return NULL;
    p += key_len + 1;
    if (*p != '"') {
        for (; *p != ' ' && *p != '\0'; p++)
            out[(*n)++] = (uint8_t)*p;
        return p;
    }
    for (p++; *p != '"'; p++) {
        if (*p < 0x20 || *p > 0x7e)
            return NULL;
        if (*p != '\\') {
            out[(*n)++] = (uint8_t)*p;
            continue;
        }
        p++;
        if (*p == 'x') {
            unsigned v;

            if (sscanf(p + 1, "%2x", &v) != 1)
                return NULL;
            out[(*n)++] = (uint8_t)v;
            p += 2;
        } else {
            out[(*n)++] = (uint8_t)(*p == 'n' ? '\n' : *p == 'r' ? '\r' : *p == 't' ? '\t' : *p);
        }
    }
    return p + 1;
}

/* Any bytes, quoted by the format or not: three fields go in, the same three come out. */
static void what_goes_in_comes_out(void **state)
{
    static const char biased[] = "\"\\ =\n\r\t\x1b\x7f\xc3\xa9\xff{}ab";

    (void)state;
    srand(1);
    for (int round = 0; round < 20000; round++) {
        char value[40];
        uint8_t got[256];
        size_t len = (size_t)rand() % sizeof value, n;
        const char *p;

        for (size_t i = 0; i < len; i++)
            value[i] = (char)(rand() % 2 ? biased[(size_t)rand() % (sizeof biased - 1)]
                                         : rand() % 255 + 1);
        write_line(line, sizeof line, round % 2 ? "a=%d v=%.*s z=%d" : "a=%d v=\"%.*s\" z=%d", 1,
                   (int)len, value, 2);
        p = read_field(line, "a", got, &n);
        assert_non_null(p);
        p = read_field(p + 1, "v", got, &n);
        assert_non_null(p);
        assert_int_equal(n, len);
        if (len > 0)
            assert_memory_equal(got, value, len);
        p = read_field(p + 1, "z", got, &n);
        assert_non_null(p);
        assert_int_equal(*p, '\0');
    }
}

/* A long value leaves the fields behind it on the line. */
static void a_long_value_is_cut(void **state)
{
    char value[5000];

    (void)state;
    for (int c = 0; c < 2; c++) {
        memset(value, c == 0 ? 'v' : '"', sizeof value - 1);
        value[sizeof value - 1] = '\0';
        write_line(line, sizeof line, "a=\"%s\" reason=%s", value, "why");
        assert_non_null(strstr(line, "...\" reason=why"));
        write_line(line, sizeof line, "a=%s reason=%s", value, "why");
        assert_non_null(strstr(line, c == 0 ? "... reason=why" : "...\" reason=why"));
    }
}

/* Whatever the room, quotes are closed, escapes are whole, and nothing is written behind it. */
static void quotes_are_closed_where_room_ends(void **state)
{
    (void)state;
    for (int f = 0; f < 2; f++) {
        for (size_t cap = 2; cap < 80; cap++) {
            unsigned quotes = 0;
            size_t n;

            memset(line, 'X', sizeof line);
            n = write_line(line, cap,
                           f == 0 ? "a=%s b=\"x %s\" c=%s" : "k=\"%s\" l=\"%s\" m=\"%s\"",
                           "one \"two\"", "\n\n\n", "last one");
            assert_true(n < cap);
            assert_int_equal(strlen(line), n);
            assert_int_equal(line[cap], 'X');
            for (size_t i = 0; i < n; i++) {
                if (line[i] == '\\')
                    i++;
                else
                    quotes += line[i] == '"';
                assert_true(i < n);
            }
            assert_int_equal(quotes % 2, 0);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers),
        cmocka_unit_test(plain_words_stay),
        cmocka_unit_test(values_are_quoted_and_escaped),
        cmocka_unit_test(only_the_format_opens_quotes),
        cmocka_unit_test(what_goes_in_comes_out),
        cmocka_unit_test(a_long_value_is_cut),
        cmocka_unit_test(quotes_are_closed_where_room_ends),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
