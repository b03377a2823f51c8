/* SPDX-License-Identifier: Apache-2.0 */
#include "envelope_test.h"

static struct envelope_ctx *ctx;
static uint8_t plain[3000];

static const uint8_t random44[] = "IIIIIIIIIIIIIIIIIIIIIIIIIIIIIIIInnnnnnnnnnnn";

static const struct provider *kms(void)
{
    static struct provider p;

    p = test_kmsv2("p", "k8s:enc:kms:v2:p:");
    return &p;
}

/* However the plaintext is cut and wherever it lies in its chain, the bytes are the same. */
static void cuts_and_offsets_do_not_matter(void **state)
{
    static const size_t steps[] = {1, 7, 16, 1000, sizeof plain};
    struct dek *dek = test_dek(DEK_HKDF_SEED, "key", 32);
    const size_t off = 13, len = 2500;
    uint8_t *first = NULL;
    size_t n;

    (void)state;
    assert_int_equal(envelope_sealed_len(kms(), dek, len, &n), ERR_OK);
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        struct chain c = {0};
        uint8_t *out = malloc(n); /* made to measure, for the sanitizer */

        assert_non_null(out);
        test_slice_up(&c, bytes_of(plain, sizeof plain), steps[i]);
        test_random_left = bytes_of(random44, 44);
        assert_int_equal(
            envelope_seal(ctx, kms(), dek, BYTES_LIT("/k"), chain_seek(&c, off), len, out), ERR_OK);
        assert_int_equal(test_random_left.n, 0);
        chain_fini(&c);
        if (first == NULL) {
            first = out;
            continue;
        }
        assert_memory_equal(out, first, n);
        free(out);
    }
    free(first);
    dek_drop(dek);
}

static void layout(void **state)
{
    static const char head[] = "k8s:enc:kms:v2:p:\x0a\x41"; /* 60 + 5 */
    struct dek *dek = test_dek(DEK_HKDF_SEED, "key", 32);
    struct chain c = {0};
    uint8_t out[512];
    size_t n;

    (void)state;
    test_push(&c, plain, 5);
    test_random_left = bytes_of(random44, 44);
    assert_int_equal(envelope_sealed_len(kms(), dek, 5, &n), ERR_OK);
    assert_int_equal(n, sizeof head - 1 + 65 + dek->tail.n);
    memset(out, 'X', sizeof out);
    assert_int_equal(envelope_seal(ctx, kms(), dek, BYTES_LIT("/k"), chain_begin(&c), 5, out),
                     ERR_OK);
    assert_memory_equal(out, head, sizeof head - 1);
    assert_memory_equal(out + sizeof head - 1, random44, 44);
    assert_memory_equal(out + n - dek->tail.n, dek->tail.p, dek->tail.n);
    assert_int_equal(out[n], 'X');
    chain_fini(&c);
    dek_drop(dek);
}

static void lengths(void **state)
{
    struct dek *dek = test_dek(DEK_HKDF_SEED, "key", 32);
    static const struct {
        size_t plain, varint;
    } cases[] = {{0, 1},          {127 - 60, 1},     {128 - 60, 2},    {16383 - 60, 2},
                 {16384 - 60, 3}, {2097151 - 60, 3}, {2097152 - 60, 4}};
    size_t n;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(envelope_sealed_len(kms(), dek, cases[i].plain, &n), ERR_OK);
        assert_int_equal(n, 17 + 1 + cases[i].varint + 60 + cases[i].plain + dek->tail.n);
    }
    assert_int_equal(envelope_sealed_len(kms(), dek, 1u << 30, &n), ERR_MESSAGE_TOO_LARGE);
    assert_int_equal(envelope_sealed_len(kms(), dek, (1u << 30) + 1, &n), ERR_MESSAGE_TOO_LARGE);
    assert_int_equal(envelope_sealed_len(kms(), dek, SIZE_MAX, &n), ERR_MESSAGE_TOO_LARGE);
    dek_drop(dek);
}

static void refuses(const struct provider *p, const struct dek *dek, enum err want)
{
    struct chain c = {0};
    uint8_t out[512];
    size_t n;

    test_push(&c, plain, 5);
    memset(out, 0, sizeof out);
    assert_int_equal(envelope_sealed_len(p, dek, 5, &n), want);
    assert_int_equal(envelope_seal(ctx, p, dek, BYTES_LIT("/k"), chain_begin(&c), 5, out), want);
    for (size_t i = 0; i < sizeof out; i++)
        assert_int_equal(out[i], 0);
    chain_fini(&c);
}

static void what_is_not_written(void **state)
{
    struct dek *old = test_dek(DEK_AES_GCM_KEY, "key", 32);
    struct dek *dek = test_dek(DEK_HKDF_SEED, "key", 32);

    (void)state;
    refuses(kms(), old, ERR_NO_WRITE_KEY);
    refuses(kms(), NULL, ERR_NO_WRITE_KEY);
    for (int kind = PROVIDER_NONE; kind <= PROVIDER_SECRETBOX + 1; kind++) {
        struct provider p = *kms();

        p.kind = (enum provider_kind)kind;
        if (kind == PROVIDER_NONE || kind == PROVIDER_IDENTITY || kind > PROVIDER_SECRETBOX)
            refuses(&p, dek, ERR_CONFIG);
        else if (kind != PROVIDER_KMS_V2) /* no keys; not a DEK of kms v1 */
            refuses(&p, dek, ERR_NO_WRITE_KEY);
    }
    dek_drop(old);
    dek_drop(dek);
}

static void no_randomness_no_value(void **state)
{
    struct dek *dek = test_dek(DEK_HKDF_SEED, "key", 32);
    struct chain c = {0};
    uint8_t out[512];

    (void)state;
    test_push(&c, plain, 5);
    test_random_left = bytes_of(random44, 43);
    assert_int_equal(envelope_seal(ctx, kms(), dek, BYTES_LIT("/k"), chain_begin(&c), 5, out),
                     ERR_RANDOM);
    chain_fini(&c);
    dek_drop(dek);
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
        cmocka_unit_test(cuts_and_offsets_do_not_matter),
        cmocka_unit_test(layout),
        cmocka_unit_test(lengths),
        cmocka_unit_test(what_is_not_written),
        cmocka_unit_test(no_randomness_no_value),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
