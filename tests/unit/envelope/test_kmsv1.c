/* SPDX-License-Identifier: Apache-2.0 */
/* kms v1: no damaged value is ever given out unless the fallback to AES-CBC is asked for; names
 * that overlap; lengths. */
#include <openssl/evp.h>

#include "envelope_test.h"

#define AAD BYTES_LIT("/registry/secrets/default/db-password")
#define PREFIX "k8s:enc:kms:v1:p:"

static struct envelope_ctx *ctx;
static const uint8_t secret[32] = "the DEK of one value, 32 bytes..";

static struct provider v1_of(const char *prefix, bool cbc_reads)
{
    return (struct provider){
        .kind = PROVIDER_KMS_V1, .name = "p", .prefix = bytes_str(prefix), .cbc_reads = cbc_reads};
}

static struct dek *v1_dek(const char *wrapped)
{
    struct dek_id id = {.type = DEK_KMS_V1_KEY, .wrapped = bytes_str(wrapped)};
    struct dek *dek;

    assert_int_equal(dek_new(&id, bytes_of(secret, sizeof secret), &dek), ERR_OK);
    return dek;
}

struct sealed {
    uint8_t p[512];
    size_t n;
};

static struct sealed seal(const struct provider *p, const struct dek *dek, const char *plain)
{
    struct chain c = {0};
    struct sealed s;

    test_slice_up(&c, bytes_str(plain), 3);
    assert_int_equal(envelope_sealed_len(p, dek, strlen(plain), &s.n), ERR_OK);
    assert_int_equal(envelope_seal(ctx, p, dek, AAD, chain_begin(&c), strlen(plain), s.p), ERR_OK);
    chain_fini(&c);
    return s;
}

/* As servers before v1.25 wrote it. */
static struct sealed seal_old(const struct dek *dek, const uint8_t *plain, size_t n)
{
    struct sealed s = {.n = sizeof PREFIX - 1};
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    int len, last;

    memcpy(s.p, PREFIX, s.n);
    memcpy(s.p + s.n, dek->tail.p, dek->tail.n);
    s.n += dek->tail.n;
    memset(s.p + s.n, 0x11, 16);
    EVP_EncryptInit_ex(c, EVP_aes_256_cbc(), NULL, secret, s.p + s.n);
    EVP_EncryptUpdate(c, s.p + s.n + 16, &len, plain, (int)n);
    EVP_EncryptFinal_ex(c, s.p + s.n + 16 + len, &last);
    EVP_CIPHER_CTX_free(c);
    s.n += 16 + (size_t)(len + last);
    return s;
}

struct outcome {
    enum err err;
    enum envelope_form form;
    struct envelope_opened opened;
    uint32_t index;
    char plain[300];
};

/* What the list makes of it, with the DEK that is asked for; the wrapped DEK must be dek's. */
static struct outcome open_list(const struct provider *const *v, uint32_t count,
                                const struct sealed *s, const struct dek *dek, size_t step)
{
    const struct provider_list list = {.v = v, .count = count, .resource = "secrets"};
    struct arena arena = {0};
    struct chain c = {0};
    struct envelope_value value;
    struct slice out = SLICE_EMPTY;
    struct outcome o = {0};
    size_t at;

    test_slice_up(&c, bytes_of(s->p, s->n), step);
    o.err = envelope_identify(&list, chain_begin(&c), c.len, &arena, NULL, &value);
    o.form = value.form;
    o.index = value.provider_index;
    if (o.err == ERR_OK && !dek_id_eq(&value.id, &dek->id))
        o.err = ERR_KMS_ERROR;
    if (o.err == ERR_OK) {
        assert_true(value.needs_dek);
        o.err = envelope_open_scratch(ctx, &list, &value, dek, AAD, &c, 0, c.len, &test_pool, &out,
                                      &o.opened);
        assert_in_range(out.len, 0, sizeof o.plain - 1);
        if (out.len > 0)
            memcpy(o.plain, slice_data(out), out.len);
        if (value.form == ENVELOPE_IN_PLACE) {
            assert_int_equal(test_open_in_place(ctx, &value, dek, AAD, &c, &at), o.err);
            assert_true(dek_id_eq(&value.id, &dek->id));
        }
        slice_drop(&out);
    }
    chain_fini(&c);
    arena_fini(&arena);
    return o;
}

static struct outcome open_by(const struct provider *p, const struct sealed *s,
                              const struct dek *dek, size_t step)
{
    return open_list(&p, 1, s, dek, step);
}

static void opens(void **state)
{
    struct dek *dek = v1_dek("wrapped by the plugin");
    struct provider strict = v1_of(PREFIX, false), lax = v1_of(PREFIX, true);
    struct sealed s = seal(&strict, dek, "hello");

    (void)state;
    assert_memory_equal(s.p, PREFIX "\x00\x15wrapped", sizeof PREFIX - 1 + 9);
    for (size_t step = 1; step <= s.n; step++) {
        struct outcome o = open_by(&strict, &s, dek, step);

        assert_int_equal(o.err, ERR_OK);
        assert_int_equal(o.form, ENVELOPE_IN_PLACE);
        assert_string_equal(o.plain, "hello");
        assert_true(o.opened.authentic && !o.opened.stale);
        o = open_by(&lax, &s, dek, step);
        assert_int_equal(o.err, ERR_OK);
        assert_int_equal(o.form, ENVELOPE_SCRATCH); /* AES-CBC's length is not known before */
        assert_string_equal(o.plain, "hello");
        assert_true(o.opened.authentic && !o.opened.stale);
    }
    dek_drop(dek);
}

/* A payload of AES-CBC: only on demand, and then it is stale and proves nothing. */
static void old_payload(void **state)
{
    struct dek *dek = v1_dek("wrapped");
    struct provider strict = v1_of(PREFIX, false), lax = v1_of(PREFIX, true);
    struct sealed s = seal_old(dek, (const uint8_t *)"a value of long ago", 19);
    struct outcome o;

    (void)state;
    assert_int_equal(open_by(&strict, &s, dek, 5).err, ERR_AUTH_FAILED);
    o = open_by(&lax, &s, dek, 5);
    assert_int_equal(o.err, ERR_OK);
    assert_string_equal(o.plain, "a value of long ago");
    assert_true(o.opened.stale);
    assert_false(o.opened.authentic);
    /* an IV and no block */
    s.n = sizeof PREFIX - 1 + dek->tail.n + 16;
    assert_int_equal(open_by(&lax, &s, dek, 5).err, ERR_AUTH_FAILED);
    assert_int_equal(open_by(&strict, &s, dek, 5).err, ERR_AUTH_FAILED);
    dek_drop(dek);
}

/* Many damaged payloads whose length suits AES-CBC: with the fallback some come out as garbage (so
 * the test has teeth), without it none does. */
static void garbage_is_never_given_out(void **state)
{
    struct dek *dek = v1_dek("wrapped");
    struct provider strict = v1_of(PREFIX, false), lax = v1_of(PREFIX, true);
    struct sealed s = seal(&strict, dek, "36 bytes: 12 + 36 + 16 = four blocks");
    size_t body = sizeof PREFIX - 1 + dek->tail.n, garbage = 0;

    (void)state;
    assert_int_equal(s.n - body, 64);
    for (uint32_t i = 0; i < 3000; i++) {
        struct sealed damaged = s;
        struct outcome o;

        damaged.p[body + i % 64] ^= (uint8_t)(1 + i / 64);
        o = open_by(&strict, &damaged, dek, 100);
        assert_int_equal(o.err, ERR_AUTH_FAILED);
        assert_false(o.opened.authentic);
        assert_string_equal(o.plain, "");
        o = open_by(&lax, &damaged, dek, 100);
        garbage += o.err == ERR_OK;
        assert_false(o.opened.authentic);
    }
    assert_in_range(garbage, 1, 100);
    dek_drop(dek);
}

static void every_truncation(void **state)
{
    struct dek *dek = v1_dek("wrapped");
    struct provider p = v1_of(PREFIX, false);
    struct sealed s = seal(&p, dek, "hello");
    size_t head = sizeof PREFIX - 1, body = head + dek->tail.n, full = s.n;

    (void)state;
    for (s.n = 0; s.n < full; s.n++) {
        enum err want = s.n < head        ? ERR_NO_MATCHING_PREFIX
                        : s.n < body      ? ERR_V1_BAD_LENGTH_PREFIX
                        : s.n < body + 12 ? ERR_TOO_SHORT
                                          : ERR_AUTH_FAILED;

        assert_int_equal(open_by(&p, &s, dek, 4).err, want);
    }
    dek_drop(dek);
}

/* Of a name that begins another one the plugin is not asked: what stands there is no length. */
static void overlapping_names(void **state)
{
    struct dek *dek = v1_dek("wrapped");
    struct provider a = v1_of("k8s:enc:kms:v1:a:", false);
    struct provider ab = v1_of("k8s:enc:kms:v1:a: :", false);
    const struct provider *v[] = {&a, &ab}, *turned[] = {&ab, &a};
    struct sealed s = seal(&ab, dek, "of a: "), *big = &s;
    struct outcome o = open_list(v, 2, &s, dek, 9);

    (void)state;
    assert_int_equal(o.err, ERR_OK);
    assert_int_equal(o.form, ENVELOPE_IN_PLACE);
    assert_int_equal(o.index, 1);
    assert_string_equal(o.plain, "of a: ");
    assert_true(o.opened.stale);
    o = open_list(turned, 2, &s, dek, 9);
    assert_int_equal(o.err, ERR_OK);
    assert_false(o.opened.stale);
    /* damaged: the first element's error */
    big->p[big->n - 1] ^= 1;
    assert_int_equal(open_list(v, 2, big, dek, 9).err, ERR_V1_BAD_LENGTH_PREFIX);
    assert_int_equal(open_list(turned, 2, big, dek, 9).err, ERR_AUTH_FAILED);
    dek_drop(dek);
}

/* The longest wrapped DEK, and one byte more. */
static void wrapped_lengths(void **state)
{
    struct provider p = v1_of(PREFIX, false);
    const struct provider *v[] = {&p};
    const struct provider_list list = {.v = v, .count = 1, .resource = "secrets"};
    size_t head = sizeof PREFIX - 1;

    (void)state;
    for (size_t n = 0x1ffe; n <= 0x2001; n++) {
        uint8_t *b = calloc(1, head + 2 + n);
        struct arena arena = {0};
        struct envelope_value value;
        struct chain c = {0};

        assert_non_null(b);
        memcpy(b, PREFIX, head);
        b[head] = (uint8_t)(n >> 8);
        b[head + 1] = (uint8_t)n;
        test_slice_up(&c, bytes_of(b, head + 2 + n), 1000);
        assert_int_equal(envelope_identify(&list, chain_begin(&c), c.len, &arena, NULL, &value),
                         n < 0x2000 ? ERR_OK : ERR_V1_BAD_LENGTH_PREFIX);
        if (n < 0x2000)
            assert_int_equal(value.id.wrapped.n, n);
        chain_fini(&c);
        arena_fini(&arena);
        free(b);
    }
}

static void what_is_not_written(void **state)
{
    struct dek_id id = {.type = DEK_KMS_V1_KEY, .wrapped = BYTES_LIT("w")};
    struct provider p = v1_of(PREFIX, false);
    struct dek *dek = v1_dek("w"), *small, *local, *seed = test_dek(DEK_HKDF_SEED, "k", 32);
    size_t n;

    (void)state;
    assert_int_equal(dek_new(&id, bytes_of(secret, 16), &small), ERR_OK);
    assert_int_equal(dek_new_local(PROVIDER_AESGCM, bytes_of(secret, 32), &local), ERR_OK);
    assert_int_equal(envelope_sealed_len(&p, NULL, 5, &n), ERR_NO_WRITE_KEY);
    assert_int_equal(envelope_sealed_len(&p, small, 5, &n), ERR_NO_WRITE_KEY);
    assert_int_equal(envelope_sealed_len(&p, local, 5, &n), ERR_NO_WRITE_KEY);
    assert_int_equal(envelope_sealed_len(&p, seed, 5, &n), ERR_NO_WRITE_KEY);
    assert_int_equal(envelope_sealed_len(&p, dek, 1u << 30, &n), ERR_MESSAGE_TOO_LARGE);
    assert_int_equal(envelope_sealed_len(&p, dek, SIZE_MAX, &n), ERR_MESSAGE_TOO_LARGE);
    assert_int_equal(envelope_sealed_len(&p, dek, 5, &n), ERR_OK);
    assert_int_equal(n, sizeof PREFIX - 1 + 3 + 28 + 5);
    dek_drop(dek), dek_drop(small), dek_drop(local), dek_drop(seed);
}

static int setup(void **state)
{
    return test_setup(state) == 0 && envelope_ctx_new(test_random_endless, NULL, &ctx) == ERR_OK
               ? 0
               : -1;
}

static int teardown(void **state)
{
    envelope_ctx_free(ctx);
    return test_teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opens),
        cmocka_unit_test(old_payload),
        cmocka_unit_test(garbage_is_never_given_out),
        cmocka_unit_test(every_truncation),
        cmocka_unit_test(overlapping_names),
        cmocka_unit_test(wrapped_lengths),
        cmocka_unit_test(what_is_not_written),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
