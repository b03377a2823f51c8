/* SPDX-License-Identifier: Apache-2.0 */
/* The happy path of one connection to etcd: dial, hand the socket to h2, wait for etcd's SETTINGS
 * (READY), serve streams until the pool closes it.
 * Failure modes:
 *   - refused, unreachable, TLS failure, no SETTINGS in time: upstream__on_failed;
 *   - lost: its streams have had their on_close; upstream__on_retired;
 *   - GOAWAY: upstream__on_retired; it goes on for its streams and is closed behind the last of
 *     them, for a server need not close by itself. So does one that the pool replaces. */
#include <stdlib.h>

#include "base/log.h"
#include "base/limits.h"
#include "proxy/upstream_int.h"

/* etcd's TLS port sends frames up to what we announce: fewer headers on large answers. */
#define UPSTREAM_FRAME_SIZE (1024 * 1024)

static void conn_set_state(struct upstream_conn *uc, enum upstream_conn_state to)
{
    static const uint8_t legal[] = {
        [UPSTREAM_CONN_DIALLING] = 1 << UPSTREAM_CONN_READY | 1 << UPSTREAM_CONN_OVER,
        [UPSTREAM_CONN_READY] = 1 << UPSTREAM_CONN_DRAINING | 1 << UPSTREAM_CONN_OVER,
        [UPSTREAM_CONN_DRAINING] = 1 << UPSTREAM_CONN_OVER,
        [UPSTREAM_CONN_OVER] = 0,
    };

    CHECK(legal[uc->state] & 1 << to);
    uc->state = to;
}

static void conn_free(struct upstream_conn *uc)
{
    list_remove(&uc->node);
    loop_timer_fini(&uc->timer);
    free(uc);
}

void upstream__conn_close(struct upstream_conn *uc)
{
    if (uc->state != UPSTREAM_CONN_OVER)
        conn_set_state(uc, UPSTREAM_CONN_OVER);
    loop_timer_stop(&uc->timer);
    if (uc->h2 != NULL)
        h2_conn_close(uc->h2, H2_NO_ERROR, 0);
    else if (uc->net != NULL)
        net_conn_close(uc->net, 0);
}

static void conn_fail(struct upstream_conn *uc, const char *peer, const char *why)
{
    LOG_RATED(WARN, "cannot reach etcd", "server=%s reason=\"%s\"", peer, why);
    upstream__conn_close(uc);
    upstream__on_failed(uc);
}

static void on_late(struct loop_timer *t)
{
    struct upstream_conn *uc = CONTAINER_OF(t, struct upstream_conn, timer);

    conn_fail(uc, uc->h2 != NULL ? h2_conn_peer(uc->h2) : net_conn_peer(uc->net),
              "no answer in time");
}

void upstream__conn_hurry(struct upstream_conn *uc, uint64_t limit_ms)
{
    struct loop *loop = uc->group->pool->loop;
    uint64_t at = loop_now_ms(loop) + limit_ms;

    if (at >= uc->limit_ms)
        return;
    uc->limit_ms = at;
    /* It was started before, and can't fail any more. */
    CHECK(loop_timer_start(loop, &uc->timer, limit_ms) == ERR_OK);
}

void upstream__conn_drain(struct upstream_conn *uc)
{
    conn_set_state(uc, UPSTREAM_CONN_DRAINING);
    if (h2_conn_stream_count(uc->h2) == 0)
        upstream__conn_close(uc);
}

bool upstream__conn_is_aged(const struct upstream_conn *uc)
{
    const struct upstream_pool *p = uc->group->pool;

    return uc->is_suspect || uc->opened >= p->conn_streams ||
           (uc->group->url->is_tls && uc->tls_age != p->tls_age);
}

/* --- the HTTP/2 connection ------------------------------------------------------------------- */

static void h2_on_ready(struct h2_conn *h)
{
    struct upstream_conn *uc = h2_conn_user(h);

    conn_set_state(uc, UPSTREAM_CONN_READY);
    loop_timer_stop(&uc->timer);
    uc->idle_ms = loop_now_ms(uc->group->pool->loop);
    upstream__on_ready(uc);
}

static void h2_on_idle(struct h2_conn *h)
{
    struct upstream_conn *uc = h2_conn_user(h);

    if (uc->state == UPSTREAM_CONN_DRAINING)
        upstream__conn_close(uc);
    else if (uc->state == UPSTREAM_CONN_READY)
        upstream__on_idle(uc);
}

static void h2_on_room(struct h2_conn *h)
{
    upstream_released(h);
}

static void h2_on_goaway(struct h2_conn *h, enum h2_code code)
{
    struct upstream_conn *uc = h2_conn_user(h);

    LOG_RATED(INFO, "etcd said GOAWAY", "server=%s code=%d", h2_conn_peer(h), (int)code);
    if (uc->state == UPSTREAM_CONN_READY) {
        conn_set_state(uc, UPSTREAM_CONN_DRAINING);
        upstream__on_retired(uc, false);
    }
    if (h2_conn_stream_count(h) == 0)
        h2_on_idle(h);
}

static void h2_on_lost(struct h2_conn *h, enum err why)
{
    struct upstream_conn *uc = h2_conn_user(h);
    bool was_ready = uc->state == UPSTREAM_CONN_READY;

    if (uc->state == UPSTREAM_CONN_DIALLING) {
        conn_fail(uc, h2_conn_peer(h), h2_conn_why(h));
        return;
    }
    if (was_ready)
        LOG_RATED(WARN, "connection to etcd lost", "server=%s reason=%s text=\"%s\"",
                  h2_conn_peer(h), err_reason(why), h2_conn_why(h));
    upstream__conn_close(uc);
    if (was_ready)
        upstream__on_retired(uc, why == ERR_TIMEOUT);
}

static void h2_on_closed(struct h2_conn *h)
{
    conn_free(h2_conn_user(h));
}

static const struct h2_conn_ops h2_ops = {
    .on_ready = h2_on_ready,
    .on_room = h2_on_room,
    .on_goaway = h2_on_goaway,
    .on_idle = h2_on_idle,
    .on_lost = h2_on_lost,
    .on_conn_closed = h2_on_closed,
};

const char *upstream_scheme(const struct h2_conn *conn)
{
    const struct upstream_conn *uc = h2_conn_user(conn);

    return uc->group->url->is_tls ? "https" : "http";
}

/* --- the dialled socket ---------------------------------------------------------------------- */

static void net_on_open(struct net_conn *n)
{
    static const struct h2_opts opts = {
        .stream_window = LIMIT_STREAM_FIRST,
        .conn_window = LIMIT_CONN_WINDOW,
        .max_frame_size = UPSTREAM_FRAME_SIZE,
        .ping_ms = LIMIT_PING_MS,
        .ping_ack_ms = LIMIT_PING_ACK_MS,
    };
    struct upstream_conn *uc = net_conn_user(n);
    const struct upstream_pool *p = uc->group->pool;

    uc->net = NULL;
    if (h2_conn_new(p->loop, p->slabs, n, &opts, &h2_ops, uc, &uc->h2) != ERR_OK) {
        conn_fail(uc, "etcd", "out of memory"); /* h2_conn_new has closed the socket */
        conn_free(uc);
    }
}

static void net_on_eof(struct net_conn *n, enum err why)
{
    struct upstream_conn *uc = net_conn_user(n);

    (void)why;
    if (uc->state == UPSTREAM_CONN_DIALLING)
        conn_fail(uc, net_conn_peer(n), net_conn_why(n));
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

enum err upstream__conn_dial(struct upstream_group *g, enum upstream_class class, uint64_t limit_ms,
                             struct upstream_conn **out)
{
    const struct upstream_pool *p = g->pool;
    struct upstream_conn *uc = calloc(1, sizeof *uc);
    enum err e;

    if (uc == NULL)
        return ERR_NOMEM;
    uc->group = g;
    uc->class = class;
    uc->tls_age = p->tls_age;
    uc->limit_ms = loop_now_ms(p->loop) + limit_ms;
    loop_timer_init(&uc->timer, on_late);
    e = loop_timer_start(p->loop, &uc->timer, limit_ms);
    if (e == ERR_OK)
        e = net_conn_dial(p->loop, p->slabs, 0, g->url, g->url->is_tls ? p->tls : NULL, &dial_ops,
                          uc, &uc->net);
    if (e != ERR_OK) {
        loop_timer_fini(&uc->timer);
        free(uc);
        return e;
    }
    list_push(&g->conns, &uc->node);
    *out = uc;
    return ERR_OK;
}
