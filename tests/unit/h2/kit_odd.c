/* SPDX-License-Identifier: Apache-2.0 */
/* What an end of kit.h does that its interface has no words for: legal, but nobody's habit. */
#include "h2/h2_int.h"
#include "kit.h"

void end_goaway(struct end *e, uint32_t last_id)
{
    uint8_t p[8] = {0};

    h2__put_u32(p, last_id);
    h2__put_frame(e->c, H2__GOAWAY, 0, 0, p, sizeof p);
    h2__conn_want_flush(e->c);
}

uint32_t end_peer_id(const struct end *e)
{
    return e->c->peer_id;
}

uint32_t rec_id(const struct rec *r)
{
    return r->s->id;
}

void end_settings(struct end *e, uint32_t max_streams, uint32_t stream_window)
{
    uint8_t p[12] = {0, 3, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0};
    int32_t more = (int32_t)stream_window - (int32_t)e->c->opts.stream_window;

    e->c->opts.stream_window = stream_window;
    LIST_FOREACH(it, &e->c->streams) {
        struct h2_stream *s = LIST_ENTRY(it, struct h2_stream, node);

        s->window = stream_window;
        s->recv_left += more;
    }
    h2__put_u32(p + 2, max_streams);
    h2__put_u32(p + 8, stream_window);
    h2__put_frame(e->c, H2__SETTINGS, 0, 0, p, sizeof p);
    h2__conn_want_flush(e->c);
}

void end_hold_window(struct end *e, bool is_held)
{
    e->c->opts.conn_window = is_held ? 1u << 30 : 65535;
    if (e->c->state != H2__OPEN)
        return;
    h2__window_credit_conn(e->c, 0);
    h2__conn_want_flush(e->c);
}
