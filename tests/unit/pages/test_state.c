/* SPDX-License-Identifier: Apache-2.0 */
/* What pages are told of a server: of one with plugins that nobody listens for, of one that ends,
 * of one without memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/secret.h"
#include "certs.h"
#include "failing_alloc.h"
#include "kms/manager.h"
#include "net/tls.h"
#include "pages/state.h"
#include "server/server_int.h"

#define HEAD                                                                                       \
    "apiVersion: apiserver.config.k8s.io/v1\n"                                                     \
    "kind: EncryptionConfiguration\n"                                                              \
    "resources:\n"                                                                                 \
    "- resources: [secrets]\n"                                                                     \
    "  providers:\n"
#define PLUGINS                                                                                    \
    HEAD "  - kms: {apiVersion: v2, name: new, endpoint: 'unix:///nobody/new'}\n"                  \
         "  - kms: {apiVersion: v1, name: old, endpoint: 'unix:///nobody/old'}\n"
#define LOCAL HEAD "  - aesgcm: {keys: [{name: k, secret: MDEyMzQ1Njc4OWFiY2RlZg==}]}\n"

struct fixture {
    struct settings settings;
    struct server s;
    struct server_set set;
    struct net_url etcd_url;
    struct pages_source source;
};

static struct fixture f;

static struct ruleset *rules_of(const char *yaml)
{
    const struct enc_options enc = {.is_reload = false};
    const struct key_rules_opts keys = {.etcd_prefix = "/registry"};
    const struct ruleset_opts o = {.allow_kms_v1_writes = true};
    struct enc_config *config;
    struct key_rules *key_rules;
    struct ruleset *rules;
    char why[512];

    assert_int_equal(enc_config_parse(bytes_str(yaml), &enc, &config, why, sizeof why), ERR_OK);
    assert_int_equal(key_rules_build(config, &keys, &key_rules, why, sizeof why), ERR_OK);
    assert_int_equal(ruleset_new(config, key_rules, &o, &rules, why, sizeof why), ERR_OK);
    return rules;
}

static void use(const char *yaml)
{
    struct kms_manager_opts o = {.loop = &f.s.loop};

    f.set.rules = rules_of(yaml);
    o.plugins = f.set.rules->plugins;
    o.plugin_count = f.set.rules->plugin_count;
    assert_int_equal(kms_manager_new(&o, &f.set.manager), ERR_OK);
    f.s.set = &f.set;
}

static int setup(void **state)
{
    const char *why;

    (void)state;
    memset(&f, 0, sizeof f);
    if (loop_init(&f.s.loop) != ERR_OK ||
        net_url_parse("unix:///nobody/etcd", &f.etcd_url, &why) != ERR_OK)
        return -1;
    f.s.env.etcd_urls = &f.etcd_url;
    f.s.env.etcd_url_count = 1;
    return pages__source_open(&f.source, &f.s, &f.settings) == ERR_OK ? 0 : -1;
}

static void on_closed(void *arg)
{
    loop_stop(arg);
}

static int teardown(void **state)
{
    (void)state;
    (void)alloc_recover();
    pages__source_close(&f.source);
    if (f.set.manager != NULL) {
        kms_manager_close(f.set.manager, on_closed, &f.s.loop);
        loop_run(&f.s.loop);
        ruleset_drop(f.set.rules);
    }
    loop_fini(&f.s.loop);
    return 0;
}

static void test_plugins(void **state)
{
    static const char *const names[] = {"new", "old"};
    struct pages_state st;

    (void)state;
    use(PLUGINS);
    assert_int_equal(pages__state_take(&f.source, &st), ERR_OK);
    assert_ptr_equal(st.settings, &f.settings);
    assert_ptr_equal(st.rules, f.set.rules);
    assert_ptr_equal(st.config, f.set.rules->config);
    assert_int_equal(st.plugin_count, ARRAY_LEN(names));
    assert_true(st.has_own_checks);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        assert_string_equal(st.plugins[i].name, names[i]);
        assert_string_equal(st.plugins[i].traits->version, i == 1 ? "v1" : "v2");
        assert_false(st.plugins[i].last.is_healthy);
        assert_true(st.plugins[i].last.why[0] != '\0');
    }
    pages__state_fini(&st);
    assert_int_equal(st.plugin_count, 0);
}

static void test_no_plugin(void **state)
{
    struct pages_state st;

    (void)state;
    use(LOCAL);
    assert_int_equal(pages__state_take(&f.source, &st), ERR_OK);
    assert_non_null(st.config);
    assert_int_equal(st.plugin_count, 0);
    assert_false(st.has_own_checks);
    pages__state_fini(&st);
}

/* It has let go of its rule set: pages have nothing to borrow any more, and no check to wait for.
 */
static void test_ending(void **state)
{
    struct pages_state st;

    (void)state;
    f.s.is_draining = true;
    pages__state_check(&f.source, PAGES_KMS);
    assert_false(pages__state_is_checking(&f.source, PAGES_KMS));
    assert_int_equal(pages__state_take(&f.source, &st), ERR_OK);
    assert_true(st.is_draining);
    assert_null(st.rules);
    assert_null(st.config);
    assert_int_equal(st.plugin_count, 0);
    assert_false(st.has_own_checks);
    pages__state_fini(&st);
}

/* Only what was asked for is checked. */
static void test_checks(void **state)
{
    struct pages_state st;

    (void)state;
    use(LOCAL);
    pages__state_check(&f.source, PAGES_KMS);
    assert_false(pages__state_is_checking(&f.source, PAGES_ETCD));
    assert_int_equal(pages__state_take(&f.source, &st), ERR_OK);
    assert_string_equal(st.etcd_why, "not checked yet");
    pages__state_fini(&st);

    pages__state_check(&f.source, PAGES_ETCD | PAGES_KMS);
    assert_true(pages__state_is_checking(&f.source, PAGES_ETCD));
    assert_true(pages__state_is_checking(&f.source, PAGES_ETCD | PAGES_KMS));
    assert_false(pages__state_is_checking(&f.source, PAGES_KMS)); /* there is no plugin */
    while (pages__state_is_checking(&f.source, PAGES_ETCD))
        uv_run(&f.s.loop.uv, UV_RUN_ONCE);
    assert_int_equal(pages__state_take(&f.source, &st), ERR_OK);
    assert_non_null(strstr(st.etcd_why, "unix:///nobody/etcd: "));
    pages__state_fini(&st);
}

static void test_certificates(void **state)
{
    char cert[CERTS_PATH_MAX], key[CERTS_PATH_MAX], why[256];
    struct net_tls_server_opts server = {0};
    struct net_tls_client_opts client = {0};
    struct pages_state st;
    struct certs certs;
    int64_t now = time(NULL);

    (void)state;
    certs_init(&certs);
    certs_make(&certs, &(struct cert_opts){.name = "s", .from_s = -60, .to_s = 7200});
    server.cert_file = certs_path(&certs, "s", "pem", cert);
    server.key_file = certs_path(&certs, "s", "key", key);
    client.ca_file = server.cert_file;
    assert_int_equal(net_tls_server_new(&server, &f.s.tls, why, sizeof why), ERR_OK);
    assert_int_equal(net_tls_client_new(&client, &f.s.etcd_tls, why, sizeof why), ERR_OK);
    assert_int_equal(pages__state_take(&f.source, &st), ERR_OK);
    assert_true(st.listen_certificate.is_there);
    assert_in_range(st.listen_certificate.ends - now, 7100, 7300);
    assert_false(st.etcd_certificate.is_there); /* https, but without one of our own */
    pages__state_fini(&st);
    net_tls_drop(f.s.tls);
    net_tls_drop(f.s.etcd_tls);
    certs_remove(&certs);
}

static enum err take_once(void)
{
    struct pages_state st;
    enum err e = pages__state_take(&f.source, &st);

    assert_int_equal(st.plugin_count, e == ERR_OK ? 2 : 0);
    pages__state_fini(&st); /* is due in any case */
    return e;
}

static void test_no_memory(void **state)
{
    (void)state;
    use(PLUGINS);
    alloc_fail_each(take_once, NULL);
}

static int setup_all(void **state)
{
    (void)state;
    return secret_init() == ERR_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_plugins, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_plugin, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ending, setup, teardown),
        cmocka_unit_test_setup_teardown(test_checks, setup, teardown),
        cmocka_unit_test_setup_teardown(test_certificates, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_memory, setup, teardown),
    };

    return cmocka_run_group_tests(tests, setup_all, NULL);
}
