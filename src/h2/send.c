/* SPDX-License-Identifier: Apache-2.0 */
/* Which stream sends next.
 *
 *   waiting   requests whose HEADERS are not framed yet: one by one, as the peer's stream limit
 *             allows
 *   ending    streams whose END_STREAM waits in control: first of all, for when it leaves they have
 *             to be over for us, too. A peer that sees it may begin another in their place.
 *   ready     streams with something to send: one DATA frame each in turns, until the socket's
 *             queue is full
 *   stalled   streams that only the connection's window keeps from sending; when it opens they come
 *             before those that are ready, one by one: a window that opens by a byte is for one
 *             stream, and costs no walk of all others
 *
 * All of that goes round by whose the streams are first, then by stream (sharers.c). A stream is in
 * at most one queue, by its send_node; what has nothing to send, or no window of its own, is in
 * none. An owner's on_drained may send more on any stream, its own included: a stream that is in a
 * queue stays where it is.
 *
 * Trailers wait behind the bytes of their stream. They need no window (RFC 9113 section 5.2.1), and
 * neither does an empty DATA frame that ends a stream.
 *
 * Failure modes:
 *  - the socket's queue is full: is_blocked, and conn.c asks again later
 *  - memory: ERR_NOMEM, the connection is lost */
#include "h2/h2_int.h"

#define PEER_STREAMS_UNKNOWN 100u /* before the peer's SETTINGS (RFC 9113 section 6.5.2) */

/* ------------------------------------------------------------------------ queues */

void h2__send_want(struct h2_stream *s)
{
    if (!list_is_empty(&s->send_node) || s->is_reset || s->state == H2__IDLE)
        return;
    if (s->is_end_pending) {
        h2__queue_push(s, H2__ENDING);
        return;
    }
    if (h2__is_local_over(s))
        return;
    if (s->out.len == 0 ? s->is_end_queued : s->send_left > 0)
        h2__queue_push(s, H2__READY);
}

static bool can_start(const struct h2_conn *c)
{
    uint32_t max = c->is_ready ? c->peer_streams : PEER_STREAMS_UNKNOWN;

    return !h2__queue_is_empty(c, H2__WAITING) && c->table.count < max && c->next_id <= H2__ID_MAX;
}

bool h2__has_output(const struct h2_conn *c)
{
    return c->control.len > 0 || h2__queue_has_next(c) || can_start(c);
}

/* ------------------------------------------------------------------------ one stream */

/* Our side is done. A server that is done does not want the rest of the request either (RFC 9113
 * section 8.1). */
static void sent_end(struct h2_stream *s)
{
    struct h2_conn *c = s->c;

    if (c->opts.is_server && s->state == H2__LOCAL_OVER) {
        h2__stream_detach(s, H2__PLACE_DROPPED);
        h2__put_rst(c, s->id, H2_NO_ERROR);
        h2__stream_finish(s, H2_NO_ERROR, H2_END_RESET);
        return;
    }
    h2__stream_finish_if_over(s);
}

static enum err start_request(struct h2_conn *c)
{
    struct h2_stream *s = h2__queue_next_waiting(c);
    enum err e;

    TRY(h2__stream_open(s, c->next_id));
    c->next_id += 2;
    list_remove(&s->node);
    list_push(&c->streams, &s->node);
    e = h2__put_headers(c, s->id, s->fields, s->is_bodyless);
    h2__fields_free(c, &s->fields);
    TRY(e);
    if (s->is_bodyless)
        h2__stream_event(s, H2__LOCAL_END);
    h2__send_want(s);
    return ERR_OK;
}

static size_t sendable(const struct h2_conn *c, const struct h2_stream *s)
{
    int32_t window = s->send_left < c->send_left ? s->send_left : c->send_left;
    size_t n = s->out.len < H2__FRAME_MAX ? s->out.len : H2__FRAME_MAX;

    if (window <= 0)
        return 0;
    return n < (size_t)window ? n : (size_t)window;
}

static enum err send_trailers(struct h2_conn *c, struct h2_stream *s)
{
    enum err e = h2__put_headers(c, s->id, s->fields, true);

    h2__fields_free(c, &s->fields);
    h2__stream_event(s, H2__LOCAL_END);
    s->is_end_pending = true;
    return e;
}

/* One DATA frame, if there is anything to send in it, and what may follow the last. */
static enum err send_frame(struct h2_conn *c, struct h2_stream *s, size_t *sent)
{
    size_t n = sendable(c, s);
    bool is_last = n == s->out.len && s->is_end_queued;

    if (n > 0 || (is_last && s->fields.v == NULL)) {
        TRY(h2__out_data(c, s, n, is_last && s->fields.v == NULL));
        s->send_left -= (int32_t)n;
        c->send_left -= (int32_t)n;
        c->sent += n;
        h2__bucket_give(&c->guard.frames, H2__GIVE_SENT_DATA + (uint32_t)(n / H2__GIVE_BYTES));
    }
    *sent = n;
    if (!is_last)
        return ERR_OK;
    if (s->fields.v != NULL)
        return send_trailers(c, s);
    h2__stream_event(s, H2__LOCAL_END);
    s->is_end_pending = true;
    return ERR_OK;
}

/* The stream's turn; it is in no list. */
static enum err send_turn(struct h2_conn *c, struct h2_stream *s)
{
    size_t n = 0;

    if (!h2__is_local_over(s) && s->out.len > 0 && c->send_left <= 0) {
        /* Only here, not when its window goes: behind those that have had no turn since. */
        h2__queue_push(s, H2__STALLED);
        return ERR_OK;
    }
    if (!h2__is_local_over(s))
        TRY(send_frame(c, s, &n));
    if (!s->is_end_pending)
        h2__send_want(s); /* before its owner is called, who may do the same */
    if (n > 0 && c->state == H2__OPEN)
        s->ops->on_drained(s, n);
    if (s->is_end_pending && !s->is_reset)
        sent_end(s);
    return ERR_OK;
}

/* ------------------------------------------------------------------------ all of them */

enum err h2__frames_out(struct h2_conn *c, size_t limit)
{
    enum h2__state state = c->state; /* an owner may close the connection meanwhile */
    enum err e = ERR_OK;

    c->out_limit = limit;
    while (e == ERR_OK && c->state == state && c->fatal == ERR_OK && !c->is_cut &&
           !h2__out_is_full(c)) {
        if (can_start(c)) {
            e = start_request(c);
        } else {
            struct h2_stream *s = h2__queue_next(c);

            if (s == NULL)
                break;
            e = send_turn(c, s);
        }
    }
    if (e == ERR_OK && !h2__out_is_full(c))
        e = h2__out_control(c);
    c->is_blocked = h2__has_output(c);
    return e != ERR_OK ? e : c->fatal;
}
