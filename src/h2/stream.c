/* SPDX-License-Identifier: Apache-2.0 */
/* What the owner of a stream calls.
 *
 *   request or respond -> send ... -> end or trailers
 *
 * Bytes wait in s->out until nghttp2 asks for them (read_data in output.c). When it finds nothing
 * it puts the stream aside, and the next send resumes it. Trailers wait behind the bytes.
 *
 * A stream ends in one of two ways. By nghttp2 (both sides done, RST_STREAM, GOAWAY): on_close
 * comes from inside its input or output processing, which runs from the loop. By the owner
 * (h2_stream_reset): nghttp2's stream forgets ours at once, ours goes to c->dead and the task calls
 * on_close, so that it neither comes from inside the owner's call nor waits for a socket that takes
 * no more. */
#include <stdlib.h>

#include "h2/h2_int.h"

struct h2_stream *h2__stream_new(struct h2_conn *c, int32_t id)
{
    struct h2_stream *s = objects_calloc(&c->pool->objects, 1, sizeof *s);

    if (s == NULL)
        return NULL;
    s->c = c;
    s->id = id;
    list_push(&c->streams, &s->node);
    c->stream_count++;
    return s;
}

void h2__stream_finish(struct h2_stream *s, enum h2_code code, enum h2_end how)
{
    struct h2_conn *c = s->c;

    list_remove(&s->node);
    if (c->recent == s)
        c->recent = NULL;
    if (!s->is_reset)
        c->stream_count--;
    s->is_reset = true; /* what the owner calls from inside on_close changes nothing any more */
    chain_fini(&s->out);
    objects_free(&c->pool->objects, s->trailers);
    s->trailers = NULL;
    if (s->ops != NULL)
        s->ops->on_close(s, code, how);
    objects_free(&c->pool->objects, s);
    if (c->stream_count == 0 && c->ops->on_idle != NULL)
        c->ops->on_idle(c);
}

static bool stream_is_over(const struct h2_stream *s)
{
    return s->is_reset || s->c->state != H2__OPEN;
}

/* Something new to send: nghttp2 looks at the stream again. */
static void stream_resume(struct h2_stream *s)
{
    struct h2_conn *c = s->c;

    if (s->is_deferred) {
        int rv = nghttp2_session_resume_data(c->session, s->id);

        s->is_deferred = false;
        if (rv != 0)
            h2__conn_note(c, rv);
    }
    h2__conn_want_flush(c);
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

enum err h2_request(struct h2_conn *c, struct h2_fields headers, bool end,
                    const struct h2_stream_ops *ops, void *user, struct h2_stream **out)
{
    struct h2_stream *s;
    int32_t id;

    CHECK(!c->opts.is_server);
    if (c->state != H2__OPEN || nghttp2_session_check_request_allowed(c->session) == 0)
        return ERR_CLOSED;
    TRY(h2__session_nv(c, headers));
    s = h2__stream_new(c, 0);
    if (s == NULL)
        return ERR_NOMEM;
    h2_stream_set_owner(s, ops, user);
    id = nghttp2_submit_request(c->session, NULL, c->nv, headers.count,
                                end ? NULL : &h2__data_provider, s);
    if (id < 0) {
        list_remove(&s->node);
        c->stream_count--;
        objects_free(&c->pool->objects, s);
        return id == NGHTTP2_ERR_NOMEM ? ERR_NOMEM : ERR_CLOSED;
    }
    s->id = id;
    s->is_end_queued = end;
    h2__conn_want_flush(c);
    h2__conn_ping_arm(c);
    *out = s;
    return ERR_OK;
}

enum err h2_respond(struct h2_stream *s, struct h2_fields headers, bool end)
{
    struct h2_conn *c = s->c;
    int rv;

    CHECK(c->opts.is_server && !s->is_responded);
    if (stream_is_over(s))
        return ERR_CLOSED;
    TRY(h2__session_nv(c, headers));
    rv = nghttp2_submit_response(c->session, s->id, c->nv, headers.count,
                                 end ? NULL : &h2__data_provider);
    if (rv != 0)
        return rv == NGHTTP2_ERR_NOMEM ? ERR_NOMEM : ERR_CLOSED;
    s->is_responded = true;
    s->is_end_queued = end;
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
    stream_resume(s);
    return ERR_OK;
}

/* One block: the array, then the bytes that it points to. */
static struct h2__fields_copy *fields_copy(struct h2_conn *c, const nghttp2_nv *nv, size_t count)
{
    size_t bytes = 0;
    struct h2__fields_copy *copy;
    uint8_t *p;

    for (size_t i = 0; i < count; i++)
        bytes += nv[i].namelen + nv[i].valuelen;
    copy = objects_alloc(&c->pool->objects, sizeof *copy + count * sizeof *copy->nv + bytes);
    if (copy == NULL)
        return NULL;
    copy->count = count;
    p = (uint8_t *)(copy->nv + count);
    for (size_t i = 0; i < count; i++) {
        copy->nv[i] = nv[i];
        copy->nv[i].name = p;
        if (nv[i].namelen > 0)
            memcpy(p, nv[i].name, nv[i].namelen);
        p += nv[i].namelen;
        copy->nv[i].value = p;
        if (nv[i].valuelen > 0)
            memcpy(p, nv[i].value, nv[i].valuelen);
        p += nv[i].valuelen;
    }
    return copy;
}

/* Nothing is queued before them, so they need no DATA frame: nghttp2 would ask for that only when
 * the peer's windows are open, but trailers are not flow-controlled (RFC 9113 section 5.2.1). */
static enum err send_trailers_now(struct h2_stream *s, size_t count)
{
    struct h2_conn *c = s->c;
    int rv = nghttp2_submit_trailer(c->session, s->id, c->nv, count);

    if (rv != 0)
        return rv == NGHTTP2_ERR_NOMEM ? ERR_NOMEM : ERR_CLOSED;
    s->is_trailed = s->is_end_queued = true;
    h2__conn_want_flush(c);
    return ERR_OK;
}

enum err h2_stream_trailers(struct h2_stream *s, struct h2_fields trailers)
{
    CHECK(s->c->opts.is_server);
    if (stream_is_over(s) || s->is_end_queued)
        return ERR_CLOSED;
    CHECK(s->is_responded);
    TRY(h2__session_nv(s->c, trailers));
    if (s->out.len == 0)
        return send_trailers_now(s, trailers.count);
    s->trailers = fields_copy(s->c, s->c->nv, trailers.count);
    if (s->trailers == NULL)
        return ERR_NOMEM;
    s->is_end_queued = true;
    stream_resume(s);
    return ERR_OK;
}

bool h2_stream_is_malformed(const struct h2_stream *s)
{
    return s->is_broken;
}

size_t h2_stream_queued(const struct h2_stream *s)
{
    return s->out.len;
}

size_t h2_stream_pinned(const struct h2_stream *s)
{
    return chain_pinned(&s->out);
}

void h2_stream_credit(struct h2_stream *s, size_t n)
{
    struct h2_conn *c = s->c;
    int rv;

    if (stream_is_over(s) || n == 0)
        return;
    rv = nghttp2_session_consume_stream(c->session, s->id, n);
    if (rv != 0)
        h2__conn_note(c, rv);
    if (nghttp2_session_want_write(c->session))
        h2__conn_want_flush(c);
}

void h2_stream_reset(struct h2_stream *s, enum h2_code code)
{
    struct h2_conn *c = s->c;
    int rv;

    /* When both sides are done on_close is about to come anyway, and the peer needs no reset. */
    if (stream_is_over(s) || (s->is_local_ended && s->is_remote_ended))
        return;
    s->is_reset = true;
    s->reset_code = code;
    c->stream_count--;
    chain_clear(&s->out);
    if (c->recent == s)
        c->recent = NULL;
    list_remove(&s->node);
    list_push(&c->dead, &s->node);
    loop_task_want(c->loop, &c->task);
    (void)nghttp2_session_set_stream_user_data(c->session, s->id, &h2__detached);
    rv = nghttp2_submit_rst_stream(c->session, NGHTTP2_FLAG_NONE, s->id, (uint32_t)code);
    if (rv != 0)
        h2__conn_note(c, rv);
    h2__conn_want_flush(c);
}
