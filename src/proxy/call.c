/* SPDX-License-Identifier: Apache-2.0 */
/* The happy path of a unary call:
 *   1. call_open checks method, path and headers; the request lane collects the message;
 *   2. END_STREAM: the lane seals it, call_send_up opens the upstream stream and sends it whole;
 *   3. etcd's headers go on at once; the answer lane opens what comes;
 *   4. etcd's trailers wait in c->trailers until the answer lane is done, then call_finish sends
 *      them.
 * A streaming call opens its upstream stream at once and hands messages on as they come.
 *
 * Failure modes:
 *   - refused request, value that does not open, no key: call_fail, one status in trailers;
 *   - client reset or gone: upstream is reset with CANCEL, the lanes are killed;
 *   - upstream lost: UNAVAILABLE in trailers; upstream REFUSED_STREAM: handed on as such, since
 *     nothing was processed and clients repeat by themselves;
 *   - etcd being redialled: CALL_WAITING, at most 1 s (the pool ends it);
 *   - a peer stops in the middle of a message, or the client takes no answer: progress.c.
 * Never CANCELLED, DEADLINE_EXCEEDED or RST_STREAM CANCEL to a client that has not given up:
 * clientv3 then repeats writes. */
#include "proxy/call.h"

#include "grpc/grpc.h"
#include "proxy/call_int.h"

#define SMALL_LEAST (4u * 1024 * 1024) /* a Put of 1.5 MiB, and what is made of it */

bool call_is_unary(const struct call *c)
{
    return c->method == NULL || c->method->shape == ETCD_UNARY;
}

bool call_is_live(const struct call *c)
{
    return c->state == CALL_COLLECTING || c->state == CALL_WAITING || c->state == CALL_OPEN;
}

struct call *call_of_link_node(struct list *node)
{
    return LIST_ENTRY(node, struct call, link_node);
}

void call__set_state(struct call *c, enum call_state to)
{
    static const uint16_t legal[] = {
        [CALL_REFUSED] =
            1 << CALL_COLLECTING | 1 << CALL_PROBING | 1 << CALL_FAILED | 1 << CALL_GONE,
        [CALL_COLLECTING] = 1 << CALL_WAITING | 1 << CALL_OPEN | 1 << CALL_FAILED | 1 << CALL_GONE,
        [CALL_WAITING] = 1 << CALL_OPEN | 1 << CALL_FAILED | 1 << CALL_GONE,
        [CALL_OPEN] = 1 << CALL_ANSWERED | 1 << CALL_FILLING | 1 << CALL_FAILED | 1 << CALL_GONE,
        [CALL_FILLING] = 1 << CALL_FAILED | 1 << CALL_GONE,
        [CALL_PROBING] = 1 << CALL_ANSWERED | 1 << CALL_FAILED | 1 << CALL_GONE,
        [CALL_ANSWERED] = 1 << CALL_GONE,
        [CALL_FAILED] = 1 << CALL_GONE,
        [CALL_GONE] = 0,
    };

    CHECK(legal[c->state] & 1 << to);
    c->state = to;
}

void call__count_kept(struct call *c)
{
    /* One that was ended goes with the next turns of the loop; one that was answered may have to
     * wait for its client's window. */
    bool is_over = c->state == CALL_FAILED || c->state == CALL_GONE;
    size_t few = c->headers.size + c->trailers.size + c->ask.watched + c->ask.asked;
    size_t now = (is_over ? 0 : CALL_COST) + (few > CALL_KEPT_SMALL ? few - CALL_KEPT_SMALL : 0);

    now += lane_kept(&c->request) + lane_kept(&c->answer);
    c->worker->kept_bytes += now;
    c->worker->kept_bytes -= c->kept_bytes;
    c->kept_bytes = now;
}

size_t call_held(const struct call *c)
{
    return c->kept_bytes + sealed_msg_pinned(&c->pending) + lane_held(&c->request) +
           lane_held(&c->answer) + (c->down == NULL ? 0 : h2_stream_pinned(c->down)) +
           (c->up == NULL ? 0 : h2_stream_pinned(c->up));
}

bool call_is_holding(const struct call *c)
{
    return lane_is_holding(&c->request) || lane_is_holding(&c->answer) ||
           (c->up != NULL && call_is_unary(c));
}

bool call_is_small(const struct call *c)
{
    uint64_t part = c->worker->env->budget->limit / 8;

    return call_held(c) <= (part > SMALL_LEAST ? part : SMALL_LEAST);
}

/* As call_held, but bytes alone: it is asked for often. */
static size_t call_len(const struct call *c)
{
    return c->kept_bytes + sealed_msg_len(&c->pending) + lane_len(&c->request) +
           lane_len(&c->answer) + (c->down == NULL ? 0 : h2_stream_queued(c->down)) +
           (c->up == NULL ? 0 : h2_stream_queued(c->up));
}

void call_claim(struct call *c)
{
    size_t promised = lane_promised(&c->request) + lane_promised(&c->answer), was = c->claims;
    bool is_over = c->state == CALL_FAILED || c->state == CALL_GONE;
    struct worker *w = c->worker;

    w->promised += promised;
    w->promised -= c->promised;
    c->promised = promised;
    c->claims = is_over ? 0 : call_len(c) + promised;
    if (c->claims > was)
        worker_watch_memory(w);
    if (c->claims < was && !list_is_empty(&w->hungry))
        loop_task_want(&w->loop, &w->feed);
    link_claimed(c->link, was, c->claims);
}

/* --- times ----------------------------------------------------------------------------------- */

static void request_is_whole(struct call *c)
{
    c->client_has_ended = true;
    c->request_whole_ns = loop_turn_ns(&c->worker->loop);
}

static void request_is_sent(struct call *c)
{
    if (c->request_whole_ns != 0)
        c->added_ns += loop_hrtime_ns() - c->request_whole_ns;
}

static void answer_begin(struct call *c)
{
    uint64_t turn_ns = loop_turn_ns(&c->worker->loop);

    if (c->answer_since_ns == 0)
        c->answer_since_ns = turn_ns > c->answer_until_ns ? turn_ns : c->answer_until_ns;
}

void call__answer_done(struct call *c)
{
    if (c->answer_since_ns == 0)
        return;
    c->answer_until_ns = loop_hrtime_ns();
    c->added_ns += c->answer_until_ns - c->answer_since_ns;
    c->answer_since_ns = 0;
}

/* What the other side has taken. */
static void drained(struct call *c)
{
    if (c->claims > 0)
        call_claim(c);
}

static const struct h2_stream_ops up_ops; /* at the end of the file */

/* --- towards etcd ---------------------------------------------------------------------------- */

/* grpc-timeout for etcd: what is left of the client's. False: nothing is left. */
static bool add_timeout(struct call *c)
{
    char text[GRPC_TIMEOUT_MAX];
    uint64_t now;

    if (c->deadline_ns == 0)
        return true;
    now = loop_hrtime_ns();
    if (now >= c->deadline_ns)
        return false;
    grpc_timeout_format(c->deadline_ns - now, text);
    fields_add(&c->headers, BYTES_LIT("grpc-timeout"), bytes_str(text));
    return true;
}

static enum upstream_class class_of(const struct call *c)
{
    if (c->method->content == ETCD_WATCH)
        return UPSTREAM_WATCH;
    return c->method->shape == ETCD_SERVER_STREAM || c->ask.is_list ? UPSTREAM_LIST
                                                                    : UPSTREAM_UNARY;
}

/* Opens the upstream stream with the kept headers. False: the call has failed. */
static bool open_up_on(struct call *c, struct h2_conn *conn)
{
    struct h2_fields headers;
    enum err e;

    if (!add_timeout(c)) {
        call_fail_err(c, ERR_DEADLINE);
        return false;
    }
    /* Which connection it is, is known only now. */
    c->headers.v[REQUEST_SCHEME].value = bytes_str(upstream_scheme(conn));
    headers = fields_take(&c->headers);
    call_count_kept(c);
    e = h2_request_take(conn, &headers, false, &up_ops, c, &c->up);
    if (e != ERR_OK) {
        call_fail_err(c, e == ERR_CLOSED ? ERR_UPSTREAM_AWAY : e);
        return false;
    }
    h2_stream_share(c->up, link_id(c->link));
    call__set_state(c, CALL_OPEN);
    return true;
}

/* False: the call has failed, or waits. */
static bool open_up(struct call *c)
{
    struct h2_conn *conn = upstream_ask(link_upstream(c->link), class_of(c), &c->wait);

    if (conn != NULL)
        return open_up_on(c, conn);
    call__set_state(c, CALL_WAITING);
    return false;
}

static bool send_sealed(struct call *c, struct sealed_msg *msg, bool end)
{
    struct chain bytes = {0};
    enum err e;

    sealed_msg_release(msg, &bytes);
    e = h2_stream_send(c->up, &bytes, end);
    chain_fini(&bytes);
    if (e == ERR_OK) {
        c->up_has_ended = c->up_has_ended || end;
        if (end)
            request_is_sent(c);
        return true;
    }
    if (e != ERR_CLOSED) { /* closed: its on_close tells the rest */
        call_fail_err(c, e);
        return false;
    }
    return true;
}

bool call_send_up(struct call *c, struct sealed_msg *msg, bool end)
{
    if (c->up == NULL && c->state == CALL_COLLECTING && !open_up(c)) {
        if (c->state == CALL_WAITING)
            sealed_msg_move(&c->pending, msg);
        else
            sealed_msg_fini(msg);
        return c->state == CALL_WAITING;
    }
    if (c->up == NULL) {
        sealed_msg_fini(msg);
        return true;
    }
    return send_sealed(c, msg, end);
}

void call_end_up(struct call *c)
{
    struct chain none = {0};

    if (c->up == NULL || c->up_has_ended)
        return;
    c->up_has_ended = true;
    (void)!h2_stream_send(c->up, &none, true);
}

/* CALL_WAITING is over. */
static void on_connection(struct upstream_wait *w, struct h2_conn *conn)
{
    struct call *c = CONTAINER_OF(w, struct call, wait);

    if (conn == NULL)
        call_fail_err(c, ERR_UPSTREAM_AWAY);
    else if (!open_up_on(c, conn))
        return;
    else if (c->method->shape == ETCD_BIDI)
        lane_kick(&c->request);
    else
        (void)call_send_up(c, &c->pending, true);
}

/* --- towards the client ---------------------------------------------------------------------- */

bool call_send_down(struct call *c, struct chain *bytes)
{
    enum err e;

    if (c->down == NULL)
        return false;
    e = h2_stream_send(c->down, bytes, false);
    if (e == ERR_NOMEM)
        call_fail_err(c, e);
    progress_watch(&c->worker->progress, &c->progress);
    return e == ERR_OK;
}

/* --- the client's stream --------------------------------------------------------------------- */

static void on_down_data(struct h2_stream *s, struct slice *data)
{
    struct call *c = h2_stream_user(s);

    lane_feed(&c->request, data);
    if (c->request.in.len > 0)
        progress_watch(&c->worker->progress, &c->progress);
}

static void on_down_end(struct h2_stream *s)
{
    struct call *c = h2_stream_user(s);

    request_is_whole(c);
    lane_end(&c->request);
}

static void on_down_trailers(struct h2_stream *s, struct h2_fields h)
{
    (void)h; /* gRPC has no request trailers; they only end the stream */
    on_down_end(s);
}

static void on_down_drained(struct h2_stream *s, size_t n)
{
    struct call *c = h2_stream_user(s);

    c->progress.drained += (uint32_t)n;
    drained(c);
    if (h2_stream_queued(s) >= LIMIT_STREAM_OUT / 2)
        return;
    lane_kick(&c->answer);
    if (!call_is_unary(c) && c->method->shape == ETCD_BIDI) /* lane__is_held */
        lane_kick(&c->request);
}

static void on_down_close(struct h2_stream *s, enum h2_code code, enum h2_end how)
{
    struct call *c = h2_stream_user(s);

    (void)code;
    (void)how;
    c->down = NULL;
    call__end(c, &(struct call_end){.how = CALL_END_GONE, .status = GRPC_CANCELLED});
    call__free_if_over(c);
}

static const struct h2_stream_ops down_ops = {
    .on_data = on_down_data,
    .on_trailers = on_down_trailers,
    .on_end = on_down_end,
    .on_drained = on_down_drained,
    .on_close = on_down_close,
};

void call_open(struct link *l, struct h2_stream *down, struct h2_fields h, bool end_stream)
{
    struct worker *w = link_worker(l);
    struct call *c = objects_calloc(&w->pool.objects, 1, sizeof *c);
    NOT_CLEARED struct request_head head;

    if (c == NULL) {
        h2_stream_reset(down, H2_REFUSED_STREAM);
        return;
    }
    c->id = worker_next_id(w);
    c->link = l;
    c->worker = w;
    c->down = down;
    lane_init(&c->request, c, false);
    lane_init(&c->answer, c, true);
    upstream_wait_init(&c->wait, on_connection);
    loop_timer_init(&c->reap, call__on_reap);
    link_call_added(l, &c->link_node);
    list_push(&w->calls, &c->age_node);
    list_init(&c->progress.node);
    h2_stream_set_owner(down, &down_ops, c);
    if (end_stream)
        request_is_whole(c);
    if (!call__admit(c, h, &head))
        return;
    if (request_for_etcd(&c->headers, &w->pool.objects, h, &head) != ERR_OK) {
        call_fail_err(c, ERR_NOMEM);
        return;
    }
    call__count_kept(c);
    call__set_state(c, CALL_COLLECTING);
    if (c->method->shape == ETCD_BIDI)
        (void)open_up(c);
    if (end_stream)
        lane_end(&c->request);
    else if (c->method->shape != ETCD_BIDI)
        progress_watch(&w->progress, &c->progress);
}

/* --- etcd's stream --------------------------------------------------------------------------- */

/* Hands the headers of an answer with status 200 on without a copy: h2 makes its own. */
static enum err respond(struct call *c, struct h2_fields h, struct bytes content_type,
                        bool end_stream)
{
    NOT_CLEARED struct h2_field v[LIMIT_HEADER_FIELDS];
    size_t n = 0;

    if (h.count > ARRAY_LEN(v) - 2)
        return ERR_MEMORY_LIMIT;
    v[n++] = (struct h2_field){BYTES_LIT(":status"), BYTES_LIT("200")};
    v[n++] = (struct h2_field){BYTES_LIT("content-type"), content_type};
    for (size_t i = 0; i < h.count; i++)
        if (fields_is_passed(h.v[i].name))
            v[n++] = h.v[i];
    return h2_respond(c->down, (struct h2_fields){v, n}, end_stream);
}

static void fail_with_code(struct call *c, enum err e, uint64_t code)
{
    struct failure f;

    call_failure_init(c, e, &f);
    f.size = code;
    call_fail(c, &f);
}

/* Of an HTTP status: three digits. */
static uint64_t decimal(struct bytes text)
{
    uint64_t v = 0;

    for (size_t i = 0; i < text.n && i < 3; i++)
        v = v * 10 + (uint64_t)(text.p[i] - '0') % 10;
    return v;
}

static void on_up_response(struct h2_stream *s, struct h2_fields h, bool end_stream)
{
    struct call *c = h2_stream_user(s);
    NOT_CLEARED struct fields_head head;
    enum err e;

    if (c->state != CALL_OPEN || c->down == NULL)
        return;
    fields_look(h, &head);
    if (!bytes_eq(head.status, BYTES_LIT("200")) || !grpc_content_type_ok(head.content_type)) {
        fail_with_code(c, ERR_ANS_HTTP, decimal(head.status));
        return;
    }
    if (head.encoding.n > 0 && !bytes_eq(head.encoding, BYTES_LIT("identity"))) {
        call_fail_err(c, ERR_ANS_COMPRESSED);
        return;
    }
    if (head.grpc_status_count > (end_stream ? 1 : 0)) {
        call_fail_err(c, ERR_ANS_BROKEN);
        return;
    }
    e = respond(c, h, head.content_type, end_stream);
    if (e != ERR_OK) {
        call_fail_err(c, e);
        return;
    }
    c->down_has_headers = true;
    if (end_stream) { /* trailers-only */
        call__end(c, &(struct call_end){.how = CALL_END_ANSWERED,
                                        .status = call__status_of(head.grpc_status)});
    }
}

static void on_up_data(struct h2_stream *s, struct slice *data)
{
    struct call *c = h2_stream_user(s);

    answer_begin(c);
    lane_feed(&c->answer, data);
    if (c->answer.state != LANE_PARKED)
        call__answer_done(c);
    if (c->answer.in.len > 0 || c->answer.large_todo > 0 || c->answer.relay_left > 0)
        progress_watch(&c->worker->progress, &c->progress);
}

static void on_up_trailers(struct h2_stream *s, struct h2_fields h)
{
    struct call *c = h2_stream_user(s);

    if (c->state == CALL_FILLING)
        lane_end(&c->answer);
    if (c->state != CALL_OPEN)
        return;
    if (fields_copy(&c->trailers, &c->worker->pool.objects, h) != ERR_OK) {
        call_fail_err(c, ERR_NOMEM);
        return;
    }
    call_count_kept(c);
    answer_begin(c);
    lane_end(&c->answer);
}

static void on_up_end(struct h2_stream *s)
{
    struct call *c = h2_stream_user(s);

    lane_end(&c->answer);
}

static void on_up_drained(struct h2_stream *s, size_t n)
{
    struct call *c = h2_stream_user(s);

    (void)n;
    drained(c);
    if (h2_stream_queued(s) < LIMIT_STREAM_OUT / 2)
        lane_kick(&c->request);
}

/* Upstream's stream ended before its answer was whole. */
static void up_broke(struct call *c, const struct h2_stream *s, enum h2_code code, enum h2_end how)
{
    if (code == H2_REFUSED_STREAM && !c->down_has_headers && c->down != NULL) {
        /* Not processed by etcd, writes included: the client repeats it by itself. */
        call__end(c, &(struct call_end){.how = CALL_END_RESET,
                                        .status = GRPC_UNAVAILABLE,
                                        .code = H2_REFUSED_STREAM});
        return;
    }
    if (h2_stream_is_malformed(s))
        call_fail_err(c, ERR_ANS_BROKEN);
    else if (how == H2_END_LOST)
        call_fail_err(c, ERR_UPSTREAM_LOST);
    else
        fail_with_code(c, ERR_ANS_RESET, code);
}

static void on_up_close(struct h2_stream *s, enum h2_code code, enum h2_end how)
{
    struct call *c = h2_stream_user(s);

    c->up = NULL;
    call__release_keys(c); /* not later, or a client that is slow to read keeps keys in use */
    upstream_released(h2_stream_conn(s));
    /* When the answer's end is in, the lane finishes with it, parked or not. */
    if (c->state == CALL_OPEN && !c->answer.has_ended)
        up_broke(c, s, code, how);
    else if (c->state == CALL_OPEN)
        lane_kill(&c->request);
    else if (c->state == CALL_FILLING)
        lane_end(&c->answer);
    call__free_if_over(c);
}

static const struct h2_stream_ops up_ops = {
    .on_response = on_up_response,
    .on_data = on_up_data,
    .on_trailers = on_up_trailers,
    .on_end = on_up_end,
    .on_drained = on_up_drained,
    .on_close = on_up_close,
};
