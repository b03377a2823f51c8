/* SPDX-License-Identifier: Apache-2.0 */
#include <openssl/crypto.h>

#include "envelope_test.h"

static const uint8_t secret[70000];
static const struct dek_annotation annotations[] = {{BYTES_LIT("a.b"), BYTES_LIT("")},
                                                    {BYTES_LIT("kek.example"), BYTES_LIT("v")}};

static struct dek_id id_of(uint32_t type)
{
    return (struct dek_id){.type = type,
                           .key_id = BYTES_LIT("key-1"),
                           .wrapped = BYTES_LIT("wrapped"),
                           .annotations = annotations,
                           .annotation_count = 2};
}

static bool is_inside(struct bytes b, struct bytes of)
{
    return b.p >= of.p && b.p + b.n <= of.p + of.n;
}

/* What lives on has to be the DEK's own: the id it was made with may go. */
static void owns_its_bytes(void **state)
{
    struct dek_id id = id_of(DEK_HKDF_SEED);
    struct dek *dek;

    (void)state;
    assert_int_equal(dek_new(&id, bytes_of(secret, 32), &dek), ERR_OK);
    assert_true(dek_id_eq(&dek->id, &id));
    assert_true(is_inside(dek->id.key_id, dek->tail));
    assert_true(is_inside(dek->id.wrapped, dek->tail));
    assert_ptr_not_equal(dek->id.annotations, annotations);
    for (uint32_t i = 0; i < 2; i++) {
        assert_true(is_inside(dek->id.annotations[i].key, dek->tail));
        assert_true(is_inside(dek->id.annotations[i].value, dek->tail));
    }
    dek_drop(dek);
}

static void tail_is_fields_2_to_5(void **state)
{
    static const struct bytes want = BYTES_LIT("\x12\x05"
                                               "key-1"
                                               "\x1a\x07wrapped"
                                               "\x22\x07\x0a\x03"
                                               "a.b\x12\x00"
                                               "\x22\x10\x0a\x0bkek.example\x12\x01v"
                                               "\x28\x01");
    struct dek_id id = id_of(DEK_HKDF_SEED);
    struct dek *dek;

    (void)state;
    assert_int_equal(dek_new(&id, bytes_of(secret, 32), &dek), ERR_OK);
    assert_true(bytes_eq(dek->tail, want));
    dek_drop(dek);
    id.type = DEK_AES_GCM_KEY; /* zero: left out */
    assert_int_equal(dek_new(&id, bytes_of(secret, 32), &dek), ERR_OK);
    assert_true(bytes_eq(dek->tail, bytes_of(want.p, want.n - 2)));
    dek_drop(dek);
}

static void sizes_of_secrets(void **state)
{
    static const size_t lens[] = {0,  1,  15, 16, 17, 23,   24,    25,
                                  31, 32, 33, 64, 65, 1000, 65536, 65537};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
        size_t n = lens[i];
        bool key_ok = n == 16 || n == 24 || n == 32, seed_ok = n >= 32 && n <= 65536;
        struct dek_id key = id_of(DEK_AES_GCM_KEY), seed = id_of(DEK_HKDF_SEED);
        struct dek *dek = NULL;

        assert_int_equal(dek_new(&key, bytes_of(secret, n), &dek),
                         key_ok ? ERR_OK : ERR_BAD_DEK_SIZE);
        dek_drop(dek);
        dek = NULL;
        assert_int_equal(dek_new(&seed, bytes_of(secret, n), &dek),
                         seed_ok ? ERR_OK : ERR_BAD_DEK_SIZE);
        dek_drop(dek);
    }
}

static void refuses_bad_ids(void **state)
{
    static const struct dek_annotation unsorted[] = {{BYTES_LIT("b.b"), BYTES_LIT("")},
                                                     {BYTES_LIT("a.b"), BYTES_LIT("")}};
    static const struct dek_annotation doubled[] = {{BYTES_LIT("a.b"), BYTES_LIT("1")},
                                                    {BYTES_LIT("a.b"), BYTES_LIT("2")}};
    struct dek_id id = id_of(DEK_HKDF_SEED);
    struct dek *dek;

    (void)state;
    id.key_id.n = 0;
    assert_int_equal(dek_new(&id, bytes_of(secret, 32), &dek), ERR_KEY_ID_EMPTY);
    id = id_of(2);
    assert_int_equal(dek_new(&id, bytes_of(secret, 32), &dek), ERR_UNKNOWN_DEK_SOURCE_TYPE);
    id = id_of(DEK_HKDF_SEED);
    id.annotations = unsorted;
    assert_int_equal(dek_new(&id, bytes_of(secret, 32), &dek), ERR_ANNOTATIONS_INVALID);
    id.annotations = doubled;
    assert_int_equal(dek_new(&id, bytes_of(secret, 32), &dek), ERR_ANNOTATIONS_INVALID);
}

static void secrets_lie_in_secret_memory_and_leave_it(void **state)
{
    size_t before = CRYPTO_secure_used();
    struct dek *dek = test_dek(DEK_HKDF_SEED, "k", 32);

    (void)state;
    assert_true(CRYPTO_secure_allocated(dek->secret));
    assert_true(CRYPTO_secure_allocated(dek->derived));
    assert_ptr_equal(dek_ref(dek), dek);
    dek_drop(dek);
    assert_true(CRYPTO_secure_used() > before);
    dek_drop(dek);
    assert_int_equal(CRYPTO_secure_used(), before);
    dek = test_dek(DEK_AES_GCM_KEY, "k", 24);
    assert_true(CRYPTO_secure_allocated(dek->secret));
    assert_null(dek->derived);
    dek_drop(dek);
    assert_int_equal(CRYPTO_secure_used(), before);
    dek_drop(NULL);
}

static void local_keys(void **state)
{
    static const size_t lens[] = {0, 15, 16, 17, 24, 31, 32, 33, 64};
    struct dek *dek;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
        size_t n = lens[i];
        bool aes_ok = n == 16 || n == 24 || n == 32;

        for (int kind = PROVIDER_NONE; kind <= PROVIDER_SECRETBOX + 1; kind++) {
            bool is_aes = kind == PROVIDER_AESGCM || kind == PROVIDER_AESCBC;
            enum err want = kind == PROVIDER_SECRETBOX ? (n == 32 ? ERR_OK : ERR_BAD_DEK_SIZE)
                            : is_aes                   ? (aes_ok ? ERR_OK : ERR_BAD_DEK_SIZE)
                                                       : ERR_CONFIG;

            dek = NULL;
            assert_int_equal(dek_new_local((enum provider_kind)kind, bytes_of(secret, n), &dek),
                             want);
            if (want == ERR_OK) {
                assert_int_equal(dek->id.type, DEK_LOCAL_KEY);
                assert_int_equal(dek->tail.n + dek->id.wrapped.n + dek->id.key_id.n, 0);
                assert_true(CRYPTO_secure_allocated(dek->secret));
                assert_memory_equal(dek->secret, secret, n);
            }
            dek_drop(dek);
        }
    }
}

static void kms_v1_deks(void **state)
{
    static uint8_t wrapped[0x2000] = {9};
    struct dek_id id = {.type = DEK_KMS_V1_KEY, .wrapped = bytes_of(wrapped, 0x1fff)};
    struct dek *dek;

    (void)state;
    assert_int_equal(dek_new(&id, bytes_of(secret, 32), &dek), ERR_OK);
    assert_true(dek_id_eq(&dek->id, &id));
    assert_int_equal(dek->tail.n, 2 + 0x1fff);
    assert_memory_equal(dek->tail.p, "\x1f\xff\x09", 3);
    assert_ptr_equal(dek->id.wrapped.p, dek->tail.p + 2);
    dek_drop(dek);
    id.wrapped.n = 0x2000;
    assert_int_equal(dek_new(&id, bytes_of(secret, 32), &dek), ERR_DEK_SOURCE_TOO_LONG);
    id.wrapped = bytes_of(NULL, 0);
    assert_int_equal(dek_new(&id, bytes_of(secret, 16), &dek), ERR_OK);
    assert_int_equal(dek->tail.n, 2);
    dek_drop(dek);
    assert_int_equal(dek_new(&id, bytes_of(secret, 33), &dek), ERR_BAD_DEK_SIZE);
    id.key_id = BYTES_LIT("k");
    assert_int_equal(dek_new(&id, bytes_of(secret, 32), &dek), ERR_UNKNOWN_DEK_SOURCE_TYPE);
    id = id_of(DEK_LOCAL_KEY); /* such come from dek_new_local alone */
    assert_int_equal(dek_new(&id, bytes_of(secret, 32), &dek), ERR_UNKNOWN_DEK_SOURCE_TYPE);
}

/* The arena for secrets is bounded; a full one fails the DEK, cleanly. */
static void full_secret_memory(void **state)
{
    static struct dek *deks[200];
    struct dek_id id = id_of(DEK_HKDF_SEED);
    size_t before = CRYPTO_secure_used(), n = 0;
    enum err e;

    (void)state;
    while ((e = dek_new(&id, bytes_of(secret, 65536), &deks[n])) == ERR_OK)
        assert_in_range(++n, 1, ARRAY_LEN(deks) - 1);
    assert_int_equal(e, ERR_NOMEM);
    while (n > 0)
        dek_drop(deks[--n]);
    assert_int_equal(CRYPTO_secure_used(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(owns_its_bytes),
        cmocka_unit_test(tail_is_fields_2_to_5),
        cmocka_unit_test(sizes_of_secrets),
        cmocka_unit_test(refuses_bad_ids),
        cmocka_unit_test(secrets_lie_in_secret_memory_and_leave_it),
        cmocka_unit_test(local_keys),
        cmocka_unit_test(kms_v1_deks),
        cmocka_unit_test(full_secret_memory),
    };

    return cmocka_run_group_tests(tests, test_setup, test_teardown);
}
