/* SPDX-License-Identifier: Apache-2.0 */
/* The happy path: dial the next endpoint, wait for etcd's SETTINGS, tell the link (READY).
 * Failure modes:
 *   - refused, unreachable, TLS failure: next endpoint at once, 50 ms after each round; after 1 s
 * with every endpoint tried: DEAD;
 *   - an endpoint that accepts but does not answer: its attempt is cut (3 s, or 1 s with more than
 * one; when a lost connection is redialled, its part of the time that calls wait, or what is left
 * of it);
 *   - the ready connection is lost: its streams have had their on_close, dialling begins again, at
 * once if it lived for longer than 50 ms;
 *   - GOAWAY: the connection goes on for its streams while the next one is dialled, and is closed
 *     behind the last of them. */
#include "proxy/upstream.h"

#include <stdlib.h>

#include "base/log.h"
#include "proxy/call.h"

#define ATTEMPT_ALONE_MS 3000
#define ATTEMPT_OF_MANY_MS 1000
#define ATTEMPT_AGAIN_MS 250 /* at least, when calls may wait for it */
#define ATTEMPT_LATE_MS 200  /* how far one may go beyond the time that calls wait */
/* etcd's TLS port sends frames up to what we announce: fewer headers on large answers. */
#define UPSTREAM_FRAME_SIZE (1024 * 1024)

struct upstream_conn {
    struct list node;
    struct upstream *owner;
    struct net_conn *net; /* while it is dialled; then h2's */
    struct h2_conn *h2;
    bool is_attempt;  /* the one attempt in work: not yet ready, not yet failed */
    bool is_draining; /* etcd said GOAWAY: it ends with its last stream */
};

static void dial_next(struct upstream *u);

static void gone_if_over(struct upstream *u)
{
    if (!u->is_closing || !list_is_empty(&u->conns))
        return;
    loop_timer_fini(&u->timer);
    loop_task_cancel(&u->task);
    u->on_gone(u);
}

static void conn_free(struct upstream_conn *uc)
{
    struct upstream *u = uc->owner;

    list_remove(&uc->node);
    free(uc);
    gone_if_over(u);
}

static void set_state(struct upstream *u, enum upstream_state state)
{
    u->state = state;
    if (state == UPSTREAM_DIALLING) {
        u->attempts = 0;
        u->deadline_ms = loop_now_ms(&u->worker->loop) + LIMIT_UPSTREAM_WAIT_MS;
    } else {
        loop_timer_stop(&u->timer);
        u->on_state(u);
    }
}

/* --- failure of the attempt in work ---------------------------------------------------------- */

static void attempt_failed(struct upstream_conn *uc, const char *peer, const char *why)
{
    struct upstream *u = uc->owner;
    const struct proxy_env *env = u->worker->env;

    if (!uc->is_attempt || u->is_closing)
        return;
    uc->is_attempt = false;
    LOG_RATED(WARN, "cannot reach etcd", "server=%s reason=\"%s\"", peer, why);
    u->server = (u->server + 1) % env->etcd_url_count;
    if (u->attempts >= env->etcd_url_count && loop_now_ms(&u->worker->loop) >= u->deadline_ms) {
        set_state(u, UPSTREAM_DEAD);
        return;
    }
    if (u->attempts % env->etcd_url_count != 0) {
        dial_next(u);
        return;
    }
    if (loop_timer_start(&u->worker->loop, &u->timer, LIMIT_REDIAL_MS) != ERR_OK)
        set_state(u, UPSTREAM_DEAD);
}

/* --- the dialled socket ---------------------------------------------------------------------- */

static void h2_on_ready(struct h2_conn *h);
static void h2_on_goaway(struct h2_conn *h, enum h2_code code);
static void h2_on_stream_close(struct h2_stream *s, enum h2_code code, bool is_complete);
static void h2_on_lost(struct h2_conn *h, enum err why);
static void h2_on_closed(struct h2_conn *h);

static const struct h2_ops upstream_h2_ops = {
    .on_response = call_on_up_response,
    .on_data = call_on_up_data,
    .on_trailers = call_on_up_trailers,
    .on_end = call_on_up_end,
    .on_drained = call_on_up_drained,
    .on_close = h2_on_stream_close,
    .on_ready = h2_on_ready,
    .on_goaway = h2_on_goaway,
    .on_lost = h2_on_lost,
    .on_conn_closed = h2_on_closed,
};

static void net_on_open(struct net_conn *n)
{
    static const struct h2_opts opts = {
        .stream_window = LIMIT_STREAM_WINDOW,
        .conn_window = LIMIT_CONN_WINDOW,
        .max_frame_size = UPSTREAM_FRAME_SIZE,
        .ping_ms = LIMIT_PING_MS,
        .ping_ack_ms = LIMIT_PING_ACK_MS,
    };
    struct upstream_conn *uc = net_conn_user(n);
    struct upstream *u = uc->owner;

    uc->net = NULL;
    if (h2_conn_new(&u->worker->loop, &u->worker->pool, n, &opts, &upstream_h2_ops, uc, &uc->h2) !=
        ERR_OK) {
        attempt_failed(uc, "etcd", "out of memory"); /* h2_conn_new has closed the socket */
        conn_free(uc);
    }
}

static void net_on_eof(struct net_conn *n, enum err why)
{
    (void)why;
    attempt_failed(net_conn_user(n), net_conn_peer(n), net_conn_why(n));
    net_conn_close(n, 0);
}

static void net_on_closed(struct net_conn *n)
{
    conn_free(net_conn_user(n));
}

static void net_on_read(struct net_conn *n, struct slice *s)
{
    (void)n;
    slice_drop(s); /* never before on_open, and then h2 is the owner */
}

static void net_on_writable(struct net_conn *n)
{
    (void)n;
}

static const struct net_conn_ops dial_ops = {
    .on_open = net_on_open,
    .on_read = net_on_read,
    .on_writable = net_on_writable,
    .on_eof = net_on_eof,
    .on_closed = net_on_closed,
};

static uint64_t attempt_limit_ms(const struct upstream *u)
{
    size_t count = u->worker->env->etcd_url_count;
    uint64_t part = LIMIT_UPSTREAM_WAIT_MS / count;
    uint64_t now = loop_now_ms(&u->worker->loop);
    uint64_t left = now < u->deadline_ms ? u->deadline_ms - now : 0;

    if (u->ready_ms == 0) /* the client waits for our SETTINGS, not for an answer */
        return count > 1 ? ATTEMPT_OF_MANY_MS : ATTEMPT_ALONE_MS;
    if (part < ATTEMPT_AGAIN_MS)
        part = ATTEMPT_AGAIN_MS;
    /* An endpoint that refused for a while and then is silent gets no second wait; but each is
     * tried once. */
    if (u->attempts > count && part > left + ATTEMPT_LATE_MS)
        return left + ATTEMPT_LATE_MS;
    return part;
}

static void dial_next(struct upstream *u)
{
    const struct proxy_env *env = u->worker->env;
    const struct net_url *url = &env->etcd_urls[u->server];
    struct upstream_conn *uc = calloc(1, sizeof *uc);

    u->attempts++;
    if (uc == NULL ||
        loop_timer_start(&u->worker->loop, &u->timer, attempt_limit_ms(u)) != ERR_OK) {
        free(uc);
        set_state(u, UPSTREAM_DEAD);
        return;
    }
    uc->owner = u;
    uc->is_attempt = true;
    list_push(&u->conns, &uc->node);
    if (net_conn_dial(&u->worker->loop, &u->worker->pool, 0, url,
                      url->is_tls ? u->worker->etcd_tls : NULL, &dial_ops, uc,
                      &uc->net) != ERR_OK) {
        list_remove(&uc->node);
        free(uc);
        set_state(u, UPSTREAM_DEAD);
    }
}

/* --- the HTTP/2 connection ------------------------------------------------------------------- */

static void h2_on_ready(struct h2_conn *h)
{
    struct upstream_conn *uc = h2_conn_user(h);
    struct upstream *u = uc->owner;

    if (!uc->is_attempt || u->is_closing) {
        h2_conn_close(h, H2_NO_ERROR, 0);
        return;
    }
    uc->is_attempt = false;
    u->current = h;
    u->ready_ms = loop_now_ms(&u->worker->loop);
    set_state(u, UPSTREAM_READY);
}

static void redial(struct upstream *u)
{
    uint64_t lived_ms = loop_now_ms(&u->worker->loop) - u->ready_ms;

    u->current = NULL;
    set_state(u, UPSTREAM_DIALLING);
    /* One that greets and leaves would be dialled a thousand times a second. */
    if (lived_ms >= LIMIT_REDIAL_MS)
        dial_next(u);
    else if (loop_timer_start(&u->worker->loop, &u->timer, LIMIT_REDIAL_MS) != ERR_OK)
        set_state(u, UPSTREAM_DEAD);
}

static void h2_on_goaway(struct h2_conn *h, enum h2_code code)
{
    struct upstream_conn *uc = h2_conn_user(h);
    struct upstream *u = uc->owner;

    LOG_RATED(INFO, "etcd said GOAWAY", "server=%s code=%d", h2_conn_peer(h), (int)code);
    uc->is_draining = true;
    if (u->current == h && !u->is_closing)
        redial(u);
    loop_task_want(&u->worker->loop, &u->task);
}

/* A server need not close by itself, and nothing else would look at the connection again. */
static void close_drained(struct loop_task *t)
{
    struct upstream *u = CONTAINER_OF(t, struct upstream, task);

    LIST_FOREACH(it, &u->conns) {
        struct upstream_conn *uc = LIST_ENTRY(it, struct upstream_conn, node);

        if (uc->is_draining && h2_conn_stream_count(uc->h2) == 0)
            h2_conn_close(uc->h2, H2_NO_ERROR, 0);
    }
}

static void h2_on_stream_close(struct h2_stream *s, enum h2_code code, bool is_complete)
{
    struct upstream_conn *uc = h2_conn_user(h2_stream_conn(s));

    /* The stream still counts, so the task looks; and u may be over behind the next line. */
    if (uc->is_draining)
        loop_task_want(&uc->owner->worker->loop, &uc->owner->task);
    call_on_up_close(s, code, is_complete);
}

static void h2_on_lost(struct h2_conn *h, enum err why)
{
    struct upstream_conn *uc = h2_conn_user(h);
    struct upstream *u = uc->owner;
    bool was_current = u->current == h;

    if (was_current && !u->is_closing)
        LOG_RATED(WARN, "connection to etcd lost", "server=%s reason=%s text=\"%s\"",
                  h2_conn_peer(h), err_reason(why), h2_conn_why(h));
    attempt_failed(uc, h2_conn_peer(h), h2_conn_why(h));
    h2_conn_close(h, H2_NO_ERROR, 0);
    if (was_current && !u->is_closing)
        redial(u);
}

static void h2_on_closed(struct h2_conn *h)
{
    conn_free(h2_conn_user(h));
}

/* --- timer: an attempt takes too long, or the next round is due ------------------------------- */

static void cut_attempt(struct upstream_conn *uc)
{
    const char *peer = uc->h2 != NULL ? h2_conn_peer(uc->h2) : net_conn_peer(uc->net);

    attempt_failed(uc, peer, "no answer in time");
    if (uc->h2 != NULL)
        h2_conn_close(uc->h2, H2_NO_ERROR, 0);
    else
        net_conn_close(uc->net, 0);
}

static void on_timer(struct loop_timer *t)
{
    struct upstream *u = CONTAINER_OF(t, struct upstream, timer);

    if (u->state != UPSTREAM_DIALLING || u->is_closing)
        return;
    LIST_FOREACH(it, &u->conns) {
        struct upstream_conn *uc = LIST_ENTRY(it, struct upstream_conn, node);

        if (uc->is_attempt) {
            cut_attempt(uc);
            return;
        }
    }
    dial_next(u);
}

void upstream_init(struct upstream *u, struct worker *w)
{
    *u = (struct upstream){.worker = w};
    list_init(&u->conns);
    loop_timer_init(&u->timer, on_timer);
    loop_task_init(&u->task, close_drained);
}

void upstream_start(struct upstream *u)
{
    u->server = u->worker->next_server++ % u->worker->env->etcd_url_count;
    set_state(u, UPSTREAM_DIALLING);
    dial_next(u);
}

void upstream_close(struct upstream *u)
{
    u->is_closing = true;
    u->state = UPSTREAM_DEAD;
    u->current = NULL;
    loop_timer_stop(&u->timer);
    LIST_FOREACH(it, &u->conns) {
        struct upstream_conn *uc = LIST_ENTRY(it, struct upstream_conn, node);

        if (uc->h2 != NULL)
            h2_conn_close(uc->h2, H2_NO_ERROR, 0);
        else if (uc->net != NULL)
            net_conn_close(uc->net, 0);
    }
    gone_if_over(u);
}

const struct net_url *upstream_url(const struct upstream *u)
{
    return &u->worker->env->etcd_urls[u->server];
}
