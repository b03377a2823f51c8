/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/randpool.h"

static struct randpool pool;

static int compare(const void *a, const void *b)
{
    return memcmp(a, b, 16);
}

/* 40,000 blocks of 128 bits, over several fillings: none comes twice. */
static void nothing_comes_twice(void **state)
{
    enum { COUNT = 40000 };
    uint8_t(*v)[16] = malloc(COUNT * sizeof *v);

    (void)state;
    assert_non_null(v);
    for (size_t i = 0; i < COUNT; i++)
        assert_int_equal(randpool_get(&pool, v[i], 16), ERR_OK);
    qsort(v, COUNT, sizeof *v, compare);
    for (size_t i = 1; i < COUNT; i++)
        assert_int_not_equal(memcmp(v[i - 1], v[i], 16), 0);
    free(v);
}

static bool has(const void *needle, size_t n)
{
    return memmem(pool.buf, sizeof pool.buf, needle, n) != NULL;
}

/* What was handed out is in the pool no more. */
static void used_bytes_are_wiped(void **state)
{
    uint8_t out[44];

    (void)state;
    for (int i = 0; i < 500; i++) {
        assert_int_equal(randpool_get(&pool, out, sizeof out), ERR_OK);
        assert_false(has(out, 16));
    }
}

static void odd_sizes(void **state)
{
    uint8_t out[sizeof pool.buf + 8];

    (void)state;
    memset(out, 0, sizeof out);
    assert_int_equal(randpool_get(&pool, out, sizeof pool.buf), ERR_OK);
    for (size_t i = sizeof pool.buf; i < sizeof out; i++)
        assert_int_equal(out[i], 0);
    assert_int_equal(pool.left, 0);
    assert_int_equal(randpool_get(&pool, out, 1), ERR_OK);
    assert_int_equal(pool.left, sizeof pool.buf - 1);
    assert_int_equal(randpool_get(&pool, out, 0), ERR_OK);
    assert_int_equal(pool.left, sizeof pool.buf - 1);
}

static void wiped_pool_is_empty(void **state)
{
    uint8_t out[8];

    (void)state;
    assert_int_equal(randpool_get(&pool, out, sizeof out), ERR_OK);
    randpool_wipe(&pool);
    assert_int_equal(pool.left, 0);
    for (size_t i = 0; i < sizeof pool.buf; i++)
        assert_int_equal(pool.buf[i], 0);
    assert_int_equal(randpool_get(&pool, out, sizeof out), ERR_OK);
}

static void uuids(void **state)
{
    char a[37], b[37];

    (void)state;
    assert_int_equal(randpool_uuid(&pool, a), ERR_OK);
    assert_int_equal(randpool_uuid(&pool, b), ERR_OK);
    assert_string_not_equal(a, b);
    assert_int_equal(strlen(a), 36);
    for (size_t i = 0; i < 36; i++) {
        if (i == 8 || i == 13 || i == 18 || i == 23)
            assert_int_equal(a[i], '-');
        else
            assert_non_null(strchr("0123456789abcdef", a[i]));
    }
    assert_int_equal(a[14], '4');
    assert_non_null(strchr("89ab", a[19]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_comes_twice),
        cmocka_unit_test(used_bytes_are_wiped),
        cmocka_unit_test(odd_sizes),
        cmocka_unit_test(wiped_pool_is_empty),
        cmocka_unit_test(uuids),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
