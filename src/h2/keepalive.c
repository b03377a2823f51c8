/* SPDX-License-Identifier: Apache-2.0 */
/* PING while streams are open, or always (is_pinged_idle): nothing came for ping_ms, so the peer is
 * asked; nothing comes for ping_ack_ms more, so it is lost. */
#include "h2/h2_int.h"

#define PING_GRACE_MS 50u /* if our own loop was late, the answer may be in the socket already */

static void ping_start(struct h2_conn *c, uint64_t ms)
{
    if (loop_timer_start(c->loop, &c->ping_timer, ms) != ERR_OK)
        h2__fail(c, ERR_NOMEM);
}

void h2__ping_arm(struct h2_conn *c)
{
    if (c->opts.ping_ms > 0 && !loop_timer_is_active(&c->ping_timer))
        ping_start(c, c->opts.ping_ms);
}

/* A PING is out and nothing has come since. */
static void ping_unanswered(struct h2_conn *c, uint64_t now)
{
    uint64_t waited = now - c->ping_at_ms;

    if (waited < c->opts.ping_ack_ms) {
        ping_start(c, c->opts.ping_ack_ms - waited);
        return;
    }
    if (!c->is_ping_grace) {
        c->is_ping_grace = true;
        ping_start(c, PING_GRACE_MS);
        return;
    }
    h2__conn_give_up(c, ERR_PING_UNANSWERED, "no answer to PING");
}

void h2__on_ping_timer(struct loop_timer *t)
{
    static const uint8_t payload[8];
    struct h2_conn *c = CONTAINER_OF(t, struct h2_conn, ping_timer);
    uint64_t now = loop_now_ms(c->loop);
    uint64_t silent = now - c->read_at_ms;

    if (c->state != H2__OPEN)
        return;
    if (c->ping_at_ms != 0 && c->read_at_ms < c->ping_at_ms) {
        ping_unanswered(c, now);
        return;
    }
    c->ping_at_ms = 0;
    /* Towards etcd only while streams are open: it counts other PINGs as abuse. */
    if (c->stream_count == 0 && !c->opts.is_pinged_idle)
        return;
    if (silent < c->opts.ping_ms) {
        ping_start(c, c->opts.ping_ms - silent);
        return;
    }
    h2__put_frame(c, H2__PING, 0, 0, payload, sizeof payload);
    c->ping_at_ms = now;
    c->is_ping_grace = false;
    ping_start(c, c->opts.ping_ack_ms);
    h2__conn_want_flush(c);
}
