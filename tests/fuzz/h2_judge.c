/* SPDX-License-Identifier: Apache-2.0 */
/* What an end sends must be legal whatever it gets: framed as RFC 9113 section 4 says, within the
 * peer's windows and sizes, in the order of a stream's states, with field blocks that decode. What
 * is not is a CHECK. All of it also goes to a session of nghttp2 in the peer's role, which must not
 * find fault with it either. */
#include <stdio.h>
#include <string.h>

#include "h2_diff.h"

static uint32_t u32_of(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

struct judge_stream *judge_stream(struct judge *j, uint32_t id)
{
    for (unsigned i = 0; i < j->count; i++)
        if (j->streams[i].id == id)
            return &j->streams[i];
    CHECK(j->count < JUDGE_STREAMS);
    j->streams[j->count].id = id;
    return &j->streams[j->count++];
}

/* ------------------------------------------------------------------------ nghttp2 as the peer */

static int on_invalid(nghttp2_session *session, const nghttp2_frame *frame, int error, void *user)
{
    (void)session;
    (void)user;
    (void)fprintf(stderr, "the peer refuses a frame of type %u on stream %d: %s\n", frame->hd.type,
                  frame->hd.stream_id, nghttp2_strerror(error));
    CHECK(false);
}

static void peer_new(struct judge *j)
{
    nghttp2_session_callbacks *cb;

    CHECK(nghttp2_session_callbacks_new(&cb) == 0);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(cb, on_invalid);
    CHECK((j->is_client ? nghttp2_session_server_new(&j->peer, cb, NULL)
                        : nghttp2_session_client_new(&j->peer, cb, NULL)) == 0);
    nghttp2_session_callbacks_del(cb);
    CHECK(nghttp2_submit_settings(j->peer, 0, NULL, 0) == 0);
}

/* What it would say is what the input says in its place. */
static void peer_drain(struct judge *j)
{
    const uint8_t *p;

    while (nghttp2_session_mem_send(j->peer, &p) > 0)
        ;
}

static void peer_give(struct judge *j, const uint8_t *p, size_t n)
{
    if (j->peer == NULL)
        return;
    CHECK(nghttp2_session_mem_recv(j->peer, p, n) == (ssize_t)n);
    peer_drain(j);
}

/* The input opens a stream: the peer has to know that it did. */
static void peer_open(struct judge *j, uint32_t id)
{
    static uint8_t text[][12] = {":method", "GET", ":scheme", "http", ":path", "/"};
    nghttp2_nv nv[3];

    if (j->peer == NULL || j->is_client || id % 2 == 0 || id > INT32_MAX ||
        id < nghttp2_session_get_next_stream_id(j->peer))
        return;
    for (size_t i = 0; i < 3; i++)
        nv[i] = (nghttp2_nv){text[i * 2], text[i * 2 + 1], strlen((char *)text[i * 2]),
                             strlen((char *)text[i * 2 + 1]), 0};
    CHECK(nghttp2_session_set_next_stream_id(j->peer, (int32_t)id) == 0);
    CHECK(nghttp2_submit_headers(j->peer, 0, -1, NULL, nv, 3, NULL) == (int32_t)id);
    peer_drain(j);
}

/* ------------------------------------------------------------------------ what it gets */

void judge_init(struct judge *j, bool is_client, bool has_peer)
{
    j->is_client = is_client;
    j->window = 65535;
    j->last_id = INT32_MAX;
    j->acked = (struct judge_settings){65535, 16384, 4096};
    CHECK(nghttp2_hd_inflate_new(&j->hd) == 0);
    if (has_peer)
        peer_new(j);
}

void judge_fini(struct judge *j)
{
    for (unsigned i = 0; i < j->count; i++) {
        grow_free(&j->streams[i].fields);
        grow_free(&j->streams[i].data);
    }
    grow_free(&j->wire);
    nghttp2_hd_inflate_del(j->hd);
    nghttp2_session_del(j->peer);
}

static void settings_in(struct judge *j, struct bytes p)
{
    struct judge_settings *s = &j->pending[(j->pending_first + j->pending_count) % JUDGE_SETTINGS];

    CHECK(j->pending_count < JUDGE_SETTINGS);
    *s = (struct judge_settings){-1, -1, -1};
    for (size_t i = 0; i + 6 <= p.n; i += 6) {
        uint32_t value = u32_of(p.p + i + 2);

        if (p.p[i] == 0 && p.p[i + 1] == NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE)
            s->window = value;
        if (p.p[i] == 0 && p.p[i + 1] == NGHTTP2_SETTINGS_MAX_FRAME_SIZE)
            s->frame_size = value;
        if (p.p[i] == 0 && p.p[i + 1] == NGHTTP2_SETTINGS_HEADER_TABLE_SIZE)
            s->table_size = value;
    }
    j->pending_count++;
}

void judge_input(struct judge *j, const struct h2_frame *f)
{
    switch (f->type) {
    case T_HEADERS:
        judge_stream(j, f->id)->is_open = true;
        peer_open(j, f->id);
        break;
    case T_SETTINGS:
        if ((f->flags & NGHTTP2_FLAG_ACK) == 0)
            settings_in(j, f->payload);
        break;
    case T_RST:
        judge_stream(j, f->id)->is_left = true;
        break;
    case T_WINDOW:
        if (f->payload.n == 4 && f->id == 0)
            j->window += u32_of(f->payload.p) & 0x7fffffff;
        else if (f->payload.n == 4)
            judge_stream(j, f->id)->window += u32_of(f->payload.p) & 0x7fffffff;
        break;
    default:
        break;
    }
}

/* ------------------------------------------------------------------------ what it sends */

static int64_t later(int64_t now, int64_t pending)
{
    return pending > now ? pending : now;
}

/* The most that a setting allows: it holds from when it came, or until it was acknowledged. */
static struct judge_settings limits(const struct judge *j)
{
    struct judge_settings max = j->acked;

    for (unsigned i = 0; i < j->pending_count; i++) {
        const struct judge_settings *s = &j->pending[(j->pending_first + i) % JUDGE_SETTINGS];

        max.window = later(max.window, s->window);
        max.frame_size = later(max.frame_size, s->frame_size);
    }
    return max;
}

static void settings_acked(struct judge *j)
{
    const struct judge_settings *s = &j->pending[j->pending_first];

    CHECK(j->pending_count > 0);
    if (s->window >= 0)
        j->acked.window = s->window;
    if (s->frame_size >= 0)
        j->acked.frame_size = s->frame_size;
    if (s->table_size >= 0)
        CHECK(nghttp2_hd_inflate_change_table_size(j->hd, (size_t)s->table_size) == 0);
    j->pending_first = (j->pending_first + 1) % JUDGE_SETTINGS;
    j->pending_count--;
}

static void block_out(struct judge *j, struct judge_stream *s, struct bytes p, bool is_last)
{
    while (p.n > 0 || is_last) {
        nghttp2_nv nv;
        int flags = 0;
        ssize_t n = nghttp2_hd_inflate_hd2(j->hd, &nv, &flags, p.p, p.n, is_last);
        struct h2_field field;

        CHECK(n >= 0);
        p = bytes_of(p.p + n, p.n - (size_t)n);
        if ((flags & NGHTTP2_HD_INFLATE_EMIT) != 0) {
            field =
                (struct h2_field){bytes_of(nv.name, nv.namelen), bytes_of(nv.value, nv.valuelen)};
            grow_fields(&s->fields, (struct h2_fields){&field, 1});
            /* Credentials stay out of the table (RFC 7541 section 7.1.3). */
            if (bytes_eq(field.name, BYTES_LIT("authorization")) ||
                bytes_eq(field.name, BYTES_LIT("token")))
                CHECK((nv.flags & NGHTTP2_NV_FLAG_NO_INDEX) != 0);
        }
        if ((flags & NGHTTP2_HD_INFLATE_FINAL) != 0) {
            CHECK(nghttp2_hd_inflate_end_headers(j->hd) == 0);
            return;
        }
        if ((flags & NGHTTP2_HD_INFLATE_EMIT) == 0 && p.n == 0)
            return;
    }
}

static void headers_out(struct judge *j, const struct h2_frame *f)
{
    struct judge_stream *s = judge_stream(j, f->id);

    CHECK(f->id % 2 == 1 && !s->is_ended && !s->is_reset && (s->is_open || j->is_client));
    CHECK((f->flags & (NGHTTP2_FLAG_PADDED | NGHTTP2_FLAG_PRIORITY)) == 0);
    s->is_open = true;
    s->is_ended = (f->flags & NGHTTP2_FLAG_END_STREAM) != 0;
    j->block_id = f->id;
}

static void data_out(struct judge *j, const struct h2_frame *f)
{
    struct judge_stream *s = judge_stream(j, f->id);
    int64_t n = (int64_t)f->payload.n;

    CHECK(s->fields.n > 0 && !s->is_ended && !s->is_reset);
    CHECK((f->flags & NGHTTP2_FLAG_PADDED) == 0);
    s->window -= n;
    j->window -= n;
    CHECK(n == 0 || (j->window >= 0 && s->window + limits(j).window >= 0));
    if (j->window == 0)
        j->is_starved = true;
    grow_add(&s->data, f->payload.p, f->payload.n);
    s->is_ended = (f->flags & NGHTTP2_FLAG_END_STREAM) != 0;
}

static void control_out(struct judge *j, const struct h2_frame *f)
{
    struct judge_stream *s;

    switch (f->type) {
    case T_RST:
        CHECK(f->id != 0 && f->payload.n == 4);
        s = judge_stream(j, f->id);
        s->is_reset = true;
        s->code = u32_of(f->payload.p);
        break;
    case T_SETTINGS:
        CHECK(f->id == 0 && f->payload.n % 6 == 0);
        if ((f->flags & NGHTTP2_FLAG_ACK) != 0)
            settings_acked(j);
        break;
    case T_PING:
        CHECK(f->id == 0 && f->payload.n == 8);
        if ((f->flags & NGHTTP2_FLAG_ACK) == 0) {
            j->is_pinged = true;
            memcpy(j->ping, f->payload.p, 8);
        }
        break;
    case T_GOAWAY:
        CHECK(f->id == 0 && f->payload.n >= 8);
        /* It must not rise (RFC 9113 section 6.8); nghttp2's does, when an error follows a stop. */
        CHECK(j->peer == NULL || u32_of(f->payload.p) <= j->last_id);
        j->last_id = u32_of(f->payload.p);
        j->goaway_code = u32_of(f->payload.p + 4);
        j->is_goaway = j->is_goaway || j->goaway_code != 0;
        break;
    case T_WINDOW:
        CHECK(f->payload.n == 4 && u32_of(f->payload.p) != 0);
        break;
    default:
        CHECK(false); /* PRIORITY, PUSH_PROMISE and what nobody knows are never sent */
    }
}

static void frame_out(struct judge *j, const struct h2_frame *f)
{
    CHECK(j->is_begun || f->type == T_SETTINGS);
    CHECK((int64_t)f->payload.n <= limits(j).frame_size);
    CHECK((j->block_id != 0) == (f->type == T_CONT) && (j->block_id == 0 || f->id == j->block_id));
    j->is_begun = true;
    if (f->type == T_DATA)
        data_out(j, f);
    else if (f->type == T_HEADERS)
        headers_out(j, f);
    else if (f->type != T_CONT)
        control_out(j, f);
    if (j->block_id != 0) {
        bool is_last = (f->flags & NGHTTP2_FLAG_END_HEADERS) != 0;

        block_out(j, judge_stream(j, f->id), f->payload, is_last);
        if (is_last)
            j->block_id = 0;
    }
}

/* The peer session did not send the SETTINGS that the input did, and keeps to no limit of streams
 * and to no GOAWAY, as the input need not. */
static void peer_forward(struct judge *j, const struct h2_frame *f, struct bytes b)
{
    static const uint8_t settings[FRAME_HEAD] = {0, 0, 0, T_SETTINGS};

    if (f->type != T_SETTINGS && f->type != T_GOAWAY)
        peer_give(j, b.p, b.n);
    else if (f->type == T_SETTINGS && (f->flags & NGHTTP2_FLAG_ACK) == 0)
        peer_give(j, settings, sizeof settings);
}

void judge_output(struct judge *j)
{
    if (j->is_client && j->at == 0 && j->wire.n >= 24) {
        CHECK(memcmp(j->wire.p, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24) == 0);
        peer_give(j, j->wire.p, 24);
        j->at = 24;
    }
    while (j->wire.n - j->at >= FRAME_HEAD) {
        const uint8_t *p = j->wire.p + j->at;
        size_t n = (size_t)p[0] << 16 | (size_t)p[1] << 8 | p[2];
        struct h2_frame f = {p[3], p[4], u32_of(p + 5), bytes_of(p + FRAME_HEAD, n)};

        if (j->wire.n - j->at < FRAME_HEAD + n)
            break;
        frame_out(j, &f);
        j->at += FRAME_HEAD + n;
        peer_forward(j, &f, bytes_of(p, FRAME_HEAD + n));
    }
    CHECK(j->at == j->wire.n || j->is_client);
}
