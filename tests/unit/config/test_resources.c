/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/secret.h"
#include "config/resources.h"

#define HEAD "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n"
#define SECRET "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
#define ENTRY(names)                                                                               \
    "- {resources: [" names "], providers: [{aesgcm: {keys: [{name: k, secret: " SECRET "}]}}]}\n"
#define EXCLUDED(names) "- {resources: [" names "], providers: [{identity: {}}]}\n"

static struct enc_config *parse(const char *text)
{
    struct enc_options o = {0};
    struct enc_config *c;
    char why[512];

    if (enc_config_parse(bytes_str(text), &o, &c, why, sizeof(why)) != ERR_OK)
        fail_msg("%s", why);
    return c;
}

static struct key_rules *build_with(const char *text, const struct key_rules_opts *o)
{
    struct enc_config *c = parse(text);
    struct key_rules *r;
    char why[512];

    if (key_rules_build(c, o, &r, why, sizeof(why)) != ERR_OK)
        fail_msg("%s", why);
    enc_config_free(c);
    return r;
}

static struct key_rules *build(const char *text)
{
    return build_with(text, &(struct key_rules_opts){.etcd_prefix = "/registry"});
}

static void assert_refused(const char *text, const struct key_rules_opts *o, const char *reason)
{
    struct enc_config *c = parse(text);
    struct key_rules *r;
    char why[512];

    assert_int_equal(key_rules_build(c, o, &r, why, sizeof(why)), ERR_CONFIG);
    assert_null(r);
    if (strstr(why, reason) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", why, reason);
    enc_config_free(c);
}

static bool matches(const struct key_rule *rule, const char *key)
{
    size_t n = strlen(rule->prefix);
    const char *segment = key + n + 1;

    if (strncmp(key, rule->prefix, n) != 0 || (key[n] != '\0' && key[n] != '/'))
        return false;
    if (rule->kind == KEY_RULE_PREFIX || key[n] == '\0')
        return true;
    return memchr(segment, '.', strcspn(segment, "/")) == NULL;
}

/* The rule for a key by the meaning that the header gives: the longest, PREFIX before DOTLESS. */
static const struct key_rule *find(const struct key_rules *r, const char *key)
{
    const struct key_rule *best = NULL;

    for (size_t i = 0; i < r->count; i++) {
        const struct key_rule *rule = &r->v[i];

        if (!matches(rule, key))
            continue;
        if (best == NULL || strlen(rule->prefix) > strlen(best->prefix) ||
            (strlen(rule->prefix) == strlen(best->prefix) && rule->kind == KEY_RULE_PREFIX))
            best = rule;
    }
    return best;
}

static void assert_protected(const struct key_rules *r, const char *key, const char *resource,
                             size_t entry)
{
    const struct key_rule *rule = find(r, key);

    if (rule == NULL || rule->entry_count == 0)
        fail_msg("%s is not protected", key);
    if (strcmp(rule->resource, resource) != 0 || rule->entry_indexes[0] != entry)
        fail_msg("%s is protected as %s by entry %zu", key, rule->resource, rule->entry_indexes[0]);
}

static void assert_plain(const struct key_rules *r, const char *key)
{
    const struct key_rule *rule = find(r, key);

    if (rule != NULL && rule->entry_count > 0)
        fail_msg("%s is protected as %s", key, rule->resource);
}

static bool warns(const struct key_rules *r, const char *text)
{
    for (size_t i = 0; i < r->warning_count; i++)
        if (strstr(r->warnings[i], text) != NULL)
            return true;
    return false;
}

static void test_named_builtins(void **state)
{
    struct key_rules *r = build(HEAD ENTRY("secrets, services, endpoints, nodes, events")
                                    ENTRY("replicationcontrollers, ingresses.networking.k8s.io")
                                        ENTRY("customresourcedefinitions.apiextensions.k8s.io, "
                                              "apiservices.apiregistration.k8s.io, jobs.batch, "
                                              "podsecuritypolicies.policy"));

    (void)state;
    assert_protected(r, "/registry/secrets/default/a", "secrets", 0);
    assert_protected(r, "/registry/secrets", "secrets", 0);
    assert_protected(r, "/registry/services/specs/ns/a", "services", 0);
    assert_protected(r, "/registry/services/endpoints/ns/a", "endpoints", 0);
    assert_protected(r, "/registry/minions/n1", "nodes", 0);
    assert_protected(r, "/registry/events/ns/a", "events", 0);
    assert_protected(r, "/registry/controllers/ns/a", "replicationcontrollers", 1);
    assert_protected(r, "/registry/ingress/ns/a", "ingresses.networking.k8s.io", 1);
    assert_protected(r, "/registry/apiextensions.k8s.io/customresourcedefinitions/a",
                     "customresourcedefinitions.apiextensions.k8s.io", 2);
    assert_protected(r, "/registry/apiregistration.k8s.io/apiservices/a",
                     "apiservices.apiregistration.k8s.io", 2);
    assert_protected(r, "/registry/jobs/ns/a", "jobs.batch", 2);
    assert_protected(r, "/registry/podsecuritypolicy/a", "podsecuritypolicies.policy", 2);
    /* whole segments, and nothing else */
    assert_plain(r, "/registry/secretsfoo/a");
    assert_plain(r, "/registry/services/other");
    assert_plain(r, "/registry/nodes/n1");
    assert_plain(r, "/registry/configmaps/ns/a");
    assert_plain(r, "/registry2/secrets/a");
    assert_plain(r, "compact_rev_key");
    assert_int_equal(r->warning_count, 0);
    key_rules_free(r);
}

static void test_appended_lists(void **state)
{
    struct key_rules *r = build(HEAD ENTRY("secrets") ENTRY("pods") ENTRY("secrets."));
    const struct key_rule *rule = find(r, "/registry/secrets/a");

    (void)state;
    assert_int_equal(rule->entry_count, 2);
    assert_int_equal(rule->entry_indexes[0], 0);
    assert_int_equal(rule->entry_indexes[1], 2);
    key_rules_free(r);
}

static void test_custom_resources(void **state)
{
    struct key_rules *r =
        build(HEAD ENTRY("pandas.bears.example, services.serving.example, foos.apps"));

    (void)state;
    assert_protected(r, "/registry/bears.example/pandas/ns/a", "pandas.bears.example", 0);
    assert_protected(r, "/registry/pandas/ns/a", "pandas.bears.example", 0);
    assert_plain(r, "/registry/bears.example/koalas/ns/a");
    /* a built-in plural in another group leaves the built-in kind alone */
    assert_protected(r, "/registry/serving.example/services/ns/a", "services.serving.example", 0);
    assert_plain(r, "/registry/services/specs/ns/a");
    assert_plain(r, "/registry/services/ns/a");
    assert_protected(r, "/registry/foos/ns/a", "foos.apps", 0);
    assert_protected(r, "/registry/apps/foos/ns/a", "foos.apps", 0);
    assert_false(warns(r, "pandas"));
    assert_false(warns(r, "serving"));
    assert_true(warns(r, "foos.apps"));
    key_rules_free(r);
}

/* A custom resource that is excluded excludes no built-in kind of its name, which is another's. */
static void test_excluded_custom_resources(void **state)
{
    struct key_rules *r = build(HEAD EXCLUDED("pandas.bears.example") ENTRY("pandas.zoo.example"));

    (void)state;
    assert_int_equal(find(r, "/registry/pandas/ns/a")->entry_count, 1);
    assert_protected(r, "/registry/pandas/ns/a", "pandas.zoo.example", 1);
    assert_protected(r, "/registry/zoo.example/pandas/ns/a", "pandas.zoo.example", 1);
    assert_int_equal(find(r, "/registry/bears.example/pandas/a")->entry_indexes[0], 0);
    key_rules_free(r);
    r = build(HEAD EXCLUDED("pandas.bears.example, foos.apps") ENTRY("'*.*'"));
    assert_protected(r, "/registry/pandas/ns/a", "*.*", 1);
    assert_int_equal(find(r, "/registry/bears.example/pandas/a")->entry_indexes[0], 0);
    /* one of a built-in group can only be that kind */
    assert_int_equal(find(r, "/registry/foos/ns/a")->entry_indexes[0], 0);
    key_rules_free(r);
    /* nor does a group's wildcard exclude plurals that may be of another group */
    r = build(HEAD EXCLUDED("'*.apps'") ENTRY("'*.'"));
    assert_int_equal(find(r, "/registry/unknowns/a")->entry_count, 1);
    assert_protected(r, "/registry/unknowns/a", "*.", 1);
    assert_int_equal(find(r, "/registry/deployments/a")->entry_indexes[0], 0);
    assert_false(warns(r, "\"*.apps\" also protects"));
    key_rules_free(r);
}

/* Names that can't be those of a resource, or whose prefixes belong to others. */
static void test_names_that_match_nothing(void **state)
{
    struct key_rules *r = build(HEAD ENTRY("deployments, foos.events, pods/status, 'sec*', '', "
                                           "'.apps', health.x, masterleases, 'secrets ', '**', "
                                           "'*.*.apps', -a, 'a-.b', a..b"));

    (void)state;
    assert_true(warns(r, "deployments.apps"));
    assert_plain(r, "/registry/deployments/ns/a");
    assert_plain(r, "/registry/events/foos/a");
    assert_protected(r, "/registry/foos/ns/a", "foos.events", 0);
    assert_plain(r, "/registry/pods/status");
    assert_plain(r, "/registry/health");
    assert_plain(r, "/registry/masterleases/1.2.3.4");
    assert_plain(r, "/registry/secrets /a");
    assert_plain(r, "/registry/secrets/a");
    assert_plain(r, "/registry/a");
    assert_int_equal(r->warning_count, 14);
    for (size_t i = 0; i < r->count; i++)
        assert_string_not_equal(r->v[i].prefix, "/registry");
    key_rules_free(r);
}

static void test_everything(void **state)
{
    struct key_rules *r = build(HEAD ENTRY("secrets") ENTRY("'*.*'"));

    (void)state;
    assert_protected(r, "/registry/secrets/a", "secrets", 0);
    assert_protected(r, "/registry/configmaps/ns/a", "configmaps", 1);
    assert_protected(r, "/registry/deployments/ns/a", "deployments.apps", 1);
    assert_protected(r, "/registry/leases/ns/a", "leases.coordination.k8s.io", 1);
    assert_protected(r, "/registry/unknowns/ns/a", "*.*", 1);
    assert_protected(r, "/registry/bears.example/pandas/a", "*.*", 1);
    assert_protected(r, "/registry//secrets/a", "*.*", 1);
    assert_protected(r, "/registry/", "*.*", 1);
    assert_protected(r, "/registry", "*.*", 1);
    assert_protected(r, "/registry/healthy", "*.*", 1);
    assert_protected(r, "/registry/ranges/others", "*.*", 1);
    assert_plain(r, "/registry/health");
    assert_plain(r, "/registry/ranges/serviceips");
    assert_plain(r, "/registry/ranges/secondaryserviceips");
    assert_plain(r, "/registry/ranges/servicenodeports");
    assert_plain(r, "/registry/masterleases/10.0.0.1");
    assert_plain(r, "/registry/peerserverleases/id");
    assert_plain(r, "/other/secrets");
    assert_plain(r, "compact_rev_key");
    key_rules_free(r);
}

static void test_core_wildcard(void **state)
{
    struct key_rules *r = build(HEAD ENTRY("events") ENTRY("'*.'"));

    (void)state;
    assert_protected(r, "/registry/events/ns/a", "events", 0);
    assert_protected(r, "/registry/pods/ns/a", "pods", 1);
    assert_protected(r, "/registry/minions/n", "nodes", 1);
    /* a plural that the table does not know may be a new one of the core group */
    assert_protected(r, "/registry/unknowns/ns/a", "*.", 1);
    assert_protected(r, "/registry//x", "*.", 1);
    assert_true(warns(r, "\"*.\" also protects"));
    /* known kinds of other groups, custom resources, what is never transformed */
    assert_plain(r, "/registry/deployments/ns/a");
    assert_plain(r, "/registry/ingress/ns/a");
    assert_plain(r, "/registry/leases/ns/a");
    assert_plain(r, "/registry/bears.example/pandas/a");
    assert_plain(r, "/registry/apiregistration.k8s.io/apiservices/a");
    assert_plain(r, "/registry/masterleases/10.0.0.1");
    key_rules_free(r);
}

static void test_group_wildcards(void **state)
{
    struct key_rules *r =
        build(HEAD ENTRY("'*.apps'") ENTRY("'*.bears.example'") ENTRY("'*.networking.k8s.io'"));
    const struct key_rule *unknown = find(r, "/registry/unknowns/ns/a");

    (void)state;
    assert_protected(r, "/registry/deployments/ns/a", "deployments.apps", 0);
    assert_protected(r, "/registry/bears.example/pandas/a", "*.bears.example", 1);
    assert_protected(r, "/registry/networking.k8s.io/custom/a", "*.networking.k8s.io", 2);
    assert_protected(r, "/registry/ingress/ns/a", "ingresses.networking.k8s.io", 2);
    assert_plain(r, "/registry/secrets/a");
    assert_plain(r, "/registry/cronjobs/a");
    assert_plain(r, "/registry/other.example/pandas/a");
    /* an unknown plural can be of either built-in group */
    assert_int_equal(unknown->kind, KEY_RULE_DOTLESS);
    assert_int_equal(unknown->entry_count, 2);
    assert_int_equal(unknown->entry_indexes[0], 0);
    assert_int_equal(unknown->entry_indexes[1], 2);
    key_rules_free(r);
}

static void test_unknown_groups(void **state)
{
    struct key_rules *r = build(HEAD ENTRY("'*.snapshot.storage.k8s.io'"));

    (void)state;
    assert_true(warns(r, "no built-in group"));
    assert_protected(r, "/registry/snapshot.storage.k8s.io/a/b", "*.snapshot.storage.k8s.io", 0);
    assert_plain(r, "/registry/unknowns/a");
    key_rules_free(r);
    /* Without a dot it can only be a built-in group of a newer Kubernetes. */
    r = build(HEAD ENTRY("'*.brandnew'"));
    assert_true(warns(r, "not known"));
    assert_protected(r, "/registry/unknowns/a", "*.brandnew", 0);
    assert_plain(r, "/registry/secrets/a");
    key_rules_free(r);
}

/* With "*.*" behind them the other wildcards do not decide on unknown plurals. */
static void test_wildcards_together(void **state)
{
    struct key_rules *r = build(HEAD ENTRY("'*.'") ENTRY("'*.apps'") ENTRY("'*.*'"));

    (void)state;
    assert_protected(r, "/registry/secrets/a", "secrets", 0);
    assert_protected(r, "/registry/deployments/a", "deployments.apps", 1);
    assert_protected(r, "/registry/jobs/a", "jobs.batch", 2);
    assert_protected(r, "/registry/unknowns/a", "*.*", 2);
    for (size_t i = 0; i < r->count; i++)
        assert_int_equal(r->v[i].kind, KEY_RULE_PREFIX);
    key_rules_free(r);
}

static void test_etcd_prefixes(void **state)
{
    static const char *const same[] = {"/registry", "registry", "registry/", "//registry//"};
    struct key_rules *r;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(same); i++) {
        r = build_with(HEAD ENTRY("secrets"), &(struct key_rules_opts){.etcd_prefix = same[i]});
        assert_protected(r, "/registry/secrets/a", "secrets", 0);
        key_rules_free(r);
    }
    r = build_with(HEAD ENTRY("secrets"), &(struct key_rules_opts){.etcd_prefix = "/a//b"});
    assert_protected(r, "/a/b/secrets/a", "secrets", 0);
    assert_plain(r, "/registry/secrets/a");
    key_rules_free(r);
    for (size_t i = 0; i < 2; i++) {
        r = build_with(HEAD ENTRY("secrets, '*.apps'") ENTRY("'*.*'"),
                       &(struct key_rules_opts){.etcd_prefix = i == 0 ? "" : "/"});
        assert_protected(r, "/secrets/a", "secrets", 0);
        assert_protected(r, "/anything", "*.*", 1);
        assert_plain(r, "/masterleases/1");
        assert_plain(r, "compact_rev_key");
        key_rules_free(r);
    }
    assert_refused(HEAD ENTRY("secrets"), &(struct key_rules_opts){.etcd_prefix = "/a/../b"},
                   "not a path");
}

static void test_resource_prefix(void **state)
{
    struct resource_prefix prefixes[] = {{"secrets", "vault/secrets"},
                                         {"pandas.bears.example", "/bears/"},
                                         {"koalas.bears.example", "koalas"},
                                         {"pods", "old-pods"},
                                         {"none.other.example", "none"}};
    struct key_rules_opts o = {.etcd_prefix = "/registry",
                               .resource_prefixes = prefixes,
                               .resource_prefix_count = ARRAY_LEN(prefixes)};
    struct key_rules *r =
        build_with(HEAD ENTRY("secrets, pandas.bears.example") ENTRY("'*.bears.example'"), &o);

    (void)state;
    assert_protected(r, "/registry/vault/secrets/a", "secrets", 0);
    assert_plain(r, "/registry/secrets/a");
    assert_protected(r, "/registry/bears/a", "pandas.bears.example", 0);
    assert_plain(r, "/registry/pandas/a");
    assert_protected(r, "/registry/koalas/a", "koalas.bears.example", 1);
    assert_plain(r, "/registry/old-pods/a");
    assert_true(warns(r, "none.other.example"));
    key_rules_free(r);
}

static void test_resource_prefix_refused(void **state)
{
    static const struct {
        struct resource_prefix prefix;
        const char *reason;
    } cases[] = {
        {{"secrets", "/"}, "not a path"},
        {{"secrets", "a/../b"}, "not a path"},
        {{"secrets", "masterleases"}, "never encrypts"},
        {{"secrets", "ranges/serviceips/x"}, "never encrypts"},
        {{"*.apps", "a"}, "not the name of a resource"},
        {{"a/b", "a"}, "not the name of a resource"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_refused(HEAD ENTRY("secrets"),
                       &(struct key_rules_opts){.etcd_prefix = "/registry",
                                                .resource_prefixes = &cases[i].prefix,
                                                .resource_prefix_count = 1},
                       cases[i].reason);
}

static void test_protect_prefix(void **state)
{
    struct resource_prefix prefixes[] = {{"secrets", "/aggregated//vault/"},
                                         {"secrets", "/registry/deployments"}};
    struct key_rules_opts o = {.etcd_prefix = "/registry",
                               .protect_prefixes = prefixes,
                               .protect_prefix_count = ARRAY_LEN(prefixes)};
    struct key_rules *r = build_with(HEAD ENTRY("'*.'"), &o);

    (void)state;
    assert_protected(r, "/aggregated/vault/a", "secrets", 0);
    assert_plain(r, "/aggregated/vaults/a");
    /* what the command line asks for goes before "not selected" */
    assert_protected(r, "/registry/deployments/ns/a", "secrets", 0);
    assert_plain(r, "/registry/daemonsets/ns/a");
    key_rules_free(r);
    /* a whole prefix: built-in kinds that are not selected are in it, what is never transformed not
     */
    prefixes[0].prefix = (char[]){"/registry"};
    o.protect_prefix_count = 1;
    r = build_with(HEAD ENTRY("'*.'"), &o);
    assert_protected(r, "/registry/daemonsets/ns/a", "secrets", 0);
    assert_plain(r, "/registry/masterleases/a");
    key_rules_free(r);
}

static void test_protect_prefix_refused(void **state)
{
    static const struct {
        struct resource_prefix prefix;
        const char *reason;
    } cases[] = {
        {{"configmaps", "/x"}, "does not select"},
        {{"secrets", "x"}, "begin with a slash"},
        {{"secrets", "/registry/health"}, "never encrypts"},
        {{"secrets", "/registry/masterleases/x"}, "never encrypts"},
        {{"secrets", "/a/./b"}, "not a path"},
        {{"secrets", "/registry/pods"}, "other providers"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_refused(HEAD ENTRY("secrets") ENTRY("pods"),
                       &(struct key_rules_opts){.etcd_prefix = "/registry",
                                                .protect_prefixes = &cases[i].prefix,
                                                .protect_prefix_count = 1},
                       cases[i].reason);
}

static void test_select(void **state)
{
    struct enc_config *c =
        parse(HEAD ENTRY("secrets") ENTRY("pods") ENTRY("secrets") ENTRY("'*.*'"));
    size_t indexes[2] = {9, 9};

    (void)state;
    assert_int_equal(enc_config_select(c, "secrets", indexes, 2), 2);
    assert_int_equal(indexes[0], 0);
    assert_int_equal(indexes[1], 2);
    indexes[1] = 9;
    assert_int_equal(enc_config_select(c, "secrets", indexes, 1), 2);
    assert_int_equal(indexes[1], 9); /* no room: told, not written */
    assert_int_equal(enc_config_select(c, "pods.x", indexes, 2), 1);
    assert_int_equal(indexes[0], 3);
    enc_config_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_named_builtins),
        cmocka_unit_test(test_appended_lists),
        cmocka_unit_test(test_custom_resources),
        cmocka_unit_test(test_excluded_custom_resources),
        cmocka_unit_test(test_names_that_match_nothing),
        cmocka_unit_test(test_everything),
        cmocka_unit_test(test_core_wildcard),
        cmocka_unit_test(test_group_wildcards),
        cmocka_unit_test(test_unknown_groups),
        cmocka_unit_test(test_wildcards_together),
        cmocka_unit_test(test_etcd_prefixes),
        cmocka_unit_test(test_resource_prefix),
        cmocka_unit_test(test_resource_prefix_refused),
        cmocka_unit_test(test_protect_prefix),
        cmocka_unit_test(test_protect_prefix_refused),
        cmocka_unit_test(test_select),
    };

    if (secret_init() != ERR_OK)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
