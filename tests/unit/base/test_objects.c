/* SPDX-License-Identifier: Apache-2.0 */
#include "base/objects.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Every size keeps its bytes while others come and go. */
static void objects_keep_their_bytes(void **state)
{
    enum { SLOTS = 300 };
    struct objects o = {0};
    uint8_t *slot[SLOTS] = {0};
    size_t len[SLOTS] = {0};
    unsigned seed = 7;

    (void)state;
    for (int round = 0; round < 60000; round++) {
        size_t i = (size_t)rand_r(&seed) % SLOTS;

        if (slot[i] != NULL) {
            for (size_t k = 0; k < len[i]; k++)
                assert_int_equal(slot[i][k], (uint8_t)i);
            objects_free(&o, slot[i]);
            slot[i] = NULL;
            continue;
        }
        len[i] = (size_t)rand_r(&seed) % (round % 50 == 0 ? 20000 : 600);
        slot[i] = objects_alloc(&o, len[i]);
        assert_non_null(slot[i]);
        assert_int_equal((uintptr_t)slot[i] % 16, 0);
        memset(slot[i], (int)i, len[i]);
    }
    for (size_t i = 0; i < SLOTS; i++)
        objects_free(&o, slot[i]);
    assert_int_equal(o.live, 0);
    objects_fini(&o);
}

static void realloc_keeps_what_was_there(void **state)
{
    struct objects o = {0};
    uint8_t *p = NULL;

    (void)state;
    for (size_t n = 1; n < 9000; n = n * 3 / 2 + 1) {
        uint8_t *longer = objects_realloc(&o, p, n);

        if (longer == NULL) { /* what was there is there yet */
            objects_free(&o, p);
            objects_fini(&o);
        }
        assert_non_null(longer);
        p = longer;
        if (n > 1)
            assert_int_equal(p[0], 0x77);
        p[0] = 0x77;
    }
    assert_null(objects_realloc(&o, p, 0));
    p = objects_calloc(&o, 10, 10);
    for (size_t k = 0; k < 100; k++)
        assert_int_equal(p[k], 0);
    objects_free(&o, p);
    objects_free(&o, NULL);
    assert_null(objects_calloc(&o, SIZE_MAX / 2, 4));
    objects_fini(&o);
}

#ifndef __SANITIZE_ADDRESS__
static void a_freed_object_is_reused(void **state)
{
    struct objects o = {0};
    void *a = objects_alloc(&o, 100), *b;

    (void)state;
    objects_free(&o, a);
    b = objects_alloc(&o, 97);
    assert_ptr_equal(a, b);
    objects_free(&o, b);
    objects_fini(&o);
}

/* After a peak the memory goes back, and what is left and what is free stays usable. */
static void memory_goes_back(void **state)
{
    enum { SLOTS = 20000 };
    static uint8_t *slot[SLOTS];
    struct objects o = {0};

    (void)state;
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < SLOTS; i++) {
            slot[i] = objects_alloc(&o, 20 + i % 1200);
            assert_non_null(slot[i]);
            memset(slot[i], (int)i, 20 + i % 1200);
        }
        assert_in_range(o.chunk_count, 180, 400);
        for (size_t i = 0; i < SLOTS; i++) /* the first hundred stay, and one later */
            if (i >= 100 && i != SLOTS / 2)
                objects_free(&o, slot[i]);
        objects_trim(&o);
        assert_in_range(o.chunk_count, 1, 10);
        for (size_t i = 0; i < SLOTS; i++) {
            if (i < 100 || i == SLOTS / 2) {
                for (size_t k = 0; k < 20 + i % 1200; k++)
                    assert_int_equal(slot[i][k], (uint8_t)i);
                objects_free(&o, slot[i]);
            }
        }
        objects_trim(&o);
        objects_trim(&o);
    }
    objects_fini(&o);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(objects_keep_their_bytes),
        cmocka_unit_test(realloc_keeps_what_was_there),
#ifndef __SANITIZE_ADDRESS__
        cmocka_unit_test(a_freed_object_is_reused),
        cmocka_unit_test(memory_goes_back),
#endif
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
