/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/limits.h"
#include "config/settings.h"

#define MAX_ARGS 16

/* Parses the arguments of a list that ends with NULL. */
static enum err parse(const char *const *args, struct settings **s, char why[static 512])
{
    char *argv[MAX_ARGS];
    int argc = 0;

    while (args[argc] != NULL) {
        assert_true(argc < MAX_ARGS);
        argv[argc] = (char *)(uintptr_t)args[argc];
        argc++;
    }
    why[0] = '\0';
    return settings_parse(argc, argv, s, why, 512);
}

#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})

static struct settings *accept(const char *const *args)
{
    struct settings *s;
    char why[512];

    if (parse(args, &s, why) != ERR_OK)
        fail_msg("%s: %s", args[0], why);
    return s;
}

static void refuse(const char *const *args, const char *reason)
{
    struct settings *s;
    char why[512];

    if (parse(args, &s, why) != ERR_CONFIG)
        fail_msg("%s is accepted", args[0]);
    assert_null(s);
    if (strstr(why, reason) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", why, reason);
}

static void test_defaults(void **state)
{
    struct settings *s = accept((const char *const[]){NULL});

    (void)state;
    assert_int_equal(s->listen_client_url_count, 1);
    assert_string_equal(s->listen_client_urls[0], "http://127.0.0.1:23790");
    assert_string_equal(s->listen_metrics_urls[0], "http://127.0.0.1:23791");
    assert_string_equal(s->etcd_servers[0], "http://127.0.0.1:2379");
    assert_string_equal(s->etcd_prefix, "/registry");
    assert_int_equal(s->advertise_client_url_count, 0);
    assert_null(s->cert_file);
    assert_null(s->encryption_provider_config);
    assert_false(s->client_cert_auth);
    assert_false(s->insecure_listen);
    assert_false(s->allow_identity_writes);
    assert_false(s->allow_unprotect);
    assert_false(s->kms_v1_cbc_reads);
    assert_int_equal(s->max_request_bytes, LIMIT_MAX_REQUEST_BYTES);
    assert_int_equal(s->memory_limit, LIMIT_MEMORY);
    assert_int_equal(s->connection_memory_limit, LIMIT_MEMORY / 2);
    assert_int_equal(s->stream_memory_limit, LIMIT_MEMORY / 8 * 3);
    assert_int_equal(s->stream_threshold, LIMIT_STREAM_THRESHOLD);
    assert_int_equal(s->stall_timeout_ms, 300000);
    assert_int_equal(s->max_connections, 0); /* as many as the memory limit allows */
    assert_int_equal(s->max_concurrent_streams, UINT32_MAX); /* etcd's own default */
    assert_int_equal(s->shutdown_timeout_ms, 10000);
    assert_in_range(s->workers, 1, 4);
    assert_int_equal(s->log_level, LOG_INFO);
    assert_int_equal(s->log_format, LOG_TEXT);
    assert_false(s->print_config);
    assert_false(s->help);
    settings_free(s);
}

/* What was not given fits what was: no default refuses what --max-request-bytes allows. */
static void test_memory_defaults(void **state)
{
    static const char *const limits[] = {"16m", "20m", "33m", "64m", "192m", "1g", "100g"};
    static const char *const requests[] = {"1", "1536k", "15m", "16m"};
    char memory[32], request[40];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
        for (size_t k = 0; k < ARRAY_LEN(requests); k++) {
            struct settings *s;

            (void)snprintf(memory, sizeof memory, "--memory-limit=%s", limits[i]);
            (void)snprintf(request, sizeof request, "--max-request-bytes=%s", requests[k]);
            s = accept(ARGS(memory, request));
            assert_in_range(s->connection_memory_limit, s->max_request_bytes, s->memory_limit);
            assert_in_range(s->stream_memory_limit, s->max_request_bytes,
                            s->connection_memory_limit);
            settings_free(s);
        }
    }
}

static void test_flags(void **state)
{
    struct settings *s = accept(ARGS(
        "--etcd-servers=http://a:1, http://b:2", "--etcd-servers", "http://c:3",
        "--etcd-prefix=", "--insecure-listen", "--allow-unprotect=false", "--allow-kms-v1-writes=T",
        "--listen-metrics-urls=", "--workers=7", "--log-level=debug", "--log-format=json",
        "--shutdown-timeout=1m30s", "--encryption-provider-config", "/etc/a=b.yaml"));

    (void)state;
    assert_int_equal(s->etcd_server_count, 3);
    assert_string_equal(s->etcd_servers[1], "http://b:2");
    assert_string_equal(s->etcd_servers[2], "http://c:3");
    assert_string_equal(s->etcd_prefix, "");
    assert_true(s->insecure_listen);
    assert_false(s->allow_unprotect);
    assert_true(s->allow_kms_v1_writes);
    assert_int_equal(s->listen_metrics_url_count, 0);
    assert_int_equal(s->workers, 7);
    assert_int_equal(s->log_level, LOG_DEBUG);
    assert_int_equal(s->log_format, LOG_JSON);
    assert_int_equal(s->shutdown_timeout_ms, 90000);
    assert_string_equal(s->encryption_provider_config, "/etc/a=b.yaml");
    settings_free(s);
    /* of a value that is no list the last counts */
    s = accept(
        ARGS("--cert-file=a", "--cert-file=b", "--key-file=c", "--workers=1", "--workers=0"));
    assert_string_equal(s->cert_file, "b");
    assert_in_range(s->workers, 1, 4);
    settings_free(s);
}

static void test_pairs(void **state)
{
    struct settings *s =
        accept(ARGS("--resource-prefix=secrets=a/b=c,pods=p", "--protect-prefix=/x=y=secrets",
                    "--resource-prefix", "a.b=c"));

    (void)state;
    assert_int_equal(s->resource_prefix_count, 3);
    assert_string_equal(s->resource_prefixes[0].resource, "secrets");
    assert_string_equal(s->resource_prefixes[0].prefix, "a/b=c");
    assert_string_equal(s->resource_prefixes[2].resource, "a.b");
    assert_int_equal(s->protect_prefix_count, 1);
    assert_string_equal(s->protect_prefixes[0].prefix, "/x=y");
    assert_string_equal(s->protect_prefixes[0].resource, "secrets");
    settings_free(s);
    refuse(ARGS("--resource-prefix=secrets"), "RESOURCE=PREFIX");
    refuse(ARGS("--resource-prefix==x"), "RESOURCE=PREFIX");
    refuse(ARGS("--protect-prefix=/x="), "PREFIX=RESOURCE");
}

static void test_sizes(void **state)
{
    static const struct {
        const char *text;
        uint64_t size;
    } good[] = {{"4096", 4096},   {"3k", 3072},       {"3KiB", 3072},      {"2m", 2097152},
                {"2Mi", 2097152}, {"1g", 1ull << 30}, {"1GiB", 1ull << 30}};
    static const char *const bad[] = {
        "", "k", "-1", "1.5m", "1 m", "1kb", "0x10", "1e3", "99999999999999999999", "2048g", "+1"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        char arg[64];
        struct settings *s;

        snprintf(arg, sizeof(arg), "--stream-threshold=%s", good[i].text);
        s = accept(ARGS(arg));
        assert_int_equal(s->stream_threshold, good[i].size);
        settings_free(s);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        char arg[64];

        snprintf(arg, sizeof(arg), "--memory-limit=%s", bad[i]);
        refuse(ARGS(arg), "is not a size");
    }
    refuse(ARGS("--max-request-bytes=0"), "--max-request-bytes");
    refuse(ARGS("--max-request-bytes=2g", "--memory-limit=4g"), "--max-request-bytes");
    refuse(ARGS("--stream-threshold=0"), "--stream-threshold");
    refuse(ARGS("--max-concurrent-streams=0"), "is not a number from 1 to 4294967295");
    refuse(ARGS("--max-concurrent-streams=4294967296"), "is not a number");
    refuse(ARGS("--max-concurrent-streams=1k"), "is not a number");
    refuse(ARGS("--memory-limit=1m"), "--memory-limit is below --max-request-bytes");
    refuse(ARGS("--connection-memory-limit=1m"), "-limit is below --max-request-bytes");
    refuse(ARGS("--stream-memory-limit=1m"), "--stream-memory-limit is below --max-request-bytes");
    refuse(ARGS("--stall-timeout=999ms"), "--stall-timeout is below 1s");
    refuse(ARGS("--stall-timeout=0"), "--stall-timeout");
    refuse(ARGS("--max-connections=4294967296"), "--max-connections");
    refuse(ARGS("--max-connections=-1"), "not a number from 0");
}

/* A flag of another program, a word alone: nothing is near, and nothing is suggested. */
static void test_nothing_is_near(void **state)
{
    static const char *const names[] = {"nope",
                                        "x",
                                        "rate",
                                        "namespace",
                                        "secure-port",
                                        "urls-of-it",
                                        "data-dir",
                                        "audit-log-path",
                                        "-",
                                        "e",
                                        "zzzzzzzzzzzzzzzzzzzzz"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char arg[64], wanted[64];
        struct settings *s;
        char why[512];

        snprintf(arg, sizeof arg, "--%s=1", names[i]);
        snprintf(wanted, sizeof wanted, "unknown flag --%s", names[i]);
        assert_int_equal(parse(ARGS(arg), &s, why), ERR_CONFIG);
        assert_string_equal(why, wanted);
    }
}

static void test_refused(void **state)
{
    (void)state;
    refuse(ARGS("--etcd-server=x"), "did you mean --etcd-servers?");
    refuse(ARGS("--encryption-config=x"), "did you mean --encryption-provider-config?");
    refuse(ARGS("--Workers=1"), "did you mean --workers?");
    refuse(ARGS("--listen-urls=1"), "did you mean --listen-client-urls?");
    refuse(ARGS("--log=1"), "did you mean --log-");
    refuse(ARGS("--=1"), "unknown flag");
    refuse(
        ARGS(
            "--"
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
        "unknown flag");
    refuse(ARGS("--cert-file"), "needs a value");
    refuse(ARGS("serve"), "unexpected argument");
    refuse(ARGS("--"), "unexpected argument");
    refuse(ARGS("-x"), "unexpected argument");
    refuse(ARGS("--insecure-listen", "true"), "unexpected argument");
    refuse(ARGS("--insecure-listen=yes"), "not true or false");
    refuse(ARGS("--workers=257"), "0 to 256");
    refuse(ARGS("--workers=-1"), "0 to 256");
    refuse(ARGS("--workers=2x"), "0 to 256");
    refuse(ARGS("--shutdown-timeout=10"), "not a duration");
    refuse(ARGS("--shutdown-timeout=-1s"), "not a duration");
    refuse(ARGS("--log-level=INFO"), "not debug, info, warn or error");
    refuse(ARGS("--log-format=xml"), "not text or json");
    refuse(ARGS("--listen-client-urls="), "--listen-client-urls is empty");
    refuse(ARGS("--etcd-servers=,"), "--etcd-servers is empty");
}

static void test_tls_combinations(void **state)
{
    struct settings *s;

    (void)state;
    refuse(ARGS("--cert-file=a"), "--cert-file needs --key-file");
    refuse(ARGS("--key-file=a"), "--key-file needs --cert-file");
    refuse(ARGS("--etcd-certfile=a"), "--etcd-certfile needs --etcd-keyfile");
    refuse(ARGS("--etcd-keyfile=a"), "--etcd-keyfile needs --etcd-certfile");
    refuse(ARGS("--listen-client-urls=https://127.0.0.1:1"), "needs --cert-file");
    refuse(ARGS("--listen-metrics-urls=unixs:///a"), "needs --cert-file");
    refuse(ARGS("--client-cert-auth"), "needs --trusted-ca-file");
    refuse(ARGS("--allowed-client-names=a"), "needs --trusted-ca-file");
    refuse(ARGS("--client-crl-file=a"), "needs --trusted-ca-file");
    s = accept(ARGS("--cert-file=a", "--key-file=b", "--trusted-ca-file=c",
                    "--listen-client-urls=https://0.0.0.0:1", "--allowed-client-names=x,y"));
    assert_true(s->client_cert_auth);
    assert_int_equal(s->allowed_client_name_count, 2);
    settings_free(s);
}

/* Those of our flags and those of a Service are no strangers; what is nearly a flag's is told. */
static void test_unknown_environment(void **state)
{
    static const char *const names[] = {
        "ETCD_ENVELOPE_CONVERGE",          "ETCD_ENVELOPE_LOG_LEVEL",
        "ETCD_ENVELOPE_SERVICE_HOST",      "ETCD_ENVELOPE_SERVICE_PORT",
        "ETCD_ENVELOPE_SERVICE_PORT_GRPC", "ETCD_ENVELOPE_PORT",
        "ETCD_ENVELOPE_PORT_2379_TCP",     "ETCD_ENVELOPE_PORT_2379_TCP_ADDR",
        "ETCD_ENVELOPE_METRICS_PORT",      "ETCD_ENVELOP_LOG_LEVEL",
        "OTHER_ETCD_ENVELOPE_X",           "ETCD_ENVELOPE_PORT_2379_TCP_PROTO"};
    struct settings_unknown u;
    size_t at = 0;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        setenv(names[i], "1", 1);
    assert_false(settings_unknown_env(&at, &u));
    setenv("ETCD_ENVELOPE_ETCD_SERVER", "http://e:1", 1);
    setenv("ETCD_ENVELOPE_CONVERGE_AFTR", "1s", 1);
    at = 0;
    for (int found = 0; found < 2; found++) {
        assert_true(settings_unknown_env(&at, &u));
        if (bytes_eq(u.name, BYTES_LIT("ETCD_ENVELOPE_ETCD_SERVER")))
            assert_string_equal(u.meant, "etcd-servers");
        else if (bytes_eq(u.name, BYTES_LIT("ETCD_ENVELOPE_CONVERGE_AFTR")))
            assert_string_equal(u.meant, "converge-after");
        else
            fail_msg("%.*s", (int)u.name.n, (const char *)u.name.p);
    }
    assert_false(settings_unknown_env(&at, &u));
    unsetenv("ETCD_ENVELOPE_ETCD_SERVER");
    unsetenv("ETCD_ENVELOPE_CONVERGE_AFTR");
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        unsetenv(names[i]);
}

static void test_environment(void **state)
{
    struct settings *s;

    (void)state;
    setenv("ETCD_ENVELOPE_ETCD_SERVERS", "http://e:1,http://f:2", 1);
    setenv("ETCD_ENVELOPE_LOG_LEVEL", "warn", 1);
    setenv("ETCD_ENVELOPE_INSECURE_LISTEN", "true", 1);
    setenv("ETCD_ENVELOPE_CERT_FILE", "", 1);
    setenv("ETCD_ENVELOPE_SERVICE_HOST", "10.0.0.1", 1); /* a Service of our name */
    s = accept(ARGS("--log-level=error"));
    assert_int_equal(s->etcd_server_count, 2);
    assert_string_equal(s->etcd_servers[1], "http://f:2");
    assert_int_equal(s->log_level, LOG_ERROR);
    assert_true(s->insecure_listen);
    assert_null(s->cert_file);
    settings_free(s);
    s = accept(ARGS("--etcd-servers=http://g:3", "--insecure-listen=false"));
    assert_int_equal(s->etcd_server_count, 1); /* a list is replaced, not joined */
    assert_false(s->insecure_listen);
    settings_free(s);
    setenv("ETCD_ENVELOPE_WORKERS", "many", 1);
    refuse(ARGS("--help=false", "--log-level=error"), "ETCD_ENVELOPE_WORKERS");
    unsetenv("ETCD_ENVELOPE_WORKERS");
    unsetenv("ETCD_ENVELOPE_ETCD_SERVERS");
    unsetenv("ETCD_ENVELOPE_LOG_LEVEL");
    unsetenv("ETCD_ENVELOPE_INSECURE_LISTEN");
    unsetenv("ETCD_ENVELOPE_CERT_FILE");
    unsetenv("ETCD_ENVELOPE_SERVICE_HOST");
}

static char file_path[] = "/tmp/etcd-envelope-settings-XXXXXX";

static const char *write_file(const char *text)
{
    static char arg[128];
    FILE *f = fopen(file_path, "w");

    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
    snprintf(arg, sizeof(arg), "--config-file=%s", file_path);
    return arg;
}

static void test_file(void **state)
{
    struct settings *s;

    (void)state;
    setenv("ETCD_ENVELOPE_LOG_FORMAT", "json", 1);
    s = accept(ARGS(write_file("# comment\n"
                               "etcd-servers: [http://a:1, http://b:2]\n"
                               "advertise-client-urls: x=http://a:1,y=http://b:2\n"
                               "log-level: debug\n"
                               "log-format: text\n"
                               "insecure-listen: yes\n"
                               "allow-unprotect: \"true\"\n"
                               "workers: 3\n"
                               "max-concurrent-streams: 250\n"
                               "max-request-bytes: 1MiB\n"
                               "memory-limit: 67108864\n"
                               "listen-metrics-urls: []\n"
                               "resource-prefix:\n- secrets=a\n"),
                    "--log-level=error"));
    assert_int_equal(s->etcd_server_count, 2);
    assert_int_equal(s->advertise_client_url_count, 2);
    assert_int_equal(s->log_level, LOG_ERROR); /* flag */
    assert_int_equal(s->log_format, LOG_JSON); /* environment */
    assert_true(s->insecure_listen);
    assert_true(s->allow_unprotect);
    assert_int_equal(s->workers, 3);
    assert_int_equal(s->max_concurrent_streams, 250);
    assert_int_equal(s->max_request_bytes, 1048576);
    assert_int_equal(s->memory_limit, 67108864);
    assert_int_equal(s->listen_metrics_url_count, 0);
    assert_string_equal(s->resource_prefixes[0].prefix, "a");
    settings_free(s);
    unsetenv("ETCD_ENVELOPE_LOG_FORMAT");
    s = accept(ARGS(write_file("{\"workers\": 2}")));
    assert_int_equal(s->workers, 2);
    settings_free(s);
    s = accept(ARGS(write_file("# nothing\n")));
    settings_free(s);
}

static void test_file_refused(void **state)
{
    static const struct {
        const char *text;
        const char *reason;
    } cases[] = {
        {"log-lvl: debug\n", "did you mean log-level?"},
        {"1: debug\n", "unknown field"},
        {"workers: 1\nworkers: 2\n", "given twice"},
        {"config-file: x\n", "can't stand in a file"},
        {"help: true\n", "can't stand in a file"},
        {"workers: many\n", "0 to 256"},
        {"workers: [1]\n", "got a list"},
        {"workers: {a: 1}\n", "got a mapping"},
        {"cert-file:\n", "got null"},
        {"etcd-servers: [[a]]\n", "got a list"},
        {"cert-file: \"a\\0b\"\n", "expected a value"},
        {"- a\n", "expected a mapping"},
        {"workers: 1\n---\nworkers: 2\n", "more than one document"},
        {"workers: [\n", "line"},
        {"{\"workers\": 1,}", "line"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        refuse(ARGS(write_file(cases[i].text)), cases[i].reason);
    refuse(ARGS(write_file("")), "is empty");
    refuse(ARGS("--config-file=/nonexistent/file"), "can't be read");
    refuse(ARGS("--config-file=/"), "directory");
}

/* A list that keeps others out may be left out, but is never empty, wherever it is given. */
static void test_empty_restriction(void **state)
{
    static const char *const empty[] = {"", ",", " , ,"};
    char arg[64];
    struct settings *s;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(empty); i++) {
        snprintf(arg, sizeof(arg), "--allowed-client-names=%s", empty[i]);
        refuse(ARGS(arg), "--allowed-client-names: ");
        refuse(ARGS(arg, "--trusted-ca-file=c"), "is not a list of names");
        setenv("ETCD_ENVELOPE_ALLOWED_CLIENT_NAMES", empty[i], 1);
        refuse(ARGS("--trusted-ca-file=c"), "ETCD_ENVELOPE_ALLOWED_CLIENT_NAMES: ");
        s = accept(ARGS("--trusted-ca-file=c", "--allowed-client-names=a"));
        settings_free(s); /* the flag goes before the environment */
        unsetenv("ETCD_ENVELOPE_ALLOWED_CLIENT_NAMES");
    }
    refuse(ARGS(write_file("trusted-ca-file: c\nallowed-client-names: []\n")), "list of names");
    refuse(ARGS(write_file("trusted-ca-file: c\nallowed-client-names: ''\n")), "list of names");
    refuse(ARGS(write_file("trusted-ca-file: c\nallowed-client-names: ['', ',']\n")),
           "list of names");
    s = accept(ARGS("--trusted-ca-file=c"));
    settings_free(s);
}

static void test_help(void **state)
{
    struct settings *s = accept(ARGS("--workers=many", "--help"));
    const char *help = settings_help();

    (void)state;
    assert_true(s->help); /* although something else is wrong */
    settings_free(s);
    s = accept(ARGS("-h"));
    assert_true(s->help);
    settings_free(s);
    assert_non_null(strstr(help, "--listen-client-urls URLS\n"));
    assert_non_null(strstr(help, "(default http://127.0.0.1:23790)"));
    assert_non_null(strstr(help, "(default 192MiB)"));
    assert_non_null(strstr(help, "(default 10s)"));
    assert_non_null(strstr(help, "--protect-prefix PREFIX=RESOURCE\n"));
    assert_non_null(strstr(help, "--help\n"));
    assert_ptr_equal(settings_help(), help);
}

/* What settings_print writes to descriptor 1. */
static char *printed(const struct settings *s)
{
    char path[] = "/tmp/etcd-envelope-print-XXXXXX";
    int fd = mkstemp(path);
    int saved = dup(1);
    char *text = calloc(1, 16384);
    ssize_t n;

    assert_true(fd >= 0 && saved >= 0 && text != NULL);
    fflush(stdout);
    dup2(fd, 1);
    settings_print(s);
    dup2(saved, 1);
    n = pread(fd, text, 16383, 0);
    assert_true(n > 0);
    close(fd);
    close(saved);
    unlink(path);
    return text;
}

/* What is printed is a --config-file that gives the same settings. */
static void test_print(void **state)
{
    struct settings *s = accept(
        ARGS("--etcd-servers=http://a:1,http://b:2", "--cert-file=a \"b\"\\c\n", "--key-file=yes",
             "--protect-prefix=/x=secrets", "--resource-prefix=a.b=c", "--shutdown-timeout=1500ms",
             "--insecure-listen", "--listen-metrics-urls=", "--workers=2",
             "--etcd-prefix=", "--max-request-bytes=1000", "--log-level=warn"));
    char *first = printed(s);
    char *second;

    (void)state;
    settings_free(s);
    s = accept(ARGS(write_file(first)));
    second = printed(s);
    assert_string_equal(first, second);
    assert_non_null(strstr(first, "shutdown-timeout: 1500ms\n"));
    assert_non_null(strstr(first, "protect-prefix:\n- \"/x=secrets\"\n"));
    assert_string_equal(s->cert_file, "a \"b\"\\c\n");
    settings_free(s);
    free(first);
    free(second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_memory_defaults),
        cmocka_unit_test(test_flags),
        cmocka_unit_test(test_pairs),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_nothing_is_near),
        cmocka_unit_test(test_tls_combinations),
        cmocka_unit_test(test_environment),
        cmocka_unit_test(test_unknown_environment),
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_file_refused),
        cmocka_unit_test(test_help),
        cmocka_unit_test(test_print),
        cmocka_unit_test(test_empty_restriction),
    };
    int fd = mkstemp(file_path);
    int failed;

    if (fd < 0)
        return 1;
    close(fd);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(file_path);
    return failed;
}
