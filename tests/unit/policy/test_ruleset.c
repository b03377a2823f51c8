/* SPDX-License-Identifier: Apache-2.0 */
/* From the text of a configuration to providers and lists. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/crypto.h>

#include "base/secret.h"
#include "policy/ruleset.h"

#define HEAD                                                                                       \
    "apiVersion: apiserver.config.k8s.io/v1\n"                                                     \
    "kind: EncryptionConfiguration\n"                                                              \
    "resources:\n"

#define SECRET32 "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=" /* 0123456789abcdef twice */
#define SECRET24 "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3"
#define SECRET16 "MDEyMzQ1Njc4OWFiY2RlZg=="

static char why[512];

static enum err rules_with(const char *yaml, const struct ruleset_opts *o, struct ruleset **out)
{
    const struct enc_options enc = {.is_reload = false};
    const struct key_rules_opts keys = {.etcd_prefix = "/registry"};
    struct enc_config *config;
    struct key_rules *rules;

    assert_int_equal(enc_config_parse(bytes_str(yaml), &enc, &config, why, sizeof why), ERR_OK);
    assert_int_equal(key_rules_build(config, &keys, &rules, why, sizeof why), ERR_OK);
    return ruleset_new(config, rules, o, out, why, sizeof why);
}

static enum err rules_of(const char *yaml, bool allow_identity_writes, struct ruleset **out)
{
    const struct ruleset_opts o = {.allow_identity_writes = allow_identity_writes};

    return rules_with(yaml, &o, out);
}

static void check_text(struct bytes got, const char *want)
{
    assert_int_equal(got.n, strlen(want));
    assert_memory_equal(got.p, want, got.n);
}

static void check_key(const struct local_key *key, const char *prefix, size_t len)
{
    check_text(key->prefix, prefix);
    assert_int_equal(key->dek->id.type, DEK_LOCAL_KEY);
    assert_int_equal(key->dek->secret_len, len);
    assert_memory_equal(key->dek->secret, "0123456789abcdef0123456789abcdef", len);
    assert_true(CRYPTO_secure_allocated(key->dek->secret));
}

static void every_kind(void **state)
{
    static const char yaml[] = HEAD "- resources: [secrets]\n"
                                    "  providers:\n"
                                    "  - aescbc:\n"
                                    "      keys:\n"
                                    "      - {name: key1, secret: " SECRET32 "}\n"
                                    "      - {name: 'a:b', secret: " SECRET16 "}\n"
                                    "  - kms: {apiVersion: v2, name: vault, endpoint: unix:///s}\n"
                                    "  - aesgcm: {keys: [{name: g, secret: " SECRET24 "}]}\n"
                                    "  - secretbox: {keys: [{name: s, secret: " SECRET32 "}]}\n"
                                    "  - identity: {}\n";
    static const char *const prefixes[] = {"k8s:enc:aescbc:v1:", "k8s:enc:kms:v2:vault:",
                                           "k8s:enc:aesgcm:v1:", "k8s:enc:secretbox:v1:", ""};
    static const enum provider_kind kinds[] = {PROVIDER_AESCBC, PROVIDER_KMS_V2, PROVIDER_AESGCM,
                                               PROVIDER_SECRETBOX, PROVIDER_IDENTITY};
    size_t secure = CRYPTO_secure_used();
    const struct provider_list *list;
    struct ruleset *r;

    (void)state;
    assert_int_equal(rules_of(yaml, false, &r), ERR_OK);
    list = etcd_rules_find(r->rules, BYTES_LIT("/registry/secrets/default/x"));
    assert_non_null(list);
    assert_null(etcd_rules_find(r->rules, BYTES_LIT("/registry/pods/default/x")));
    assert_int_equal(list->count, ARRAY_LEN(kinds));
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        assert_int_equal(list->v[i]->kind, kinds[i]);
        check_text(list->v[i]->prefix, prefixes[i]);
        assert_false(list->v[i]->cbc_reads);
    }
    assert_int_equal(list->v[0]->key_count, 2);
    check_key(&list->v[0]->keys[0], "key1:", 32);
    check_key(&list->v[0]->keys[1], "a:b:", 16);
    assert_int_equal(list->v[1]->key_count, 0);
    assert_int_equal(r->plugin_count, 1);
    assert_ptr_equal(r->plugins[0].provider, list->v[1]);
    check_key(&list->v[2]->keys[0], "g:", 24);
    check_key(&list->v[3]->keys[0], "s:", 32);
    ruleset_drop(r);
    assert_int_equal(CRYPTO_secure_used(), secure);
}

/* Nothing but local keys: no plugin, and there is one who seals. */
static void local_keys_alone(void **state)
{
    static const char yaml[] = HEAD "- resources: [secrets]\n"
                                    "  providers:\n"
                                    "  - secretbox: {keys: [{name: s, secret: " SECRET32 "}]}\n";
    struct ruleset *r;

    (void)state;
    assert_int_equal(rules_of(yaml, false, &r), ERR_OK);
    assert_int_equal(r->plugin_count, 0);
    assert_int_equal(r->protected_count, 1);
    assert_ptr_equal(ruleset_ref(r), r);
    ruleset_drop(r);
    ruleset_drop(r);
}

static void refusals(void **state)
{
    static const struct {
        const char *yaml, *why;
    } cases[] = {
        {HEAD "- resources: [secrets]\n"
              "  providers:\n"
              "  - kms: {name: old, endpoint: unix:///s}\n"
              "  - aesgcm: {keys: [{name: g, secret: " SECRET32 "}]}\n",
         "--allow-kms-v1-writes"},
        {HEAD "- resources: [secrets]\n"
              "  providers:\n"
              "  - identity: {}\n"
              "  - aescbc: {keys: [{name: g, secret: " SECRET32 "}]}\n",
         "--allow-identity-writes"},
        {HEAD "- resources: [secrets]\n"
              "  providers:\n"
              "  - identity: {}\n",
         "(the last step of a migration away from encryption) give --allow-identity-writes"},
    };
    size_t secure = CRYPTO_secure_used();
    struct ruleset *r;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(rules_of(cases[i].yaml, false, &r), ERR_CONFIG);
        assert_non_null(strstr(why, cases[i].why));
        assert_null(strstr(why, SECRET32));
        assert_int_equal(CRYPTO_secure_used(), secure);
    }
    assert_int_equal(rules_of(cases[1].yaml, true, &r), ERR_OK);
    ruleset_drop(r);
}

/* The last step of moving off: accepted when it is asked for, and then no key has a rule. */
static void identity_alone(void **state)
{
    static const char yaml[] = HEAD "- resources: [secrets]\n"
                                    "  providers: [{identity: {}}]\n"
                                    "- resources: ['*.*']\n"
                                    "  providers: [{identity: {}}]\n";
    struct ruleset *r;

    (void)state;
    assert_int_equal(rules_of(yaml, false, &r), ERR_CONFIG);
    assert_int_equal(rules_of(yaml, true, &r), ERR_OK);
    assert_int_equal(r->protected_count, 0);
    assert_null(etcd_rules_find(r->rules, BYTES_LIT("/registry/secrets/default/x")));
    assert_null(etcd_rules_find(r->rules, BYTES_LIT("/registry/pods/default/x")));
    ruleset_drop(r);
}

/* A value of kms v1 is opened with the key of one plugin: two of one name are told apart at the
 * start, not by values that do not open. */
static void kms_v1_of_one_name(void **state)
{
#define AT(name, socket) "  - kms: {apiVersion: v1, name: " name ", endpoint: unix:///" socket "}\n"
#define CBC "  - aescbc: {keys: [{name: c, secret: " SECRET32 "}]}\n"
#define SECRETS "- resources: [secrets]\n  providers:\n"
    static const struct {
        const char *yaml;
        enum err want;
    } cases[] = {
        {HEAD SECRETS CBC AT("a", "s") AT("a", "t"), ERR_CONFIG},
        {HEAD SECRETS AT("a", "s") CBC AT("b", "s") AT("a", "t"), ERR_CONFIG},
        {HEAD SECRETS CBC AT("a", "s") AT("a", "s"), ERR_OK},
        {HEAD SECRETS CBC AT("a", "s") AT("b", "t") AT("\"a:a\"", "u"), ERR_OK},
        {HEAD SECRETS CBC AT(
             "a", "s") "  - kms: {apiVersion: v2, name: b, endpoint: unix:///t}\n" AT("b", "u"),
         ERR_OK},
        {HEAD SECRETS CBC AT("a", "s") "- resources: [configmaps]\n  providers:\n" CBC AT("a", "t"),
         ERR_OK},
    };
    const struct ruleset_opts o = {.allow_kms_v1_writes = true};
    struct ruleset *r;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(rules_with(cases[i].yaml, &o, &r), cases[i].want);
        if (cases[i].want == ERR_OK)
            ruleset_drop(r);
        else
            assert_non_null(strstr(why, "two KMS v1 providers have the name a "));
    }
#undef SECRETS
#undef CBC
#undef AT
}

/* Read always; first in a list, or with AES-CBC payloads, only on demand. */
static void kms_v1(void **state)
{
    static const char first[] =
        HEAD "- resources: [secrets]\n"
             "  providers:\n"
             "  - kms: {apiVersion: v1, name: old, endpoint: unix:///s, cachesize: 7}\n";
    static const char second[] =
        HEAD "- resources: [secrets]\n"
             "  providers:\n"
             "  - kms: {apiVersion: v2, name: new, endpoint: unix:///s}\n"
             "  - kms: {apiVersion: v1, name: \"a:b\", endpoint: unix:///s, cachesize: -1}\n";
    const struct ruleset_opts writes = {.allow_kms_v1_writes = true, .kms_v1_cbc_reads = true};
    struct ruleset *r;

    (void)state;
    assert_int_equal(rules_of(first, false, &r), ERR_CONFIG);
    assert_int_equal(rules_with(first, &writes, &r), ERR_OK);
    assert_int_equal(r->providers[0].kind, PROVIDER_KMS_V1);
    assert_int_equal(r->providers[0].cache_size, 7);
    assert_true(r->providers[0].cbc_reads);
    check_text(r->providers[0].prefix, "k8s:enc:kms:v1:old:");
    ruleset_drop(r);
    assert_int_equal(rules_of(second, false, &r), ERR_OK);
    assert_int_equal(r->plugin_count, 2);
    assert_int_equal(r->providers[1].slot, 1);
    assert_int_equal(r->providers[1].cache_size, 0);
    assert_false(r->providers[1].cbc_reads);
    check_text(r->providers[1].prefix, "k8s:enc:kms:v1:a:b:");
    ruleset_drop(r);
}

static int setup(void **state)
{
    (void)state;
    return secret_init() == ERR_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind), cmocka_unit_test(local_keys_alone),
        cmocka_unit_test(refusals),   cmocka_unit_test(identity_alone),
        cmocka_unit_test(kms_v1),     cmocka_unit_test(kms_v1_of_one_name),
    };

    return cmocka_run_group_tests(tests, setup, NULL);
}
