/* SPDX-License-Identifier: Apache-2.0 */
/* What the golden vectors don't reach: our own values of all sizes and cuts, every bit of one of
 * them flipped, values in the middle of a chain, lists that are wrong or have several candidates,
 * memory. */
#include "envelope_test.h"

#define AAD BYTES_LIT("/registry/secrets/default/db-password")
#define PREFIX "k8s:enc:kms:v2:p:"

static struct envelope_ctx *ctx;
static struct provider kms;
static const struct provider *kms_only[] = {&kms};
static const struct provider_list kms_list = {.v = kms_only, .count = 1, .resource = "secrets"};

struct sealed {
    uint8_t *p;
    size_t n;
};

static uint8_t plain_byte(size_t i)
{
    return (uint8_t)(i * 31 + 7);
}

static struct sealed seal(const struct dek *dek, size_t plain_len)
{
    uint8_t *plain = malloc(plain_len + 1);
    struct chain c = {0};
    struct sealed s;

    assert_non_null(plain);
    for (size_t i = 0; i < plain_len; i++)
        plain[i] = plain_byte(i);
    test_push(&c, plain, plain_len);
    assert_int_equal(envelope_sealed_len(&kms, dek, plain_len, &s.n), ERR_OK);
    s.p = malloc(s.n);
    assert_non_null(s.p);
    assert_int_equal(envelope_seal(ctx, &kms, dek, AAD, chain_begin(&c), plain_len, s.p), ERR_OK);
    chain_fini(&c);
    free(plain);
    return s;
}

static void check_plain(const struct chain *c, size_t at, size_t n)
{
    struct chain_pos pos = chain_seek(c, at);

    for (size_t i = 0; i < n; i++)
        assert_int_equal(chain_next(&pos), plain_byte(i));
}

static void check_slices_are_secret(const struct chain *c, size_t at, size_t n)
{
    struct chain_pos pos = chain_seek(c, at);

    while (n > 0) {
        size_t part = chain_peek(&pos, n).n;

        assert_true(chain_at(c, pos.index)->slab->flags & SLAB_SECRET);
        chain_skip(&pos, part);
        n -= part;
    }
}

/* What is known of one value tells of another only what it would have told itself. */
static void check_like(const struct provider_list *list, const struct chain *c, size_t off,
                       size_t len, struct arena *arena, const struct envelope_value *v)
{
    struct envelope_value other = *v, again;

    assert_int_equal(envelope_identify(list, chain_seek(c, off), len, arena, v, &again), ERR_OK);
    assert_true(again.form == v->form && again.needs_dek && dek_id_eq(&again.id, &v->id));
    assert_true(again.data_at == v->data_at && again.data_len == v->data_len);
    if (v->tail.n == 0)
        return;
    other.tail.n--;
    other.id.key_id = BYTES_LIT("another");
    assert_int_equal(envelope_identify(list, chain_seek(c, off), len, arena, &other, &again),
                     ERR_OK);
    assert_true(dek_id_eq(&again.id, &v->id));
}

/* Out of place: the value stays as it is. */
static void check_opens_to(const struct envelope_value *v, const struct dek *dek, struct chain *c)
{
    uint8_t *plain = malloc(v->plain_len + 1);

    assert_non_null(plain);
    plain[v->plain_len] = 0x5a;
    assert_int_equal(envelope_open(ctx, v, dek, AAD, chain_seek(c, v->data_at), plain), ERR_OK);
    for (size_t i = 0; i < v->plain_len; i++)
        assert_int_equal(plain[i], plain_byte(i));
    assert_int_equal(plain[v->plain_len], 0x5a);
    free(plain);
}

/* A value that lies at [off, off + len) of c, all three ways. */
static void check_opens(const struct provider_list *list, const struct dek *dek, struct chain *c,
                        size_t off, size_t len, size_t plain_len)
{
    struct arena arena = {0};
    struct envelope_value v;
    struct chain scratch = {0};
    struct slice s;
    struct envelope_opened opened;
    size_t at;

    assert_int_equal(envelope_identify(list, chain_seek(c, off), len, &arena, NULL, &v), ERR_OK);
    assert_true(dek_id_eq(&v.id, &dek->id));
    check_like(list, c, off, len, &arena, &v);
    assert_int_equal(
        envelope_open_scratch(ctx, list, &v, dek, AAD, c, off, len, &test_pool, &s, &opened),
        ERR_OK);
    assert_true(opened.authentic);
    assert_int_equal(s.len, plain_len);
    assert_int_equal(chain_push(&scratch, &s), ERR_OK);
    check_plain(&scratch, 0, plain_len);
    check_slices_are_secret(&scratch, 0, plain_len);
    chain_fini(&scratch);
    if (v.form == ENVELOPE_IN_PLACE) {
        assert_int_equal(v.plain_len, plain_len);
        check_opens_to(&v, dek, c);
        assert_int_equal(test_open_in_place(ctx, &v, dek, AAD, c, &at), ERR_OK);
        check_plain(c, at, plain_len);
        check_slices_are_secret(c, at, plain_len);
        assert_true(dek_id_eq(&v.id, &dek->id)); /* the tail is as it was */
    }
    arena_fini(&arena);
}

static void all_sizes(void **state)
{
    static const size_t lens[] = {0, 1, 15, 16, 17, 63, 64, 65, 1024, 65536, 1048576};
    static const size_t secrets[] = {32, 33, 64, 65, 131};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
        struct dek *dek = test_dek(DEK_HKDF_SEED, "key-1", secrets[i % ARRAY_LEN(secrets)]);
        struct sealed s = seal(dek, lens[i]);
        const size_t steps[] = {s.n < 2000 ? 1 : 997, 16, 100, 16384, s.n};

        for (size_t k = 0; k < ARRAY_LEN(steps); k++) {
            struct chain c = {0};

            if (s.n / steps[k] > 20000)
                continue;
            test_slice_up(&c, bytes_of(s.p, s.n), steps[k]);
            check_opens(&kms_list, dek, &c, 0, s.n, lens[i]);
            chain_fini(&c);
        }
        free(s.p);
        dek_drop(dek);
    }
}

static void every_cut(void **state)
{
    struct dek *dek = test_dek(DEK_HKDF_SEED, "key-1", 32);
    struct sealed s = seal(dek, 30);

    (void)state;
    for (size_t at = 0; at <= s.n; at++) {
        struct chain c = {0};

        test_cut(&c, bytes_of(s.p, s.n), at);
        check_opens(&kms_list, dek, &c, 0, s.n, 30);
        chain_fini(&c);
    }
    free(s.p);
    dek_drop(dek);
}

/* In a message a value has neighbours, in front and behind, in the same slices. */
static void in_the_middle_of_a_chain(void **state)
{
    struct dek *dek = test_dek(DEK_HKDF_SEED, "key-1", 32);
    struct sealed s = seal(dek, 100);
    uint8_t *around = malloc(s.n + 40);

    (void)state;
    assert_non_null(around);
    memset(around, 0x5a, s.n + 40);
    memcpy(around + 20, s.p, s.n);
    for (size_t step = 1; step <= s.n + 40; step += 7) {
        struct chain c = {0};
        uint8_t edge[20];

        test_slice_up(&c, bytes_of(around, s.n + 40), step);
        check_opens(&kms_list, dek, &c, 20, s.n, 100);
        chain_copy(&c, 0, 20, edge);
        assert_memory_equal(edge, around, 20);
        chain_copy(&c, s.n + 20, 20, edge);
        assert_memory_equal(edge, around, 20);
        chain_fini(&c);
    }
    free(around);
    free(s.p);
    dek_drop(dek);
}

/* Opens a damaged value with the key it was sealed with. */
static enum err try_open(struct bytes value, const struct dek *dek, struct bytes aad,
                         bool *other_id)
{
    struct arena arena = {0};
    struct chain c = {0};
    struct envelope_value v;
    struct slice s = SLICE_EMPTY;
    struct envelope_opened opened = {0};
    size_t at;
    enum err e;

    *other_id = false;
    test_slice_up(&c, value, 50);
    e = envelope_identify(&kms_list, chain_begin(&c), c.len, &arena, NULL, &v);
    if (e == ERR_OK && !dek_id_eq(&v.id, &dek->id)) {
        *other_id = true; /* another key will be asked for */
        e = ERR_KMS_ERROR;
    }
    if (e == ERR_OK) {
        e = envelope_open_scratch(ctx, &kms_list, &v, dek, aad, &c, 0, c.len, &test_pool, &s,
                                  &opened);
        if (e != ERR_OK)
            assert_null(s.slab);
        if (v.form == ENVELOPE_IN_PLACE)
            assert_int_equal(test_open_in_place(ctx, &v, dek, aad, &c, &at), e);
    }
    assert_int_equal(opened.authentic, e == ERR_OK);
    slice_drop(&s);
    chain_fini(&c);
    arena_fini(&arena);
    return e;
}

/* No byte can change and the value still open: prefix, data and lengths are refused, the name of
 * the key (not authenticated by the format) becomes another name. */
static void every_bit_flipped(void **state)
{
    struct dek *dek = test_dek(DEK_HKDF_SEED, "key-1", 32);
    struct sealed s = seal(dek, 20);
    uint32_t other_ids = 0, auth_failed = 0;
    bool other_id;

    (void)state;
    assert_int_equal(try_open(bytes_of(s.p, s.n), dek, AAD, &other_id), ERR_OK);
    for (size_t bit = 0; bit < 8 * s.n; bit++) {
        enum err e;

        s.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
        e = try_open(bytes_of(s.p, s.n), dek, AAD, &other_id);
        assert_int_not_equal(e, ERR_OK);
        other_ids += other_id;
        auth_failed += e == ERR_AUTH_FAILED;
        s.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_in_range(auth_failed, 8 * 80, 8 * 80 + 8); /* all of encryptedData */
    assert_in_range(other_ids, 8 * 21, 8 * s.n);      /* the wrapped DEK at least */
    free(s.p);
    dek_drop(dek);
}

static void every_truncation(void **state)
{
    struct dek *dek = test_dek(DEK_HKDF_SEED, "key-1", 32);
    struct sealed s = seal(dek, 20);
    bool other_id;

    (void)state;
    for (size_t n = 0; n < s.n; n++)
        assert_int_not_equal(try_open(bytes_of(s.p, n), dek, AAD, &other_id), ERR_OK);
    free(s.p);
    dek_drop(dek);
}

static void another_key_or_place(void **state)
{
    struct dek *dek = test_dek(DEK_HKDF_SEED, "key-1", 32);
    struct dek *longer = test_dek(DEK_HKDF_SEED, "key-1", 40); /* zeros behind: the same HMAC key */
    struct sealed s = seal(dek, 20);
    struct bytes value = bytes_of(s.p, s.n);
    uint8_t other[32] = {9};
    struct dek *wrong;
    bool other_id;

    (void)state;
    assert_int_equal(dek_new(&dek->id, bytes_of(other, 32), &wrong), ERR_OK);
    assert_int_equal(try_open(value, wrong, AAD, &other_id), ERR_AUTH_FAILED);
    assert_int_equal(try_open(value, dek, BYTES_LIT("/registry/secrets/default/x"), &other_id),
                     ERR_AUTH_FAILED);
    assert_int_equal(try_open(value, dek, BYTES_LIT(""), &other_id), ERR_AUTH_FAILED);
    assert_int_equal(try_open(value, longer, AAD, &other_id), ERR_OK);
    free(s.p);
    dek_drop(dek), dek_drop(longer), dek_drop(wrong);
}

/* After a wipe the contexts work again, whichever comes first. */
static void after_a_wipe(void **state)
{
    struct dek *dek = test_dek(DEK_HKDF_SEED, "key-1", 32);
    struct sealed s;
    bool other_id;

    (void)state;
    envelope_ctx_wipe(ctx);
    s = seal(dek, 20);
    envelope_ctx_wipe(ctx);
    envelope_ctx_wipe(ctx);
    assert_int_equal(try_open(bytes_of(s.p, s.n), dek, AAD, &other_id), ERR_OK);
    free(s.p);
    dek_drop(dek);
}

/* A failed value leaves nothing behind that could hurt the next one. */
static void a_failure_does_not_stick(void **state)
{
    struct dek *dek = test_dek(DEK_HKDF_SEED, "key-1", 32);
    struct sealed s = seal(dek, 20), t = seal(dek, 20);
    bool other_id;

    (void)state;
    s.p[40] ^= 1;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(try_open(bytes_of(s.p, s.n), dek, AAD, &other_id), ERR_AUTH_FAILED);
        assert_int_equal(try_open(bytes_of(t.p, t.n), dek, AAD, &other_id), ERR_OK);
    }
    free(s.p), free(t.p);
    dek_drop(dek);
}

/* --- lists ----------------------------------------------------------------------------------- */

static enum err identify(const struct provider *const *v, uint32_t count, struct bytes value,
                         struct envelope_value *out)
{
    const struct provider_list list = {.v = v, .count = count, .resource = "secrets"};
    struct arena arena = {0};
    struct chain c = {0};
    enum err e;

    test_slice_up(&c, value, 3);
    e = envelope_identify(&list, chain_begin(&c), c.len, &arena, NULL, out);
    out->id = (struct dek_id){0}; /* borrows from what goes now */
    chain_fini(&c);
    arena_fini(&arena);
    return e;
}

static void plain_values(void **state)
{
    const struct provider *first[] = {&test_identity, &kms}, *second[] = {&kms, &test_identity};
    struct envelope_value v;

    (void)state;
    assert_int_equal(identify(first, 2, BYTES_LIT("{}"), &v), ERR_OK);
    assert_int_equal(v.form, ENVELOPE_PLAIN);
    assert_int_equal(v.plain_len, 2);
    assert_false(v.needs_dek);
    assert_false(v.is_stale);
    assert_ptr_equal(v.provider, &test_identity);
    assert_int_equal(identify(second, 2, BYTES_LIT("k8s\0x"), &v), ERR_OK);
    assert_int_equal(v.form, ENVELOPE_PLAIN);
    assert_true(v.is_stale);
    assert_int_equal(v.provider_index, 1);
    assert_int_equal(identify(first, 2, BYTES_LIT(""), &v), ERR_OK);
    assert_int_equal(v.form, ENVELOPE_PLAIN);
    assert_int_equal(identify(first, 2, BYTES_LIT("k8s:enc:x"), &v), ERR_NO_MATCHING_PREFIX);
    assert_int_equal(v.form, ENVELOPE_NONE);
    assert_int_equal(identify(kms_only, 1, BYTES_LIT("{}"), &v), ERR_NO_MATCHING_PREFIX);
    assert_int_equal(identify(kms_only, 1, BYTES_LIT(""), &v), ERR_NO_MATCHING_PREFIX);
    assert_int_equal(identify(NULL, 0, BYTES_LIT("{}"), &v), ERR_NO_MATCHING_PREFIX);
}

/* The error that counts is the first of those that aren't identity's. */
static void kept_errors(void **state)
{
    const struct provider *v3[] = {&test_identity, &kms, &kms};
    struct envelope_value v;

    (void)state;
    assert_int_equal(identify(v3, 3, BYTES_LIT(PREFIX), &v), ERR_ENCRYPTED_DATA_EMPTY);
    assert_int_equal(identify(v3, 3, BYTES_LIT(PREFIX "\x0f"), &v), ERR_PROTOBUF_MALFORMED);
    assert_int_equal(identify(v3, 3, BYTES_LIT(PREFIX "\x28\x02"), &v),
                     ERR_UNKNOWN_DEK_SOURCE_TYPE);
    /* those that are ours alone */
    assert_int_equal(identify(v3, 3, BYTES_LIT(PREFIX "\x0a\x01x\x28\x80\x02"), &v),
                     ERR_UNKNOWN_DEK_SOURCE_TYPE);
    assert_int_equal(identify(v3, 3, BYTES_LIT(PREFIX "\x0a\x01x\x28\x81\x02"), &v),
                     ERR_UNKNOWN_DEK_SOURCE_TYPE);
    assert_int_equal(identify(v3, 3, BYTES_LIT(PREFIX "\x0a\x01x"), &v), ERR_DEK_SOURCE_EMPTY);
}

/* What is no kind refuses whatever has its prefix. */
static void unreadable_kinds(void **state)
{
    static const enum provider_kind kinds[] = {PROVIDER_NONE, (enum provider_kind)99};
    struct envelope_value v;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        struct provider p = {.kind = kinds[i], .name = "", .prefix = BYTES_LIT("k8s:enc:x:")};
        const struct provider *list[] = {&p, &test_identity};

        assert_int_equal(identify(list, 2, BYTES_LIT("k8s:enc:x:1"), &v), ERR_CONFIG);
        assert_int_equal(v.form, ENVELOPE_NONE);
        assert_int_equal(identify(list, 2, BYTES_LIT("plain"), &v), ERR_OK);
        p.prefix = BYTES_LIT("");
        assert_int_equal(identify(list, 2, BYTES_LIT("plain"), &v), ERR_CONFIG);
    }
}

/* Two that may fit are tried in order, never in place. */
static void several_candidates(void **state)
{
    struct dek *dek = test_dek(DEK_HKDF_SEED, "key-1", 32);
    struct provider twin = kms;
    const struct provider *v[] = {&test_identity, &kms, &twin};
    const struct provider_list list = {.v = v, .count = 3, .resource = "secrets"};
    struct sealed s = seal(dek, 20);
    struct envelope_value value;
    struct chain c = {0};

    (void)state;
    assert_int_equal(identify(v, 3, bytes_of(s.p, s.n), &value), ERR_OK);
    assert_int_equal(value.form, ENVELOPE_SCRATCH);
    assert_ptr_equal(value.provider, &kms);
    assert_int_equal(value.provider_index, 1);
    assert_true(value.is_stale);
    test_slice_up(&c, bytes_of(s.p, s.n), 9);
    check_opens(&list, dek, &c, 0, s.n, 20);
    chain_fini(&c);
    free(s.p);
    dek_drop(dek);
}

/* Legal, but no writer does it: field 1 behind the others. Opened, but not in place. */
static void unusual_order(void **state)
{
    struct dek *dek = test_dek(DEK_HKDF_SEED, "key-1", 32);
    struct sealed s = seal(dek, 20);
    const size_t head = sizeof PREFIX - 1, data = s.n - head - dek->tail.n;
    uint8_t *turned = malloc(s.n);
    struct envelope_value v;

    (void)state;
    assert_non_null(turned);
    memcpy(turned, s.p, head);
    memcpy(turned + head, dek->tail.p, dek->tail.n);
    memcpy(turned + head + dek->tail.n, s.p + head, data);
    assert_int_equal(identify(kms_only, 1, bytes_of(turned, s.n), &v), ERR_OK);
    assert_int_equal(v.form, ENVELOPE_SCRATCH);
    for (size_t step = 1; step <= s.n; step += 11) {
        struct chain c = {0};

        test_slice_up(&c, bytes_of(turned, s.n), step);
        check_opens(&kms_list, dek, &c, 0, s.n, 20);
        chain_fini(&c);
    }
    free(turned);
    free(s.p);
    dek_drop(dek);
}

static int setup(void **state)
{
    kms = test_kmsv2("p", PREFIX);
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
        cmocka_unit_test(all_sizes),
        cmocka_unit_test(every_cut),
        cmocka_unit_test(in_the_middle_of_a_chain),
        cmocka_unit_test(every_bit_flipped),
        cmocka_unit_test(every_truncation),
        cmocka_unit_test(another_key_or_place),
        cmocka_unit_test(after_a_wipe),
        cmocka_unit_test(a_failure_does_not_stick),
        cmocka_unit_test(plain_values),
        cmocka_unit_test(kept_errors),
        cmocka_unit_test(unreadable_kinds),
        cmocka_unit_test(several_candidates),
        cmocka_unit_test(unusual_order),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
