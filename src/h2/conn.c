/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a connection.
 *
 * Happy path: h2_conn_new queues the preface and SETTINGS; net's on_read feeds h2__frames_in, which
 * calls the owner; whatever is to be sent asks for one flush per loop turn, which frames, writes
 * and hands the rest to net. h2_conn_close ends it: the task sends GOAWAY, ends the streams and
 * closes the descriptor; its on_closed frees the connection.
 *
 *   OPEN -- h2_conn_close --> CLOSING -- task --> ENDED -- descriptor closed --> freed
 *   OPEN -- failure --> LOST (streams' on_close, on_lost) -- h2_conn_close --> ENDED
 *
 * Failure modes:
 *  - the socket ends or fails: on_eof -> lost
 *  - the peer breaks a rule of the connection, or floods (guard.c): h2__cut notes it; GOAWAY,
 *    lingering close, then lost
 *  - the peer does not answer a PING (keepalive.c): lost
 *  - bytes are queued and the peer takes none for write_stall_ms: lost
 *  - a header block that was begun does not get on (slow.c): cut
 *  - memory runs out: lost, with ERR_NOMEM
 *
 * What is found out while frames are read or made is noted (h2__cut, h2__fail) and acted on behind
 * that, since the owner of a lost connection may free all that is in use there. */
#include <stdlib.h>

#include "h2/h2_int.h"

#define FLUSH_ROUNDS 4u  /* of LIMIT_CONN_OUT; then the other connections have their turn */
#define GOODBYE_MS 1000u /* for the GOAWAY of a connection that we cut off */
#define PEER_STREAMS_ANY UINT32_MAX /* RFC 9113 section 6.5.2, until the peer says otherwise */

static void conn_set_state(struct h2_conn *c, enum h2__state to)
{
    switch (to) {
    case H2__OPEN:
        CHECK(false);
        break;
    case H2__CLOSING: /* net is open still: who closes it loses the connection, too */
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
    loop_timer_fini(&c->part_timer);
    h2__frames_in_fini(c);
    h2__hpack_in_fini(&c->hpack_in);
    h2__hpack_out_fini(&c->hpack_out);
    h2__streams_fini(c);
    h2__sharers_fini(c);
    h2__out_fini(c);
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

void h2__conn_close_net(struct h2_conn *c, uint64_t linger_ms)
{
    if (c->is_net_closing)
        return;
    c->is_net_closing = true;
    if (c->is_given_up)
        net_conn_reset(c->net);
    else
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
        h2__stream_finish(s, s->state != H2__IDLE ? H2_INTERNAL_ERROR : H2_REFUSED_STREAM,
                          H2_END_LOST);
    }
}

static void conn_stop(struct h2_conn *c)
{
    loop_flush_cancel(&c->flush);
    loop_timer_stop(&c->ping_timer);
    loop_timer_stop(&c->stall_timer);
    loop_timer_stop(&c->drain_timer);
    loop_timer_stop(&c->part_timer);
}

void h2__conn_lose(struct h2_conn *c, enum err e, const char *why)
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

void h2__conn_give_up(struct h2_conn *c, enum err blame, const char *why)
{
    c->blame = blame;
    c->is_given_up = true;
    h2__conn_close_net(c, 0);
    h2__conn_lose(c, ERR_TIMEOUT, why);
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

/* Cuts off a peer that breaks the rules, with a GOAWAY that tells it why. */
static void conn_cut(struct h2_conn *c)
{
    h2__put_goaway(c, c->cut_code);
    c->is_flushing = true;
    if (h2__out_control(c) != ERR_OK || conn_write(c) != ERR_OK)
        chain_clear(&c->out);
    c->is_flushing = false;
    h2__out_settle(c);
    h2__conn_close_net(c, GOODBYE_MS);
    h2__conn_lose(c, ERR_CLOSED, c->why);
}

/* The owner has closed: all that windows allow is framed, however much is queued, then GOAWAY. A
 * client's requests that have no answer are failures from now on, so a server that comes back must
 * not get one of them behind what was sent to it later, on another connection; and those that wait
 * do not leave any more. */
static void conn_goodbye(struct h2_conn *c)
{
    enum err e;

    c->is_given_up = !c->opts.is_server && c->close_linger_ms == 0 &&
                     (c->stream_count > 0 || net_conn_has_unacked(c->net));
    c->is_flushing = true;
    e = c->is_given_up ? c->fatal : h2__frames_out(c, SIZE_MAX);
    h2__put_goaway(c, (uint32_t)c->close_code);
    if (e != ERR_OK || h2__out_control(c) != ERR_OK || conn_write(c) != ERR_OK)
        chain_clear(&c->out);
    c->is_flushing = false;
    h2__out_settle(c);
    conn_stop(c);
    conn_end_streams(c);
    conn_set_state(c, H2__ENDED);
    h2__conn_close_net(c, c->close_linger_ms);
}

/* ------------------------------------------------------------------------ flush */

/* Acts on what was noted. True when the connection is over. */
static bool conn_has_failed(struct h2_conn *c)
{
    if (c->state != H2__OPEN)
        return true;
    if (c->fatal != ERR_OK) {
        h2__conn_close_net(c, 0);
        h2__conn_lose(c, c->fatal, err_reason(c->fatal));
    } else if (c->is_cut) {
        conn_cut(c);
    }
    return c->state != H2__OPEN;
}

static void conn_watch_stall(struct h2_conn *c)
{
    if (c->opts.write_stall_ms == 0 || net_conn_queued(c->net) == 0 ||
        loop_timer_is_active(&c->stall_timer))
        return;
    c->wrote_at_ms = loop_now_ms(c->loop);
    if (loop_timer_start(c->loop, &c->stall_timer, c->opts.write_stall_ms) != ERR_OK)
        h2__conn_lose(c, ERR_NOMEM, err_reason(ERR_NOMEM));
}

static void conn_flush(struct h2_conn *c)
{
    for (unsigned i = 0; i < FLUSH_ROUNDS; i++) {
        enum err e = h2__frames_out(c, LIMIT_CONN_OUT);

        if (e == ERR_OK)
            e = conn_write(c);
        if (e == ERR_CLOSED) /* net tells with on_eof, behind what there still is to read */
            return;
        if (c->state == H2__OPEN && e != ERR_OK)
            h2__conn_lose(c, e, err_reason(e));
        if (conn_has_failed(c))
            return;
        if (!c->is_blocked || net_conn_queued(c->net) > LIMIT_CONN_OUT / 2)
            break;
    }
    h2__out_settle(c);
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

void h2__fail(struct h2_conn *c, enum err e)
{
    if (c->fatal != ERR_OK)
        return;
    c->fatal = e;
    loop_task_want(c->loop, &c->task);
}

void h2__cut_for(struct h2_conn *c, uint32_t code, enum err blame, const char *why)
{
    if (c->is_cut)
        return;
    c->is_cut = true;
    c->cut_code = code;
    c->blame = blame;
    c->why = why;
    loop_task_want(c->loop, &c->task);
}

void h2__cut(struct h2_conn *c, uint32_t code, const char *why)
{
    h2__cut_for(c, code, code == H2_ENHANCE_YOUR_CALM ? ERR_FLOOD : ERR_HTTP2, why);
}

void h2__conn_want_flush(struct h2_conn *c)
{
    if (c->state == H2__OPEN)
        loop_flush_want(c->loop, &c->flush);
}

/* ------------------------------------------------------------------------ timers */

static void on_stall_timer(struct loop_timer *t)
{
    struct h2_conn *c = CONTAINER_OF(t, struct h2_conn, stall_timer);
    uint64_t idle = loop_now_ms(c->loop) - c->wrote_at_ms;
    uint64_t ms = c->opts.write_stall_ms;

    if (c->state != H2__OPEN || net_conn_queued(c->net) == 0)
        return;
    if (idle < ms) {
        if (loop_timer_start(c->loop, &c->stall_timer, ms - idle) != ERR_OK)
            h2__conn_lose(c, ERR_NOMEM, err_reason(ERR_NOMEM));
        return;
    }
    h2__conn_give_up(c, ERR_SLOW_SOCKET, "the peer takes no bytes");
}

/* ------------------------------------------------------------------------ net */

static void on_net_open(struct net_conn *net)
{
    (void)net; /* it was open when we got it */
}

/* For the next turn. */
static void conn_put_back(struct h2_conn *c, struct slice s)
{
    struct chain rest = {0};
    enum err e = chain_push(&rest, &s);

    if (e == ERR_OK)
        e = net_conn_unread(c->net, &rest);
    chain_fini(&rest);
    if (e == ERR_NOMEM)
        h2__fail(c, e);
}

static void on_net_read(struct net_conn *net, struct slice *s)
{
    struct h2_conn *c = net_conn_user(net);
    struct slice in = *s;
    uint32_t n = in.len;

    *s = SLICE_EMPTY;
    if (!h2__is_stopped(c)) {
        c->read_at_ms = loop_now_ms(c->loop);
        n = h2__frames_in(c, in);
        if (c->in.since_ms != 0)
            h2__part_watch(c);
    }
    if (n < in.len && !h2__is_stopped(c))
        conn_put_back(c, slice_sub(in, n, in.len - n));
    slice_drop(&in);
    if (!conn_has_failed(c) && h2__has_output(c))
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
    if (net_conn_queued(net) == 0 && !c->is_flushing)
        h2__out_settle(c);
    if (net_conn_queued(net) <= LIMIT_CONN_OUT / 2)
        on_net_writable(net);
}

/* etcd's listener for https closes what does not begin with a TLS handshake, and says nothing. */
static const char *eof_text(const struct h2_conn *c)
{
    if (c->opts.is_server || c->is_ready)
        return "closed by the peer";
    return "closed by the peer before it said anything (http where it should be https?)";
}

static void on_net_eof(struct net_conn *net, enum err why)
{
    struct h2_conn *c = net_conn_user(net);
    const char *text = net_conn_why(net);

    h2__conn_lose(c, why, text[0] != '\0' ? text : eof_text(c));
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
    c->opts.is_guarded = opts->is_guarded || opts->is_server;
    if (c->opts.max_frame_size == 0)
        c->opts.max_frame_size = H2__FRAME_MAX;
    c->in.state = opts->is_server ? H2__IN_PREFACE : H2__IN_HEAD;
    c->next_id = 1;
    c->send_left = c->peer_window = H2__WINDOW_DEFAULT;
    c->peer_streams = PEER_STREAMS_ANY;
    c->recv_left =
        (int32_t)(opts->conn_window > H2__WINDOW_DEFAULT ? opts->conn_window : H2__WINDOW_DEFAULT);
    c->read_at_ms = loop_now_ms(loop);
    h2__streams_init(c);
    list_init(&c->streams);
    list_init(&c->dead);
    h2__sharers_init(c);
    h2__guard_init(&c->guard, c->read_at_ms);
    loop_flush_init(&c->flush, on_flush);
    loop_task_init(&c->task, on_task);
    loop_timer_init(&c->ping_timer, h2__on_ping_timer);
    loop_timer_init(&c->stall_timer, on_stall_timer);
    loop_timer_init(&c->drain_timer, h2__on_drain_timer);
    loop_timer_init(&c->part_timer, h2__on_part_timer);
    return c;
}

enum err h2_conn_new(struct loop *loop, struct slab_pool *pool, struct net_conn *net,
                     const struct h2_opts *opts, const struct h2_conn_ops *ops, void *user,
                     struct h2_conn **out)
{
    struct h2_conn *c = conn_alloc(loop, pool, net, opts, ops, user);

    if (c == NULL)
        goto err_close_net;
    if (h2__hpack_in_init(&c->hpack_in, &pool->objects) != ERR_OK ||
        h2__hpack_out_init(&c->hpack_out, &pool->objects) != ERR_OK)
        goto err_free;
    h2__settings_put(c);
    if (c->fatal != ERR_OK)
        goto err_free;
    if (!opts->is_server)
        net_conn_forget_at_exit(net);
    if (opts->is_pinged_idle)
        h2__ping_arm(c);
    if (c->fatal != ERR_OK)
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

enum err h2_conn_blame(const struct h2_conn *c)
{
    return c->blame;
}

uint64_t h2_conn_read_at_ms(const struct h2_conn *c)
{
    return c->read_at_ms;
}

uint64_t h2_conn_sent(const struct h2_conn *c)
{
    return c->sent;
}

size_t h2_conn_stream_count(const struct h2_conn *c)
{
    return c->stream_count;
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
        h2__conn_close_net(c, 0);
        break;
    case H2__ENDED:
        if (linger_ms == 0 && !c->is_net_closed)
            net_conn_close(c->net, 0);
        return;
    }
    loop_task_want(c->loop, &c->task);
}
