/* SPDX-License-Identifier: Apache-2.0 */
#include "pages/protection.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rig.h"

#define KEY "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
#define SECOND                                                                                     \
    "- resources: [configmaps]\n"                                                                  \
    "  providers:\n"                                                                               \
    "  - identity: {}\n"
#define MANY                                                                                       \
    RIG_HEAD "  - kms: {apiVersion: v2, name: new, endpoint: 'unix:///nobody/new'}\n"              \
             "  - aesgcm: {keys: [{name: first, secret: " KEY "}, {name: 'a:b', secret: " KEY      \
             "}]}\n"                                                                               \
             "  - identity: {}\n" SECOND
#define ALL                                                                                        \
    "apiVersion: apiserver.config.k8s.io/v1\n"                                                     \
    "kind: EncryptionConfiguration\n"                                                              \
    "resources:\n"                                                                                 \
    "- resources: [secrets]\n"                                                                     \
    "  providers: [{aesgcm: {keys: [{name: first, secret: " KEY "}]}}]\n"                          \
    "- resources: ['*.*']\n"                                                                       \
    "  providers: [{secretbox: {keys: [{name: rest, secret: " KEY "}]}}]\n"

/* "kms v2 new=; aesgcm v1=first; ..." */
static const char *ways(const struct pages_state *st, size_t group)
{
    static char text[1024];
    char words[300];
    struct pages_way way;
    size_t at = 0;

    text[0] = '\0';
    for (size_t n = 0; pages__group_way(st, group, n, &way); n++)
        at += (size_t)snprintf(text + at, sizeof text - at, "%s%s=%s", n > 0 ? "; " : "",
                               pages__provider_words(way.provider, words), way.key);
    return text;
}

static void test_ways(void **state)
{
    struct pages_state st;
    size_t group;

    (void)state;
    rig_use(MANY);
    assert_int_equal(pages__state_take(&rig.source, &st), ERR_OK);
    snprintf(st.plugins[0].last.key_id_hash, sizeof st.plugins[0].last.key_id_hash, "sha256:77");
    group = pages__group_next(st.rules, 0);
    assert_string_equal(st.rules->key_rules->v[group].resource, "configmaps");
    assert_string_equal(ways(&st, group), "");
    group = pages__group_next(st.rules, group + 1);
    assert_string_equal(st.rules->key_rules->v[group].resource, "secrets");
    assert_string_equal(ways(&st, group),
                        "kms v2 new=sha256:77; aesgcm v1=first; aesgcm v1=a:b; identity=");
    assert_int_equal(pages__group_next(st.rules, group + 1), st.rules->key_rules->count);
    pages__state_fini(&st);
}

/* Every rule that has providers is in exactly one group, and with those that have the same. */
static void test_groups(void **state)
{
    size_t seen[2000] = {0}, groups = 0, count;
    struct pages_state st;

    (void)state;
    rig_use(ALL);
    assert_int_equal(pages__state_take(&rig.source, &st), ERR_OK);
    count = st.rules->key_rules->count;
    assert_in_range(count, 10, ARRAY_LEN(seen));
    for (size_t g = pages__group_next(st.rules, 0); g < count;
         g = pages__group_next(st.rules, g + 1)) {
        groups++;
        for (size_t i = g; i < count; i = pages__group_rule_next(st.rules, i)) {
            assert_int_equal(seen[i]++, 0);
            assert_int_equal(st.rules->lists[i].count, st.rules->lists[g].count);
            assert_ptr_equal(st.rules->lists[i].v[0], st.rules->lists[g].v[0]);
        }
    }
    assert_int_equal(groups, 2);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(seen[i], st.rules->key_rules->v[i].entry_count > 0);
    pages__state_fini(&st);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_ways, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_groups, rig_setup, rig_teardown),
    };

    return cmocka_run_group_tests(tests, rig_setup_all, NULL);
}
