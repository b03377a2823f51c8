/* SPDX-License-Identifier: Apache-2.0 */
/* The load generator. Opens its connections, warms up, measures, waits for what is still under way,
 * and prints one JSON line.
 *
 * - Closed loop: every stream of every connection sends its next request when it has its answer.
 * - Open loop (--rate): a request at every tick, whatever is under way; its latency counts from the
 *   tick.
 * - Watch (--watchers): so many Watch streams on the connections, and one more connection with a
 *   writer whose Puts they see; an event's latency counts from the Put that made it.
 * - Counted (--count): as the closed loop and watch, but a number of requests instead of a time, so
 *   that what they cost can be counted exactly.
 * - Idle (--hold): one request on each connection, then silence, until standard input ends.
 *
 * The first answer of every stream is compared with what etcd would have said, byte for byte (but
 * for the filler of a streamed list); of the others the length and the status are checked. An
 * answer that is not right ends the program: a proxy that is fast and wrong has no place in a
 * table. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "load.h"
#include "pb/pb.h"

#define FILLER_FIELD 19999u
#define LIST_EVERY 500u /* apiserver: requests from list to list */
#define LIST_OBJECTS 500u

struct run run;
struct peer_loop loop;
static nghttp2_session_callbacks *callbacks;

/* --- sending --------------------------------------------------------------------------------- */

static ssize_t read_request(nghttp2_session *session, int32_t id, uint8_t *out, size_t n,
                            uint32_t *flags, nghttp2_data_source *source, void *arg)
{
    struct slot *s = source->ptr;

    (void)session;
    (void)id;
    (void)arg;
    if (n > s->request.n - s->request_at)
        n = s->request.n - s->request_at;
    memcpy(out, s->request.p + s->request_at, n);
    s->request_at += n;
    if (s->request_at < s->request.n)
        return (ssize_t)n;
    if (!s->is_watch) {
        *flags = NGHTTP2_DATA_FLAG_EOF;
        return (ssize_t)n;
    }
    return n > 0 ? (ssize_t)n : NGHTTP2_ERR_DEFERRED;
}

static enum kind kind_of_slot(const struct slot *s)
{
    if (s->is_watch)
        return KIND_WATCH;
    return s->is_writer ? KIND_PUT : options.kind;
}

/* In a real etcd a key is put before it is read. Of 500 requests of an apiserver one is a list, 150
 * are updates, the others gets. */
static enum kind next_kind(struct slot *s)
{
    enum kind kind = kind_of_slot(s);
    bool needs_key = options.is_real && (kind == KIND_RANGE || kind == KIND_APISERVER);

    if (needs_key && !s->is_made)
        return KIND_PUT;
    if (kind != KIND_APISERVER)
        return kind;
    if (run.sent % LIST_EVERY == LIST_EVERY - 1)
        return KIND_LIST_500;
    return run.sent % 10 < 3 ? KIND_TXN : KIND_RANGE;
}

static bool is_update(const struct slot *s)
{
    return options.is_real && s->kind == KIND_TXN;
}

static void make_request(struct slot *s)
{
    enum kind kind = next_kind(s);
    char list[96];

    if (s->request.n > 0 && kind == s->kind && !(options.is_real && kind == KIND_TXN))
        return;
    s->kind = kind;
    s->request.n = 0;
    if (options.is_real && kind == KIND_LIST_500) {
        snprintf(list, sizeof list, "%slist/", options.item);
        wire_list_request(&s->request, list);
    } else {
        wire_request(&s->request, kind, s->item, s->revision, (size_t)options.value_len);
    }
    buf_frame(&s->request);
}

static nghttp2_nv nv(const char *name, const char *value)
{
    return (nghttp2_nv){(uint8_t *)name, (uint8_t *)value, strlen(name), strlen(value),
                        NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE};
}

/* What is left of kube-apiserver's 34 s for a request when it calls etcd, as grpc-go writes it: it
 * differs from call to call. */
static void make_timeout(char out[static 16])
{
    run.jitter = run.jitter * 6364136223846793005u + 1442695040888963407u;
    snprintf(out, 16, "%uu", 33999999u - (unsigned)(run.jitter >> 52));
}

/* The header fields of grpc-go, in its order. A watch has no timeout. */
static void submit(struct slot *s)
{
    char timeout[16];
    nghttp2_nv headers[] = {nv(":method", "POST"),
                            nv(":scheme", options.is_tls ? "https" : "http"),
                            nv(":path", kind_path(s->kind)),
                            nv(":authority", run.authority),
                            nv("content-type", "application/grpc"),
                            nv("user-agent", "grpc-go/1.71.1"),
                            nv("te", "trailers"),
                            {0}};
    size_t count = ARRAY_LEN(headers) - (options.has_timeouts && !s->is_watch ? 0 : 1);
    nghttp2_data_provider data = {{.ptr = s}, read_request};

    make_timeout(timeout);
    headers[ARRAY_LEN(headers) - 1] = nv("grpc-timeout", timeout);
    headers[ARRAY_LEN(headers) - 1].flags = NGHTTP2_NV_FLAG_NO_COPY_NAME;
    if (nghttp2_submit_request(s->conn->peer->session, NULL, headers, count, &data, s) < 0)
        die("no more requests on this connection");
    peer_touch(s->conn->peer);
}

static void send_request(struct slot *s, uint64_t started)
{
    make_request(s);
    if (is_update(s)) /* its answer is read each time */
        s->is_checked = false;
    s->request_at = 0;
    s->started = started;
    s->answer_len = 0;
    s->has_status = s->has_grpc_status = false;
    s->is_busy = true;
    if (s->is_writer)
        run.put_at[run.puts++ % PUTS] = started;
    run.busy++;
    run.sent += !s->is_watch;
    submit(s);
}

static bool has_sent_all(void)
{
    return options.count > 0 && run.sent >= (uint64_t)options.count;
}

static void send_next(struct slot *s)
{
    if (run.phase == DRAIN || has_sent_all())
        return;
    if (options.rate > 0 || options.holds) {
        s->next_free = s->conn->free;
        s->conn->free = s;
        return;
    }
    send_request(s, loop.now);
}

/* apiserver: puts the next object of the list, until all are there. */
static void fill_list(struct slot *s)
{
    if (run.filled == LIST_OBJECTS)
        return;
    snprintf(s->item, sizeof s->item, "%slist/%03u", options.item, (unsigned)run.filled++);
    s->request.n = 0;
    s->is_made = false;
    send_request(s, loop.now);
}

/* --- checking -------------------------------------------------------------------------------- */

/* What a streamed list has behind its last field: fillers and nothing else. */
static bool is_filler(struct bytes rest)
{
    struct pb_span f;
    enum pb_result r;

    while ((r = pb_span_next(&rest, &f)) == PB_FIELD)
        if (f.number != FILLER_FIELD || f.wire != PB_LEN)
            return false;
    return r == PB_END;
}

/* A real etcd has its own header in it; there the length has to do. */
static void check_first(struct slot *s)
{
    struct bytes body;

    if (options.is_real)
        return;
    if (s->first.n < 5 || s->first.n - 5 < run.expected.n)
        die("an answer of %zu bytes instead of %zu", s->first.n, run.expected.n + 5);
    body = bytes_of(s->first.p + 5, s->first.n - 5);
    if (memcmp(body.p, run.expected.p, run.expected.n) != 0 ||
        !is_filler(bytes_of(body.p + run.expected.n, body.n - run.expected.n)))
        die("the answer is not what etcd said");
}

/* TxnResponse: header 1 { revision 3 }, succeeded 2; on failure responses 3 { response_range 1 {
 * kvs 2 { mod_revision 3 } } }: the revision that the next update has to expect. */
static uint64_t field_of(struct bytes in, const uint32_t *path, size_t depth, uint64_t missing)
{
    struct pb_span f;

    while (pb_span_next(&in, &f) == PB_FIELD) {
        if (f.number != path[0])
            continue;
        if (depth == 1)
            return f.varint;
        return field_of(f.value, path + 1, depth - 1, missing);
    }
    return missing;
}

static void learn_revision(struct slot *s)
{
    static const uint32_t succeeded[] = {2}, revision[] = {1, 3}, held[] = {3, 1, 2, 3};
    struct bytes body = bytes_of(s->first.p + 5, s->first.n - 5);

    if (field_of(body, succeeded, 1, 0) != 0) {
        s->revision = field_of(body, revision, 2, 0);
        run.writes++;
    } else {
        s->revision = field_of(body, held, 4, 0);
    }
}

static void check_answer(struct slot *s)
{
    size_t least = options.is_real ? 0 : run.expected.n;

    if (!s->has_status || !s->has_grpc_status)
        die("a request failed: no status 200 or no grpc-status 0");
    if (options.is_real && s->kind == KIND_RANGE)
        least = (size_t)options.value_len;
    if (options.is_real && s->kind == KIND_LIST_500 && run.filled == LIST_OBJECTS)
        least = LIST_OBJECTS * (size_t)options.value_len;
    if (!s->is_writer && s->answer_len < least + 5)
        die("an answer of %zu bytes instead of %zu", s->answer_len, least + 5);
    if (!s->is_checked && !s->is_writer)
        check_first(s);
}

static void finish(struct slot *s)
{
    check_answer(s);
    if (is_update(s))
        learn_revision(s);
    run.writes += s->kind == KIND_PUT && !s->is_filler;
    s->is_made = s->is_checked = true;
    s->first.n = 0;
    if (run.phase == MEASURE) {
        run.requests++;
        if (!s->is_writer)
            hist_add(&run.latencies, loop.now - s->started);
    }
    run.answered++;
    s->is_busy = false;
    run.busy--;
    if (s->is_filler)
        fill_list(s);
    else
        send_next(s);
}

/* --- receiving ------------------------------------------------------------------------------- */

static bool is_pair(const uint8_t *name, size_t name_len, const uint8_t *value, size_t value_len,
                    const char *want_name, const char *want_value)
{
    return bytes_eq(bytes_of(name, name_len), bytes_str(want_name)) &&
           bytes_eq(bytes_of(value, value_len), bytes_str(want_value));
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *arg)
{
    struct slot *s = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);

    (void)flags;
    (void)arg;
    if (s == NULL)
        return 0;
    if (is_pair(name, name_len, value, value_len, ":status", "200"))
        s->has_status = true;
    if (is_pair(name, name_len, value, value_len, "grpc-status", "0"))
        s->has_grpc_status = true;
    else if (name_len >= 5 && memcmp(name, "grpc-", 5) == 0 && value_len > 0)
        fprintf(stderr, "%.*s: %.*s\n", (int)name_len, (const char *)name, (int)value_len,
                (const char *)value);
    return 0;
}

/* An event shows what the writer has put; the stub has values of its own. */
static void check_event(struct bytes value)
{
    struct bytes put = bytes_of(run.writer->request.p, run.writer->request.n);

    if (value.n == 0 ||
        (options.is_real && (put.n < value.n || memcmp(put.p + put.n - value.n, value.p, value.n))))
        die("an event without the value that was put");
}

/* A watcher sees every Put once and in their order, so its event number n comes from Put number n,
 * however many of them come in one answer. */
static void on_watch_answer(struct slot *s, struct bytes answer)
{
    struct bytes value = {0};
    uint32_t count = wire_count_events(answer, &value);

    if (options.kind == KIND_APISERVER) {
        run.seen += count;
        return;
    }
    if (count > 0 && s->events == 0)
        check_event(value);
    if (s->events + count > run.puts)
        die("more events than were put");
    for (; count > 0; count--) {
        uint64_t put_at = run.put_at[s->events++ % PUTS];

        if (run.phase != MEASURE)
            continue;
        run.events++;
        hist_add(&run.latencies, loop.now - put_at);
    }
}

/* The answers of a Watch stream, told by their gRPC prefixes; the created one comes first. */
static void on_watch_data(struct slot *s, const uint8_t *p, size_t n)
{
    buf_add(&s->first, p, n);
    while (s->first.n >= 5) {
        size_t len = 5 + ((size_t)s->first.p[1] << 24 | (size_t)s->first.p[2] << 16 |
                          (size_t)s->first.p[3] << 8 | s->first.p[4]);

        if (s->first.n < len)
            return;
        if (s->is_checked) {
            on_watch_answer(s, bytes_of(s->first.p + 5, len - 5));
        } else {
            s->is_checked = true;
            run.answered++;
        }
        s->first.n -= len;
        memmove(s->first.p, s->first.p + len, s->first.n);
    }
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *p, size_t n,
                   void *arg)
{
    struct slot *s = nghttp2_session_get_stream_user_data(session, id);

    (void)flags;
    if (s == NULL)
        return 0;
    run.bytes += n;
    s->answer_len += n;
    if (s->is_watch)
        on_watch_data(s, p, n);
    else if (!s->is_checked)
        buf_add(&s->first, p, n);
    if (options.has_probes)
        peer_probe(arg);
    return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    (void)session;
    if (frame->hd.type == NGHTTP2_PING && frame->hd.flags & NGHTTP2_FLAG_ACK)
        ((struct peer *)arg)->ping_is_out = false;
    return 0;
}

static int on_close(nghttp2_session *session, int32_t id, uint32_t code, void *arg)
{
    struct slot *s = nghttp2_session_get_stream_user_data(session, id);

    (void)arg;
    if (s == NULL)
        return 0;
    if (code != NGHTTP2_NO_ERROR || s->is_watch)
        die("a stream was ended with error %u", code);
    finish(s);
    return 0;
}

static void on_dead(struct peer *p)
{
    (void)p;
    die("a connection was lost");
}

/* --- the run --------------------------------------------------------------------------------- */

static struct slot *slot_new(struct conn *conn, long number)
{
    struct slot *s = calloc(1, sizeof *s);

    if (s == NULL)
        die("out of memory");
    s->conn = conn;
    if (options.kind == KIND_APISERVER)
        snprintf(s->item, sizeof s->item, "%sc%04td/%05" PRIu64, options.item, conn - run.conns,
                 run.slots++);
    else if (options.is_real)
        snprintf(s->item, sizeof s->item, "%s%05ld", options.item, number);
    return s;
}

static struct conn *conn_open(struct conn *c, SSL_CTX *tls)
{
    c->peer = peer_new(&loop, peer_connect(options.target), tls, false, callbacks, c);
    return c;
}

/* The stub makes events of Puts below WIRE_WATCH_KEYS; in an etcd each item is below it too, so
 * that no run sees another's values, which may be sealed. */
static void start_watchers(SSL_CTX *tls)
{
    char keys[80];
    struct slot *writer;

    snprintf(keys, sizeof keys, WIRE_WATCH_KEYS "%s", options.is_real ? options.item : "");
    for (long i = 0; i < options.watchers; i++) {
        struct slot *s = slot_new(&run.conns[i % options.connections], i);

        s->is_watch = true;
        snprintf(s->item, sizeof s->item, "%s", keys);
        send_request(s, loop.now);
    }
    while (run.answered < (uint64_t)options.watchers)
        peer_turn(&loop, UINT64_MAX);
    run.watches = (uint64_t)options.watchers;
    writer = slot_new(conn_open(&run.conns[options.connections], tls), 0);
    writer->is_writer = true;
    snprintf(writer->item, sizeof writer->item, "%sobject", keys);
    run.writer = writer;
    send_request(writer, loop.now);
}

/* A watch on each connection, which sees the keys that are written on this connection. */
static void start_apiserver(void)
{
    struct slot *filler = slot_new(&run.conns[0], 0);

    for (long i = 0; i < options.connections; i++) {
        struct slot *s = slot_new(&run.conns[i], i);

        s->is_watch = true;
        snprintf(s->item, sizeof s->item, "%sc%04ld/", options.item, i);
        send_request(s, loop.now);
    }
    while (run.answered < (uint64_t)options.connections)
        peer_turn(&loop, UINT64_MAX);
    run.watches = (uint64_t)options.connections;
    filler->is_filler = true;
    fill_list(filler);
    while (run.answered < (uint64_t)options.connections + LIST_OBJECTS)
        peer_turn(&loop, UINT64_MAX);
}

void load_start(void)
{
    SSL_CTX *tls = options.is_tls ? peer_tls_client(options.ca) : NULL;

    run.conns = calloc((size_t)options.connections + 1, sizeof *run.conns);
    if (run.conns == NULL)
        die("out of memory");
    for (long i = 0; i < options.connections; i++)
        conn_open(&run.conns[i], tls);
    if (options.watchers > 0) {
        start_watchers(tls);
        return;
    }
    if (options.kind == KIND_APISERVER) {
        start_apiserver();
        return;
    }
    for (long i = 0; i < options.connections * options.streams; i++) {
        struct slot *s = slot_new(&run.conns[i % options.connections], i);

        if (options.rate > 0) {
            s->next_free = s->conn->free;
            s->conn->free = s;
        } else if (!has_sent_all()) {
            send_request(s, loop.now);
        }
    }
}

void load_send_due(struct conn *c, uint64_t at)
{
    struct slot *s = c->free;

    if (s == NULL)
        s = slot_new(c, 0);
    else
        c->free = s->next_free;
    send_request(s, at);
}

void load_init(void)
{
    snprintf(run.authority, sizeof run.authority, "%s",
             strncmp(options.target, "unix:", 5) == 0 ? "localhost" : options.target);
    peer_loop_init(&loop, on_dead);
    if (nghttp2_session_callbacks_new(&callbacks) != 0)
        die("out of memory");
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
    if (!options.is_real)
        wire_answer(&run.expected, options.kind, NULL);
}
