/* SPDX-License-Identifier: Apache-2.0 */
/* Key rings on threads of their own, the manager and its plugin on another: for the thread
 * sanitizer above all. Rings come and go while the plugin hangs up now and then and its key
 * rotates. */
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
#include "fake_plugin.h"
#include "kms/manager.h"

#define WORKERS 3
#define ROUNDS 12 /* rings in the life of a worker */
#define WISHES 60 /* waits in the life of a ring, a few at a time */
#define AT_A_TIME 6
#define DEKS 25

struct control {
    struct loop loop;
    struct mailbox box;
    struct fake_plugin fake;
    struct provider provider;
    struct kms_manager *manager;
    unsigned workers_left;
    bool is_closed;
};

struct worker {
    pthread_t thread;
    struct control *control;
    struct loop loop;
    struct mailbox box;
    struct keyring *ring;
    struct loop_task task;
    uint32_t random;
    unsigned rounds, wishes, pending;
    unsigned opened, away, written;
    struct wish {
        struct key_wait wait;
        struct worker *worker;
        char wrapped[33];
    } wish[AT_A_TIME];
};

enum notice_kind { NOTICE_JOIN, NOTICE_LEAVE, NOTICE_DONE };

struct notice {
    struct mail mail;
    struct control *control;
    struct worker *worker;
    struct keyring *ring;
    enum notice_kind kind;
};

/* --- control ---------------------------------------------------------------------------------- */

static void on_closed(void *arg)
{
    struct control *c = arg;

    c->is_closed = true;
    mailbox_close(&c->box);
    fake_stop(&c->fake);
    loop_stop(&c->loop);
}

static void deliver_notice(struct mail *self, bool delivered)
{
    struct notice *n = CONTAINER_OF(self, struct notice, mail);
    struct control *c = n->control;

    CHECK(delivered);
    if (n->kind == NOTICE_JOIN)
        CHECK(kms_manager_join(c->manager, &n->worker->box, n->ring) == ERR_OK);
    if (n->kind == NOTICE_LEAVE)
        kms_manager_leave(c->manager, n->ring);
    if (n->kind == NOTICE_DONE && --c->workers_left == 0)
        kms_manager_close(c->manager, on_closed, c);
    free(n);
}

static void post(struct worker *w, enum notice_kind kind)
{
    struct notice *n = calloc(1, sizeof *n);

    n->control = w->control;
    n->worker = w;
    n->ring = w->ring;
    n->kind = kind;
    n->mail.deliver = deliver_notice;
    mailbox_post(&w->control->box, &n->mail);
}

/* --- workers ---------------------------------------------------------------------------------- */

static uint32_t pick(struct worker *w, uint32_t n)
{
    w->random = w->random * 1664525u + 1013904223u;
    return (w->random >> 16) % n;
}

static void ring_open(struct worker *w)
{
    CHECK(keyring_new(&w->loop, kms_manager_mailbox(w->control->manager), &w->box, 1, &w->ring) ==
          ERR_OK);
    post(w, NOTICE_JOIN);
    w->wishes = 0;
}

/* The control thread has to be told before: it may be following the ring just now. */
static void ring_close(struct worker *w)
{
    for (int i = 0; i < AT_A_TIME; i++)
        keyring_cancel(&w->wish[i].wait);
    w->pending = 0;
    post(w, NOTICE_LEAVE);
    keyring_free(w->ring);
    w->ring = NULL;
}

static void check_dek(const struct wish *wish, const struct dek *dek)
{
    uint8_t secret[32];

    fake_wrap((const uint8_t *)wish->wrapped, 32, secret);
    CHECK(dek->secret_len == 32 && memcmp(dek->secret, secret, 32) == 0);
}

static void take(struct wish *wish, enum err err, struct dek *dek)
{
    struct worker *w = wish->worker;

    if (err != ERR_OK) {
        /* NO_STATE: the fake's key changed between Status and Encrypt of the first check, and the
         * next one comes after these waits. */
        CHECK(err == ERR_KMS_AWAY || err == ERR_NO_STATE);
        w->away++;
        return;
    }
    check_dek(wish, dek);
    if (pick(w, 2) == 0)
        keyring_confirm(w->ring, &w->control->provider, dek);
    dek_drop(dek);
    w->opened++;
}

static void on_done(struct key_wait *wait)
{
    struct wish *wish = CONTAINER_OF(wait, struct wish, wait);
    struct worker *w = wish->worker;

    w->pending--;
    take(wish, wait->err, wait->dek);
    loop_task_want(&w->loop, &w->task);
}

static void wish_for(struct worker *w, struct wish *wish)
{
    struct dek_id id = {.type = DEK_HKDF_SEED, .key_id = BYTES_LIT("old")};
    struct dek *dek;
    enum err e;

    snprintf(wish->wrapped, sizeof wish->wrapped, "%032u", pick(w, DEKS));
    id.wrapped = bytes_of(wish->wrapped, 32);
    wish->worker = w;
    wish->wait.on_done = on_done;
    e = keyring_get(w->ring, &w->control->provider, &id, &wish->wait);
    if (e == ERR_AGAIN)
        w->pending++;
    else
        take(wish, e, wish->wait.dek);
    if (keyring_write_key(w->ring, &w->control->provider, &dek) == ERR_OK) {
        CHECK(dek->secret_len == 32);
        w->written++;
    }
    w->wishes++;
}

static void worker_end(struct worker *w)
{
    ring_close(w);
    post(w, NOTICE_DONE);
    mailbox_close(&w->box);
    loop_stop(&w->loop);
}

static void on_task(struct loop_task *t)
{
    struct worker *w = CONTAINER_OF(t, struct worker, task);

    for (int i = 0; i < AT_A_TIME; i++) {
        if (!w->wish[i].wait.is_pending && pick(w, 3) > 0)
            wish_for(w, &w->wish[i]);
        else if (pick(w, 20) == 0 && w->wish[i].wait.is_pending) {
            keyring_cancel(&w->wish[i].wait);
            w->pending--;
        }
    }
    if (w->wishes >= WISHES) {
        if (++w->rounds == ROUNDS) {
            worker_end(w);
            return;
        }
        ring_close(w); /* with waits and answers under way */
        ring_open(w);
    }
    if (w->pending < AT_A_TIME)
        loop_task_want(&w->loop, t);
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;

    loop_task_init(&w->task, on_task);
    ring_open(w);
    loop_task_want(&w->loop, &w->task);
    loop_run(&w->loop);
    return NULL;
}

/* --- the plugin's moods ----------------------------------------------------------------------- */

struct moods {
    struct loop_timer timer;
    struct control *control;
    unsigned ticks;
};

static void on_mood(struct loop_timer *t)
{
    struct moods *m = CONTAINER_OF(t, struct moods, timer);
    struct fake_plugin *f = &m->control->fake;

    if (m->control->is_closed) {
        loop_timer_fini(t);
        return;
    }
    f->decrypt.how = m->ticks % 7 == 3 ? FAKE_HANGS_UP : FAKE_ANSWERS;
    f->decrypt.delay_ms = m->ticks % 3;
    f->key_id = m->ticks % 2 == 0 ? "A" : "B";
    m->ticks++;
    CHECK(loop_timer_start(&m->control->loop, t, 7) == ERR_OK);
}

static void rings_and_manager_on_threads(void **state)
{
    static struct control c;
    static struct worker workers[WORKERS];
    struct moods moods = {.control = &c};
    struct kms_plugin_opts plugin = {.provider = &c.provider, .timeout_ms = 2000};
    struct kms_manager_opts o = {.loop = &c.loop, .plugins = &plugin, .plugin_count = 1};

    (void)state;
    c.provider = (struct provider){.kind = PROVIDER_KMS_V2, .name = "fake"};
    assert_int_equal(loop_init(&c.loop), ERR_OK);
    assert_int_equal(mailbox_init(&c.box, &c.loop), ERR_OK);
    fake_start(&c.fake, &c.loop);
    plugin.endpoint = c.fake.endpoint;
    assert_int_equal(kms_manager_new(&o, &c.manager), ERR_OK);
    loop_timer_init(&moods.timer, on_mood);
    assert_int_equal(loop_timer_start(&c.loop, &moods.timer, 1), ERR_OK);
    c.workers_left = WORKERS;
    for (uint32_t i = 0; i < WORKERS; i++) {
        struct worker *w = &workers[i];

        w->control = &c;
        w->random = i + 1;
        assert_int_equal(loop_init(&w->loop), ERR_OK);
        assert_int_equal(mailbox_init(&w->box, &w->loop), ERR_OK);
        assert_int_equal(pthread_create(&w->thread, NULL, worker_main, w), 0);
    }
    loop_run(&c.loop);
    for (int i = 0; i < WORKERS; i++) {
        pthread_join(workers[i].thread, NULL);
        assert_true(workers[i].opened > WISHES);
        assert_true(workers[i].written > 0);
        mailbox_fini(&workers[i].box);
        loop_fini(&workers[i].loop);
    }
    assert_true(c.fake.decrypt.calls > 0);
    mailbox_fini(&c.box);
    fake_fini(&c.fake);
    loop_fini(&c.loop);
}

static int group_setup(void **state)
{
    (void)state;
    return secret_init() == ERR_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rings_and_manager_on_threads),
    };

    return cmocka_run_group_tests(tests, group_setup, NULL);
}
