/* SPDX-License-Identifier: Apache-2.0 */
/* The happy path:
 *   1. accept, TLS; the first bytes are copied: "PRI " means HTTP/2, all else goes to
 *      probe_http1.c;
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
    LINK_OPENING = 0, /* TLS, preface or SETTINGS are not there yet */
    LINK_DIALLING,    /* HTTP/2; etcd not reached yet */
    LINK_OPEN,        /* both sides are up, or etcd is being redialled */
    LINK_CLOSING,     /* waits for its connection and its calls to be gone */
};

struct link {
    struct list node; /* in worker.links */
    struct worker *worker;
    enum link_state state;
    size_t counted;       /* of its cost, in the worker's pool */
    struct net_conn *net; /* OPENING, DIALLING */
    uint8_t *greeting;    /* OPENING: a copy of the first bytes, H2_GREETING_MAX at most */
    size_t greeting_len;
    struct chain first;   /* DIALLING: what came so far */
    struct h2_conn *down; /* OPEN */
    struct upstream_user up;
    struct key_asker keys;
    struct holder *holder; /* as reported; NULL before */
    uint64_t opened_ms;    /* when it was accepted */
    bool was_shed;         /* the control thread waits for its end */
    bool is_draining;
    bool client_leaves; /* it said GOAWAY: the link ends with its last call */
    struct list calls;
    size_t call_count, probe_count;
    uint64_t claims;         /* link_claims */
    uint32_t relieved;       /* in which relief of the worker nothing more was to be had of it */
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
        [LINK_OPENING] = 1 << LINK_DIALLING | 1 << LINK_CLOSING,
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

static void count_cut(enum err blame, const char *peer, const char *text)
{
    static struct log_rate rates[ERR_COUNT];

    metric_refused(blame);
    if (log_is_on(LOG_INFO) && log_rate_ok(&rates[blame], LOG_INFO, "client connection cut"))
        log_write(LOG_INFO, "client connection cut", "peer=%s reason=%s text=\"%s\"", peer,
                  err_reason(blame), text);
}

/* Closes it for what the client did, or left undone. */
static void cut(struct link *l, enum err blame, const char *peer, const char *text)
{
    count_cut(blame, peer, text);
    link_close(l);
}

static bool has_preface(const struct link *l)
{
    return h2_greeting_judge(bytes_of(l->greeting, l->greeting_len)) == H2_GREETING_SETTINGS;
}

static void on_timer(struct loop_timer *t)
{
    struct link *l = CONTAINER_OF(t, struct link, timer);

    if (l->state != LINK_OPENING)
        link_close(l);
    else if (l->greeting_len > 0 && has_preface(l))
        cut(l, ERR_SLOW_SETTINGS, net_conn_peer(l->net), "no SETTINGS in time");
    else
        cut(l, ERR_SLOW_PREFACE, net_conn_peer(l->net), "no preface in time");
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
        cut(h2_conn_user(h), h2_conn_blame(h), h2_conn_peer(h), h2_conn_why(h));
        return;
    }
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
    link_set_state(l, LINK_OPEN);
    net_conn_read_start(net);
    if (h2_conn_new(&l->worker->loop, &l->worker->pool, net, &opts, &down_ops, l, &l->down) !=
        ERR_OK)
        link_close(l);
}

/* --- first bytes ----------------------------------------------------------------------------- */

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
    link_set_state(l, LINK_DIALLING);
    net_conn_who(l->net, who);
    l->holder = holder_join(&l->worker->holders, who);
    if (l->holder == NULL) {
        link_close(l);
        return;
    }
    worker_link_ready(l->worker, who);
    if (upstream_join(&l->worker->upstream, &l->up, &up_ops) != ERR_OK)
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
        cut(l, ERR_HTTP2, net_conn_peer(l->net), "bad preface");
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
        cut(l, ERR_SLOW_HANDSHAKE, net_conn_peer(n), net_conn_why(n));
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
    link_free_if_over(l);
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
    loop_timer_init(&l->timer, on_timer);
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
            call_shed(c, ERR_MEMORY_LIMIT);
    }
}

void link_shed(struct link *l, const struct call *but, uint64_t low)
{
    shed_above(l, but, low, 2 * CALL_COST);
    shed_above(l, but, low, 0); /* it has very many that only wait */
}

void link_set_relieved(struct link *l, uint32_t relief)
{
    l->relieved = relief;
}

bool link_was_relieved(const struct link *l, uint32_t relief)
{
    return l->relieved == relief;
}

uint64_t link_claims(const struct link *l)
{
    return l->claims;
}

void link_claimed(struct link *l, size_t was, size_t now)
{
    l->claims += now;
    l->claims -= was;
    l->holder->claims += now;
    l->holder->claims -= was;
}

struct holder *link_holder(const struct link *l)
{
    return l->holder;
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
            call_shed(c, ERR_CONNECTION_MEMORY);
    }
}

bool link_is_opening(const struct link *l)
{
    return l->state == LINK_OPENING;
}

bool link_is_of(const struct link *l, const char *who)
{
    return (l->state == LINK_DIALLING || l->state == LINK_OPEN) && !l->was_shed &&
           strcmp(l->holder->who, who) == 0;
}

bool link_has_calls(const struct link *l)
{
    return l->call_count > 0;
}

uint64_t link_idle_ms(const struct link *l)
{
    uint64_t since = l->down != NULL ? h2_conn_read_at_ms(l->down) : l->opened_ms;

    return loop_now_ms(&l->worker->loop) - since;
}

void link_shed_whole(struct link *l, enum err why)
{
    count_cut(why, l->down != NULL ? h2_conn_peer(l->down) : net_conn_peer(l->net),
              "too many connections");
    l->was_shed = true;
    if (l->state == LINK_OPEN)
        wind_down(l);
    else
        link_close(l);
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
