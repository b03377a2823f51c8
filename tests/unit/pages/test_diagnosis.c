/* SPDX-License-Identifier: Apache-2.0 */
/* One thing wrong after the other, in a state where all is well. */
#include "pages/diagnosis.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/metrics.h"
#include "failing_alloc.h"
#include "rig.h"

static struct pages_state st;
static struct pages_coverage coverage;
static struct pages_diagnosis d;

/* The first plugin writes, the second one only reads. */
static int setup(void **state)
{
    if (rig_setup(state) != 0)
        return -1;
    rig.settings.memory_limit = 1000;
    rig_use(RIG_PLUGINS);
    if (pages__state_take(&rig.source, &st) != ERR_OK)
        return -1;
    st.etcd_why = "";
    st.endpoints[0].was_checked = st.endpoints[0].is_good = true;
    for (size_t i = 0; i < st.plugin_count; i++) {
        st.plugins[i].last.is_healthy = st.plugins[i].last.has_state = true;
        st.plugins[i].last.writes_until_s = i == 0 ? st.now_s + 100 : 0;
    }
    coverage = (struct pages_coverage){0};
    return 0;
}

static int teardown(void **state)
{
    pages__diagnosis_fini(&d);
    pages__state_fini(&st);
    return rig_teardown(state);
}

static void diagnose(void)
{
    pages__diagnosis_fini(&d);
    assert_int_equal(pages__diagnose(&st, &coverage, &d), ERR_OK);
}

/* Exactly this is wrong. */
static void assert_one(enum pages_severity severity, const char *about, const char *title,
                       const char *effect)
{
    diagnose();
    assert_int_equal(d.count, 1);
    assert_int_equal(d.problems[0].severity, severity);
    assert_int_equal(d.severity, severity);
    assert_string_equal(d.problems[0].about, about);
    assert_string_equal(d.problems[0].title, title);
    assert_string_equal(d.summary, title);
    if (strstr(d.problems[0].effect, effect) == NULL)
        fail_msg("no \"%s\" in: %s", effect, d.problems[0].effect);
    assert_true(d.problems[0].advice[0] != '\0');
}

/* A rule set of these resources, each with two prefixes, that writes all of them in clear. */
static void diagnose_plaintext(const char *const *names, size_t count)
{
    static const struct provider identity = {.kind = PROVIDER_IDENTITY};
    const struct provider *first = &identity;
    struct provider_list lists[64];
    struct key_rules rules = {.count = 2 * count};
    const struct ruleset set = {.key_rules = &rules, .lists = lists, .protected_count = 2 * count};

    struct pages_coverage_row row = {.counts = {[COVERAGE_PLAINTEXT] = 59}};

    assert_true(2 * count <= ARRAY_LEN(lists));
    /* All that is stored of one is plaintext, as it is meant to be; of another one it is not. */
    snprintf(row.resource, sizeof row.resource, "%s", names[count - 1]);
    coverage =
        (struct pages_coverage){.rows = &row, .count = 1, .totals = {[COVERAGE_PLAINTEXT] = 60}};
    for (size_t i = 0; i < 2 * count; i++)
        lists[i] = (struct provider_list){.v = &first, .count = 1, .resource = names[i % count]};
    st.rules = &set;
    st.plugin_count = 0;
    diagnose();
    st.rules = NULL;
    coverage = (struct pages_coverage){0};
}

static bool is_word(const char *text, const char *word)
{
    size_t n = strlen(word);

    for (const char *at = strstr(text, word); at != NULL; at = strstr(at + 1, word))
        if (at[-1] == ' ' && (at[n] == ',' || at[n] == ' '))
            return true;
    return false;
}

static void test_well(void **state)
{
    (void)state;
    diagnose();
    assert_int_equal(d.count, 0);
    assert_int_equal(d.severity, PAGES_WELL);
    assert_string_equal(d.summary, "All is well");
}

static void test_writing_plugin(void **state)
{
    struct kms_plugin_state *last = &st.plugins[0].last;

    (void)state;
    last->is_healthy = false;
    assert_one(PAGES_WARNING, "kms", "KMS plugin new is not well", "Writes go on with the key");
    last->writes_until_s = st.now_s - 1;
    assert_one(PAGES_FAILING, "kms", "KMS plugin new is not well", "cannot be written any more");
    last->has_state = false;
    assert_one(PAGES_FAILING, "kms", "KMS plugin new is not well", "cannot be written, and not");
}

static void test_reading_plugin(void **state)
{
    (void)state;
    st.plugins[1].last.is_healthy = st.plugins[1].last.has_state = false;
    assert_one(PAGES_WARNING, "kms", "KMS plugin old is not well", "Nothing new is sealed with it");
}

/* A KMS v1 plugin is needed for each write. */
static void test_writing_plugin_v1(void **state)
{
    (void)state;
    st.plugins[0].traits = st.plugins[1].traits;
    st.plugins[0].last.is_healthy = false;
    assert_one(PAGES_FAILING, "kms", "KMS plugin new is not well", "cannot be written, and not");
}

static void test_etcd(void **state)
{
    (void)state;
    st.endpoints[0].is_good = false;
    st.endpoints[0].why = "gone";
    assert_one(PAGES_WARNING, "etcd", "etcd does not answer at unix:///nobody/etcd",
               "other endpoints");
    st.etcd_why = "all gone";
    assert_one(PAGES_FAILING, "etcd", "etcd does not answer", "No call can be served");
    assert_string_equal(d.problems[0].reason, "all gone");
}

static void test_certificates(void **state)
{
    struct pages_certificate *c = &st.listen_certificate;

    (void)state;
    *c = (struct pages_certificate){true, st.now_s + DIAGNOSIS_CERTIFICATE_S + 1};
    diagnose();
    assert_int_equal(d.count, 0);
    c->ends = st.now_s + 2 * 86400;
    assert_one(PAGES_WARNING, "certificate", "The certificate shown to clients ends in 2 days", "");
    c->ends = st.now_s;
    assert_one(PAGES_FAILING, "certificate", "The certificate shown to clients has ended", "");
    c->is_there = false;
    diagnose();
    assert_int_equal(d.count, 0);
}

static void test_configuration(void **state)
{
    static const struct server_reload reload = {.time_s = 1, .why = "no good"};

    (void)state;
    rig.settings.encryption_provider_config = (char *)(uintptr_t) "encryption.yaml";
    st.is_reload_failed = true;
    st.reload = &reload;
    assert_one(PAGES_WARNING, "configuration", "The configuration file was refused",
               "1970-01-01T00:00:01Z");
    assert_string_equal(d.problems[0].reason, "no good");
    st.is_reload_failed = false;
    st.tls_why = "torn";
    assert_one(PAGES_WARNING, "certificate", "TLS files have changed and cannot be used", "");
}

static void test_files(void **state)
{
    (void)state;
    st.files_why = "has ended";
    assert_one(PAGES_WARNING, "process", "Files cannot be read", "is not taken over");
    assert_string_equal(d.problems[0].reason, "has ended");
    assert_non_null(strstr(d.problems[0].advice, "restart the proxy"));
}

/* What etcd refuses the proxy itself disturbs no client; what to do depends on who it is. */
static void test_own_calls(void **state)
{
    static const char title[] = "etcd refuses what the proxy asks on its own account";

    (void)state;
    st.refusal = "denied";
    rig.settings.converge_key = (char *)(uintptr_t) "/place";
    assert_one(PAGES_WARNING, "etcd", title, "Clients are served.");
    assert_string_equal(d.problems[0].reason, "denied");
    assert_non_null(strstr(d.problems[0].advice, "make one for the proxy"));
    rig.settings.etcd_user = (char *)(uintptr_t) "somebody";
    assert_one(PAGES_WARNING, "etcd", title, "Clients are served.");
    assert_non_null(strstr(d.problems[0].advice, "user somebody exists"));
    assert_non_null(strstr(d.problems[0].advice, "under /place/"));
    st.refusal = "";
    st.password_why = "torn";
    assert_one(PAGES_WARNING, "configuration", "The password file for etcd cannot be used",
               "read before is in use");
}

static void test_memory(void **state)
{
    (void)state;
    metric_add(METRIC_held_bytes, 899);
    diagnose();
    assert_int_equal(d.count, 0);
    metric_add(METRIC_held_bytes, 1);
    assert_one(PAGES_WARNING, "memory", "Messages hold 900 bytes of 1000 bytes",
               "RESOURCE_EXHAUSTED");
    metric_sub(METRIC_held_bytes, 900);
}

static void test_connections(void **state)
{
    (void)state;
    metric_add(METRIC_links, 17);
    st.connection_limit = 0; /* any number */
    diagnose();
    assert_int_equal(d.count, 0);
    st.connection_limit = 20;
    diagnose();
    assert_int_equal(d.count, 0);
    metric_add(METRIC_links, 1);
    assert_one(PAGES_WARNING, "connections", "18 of 20 client connections are open",
               "At the limit");
    metric_sub(METRIC_links, 18);
}

static void test_values(void **state)
{
    (void)state;
    metric_refused(ERR_AUTH_FAILED);
    metric_refused(ERR_KMS_AWAY); /* is no value's fault */
    assert_one(PAGES_WARNING, "values", "Stored values do not open", "of the last 5 minutes");
}

/* All resources that are written in clear are named, each once, or counted. */
static void test_plaintext_writes(void **state)
{
    static const char *const names[] = {"secrets",
                                        "configmaps",
                                        "pods",
                                        "services",
                                        "nodes",
                                        "endpoints",
                                        "events",
                                        "namespaces",
                                        "limitranges",
                                        "jobs.batch",
                                        "deployments.apps",
                                        "daemonsets.apps",
                                        "replicasets.apps",
                                        "statefulsets.apps",
                                        "cronjobs.batch",
                                        "podtemplates",
                                        "replicationcontrollers",
                                        "resourcequotas",
                                        "serviceaccounts",
                                        "persistentvolumes",
                                        "persistentvolumeclaims"};

    (void)state;
    for (size_t n = 1; n <= ARRAY_LEN(names); n++) {
        size_t named = 0, more = 0;
        const char *title;

        diagnose_plaintext(names, n);
        assert_int_equal(d.count, 2);
        assert_string_equal(d.problems[1].title, "1 stored value is plaintext");
        title = d.problems[0].title;
        for (size_t i = 0; i < n; i++)
            named += is_word(title, names[i]);
        if (strstr(title, " more are ") != NULL)
            more = strtoul(strstr(title, " and ") + 5, NULL, 10);
        assert_int_equal(named + more, n);
        assert_true(n > 4 || more == 0);
        assert_non_null(strstr(title, " stored as plaintext"));
    }
}

static void test_coverage(void **state)
{
    (void)state;
    coverage.totals[COVERAGE_PLAINTEXT] = 1234;
    assert_one(PAGES_WARNING, "values", "1,234 stored values are plaintext", "are not sealed.");
    assert_null(strstr(d.problems[0].effect, "ago"));
    coverage.time_s = st.now_s - 3720;
    assert_one(PAGES_WARNING, "values", "1,234 stored values are plaintext",
               "That was counted 1 hour 2 minutes ago.");
    coverage.totals[COVERAGE_PLAINTEXT] = 0;
    coverage.totals[COVERAGE_UNREADABLE] = 2;
    assert_one(PAGES_WARNING, "values", "2 stored values cannot be read", "DATA_LOSS");
    assert_non_null(strstr(d.problems[0].effect, "1 hour 2 minutes ago."));
    coverage.totals[COVERAGE_UNREADABLE] = 0;
    coverage.totals[COVERAGE_OLDER] = 7; /* is what reencrypt is for; nothing is wrong */
    diagnose();
    assert_int_equal(d.count, 0);
}

static void test_ending(void **state)
{
    (void)state;
    st.is_draining = true;
    assert_one(PAGES_WARNING, "process", "The proxy is shutting down", "in flight");
}

/* All at once: the worst comes first, the rest in its order, and the line stays a line. */
static void test_everything(void **state)
{
    (void)state;
    for (size_t i = 0; i < st.plugin_count; i++)
        st.plugins[i].last.is_healthy = false;
    st.listen_certificate = st.etcd_certificate = (struct pages_certificate){true, st.now_s - 1};
    st.etcd_why = "gone";
    st.tls_why = "torn";
    st.is_draining = true;
    coverage.totals[COVERAGE_PLAINTEXT] = coverage.totals[COVERAGE_UNREADABLE] = 1;
    diagnose();
    assert_int_equal(d.count, 9);
    assert_int_equal(d.severity, PAGES_FAILING);
    for (size_t i = 1; i < d.count; i++)
        assert_true(d.problems[i - 1].severity <= d.problems[i].severity);
    assert_string_equal(d.problems[0].title, "etcd does not answer");
    assert_string_equal(d.problems[8].title, "The proxy is shutting down");
    assert_non_null(strstr(d.summary, "etcd does not answer; The certificate shown to clients"));
    assert_non_null(strstr(d.summary, " more"));
    assert_true(strlen(d.summary) < 260);
}

static enum err diagnose_once(void)
{
    enum err e = pages__diagnose(&st, &coverage, &d);

    pages__diagnosis_fini(&d);
    return e;
}

static void test_no_memory(void **state)
{
    (void)state;
    alloc_fail_each(diagnose_once, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_well, setup, teardown),
        cmocka_unit_test_setup_teardown(test_writing_plugin, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reading_plugin, setup, teardown),
        cmocka_unit_test_setup_teardown(test_writing_plugin_v1, setup, teardown),
        cmocka_unit_test_setup_teardown(test_etcd, setup, teardown),
        cmocka_unit_test_setup_teardown(test_certificates, setup, teardown),
        cmocka_unit_test_setup_teardown(test_configuration, setup, teardown),
        cmocka_unit_test_setup_teardown(test_files, setup, teardown),
        cmocka_unit_test_setup_teardown(test_own_calls, setup, teardown),
        cmocka_unit_test_setup_teardown(test_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(test_connections, setup, teardown),
        cmocka_unit_test_setup_teardown(test_values, setup, teardown),
        cmocka_unit_test_setup_teardown(test_plaintext_writes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_coverage, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ending, setup, teardown),
        cmocka_unit_test_setup_teardown(test_everything, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_memory, setup, teardown),
    };

    return cmocka_run_group_tests(tests, rig_setup_all, NULL);
}
