/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#define TICK_MS 5

/* ------------------------------------------------------------------------ loop */

static void on_tick(struct loop_timer *t)
{
    struct kit *k = CONTAINER_OF(t, struct kit, tick);

    assert_int_equal(loop_timer_start(&k->loop, t, TICK_MS), ERR_OK);
}

void kit_init(struct kit *k)
{
    *k = (struct kit){0};
    assert_int_equal(loop_init(&k->loop), ERR_OK);
    slab_pool_init(&k->pool, 16);
    loop_timer_init(&k->tick, on_tick);
    on_tick(&k->tick);
}

void kit_fini(struct kit *k)
{
    loop_timer_fini(&k->tick);
    loop_stop(&k->loop);
    loop_run(&k->loop);
    loop_fini(&k->loop);
    slab_pool_settle(&k->pool);
    assert_int_equal(k->pool.live_bytes, 0);
    slab_pool_fini(&k->pool);
}

void kit_turn(struct kit *k)
{
    (void)uv_run(&k->loop.uv, UV_RUN_ONCE);
}

void kit_run_ms(struct kit *k, unsigned ms)
{
    uint64_t end = loop_hrtime_ns() + ms * 1000000ull;

    while (loop_hrtime_ns() < end)
        kit_turn(k);
}

void kit_socketpair(int fd[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
}

/* ------------------------------------------------------------------------ ends */

static struct rec *rec_new(struct end *e, struct h2_stream *s)
{
    struct rec *r = calloc(1, sizeof *r);

    assert_non_null(r);
    r->end = e;
    r->s = s;
    r->is_hungry = true;
    list_push(&e->recs, &r->node);
    e->last = r;
    e->recs_count++;
    return r;
}

static char *fields_text(struct h2_fields f)
{
    size_t n = 1, at = 0;
    char *text;

    for (size_t i = 0; i < f.count; i++)
        n += f.v[i].name.n + f.v[i].value.n + 3;
    text = calloc(1, n);
    assert_non_null(text);
    for (size_t i = 0; i < f.count; i++)
        at += (size_t)snprintf(text + at, n - at, "%.*s: %.*s\n", (int)f.v[i].name.n,
                               (const char *)f.v[i].name.p, (int)f.v[i].value.n,
                               (const char *)f.v[i].value.p);
    return text;
}

static void got_headers(struct rec *r, struct h2_fields f, bool end)
{
    r->headers_count++;
    free(r->headers);
    r->headers = fields_text(f);
    r->headers_end = end;
}

static void on_response(struct h2_stream *s, struct h2_fields f, bool end)
{
    struct rec *r = h2_stream_user(s);

    got_headers(r, f, end);
    if (r->end->on_response != NULL)
        r->end->on_response(r);
}

static void on_data(struct h2_stream *s, struct slice *data)
{
    struct rec *r = h2_stream_user(s);
    size_t n = data->len;

    assert_true(n > 0);
    if (r->is_forgetful) {
        assert_true(kit_is_pattern(slice_data(*data), r->body_len, n));
    } else {
        if (r->body_len + n > r->body_cap) {
            r->body_cap = (r->body_len + n) * 2;
            r->body = realloc(r->body, r->body_cap);
            assert_non_null(r->body);
        }
        memcpy(r->body + r->body_len, slice_data(*data), n);
    }
    r->body_len += n;
    slice_drop(data);
    if (r->is_hungry)
        h2_stream_credit(s, n);
    if (r->end->on_data != NULL)
        r->end->on_data(r, n);
}

static void on_trailers(struct h2_stream *s, struct h2_fields f)
{
    struct rec *r = h2_stream_user(s);

    r->trailers_count++;
    free(r->trailers);
    r->trailers = fields_text(f);
    if (r->end->on_end != NULL)
        r->end->on_end(r);
}

static void on_end(struct h2_stream *s)
{
    struct rec *r = h2_stream_user(s);

    r->end_count++;
    if (r->end->on_end != NULL)
        r->end->on_end(r);
}

static void on_drained(struct h2_stream *s, size_t n)
{
    struct rec *r = h2_stream_user(s);

    r->drained += n;
    if (r->end->on_drained != NULL)
        r->end->on_drained(r);
}

static void on_close(struct h2_stream *s, enum h2_code code, enum h2_end how)
{
    struct rec *r = h2_stream_user(s);

    assert_int_equal(r->close_count, 0);
    r->close_count++;
    r->code = code;
    r->how = how;
    if (r->end->on_close != NULL)
        r->end->on_close(r);
    r->s = NULL;
}

static const struct h2_stream_ops stream_ops = {
    .on_response = on_response,
    .on_data = on_data,
    .on_trailers = on_trailers,
    .on_end = on_end,
    .on_drained = on_drained,
    .on_close = on_close,
};

static void on_request(struct h2_conn *c, struct h2_stream *s, struct h2_fields f, bool end)
{
    struct end *e = h2_conn_user(c);
    struct rec *r;

    if (e->is_deaf)
        return;
    r = rec_new(e, s);
    h2_stream_set_owner(s, &stream_ops, r);
    got_headers(r, f, end);
    if (e->on_request != NULL)
        e->on_request(r);
}

static void on_ready(struct h2_conn *c)
{
    struct end *e = h2_conn_user(c);

    e->ready_count++;
}

static void on_room(struct h2_conn *c)
{
    struct end *e = h2_conn_user(c);

    e->room_count++;
}

static void on_goaway(struct h2_conn *c, enum h2_code code)
{
    struct end *e = h2_conn_user(c);

    e->goaway_count++;
    e->goaway_code = code;
}

static void on_idle(struct h2_conn *c)
{
    struct end *e = h2_conn_user(c);

    assert_int_equal(h2_conn_stream_count(c), 0);
    e->idle_count++;
}

static void on_lost(struct h2_conn *c, enum err why)
{
    struct end *e = h2_conn_user(c);

    LIST_FOREACH(it, &e->recs)
        assert_int_equal(LIST_ENTRY(it, struct rec, node)->close_count, 1);
    assert_int_equal(h2_conn_stream_count(c), 0);
    e->lost_count++;
    e->lost_err = why;
    (void)snprintf(e->lost_why, sizeof e->lost_why, "%s", h2_conn_why(c));
    if (!e->keep_on_lost)
        h2_conn_close(c, H2_NO_ERROR, 0);
}

static void on_conn_closed(struct h2_conn *c)
{
    struct end *e = h2_conn_user(c);

    e->c = NULL;
}

static const struct h2_conn_ops conn_ops = {
    .on_request = on_request,
    .on_ready = on_ready,
    .on_room = on_room,
    .on_goaway = on_goaway,
    .on_idle = on_idle,
    .on_lost = on_lost,
    .on_conn_closed = on_conn_closed,
};

const struct h2_opts kit_server_opts = {
    .is_server = true,
    .max_streams = UINT32_MAX,
    .stream_window = LIMIT_STREAM_WINDOW,
    .conn_window = LIMIT_CONN_WINDOW,
    .max_frame_size = 16384,
    .write_stall_ms = LIMIT_WRITE_STALL_MS,
};

const struct h2_opts kit_client_opts = {
    .stream_window = LIMIT_STREAM_WINDOW,
    .conn_window = LIMIT_CONN_WINDOW,
    .max_frame_size = 1024 * 1024,
};

static void net_on_open(struct net_conn *net)
{
    (void)net;
}

static void net_on_read(struct net_conn *net, struct slice *s)
{
    (void)net;
    (void)s;
    fail_msg("bytes before h2 has the connection");
}

static void net_on_eof(struct net_conn *net, enum err why)
{
    (void)net;
    (void)why;
    fail_msg("end before h2 has the connection");
}

static const struct net_conn_ops net_ops = {.on_open = net_on_open,
                                            .on_read = net_on_read,
                                            .on_writable = net_on_open,
                                            .on_eof = net_on_eof,
                                            .on_closed = net_on_open};

void end_init(struct end *e, struct kit *k, int fd, const struct h2_opts *opts)
{
    struct net_conn *net;

    *e = (struct end){.k = k};
    list_init(&e->recs);
    assert_int_equal(
        net_conn_accept(&k->loop, &k->pool, SLAB_SECRET, fd, NULL, &net_ops, NULL, &net), ERR_OK);
    assert_int_equal(h2_conn_new(&k->loop, &k->pool, net, opts, &conn_ops, e, &e->c), ERR_OK);
}

void end_pair(struct kit *k, struct end *client, const struct h2_opts *copts, struct end *server,
              const struct h2_opts *sopts)
{
    int fd[2];

    kit_socketpair(fd);
    end_init(client, k, fd[0], copts != NULL ? copts : &kit_client_opts);
    end_init(server, k, fd[1], sopts != NULL ? sopts : &kit_server_opts);
}

void end_close(struct end *e)
{
    if (e->c != NULL)
        h2_conn_close(e->c, H2_NO_ERROR, 0);
    KIT_UNTIL(e->k, e->c == NULL);
    while (!list_is_empty(&e->recs)) {
        struct rec *r = LIST_FIRST(&e->recs, struct rec, node);

        assert_int_equal(r->close_count, 1);
        list_remove(&r->node);
        free(r->headers);
        free(r->trailers);
        free(r->body);
        free(r);
    }
}

/* ------------------------------------------------------------------------ messages */

#define FIELD(n, v)                                                                                \
    {                                                                                              \
        {(const uint8_t *)(n), sizeof(n) - 1},                                                     \
        {                                                                                          \
            (const uint8_t *)(v), sizeof(v) - 1                                                    \
        }                                                                                          \
    }

static const struct h2_field request_v[] = {
    FIELD(":method", "POST"),        FIELD(":scheme", "http"),
    FIELD(":path", "/a.B/C"),        FIELD(":authority", "localhost"),
    FIELD("te", "trailers"),         FIELD("content-type", "application/grpc"),
    FIELD("authorization", "pssst"),
};
static const struct h2_field response_v[] = {
    FIELD(":status", "200"),
    FIELD("content-type", "application/grpc"),
};
static const struct h2_field trailers_v[] = {
    FIELD("grpc-status", "0"),
    FIELD("grpc-message", "fine "),
};
static const struct h2_field trailers_only_v[] = {
    FIELD(":status", "200"),
    FIELD("content-type", "application/grpc"),
    FIELD("grpc-status", "14"),
};
const struct h2_fields kit_request = {request_v, ARRAY_LEN(request_v)};
const struct h2_fields kit_response = {response_v, ARRAY_LEN(response_v)};
const struct h2_fields kit_trailers = {trailers_v, ARRAY_LEN(trailers_v)};
const struct h2_fields kit_trailers_only = {trailers_only_v, ARRAY_LEN(trailers_only_v)};

struct rec *end_request(struct end *e, struct h2_fields f, bool last)
{
    struct rec *r = rec_new(e, NULL);

    assert_int_equal(h2_request(e->c, f, last, &stream_ops, r, &r->s), ERR_OK);
    return r;
}

struct rec *end_request_take(struct end *e, struct h2_fields *f, bool last)
{
    struct rec *r = rec_new(e, NULL);

    assert_int_equal(h2_request_take(e->c, f, last, &stream_ops, r, &r->s), ERR_OK);
    return r;
}

static uint8_t pattern(size_t at)
{
    return (uint8_t)(at ^ at >> 8 ^ at >> 16);
}

bool kit_is_pattern(const uint8_t *p, size_t from, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] != pattern(from + i))
            return false;
    return true;
}

void rec_send(struct rec *r, size_t from, size_t n, size_t piece, bool last)
{
    struct chain c = {0};

    while (n > 0) {
        size_t part = piece < n ? piece : n;
        struct slab *slab = slab_new(&r->end->k->pool, part, SLAB_SECRET);
        struct slice s = {slab, 0, (uint32_t)part};

        assert_non_null(slab);
        for (size_t i = 0; i < part; i++)
            slab->data[i] = pattern(from + i);
        slab->fill = (uint32_t)part;
        assert_int_equal(chain_push(&c, &s), ERR_OK);
        from += part;
        n -= part;
    }
    assert_int_equal(h2_stream_send(r->s, &c, last), ERR_OK);
    assert_int_equal(c.len, 0);
}

void rec_answer(struct rec *r, size_t n)
{
    assert_int_equal(h2_respond(r->s, kit_response, false), ERR_OK);
    rec_send(r, 0, n, 60000, false);
    assert_int_equal(h2_stream_trailers(r->s, kit_trailers), ERR_OK);
}

/* ------------------------------------------------------------------------ raw peer */

void raw_init(struct raw *r, struct kit *k, int fd)
{
    *r = (struct raw){.k = k, .fd = fd};
}

void raw_fini(struct raw *r)
{
    close(r->fd);
    free(r->in);
}

bool raw_write(struct raw *r, const void *p, size_t n)
{
    const uint8_t *at = p;

    while (n > 0) {
        ssize_t put = send(r->fd, at, n, MSG_NOSIGNAL);

        if (put < 0 && errno == EAGAIN) {
            kit_turn(r->k);
            continue;
        }
        if (put < 0)
            return false;
        at += put;
        n -= (size_t)put;
    }
    return true;
}

size_t raw_put_frame(uint8_t *to, uint8_t type, uint8_t flags, uint32_t id, const void *p, size_t n)
{
    to[0] = (uint8_t)(n >> 16);
    to[1] = (uint8_t)(n >> 8);
    to[2] = (uint8_t)n;
    to[3] = type;
    to[4] = flags;
    to[5] = (uint8_t)(id >> 24);
    to[6] = (uint8_t)(id >> 16);
    to[7] = (uint8_t)(id >> 8);
    to[8] = (uint8_t)id;
    if (n > 0)
        memcpy(to + 9, p, n);
    return n + 9;
}

bool raw_frame(struct raw *r, uint8_t type, uint8_t flags, uint32_t id, const void *p, size_t n)
{
    uint8_t *frame = malloc(n + 9);
    bool ok;

    assert_non_null(frame);
    ok = raw_write(r, frame, raw_put_frame(frame, type, flags, id, p, n));
    free(frame);
    return ok;
}

void raw_hello(struct raw *r)
{
    assert_true(raw_write(r, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24));
    assert_true(raw_frame(r, F_SETTINGS, 0, 0, NULL, 0));
}

size_t raw_put_field(uint8_t *to, const char *name, const char *value)
{
    size_t n = strlen(name), v = strlen(value);

    assert_true(n < 127 && v < 127);
    to[0] = 0;
    to[1] = (uint8_t)n;
    memcpy(to + 2, name, n);
    to[2 + n] = (uint8_t)v;
    memcpy(to + 3 + n, value, v);
    return 3 + n + v;
}

size_t raw_put_request(uint8_t *to)
{
    size_t n = raw_put_field(to, ":method", "POST");

    n += raw_put_field(to + n, ":scheme", "http");
    n += raw_put_field(to + n, ":path", "/a.B/C");
    n += raw_put_field(to + n, ":authority", "x");
    return n;
}

void raw_read(struct raw *r)
{
    for (;;) {
        ssize_t n;

        if (r->in_cap - r->in_len < 65536) {
            r->in_cap = r->in_cap * 2 + 65536;
            r->in = realloc(r->in, r->in_cap);
            assert_non_null(r->in);
        }
        n = recv(r->fd, r->in + r->in_len, r->in_cap - r->in_len, 0);
        if (n > 0) {
            r->in_len += (size_t)n;
            continue;
        }
        if (n == 0 || errno != EAGAIN)
            r->is_eof = true;
        return;
    }
}

bool raw_next(struct raw *r, struct raw_frame *f)
{
    const uint8_t *p = r->in + r->at;
    uint32_t len;

    if (r->in_len < r->at + 9)
        return false;
    len = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
    if (r->in_len < r->at + 9 + len)
        return false;
    *f = (struct raw_frame){
        p[3], p[4], (uint32_t)p[5] << 24 | (uint32_t)p[6] << 16 | (uint32_t)p[7] << 8 | p[8], p + 9,
        len};
    r->at += 9 + len;
    return true;
}

struct raw_frame raw_await(struct raw *r, uint8_t type)
{
    struct raw_frame f = {0};
    uint64_t end = loop_hrtime_ns() + 5000000000ull;

    for (;;) {
        while (raw_next(r, &f))
            if (f.type == type)
                return f;
        if (loop_hrtime_ns() > end || r->is_eof)
            fail_msg("no frame of type %d came", type);
        kit_turn(r->k);
        raw_read(r);
    }
}

bool raw_await_eof(struct raw *r, unsigned ms)
{
    uint64_t end = loop_hrtime_ns() + ms * 1000000ull;

    while (!r->is_eof && loop_hrtime_ns() < end) {
        kit_turn(r->k);
        raw_read(r);
    }
    return r->is_eof;
}
