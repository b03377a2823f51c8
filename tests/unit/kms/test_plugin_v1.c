/* SPDX-License-Identifier: Apache-2.0 */
/* One KMS v1 plugin against a fake one: its checks (Version once, then Encrypt and Decrypt), when
 * the next one comes, DEKs made and wrapped for one value, DEKs unwrapped. */
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
#include "fake_clock.h"
#include "fake_plugin.h"
#include "kms/plugin_int.h"

#define TIMEOUT_MS 300u
#define LATER 1000000u /* more than any time limit of a call */

static struct loop loop;
static struct fake_plugin fake;
static struct provider provider;
static struct plugin plugin;
static unsigned checks, changes;

static void on_checked(struct plugin *p, bool has_changed)
{
    assert_ptr_equal(p, &plugin);
    checks += p->life.phase == LIFECYCLE_IDLE; /* else it was reached, and the check goes on */
    changes += has_changed;
}

static void on_no_room(struct plugin *p)
{
    (void)p;
}

static int setup(void **state)
{
    struct kms_plugin_opts o = {.provider = &provider, .timeout_ms = TIMEOUT_MS};

    (void)state;
    checks = changes = 0;
    provider = (struct provider){.kind = PROVIDER_KMS_V1, .name = "old"};
    if (loop_init(&loop) != ERR_OK)
        return -1;
    fake_start(&fake, &loop);
    fake.version = "v1beta1";
    o.endpoint = fake.endpoint;
    if (plugin_init(&plugin, &loop, &o) != ERR_OK)
        return -1;
    plugin.on_checked = on_checked;
    plugin.on_no_room = on_no_room;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    plugin_fini(&plugin);
    fake_stop(&fake);
    loop_stop(&loop);
    loop_run(&loop);
    fake_fini(&fake);
    loop_fini(&loop);
    return 0;
}

static void first_check(void)
{
    fake_clock_until_count(&loop, &checks, 1);
}

static void check(void)
{
    unsigned before = checks;

    plugin_check(&plugin);
    fake_clock_until_count(&loop, &checks, before + 1);
}

static void expect_bad(const char *section, const char *why)
{
    char text[64];

    snprintf(text, sizeof text, "failed to perform %s section", section);
    assert_false(plugin.life.is_healthy);
    assert_null(plugin.seed);
    assert_null(plugin.call);
    if (strstr(plugin.life.why, text) == NULL || strstr(plugin.life.why, why) == NULL)
        fail_msg("%s, %s: not in: %s", text, why, plugin.life.why);
}

/* --- checks ----------------------------------------------------------------------------------- */

static void the_first_check_asks_version_then_wraps_and_unwraps(void **state)
{
    (void)state;
    first_check();
    assert_true(plugin.life.is_healthy);
    assert_true(plugin.life.has_state);
    assert_int_equal(fake.status.calls, 1);
    assert_int_equal(fake.encrypt.calls, 1);
    assert_int_equal(fake.decrypt.calls, 1);
    assert_string_equal(fake.last_path, "/v1beta1.KeyManagementService/Decrypt");
    assert_string_equal(fake.last_authority, "localhost");
    assert_int_equal(changes, 1);
    assert_null(plugin.dek); /* there is no DEK of its own */
    assert_null(plugin.seed);
}

static void the_version_is_asked_until_it_was_right_once(void **state)
{
    (void)state;
    fake.version = "v1";
    first_check();
    expect_bad("encrypt", "version v1 is not supported, only v1beta1 is supported");
    fake.status.how = FAKE_FAILS;
    fake.status.code = GRPC_UNIMPLEMENTED;
    check();
    expect_bad("encrypt", "failed get version from remote KMS provider: rpc error: code = "
                          "Unimplemented desc = to order");
    fake.status.how = FAKE_GARBAGE;
    check();
    expect_bad("encrypt", "failed get version from remote KMS provider: malformed answer");
    fake.status.how = FAKE_EMPTY;
    check();
    expect_bad("encrypt", "version  is not supported");
    fake.status.how = FAKE_SILENT;
    check();
    expect_bad("encrypt", "DeadlineExceeded");
    fake.status.how = FAKE_HANGS_UP;
    check();
    expect_bad("encrypt", "Unavailable");
    assert_false(plugin.life.has_state);
    assert_int_equal(changes, 0);
    assert_int_equal(fake.encrypt.calls, 0);

    fake.status.how = FAKE_ANSWERS;
    fake.version = "v1beta1";
    check();
    assert_true(plugin.life.is_healthy);
    assert_int_equal(changes, 1);
    assert_int_equal(fake.status.calls, 7);
    fake.version = "v2";
    check();
    assert_true(plugin.life.is_healthy);
    assert_int_equal(fake.status.calls, 7);
    assert_int_equal(changes, 1);
}

static void what_is_said_of_a_version_is_printable(void **state)
{
    (void)state;
    fake.version = "v1\n\"x\"";
    first_check();
    expect_bad("encrypt", "version v1?'x' is not supported");
}

static void a_bad_encrypt_ends_the_check(void **state)
{
    (void)state;
    first_check();
    fake.decrypt.calls = 0;
    fake.encrypt.how = FAKE_FAILS;
    fake.encrypt.code = GRPC_INTERNAL;
    check();
    expect_bad("encrypt", "rpc error: code = Internal desc = to order");
    fake.encrypt.how = FAKE_GARBAGE;
    check();
    expect_bad("encrypt", "malformed answer");
    fake.encrypt.how = FAKE_OVERSIZE;
    check();
    expect_bad("encrypt", "the answer is larger than 64 KiB");
    fake.encrypt.how = FAKE_RESETS;
    check();
    expect_bad("encrypt", "rpc error");
    fake.encrypt.how = FAKE_SILENT;
    check();
    expect_bad("encrypt", "DeadlineExceeded");
    assert_int_equal(fake.decrypt.calls, 0);
    assert_true(plugin.life.has_state); /* it was reached once, and that stays */
    fake.encrypt.how = FAKE_ANSWERS;
    check();
    assert_true(plugin.life.is_healthy);
    assert_string_equal(plugin.life.why, "");
}

static void a_plugin_that_wraps_nothing_is_unhealthy(void **state)
{
    uint64_t before = metric_refused_get(ERR_DEK_SOURCE_EXPOSED);

    (void)state;
    fake.encrypt.how = FAKE_ECHOES;
    first_check();
    expect_bad("encrypt", "the answer of Encrypt holds the DEK source itself");
    assert_int_equal(fake.decrypt.calls, 0);
    assert_int_equal(metric_refused_get(ERR_DEK_SOURCE_EXPOSED), before + 1);
}

static void an_empty_wrapped_dek_is_none(void **state)
{
    (void)state;
    fake.encrypt.how = FAKE_EMPTY;
    first_check();
    expect_bad("encrypt", "malformed answer");
    assert_int_equal(fake.decrypt.calls, 0);
}

static void a_bad_decrypt_ends_the_check(void **state)
{
    (void)state;
    fake.decrypt.how = FAKE_ECHOES;
    first_check();
    expect_bad("decrypt", "it does not give back what was encrypted");
    fake.decrypt.how = FAKE_SHORT;
    check();
    expect_bad("decrypt", "it does not give back what was encrypted");
    fake.decrypt.how = FAKE_EMPTY;
    check();
    expect_bad("decrypt", "it does not give back what was encrypted");
    fake.decrypt.how = FAKE_GARBAGE;
    check();
    expect_bad("decrypt", "it does not give back what was encrypted");
    fake.decrypt.how = FAKE_FAILS;
    fake.decrypt.code = GRPC_PERMISSION_DENIED;
    check();
    expect_bad("decrypt", "code = PermissionDenied desc = to order");
    fake.decrypt.how = FAKE_HANGS_UP;
    check();
    expect_bad("decrypt", "Unavailable");
    fake.decrypt.how = FAKE_ANSWERS;
    check();
    assert_true(plugin.life.is_healthy);
}

/* Version and Encrypt share the first section's time; Decrypt has its own. */
static void each_section_has_the_timeout_once(void **state)
{
    uint64_t began_ms;

    (void)state;
    fake.status.delay_ms = TIMEOUT_MS - 100;
    fake.encrypt.delay_ms = 99;
    fake.decrypt.delay_ms = TIMEOUT_MS - 1;
    first_check();
    assert_true(plugin.life.is_healthy);
    fake.encrypt.delay_ms = TIMEOUT_MS - 1;
    check();
    assert_true(plugin.life.is_healthy);
    fake.decrypt.how = FAKE_SILENT;
    fake.encrypt.delay_ms = 100;
    began_ms = loop_now_ms(&loop);
    check();
    expect_bad("decrypt", "DeadlineExceeded");
    assert_int_equal(loop_now_ms(&loop) - began_ms, 100 + TIMEOUT_MS);
}

static void a_slow_version_leaves_encrypt_what_is_left(void **state)
{
    uint64_t began_ms = loop_now_ms(&loop);

    (void)state;
    fake.status.delay_ms = 200;
    fake.encrypt.how = FAKE_SILENT;
    first_check();
    expect_bad("encrypt", "DeadlineExceeded");
    assert_int_equal(loop_now_ms(&loop) - began_ms, TIMEOUT_MS);
}

static void checks_do_not_overlap(void **state)
{
    (void)state;
    fake.status.delay_ms = 50;
    plugin_check(&plugin);
    plugin_check(&plugin);
    first_check();
    assert_int_equal(fake.status.calls, 1);
    assert_int_equal(checks, 1);
}

static void after_a_good_check_there_are_no_polls(void **state)
{
    (void)state;
    first_check();
    fake_clock_pass(&loop, 24ull * 3600 * 1000);
    assert_int_equal(checks, 1);
    assert_int_equal(fake.encrypt.calls, 1);
}

static void after_a_bad_one_the_next_begins_10_s_later(void **state)
{
    uint64_t began_ms = loop_now_ms(&loop);

    (void)state;
    fake.encrypt.how = FAKE_FAILS;
    fake.encrypt.code = GRPC_UNAVAILABLE;
    first_check();
    fake_clock_pass(&loop, 9990);
    assert_int_equal(checks, 1);
    fake.encrypt.how = FAKE_ANSWERS;
    fake_clock_until_count(&loop, &checks, 2);
    assert_int_equal(loop_now_ms(&loop) - began_ms, 10000);
    assert_true(plugin.life.is_healthy);
}

static void at_rest_a_bad_check_has_no_next(void **state)
{
    (void)state;
    fake.encrypt.how = FAKE_RESETS;
    first_check();
    plugin_rest(&plugin);
    fake_clock_pass(&loop, LATER);
    assert_int_equal(checks, 1);
    assert_true(list_is_empty(&fake.conns));
}

static void closing_amid_a_check_wipes_its_secret(void **state)
{
    (void)state;
    fake.decrypt.how = FAKE_SILENT;
    fake_clock_until_count(&loop, &fake.decrypt.calls, 1);
    assert_non_null(plugin.seed);
    assert_non_null(plugin.call); /* the rest is teardown's */
}

/* --- wrapping and unwrapping ------------------------------------------------------------------ */

static unsigned answers;
static struct plugin_answer last;
static uint8_t last_secret[32];
static uint8_t last_wrapped[16384];

static void on_done(struct plugin_unwrap *u, const struct plugin_answer *a)
{
    assert_null(u->call);
    answers++;
    last = *a;
    assert_true(a->secret.n <= sizeof last_secret && a->id.wrapped.n <= sizeof last_wrapped);
    if (a->secret.n > 0)
        memcpy(last_secret, a->secret.p, a->secret.n);
    if (a->id.wrapped.n > 0)
        memcpy(last_wrapped, a->id.wrapped.p, a->id.wrapped.n);
}

static enum plugin_verdict wrap(enum fake_how how, enum grpc_status code, uint64_t max_ms)
{
    struct plugin_unwrap u = {.on_done = on_done};
    unsigned before = answers;

    fake.encrypt.how = how;
    fake.encrypt.code = code;
    assert_int_equal(plugin_wrap(&plugin, max_ms, &u), ERR_OK);
    assert_int_equal(answers, before); /* never from inside */
    fake_clock_until_count(&loop, &answers, before + 1);
    plugin_unwrap_cancel(&u);
    return last.verdict;
}

static void a_wrap_gives_a_new_secret_and_its_wrapped_form(void **state)
{
    uint8_t first[32], undone[32];

    (void)state;
    first_check();
    assert_int_equal(wrap(FAKE_ANSWERS, GRPC_OK, LATER), PLUGIN_UNWRAPPED);
    assert_int_equal(last.secret.n, 32);
    assert_int_equal(last.id.type, DEK_KMS_V1_KEY);
    assert_int_equal(last.id.wrapped.n, 32);
    fake_wrap(last_wrapped, 32, undone);
    assert_memory_equal(undone, last_secret, 32);
    memcpy(first, last_secret, 32);
    assert_int_equal(wrap(FAKE_ANSWERS, GRPC_OK, LATER), PLUGIN_UNWRAPPED);
    assert_memory_not_equal(first, last_secret, 32);
    assert_string_equal(fake.last_path, "/v1beta1.KeyManagementService/Encrypt");
}

static void verdicts_on_encrypt_answers(void **state)
{
    (void)state;
    first_check();
    assert_int_equal(wrap(FAKE_ECHOES, GRPC_OK, LATER), PLUGIN_REFUSES);
    assert_int_equal(last.err, ERR_DEK_SOURCE_EXPOSED);
    assert_int_equal(wrap(FAKE_GARBAGE, GRPC_OK, LATER), PLUGIN_REFUSES);
    assert_string_equal(last.why, "malformed answer");
    assert_int_equal(wrap(FAKE_EMPTY, GRPC_OK, LATER), PLUGIN_REFUSES); /* nobody could open it */
    assert_int_equal(wrap(FAKE_SHORT, GRPC_OK, LATER), PLUGIN_REFUSES);
    assert_int_equal(wrap(FAKE_OVERSIZE, GRPC_OK, LATER), PLUGIN_REFUSES);
    assert_int_equal(wrap(FAKE_FAILS, GRPC_PERMISSION_DENIED, LATER), PLUGIN_REFUSES);
    assert_int_equal(last.err, ERR_NO_WRITE_KEY);
    assert_string_equal(last.why, "rpc error: code = PermissionDenied desc = to order");
    assert_int_equal(wrap(FAKE_FAILS, GRPC_UNAVAILABLE, LATER), PLUGIN_AWAY);
    assert_int_equal(wrap(FAKE_FAILS, GRPC_DEADLINE_EXCEEDED, LATER), PLUGIN_AWAY);
    assert_int_equal(wrap(FAKE_HANGS_UP, GRPC_OK, LATER), PLUGIN_AWAY);
    assert_int_equal(wrap(FAKE_LONG, GRPC_OK, LATER), PLUGIN_UNWRAPPED); /* dek_new refuses it */
    assert_int_equal(last.id.wrapped.n, 9000);
}

static void a_wrap_takes_the_shorter_of_its_two_times(void **state)
{
    uint64_t began_ms;

    (void)state;
    first_check();
    began_ms = loop_now_ms(&loop);
    assert_int_equal(wrap(FAKE_SILENT, GRPC_OK, LATER), PLUGIN_AWAY);
    assert_int_equal(loop_now_ms(&loop) - began_ms, TIMEOUT_MS);
    began_ms = loop_now_ms(&loop);
    assert_int_equal(wrap(FAKE_SILENT, GRPC_OK, 40), PLUGIN_AWAY);
    assert_int_equal(loop_now_ms(&loop) - began_ms, 40);
}

static void a_cancelled_wrap_is_told_nothing(void **state)
{
    struct plugin_unwrap u = {.on_done = on_done};
    unsigned before = answers;

    (void)state;
    first_check();
    fake.encrypt.how = FAKE_SILENT;
    assert_int_equal(plugin_wrap(&plugin, LATER, &u), ERR_OK);
    fake_clock_until_count(&loop, &fake.encrypt.calls, 2);
    plugin_unwrap_cancel(&u);
    assert_null(u.secret);
    plugin_unwrap_cancel(&u); /* harmless */
    fake_speak(&fake);
    fake_clock_pass(&loop, LATER);
    assert_int_equal(answers, before);
}

static enum plugin_verdict unwrap(enum fake_how how, enum grpc_status code)
{
    const struct dek_id id = {.type = DEK_KMS_V1_KEY, .wrapped = BYTES_LIT("\x01\x02")};
    struct plugin_unwrap u = {.on_done = on_done};
    unsigned before = answers;

    fake.decrypt.how = how;
    fake.decrypt.code = code;
    assert_int_equal(plugin_unwrap(&plugin, &id, LATER, &u), ERR_OK);
    fake_clock_until_count(&loop, &answers, before + 1);
    return last.verdict;
}

static void verdicts_on_decrypt_answers(void **state)
{
    (void)state;
    first_check();
    assert_int_equal(unwrap(FAKE_ANSWERS, GRPC_OK), PLUGIN_UNWRAPPED);
    assert_int_equal(last.secret.n, 2);
    assert_memory_equal(last_secret, "\xfe\xfd", 2);
    assert_string_equal(fake.last_path, "/v1beta1.KeyManagementService/Decrypt");
    assert_int_equal(unwrap(FAKE_EMPTY, GRPC_OK), PLUGIN_UNWRAPPED);
    assert_int_equal(last.secret.n, 0);
    assert_int_equal(unwrap(FAKE_GARBAGE, GRPC_OK), PLUGIN_REFUSES);
    assert_int_equal(unwrap(FAKE_OVERSIZE, GRPC_OK), PLUGIN_REFUSES);
    assert_int_equal(unwrap(FAKE_FAILS, GRPC_NOT_FOUND), PLUGIN_REFUSES);
    assert_int_equal(unwrap(FAKE_FAILS, GRPC_UNAVAILABLE), PLUGIN_AWAY);
    assert_int_equal(unwrap(FAKE_SILENT, GRPC_OK), PLUGIN_AWAY);
}

static int group_setup(void **state)
{
    (void)state;
    return secret_init() == ERR_OK ? 0 : -1;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_first_check_asks_version_then_wraps_and_unwraps),
        TEST(the_version_is_asked_until_it_was_right_once),
        TEST(what_is_said_of_a_version_is_printable),
        TEST(a_bad_encrypt_ends_the_check),
        TEST(a_plugin_that_wraps_nothing_is_unhealthy),
        TEST(an_empty_wrapped_dek_is_none),
        TEST(a_bad_decrypt_ends_the_check),
        TEST(each_section_has_the_timeout_once),
        TEST(a_slow_version_leaves_encrypt_what_is_left),
        TEST(checks_do_not_overlap),
        TEST(after_a_good_check_there_are_no_polls),
        TEST(after_a_bad_one_the_next_begins_10_s_later),
        TEST(at_rest_a_bad_check_has_no_next),
        TEST(closing_amid_a_check_wipes_its_secret),
        TEST(a_wrap_gives_a_new_secret_and_its_wrapped_form),
        TEST(verdicts_on_encrypt_answers),
        TEST(a_wrap_takes_the_shorter_of_its_two_times),
        TEST(a_cancelled_wrap_is_told_nothing),
        TEST(verdicts_on_decrypt_answers),
    };

    return cmocka_run_group_tests(tests, group_setup, NULL);
}
