/* SPDX-License-Identifier: Apache-2.0 */
/* An upstream that answers at once: etcd's answers, made once at the start, plain on one port and
 * sealed on another, each also with TLS; and the KMS plugin that the sealed ones are made with.
 *
 *   bench-stub --plain ADDR --sealed ADDR [--plain-tls ADDR --sealed-tls ADDR --cert F --key F]
 * --kms unix:PATH
 *
 * Range, Put, Txn: the answer of their kind when the request is over. Watch: created, then one
 * event for each Put below WIRE_WATCH_KEYS on the same port. It says "ready" once it listens and
 * ends with its standard input. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pb/pb.h"
#include "peer.h"
#include "seal.h"
#include "wire.h"

#define BODY_MAX 4096
#define EVENTS 256u /* in the ring */

struct call {
    struct peer *peer;
    int32_t id;
    enum kind kind;
    char path[64];
    size_t body_len;
    uint8_t body[BODY_MAX];
    const struct buf *answer; /* what is being sent */
    size_t at;
    struct buf own; /* an answer of its own */
    /* watch */
    uint64_t seen; /* events of the port that it was sent, or that came before it */
    bool is_watching, is_deferred;
    struct call *next, **link; /* in its port's list; link is what points here */
};

struct port {
    struct peer_watch watch; /* first */
    SSL_CTX *tls;
    bool is_sealed, is_kms;
    uint64_t events; /* since the start */
    struct call *calls;
};

static struct peer_loop loop;
static nghttp2_session_callbacks *callbacks;
static struct {
    struct buf answers[KIND_COUNT], created, empty, events[EVENTS];
} made[2]; /* plain, sealed */

static void make_answer(int sealed, enum kind kind)
{
    wire_answer(&made[sealed].answers[kind], kind, sealed ? seal_value : NULL);
    buf_frame(&made[sealed].answers[kind]);
}

static void make_answers(int sealed)
{
    wire_seal_fn seal = sealed ? seal_value : NULL;

    for (int kind = 1; kind < KIND_COUNT; kind++)
        if (kind != KIND_LIST_HUGE)
            make_answer(sealed, (enum kind)kind);
    wire_empty(&made[sealed].empty);
    buf_frame(&made[sealed].empty);
    for (uint32_t i = 0; i < EVENTS; i++) {
        wire_watch_event(&made[sealed].events[i], i, seal);
        buf_frame(&made[sealed].events[i]);
    }
}

/* --- sending --------------------------------------------------------------------------------- */

#define NV(n, v)                                                                                   \
    {                                                                                              \
        (uint8_t *)(n), (uint8_t *)(v), sizeof(n) - 1, sizeof(v) - 1, NGHTTP2_NV_FLAG_NONE         \
    }

/* The next event, when there is one. */
static bool next_event(struct call *c)
{
    struct port *port = c->peer->owner;

    if (!c->is_watching || c->seen == port->events)
        return false;
    c->answer = &made[port->is_sealed].events[c->seen++ % EVENTS];
    c->at = 0;
    return true;
}

static ssize_t read_answer(nghttp2_session *session, int32_t id, uint8_t *out, size_t n,
                           uint32_t *flags, nghttp2_data_source *source, void *arg)
{
    static const nghttp2_nv trailers[] = {NV("grpc-status", "0"), NV("grpc-message", "")};
    struct call *c = source->ptr;

    (void)arg;
    if (c->at == c->answer->n && !next_event(c)) {
        c->is_deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    if (n > c->answer->n - c->at)
        n = c->answer->n - c->at;
    memcpy(out, c->answer->p + c->at, n);
    c->at += n;
    if (c->at == c->answer->n && !c->is_watching) {
        *flags = NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
        (void)nghttp2_submit_trailer(session, id, trailers, 2);
    }
    return (ssize_t)n;
}

static void send_answer(struct call *c, const struct buf *answer)
{
    static const nghttp2_nv headers[] = {NV(":status", "200"),
                                         NV("content-type", "application/grpc")};
    nghttp2_data_provider data = {{.ptr = c}, read_answer};

    c->answer = answer;
    (void)nghttp2_submit_response(c->peer->session, c->id, headers, 2, &data);
    peer_touch(c->peer);
}

/* --- receiving ------------------------------------------------------------------------------- */

static struct bytes request_of(const struct call *c)
{
    return c->body_len < 5 ? (struct bytes){0} : bytes_of(c->body + 5, c->body_len - 5);
}

static struct bytes request_key(const struct call *c)
{
    struct bytes request = request_of(c);
    struct pb_span f;

    if (pb_span_next(&request, &f) != PB_FIELD || f.number != 1 || f.wire != PB_LEN)
        return (struct bytes){0};
    return f.value;
}

static void wake_watches(struct port *port)
{
    port->events++;
    for (struct call *c = port->calls; c != NULL; c = c->next) {
        if (!c->is_deferred)
            continue;
        c->is_deferred = false;
        (void)nghttp2_session_resume_data(c->peer->session, c->id);
        peer_touch(c->peer);
    }
}

static void start_watch(struct call *c)
{
    struct port *port = c->peer->owner;

    if (c->is_watching)
        return;
    c->is_watching = true;
    c->seen = port->events;
    send_answer(c, &made[port->is_sealed].answers[KIND_WATCH]);
}

static void answer_call(struct call *c)
{
    struct port *port = c->peer->owner;
    enum kind kind = c->kind;

    if (port->is_kms) {
        seal_kms_answer(bytes_str(c->path), request_of(c), &c->own);
        buf_frame(&c->own);
        send_answer(c, &c->own);
        return;
    }
    if (kind == KIND_RANGE)
        kind = wire_kind_of_key(request_key(c));
    if (kind == KIND_PUT && bytes_has_prefix(request_key(c), BYTES_LIT(WIRE_WATCH_KEYS)))
        wake_watches(port);
    if (kind == KIND_LIST_HUGE && made[port->is_sealed].answers[kind].n == 0)
        make_answer(port->is_sealed, kind); /* only when somebody asks */
    send_answer(c, kind == KIND_NONE ? &made[port->is_sealed].empty
                                     : &made[port->is_sealed].answers[kind]);
}

static int on_begin(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct call *c = malloc(sizeof *c);

    if (c == NULL)
        die("out of memory");
    memset(c, 0, offsetof(struct call, body));
    memset(&c->answer, 0, sizeof *c - offsetof(struct call, answer));
    c->peer = arg;
    c->id = frame->hd.stream_id;
    c->link = &((struct port *)c->peer->owner)->calls;
    c->next = *c->link;
    if (c->next != NULL)
        c->next->link = &c->next;
    *c->link = c;
    return nghttp2_session_set_stream_user_data(session, c->id, c);
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *arg)
{
    struct call *c = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);

    (void)flags;
    (void)arg;
    if (c == NULL || name_len != 5 || memcmp(name, ":path", 5) != 0 || value_len >= sizeof c->path)
        return 0;
    memcpy(c->path, value, value_len);
    c->path[value_len] = '\0';
    if (strcmp(c->path, "/etcdserverpb.KV/Range") == 0)
        c->kind = KIND_RANGE;
    else if (strcmp(c->path, "/etcdserverpb.KV/Put") == 0)
        c->kind = KIND_PUT;
    else if (strcmp(c->path, "/etcdserverpb.KV/Txn") == 0)
        c->kind = KIND_TXN;
    else if (strcmp(c->path, "/etcdserverpb.Watch/Watch") == 0)
        c->kind = KIND_WATCH;
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *p, size_t n,
                   void *arg)
{
    struct call *c = nghttp2_session_get_stream_user_data(session, id);

    (void)flags;
    (void)arg;
    if (c == NULL)
        return 0;
    if (n > BODY_MAX - c->body_len)
        n = BODY_MAX - c->body_len;
    memcpy(c->body + c->body_len, p, n);
    c->body_len += n;
    return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct call *c;

    (void)arg;
    if (frame->hd.type != NGHTTP2_DATA && frame->hd.type != NGHTTP2_HEADERS)
        return 0;
    c = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (c == NULL)
        return 0;
    if (c->kind == KIND_WATCH && frame->hd.type == NGHTTP2_DATA && c->body_len > 5)
        start_watch(c);
    else if (c->kind != KIND_WATCH && frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
        answer_call(c);
    return 0;
}

static void call_free(struct call *c)
{
    *c->link = c->next;
    if (c->next != NULL)
        c->next->link = c->link;
    buf_free(&c->own);
    free(c);
}

static int on_close(nghttp2_session *session, int32_t id, uint32_t code, void *arg)
{
    struct call *c = nghttp2_session_get_stream_user_data(session, id);

    (void)code;
    (void)arg;
    if (c != NULL)
        call_free(c);
    return 0;
}

/* nghttp2 says nothing of the streams of a session that is deleted. */
static void on_dead(struct peer *p)
{
    struct call *next;

    for (struct call *c = ((struct port *)p->owner)->calls; c != NULL; c = next) {
        next = c->next;
        if (c->peer == p)
            call_free(c);
    }
    peer_free(p);
}

/* --- ports ----------------------------------------------------------------------------------- */

static void on_accept(struct peer_watch *w)
{
    struct port *port = (struct port *)w;
    int fd;

    while ((fd = peer_accept(w->fd)) >= 0)
        (void)peer_new(&loop, fd, port->tls, true, callbacks, port);
}

static void open_port(const char *where, SSL_CTX *tls, bool is_sealed, bool is_kms)
{
    struct port *port = calloc(1, sizeof *port);

    if (port == NULL)
        die("out of memory");
    *port = (struct port){.watch = {on_accept, peer_listen(where)},
                          .tls = tls,
                          .is_sealed = is_sealed,
                          .is_kms = is_kms};
    peer_watch_add(&loop, &port->watch);
}

static void on_stdin(struct peer_watch *w)
{
    char t[64];

    if (read(w->fd, t, sizeof t) <= 0)
        exit(0);
}

static const char *option(int argc, char **argv, const char *name)
{
    for (int i = 1; i + 1 < argc; i += 2)
        if (strcmp(argv[i], name) == 0)
            return argv[i + 1];
    return NULL;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        bool is_tls, is_sealed, is_kms;
    } ports[] = {{"--plain", false, false, false},
                 {"--sealed", false, true, false},
                 {"--plain-tls", true, false, false},
                 {"--sealed-tls", true, true, false},
                 {"--kms", false, false, true}};
    static struct peer_watch input = {on_stdin, STDIN_FILENO};
    SSL_CTX *tls = NULL;

    if (argc < 3 || argc % 2 == 0)
        die("usage: bench-stub --plain ADDR --sealed ADDR --plain-tls ADDR --sealed-tls ADDR "
            "--cert FILE "
            "--key FILE --kms unix:PATH");
    seal_init();
    make_answers(0);
    make_answers(1);
    if (option(argc, argv, "--cert") != NULL)
        tls = peer_tls_server(option(argc, argv, "--cert"), option(argc, argv, "--key"));
    peer_loop_init(&loop, on_dead);
    if (nghttp2_session_callbacks_new(&callbacks) != 0)
        die("out of memory");
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
    for (size_t i = 0; i < ARRAY_LEN(ports); i++)
        if (option(argc, argv, ports[i].name) != NULL)
            open_port(option(argc, argv, ports[i].name), ports[i].is_tls ? tls : NULL,
                      ports[i].is_sealed, ports[i].is_kms);
    peer_watch_add(&loop, &input);
    puts("ready");
    fflush(stdout);
    for (;;)
        peer_turn(&loop, UINT64_MAX);
}
