/* SPDX-License-Identifier: Apache-2.0 */
/* KMS v1 from key ring to plugin: a DEK for every write, which waits for nothing but the plugin's
 * first answer and no longer than the plugin's timeout; old DEKs, of which as many are kept as the
 * configuration says. One loop, and the test's clock. (KMS v2: test_manager.c.) */
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
#include "kms/manager.h"

#define RINGS 2
#define TIMEOUT_MS 1000u
#define SECRET_A "an old wrapped DEK in the vault."
#define SECRET_B "another old DEK that is wrapped."
#define SECRET_C "a third old one of 32 bytes here"

static struct loop loop;
static struct mailbox worker_box;
static struct fake_plugin fake;
static struct provider provider;
static struct kms_manager *manager;
static struct keyring *rings[RINGS];
static bool is_primed, is_closed;
static unsigned done_count;

struct waiter {
    struct key_wait wait;
    uint64_t began_ms, took_ms;
    bool is_done;
};

static void on_done(struct key_wait *wait)
{
    struct waiter *w = CONTAINER_OF(wait, struct waiter, wait);

    assert_false(w->is_done);
    assert_int_equal(wait->err == ERR_OK, wait->dek != NULL);
    w->is_done = true;
    w->took_ms = loop_now_ms(&loop) - w->began_ms;
    done_count++;
}

static void wrap(int ring, struct waiter *w)
{
    *w = (struct waiter){.wait.on_done = on_done, .began_ms = loop_now_ms(&loop)};
    assert_int_equal(keyring_wrap(rings[ring], &provider, &w->wait), ERR_AGAIN);
}

static enum err get(int ring, const char *wrapped, struct waiter *w)
{
    struct dek_id id = {.type = DEK_KMS_V1_KEY, .wrapped = bytes_str(wrapped)};

    *w = (struct waiter){.wait.on_done = on_done, .began_ms = loop_now_ms(&loop)};
    return keyring_get(rings[ring], &provider, &id, &w->wait);
}

static void drop(struct waiter *w)
{
    dek_drop(w->wait.dek);
    w->wait.dek = NULL;
}

/* Opens a value with the DEK, so that it is kept. Returns the number of Decrypt calls that it took.
 */
static unsigned read_value(int ring, const char *wrapped)
{
    unsigned before = fake.decrypt.calls;
    struct waiter w;

    if (get(ring, wrapped, &w) == ERR_AGAIN)
        fake_clock_until(&loop, &w.is_done);
    assert_int_equal(w.wait.err, ERR_OK);
    keyring_confirm(rings[ring], &provider, w.wait.dek);
    drop(&w);
    fake_clock_pass(&loop, 0);
    return fake.decrypt.calls - before;
}

static unsigned write_value(int ring)
{
    unsigned before = fake.encrypt.calls;
    struct waiter w;

    wrap(ring, &w);
    fake_clock_until(&loop, &w.is_done);
    assert_int_equal(w.wait.err, ERR_OK);
    drop(&w);
    return fake.encrypt.calls - before;
}

/* --- life ------------------------------------------------------------------------------------- */

static void set_flag(void *arg)
{
    *(bool *)arg = true;
}

static void open_manager(void)
{
    struct kms_plugin_opts plugin = {
        .provider = &provider, .endpoint = fake.endpoint, .timeout_ms = TIMEOUT_MS};
    struct kms_manager_opts o = {.loop = &loop, .plugins = &plugin, .plugin_count = 1};

    assert_int_equal(kms_manager_new(&o, &manager), ERR_OK);
    kms_manager_on_primed(manager, set_flag, &is_primed);
    for (int i = 0; i < RINGS; i++) {
        assert_int_equal(
            keyring_new(&loop, kms_manager_mailbox(manager), &worker_box, 1, &rings[i]), ERR_OK);
        assert_int_equal(kms_manager_join(manager, &worker_box, rings[i]), ERR_OK);
    }
}

static int open_with(enum fake_how version)
{
    done_count = 0;
    is_primed = is_closed = false;
    provider = (struct provider){.kind = PROVIDER_KMS_V1, .name = "old", .cache_size = 2};
    if (loop_init(&loop) != ERR_OK || mailbox_init(&worker_box, &loop) != ERR_OK)
        return -1;
    fake_start(&fake, &loop);
    fake.version = "v1beta1";
    fake.status.how = version;
    fake.status.code = GRPC_UNAVAILABLE;
    open_manager();
    fake_clock_until(&loop, &is_primed);
    fake_clock_pass(&loop, 0);
    return 0;
}

static int setup(void **state)
{
    (void)state;
    return open_with(FAKE_ANSWERS);
}

static int setup_ill(void **state)
{
    (void)state;
    return open_with(FAKE_FAILS);
}

static void ring_free(int i)
{
    if (rings[i] == NULL)
        return;
    kms_manager_leave(manager, rings[i]);
    keyring_free(rings[i]);
    rings[i] = NULL;
}

static int teardown(void **state)
{
    (void)state;
    for (int i = 0; i < RINGS; i++)
        ring_free(i);
    kms_manager_close(manager, set_flag, &is_closed);
    assert_false(is_closed);
    fake_clock_until(&loop, &is_closed);
    mailbox_close(&worker_box);
    fake_stop(&fake);
    loop_stop(&loop);
    loop_run(&loop);
    mailbox_fini(&worker_box);
    fake_fini(&fake);
    loop_fini(&loop);
    assert_int_equal(metric_get(METRIC_dek_cache_size), 0);
    return 0;
}

/* --- writing ---------------------------------------------------------------------------------- */

static void every_write_is_a_call_and_a_dek_of_its_own(void **state)
{
    struct waiter w[3];
    uint8_t undone[32];

    (void)state;
    assert_int_equal(fake.encrypt.calls, 1); /* the check's */
    for (int i = 0; i < 3; i++)
        wrap(i % RINGS, &w[i]);
    fake_clock_until_count(&loop, &done_count, 3);
    assert_int_equal(fake.encrypt.calls, 4);
    for (int i = 0; i < 3; i++) {
        const struct dek *dek = w[i].wait.dek;

        assert_int_equal(dek->id.type, DEK_KMS_V1_KEY);
        assert_int_equal(dek->secret_len, 32);
        fake_wrap(dek->id.wrapped.p, 32, undone);
        assert_memory_equal(undone, dek->secret, 32);
        assert_memory_not_equal(dek->secret, w[(i + 1) % 3].wait.dek->secret, 32);
    }
    for (int i = 0; i < 3; i++)
        drop(&w[i]);
}

static void there_is_no_write_key(void **state)
{
    struct dek *dek;

    (void)state;
    assert_int_equal(keyring_write_key(rings[0], &provider, &dek), ERR_NO_WRITE_KEY);
    assert_null(dek);
}

static void what_the_plugin_makes_of_it_is_the_writer_s_error(void **state)
{
    static const struct {
        enum fake_how how;
        enum grpc_status code;
        enum err want;
    } cases[] = {
        {FAKE_FAILS, GRPC_PERMISSION_DENIED, ERR_NO_WRITE_KEY},
        {FAKE_GARBAGE, GRPC_OK, ERR_NO_WRITE_KEY},
        {FAKE_LONG, GRPC_OK, ERR_NO_WRITE_KEY}, /* what is wrapped may be 8,191 bytes */
        {FAKE_ECHOES, GRPC_OK, ERR_DEK_SOURCE_EXPOSED},
        {FAKE_FAILS, GRPC_UNAVAILABLE, ERR_KMS_AWAY},
        {FAKE_HANGS_UP, GRPC_OK, ERR_KMS_AWAY},
    };
    struct waiter w;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        unsigned before = fake.encrypt.calls;

        fake.encrypt.how = cases[i].how;
        fake.encrypt.code = cases[i].code;
        wrap(0, &w);
        fake_clock_until(&loop, &w.is_done);
        assert_int_equal(w.wait.err, cases[i].want);
        assert_int_equal(fake.encrypt.calls, before + 1); /* once, whatever happens */
    }
    fake.encrypt.how = FAKE_ANSWERS;
    assert_int_equal(write_value(0), 1); /* and nothing was remembered */
}

static void a_silent_plugin_is_waited_for_as_long_as_its_timeout(void **state)
{
    struct waiter w;

    (void)state;
    fake.encrypt.how = FAKE_SILENT;
    wrap(0, &w);
    fake_clock_until(&loop, &w.is_done);
    assert_int_equal(w.wait.err, ERR_KMS_AWAY);
    assert_int_equal(w.took_ms, TIMEOUT_MS);
}

/* 64 calls at a time; the others wait their turn, and their time runs meanwhile. */
static void writes_beyond_the_bound_of_calls_wait_within_their_time(void **state)
{
    static struct waiter w[200];
    unsigned made = 0;

    (void)state;
    fake.encrypt.delay_ms = TIMEOUT_MS * 2 / 5;
    for (unsigned i = 0; i < ARRAY_LEN(w); i++)
        wrap((int)i % RINGS, &w[i]);
    fake_clock_until_count(&loop, &done_count, ARRAY_LEN(w));
    for (unsigned i = 0; i < ARRAY_LEN(w); i++) {
        assert_true(w[i].took_ms <= TIMEOUT_MS + 50);
        made += w[i].wait.err == ERR_OK;
        assert_true(w[i].wait.err == ERR_OK || w[i].wait.err == ERR_KMS_AWAY);
        drop(&w[i]);
    }
    assert_int_equal(fake.encrypt.peak, 64);
    assert_int_equal(made, 2 * 64); /* two rounds fit into the time */
}

static void a_plugin_that_was_never_reached_parks_writes_until_its_timeout(void **state)
{
    struct waiter w;

    (void)state;
    wrap(0, &w);
    fake_clock_until(&loop, &w.is_done);
    assert_int_equal(w.wait.err, ERR_NO_STATE);
    assert_in_range(w.took_ms, TIMEOUT_MS, TIMEOUT_MS + 50); /* a tick of the queue later */
    assert_int_equal(fake.encrypt.calls, 0);
}

static void parked_writes_go_on_with_the_first_good_version(void **state)
{
    struct waiter a, b;
    unsigned checks = fake.status.calls;

    (void)state;
    wrap(0, &a);
    wrap(1, &b);
    fake_clock_pass(&loop, 100);
    assert_int_equal(done_count, 0);
    fake.status.how = FAKE_ANSWERS; /* who waits has it checked again, within half a second */
    fake_clock_until_count(&loop, &done_count, 2);
    assert_int_equal(a.wait.err, ERR_OK);
    assert_int_equal(b.wait.err, ERR_OK);
    assert_true(a.took_ms < TIMEOUT_MS);
    assert_int_equal(fake.status.calls, checks + 1);
    assert_int_equal(fake.encrypt.calls, 3); /* the check's, too */
    drop(&a);
    drop(&b);
}

static void a_parked_write_may_be_cancelled(void **state)
{
    struct waiter a, b;

    (void)state;
    wrap(0, &a);
    wrap(0, &b);
    fake_clock_pass(&loop, 100);
    keyring_cancel(&a.wait);
    fake.status.how = FAKE_ANSWERS;
    fake_clock_until(&loop, &b.is_done);
    fake_clock_pass(&loop, 2 * TIMEOUT_MS);
    assert_int_equal(done_count, 1);
    drop(&b);
}

static void a_write_may_be_cancelled_while_the_plugin_wraps(void **state)
{
    struct waiter w;

    (void)state;
    fake.encrypt.how = FAKE_SILENT;
    wrap(0, &w);
    fake_clock_until_count(&loop, &fake.encrypt.calls, 2);
    keyring_cancel(&w.wait);
    fake_speak(&fake);
    fake_clock_pass(&loop, 2 * TIMEOUT_MS);
    assert_int_equal(done_count, 0);
    fake.encrypt.how = FAKE_ANSWERS;
    assert_int_equal(write_value(0), 1);
}

/* --- who is gone ------------------------------------------------------------------------------ */

static void a_ring_may_go_while_its_writes_are_parked(void **state)
{
    struct waiter a, b;

    (void)state;
    wrap(0, &a);
    wrap(1, &b);
    fake_clock_pass(&loop, 100);
    keyring_cancel(&a.wait);
    ring_free(0);
    fake.status.how = FAKE_ANSWERS;
    fake_clock_until(&loop, &b.is_done);
    assert_int_equal(b.wait.err, ERR_OK);
    drop(&b);
}

static void a_ring_may_go_while_the_plugin_wraps_and_unwraps_for_it(void **state)
{
    struct waiter write, read, other;

    (void)state;
    fake.encrypt.how = fake.decrypt.how = FAKE_SILENT;
    fake.decrypt.calls = 0;
    wrap(0, &write);
    assert_int_equal(get(0, SECRET_A, &read), ERR_AGAIN);
    assert_int_equal(get(1, SECRET_A, &other), ERR_AGAIN);
    fake_clock_until_count(&loop, &fake.decrypt.calls, 1);
    keyring_cancel(&write.wait);
    keyring_cancel(&read.wait);
    ring_free(0);
    fake_speak(&fake);
    fake_clock_until(&loop, &other.is_done);
    assert_int_equal(other.wait.err, ERR_OK);
    assert_int_equal(done_count, 1);
    drop(&other);
}

/* Teardown closes the manager with all of this under way. */
static void closing_with_writes_queued_and_called(void **state)
{
    static struct waiter w[100];

    (void)state;
    fake.encrypt.how = FAKE_SILENT;
    for (unsigned i = 0; i < ARRAY_LEN(w); i++)
        wrap(0, &w[i]);
    fake_clock_until_count(&loop, &fake.encrypt.calls, 65);
    for (unsigned i = 0; i < ARRAY_LEN(w); i++)
        keyring_cancel(&w[i].wait);
}

static void closing_with_writes_parked(void **state)
{
    struct waiter w;

    (void)state;
    wrap(0, &w);
    fake_clock_pass(&loop, 100);
    keyring_cancel(&w.wait);
}

/* --- reading ---------------------------------------------------------------------------------- */

static void as_many_deks_are_kept_as_configured(void **state)
{
    (void)state;
    assert_int_equal(read_value(0, SECRET_A), 1);
    assert_int_equal(read_value(0, SECRET_B), 1);
    assert_int_equal(metric_get(METRIC_dek_cache_size), 2);
    assert_int_equal(read_value(0, SECRET_A), 0);
    assert_int_equal(read_value(1, SECRET_A), 0); /* of the manager, for the other ring */
    assert_int_equal(read_value(0, SECRET_C), 1);
    assert_int_equal(metric_get(METRIC_dek_cache_size), 2);
    assert_int_equal(read_value(0, SECRET_C), 0);
}

static void a_dek_that_was_made_for_a_write_is_not_kept(void **state)
{
    (void)state;
    assert_int_equal(write_value(0), 1);
    assert_int_equal(metric_get(METRIC_dek_cache_size), 0);
    assert_int_equal(write_value(0), 1);
}

static void a_wrong_size_is_refused_and_remembered(void **state)
{
    struct waiter w;

    (void)state;
    fake.decrypt.how = FAKE_SHORT;
    assert_int_equal(get(0, SECRET_A, &w), ERR_AGAIN);
    fake_clock_until(&loop, &w.is_done);
    assert_int_equal(w.wait.err, ERR_BAD_DEK_SIZE);
    assert_int_equal(get(0, SECRET_A, &w), ERR_BAD_DEK_SIZE);
    fake.decrypt.how = FAKE_ANSWERS;
    fake_clock_pass(&loop, LIMIT_NEGATIVE_MS);
    assert_int_equal(read_value(0, SECRET_A), 1);
}

static void reads_outwait_an_outage_that_writes_do_not(void **state)
{
    struct waiter read, write;

    (void)state;
    fake_gone(&fake);
    fake_clock_pass(&loop, 10);
    assert_int_equal(get(0, SECRET_A, &read), ERR_AGAIN);
    wrap(0, &write);
    fake_clock_until(&loop, &write.is_done);
    assert_int_equal(write.wait.err, ERR_KMS_AWAY);
    assert_false(read.is_done);
    fake_clock_pass(&loop, 3000);
    fake_listen(&fake);
    fake_clock_until(&loop, &read.is_done);
    assert_int_equal(read.wait.err, ERR_OK);
    assert_true(read.took_ms < LIMIT_KEY_WAIT_MS);
    drop(&read);
}

/* --- who asks --------------------------------------------------------------------------------- */

#define GREEDY 128

static struct key_asker askers[2];
static struct waiter greedy[GREEDY];
static struct dek_id greedy_ids[GREEDY];
static char greedy_names[GREEDY][33];

static void be_greedy(void)
{
    for (int i = 0; i < 2; i++)
        key_asker_init(&askers[i], &loop, (uint64_t)i + 1);
    for (int i = 0; i < GREEDY; i++) {
        (void)snprintf(greedy_names[i], sizeof greedy_names[i], "a wrapped DEK of 32 bytes   %4d",
                       i);
        greedy_ids[i] =
            (struct dek_id){.type = DEK_KMS_V1_KEY, .wrapped = bytes_str(greedy_names[i])};
        greedy[i] = (struct waiter){.wait = {.on_done = on_done, .asker = &askers[0]},
                                    .began_ms = loop_now_ms(&loop)};
        assert_int_equal(keyring_get(rings[0], &provider, &greedy_ids[i], &greedy[i].wait),
                         ERR_AGAIN);
    }
    fake_clock_pass(&loop, 0);
}

static void end_greedy(void)
{
    for (int i = 0; i < GREEDY; i++) {
        keyring_cancel(&greedy[i].wait);
        drop(&greedy[i]);
    }
    for (int i = 0; i < 2; i++)
        key_asker_fini(&askers[i]);
}

/* 64 calls take 400 ms; without turns the second asker would be the 129th, and wait for 1,200. */
static void askers_take_turns(void **state)
{
    struct waiter w = {.wait = {.on_done = on_done, .asker = &askers[1]}};
    struct dek_id id = {.type = DEK_KMS_V1_KEY, .wrapped = BYTES_LIT(SECRET_A)};

    (void)state;
    fake.decrypt.delay_ms = 400;
    be_greedy();
    w.began_ms = loop_now_ms(&loop);
    assert_int_equal(keyring_get(rings[1], &provider, &id, &w.wait), ERR_AGAIN);
    fake_clock_until(&loop, &w.is_done);
    assert_int_equal(w.wait.err, ERR_OK);
    assert_in_range(w.took_ms, 400, 850);
    drop(&w);
    end_greedy();
}

static void what_nobody_waits_for_any_more_is_not_called(void **state)
{
    unsigned before = fake.decrypt.calls;

    (void)state;
    fake.decrypt.delay_ms = 400;
    be_greedy();
    fake_clock_until_count(&loop, &fake.decrypt.calls, before + 64);
    end_greedy();
    fake_clock_pass(&loop, 2000);
    assert_int_equal(fake.decrypt.calls, before + 64);
}

/* Given up and asked for again while it is queued: it is called after all, once. */
static void what_is_asked_for_again_is_called(void **state)
{
    struct waiter w = {.wait = {.on_done = on_done}};
    unsigned before = fake.decrypt.calls;

    (void)state;
    fake.decrypt.delay_ms = 400;
    be_greedy();
    keyring_cancel(&greedy[100].wait);
    fake_clock_pass(&loop, 0);
    assert_int_equal(keyring_get(rings[0], &provider, &greedy_ids[100], &w.wait), ERR_AGAIN);
    fake_clock_until(&loop, &w.is_done);
    assert_int_equal(w.wait.err, ERR_OK);
    drop(&w);
    fake_clock_pass(&loop, 1000);
    assert_int_equal(fake.decrypt.calls, before + GREEDY);
    end_greedy();
}

static int group_setup(void **state)
{
    (void)state;
    return secret_init() == ERR_OK ? 0 : -1;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define TEST_ILL(name) cmocka_unit_test_setup_teardown(name, setup_ill, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_write_is_a_call_and_a_dek_of_its_own),
        TEST(there_is_no_write_key),
        TEST(what_the_plugin_makes_of_it_is_the_writer_s_error),
        TEST(a_silent_plugin_is_waited_for_as_long_as_its_timeout),
        TEST(writes_beyond_the_bound_of_calls_wait_within_their_time),
        TEST_ILL(a_plugin_that_was_never_reached_parks_writes_until_its_timeout),
        TEST_ILL(parked_writes_go_on_with_the_first_good_version),
        TEST_ILL(a_parked_write_may_be_cancelled),
        TEST(a_write_may_be_cancelled_while_the_plugin_wraps),
        TEST_ILL(a_ring_may_go_while_its_writes_are_parked),
        TEST(a_ring_may_go_while_the_plugin_wraps_and_unwraps_for_it),
        TEST(closing_with_writes_queued_and_called),
        TEST_ILL(closing_with_writes_parked),
        TEST(as_many_deks_are_kept_as_configured),
        TEST(a_dek_that_was_made_for_a_write_is_not_kept),
        TEST(a_wrong_size_is_refused_and_remembered),
        TEST(reads_outwait_an_outage_that_writes_do_not),
        TEST(askers_take_turns),
        TEST(what_nobody_waits_for_any_more_is_not_called),
        TEST(what_is_asked_for_again_is_called),
    };

    return cmocka_run_group_tests(tests, group_setup, NULL);
}
