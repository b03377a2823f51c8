/* SPDX-License-Identifier: Apache-2.0 */
/* The pool's policy: each user has a group of its own, with one connection that takes new streams
 * and those that drain. Another policy would let users share groups, by endpoint and class; nothing
 * outside of this file would see it.
 *
 *   DIALLING ─ a connection is ready ─► READY ─ it is lost, or etcd says GOAWAY ─► DIALLING ...
 *       └─ LIMIT_UPSTREAM_WAIT_MS of failures ─► AWAY          each ─ upstream_leave ─► LEFT
 *
 * The happy path: dial the next endpoint, wait for etcd's SETTINGS, tell the user and serve the
 * waits (READY).
 * Failure modes:
 *   - an attempt fails: the next endpoint at once, LIMIT_REDIAL_MS after each round; when the time
 *     is over and every endpoint was tried: AWAY;
 *   - an endpoint that accepts but does not answer: its attempt is cut (3 s, or 1 s with more than
 *     one; when a lost connection is redialled, its part of the time that calls wait, or what is
 *     left of it);
 *   - the ready connection is lost or drains: dialling begins again, at once if it lived for longer
 *     than LIMIT_REDIAL_MS, for one that greets and leaves would be dialled a thousand times a
 *     second. */
#include "proxy/upstream.h"

#include <stdlib.h>

#include "base/limits.h"
#include "proxy/upstream_int.h"

#define ATTEMPT_ALONE_MS 3000
#define ATTEMPT_OF_MANY_MS 1000
#define ATTEMPT_AGAIN_MS 250 /* at least, when calls may wait for it */
#define ATTEMPT_LATE_MS 200  /* how far one may go beyond the time that calls wait */

enum group_state {
    GROUP_NEW = 0,
    GROUP_DIALLING,
    GROUP_READY, /* current takes streams */
    GROUP_AWAY,  /* no endpoint answers; the user was told */
    GROUP_LEFT,  /* its connections are being closed */
};

struct upstream_group {
    struct list node; /* in its pool's groups */
    struct upstream_pool *pool;
    struct upstream_user *user; /* NULL: LEFT */
    enum group_state state;
    struct upstream_conn *current; /* READY */
    struct list conns;             /* all: dialled, ready, draining, over */
    struct list waits;             /* the longest first */
    struct list due;               /* those of waits that are being told */
    size_t server;                 /* index into env->etcd_urls of the present or next attempt */
    size_t attempts;               /* since dialling began */
    uint64_t deadline_ms;          /* DIALLING: then AWAY */
    uint64_t ready_ms;             /* when the last connection became ready */
    struct loop_timer timer;       /* DIALLING: the attempt takes too long, or the next is due */
    unsigned calls_out;            /* calls of the user and its waits that have not returned */
};

static void group_set_state(struct upstream_group *g, enum group_state to)
{
    static const uint8_t legal[] = {
        [GROUP_NEW] = 1 << GROUP_DIALLING,
        [GROUP_DIALLING] = 1 << GROUP_READY | 1 << GROUP_AWAY | 1 << GROUP_LEFT,
        [GROUP_READY] = 1 << GROUP_DIALLING | 1 << GROUP_LEFT,
        [GROUP_AWAY] = 1 << GROUP_LEFT,
        [GROUP_LEFT] = 0,
    };

    CHECK(legal[g->state] & 1 << to);
    g->state = to;
    if (to != GROUP_READY)
        g->current = NULL;
    if (to != GROUP_DIALLING)
        loop_timer_stop(&g->timer);
}

static void group_free_if_over(struct upstream_group *g)
{
    if (g->state != GROUP_LEFT || !list_is_empty(&g->conns) || g->calls_out > 0)
        return;
    loop_timer_fini(&g->timer);
    list_remove(&g->node);
    free(g);
}

/* --- what the user and its waits hear -------------------------------------------------------- */

/* Those that wait now, not those that begin to meanwhile. The user may leave from inside: that
 * empties the list. */
static void tell_waits(struct upstream_group *g)
{
    list_splice(&g->due, &g->waits);
    while (!list_is_empty(&g->due)) {
        struct upstream_wait *w = LIST_FIRST(&g->due, struct upstream_wait, node);

        list_remove(&w->node);
        w->fn(w, g->current == NULL ? NULL : g->current->h2);
    }
}

/* Both are the last that their callers do: g may be gone behind them. */
static void say_back(struct upstream_group *g)
{
    g->calls_out++;
    g->user->ops->on_back(g->user);
    tell_waits(g);
    g->calls_out--;
    group_free_if_over(g);
}

static void say_away(struct upstream_group *g)
{
    group_set_state(g, GROUP_AWAY);
    g->calls_out++;
    tell_waits(g);
    if (g->user != NULL)
        g->user->ops->on_away(g->user);
    g->calls_out--;
    group_free_if_over(g);
}

/* --- dialling -------------------------------------------------------------------------------- */

static void dial_begin(struct upstream_group *g)
{
    group_set_state(g, GROUP_DIALLING);
    g->attempts = 0;
    g->deadline_ms = loop_now_ms(g->pool->loop) + LIMIT_UPSTREAM_WAIT_MS;
}

static uint64_t attempt_limit_ms(const struct upstream_group *g)
{
    size_t count = g->pool->env->etcd_url_count;
    uint64_t part = LIMIT_UPSTREAM_WAIT_MS / count;
    uint64_t now = loop_now_ms(g->pool->loop);
    uint64_t left = now < g->deadline_ms ? g->deadline_ms - now : 0;

    if (g->ready_ms == 0) /* the client waits for our SETTINGS, not for an answer */
        return count > 1 ? ATTEMPT_OF_MANY_MS : ATTEMPT_ALONE_MS;
    if (part < ATTEMPT_AGAIN_MS)
        part = ATTEMPT_AGAIN_MS;
    /* An endpoint that refused for a while and then is silent gets no second wait; but each is
     * tried once. */
    if (g->attempts > count && part > left + ATTEMPT_LATE_MS)
        return left + ATTEMPT_LATE_MS;
    return part;
}

static enum err dial(struct upstream_group *g)
{
    struct upstream_pool *p = g->pool;

    g->attempts++;
    TRY(loop_timer_start(p->loop, &g->timer, attempt_limit_ms(g)));
    return upstream__conn_dial(p, &p->env->etcd_urls[g->server], g, &g->conns);
}

static void dial_now(struct upstream_group *g)
{
    if (dial(g) != ERR_OK)
        say_away(g);
}

static void dial_later(struct upstream_group *g)
{
    if (loop_timer_start(g->pool->loop, &g->timer, LIMIT_REDIAL_MS) != ERR_OK)
        say_away(g);
}

void upstream__on_ready(struct upstream_conn *uc)
{
    struct upstream_group *g = uc->group;

    group_set_state(g, GROUP_READY);
    g->current = uc;
    g->ready_ms = loop_now_ms(g->pool->loop);
    say_back(g);
}

void upstream__on_failed(struct upstream_conn *uc)
{
    struct upstream_group *g = uc->group;
    size_t count = g->pool->env->etcd_url_count;

    g->server = (g->server + 1) % count;
    if (g->attempts >= count && loop_now_ms(g->pool->loop) >= g->deadline_ms)
        say_away(g);
    else if (g->attempts % count != 0)
        dial_now(g);
    else
        dial_later(g);
}

void upstream__on_retired(struct upstream_conn *uc)
{
    struct upstream_group *g = uc->group;

    dial_begin(g);
    if (loop_now_ms(g->pool->loop) - g->ready_ms >= LIMIT_REDIAL_MS)
        dial_now(g);
    else
        dial_later(g);
}

void upstream__on_gone(struct upstream_group *g)
{
    group_free_if_over(g);
}

static void on_timer(struct loop_timer *t)
{
    struct upstream_group *g = CONTAINER_OF(t, struct upstream_group, timer);

    LIST_FOREACH(it, &g->conns) {
        struct upstream_conn *uc = LIST_ENTRY(it, struct upstream_conn, node);

        if (uc->state == UPSTREAM_CONN_DIALLING) {
            upstream__conn_cut(uc);
            return;
        }
    }
    dial_now(g);
}

/* --- for users ------------------------------------------------------------------------------- */

enum err upstream_join(struct upstream_pool *p, struct upstream_user *u,
                       const struct upstream_user_ops *ops)
{
    struct upstream_group *g = calloc(1, sizeof *g);
    enum err e;

    *u = (struct upstream_user){.ops = ops};
    if (g == NULL)
        return ERR_NOMEM;
    g->pool = p;
    g->server = p->next_server++ % p->env->etcd_url_count;
    list_init(&g->conns);
    list_init(&g->waits);
    list_init(&g->due);
    loop_timer_init(&g->timer, on_timer);
    dial_begin(g);
    e = dial(g);
    if (e != ERR_OK) {
        loop_timer_fini(&g->timer);
        free(g);
        return e;
    }
    list_push(&p->groups, &g->node);
    g->user = u;
    u->group = g;
    return ERR_OK;
}

static void forget_waits(struct list *waits)
{
    while (!list_is_empty(waits))
        list_remove(waits->next);
}

void upstream_leave(struct upstream_user *u)
{
    struct upstream_group *g = u->group;

    if (g == NULL)
        return;
    u->group = NULL;
    g->user = NULL;
    group_set_state(g, GROUP_LEFT);
    forget_waits(&g->waits);
    forget_waits(&g->due);
    LIST_FOREACH(it, &g->conns) {
        upstream__conn_close(LIST_ENTRY(it, struct upstream_conn, node));
    }
    group_free_if_over(g);
}

struct h2_conn *upstream_ask(struct upstream_user *u, enum upstream_class class,
                             struct upstream_wait *w)
{
    struct upstream_group *g = u->group;

    (void)class; /* one connection serves all */
    if (g == NULL)
        return NULL;
    if (g->state == GROUP_READY)
        return g->current->h2;
    list_push(&g->waits, &w->node);
    return NULL;
}

void upstream_wait_init(struct upstream_wait *w, upstream_wait_fn *fn)
{
    list_init(&w->node);
    w->fn = fn;
}

void upstream_wait_cancel(struct upstream_wait *w)
{
    list_remove(&w->node);
}

uint32_t upstream_max_streams(const struct upstream_user *u)
{
    return h2_conn_peer_streams(u->group->current->h2);
}

/* --- the pool -------------------------------------------------------------------------------- */

void upstream_pool_init(struct upstream_pool *p, struct loop *loop, struct slab_pool *slabs,
                        const struct proxy_env *env)
{
    *p = (struct upstream_pool){.loop = loop, .slabs = slabs, .env = env};
    list_init(&p->groups);
}

void upstream_pool_set_tls(struct upstream_pool *p, struct net_tls *tls)
{
    if (p->tls != NULL)
        net_tls_drop(p->tls);
    p->tls = tls;
}

void upstream_pool_fini(struct upstream_pool *p)
{
    CHECK(list_is_empty(&p->groups));
    upstream_pool_set_tls(p, NULL);
}
