/* SPDX-License-Identifier: Apache-2.0 */
/* The nghttp2 session of a connection; input.c and output.c have its callbacks.
 *   1. h2__session_new makes it, with our options, and queues our SETTINGS;
 *   2. h2__session_feed gives it what was read; h2__session_frame (output.c) takes what it sends;
 *   3. a server drains: h2_conn_shutdown announces the end and sends a PING, and when that is
 *      answered, or after 1 s, h2__session_final_goaway names the last stream that counts.
 * Failure modes: errors of nghttp2 end the connection, in conn.c; no memory is ERR_NOMEM. */
#include <stdlib.h>

#include "h2/h2_int.h"

/* The stream limit that nghttp2 is told; the top of output.c says why it is not the real one. */
#define STREAMS_NO_LIMIT 0x7fffffffu
/* Field lists that we send were received within our own limits; with room for HPACK's worst
 * case. */
#define SEND_HEADER_BLOCK (4u * 1024 * 1024)
/* nghttp2 counts every piece in which the head of a CONTINUATION frame arrives: up to nine pieces
 * for one frame. */
#define CONTINUATIONS 100u /* 1 MiB in frames of 16 KiB; 128 KiB however they are cut */
#define NO_RATE_LIMIT (1ull << 40)

char h2__detached;
const uint8_t h2__drain_ping[8] = {'s', 'h', 'u', 't', 'd', 'o', 'w', 'n'};

struct h2_stream *h2__stream_of(struct h2_conn *c, int32_t id)
{
    void *p;

    if (c->recent != NULL && c->recent->id == id) /* a frame is looked up several times */
        return c->recent;
    p = nghttp2_session_get_stream_user_data(c->session, id);
    if (p == NULL || p == &h2__detached)
        return NULL;
    c->recent = p;
    return p;
}

int h2__rst(nghttp2_session *session, int32_t id, enum h2_code code)
{
    int rv = nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, id, (uint32_t)code);

    return rv == 0 ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
}

enum err h2__session_failed(struct h2_conn *c, ssize_t rv)
{
    c->why = nghttp2_strerror((int)rv);
    if (c->fatal != ERR_OK)
        return c->fatal;
    return rv == NGHTTP2_ERR_NOMEM ? ERR_NOMEM : ERR_CLOSED;
}

enum err h2__session_feed(struct h2_conn *c, struct slice s)
{
    ssize_t rv;

    c->in = s;
    rv = nghttp2_session_mem_recv(c->session, slice_data(s), s.len);
    c->in = SLICE_EMPTY;
    if (rv < 0)
        return h2__session_failed(c, rv);
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
        rv = nghttp2_submit_ping(c->session, NGHTTP2_FLAG_NONE, h2__drain_ping);
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

        /* The cast: nghttp2 copies the bytes and does not write to them, but its type has no const.
         * The flag: credentials stay out of the compression table (RFC 7541 section 7.1.3). */
        c->nv[i] = (nghttp2_nv){(uint8_t *)(uintptr_t)from->name.p,
                                (uint8_t *)(uintptr_t)from->value.p, from->name.n, from->value.n,
                                is_secret ? NGHTTP2_NV_FLAG_NO_INDEX : NGHTTP2_NV_FLAG_NONE};
    }
    return ERR_OK;
}

static void session_options(nghttp2_option *o)
{
    nghttp2_option_set_no_auto_window_update(o, 1);
    nghttp2_option_set_no_closed_streams(o, 1);
    /* message.c looks at the fields, input.c at the order of frames. */
    nghttp2_option_set_no_http_messaging(o, 1);
    nghttp2_option_set_max_send_header_block_length(o, SEND_HEADER_BLOCK);
    /* Resets are counted in guard.c; nghttp2's own limit would cut a busy client. */
    nghttp2_option_set_stream_reset_rate_limit(o, NO_RATE_LIMIT, NO_RATE_LIMIT);
    nghttp2_option_set_max_continuations(o, CONTINUATIONS);
}

static void session_callbacks(nghttp2_session_callbacks *cb)
{
    nghttp2_session_callbacks_set_on_begin_headers_callback(cb, h2__on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback2(cb, h2__on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, h2__on_frame_recv);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, h2__on_data_chunk);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, h2__on_stream_close);
    nghttp2_session_callbacks_set_send_data_callback(cb, h2__send_data);
    nghttp2_session_callbacks_set_on_frame_send_callback(cb, h2__on_frame_send);
    nghttp2_session_callbacks_set_on_frame_not_send_callback(cb, h2__on_frame_not_send);
}

static void *mem_malloc(size_t n, void *user)
{
    return objects_alloc(user, n);
}

static void mem_free(void *p, void *user)
{
    objects_free(user, p);
}

static void *mem_calloc(size_t count, size_t n, void *user)
{
    return objects_calloc(user, count, n);
}

static void *mem_realloc(void *p, size_t n, void *user)
{
    return objects_realloc(user, p, n);
}

static int session_create(struct h2_conn *c)
{
    nghttp2_mem mem = {&c->pool->objects, mem_malloc, mem_free, mem_calloc, mem_realloc};
    nghttp2_session_callbacks *cb = NULL;
    nghttp2_option *o = NULL;
    int rv = nghttp2_session_callbacks_new(&cb);

    if (rv == 0)
        rv = nghttp2_option_new(&o);
    if (rv == 0) {
        session_callbacks(cb);
        session_options(o);
        rv = c->opts.is_server ? nghttp2_session_server_new3(&c->session, cb, c, o, &mem)
                               : nghttp2_session_client_new3(&c->session, cb, c, o, &mem);
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
                                 c->opts.is_server ? LIMIT_HEADER_BYTES : H2__ANSWER_HEADER_BYTES};
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
    /* Other errors come of bad options, which would be a bug of ours. */
    CHECK(rv == 0 || rv == NGHTTP2_ERR_NOMEM);
    return rv == 0 ? ERR_OK : ERR_NOMEM;
}
