/* SPDX-License-Identifier: Apache-2.0 */
/* Each allocation fails in turn, secret memory included: ERR_NOMEM, nothing in the output, nothing
 * left behind, and the same context, arena and pool work afterwards. (OpenSSL's own allocations are
 * not met.) */
#include "envelope_test.h"

#include <stdio.h>

#include "failing_alloc.h"

#define AAD BYTES_LIT("/registry/secrets/default/a")
#define PLAIN_LEN 100000u /* more than a slab */
#define SMALL_LEN 100u

static struct envelope_ctx *ctx;
static struct provider kms;
static const struct provider *kms_only[] = {&kms};
static const struct provider_list kms_list = {.v = kms_only, .count = 1, .resource = "secrets"};

/* --- keys ------------------------------------------------------------------------------------- */

static enum err dek_once(uint32_t type)
{
    static const uint8_t secret[32];
    struct dek_annotation a = {BYTES_LIT("kek.example.com"), BYTES_LIT("v7")};
    struct dek_id id = {.type = type, .wrapped = BYTES_LIT("wrapped")};
    struct dek *dek = NULL;
    enum err e;

    if (type != DEK_KMS_V1_KEY) {
        id.key_id = BYTES_LIT("kek");
        id.annotations = &a;
        id.annotation_count = 1;
    }
    e = dek_new(&id, bytes_of(secret, sizeof secret), &dek);
    assert_int_equal(e == ERR_OK, dek != NULL);
    dek_drop(dek);
    return e;
}

static enum err seed_once(void)
{
    return dek_once(DEK_HKDF_SEED);
}

static enum err aes_key_once(void)
{
    return dek_once(DEK_AES_GCM_KEY);
}

static enum err v1_key_once(void)
{
    return dek_once(DEK_KMS_V1_KEY);
}

static enum err local_key_once(void)
{
    static const uint8_t key[32];
    struct dek *dek = NULL;
    enum err e = dek_new_local(PROVIDER_SECRETBOX, bytes_of(key, sizeof key), &dek);

    assert_int_equal(e == ERR_OK, dek != NULL);
    dek_drop(dek);
    return e;
}

static void keys(void **state)
{
    (void)state;
    alloc_fail_each(seed_once, &test_pool);
    alloc_fail_each(aes_key_once, &test_pool);
    alloc_fail_each(v1_key_once, &test_pool);
    alloc_fail_each(local_key_once, &test_pool);
}

/* More than are sorted where they lie; on failure they are as they were. */
static enum err sort_once(void)
{
    static char names[300][8];
    struct dek_annotation v[ARRAY_LEN(names)];
    uint32_t count = ARRAY_LEN(names);
    enum err e;

    for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
        snprintf(names[i], sizeof names[i], "%03u", (unsigned)ARRAY_LEN(names) - i);
        v[i] = (struct dek_annotation){bytes_str(names[i]), {0}};
    }
    e = dek_annotations_sort(v, &count);
    assert_int_equal(count, ARRAY_LEN(names));
    for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
        unsigned from = e == ERR_OK ? (unsigned)ARRAY_LEN(names) - 1 - i : i;

        assert_ptr_equal(v[i].key.p, names[from]);
    }
    return e;
}

static void annotations(void **state)
{
    (void)state;
    alloc_fail_each(sort_once, &test_pool);
}

/* --- contexts --------------------------------------------------------------------------------- */

static enum err ctx_once(void)
{
    struct envelope_ctx *c = NULL;
    enum err e = envelope_ctx_new(test_random_endless, NULL, &c);

    assert_int_equal(e == ERR_OK, c != NULL);
    envelope_ctx_free(c);
    return e;
}

static void contexts(void **state)
{
    (void)state;
    alloc_fail_each(ctx_once, &test_pool);
}

/* --- values ----------------------------------------------------------------------------------- */

static struct dek *dek;
static uint8_t *sealed;
static size_t sealed_len;

static uint8_t plain_byte(size_t i)
{
    return (uint8_t)(i * 31 + 7);
}

static void seal_value(size_t plain_len)
{
    uint8_t *plain = malloc(plain_len);
    struct chain c = {0};

    for (size_t i = 0; i < plain_len; i++)
        plain[i] = plain_byte(i);
    test_push(&c, plain, plain_len);
    assert_int_equal(envelope_sealed_len(&kms, dek, plain_len, &sealed_len), ERR_OK);
    sealed = malloc(sealed_len);
    assert_int_equal(envelope_seal(ctx, &kms, dek, AAD, chain_begin(&c), plain_len, sealed),
                     ERR_OK);
    chain_fini(&c);
    free(plain);
}

static int setup_value(size_t plain_len)
{
    kms = test_kmsv2("p", "k8s:enc:kms:v2:p:");
    assert_int_equal(envelope_ctx_new(test_random_endless, NULL, &ctx), ERR_OK);
    dek = test_dek(DEK_HKDF_SEED, "kek", 32);
    seal_value(plain_len);
    return 0;
}

static int setup(void **state)
{
    (void)state;
    return setup_value(PLAIN_LEN);
}

static int setup_small(void **state)
{
    (void)state;
    return setup_value(SMALL_LEN);
}

static int teardown(void **state)
{
    (void)state;
    free(sealed);
    envelope_ctx_free(ctx);
    dek_drop(dek);
    return 0;
}

/* Cut so that everything of the envelope lies across slices and has to be gathered. */
static void cut_up(struct chain *c)
{
    size_t tail = sealed_len > 200 ? sealed_len - 200 : sealed_len / 2;

    test_slice_up(c, bytes_of(sealed, 40), 7);
    test_push(c, sealed + 40, tail - 40);
    test_slice_up(c, bytes_of(sealed + tail, sealed_len - tail), 3);
}

static enum err open_scratch(const struct chain *c, struct arena *arena)
{
    struct envelope_value v;
    struct envelope_opened opened;
    struct slice plain = SLICE_EMPTY;
    enum err e = envelope_identify(&kms_list, chain_begin(c), c->len, arena, NULL, &v);

    TRY(e);
    assert_true(dek_id_eq(&v.id, &dek->id));
    e = envelope_open_scratch(ctx, &kms_list, &v, dek, AAD, c, 0, c->len, &test_pool, &plain,
                              &opened);
    assert_int_equal(opened.authentic, e == ERR_OK);
    assert_int_equal(plain.len, e == ERR_OK ? PLAIN_LEN : 0);
    for (uint32_t i = 0; i < plain.len; i += 999)
        assert_int_equal(slice_data(plain)[i], plain_byte(i));
    slice_drop(&plain);
    return e;
}

static struct chain stored; /* one for all tries: a failure leaves the value as it was */

static enum err open_once(void)
{
    static struct arena arena;
    enum err e = open_scratch(&stored, &arena);

    arena_fini(&arena);
    return e;
}

static void opening_into_scratch(void **state)
{
    (void)state;
    cut_up(&stored);
    assert_true(alloc_fail_each(open_once, &test_pool) > 1); /* arena, slab, and its bytes */
    chain_fini(&stored);
}

static void open_again(const struct envelope_value *v, const struct chain *c)
{
    uint8_t out[SMALL_LEN] = {0};

    assert_int_equal(envelope_open_again(ctx, v, dek, AAD, chain_seek(c, v->data_at), out), ERR_OK);
    for (size_t i = 0; i < SMALL_LEN; i++)
        assert_int_equal(out[i], plain_byte(i));
}

/* What is only to save work is done without. */
static void a_value_that_comes_again_needs_no_memory(void **state)
{
    struct chain c = {0};
    struct arena arena = {0};
    struct envelope_value v;

    (void)state;
    test_push(&c, sealed, sealed_len);
    assert_int_equal(envelope_identify(&kms_list, chain_begin(&c), c.len, &arena, NULL, &v),
                     ERR_OK);
    assert_int_equal(v.form, ENVELOPE_IN_PLACE);
    alloc_fail_from(1);
    for (int i = 0; i < 3; i++)
        open_again(&v, &c);
    assert_true(alloc_recover());
    for (int i = 0; i < 3; i++)
        open_again(&v, &c); /* with the memo, now that there is room for it */
    chain_fini(&c);
    arena_fini(&arena);
}

/* Sealing, and opening where a value lies, allocate nothing. */
static void sealing_and_opening_in_place_need_no_memory(void **state)
{
    struct chain c = {0};
    struct arena arena = {0};
    struct envelope_value v;
    uint8_t *again = malloc(sealed_len);
    size_t at;

    (void)state;
    test_push(&c, sealed, sealed_len);
    assert_int_equal(envelope_identify(&kms_list, chain_begin(&c), c.len, &arena, NULL, &v),
                     ERR_OK);
    alloc_fail_from(1);
    assert_int_equal(test_open_in_place(ctx, &v, dek, AAD, &c, &at), ERR_OK);
    assert_int_equal(envelope_seal(ctx, &kms, dek, AAD, chain_seek(&c, at), v.plain_len, again),
                     ERR_OK);
    assert_int_equal(alloc_count(), 0);
    assert_false(alloc_recover());
    free(again);
    chain_fini(&c);
    arena_fini(&arena);
}

#define TEST(name, setup) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys),
        cmocka_unit_test(annotations),
        cmocka_unit_test(contexts),
        TEST(opening_into_scratch, setup),
        TEST(a_value_that_comes_again_needs_no_memory, setup_small),
        TEST(sealing_and_opening_in_place_need_no_memory, setup_small),
    };

    return cmocka_run_group_tests(tests, test_setup, test_teardown);
}
