/* SPDX-License-Identifier: Apache-2.0 */
/* GOAWAY, both ways (RFC 9113 section 6.8).
 *
 * A server drains in two steps: h2_conn_shutdown announces the end (GOAWAY with the highest id
 * there is) and sends a PING; when that is answered, or after 1 s, GOAWAY names the last stream
 * that counts, and what comes above it is refused. Streams go on; the owner closes.
 *
 * From a peer: requests above its last id, and those that have not left, were not processed and end
 * with REFUSED_STREAM. No new ones are made. */
#include "h2/h2_int.h"

#define DRAIN_MS 1000u

static const uint8_t drain_ping[8] = {'s', 'h', 'u', 't', 'd', 'o', 'w', 'n'};

static void put_goaway(struct h2_conn *c, uint32_t last_id, uint32_t code)
{
    uint8_t p[8];

    h2__put_u32(p, last_id);
    h2__put_u32(p + 4, code);
    h2__put_frame(c, H2__GOAWAY, 0, 0, p, sizeof p);
}

void h2__put_goaway(struct h2_conn *c, uint32_t code)
{
    /* It must not rise, and what came above it since was refused. */
    put_goaway(c, c->drain == H2__DRAIN_FINAL ? c->drain_id : c->peer_id, code);
}

static void drain_final(struct h2_conn *c)
{
    c->drain = H2__DRAIN_FINAL;
    c->drain_id = c->peer_id;
    loop_timer_stop(&c->drain_timer);
    put_goaway(c, c->drain_id, H2_NO_ERROR);
    h2__conn_want_flush(c);
}

void h2_conn_shutdown(struct h2_conn *c)
{
    CHECK(c->opts.is_server);
    if (c->state != H2__OPEN || c->drain != H2__DRAIN_NONE)
        return;
    c->drain = H2__DRAIN_NOTICE;
    put_goaway(c, H2__ID_MAX, H2_NO_ERROR);
    h2__put_frame(c, H2__PING, 0, 0, drain_ping, sizeof drain_ping);
    if (loop_timer_start(c->loop, &c->drain_timer, DRAIN_MS) != ERR_OK)
        h2__fail(c, ERR_NOMEM);
    h2__conn_want_flush(c);
}

void h2__on_drain_timer(struct loop_timer *t)
{
    struct h2_conn *c = CONTAINER_OF(t, struct h2_conn, drain_timer);

    if (c->state == H2__OPEN && c->drain == H2__DRAIN_NOTICE)
        drain_final(c);
}

void h2__got_ping(struct h2_conn *c, const struct h2__frame *f)
{
    if ((f->flags & H2__FLAG_ACK) == 0)
        h2__put_ack(c, H2__PING, f->p, f->len);
    else if (c->drain == H2__DRAIN_NOTICE && memcmp(f->p, drain_ping, sizeof drain_ping) == 0)
        drain_final(c);
}

/* Requests leave in the order in which sharers take turns, and with them comes the order of the
 * list: what has an id is in the order of ids, and what has none may be anywhere between. */
static void end_unprocessed(struct h2_conn *c, uint32_t last_id)
{
    struct h2_stream *s;

    while ((s = h2__queue_next_waiting(c)) != NULL)
        h2__stream_finish(s, H2_REFUSED_STREAM, H2_END_RESET);
    while (!list_is_empty(&c->streams)) {
        s = LIST_ENTRY(c->streams.prev, struct h2_stream, node);
        if (s->id <= last_id)
            return;
        h2__stream_finish(s, H2_REFUSED_STREAM, H2_END_RESET);
    }
}

void h2__got_goaway(struct h2_conn *c, const struct h2__frame *f)
{
    uint32_t last_id = h2__u32(f->p) & H2__ID_MAX;

    c->has_peer_goaway = true;
    c->ops->on_goaway(c, (enum h2_code)h2__u32(f->p + 4));
    if (!c->opts.is_server && c->state == H2__OPEN)
        end_unprocessed(c, last_id);
}
