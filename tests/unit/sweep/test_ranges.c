/* SPDX-License-Identifier: Apache-2.0 */
/* Every protected key that is wanted lies in exactly one range, whatever the rules; ranges are in
 * order and apart. */
#include "sweep/ranges.h"

#include <stdio.h>

#include "base/secret.h"
#include "failing_alloc.h"
#include "fake_etcd.h"

#define HEAD                                                                                       \
    "apiVersion: apiserver.config.k8s.io/v1\n"                                                     \
    "kind: EncryptionConfiguration\n"                                                              \
    "resources:\n"
#define ENTRY(resources)                                                                           \
    "- resources: [" resources "]\n"                                                               \
    "  providers:\n"                                                                               \
    "  - secretbox: {keys: [{name: k, secret: "                                                    \
    "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=}]}\n"
#define EXCLUDED(resources) "- resources: [" resources "]\n  providers: [{identity: {}}]\n"

static const char *const configurations[] = {
    HEAD ENTRY("secrets"),
    HEAD ENTRY("secrets, configmaps, services, nodes"),
    HEAD ENTRY("'*.*'"),
    HEAD ENTRY("'*.'"),
    HEAD ENTRY("'*.example.com', widgets.other.org, secrets"),
    HEAD EXCLUDED("events") EXCLUDED("widgets.example.com") ENTRY("'*.*'"),
    HEAD ENTRY("secrets") EXCLUDED("configmaps") ENTRY("'*.apps'"),
};

static size_t times_in(const struct sweep_ranges *r, struct bytes key)
{
    size_t n = 0;

    for (size_t i = 0; i < r->count; i++)
        n += bytes_cmp(key, r->v[i].key) >= 0 && bytes_cmp(key, r->v[i].end) < 0;
    return n;
}

/* Keys made of words that rules are made of, with all that may stand between and behind them. */
static size_t make_key(unsigned seed, const char *prefix, char out[static 160])
{
    static const char *const words[] = {"secrets",     "configmaps", "pods",    "events",
                                        "example.com", "widgets",    "apps",    "deployments",
                                        "services",    "specs",      "minions", "other.org",
                                        "ns",          "secretsfoo", "",        "secrets-x"};
    static const char *const between[] = {"/", "/", "/", "//", "-", "0", ".", ""};
    size_t n = (size_t)snprintf(out, 160, "%s", seed % 7 == 0 ? "" : prefix);

    for (unsigned i = 0; i < 1 + seed % 4; i++) {
        seed = seed * 1103515245u + 12345u;
        n += (size_t)snprintf(out + n, 160 - n, "%s%s", between[seed >> 16 & 7],
                              words[seed >> 20 & 15]);
    }
    return n;
}

static void check(const struct ruleset *rules, const struct sweep_filter *f, const char *prefix)
{
    struct sweep_ranges r;
    size_t hits = 0;

    assert_int_equal(sweep_ranges_make(rules, f, &r), ERR_OK);
    for (size_t i = 0; i < r.count; i++) {
        assert_true(r.v[i].key.n > 0);
        assert_true(bytes_cmp(r.v[i].key, r.v[i].end) < 0);
        if (i > 0)
            assert_true(bytes_cmp(r.v[i - 1].end, r.v[i].key) < 0);
    }
    for (unsigned seed = 0; seed < 20000; seed++) {
        char key[160];
        size_t n = make_key(seed, prefix, key);
        const struct provider_list *list = etcd_rules_find(rules->rules, bytes_of(key, n));

        if (n == 0 || list == NULL || !sweep_wants(f, bytes_of(key, n), list))
            continue;
        hits++;
        if (times_in(&r, bytes_of(key, n)) != 1)
            fail_msg("%s is in %zu ranges", key, times_in(&r, bytes_of(key, n)));
    }
    if (f->resource_count == 0)
        assert_true(hits > 50);
    sweep_ranges_fini(&r);
}

static void test_every_key(void **state)
{
    static const char *const prefixes[] = {"/registry", "/", "/a/b"};
    static const char *const some[] = {"secrets", "*.*"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(configurations); i++)
        for (size_t p = 0; p < ARRAY_LEN(prefixes); p++) {
            struct ruleset *rules = fake_rules_of(configurations[i], prefixes[p]);
            const char *prefix = rules->key_rules->root;

            check(rules, &(struct sweep_filter){0}, prefix);
            check(rules, &(struct sweep_filter){.resources = some, .resource_count = 1}, prefix);
            check(rules, &(struct sweep_filter){.resources = some, .resource_count = 2}, prefix);
            check(rules, &(struct sweep_filter){.resources = some + 1, .resource_count = 1},
                  prefix);
            ruleset_drop(rules);
        }
}

/* No wider than need be: the prefix itself, and what lies below it. */
static void test_exact(void **state)
{
    static const struct sweep_filter all = {0};
    struct ruleset *rules = fake_rules_of(configurations[0], "/registry");
    struct sweep_ranges r;

    (void)state;
    assert_int_equal(sweep_ranges_make(rules, &all, &r), ERR_OK);
    assert_int_equal(r.count, 2);
    assert_true(bytes_eq(r.v[0].key, BYTES_LIT("/registry/secrets")));
    assert_true(bytes_eq(r.v[0].end, BYTES_LIT("/registry/secrets\0")));
    assert_true(bytes_eq(r.v[1].key, BYTES_LIT("/registry/secrets/")));
    assert_true(bytes_eq(r.v[1].end, BYTES_LIT("/registry/secrets0")));
    sweep_ranges_fini(&r);
    ruleset_drop(rules);
}

static void test_namespaces(void **state)
{
    static const char *const names[] = {"a", "kube-system"};
    static const struct {
        const char *key;
        bool is_wanted;
    } cases[] = {
        {"/registry/secrets/a/x", true},          {"/registry/secrets/kube-system/x", true},
        {"/registry/secrets/ab/x", false},        {"/registry/secrets/a", false},
        {"/registry/secrets/a/x/y", false},       {"/registry/secrets/x/a/y", true},
        {"/registry/secrets/kube-system/", true},
    };
    const struct sweep_filter f = {.namespaces = names, .namespace_count = 2};
    struct ruleset *rules = fake_rules_of(configurations[0], "/registry");

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct bytes key = bytes_str(cases[i].key);

        assert_int_equal(sweep_wants(&f, key, etcd_rules_find(rules->rules, key)),
                         cases[i].is_wanted);
    }
    ruleset_drop(rules);
}

static void test_no_memory(void **state)
{
    static const struct sweep_filter all = {0};
    struct ruleset *rules = fake_rules_of(configurations[1], "/registry");
    struct sweep_ranges r;
    size_t n = 0;

    (void)state;
    do {
        enum err e;

        alloc_fail_once(++n);
        e = sweep_ranges_make(rules, &all, &r);
        assert_int_equal(e, alloc_recover() ? ERR_NOMEM : ERR_OK);
        if (e == ERR_OK)
            break;
        assert_null(r.v);
    } while (n < 100);
    assert_true(n > 2);
    sweep_ranges_fini(&r);
    ruleset_drop(rules);
}

static int setup(void **state)
{
    (void)state;
    return secret_init() == ERR_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_key),
        cmocka_unit_test(test_exact),
        cmocka_unit_test(test_namespaces),
        cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests(tests, setup, NULL);
}
