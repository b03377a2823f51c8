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

/* --- as JSON ---------------------------------------------------------------------------------- */

#define JSON_IS(want, fmt, ...)                                                                    \
    do {                                                                                           \
        char json[2048];                                                                           \
                                                                                                   \
        write_line(line, sizeof line, fmt, __VA_ARGS__);                                           \
        assert_int_equal(logfmt_json(json, sizeof json, fmt, line), strlen(want));                 \
        assert_string_equal(json, want);                                                           \
    } while (0)

/* A field's type is the format's, whatever its value looks like. */
static void fields_become_members(void **state)
{
    (void)state;
    JSON_IS("", "%s", "");
    JSON_IS(",\"a\":-5,\"b\":7,\"c\":18446744073709551615", "a=%d b=%u c=%llu", -5, 7u, ~0ull);
    JSON_IS(",\"why\":\"12\",\"n\":12", "why=%s n=%zu", "12", (size_t)12);
    JSON_IS(",\"mode\":\"0644\",\"part\":\"1-2\",\"q\":\"3\"", "mode=%04o part=%u-%u q=\"%u\"",
            0644u, 1u, 2u, 3u);
    JSON_IS(",\"empty\":\"\",\"quoted\":\"\"", "empty=%s quoted=\"%s\"", "", "");
    JSON_IS(",\"v\":\"a\\\"b\\\\c\\nd\\u00ff x\",\"z\":1", "v=%s z=%d", "a\"b\\c\nd\xff x", 1);
}

/* A JSON reader gets back what the value was: escapes undone. NULL: no well-formed member. */
static const char *read_member(const char *p, const char *start, uint8_t *out, size_t *n)
{
    *n = 0;
    if (strncmp(p, start, strlen(start)) != 0)
        return NULL;
    for (p += strlen(start); *p != '"'; p++) {
        unsigned v = (uint8_t)*p;

        if (v < 0x20 || v > 0x7e)
            return NULL;
        if (v == '\\') {
            p++;
            if (*p == 'u' && sscanf(p + 1, "00%2x", &v) == 1)
                p += 4;
            else if (strchr("\"\\nrt", *p) != NULL)
                v = (uint8_t)(*p == 'n' ? '\n' : *p == 'r' ? '\r' : *p == 't' ? '\t' : *p);
            else
                return NULL;
        }
        out[(*n)++] = (uint8_t)v;
    }
    return p + 1;
}

static void no_value_leaves_its_member(void **state)
{
    static const char biased[] = "\"\\ =\n\r\t\x1b\x7f\xc3\xa9\xff{},:ux0b";

    (void)state;
    srand(2);
    for (int round = 0; round < 20000; round++) {
        static const char bare[] = "a=%d v=%.*s z=%d", quoted[] = "a=%d v=\"%.*s\" z=%d";
        char value[40], json[1024];
        uint8_t got[256];
        size_t len = (size_t)rand() % sizeof value, n;
        const char *p;

        for (size_t i = 0; i < len; i++)
            value[i] = (char)(rand() % 2 ? biased[(size_t)rand() % (sizeof biased - 1)]
                                         : rand() % 255 + 1);
        if (round % 2)
            write_line(line, sizeof line, bare, 1, (int)len, value, 2);
        else
            write_line(line, sizeof line, quoted, 1, (int)len, value, 2);
        logfmt_json(json, sizeof json, round % 2 ? bare : quoted, line);
        p = read_member(json, ",\"a\":1,\"v\":\"", got, &n);
        assert_non_null(p);
        assert_int_equal(n, len);
        if (len > 0)
            assert_memory_equal(got, value, len);
        assert_string_equal(p, ",\"z\":2");
    }
}

/* Members are whole wherever room ends, on either side. */
static void members_are_whole_where_room_ends(void **state)
{
    static const char fmt[] = "a=%s b=\"x %s\" c=%d d=%s";

    (void)state;
    for (size_t cut = 2; cut < 60; cut++) {
        for (size_t cap = 1; cap < 80; cap++) {
            char json[96];
            size_t n, quotes = 0;

            write_line(line, cut, fmt, "one \"two\"", "\n\x01\n", 17, "last one");
            memset(json, 'X', sizeof json);
            n = logfmt_json(json, cap, fmt, line);
            assert_true(n < cap);
            assert_int_equal(strlen(json), n);
            assert_int_equal(json[cap], 'X');
            for (size_t i = 0; i < n; i++) {
                quotes += json[i] == '"';
                i += json[i] == '\\';
            }
            assert_int_equal(quotes % 2, 0);
            assert_true(n == 0 || (json[0] == ',' && (json[n - 1] == '"' || json[n - 1] == '7')));
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
        cmocka_unit_test(fields_become_members),
        cmocka_unit_test(no_value_leaves_its_member),
        cmocka_unit_test(members_are_whole_where_room_ends),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
