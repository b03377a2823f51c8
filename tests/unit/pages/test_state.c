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

#include "certs.h"
#include "failing_alloc.h"
#include "net/tls.h"
#include "rig.h"

static void test_plugins(void **state)
{
    static const char *const names[] = {"new", "old"};
    struct pages_state st;

    (void)state;
    rig_use(RIG_PLUGINS);
    assert_int_equal(pages__state_take(&rig.source, &st), ERR_OK);
    assert_ptr_equal(st.settings, &rig.settings);
    assert_ptr_equal(st.rules, rig.set.rules);
    assert_ptr_equal(st.config, rig.set.rules->config);
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
    rig_use(RIG_LOCAL);
    assert_int_equal(pages__state_take(&rig.source, &st), ERR_OK);
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
    rig.s.is_draining = true;
    pages__state_check(&rig.source, PAGES_KMS);
    assert_false(pages__state_is_checking(&rig.source, PAGES_KMS));
    assert_int_equal(pages__state_take(&rig.source, &st), ERR_OK);
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
    rig_use(RIG_LOCAL);
    pages__state_check(&rig.source, PAGES_KMS);
    assert_false(pages__state_is_checking(&rig.source, PAGES_ETCD));
    assert_int_equal(pages__state_take(&rig.source, &st), ERR_OK);
    assert_string_equal(st.etcd_why, "not checked yet");
    pages__state_fini(&st);

    pages__state_check(&rig.source, PAGES_ETCD | PAGES_KMS);
    assert_true(pages__state_is_checking(&rig.source, PAGES_ETCD));
    assert_true(pages__state_is_checking(&rig.source, PAGES_ETCD | PAGES_KMS));
    assert_false(pages__state_is_checking(&rig.source, PAGES_KMS)); /* there is no plugin */
    while (pages__state_is_checking(&rig.source, PAGES_ETCD))
        uv_run(&rig.s.loop.uv, UV_RUN_ONCE);
    assert_int_equal(pages__state_take(&rig.source, &st), ERR_OK);
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
    assert_int_equal(net_tls_server_new(&server, &rig.s.tls, why, sizeof why), ERR_OK);
    assert_int_equal(net_tls_client_new(&client, &rig.s.etcd_tls, why, sizeof why), ERR_OK);
    assert_int_equal(pages__state_take(&rig.source, &st), ERR_OK);
    assert_true(st.listen_certificate.is_there);
    assert_in_range(st.listen_certificate.ends - now, 7100, 7300);
    assert_false(st.etcd_certificate.is_there); /* https, but without one of our own */
    pages__state_fini(&st);
    net_tls_drop(rig.s.tls);
    net_tls_drop(rig.s.etcd_tls);
    certs_remove(&certs);
}

static enum err take_once(void)
{
    struct pages_state st;
    enum err e = pages__state_take(&rig.source, &st);

    assert_int_equal(st.plugin_count, e == ERR_OK ? 2 : 0);
    pages__state_fini(&st); /* is due in any case */
    return e;
}

static void test_no_memory(void **state)
{
    (void)state;
    rig_use(RIG_PLUGINS);
    alloc_fail_each(take_once, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_plugins, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_no_plugin, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_ending, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_checks, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_certificates, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_no_memory, rig_setup, rig_teardown),
    };

    return cmocka_run_group_tests(tests, rig_setup_all, NULL);
}
