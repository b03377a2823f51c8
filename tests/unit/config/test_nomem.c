/* SPDX-License-Identifier: Apache-2.0 */
/* Each allocation fails in turn while a configuration is read and rules are made of it: each time
 * the answer is ERR_NOMEM, with a reason, and nothing is left behind. */
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
#include "config/settings.h"
#include "failing_alloc.h"

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

static const char *text;
static struct enc_config *config;

static enum err parse_once(void)
{
    const struct enc_options o = {.is_reload = false};
    struct enc_config *c;
    char why[256] = "";
    enum err e = enc_config_parse(bytes_str(text), &o, &c, why, sizeof(why));

    assert_true(e == ERR_OK || why[0] != '\0');
    assert_int_equal(e == ERR_OK, c != NULL);
    enc_config_free(c);
    return e;
}

static void test_parse(void **state)
{
    (void)state;
    text = yaml;
    assert_true(alloc_fail_each(parse_once, NULL) > 10);
    text = json;
    assert_true(alloc_fail_each(parse_once, NULL) > 10);
}

static enum err build_once(void)
{
    static struct resource_prefix prefixes[] = {{"pods", "p"}, {"none.example.com", "n"}};
    static struct resource_prefix protected[] = {{"secrets", "/x"}};
    const struct key_rules_opts o = {.etcd_prefix = "/registry",
                                     .resource_prefixes = prefixes,
                                     .resource_prefix_count = 2,
                                     .protect_prefixes = protected,
                                     .protect_prefix_count = 1};
    struct key_rules *r;
    char why[256] = "";
    enum err e = key_rules_build(config, &o, &r, why, sizeof(why));

    assert_true(e == ERR_OK || why[0] != '\0');
    assert_int_equal(e == ERR_OK, r != NULL);
    key_rules_free(r);
    return e;
}

static void test_rules(void **state)
{
    const struct enc_options options = {.is_reload = false};
    char why[256];

    (void)state;
    assert_int_equal(enc_config_parse(bytes_str(yaml), &options, &config, why, sizeof(why)),
                     ERR_OK);
    assert_true(alloc_fail_each(build_once, NULL) > 10);
    enc_config_free(config);
}

/* A page shows the settings while serving, when nothing may abort any more. */
static void settings_are_written_without_memory(void **state)
{
    char *argv[] = {"--resource-prefix=a=b", "--protect-prefix=/c=d", "--cert-file=f\"g",
                    "--key-file=h"};
    struct settings *s;
    char why[512], *written = NULL;
    size_t len;
    FILE *out = open_memstream(&written, &len);

    (void)state;
    assert_int_equal(settings_parse((int)ARRAY_LEN(argv), argv, &s, why, sizeof why), ERR_OK);
    alloc_fail_from(1);
    settings_write(s, out);
    assert_false(alloc_recover());
    fclose(out);
    assert_non_null(strstr(written, "resource-prefix:\n- \"a=b\"\n"));
    assert_non_null(strstr(written, "protect-prefix:\n- \"/c=d\"\n"));
    assert_non_null(strstr(written, "cert-file: \"f\\\"g\"\n"));
    free(written);
    settings_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_rules),
        cmocka_unit_test(settings_are_written_without_memory),
    };

    if (secret_init() != ERR_OK)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
