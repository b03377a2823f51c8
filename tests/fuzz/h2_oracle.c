/* SPDX-License-Identifier: Apache-2.0 */
/* The other end: a session of nghttp2 with our limits, and around it what h2.h promises to the
 * owner of a stream, written a second time, the short way: field lists are judged when they are
 * whole. */
#include <stdio.h>
#include <string.h>

#include "h2_diff.h"

#define STREAMS_NO_LIMIT 0x7fffffffu
#define ANSWER_HEADER_BYTES (1024u * 1024)
#define NO_RATE_LIMIT (1ull << 40)

/* What the owner queued on a stream. */
struct queued {
    size_t sent, total; /* of its pattern */
    bool is_end, has_trailers, is_trailed, is_local_ended, is_malformed;
};

struct list_in {
    struct h2_field v[LIMIT_HEADER_FIELDS + 8];
    nghttp2_rcbuf *refs[LIMIT_HEADER_FIELDS + 8][2];
    size_t count, bytes;
    bool is_over;
};

struct oracle {
    struct diff_side *side;
    nghttp2_session *session;
    struct queued queued[DIFF_CALLS];
    struct list_in in;
    unsigned live;
    const struct judge *ours; /* its PING is what the input answers */
    enum { RUNNING, NOTICED, DRAINED } drain;
    int32_t drain_id;
    bool is_ready, is_failed;
};

static struct oracle *current; /* of the owner's calls; one at a time */

static struct diff_call *call_of(struct oracle *o, int32_t id)
{
    for (unsigned i = 0; i < o->side->count; i++)
        if (!o->side->calls[i].is_closed && o->side->calls[i].id == (uint32_t)id)
            return &o->side->calls[i];
    return NULL;
}

static int rst(struct oracle *o, int32_t id, uint32_t code)
{
    CHECK(nghttp2_submit_rst_stream(o->session, 0, id, code) == 0);
    return 0;
}

/* The call is over for its owner. */
static void finish(struct oracle *o, struct diff_call *call, enum h2_code code, enum h2_end how)
{
    o->live--;
    side_heard_close(call, code, how);
}

/* ------------------------------------------------------------------------ what the owner does */

static size_t nv_of(struct h2_fields f, nghttp2_nv *nv)
{
    for (size_t i = 0; i < f.count; i++) {
        bool is_secret = bytes_eq(f.v[i].name, BYTES_LIT("authorization")) ||
                         bytes_eq(f.v[i].name, BYTES_LIT("token"));

        nv[i] = (nghttp2_nv){(uint8_t *)(uintptr_t)f.v[i].name.p,
                             (uint8_t *)(uintptr_t)f.v[i].value.p, f.v[i].name.n, f.v[i].value.n,
                             is_secret ? NGHTTP2_NV_FLAG_NO_INDEX : NGHTTP2_NV_FLAG_NONE};
    }
    return f.count;
}

static ssize_t read_data(nghttp2_session *session, int32_t id, uint8_t *buf, size_t max,
                         uint32_t *flags, nghttp2_data_source *source, void *user)
{
    struct oracle *o = user;
    struct diff_call *call = call_of(o, id);
    struct queued *q;
    size_t n;

    (void)source;
    if (call == NULL)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    q = &o->queued[call->n];
    n = q->total - q->sent < max ? q->total - q->sent : max;
    if (q->is_trailed || (n == 0 && !q->is_end))
        return NGHTTP2_ERR_DEFERRED;
    for (size_t i = 0; i < n; i++)
        buf[i] = side_pattern(call->n, q->sent + i);
    q->sent += n;
    if (q->sent == q->total && q->is_end) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        if (q->has_trailers) {
            nghttp2_nv nv[2] = {{(uint8_t *)"grpc-status", (uint8_t *)"0", 11, 1, 0},
                                {(uint8_t *)"grpc-message", (uint8_t *)"fine", 12, 4, 0}};

            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            CHECK(nghttp2_submit_trailer(session, id, nv, 2) == 0);
        }
    }
    return (ssize_t)n;
}

static const nghttp2_data_provider provider = {.read_callback = read_data};

static void respond(struct diff_call *call, struct h2_fields f, bool end)
{
    nghttp2_nv nv[8];

    CHECK(nghttp2_submit_response(current->session, (int32_t)call->id, nv, nv_of(f, nv),
                                  end ? NULL : &provider) == 0);
    current->queued[call->n].is_end = end;
}

static void send_pattern(struct diff_call *call, size_t n, bool end)
{
    struct queued *q = &current->queued[call->n];

    if (q->is_end)
        return;
    q->total += n;
    q->is_end = end;
    (void)nghttp2_session_resume_data(current->session, (int32_t)call->id);
}

static void trailers(struct diff_call *call, struct h2_fields f)
{
    struct queued *q = &current->queued[call->n];
    nghttp2_nv nv[8];

    if (q->is_end)
        return;
    q->is_end = q->has_trailers = true;
    if (q->sent == q->total) {
        q->is_trailed = true;
        CHECK(nghttp2_submit_trailer(current->session, (int32_t)call->id, nv, nv_of(f, nv)) == 0);
        return;
    }
    (void)nghttp2_session_resume_data(current->session, (int32_t)call->id);
}

static void reset(struct diff_call *call, enum h2_code code)
{
    if (current->queued[call->n].is_local_ended && call->is_over)
        return;
    (void)rst(current, (int32_t)call->id, (uint32_t)code);
    finish(current, call, code, H2_END_RESET);
}

static void credit(struct diff_call *call, size_t n)
{
    CHECK(nghttp2_session_consume_stream(current->session, (int32_t)call->id, n) == 0);
}

static const struct diff_side_ops side_ops = {respond, send_pattern, trailers, reset, credit};

static void request(struct oracle *o)
{
    unsigned n = o->side->count;
    nghttp2_nv nv[8];
    int32_t id;

    if (!o->is_ready || n == DIFF_CALLS || !nghttp2_session_check_request_allowed(o->session) ||
        o->live >= nghttp2_session_get_remote_settings(o->session,
                                                       NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS))
        return;
    id = nghttp2_submit_request(o->session, NULL, nv, nv_of(side_request(), nv),
                                side_request_ends(n) ? NULL : &provider, NULL);
    CHECK(id > 0);
    (void)side_call(o->side, NULL, (uint32_t)id);
    o->live++;
    if (side_request_ends(n))
        o->queued[n].is_end = true;
    else
        o->queued[n].total = 16;
}

static void stop(struct oracle *o)
{
    if (o->drain != RUNNING)
        return;
    o->drain = NOTICED;
    CHECK(nghttp2_submit_shutdown_notice(o->session) == 0);
    CHECK(nghttp2_submit_ping(o->session, 0, NULL) == 0);
}

static void got_ping_ack(struct oracle *o, const uint8_t *payload)
{
    if (o->drain != NOTICED || !o->ours->is_pinged || memcmp(payload, o->ours->ping, 8) != 0)
        return;
    o->drain = DRAINED;
    o->drain_id = nghttp2_session_get_last_proc_stream_id(o->session);
    CHECK(nghttp2_submit_goaway(o->session, 0, o->drain_id, NGHTTP2_NO_ERROR, NULL, 0) == 0);
}

void oracle_ask(struct oracle *o)
{
    if (o->side->o.is_client)
        request(o);
    else
        stop(o);
}

/* ------------------------------------------------------------------------ field lists */

static void list_clear(struct list_in *l)
{
    for (size_t i = 0; i < l->count; i++) {
        nghttp2_rcbuf_decref(l->refs[i][0]);
        nghttp2_rcbuf_decref(l->refs[i][1]);
    }
    l->count = l->bytes = 0;
    l->is_over = false;
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    (void)session;
    (void)frame;
    list_clear(&((struct oracle *)user)->in);
    return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, nghttp2_rcbuf *name,
                     nghttp2_rcbuf *value, uint8_t flags, void *user)
{
    struct oracle *o = user;
    struct list_in *l = &o->in;
    nghttp2_vec n = nghttp2_rcbuf_get_buf(name), v = nghttp2_rcbuf_get_buf(value);

    (void)session;
    (void)frame;
    (void)flags;
    l->bytes += n.len + v.len + 32;
    if (o->side->o.is_client)
        l->is_over = l->is_over || l->bytes > ANSWER_HEADER_BYTES;
    else
        l->is_over = l->is_over || l->bytes > LIMIT_HEADER_BYTES || l->count >= LIMIT_HEADER_FIELDS;
    if (l->is_over)
        return 0;
    CHECK(l->count < ARRAY_LEN(l->v));
    nghttp2_rcbuf_incref(name);
    nghttp2_rcbuf_incref(value);
    l->refs[l->count][0] = name;
    l->refs[l->count][1] = value;
    l->v[l->count++] = (struct h2_field){bytes_of(n.base, n.len), bytes_of(v.base, v.len)};
    return 0;
}

/* RFC 9113 sections 8.2 and 8.3, as far as etcd insists on them. allowed: pseudo-header fields,
 * each once and first. */
static bool list_is_legal(const struct list_in *l, const char *const *allowed, bool is_request)
{
    for (size_t i = 0; i < l->count; i++) {
        struct bytes name = l->v[i].name, value = l->v[i].value;
        bool is_known = false;

        if (!nghttp2_check_header_name(name.p, name.n) ||
            !nghttp2_check_header_value(value.p, value.n))
            return false;
        if (is_request && bytes_eq(name, BYTES_LIT("connection")))
            return false;
        if (name.p[0] != ':')
            continue;
        for (const char *const *a = allowed; *a != NULL; a++)
            is_known = is_known || bytes_eq(name, bytes_str(*a));
        for (size_t k = 0; k < i; k++)
            if (l->v[k].name.p[0] != ':' || bytes_eq(l->v[k].name, name))
                return false;
        if (!is_known)
            return false;
    }
    return true;
}

static bool is_malformed(struct oracle *o, bool is_trailers)
{
    static const char *const request[] = {":method", ":scheme", ":path", ":authority", NULL};
    static const char *const answer[] = {":status", NULL};
    static const char *const none[] = {NULL};
    bool is_request = !o->side->o.is_client && !is_trailers;

    return !list_is_legal(&o->in, is_trailers ? none : is_request ? request : answer, is_request);
}

static struct h2_fields list_of(const struct oracle *o)
{
    return (struct h2_fields){o->in.v, o->in.count};
}

static bool is_informational(const struct oracle *o)
{
    return o->in.count > 0 && bytes_eq(o->in.v[0].name, BYTES_LIT(":status")) &&
           o->in.v[0].value.n == 3 && o->in.v[0].value.p[0] == '1';
}

/* ------------------------------------------------------------------------ what nghttp2 hears */

static int broken(struct oracle *o, struct diff_call *call)
{
    struct queued *q = &o->queued[call->n];

    if (q->is_malformed)
        return 0;
    q->is_malformed = true;
    return rst(o, (int32_t)call->id, NGHTTP2_PROTOCOL_ERROR);
}

static int answer_431(struct oracle *o, int32_t id)
{
    nghttp2_nv nv = {(uint8_t *)":status", (uint8_t *)"431", 7, 3, 0};

    CHECK(nghttp2_submit_response(o->session, id, &nv, 1, NULL) == 0);
    return 0;
}

static int got_request(struct oracle *o, int32_t id, bool end)
{
    struct diff_call *call;

    if (o->drain == DRAINED && id > o->drain_id)
        return rst(o, id, NGHTTP2_REFUSED_STREAM);
    if (o->live >= (o->side->o.few_streams ? 3u : 100u) || o->side->count == DIFF_CALLS)
        return rst(o, id, NGHTTP2_REFUSED_STREAM);
    if (is_malformed(o, false))
        return rst(o, id, NGHTTP2_PROTOCOL_ERROR);
    if (o->in.is_over)
        return answer_431(o, id);
    call = side_call(o->side, NULL, (uint32_t)id);
    o->live++;
    side_heard_headers(call, list_of(o), end);
    return 0;
}

static int got_trailers(struct oracle *o, struct diff_call *call, bool end)
{
    if (o->in.is_over)
        return rst(o, (int32_t)call->id,
                   o->side->o.is_client ? NGHTTP2_INTERNAL_ERROR : NGHTTP2_ENHANCE_YOUR_CALM);
    if (o->queued[call->n].is_malformed || !end || is_malformed(o, true))
        return broken(o, call);
    side_heard_trailers(call, list_of(o));
    return 0;
}

static int got_answer(struct oracle *o, struct diff_call *call, bool end)
{
    if (o->in.is_over)
        return rst(o, (int32_t)call->id, NGHTTP2_INTERNAL_ERROR);
    if (o->queued[call->n].is_malformed || is_malformed(o, false) || (is_informational(o) && end))
        return broken(o, call);
    if (is_informational(o))
        return 0;
    call->is_responded = true;
    side_heard_headers(call, list_of(o), end);
    return 0;
}

static int got_headers(struct oracle *o, const nghttp2_frame *frame)
{
    int32_t id = frame->hd.stream_id;
    bool end = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    struct diff_call *call = call_of(o, id);

    if (!o->side->o.is_client && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
        return got_request(o, id, end);
    if (call == NULL)
        return 0;
    if (o->side->o.is_client && !call->is_responded)
        return got_answer(o, call, end);
    return got_trailers(o, call, end);
}

static bool is_early(const struct oracle *o, const struct diff_call *call)
{
    return o->queued[call->n].is_malformed || (o->side->o.is_client && !call->is_responded);
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct oracle *o = user;
    struct diff_call *call;

    (void)session;
    if (frame->hd.type == NGHTTP2_HEADERS)
        return got_headers(o, frame);
    if (frame->hd.type == NGHTTP2_PING && (frame->hd.flags & NGHTTP2_FLAG_ACK) != 0)
        got_ping_ack(o, frame->ping.opaque_data);
    if (frame->hd.type == NGHTTP2_GOAWAY)
        side_heard_goaway(o->side, (enum h2_code)frame->goaway.error_code);
    if (frame->hd.type == NGHTTP2_SETTINGS && !(frame->hd.flags & NGHTTP2_FLAG_ACK) &&
        !o->is_ready) {
        o->is_ready = true;
        for (int i = 0; i < 3 && o->side->o.is_client; i++)
            request(o);
    }
    if (frame->hd.type != NGHTTP2_DATA || !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
        return 0;
    call = call_of(o, frame->hd.stream_id);
    if (call != NULL && is_early(o, call))
        return broken(o, call);
    if (call != NULL)
        side_heard_end(call);
    return 0;
}

static int on_data_chunk(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *p,
                         size_t n, void *user)
{
    struct oracle *o = user;
    struct diff_call *call = call_of(o, id);

    (void)flags;
    CHECK(nghttp2_session_consume_connection(session, n) == 0);
    if (call == NULL)
        return 0;
    if (is_early(o, call))
        return broken(o, call);
    side_heard_data(call, bytes_of(p, n));
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *user)
{
    struct oracle *o = user;
    struct diff_call *call = call_of(o, id);

    (void)session;
    if (call == NULL)
        return 0;
    finish(o, call, (enum h2_code)code,
           code == 0 && o->queued[call->n].is_local_ended && call->is_over ? H2_END_COMPLETE
                                                                           : H2_END_RESET);
    return 0;
}

static int on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct oracle *o = user;
    int32_t id = frame->hd.stream_id;
    struct diff_call *call = call_of(o, id);

    if ((frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA) ||
        !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
        return 0;
    if (call != NULL)
        o->queued[call->n].is_local_ended = true;
    if (!o->side->o.is_client && nghttp2_session_get_stream_remote_close(session, id) == 0)
        return rst(o, id, NGHTTP2_NO_ERROR);
    return 0;
}

/* ------------------------------------------------------------------------ the session */

static int on_error(nghttp2_session *session, int code, const char *text, size_t n, void *user)
{
    struct oracle *o = user;

    (void)session;
    (void)code;
    (void)snprintf(o->side->why, sizeof o->side->why, "%.*s", (int)n, text);
    return 0;
}

static void session_new(struct oracle *o)
{
    nghttp2_session_callbacks *cb;
    nghttp2_option *opt;

    CHECK(nghttp2_session_callbacks_new(&cb) == 0 && nghttp2_option_new(&opt) == 0);
    nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback2(cb, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame_recv);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data_chunk);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
    nghttp2_session_callbacks_set_on_frame_send_callback(cb, on_frame_send);
    nghttp2_session_callbacks_set_error_callback2(cb, on_error);
    nghttp2_option_set_no_auto_window_update(opt, 1);
    nghttp2_option_set_no_closed_streams(opt, 1);
    nghttp2_option_set_no_http_messaging(opt, 1);
    nghttp2_option_set_stream_reset_rate_limit(opt, NO_RATE_LIMIT, NO_RATE_LIMIT);
    nghttp2_option_set_max_continuations(opt, 100);
    CHECK((o->side->o.is_client ? nghttp2_session_client_new2(&o->session, cb, o, opt)
                                : nghttp2_session_server_new2(&o->session, cb, o, opt)) == 0);
    nghttp2_option_del(opt);
    nghttp2_session_callbacks_del(cb);
}

struct oracle *oracle_new(struct diff_side *side, const struct judge *ours)
{
    struct oracle *o = calloc(1, sizeof *o);
    nghttp2_settings_entry iv[2] = {{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 65535},
                                    {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, STREAMS_NO_LIMIT}};

    CHECK(o != NULL);
    o->side = side;
    o->ours = ours;
    side->ops = &side_ops;
    session_new(o);
    if (side->o.is_client)
        iv[1] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_ENABLE_PUSH, 0};
    CHECK(nghttp2_submit_settings(o->session, 0, iv, 2) == 0);
    CHECK(nghttp2_session_set_local_window_size(o->session, 0, 0, 1 << 20) == 0);
    current = o;
    return o;
}

void oracle_give(struct oracle *o, struct bytes b)
{
    if (!o->is_failed && nghttp2_session_mem_recv(o->session, b.p, b.n) < 0)
        o->is_failed = o->side->is_dead = true;
}

void oracle_turn(struct oracle *o)
{
    const uint8_t *p;
    ssize_t n = 0;

    while (!o->is_failed && (n = nghttp2_session_mem_send(o->session, &p)) > 0)
        grow_add(&o->side->judge.wire, p, (size_t)n);
    if (n < 0)
        o->is_failed = o->side->is_dead = true;
}

bool oracle_is_closed(struct oracle *o, uint32_t id)
{
    nghttp2_stream *s;

    s = nghttp2_session_find_stream(o->session, (int32_t)id);
    if (s == NULL)
        return true;
    /* Idle: only PRIORITY named it, and a higher id has closed it (RFC 9113 section 5.1.1).
     */
    return nghttp2_stream_get_state(s) == NGHTTP2_STREAM_STATE_CLOSED ||
           nghttp2_stream_get_state(s) == NGHTTP2_STREAM_STATE_IDLE;
}

void oracle_free(struct oracle *o)
{
    list_clear(&o->in);
    nghttp2_session_del(o->session);
    free(o);
}
