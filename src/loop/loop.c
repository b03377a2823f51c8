/* SPDX-License-Identifier: Apache-2.0 */
/* One turn of libuv 1.44's loop, and where our work hangs in it:
 *   1. timers
 *   2. idle: the tasks that were asked for before this turn
 *   3. prepare: the flush list, so that what timers and tasks made sendable leaves before the sleep
 *   4. poll: sockets and mailboxes
 *   5. check: the flush list again, for what the sockets made sendable
 *   6. close callbacks
 * The idle handle is active only while tasks or postponed flushes wait: then poll does not sleep.
 * Failure modes: none at run time; a handle that nobody has closed by loop_fini is our bug
 * (CHECK). */
#include "loop/loop.h"

#include <errno.h>
#include <stdlib.h>

static void update_idle(struct loop *l);

static void run_flushes(struct loop *l)
{
    l->pass++;
    l->is_flushing = true;
    while (!list_is_empty(&l->flushes)) {
        struct loop_flush *f = LIST_FIRST(&l->flushes, struct loop_flush, node);

        list_remove(&f->node);
        f->pass = l->pass;
        f->fn(f);
    }
    l->is_flushing = false;
    list_splice(&l->flushes, &l->flushes_later);
    update_idle(l);
    l->turn_ns = 0; /* reset last: a time cached before poll is stale after it */
}

static void on_prepare(uv_prepare_t *handle)
{
    run_flushes(handle->data);
}

static void on_check(uv_check_t *handle)
{
    run_flushes(handle->data);
}

static void on_idle(uv_idle_t *handle)
{
    struct loop *l = handle->data;
    struct list now;

    list_init(&now);
    list_splice(&now, &l->tasks);
    while (!list_is_empty(&now)) {
        struct loop_task *t = LIST_FIRST(&now, struct loop_task, node);

        list_remove(&t->node);
        t->fn(t);
    }
    update_idle(l);
}

static void update_idle(struct loop *l)
{
    bool is_wanted = !list_is_empty(&l->tasks) || !list_is_empty(&l->flushes);

    /* Neither can fail: the callback is not NULL. */
    if (is_wanted)
        (void)uv_idle_start(&l->idle, on_idle);
    else
        (void)uv_idle_stop(&l->idle);
}

enum err loop_init(struct loop *l)
{
    int status;

    *l = (struct loop){0};
    status = uv_loop_init(&l->uv);
    if (status != 0) {
        errno = -status; /* on every system that has epoll */
        return ERR_SYSTEM;
    }
    l->uv.data = l;
    list_init(&l->flushes);
    list_init(&l->flushes_later);
    list_init(&l->tasks);
    (void)uv_prepare_init(&l->uv, &l->prepare);
    (void)uv_check_init(&l->uv, &l->check);
    (void)uv_idle_init(&l->uv, &l->idle);
    l->prepare.data = l->check.data = l->idle.data = l;
    (void)uv_prepare_start(&l->prepare, on_prepare);
    (void)uv_check_start(&l->check, on_check);
    /* The prepare handle keeps the loop alive until loop_stop, the idle handle while tasks wait. */
    uv_unref((uv_handle_t *)&l->check);
    return ERR_OK;
}

static void drop_nodes(struct list *list)
{
    LIST_FOREACH(it, list)
        list_remove(it);
}

void loop_run(struct loop *l)
{
    l->is_running = true;
    (void)uv_run(&l->uv, UV_RUN_DEFAULT);
    l->is_running = false;
}

void loop_stop(struct loop *l)
{
    if (l->is_stopping)
        return;
    l->is_stopping = true;
    uv_unref((uv_handle_t *)&l->prepare);
}

void loop_fini(struct loop *l)
{
    uv_close((uv_handle_t *)&l->prepare, NULL);
    uv_close((uv_handle_t *)&l->check, NULL);
    uv_close((uv_handle_t *)&l->idle, NULL);
    (void)uv_run(&l->uv, UV_RUN_DEFAULT); /* the close callbacks */
    drop_nodes(&l->flushes);
    drop_nodes(&l->tasks);
    CHECK(uv_loop_close(&l->uv) == 0);
}

uint64_t loop_turn_ns(struct loop *l)
{
    if (l->turn_ns == 0)
        l->turn_ns = loop_hrtime_ns();
    return l->turn_ns;
}

uint64_t loop_now_ms(const struct loop *l)
{
    return uv_now(&l->uv);
}

uint64_t loop_hrtime_ns(void)
{
    return uv_hrtime();
}

void loop_flush_init(struct loop_flush *f, void (*fn)(struct loop_flush *))
{
    *f = (struct loop_flush){.fn = fn};
    list_init(&f->node);
}

void loop_flush_want(struct loop *l, struct loop_flush *f)
{
    if (!list_is_empty(&f->node))
        return;
    /* Once per pass: otherwise two sessions that feed each other would keep the sockets waiting. */
    if (l->is_flushing && f->pass == l->pass)
        list_push(&l->flushes_later, &f->node);
    else
        list_push(&l->flushes, &f->node);
}

void loop_flush_cancel(struct loop_flush *f)
{
    list_remove(&f->node);
}

void loop_task_init(struct loop_task *t, void (*fn)(struct loop_task *))
{
    *t = (struct loop_task){.fn = fn};
    list_init(&t->node);
}

void loop_task_want(struct loop *l, struct loop_task *t)
{
    if (!list_is_empty(&t->node))
        return;
    list_push(&l->tasks, &t->node);
    (void)uv_idle_start(&l->idle, on_idle);
}

void loop_task_cancel(struct loop_task *t)
{
    list_remove(&t->node);
}

static void on_timer(uv_timer_t *handle)
{
    struct loop_timer *t = handle->data;

    t->fn(t);
}

void loop_timer_init(struct loop_timer *t, void (*fn)(struct loop_timer *))
{
    *t = (struct loop_timer){.fn = fn};
}

enum err loop_timer_start(struct loop *l, struct loop_timer *t, uint64_t ms)
{
    if (t->uv == NULL) {
        t->uv = malloc(sizeof *t->uv);
        if (t->uv == NULL)
            return ERR_NOMEM;
        (void)uv_timer_init(&l->uv, t->uv);
        t->uv->data = t;
    }
    /* uv counts from its cached time, which before the first turn may be long ago. */
    if (!l->is_running)
        uv_update_time(&l->uv);
    (void)uv_timer_start(t->uv, on_timer, ms, 0);
    return ERR_OK;
}

bool loop_timer_is_active(const struct loop_timer *t)
{
    return t->uv != NULL && uv_is_active((const uv_handle_t *)t->uv);
}

void loop_timer_stop(struct loop_timer *t)
{
    if (t->uv != NULL)
        (void)uv_timer_stop(t->uv);
}

static void on_timer_closed(uv_handle_t *handle)
{
    free(handle); /* a uv_timer_t begins with its uv_handle_t fields and was malloc'ed as a whole */
}

void loop_timer_fini(struct loop_timer *t)
{
    if (t->uv == NULL)
        return;
    t->uv->data = NULL;
    uv_close((uv_handle_t *)t->uv, on_timer_closed);
    t->uv = NULL;
}
