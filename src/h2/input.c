/* SPDX-License-Identifier: Apache-2.0 */
/* What nghttp2 calls while it is fed.
 *
 * Header fields are collected by reference (rcbuf) until their block is whole, then the owner hears
 * of them; DATA chunks point into the slab that is fed and become slices of it.
 *
 * Failure modes:
 *  - a stream that breaks the rules: nghttp2 resets it, or we do here (limits); output.c counts it
 *  - memory: the callback fails, which nghttp2 reports as fatal; conn.c ends the connection */
#include <stdlib.h>

#include "base/metrics.h"
#include "h2/h2_int.h"

#define FIELDS_KEPT 128u /* arrays up to this size stay for the next list */

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

static enum h2__block block_kind(struct h2_conn *c, const nghttp2_frame *frame)
{
    const struct h2_stream *s;

    if (c->opts.is_server)
        return frame->headers.cat == NGHTTP2_HCAT_REQUEST ? H2__REQUEST : H2__TRAILERS;
    s = h2__stream_of(c, frame->hd.stream_id);
    return s != NULL && s->is_responded ? H2__TRAILERS : H2__ANSWER;
}

int h2__on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct h2_conn *c = user;

    (void)session;
    headers_clear(&c->headers);
    h2__message_begin(&c->headers, block_kind(c, frame));
    return 0;
}

static bool headers_are_over(const struct h2_conn *c)
{
    const struct h2__headers *h = &c->headers;

    if (c->opts.is_server)
        return h->bytes > LIMIT_HEADER_BYTES || h->count >= LIMIT_HEADER_FIELDS;
    return h->bytes > H2__ANSWER_HEADER_BYTES;
}

int h2__on_header(nghttp2_session *session, const nghttp2_frame *frame, nghttp2_rcbuf *name,
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
    h2__message_field(h, bytes_of(n.base, n.len), bytes_of(v.base, v.len));
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

/* Answers with HTTP status 431; the owner does not hear of the request. */
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
        return h2__rst(c->session, id, H2_REFUSED_STREAM);
    if (c->stream_count >= c->opts.max_streams)
        return h2__rst(c->session, id, H2_REFUSED_STREAM);
    if (c->headers.is_malformed)
        return h2__rst(c->session, id, H2_PROTOCOL_ERROR);
    if (c->headers.is_over)
        return answer_too_large(c->session, id);
    s = h2__stream_new(c, id);
    if (s == NULL)
        return h2__rst(c->session, id, H2_REFUSED_STREAM);
    if (nghttp2_session_set_stream_user_data(c->session, id, s) != 0)
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    s->is_sent = true;
    s->is_remote_ended = end;
    h2__bucket_give(&c->guard.frames, H2__GIVE_HEADERS);
    h2__conn_ping_arm(c);
    c->ops->on_request(c, s, headers_list(c), end);
    if (s->ops == NULL)
        h2_stream_reset(s, H2_REFUSED_STREAM);
    return 0;
}

/* RFC 9113 section 8.1.1: the stream is reset, and its owner hears nothing more of it but on_close.
 */
static int message_is_broken(struct h2_conn *c, struct h2_stream *s)
{
    if (s->is_broken)
        return 0;
    s->is_broken = true;
    return h2__rst(c->session, s->id, H2_PROTOCOL_ERROR);
}

/* The only field list that may follow a request's first is that of its trailers. */
static int end_request(struct h2_conn *c, struct h2_stream *s, bool end)
{
    if (c->headers.is_over)
        return h2__rst(c->session, s->id, H2_ENHANCE_YOUR_CALM);
    if (s->is_broken || c->headers.is_malformed || !end)
        return message_is_broken(c, s);
    h2__bucket_give(&c->guard.frames, H2__GIVE_HEADERS);
    s->is_remote_ended = true;
    s->ops->on_trailers(s, headers_list(c));
    return 0;
}

/* nghttp2 does not check the order of an answer's frames (session.c switches that off), so it is
 * done here: headers, then data, then trailers that end the stream (RFC 9113 section 8.1). */
static int got_answer_headers(struct h2_conn *c, struct h2_stream *s, bool end)
{
    bool is_informational = !s->is_responded && headers_are_informational(c);

    if (c->headers.is_over)
        return h2__rst(c->session, s->id, H2_INTERNAL_ERROR);
    if (s->is_broken || c->headers.is_malformed || (s->is_responded && !end) ||
        (is_informational && end))
        return message_is_broken(c, s);
    s->is_remote_ended = end;
    if (s->is_responded) {
        s->ops->on_trailers(s, headers_list(c));
        return 0;
    }
    if (is_informational)
        return 0;
    s->is_responded = true;
    s->ops->on_response(s, headers_list(c), end);
    return 0;
}

static int got_headers(struct h2_conn *c, const nghttp2_frame *frame)
{
    bool end = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    struct h2_stream *s = h2__stream_of(c, frame->hd.stream_id);
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

static bool is_out_of_order(const struct h2_conn *c, const struct h2_stream *s)
{
    return s->is_broken || (!c->opts.is_server && !s->is_responded);
}

static int got_data_end(struct h2_conn *c, int32_t id)
{
    struct h2_stream *s = h2__stream_of(c, id);

    if (s == NULL)
        return 0;
    if (is_out_of_order(c, s))
        return message_is_broken(c, s);
    h2__bucket_give(&c->guard.frames, 1);
    s->is_remote_ended = true;
    s->ops->on_end(s);
    return 0;
}

/* A rapid-reset attack resets streams before they are answered. Those that were answered are not
 * counted: many watches may well end at once. */
static void got_reset(struct h2_conn *c, const struct h2_stream *s)
{
    if (s == NULL)
        return;
    h2__bucket_give(&c->guard.frames, 1);
    if (s->is_responded)
        h2__bucket_give(&c->guard.resets, 1);
}

static void got_ping_ack(struct h2_conn *c, const nghttp2_ping *ping)
{
    if (c->drain == H2__DRAIN_NOTICE && memcmp(ping->opaque_data, h2__drain_ping, 8) == 0)
        h2__session_final_goaway(c);
}

int h2__on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct h2_conn *c = user;

    (void)session;
    if (c->state != H2__OPEN)
        return 0;
    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
        return got_headers(c, frame);
    case NGHTTP2_DATA:
        if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
            return got_data_end(c, frame->hd.stream_id);
        break;
    case NGHTTP2_RST_STREAM:
        got_reset(c, h2__stream_of(c, frame->hd.stream_id));
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

/* The chunk as a slice of the slab it lies in; copied if nghttp2 should ever hand out other
 * memory. */
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

int h2__on_data_chunk(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *p,
                      size_t n, void *user)
{
    struct h2_conn *c = user;
    struct h2_stream *s = h2__stream_of(c, id);
    struct slice data;

    (void)flags;
    /* The connection's credit goes back at once, also for bytes that nobody wants any more: one
     * stream must not hold up the others. */
    if (nghttp2_session_consume_connection(session, n) != 0)
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    if (s == NULL || c->state != H2__OPEN)
        return 0;
    if (is_out_of_order(c, s))
        return message_is_broken(c, s);
    if (chunk_slice(c, p, n, &data) != ERR_OK) {
        c->fatal = ERR_NOMEM;
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    h2__bucket_give(&c->guard.frames, H2__GIVE_DATA + (uint32_t)(n / H2__GIVE_BYTES));
    s->ops->on_data(s, &data);
    return 0;
}

int h2__on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *user)
{
    struct h2_conn *c = user;
    struct h2_stream *s = h2__stream_of(c, id);
    enum h2_end how = H2_END_RESET;

    if (s == NULL)
        return 0;
    (void)nghttp2_session_set_stream_user_data(session, id, NULL);
    if (code == H2_NO_ERROR && s->is_local_ended && s->is_remote_ended)
        how = H2_END_COMPLETE;
    h2__stream_finish(s, (enum h2_code)code, how);
    return 0;
}
