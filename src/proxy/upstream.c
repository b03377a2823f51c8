/* SPDX-License-Identifier: Apache-2.0 */
/* The users of the pool: each has one endpoint at a time, and waits there for what it asked for.
 *
 * The happy path: a user joins at the next endpoint in turn, is told when that answers (HOME), and
 * gets connections of the endpoint's group.
 * Failure modes:
 *   - an attempt fails: all who wait for it go on to the next endpoint at once (which rests for
 *     LIMIT_REDIAL_MS between two attempts); who has tried every endpoint and spent
 *     LIMIT_UPSTREAM_WAIT_MS is AWAY;
 *   - an endpoint that accepts but does not answer: its attempt is cut (3 s, or 1 s with more than
 *     one; when a lost connection is redialled, its part of the time that calls wait, or what is
 *     left of it);
 *   - the endpoint is lost: its users are SEEKING again, together, and try it first.
 * What is called may let any user leave: so lists are walked from their heads, and after each call
 * pool.told says whether the user is still there. */
#include "proxy/upstream.h"

#include <stdlib.h>

#include "base/limits.h"
#include "proxy/upstream_int.h"

#define ATTEMPT_ALONE_MS 3000
#define ATTEMPT_OF_MANY_MS 1000
#define ATTEMPT_AGAIN_MS 250 /* at least, when calls may wait for it */
#define ATTEMPT_LATE_MS 200  /* how far one may go beyond the time that calls wait */
/* A client has 2^30 stream ids (RFC 9113 section 5.1.1). */
#define CONN_STREAMS (1u << 29)

static void user_set_state(struct upstream_user *u, enum upstream_user_state to)
{
    static const uint8_t legal[] = {
        [UPSTREAM_OUT] = 1 << UPSTREAM_SEEKING,
        [UPSTREAM_SEEKING] = 1 << UPSTREAM_HOME | 1 << UPSTREAM_AWAY | 1 << UPSTREAM_OUT,
        [UPSTREAM_HOME] = 1 << UPSTREAM_SEEKING | 1 << UPSTREAM_OUT,
        [UPSTREAM_AWAY] = 1 << UPSTREAM_OUT,
    };

    CHECK(legal[u->state] & 1 << to);
    u->state = to;
}

/* --- waits ----------------------------------------------------------------------------------- */

static void wait_begin(struct upstream_user *u, enum upstream_class class, struct upstream_wait *w)
{
    w->user = u;
    w->class = class;
    w->seq = ++u->pool->wait_seq;
    u->pool->waiting[class]++;
    list_push(&u->waits[class], &w->node);
}

void upstream_wait_init(struct upstream_wait *w, upstream_wait_fn *fn)
{
    *w = (struct upstream_wait){.fn = fn};
    list_init(&w->node);
}

void upstream_wait_cancel(struct upstream_wait *w)
{
    if (list_is_empty(&w->node))
        return;
    w->user->pool->waiting[w->class]--;
    list_remove(&w->node);
}

/* The longest of the class, if it is not younger than seq. */
static struct upstream_wait *first_wait(struct upstream_user *u, size_t class, uint64_t seq)
{
    struct upstream_wait *w;

    if (list_is_empty(&u->waits[class]))
        return NULL;
    w = LIST_FIRST(&u->waits[class], struct upstream_wait, node);
    return w->seq <= seq ? w : NULL;
}

static void wait_end(struct upstream_wait *w, struct h2_conn *conn)
{
    upstream_wait_cancel(w);
    w->fn(w, conn);
}

/* --- what a user hears; false: it has left meanwhile ----------------------------------------- */

static bool say_back(struct upstream_user *u)
{
    struct upstream_pool *p = u->pool;

    if (u->state == UPSTREAM_HOME)
        return true;
    user_set_state(u, UPSTREAM_HOME);
    u->was_home = true;
    u->ops->on_back(u);
    return p->told == u;
}

/* Those of a class that wait now, not those that begin to meanwhile. *has_more: there is no
 * connection for the next. */
static bool serve_class(struct upstream_user *u, enum upstream_class class, bool *has_more)
{
    struct upstream_pool *p = u->pool;
    uint64_t now = p->wait_seq;
    struct upstream_wait *w;

    while (!*has_more && (w = first_wait(u, class, now)) != NULL) {
        struct h2_conn *conn = upstream__group_pick(u->group, class);

        *has_more = conn == NULL;
        if (conn == NULL)
            break;
        wait_end(w, conn);
        if (p->told != u)
            return false;
    }
    return true;
}

static void say_away(struct upstream_user *u)
{
    struct upstream_pool *p = u->pool;
    uint64_t now = p->wait_seq;
    struct upstream_wait *w;

    user_set_state(u, UPSTREAM_AWAY);
    list_remove(&u->node);
    u->group = NULL;
    p->told = u;
    for (size_t class = 0; class < UPSTREAM_CLASSES; class ++)
        while ((w = first_wait(u, class, now)) != NULL) {
            wait_end(w, NULL);
            if (p->told != u)
                return;
        }
    u->ops->on_away(u);
    p->told = NULL;
}

/* --- all users of a group -------------------------------------------------------------------- */

/* The next one of g->due, which goes back to the users; NULL: all were there. */
static struct upstream_user *next_due(struct upstream_group *g)
{
    struct upstream_user *u;

    if (list_is_empty(&g->due))
        return NULL;
    u = LIST_FIRST(&g->due, struct upstream_user, node);
    list_remove(&u->node);
    list_push(&g->users, &u->node);
    return u;
}

void upstream__users_serve(struct upstream_group *g)
{
    bool has_more[UPSTREAM_CLASSES] = {false};
    struct upstream_user *u;

    list_splice(&g->due, &g->users);
    while ((u = next_due(g)) != NULL) {
        g->pool->told = u;
        if (!say_back(u))
            continue;
        for (unsigned class = 0; class < UPSTREAM_CLASSES; class ++)
            if (!serve_class(u, class, &has_more[class]))
                break;
    }
    g->pool->told = NULL;
}

void upstream__users_lost(struct upstream_group *g)
{
    uint64_t now = loop_now_ms(g->pool->loop);

    LIST_FOREACH(it, &g->users) {
        struct upstream_user *u = LIST_ENTRY(it, struct upstream_user, node);

        if (u->state == UPSTREAM_HOME)
            user_set_state(u, UPSTREAM_SEEKING);
        u->attempts = 0;
        u->deadline_ms = now + LIMIT_UPSTREAM_WAIT_MS;
    }
}

void upstream__users_failed(struct upstream_group *g)
{
    struct upstream_pool *p = g->pool;
    size_t count = p->env->etcd_url_count;
    struct upstream_group *to = &p->groups[((size_t)(g - p->groups) + 1) % count];
    struct upstream_user *u;

    list_splice(&g->due, &g->users);
    while ((u = next_due(g)) != NULL) {
        u->attempts++;
        if (u->attempts >= count && loop_now_ms(p->loop) >= u->deadline_ms) {
            say_away(u);
        } else {
            list_remove(&u->node);
            upstream__group_add(to, u);
        }
    }
}

uint64_t upstream__user_patience_ms(const struct upstream_user *u)
{
    size_t count = u->pool->env->etcd_url_count;
    uint64_t part = LIMIT_UPSTREAM_WAIT_MS / count;
    uint64_t now = loop_now_ms(u->pool->loop);
    uint64_t left = now < u->deadline_ms ? u->deadline_ms - now : 0;

    if (!u->was_home) /* the client waits for our SETTINGS, not for an answer */
        return count > 1 ? ATTEMPT_OF_MANY_MS : ATTEMPT_ALONE_MS;
    if (part < ATTEMPT_AGAIN_MS)
        part = ATTEMPT_AGAIN_MS;
    /* An endpoint that refused for a while and then is silent gets no second wait; but each is
     * tried once. */
    if (u->attempts >= count && part > left + ATTEMPT_LATE_MS)
        return left + ATTEMPT_LATE_MS;
    return part;
}

/* --- for users ------------------------------------------------------------------------------- */

enum err upstream_join(struct upstream_pool *p, struct upstream_user *u,
                       const struct upstream_user_ops *ops)
{
    *u = (struct upstream_user){.ops = ops, .pool = p};
    list_init(&u->node);
    for (size_t i = 0; i < UPSTREAM_CLASSES; i++)
        list_init(&u->waits[i]);
    if (p->groups == NULL)
        TRY(upstream__groups_new(p));
    user_set_state(u, UPSTREAM_SEEKING);
    u->deadline_ms = loop_now_ms(p->loop) + LIMIT_UPSTREAM_WAIT_MS;
    upstream__group_add(&p->groups[p->next_server++ % p->env->etcd_url_count], u);
    return ERR_OK;
}

void upstream_leave(struct upstream_user *u)
{
    struct upstream_group *g = u->group;

    if (u->state == UPSTREAM_OUT)
        return;
    user_set_state(u, UPSTREAM_OUT);
    u->group = NULL;
    if (u->pool->told == u)
        u->pool->told = NULL;
    for (size_t i = 0; i < UPSTREAM_CLASSES; i++)
        while (!list_is_empty(&u->waits[i]))
            upstream_wait_cancel(LIST_FIRST(&u->waits[i], struct upstream_wait, node));
    list_remove(&u->node);
    if (g != NULL)
        upstream__group_left(g);
}

struct h2_conn *upstream_ask(struct upstream_user *u, enum upstream_class class,
                             struct upstream_wait *w)
{
    struct h2_conn *conn = NULL;

    if (u->state == UPSTREAM_OUT)
        return NULL;
    wait_begin(u, class, w);
    if (u->state == UPSTREAM_HOME && u->waits[class].next == &w->node)
        conn = upstream__group_pick(u->group, class);
    else if (u->state == UPSTREAM_HOME)
        upstream__group_want(u->group, class);
    if (conn != NULL)
        upstream_wait_cancel(w);
    return conn;
}

uint32_t upstream_max_streams(const struct upstream_user *u)
{
    return h2_conn_peer_streams(u->group->base->h2);
}

/* --- the pool -------------------------------------------------------------------------------- */

void upstream_pool_init(struct upstream_pool *p, struct loop *loop, struct slab_pool *slabs,
                        const struct proxy_env *env)
{
    *p = (struct upstream_pool){
        .loop = loop, .slabs = slabs, .env = env, .conn_streams = CONN_STREAMS};
}

void upstream_pool_set_tls(struct upstream_pool *p, struct net_tls *tls)
{
    if (p->tls != NULL)
        net_tls_drop(p->tls);
    p->tls = tls;
    p->tls_age++;
}

void upstream_pool_fini(struct upstream_pool *p)
{
    for (size_t i = 0; p->groups != NULL && i < p->env->etcd_url_count; i++)
        CHECK(list_is_empty(&p->groups[i].users) && list_is_empty(&p->groups[i].conns));
    free(p->groups);
    upstream_pool_set_tls(p, NULL);
}
