/* SPDX-License-Identifier: Apache-2.0 */
/* The worker's connections to one endpoint, and which of them a stream gets:
 *
 *   unary    the base; when etcd's limit of streams is reached, further ones
 *   watch    at most WATCH_STREAMS on each, as many as it takes
 *   list     one without streams; at most LISTS_MAX a worker, then the one with the fewest: older
 *            etcd behind TLS writes streams unfairly (etcd issue 15402)
 *
 * The happy path: a user comes, the base is dialled and says that the endpoint answers (READY);
 * further connections are dialled when streams ask for them, and closed when they had none for
 * IDLE_MS; the whole group goes IDLE_MS after its last user.
 * Failure modes:
 *   - the base is lost, or says GOAWAY: the endpoint is dialled again, at once if the base lived
 *     for longer than LIMIT_REDIAL_MS (one that greets and leaves would be dialled a thousand times
 *     a second). If that fails the endpoint is lost: its other connections are closed, except those
 *     that etcd lets finish, and the users move on;
 *   - another connection is lost: its streams end; the next stream dials a new one;
 *   - another connection fell silent: so may the base have, which is replaced to find out;
 *   - a further connection can't be dialled though the base is there (files of TLS that are bad by
 *     now, descriptors run out), or etcd allows no stream on it: its class shares what there is.
 *     Where that has no room one that could not be dialled is tried again;
 *   - stream ids run out, or TLS files have changed: the base is replaced when the next is ready,
 *     the others at once. Who is replaced finishes its streams. */
#include <stdlib.h>

#include "base/limits.h"
#include "proxy/upstream_int.h"

#define WATCH_STREAMS 250u
#define LISTS_MAX 8u
#define IDLE_MS 30000u
#define SPARE_MS 1000u                    /* instead, where another one has room */
#define FURTHER_MS LIMIT_UPSTREAM_WAIT_MS /* for dialling a further connection: calls wait */
#define AGAIN_MS 1000u                    /* before a further connection is tried again */

static void group_set_state(struct upstream_group *g, enum upstream_group_state to)
{
    static const uint8_t legal[] = {
        [UPSTREAM_GROUP_IDLE] = 1 << UPSTREAM_GROUP_RESTING | 1 << UPSTREAM_GROUP_DIALLING,
        [UPSTREAM_GROUP_RESTING] = 1 << UPSTREAM_GROUP_IDLE | 1 << UPSTREAM_GROUP_DIALLING,
        [UPSTREAM_GROUP_DIALLING] = 1 << UPSTREAM_GROUP_IDLE | 1 << UPSTREAM_GROUP_READY,
        [UPSTREAM_GROUP_READY] =
            1 << UPSTREAM_GROUP_IDLE | 1 << UPSTREAM_GROUP_RESTING | 1 << UPSTREAM_GROUP_DIALLING,
    };

    CHECK(legal[g->state] & 1 << to);
    g->state = to;
    if (to != UPSTREAM_GROUP_READY)
        g->base = NULL;
    if (to != UPSTREAM_GROUP_RESTING)
        loop_timer_stop(&g->timer);
}

static uint64_t now_ms(const struct upstream_group *g)
{
    return loop_now_ms(g->pool->loop);
}

/* Its timer was started before: that can't fail any more (libuv only fails without a callback). */
static void timer_start(struct upstream_group *g, struct loop_timer *t, uint64_t ms)
{
    CHECK(loop_timer_start(g->pool->loop, t, ms) == ERR_OK);
}

/* At the latest. */
static void sweep_by(struct upstream_group *g, uint64_t ms)
{
    uint64_t at = now_ms(g) + ms;

    if (loop_timer_is_active(&g->sweep) && g->sweep_at_ms <= at)
        return;
    g->sweep_at_ms = at;
    timer_start(g, &g->sweep, ms);
}

/* --- the base -------------------------------------------------------------------------------- */

/* The shortest patience of those who wait for it. */
static uint64_t patience_ms(const struct upstream_group *g)
{
    uint64_t ms = UINT64_MAX;

    LIST_FOREACH(it, &g->users) {
        uint64_t own = upstream__user_patience_ms(LIST_ENTRY(it, struct upstream_user, node));

        ms = own < ms ? own : ms;
    }
    return ms;
}

static void dial_base(struct upstream_group *g)
{
    group_set_state(g, UPSTREAM_GROUP_DIALLING);
    /* What fails at once fails from the loop, as all else does. */
    if (upstream__conn_dial(g, UPSTREAM_UNARY, patience_ms(g), &g->next) != ERR_OK)
        loop_task_want(g->pool->loop, &g->task);
}

static void rest(struct upstream_group *g)
{
    group_set_state(g, UPSTREAM_GROUP_RESTING);
    timer_start(g, &g->timer, g->not_before_ms - now_ms(g));
}

static void dial_or_rest(struct upstream_group *g)
{
    if (now_ms(g) >= g->not_before_ms)
        dial_base(g);
    else
        rest(g);
}

static void close_in_state(struct upstream_group *g, enum upstream_conn_state state)
{
    LIST_FOREACH(it, &g->conns) {
        struct upstream_conn *uc = LIST_ENTRY(it, struct upstream_conn, node);

        if (uc->state == state)
            upstream__conn_close(uc);
    }
}

static void drop_next(struct upstream_group *g)
{
    if (g->next != NULL)
        upstream__conn_close(g->next);
    g->next = NULL;
}

static void endpoint_failed(struct upstream_group *g)
{
    close_in_state(g, UPSTREAM_CONN_READY);
    close_in_state(g, UPSTREAM_CONN_DIALLING);
    g->not_before_ms = now_ms(g) + LIMIT_REDIAL_MS;
    group_set_state(g, UPSTREAM_GROUP_IDLE);
    upstream__users_failed(g);
}

static void endpoint_lost(struct upstream_group *g)
{
    uint64_t now = now_ms(g);

    upstream__users_lost(g);
    if (list_is_empty(&g->users)) { /* its replacement would be nobody's base */
        drop_next(g);
        group_set_state(g, UPSTREAM_GROUP_IDLE);
        return;
    }
    if (g->next != NULL) { /* its replacement is on its way */
        group_set_state(g, UPSTREAM_GROUP_DIALLING);
        upstream__conn_hurry(g->next, patience_ms(g));
        return;
    }
    g->not_before_ms = now - g->ready_ms >= LIMIT_REDIAL_MS ? now : now + LIMIT_REDIAL_MS;
    dial_or_rest(g);
}

/* The base goes on until the next one is there. */
static void replace_base(struct upstream_group *g)
{
    if (g->next != NULL || now_ms(g) < g->not_before_ms)
        return;
    g->not_before_ms = now_ms(g) + AGAIN_MS;
    (void)!upstream__conn_dial(g, UPSTREAM_UNARY, FURTHER_MS, &g->next);
}

/* Its class shares what there is. Where that has no room they wait, and it is tried again. */
static void further_failed(struct upstream_group *g, enum upstream_class class)
{
    g->has_failed[class] = true;
    g->is_due[class] = true;
    sweep_by(g, AGAIN_MS);
}

/* --- what connections say -------------------------------------------------------------------- */

static void base_ready(struct upstream_group *g, struct upstream_conn *uc)
{
    struct upstream_conn *before = g->base;

    g->next = NULL;
    g->ready_ms = now_ms(g);
    if (before == NULL)
        group_set_state(g, UPSTREAM_GROUP_READY);
    g->base = uc;
    if (before != NULL)
        upstream__conn_drain(before);
    if (list_is_empty(&g->users))
        sweep_by(g, IDLE_MS);
}

void upstream__on_ready(struct upstream_conn *uc)
{
    struct upstream_group *g = uc->group;

    if (uc == g->next)
        base_ready(g, uc);
    else
        sweep_by(g, IDLE_MS);
    /* Where none may be opened, none could be on another one: it is as good as not dialled. */
    g->has_failed[uc->class] = h2_conn_peer_streams(uc->h2) == 0;
    if (g->state == UPSTREAM_GROUP_READY)
        upstream__users_serve(g);
}

void upstream__on_failed(struct upstream_conn *uc)
{
    struct upstream_group *g = uc->group;

    if (uc != g->next) {
        further_failed(g, uc->class);
        if (g->state == UPSTREAM_GROUP_READY)
            upstream__users_serve(g);
        return;
    }
    g->next = NULL;
    if (g->state == UPSTREAM_GROUP_DIALLING) {
        endpoint_failed(g);
    } else if (g->state == UPSTREAM_GROUP_READY && g->base->is_suspect) {
        upstream__users_lost(g);
        endpoint_failed(g);
    }
}

void upstream__on_retired(struct upstream_conn *uc, bool is_silent)
{
    struct upstream_group *g = uc->group;

    if (g->state != UPSTREAM_GROUP_READY)
        return;
    if (uc == g->base) {
        endpoint_lost(g);
        return;
    }
    if (is_silent) {
        g->base->is_suspect = true;
        g->not_before_ms = now_ms(g);
        replace_base(g);
    }
    upstream__users_serve(g);
}

void upstream__on_idle(struct upstream_conn *uc)
{
    uc->idle_ms = now_ms(uc->group);
    if (uc != uc->group->base)
        sweep_by(uc->group, SPARE_MS);
}

/* --- which connection ------------------------------------------------------------------------ */

/* READY ones of the group. */
struct choice {
    struct upstream_conn *free;   /* of the class, as it should be */
    struct upstream_conn *fewest; /* of the class, with room: the one with the fewest streams */
    struct upstream_conn *any;    /* the same of all classes */
    size_t dialling, count;       /* of the class */
};

static bool is_fewer(const struct upstream_conn *uc, const struct upstream_conn *than)
{
    return than == NULL || h2_conn_stream_count(uc->h2) < h2_conn_stream_count(than->h2);
}

static bool is_free(const struct upstream_conn *uc)
{
    size_t streams = h2_conn_stream_count(uc->h2);

    switch (uc->class) {
    case UPSTREAM_WATCH:
        return streams < WATCH_STREAMS;
    case UPSTREAM_LIST:
        return streams == 0;
    case UPSTREAM_UNARY:
    case UPSTREAM_CLASSES:
        break;
    }
    return true;
}

static void consider(struct choice *c, struct upstream_conn *uc, enum upstream_class class)
{
    if (uc->class == class && uc != uc->group->next) {
        c->dialling += uc->state == UPSTREAM_CONN_DIALLING;
        c->count += uc->state <= UPSTREAM_CONN_READY;
    }
    if (uc->state != UPSTREAM_CONN_READY || !h2_conn_can_request(uc->h2))
        return;
    if (is_fewer(uc, c->any))
        c->any = uc;
    if (uc->class != class)
        return;
    if (is_fewer(uc, c->fewest))
        c->fewest = uc;
    if (c->free == NULL && is_free(uc))
        c->free = uc;
}

static struct choice choose(struct upstream_group *g, enum upstream_class class)
{
    struct choice c = {NULL};

    LIST_FOREACH(it, &g->conns) {
        struct upstream_conn *uc = LIST_ENTRY(it, struct upstream_conn, node);

        if (uc != g->base && uc->state == UPSTREAM_CONN_READY && upstream__conn_is_aged(uc))
            upstream__conn_drain(uc);
        consider(&c, uc, class);
    }
    return c;
}

/* Of all groups. */
static size_t list_count(const struct upstream_pool *p)
{
    size_t n = 0;

    for (size_t i = 0; i < p->env->etcd_url_count; i++)
        LIST_FOREACH(it, &p->groups[i].conns) {
            const struct upstream_conn *uc = LIST_ENTRY(it, struct upstream_conn, node);

            n += uc->class == UPSTREAM_LIST && uc->state <= UPSTREAM_CONN_READY;
        }
    return n;
}

static bool may_dial(const struct upstream_group *g, const struct choice *c,
                     enum upstream_class class)
{
    if (g->has_failed[class] && now_ms(g) - g->dial_ms[class] < AGAIN_MS)
        return false;
    if (class != UPSTREAM_LIST)
        return c->dialling == 0;
    return c->dialling < g->pool->waiting[class] &&
           (c->count == 0 || list_count(g->pool) < LISTS_MAX);
}

static void dial_further(struct upstream_group *g, struct choice *c, enum upstream_class class)
{
    struct upstream_conn *uc;

    while (may_dial(g, c, class)) {
        g->dial_ms[class] = now_ms(g);
        if (upstream__conn_dial(g, class, FURTHER_MS, &uc) != ERR_OK) {
            further_failed(g, class);
            return;
        }
        c->dialling++;
        c->count++;
    }
}

void upstream__group_want(struct upstream_group *g, enum upstream_class class)
{
    struct choice c = choose(g, class);

    if (g->state == UPSTREAM_GROUP_READY && c.free == NULL)
        dial_further(g, &c, class);
}

static struct upstream_conn *pick_further(struct upstream_group *g, enum upstream_class class)
{
    struct choice c = choose(g, class);

    if (c.free != NULL)
        return c.free;
    dial_further(g, &c, class);
    if (g->has_failed[class])
        return c.fewest != NULL ? c.fewest : c.any;
    return class == UPSTREAM_LIST && c.dialling == 0 ? c.fewest : NULL;
}

struct h2_conn *upstream__group_pick(struct upstream_group *g, enum upstream_class class)
{
    struct upstream_conn *uc = g->base;

    if (g->state != UPSTREAM_GROUP_READY)
        return NULL;
    if (upstream__conn_is_aged(uc))
        replace_base(g);
    if (class != UPSTREAM_UNARY || !h2_conn_can_request(uc->h2))
        uc = pick_further(g, class);
    if (uc == NULL)
        return NULL;
    uc->opened++;
    return uc->h2;
}

/* --- users come and go ----------------------------------------------------------------------- */

void upstream__group_add(struct upstream_group *g, struct upstream_user *u)
{
    list_push(&g->users, &u->node);
    u->group = g;
    switch (g->state) {
    case UPSTREAM_GROUP_IDLE:
        dial_or_rest(g);
        return;
    case UPSTREAM_GROUP_RESTING:
        return;
    case UPSTREAM_GROUP_DIALLING:
        if (g->next != NULL)
            upstream__conn_hurry(g->next, upstream__user_patience_ms(u));
        return;
    case UPSTREAM_GROUP_READY:
        loop_task_want(g->pool->loop, &g->task);
        return;
    }
}

static bool has_users(const struct upstream_group *g)
{
    return !list_is_empty(&g->users) || !list_is_empty(&g->due);
}

void upstream__group_left(struct upstream_group *g)
{
    if (has_users(g))
        return;
    g->left_ms = now_ms(g);
    if (g->state == UPSTREAM_GROUP_RESTING)
        group_set_state(g, UPSTREAM_GROUP_IDLE);
    sweep_by(g, IDLE_MS);
}

static void on_rested(struct loop_timer *t)
{
    dial_base(CONTAINER_OF(t, struct upstream_group, timer));
}

static void on_task(struct loop_task *t)
{
    struct upstream_group *g = CONTAINER_OF(t, struct upstream_group, task);

    if (g->state == UPSTREAM_GROUP_DIALLING && g->next == NULL)
        endpoint_failed(g);
    else if (g->state == UPSTREAM_GROUP_READY)
        upstream__users_serve(g);
}

void upstream_released(struct h2_conn *conn)
{
    const struct upstream_conn *uc = h2_conn_user(conn);
    struct upstream_group *g = uc->group;

    for (size_t i = 0; i < UPSTREAM_CLASSES; i++)
        if (g->pool->waiting[i] > 0 && g->state == UPSTREAM_GROUP_READY)
            loop_task_want(g->pool->loop, &g->task);
}

/* --- sweeping -------------------------------------------------------------------------------- */

/* Another one would serve the next stream of its class as well. */
static bool is_spare(const struct upstream_conn *uc)
{
    if (uc->class == UPSTREAM_LIST)
        return false; /* lists come several at a time */
    LIST_FOREACH(it, &uc->group->conns) {
        const struct upstream_conn *other = LIST_ENTRY(it, struct upstream_conn, node);

        if (other != uc && other->class == uc->class && other->state == UPSTREAM_CONN_READY &&
            is_free(other))
            return true;
    }
    return false;
}

/* When it may be closed; UINT64_MAX: that is not known yet. */
static uint64_t closes_at(const struct upstream_conn *uc)
{
    if (uc->state != UPSTREAM_CONN_READY || uc == uc->group->base ||
        h2_conn_stream_count(uc->h2) > 0)
        return UINT64_MAX;
    return uc->idle_ms + (is_spare(uc) ? SPARE_MS : IDLE_MS);
}

static uint64_t sweep_conns(struct upstream_group *g, uint64_t now)
{
    uint64_t next = UINT64_MAX;

    LIST_FOREACH(it, &g->conns) {
        struct upstream_conn *uc = LIST_ENTRY(it, struct upstream_conn, node);
        uint64_t at = closes_at(uc);

        if (at <= now)
            upstream__conn_close(uc);
        else if (at < next)
            next = at;
    }
    return next;
}

/* Those who wait ask again for what failed; returns when the next ones do. */
static uint64_t retry_due(struct upstream_group *g, uint64_t now)
{
    uint64_t next = UINT64_MAX;

    for (size_t i = 0; i < UPSTREAM_CLASSES; i++) {
        uint64_t at = g->is_due[i] ? g->dial_ms[i] + AGAIN_MS : UINT64_MAX;

        if (at <= now) {
            g->is_due[i] = false;
            loop_task_want(g->pool->loop, &g->task);
        } else if (at < next) {
            next = at;
        }
    }
    return next;
}

static void on_sweep(struct loop_timer *t)
{
    struct upstream_group *g = CONTAINER_OF(t, struct upstream_group, sweep);
    uint64_t now = now_ms(g), next, retry_at;

    if (!has_users(g) && g->state == UPSTREAM_GROUP_READY && now >= g->left_ms + IDLE_MS) {
        drop_next(g);
        close_in_state(g, UPSTREAM_CONN_READY);
        group_set_state(g, UPSTREAM_GROUP_IDLE);
    }
    next = sweep_conns(g, now);
    retry_at = retry_due(g, now);
    next = retry_at < next ? retry_at : next;
    if (!has_users(g) && g->state == UPSTREAM_GROUP_READY && g->left_ms + IDLE_MS < next)
        next = g->left_ms + IDLE_MS;
    if (next != UINT64_MAX)
        sweep_by(g, next > now ? next - now : 1);
}

/* --- life ------------------------------------------------------------------------------------ */

static void group_init(struct upstream_group *g, struct upstream_pool *p, const struct net_url *url)
{
    g->pool = p;
    g->url = url;
    list_init(&g->users);
    list_init(&g->due);
    list_init(&g->conns);
    loop_task_init(&g->task, on_task);
    loop_timer_init(&g->timer, on_rested);
    loop_timer_init(&g->sweep, on_sweep);
}

/* See timer_start. */
static enum err group_start(struct upstream_group *g)
{
    TRY(loop_timer_start(g->pool->loop, &g->timer, IDLE_MS));
    loop_timer_stop(&g->timer);
    TRY(loop_timer_start(g->pool->loop, &g->sweep, IDLE_MS));
    loop_timer_stop(&g->sweep);
    return ERR_OK;
}

static void group_fini(struct upstream_group *g)
{
    loop_task_cancel(&g->task);
    loop_timer_fini(&g->timer);
    loop_timer_fini(&g->sweep);
}

enum err upstream__groups_new(struct upstream_pool *p)
{
    size_t count = p->env->etcd_url_count;
    enum err e = ERR_OK;

    p->groups = calloc(count, sizeof *p->groups);
    if (p->groups == NULL)
        return ERR_NOMEM;
    for (size_t i = 0; i < count; i++)
        group_init(&p->groups[i], p, &p->env->etcd_urls[i]);
    for (size_t i = 0; i < count && e == ERR_OK; i++)
        e = group_start(&p->groups[i]);
    if (e == ERR_OK)
        return ERR_OK;
    for (size_t i = 0; i < count; i++)
        group_fini(&p->groups[i]);
    free(p->groups);
    p->groups = NULL;
    return e;
}

void upstream_pool_close(struct upstream_pool *p)
{
    for (size_t i = 0; p->groups != NULL && i < p->env->etcd_url_count; i++) {
        struct upstream_group *g = &p->groups[i];

        CHECK(!has_users(g));
        g->next = NULL;
        if (g->state != UPSTREAM_GROUP_IDLE)
            group_set_state(g, UPSTREAM_GROUP_IDLE);
        LIST_FOREACH(it, &g->conns) {
            upstream__conn_close(LIST_ENTRY(it, struct upstream_conn, node));
        }
        group_fini(g);
    }
}
