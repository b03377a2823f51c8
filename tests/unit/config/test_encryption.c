/* SPDX-License-Identifier: Apache-2.0 */
/* What the golden vectors do not reach: the values that come out, several errors at once, what
 * never shows in an error, files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/secret.h"
#include "config/config_int.h"
#include "config/encryption.h"

#define HEAD "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n"
#define KEY32 "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
#define PROVIDERS(list) HEAD "- {resources: [secrets], providers: [" list "]}\n"
#define KMS(fields) PROVIDERS("{kms: {" fields "}}")

static const struct enc_options plain = {.is_reload = false};

static struct enc_config *accept(const char *text)
{
    struct enc_config *c;
    char why[1024] = "";

    if (enc_config_parse(bytes_str(text), &plain, &c, why, sizeof(why)) != ERR_OK)
        fail_msg("%s\n%s", text, why);
    return c;
}

static void refuse_with(const char *text, const struct enc_options *o, const char *const *reasons)
{
    struct enc_config *c = (struct enc_config *)(uintptr_t)1;
    char why[2048] = "";

    if (enc_config_parse(bytes_str(text), o, &c, why, sizeof(why)) != ERR_CONFIG)
        fail_msg("accepted: %s", text);
    assert_null(c);
    for (; *reasons != NULL; reasons++)
        if (strstr(why, *reasons) == NULL)
            fail_msg("\"%s\" does not say \"%s\"", why, *reasons);
}

#define REFUSE(text, ...) refuse_with(text, &plain, (const char *const[]){__VA_ARGS__, NULL})

static void test_kms(void **state)
{
    struct enc_config *c =
        accept(PROVIDERS("{kms: {apiVersion: v2, name: a, endpoint: 'unix:///run/a%20b.sock', "
                         "timeout: 1500ms}}, {kms: {name: 'b:c', endpoint: 'unix:///@x', "
                         "cachesize: -5}}, {kms: {apiVersion: v2, name: d, endpoint: 'unix:///d', "
                         "timeout: 1ns}}, {kms: {name: e, endpoint: 'unix://h'}}"));
    const struct enc_provider *p = c->entries[0].providers;

    (void)state;
    assert_int_equal(c->entry_count, 1);
    assert_int_equal(c->entries[0].provider_count, 4);
    assert_string_equal(c->entries[0].resources[0], "secrets");
    assert_int_equal(p[0].kind, ENC_KMS);
    assert_int_equal(p[0].kms_version, 2);
    assert_string_equal(p[0].name, "a");
    assert_string_equal(p[0].endpoint, "unix:///run/a%20b.sock");
    assert_string_equal(p[0].socket_path, "/run/a b.sock");
    assert_int_equal(p[0].timeout_ms, 1500);
    assert_int_equal(p[1].kms_version, 1); /* the default */
    assert_string_equal(p[1].socket_path, "/@x");
    assert_int_equal(p[1].timeout_ms, 3000);
    assert_int_equal(p[1].cache_size, -5);
    assert_int_equal(p[2].timeout_ms, 1); /* rounded up */
    assert_int_equal(p[3].cache_size, 1000);
    assert_string_equal(p[3].socket_path, "");
    enc_config_free(c);
}

static void test_local_keys(void **state)
{
    struct enc_config *c = accept(
        PROVIDERS("{aesgcm: {keys: [{name: a, secret: " KEY32
                  "}, {name: b, secret: AAECAwQFBgcICQoLDA0ODw==}]}},"
                  "{aescbc: {keys: [{name: 'c:d', secret: AAECAwQFBgcICQoLDA0ODxAREhMUFRYX}]}},"
                  "{secretbox: {keys: [{name: e, secret: " KEY32 "}]}}, {identity: {}}"));
    const struct enc_provider *p = c->entries[0].providers;

    (void)state;
    assert_int_equal(p[0].kind, ENC_AESGCM);
    assert_int_equal(p[0].key_count, 2);
    assert_int_equal(p[0].keys[0].secret_len, 32);
    for (uint8_t i = 0; i < 32; i++)
        assert_int_equal(p[0].keys[0].secret[i], i);
    assert_string_equal(p[0].keys[1].name, "b");
    assert_int_equal(p[0].keys[1].secret_len, 16);
    assert_int_equal(p[1].kind, ENC_AESCBC);
    assert_int_equal(p[1].keys[0].secret_len, 24);
    assert_int_equal(p[2].kind, ENC_SECRETBOX);
    assert_int_equal(p[3].kind, ENC_IDENTITY);
    enc_config_free(c);
}

static void test_hash_and_documents(void **state)
{
    struct enc_config *c = accept(PROVIDERS("{identity: {}}"));
    char hash[72];

    (void)state;
    assert_int_equal(strncmp(c->hash, "sha256:", 7), 0);
    assert_int_equal(strlen(c->hash), 71);
    assert_false(c->has_more_documents);
    memcpy(hash, c->hash, sizeof(hash));
    enc_config_free(c);
    c = accept(PROVIDERS("{identity: {}}") "---\nnonsense\n");
    assert_true(c->has_more_documents);
    assert_string_not_equal(c->hash, hash);
    enc_config_free(c);
}

static void test_anchors_and_merges(void **state)
{
    struct enc_config *c = accept(
        HEAD "- resources: [secrets]\n  providers: &p\n  - aesgcm: {keys: [{name: a, secret: " KEY32
             "}]}\n- resources: [configmaps]\n  providers: *p\n");

    (void)state;
    assert_int_equal(c->entry_count, 2);
    assert_int_equal(c->entries[1].providers[0].keys[0].secret_len, 32);
    enc_config_free(c);
    c = accept(HEAD "- resources: [secrets]\n  providers: [{kms: &k {apiVersion: v2, endpoint: "
                    "'unix:///a', name: a}}, {identity: {}}]\n"
                    "- &e {resources: [pods], providers: [{identity: {}}]}\n- {<<: *e}\n");
    assert_int_equal(c->entry_count, 3);
    assert_string_equal(c->entries[2].resources[0], "pods");
    enc_config_free(c);
    /* strict reading: a merged field is a field, and twice is twice */
    REFUSE(HEAD
           "- &e {resources: [pods], providers: [{identity: {}}]}\n- {<<: *e, resources: [a]}\n",
           "resources[1].resources: ", "duplicate field");
}

/* Strict decoding goes on behind a fault: each is reported by its path, in JSON as in YAML. */
static void test_json_faults_by_path(void **state)
{
    (void)state;
    REFUSE(
        "{\"kind\": \"EncryptionConfiguration\", \"apiVersion\": \"apiserver.config.k8s.io/v1\","
        "\"resources\": [{\"resources\": [\"a\"], \"resources\": [\"b\"], \"nosuch\": 1,"
        "\"providers\": [{\"kms\": {\"apiVersion\": \"v1\", \"name\": \"n\","
        "\"endpoint\": \"unix:///a\", \"cachesize\": 99999999999999999999}}]}]}",
        "resources[0].resources: strict decoding error: duplicate field",
        "resources[0]: strict decoding error: unknown field \"nosuch\" (known: resources, "
        "providers)",
        "resources[0].providers[0].kms.cachesize: ", "number 99999999999999999999 of type int32");
}

static void test_nulls(void **state)
{
    (void)state;
    REFUSE(HEAD "- {resources: [a], providers: null}\n", "at least one resources[0].providers");
    REFUSE(HEAD "- null\n", "resources[0].resources: Required", "resources[0].providers: Required");
    REFUSE(PROVIDERS("null"), "does not contain any");
    REFUSE(PROVIDERS("{aesgcm: {keys: [null]}}"), "keys[0].name: Required",
           "keys[0].secret: Required");
    REFUSE(PROVIDERS("{kms: null}"), "does not contain any");
    enc_config_free(accept(HEAD "- {resources: [null], providers: [{identity: {}, kms: null}]}\n"));
}

static void test_types(void **state)
{
    (void)state;
    REFUSE(KMS("name: 1, endpoint: 'unix:///a', apiVersion: v2"),
           "kms.name: ", "expected a string");
    REFUSE(KMS("name: yes, endpoint: 'unix:///a', apiVersion: v2"), "cannot unmarshal a boolean");
    REFUSE(KMS("name: 1.5, endpoint: 'unix:///a', apiVersion: v2"), "cannot unmarshal a number");
    REFUSE(KMS("name: [a], endpoint: 'unix:///a', apiVersion: v2"), "cannot unmarshal a list");
    REFUSE(KMS("name: a, endpoint: 'unix:///a', cachesize: 1.5"), "kms.cachesize", "an integer");
    REFUSE(KMS("name: a, endpoint: 'unix:///a', cachesize: -2147483649"), "int32");
    REFUSE(KMS("name: \"a\\0b\", endpoint: 'unix:///a'"), "NUL byte");
    REFUSE(HEAD "  secrets\n", "resources: ", "expected a list");
    REFUSE(HEAD "- secrets\n", "resources[0]: ", "expected a mapping");
    REFUSE(PROVIDERS("identity"), "resources[0].providers[0]: ", "expected a mapping");
    REFUSE("apiVersion: 1\nkind: EncryptionConfiguration\n", "apiVersion: ", "expected a string");
    REFUSE("[]", "version/kind");
    REFUSE("# nothing\n", "is empty");
    REFUSE("", "is empty");
    REFUSE("{apiVersion: apiserver.config.k8s.io/v1}", "parse error");
    enc_config_free(accept(KMS("name: \"1\", endpoint: 'unix:///a', apiVersion: v2")));
    enc_config_free(accept(KMS("name: !!str 1, endpoint: 'unix:///a', apiVersion: v2")));
    enc_config_free(accept(KMS("name: a, endpoint: 'unix:///a', cachesize: 0x10")));
}

static void test_several_errors(void **state)
{
    (void)state;
    REFUSE(HEAD "- {resources: [Secrets, '*'], providers: [{kms: {apiVersion: v2, name: 'a:b', "
                "endpoint: 'tcp://x', timeout: 0s, cachesize: 1}}]}\n- {}\n",
           "resources[0].resources[0]: Invalid value: \"Secrets\": ",
           "\nresources[0].resources[1]: Invalid value: \"*\": ",
           "\nresources[0].providers[0].kms.name: ", "\nresources[0].providers[0].kms.endpoint: ",
           "\nresources[0].providers[0].kms.timeout: Invalid value: \"0s\": ",
           "\nresources[0].providers[0].kms.cachesize: Invalid value: 1: ",
           "\nresources[1].resources: Required value: at least one resources[1].resources");
}

static void test_capital_letters(void **state)
{
    static const char *const small[] = {"\xc3\xa9", "\xd0\xb4", "\xe2\x82\xac", "\xc3\x9f", "a1"};
    static const char *const capital[] = {"\xc3\x89", "\xd0\x94", "\xc4\xb0", "\xc7\x85", "aB"};
    char text[512];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(small); i++) {
        snprintf(text, sizeof(text), HEAD "- {resources: [%s], providers: [{identity: {}}]}\n",
                 small[i]);
        enc_config_free(accept(text));
        snprintf(text, sizeof(text), HEAD "- {resources: [%s], providers: [{identity: {}}]}\n",
                 capital[i]);
        REFUSE(text, "capital letters");
    }
}

/* Wherever a secret may stand by mistake, no error shows it. */
static void test_no_secret_in_errors(void **state)
{
    static const char *const docs[] = {
        PROVIDERS("{aesgcm: {keys: [{name: a, secret: TOPSECRET}]}}"),
        PROVIDERS("{aesgcm: {keys: [{name: a, secret: [TOPSECRET]}]}}"),
        PROVIDERS("{aesgcm: {keys: [{name: a, secret: TOPSECRET!}]}}"),
        PROVIDERS("{aesgcm: {keys: [TOPSECRET]}}"),
        PROVIDERS("{aesgcm: {keys: TOPSECRET}}"),
        PROVIDERS("{aesgcm: {keys: [{name: a, secret: VE9QU0VDUkVU}]}, identity: {}}"),
        PROVIDERS("{aesgcm: {keys: [{name: a, Secret: TOPSECRET}]}}"),
        "apiVersion: apiserver.config.k8s.io/v1\nsecret: TOPSECRET\n",
        "TOPSECRET",
        "{\"TOPSECRET",
        "a: TOPSECRET: b\n",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(docs); i++) {
        struct enc_config *c;
        char why[1024];

        assert_int_equal(enc_config_parse(bytes_str(docs[i]), &plain, &c, why, sizeof(why)),
                         ERR_CONFIG);
        if (strstr(why, "TOPSECRET") != NULL || strstr(why, "VE9QU0VDUkVU") != NULL)
            fail_msg("%s shows a secret: %s", docs[i], why);
    }
}

/* However small the room for the reason: terminated, and nothing behind it is written. */
static void test_small_reason(void **state)
{
    const char *text = HEAD "- {resources: [Secrets, '*', '*.extensions'], providers: [{}]}\n";

    (void)state;
    for (size_t n = 0; n < 300; n++) {
        char why[301];
        struct enc_config *c;

        memset(why, '#', sizeof(why));
        assert_int_equal(enc_config_parse(bytes_str(text), &plain, &c, why, n), ERR_CONFIG);
        if (n > 0)
            assert_non_null(memchr(why, '\0', n));
        assert_int_equal(why[n], '#');
    }
}

/* A configuration cut anywhere, or with any byte changed, is refused or accepted, and never worse.
 */
static void test_damaged(void **state)
{
    static const char text[] = HEAD
        "- resources: [secrets, '*.apps']\n  providers:\n  - kms: {apiVersion: v2, name: a, "
        "endpoint: \"unix:///a%20b\", timeout: 3s}\n  - aesgcm: {keys: [{name: a, secret: " KEY32
        "}]}\n  - identity: {}\n";
    size_t len = sizeof(text) - 1;
    uint8_t *copy = malloc(len);

    (void)state;
    for (size_t i = 0; i < len; i++) {
        static const uint8_t bytes[] = {0, '\n', ' ', ':', '{', '*', '&', '"', 0xff, '\t'};
        struct enc_config *c;
        char why[512];
        uint8_t *cut = malloc(i + 1);

        memcpy(cut, text, i);
        (void)!enc_config_parse(bytes_of(cut, i), &plain, &c, why, sizeof(why));
        enc_config_free(c);
        free(cut);
        memcpy(copy, text, len);
        copy[i] = bytes[i % sizeof(bytes)];
        (void)!enc_config_parse(bytes_of(copy, len), &plain, &c, why, sizeof(why));
        enc_config_free(c);
    }
    free(copy);
}

static void test_files(void **state)
{
    char path[] = "/tmp/etcd-envelope-enc-XXXXXX";
    int fd = mkstemp(path);
    const char *text = PROVIDERS("{identity: {}}");
    struct enc_config *c;
    char why[512];

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(enc_config_load(path, &plain, &c, why, sizeof(why)), ERR_CONFIG);
    assert_non_null(strstr(why, "is empty"));
    assert_true(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    assert_int_equal(enc_config_load(path, &plain, &c, why, sizeof(why)), ERR_OK);
    assert_int_equal(c->open_mode, 0);
    enc_config_free(c);
    assert_int_equal(fchmod(fd, 0640), 0);
    assert_int_equal(enc_config_load(path, &plain, &c, why, sizeof(why)), ERR_OK);
    assert_int_equal(c->open_mode, 0);
    enc_config_free(c);
    assert_int_equal(fchmod(fd, 0644), 0);
    assert_int_equal(enc_config_load(path, &plain, &c, why, sizeof(why)), ERR_OK);
    assert_int_equal(c->open_mode, 0644);
    enc_config_free(c);
    assert_int_equal(ftruncate(fd, CONFIG_MAX_FILE + 1), 0);
    assert_int_equal(enc_config_load(path, &plain, &c, why, sizeof(why)), ERR_CONFIG);
    assert_non_null(strstr(why, "larger than"));
    close(fd);
    unlink(path);
    assert_int_equal(enc_config_load(path, &plain, &c, why, sizeof(why)), ERR_CONFIG);
    assert_non_null(strstr(why, path));
    assert_null(c);
    assert_int_equal(enc_config_load("/", &plain, &c, why, sizeof(why)), ERR_CONFIG);
    assert_int_equal(mkfifo(path, 0600), 0); /* must not hang */
    assert_int_equal(enc_config_load(path, &plain, &c, why, sizeof(why)), ERR_CONFIG);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kms),
        cmocka_unit_test(test_local_keys),
        cmocka_unit_test(test_hash_and_documents),
        cmocka_unit_test(test_anchors_and_merges),
        cmocka_unit_test(test_nulls),
        cmocka_unit_test(test_json_faults_by_path),
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_several_errors),
        cmocka_unit_test(test_capital_letters),
        cmocka_unit_test(test_no_secret_in_errors),
        cmocka_unit_test(test_small_reason),
        cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_files),
    };

    if (secret_init() != ERR_OK)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
