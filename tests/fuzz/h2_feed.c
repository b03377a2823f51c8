/* SPDX-License-Identifier: Apache-2.0 */
/* Targets: everything of h2/ that a peer's bytes reach, in both roles, through a socket pair and a
 * loop.
 * Whatever comes, every stream is closed once, nothing of it comes behind that, the connection ends
 * and no slab and no handle is left.
 *
 * Input: options (1: we are the client, 2: no preface and SETTINGS before the bytes, 4: no credit
 * is given back, 8: requests are reset instead of answered, 16: the server stops gracefully at the
 * end), seed of the cuts, the bytes of the peer. */
#include "h2/h2.h"

#include <nghttp2/nghttp2.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fuzz.h"

enum { CLIENT = 1, BARE = 2, NO_CREDIT = 4, RESET = 8, SHUTDOWN = 16 };

#define TURNS 2000 /* far more than an input takes */

struct end {
    struct loop loop;
    struct slab_pool pool;
    struct h2_conn *c; /* NULL after on_conn_closed */
    uint8_t options;
    unsigned open;
    bool is_ready, is_lost;
};

/* One per stream, freed by on_close: what comes behind is seen by the sanitizer. */
struct call {
    struct end *end;
    bool is_over; /* the peer's side */
};

#define FIELD(n, v)                                                                                \
    {                                                                                              \
        BYTES_LIT(n), BYTES_LIT(v)                                                                 \
    }

static struct h2_fields request_fields(void)
{
    static struct h2_field v[5];

    v[0] = (struct h2_field)FIELD(":method", "POST");
    v[1] = (struct h2_field)FIELD(":scheme", "http");
    v[2] = (struct h2_field)FIELD(":path", "/a.B/C");
    v[3] = (struct h2_field)FIELD(":authority", "localhost");
    v[4] = (struct h2_field)FIELD("te", "trailers");
    return (struct h2_fields){v, ARRAY_LEN(v)};
}

static struct h2_fields response_fields(void)
{
    static struct h2_field v[2];

    v[0] = (struct h2_field)FIELD(":status", "200");
    v[1] = (struct h2_field)FIELD("content-type", "application/grpc");
    return (struct h2_fields){v, ARRAY_LEN(v)};
}

static struct h2_fields trailer_fields(void)
{
    static struct h2_field v[1];

    v[0] = (struct h2_field)FIELD("grpc-status", "0");
    return (struct h2_fields){v, ARRAY_LEN(v)};
}

static struct call *call_new(struct end *end)
{
    struct call *call = calloc(1, sizeof *call);

    CHECK(call != NULL);
    call->end = end;
    end->open++;
    return call;
}

static void answer(struct h2_stream *s)
{
    struct call *call = h2_stream_user(s);
    struct chain body = {0};
    enum err e;

    CHECK(!call->is_over);
    call->is_over = true;
    if ((call->end->options & CLIENT) != 0)
        return;
    if ((call->end->options & RESET) != 0) {
        h2_stream_reset(s, H2_CANCEL);
        return;
    }
    e = h2_respond(s, response_fields(), false);
    if (e == ERR_OK)
        e = chain_push_copy(&body, &call->end->pool, "hello", 5, 0);
    if (e == ERR_OK)
        e = h2_stream_send(s, &body, false);
    if (e == ERR_OK)
        e = h2_stream_trailers(s, trailer_fields());
    CHECK(e == ERR_OK || e == ERR_CLOSED);
    chain_fini(&body);
    fuzz_deep();
}

/* nghttp2's judgement of names and values beside ours; pseudo-header fields come first, and at most
 * so many. */
static void check_fields(struct h2_fields h, size_t pseudo_max)
{
    size_t pseudo = 0;

    for (size_t i = 0; i < h.count; i++) {
        struct bytes name = h.v[i].name, value = h.v[i].value;

        CHECK(nghttp2_check_header_name(name.p, name.n) != 0);
        CHECK(nghttp2_check_header_value(value.p, value.n) != 0);
        if (name.p[0] == ':')
            CHECK(pseudo++ == i);
    }
    CHECK(pseudo <= pseudo_max);
}

static void on_response(struct h2_stream *s, struct h2_fields h, bool end)
{
    check_fields(h, 1);
    if (end)
        answer(s);
}

static void on_data(struct h2_stream *s, struct slice *data)
{
    struct call *call = h2_stream_user(s);

    CHECK(!call->is_over && data->len > 0);
    if ((call->end->options & NO_CREDIT) == 0)
        h2_stream_credit(s, data->len);
    slice_drop(data);
}

static void on_trailers(struct h2_stream *s, struct h2_fields h)
{
    check_fields(h, 0);
    answer(s);
}

static void on_drained(struct h2_stream *s, size_t n)
{
    CHECK(h2_stream_user(s) != NULL && n > 0);
}

static void on_close(struct h2_stream *s, enum h2_code code, enum h2_end how)
{
    struct call *call = h2_stream_user(s);

    CHECK(how != H2_END_COMPLETE || code == H2_NO_ERROR);
    CHECK(call->end->open > 0);
    call->end->open--;
    free(call);
}

static const struct h2_stream_ops stream_ops = {
    .on_response = on_response,
    .on_data = on_data,
    .on_trailers = on_trailers,
    .on_end = answer,
    .on_drained = on_drained,
    .on_close = on_close,
};

static void on_request(struct h2_conn *c, struct h2_stream *s, struct h2_fields h, bool end)
{
    struct end *e = h2_conn_user(c);

    CHECK((e->options & CLIENT) == 0 && h.count <= LIMIT_HEADER_FIELDS);
    check_fields(h, 4);
    h2_stream_set_owner(s, &stream_ops, call_new(e));
    if (end)
        answer(s);
}

static void on_ready(struct h2_conn *c)
{
    struct end *e = h2_conn_user(c);

    CHECK(!e->is_ready);
    e->is_ready = true;
    for (int i = 0; i < 3 && (e->options & CLIENT) != 0 && h2_conn_can_request(c); i++) {
        struct h2_stream *s;

        if (h2_request(c, request_fields(), i != 1, &stream_ops, NULL, &s) == ERR_OK)
            h2_stream_set_user(s, call_new(e));
    }
}

static void on_goaway(struct h2_conn *c, enum h2_code code)
{
    (void)c;
    (void)code;
}

static void on_lost(struct h2_conn *c, enum err why)
{
    struct end *e = h2_conn_user(c);

    CHECK(!e->is_lost && e->open == 0 && why != ERR_OK);
    e->is_lost = true;
    h2_conn_close(c, H2_NO_ERROR, 0);
}

static void on_conn_closed(struct h2_conn *c)
{
    struct end *e = h2_conn_user(c);

    CHECK(e->open == 0);
    e->c = NULL;
}

static const struct h2_conn_ops conn_ops = {
    .on_request = on_request,
    .on_ready = on_ready,
    .on_goaway = on_goaway,
    .on_lost = on_lost,
    .on_conn_closed = on_conn_closed,
};

/* Between net_conn_accept and h2_conn_new nothing happens: the loop does not turn. */
static void never_read(struct net_conn *net, struct slice *s)
{
    (void)net;
    (void)s;
    CHECK(false);
}

static void never_eof(struct net_conn *net, enum err why)
{
    (void)net;
    (void)why;
    CHECK(false);
}

static void never_closed(struct net_conn *net)
{
    (void)net;
    CHECK(false);
}

static const struct net_conn_ops net_ops = {
    .on_read = never_read, .on_eof = never_eof, .on_closed = never_closed};

static void end_start(struct end *e, int fd)
{
    const struct h2_opts opts = {.is_server = (e->options & CLIENT) == 0,
                                 .max_streams = 10,
                                 .stream_window = LIMIT_STREAM_WINDOW,
                                 .conn_window = LIMIT_CONN_WINDOW,
                                 .max_frame_size = 16384};
    struct net_conn *net;

    CHECK(loop_init(&e->loop) == ERR_OK);
    slab_pool_init(&e->pool, 4);
    CHECK(net_conn_accept(&e->loop, &e->pool, SLAB_SECRET, fd, NULL, &net_ops, NULL, &net) ==
          ERR_OK);
    CHECK(h2_conn_new(&e->loop, &e->pool, net, &opts, &conn_ops, e, &e->c) == ERR_OK);
}

/* One turn; what the end wrote is read and dropped. */
static void turn(struct end *e, int fd)
{
    uint8_t drop[8192];

    (void)uv_run(&e->loop.uv, UV_RUN_NOWAIT);
    while (read(fd, drop, sizeof drop) > 0)
        ;
}

static void feed(struct end *e, int fd, struct bytes in, struct kit *k)
{
    while (in.n > 0 && e->c != NULL) {
        struct bytes piece = fuzz_take(&in, 1 + kit_random(k, 2000));

        if (send(fd, piece.p, piece.n, MSG_NOSIGNAL) != (ssize_t)piece.n)
            return;
        for (int i = 0; i < 3; i++)
            turn(e, fd);
    }
}

static void end_stop(struct end *e, int fd)
{
    if (e->c != NULL && (e->options & (CLIENT | SHUTDOWN)) == SHUTDOWN)
        h2_conn_shutdown(e->c);
    turn(e, fd);
    if (e->c != NULL)
        h2_conn_close(e->c, H2_NO_ERROR, 0);
    for (int i = 0; i < TURNS && e->c != NULL; i++)
        turn(e, fd);
    CHECK(e->c == NULL);
    loop_stop(&e->loop);
    loop_run(&e->loop);
    loop_fini(&e->loop);
    slab_pool_fini(&e->pool); /* every slab came back */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct bytes preface =
        BYTES_LIT("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0");
    struct bytes in = bytes_of(data, size), hello = preface;
    struct end e = {.options = fuzz_u8(&in)};
    struct kit *k = kit_get(fuzz_u8(&in));
    int fd[2];

    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd) == 0);
    end_start(&e, fd[0]);
    if ((e.options & CLIENT) != 0)
        hello = bytes_of(preface.p + 24, preface.n - 24);
    if ((e.options & BARE) == 0)
        feed(&e, fd[1], hello, k);
    feed(&e, fd[1], in, k);
    end_stop(&e, fd[1]);
    (void)close(fd[1]);
    return 0;
}
