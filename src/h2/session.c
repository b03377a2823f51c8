/* SPDX-License-Identifier: Apache-2.0 */
/* nghttp2 and its callbacks.
 *
 * In: net's slab -> nghttp2_session_mem_recv -> header fields are collected by reference (rcbuf)
 * until their block is whole; DATA chunks point into the slab and become slices of it. Out:
 * nghttp2_session_mem_send hands out frames one by one; a DATA frame comes by send_data instead,
 * which moves its payload from the stream to c->out by reference. Both append to c->out, so the
 * order is that of the wire. Frame heads and small payloads are gathered in a scratch slab.
 *
 * Failure modes:
 *  - a stream that breaks the rules: nghttp2 resets it; it is counted in the guard
 *  - a connection that does: nghttp2 queues GOAWAY and ignores further input; is_goaway_error is
 * set when it goes out, and conn.c ends the connection behind it
 *  - memory: the callback fails, which nghttp2 reports as fatal; conn.c ends the connection
 *
 * nghttp2 answers a stream above the announced limit with GOAWAY as soon as the limit was
 * acknowledged. We owe such a client REFUSED_STREAM (RFC 9113 section 5.1.2 allows both), so
 * nghttp2 is told of a limit that nobody reaches, the announced number is written into the SETTINGS
 * frame on its way out, and the counting is done here. */
#include <stdlib.h>

#include "base/metrics.h"
#include "h2/h2_int.h"

#define STREAMS_NO_LIMIT 0x7fffffffu
/* Answers of etcd; etcd's own limit for what it takes is 1 MiB. */
#define ANSWER_HEADER_BYTES (1024u * 1024)
/* What we send was received within the limits above; with room for HPACK's worst case. */
#define SEND_HEADER_BLOCK (4u * 1024 * 1024)
/* nghttp2 counts every piece in which the head of a CONTINUATION frame arrives, up to nine for one.
 */
#define REQUEST_CONTINUATIONS 24u
#define ANSWER_CONTINUATIONS 100u /* 1 MiB in frames of 16 KiB */
#define FIELDS_KEPT 128u          /* arrays up to this size stay for the next list */

#define FRAME_HEAD_LEN 9u
#define SETTINGS_ENTRY_LEN 6u

char h2__detached;

static struct h2_stream *stream_of(nghttp2_session *session, int32_t id)
{
    void *p = nghttp2_session_get_stream_user_data(session, id);

    return p == &h2__detached ? NULL : p;
}

/* ------------------------------------------------------------------------ header fields, in */

static void headers_clear(struct h2__headers *h)
{
    for (size_t i = 0; i < h->count * 2; i++)
        nghttp2_rcbuf_decref(h->refs[i]);
    h->count = 0;
    h->bytes = 0;
    h->is_over = false;
    if (h->cap > FIELDS_KEPT) {
        free(h->v);
        free(h->refs);
        *h = (struct h2__headers){0};
    }
}

void h2__headers_fini(struct h2__headers *h)
{
    headers_clear(h);
    free(h->v);
    free(h->refs);
    *h = (struct h2__headers){0};
}

static enum err headers_reserve(struct h2__headers *h)
{
    size_t cap = h->cap == 0 ? 32 : h->cap * 2;
    void *p;

    if (h->count < h->cap)
        return ERR_OK;
    p = realloc(h->v, cap * sizeof *h->v);
    if (p == NULL)
        return ERR_NOMEM;
    h->v = p;
    p = realloc(h->refs, cap * 2 * sizeof(nghttp2_rcbuf *));
    if (p == NULL)
        return ERR_NOMEM;
    h->refs = p;
    h->cap = cap;
    return ERR_OK;
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct h2_conn *c = user;

    (void)session;
    (void)frame;
    headers_clear(&c->headers);
    return 0;
}

static bool headers_are_over(const struct h2_conn *c)
{
    const struct h2__headers *h = &c->headers;

    if (c->opts.is_server)
        return h->bytes > LIMIT_HEADER_BYTES || h->count >= LIMIT_HEADER_FIELDS;
    return h->bytes > ANSWER_HEADER_BYTES;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, nghttp2_rcbuf *name,
                     nghttp2_rcbuf *value, uint8_t flags, void *user)
{
    struct h2_conn *c = user;
    struct h2__headers *h = &c->headers;
    nghttp2_vec n = nghttp2_rcbuf_get_buf(name);
    nghttp2_vec v = nghttp2_rcbuf_get_buf(value);

    (void)session;
    (void)frame;
    (void)flags;
    if (h->is_over)
        return 0;
    h->bytes += h2__field_size(n.len, v.len);
    if (headers_are_over(c)) {
        h->is_over = true;
        return 0;
    }
    if (headers_reserve(h) != ERR_OK) {
        c->fatal = ERR_NOMEM;
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    nghttp2_rcbuf_incref(name);
    nghttp2_rcbuf_incref(value);
    h->refs[h->count * 2] = name;
    h->refs[h->count * 2 + 1] = value;
    h->v[h->count++] = (struct h2_field){bytes_of(n.base, n.len), bytes_of(v.base, v.len)};
    return 0;
}

static struct h2_fields headers_list(const struct h2_conn *c)
{
    return (struct h2_fields){c->headers.v, c->headers.count};
}

static bool headers_are_informational(const struct h2_conn *c)
{
    for (size_t i = 0; i < c->headers.count; i++) {
        const struct h2_field *f = &c->headers.v[i];

        if (bytes_eq(f->name, BYTES_LIT(":status")))
            return f->value.n == 3 && f->value.p[0] == '1';
    }
    return false;
}

/* ------------------------------------------------------------------------ frames, in */

static int rst(nghttp2_session *session, int32_t id, enum h2_code code)
{
    int rv = nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, id, (uint32_t)code);

    return rv == 0 ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
}

/* Answers 431 without asking anybody. */
static int answer_too_large(nghttp2_session *session, int32_t id)
{
    uint8_t name[] = ":status", value[] = "431";
    nghttp2_nv nv = {name, value, sizeof name - 1, sizeof value - 1, NGHTTP2_NV_FLAG_NONE};

    return nghttp2_submit_response(session, id, &nv, 1, NULL) == 0 ? 0
                                                                   : NGHTTP2_ERR_CALLBACK_FAILURE;
}

static int begin_request(struct h2_conn *c, int32_t id, bool end)
{
    struct h2_stream *s;

    /* Above the id of our last GOAWAY the client is told that nothing was processed. */
    if (c->drain == H2__DRAIN_FINAL && id > c->drain_id)
        return rst(c->session, id, H2_REFUSED_STREAM);
    if (c->stream_count >= c->opts.max_streams)
        return rst(c->session, id, H2_REFUSED_STREAM);
    if (c->headers.is_over)
        return answer_too_large(c->session, id);
    s = h2__stream_new(c, id, NULL);
    if (s == NULL)
        return rst(c->session, id, H2_REFUSED_STREAM);
    if (nghttp2_session_set_stream_user_data(c->session, id, s) != 0)
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    s->is_sent = true;
    s->is_remote_ended = end;
    h2__bucket_give(&c->guard.frames, H2__GIVE_HEADERS);
    h2__conn_ping_arm(c);
    c->ops->on_request(c, s, headers_list(c), end);
    return 0;
}

static int end_request(struct h2_conn *c, struct h2_stream *s, bool end)
{
    if (c->headers.is_over)
        return rst(c->session, s->id, H2_ENHANCE_YOUR_CALM);
    h2__bucket_give(&c->guard.frames, H2__GIVE_HEADERS);
    s->is_remote_ended = end;
    c->ops->on_trailers(s, headers_list(c));
    return 0;
}

static int got_answer_headers(struct h2_conn *c, struct h2_stream *s, bool end)
{
    if (c->headers.is_over)
        return rst(c->session, s->id, H2_INTERNAL_ERROR);
    s->is_remote_ended = end;
    if (s->is_responded) {
        c->ops->on_trailers(s, headers_list(c));
        return 0;
    }
    if (headers_are_informational(c))
        return 0;
    s->is_responded = true;
    c->ops->on_response(s, headers_list(c), end);
    return 0;
}

static int got_headers(struct h2_conn *c, const nghttp2_frame *frame)
{
    bool end = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    struct h2_stream *s = stream_of(c->session, frame->hd.stream_id);
    int rv = 0;

    if (c->opts.is_server && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
        rv = begin_request(c, frame->hd.stream_id, end);
    else if (s != NULL && c->opts.is_server)
        rv = end_request(c, s, end);
    else if (s != NULL)
        rv = got_answer_headers(c, s, end);
    headers_clear(&c->headers);
    return rv;
}

static void got_data_end(struct h2_conn *c, int32_t id)
{
    struct h2_stream *s = stream_of(c->session, id);

    if (s == NULL)
        return;
    h2__bucket_give(&c->guard.frames, 1);
    s->is_remote_ended = true;
    c->ops->on_end(s);
}

static const uint8_t drain_ping[8] = {'s', 'h', 'u', 't', 'd', 'o', 'w', 'n'};

static void got_ping_ack(struct h2_conn *c, const nghttp2_ping *ping)
{
    if (c->drain == H2__DRAIN_NOTICE && memcmp(ping->opaque_data, drain_ping, 8) == 0)
        h2__session_final_goaway(c);
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct h2_conn *c = user;

    if (c->state != H2__OPEN)
        return 0;
    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
        return got_headers(c, frame);
    case NGHTTP2_DATA:
        if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
            got_data_end(c, frame->hd.stream_id);
        break;
    case NGHTTP2_RST_STREAM:
        if (stream_of(session, frame->hd.stream_id) != NULL)
            h2__bucket_give(&c->guard.frames, 1);
        break;
    case NGHTTP2_SETTINGS:
        if (!(frame->hd.flags & NGHTTP2_FLAG_ACK) && !c->is_ready) {
            c->is_ready = true;
            c->ops->on_ready(c);
        }
        break;
    case NGHTTP2_PING:
        if (frame->hd.flags & NGHTTP2_FLAG_ACK)
            got_ping_ack(c, &frame->ping);
        break;
    case NGHTTP2_GOAWAY:
        c->has_peer_goaway = true;
        c->ops->on_goaway(c, (enum h2_code)frame->goaway.error_code);
        break;
    default:
        break;
    }
    return 0;
}

/* The chunk as a slice of the slab it lies in; copied if nghttp2 should ever hand out other memory.
 */
static enum err chunk_slice(struct h2_conn *c, const uint8_t *p, size_t n, struct slice *out)
{
    const uint8_t *base = c->in.slab->data + c->in.off;

    if ((uintptr_t)p >= (uintptr_t)base && (uintptr_t)p + n <= (uintptr_t)base + c->in.len) {
        *out = slice_sub(c->in, (uint32_t)(p - base), (uint32_t)n);
        return ERR_OK;
    }
    struct slab *slab = slab_new(c->pool, n, c->in.slab->flags);

    if (slab == NULL)
        return ERR_NOMEM;
    memcpy(slab->data, p, n);
    slab->fill = (uint32_t)n;
    metric_add(METRIC_bytes_copied_total, n);
    *out = (struct slice){slab, 0, (uint32_t)n};
    return ERR_OK;
}

static int on_data_chunk(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *p,
                         size_t n, void *user)
{
    struct h2_conn *c = user;
    struct h2_stream *s = stream_of(session, id);
    struct slice data;

    (void)flags;
    /* The connection's credit goes back at once, also for bytes that nobody wants any more: one
     * stream must not hold up the others. */
    if (nghttp2_session_consume_connection(session, n) != 0)
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    if (s == NULL || c->state != H2__OPEN)
        return 0;
    if (chunk_slice(c, p, n, &data) != ERR_OK) {
        c->fatal = ERR_NOMEM;
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    h2__bucket_give(&c->guard.frames, H2__GIVE_DATA + (uint32_t)(n / H2__GIVE_BYTES));
    c->ops->on_data(s, &data);
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *user)
{
    struct h2_stream *s = stream_of(session, id);

    (void)user;
    if (s == NULL)
        return 0;
    (void)nghttp2_session_set_stream_user_data(session, id, NULL);
    h2__stream_finish(s, (enum h2_code)code,
                      code == H2_NO_ERROR && s->is_local_ended && s->is_remote_ended);
    return 0;
}

/* ------------------------------------------------------------------------ frames, out */

/* Room in the scratch slab for a part of n bytes; got says for how many. NULL: no memory. */
static uint8_t *scratch_get(struct h2_conn *c, size_t n, uint32_t flags, size_t *got)
{
    struct slab *s = c->scratch;

    if (s == NULL || s->fill == s->cap) {
        if (s != NULL)
            slab_drop(s);
        c->scratch = s = slab_new(c->pool, LIMIT_SLAB_SIZE, 0);
        if (s == NULL)
            return NULL;
    }
    s->flags |= flags & SLAB_SECRET;
    *got = s->cap - s->fill < n ? s->cap - s->fill : n;
    return s->data + s->fill;
}

static enum err out_copy(struct h2_conn *c, const uint8_t *p, size_t n, uint32_t flags)
{
    while (n > 0) {
        size_t part;
        uint8_t *to = scratch_get(c, n, flags, &part);
        struct slice s;

        if (to == NULL)
            return ERR_NOMEM;
        memcpy(to, p, part);
        slab_ref(c->scratch);
        s = (struct slice){c->scratch, c->scratch->fill, (uint32_t)part};
        c->scratch->fill += (uint32_t)part;
        TRY(chain_push(&c->out, &s));
        p += part;
        n -= part;
    }
    return ERR_OK;
}

/* Moves n bytes of the stream to c->out: large pieces by reference, small ones gathered (an iovec
 * or TLS record costs more than the copy). */
static enum err out_payload(struct h2_conn *c, struct chain *from, size_t n)
{
    metric_add(METRIC_bytes_forwarded_total, n);
    while (n > 0) {
        struct slice piece = *chain_at(from, 0);
        size_t part = piece.len < n ? piece.len : n;

        if (part >= LIMIT_SMALL_COPY) {
            TRY(chain_move(&c->out, from, part));
        } else {
            TRY(out_copy(c, slice_data(piece), part, piece.slab->flags));
            metric_add(METRIC_bytes_copied_total, part);
            chain_consume(from, part);
        }
        n -= part;
    }
    return ERR_OK;
}

static bool out_is_full(const struct h2_conn *c)
{
    return net_conn_queued(c->net) + c->out.len > c->out_limit;
}

static ssize_t read_data(nghttp2_session *session, int32_t id, uint8_t *buf, size_t max,
                         uint32_t *flags, nghttp2_data_source *source, void *user)
{
    struct h2_conn *c = user;
    struct h2_stream *s = stream_of(session, id);
    size_t n;

    (void)buf;
    (void)source;
    if (s == NULL)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    if (out_is_full(c)) {
        c->is_blocked = true;
        return NGHTTP2_ERR_PAUSE;
    }
    n = s->out.len < max ? s->out.len : max;
    if (n == 0 && !s->is_end_queued) {
        s->is_deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    if (n > 0)
        *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (n < s->out.len || !s->is_end_queued)
        return (ssize_t)n;
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    if (s->trailers != NULL) {
        *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
        if (nghttp2_submit_trailer(session, id, s->trailers->nv, s->trailers->count) != 0)
            return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    return (ssize_t)n;
}

const nghttp2_data_provider h2__data_provider = {.read_callback = read_data};

static int send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head, size_t n,
                     nghttp2_data_source *source, void *user)
{
    struct h2_conn *c = user;
    struct h2_stream *s = stream_of(session, frame->hd.stream_id);

    (void)source;
    if (s == NULL || s->out.len < n)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    if (out_copy(c, head, FRAME_HEAD_LEN, 0) != ERR_OK || out_payload(c, &s->out, n) != ERR_OK) {
        c->fatal = ERR_NOMEM;
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    h2__bucket_give(&c->guard.frames, H2__GIVE_SENT_DATA + (uint32_t)(n / H2__GIVE_BYTES));
    if (c->state == H2__OPEN)
        c->ops->on_drained(s, n);
    return 0;
}

/* Our side is done. A server that is done does not want the rest of the request either (RFC 9113
 * section 8.1). */
static int sent_end(struct h2_conn *c, int32_t id)
{
    struct h2_stream *s = stream_of(c->session, id);

    if (s != NULL)
        s->is_local_ended = true;
    if (c->opts.is_server && nghttp2_session_get_stream_remote_close(c->session, id) == 0)
        return rst(c->session, id, H2_NO_ERROR);
    return 0;
}

/* Resets that nobody here asked for are answers to a peer that breaks the rules. */
static void sent_rst(struct h2_conn *c, const nghttp2_frame *frame)
{
    if (nghttp2_session_get_stream_user_data(c->session, frame->hd.stream_id) == &h2__detached)
        return;
    if (frame->rst_stream.error_code == H2_NO_ERROR ||
        frame->rst_stream.error_code == H2_REFUSED_STREAM)
        return;
    if (c->opts.is_server && !h2__bucket_take(&c->guard.violations, 1, loop_now_ms(c->loop)))
        c->is_violated = true;
}

static int on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct h2_conn *c = user;

    switch (frame->hd.type) {
    case NGHTTP2_HEADERS: {
        struct h2_stream *s = stream_of(session, frame->hd.stream_id);

        if (s != NULL)
            s->is_sent = true;
        if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
            return sent_end(c, frame->hd.stream_id);
        break;
    }
    case NGHTTP2_DATA:
        if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
            return sent_end(c, frame->hd.stream_id);
        break;
    case NGHTTP2_RST_STREAM:
        sent_rst(c, frame);
        break;
    case NGHTTP2_GOAWAY:
        if (c->state == H2__OPEN && frame->goaway.error_code != NGHTTP2_NO_ERROR)
            c->is_goaway_error = true;
        break;
    default:
        break;
    }
    return 0;
}

/* An answer that cannot be framed (too large a field list) must not leave its stream hanging. */
static int on_frame_not_send(nghttp2_session *session, const nghttp2_frame *frame, int error,
                             void *user)
{
    struct h2_conn *c = user;

    if (c->opts.is_server && frame->hd.type == NGHTTP2_HEADERS &&
        error == NGHTTP2_ERR_FRAME_SIZE_ERROR)
        return rst(session, frame->hd.stream_id, H2_INTERNAL_ERROR);
    return 0;
}

/* Puts the announced stream limit into our first SETTINGS frame (see the top). */
static void settings_patch(struct h2_conn *c, uint8_t *frame, size_t n)
{
    uint32_t max = c->opts.max_streams;

    for (size_t i = FRAME_HEAD_LEN; i + SETTINGS_ENTRY_LEN <= n; i += SETTINGS_ENTRY_LEN) {
        if (frame[i] != 0 || frame[i + 1] != NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS)
            continue;
        frame[i + 2] = (uint8_t)(max >> 24);
        frame[i + 3] = (uint8_t)(max >> 16);
        frame[i + 4] = (uint8_t)(max >> 8);
        frame[i + 5] = (uint8_t)max;
    }
}

static enum err out_frame(struct h2_conn *c, const uint8_t *p, size_t n)
{
    uint8_t first[128];

    if (c->opts.is_server && !c->is_settings_sent) {
        CHECK(n <= sizeof first && n >= FRAME_HEAD_LEN && p[3] == NGHTTP2_SETTINGS);
        memcpy(first, p, n);
        settings_patch(c, first, n);
        c->is_settings_sent = true;
        p = first;
    }
    return out_copy(c, p, n, 0);
}

static void scratch_put(struct h2_conn *c)
{
    if (c->scratch != NULL)
        slab_drop(c->scratch);
    c->scratch = NULL;
}

static enum err session_failed(struct h2_conn *c, ssize_t rv)
{
    c->why = nghttp2_strerror((int)rv);
    if (c->fatal != ERR_OK)
        return c->fatal;
    return rv == NGHTTP2_ERR_NOMEM ? ERR_NOMEM : ERR_CLOSED;
}

enum err h2__session_frame(struct h2_conn *c, size_t limit)
{
    enum err e = ERR_OK;

    c->out_limit = limit;
    c->is_blocked = false;
    while (e == ERR_OK) {
        const uint8_t *p;
        ssize_t n;

        /* What is not framed yet counts in nghttp2's flood limit; what is would count nowhere. */
        if (out_is_full(c)) {
            c->is_blocked = nghttp2_session_want_write(c->session) != 0;
            break;
        }
        n = nghttp2_session_mem_send(c->session, &p);
        if (n == 0)
            break;
        e = n < 0 ? session_failed(c, n) : out_frame(c, p, (size_t)n);
    }
    scratch_put(c);
    return e;
}

/* ------------------------------------------------------------------------ session */

enum err h2__session_feed(struct h2_conn *c, struct slice s)
{
    ssize_t rv;

    c->in = s;
    rv = nghttp2_session_mem_recv(c->session, slice_data(s), s.len);
    c->in = SLICE_EMPTY;
    if (rv < 0)
        return session_failed(c, rv);
    return ERR_OK;
}

void h2__session_final_goaway(struct h2_conn *c)
{
    int rv;

    c->drain = H2__DRAIN_FINAL;
    c->drain_id = nghttp2_session_get_last_proc_stream_id(c->session);
    loop_timer_stop(&c->drain_timer);
    rv = nghttp2_submit_goaway(c->session, NGHTTP2_FLAG_NONE, c->drain_id, NGHTTP2_NO_ERROR, NULL,
                               0);
    if (rv != 0)
        h2__conn_note(c, rv);
    h2__conn_want_flush(c);
}

void h2_conn_shutdown(struct h2_conn *c)
{
    int rv;

    CHECK(c->opts.is_server);
    if (c->state != H2__OPEN || c->drain != H2__DRAIN_NONE)
        return;
    c->drain = H2__DRAIN_NOTICE;
    rv = nghttp2_submit_shutdown_notice(c->session);
    if (rv == 0)
        rv = nghttp2_submit_ping(c->session, NGHTTP2_FLAG_NONE, drain_ping);
    if (rv == 0 && loop_timer_start(c->loop, &c->drain_timer, 1000) != ERR_OK)
        rv = NGHTTP2_ERR_NOMEM;
    if (rv != 0)
        h2__conn_note(c, rv);
    h2__conn_want_flush(c);
}

enum err h2__session_nv(struct h2_conn *c, struct h2_fields f)
{
    if (f.count > c->nv_cap) {
        size_t cap = f.count < 32 ? 32 : f.count;
        nghttp2_nv *nv = realloc(c->nv, cap * sizeof *nv);

        if (nv == NULL)
            return ERR_NOMEM;
        c->nv = nv;
        c->nv_cap = cap;
    }
    for (size_t i = 0; i < f.count; i++) {
        const struct h2_field *from = &f.v[i];
        bool is_secret = bytes_eq(from->name, BYTES_LIT("authorization")) ||
                         bytes_eq(from->name, BYTES_LIT("token"));

        /* nghttp2 copies and does not write; its type has no const. RFC 7541 section 7.1.3:
         * credentials stay out of the compression table. */
        c->nv[i] = (nghttp2_nv){(uint8_t *)(uintptr_t)from->name.p,
                                (uint8_t *)(uintptr_t)from->value.p, from->name.n, from->value.n,
                                is_secret ? NGHTTP2_NV_FLAG_NO_INDEX : NGHTTP2_NV_FLAG_NONE};
    }
    return ERR_OK;
}

static void session_options(const struct h2_conn *c, nghttp2_option *o)
{
    nghttp2_option_set_no_auto_window_update(o, 1);
    nghttp2_option_set_no_closed_streams(o, 1);
    nghttp2_option_set_max_send_header_block_length(o, SEND_HEADER_BLOCK);
    /* Go's peers send grpc-message with spaces at its end; the field would be dropped. */
    nghttp2_option_set_no_rfc9113_leading_and_trailing_ws_validation(o, 1);
    /* Resets are counted in guard.c; nghttp2's own limit would cut a busy client. */
    nghttp2_option_set_stream_reset_rate_limit(o, 20000, 2000);
    nghttp2_option_set_max_continuations(o, c->opts.is_server ? REQUEST_CONTINUATIONS
                                                              : ANSWER_CONTINUATIONS);
}

static void session_callbacks(nghttp2_session_callbacks *cb)
{
    nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback2(cb, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame_recv);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data_chunk);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
    nghttp2_session_callbacks_set_send_data_callback(cb, send_data);
    nghttp2_session_callbacks_set_on_frame_send_callback(cb, on_frame_send);
    nghttp2_session_callbacks_set_on_frame_not_send_callback(cb, on_frame_not_send);
}

static int session_create(struct h2_conn *c)
{
    nghttp2_session_callbacks *cb = NULL;
    nghttp2_option *o = NULL;
    int rv = nghttp2_session_callbacks_new(&cb);

    if (rv == 0)
        rv = nghttp2_option_new(&o);
    if (rv == 0) {
        session_callbacks(cb);
        session_options(c, o);
        /* The last argument is the place for an allocator of our own. */
        rv = c->opts.is_server ? nghttp2_session_server_new3(&c->session, cb, c, o, NULL)
                               : nghttp2_session_client_new3(&c->session, cb, c, o, NULL);
    }
    nghttp2_option_del(o);
    nghttp2_session_callbacks_del(cb);
    return rv;
}

static int session_greet(struct h2_conn *c)
{
    nghttp2_settings_entry iv[4];
    size_t n = 0;
    int rv;

    if (c->opts.is_server)
        iv[n++] =
            (nghttp2_settings_entry){NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, STREAMS_NO_LIMIT};
    else
        iv[n++] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_ENABLE_PUSH, 0};
    iv[n++] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, c->opts.stream_window};
    iv[n++] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_MAX_FRAME_SIZE, c->opts.max_frame_size};
    iv[n++] =
        (nghttp2_settings_entry){NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE,
                                 c->opts.is_server ? LIMIT_HEADER_BYTES : ANSWER_HEADER_BYTES};
    rv = nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, iv, n);
    if (rv != 0)
        return rv;
    return nghttp2_session_set_local_window_size(c->session, NGHTTP2_FLAG_NONE, 0,
                                                 (int32_t)c->opts.conn_window);
}

enum err h2__session_new(struct h2_conn *c)
{
    int rv = session_create(c);

    if (rv == 0)
        rv = session_greet(c);
    /* The options are ours: anything but memory is a bug of the caller. */
    CHECK(rv == 0 || rv == NGHTTP2_ERR_NOMEM);
    return rv == 0 ? ERR_OK : ERR_NOMEM;
}
