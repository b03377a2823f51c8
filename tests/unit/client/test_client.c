/* SPDX-License-Identifier: Apache-2.0 */
/* Calls of our own against a small server on a unix socket that behaves and misbehaves. */
#include "client/client.h"

#include <unistd.h>

#include "grpc/grpc.h"
#include "kit.h"
#include "net/listen.h"

struct answer {
    unsigned count;
    enum err err;
    enum grpc_status status;
    char message[300];
    uint8_t *body;
    size_t body_len;
};

struct fix {
    struct kit k;
    char dir[32], path[64];
    struct net_url url;
    struct net_listener *listener;
    struct end server[8]; /* the connections taken, in order */
    unsigned server_count;
    void (*on_end)(struct rec *r); /* for new connections */
    void (*on_request)(struct rec *r);
    struct client *client;
};

static void on_accept(void *arg, int fd)
{
    struct fix *f = arg;
    struct end *e = &f->server[f->server_count++];

    assert_true(f->server_count <= ARRAY_LEN(f->server));
    end_init(e, &f->k, fd, &kit_server_opts);
    e->on_end = f->on_end;
    e->on_request = f->on_request;
}

static void server_start(struct fix *f)
{
    char why[200];

    assert_int_equal(net_listen(&f->k.loop, &f->url, on_accept, f, &f->listener, why, sizeof why),
                     ERR_OK);
}

static void server_stop(struct fix *f)
{
    net_listener_close(f->listener);
    f->listener = NULL;
}

static void setup(struct fix *f)
{
    char text[100];
    const char *why;

    memset(f, 0, sizeof *f);
    kit_init(&f->k);
    (void)snprintf(f->dir, sizeof f->dir, "/tmp/client-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    (void)snprintf(f->path, sizeof f->path, "%s/sock", f->dir);
    (void)snprintf(text, sizeof text, "unix://%s", f->path);
    assert_int_equal(net_url_parse(text, &f->url, &why), ERR_OK);
    assert_int_equal(client_new(&f->k.loop, &f->url, NULL, "localhost", &f->client), ERR_OK);
}

static void teardown(struct fix *f)
{
    if (f->client != NULL)
        client_close(f->client);
    if (f->listener != NULL)
        server_stop(f);
    for (unsigned i = 0; i < f->server_count; i++)
        end_close(&f->server[i]);
    kit_run_ms(&f->k, 10);
    kit_fini(&f->k);
    (void)unlink(f->path);
    assert_int_equal(rmdir(f->dir), 0);
}

static void on_answer(void *arg, const struct client_answer *a)
{
    struct answer *to = arg;

    assert_int_equal(to->count, 0);
    to->count++;
    to->err = a->err;
    to->status = a->status;
    (void)snprintf(to->message, sizeof to->message, "%s", a->message);
    to->body = malloc(a->body.n + 1);
    assert_non_null(to->body);
    if (a->body.n > 0)
        memcpy(to->body, a->body.p, a->body.n);
    to->body_len = a->body.n;
}

static struct client_call *call(struct fix *f, struct bytes body, uint64_t ms, struct answer *a)
{
    struct client_call *c;

    *a = (struct answer){0};
    assert_int_equal(client_call(f->client, "/svc/Method", body, ms, on_answer, a, &c), ERR_OK);
    assert_int_equal(a->count, 0);
    return c;
}

static void check(struct answer *a, enum err e, enum grpc_status status)
{
    assert_int_equal(a->count, 1);
    assert_int_equal(a->err, e);
    assert_int_equal(a->status, status);
    free(a->body);
    a->body = NULL;
}

/* --- what the server does --- */

static void send_bytes(struct rec *r, const void *p, size_t n)
{
    struct chain c = {0};

    assert_int_equal(chain_push_copy(&c, &r->end->k->pool, p, n, SLAB_SECRET), ERR_OK);
    assert_int_equal(h2_stream_send(r->s, &c, false), ERR_OK);
}

/* Echoes the message as it came. */
static void serve_echo(struct rec *r)
{
    assert_int_equal(h2_respond(r->s, kit_response, false), ERR_OK);
    send_bytes(r, r->body, r->body_len);
    assert_int_equal(h2_stream_trailers(r->s, kit_trailers), ERR_OK);
}

static void serve_fields(struct rec *r, const struct h2_field *v, size_t n)
{
    assert_int_equal(h2_respond(r->s, (struct h2_fields){v, n}, true), ERR_OK);
}

static struct h2_field field(const char *name, const char *value)
{
    return (struct h2_field){bytes_str(name), bytes_str(value)};
}

static void serve_error(struct rec *r)
{
    const struct h2_field v[] = {
        field(":status", "200"), field("content-type", "application/grpc+proto"),
        field("grpc-status", "5"), field("grpc-message", "not %E2%82%AC found")};

    serve_fields(r, v, ARRAY_LEN(v));
}

static void serve_error_behind_data(struct rec *r)
{
    const struct h2_field v[] = {field("grpc-status", "13"), field("grpc-message", "late")};

    assert_int_equal(h2_respond(r->s, kit_response, false), ERR_OK);
    send_bytes(r, "\0\0\0\0\3abc", 8);
    assert_int_equal(h2_stream_trailers(r->s, (struct h2_fields){v, ARRAY_LEN(v)}), ERR_OK);
}

static void serve_no_status(struct rec *r)
{
    const struct h2_field v[] = {field("x", "y")};

    assert_int_equal(h2_respond(r->s, kit_response, false), ERR_OK);
    send_bytes(r, "\0\0\0\0\3abc", 8);
    assert_int_equal(h2_stream_trailers(r->s, (struct h2_fields){v, ARRAY_LEN(v)}), ERR_OK);
}

static void serve_no_trailers(struct rec *r)
{
    struct chain none = {0};

    assert_int_equal(h2_respond(r->s, kit_response, false), ERR_OK);
    send_bytes(r, "\0\0\0\0\3abc", 8);
    assert_int_equal(h2_stream_send(r->s, &none, true), ERR_OK);
}

static void serve_bad_status(struct rec *r)
{
    const struct h2_field v[] = {field(":status", "200"), field("content-type", "application/grpc"),
                                 field("grpc-status", "0x")};

    serve_fields(r, v, ARRAY_LEN(v));
}

static void serve_404(struct rec *r)
{
    const struct h2_field v[] = {field(":status", "404"), field("content-type", "text/plain")};

    serve_fields(r, v, ARRAY_LEN(v));
}

static void serve_503(struct rec *r)
{
    const struct h2_field v[] = {field(":status", "503")};

    serve_fields(r, v, ARRAY_LEN(v));
}

static void serve_no_http_status(struct rec *r)
{
    const struct h2_field v[] = {field("content-type", "application/grpc")};
    const struct h2_field ok[] = {field("grpc-status", "0")};

    assert_int_equal(h2_respond(r->s, (struct h2_fields){v, ARRAY_LEN(v)}, false), ERR_OK);
    send_bytes(r, "\0\0\0\0\3abc", 8);
    assert_int_equal(h2_stream_trailers(r->s, (struct h2_fields){ok, ARRAY_LEN(ok)}), ERR_OK);
}

static void serve_html(struct rec *r)
{
    const struct h2_field v[] = {field(":status", "200"), field("content-type", "text/html")};

    serve_fields(r, v, ARRAY_LEN(v));
}

static void serve_raw(struct rec *r, const void *p, size_t n)
{
    assert_int_equal(h2_respond(r->s, kit_response, false), ERR_OK);
    send_bytes(r, p, n);
    assert_int_equal(h2_stream_trailers(r->s, kit_trailers), ERR_OK);
}

static void serve_compressed(struct rec *r)
{
    serve_raw(r, "\1\0\0\0\3abc", 8);
}

static void serve_cut(struct rec *r)
{
    serve_raw(r, "\0\0\0\0\4abc", 8);
}

static void serve_half_prefix(struct rec *r)
{
    serve_raw(r, "\0\0", 2);
}

static void serve_two(struct rec *r)
{
    serve_raw(r, "\0\0\0\0\1a\0\0\0\0\1b", 12);
}

static void serve_nothing(struct rec *r)
{
    assert_int_equal(h2_respond(r->s, kit_response, false), ERR_OK);
    assert_int_equal(h2_stream_trailers(r->s, kit_trailers), ERR_OK);
}

static void serve_huge(struct rec *r)
{
    assert_int_equal(h2_respond(r->s, kit_response, false), ERR_OK);
    rec_send(r, 0, 5u * 1024 * 1024, 60000, false);
    assert_int_equal(h2_stream_trailers(r->s, kit_trailers), ERR_OK);
}

static void serve_never(struct rec *r)
{
    (void)r;
}

static void serve_reset(struct rec *r)
{
    h2_stream_reset(r->s, H2_INTERNAL_ERROR);
}

/* --- tests --- */

static void test_ok(void **state)
{
    struct fix f;
    struct answer a;
    static uint8_t big[300000];

    (void)state;
    setup(&f);
    f.on_end = serve_echo;
    server_start(&f);
    (void)call(&f, BYTES_LIT("hello"), 2000, &a);
    KIT_UNTIL(&f.k, a.count == 1);
    assert_int_equal(a.body_len, 5);
    assert_memory_equal(a.body, "hello", 5);
    check(&a, ERR_OK, GRPC_OK);
    assert_non_null(strstr(f.server[0].last->headers, ":method: POST\n"));
    assert_non_null(strstr(f.server[0].last->headers, ":scheme: http\n"));
    assert_non_null(strstr(f.server[0].last->headers, ":path: /svc/Method\n"));
    assert_non_null(strstr(f.server[0].last->headers, ":authority: localhost\n"));
    assert_non_null(strstr(f.server[0].last->headers, "te: trailers\n"));
    assert_non_null(strstr(f.server[0].last->headers, "user-agent: etcd-envelope\n"));
    assert_non_null(strstr(f.server[0].last->headers, "grpc-timeout: "));
    /* Many frames, and the same connection. */
    memset(big, 'b', sizeof big);
    (void)call(&f, bytes_of(big, sizeof big), 2000, &a);
    KIT_UNTIL(&f.k, a.count == 1);
    assert_int_equal(a.body_len, sizeof big);
    assert_memory_equal(a.body, big, sizeof big);
    check(&a, ERR_OK, GRPC_OK);
    /* Empty message. */
    (void)call(&f, bytes_of(NULL, 0), 2000, &a);
    KIT_UNTIL(&f.k, a.count == 1);
    assert_int_equal(a.body_len, 0);
    check(&a, ERR_OK, GRPC_OK);
    assert_int_equal(f.server_count, 1);
    /* No call was reset from our side when it was complete. */
    LIST_FOREACH(it, &f.server[0].recs)
        assert_int_equal(LIST_ENTRY(it, struct rec, node)->how, H2_END_COMPLETE);
    teardown(&f);
}

static void test_odd_answers(void **state)
{
    static const struct {
        void (*serve)(struct rec *r);
        enum grpc_status status;
        const char *message;
    } cases[] = {
        {serve_error, GRPC_NOT_FOUND, "not \xe2\x82\xac found"},
        {serve_error_behind_data, GRPC_INTERNAL, "late"},
        {serve_no_status, GRPC_UNKNOWN, "the answer has no grpc-status"},
        {serve_no_trailers, GRPC_UNKNOWN, "the answer has no grpc-status"},
        {serve_bad_status, GRPC_UNKNOWN, ""},
        {serve_404, GRPC_UNIMPLEMENTED, "unexpected HTTP status 404"},
        {serve_503, GRPC_UNAVAILABLE, "unexpected HTTP status 503"},
        {serve_no_http_status, GRPC_UNKNOWN, "unexpected HTTP status none"},
        {serve_html, GRPC_UNKNOWN, "the answer's content-type is not application/grpc"},
        {serve_compressed, GRPC_INTERNAL, "the answer is compressed"},
        {serve_cut, GRPC_INTERNAL, "the answer is not one whole message"},
        {serve_half_prefix, GRPC_INTERNAL, "the answer is not one whole message"},
        {serve_two, GRPC_INTERNAL, "the answer is not one whole message"},
        {serve_nothing, GRPC_INTERNAL, "the answer is not one whole message"},
        {serve_huge, GRPC_RESOURCE_EXHAUSTED, "the answer is larger than 4096 KiB"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fix f;
        struct answer a, b;

        setup(&f);
        f.on_end = cases[i].serve;
        server_start(&f);
        (void)call(&f, BYTES_LIT("x"), 3000, &a);
        KIT_UNTIL(&f.k, a.count == 1);
        assert_string_equal(a.message, cases[i].message);
        assert_int_equal(a.body_len, 0);
        check(&a, ERR_OK, cases[i].status);
        /* The connection is none the worse. */
        f.server[0].on_end = serve_echo;
        (void)call(&f, BYTES_LIT("x"), 3000, &b);
        KIT_UNTIL(&f.k, b.count == 1);
        check(&b, ERR_OK, GRPC_OK);
        assert_int_equal(f.server_count, 1);
        teardown(&f);
    }
}

static void test_stream_reset(void **state)
{
    struct fix f;
    struct answer a;

    (void)state;
    setup(&f);
    f.on_end = serve_reset;
    server_start(&f);
    (void)call(&f, BYTES_LIT("x"), 3000, &a);
    KIT_UNTIL(&f.k, a.count == 1);
    check(&a, ERR_UPSTREAM_LOST, GRPC_UNAVAILABLE);
    assert_int_equal(f.server[0].recs_count, 1); /* not repeated */
    teardown(&f);
}

static void test_timeout(void **state)
{
    struct fix f;
    struct answer a;
    uint64_t start;

    (void)state;
    setup(&f);
    f.on_end = serve_never;
    server_start(&f);
    start = loop_hrtime_ns();
    (void)call(&f, BYTES_LIT("x"), 100, &a);
    KIT_UNTIL(&f.k, a.count == 1);
    assert_true(loop_hrtime_ns() - start >= 95 * 1000000ull);
    check(&a, ERR_TIMEOUT, GRPC_DEADLINE_EXCEEDED);
    KIT_UNTIL(&f.k, f.server[0].last->close_count == 1);
    assert_int_equal(f.server[0].last->code, H2_CANCEL);
    teardown(&f);
}

static void test_nobody_there(void **state)
{
    struct fix f;
    struct answer a, b;

    (void)state;
    setup(&f);
    (void)call(&f, BYTES_LIT("x"), 250, &a);
    (void)call(&f, BYTES_LIT("x"), 20, &b);
    KIT_UNTIL(&f.k, b.count == 1);
    assert_int_equal(a.count, 0);
    KIT_UNTIL(&f.k, a.count == 1);
    assert_true(a.message[0] != '\0');
    check(&a, ERR_UPSTREAM_AWAY, GRPC_UNAVAILABLE);
    check(&b, ERR_UPSTREAM_AWAY, GRPC_UNAVAILABLE);
    teardown(&f);
}

/* Wait for ready: the server comes after 300 ms, the call goes through. */
static void test_server_comes_late(void **state)
{
    struct fix f;
    struct answer a;

    (void)state;
    setup(&f);
    f.on_end = serve_echo;
    (void)call(&f, BYTES_LIT("late"), 4000, &a);
    kit_run_ms(&f.k, 300);
    assert_int_equal(a.count, 0);
    server_start(&f);
    KIT_UNTIL(&f.k, a.count == 1);
    check(&a, ERR_OK, GRPC_OK);
    teardown(&f);
}

static void test_server_dies(void **state)
{
    struct fix f;
    struct answer a, b;
    uint64_t first;

    (void)state;
    setup(&f);
    f.on_end = serve_never;
    assert_int_equal(client_connection(f.client), 0);
    server_start(&f);
    (void)call(&f, BYTES_LIT("x"), 3000, &a);
    KIT_UNTIL(&f.k, f.server_count == 1 && f.server[0].recs_count == 1);
    first = client_connection(f.client);
    assert_int_not_equal(first, 0);
    h2_conn_close(f.server[0].c, H2_NO_ERROR, 0);
    KIT_UNTIL(&f.k, a.count == 1);
    check(&a, ERR_UPSTREAM_LOST, GRPC_UNAVAILABLE);
    assert_int_equal(client_connection(f.client), 0);
    /* The next one dials again. */
    f.on_end = serve_echo;
    (void)call(&f, BYTES_LIT("x"), 3000, &b);
    KIT_UNTIL(&f.k, b.count == 1);
    check(&b, ERR_OK, GRPC_OK);
    assert_int_equal(f.server_count, 2);
    assert_int_not_equal(client_connection(f.client), 0);
    assert_int_not_equal(client_connection(f.client), first);
    teardown(&f);
}

/* Shutdown with GOAWAY: the call on it finishes, the next one goes to a new connection, the old one
 * is closed. */
static void test_goaway(void **state)
{
    struct fix f;
    struct answer a, b;
    struct rec *r;

    (void)state;
    setup(&f);
    f.on_end = serve_never;
    server_start(&f);
    (void)call(&f, BYTES_LIT("one"), 3000, &a);
    KIT_UNTIL(&f.k, f.server_count == 1 && f.server[0].recs_count == 1 &&
                        f.server[0].last->end_count == 1);
    r = f.server[0].last;
    h2_conn_shutdown(f.server[0].c);
    kit_run_ms(&f.k, 50);
    f.on_end = serve_echo;
    (void)call(&f, BYTES_LIT("two"), 3000, &b);
    KIT_UNTIL(&f.k, b.count == 1);
    check(&b, ERR_OK, GRPC_OK);
    assert_int_equal(f.server_count, 2);
    assert_int_equal(a.count, 0);
    serve_echo(r);
    KIT_UNTIL(&f.k, a.count == 1);
    assert_memory_equal(a.body, "one", 3);
    check(&a, ERR_OK, GRPC_OK);
    KIT_UNTIL(&f.k, f.server[0].c == NULL);
    assert_non_null(f.server[1].c);
    teardown(&f);
}

static void serve_refused(struct rec *r)
{
    h2_stream_reset(r->s, H2_REFUSED_STREAM);
}

/* Not processed is repeated, on a new connection. */
static void test_refused(void **state)
{
    struct fix f;
    struct answer a;

    (void)state;
    setup(&f);
    f.on_request = serve_refused;
    server_start(&f);
    (void)call(&f, BYTES_LIT("x"), 3000, &a);
    KIT_UNTIL(&f.k, f.server_count == 1 && f.server[0].recs_count == 1);
    f.on_request = NULL;
    f.on_end = serve_echo;
    KIT_UNTIL(&f.k, a.count == 1);
    check(&a, ERR_OK, GRPC_OK);
    assert_int_equal(f.server_count, 2);
    KIT_UNTIL(&f.k, f.server[0].c == NULL);
    teardown(&f);
}

static void test_cancel(void **state)
{
    struct fix f;
    struct answer a, b, c;
    struct client_call *sent, *waiting;

    (void)state;
    setup(&f);
    f.on_end = serve_never;
    waiting = call(&f, BYTES_LIT("x"), 3000, &a);
    client_cancel(waiting);
    server_start(&f);
    sent = call(&f, BYTES_LIT("x"), 3000, &b);
    KIT_UNTIL(&f.k, f.server_count == 1 && f.server[0].recs_count == 1);
    client_cancel(sent);
    KIT_UNTIL(&f.k, f.server[0].last->close_count == 1);
    f.server[0].on_end = serve_echo;
    (void)call(&f, BYTES_LIT("x"), 3000, &c);
    KIT_UNTIL(&f.k, c.count == 1);
    check(&c, ERR_OK, GRPC_OK);
    assert_int_equal(a.count + b.count, 0);
    assert_int_equal(f.server[0].recs_count, 2);
    teardown(&f);
}

struct closer {
    struct fix *f;
    unsigned count;
};

static void close_client(void *arg, const struct client_answer *a)
{
    struct closer *c = arg;

    (void)a;
    c->count++;
    client_close(c->f->client);
    c->f->client = NULL;
}

/* fn closes the client; calls beside it end unheard. */
static void test_close_inside_fn(void **state)
{
    struct fix f;
    struct closer c = {&f, 0};
    struct client_call *x;
    struct answer a;

    (void)state;
    setup(&f);
    f.on_end = serve_echo;
    server_start(&f);
    assert_int_equal(
        client_call(f.client, "/svc/Method", BYTES_LIT("x"), 3000, close_client, &c, &x), ERR_OK);
    (void)call(&f, BYTES_LIT("x"), 3000, &a);
    KIT_UNTIL(&f.k, c.count == 1);
    kit_run_ms(&f.k, 50);
    assert_int_equal(a.count, 0);
    teardown(&f);
}

/* More calls than the server's limit of streams: they wait for each other. */
static void test_many(void **state)
{
    struct fix f;
    static struct answer a[1500];

    (void)state;
    setup(&f);
    f.on_end = serve_echo;
    server_start(&f);
    for (size_t i = 0; i < ARRAY_LEN(a); i++)
        (void)call(&f, BYTES_LIT("many"), 4000, &a[i]);
    for (size_t i = 0; i < ARRAY_LEN(a); i++) {
        KIT_UNTIL(&f.k, a[i].count == 1);
        check(&a[i], ERR_OK, GRPC_OK);
    }
    assert_int_equal(f.server_count, 1);
    teardown(&f);
}

/* A connection only while a call needs it, and one again for each that comes later. */
static void test_rest(void **state)
{
    struct fix f;
    struct answer a, b;

    (void)state;
    setup(&f);
    f.on_end = serve_never;
    server_start(&f);
    (void)call(&f, BYTES_LIT("under way"), 3000, &a);
    KIT_UNTIL(&f.k, f.server_count == 1 && f.server[0].recs_count == 1 &&
                        f.server[0].last->end_count == 1);
    client_rest(f.client);
    kit_run_ms(&f.k, 50);
    assert_non_null(f.server[0].c);
    serve_echo(f.server[0].last);
    KIT_UNTIL(&f.k, a.count == 1);
    check(&a, ERR_OK, GRPC_OK);
    KIT_UNTIL(&f.k, f.server[0].c == NULL);
    f.on_end = serve_echo;
    for (unsigned i = 1; i < 3; i++) {
        (void)call(&f, BYTES_LIT("one"), 3000, &a);
        (void)call(&f, BYTES_LIT("two"), 3000, &b);
        KIT_UNTIL(&f.k, a.count == 1 && b.count == 1);
        check(&a, ERR_OK, GRPC_OK);
        check(&b, ERR_OK, GRPC_OK);
        assert_int_equal(f.server_count, i + 1);
        KIT_UNTIL(&f.k, f.server[i].c == NULL);
    }
    /* What ends without an answer. */
    f.on_end = serve_never;
    (void)call(&f, BYTES_LIT("x"), 100, &a);
    client_cancel(call(&f, BYTES_LIT("x"), 3000, &b));
    KIT_UNTIL(&f.k, a.count == 1 && f.server_count == 4 && f.server[3].c == NULL);
    check(&a, ERR_TIMEOUT, GRPC_DEADLINE_EXCEEDED);
    teardown(&f);
}

/* At once when there is nothing to do, and while the server does not answer. */
static void test_rest_when_idle(void **state)
{
    struct fix f;
    struct answer a;

    (void)state;
    setup(&f);
    client_rest(f.client);
    kit_run_ms(&f.k, 10);
    (void)call(&f, BYTES_LIT("nobody there"), 100, &a);
    KIT_UNTIL(&f.k, a.count == 1);
    check(&a, ERR_UPSTREAM_AWAY, GRPC_UNAVAILABLE);
    f.on_end = serve_echo;
    server_start(&f);
    (void)call(&f, BYTES_LIT("x"), 3000, &a);
    client_rest(f.client);
    KIT_UNTIL(&f.k, a.count == 1);
    check(&a, ERR_OK, GRPC_OK);
    KIT_UNTIL(&f.k, f.server[0].c == NULL);
    kit_run_ms(&f.k, 100);
    assert_int_equal(f.server_count, 1);
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ok),
        cmocka_unit_test(test_odd_answers),
        cmocka_unit_test(test_stream_reset),
        cmocka_unit_test(test_timeout),
        cmocka_unit_test(test_nobody_there),
        cmocka_unit_test(test_server_comes_late),
        cmocka_unit_test(test_server_dies),
        cmocka_unit_test(test_goaway),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_close_inside_fn),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_rest),
        cmocka_unit_test(test_rest_when_idle),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
