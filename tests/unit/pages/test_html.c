/* SPDX-License-Identifier: Apache-2.0 */
/* Values are never markup. */
#include "pages/html.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char *text;

static int teardown(void **state)
{
    (void)state;
    free(text);
    text = NULL;
    return 0;
}

/* <b title="VALUE">VALUE</b> */
static const char *write_twice(const char *value)
{
    size_t len;
    FILE *f;

    free(text);
    f = open_memstream(&text, &len);
    assert_non_null(f);
    pages__html(f, "<b title=\"%s\">%s</b>", value, value);
    fclose(f);
    return text;
}

static void assert_written(const char *value, const char *as)
{
    char want[512];

    snprintf(want, sizeof want, "<b title=\"%s\">%s</b>", as, as);
    assert_string_equal(write_twice(value), want);
}

static void test_escapes(void **state)
{
    (void)state;
    assert_written("", "");
    assert_written("plain text, 100%s %n", "plain text, 100%s %n");
    assert_written("<script>alert('x' + \"y\")</script> &amp;",
                   "&lt;script&gt;alert(&#39;x&#39; + &quot;y&quot;)&lt;/script&gt; &amp;amp;");
    assert_written("two\nlines\tand more", "two\nlines\tand more");
    assert_written("\xc3\xa9 \xf0\x9f\x94\x91", "\xc3\xa9 \xf0\x9f\x94\x91");
    assert_written("cut \xf0\x9f\x94", "cut \xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
    assert_written("bell \a", "bell \xef\xbf\xbd");
}

/* Of any two bytes none comes out that begins a tag, ends an attribute or begins a reference of its
 * own making; and what comes out is as long as the value tells, so nothing was swallowed. */
static void test_any_bytes(void **state)
{
    (void)state;
    for (int a = 1; a < 256; a++) {
        for (int b = 1; b < 256; b++) {
            const char value[] = {(char)a, (char)b, '\0'};
            const char *at = write_twice(value) + strlen("<b title=\""), *end = strchr(at, '"');

            assert_non_null(end);
            assert_memory_equal(end, "\">", 2);
            assert_true((size_t)(end - at) >= 2);
            for (; at < end; at++) {
                assert_false(strchr("<>'", *at) != NULL);
                if (*at == '&')
                    assert_non_null(memchr(at, ';', (size_t)(end - at)));
                assert_false((unsigned char)*at < 0x20 && *at != '\n' && *at != '\t');
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_escapes, teardown),
        cmocka_unit_test_teardown(test_any_bytes, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
