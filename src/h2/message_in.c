/* SPDX-License-Identifier: Apache-2.0 */
/* What HEADERS, DATA and RST_STREAM of the peer mean to a stream and its owner (RFC 9113 section
 * 8.1).
 *
 *   server: HEADERS on a new id begin a request, further ones are its trailers
 *   client: HEADERS are an answer's (1xx are dropped), then its trailers
 *
 * A header block is decoded whoever it is for, for the decompressor has to see all of them. Streams
 * that are beyond a limit of ours are answered without becoming one: REFUSED_STREAM, or status 431
 * for too large a field list.
 *
 * Failure modes:
 *  - a message that breaks the rules: RST_STREAM PROTOCOL_ERROR, on_close
 *  - a frame where its stream's state allows none: as the table in streams.c says
 *  - a block that cannot be decoded: the connection ends with COMPRESSION_ERROR */
#include "base/metrics.h"
#include "h2/h2_int.h"

/* ------------------------------------------------------------------------ requests */

/* Answers with HTTP status 431; the owner does not hear of the request. */
static void answer_too_large(struct h2_conn *c, uint32_t id, bool end)
{
    const struct h2_field v[] = {{BYTES_LIT(":status"), BYTES_LIT("431")}};

    if (h2__put_headers(c, id, (struct h2_fields){v, ARRAY_LEN(v)}, true) != ERR_OK)
        return;
    if (!end)
        h2__put_rst(c, id, H2_NO_ERROR);
    h2__closed_note(c, id, end ? H2__PLACE_FINISHED : H2__PLACE_DROPPED);
}

/* Answers a request that does not become a stream of ours. True: it was one. */
static bool turn_away(struct h2_conn *c, uint32_t id, bool end, const struct h2__headers *h)
{
    bool is_full = c->stream_count >= c->opts.max_streams;

    if (is_full)
        metric_refused(ERR_STREAM_LIMIT);
    /* Above the id of our last GOAWAY the client is told that nothing was processed. */
    if ((c->drain == H2__DRAIN_FINAL && id > c->drain_id) || is_full) {
        h2__put_rst(c, id, H2_REFUSED_STREAM);
        h2__closed_note(c, id, H2__PLACE_DROPPED);
        return true;
    }
    if (h->is_malformed) {
        h2__rst_violation(c, id, H2_PROTOCOL_ERROR);
        return true;
    }
    if (h->is_over) {
        metric_refused(ERR_HEADERS_TOO_LARGE);
        answer_too_large(c, id, end);
    }
    return h->is_over;
}

static void begin_request(struct h2_conn *c, uint32_t id, bool end, const struct h2__headers *h)
{
    struct h2_stream *s;

    c->peer_id = id;
    if (turn_away(c, id, end, h))
        return;
    s = h2__stream_new(c, id);
    if (s == NULL) {
        h2__put_rst(c, id, H2_REFUSED_STREAM);
        h2__closed_note(c, id, H2__PLACE_DROPPED);
        return;
    }
    if (end)
        h2__stream_event(s, H2__REMOTE_END);
    h2__bucket_give(&c->guard.frames, H2__GIVE_HEADERS);
    h2__ping_arm(c);
    c->ops->on_request(c, s, (struct h2_fields){h->v, h->count}, end);
    if (s->ops == NULL)
        h2_stream_reset(s, H2_REFUSED_STREAM);
}

/* RFC 9113 section 8.1.1: its owner hears nothing more of it but on_close. */
static void message_is_broken(struct h2_stream *s)
{
    s->is_broken = true;
    h2__stream_error(s, H2_PROTOCOL_ERROR);
}

static void take_trailers(struct h2_stream *s, const struct h2__headers *h)
{
    h2__stream_event(s, H2__REMOTE_END);
    s->ops->on_trailers(s, (struct h2_fields){h->v, h->count});
    h2__stream_finish_if_over(s);
}

/* The only field list that may follow a request's first is that of its trailers. */
static void end_request(struct h2_stream *s, bool end, const struct h2__headers *h)
{
    if (h->is_over) {
        h2__stream_error(s, H2_ENHANCE_YOUR_CALM);
        return;
    }
    if (h->is_malformed || !end) {
        message_is_broken(s);
        return;
    }
    h2__bucket_give(&s->c->guard.frames, H2__GIVE_HEADERS);
    take_trailers(s, h);
}

/* ------------------------------------------------------------------------ answers */

static bool is_informational(const struct h2__headers *h)
{
    for (size_t i = 0; i < h->count; i++)
        if (bytes_eq(h->v[i].name, BYTES_LIT(":status")))
            return h->v[i].value.n == 3 && h->v[i].value.p[0] == '1';
    return false;
}

/* Headers, then data, then trailers that end the stream. */
static void take_answer(struct h2_stream *s, bool end, const struct h2__headers *h)
{
    bool is_early = !s->is_responded && is_informational(h);

    if (h->is_over) {
        h2__stream_error(s, H2_INTERNAL_ERROR);
        return;
    }
    if (h->is_malformed || (s->is_responded && !end) || (is_early && end)) {
        message_is_broken(s);
        return;
    }
    if (s->is_responded) {
        take_trailers(s, h);
        return;
    }
    if (is_early)
        return;
    s->is_responded = true;
    h2__bucket_give(&s->c->guard.frames, H2__GIVE_HEADERS);
    if (end)
        h2__stream_event(s, H2__REMOTE_END);
    s->ops->on_response(s, (struct h2_fields){h->v, h->count}, end);
    h2__stream_finish_if_over(s);
}

/* ------------------------------------------------------------------------ header blocks */

static bool decode(struct h2_conn *c, const struct h2_stream *s, struct bytes block,
                   const struct h2__headers **out)
{
    struct h2__hpack_limits limits = {H2__ANSWER_HEADER_BYTES, SIZE_MAX};
    enum h2__block kind = H2__TRAILERS;
    enum err e;

    if (c->opts.is_guarded)
        limits = (struct h2__hpack_limits){LIMIT_HEADER_BYTES, LIMIT_HEADER_FIELDS};
    if (c->opts.is_server && s == NULL)
        kind = H2__REQUEST;
    if (!c->opts.is_server && (s == NULL || !s->is_responded))
        kind = H2__ANSWER;
    e = h2__hpack_decode(&c->hpack_in, block, kind, limits, out);
    if (e == ERR_NOMEM)
        h2__fail(c, e);
    else if (e != ERR_OK)
        h2__cut(c, H2__COMPRESSION_ERROR, "bad header block");
    return e == ERR_OK;
}

/* A frame behind the end of its stream, which may be gone. */
static void reset_late(struct h2_conn *c, struct h2_stream *s, uint32_t id)
{
    if (s != NULL)
        h2__stream_error(s, H2_STREAM_CLOSED);
    else
        h2__rst_violation(c, id, H2_STREAM_CLOSED);
}

bool h2__headers_begin(struct h2_conn *c, uint32_t id)
{
    struct h2_stream *s;
    enum h2__reaction reaction = h2__reaction_to(c, h2__place_of(c, id, &s), H2__HEADERS);

    if (reaction == H2__REFUSE || (s == NULL && id % 2 == 0))
        h2__cut(c, H2_PROTOCOL_ERROR, "HEADERS on a stream that cannot begin");
    else if (reaction == H2__REFUSE_LATE)
        h2__cut(c, H2_STREAM_CLOSED, "HEADERS on a closed stream");
    return !c->is_cut;
}

void h2__got_headers(struct h2_conn *c, uint32_t id, uint8_t flags, struct bytes block)
{
    bool end = (flags & H2__FLAG_END_STREAM) != 0;
    const struct h2__headers *h;
    struct h2_stream *s;
    enum h2__place place = h2__place_of(c, id, &s);

    if (!decode(c, s, block, &h))
        return;
    switch (h2__reaction_to(c, place, H2__HEADERS)) {
    case H2__REFUSE:
    case H2__REFUSE_LATE: /* ended by its owner since h2__headers_begin */
        break;
    case H2__RESET_LATE:
        reset_late(c, s, id);
        break;
    case H2__IGNORE:
        break;
    case H2__TAKE:
        if (s == NULL)
            begin_request(c, id, end, h);
        else if (c->opts.is_server)
            end_request(s, end, h);
        else
            take_answer(s, end, h);
        break;
    }
    h2__hpack_release(&c->hpack_in);
}

/* ------------------------------------------------------------------------ DATA */

static bool stream_takes(struct h2_stream *s, const struct h2__frame *f)
{
    if (!s->c->opts.is_server && !s->is_responded) {
        message_is_broken(s);
        return false;
    }
    if (!h2__window_charge(s, f->len)) {
        h2__stream_error(s, H2_FLOW_CONTROL_ERROR);
        return false;
    }
    return true;
}

bool h2__data_begin(struct h2_conn *c, const struct h2__frame *f)
{
    struct h2_stream *s;
    enum h2__place place = h2__place_of(c, f->id, &s);

    if (!h2__window_charge_conn(c, f->len))
        return false;
    switch (h2__reaction_to(c, place, H2__DATA)) {
    case H2__REFUSE:
        h2__cut(c, H2_PROTOCOL_ERROR, "DATA on an idle stream");
        return false;
    case H2__REFUSE_LATE:
        h2__cut(c, H2_STREAM_CLOSED, "DATA on a closed stream");
        return false;
    case H2__RESET_LATE:
        reset_late(c, s, f->id);
        return false;
    case H2__IGNORE:
        return false;
    case H2__TAKE:
        break;
    }
    return stream_takes(s, f);
}

void h2__data_piece(struct h2_conn *c, uint32_t id, struct slice s, uint32_t off, uint32_t n)
{
    struct h2_stream *to = h2__stream_of(c, id);
    struct slice data;

    if (to == NULL) /* reset by its owner since the frame began */
        return;
    data = slice_sub(s, off, n);
    h2__bucket_give(&c->guard.frames, H2__GIVE_DATA + n / H2__GIVE_BYTES);
    to->ops->on_data(to, &data);
}

void h2__data_end(struct h2_conn *c, const struct h2__frame *f)
{
    struct h2_stream *s = h2__stream_of(c, f->id);

    if (s == NULL)
        return;
    if ((f->flags & H2__FLAG_END_STREAM) == 0) {
        if (c->in.pad_len > 0)
            h2__window_credit(s, c->in.pad_len);
        return;
    }
    h2__bucket_give(&c->guard.frames, 1);
    h2__stream_event(s, H2__REMOTE_END);
    s->ops->on_end(s);
    h2__stream_finish_if_over(s);
}

/* ------------------------------------------------------------------------ RST_STREAM */

void h2__got_rst_stream(struct h2_conn *c, const struct h2__frame *f)
{
    struct h2_stream *s;
    enum h2__place place = h2__place_of(c, f->id, &s);

    if (h2__reaction_to(c, place, f->type) == H2__REFUSE) {
        h2__cut(c, H2_PROTOCOL_ERROR, "RST_STREAM on an idle stream");
        return;
    }
    if (s == NULL)
        return;
    /* A rapid-reset attack resets streams before they are answered. Those that were answered are
     * not counted: many watches may well end at once. */
    h2__bucket_give(&c->guard.frames, 1);
    if (s->is_responded)
        h2__bucket_give(&c->guard.resets, 1);
    h2__stream_detach(s, H2__PLACE_CANCELLED);
    h2__stream_finish(s, (enum h2_code)h2__u32(f->p), H2_END_RESET);
}
