/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/progress.h"

#include "proxy/call.h"

#define LOOK_MS 1000u
#define LOOKS(ms) ((uint32_t)((ms) / LOOK_MS))

enum mark { REQUEST, ANSWER, READER };

/* --- how far each is ------------------------------------------------------------------------- */

/* For the reader: what its window has let go. */
static uint32_t reader_bytes(const struct call *c)
{
    if (!c->progress.is_held_by_conn)
        return c->progress.drained;
    return (uint32_t)h2_conn_sent(h2_stream_conn(c->down));
}

static void mark(struct progress_mark *m, uint32_t bytes, uint32_t now)
{
    m->bytes = bytes;
    m->since = now;
}

/* True when whoever is waited for has had the time and has not made so many bytes. */
static bool is_slow(struct progress_mark *m, uint32_t bytes, uint32_t enough, uint32_t looks,
                    uint32_t now)
{
    if (bytes - m->bytes >= enough) {
        mark(m, bytes, now);
        return false;
    }
    return now - m->since >= looks;
}

/* --- a look ---------------------------------------------------------------------------------- */

/* What it waits for meanwhile (a key, room in memory, its turn) may leave it waiting for its peer,
 * and of that nobody tells. */
static bool is_in_message(const struct lane *l)
{
    return lane_is_holding(l) || l->large_todo > 0 || l->relay_left > 0;
}

/* A lane waits for the rest of a message. *waits: so it does, or it may yet. */
static bool lane_is_slow(struct progress_mark *m, const struct lane *l, uint32_t now, bool *waits)
{
    if (!lane_awaits_peer(l)) {
        *waits |= is_in_message(l);
        mark(m, l->progress, now);
        return false;
    }
    *waits = true;
    return is_slow(m, l->progress, LIMIT_PROGRESS_BYTES, LOOKS(LIMIT_PROGRESS_MS), now);
}

static bool reader_is_slow(struct call *c, uint32_t now, bool *waits)
{
    struct progress_mark *m = &c->progress.marks[READER];
    bool is_short = worker_is_half_full(c->worker);
    uint64_t ms = c->worker->env->settings->stall_timeout_ms;
    enum h2_held held = c->down == NULL ? H2_HELD_NOT : h2_stream_held(c->down);
    bool by_conn = held == H2_HELD_BY_CONN;

    /* What waits for its turn, or for the socket, may have to wait for a window next. */
    *waits |= c->down != NULL && h2_stream_queued(c->down) > 0;
    if (held == H2_HELD_NOT || by_conn != c->progress.is_held_by_conn) {
        c->progress.is_held_by_conn = by_conn;
        mark(m, held == H2_HELD_NOT ? c->progress.drained : reader_bytes(c), now);
        return false;
    }
    if (is_short && ms > LIMIT_STALL_SHORT_MS)
        ms = LIMIT_STALL_SHORT_MS;
    return is_slow(m, reader_bytes(c), is_short ? LIMIT_PROGRESS_BYTES : 1, LOOKS(ms), now);
}

/* The call may end, but is not freed: that comes from the loop. */
static void look_at(struct progress *p, struct call *c)
{
    struct progress_mark *marks = c->progress.marks;
    bool waits = false;

    if (reader_is_slow(c, p->looks, &waits))
        call_stalled(c, ERR_READER_STALLED);
    else if (lane_is_slow(&marks[REQUEST], &c->request, p->looks, &waits))
        call_stalled(c, ERR_REQUEST_STALLED);
    else if (lane_is_slow(&marks[ANSWER], &c->answer, p->looks, &waits))
        call_answer_stalled(c);
    else if (!waits)
        list_remove(&c->progress.node);
}

static void look_later(struct progress *p)
{
    /* Without a timer the next call that is added tries again. */
    if (!p->is_looking)
        p->is_looking = loop_timer_start(p->loop, &p->timer, LOOK_MS) == ERR_OK;
}

static void on_look(struct loop_timer *t)
{
    struct progress *p = CONTAINER_OF(t, struct progress, timer);

    p->looks++;
    p->is_looking = false;
    LIST_FOREACH(it, &p->calls) {
        look_at(p, CONTAINER_OF(it, struct call, progress.node));
    }
    if (!list_is_empty(&p->calls))
        look_later(p);
}

/* --- exported -------------------------------------------------------------------------------- */

void progress_init(struct progress *p, struct loop *loop)
{
    *p = (struct progress){.loop = loop};
    list_init(&p->calls);
    loop_timer_init(&p->timer, on_look);
}

void progress_fini(struct progress *p)
{
    loop_timer_fini(&p->timer);
}

void progress__add(struct progress *p, struct call_progress *cp)
{
    struct call *c = CONTAINER_OF(cp, struct call, progress);

    mark(&cp->marks[REQUEST], c->request.progress, p->looks);
    mark(&cp->marks[ANSWER], c->answer.progress, p->looks);
    cp->is_held_by_conn = false;
    mark(&cp->marks[READER], cp->drained, p->looks);
    list_push(&p->calls, &cp->node);
    look_later(p);
}
