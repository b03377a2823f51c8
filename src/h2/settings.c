/* SPDX-License-Identifier: Apache-2.0 */
/* SETTINGS, both ways (RFC 9113 section 6.5).
 *
 * Ours go out once, as the first frame. What they allow counts for us from the start, since it is
 * more than the defaults (but see slack in window.c). The peer's are judged, applied and
 * acknowledged one frame at a time; the first ones make the connection good.
 *
 * Failure modes: a value or a length that the RFC forbids ends the connection with the code that it
 * names. An acknowledgement that nobody waits for is none, as for etcd's server in clear; the guard
 * counts it. */
#include "h2/h2_int.h"

#define ENTRY_LEN 6u
#define ENTRIES_MAX 32u /* CVE-2020-11080: many at once cost much */
#define FRAME_SIZE_MAX 0xffffffu

enum setting {
    HEADER_TABLE_SIZE = 1,
    ENABLE_PUSH,
    MAX_CONCURRENT_STREAMS,
    INITIAL_WINDOW_SIZE,
    MAX_FRAME_SIZE,
    MAX_HEADER_LIST_SIZE, /* advice only, which our lists are far below */
};

static uint8_t *put_entry(uint8_t *p, enum setting id, uint32_t value)
{
    p[0] = 0;
    p[1] = (uint8_t)id;
    h2__put_u32(p + 2, value);
    return p + ENTRY_LEN;
}

void h2__settings_put(struct h2_conn *c)
{
    uint8_t buf[4 * ENTRY_LEN], *p = buf, update[4];

    if (c->opts.is_server)
        p = put_entry(p, MAX_CONCURRENT_STREAMS, c->opts.max_streams);
    else
        p = put_entry(p, ENABLE_PUSH, 0);
    p = put_entry(p, INITIAL_WINDOW_SIZE, c->opts.stream_window);
    p = put_entry(p, MAX_FRAME_SIZE, c->opts.max_frame_size);
    p = put_entry(p, MAX_HEADER_LIST_SIZE, h2__header_bytes(c));
    if (!c->opts.is_server)
        h2__put_bytes(c, H2__PREFACE, H2__PREFACE_LEN);
    h2__put_frame(c, H2__SETTINGS, 0, 0, buf, (size_t)(p - buf));
    if (c->opts.conn_window <= H2__WINDOW_DEFAULT)
        return;
    h2__put_u32(update, c->opts.conn_window - H2__WINDOW_DEFAULT);
    h2__put_frame(c, H2__WINDOW_UPDATE, 0, 0, update, sizeof update);
}

/* *window: what the frame says last, for that touches every stream and is done once. */
static void apply(struct h2_conn *c, uint32_t id, uint32_t value, uint32_t *window)
{
    switch (id) {
    case HEADER_TABLE_SIZE:
        h2__hpack_out_set_table_size(&c->hpack_out, value);
        break;
    case ENABLE_PUSH: /* a server may only say no */
        if (value > (c->opts.is_server ? 1 : 0))
            h2__cut(c, H2_PROTOCOL_ERROR, "SETTINGS_ENABLE_PUSH");
        break;
    case MAX_CONCURRENT_STREAMS:
        c->peer_streams = value;
        break;
    case INITIAL_WINDOW_SIZE:
        if (value > H2__WINDOW_MAX)
            h2__cut(c, H2_FLOW_CONTROL_ERROR, "SETTINGS_INITIAL_WINDOW_SIZE");
        else
            *window = value;
        break;
    case MAX_FRAME_SIZE: /* ours are of the size that everybody has to take */
        if (value < H2__FRAME_MAX || value > FRAME_SIZE_MAX)
            h2__cut(c, H2_PROTOCOL_ERROR, "SETTINGS_MAX_FRAME_SIZE");
        break;
    default:
        break;
    }
}

bool h2__settings_head_ok(const struct h2__frame *f)
{
    return f->type == H2__SETTINGS && (f->flags & H2__FLAG_ACK) == 0 && f->id == 0 &&
           f->len % ENTRY_LEN == 0 && f->len <= ENTRIES_MAX * ENTRY_LEN;
}

void h2__got_settings(struct h2_conn *c, const struct h2__frame *f)
{
    bool is_ack = (f->flags & H2__FLAG_ACK) != 0;
    uint32_t streams = c->peer_streams, window = (uint32_t)c->peer_window;

    if (is_ack ? f->len != 0 : f->len % ENTRY_LEN != 0) {
        h2__cut(c, H2__FRAME_SIZE_ERROR, "length of SETTINGS");
        return;
    }
    if (is_ack) {
        c->is_acked = true;
        return;
    }
    if (f->len > ENTRIES_MAX * ENTRY_LEN) {
        h2__cut(c, H2_ENHANCE_YOUR_CALM, "too many SETTINGS");
        return;
    }
    for (const uint8_t *p = f->p; p != f->p + f->len && !h2__is_stopped(c); p += ENTRY_LEN)
        apply(c, (uint32_t)p[0] << 8 | p[1], h2__u32(p + 2), &window);
    if (!h2__is_stopped(c))
        h2__window_initial(c, window);
    if (!h2__is_stopped(c))
        h2__put_ack(c, H2__SETTINGS, NULL, 0);
    if (h2__is_stopped(c)) /* without memory for it, too */
        return;
    if (!c->is_ready) {
        c->is_ready = true;
        c->ops->on_ready(c);
    } else if (c->peer_streams > streams && c->ops->on_room != NULL) {
        c->ops->on_room(c);
    }
}
