/* SPDX-License-Identifier: Apache-2.0 */
/* Flow control (RFC 9113 sections 5.2 and 6.9): four windows.
 *
 *   send_left of the connection and of a stream: what the peer lets us send. Ours shrink as DATA is
 *     framed; WINDOW_UPDATE and the peer's SETTINGS_INITIAL_WINDOW_SIZE change them, the latter
 *     those of all streams at once, possibly to less than nothing.
 *   recv_left of the same two: what we let the peer send. Charged by the head of a DATA frame, for
 *     the whole frame. recv_back is what has been dealt with since; at half a window it is given
 *     back by one WINDOW_UPDATE, so that there are few of them.
 *
 * A stream's window can be widened: as many streams as there are may begin with a small one, and a
 * large one is for those that need it, while there is room.
 *
 * The connection's credit is given back as bytes come, whatever becomes of them, so that no stream
 * holds up the others; a stream's by its owner.
 *
 * Failure modes:
 *  - the peer sends more than it may, or raises a window above 2^31-1: FLOW_CONTROL_ERROR, of the
 *    stream or of the connection, as the window is
 *  - an increment of zero: PROTOCOL_ERROR, likewise */
#include "h2/h2_int.h"

static void put_update(struct h2_conn *c, uint32_t id, uint32_t n)
{
    uint8_t p[4];

    h2__put_u32(p, n);
    h2__put_frame(c, H2__WINDOW_UPDATE, 0, id, p, sizeof p);
}

/* Until the peer has seen our SETTINGS it goes by the default window. Those of its bytes that come
 * behind its acknowledgement are within ours. */
static int32_t slack(const struct h2_conn *c)
{
    int32_t window = (int32_t)c->opts.stream_window;

    return c->is_acked || window >= H2__WINDOW_DEFAULT ? 0 : H2__WINDOW_DEFAULT - window;
}

bool h2__window_charge_conn(struct h2_conn *c, uint32_t len)
{
    if (len > (uint32_t)c->recv_left) {
        h2__cut(c, H2_FLOW_CONTROL_ERROR, "more DATA than the connection's window");
        return false;
    }
    c->recv_left -= (int32_t)len;
    return true;
}

bool h2__window_charge(struct h2_stream *s, uint32_t len)
{
    if (len > 0 && (int64_t)len > (int64_t)s->recv_left + slack(s->c))
        return false;
    s->recv_left -= (int32_t)len;
    return true;
}

void h2__window_credit_conn(struct h2_conn *c, uint32_t n)
{
    c->recv_back += n;
    if (c->recv_back < c->opts.conn_window / 2)
        return;
    put_update(c, 0, c->recv_back);
    c->recv_left += (int32_t)c->recv_back;
    c->recv_back = 0;
}

void h2__window_credit(struct h2_stream *s, size_t n)
{
    uint32_t window = s->window;
    /* What has come and was not given back yet; the owner cannot give more. */
    int64_t held = (int64_t)window - s->recv_left - s->recv_back;

    if (h2__is_remote_over(s) || held <= 0)
        return;
    s->recv_back += n < (size_t)held ? (uint32_t)n : (uint32_t)held;
    if (s->recv_back < window / 2 || s->recv_back == 0)
        return;
    put_update(s->c, s->id, s->recv_back);
    s->recv_left += (int32_t)s->recv_back;
    s->recv_back = 0;
}

void h2__window_widen(struct h2_stream *s, uint32_t window)
{
    uint32_t more = window - s->window;

    if (h2__is_remote_over(s) || s->state == H2__IDLE || window <= s->window)
        return;
    put_update(s->c, s->id, more);
    s->window = window;
    s->recv_left += (int32_t)more;
}

static void update_conn(struct h2_conn *c, uint32_t n)
{
    if (n == 0) {
        h2__cut(c, H2_PROTOCOL_ERROR, "WINDOW_UPDATE of zero");
        return;
    }
    if ((int64_t)c->send_left + n > H2__WINDOW_MAX) {
        h2__cut(c, H2_FLOW_CONTROL_ERROR, "window above 2^31-1");
        return;
    }
    c->send_left += (int32_t)n;
}

static void update_stream(struct h2_stream *s, uint32_t n)
{
    if (n == 0) {
        h2__stream_error(s, H2_PROTOCOL_ERROR);
        return;
    }
    if ((int64_t)s->send_left + n > H2__WINDOW_MAX) {
        h2__stream_error(s, H2_FLOW_CONTROL_ERROR);
        return;
    }
    s->send_left += (int32_t)n;
    h2__send_want(s);
}

void h2__got_window_update(struct h2_conn *c, const struct h2__frame *f)
{
    uint32_t n = h2__u32(f->p) & H2__WINDOW_MAX; /* the first bit is reserved */
    struct h2_stream *s;
    enum h2__place place;

    if (f->id == 0) {
        update_conn(c, n);
        return;
    }
    place = h2__place_of(c, f->id, &s);
    if (h2__reaction_to(c, place, f->type) == H2__REFUSE)
        h2__cut(c, H2_PROTOCOL_ERROR, "WINDOW_UPDATE on an idle stream");
    else if (s != NULL)
        update_stream(s, n);
}

void h2__window_initial(struct h2_conn *c, uint32_t size)
{
    int64_t change = (int64_t)size - c->peer_window;

    if (change == 0)
        return;
    c->peer_window = (int32_t)size;
    LIST_FOREACH(it, &c->streams) {
        struct h2_stream *s = LIST_ENTRY(it, struct h2_stream, node);

        if (s->state == H2__IDLE)
            continue; /* gets the new size when it is opened */
        if (s->send_left + change > H2__WINDOW_MAX) {
            h2__cut(c, H2_FLOW_CONTROL_ERROR, "window above 2^31-1");
            return;
        }
        s->send_left = (int32_t)(s->send_left + change);
        h2__send_want(s);
    }
}
