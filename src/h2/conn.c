/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a connection.
 *
 * Happy path: h2_conn_new queues the preface; net's on_read feeds the session, which calls the
 * owner; whatever is to be sent asks for one flush per loop turn, which frames, writes and hands
 * the rest to net. h2_conn_close ends it: the task sends GOAWAY, ends the streams and closes the
 * descriptor; its on_closed frees the connection.
 *
 *   OPEN -- h2_conn_close --> CLOSING -- task --> ENDED -- descriptor closed --> freed
 *   OPEN -- failure --> LOST (streams' on_close, on_lost) -- h2_conn_close --> ENDED
 *
 * Failure modes:
 *  - the socket ends or fails: on_eof -> lost
 *  - the peer breaks a rule of the connection: nghttp2 queues GOAWAY; lingering close, then lost
 *  - the peer floods (guard.c): GOAWAY ENHANCE_YOUR_CALM, the same way
 *  - nothing comes for ping_ms while streams are open: PING; nothing for ping_ack_ms more: lost
 *  - bytes are queued and the peer takes none for write_stall_ms: lost
 *  - memory runs out: lost, with ERR_NOMEM
 *
 * nghttp2's input and output functions run from on_read, the flush and the task, so never inside
 * each other; what its callbacks find out is noted (fatal, is_violated) and acted on after they
 * returned. */
#include <stdlib.h>

#include "h2/h2_int.h"

#define FLUSH_ROUNDS 4u   /* of LIMIT_CONN_OUT; then the other connections have their turn */
#define GOODBYE_MS 1000u  /* for the GOAWAY of a connection that we cut off */
#define PING_GRACE_MS 50u /* if our own loop was late, the answer may be in the socket already */
#define DEFAULT_FRAME_SIZE 16384u /* RFC 9113 section 6.5.2 */

static void conn_set_state(struct h2_conn *c, enum h2__state to)
{
    switch (to) {
    case H2__OPEN:
        CHECK(false);
        break;
    case H2__CLOSING:
    case H2__LOST:
        CHECK(c->state == H2__OPEN);
        break;
    case H2__ENDED:
        CHECK(c->state == H2__CLOSING || c->state == H2__LOST);
        break;
    }
    c->state = to;
}

/* ------------------------------------------------------------------------ ends */

/* Gives back all that comes from the owner's slab pool. */
static void conn_fini(struct h2_conn *c)
{
    loop_flush_cancel(&c->flush);
    loop_task_cancel(&c->task);
    loop_timer_fini(&c->ping_timer);
    loop_timer_fini(&c->stall_timer);
    loop_timer_fini(&c->drain_timer);
    nghttp2_session_del(c->session);
    h2__headers_fini(&c->headers);
    chain_fini(&c->out);
    free(c->nv);
}

/* Frees the connection once the owner and net have both closed it: nobody can call us any more. */
static void conn_free_if_over(struct h2_conn *c)
{
    if (c->state != H2__ENDED || !c->is_net_closed)
        return;
    conn_fini(c); /* first, for the owner may free the pool when its last connection is over */
    c->ops->on_conn_closed(c);
    free(c);
}

static void conn_close_net(struct h2_conn *c, uint64_t linger_ms)
{
    if (c->is_net_closing)
        return;
    c->is_net_closing = true;
    net_conn_close(c->net, linger_ms);
}

static void conn_end_dead(struct h2_conn *c)
{
    while (!list_is_empty(&c->dead)) {
        struct h2_stream *s = LIST_FIRST(&c->dead, struct h2_stream, node);

        h2__stream_finish(s, s->reset_code, H2_END_RESET);
    }
}

static void conn_end_streams(struct h2_conn *c)
{
    conn_end_dead(c);
    while (!list_is_empty(&c->streams)) {
        struct h2_stream *s = LIST_FIRST(&c->streams, struct h2_stream, node);

        /* A request that never left can be made elsewhere. */
        h2__stream_finish(s, s->is_sent ? H2_INTERNAL_ERROR : H2_REFUSED_STREAM, H2_END_LOST);
    }
}

static void conn_stop(struct h2_conn *c)
{
    loop_flush_cancel(&c->flush);
    loop_timer_stop(&c->ping_timer);
    loop_timer_stop(&c->stall_timer);
    loop_timer_stop(&c->drain_timer);
}

/* Only from the loop: net's callbacks, timers, flush, task. */
static void conn_lose(struct h2_conn *c, enum err e, const char *why)
{
    if (c->state != H2__OPEN)
        return;
    conn_set_state(c, H2__LOST);
    c->why = why;
    conn_stop(c);
    conn_end_streams(c);
    chain_clear(&c->out);
    c->ops->on_lost(c, e);
}

/* Hands what is framed to net. */
static enum err conn_write(struct h2_conn *c)
{
    if (c->out.len == 0)
        return ERR_OK;
    TRY(net_conn_write(c->net, &c->out));
    net_conn_flush(c->net);
    return ERR_OK;
}

/* The last framing of a connection: frames all that windows allow, however much is queued. */
static void conn_write_last(struct h2_conn *c)
{
    c->is_flushing = true;
    if (h2__session_frame(c, SIZE_MAX) != ERR_OK || conn_write(c) != ERR_OK)
        chain_clear(&c->out);
    c->is_flushing = false;
}

/* Cuts off a peer that breaks the rules, with a GOAWAY that tells it why. */
static void conn_cut(struct h2_conn *c, enum h2_code code, const char *why)
{
    if (nghttp2_session_terminate_session(c->session, (uint32_t)code) == 0)
        conn_write_last(c);
    if (c->state == H2__OPEN)
        conn_close_net(c, GOODBYE_MS);
    conn_lose(c, ERR_CLOSED, why);
}

static void conn_goodbye(struct h2_conn *c)
{
    int rv = nghttp2_submit_goaway(c->session, NGHTTP2_FLAG_NONE,
                                   nghttp2_session_get_last_proc_stream_id(c->session),
                                   (uint32_t)c->close_code, NULL, 0);

    if (rv == 0 && !c->is_net_closed)
        conn_write_last(c);
    conn_stop(c);
    conn_end_streams(c);
    conn_set_state(c, H2__ENDED);
    conn_close_net(c, c->close_linger_ms);
}

/* ------------------------------------------------------------------------ flush */

/* What the callbacks of nghttp2 noted. True when the connection is over. */
static bool conn_has_failed(struct h2_conn *c)
{
    if (c->state != H2__OPEN)
        return true;
    if (c->fatal != ERR_OK) {
        conn_lose(c, c->fatal, c->why);
        return true;
    }
    if (c->is_violated) {
        conn_cut(c, H2_ENHANCE_YOUR_CALM, "flooded by the peer");
        return true;
    }
    if (c->is_goaway_error) {
        conn_close_net(c, GOODBYE_MS);
        conn_lose(c, ERR_CLOSED, "the peer broke HTTP/2");
        return true;
    }
    return false;
}

static void conn_watch_stall(struct h2_conn *c)
{
    if (c->opts.write_stall_ms == 0 || net_conn_queued(c->net) == 0 ||
        loop_timer_is_active(&c->stall_timer))
        return;
    c->wrote_at_ms = loop_now_ms(c->loop);
    if (loop_timer_start(c->loop, &c->stall_timer, c->opts.write_stall_ms) != ERR_OK)
        conn_lose(c, ERR_NOMEM, err_reason(ERR_NOMEM));
}

static void conn_flush(struct h2_conn *c)
{
    for (unsigned i = 0; i < FLUSH_ROUNDS; i++) {
        enum err e = h2__session_frame(c, LIMIT_CONN_OUT);

        if (e == ERR_OK)
            e = conn_write(c);
        if (c->state == H2__OPEN && e != ERR_OK)
            conn_lose(c, e, c->why != NULL ? c->why : net_conn_why(c->net));
        if (conn_has_failed(c))
            return;
        if (!c->is_blocked || net_conn_queued(c->net) > LIMIT_CONN_OUT / 2)
            break;
    }
    /* Framing goes on when the socket has room: in the next turn, or from on_wrote. */
    if (c->is_blocked && net_conn_queued(c->net) <= LIMIT_CONN_OUT / 2)
        loop_task_want(c->loop, &c->task);
    conn_watch_stall(c);
}

static void on_flush(struct loop_flush *f)
{
    struct h2_conn *c = CONTAINER_OF(f, struct h2_conn, flush);

    if (c->state != H2__OPEN)
        return;
    c->is_flushing = true;
    conn_flush(c);
    c->is_flushing = false;
}

static void on_task(struct loop_task *t)
{
    struct h2_conn *c = CONTAINER_OF(t, struct h2_conn, task);

    conn_end_dead(c);
    if (c->state == H2__CLOSING)
        conn_goodbye(c);
    if (c->state == H2__OPEN && !conn_has_failed(c) && c->is_blocked)
        h2__conn_want_flush(c);
    conn_free_if_over(c);
}

void h2__conn_note(struct h2_conn *c, int nghttp2_error)
{
    if (c->fatal != ERR_OK)
        return;
    c->fatal = nghttp2_error == NGHTTP2_ERR_NOMEM ? ERR_NOMEM : ERR_CLOSED;
    c->why = nghttp2_strerror(nghttp2_error);
    loop_task_want(c->loop, &c->task);
}

void h2__conn_want_flush(struct h2_conn *c)
{
    if (c->state == H2__OPEN)
        loop_flush_want(c->loop, &c->flush);
}

/* ------------------------------------------------------------------------ timers */

static void ping_start(struct h2_conn *c, uint64_t ms)
{
    if (loop_timer_start(c->loop, &c->ping_timer, ms) != ERR_OK)
        h2__conn_note(c, NGHTTP2_ERR_NOMEM);
}

void h2__conn_ping_arm(struct h2_conn *c)
{
    if (c->opts.ping_ms > 0 && !loop_timer_is_active(&c->ping_timer))
        ping_start(c, c->opts.ping_ms);
}

/* A PING is out and nothing has come since. */
static void ping_unanswered(struct h2_conn *c, uint64_t now)
{
    uint64_t waited = now - c->ping_at_ms;

    if (waited < c->opts.ping_ack_ms) {
        ping_start(c, c->opts.ping_ack_ms - waited);
        return;
    }
    if (!c->is_ping_grace) {
        c->is_ping_grace = true;
        ping_start(c, PING_GRACE_MS);
        return;
    }
    conn_close_net(c, 0);
    conn_lose(c, ERR_TIMEOUT, "no answer to PING");
}

static void on_ping_timer(struct loop_timer *t)
{
    struct h2_conn *c = CONTAINER_OF(t, struct h2_conn, ping_timer);
    uint64_t now = loop_now_ms(c->loop);
    uint64_t silent = now - c->read_at_ms;
    int rv;

    if (c->state != H2__OPEN)
        return;
    if (c->ping_at_ms != 0 && c->read_at_ms < c->ping_at_ms) {
        ping_unanswered(c, now);
        return;
    }
    c->ping_at_ms = 0;
    /* Only while streams are open: etcd counts other PINGs as abuse. */
    if (c->stream_count == 0)
        return;
    if (silent < c->opts.ping_ms) {
        ping_start(c, c->opts.ping_ms - silent);
        return;
    }
    rv = nghttp2_submit_ping(c->session, NGHTTP2_FLAG_NONE, NULL);
    if (rv != 0)
        h2__conn_note(c, rv);
    c->ping_at_ms = now;
    c->is_ping_grace = false;
    ping_start(c, c->opts.ping_ack_ms);
    h2__conn_want_flush(c);
}

static void on_stall_timer(struct loop_timer *t)
{
    struct h2_conn *c = CONTAINER_OF(t, struct h2_conn, stall_timer);
    uint64_t idle = loop_now_ms(c->loop) - c->wrote_at_ms;
    uint64_t ms = c->opts.write_stall_ms;

    if (c->state != H2__OPEN || net_conn_queued(c->net) == 0)
        return;
    if (idle < ms) {
        if (loop_timer_start(c->loop, &c->stall_timer, ms - idle) != ERR_OK)
            conn_lose(c, ERR_NOMEM, err_reason(ERR_NOMEM));
        return;
    }
    conn_close_net(c, 0);
    conn_lose(c, ERR_TIMEOUT, "the peer takes no bytes");
}

static void on_drain_timer(struct loop_timer *t)
{
    struct h2_conn *c = CONTAINER_OF(t, struct h2_conn, drain_timer);

    if (c->state == H2__OPEN && c->drain == H2__DRAIN_NOTICE)
        h2__session_final_goaway(c);
}

/* ------------------------------------------------------------------------ net */

static void on_net_open(struct net_conn *net)
{
    (void)net; /* it was open when we got it */
}

static void on_net_read(struct net_conn *net, struct slice *s)
{
    struct h2_conn *c = net_conn_user(net);
    struct slice in = *s;
    uint64_t now = loop_now_ms(c->loop);
    enum err e = ERR_OK;

    *s = SLICE_EMPTY;
    if (c->state == H2__OPEN) {
        c->read_at_ms = now;
        h2__guard_streams(&c->guard, c->stream_count);
        if (c->opts.is_server && !h2__guard_input(&c->guard, slice_data(in), in.len, now))
            c->is_violated = true;
        else
            e = h2__session_feed(c, in);
    }
    slice_drop(&in);
    if (c->state != H2__OPEN)
        return;
    if (e != ERR_OK) {
        conn_close_net(c, 0);
        conn_lose(c, e, c->why);
        return;
    }
    if (!conn_has_failed(c) && nghttp2_session_want_write(c->session))
        h2__conn_want_flush(c);
}

static void on_net_writable(struct net_conn *net)
{
    struct h2_conn *c = net_conn_user(net);

    if (!c->is_flushing && c->is_blocked)
        h2__conn_want_flush(c);
}

static void on_net_wrote(struct net_conn *net, size_t n)
{
    struct h2_conn *c = net_conn_user(net);

    if (n == 0 || c->state != H2__OPEN)
        return;
    c->wrote_at_ms = loop_now_ms(c->loop);
    if (net_conn_queued(net) <= LIMIT_CONN_OUT / 2)
        on_net_writable(net);
}

static void on_net_eof(struct net_conn *net, enum err why)
{
    struct h2_conn *c = net_conn_user(net);

    const char *text = net_conn_why(net);

    conn_lose(c, why, text[0] != '\0' ? text : "closed by the peer");
}

static void on_net_closed(struct net_conn *net)
{
    struct h2_conn *c = net_conn_user(net);

    c->is_net_closed = true;
    conn_free_if_over(c);
}

static const struct net_conn_ops net_ops = {
    .on_open = on_net_open,
    .on_read = on_net_read,
    .on_writable = on_net_writable,
    .on_wrote = on_net_wrote,
    .on_eof = on_net_eof,
    .on_closed = on_net_closed,
};

/* For a net_conn whose h2_conn could not be made. */
static void orphan_read(struct net_conn *net, struct slice *s)
{
    (void)net;
    slice_drop(s);
}

static void orphan_eof(struct net_conn *net, enum err why)
{
    (void)net;
    (void)why;
}

static const struct net_conn_ops orphan_ops = {
    .on_open = on_net_open,
    .on_read = orphan_read,
    .on_writable = on_net_open,
    .on_eof = orphan_eof,
    .on_closed = on_net_open,
};

/* ------------------------------------------------------------------------ exported */

static struct h2_conn *conn_alloc(struct loop *loop, struct slab_pool *pool, struct net_conn *net,
                                  const struct h2_opts *opts, const struct h2_conn_ops *ops,
                                  void *user)
{
    struct h2_conn *c = calloc(1, sizeof *c);

    if (c == NULL)
        return NULL;
    c->loop = loop;
    c->pool = pool;
    c->net = net;
    c->ops = ops;
    c->user = user;
    c->opts = *opts;
    if (c->opts.max_frame_size == 0)
        c->opts.max_frame_size = DEFAULT_FRAME_SIZE;
    c->read_at_ms = loop_now_ms(loop);
    list_init(&c->streams);
    list_init(&c->dead);
    h2__guard_init(&c->guard, c->read_at_ms);
    loop_flush_init(&c->flush, on_flush);
    loop_task_init(&c->task, on_task);
    loop_timer_init(&c->ping_timer, on_ping_timer);
    loop_timer_init(&c->stall_timer, on_stall_timer);
    loop_timer_init(&c->drain_timer, on_drain_timer);
    return c;
}

enum err h2_conn_new(struct loop *loop, struct slab_pool *pool, struct net_conn *net,
                     const struct h2_opts *opts, const struct h2_conn_ops *ops, void *user,
                     struct h2_conn **out)
{
    struct h2_conn *c = conn_alloc(loop, pool, net, opts, ops, user);

    if (c == NULL)
        goto err_close_net;
    if (h2__session_new(c) != ERR_OK)
        goto err_free;
    net_conn_set_ops(net, &net_ops, c);
    h2__conn_want_flush(c);
    *out = c;
    return ERR_OK;

err_free:
    conn_fini(c);
    free(c);
err_close_net:
    net_conn_set_ops(net, &orphan_ops, NULL);
    net_conn_close(net, 0);
    return ERR_NOMEM;
}

void *h2_conn_user(const struct h2_conn *c)
{
    return c->user;
}

const char *h2_conn_peer(const struct h2_conn *c)
{
    return net_conn_peer(c->net);
}

const char *h2_conn_why(const struct h2_conn *c)
{
    return c->why != NULL ? c->why : "";
}

size_t h2_conn_stream_count(const struct h2_conn *c)
{
    return c->stream_count;
}

uint32_t h2_conn_peer_streams(const struct h2_conn *c)
{
    return nghttp2_session_get_remote_settings(c->session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
}

bool h2_conn_can_request(const struct h2_conn *c)
{
    return c->state == H2__OPEN && c->is_ready && !c->has_peer_goaway && !c->opts.is_server &&
           nghttp2_session_check_request_allowed(c->session) != 0 &&
           c->stream_count < h2_conn_peer_streams(c);
}

void h2_conn_close(struct h2_conn *c, enum h2_code code, uint64_t linger_ms)
{
    switch (c->state) {
    case H2__OPEN:
        conn_set_state(c, H2__CLOSING);
        c->close_code = code;
        c->close_linger_ms = linger_ms;
        break;
    case H2__CLOSING:
        if (linger_ms < c->close_linger_ms)
            c->close_linger_ms = linger_ms;
        return;
    case H2__LOST:
        conn_set_state(c, H2__ENDED);
        conn_close_net(c, 0);
        break;
    case H2__ENDED:
        if (linger_ms == 0 && !c->is_net_closed)
            net_conn_close(c->net, 0);
        return;
    }
    loop_task_want(c->loop, &c->task);
}
