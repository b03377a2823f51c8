/* SPDX-License-Identifier: Apache-2.0 */
/* Each allocation of manager, key ring, plugin and of the connection below them fails in turn,
 * secret memory included: a wait ends once, a check ends, nothing is left behind, and the next of
 * its kind is served. The fake plugin runs on a thread of its own, whose memory does not run out.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/secret.h"
#include "failing_alloc.h"
#include "fake_plugin.h"
#include "kms/manager.h"
#include "kms/plugin_int.h"

#define TRIES_MAX 500u

/* --- the fake plugin's thread ----------------------------------------------------------------- */

static struct {
    pthread_t thread;
    pthread_barrier_t is_ready;
    struct loop loop;
    struct mailbox box;
    struct fake_plugin fake;
    const char *version;
} peer;

static void *peer_main(void *arg)
{
    (void)arg;
    CHECK(loop_init(&peer.loop) == ERR_OK && mailbox_init(&peer.box, &peer.loop) == ERR_OK);
    fake_start(&peer.fake, &peer.loop);
    peer.fake.version = peer.version;
    (void)pthread_barrier_wait(&peer.is_ready);
    loop_run(&peer.loop);
    mailbox_fini(&peer.box);
    fake_fini(&peer.fake);
    loop_fini(&peer.loop);
    return NULL;
}

static void peer_stop(struct mail *self, bool delivered)
{
    (void)self;
    CHECK(delivered);
    fake_stop(&peer.fake);
    mailbox_close(&peer.box);
    loop_stop(&peer.loop);
}

/* --- this side -------------------------------------------------------------------------------- */

static struct loop loop;
static struct mailbox worker_box;
static struct provider provider;
static struct kms_manager *manager;
static struct keyring *ring;

static int setup(enum provider_kind kind)
{
    provider = (struct provider){.kind = kind, .name = "fake"};
    peer.version = kind == PROVIDER_KMS_V1 ? "v1beta1" : "v2";
    if (pthread_barrier_init(&peer.is_ready, NULL, 2) != 0 ||
        pthread_create(&peer.thread, NULL, peer_main, NULL) != 0)
        return -1;
    (void)pthread_barrier_wait(&peer.is_ready);
    return loop_init(&loop) == ERR_OK && mailbox_init(&worker_box, &loop) == ERR_OK ? 0 : -1;
}

static int setup_v1(void **state)
{
    (void)state;
    return setup(PROVIDER_KMS_V1);
}

static int setup_v2(void **state)
{
    (void)state;
    return setup(PROVIDER_KMS_V2);
}

static int teardown(void **state)
{
    struct mail stop = {.deliver = peer_stop};

    (void)state;
    mailbox_post(&peer.box, &stop);
    (void)pthread_join(peer.thread, NULL);
    (void)pthread_barrier_destroy(&peer.is_ready);
    mailbox_close(&worker_box);
    loop_stop(&loop);
    loop_run(&loop);
    mailbox_fini(&worker_box);
    loop_fini(&loop);
    return 0;
}

static void until(const bool *flag)
{
    uint64_t end = loop_hrtime_ns() + 30ull * 1000000000;

    while (!*flag) {
        CHECK(loop_hrtime_ns() < end);
        uv_run(&loop.uv, UV_RUN_ONCE);
    }
}

static void set_flag(void *arg)
{
    *(bool *)arg = true;
}

/* --- manager and ring ------------------------------------------------------------------------- */

static enum err open_manager(void)
{
    struct kms_plugin_opts plugin = {
        .provider = &provider, .endpoint = peer.fake.endpoint, .timeout_ms = 1000};
    struct kms_manager_opts o = {.loop = &loop, .plugins = &plugin, .plugin_count = 1};

    manager = NULL;
    ring = NULL;
    TRY(kms_manager_new(&o, &manager));
    TRY(keyring_new(&loop, kms_manager_mailbox(manager), &worker_box, 1, &ring));
    return kms_manager_join(manager, &worker_box, ring);
}

static void close_manager(void)
{
    bool is_closed = false;

    if (ring != NULL) {
        kms_manager_leave(manager, ring);
        keyring_free(ring);
    }
    if (manager != NULL) {
        kms_manager_close(manager, set_flag, &is_closed);
        until(&is_closed);
    }
    uv_run(&loop.uv,
           UV_RUN_NOWAIT); /* a manager that was not made goes with the loop's next turn */
}

static enum err make_once(void)
{
    enum err e = open_manager();

    alloc_pause(true);
    close_manager();
    return e;
}

static void making_them(void **state)
{
    (void)state;
    assert_true(alloc_fail_each(make_once, NULL) > 9);
}

struct waiter {
    struct key_wait wait;
    bool is_done;
};

static void on_done(struct key_wait *wait)
{
    struct waiter *w = CONTAINER_OF(wait, struct waiter, wait);

    assert_false(w->is_done);
    assert_int_equal(wait->err == ERR_OK, wait->dek != NULL);
    w->is_done = true;
}

/* Ends the wait, whatever it began with. Returns its error. */
static enum err finish(struct waiter *w, enum err began)
{
    enum err e = began;

    if (began == ERR_AGAIN) {
        until(&w->is_done);
        e = w->wait.err;
    }
    if (e == ERR_OK) {
        keyring_confirm(ring, &provider, w->wait.dek);
        dek_drop(w->wait.dek);
    }
    return e;
}

static enum err read_once(unsigned number)
{
    struct waiter w = {.wait.on_done = on_done};
    char wrapped[33];
    struct dek_id id = {.type = DEK_HKDF_SEED, .key_id = BYTES_LIT("kek")};

    if (provider.kind == PROVIDER_KMS_V1)
        id = (struct dek_id){.type = DEK_KMS_V1_KEY};
    snprintf(wrapped, sizeof wrapped, "%032u", number);
    id.wrapped = bytes_of((const uint8_t *)wrapped, 32);
    return finish(&w, keyring_get(ring, &provider, &id, &w.wait));
}

static enum err write_once(unsigned number)
{
    struct waiter w = {.wait.on_done = on_done};

    (void)number;
    return finish(&w, keyring_wrap(ring, &provider, &w.wait));
}

static void open_healthy_manager(void)
{
    struct kms_plugin_state s;
    bool is_primed = false;

    assert_int_equal(open_manager(), ERR_OK);
    kms_manager_on_primed(manager, set_flag, &is_primed);
    until(&is_primed);
    kms_manager_state(manager, 0, &s);
    assert_true(s.is_healthy);
}

/* Where the connection failed for want of memory a read waits for the next one, and a write is
 * told that the plugin is away. */
static void fail_each(enum err (*once)(unsigned number))
{
    bool has_failed = true;
    unsigned number = 0;
    size_t n;

    open_healthy_manager();
    assert_int_equal(once(number++), ERR_OK); /* what is allocated once only is there */
    for (n = 1; has_failed && n < TRIES_MAX; n++) {
        enum err e;

        alloc_fail_once(n);
        e = once(number++);
        has_failed = alloc_recover();
        assert_true(e == ERR_OK || (has_failed && (e == ERR_NOMEM || e == ERR_KMS_AWAY)));
        while (e == ERR_KMS_AWAY) /* writes are not tried again: until the connection is back */
            e = once(number++);
        assert_int_equal(once(number++), ERR_OK);
    }
    assert_true(n > 5 && n < TRIES_MAX);
    close_manager();
}

static void reading(void **state)
{
    (void)state;
    fail_each(read_once);
}

static void writing(void **state)
{
    (void)state;
    fail_each(write_once);
}

/* --- checks ----------------------------------------------------------------------------------- */

static bool is_checked;

static void on_checked(struct plugin *p, bool has_changed)
{
    (void)has_changed;
    is_checked = p->life.phase == LIFECYCLE_IDLE;
}

static void on_no_room(struct plugin *p)
{
    (void)p;
}

static void check(struct plugin *p)
{
    is_checked = false;
    plugin_check(p);
    until(&is_checked);
    assert_null(p->seed);
    assert_null(p->call);
}

/* The plugin never leaves the check half done, nor keeps a DEK that it did not have wrapped. */
static void checking(void **state)
{
    struct kms_plugin_opts o = {
        .provider = &provider, .endpoint = peer.fake.endpoint, .timeout_ms = 1000};
    bool has_failed = true;
    size_t n;

    (void)state;
    for (n = 1; has_failed && n < TRIES_MAX; n++) {
        struct plugin p;

        assert_int_equal(plugin_init(&p, &loop, &o), ERR_OK);
        p.on_checked = on_checked;
        p.on_no_room = on_no_room;
        alloc_fail_once(n);
        check(&p);
        has_failed = alloc_recover();
        assert_true(has_failed || p.life.is_healthy);
        while (!p.life.is_healthy) /* until there is a connection again */
            check(&p);
        assert_int_equal(p.dek != NULL, provider.kind == PROVIDER_KMS_V2);
        plugin_fini(&p);
    }
    assert_true(n > 10 && n < TRIES_MAX);
}

static int group_setup(void **state)
{
    (void)state;
    return secret_init() == ERR_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(making_them, setup_v2, teardown),
        cmocka_unit_test_setup_teardown(checking, setup_v2, teardown),
        cmocka_unit_test_setup_teardown(reading, setup_v2, teardown),
        cmocka_unit_test_setup_teardown(checking, setup_v1, teardown),
        cmocka_unit_test_setup_teardown(reading, setup_v1, teardown),
        cmocka_unit_test_setup_teardown(writing, setup_v1, teardown),
    };

    return cmocka_run_group_tests(tests, group_setup, NULL);
}
