/* SPDX-License-Identifier: Apache-2.0 */
/* One plugin against a fake one: checks, rotation, what is thrown away; endpoints. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/metrics.h"
#include "base/secret.h"
#include "fake_plugin.h"
#include "kms/plugin_int.h"

struct fixture {
    struct loop loop;
    struct fake_plugin fake;
    struct provider provider;
    struct plugin plugin;
    unsigned checks, changes;
};

static struct fixture f;

static void on_checked(struct plugin *p, bool has_changed)
{
    assert_ptr_equal(p, &f.plugin);
    f.checks++;
    f.changes += has_changed;
}

static void on_no_room(struct plugin *p)
{
    (void)p;
}

/* Turns of the loop until *n reaches want. */
static void run_until(const unsigned *n, unsigned want)
{
    uint64_t end = loop_hrtime_ns() + 20ull * 1000000000;

    while (*n < want) {
        assert_true(loop_hrtime_ns() < end);
        uv_run(&f.loop.uv, UV_RUN_ONCE);
    }
}

static void check(void)
{
    unsigned before = f.checks;

    plugin_check(&f.plugin);
    run_until(&f.checks, before + 1);
}

static int setup(void **state)
{
    struct kms_plugin_opts o = {.provider = &f.provider, .timeout_ms = 300};

    (void)state;
    memset(&f, 0, sizeof f);
    f.provider = (struct provider){.kind = PROVIDER_KMS_V2, .name = "fake"};
    if (loop_init(&f.loop) != ERR_OK)
        return -1;
    fake_start(&f.fake, &f.loop);
    o.endpoint = f.fake.endpoint;
    if (plugin_init(&f.plugin, &f.loop, &o) != ERR_OK)
        return -1;
    f.plugin.on_checked = on_checked;
    f.plugin.on_no_room = on_no_room;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    plugin_fini(&f.plugin);
    fake_stop(&f.fake);
    loop_stop(&f.loop);
    loop_run(&f.loop);
    fake_fini(&f.fake);
    loop_fini(&f.loop);
    return 0;
}

static void expect_bad(const char *why)
{
    assert_false(f.plugin.life.is_healthy);
    if (strstr(f.plugin.life.why, why) == NULL)
        fail_msg("%s: not in: %s", why, f.plugin.life.why);
}

static void first_check_comes_by_itself_and_makes_a_dek(void **state)
{
    const struct dek *dek;
    uint8_t wrapped[32];

    (void)state;
    run_until(&f.checks, 1);
    assert_true(f.plugin.life.is_healthy);
    assert_int_equal(f.changes, 1);
    assert_int_equal(f.fake.status.calls, 1);
    assert_int_equal(f.fake.encrypt.calls, 1);
    assert_string_equal(f.fake.last_authority, "localhost");
    assert_int_equal(strlen(f.fake.encrypt.last_uid), 36);
    dek = f.plugin.dek;
    assert_int_equal(dek->id.type, DEK_HKDF_SEED);
    assert_true(bytes_eq(dek->id.key_id, BYTES_LIT("A")));
    assert_int_equal(dek->secret_len, 32);
    fake_wrap(dek->secret, 32, wrapped);
    assert_true(bytes_eq(dek->id.wrapped, bytes_of(wrapped, 32)));
    assert_null(f.plugin.seed);
}

static void the_same_key_id_only_extends(void **state)
{
    const struct dek *dek;
    uint64_t expiry;

    (void)state;
    run_until(&f.checks, 1);
    dek = f.plugin.dek;
    expiry = f.plugin.life.expiry.ms;
    uv_sleep(5);
    uv_update_time(&f.loop.uv);
    check();
    assert_int_equal(f.fake.encrypt.calls, 1);
    assert_int_equal(f.changes, 2);
    assert_ptr_equal(f.plugin.dek, dek);
    assert_true(f.plugin.life.expiry.ms > expiry);
}

static void a_new_key_id_makes_a_new_seed_and_back_a_third(void **state)
{
    uint8_t seeds[3][32];

    (void)state;
    run_until(&f.checks, 1);
    memcpy(seeds[0], f.plugin.dek->secret, 32);
    f.fake.key_id = "B";
    check();
    assert_true(bytes_eq(f.plugin.dek->id.key_id, BYTES_LIT("B")));
    memcpy(seeds[1], f.plugin.dek->secret, 32);
    f.fake.key_id = "A";
    check();
    memcpy(seeds[2], f.plugin.dek->secret, 32);
    assert_memory_not_equal(seeds[0], seeds[1], 32);
    assert_memory_not_equal(seeds[1], seeds[2], 32);
    assert_memory_not_equal(seeds[0], seeds[2], 32);
    assert_int_equal(f.fake.encrypt.calls, 3);
}

static void what_encrypt_answers_wrongly_is_thrown_away(void **state)
{
    const struct dek *dek;

    (void)state;
    run_until(&f.checks, 1);
    dek = f.plugin.dek;
    f.fake.key_id = "B";

    f.fake.encrypt_key_id = "C";
    check();
    expect_bad("errGen=<nil>");
    f.fake.encrypt_key_id = NULL;

    f.fake.encrypt.how = FAKE_FAILS;
    f.fake.encrypt.code = GRPC_INTERNAL;
    check();
    expect_bad("failed to encrypt DEK, error: rpc error: code = Internal desc = to order");
    f.fake.encrypt.how = FAKE_GARBAGE;
    check();
    expect_bad("malformed answer");
    f.fake.encrypt.how = FAKE_SHORT;
    check();
    expect_bad("encrypted DEK source is empty");
    f.fake.encrypt.how = FAKE_EMPTY;
    check();
    expect_bad("encrypted DEK source is empty");
    f.fake.encrypt.how = FAKE_OVERSIZE;
    check();
    expect_bad("the answer is larger than 64 KiB");
    f.fake.encrypt.how = FAKE_ECHOES;
    check();
    expect_bad("the answer of Encrypt holds the DEK source itself");
    assert_int_equal(metric_refused_get(ERR_DEK_SOURCE_EXPOSED), 1);
    f.fake.encrypt.how = FAKE_SILENT;
    check();
    expect_bad("DeadlineExceeded");
    f.fake.encrypt.how = FAKE_HANGS_UP;
    check();
    expect_bad("Unavailable");
    f.fake.encrypt.how = FAKE_RESETS;
    check();
    expect_bad("failed to encrypt DEK");
    f.fake.encrypt.how = FAKE_ANSWERS;
    f.fake.annotation = "no-domain";
    check();
    expect_bad("failed to validate annotations");
    f.fake.annotation = NULL;

    assert_ptr_equal(f.plugin.dek, dek);
    assert_null(f.plugin.seed);
    assert_int_equal(f.changes, 1);
    assert_true(loop_now_ms(&f.loop) <= f.plugin.life.expiry.ms);
    check();
    assert_true(f.plugin.life.is_healthy);
    assert_true(bytes_eq(f.plugin.dek->id.key_id, BYTES_LIT("B")));
}

static void bad_status_answers(void **state)
{
    (void)state;
    f.fake.status.how = FAKE_SILENT;
    run_until(&f.checks, 1);
    expect_bad("DeadlineExceeded");
    f.fake.status.how = FAKE_GARBAGE;
    check();
    expect_bad("malformed answer");
    f.fake.status.how = FAKE_HANGS_UP;
    check();
    expect_bad("Unavailable");
    f.fake.status.how = FAKE_FAILS;
    f.fake.status.code = GRPC_PERMISSION_DENIED;
    check();
    expect_bad("code = PermissionDenied desc = to order");
    f.fake.status.how = FAKE_EMPTY;
    check();
    expect_bad("keyID is empty");
    assert_int_equal(f.fake.encrypt.calls, 0);
    f.fake.status.how = FAKE_ANSWERS;
    f.fake.healthz = "ill";
    check();
    expect_bad("got unexpected healthz status: ill");
    assert_non_null(f.plugin.dek); /* a good key_id is enough for a DEK */
    f.fake.healthz = "ok";
    f.fake.version = "v2beta1";
    check();
    expect_bad("should not change");
}

static void annotations_go_into_the_dek(void **state)
{
    (void)state;
    f.fake.annotation = "kek.example.com";
    run_until(&f.checks, 1);
    assert_true(f.plugin.life.is_healthy);
    assert_int_equal(f.plugin.dek->id.annotation_count, 1);
    assert_true(bytes_eq(f.plugin.dek->id.annotations[0].key, BYTES_LIT("kek.example.com")));
}

static void a_plugin_that_comes_back_is_found(void **state)
{
    (void)state;
    run_until(&f.checks, 1);
    fake_gone(&f.fake);
    check();
    expect_bad("DeadlineExceeded"); /* the call waited for a connection */
    assert_non_null(f.plugin.dek);
    fake_listen(&f.fake);
    check();
    assert_true(f.plugin.life.is_healthy);
}

static void checks_do_not_overlap(void **state)
{
    (void)state;
    f.fake.status.delay_ms = 50;
    plugin_check(&f.plugin);
    plugin_check(&f.plugin);
    run_until(&f.checks, 1);
    assert_int_equal(f.fake.status.calls, 1);
}

static void polls_after_10_s_while_bad_and_60_s_while_good(void **state)
{
    (void)state;
    f.fake.healthz = "ill";
    run_until(&f.checks, 1);
    assert_in_range(uv_timer_get_due_in(f.plugin.poll.uv), 9000, 10000);
    f.fake.healthz = "ok";
    check();
    assert_in_range(uv_timer_get_due_in(f.plugin.poll.uv), 59000, 60000);
}

/* --- unwrapping ------------------------------------------------------------------------------- */

static unsigned answers;
static struct plugin_answer last;
static uint8_t last_secret[64];

static void on_unwrapped(struct plugin_unwrap *u, const struct plugin_answer *a)
{
    assert_null(u->call);
    answers++;
    last = *a;
    if (a->secret.n > 0)
        memcpy(last_secret, a->secret.p, a->secret.n < 64 ? a->secret.n : 64);
}

static enum plugin_verdict unwrap(enum fake_how how, enum grpc_status code)
{
    struct dek_annotation a = {BYTES_LIT("x.y"), BYTES_LIT("z")};
    struct dek_id id = {.type = DEK_HKDF_SEED,
                        .key_id = BYTES_LIT("old"),
                        .wrapped = BYTES_LIT("\x01\x02"),
                        .annotations = &a,
                        .annotation_count = 1};
    static struct plugin_unwrap u;
    unsigned before = answers;

    f.fake.decrypt.how = how;
    f.fake.decrypt.code = code;
    u.on_done = on_unwrapped;
    assert_int_equal(plugin_unwrap(&f.plugin, &id, 1000, &u), ERR_OK);
    run_until(&answers, before + 1);
    return last.verdict;
}

static void verdicts_on_decrypt_answers(void **state)
{
    char uid[64];

    (void)state;
    assert_int_equal(unwrap(FAKE_ANSWERS, GRPC_OK), PLUGIN_UNWRAPPED);
    assert_int_equal(last.secret.n, 2);
    assert_memory_equal(last_secret, "\xfe\xfd", 2);
    assert_string_equal(f.fake.last_key_id, "old");
    assert_int_equal(f.fake.last_annotations, 1);
    memcpy(uid, f.fake.decrypt.last_uid, sizeof uid);
    assert_int_equal(strlen(uid), 36);

    assert_int_equal(unwrap(FAKE_EMPTY, GRPC_OK), PLUGIN_UNWRAPPED);
    assert_int_equal(last.secret.n, 0);
    assert_int_equal(unwrap(FAKE_GARBAGE, GRPC_OK), PLUGIN_REFUSES);
    assert_int_equal(unwrap(FAKE_OVERSIZE, GRPC_OK), PLUGIN_REFUSES);
    assert_int_equal(unwrap(FAKE_FAILS, GRPC_NOT_FOUND), PLUGIN_REFUSES);
    assert_int_equal(unwrap(FAKE_FAILS, GRPC_UNKNOWN), PLUGIN_REFUSES);
    assert_int_equal(unwrap(FAKE_FAILS, GRPC_UNAVAILABLE), PLUGIN_AWAY);
    assert_int_equal(unwrap(FAKE_FAILS, GRPC_DEADLINE_EXCEEDED), PLUGIN_AWAY);
    assert_int_equal(unwrap(FAKE_SILENT, GRPC_OK), PLUGIN_AWAY);
    assert_int_equal(unwrap(FAKE_HANGS_UP, GRPC_OK), PLUGIN_AWAY);
    assert_int_equal(unwrap(FAKE_ANSWERS, GRPC_OK), PLUGIN_UNWRAPPED);
    assert_string_not_equal(f.fake.decrypt.last_uid, uid);
}

/* --- endpoints -------------------------------------------------------------------------------- */

static void endpoints(void **state)
{
    static const struct {
        const char *endpoint, *path;
    } good[] = {
        {"unix:///run/a.sock", "/run/a.sock"},
        {"unix:/run/a.sock", "/run/a.sock"},
        {"UNIX:///run/a.sock", "/run/a.sock"},
        {"unix://a/b", "/b"},
        {"unix:///@name", "@name"},
        {"unix:///run/a%20b%2fc.sock", "/run/a b/c.sock"},
        {"unix:///run/a.sock?x=y#z", "/run/a.sock"},
    };
    static const char *const bad[] = {
        "",          "unix:",        "unix://",       "unix:///",        "unix://host",
        "unix:a/b",  "tcp://h:1",    "/run/a.sock",   "unix:///run/%zz", "unix:///run/%2",
        "unix:///%", "unix:///a%00", "http:///run/x", "unix://host?/x",
    };
    char longest[200] = "unix:///";
    struct net_url u;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_int_equal(plugin_endpoint_parse(good[i].endpoint, &u), ERR_OK);
        assert_string_equal(u.host, good[i].path);
        assert_true(u.is_unix);
        assert_false(u.is_tls);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(plugin_endpoint_parse(bad[i], &u), ERR_CONFIG);
    memset(longest + 8, 'x', 106);
    assert_int_equal(plugin_endpoint_parse(longest, &u), ERR_OK); /* 107 bytes and a NUL */
    longest[8 + 106] = 'x';
    assert_int_equal(plugin_endpoint_parse(longest, &u), ERR_CONFIG);
}

static int group_setup(void **state)
{
    (void)state;
    return secret_init() == ERR_OK ? 0 : -1;
}

/* A new version of the KMS API without its table would be found out by the first provider of it. */
static void every_kms_kind_has_its_operations(void **state)
{
    unsigned count = 0;

    (void)state;
    for (unsigned k = PROVIDER_NONE; k <= PROVIDER_SECRETBOX; k++) {
        const struct provider provider = {.kind = (enum provider_kind)k, .name = "one"};
        const struct kms_plugin_opts o = {.provider = &provider, .endpoint = f.fake.endpoint};
        const struct provider_traits *t = provider_traits(&provider);
        struct plugin p;

        if (!t->is_kms)
            continue;
        count++;
        assert_int_equal(plugin_init(&p, &f.loop, &o), ERR_OK);
        assert_int_equal(p.ops->wrap != NULL, t->has_dek_per_value);
        assert_true(p.ops->check != NULL && p.ops->decrypt != NULL && p.ops->note_cache != NULL);
        assert_true(p.ops->decrypt_write != NULL && p.ops->decrypt_read != NULL &&
                    p.ops->decrypt_fini != NULL);
        plugin_fini(&p);
    }
    assert_int_equal(count, 2);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_kms_kind_has_its_operations),
        cmocka_unit_test(endpoints),
        TEST(first_check_comes_by_itself_and_makes_a_dek),
        TEST(the_same_key_id_only_extends),
        TEST(a_new_key_id_makes_a_new_seed_and_back_a_third),
        TEST(what_encrypt_answers_wrongly_is_thrown_away),
        TEST(bad_status_answers),
        TEST(annotations_go_into_the_dek),
        TEST(a_plugin_that_comes_back_is_found),
        TEST(checks_do_not_overlap),
        TEST(polls_after_10_s_while_bad_and_60_s_while_good),
        TEST(verdicts_on_decrypt_answers),
    };

    return cmocka_run_group_tests(tests, group_setup, NULL);
}
