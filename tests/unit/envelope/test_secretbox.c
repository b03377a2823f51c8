/* SPDX-License-Identifier: Apache-2.0 */
/* Ours, piece by piece, against libsodium's crypto_secretbox in one piece. */
#include <sodium.h>

#include "envelope/envelope_int.h"
#include "envelope_test.h"

#define OVERHEAD ENVELOPE__BOX_OVERHEAD

static struct envelope_ctx *ctx;
static const uint8_t key_bytes[32] = "0123456789abcdef0123456789abcdef";
static uint8_t plain[5000];

static const struct bytes key = {key_bytes, sizeof key_bytes};

/* nonce, then what libsodium makes: tag and ciphertext. */
static uint8_t *box_of(size_t n)
{
    uint8_t *b = malloc(n + OVERHEAD);

    assert_non_null(b);
    for (size_t i = 0; i < 24; i++)
        b[i] = (uint8_t)(i * 5 + n);
    assert_int_equal(crypto_secretbox_easy(b + 24, plain, n, b, key_bytes), 0);
    return b;
}

static void check_seals(const uint8_t *box, size_t n, size_t step)
{
    uint8_t *out = malloc(n + OVERHEAD);
    struct chain c = {0};

    assert_non_null(out);
    test_slice_up(&c, bytes_of(plain, n), step);
    test_random_left = bytes_of(box, 24);
    assert_int_equal(envelope__box_seal(ctx, key, chain_begin(&c), n, out), ERR_OK);
    assert_memory_equal(out, box, n + OVERHEAD);
    chain_fini(&c);
    free(out);
}

static void check_opens(struct chain *c, size_t n)
{
    uint8_t *out = malloc(n + 1);
    uint8_t *here = malloc(n + 1);

    assert_true(out != NULL && here != NULL);
    assert_int_equal(envelope__box_open(key, chain_begin(c), n + OVERHEAD, out), ERR_OK);
    assert_memory_equal(out, plain, n);
    assert_int_equal(envelope__box_open(key, chain_begin(c), n + OVERHEAD, NULL), ERR_OK);
    chain_copy(c, OVERHEAD, n, here);
    assert_memory_equal(here, plain, n);
    chain_fini(c);
    free(out);
    free(here);
}

static void like_libsodium(void **state)
{
    static const size_t lens[] = {0,  1,  15, 16, 31,  32,  33,  63,   64,  65,
                                  95, 96, 97, 99, 127, 128, 160, 1000, 5000};
    static const size_t steps[] = {1, 3, 31, 32, 33, 63, 64, 65, 96, 1000, 10000};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
        uint8_t *box = box_of(lens[i]);

        for (size_t k = 0; k < ARRAY_LEN(steps); k++) {
            struct chain c = {0};

            check_seals(box, lens[i], steps[k]);
            test_slice_up(&c, bytes_of(box, lens[i] + OVERHEAD), steps[k]);
            check_opens(&c, lens[i]);
        }
        free(box);
    }
}

static void every_cut(void **state)
{
    uint8_t *box = box_of(200);

    (void)state;
    for (size_t at = 0; at <= 200 + OVERHEAD; at++) {
        struct chain c = {0};

        test_cut(&c, bytes_of(box, 200 + OVERHEAD), at);
        check_opens(&c, 200);
    }
    free(box);
}

/* Nothing is written, neither aside nor in place: the tag comes first. */
static void check_refuses(const uint8_t *box, size_t n, enum err want)
{
    uint8_t out[200], here[240];
    struct chain c = {0};

    memset(out, 'o', sizeof out);
    test_slice_up(&c, bytes_of(box, n), 50);
    assert_int_equal(envelope__box_open(key, chain_begin(&c), n, out), want);
    assert_int_equal(envelope__box_open(key, chain_begin(&c), n, NULL), want);
    for (size_t i = 0; i < sizeof out; i++)
        assert_int_equal(out[i], 'o');
    chain_copy(&c, 0, n, here);
    assert_memory_equal(here, box, n);
    chain_fini(&c);
}

static void damage(void **state)
{
    uint8_t *box = box_of(150);

    (void)state;
    for (size_t i = 0; i < 150 + OVERHEAD; i++) {
        for (uint32_t bit = 1; bit < 256; bit <<= 1) {
            box[i] ^= (uint8_t)bit;
            check_refuses(box, 150 + OVERHEAD, ERR_AUTH_FAILED);
            box[i] ^= (uint8_t)bit;
        }
        check_refuses(box, i, i < OVERHEAD ? ERR_TOO_SHORT : ERR_AUTH_FAILED);
    }
    free(box);
}

static void no_randomness(void **state)
{
    struct chain c = {0};
    uint8_t out[OVERHEAD];

    (void)state;
    test_random_left = bytes_of(plain, 23);
    assert_int_equal(envelope__box_seal(ctx, key, chain_begin(&c), 0, out), ERR_RANDOM);
    chain_fini(&c);
}

static int setup(void **state)
{
    for (size_t i = 0; i < sizeof plain; i++)
        plain[i] = (uint8_t)(i * 31 + 7);
    return test_setup(state) == 0 && envelope_ctx_new(test_random, NULL, &ctx) == ERR_OK ? 0 : -1;
}

static int teardown(void **state)
{
    envelope_ctx_free(ctx);
    return test_teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(like_libsodium),
        cmocka_unit_test(every_cut),
        cmocka_unit_test(damage),
        cmocka_unit_test(no_randomness),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
