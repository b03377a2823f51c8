/* SPDX-License-Identifier: Apache-2.0 */
/* Our end: a connection over h2.h and nothing else of h2/. */
#include "h2_diff.h"

#define TURNS 1000 /* far more than an input takes */

/* One at a time; the loop is the process's, since making one takes longer than an input. */
static struct loop loop;
static struct slab_pool pool;
static struct h2_conn *conn;
static struct net_conn *net;

static void respond(struct diff_call *call, struct h2_fields f, bool end)
{
    enum err e = h2_respond(call->stream, f, end);

    CHECK(e == ERR_OK || e == ERR_CLOSED);
}

static void send_pattern(struct diff_call *call, size_t n, bool end)
{
    struct chain out = {0};
    enum err e;

    for (size_t at = 0; at < n;) {
        uint8_t piece[1000];
        size_t part = n - at < sizeof piece ? n - at : sizeof piece;

        for (size_t i = 0; i < part; i++)
            piece[i] = side_pattern(call->n, call->given + at + i);
        CHECK(chain_push_copy(&out, &pool, piece, part, 0) == ERR_OK);
        at += part;
    }
    call->given += n;
    e = h2_stream_send(call->stream, &out, end);
    CHECK(e == ERR_OK || e == ERR_CLOSED);
}

static void trailers(struct diff_call *call, struct h2_fields f)
{
    enum err e = h2_stream_trailers(call->stream, f);

    CHECK(e == ERR_OK || e == ERR_CLOSED);
}

static void reset(struct diff_call *call, enum h2_code code)
{
    h2_stream_reset(call->stream, code);
}

static void credit(struct diff_call *call, size_t n)
{
    h2_stream_credit(call->stream, n);
}

static const struct diff_side_ops side_ops = {respond, send_pattern, trailers, reset, credit};

static void on_headers(struct h2_stream *s, struct h2_fields f, bool end)
{
    side_heard_headers(h2_stream_user(s), f, end);
}

static void on_data(struct h2_stream *s, struct slice *data)
{
    struct slice mine = *data;

    *data = SLICE_EMPTY;
    CHECK(mine.len > 0);
    side_heard_data(h2_stream_user(s), slice_bytes(mine));
    slice_drop(&mine);
}

static void on_trailers(struct h2_stream *s, struct h2_fields f)
{
    side_heard_trailers(h2_stream_user(s), f);
}

static void on_end(struct h2_stream *s)
{
    side_heard_end(h2_stream_user(s));
}

static void on_drained(struct h2_stream *s, size_t n)
{
    CHECK(h2_stream_user(s) != NULL && n > 0);
}

static void on_close(struct h2_stream *s, enum h2_code code, enum h2_end how)
{
    side_heard_close(h2_stream_user(s), code, how);
}

static const struct h2_stream_ops stream_ops = {
    .on_response = on_headers,
    .on_data = on_data,
    .on_trailers = on_trailers,
    .on_end = on_end,
    .on_drained = on_drained,
    .on_close = on_close,
};

static void on_request(struct h2_conn *c, struct h2_stream *s, struct h2_fields f, bool end)
{
    struct diff_call *call = side_call(h2_conn_user(c), s, 0);

    h2_stream_set_owner(s, &stream_ops, call);
    side_heard_headers(call, f, end);
}

static void request(struct diff_side *side)
{
    unsigned n = side->count;
    struct h2_stream *s;
    struct diff_call *call;

    if (conn == NULL || !h2_conn_can_request(conn) || n == DIFF_CALLS)
        return;
    if (h2_request(conn, side_request(), side_request_ends(n), &stream_ops, NULL, &s) != ERR_OK)
        return;
    call = side_call(side, s, 0);
    h2_stream_set_user(s, call);
    if (!side_request_ends(n))
        send_pattern(call, 16, false);
}

static void on_ready(struct h2_conn *c)
{
    struct diff_side *side = h2_conn_user(c);

    for (int i = 0; i < 3 && side->o.is_client; i++)
        request(side);
}

void ours_ask(struct diff_side *side)
{
    if (conn != NULL && side->o.is_client)
        request(side);
    else if (conn != NULL && !side->is_dead)
        h2_conn_shutdown(conn);
}

static void on_goaway(struct h2_conn *c, enum h2_code code)
{
    side_heard_goaway(h2_conn_user(c), code);
}

static void on_lost(struct h2_conn *c, enum err why)
{
    struct diff_side *side = h2_conn_user(c);

    CHECK(why != ERR_OK);
    for (unsigned i = 0; i < side->count; i++)
        CHECK(side->calls[i].is_closed);
    side->is_dead = true;
    h2_conn_close(c, H2_NO_ERROR, 0);
}

static void on_conn_closed(struct h2_conn *c)
{
    (void)c;
    conn = NULL;
}

static const struct h2_conn_ops conn_ops = {
    .on_request = on_request,
    .on_ready = on_ready,
    .on_goaway = on_goaway,
    .on_lost = on_lost,
    .on_conn_closed = on_conn_closed,
};

void ours_start(struct diff_side *side)
{
    static bool has_loop;
    const struct h2_opts opts = {.is_server = !side->o.is_client,
                                 .max_streams = side->o.few_streams ? 3 : 100,
                                 .stream_window = 65535,
                                 .conn_window = 1u << 20,
                                 .max_frame_size = 16384};

    if (!has_loop)
        CHECK(loop_init(&loop) == ERR_OK);
    has_loop = true;
    slab_pool_init(&pool, 4);
    side->ops = &side_ops;
    net = fake_net_new(&loop, &pool, &side->judge.wire);
    CHECK(h2_conn_new(&loop, &pool, net, &opts, &conn_ops, side, &conn) == ERR_OK);
}

void ours_give(struct diff_side *side, struct bytes b)
{
    if (conn != NULL && !side->is_dead)
        fake_net_give(net, b);
}

static void turn(void)
{
    (void)uv_run(&loop.uv, UV_RUN_NOWAIT);
}

void ours_turn(struct diff_side *side)
{
    size_t before;

    turn();
    do {
        before = side->judge.wire.n;
        turn();
        turn();
    } while (side->judge.wire.n != before);
}

void ours_stop(struct diff_side *side)
{
    if (conn != NULL)
        h2_conn_close(conn, H2_NO_ERROR, 0);
    for (int i = 0; i < TURNS && conn != NULL; i++)
        turn();
    CHECK(conn == NULL);
    for (unsigned i = 0; i < side->count; i++)
        CHECK(side->calls[i].is_closed);
    slab_pool_settle(&pool);
    slab_pool_fini(&pool); /* every slab came back */
}
