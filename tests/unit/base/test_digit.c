/* SPDX-License-Identifier: Apache-2.0 */
/* For every character: the place in its alphabet, or none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/digit.h"

static int place_in(const char *alphabet, int c)
{
    const char *at = c == '\0' ? NULL : strchr(alphabet, c);

    return at == NULL ? -1 : (int)(at - alphabet);
}

static void hexadecimal(void **state)
{
    (void)state;
    for (int c = -128; c < 256; c++) {
        int lower = c < 0 ? -1 : place_in("0123456789abcdef", c);

        assert_int_equal(digit_hex(c),
                         lower >= 0 || c < 0 ? lower : place_in("0123456789ABCDEF", c));
    }
}

static void base64(void **state)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    (void)state;
    for (int c = -128; c < 256; c++)
        assert_int_equal(digit_base64(c), c < 0 ? -1 : place_in(alphabet, c));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hexadecimal),
        cmocka_unit_test(base64),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
