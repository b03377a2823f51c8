/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/arena.h"

/* Every piece keeps its bytes while others come, small and large mixed. */
static void pieces_do_not_overlap(void **state)
{
    struct arena a = {0};
    uint8_t *p[200];
    size_t n[200];

    (void)state;
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < ARRAY_LEN(p); i++) {
            n[i] = i % 17 == 3 ? 9000 + i : i * 5 % 301;
            p[i] = arena_alloc(&a, n[i]);
            assert_non_null(p[i]);
            assert_int_equal((uintptr_t)p[i] % 16, 0);
            memset(p[i], (int)i, n[i]);
        }
        for (size_t i = 0; i < ARRAY_LEN(p); i++)
            for (size_t k = 0; k < n[i]; k++)
                assert_int_equal(p[i][k], (uint8_t)i);
        arena_reset(&a);
    }
    arena_fini(&a);
}

static void reset_keeps_a_block(void **state)
{
    struct arena a = {0};
    void *first = arena_alloc(&a, 100);

    (void)state;
    assert_non_null(first);
    assert_non_null(arena_alloc(&a, 100000));
    arena_reset(&a);
    assert_ptr_equal(arena_alloc(&a, 1), first);
    arena_fini(&a);
    assert_null(a.blocks);
    assert_non_null(arena_alloc(&a, 1)); /* usable again */
    arena_fini(&a);
    arena_fini(&a);
}

static void too_much(void **state)
{
    struct arena a = {0};

    (void)state;
    assert_null(arena_alloc(&a, SIZE_MAX));
    assert_null(arena_alloc(&a, SIZE_MAX - 15));
    assert_null(arena_alloc(&a, SIZE_MAX / 2));
    assert_non_null(arena_alloc(&a, 8));
    arena_fini(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_do_not_overlap),
        cmocka_unit_test(reset_keeps_a_block),
        cmocka_unit_test(too_much),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
