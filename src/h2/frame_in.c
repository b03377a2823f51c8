/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes of the peer -> frames (RFC 9113 sections 3.4, 4 and 6).
 *
 *   PREFACE -> HEAD <-> PAYLOAD                       all types but DATA
 *                   <-> [PAD ->] DATA [-> PADDING]    DATA
 *
 * A frame that lies whole in what was read is handled where it lies; a payload that is cut is put
 * together in memory of its own. DATA is handed on as it comes, never collected. A header block in
 * several frames is put together, too, and handed on whole: the decompressor needs all of it, and
 * no other frame may come between (section 4.3).
 *
 * Failure modes, all of the connection:
 *  - a bad preface; a first frame that is not SETTINGS: PROTOCOL_ERROR
 *  - a frame above the size that we announced, or of a length that its type does not have:
 *    FRAME_SIZE_ERROR
 *  - on stream 0 what belongs to a stream, or the other way round; padding longer than the frame; a
 *    header block that is interrupted; PUSH_PROMISE: PROTOCOL_ERROR
 *  - a frame or a header block that does not become whole in time: slow.c
 *  - a header block of too many bytes or frames (CVE-2024-28182), or too many frames that do
 *    nothing (guard.c): ENHANCE_YOUR_CALM
 *  - memory: h2__fail */
#include <stdlib.h>

#include "base/secret.h"
#include "h2/h2_int.h"

/* Header blocks in frames of 16 KiB are far below; small ones are nobody's habit. */
#define BLOCK_FRAMES_MAX 100u
/* Twice what a field list may have: whoever is a little above gets his 431. */
#define BLOCK_MAX(c) (2u * h2__header_bytes(c))
#define PRIORITY_LEN 5u
/* Of what is read at once, 64 KiB or more, so many frames are handled in a turn: nobody's, unless
 * they are tiny. */
#define FRAMES_PER_TURN 512u

/* ------------------------------------------------------------------------ header blocks */

/* Header blocks have credentials in them. */
static void wipe_free(uint8_t *p, size_t n)
{
    if (p != NULL)
        secret_wipe(p, n);
    free(p);
}

/* What is being put together counts like everything else that a peer makes us hold. */
static void count(struct h2_conn *c)
{
    size_t part = c->in.part == NULL ? 0 : c->in.frame.len;

    slab_pool_keep(c->pool, &c->in.counted, part + c->in.block.cap);
}

static void block_reset(struct h2_conn *c)
{
    struct h2__joined *b = &c->in.block;

    wipe_free(b->p, b->len);
    *b = (struct h2__joined){0};
    count(c);
}

static void block_append(struct h2_conn *c, const uint8_t *p, size_t n)
{
    struct h2__joined *b = &c->in.block;

    if (++b->frames > BLOCK_FRAMES_MAX || n > BLOCK_MAX(c) - b->len) {
        h2__cut(c, H2_ENHANCE_YOUR_CALM, "header block too large");
        return;
    }
    if (b->len + n > b->cap) {
        size_t cap = 2 * (b->len + n);
        uint8_t *to = malloc(cap);

        if (to == NULL) {
            h2__fail(c, ERR_NOMEM);
            return;
        }
        if (b->len > 0)
            memcpy(to, b->p, b->len);
        wipe_free(b->p, b->len);
        b->p = to;
        b->cap = cap;
        count(c);
    }
    if (n > 0)
        memcpy(b->p + b->len, p, n);
    b->len += n;
}

/* What is in a HEADERS frame around the block: padding and priority. False: they don't fit. */
static bool strip(const struct h2__frame *f, struct bytes *block)
{
    size_t front = (f->flags & H2__FLAG_PADDED) != 0 ? 1 : 0, pad = 0;

    if (front > f->len)
        return false;
    if (front > 0)
        pad = f->p[0];
    if ((f->flags & H2__FLAG_PRIORITY) != 0)
        front += PRIORITY_LEN;
    if (front + pad > f->len)
        return false;
    *block = bytes_of(f->p + front, f->len - front - pad);
    return true;
}

static void got_headers_frame(struct h2_conn *c, const struct h2__frame *f)
{
    struct bytes block;

    if (!strip(f, &block)) {
        h2__cut(c, H2_PROTOCOL_ERROR, "padding longer than its frame");
        return;
    }
    if (!h2__headers_begin(c, f->id))
        return;
    if ((f->flags & H2__FLAG_END_HEADERS) != 0) {
        h2__got_headers(c, f->id, f->flags, block);
        return;
    }
    c->in.block.id = f->id;
    c->in.block.flags = f->flags;
    if (c->in.since_ms == 0) /* else its first byte came earlier */
        c->in.since_ms = c->read_at_ms;
    block_append(c, block.p, block.n);
}

static void got_continuation(struct h2_conn *c, const struct h2__frame *f)
{
    struct h2__joined *b = &c->in.block;
    uint32_t id = b->id;

    block_append(c, f->p, f->len);
    if ((f->flags & H2__FLAG_END_HEADERS) == 0 || h2__is_stopped(c))
        return;
    b->id = 0; /* the block is over, whatever its owner calls */
    c->in.since_ms = 0;
    h2__got_headers(c, id, b->flags, bytes_of(b->p, b->len));
    block_reset(c);
}

/* ------------------------------------------------------------------------ frames */

static void got_priority(struct h2_conn *c, const struct h2__frame *f)
{
    /* Given up by RFC 9113 section 5.3.2; self-dependency is no error to etcd's servers, either. */
    (void)c;
    (void)f;
}

static void got_push_promise(struct h2_conn *c, const struct h2__frame *f)
{
    (void)f;
    h2__cut(c, H2_PROTOCOL_ERROR, "PUSH_PROMISE"); /* we never allowed it (section 8.4) */
}

enum where { ON_CONNECTION = 1, ON_STREAM, ON_ANY };

/* By type. A length of 0, 0 is any up to the size that we announced. */
static const struct handler {
    void (*fn)(struct h2_conn *c, const struct h2__frame *f);
    enum where where;
    uint32_t len_min, len_max;
} handlers[] = {
    [H2__DATA] = {NULL, ON_STREAM, 0, 0},
    [H2__HEADERS] = {got_headers_frame, ON_STREAM, 0, 0},
    [H2__PRIORITY] = {got_priority, ON_STREAM, PRIORITY_LEN, PRIORITY_LEN},
    [H2__RST_STREAM] = {h2__got_rst_stream, ON_STREAM, 4, 4},
    [H2__SETTINGS] = {h2__got_settings, ON_CONNECTION, 0, 0},
    [H2__PUSH_PROMISE] = {got_push_promise, ON_STREAM, 0, 0},
    [H2__PING] = {h2__got_ping, ON_CONNECTION, 8, 8},
    [H2__GOAWAY] = {h2__got_goaway, ON_CONNECTION, 8, UINT32_MAX},
    [H2__WINDOW_UPDATE] = {h2__got_window_update, ON_ANY, 4, 4},
    [H2__CONTINUATION] = {got_continuation, ON_STREAM, 0, 0},
};

/* What else a server may be, by the first bytes that it says: the usual slips of a URL. */
static const char *other_protocol(const struct h2_conn *c, const struct h2__frame *f)
{
    if (c->is_ready || c->opts.is_server)
        return NULL;
    if (f->len >> 8 == 0x1503) /* an alert of TLS, which finds our preface odd */
        return "the server speaks TLS (http where it should be https?)";
    return f->len == 0x485454 ? "the server speaks HTTP/1" : NULL; /* "HTT" */
}

/* What is wrong with a frame, as its head alone tells; NULL: nothing. */
static const char *head_fault(const struct h2_conn *c, const struct h2__frame *f, uint32_t *code)
{
    const struct handler *h;

    *code = H2__FRAME_SIZE_ERROR;
    if (f->len > c->opts.max_frame_size && f->len > H2__FRAME_MAX)
        return other_protocol(c, f) != NULL ? other_protocol(c, f) : "frame too large";
    *code = H2_PROTOCOL_ERROR;
    if (!c->is_ready && (f->type != H2__SETTINGS || (f->flags & H2__FLAG_ACK) != 0))
        return "the first frame is not SETTINGS";
    if (c->in.block.id != 0 && (f->type != H2__CONTINUATION || f->id != c->in.block.id))
        return "header block interrupted";
    if (c->in.block.id == 0 && f->type == H2__CONTINUATION)
        return "CONTINUATION without a header block";
    if (f->type >= ARRAY_LEN(handlers))
        return NULL; /* of an extension: ignored (section 5.5) */
    h = &handlers[f->type];
    if ((h->where == ON_STREAM && f->id == 0) || (h->where == ON_CONNECTION && f->id != 0))
        return "frame on the wrong stream";
    *code = H2__FRAME_SIZE_ERROR;
    if (h->len_max != 0 && (f->len < h->len_min || f->len > h->len_max))
        return "length of a frame";
    return NULL;
}

static void frame_handle(struct h2_conn *c, const uint8_t *payload)
{
    struct h2__frame f = c->in.frame;

    c->in.state = H2__IN_HEAD;
    f.p = payload;
    if (f.type < ARRAY_LEN(handlers))
        handlers[f.type].fn(c, &f);
}

static void data_go_on(struct h2_conn *c)
{
    struct h2__frame_in *in = &c->in;

    in->state = in->left > 0 ? H2__IN_DATA : in->pad > 0 ? H2__IN_PADDING : H2__IN_HEAD;
    if (in->state == H2__IN_HEAD && !in->is_unwanted)
        h2__data_end(c, &in->frame);
}

static void data_begin(struct h2_conn *c)
{
    struct h2__frame_in *in = &c->in;

    in->is_unwanted = !h2__data_begin(c, &in->frame);
    in->pad = in->pad_len = 0;
    if (h2__is_stopped(c))
        return;
    if ((in->frame.flags & H2__FLAG_PADDED) == 0)
        data_go_on(c);
    else if (in->left == 0)
        h2__cut(c, H2_PROTOCOL_ERROR, "padding longer than its frame");
    else
        in->state = H2__IN_PAD;
}

static void frame_begin(struct h2_conn *c, const uint8_t *p)
{
    struct h2__frame *f = &c->in.frame;
    uint32_t code;
    const char *fault;

    f->len = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
    f->type = p[3];
    f->flags = p[4];
    f->id = h2__u32(p + 5) & H2__ID_MAX; /* the first bit is reserved */
    c->in.left = f->len;
    c->in.frames_left--;
    if (c->opts.is_guarded &&
        !h2__guard_frame(&c->guard, f->type, c->stream_count, loop_now_ms(c->loop))) {
        h2__cut(c, H2_ENHANCE_YOUR_CALM, "flooded by the peer");
        return;
    }
    fault = head_fault(c, f, &code);
    if (fault != NULL)
        h2__cut(c, code, fault);
    else if (f->type == H2__DATA)
        data_begin(c);
    else if (f->len == 0)
        frame_handle(c, p);
    else
        c->in.state = H2__IN_PAYLOAD;
}

/* ------------------------------------------------------------------------ steps */

/* Each takes some of the n bytes at p, at least one, and says how many. */

static size_t take_preface(struct h2_conn *c, const uint8_t *p, size_t n)
{
    struct h2__frame_in *in = &c->in;
    size_t part = H2__PREFACE_LEN - in->have;

    part = part < n ? part : n;
    if (memcmp(p, &H2__PREFACE[in->have], part) != 0)
        h2__cut(c, H2_PROTOCOL_ERROR, "not HTTP/2");
    in->have = (uint8_t)(in->have + part);
    if (in->have == H2__PREFACE_LEN) {
        in->have = 0;
        in->state = H2__IN_HEAD;
    }
    return part;
}

static size_t take_head(struct h2_conn *c, const uint8_t *p, size_t n)
{
    struct h2__frame_in *in = &c->in;
    size_t part;

    if (in->have == 0 && n >= H2__HEAD_LEN) {
        frame_begin(c, p);
        return H2__HEAD_LEN;
    }
    part = H2__HEAD_LEN - in->have;
    part = part < n ? part : n;
    memcpy(in->head + in->have, p, part);
    in->have = (uint8_t)(in->have + part);
    if (in->have == H2__HEAD_LEN) {
        in->have = 0;
        frame_begin(c, in->head);
    }
    return part;
}

static size_t take_payload(struct h2_conn *c, const uint8_t *p, size_t n)
{
    struct h2__frame_in *in = &c->in;
    uint8_t *whole;
    size_t part;

    if (in->left == in->frame.len && n >= in->left) {
        frame_handle(c, p);
        return in->frame.len;
    }
    part = in->left < n ? in->left : n;
    if (in->frame.type >= ARRAY_LEN(handlers)) { /* nobody wants it */
        in->left -= (uint32_t)part;
        in->state = in->left > 0 ? H2__IN_PAYLOAD : H2__IN_HEAD;
        return part;
    }
    if (in->since_ms == 0)
        in->since_ms = c->read_at_ms;
    if (in->part == NULL) {
        in->part = malloc(in->frame.len);
        if (in->part == NULL) {
            h2__fail(c, ERR_NOMEM);
            return n;
        }
        count(c);
    }
    memcpy(in->part + (in->frame.len - in->left), p, part);
    in->left -= (uint32_t)part;
    if (in->left == 0) {
        whole = in->part;
        in->part = NULL;
        count(c);
        frame_handle(c, whole);
        if (in->block.id == 0)
            in->since_ms = 0;
        wipe_free(whole, in->frame.len);
    }
    return part;
}

static size_t take_pad(struct h2_conn *c, const uint8_t *p)
{
    struct h2__frame_in *in = &c->in;

    in->left--;
    in->pad = *p;
    in->pad_len = in->pad + 1;
    h2__window_credit_conn(c, 1);
    if (in->pad > in->left) {
        h2__cut(c, H2_PROTOCOL_ERROR, "padding longer than its frame");
        return 1;
    }
    in->left -= in->pad;
    data_go_on(c);
    return 1;
}

static size_t take_data(struct h2_conn *c, struct slice s, uint32_t at)
{
    struct h2__frame_in *in = &c->in;
    uint32_t part = in->left < s.len - at ? in->left : s.len - at;

    in->left -= part;
    h2__window_credit_conn(c, part);
    if (!in->is_unwanted)
        h2__data_piece(c, in->frame.id, s, at, part);
    if (in->left == 0 && !h2__is_stopped(c))
        data_go_on(c);
    return part;
}

static size_t take_padding(struct h2_conn *c, size_t n)
{
    struct h2__frame_in *in = &c->in;
    uint32_t part = in->pad < n ? in->pad : (uint32_t)n;

    in->pad -= part;
    h2__window_credit_conn(c, part);
    if (in->pad == 0)
        data_go_on(c);
    return part;
}

uint32_t h2__frames_in(struct h2_conn *c, struct slice s)
{
    uint32_t at = 0;

    c->in.frames_left = FRAMES_PER_TURN;
    while (at < s.len && c->in.frames_left > 0 && !h2__is_stopped(c)) {
        const uint8_t *p = s.slab->data + s.off + at;
        size_t n = s.len - at;

        switch (c->in.state) {
        case H2__IN_PREFACE:
            n = take_preface(c, p, n);
            break;
        case H2__IN_HEAD:
            n = take_head(c, p, n);
            break;
        case H2__IN_PAYLOAD:
            n = take_payload(c, p, n);
            break;
        case H2__IN_PAD:
            n = take_pad(c, p);
            break;
        case H2__IN_DATA:
            n = take_data(c, s, at);
            break;
        case H2__IN_PADDING:
            n = take_padding(c, n);
            break;
        }
        at += (uint32_t)n;
    }
    return at;
}

void h2__frames_in_fini(struct h2_conn *c)
{
    wipe_free(c->in.part, c->in.frame.len - c->in.left); /* as much as has come */
    c->in.part = NULL;
    block_reset(c);
}
