/* SPDX-License-Identifier: Apache-2.0 */
/* Values that come again: what is kept answers for exactly the same key, place and bytes. */
#include "envelope_test.h"

#include "envelope/envelope_int.h"

#define AAD BYTES_LIT("/registry/secrets/default/a")

static struct envelope_ctx *ctx;

struct stored {
    struct chain c;
    struct envelope_value v;
    struct arena arena;
    uint8_t *bytes; /* of the chain, to be changed */
};

static const struct provider_list *kms_list(void)
{
    static struct provider kms;
    static const struct provider *v[1] = {&kms};
    static const struct provider_list list = {v, 1, "secrets"};

    kms = test_kmsv2("p", "k8s:enc:kms:v2:p:");
    return &list;
}

static void stored_new(struct stored *s, const struct dek *dek, size_t len, uint8_t fill)
{
    struct chain plain = {0};
    uint8_t *p = malloc(len), *out;
    size_t n;

    assert_non_null(p);
    memset(p, fill, len);
    test_push(&plain, p, len);
    assert_int_equal(envelope_sealed_len(kms_list()->v[0], dek, len, &n), ERR_OK);
    out = malloc(n);
    assert_non_null(out);
    assert_int_equal(envelope_seal(ctx, kms_list()->v[0], dek, AAD, chain_begin(&plain), len, out),
                     ERR_OK);
    memset(s, 0, sizeof *s);
    test_push(&s->c, out, n);
    s->bytes = slice_data(*chain_at(&s->c, 0));
    assert_int_equal(envelope_identify(kms_list(), chain_begin(&s->c), n, &s->arena, NULL, &s->v),
                     ERR_OK);
    chain_fini(&plain);
    free(p);
    free(out);
}

static void stored_fini(struct stored *s)
{
    chain_fini(&s->c);
    arena_fini(&s->arena);
}

static enum err open_with(const struct stored *s, struct dek *dek, struct bytes aad, uint8_t fill)
{
    uint8_t *out = malloc(s->v.plain_len + 1); /* made to measure, for the sanitizer */
    enum err e;

    assert_non_null(out);
    memset(out, ~fill, s->v.plain_len);
    e = envelope_open_again(ctx, &s->v, dek, aad, chain_seek(&s->c, s->v.data_at), out);
    for (size_t i = 0; e == ERR_OK && i < s->v.plain_len; i++)
        assert_int_equal(out[i], fill);
    free(out);
    return e;
}

/* Whether the value is opened without its key: a spoiled one opens nothing. */
static bool is_kept(const struct stored *s, struct dek *dek, uint8_t fill)
{
    uint8_t *derived = dek->derived;
    enum err e;

    for (size_t i = 0; i < 32; i++)
        derived[i] ^= 0xff;
    e = open_with(s, dek, AAD, fill);
    for (size_t i = 0; i < 32; i++)
        derived[i] ^= 0xff;
    return e == ERR_OK;
}

static void the_third_time(void **state)
{
    struct dek *dek = test_dek(DEK_HKDF_SEED, "key", 32);
    struct stored s;

    (void)state;
    stored_new(&s, dek, 1000, 'a');
    assert_false(is_kept(&s, dek, 'a'));
    assert_int_equal(open_with(&s, dek, AAD, 'a'), ERR_OK);
    assert_false(is_kept(&s, dek, 'a'));
    assert_int_equal(open_with(&s, dek, AAD, 'a'), ERR_OK);
    assert_true(is_kept(&s, dek, 'a'));
    envelope_ctx_wipe(ctx);
    assert_null(ctx->memo);
    assert_false(is_kept(&s, dek, 'a'));
    stored_fini(&s);
    dek_drop(dek);
}

/* Every bit of the data counts, and so do the etcd key and the DEK. */
static void nothing_else(void **state)
{
    struct dek *dek = test_dek(DEK_HKDF_SEED, "key", 32);
    struct dek *same = test_dek(DEK_HKDF_SEED, "key", 32), *other;
    struct stored s;

    (void)state;
    other = test_dek(DEK_HKDF_SEED, "other", 131);
    stored_new(&s, dek, 200, 'b');
    for (int i = 0; i < 3; i++)
        assert_int_equal(open_with(&s, dek, AAD, 'b'), ERR_OK);
    assert_true(is_kept(&s, dek, 'b'));
    for (size_t i = 0; i < s.v.data_len * 8; i++) {
        s.bytes[s.v.data_at + i / 8] ^= (uint8_t)(1 << i % 8);
        assert_int_equal(open_with(&s, dek, AAD, 'b'), ERR_AUTH_FAILED);
        s.bytes[s.v.data_at + i / 8] ^= (uint8_t)(1 << i % 8);
    }
    assert_int_equal(open_with(&s, dek, BYTES_LIT("/registry/secrets/default/b"), 'b'),
                     ERR_AUTH_FAILED);
    assert_int_equal(open_with(&s, other, AAD, 'b'), ERR_AUTH_FAILED);
    assert_int_equal(open_with(&s, same, AAD, 'b'), ERR_OK);
    assert_true(is_kept(&s, dek, 'b'));
    stored_fini(&s);
    dek_drop(dek);
    dek_drop(same);
    dek_drop(other);
}

/* More values than there are places, of sizes that fit and that do not; the DEK goes before the
 * context. */
static void many(void **state)
{
    static const size_t sizes[] = {1, 100, 4096 - 60, 4096 - 59, 9000};
    struct dek *dek = test_dek(DEK_HKDF_SEED, "key", 32);
    struct stored s[100];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(s); i++)
        stored_new(&s[i], dek, sizes[i % ARRAY_LEN(sizes)], (uint8_t)i);
    for (size_t round = 0; round < 4; round++) {
        for (size_t i = 0; i < ARRAY_LEN(s); i++)
            for (size_t k = 0; k <= i % 4; k++)
                assert_int_equal(open_with(&s[i], dek, AAD, (uint8_t)i), ERR_OK);
    }
    assert_false(is_kept(&s[99], dek, 99)); /* too large */
    for (size_t k = 0; k < 3; k++)
        assert_int_equal(open_with(&s[92], dek, AAD, 92), ERR_OK);
    assert_true(is_kept(&s[92], dek, 92));
    for (size_t i = 0; i < ARRAY_LEN(s); i++)
        stored_fini(&s[i]);
    dek_drop(dek);
}

static int setup(void **state)
{
    if (test_setup(state) != 0)
        return -1;
    return envelope_ctx_new(test_random_endless, NULL, &ctx) == ERR_OK ? 0 : -1;
}

static int teardown(void **state)
{
    envelope_ctx_free(ctx);
    return test_teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_third_time),
        cmocka_unit_test(nothing_else),
        cmocka_unit_test(many),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
