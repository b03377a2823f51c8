/* SPDX-License-Identifier: Apache-2.0 */
/* The ways that are taken where OpenSSL's configuration asks for fips=yes, with a provider of the
 * tests in the place of FIPS's: the same bytes as the other ways, keys and random bytes of the
 * provider, nothing of what it does not have. */
#include "base/fips.h"
#include "base/randpool.h"
#include "envelope/envelope_int.h"
#include "envelope_test.h"

#include <limits.h>

#include <openssl/core_names.h>
#include <openssl/provider.h>
#include <openssl/rand.h>

#include "fips_provider.h"

#define AAD BYTES_LIT("/registry/secrets/default/db-password")
#define SIZE_MAX_TESTED 70000u

static void turn(const char *properties)
{
    const char *missing = "nothing";

    assert_int_equal(EVP_set_default_properties(NULL, properties), 1);
    if (fips_init(&missing) != ERR_OK)
        fail_msg("missing: %s", missing);
    assert_int_equal(fips_is_on(), properties[0] != '\0');
}

/* Asked for, but no provider has it: refused, and what is missing is named. */
static void without_provider(void **state)
{
    struct envelope_ctx *ctx;
    const char *missing = "";

    (void)state;
    assert_int_equal(EVP_set_default_properties(NULL, "fips=yes"), 1);
    assert_int_equal(fips_init(&missing), ERR_CRYPTO);
    assert_string_equal(missing, "AES-128-GCM");
    assert_true(fips_is_on()); /* and stays so: nothing falls back */
    assert_int_equal(envelope_ctx_new(test_random_endless, NULL, &ctx), ERR_CRYPTO);
    turn("");
}

static OSSL_PROVIDER *providers[2];

static int unload_providers(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(providers); i++)
        OSSL_PROVIDER_unload(providers[i]);
    return test_teardown(state);
}

static void load_provider(void **state)
{
    char text[FIPS_PROVIDER_TEXT];

    (void)state;
    turn("");
    assert_string_not_equal(fips_provider(text), FAKE_FIPS_NAME " 0");
    assert_int_equal(OSSL_PROVIDER_add_builtin(NULL, "fips", fake_fips_init), 1);
    for (size_t i = 0; i < ARRAY_LEN(providers); i++) {
        providers[i] = OSSL_PROVIDER_load(NULL, i == 0 ? "fips" : "default");
        assert_non_null(providers[i]);
    }
    turn("fips=yes");
    assert_string_equal(fips_provider(text), FAKE_FIPS_NAME " 0");
    turn("");
}

/* Both derivations, over key lengths and infos, the context used on, wiped between, and failing. */
static void same_keys(void **state)
{
    void *derived = secret_alloc(envelope__hmac_size());
    uint8_t key[200], info[ENVELOPE__INFO_LEN], want[32], got[32];
    struct envelope__kdf kdf;

    (void)state;
    turn("fips=yes");
    assert_non_null(derived);
    assert_int_equal(envelope__kdf_init(&kdf), ERR_OK);
    for (size_t n = 16; n <= sizeof key; n++) {
        test_random_endless(NULL, key, n);
        test_random_endless(NULL, info, sizeof info);
        envelope__hmac_init(derived, bytes_of(key, n));
        envelope__hkdf_expand(derived, bytes_of(info, sizeof info), want);
        assert_int_equal(
            envelope__kdf_expand(&kdf, bytes_of(key, n), bytes_of(info, sizeof info), got), ERR_OK);
        assert_memory_equal(got, want, sizeof want);
        if (n % 3 == 0)
            envelope__kdf_wipe(&kdf);
    }
    envelope__kdf_fini(&kdf);
    secret_free(derived, envelope__hmac_size());
    turn("");
}

struct sealed {
    uint8_t *p;
    size_t n;
};

static struct sealed seal(struct envelope_ctx *ctx, const struct provider *p, const struct dek *dek,
                          const uint8_t *plain, size_t len)
{
    struct chain c = {0};
    struct sealed s;

    test_slice_up(&c, bytes_of(plain, len), 16384);
    assert_int_equal(envelope_sealed_len(p, dek, len, &s.n), ERR_OK);
    s.p = malloc(s.n);
    assert_non_null(s.p);
    assert_int_equal(envelope_seal(ctx, p, dek, AAD, chain_begin(&c), len, s.p), ERR_OK);
    chain_fini(&c);
    return s;
}

static void opens(struct envelope_ctx *ctx, const struct provider *p, const struct dek *dek,
                  struct sealed s, const uint8_t *plain, size_t len)
{
    const struct provider *const one[] = {p};
    const struct provider_list list = {one, 1, "secrets"};
    struct arena arena = {0};
    struct envelope_value v;
    struct envelope_opened opened;
    struct chain c = {0};
    struct slice out;

    test_slice_up(&c, bytes_of(s.p, s.n), 16384);
    assert_int_equal(envelope_identify(&list, chain_begin(&c), s.n, &arena, NULL, &v), ERR_OK);
    assert_int_equal(
        envelope_open_scratch(ctx, &list, &v, dek, AAD, &c, 0, s.n, &test_pool, &out, &opened),
        ERR_OK);
    assert_int_equal(out.len, len);
    if (len > 0)
        assert_memory_equal(slice_bytes(out).p, plain, len);
    slice_drop(&out);
    chain_fini(&c);
    arena_fini(&arena);
}

/* What one way seals opens in the other, both directions, over sizes, for each kind. */
static void same_values(void **state)
{
    static const size_t sizes[] = {0, 1, 15, 16, 17, 1024, 16383, 16385, SIZE_MAX_TESTED};
    static uint8_t plain[SIZE_MAX_TESTED];
    const struct provider kms = test_kmsv2("kms", "k8s:enc:kms:v2:kms:");
    struct envelope_ctx *ctx[2];
    struct dek *dek[2], *key[2];

    (void)state;
    test_random_endless(NULL, plain, sizeof plain);
    for (size_t way = 0; way < 2; way++) {
        turn(way == 0 ? "" : "fips=yes");
        assert_int_equal(envelope_ctx_new(test_random_endless, NULL, &ctx[way]), ERR_OK);
        dek[way] = test_dek(DEK_HKDF_SEED, "key id", 32);
        assert_int_equal(dek[way]->derived == NULL, way == 1);
    }
    for (size_t i = 0; i < 4 * ARRAY_LEN(sizes); i++) {
        enum provider_kind kind = i % 4 == 0   ? PROVIDER_AESGCM
                                  : i % 4 == 1 ? PROVIDER_AESCBC
                                               : PROVIDER_KMS_V2;
        struct local_key local = {.prefix = BYTES_LIT("k:")};
        struct provider p = {
            .kind = kind,
            .name = "",
            .prefix = bytes_str(i % 4 == 0 ? "k8s:enc:aesgcm:v1:" : "k8s:enc:aescbc:v1:"),
            .keys = &local,
            .key_count = 1};
        const struct provider *use = kind == PROVIDER_KMS_V2 ? &kms : &p;

        for (size_t way = 0; way < 2; way++) {
            struct sealed sealed;

            if (use == &p)
                assert_int_equal(dek_new_local(kind, bytes_of(plain, 32), &key[way]), ERR_OK);
            turn(way == 0 ? "" : "fips=yes");
            local.dek = key[way];
            sealed = seal(ctx[way], use, use == &p ? NULL : dek[way], plain, sizes[i / 4]);
            turn(way == 0 ? "fips=yes" : "");
            opens(ctx[1 - way], use, use == &p ? NULL : dek[1 - way], sealed, plain, sizes[i / 4]);
            envelope_ctx_wipe(ctx[1 - way]); /* the next one begins anew */
            free(sealed.p);
            if (use == &p)
                dek_drop(key[way]);
        }
    }
    for (size_t way = 0; way < 2; way++) {
        envelope_ctx_free(ctx[way]);
        dek_drop(dek[way]);
    }
    turn("");
}

/* dek_check_text and dek_id_digest are the same in both modes. */
static void same_names(void **state)
{
    char check[2][DEK_CHECK_TEXT];
    uint8_t digest[2][DEK_DIGEST_LEN];

    (void)state;
    for (size_t n = 32; n <= 200; n += 7) {
        for (size_t way = 0; way < 2; way++) {
            struct dek *dek;

            turn(way == 0 ? "" : "fips=yes");
            dek = test_dek(DEK_HKDF_SEED, n % 2 == 0 ? "one" : "another", n);
            assert_int_equal(dek_check_text(dek, check[way]), ERR_OK);
            assert_int_equal(dek_id_digest(&dek->id, digest[way]), ERR_OK);
            dek_drop(dek);
        }
        assert_string_equal(check[0], check[1]);
        assert_memory_equal(digest[0], digest[1], sizeof digest[0]);
    }
    turn("");
}

static void digest_of(struct envelope_ctx *ctx, const char *aad, struct bytes value, size_t step,
                      uint8_t out[static DEK_DIGEST_LEN])
{
    struct chain c = {0};

    test_slice_up(&c, value, step);
    assert_int_equal(envelope_value_digest(ctx, bytes_str(aad), chain_begin(&c), value.n, out),
                     ERR_OK);
    chain_fini(&c);
}

/* The digest of a value depends on key, value and nothing else, however it is cut. */
static void value_digests(void **state)
{
    static const struct bytes value = BYTES_LIT("a stored value that did not open");
    uint8_t want[DEK_DIGEST_LEN], got[DEK_DIGEST_LEN];
    struct envelope_ctx *ctx;

    (void)state;
    turn("fips=yes");
    assert_int_equal(envelope_ctx_new(test_random_endless, NULL, &ctx), ERR_OK);
    digest_of(ctx, "key", value, value.n, want);
    for (size_t step = 1; step < value.n; step++) {
        digest_of(ctx, "key", value, step, got);
        assert_memory_equal(got, want, sizeof want);
    }
    digest_of(ctx, "keya", bytes_of(value.p + 1, value.n - 1), 5, got);
    assert_memory_not_equal(got, want, sizeof want);
    digest_of(ctx, "key", bytes_of(value.p, value.n - 1), 5, got);
    assert_memory_not_equal(got, want, sizeof want);
    envelope_ctx_free(ctx);
    turn("");
}

/* XSalsa20 and Poly1305 are no algorithms of FIPS's. */
static void no_secretbox(void **state)
{
    struct local_key local = {.prefix = BYTES_LIT("k:")};
    const struct provider p = {.kind = PROVIDER_SECRETBOX,
                               .name = "",
                               .prefix = BYTES_LIT("k8s:enc:secretbox:v1:"),
                               .keys = &local,
                               .key_count = 1};
    const uint8_t plain[] = "plaintext";
    uint8_t out[200];
    struct envelope_ctx *ctx;
    struct sealed sealed;
    struct chain c = {0};

    (void)state;
    turn("fips=yes");
    assert_int_equal(envelope_ctx_new(test_random_endless, NULL, &ctx), ERR_OK);
    assert_int_equal(dek_new_local(PROVIDER_SECRETBOX, bytes_of(out, 32), &local.dek), ERR_OK);
    test_push(&c, plain, sizeof plain);
    assert_int_equal(envelope_seal(ctx, &p, NULL, AAD, chain_begin(&c), sizeof plain, out),
                     ERR_CRYPTO);
    turn("");
    sealed = seal(ctx, &p, NULL, plain, sizeof plain);
    opens(ctx, &p, NULL, sealed, plain, sizeof plain);
    turn("fips=yes");
    chain_clear(&c);
    test_push(&c, sealed.p + sealed.n - 40 - sizeof plain, 40 + sizeof plain);
    assert_int_equal(envelope__box_open(bytes_of(out, 32), chain_begin(&c), c.len, out),
                     ERR_CRYPTO);
    chain_fini(&c);
    free(sealed.p);
    dek_drop(local.dek);
    envelope_ctx_free(ctx);
    turn("");
}

/* The generator that is to be used, told to seed itself anew for each request. */
static void seed_always(void)
{
    unsigned one = 1;
    OSSL_PARAM set[] = {OSSL_PARAM_construct_uint(OSSL_DRBG_PARAM_RESEED_REQUESTS, &one),
                        OSSL_PARAM_construct_end()};

    assert_int_equal(EVP_RAND_CTX_set_params(RAND_get0_private(NULL), set), 1);
}

static unsigned seedings(void)
{
    unsigned count = 0;
    OSSL_PARAM ask[] = {OSSL_PARAM_construct_uint(OSSL_DRBG_PARAM_RESEED_COUNTER, &count),
                        OSSL_PARAM_construct_end()};

    assert_int_equal(EVP_RAND_CTX_get_params(RAND_get0_private(NULL), ask), 1);
    return count;
}

/* Random bytes come from the provider's generator, and only then; of any length. */
static void random_of_provider(void **state)
{
    static uint8_t many[200000];
    uint8_t a[32], b[32];
    unsigned before;

    (void)state;
    turn("");
    seed_always();
    before = seedings();
    assert_int_equal(random_get(a, sizeof a), ERR_OK);
    assert_int_equal(seedings(), before);
    turn("fips=yes");
    assert_int_equal(random_get(a, sizeof a), ERR_OK);
    before = seedings();
    for (unsigned i = 1; i < 20; i++) {
        assert_int_equal(random_get(b, sizeof b), ERR_OK);
        assert_in_range(seedings(), before + i, UINT_MAX);
        assert_memory_not_equal(a, b, sizeof a);
    }
    assert_int_equal(random_get(many, sizeof many), ERR_OK);
    memset(b, 0, sizeof b);
    for (size_t at = 0; at + sizeof b <= sizeof many; at += sizeof b)
        assert_memory_not_equal(many + at, b, sizeof b);
    turn("");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_provider), cmocka_unit_test(load_provider),
        cmocka_unit_test(same_keys),        cmocka_unit_test(same_values),
        cmocka_unit_test(same_names),       cmocka_unit_test(value_digests),
        cmocka_unit_test(no_secretbox),     cmocka_unit_test(random_of_provider),
    };

    return cmocka_run_group_tests(tests, test_setup, unload_providers);
}
