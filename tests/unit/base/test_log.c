/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/log.h"

static void plain_keys_stay(void **state)
{
    static const char key[] = "/registry/secrets/kube-system/a.b_c~D9";
    char out[LOG_KEY_MAX];

    (void)state;
    assert_ptr_equal(log_key(key, sizeof key - 1, out), out);
    assert_string_equal(out, key);
    assert_string_equal(log_key(NULL, 0, out), "");
}

static void everything_else_is_escaped(void **state)
{
    char out[LOG_KEY_MAX];

    (void)state;
    assert_string_equal(log_key("a b%c\n\0\xff\"=", 10, out), "a%20b%25c%0A%00%FF%22%3D");
}

/* Never half an escape, never beyond the end. */
static void long_keys_are_cut(void **state)
{
    char key[400], out[LOG_KEY_MAX + 8];

    (void)state;
    memset(key, 'k', sizeof key);
    memset(out, 'X', sizeof out);
    log_key(key, sizeof key, out);
    assert_int_equal(strlen(out), LOG_KEY_MAX - 1);
    assert_int_equal(out[LOG_KEY_MAX], 'X');
    for (size_t lead = 0; lead < 4; lead++) {
        size_t n;

        memset(key, ' ', sizeof key);
        memset(key, 'k', lead);
        log_key(key, sizeof key, out);
        n = strlen(out);
        assert_int_equal(n, lead + (LOG_KEY_MAX - 1 - lead) / 3 * 3);
        assert_string_equal(out + n - 3, "%20");
        assert_int_equal(out[LOG_KEY_MAX], 'X');
    }
}

static void one_line_a_second(void **state)
{
    struct log_rate rate = {0};
    int lines = 0;

    (void)state;
    for (int i = 0; i < 1000; i++)
        lines += log_rate_ok(&rate);
    assert_in_range(lines, 1, 2); /* 2: the second may change meanwhile */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_keys_stay),
        cmocka_unit_test(everything_else_is_escaped),
        cmocka_unit_test(long_keys_are_cut),
        cmocka_unit_test(one_line_a_second),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
