/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"

#define LEN_MAX 80u
#define CANARY 0xa5

/* Whatever the length: those bytes are copied, and none around them is written. */
static void test_put(void **state)
{
    uint8_t from[LEN_MAX], to[LEN_MAX + 2];

    (void)state;
    for (size_t i = 0; i < sizeof from; i++)
        from[i] = (uint8_t)(i + 1);
    for (size_t n = 0; n <= LEN_MAX; n++) {
        memset(to, CANARY, sizeof to);
        assert_ptr_equal(bytes_put(to + 1, bytes_of(n == 0 ? NULL : from, n)), to + 1 + n);
        assert_memory_equal(to + 1, from, n);
        assert_int_equal(to[0], CANARY);
        for (size_t i = n + 1; i < sizeof to; i++)
            assert_int_equal(to[i], CANARY);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
