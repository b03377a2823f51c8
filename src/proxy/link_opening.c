/* SPDX-License-Identifier: Apache-2.0 */
/* From the accept to a link that speaks HTTP/2. The first bytes are copied, so that a client that
 * sends them one by one holds no slab each time: "PRI " means HTTP/2, all else goes to
 * probe_http1.c. Etcd hears nothing of a client before its preface and SETTINGS are whole. */
#include <stdlib.h>
#include <unistd.h>

#include "base/metrics.h"
#include "proxy/link_int.h"
#include "proxy/probe.h"

static bool has_preface(const struct link *l)
{
    return h2_greeting_judge(bytes_of(l->greeting, l->greeting_len)) == H2_GREETING_SETTINGS;
}

void link__opening_late(struct link *l)
{
    if (l->greeting_len > 0 && has_preface(l))
        link__cut(l, ERR_SLOW_SETTINGS, net_conn_peer(l->net), "no SETTINGS in time");
    else
        link__cut(l, ERR_SLOW_PREFACE, net_conn_peer(l->net), "no preface in time");
}

static void opening_timer(struct link *l, uint64_t ms)
{
    if (loop_timer_start(&l->worker->loop, &l->timer, ms) != ERR_OK)
        link_close(l);
}

static void net_on_open(struct net_conn *n)
{
    struct link *l = net_conn_user(n);

    if (l->state == LINK_OPENING)
        opening_timer(l, LIMIT_PREFACE_MS);
}

/* The first bytes are known for what they are: moves the copy, and s behind it, to l->first. */
static enum err keep_first(struct link *l, size_t copied, struct slice *s)
{
    struct slice rest = slice_sub(*s, (uint32_t)copied, s->len - (uint32_t)copied);
    enum err e = ERR_OK;

    if (copied == l->greeting_len) { /* all that came is in s, as nearly always */
        slice_drop(&rest);
        e = chain_push(&l->first, s);
    } else {
        e = chain_push_copy(&l->first, &l->worker->pool, l->greeting, l->greeting_len, SLAB_SECRET);
        slice_drop(s);
        if (e == ERR_OK)
            e = chain_push(&l->first, &rest);
        else
            slice_drop(&rest);
    }
    loop_timer_stop(&l->timer);
    free(l->greeting);
    l->greeting = NULL;
    return e;
}

static void is_http1(struct link *l)
{
    struct net_conn *n = l->net;

    l->net = NULL;
    probe_http1_start(l->worker, n, &l->first);
    link_close(l);
}

static void is_http2(struct link *l)
{
    char who[NET_WHO_MAX];

    net_conn_read_stop(l->net);
    link__set_state(l, LINK_DIALLING);
    net_conn_who(l->net, who);
    l->holder = holder_join(&l->worker->holders, who);
    if (l->holder == NULL) {
        link_close(l);
        return;
    }
    worker_link_ready(l->worker, who);
    if (link__join(l) != ERR_OK)
        link_close(l);
}

static enum h2_greeting judge(const struct link *l)
{
    if (net_conn_alpn(l->net) == NET_ALPN_HTTP1)
        return H2_GREETING_NONE;
    return h2_greeting_judge(bytes_of(l->greeting, l->greeting_len));
}

/* Takes s. */
static void greeted(struct link *l, enum h2_greeting before, size_t copied, struct slice *s)
{
    enum h2_greeting now = judge(l);

    switch (now) {
    case H2_GREETING_PREFACE:
    case H2_GREETING_SETTINGS: /* a slab must not wait for the rest */
        slice_drop(s);
        if (now != before && now == H2_GREETING_SETTINGS)
            opening_timer(l, LIMIT_SETTINGS_MS);
        return;
    case H2_GREETING_BAD:
        slice_drop(s);
        link__cut(l, ERR_HTTP2, net_conn_peer(l->net), "bad preface");
        return;
    case H2_GREETING_NONE:
    case H2_GREETING_WHOLE:
        break;
    }
    if (keep_first(l, copied, s) != ERR_OK)
        link_close(l);
    else if (now == H2_GREETING_WHOLE)
        is_http2(l);
    else
        is_http1(l);
}

static void net_on_read(struct net_conn *n, struct slice *s)
{
    struct link *l = net_conn_user(n);
    enum h2_greeting before = H2_GREETING_PREFACE;
    size_t room = H2_GREETING_MAX - l->greeting_len;
    size_t copied = s->len < room ? s->len : room;

    if (l->state != LINK_OPENING) {
        if (chain_push(&l->first, s) != ERR_OK)
            link_close(l);
        return;
    }
    if (l->greeting_len > 0)
        before = judge(l);
    memcpy(l->greeting + l->greeting_len, slice_data(*s), copied);
    l->greeting_len += copied;
    greeted(l, before, copied, s);
}

static void net_on_writable(struct net_conn *n)
{
    (void)n;
}

static void net_on_eof(struct net_conn *n, enum err why)
{
    struct link *l = net_conn_user(n);

    if (why == ERR_TIMEOUT) { /* net's own, of the handshake */
        link__cut(l, ERR_SLOW_HANDSHAKE, net_conn_peer(n), net_conn_why(n));
        return;
    }
    if (why == ERR_TLS)
        metric_refused(why);
    if (why != ERR_CLOSED)
        LOG_RATED(INFO, "client connection failed", "peer=%s reason=\"%s\"", net_conn_peer(n),
                  net_conn_why(n));
    link_close(l);
}

static void net_on_closed(struct net_conn *n)
{
    struct link *l = net_conn_user(n);

    l->net = NULL;
    link__free_if_over(l);
}

static const struct net_conn_ops opening_ops = {
    .on_open = net_on_open,
    .on_read = net_on_read,
    .on_writable = net_on_writable,
    .on_eof = net_on_eof,
    .on_closed = net_on_closed,
};

void link_open(struct worker *w, int fd, struct net_tls *tls)
{
    struct link *l = calloc(1, sizeof *l);

    if (l == NULL) {
        close(fd);
        worker_link_closed(w, NULL, false);
        return;
    }
    l->worker = w;
    l->opened_ms = loop_now_ms(&w->loop);
    list_init(&l->calls);
    loop_timer_init(&l->timer, link__on_timer);
    key_asker_init(&l->keys, &w->loop, worker_next_id(w));
    list_push(&w->links, &l->node);
    slab_pool_keep(&w->pool, &l->counted, tls == NULL ? LINK_COST : LINK_COST_TLS);
    metric_add(METRIC_links, 1);
    l->greeting = malloc(H2_GREETING_MAX);
    if (l->greeting == NULL)
        close(fd);
    if (l->greeting == NULL || net_conn_accept(&w->loop, &w->pool, SLAB_SECRET, fd, tls,
                                               &opening_ops, l, &l->net) != ERR_OK)
        link_close(l);
}
