/* SPDX-License-Identifier: Apache-2.0 */
/* The happy path of a unary call:
 *   1. call_open checks method, path and headers; the request lane collects the message;
 *   2. END_STREAM: the lane seals it, call_send_up opens the upstream stream and sends it whole;
 *   3. etcd's headers go on at once; the answer lane opens what comes;
 *   4. etcd's trailers wait in c->trailers until the answer lane is done, then call_finish sends
 * them. A streaming call opens its upstream stream at once and hands messages on as they come.
 * Failure modes:
 *   - refused request, value that does not open, no key: call_fail, one status in trailers;
 *   - client reset or gone: upstream is reset with CANCEL, the lanes are killed;
 *   - upstream lost: UNAVAILABLE in trailers; upstream REFUSED_STREAM: handed on as such, since
 * nothing was processed and clients repeat by themselves;
 *   - etcd being redialled: CALL_WAITING, at most 1 s (the link ends it).
 * Never CANCELLED, DEADLINE_EXCEEDED or RST_STREAM CANCEL to a client that has not given up:
 * clientv3 then repeats writes. */
#include "proxy/call.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/metrics.h"
#include "grpc/grpc.h"
#include "proxy/call_int.h"

/* An answered stream whose client does not end its own side is reset after this time. */
#define REAP_MS 3000

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

static void headers_drop(struct call *c)
{
    fields_fini(&c->headers, &c->worker->pool.objects);
    call_count_kept(c);
}

void call_count_kept(struct call *c)
{
    /* One that is over goes with the next turns of the loop. */
    bool is_over = c->state != CALL_REFUSED && !call_is_live(c);
    size_t now = (is_over ? 0 : CALL_COST) + c->headers.size + c->ask.watched;

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
    return (lane_is_holding(&c->request) || lane_is_holding(&c->answer)) &&
           c->kept_bytes < c->worker->env->worker_memory_limit / 2;
}

static void call_free_if_over(struct call *c)
{
    struct link *link;

    if (c->down != NULL || c->up != NULL)
        return;
    lane_kill(&c->request);
    lane_kill(&c->answer);
    loop_timer_fini(&c->reap);
    etcd_ask_fini(&c->ask);
    headers_drop(c);
    fields_fini(&c->trailers, &c->worker->pool.objects);
    sealed_msg_fini(&c->pending);
    free(c->late_text);
    list_remove(&c->link_node);
    list_remove(&c->age_node);
    link = c->link;
    if (c->is_probe)
        link_probe_removed(link);
    objects_free(&c->worker->pool.objects, c);
    link_call_removed(link);
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

static void answer_done(struct call *c)
{
    if (c->answer_since_ns == 0)
        return;
    c->answer_until_ns = loop_hrtime_ns();
    c->added_ns += c->answer_until_ns - c->answer_since_ns;
    c->answer_since_ns = 0;
}

static void count_answered(struct call *c, struct bytes code)
{
    unsigned status = 0;

    for (size_t i = 0; i < code.n && i < 3; i++)
        status = status * 10 + (unsigned)(code.p[i] - '0');
    if (code.n == 0 || code.n > 2 || status > GRPC_UNAUTHENTICATED)
        status = GRPC_UNKNOWN;
    tally_call(c->worker->tally, c->method, (enum grpc_status)status);
    answer_done(c);
    if (call_is_unary(c))
        tally_added(c->worker->tally, c->method, c->added_ns);
}

/* --- ends ------------------------------------------------------------------------------------ */

static void on_reap(struct loop_timer *t)
{
    struct call *c = CONTAINER_OF(t, struct call, reap);

    if (c->down != NULL)
        h2_stream_reset(c->down, H2_NO_ERROR);
}

void call__down_ended(struct call *c)
{
    c->down_has_ended = true;
    if (!c->client_has_ended && c->down != NULL &&
        loop_timer_start(&c->worker->loop, &c->reap, REAP_MS) != ERR_OK)
        h2_stream_reset(c->down, H2_NO_ERROR);
}

static bool is_write(const struct call *c)
{
    enum etcd_content content = c->method == NULL ? ETCD_REFUSED : c->method->content;

    return content == ETCD_PUT || content == ETCD_TXN || content == ETCD_DELETE_RANGE;
}

void call_failure_init(const struct call *c, enum err e, struct failure *f)
{
    *f = (struct failure){
        .err = e,
        /* Once the request has left, a write has been decided: what fails is reading the answer. */
        .is_write = is_write(c) && c->state != CALL_OPEN,
        .is_watch = c->method != NULL && c->method->content == ETCD_WATCH,
        .path = c->method == NULL ? bytes_of(NULL, 0) : bytes_str(c->method->path),
    };
}

void call__answer_status(struct call *c, const char *http_status, enum grpc_status status,
                         const char *text, bool refuse_encoding)
{
    char code[16], message[3 * STATUS_TEXT_MAX];
    struct h2_field f[6];
    size_t n = 0;
    enum err e;

    if (c->down == NULL || c->down_has_ended)
        return;
    snprintf(code, sizeof code, "%d", (int)status);
    grpc_message_encode(bytes_str(text), message, sizeof message);
    if (!c->down_has_headers) {
        f[n++] = (struct h2_field){BYTES_LIT(":status"), bytes_str(http_status)};
        f[n++] = (struct h2_field){BYTES_LIT("content-type"), BYTES_LIT("application/grpc")};
    }
    f[n++] = (struct h2_field){BYTES_LIT("grpc-status"), bytes_str(code)};
    f[n++] = (struct h2_field){BYTES_LIT("grpc-message"), bytes_str(message)};
    if (refuse_encoding)
        f[n++] = (struct h2_field){BYTES_LIT("grpc-accept-encoding"), BYTES_LIT("identity")};
    if (c->down_has_headers)
        e = h2_stream_trailers(c->down, (struct h2_fields){f, n});
    else
        e = h2_respond(c->down, (struct h2_fields){f, n}, true);
    if (e != ERR_OK)
        h2_stream_reset(c->down, H2_INTERNAL_ERROR);
    call__down_ended(c);
}

/* Nothing more comes of etcd. is_whole: the client has no part of a message. */
static void end_failed(struct call *c, bool is_whole, enum grpc_status status, const char *text,
                       bool refuse_encoding)
{
    call__set_state(c, CALL_FAILED);
    if (c->up != NULL)
        h2_stream_reset(c->up, H2_CANCEL);
    lane_kill(&c->answer);
    if (is_whole) {
        call__answer_status(c, "200", status, text, refuse_encoding);
    } else if (c->down != NULL && !c->down_has_ended) {
        c->down_has_ended = true;
        h2_stream_reset(c->down, H2_INTERNAL_ERROR);
    }
}

/* The status has to wait for the rest of the message. False: no memory. */
static bool fill_on(struct call *c, enum grpc_status status, const char *text)
{
    c->late_status = status;
    c->late_text = strdup(text);
    if (c->late_text == NULL)
        return false;
    call__set_state(c, CALL_FILLING);
    return true;
}

void call_filled(struct call *c, enum lane_fill how)
{
    if (how != LANE_FILL_MORE)
        end_failed(c, how == LANE_FILLED, c->late_status, c->late_text, false);
}

void call_fail(struct call *c, const struct failure *f)
{
    char text[STATUS_TEXT_MAX], log_text[STATUS_TEXT_MAX];
    enum grpc_status status;
    enum lane_fill how;

    if (c->state != CALL_REFUSED && !call_is_live(c))
        return;
    status = status_of(f, text);
    status_log_text(f, log_text);
    metric_refused(f->err);
    LOG_RATED(INFO, "call failed", "call=%llu method=%.*s reason=%s status=%s text=\"%s\"",
              (unsigned long long)c->id, (int)f->path.n,
              f->path.n > 0 ? (const char *)f->path.p : "", err_reason(f->err),
              grpc_status_name(status), log_text);
    status_log_key(f, c->id);
    tally_call(c->worker->tally, c->method, status);
    how = lane_break_off(&c->answer);
    lane_kill(&c->request);
    sealed_msg_fini(&c->pending);
    headers_drop(c);
    if (how == LANE_FILL_MORE && c->up != NULL && fill_on(c, status, text))
        return;
    end_failed(c, how == LANE_FILLED, status, text, f->err == ERR_MESSAGE_COMPRESSED);
}

void call_fail_err(struct call *c, enum err e)
{
    struct failure f;

    call_failure_init(c, e, &f);
    call_fail(c, &f);
}

void call_shed(struct call *c)
{
    bool is_stuck = c->down != NULL && h2_stream_queued(c->down) > 0;
    bool is_cut = lane_is_in_message(&c->answer);

    lane_kill(&c->answer); /* a large answer is not completed with filler */
    call_fail_err(c, ERR_MEMORY_LIMIT);
    etcd_ask_fini(&c->ask);
    call_count_kept(c);
    /* The status would wait behind what is queued, or come in the middle of a message. To gRPC
     * clients this code is the same one. */
    if ((is_stuck || is_cut) && c->down != NULL)
        h2_stream_reset(c->down, H2_ENHANCE_YOUR_CALM);
}

void call_finish(struct call *c)
{
    NOT_CLEARED struct fields_head head;

    if (c->state != CALL_OPEN)
        return;
    if (c->trailers.count == 0) { /* END_STREAM without trailers: an answer that was cut */
        call_fail_err(c, ERR_ANS_CUT);
        return;
    }
    fields_look(fields_view(&c->trailers), &head);
    if (head.grpc_status_count > 1) { /* which of them would the client believe? */
        call_fail_err(c, ERR_ANS_BROKEN);
        return;
    }
    call__set_state(c, CALL_ANSWERED);
    count_answered(c, head.grpc_status);
    if (c->down == NULL)
        return;
    if (h2_stream_trailers(c->down, fields_view(&c->trailers)) != ERR_OK)
        h2_stream_reset(c->down, H2_INTERNAL_ERROR);
    call__down_ended(c);
}

/* The client is not interested any more. */
static void call_gone(struct call *c)
{
    if (c->state == CALL_GONE)
        return;
    if (call_is_live(c))
        tally_call(c->worker->tally, c->method, GRPC_CANCELLED);
    call__set_state(c, CALL_GONE);
    if (c->up != NULL)
        h2_stream_reset(c->up, H2_CANCEL);
    call__probe_cancel(c);
    lane_kill(&c->request);
    lane_kill(&c->answer);
}

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

/* Opens the upstream stream with the kept headers. False: the call has failed, or waits. */
static bool call_open_up(struct call *c)
{
    struct h2_conn *conn = link_upstream(c->link);
    enum err e;

    if (conn == NULL) {
        if (c->state != CALL_WAITING)
            call__set_state(c, CALL_WAITING);
        return false;
    }
    if (!add_timeout(c)) {
        call_fail_err(c, ERR_DEADLINE);
        return false;
    }
    /* Which connection it is, is known only now. */
    c->headers.v[REQUEST_SCHEME].value = bytes_str(link_scheme(c->link));
    e = h2_request(conn, fields_view(&c->headers), false, c, &c->up);
    headers_drop(c);
    if (e != ERR_OK) {
        call_fail_err(c, e == ERR_CLOSED ? ERR_UPSTREAM_AWAY : e);
        return false;
    }
    call__set_state(c, CALL_OPEN);
    return true;
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
    if (c->up == NULL && c->state == CALL_COLLECTING && !call_open_up(c)) {
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

void call_upstream_ready(struct call *c)
{
    if (c->state != CALL_WAITING || !call_open_up(c))
        return;
    if (c->method->shape == ETCD_BIDI)
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
    return e == ERR_OK;
}

/* --- the client's stream --------------------------------------------------------------------- */

void call_open(struct link *l, struct h2_stream *down, struct h2_fields h, bool end_stream)
{
    struct worker *w = link_worker(l);
    struct call *c = objects_calloc(&w->pool.objects, 1, sizeof *c);
    NOT_CLEARED struct request_head head;

    if (c == NULL) {
        h2_stream_reset(down, H2_REFUSED_STREAM);
        return;
    }
    c->id = (uint64_t)w->number << 48 | ++w->next_call_id;
    c->link = l;
    c->worker = w;
    c->down = down;
    lane_init(&c->request, c, false);
    lane_init(&c->answer, c, true);
    loop_timer_init(&c->reap, on_reap);
    link_call_added(l, &c->link_node);
    list_push(&w->calls, &c->age_node);
    h2_stream_set_user(down, c);
    if (end_stream)
        request_is_whole(c);
    if (!call__admit(c, h, &head))
        return;
    if (request_for_etcd(&c->headers, &w->pool.objects, h, &head) != ERR_OK) {
        call_fail_err(c, ERR_NOMEM);
        return;
    }
    call_count_kept(c);
    call__set_state(c, CALL_COLLECTING);
    if (c->method->shape == ETCD_BIDI)
        (void)call_open_up(c);
    if (end_stream)
        lane_end(&c->request);
}

void call_on_down_data(struct h2_stream *s, struct slice *data)
{
    struct call *c = h2_stream_user(s);

    if (c != NULL) {
        lane_feed(&c->request, data);
        return;
    }
    h2_stream_credit(s, data->len);
    slice_drop(data);
}

void call_on_down_end(struct h2_stream *s)
{
    struct call *c = h2_stream_user(s);

    if (c == NULL)
        return;
    request_is_whole(c);
    lane_end(&c->request);
}

void call_on_down_trailers(struct h2_stream *s, struct h2_fields h)
{
    (void)h; /* gRPC has no request trailers; they only end the stream */
    call_on_down_end(s);
}

void call_on_down_drained(struct h2_stream *s, size_t n)
{
    struct call *c = h2_stream_user(s);

    (void)n;
    if (c != NULL && h2_stream_queued(s) < LIMIT_STREAM_OUT / 2)
        lane_kick(&c->answer);
}

void call_on_down_close(struct h2_stream *s, enum h2_code code, bool is_complete)
{
    struct call *c = h2_stream_user(s);

    (void)code;
    (void)is_complete;
    if (c == NULL)
        return;
    c->down = NULL;
    call_gone(c);
    call_free_if_over(c);
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

void call_on_up_response(struct h2_stream *s, struct h2_fields h, bool end_stream)
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
        call__set_state(c, CALL_ANSWERED);
        count_answered(c, head.grpc_status);
        lane_kill(&c->request);
        lane_kill(&c->answer);
        call__down_ended(c);
    }
}

void call_on_up_data(struct h2_stream *s, struct slice *data)
{
    struct call *c = h2_stream_user(s);

    answer_begin(c);
    lane_feed(&c->answer, data);
    if (c->answer.state != LANE_PARKED)
        answer_done(c);
}

void call_on_up_trailers(struct h2_stream *s, struct h2_fields h)
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
    answer_begin(c);
    lane_end(&c->answer);
}

void call_on_up_end(struct h2_stream *s)
{
    struct call *c = h2_stream_user(s);

    lane_end(&c->answer);
}

void call_on_up_drained(struct h2_stream *s, size_t n)
{
    struct call *c = h2_stream_user(s);

    (void)n;
    if (h2_stream_queued(s) < LIMIT_STREAM_OUT / 2)
        lane_kick(&c->request);
}

/* Upstream's stream ended before its answer was whole. */
static void up_broke(struct call *c, const struct h2_stream *s, enum h2_code code)
{
    if (code == H2_REFUSED_STREAM && !c->down_has_headers && c->down != NULL) {
        /* Not processed by etcd, writes included: the client repeats it by itself. */
        call__set_state(c, CALL_FAILED);
        tally_call(c->worker->tally, c->method, GRPC_UNAVAILABLE);
        lane_kill(&c->request);
        lane_kill(&c->answer);
        c->down_has_ended = true;
        h2_stream_reset(c->down, H2_REFUSED_STREAM);
        return;
    }
    if (h2_stream_is_malformed(s))
        call_fail_err(c, ERR_ANS_BROKEN);
    else if (h2_conn_why(h2_stream_conn(s))[0] != '\0')
        call_fail_err(c, ERR_UPSTREAM_LOST);
    else
        fail_with_code(c, ERR_ANS_RESET, code);
}

void call_on_up_close(struct h2_stream *s, enum h2_code code, bool is_complete)
{
    struct call *c = h2_stream_user(s);

    (void)is_complete;
    c->up = NULL;
    /* When the answer's end is in, the lane finishes with it, parked or not. */
    if (c->state == CALL_OPEN && !c->answer.has_ended)
        up_broke(c, s, code);
    else if (c->state == CALL_OPEN)
        lane_kill(&c->request);
    else if (c->state == CALL_FILLING)
        lane_end(&c->answer);
    call_free_if_over(c);
}
