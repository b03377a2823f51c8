/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/secret.h"
#include "localkms/wrap.h"

static uint8_t key_a[KEK_LEN] = {1}, key_b[KEK_LEN] = {2};
static struct kek a = {.key = key_a}, b = {.key = key_b};
static const uint8_t seed[32] = {9, 8, 7};

static void what_is_wrapped_unwraps(void **state)
{
    uint8_t wrapped[sizeof seed + WRAP_OVERHEAD], again[sizeof wrapped], plain[sizeof seed];

    (void)state;
    assert_int_equal(wrap_seal(&a, bytes_of(seed, sizeof seed), wrapped), ERR_OK);
    assert_int_equal(wrap_seal(&a, bytes_of(seed, sizeof seed), again), ERR_OK);
    assert_memory_not_equal(wrapped, again, sizeof wrapped); /* fresh nonces */
    assert_int_equal(wrapped[0], 1);
    assert_int_equal(wrap_open(&a, bytes_of(wrapped, sizeof wrapped), plain), ERR_OK);
    assert_memory_equal(plain, seed, sizeof seed);
}

static void every_flipped_bit_is_noticed_and_nothing_is_given(void **state)
{
    static const uint8_t zeros[sizeof seed];
    uint8_t wrapped[sizeof seed + WRAP_OVERHEAD], plain[sizeof seed];

    (void)state;
    assert_int_equal(wrap_seal(&a, bytes_of(seed, sizeof seed), wrapped), ERR_OK);
    for (size_t i = 0; i < 8 * sizeof wrapped; i++) {
        wrapped[i / 8] ^= (uint8_t)(1u << i % 8);
        memset(plain, 0, sizeof plain);
        assert_int_equal(wrap_open(&a, bytes_of(wrapped, sizeof wrapped), plain), ERR_AUTH_FAILED);
        assert_memory_equal(plain, zeros, sizeof plain);
        wrapped[i / 8] ^= (uint8_t)(1u << i % 8);
    }
    for (size_t n = 0; n < sizeof wrapped; n++)
        assert_int_equal(wrap_open(&a, bytes_of(wrapped, n), plain), ERR_AUTH_FAILED);
}

static void another_key_or_id_does_not_unwrap(void **state)
{
    uint8_t wrapped[sizeof seed + WRAP_OVERHEAD], plain[sizeof seed];
    struct kek renamed = a;

    (void)state;
    assert_int_equal(wrap_seal(&a, bytes_of(seed, sizeof seed), wrapped), ERR_OK);
    assert_int_equal(wrap_open(&b, bytes_of(wrapped, sizeof wrapped), plain), ERR_AUTH_FAILED);
    renamed.id[10] ^= 1;
    assert_int_equal(wrap_open(&renamed, bytes_of(wrapped, sizeof wrapped), plain),
                     ERR_AUTH_FAILED);
}

static int group_setup(void **state)
{
    (void)state;
    kek_id(key_a, a.id);
    kek_id(key_b, b.id);
    return secret_init() == ERR_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_wrapped_unwraps),
        cmocka_unit_test(every_flipped_bit_is_noticed_and_nothing_is_given),
        cmocka_unit_test(another_key_or_id_does_not_unwrap),
    };

    return cmocka_run_group_tests(tests, group_setup, NULL);
}
