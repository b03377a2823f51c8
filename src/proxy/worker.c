/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a worker: started with an empty loop; gets a rule set, then sockets; told to drain;
 * reports that no link is left; told to stop. Orders come and reports go by mail; nothing else is
 * shared. Failure modes: no memory for an order: a socket is closed, a rule set is not taken over
 * (the old one stays in force; worker_keyset.c). */
#include "proxy/worker_int.h"

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/secret.h"
#include "proxy/call.h"
#include "proxy/link.h"
#include "proxy/probe.h"

#define FREE_SLABS 64 /* 4 MiB of idle slabs a worker keeps */
#define IDLE_SLABS 8  /* of them are left when connections have settled */
/* After connections open or close, slabs are returned four times, 700 ms apart, but for 8: net/ has
 * let go of its buffers by then. The heap is trimmed the last time. */
#define SETTLE_MS 700
#define SETTLE_TIMES 4
#define WIPE_MS 200 /* cipher contexts are wiped this long after first use */
#define DRAIN_TICK_MS 50
#define SOCKET_REPORTS 2     /* WORKER_LINK_READY, WORKER_LINK_CLOSED */
#define DRAIN_SETTLE_MS 100  /* for calls that were on their way when GOAWAY was sent */
#define DRAIN_STREAMS_MS 500 /* then watches and the like end: they never do by themselves */
#define DRAIN_LAST_MS 500    /* for the last bytes, when the calls have been ended */
#define DRAIN_RESERVE_MS (DRAIN_LAST_MS + 1000u) /* for that and for connections that linger */

/* --- TLS towards etcd ------------------------------------------------------------------------ */

struct tls_mail {
    struct mail mail;
    struct worker *worker;
    struct net_tls *tls, *tls_http1;
};

static void set_tls_http1(struct worker *w, struct net_tls *tls)
{
    if (w->etcd_tls_http1 != NULL)
        net_tls_drop(w->etcd_tls_http1);
    w->etcd_tls_http1 = tls;
}

static void tls_deliver(struct mail *mail, bool delivered)
{
    struct tls_mail *m = CONTAINER_OF(mail, struct tls_mail, mail);

    if (delivered) {
        upstream_pool_set_tls(&m->worker->upstream, m->tls);
        set_tls_http1(m->worker, m->tls_http1);
    } else {
        net_tls_drop(m->tls);
        net_tls_drop(m->tls_http1);
    }
    free(m);
}

enum err worker_give_tls(struct worker *w, struct net_tls *tls, struct net_tls *tls_http1)
{
    struct tls_mail *m = malloc(sizeof *m);

    if (m == NULL)
        return ERR_NOMEM;
    *m = (struct tls_mail){{.deliver = tls_deliver}, w, net_tls_ref(tls), net_tls_ref(tls_http1)};
    mailbox_post(&w->mailbox, &m->mail);
    return ERR_OK;
}

/* --- sockets --------------------------------------------------------------------------------- */

/* The handshakes of many connections leave freed memory all over the heap, which libc would keep:
 * with hundreds of idle links it is most of what they cost. malloc_trim walks the whole heap under
 * its locks (0.8 ms where 10,000 blocks lie about), so it comes once, when all has settled. */
static void on_settle(struct loop_timer *t)
{
    struct worker *w = CONTAINER_OF(t, struct worker, settle_timer);

    slab_pool_trim(&w->pool, IDLE_SLABS);
    /* Handshakes that wait for this thread may end long after their sockets came. */
    if (--w->settle_count > 0)
        (void)!loop_timer_start(&w->loop, t, SETTLE_MS);
    else
        malloc_trim(0);
}

/* A timer that cannot be started only means that memory goes back later. */
static void settle_later(struct worker *w)
{
    w->settle_count = SETTLE_TIMES;
    if (!loop_timer_is_active(&w->settle_timer))
        (void)!loop_timer_start(&w->loop, &w->settle_timer, SETTLE_MS);
}

struct socket_mail {
    struct mail mail;
    struct worker *worker;
    struct net_tls *tls;
    int fd;
    struct list reports;
};

static void socket_deliver(struct mail *mail, bool delivered)
{
    struct socket_mail *m = CONTAINER_OF(mail, struct socket_mail, mail);

    if (delivered)
        list_splice(&m->worker->spare_reports, &m->reports);
    else
        worker__reports_free(&m->reports);
    if (delivered && !m->worker->is_draining) {
        m->worker->link_count++;
        settle_later(m->worker);
        link_open(m->worker, m->fd, m->tls);
    } else {
        close(m->fd);
        if (delivered) {
            worker__report_link(m->worker, WORKER_LINK_CLOSED, NULL, false);
            worker__report_spared(m->worker);
        }
    }
    if (m->tls != NULL)
        net_tls_drop(m->tls);
    free(m);
}

enum err worker_give_socket(struct worker *w, int fd, struct net_tls *tls)
{
    struct socket_mail *m = malloc(sizeof *m);
    struct list reports;

    if (m == NULL || worker__reports_new(&reports, SOCKET_REPORTS) != ERR_OK) {
        free(m);
        close(fd);
        return ERR_NOMEM;
    }
    *m = (struct socket_mail){.mail = {.deliver = socket_deliver},
                              .worker = w,
                              .tls = tls == NULL ? NULL : net_tls_ref(tls),
                              .fd = fd};
    list_init(&m->reports);
    list_splice(&m->reports, &reports);
    mailbox_post(&w->mailbox, &m->mail);
    return ERR_OK;
}

uint64_t worker_next_id(struct worker *w)
{
    return (uint64_t)w->number << 48 | ++w->last_id;
}

void worker_link_ready(struct worker *w, const char *who)
{
    worker__report_link(w, WORKER_LINK_READY, who, false);
}

void worker_link_closed(struct worker *w, const char *who, bool was_shed)
{
    w->link_count--;
    settle_later(w);
    worker__report_link(w, WORKER_LINK_CLOSED, who, was_shed);
    if (who == NULL)
        worker__report_spared(w);
    if (w->is_draining && w->link_count == 0)
        worker__report_drained(w);
}

/* --- the end --------------------------------------------------------------------------------- */

static void on_drain_tick(struct loop_timer *t)
{
    struct worker *w = CONTAINER_OF(t, struct worker, drain_timer);
    uint64_t spent = loop_now_ms(&w->loop) - w->drain_began_ms;

    LIST_FOREACH(it, &w->links) {
        struct link *l = link_of_node(it);

        if (spent >= w->drain_limit_ms + DRAIN_LAST_MS)
            link_close(l);
        else if (spent >= w->drain_limit_ms)
            link_end_calls(l, LINK_END_ALL);
        else if (spent >= DRAIN_STREAMS_MS)
            link_end_calls(l, LINK_END_STREAMS);
        else if (spent >= DRAIN_SETTLE_MS)
            link_end_calls(l, LINK_END_NONE);
    }
    if (w->link_count > 0 && loop_timer_start(&w->loop, t, DRAIN_TICK_MS) != ERR_OK)
        LOG(ERROR, "drain timer lost", "worker=%u", w->number);
}

static void drain_deliver(struct mail *mail, bool delivered)
{
    struct worker *w = CONTAINER_OF(mail, struct worker, drain_order);
    uint64_t limit_ms = w->drain_order_ms;

    if (delivered && !w->is_draining) {
        w->is_draining = true;
        w->drain_began_ms = loop_now_ms(&w->loop);
        /* Clients that never read are gone, too, when the time is over. */
        w->drain_limit_ms =
            limit_ms > 2 * DRAIN_RESERVE_MS ? limit_ms - DRAIN_RESERVE_MS : limit_ms / 2;
        if (w->link_count == 0)
            worker__report_drained(w);
        LIST_FOREACH(it, &w->links) {
            link_drain(link_of_node(it));
        }
        on_drain_tick(&w->drain_timer);
    }
}

void worker_drain(struct worker *w, uint64_t limit_ms)
{
    w->drain_order_ms = limit_ms;
    w->drain_order = (struct mail){.deliver = drain_deliver};
    mailbox_post(&w->mailbox, &w->drain_order);
}

/* What is left of the time for calls. */
static uint64_t drain_left_ms(const struct worker *w)
{
    uint64_t spent = loop_now_ms(&w->loop) - w->drain_began_ms;

    return w->is_draining && spent < w->drain_limit_ms ? w->drain_limit_ms - spent : 0;
}

static void stop_deliver(struct mail *mail, bool delivered)
{
    struct worker *w = CONTAINER_OF(mail, struct worker, stop_order);

    if (!delivered)
        return;
    probes_end(w, drain_left_ms(w));
    upstream_pool_close(&w->upstream);
    worker__keysets_free(w);
    loop_timer_fini(&w->drain_timer);
    loop_timer_fini(&w->wipe_timer);
    loop_timer_fini(&w->settle_timer);
    worker__memory_fini(w);
    progress_fini(&w->progress);
    tally_free(w->tally);
    mailbox_close(&w->mailbox);
    worker__reports_free(&w->spare_reports);
    loop_stop(&w->loop);
}

void worker_end(struct worker *w)
{
    w->stop_order = (struct mail){.deliver = stop_deliver};
    mailbox_post(&w->mailbox, &w->stop_order);
}

void worker_free(struct worker *w)
{
    mailbox_fini(&w->mailbox);
    loop_fini(&w->loop);
    lane_work_free(w);
    upstream_pool_fini(&w->upstream);
    set_tls_http1(w, NULL);
    envelope_ctx_free(w->envelope);
    loop_flush_cancel(&w->random_drop);
    randpool_fini(&w->random);
    slab_pool_fini(&w->pool);
    budget_leave(&w->budget);
    free(w->drained);
    free(w);
}

void worker_stop(struct worker *w)
{
    worker_end(w);
    pthread_join(w->thread, NULL);
    worker_free(w);
}

/* --- the thread ------------------------------------------------------------------------------ */

/* Nothing that was fetched ahead is there while the thread sleeps: see base/randpool.h. */
static void on_random_drop(struct loop_flush *f)
{
    randpool_drop(&CONTAINER_OF(f, struct worker, random_drop)->random);
}

static enum err random_from_pool(void *arg, void *out, size_t n)
{
    struct worker *w = arg;

    TRY(randpool_get(&w->random, out, n));
    if (randpool_wants_drop(&w->random))
        loop_flush_want(&w->loop, &w->random_drop);
    return ERR_OK;
}

static void on_wipe(struct loop_timer *t)
{
    struct worker *w = CONTAINER_OF(t, struct worker, wipe_timer);

    envelope_ctx_wipe(w->envelope);
    slab_pool_settle(&w->pool);
    secret_wipe_stack();
}

void worker_contexts_used(struct worker *w)
{
    if (!loop_timer_is_active(&w->wipe_timer) &&
        loop_timer_start(&w->loop, &w->wipe_timer, WIPE_MS) != ERR_OK)
        envelope_ctx_wipe(w->envelope);
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    sigset_t all;

    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    loop_run(&w->loop);
    return NULL;
}

static void worker_init(struct worker *w)
{
    list_init(&w->links);
    list_init(&w->holders);
    list_init(&w->probes);
    list_init(&w->probe_conns);
    list_init(&w->calls);
    list_init(&w->keysets);
    list_init(&w->spare_reports);
    slab_pool_init(&w->pool, FREE_SLABS);
    budget_join(&w->budget, w->env->budget);
    upstream_pool_init(&w->upstream, &w->loop, &w->pool, w->env);
    worker__memory_init(w);
    lane_turns_init(w);
    loop_timer_init(&w->drain_timer, on_drain_tick);
    loop_timer_init(&w->wipe_timer, on_wipe);
    loop_timer_init(&w->settle_timer, on_settle);
    progress_init(&w->progress, &w->loop);
    loop_flush_init(&w->random_drop, on_random_drop);
    randpool_init(&w->random);
}

enum err worker_new(const struct proxy_env *env, unsigned number, struct mailbox *control,
                    worker_report_fn report_fn, void *arg, struct worker **out)
{
    struct worker *w = calloc(1, sizeof *w);
    enum err e;
    int error;

    if (w == NULL)
        return ERR_NOMEM;
    w->env = env;
    w->number = number;
    w->control = control;
    w->report = report_fn;
    w->report_arg = arg;
    worker_init(w);
    w->drained = malloc(sizeof *w->drained);
    e = ERR_NOMEM;
    if (w->drained == NULL)
        goto err_random;
    e = envelope_ctx_new(random_from_pool, w, &w->envelope);
    if (e != ERR_OK)
        goto err_random;
    e = loop_init(&w->loop);
    if (e != ERR_OK)
        goto err_envelope;
    e = mailbox_init(&w->mailbox, &w->loop);
    if (e != ERR_OK)
        goto err_loop;
    e = tally_new(&w->loop, control, &w->pool, &w->tally);
    if (e != ERR_OK)
        goto err_mailbox;
    *out = w;
    return ERR_OK;

err_mailbox:
    mailbox_close(&w->mailbox);
    mailbox_fini(&w->mailbox);
err_loop:
    error = errno;
    loop_fini(&w->loop);
    errno = error;
err_envelope:
    envelope_ctx_free(w->envelope);
err_random:
    free(w->drained);
    upstream_pool_fini(&w->upstream);
    randpool_fini(&w->random);
    slab_pool_fini(&w->pool);
    free(w);
    return e;
}

enum err worker_start(const struct proxy_env *env, unsigned number, struct mailbox *control,
                      worker_report_fn report_fn, void *arg, struct worker **out)
{
    struct worker *w;
    int error;

    TRY(worker_new(env, number, control, report_fn, arg, &w));
    error = pthread_create(&w->thread, NULL, worker_main, w);
    if (error != 0) {
        worker_end(w);
        loop_run(&w->loop);
        worker_free(w);
        errno = error;
        return ERR_SYSTEM;
    }
    *out = w;
    return ERR_OK;
}
