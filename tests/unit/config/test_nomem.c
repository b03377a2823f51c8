/* SPDX-License-Identifier: Apache-2.0 */
/* Memory runs out at the n-th allocation, for n = 1, 2, ... until everything has what it needs:
 * each time the answer is ERR_NOMEM, with a reason, and nothing is left behind. Built with --wrap,
 * so that our own calls are met and those of cmocka and libyaml are not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/secret.h"
#include "config/encryption.h"
#include "config/resources.h"

static size_t left = SIZE_MAX; /* allocations that still work */

void *__real_malloc(size_t n);
void *__real_calloc(size_t count, size_t n);
void *__real_realloc(void *p, size_t n);
char *__real_strdup(const char *s);
int __real_vasprintf(char **out, const char *fmt, va_list args);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t count, size_t n);
void *__wrap_realloc(void *p, size_t n);
char *__wrap_strdup(const char *s);
int __wrap_vasprintf(char **out, const char *fmt, va_list args);
int __wrap_asprintf(char **out, const char *fmt, ...);

static bool is_out(void)
{
    if (left == 0)
        return true;
    left--;
    return false;
}

void *__wrap_malloc(size_t n)
{
    return is_out() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t count, size_t n)
{
    return is_out() ? NULL : __real_calloc(count, n);
}

void *__wrap_realloc(void *p, size_t n)
{
    return is_out() ? NULL : __real_realloc(p, n);
}

char *__wrap_strdup(const char *s)
{
    return is_out() ? NULL : __real_strdup(s);
}

int __wrap_vasprintf(char **out, const char *fmt, va_list args)
{
    return is_out() ? -1 : __real_vasprintf(out, fmt, args);
}

int __wrap_asprintf(char **out, const char *fmt, ...)
{
    va_list args;
    int n;

    va_start(args, fmt);
    n = is_out() ? -1 : __real_vasprintf(out, fmt, args);
    va_end(args);
    return n;
}

static const char yaml[] =
    "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n"
    "- resources: &r [secrets, foos.example.com, '*.apps', 'sec*']\n"
    "  providers:\n"
    "  - kms: {apiVersion: v2, name: a, endpoint: 'unix:///a'}\n"
    "  - aesgcm: {keys: [{name: k, secret: AAECAwQFBgcICQoLDA0ODw==}]}\n"
    "- {resources: ['*.'], providers: [{<<: {identity: {}}}]}\n";
static const char json[] =
    "{\"apiVersion\":\"v1\",\"kind\":\"EncryptionConfig\",\"resources\":[{\"resources\":[\"*.*\"],"
    "\"providers\":[{\"kms\":{\"name\":\"a\",\"endpoint\":\"unix:/a\"}}]}]}";

static void run_out_while_parsing(const char *text)
{
    const struct enc_options o = {.is_reload = false};
    struct enc_config *c;
    char why[256];
    enum err e = ERR_NOMEM;
    size_t n;

    for (n = 0; e == ERR_NOMEM && n < 1000; n++) {
        why[0] = '\0';
        left = n;
        e = enc_config_parse(bytes_str(text), &o, &c, why, sizeof(why));
        left = SIZE_MAX;
        assert_true(e == ERR_OK || why[0] != '\0');
        assert_true((e == ERR_OK) == (c != NULL));
    }
    assert_int_equal(e, ERR_OK);
    assert_true(n > 10); /* the wrappers were asked */
    enc_config_free(c);
}

static void test_parse(void **state)
{
    (void)state;
    run_out_while_parsing(yaml);
    run_out_while_parsing(json);
}

static void test_rules(void **state)
{
    struct resource_prefix prefixes[] = {{"pods", "p"}, {"none.example.com", "n"}};
    struct resource_prefix protected[] = {{"secrets", "/x"}};
    const struct key_rules_opts o = {.etcd_prefix = "/registry",
                                     .resource_prefixes = prefixes,
                                     .resource_prefix_count = 2,
                                     .protect_prefixes = protected,
                                     .protect_prefix_count = 1};
    const struct enc_options options = {.is_reload = false};
    struct enc_config *c;
    struct key_rules *r;
    char why[256];
    enum err e = ERR_NOMEM;
    size_t n;

    (void)state;
    assert_int_equal(enc_config_parse(bytes_str(yaml), &options, &c, why, sizeof(why)), ERR_OK);
    for (n = 0; e == ERR_NOMEM && n < 2000; n++) {
        why[0] = '\0';
        left = n;
        e = key_rules_build(c, &o, &r, why, sizeof(why));
        left = SIZE_MAX;
        assert_true(e == ERR_OK || why[0] != '\0');
        assert_true((e == ERR_OK) == (r != NULL));
    }
    assert_int_equal(e, ERR_OK);
    assert_true(n > 10);
    key_rules_free(r);
    enc_config_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_rules),
    };

    if (secret_init() != ERR_OK)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
