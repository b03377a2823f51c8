/* SPDX-License-Identifier: Apache-2.0 */
/* Every padding there is, and ours against OpenSSL's own. */
#include <openssl/evp.h>

#include "envelope/envelope_int.h"
#include "envelope_test.h"

static struct envelope_ctx *ctx;
static const uint8_t key_bytes[32] = "0123456789abcdef0123456789abcdef";
static const uint8_t iv[17] = "iviviviviviviviv";

/* IV and encrypted blocks, nothing added. */
static void encrypt_blocks(const uint8_t *plain, size_t n, size_t key_len, uint8_t *out)
{
    const EVP_CIPHER *cipher = key_len == 16   ? EVP_aes_128_cbc()
                               : key_len == 24 ? EVP_aes_192_cbc()
                                               : EVP_aes_256_cbc();
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    int len;

    memcpy(out, iv, 16);
    assert_int_equal(EVP_EncryptInit_ex(c, cipher, NULL, key_bytes, iv), 1);
    EVP_CIPHER_CTX_set_padding(c, 0);
    assert_int_equal(EVP_EncryptUpdate(c, out + 16, &len, plain, (int)n), 1);
    assert_int_equal(len, n);
    EVP_CIPHER_CTX_free(c);
}

static enum err open_cut(const uint8_t *stored, size_t n, size_t key_len, size_t step,
                         uint8_t *plain, size_t *plain_len)
{
    struct chain c = {0};
    enum err e;

    test_slice_up(&c, bytes_of(stored, n), step);
    e = envelope__cbc_open(ctx, bytes_of(key_bytes, key_len), chain_begin(&c), n, plain, plain_len);
    chain_fini(&c);
    return e;
}

/* The rule in the plain way: 1 to 16 bytes that all say how many they are. */
static size_t padding_of(const uint8_t *plain, size_t n)
{
    size_t pad = plain[n - 1];

    if (pad < 1 || pad > 16)
        return 0;
    for (size_t i = 1; i <= pad; i++)
        if (plain[n - i] != pad)
            return 0;
    return pad;
}

static void check_padding(const uint8_t plain[static 48])
{
    uint8_t stored[64], got[48];
    size_t pad = padding_of(plain, 48), len = 99;

    encrypt_blocks(plain, 48, 32, stored);
    assert_int_equal(open_cut(stored, sizeof stored, 32, 64, got, &len),
                     pad == 0 ? ERR_BAD_PADDING : ERR_OK);
    if (pad == 0)
        return;
    assert_int_equal(len, 48 - pad);
    assert_memory_equal(got, plain, len);
}

/* Every last byte, alone, with all before it equal, and with each one of the last 17 wrong. */
static void every_padding(void **state)
{
    (void)state;
    for (uint32_t pad = 0; pad < 256; pad++) {
        uint8_t plain[48];

        memset(plain, 'p', sizeof plain);
        plain[47] = (uint8_t)pad;
        check_padding(plain);
        memset(plain, (int)pad, sizeof plain);
        check_padding(plain);
        for (size_t wrong = 1; wrong <= 17; wrong++)
            for (uint32_t bit = 1; bit < 256; bit <<= 1) {
                plain[48 - wrong] ^= (uint8_t)bit;
                check_padding(plain);
                plain[48 - wrong] ^= (uint8_t)bit;
            }
    }
}

static void lengths(void **state)
{
    (void)state;
    for (size_t n = 0; n <= 16; n++)
        assert_int_equal(envelope__cbc_check(n), ERR_TOO_SHORT);
    for (size_t n = 17; n < 100; n++)
        assert_int_equal(envelope__cbc_check(n), n % 16 == 0 ? ERR_OK : ERR_BAD_BLOCK_SIZE);
    for (size_t n = 0; n < 100; n++)
        assert_int_equal(envelope__cbc_sealed_len(n), 16 + n + 16 - n % 16);
}

/* Any size, any key, any cut in and out. */
static void seals_and_opens(void **state)
{
    static const size_t key_lens[] = {16, 24, 32}, steps[] = {1, 7, 15, 16, 17, 33, 1000};
    static uint8_t plain[200], padded[224], want[240];

    (void)state;
    for (size_t i = 0; i < sizeof plain; i++)
        plain[i] = (uint8_t)(i * 31 + 7);
    for (size_t n = 0; n <= sizeof plain; n += n < 50 ? 1 : 13) {
        size_t key_len = key_lens[n % 3], sealed_len = envelope__cbc_sealed_len(n);
        size_t pad = 16 - n % 16, len;

        memcpy(padded, plain, n);
        memset(padded + n, (int)pad, pad);
        encrypt_blocks(padded, n + pad, key_len, want);
        for (size_t k = 0; k < ARRAY_LEN(steps); k++) {
            uint8_t *out = malloc(sealed_len), *got = malloc(sealed_len - 16);
            struct chain c = {0};

            assert_true(out != NULL && got != NULL);
            test_slice_up(&c, bytes_of(plain, n), steps[k]);
            test_random_left = bytes_of(iv, 16);
            assert_int_equal(
                envelope__cbc_seal(ctx, bytes_of(key_bytes, key_len), chain_begin(&c), n, out),
                ERR_OK);
            assert_memory_equal(out, want, sealed_len);
            chain_fini(&c);
            assert_int_equal(open_cut(out, sealed_len, key_len, steps[k], got, &len), ERR_OK);
            assert_int_equal(len, n);
            assert_memory_equal(got, plain, n);
            free(out);
            free(got);
        }
    }
}

/* After a value that failed, and after a wipe, the next one is right. */
static void nothing_sticks(void **state)
{
    uint8_t plain[32], stored[48], got[32];
    size_t len;

    (void)state;
    memset(plain, 16, sizeof plain);
    encrypt_blocks(plain, 32, 32, stored);
    stored[40] ^= 1;
    assert_int_equal(open_cut(stored, 48, 32, 5, got, &len), ERR_BAD_PADDING);
    assert_int_equal(open_cut(stored, 47, 32, 5, got, &len), ERR_BAD_BLOCK_SIZE);
    envelope_ctx_wipe(ctx);
    envelope_ctx_wipe(ctx);
    stored[40] ^= 1;
    assert_int_equal(open_cut(stored, 48, 32, 5, got, &len), ERR_OK);
    assert_int_equal(len, 16);
}

static int setup(void **state)
{
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
        cmocka_unit_test(every_padding),
        cmocka_unit_test(lengths),
        cmocka_unit_test(seals_and_opens),
        cmocka_unit_test(nothing_sticks),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
