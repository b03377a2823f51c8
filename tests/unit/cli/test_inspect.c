/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "cli/cli.h"
#include "cli/cli_int.h"

#define TEXT_MAX 16384

/* Inspects a copy of exactly n bytes, so that the sanitizer sees a read beyond. */
static int inspect(const void *p, size_t n, bool is_json, char out[static TEXT_MAX])
{
    char *text = NULL;
    size_t text_len = 0;
    FILE *f = open_memstream(&text, &text_len);
    uint8_t *copy = malloc(n == 0 ? 1 : n);
    struct slab slab;
    int status;

    assert_non_null(f);
    assert_non_null(copy);
    memcpy(copy, p, n);
    status =
        cli__inspect(n == 0 ? SLICE_EMPTY : slice_static(&slab, copy, (uint32_t)n), f, is_json);
    assert_int_equal(fclose(f), 0);
    snprintf(out, TEXT_MAX, "%s", text);
    free(text);
    free(copy);
    return status;
}

static void expect(const void *p, size_t n, int status, const char *json_part)
{
    char out[TEXT_MAX];

    assert_int_equal(inspect(p, n, true, out), status);
    if (strstr(out, json_part) == NULL)
        fail_msg("no %s in %s", json_part, out);
    assert_int_equal(inspect(p, n, false, out), status);
    assert_true(out[0] != '\0' && out[strlen(out) - 1] == '\n');
}

#define EXPECT(value, status, part) expect(value, sizeof(value) - 1, status, part)

/* --- plaintext -------------------------------------------------------------------------------- */

static void test_plaintext(void **state)
{
    (void)state;
    EXPECT("", CLI_NOT_AS_WANTED, "\"looks_like\":\"empty\"");
    EXPECT("k8s\0\n", CLI_NOT_AS_WANTED, "\"looks_like\":\"Kubernetes protobuf\"");
    EXPECT("\t{}", CLI_NOT_AS_WANTED, "\"looks_like\":\"JSON\"");
    EXPECT("k8s", CLI_NOT_AS_WANTED, "\"looks_like\":\"unknown\"");
    EXPECT(" \n", CLI_NOT_AS_WANTED, "\"looks_like\":\"unknown\"");
    EXPECT("k8s:enc", CLI_NOT_AS_WANTED, "\"plaintext_length\":7");
    EXPECT("K8S:enc:kms:v2:", CLI_NOT_AS_WANTED, "\"form\":\"plaintext\"");
}

static void test_plaintext_is_not_shown(void **state)
{
    char out[TEXT_MAX];

    (void)state;
    inspect("{\"password\":1}", 14, true, out);
    assert_null(strstr(out, "password"));
    inspect("{\"password\":1}", 14, false, out);
    assert_null(strstr(out, "password"));
}

/* --- kms v2 ----------------------------------------------------------------------------------- */

/* encryptedData of a seed: info, nonce, 2 bytes, tag. */
#define HEAD "k8s:enc:kms:v2:test:"
#define D10 "dddddddddd"
#define DATA "\x0a\x3e" D10 D10 D10 D10 D10 D10 "dd"

static size_t good(uint8_t out[static 256])
{
    static const char value[] = HEAD DATA "\x12\x05key-1\x1a\x03www\x22\x0a\x0a\x03"
                                          "a.b\x12\x03xyz\x28\x01";

    memcpy(out, value, sizeof value - 1);
    return sizeof value - 1;
}

static void test_kms_v2(void **state)
{
    uint8_t value[256];
    size_t n = good(value);

    (void)state;
    expect(value, n, CLI_OK,
           "\"provider\":\"kms\",\"version\":\"v2\",\"name\":\"test\",\"key_id\":\"key-1\"");
    expect(value, n, CLI_OK,
           "\"source_type\":\"HKDF_SHA256_XNONCE_AES_GCM_SEED\",\"wrapped_dek_length\":3,"
           "\"annotations\":[{\"key\":\"a.b\",\"length\":3}],\"encrypted_data_length\":62,"
           "\"info_length\":32,\"nonce_length\":12,\"ciphertext_length\":2,\"tag_length\":16,"
           "\"plaintext_length\":2,\"problems\":[],\"notes\":[]}");
}

static void test_kms_v2_type_0(void **state)
{
    uint8_t value[256];
    size_t n = good(value) - 2;

    (void)state;
    expect(value, n, CLI_OK, "\"source_type\":\"AES_GCM_KEY\"");
    expect(value, n, CLI_OK, "\"nonce_length\":12,\"ciphertext_length\":34,");
    expect(value, n, CLI_OK, "\"notes\":[{\"class\":\"old_source_type\"");
}

/* Only two of all beginnings are envelopes: with and without the type. */
static void test_cut_anywhere(void **state)
{
    uint8_t value[256];
    size_t n = good(value);
    char out[TEXT_MAX];

    (void)state;
    for (size_t i = 0; i < n; i++) {
        int status = inspect(value, i, true, out);
        size_t without_type = n - 2, without_annotation = n - 14;

        if (i < strlen("k8s:enc:"))
            assert_int_equal(status, CLI_NOT_AS_WANTED);
        else if (i == without_type || i == without_annotation)
            assert_int_equal(status, CLI_OK);
        else
            assert_int_equal(status, CLI_UNREADABLE);
    }
}

/* Whatever it says, it says it within its memory; the JSON is closed. */
static void test_changed_anywhere(void **state)
{
    uint8_t value[256];
    size_t n = good(value);
    char out[TEXT_MAX];

    (void)state;
    for (size_t i = 0; i < n; i++)
        for (unsigned bit = 0; bit < 8; bit++) {
            value[i] ^= (uint8_t)(1u << bit);
            inspect(value, n, true, out);
            assert_true(strlen(out) > 2);
            assert_string_equal(out + strlen(out) - 2, "}\n");
            value[i] ^= (uint8_t)(1u << bit);
        }
}

static void test_every_broken_rule_is_named(void **state)
{
    (void)state;
    EXPECT(HEAD, CLI_UNREADABLE,
           "\"problems\":[{\"class\":\"encrypted_data_empty\",\"text\":\"there is no encrypted "
           "data\"},{\"class\":\"dek_source_empty\"");
    EXPECT(HEAD, CLI_UNREADABLE, "{\"class\":\"key_id_empty\"");
    EXPECT(HEAD DATA "\x12\x01k\x1a\x01w\x28\x02", CLI_UNREADABLE, "unknown_dek_source_type");
    EXPECT(HEAD DATA "\x12\x01k\x1a\x01w\x28\x02", CLI_UNREADABLE, "\"unknown (2)\"");
    EXPECT(HEAD DATA "\x12\x01k\x1a\x01w\x22\x00", CLI_UNREADABLE, "annotations_invalid");
    EXPECT(HEAD "\x0a\x01"
                "d\x12\x01k\x1a\x01w",
           CLI_UNREADABLE, "\"problems\":[{\"class\":\"too_short\"");
    EXPECT(HEAD DATA "\x12\x01\xff\x1a\x01w", CLI_UNREADABLE, "\"class\":\"invalid_utf8\"");
    EXPECT(HEAD "\x0f", CLI_UNREADABLE, "\"class\":\"protobuf_malformed\"");
}

static void test_notes(void **state)
{
    (void)state;
    EXPECT(HEAD DATA "\x12\x01k\x12\x01l\x1a\x01w\x28\x01", CLI_OK, "doubled_fields");
    EXPECT(HEAD DATA "\x12\x01k\x12\x01l\x1a\x01w\x28\x01", CLI_OK, "\"key_id\":\"l\"");
    EXPECT(HEAD DATA "\x12\x01k\x1a\x01w\x28\x01\x32\x00", CLI_OK, "unknown_fields");
    EXPECT(HEAD DATA "\x12\x01k\x1a\x01w\x28\x01\n", CLI_UNREADABLE, "line_feed");
}

static void test_odd_bytes_become_hex(void **state)
{
    char out[TEXT_MAX];

    (void)state;
    EXPECT(HEAD DATA "\x12\x02\x1b[\x1a\x01w\x28\x01", CLI_OK, "\"key_id_hex\":\"1b5b\"");
    EXPECT(HEAD DATA "\x12\x02\"\\\x1a\x01w\x28\x01", CLI_OK, "\"key_id\":\"\\\"\\\\\"");
    inspect("k8s:enc:kms:v2:\x1b[31m:", 21, false, out);
    assert_null(strchr(out, 0x1b));
}

/* --- bounds ----------------------------------------------------------------------------------- */

static void test_long_fields_are_cut(void **state)
{
    static char value[70000];
    char out[TEXT_MAX];
    size_t n = strlen(HEAD);

    (void)state;
    memcpy(value, HEAD, n);
    memcpy(value + n, "\x12\xd0\x86\x03", 4); /* a key id of 50,000 bytes */
    memset(value + n + 4, 'k', 50000);
    assert_int_equal(inspect(value, n + 4 + 50000, true, out), CLI_UNREADABLE);
    assert_true(strlen(out) < 3000);
    assert_non_null(strstr(out, "key_id_too_long"));
}

static void test_many_annotations(void **state)
{
    size_t count = 200000, at = strlen(HEAD);
    char *value = malloc(at + 2 * count);
    char *out = NULL;
    size_t out_len = 0;
    FILE *f = open_memstream(&out, &out_len);
    struct slab slab;

    (void)state;
    assert_non_null(value);
    assert_non_null(f);
    memcpy(value, HEAD, at);
    for (size_t i = 0; i < count; i++, at += 2)
        memcpy(value + at, "\x22", 2); /* empty */
    assert_int_equal(cli__inspect(slice_static(&slab, (uint8_t *)value, (uint32_t)at), f, true),
                     CLI_UNREADABLE);
    fclose(f);
    assert_non_null(strstr(out, "\"annotations\":[{\"key\":\"\",\"length\":0}]"));
    free(out);
    free(value);
}

/* A name without end costs no more than its bound. */
static void test_name_of_colons(void **state)
{
    static const char *const heads[] = {"k8s:enc:kms:v1:", "k8s:enc:kms:v2:", "k8s:enc:aesgcm:v1:"};
    size_t len = 4u << 20;
    uint8_t *value = malloc(len);
    char out[TEXT_MAX];

    (void)state;
    assert_non_null(value);
    for (size_t i = 0; i < ARRAY_LEN(heads); i++) {
        memset(value, ':', len);
        memcpy(value, heads[i], strlen(heads[i]));
        inspect(value, len, true, out);
        assert_non_null(strstr(out, "name\":\"\""));
    }
    free(value);
}

/* --- the others ------------------------------------------------------------------------------- */

static void test_kms_v1(void **state)
{
    (void)state;
    EXPECT("k8s:enc:kms:v1:n:\0\x02ww" D10 D10 D10, CLI_OK, "\"wrapped_dek_length\":2");
    EXPECT("k8s:enc:kms:v1:n:\0\x02ww" D10 D10 D10, CLI_OK, "\"plaintext_length\":2");
    EXPECT("k8s:enc:kms:v1:a:b:\0\0" D10 D10 D10, CLI_OK, "\"name\":\"a:b\"");
    EXPECT("k8s:enc:kms:v1:n:\0\x02ww" D10 D10, CLI_UNREADABLE, "too_short");
    EXPECT("k8s:enc:kms:v1:n:\0\x02ww", CLI_UNREADABLE, "too_short");
    EXPECT("k8s:enc:kms:v1:n:\0\x02w", CLI_UNREADABLE, "v1_bad_length_prefix");
    EXPECT("k8s:enc:kms:v1:n:\0", CLI_UNREADABLE, "v1_bad_length_prefix");
    EXPECT("k8s:enc:kms:v1:n:", CLI_UNREADABLE, "\"name\":\"n\"");
}

static void test_local_keys(void **state)
{
    (void)state;
    EXPECT("k8s:enc:aesgcm:v1:k:" D10 D10 D10, CLI_OK, "\"key_name\":\"k\"");
    EXPECT("k8s:enc:aesgcm:v1:k:" D10 D10 D10, CLI_OK, "\"ciphertext_length\":2");
    EXPECT("k8s:enc:aesgcm:v1:k:" D10 D10, CLI_UNREADABLE, "[{\"class\":\"too_short\"");
    EXPECT("k8s:enc:aesgcm:v1:k:", CLI_UNREADABLE, "[{\"class\":\"too_short\"");
    EXPECT("k8s:enc:aesgcm:v1:a:b:" D10 D10 D10, CLI_OK, "name_ambiguous");
    EXPECT("k8s:enc:secretbox:v1:k:" D10 D10 D10 D10 "d", CLI_OK, "\"plaintext_length\":1");
    EXPECT("k8s:enc:secretbox:v1:k:" D10 D10 D10 "d", CLI_UNREADABLE, "too_short");
    EXPECT("k8s:enc:aescbc:v1:k:" D10 D10 D10 "dd", CLI_OK,
           "\"plaintext_length_min\":0,\"plaintext_length_max\":15");
    EXPECT("k8s:enc:aescbc:v1:k:" D10 D10 D10 "d", CLI_UNREADABLE, "bad_block_size");
    EXPECT("k8s:enc:aescbc:v1:k:" D10 "dddddd", CLI_UNREADABLE, "[{\"class\":\"too_short\"");
    EXPECT("k8s:enc:aescbc:v1:k:", CLI_UNREADABLE, "[{\"class\":\"too_short\"");
}

static void test_unknown(void **state)
{
    (void)state;
    EXPECT("k8s:enc:", CLI_UNREADABLE, "unknown_provider");
    EXPECT("k8s:enc:kms:v3:n:x", CLI_UNREADABLE, "unknown_provider");
    EXPECT("k8s:enc:kms:v2", CLI_UNREADABLE, "unknown_provider");
    EXPECT("k8s:enc:kms:v2:", CLI_UNREADABLE, "no_name");
    EXPECT("k8s:enc:secretbox:v1:name", CLI_UNREADABLE, "no_name");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plaintext),
        cmocka_unit_test(test_plaintext_is_not_shown),
        cmocka_unit_test(test_kms_v2),
        cmocka_unit_test(test_kms_v2_type_0),
        cmocka_unit_test(test_cut_anywhere),
        cmocka_unit_test(test_changed_anywhere),
        cmocka_unit_test(test_every_broken_rule_is_named),
        cmocka_unit_test(test_notes),
        cmocka_unit_test(test_odd_bytes_become_hex),
        cmocka_unit_test(test_long_fields_are_cut),
        cmocka_unit_test(test_many_annotations),
        cmocka_unit_test(test_name_of_colons),
        cmocka_unit_test(test_kms_v1),
        cmocka_unit_test(test_local_keys),
        cmocka_unit_test(test_unknown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
