/* SPDX-License-Identifier: Apache-2.0 */
/* What a lane lets its peer send. Credit is a promise to hold what comes for it, so it is given as
 * far as there is room: a stream begins with a small window, gets a larger one when a message needs
 * it, and gets back what it has used. What was promised counts like what is held.
 *
 *   room     below three quarters of --memory-limit; of what is left there a client may have as
 *            much as it leaves to others, so that one who comes later finds some
 *   hungry   lanes that would get credit if there were room, in the order of their coming. The
 *            call of the first gets it all the same while it is small, or nobody would ever be
 *            done: one call at a time; the next one if it has not ended in FIRST_MS and half of the
 *            limit is free
 *   later    room appears: the others have their turn; one has waited for 5 s: somebody has to make
 *            room, and for 10 s: it is refused (worker_relief.c)
 *
 * Failure modes: a lane that is first and does not get on goes behind the others; one that still
 * gets nothing when all has been done for it fails its call with ERR_MEMORY_LIMIT. */
#include "grpc/grpc.h"
#include "proxy/lane_int.h"
#include "proxy/link.h"

#define ROOM_PART 4u  /* of the limit is no room: for small messages, and what is not foreseen */
#define NEXT_PART 2u  /* must be free for one more of the hungry to be the first */
#define FIRST_MS 500u /* for the first of the hungry; then the next one is first */

/* --- the hungry ------------------------------------------------------------------------------ */

static bool is_hungry(const struct lane *l)
{
    return !list_is_empty(&l->hungry);
}

static bool is_first(const struct lane *l)
{
    return l->call->worker->hungry.next == &l->hungry;
}

NEVER_INLINE void lane__leave_hungry(struct lane *l)
{
    struct worker *w = l->call->worker;

    if (is_first(l))
        w->first_ms = loop_now_ms(&w->loop);
    list_remove(&l->hungry);
}

static void starve(struct lane *l)
{
    struct worker *w = l->call->worker;

    if (is_hungry(l))
        return;
    if (list_is_empty(&w->hungry))
        w->first_ms = loop_now_ms(&w->loop);
    l->hungry_ms = loop_now_ms(&w->loop);
    list_push(&w->hungry, &l->hungry);
    worker_watch_memory(w);
}

void lane_feed_hungry(struct worker *w)
{
    size_t n = 0;

    /* Who stays hungry keeps its place. */
    LIST_FOREACH(it, &w->hungry) {
        n++;
    }
    if (n > 1 && loop_now_ms(&w->loop) - w->first_ms > FIRST_MS) {
        struct list *first = w->hungry.next;

        list_remove(first);
        list_push(&w->hungry, first);
        w->first_ms = loop_now_ms(&w->loop);
    }
    LIST_FOREACH(it, &w->hungry) {
        struct lane *l = LIST_ENTRY(it, struct lane, hungry);

        lane__credit(l);
        call_claim(l->call);
    }
}

static struct lane *hungriest(const struct worker *w)
{
    struct lane *found = NULL;

    LIST_FOREACH(it, &w->hungry) {
        struct lane *l = LIST_ENTRY(it, struct lane, hungry);

        if (found == NULL || l->hungry_ms < found->hungry_ms)
            found = l;
    }
    return found;
}

uint64_t lane_hunger_ms(const struct worker *w)
{
    const struct lane *l = hungriest(w);

    return l == NULL ? 0 : loop_now_ms(&w->loop) - l->hungry_ms;
}

void lane_refuse_hungry(struct worker *w, uint64_t ms)
{
    while (lane_hunger_ms(w) >= ms) {
        struct lane *l = hungriest(w);

        call_shed(l->call, ERR_MEMORY_LIMIT);
        lane__sated(l); /* also one that had nothing more to shed */
    }
}

/* --- room ------------------------------------------------------------------------------------ */

size_t lane_promised(const struct lane *l)
{
    size_t used = LIMIT_STREAM_FIRST + l->uncredited;

    if (l->state == LANE_DEAD || l->has_ended || l->window <= used)
        return 0;
    return l->window - used;
}

/* What the worker may hold more while all hold no more than all but a part of the limit. Its own
 * share of that is there for it, whatever the others hold. */
static uint64_t left(const struct worker *w, unsigned part)
{
    const struct budget *b = w->budget.of;
    uint64_t held = worker_held(w) + w->promised, own = b->fair - b->fair / part;
    uint64_t n = budget_left(&w->budget, held, b->limit - b->limit / part);

    return own > held && own - held > n ? own - held : n;
}

static bool has_room(const struct lane *l, size_t n)
{
    uint64_t most = left(l->call->worker, ROOM_PART);

    return n <= most && link_claims(l->call->link) + n <= most;
}

/* It is hungry, and there is no room. */
static bool may_go_on(const struct lane *l, size_t n)
{
    struct call *c = l->call;
    struct worker *w = c->worker;
    uint64_t now = loop_now_ms(&w->loop);
    bool is_next = now - w->beyond_ms > FIRST_MS && n <= left(w, NEXT_PART);

    if (is_first(l) && (w->beyond == NULL || is_next)) {
        w->beyond = c;
        w->beyond_ms = now;
    }
    return w->beyond == c && call_is_small(c);
}

/* What the message in front takes of the window in all; 0: as much as there is. */
static size_t message_len(const struct lane *l)
{
    struct grpc_prefix prefix;

    if (l->large_todo > 0)
        return l->large_todo;
    if (l->relay_left > 0)
        return l->relay_left;
    if (l->state != LANE_COLLECT || !grpc_prefix_peek(&l->in, &prefix))
        return 0;
    return (size_t)prefix.length + GRPC_PREFIX_LEN;
}

static uint32_t window_of(const struct lane *l)
{
    return l->window == 0 ? LIMIT_STREAM_FIRST : l->window;
}

/* The window that it should have. */
static uint32_t wanted(const struct lane *l)
{
    size_t n = message_len(l);

    if (n <= window_of(l))
        return window_of(l);
    return n < LIMIT_STREAM_WINDOW ? (uint32_t)n : LIMIT_STREAM_WINDOW;
}

/* --- credit ---------------------------------------------------------------------------------- */

static void give(struct lane *l, struct h2_stream *from, uint32_t window)
{
    if (window > window_of(l)) {
        h2_stream_widen(from, window);
        l->window = window;
    }
    h2_stream_credit(from, l->uncredited);
    l->uncredited = 0;
}

/* Is it the peers, and not memory, that it waits for? A parked lane, one that still has work of its
 * own, and messages that wait for etcd's redial or for their own client to read hold credit
 * back. */
static bool is_held_back(const struct lane *l)
{
    const struct call *c = l->call;
    const struct h2_stream *to = l->is_answer ? c->down : c->up;

    if (l->state == LANE_PARKED)
        return true;
    if (l->state != LANE_DEAD && l->state != LANE_ENDED && to != NULL &&
        h2_stream_queued(to) >= LIMIT_STREAM_OUT)
        return true;
    if (c->state == CALL_WAITING && l->in.len >= LIMIT_STREAM_OUT)
        return true;
    return !l->is_answer && l->in.len > 0 && lane__is_held(l);
}

void lane__credit(struct lane *l)
{
    struct call *c = l->call;
    struct h2_stream *from = l->is_answer ? c->up : c->down;
    uint32_t window, now;
    size_t n;

    if (l->uncredited == 0 || from == NULL || is_held_back(l)) {
        lane__sated(l);
        return;
    }
    /* It is within the window that every stream has: nothing to ask for. */
    if (l->has_ended ||
        (c->claims == 0 && l->window == 0 && l->state == LANE_COLLECT && l->in.len < CALL_SMALL)) {
        lane__sated(l);
        h2_stream_credit(from, l->uncredited);
        l->uncredited = 0;
        return;
    }
    window = wanted(l);
    now = window_of(l);
    n = l->uncredited + (window > now ? window - now : 0);
    if (has_room(l, n)) {
        lane__sated(l);
        give(l, from, window);
        return;
    }
    starve(l);
    if (may_go_on(l, n))
        give(l, from, window);
}
