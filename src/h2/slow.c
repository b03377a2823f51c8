/* SPDX-License-Identifier: Apache-2.0 */
/* Limits against slow peers.
 *
 * What a client says first is judged before there is a connection for it, byte by byte, so that its
 * owner can wait for the whole greeting (RFC 9113 section 3.4) at hardly any cost.
 *
 * Later a frame of any type but DATA, and a header block of several frames, has to become whole
 * within headers_ms of its first byte: until then it takes memory, and no other frame can pass it.
 * The timer runs only when one was cut by the end of what had come. (What becomes of DATA its
 * stream's owner sees.) */
#include "h2/h2_int.h"

#define PART_GRACE_MS 50u /* if our own loop was late, the rest may be in the socket already */

_Static_assert(H2_GREETING_MAX == H2__PREFACE_LEN + H2__HEAD_LEN + 32 * 6, "32 entries are taken");

enum h2_greeting h2_greeting_judge(struct bytes first)
{
    static const char magic[] = "PRI "; /* no request of HTTP/1 begins with it */
    struct h2__frame f;
    const uint8_t *head;

    if (memcmp(first.p, magic, first.n < 4 ? first.n : 4) != 0)
        return H2_GREETING_NONE;
    if (memcmp(first.p, H2__PREFACE, first.n < H2__PREFACE_LEN ? first.n : H2__PREFACE_LEN) != 0)
        return H2_GREETING_BAD;
    if (first.n < H2__PREFACE_LEN)
        return H2_GREETING_PREFACE;
    if (first.n < H2__PREFACE_LEN + H2__HEAD_LEN)
        return H2_GREETING_SETTINGS;
    head = first.p + H2__PREFACE_LEN;
    f = (struct h2__frame){.len = h2__u32(head) >> 8,
                           .type = head[3],
                           .flags = head[4],
                           .id = h2__u32(head + 5) & H2__ID_MAX};
    if (!h2__settings_head_ok(&f))
        return H2_GREETING_BAD;
    return first.n < H2__PREFACE_LEN + H2__HEAD_LEN + f.len ? H2_GREETING_SETTINGS
                                                            : H2_GREETING_WHOLE;
}

static void part_start(struct h2_conn *c, uint64_t ms)
{
    if (loop_timer_start(c->loop, &c->part_timer, ms) != ERR_OK)
        h2__fail(c, ERR_NOMEM);
}

void h2__part_watch(struct h2_conn *c)
{
    if (c->opts.headers_ms > 0 && !loop_timer_is_active(&c->part_timer))
        part_start(c, c->opts.headers_ms);
}

void h2__on_part_timer(struct loop_timer *t)
{
    struct h2_conn *c = CONTAINER_OF(t, struct h2_conn, part_timer);
    uint64_t now = loop_now_ms(c->loop);

    if (h2__is_stopped(c) || c->in.since_ms == 0) {
        c->is_part_late = false;
        return;
    }
    if (now - c->in.since_ms < c->opts.headers_ms) { /* a later one */
        c->is_part_late = false;
        part_start(c, c->opts.headers_ms - (now - c->in.since_ms));
    } else if (!c->is_part_late) {
        c->is_part_late = true;
        part_start(c, PART_GRACE_MS);
    } else {
        h2__cut_for(c, H2_ENHANCE_YOUR_CALM, ERR_SLOW_HEADERS, "a header block takes too long");
    }
}
