/* SPDX-License-Identifier: Apache-2.0 */
/* What the owner of a stream calls.
 *
 *   request or respond -> send ... -> end or trailers
 *
 * Bytes wait in s->out until the flush frames them (send.c), a request's header fields in
 * s->fields, and so do trailers that have bytes before them. An answer's header fields and trailers
 * with nothing before them are framed at once.
 *
 * A stream ends in one of two ways. By the protocol (both sides done, RST_STREAM, GOAWAY): on_close
 * comes from inside the processing of input or output, which runs from the loop. By the owner
 * (h2_stream_reset): the stream leaves the table at once and goes to c->dead, and the task calls
 * on_close, so that it neither comes from inside the owner's call nor waits for a socket that takes
 * no more. */
#include "h2/h2_int.h"

static bool stream_is_over(const struct h2_stream *s)
{
    return s->is_reset || s->c->state != H2__OPEN;
}

void h2_stream_set_owner(struct h2_stream *s, const struct h2_stream_ops *ops, void *user)
{
    s->ops = ops;
    s->user = user;
}

void h2_stream_set_user(struct h2_stream *s, void *user)
{
    s->user = user;
}

void *h2_stream_user(const struct h2_stream *s)
{
    return s->user;
}

struct h2_conn *h2_stream_conn(const struct h2_stream *s)
{
    return s->c;
}

static bool takes_requests(const struct h2_conn *c)
{
    uint64_t waiting = c->stream_count - c->table.count; /* each has an id coming */

    return !h2__is_stopped(c) && !c->has_peer_goaway && c->next_id + 2 * waiting <= H2__ID_MAX;
}

bool h2_conn_can_request(const struct h2_conn *c)
{
    return !c->opts.is_server && takes_requests(c) && c->is_ready &&
           c->stream_count < c->peer_streams;
}

uint32_t h2_conn_peer_streams(const struct h2_conn *c)
{
    return c->peer_streams;
}

enum err h2_request(struct h2_conn *c, struct h2_fields headers, bool end,
                    const struct h2_stream_ops *ops, void *user, struct h2_stream **out)
{
    struct h2_fields copy;

    if (!takes_requests(c))
        return ERR_CLOSED;
    TRY(h2__fields_copy(c, headers, &copy));
    return h2_request_take(c, &copy, end, ops, user, out);
}

enum err h2_request_take(struct h2_conn *c, struct h2_fields *headers, bool end,
                         const struct h2_stream_ops *ops, void *user, struct h2_stream **out)
{
    bool is_taken = takes_requests(c);
    struct h2_stream *s = is_taken ? h2__stream_new(c, 0) : NULL;

    CHECK(!c->opts.is_server);
    if (s == NULL) {
        h2__fields_free(c, headers);
        return is_taken ? ERR_NOMEM : ERR_CLOSED;
    }
    h2_stream_set_owner(s, ops, user);
    s->fields = *headers;
    *headers = (struct h2_fields){NULL, 0};
    s->is_bodyless = s->is_end_queued = end;
    h2__queue_push(s, H2__WAITING);
    h2__conn_want_flush(c);
    h2__ping_arm(c);
    *out = s;
    return ERR_OK;
}

/* END_STREAM was put into control. What follows from it, on_close above all, must not happen inside
 * the owner's call. */
static void end_is_put(struct h2_stream *s)
{
    s->is_end_queued = true;
    s->is_end_pending = true;
    h2__stream_event(s, H2__LOCAL_END);
    h2__send_want(s);
}

enum err h2_respond(struct h2_stream *s, struct h2_fields headers, bool end)
{
    struct h2_conn *c = s->c;

    CHECK(c->opts.is_server && !s->is_responded);
    if (stream_is_over(s))
        return ERR_CLOSED;
    TRY(h2__put_headers(c, s->id, headers, end));
    s->is_responded = true;
    if (end)
        end_is_put(s);
    h2__conn_want_flush(c);
    return ERR_OK;
}

enum err h2_stream_send(struct h2_stream *s, struct chain *data, bool end)
{
    enum err e;

    if (stream_is_over(s) || s->is_end_queued) {
        chain_fini(data);
        return ERR_CLOSED;
    }
    CHECK(!s->c->opts.is_server || s->is_responded);
    if (data->len == 0 && !end) {
        chain_fini(data);
        return ERR_OK;
    }
    e = chain_append(&s->out, data);
    chain_fini(data);
    if (e != ERR_OK) {
        /* A part may be queued: nothing may follow it. */
        h2_stream_reset(s, H2_INTERNAL_ERROR);
        return e;
    }
    s->is_end_queued = end;
    h2__send_want(s);
    h2__conn_want_flush(s->c);
    return ERR_OK;
}

static bool takes_trailers(const struct h2_stream *s)
{
    CHECK(s->c->opts.is_server);
    if (stream_is_over(s) || s->is_end_queued)
        return false;
    CHECK(s->is_responded);
    return true;
}

static enum err put_trailers(struct h2_stream *s, struct h2_fields trailers)
{
    TRY(h2__put_headers(s->c, s->id, trailers, true));
    end_is_put(s);
    h2__conn_want_flush(s->c);
    return ERR_OK;
}

/* Takes the list. */
static void queue_trailers(struct h2_stream *s, struct h2_fields *trailers)
{
    s->fields = *trailers;
    *trailers = (struct h2_fields){NULL, 0};
    s->is_end_queued = true;
    h2__send_want(s);
    h2__conn_want_flush(s->c);
}

enum err h2_stream_trailers(struct h2_stream *s, struct h2_fields trailers)
{
    struct h2_fields copy;

    if (!takes_trailers(s))
        return ERR_CLOSED;
    if (s->out.len == 0)
        return put_trailers(s, trailers);
    TRY(h2__fields_copy(s->c, trailers, &copy));
    queue_trailers(s, &copy);
    return ERR_OK;
}

enum err h2_stream_trailers_take(struct h2_stream *s, struct h2_fields *trailers)
{
    enum err e = takes_trailers(s) ? ERR_OK : ERR_CLOSED;

    if (e == ERR_OK && s->out.len > 0) {
        queue_trailers(s, trailers);
        return ERR_OK;
    }
    if (e == ERR_OK)
        e = put_trailers(s, *trailers);
    h2__fields_free(s->c, trailers);
    return e;
}

bool h2_stream_is_malformed(const struct h2_stream *s)
{
    return s->is_broken;
}

size_t h2_stream_queued(const struct h2_stream *s)
{
    return s->out.len;
}

const struct chain *h2_stream_out(const struct h2_stream *s)
{
    return &s->out;
}

enum h2_held h2_stream_held(const struct h2_stream *s)
{
    if (stream_is_over(s) || s->state == H2__IDLE || s->out.len == 0)
        return H2_HELD_NOT;
    if (s->send_left <= 0)
        return H2_HELD_BY_STREAM;
    return s->c->send_left <= 0 ? H2_HELD_BY_CONN : H2_HELD_NOT;
}

void h2_stream_discard(struct h2_stream *s)
{
    if (stream_is_over(s))
        return;
    chain_clear(&s->out);
    h2__queue_leave(s); /* it may have waited for the connection's window */
    h2__send_want(s);
    h2__conn_want_flush(s->c);
}

size_t h2_stream_pinned(const struct h2_stream *s)
{
    return chain_pinned(&s->out);
}

void h2_stream_credit(struct h2_stream *s, size_t n)
{
    if (stream_is_over(s) || n == 0)
        return;
    h2__window_credit(s, n);
    if (s->c->control.len > 0)
        h2__conn_want_flush(s->c);
}

void h2_stream_widen(struct h2_stream *s, uint32_t window)
{
    if (stream_is_over(s))
        return;
    h2__window_widen(s, window);
    if (s->c->control.len > 0)
        h2__conn_want_flush(s->c);
}

void h2_stream_reset(struct h2_stream *s, enum h2_code code)
{
    struct h2_conn *c = s->c;

    /* When both sides are done on_close is about to come anyway, and the peer needs no reset. */
    if (stream_is_over(s) || s->state == H2__CLOSED)
        return;
    if (s->state != H2__IDLE) /* else the peer never hears of it */
        h2__put_rst(c, s->id, (uint32_t)code);
    h2__stream_detach(s, H2__PLACE_DROPPED);
    s->is_reset = true;
    s->reset_code = code;
    c->stream_count--;
    chain_clear(&s->out);
    list_remove(&s->node);
    list_push(&c->dead, &s->node);
    loop_task_want(c->loop, &c->task);
    h2__conn_want_flush(c);
}
