/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include <openssl/evp.h>

#include "envelope_test.h"

static struct dek_id valid_id(const struct dek_annotation *a, uint32_t count)
{
    return (struct dek_id){.type = DEK_HKDF_SEED,
                           .key_id = BYTES_LIT("k"),
                           .wrapped = BYTES_LIT("w"),
                           .annotations = a,
                           .annotation_count = count};
}

static enum err check_name(struct bytes name)
{
    struct dek_annotation a = {name, BYTES_LIT("")};
    struct dek_id id = valid_id(&a, 1);

    return dek_id_validate(&id);
}

static void annotation_names(void **state)
{
    static const char *const good[] = {"a.b", "1.2", "a.b.", "a-b.c--d", "kek.example.com"};
    static const char *const bad[] = {
        "",     ".",    "a",    "a.",    "a..b", ".a.b", "a.b..", "A.b",   "a_.b",      "-a.b",
        "a-.b", "a.-b", "a.b-", "a b.c", "a.b ", "*.b",  "a/b.c", "a.b\n", "\xc3\xa4.b"};
    char label[80];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        assert_int_equal(check_name(bytes_str(good[i])), ERR_OK);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(check_name(bytes_str(bad[i])), ERR_ANNOTATIONS_INVALID);
    assert_int_equal(check_name(bytes_of("a\0.b", 4)), ERR_ANNOTATIONS_INVALID);
    snprintf(label, sizeof label, "%063d.b", 7);
    assert_int_equal(check_name(bytes_str(label)), ERR_OK);
    snprintf(label, sizeof label, "%064d.b", 7);
    assert_int_equal(check_name(bytes_str(label)), ERR_ANNOTATIONS_INVALID);
}

static void name_length(void **state)
{
    uint8_t name[256];

    (void)state;
    for (size_t i = 0; i < sizeof name; i++)
        name[i] = i % 50 == 49 ? '.' : 'x';
    assert_int_equal(check_name(bytes_of(name, 253)), ERR_OK);
    assert_int_equal(check_name(bytes_of(name, 254)), ERR_ANNOTATIONS_INVALID);
    name[253] = '.';
    assert_int_equal(check_name(bytes_of(name, 254)), ERR_OK); /* the last dot isn't counted */
}

static void annotation_sum(void **state)
{
    static const uint8_t big[LIMIT_ANNOTATIONS + 1];
    struct dek_annotation a[] = {{BYTES_LIT("a.b"), bytes_of(big, 100)},
                                 {BYTES_LIT("c.d"), bytes_of(big, LIMIT_ANNOTATIONS - 106)}};
    struct dek_id id = valid_id(a, 2);

    (void)state;
    assert_int_equal(dek_id_validate(&id), ERR_OK);
    a[1].value.n++;
    assert_int_equal(dek_id_validate(&id), ERR_ANNOTATIONS_INVALID);
}

static void order_of_the_checks(void **state)
{
    static const uint8_t big[1025];
    struct dek_annotation a = {BYTES_LIT("bad"), BYTES_LIT("")};
    struct dek_id id = {.type = 2, .annotations = &a, .annotation_count = 1};

    (void)state;
    assert_int_equal(dek_id_validate(&id), ERR_UNKNOWN_DEK_SOURCE_TYPE);
    id.type = DEK_AES_GCM_KEY;
    assert_int_equal(dek_id_validate(&id), ERR_DEK_SOURCE_EMPTY);
    id.wrapped = bytes_of(big, 1025);
    assert_int_equal(dek_id_validate(&id), ERR_DEK_SOURCE_TOO_LONG);
    id.wrapped = bytes_of(big, 1024);
    assert_int_equal(dek_id_validate(&id), ERR_KEY_ID_EMPTY);
    id.key_id = bytes_of(big, 1025);
    assert_int_equal(dek_id_validate(&id), ERR_KEY_ID_TOO_LONG);
    id.key_id = bytes_of(big, 1024);
    assert_int_equal(dek_id_validate(&id), ERR_ANNOTATIONS_INVALID);
    a.key = BYTES_LIT("g.ood");
    assert_int_equal(dek_id_validate(&id), ERR_OK);
}

static void sorts_and_keeps_the_last(void **state)
{
    struct dek_annotation v[] = {
        {BYTES_LIT("b"), BYTES_LIT("1")},   {BYTES_LIT("a"), BYTES_LIT("2")},
        {BYTES_LIT("b"), BYTES_LIT("3")},   {BYTES_LIT("ab"), BYTES_LIT("4")},
        {BYTES_LIT("a"), BYTES_LIT("5")},   {BYTES_LIT(""), BYTES_LIT("6")},
        {BYTES_LIT("\xff"), BYTES_LIT("7")}};
    static const char *const keys[] = {"", "a", "ab", "b", "\xff"};
    static const char values[] = "65437";
    uint32_t count = ARRAY_LEN(v);

    (void)state;
    assert_int_equal(dek_annotations_sort(v, &count), ERR_OK);
    assert_int_equal(count, ARRAY_LEN(keys));
    for (uint32_t i = 0; i < count; i++) {
        assert_true(bytes_eq(v[i].key, bytes_str(keys[i])));
        assert_true(bytes_eq(v[i].value, bytes_of(&values[i], 1)));
    }
}

/* 300 entries of 50 keys: the other sort. */
static void sorts_many(void **state)
{
    static uint8_t places[300][2], keys[50];
    struct dek_annotation v[300];
    uint32_t count = 300;

    (void)state;
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *key = &keys[i * 37 % 50];

        *key = (uint8_t)(i * 37 % 50);
        places[i][0] = (uint8_t)(i >> 8);
        places[i][1] = (uint8_t)i;
        v[i] = (struct dek_annotation){bytes_of(key, 1), bytes_of(places[i], 2)};
    }
    assert_int_equal(dek_annotations_sort(v, &count), ERR_OK);
    assert_int_equal(count, 50);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(v[i].key.p[0], i);
        assert_in_range(v[i].value.p[0] << 8 | v[i].value.p[1], 250, 299);
    }
}

static void sorting_nothing(void **state)
{
    uint32_t count = 0;

    (void)state;
    assert_int_equal(dek_annotations_sort(NULL, &count), ERR_OK);
    assert_int_equal(count, 0);
}

static void equality(void **state)
{
    struct dek_annotation a = {BYTES_LIT("a.b"), BYTES_LIT("1")}, b = a;
    struct dek_id x = valid_id(&a, 1), y = valid_id(&b, 1);

    (void)state;
    assert_true(dek_id_eq(&x, &y));
    b.value = BYTES_LIT("2");
    assert_false(dek_id_eq(&x, &y));
    b = (struct dek_annotation){BYTES_LIT("a.c"), BYTES_LIT("1")};
    assert_false(dek_id_eq(&x, &y));
    y.annotation_count = 0;
    assert_false(dek_id_eq(&x, &y));
    x.annotation_count = 0;
    assert_true(dek_id_eq(&x, &y));
    y.wrapped = BYTES_LIT("v");
    assert_false(dek_id_eq(&x, &y));
    y = x;
    y.key_id = BYTES_LIT("kk");
    assert_false(dek_id_eq(&x, &y));
    y = x;
    y.type = DEK_AES_GCM_KEY;
    assert_false(dek_id_eq(&x, &y));
}

static void staleness(void **state)
{
    struct dek_annotation a = {BYTES_LIT("a.b"), BYTES_LIT("1")};
    struct dek_id x = valid_id(&a, 1), y = valid_id(NULL, 0);

    (void)state;
    y.wrapped = BYTES_LIT("other");
    assert_false(dek_id_is_stale(&x, &y));
    y.key_id = BYTES_LIT("K");
    assert_true(dek_id_is_stale(&x, &y));
    y.key_id = x.key_id;
    x.type = DEK_AES_GCM_KEY;
    assert_true(dek_id_is_stale(&x, &y));
}

static void check_digest(const struct dek_id *id, struct bytes serialized)
{
    uint8_t want[DEK_DIGEST_LEN], got[DEK_DIGEST_LEN];

    assert_int_equal(EVP_Digest(serialized.p, serialized.n, want, NULL, EVP_sha256(), NULL), 1);
    assert_int_equal(dek_id_digest(id, got), ERR_OK);
    assert_memory_equal(got, want, sizeof want);
}

static void digest(void **state)
{
    struct dek_annotation a[] = {{BYTES_LIT("a.b"), BYTES_LIT("")},
                                 {BYTES_LIT("c.d"), BYTES_LIT("xyz")}};
    struct dek_id id = valid_id(a, 0);

    (void)state;
    id.wrapped = BYTES_LIT("wrap");
    check_digest(&id, BYTES_LIT("\0\0\0\1\0\4wrap\0\1k"));
    id.annotation_count = 2;
    check_digest(&id, BYTES_LIT("\0\0\0\1\0\4wrap\0\1k\0\0\0\2\0\3a.b\0\0\0\3c.d\0\3xyz"));
}

/* A length that 16 bits don't hold would make two ids look alike. */
static void digest_refuses_what_is_ambiguous(void **state)
{
    static const uint8_t big[65536];
    struct dek_annotation a = {BYTES_LIT("a.b"), bytes_of(big, sizeof big)};
    struct dek_id id = valid_id(&a, 1);
    uint8_t out[DEK_DIGEST_LEN];

    (void)state;
    assert_int_equal(dek_id_digest(&id, out), ERR_ANNOTATIONS_INVALID);
    id = valid_id(NULL, 0);
    id.key_id = bytes_of(big, sizeof big);
    assert_int_equal(dek_id_digest(&id, out), ERR_KEY_ID_TOO_LONG);
    id = valid_id(NULL, 0);
    id.wrapped = bytes_of(big, sizeof big);
    assert_int_equal(dek_id_digest(&id, out), ERR_DEK_SOURCE_TOO_LONG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(annotation_names),
        cmocka_unit_test(name_length),
        cmocka_unit_test(annotation_sum),
        cmocka_unit_test(order_of_the_checks),
        cmocka_unit_test(sorts_and_keeps_the_last),
        cmocka_unit_test(sorts_many),
        cmocka_unit_test(sorting_nothing),
        cmocka_unit_test(equality),
        cmocka_unit_test(staleness),
        cmocka_unit_test(digest),
        cmocka_unit_test(digest_refuses_what_is_ambiguous),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
