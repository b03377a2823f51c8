/* SPDX-License-Identifier: Apache-2.0 */
/* The traits of the kinds, which everybody else goes by. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/base.h"
#include "envelope/provider.h"

#define KIND_COUNT (PROVIDER_SECRETBOX + 1)

static void every_kind_has_the_traits_of_its_own(void **state)
{
    (void)state;
    for (unsigned k = PROVIDER_IDENTITY; k < KIND_COUNT; k++) {
        const struct provider_traits *t = provider_kind_traits((enum provider_kind)k);

        assert_int_equal(t->kind, k);
        assert_true(strlen(t->name) > 0);
        assert_ptr_equal(provider_traits(&(struct provider){.kind = (enum provider_kind)k}), t);
    }
}

/* Each kind gets its keys in exactly one way. */
static void a_kind_stores_plaintext_or_asks_a_plugin_or_has_keys(void **state)
{
    (void)state;
    for (unsigned k = PROVIDER_IDENTITY; k < KIND_COUNT; k++) {
        const struct provider_traits *t = provider_kind_traits((enum provider_kind)k);

        assert_int_equal(t->is_identity + t->is_kms + (t->local_key_min > 0), 1);
        assert_int_equal(t->is_kms, t->body != PROVIDER_BODY_DATA);
        if (t->has_dek_per_value || t->has_cache_size || t->has_own_health_check)
            assert_true(t->is_kms);
    }
}

static void the_prefix_tells_the_kind(void **state)
{
    char prefix[64];

    (void)state;
    for (unsigned k = PROVIDER_IDENTITY + 1; k < KIND_COUNT; k++) {
        const struct provider_traits *t = provider_kind_traits((enum provider_kind)k);

        snprintf(prefix, sizeof prefix, "%s:%s:", t->name, t->version);
        assert_string_equal(t->prefix, prefix);
        snprintf(prefix, sizeof prefix, "%s:%s:x", t->name, t->version);
        assert_ptr_equal(provider_traits_find(bytes_str(prefix)), t);
        assert_null(provider_traits_find(bytes_of(prefix, strlen(t->prefix) - 1)));
    }
    assert_null(provider_traits_find(BYTES_LIT("")));
    assert_null(provider_traits_find(BYTES_LIT("kms:v3:x")));
}

static void of_an_unknown_kind_nothing_is_true(void **state)
{
    static const unsigned kinds[] = {PROVIDER_NONE, KIND_COUNT, 1000};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        const struct provider p = {.kind = (enum provider_kind)kinds[i]};
        const struct provider_traits *t = provider_traits(&p);

        assert_int_equal(t->kind, PROVIDER_NONE);
        assert_false(t->is_identity || t->is_kms || t->is_authentic || t->local_key_min > 0);
        assert_false(provider_is_authentic(&p));
        assert_string_equal(t->name, "");
        assert_string_equal(t->prefix, "");
    }
}

static void what_opens_proves_the_key_but_for_cbc(void **state)
{
    static const struct {
        enum provider_kind kind;
        bool cbc_reads, is_authentic;
    } cases[] = {
        {PROVIDER_IDENTITY, false, false}, {PROVIDER_KMS_V2, false, true},
        {PROVIDER_KMS_V1, false, true},    {PROVIDER_KMS_V1, true, false},
        {PROVIDER_AESGCM, false, true},    {PROVIDER_AESCBC, false, false},
        {PROVIDER_SECRETBOX, false, true},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct provider p = {.kind = cases[i].kind, .cbc_reads = cases[i].cbc_reads};

        assert_int_equal(provider_is_authentic(&p), cases[i].is_authentic);
    }
}

/* kms v1 alone has a setting, and 0 of it is not "as many as you like". */
static void the_configured_cache_size_counts_where_there_is_one(void **state)
{
    (void)state;
    for (unsigned k = PROVIDER_NONE; k < KIND_COUNT; k++) {
        const struct provider p = {.kind = (enum provider_kind)k, .cache_size = 0};
        const struct provider q = {.kind = (enum provider_kind)k, .cache_size = 7};

        assert_int_equal(provider_cache_size(&p, 100), k == PROVIDER_KMS_V1 ? 0 : 100);
        assert_int_equal(provider_cache_size(&q, 3), k == PROVIDER_KMS_V1 ? 7 : 3);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_has_the_traits_of_its_own),
        cmocka_unit_test(a_kind_stores_plaintext_or_asks_a_plugin_or_has_keys),
        cmocka_unit_test(the_prefix_tells_the_kind),
        cmocka_unit_test(of_an_unknown_kind_nothing_is_true),
        cmocka_unit_test(what_opens_proves_the_key_but_for_cbc),
        cmocka_unit_test(the_configured_cache_size_counts_where_there_is_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
