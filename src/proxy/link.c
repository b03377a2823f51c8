/* SPDX-License-Identifier: Apache-2.0 */
/* The happy path:
 *   1. accept, TLS; the first bytes are kept: "PRI " means HTTP/2, all else goes to
 *      probe_http1.c;
 *   2. the link joins the pool; when etcd answers, the client's HTTP/2 session begins, with the
 *      kept bytes;
 *   3. calls come and go; each has one stream on each side;
 *   4. the client goes away: the link leaves the pool, its calls end, it is freed.
 * Failure modes:
 *   - no first bytes in 5 s, TLS failure: closed;
 *   - etcd cannot be reached: the client's connection is closed without SETTINGS;
 *   - etcd is lost and not back within 1 s (the pool fails the calls that wait): GOAWAY, close;
 *   - drain: GOAWAY, the calls finish, the worker ends the rest. */
#include "proxy/link.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/metrics.h"
#include "proxy/call.h"
#include "proxy/probe.h"

#define WIND_DOWN_MS 1000
#define SHED_PART 16  /* so much of its own limit a link that is over it sets free */
#define PROBES_MAX 32 /* each has a connection to etcd of its own */

enum link_state {
    LINK_SNIFFING = 0, /* first bytes not seen */
    LINK_DIALLING,     /* HTTP/2; etcd not reached yet */
    LINK_OPEN,         /* both sides are up, or etcd is being redialled */
    LINK_CLOSING,      /* waits for its connection and its calls to be gone */
};

struct link {
    struct list node; /* in worker.links */
    struct worker *worker;
    enum link_state state;
    struct net_conn *net; /* SNIFFING, DIALLING */
    size_t counted;       /* of its cost, in the worker's pool */
    uint8_t first[4];     /* SNIFFING: bytes that do not say yet what it is */
    uint8_t first_count;
    struct chain sniffed; /* DIALLING */
    struct h2_conn *down; /* OPEN */
    struct upstream_user up;
    struct key_asker keys;
    bool is_draining;
    bool client_leaves; /* it said GOAWAY: the link ends with its last call */
    struct list calls;
    size_t call_count, probe_count;
    uint64_t claims;         /* link_claims */
    struct loop_timer timer; /* first bytes; winding down */
};

struct worker *link_worker(const struct link *l)
{
    return l->worker;
}

struct link *link_of_node(struct list *node)
{
    return LIST_ENTRY(node, struct link, node);
}

static void link_set_state(struct link *l, enum link_state to)
{
    static const uint8_t legal[] = {
        [LINK_SNIFFING] = 1 << LINK_DIALLING | 1 << LINK_CLOSING,
        [LINK_DIALLING] = 1 << LINK_OPEN | 1 << LINK_CLOSING,
        [LINK_OPEN] = 1 << LINK_CLOSING,
        [LINK_CLOSING] = 0,
    };

    CHECK(legal[l->state] & 1 << to);
    l->state = to;
}

static void link_free_if_over(struct link *l)
{
    if (l->state != LINK_CLOSING || l->net != NULL || l->down != NULL || l->call_count > 0)
        return;
    loop_timer_fini(&l->timer);
    key_asker_fini(&l->keys);
    chain_fini(&l->sniffed);
    list_remove(&l->node);
    slab_pool_keep(&l->worker->pool, &l->counted, 0);
    metric_sub(METRIC_links, 1);
    worker_link_closed(l->worker);
    free(l);
}

void link_close(struct link *l)
{
    if (l->state == LINK_CLOSING)
        return;
    link_set_state(l, LINK_CLOSING);
    loop_timer_stop(&l->timer);
    if (l->net != NULL)
        net_conn_close(l->net, 0);
    if (l->down != NULL)
        h2_conn_close(l->down, H2_NO_ERROR, WIND_DOWN_MS);
    upstream_leave(&l->up);
    link_free_if_over(l);
}

/* GOAWAY, and a second for what is queued; then the end. */
static void wind_down(struct link *l)
{
    l->is_draining = true;
    if (l->call_count == 0 ||
        loop_timer_start(&l->worker->loop, &l->timer, WIND_DOWN_MS) != ERR_OK) {
        link_close(l);
        return;
    }
    h2_conn_shutdown(l->down);
}

static void on_timer(struct loop_timer *t)
{
    link_close(CONTAINER_OF(t, struct link, timer));
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
        wind_down(l);
    else
        link_close(l);
}

static const struct upstream_user_ops up_ops = {
    .on_back = on_upstream_back,
    .on_away = on_upstream_away,
};

struct upstream_user *link_upstream(struct link *l)
{
    return &l->up;
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
    LOG(DEBUG, "client connection ended", "peer=%s reason=%s", h2_conn_peer(h), err_reason(why));
    link_close(h2_conn_user(h));
}

static void down_on_closed(struct h2_conn *h)
{
    struct link *l = h2_conn_user(h);

    l->down = NULL;
    link_free_if_over(l);
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
    };
    struct net_conn *net = l->net;

    loop_timer_stop(&l->timer);
    if (net_conn_unread(net, &l->sniffed) != ERR_OK) {
        link_close(l);
        return;
    }
    l->net = NULL;
    link_set_state(l, LINK_OPEN);
    net_conn_read_start(net);
    if (h2_conn_new(&l->worker->loop, &l->worker->pool, net, &opts, &down_ops, l, &l->down) !=
        ERR_OK)
        link_close(l);
}

/* --- first bytes ----------------------------------------------------------------------------- */

enum sniff { SNIFF_MORE, SNIFF_HTTP2, SNIFF_HTTP1 };

/* What first and the bytes behind it begin. */
static enum sniff sniff(const struct link *l, struct bytes b)
{
    static const uint8_t pri[4] = "PRI ";
    size_t have = l->first_count, n = sizeof pri - have < b.n ? sizeof pri - have : b.n;

    if (net_conn_alpn(l->net) == NET_ALPN_HTTP1 || memcmp(pri + have, b.p, n) != 0)
        return SNIFF_HTTP1;
    return have + n < sizeof pri ? SNIFF_MORE : SNIFF_HTTP2;
}

/* Connections by the thousand may say a few bytes and no more: those must not pin what they were
 * read into. */
static enum err keep_sniffed(struct link *l, struct slice *s)
{
    struct slab_pool *pool = &l->worker->pool;
    struct bytes b = slice_bytes(*s);
    size_t first = l->first_count;
    enum err e = ERR_OK;

    l->first_count = 0;
    if (first > 0)
        e = chain_push_copy(&l->sniffed, pool, l->first, first, SLAB_SECRET);
    if (e == ERR_OK && b.n < LIMIT_GATHER)
        return chain_push_copy(&l->sniffed, pool, b.p, b.n, SLAB_SECRET);
    return e == ERR_OK ? chain_push(&l->sniffed, s) : e;
}

static void net_on_open(struct net_conn *n)
{
    (void)n;
}

static void begin_http2(struct link *l)
{
    loop_timer_stop(&l->timer);
    net_conn_read_stop(l->net);
    link_set_state(l, LINK_DIALLING);
    if (upstream_join(&l->worker->upstream, &l->up, &up_ops) != ERR_OK)
        link_close(l);
}

static void begin_http1(struct link *l)
{
    struct net_conn *n = l->net;

    l->net = NULL;
    probe_http1_start(l->worker, n, &l->sniffed);
    link_close(l);
}

static void net_on_read(struct net_conn *n, struct slice *s)
{
    struct link *l = net_conn_user(n);
    enum sniff said = l->state == LINK_SNIFFING ? sniff(l, slice_bytes(*s)) : SNIFF_HTTP2;

    if (said == SNIFF_MORE) {
        memcpy(l->first + l->first_count, slice_data(*s), s->len);
        l->first_count = (uint8_t)(l->first_count + s->len);
        slice_drop(s);
        return;
    }
    if (keep_sniffed(l, s) != ERR_OK)
        link_close(l);
    else if (l->state == LINK_SNIFFING && said == SNIFF_HTTP2)
        begin_http2(l);
    else if (l->state == LINK_SNIFFING)
        begin_http1(l);
    slice_drop(s);
}

static void net_on_writable(struct net_conn *n)
{
    (void)n;
}

static void net_on_eof(struct net_conn *n, enum err why)
{
    if (why != ERR_CLOSED)
        LOG_RATED(INFO, "client connection failed", "peer=%s reason=\"%s\"", net_conn_peer(n),
                  net_conn_why(n));
    link_close(net_conn_user(n));
}

static void net_on_closed(struct net_conn *n)
{
    struct link *l = net_conn_user(n);

    l->net = NULL;
    link_free_if_over(l);
}

static const struct net_conn_ops sniff_ops = {
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
        worker_link_closed(w);
        return;
    }
    l->worker = w;
    list_init(&l->calls);
    loop_timer_init(&l->timer, on_timer);
    key_asker_init(&l->keys, &w->loop, worker_next_id(w));
    list_push(&w->links, &l->node);
    slab_pool_keep(&w->pool, &l->counted, tls == NULL ? LINK_COST : LINK_COST_TLS);
    metric_add(METRIC_links, 1);
    if (net_conn_accept(&w->loop, &w->pool, SLAB_SECRET, fd, tls, &sniff_ops, l, &l->net) !=
            ERR_OK ||
        loop_timer_start(&w->loop, &l->timer, LIMIT_PREFACE_MS) != ERR_OK)
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
        link_free_if_over(l);
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

size_t link_held(const struct link *l, const struct call *but)
{
    size_t n = 0;

    LIST_FOREACH(it, &l->calls) {
        const struct call *c = call_of_link_node(it);

        n += c == but ? 0 : call_held(c);
    }
    return n;
}

/* The newest first of those that hold more than least. */
static void shed_above(struct link *l, const struct call *but, uint64_t low, size_t least)
{
    for (struct list *it = l->calls.prev; it != &l->calls; it = it->prev) {
        struct call *c = call_of_link_node(it);

        if (worker_held(l->worker) <= low)
            return;
        if (c != but && call_held(c) > least)
            call_shed(c);
    }
}

void link_shed(struct link *l, const struct call *but, uint64_t low)
{
    shed_above(l, but, low, 2 * CALL_COST);
    shed_above(l, but, low, 0); /* it has very many that only wait */
}

uint64_t link_claims(const struct link *l)
{
    return l->claims;
}

void link_claimed(struct link *l, size_t was, size_t now)
{
    l->claims += now;
    l->claims -= was;
}

static uint64_t own_limit(const struct link *l)
{
    return l->worker->env->settings->connection_memory_limit;
}

bool link_is_over(const struct link *l)
{
    return l->claims > own_limit(l);
}

void link_shed_own(struct link *l)
{
    uint64_t low = own_limit(l) - own_limit(l) / SHED_PART;

    for (struct list *it = l->calls.prev; it != &l->calls; it = it->prev) {
        struct call *c = call_of_link_node(it);

        if (l->claims <= low)
            return;
        if (c->claims > 0)
            call_shed(c);
    }
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
