/* SPDX-License-Identifier: Apache-2.0 */
/* Records: equal configurations agree, whatever differs in what is written or opened does not, both
 * ways; nothing secret stands in one; what is not understood never counts as agreement. */
#include "converge/record.h"

#include <stdio.h>

#include "base/secret.h"
#include "fake_etcd.h"

#define A "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
#define B "MTEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
#define HEAD "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n"
#define RULE(resources) "- resources: [" resources "]\n  providers:\n"
#define GCM(name, secret) "  - aesgcm: {keys: [{name: '" name "', secret: " secret "}]}\n"
#define CBC(name, secret) "  - aescbc: {keys: [{name: '" name "', secret: " secret "}]}\n"
#define IDENTITY "  - identity: {}\n"
#define KMS(name) "  - kms: {apiVersion: v2, name: " name ", endpoint: 'unix:///nowhere'}\n"

/* Configurations of which each differs from each other one, but those of one group. */
static const struct {
    int group;
    const char *yaml;
} configurations[] = {
    {0, HEAD RULE("secrets") GCM("k", A) IDENTITY},
    {0, HEAD RULE("secrets") GCM("k", A)}, /* it opens less, but all that is written */
    {0, "# said otherwise\n" HEAD RULE("secrets") GCM("k", A) GCM("old", B)},
    {1, HEAD RULE("secrets") GCM("k", B)},             /* another secret of the same name */
    {2, HEAD RULE("secrets") GCM("l", A)},             /* another name of the same secret */
    {3, HEAD RULE("secrets") CBC("k", A)},             /* another cipher */
    {4, HEAD RULE("secrets") IDENTITY GCM("k", A)},    /* it writes plaintext */
    {5, HEAD RULE("secrets, configmaps") GCM("k", A)}, /* one more resource */
    {6, HEAD RULE("secrets") GCM("k", A) RULE("configmaps") GCM("k", B)},
    {7, HEAD RULE("'*.*'") GCM("k", A)},
    {8, HEAD RULE("secrets") GCM("a,b c%*?", A)}, /* what could break a line */
};

static char *record_of(const char *yaml, const char *name)
{
    struct ruleset *rules = fake_rules_of(yaml, "/registry");
    char *record;

    assert_int_equal(converge_record_make(rules, NULL, name, &record), ERR_OK);
    ruleset_drop(rules);
    return record;
}

static void test_each_with_each(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(configurations); i++)
        for (size_t k = 0; k < ARRAY_LEN(configurations); k++) {
            char *mine = record_of(configurations[i].yaml, "mine");
            char *theirs = record_of(configurations[k].yaml, "theirs");
            bool is_alike = configurations[i].group == configurations[k].group;
            char why[512] = "";

            assert_int_equal(converge_record_compare(mine, theirs, why, sizeof why),
                             is_alike ? CONVERGE_AGREES : CONVERGE_DIFFERS);
            assert_int_equal(why[0] == '\0', is_alike);
            assert_null(strchr(why, '\n'));
            free(mine);
            free(theirs);
        }
}

static void test_nothing_secret(void **state)
{
    static const char *const secrets[] = {A, B, "0123456789abcdef0123456789abcdef",
                                          "1123456789abcdef0123456789abcdef",
                                          "30313233343536373839616263646566"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(configurations); i++) {
        char *record = record_of(configurations[i].yaml, "name");

        for (size_t k = 0; k < ARRAY_LEN(secrets); k++)
            assert_null(strstr(record, secrets[k]));
        free(record);
    }
}

/* A plugin that has not answered yet: not known, whatever else is; but another rule that differs
 * decides. */
static void test_not_known(void **state)
{
    char *kms = record_of(HEAD RULE("secrets") KMS("p") GCM("k", A), "one");
    char *both = record_of(HEAD RULE("secrets") KMS("p") RULE("configmaps") GCM("k", A), "two");
    char *other = record_of(HEAD RULE("secrets") KMS("p") RULE("configmaps") GCM("k", B), "three");
    char why[512];

    (void)state;
    assert_false(converge_record_is_complete(kms));
    assert_int_equal(converge_record_compare(kms, kms, why, sizeof why), CONVERGE_UNKNOWN);
    assert_int_equal(converge_record_compare(both, both, why, sizeof why), CONVERGE_UNKNOWN);
    assert_int_equal(converge_record_compare(both, other, why, sizeof why), CONVERGE_DIFFERS);
    assert_non_null(strstr(why, "configmaps"));
    free(kms);
    free(both);
    free(other);
}

/* Two rules of one prefix are of no version. */
static void test_a_prefix_twice(void **state)
{
    static const char one[] = "etcd-envelope 1\nname x\nconfig y\n"
                              "rule /registry/secrets/ secrets a b\n";
    char two[2 * sizeof one];

    (void)state;
    assert_true(converge_record_is_understood(one));
    snprintf(two, sizeof two, "%s%s", one, strstr(one, "rule"));
    assert_false(converge_record_is_understood(two));
}

/* However many rules somebody writes, the time is bounded: too many are not understood, and of the
 * others any two of one prefix are found. */
static void test_many_rules(void **state)
{
    const size_t most = 8192, room = 40, twice[] = {0, most / 2, most - 2};
    char *record = malloc((most + 1) * room), *last = NULL, *at;

    (void)state;
    assert_non_null(record);
    at = record + sprintf(record, "etcd-envelope 1\nname x\nconfig y\n");
    for (size_t i = 0; i < most; i++) {
        last = at;
        at += sprintf(at, "rule /registry/%zu/ x a b\n", i);
    }
    assert_true(converge_record_is_understood(record));
    sprintf(at, "rule /registry/%zu/ x a b\n", most);
    assert_false(converge_record_is_understood(record));
    for (size_t i = 0; i < ARRAY_LEN(twice); i++) {
        sprintf(last, "rule /registry/%zu/ x a b\n", twice[i]);
        assert_false(converge_record_is_understood(record));
    }
    sprintf(last, "rule /registry/%zu/ x a b\n", most);
    assert_true(converge_record_is_understood(record));
    free(record);
}

/* Cut anywhere, or with any byte changed, a record never agrees by more than it says. */
static void test_garbage(void **state)
{
    char *mine = record_of(configurations[8].yaml, "mine"), *theirs, why[512];
    size_t n = strlen(mine), rules = (size_t)(converge_record_rules(mine) - mine);

    (void)state;
    theirs = strdup(mine);
    assert_non_null(theirs);
    for (size_t i = 0; i + 1 < n; i++) {
        theirs[i] = '\0';
        assert_int_not_equal(converge_record_compare(mine, theirs, why, sizeof why),
                             CONVERGE_AGREES);
        theirs[i] = mine[i];
    }
    for (size_t i = rules; i < n; i++)
        for (int c = 1; c < 128; c += 9) {
            theirs[i] = (char)c;
            (void)converge_record_compare(mine, theirs, why, sizeof why);
            (void)converge_record_compare(theirs, mine, why, sizeof why);
            (void)converge_record_is_complete(theirs);
            theirs[i] = mine[i];
        }
    /* a rule of which a word is missing is none */
    assert_int_equal(converge_record_compare(mine,
                                             "etcd-envelope 1\nname x\nconfig y\n"
                                             "rule /registry/secrets/ secrets  identity\n",
                                             why, sizeof why),
                     CONVERGE_DIFFERS);
    assert_int_equal(converge_record_compare(mine, "", why, sizeof why), CONVERGE_DIFFERS);
    assert_int_equal(converge_record_compare(mine, "etcd-envelope 2\n", why, sizeof why),
                     CONVERGE_DIFFERS);
    free(theirs);
    free(mine);
}

/* What only another version, or nobody, writes, around the rules of a record that agrees: not
 * understood, whatever can be read in it. */
static const struct {
    const char *before, *after;
} not_ours[] = {
    {"etcd-envelope 0\nname old\n", ""},
    {"etcd-envelope 2\nname new\n", ""},
    {"etcd-envelope 10\nname new\n", ""},
    {"etcd-envelope 1 \nname new\n", ""},
    {"\netcd-envelope 1\nname new\n", ""},
    {"{\"kind\": \"Proxy\"}\n", ""},
    {"etcd-envelope 1\nname new\n", "more\n"},
    {"etcd-envelope 1\nname new\n", "rule /registry/pods/ pods - - more\n"},
    {"etcd-envelope 1\nname new\n", "rule /registry/pods/ pods -\n"},
    {"etcd-envelope 1\nname new\n", "rule /registry/pods/ pods - \n"},
    {"etcd-envelope 1\nname new\n", "rule  pods - -\n"},
    {"etcd-envelope 1\nname new\n", "rule /registry/pods/ pods - -"},
    {"etcd-envelope 1\nname new\n", "\n"},
};

static void test_other_versions(void **state)
{
    char *mine = record_of(configurations[8].yaml, "mine"), theirs[4096], why[512];
    const char *rules = converge_record_rules(mine);

    (void)state;
    assert_true(converge_record_is_understood(mine));
    for (size_t i = 0; i < ARRAY_LEN(not_ours); i++) {
        snprintf(theirs, sizeof theirs, "%s%s%s", not_ours[i].before, rules, not_ours[i].after);
        assert_false(converge_record_is_understood(theirs));
        assert_int_equal(converge_record_compare(mine, theirs, why, sizeof why), CONVERGE_DIFFERS);
        assert_non_null(strstr(why, "not understood"));
    }
    /* What a later version may add without another number. */
    snprintf(theirs, sizeof theirs, "etcd-envelope 1\nname new\nversion 9.9 of 2031\n\nx\n%s",
             rules);
    assert_true(converge_record_is_understood(theirs));
    assert_int_equal(converge_record_compare(mine, theirs, why, sizeof why), CONVERGE_AGREES);
    free(mine);
}

/* A byte that no record has, wherever it stands, NUL among them; and a record that is cut. */
static void test_not_a_record(void **state)
{
    char *mine = record_of(configurations[8].yaml, "mine"), *theirs;
    uint8_t changed[4096];
    size_t n = strlen(mine);

    (void)state;
    for (size_t i = 0; i < n; i++) {
        for (int c = 0; c < 256; c++) {
            if ((c >= ' ' && c < 0x7f) || c == '\n')
                continue;
            memcpy(changed, mine, n);
            changed[i] = (uint8_t)c;
            theirs = converge_record_copy(bytes_of(changed, n));
            assert_non_null(theirs);
            assert_int_equal(strlen(theirs), n);
            assert_false(converge_record_is_understood(theirs));
            free(theirs);
        }
        theirs = converge_record_copy(bytes_of(mine, i));
        assert_non_null(theirs);
        if (i == 0 || mine[i - 1] != '\n')
            assert_false(converge_record_is_understood(theirs));
        free(theirs);
    }
    free(mine);
}

static void test_name(void **state)
{
    char *record = record_of(configurations[0].yaml, "host (http://127.0.0.1:1)\n\"x\" %");
    char name[CONVERGE_NAME_MAX];

    (void)state;
    assert_string_equal(converge_record_name(record, name), "host (http://127.0.0.1:1)%0a'x' %25");
    assert_string_equal(converge_record_name("nothing", name), "");
    free(record);
}

static void test_writes(void **state)
{
    struct ruleset *rules = fake_rules_of(configurations[8].yaml, "/registry");
    char *record = record_of(configurations[8].yaml, "x");
    size_t hits = 0;

    (void)state;
    for (size_t i = 0; i < rules->key_rules->count; i++)
        for (size_t p = 0; p < rules->provider_count; p++) {
            char text[CONVERGE_KEY_TEXT];
            bool is_first =
                rules->lists[i].count > 0 && rules->lists[i].v[0] == &rules->providers[p];

            assert_int_equal(converge_opens_text(&rules->providers[p], 0, text), ERR_OK);
            assert_int_equal(converge_record_writes(record, rules->key_rules, i, text), is_first);
            hits += is_first;
        }
    assert_int_equal(hits, 2);
    free(record);
    ruleset_drop(rules);
}

/* Rules for the same keys of etcd, by names and by wildcards; each is written with a key of its
 * own. */
static const char *const named[] = {
    HEAD RULE("foos.example.com") GCM("k", A),
    HEAD RULE("'*.example.com'") GCM("l", A),
    HEAD RULE("'*.*'") GCM("m", A),
    HEAD RULE("foos.example.com") GCM("n", A) RULE("'*.*'") GCM("o", A),
    HEAD RULE("bars.example.com") GCM("p", A) RULE("'*.example.com'") GCM("q", A),
    HEAD RULE("'*.'") GCM("r", A) RULE("'*.example.com'") GCM("s", A) RULE("'*.*'") GCM("t", A),
    HEAD RULE("secrets") GCM("u", A) RULE("'*.apps'") GCM("v", A),
    HEAD RULE("news, bars.example.org") GCM("w", A),
};
static const char *const keys[] = {
    "/registry/secrets/ns/a",       "/registry/deployments/ns/a",
    "/registry/news/ns/a",          "/registry/foos/ns/a",
    "/registry/example.com/foos/a", "/registry/example.com/bars/a",
    "/registry/example.com/news/a", "/registry/example.org/bars/a/b",
    "/registry/example.org/x/a",
};

static size_t rule_at(const struct ruleset *rules, const struct provider_list *list)
{
    return (size_t)(list - rules->lists);
}

/* What one proxy writes with, another one that has other rules for the same keys is told of. */
static void check_met(const char *mine_yaml, const char *theirs_yaml, size_t *met)
{
    struct ruleset *mine = fake_rules_of(mine_yaml, "/registry");
    struct ruleset *theirs = fake_rules_of(theirs_yaml, "/registry");
    char *record = record_of(theirs_yaml, "x");

    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        const struct provider_list *a = etcd_rules_find(mine->rules, bytes_str(keys[i]));
        const struct provider_list *b = etcd_rules_find(theirs->rules, bytes_str(keys[i]));
        char text[CONVERGE_KEY_TEXT];

        if (a == NULL || b == NULL)
            continue;
        assert_int_equal(converge_opens_text(b->v[0], 0, text), ERR_OK);
        assert_true(converge_record_writes(record, mine->key_rules, rule_at(mine, a), text));
        ++*met;
    }
    free(record);
    ruleset_drop(mine);
    ruleset_drop(theirs);
}

/* Nobody is told that its own rules are written with another one's key. */
static void check_own(const char *yaml)
{
    struct ruleset *rules = fake_rules_of(yaml, "/registry");
    char *record = record_of(yaml, "x"), text[CONVERGE_KEY_TEXT];

    for (size_t i = 0; i < rules->key_rules->count; i++)
        for (size_t p = 0; p < rules->provider_count; p++) {
            assert_int_equal(converge_opens_text(&rules->providers[p], 0, text), ERR_OK);
            assert_int_equal(converge_record_writes(record, rules->key_rules, i, text),
                             rules->lists[i].count > 0 &&
                                 rules->lists[i].v[0] == &rules->providers[p]);
        }
    free(record);
    ruleset_drop(rules);
}

static void test_writes_by_other_rules(void **state)
{
    size_t met = 0;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(named); i++) {
        check_own(named[i]);
        for (size_t k = 0; k < ARRAY_LEN(named); k++)
            check_met(named[i], named[k], &met);
    }
    assert_true(met > 100);
}

static int setup(void **state)
{
    (void)state;
    return secret_init() == ERR_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_each_with_each),
                                       cmocka_unit_test(test_nothing_secret),
                                       cmocka_unit_test(test_not_known),
                                       cmocka_unit_test(test_a_prefix_twice),
                                       cmocka_unit_test(test_many_rules),
                                       cmocka_unit_test(test_garbage),
                                       cmocka_unit_test(test_other_versions),
                                       cmocka_unit_test(test_not_a_record),
                                       cmocka_unit_test(test_name),
                                       cmocka_unit_test(test_writes),
                                       cmocka_unit_test(test_writes_by_other_rules)};

    return cmocka_run_group_tests(tests, setup, NULL);
}
