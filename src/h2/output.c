/* SPDX-License-Identifier: Apache-2.0 */
/* What nghttp2 calls while it is asked for frames, and the asking.
 *
 * nghttp2_session_mem_send hands out frames one by one; a DATA frame comes by send_data instead,
 * which moves its payload from the stream to c->out by reference. Both append to c->out, so the
 * order is that of the wire. Frame heads and small payloads are gathered in a scratch slab.
 *
 * Failure modes:
 *  - the socket's queue is full: read_data pauses nghttp2 (is_blocked) and conn.c asks again later
 *  - a GOAWAY that ends the connection goes out: is_goaway_error, conn.c ends it behind that
 *  - memory: as in input.c
 *
 * nghttp2 answers a stream above the announced limit with GOAWAY as soon as the limit was
 * acknowledged. We owe such a client REFUSED_STREAM (RFC 9113 section 5.1.2 allows both), so
 * nghttp2 is told of a limit that nobody reaches (session.c), the announced number is written into
 * the SETTINGS frame on its way out here, and the counting is done in input.c. */
#include "base/metrics.h"
#include "h2/h2_int.h"

#define FRAME_HEAD_LEN 9u
#define SETTINGS_ENTRY_LEN 6u

/* Room in the scratch slab for n bytes or fewer; *got says for how many. NULL: no memory. */
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
    struct h2_stream *s = h2__stream_of(c, id);
    size_t n;

    (void)buf;
    (void)source;
    if (s == NULL)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    if (s->is_trailed)
        return NGHTTP2_ERR_DEFERRED;
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

int h2__send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head, size_t n,
                  nghttp2_data_source *source, void *user)
{
    struct h2_conn *c = user;
    struct h2_stream *s = h2__stream_of(c, frame->hd.stream_id);

    (void)session;
    (void)source;
    if (s == NULL || s->out.len < n)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    if (out_copy(c, head, FRAME_HEAD_LEN, 0) != ERR_OK || out_payload(c, &s->out, n) != ERR_OK) {
        c->fatal = ERR_NOMEM;
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    h2__bucket_give(&c->guard.frames, H2__GIVE_SENT_DATA + (uint32_t)(n / H2__GIVE_BYTES));
    if (c->state == H2__OPEN)
        s->ops->on_drained(s, n);
    return 0;
}

/* Our side is done. A server that is done does not want the rest of the request either (RFC 9113
 * section 8.1). */
static int sent_end(struct h2_conn *c, int32_t id)
{
    struct h2_stream *s = h2__stream_of(c, id);

    if (s != NULL)
        s->is_local_ended = true;
    if (c->opts.is_server && nghttp2_session_get_stream_remote_close(c->session, id) == 0)
        return h2__rst(c->session, id, H2_NO_ERROR);
    return 0;
}

/* A reset that the stream's owner did not ask for is nghttp2's, or ours, for breaking the rules. */
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

int h2__on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct h2_conn *c = user;

    (void)session;
    switch (frame->hd.type) {
    case NGHTTP2_HEADERS: {
        struct h2_stream *s = h2__stream_of(c, frame->hd.stream_id);

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
int h2__on_frame_not_send(nghttp2_session *session, const nghttp2_frame *frame, int error,
                          void *user)
{
    struct h2_conn *c = user;

    if (c->opts.is_server && frame->hd.type == NGHTTP2_HEADERS &&
        error == NGHTTP2_ERR_FRAME_SIZE_ERROR)
        return h2__rst(session, frame->hd.stream_id, H2_INTERNAL_ERROR);
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
        e = n < 0 ? h2__session_failed(c, n) : out_frame(c, p, (size_t)n);
    }
    scratch_put(c);
    return e;
}
