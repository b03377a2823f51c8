/* SPDX-License-Identifier: Apache-2.0 */
/* The happy path:
 *   1. accept, TLS, first bytes: link_opening.c;
 *   2. preface and SETTINGS are whole: the link joins the pool; when etcd answers, the client's
 *      HTTP/2 session begins, with the kept bytes;
 *   3. calls come and go; each has one stream on each side;
 *   4. the client goes away: the link leaves the pool, its calls end, it is freed.
 * Failure modes:
 *   - no TLS, no preface, no SETTINGS in time, or wrong ones: closed, and etcd hears nothing of it;
 *   - etcd cannot be reached: the client's connection is closed without SETTINGS;
 *   - etcd is lost and not back within 1 s (the pool fails the calls that wait): GOAWAY, close;
 *   - a client that floods, breaks HTTP/2, takes no bytes, answers no PING: cut, and counted;
 *   - drain: GOAWAY, the calls finish, the worker ends the rest. */
#include <stdlib.h>

#include "base/metrics.h"
#include "proxy/call.h"
#include "proxy/link_int.h"

#define WIND_DOWN_MS 1000
#define PROBES_MAX 32 /* each has a connection to etcd of its own */

struct worker *link_worker(const struct link *l)
{
    return l->worker;
}

struct link *link_of_node(struct list *node)
{
    return LIST_ENTRY(node, struct link, node);
}

void link__set_state(struct link *l, enum link_state to)
{
    static const uint8_t legal[] = {
        [LINK_OPENING] = 1 << LINK_DIALLING | 1 << LINK_CLOSING,
        [LINK_DIALLING] = 1 << LINK_OPEN | 1 << LINK_CLOSING,
        [LINK_OPEN] = 1 << LINK_CLOSING,
        [LINK_CLOSING] = 0,
    };

    CHECK(legal[l->state] & 1 << to);
    l->state = to;
}

void link__free_if_over(struct link *l)
{
    if (l->state != LINK_CLOSING || l->net != NULL || l->down != NULL || l->call_count > 0)
        return;
    loop_timer_fini(&l->timer);
    key_asker_fini(&l->keys);
    free(l->greeting);
    chain_fini(&l->first);
    list_remove(&l->node);
    slab_pool_keep(&l->worker->pool, &l->counted, 0);
    metric_sub(METRIC_links, 1);
    worker_link_closed(l->worker, l->holder == NULL ? NULL : l->holder->who, l->was_shed);
    if (l->holder != NULL)
        holder_leave(l->holder);
    free(l);
}

void link_close(struct link *l)
{
    if (l->state == LINK_CLOSING)
        return;
    link__set_state(l, LINK_CLOSING);
    loop_timer_stop(&l->timer);
    if (l->net != NULL)
        net_conn_close(l->net, 0);
    if (l->down != NULL)
        h2_conn_close(l->down, H2_NO_ERROR, WIND_DOWN_MS);
    upstream_leave(&l->up);
    link__free_if_over(l);
}

void link__wind_down(struct link *l)
{
    l->is_draining = true;
    if (l->call_count == 0 ||
        loop_timer_start(&l->worker->loop, &l->timer, WIND_DOWN_MS) != ERR_OK) {
        link_close(l);
        return;
    }
    h2_conn_shutdown(l->down);
}

void link__cut(struct link *l, enum err blame, const char *peer, const char *text)
{
    link__count_cut(blame, peer, text);
    link_close(l);
}

void link__on_timer(struct loop_timer *t)
{
    struct link *l = CONTAINER_OF(t, struct link, timer);

    if (l->state == LINK_OPENING)
        link__opening_late(l);
    else
        link_close(l);
}

/* --- upstream -------------------------------------------------------------------------------- */

static void down_begin(struct link *l);

static void on_upstream_back(struct upstream_user *u)
{
    struct link *l = CONTAINER_OF(u, struct link, up);

    if (l->state == LINK_DIALLING)
        down_begin(l);
}

static void on_upstream_away(struct upstream_user *u)
{
    struct link *l = CONTAINER_OF(u, struct link, up);

    if (l->state == LINK_OPEN)
        link__wind_down(l);
    else
        link_close(l);
}

static const struct upstream_user_ops up_ops = {
    .on_back = on_upstream_back,
    .on_away = on_upstream_away,
};

enum err link__join(struct link *l)
{
    return upstream_join(&l->worker->upstream, &l->up, &up_ops);
}

struct upstream_user *link_upstream(struct link *l)
{
    return &l->up;
}

uint64_t link_id(const struct link *l)
{
    return l->keys.id;
}

struct key_asker *link_key_asker(struct link *l)
{
    return &l->keys;
}

/* --- the client's HTTP/2 session ------------------------------------------------------------- */

static void down_on_request(struct h2_conn *h, struct h2_stream *s, struct h2_fields f, bool end)
{
    struct link *l = h2_conn_user(h);

    if (l->state != LINK_OPEN) {
        h2_stream_reset(s, H2_REFUSED_STREAM);
        return;
    }
    call_open(l, s, f, end);
}

static void down_on_ready(struct h2_conn *h)
{
    (void)h;
}

static void down_on_goaway(struct h2_conn *h, enum h2_code code)
{
    struct link *l = h2_conn_user(h);

    (void)code;
    l->client_leaves = true;
    if (l->call_count == 0)
        link_close(l);
}

static void down_on_lost(struct h2_conn *h, enum err why)
{
    if (h2_conn_blame(h) != ERR_OK) {
        link__cut(h2_conn_user(h), h2_conn_blame(h), h2_conn_peer(h), h2_conn_why(h));
        return;
    }
    LOG(DEBUG, "client connection ended", "peer=%s reason=%s", h2_conn_peer(h), err_reason(why));
    link_close(h2_conn_user(h));
}

static void down_on_closed(struct h2_conn *h)
{
    struct link *l = h2_conn_user(h);

    l->down = NULL;
    link__free_if_over(l);
}

static const struct h2_conn_ops down_ops = {
    .on_request = down_on_request,
    .on_ready = down_on_ready,
    .on_goaway = down_on_goaway,
    .on_lost = down_on_lost,
    .on_conn_closed = down_on_closed,
};

/* What etcd allows is told to the client: its calls then wait there, where they can be seen and
 * ended, as they do in front of etcd itself. */
static uint32_t max_streams(const struct link *l)
{
    uint32_t ours = l->worker->env->settings->max_concurrent_streams;
    uint32_t etcds = upstream_max_streams(&l->up);

    return ours < etcds ? ours : etcds;
}

static void down_begin(struct link *l)
{
    const struct h2_opts opts = {
        .is_server = true,
        .max_streams = max_streams(l),
        .stream_window = LIMIT_STREAM_FIRST,
        .conn_window = LIMIT_CONN_WINDOW,
        .max_frame_size = 16384,
        .write_stall_ms = LIMIT_WRITE_STALL_MS,
        .headers_ms = LIMIT_HEADERS_MS,
        .ping_ms = l->worker->env->settings->stall_timeout_ms,
        .ping_ack_ms = LIMIT_IDLE_PING_ACK_MS,
        .is_pinged_idle = true,
    };
    struct net_conn *net = l->net;

    loop_timer_stop(&l->timer);
    if (net_conn_unread(net, &l->first) != ERR_OK) {
        link_close(l);
        return;
    }
    l->net = NULL;
    link__set_state(l, LINK_OPEN);
    net_conn_read_start(net);
    if (h2_conn_new(&l->worker->loop, &l->worker->pool, net, &opts, &down_ops, l, &l->down) !=
        ERR_OK)
        link_close(l);
}

/* --- calls and the end ----------------------------------------------------------------------- */

void link_call_added(struct link *l, struct list *node)
{
    list_push(&l->calls, node);
    l->call_count++;
}

void link_call_removed(struct link *l)
{
    l->call_count--;
    if (l->call_count == 0 && (l->is_draining || l->client_leaves) && l->state == LINK_OPEN)
        link_close(l);
    else
        link__free_if_over(l);
}

bool link_probe_added(struct link *l)
{
    if (l->probe_count >= PROBES_MAX)
        return false;
    l->probe_count++;
    return true;
}

void link_probe_removed(struct link *l)
{
    l->probe_count--;
}

void link_drain(struct link *l)
{
    if (l->state != LINK_OPEN) {
        link_close(l);
        return;
    }
    if (l->is_draining)
        return;
    l->is_draining = true;
    h2_conn_shutdown(l->down);
}

void link_end_calls(struct link *l, enum link_end which)
{
    LIST_FOREACH(it, &l->calls) {
        struct call *c = call_of_link_node(it);

        if (which != LINK_END_NONE && call_is_live(c) &&
            (which == LINK_END_ALL || !call_is_unary(c)))
            call_fail_err(c, ERR_CLOSED);
    }
    if (l->state != LINK_OPEN || l->call_count == 0)
        link_close(l);
}
