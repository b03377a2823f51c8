/* SPDX-License-Identifier: Apache-2.0 */
/* What a lane lets its peer send. Credit is a promise to hold what comes for it, so it is given as
 * far as there is room: a stream begins with a small window, gets a larger one when a message needs
 * it, and gets back what it has used. What was promised counts like what is held.
 *
 *   room     below three quarters of --memory-limit; of what is left there a connection may have
 *            as much as it leaves to others, so that one who comes later finds some; and nobody
 *            gets any while a holder (holder.h) that has less is hungry
 *   reserve  nearly all of it, for holders that have little: what they have and the rest
 *            of the message together. So who gets on with his calls finds room beside those who do
 *            not, however many connections they have. The most of it is also for connections that
 *            have little; all of it where there is but one holder
 *   hungry   lanes that would get credit if there were room. Whenever there may be, they are fed:
 *            first those of the holder that has the least, of its connections of that which has
 *            the least, then of the next one. Somebody gets it all the same while his call is
 *            small, or nobody would ever be done: one call at a time, in that order; the next one
 *            if it has not ended in FIRST_MS and half of the limit is free
 *   later    one has waited for 5 s, or for half a second while its holder has little and another
 *            has much: somebody has to make room, and for 10 s: it is refused (worker_relief.c)
 *
 * Failure modes: a lane that still gets nothing when all has been done for it fails its call with
 * ERR_MEMORY_LIMIT. */
#include "grpc/grpc.h"
#include "proxy/lane_int.h"
#include "proxy/link.h"

/* How far each may go, in 32nds of the limit. The rest is for small messages, which ask nobody. */
#define PARTS 32u
#define ROOM_PARTS 24u    /* all */
#define BEYOND_PARTS 26u  /* the call that goes beyond that; */
#define NEXT_PARTS 16u    /* one more to do so */
#define LINK_PARTS 28u    /* connections that have little, beside other holders; */
#define RESERVE_PARTS 31u /* holders that have little */
#define FIRST_MS 500u     /* for the one that does; then the next one may */
/* A connection that has so much, or a part of the limit, has little; a holder with twice that. */
#define LITTLE (2u * 1024 * 1024)
/* Who gets nothing while so many get nothing, neither would the others, nearly always: they have
 * more. To look for them among very many takes time. */
#define MISSES_MAX 8u

/* --- the hungry ------------------------------------------------------------------------------ */

static bool is_hungry(const struct lane *l)
{
    return !list_is_empty(&l->hungry);
}

NEVER_INLINE void lane__leave_hungry(struct lane *l)
{
    list_remove(&l->hungry);
    link_holder(l->call->link)->hungry--;
}

static void starve(struct lane *l)
{
    struct worker *w = l->call->worker;

    if (is_hungry(l))
        return;
    l->hungry_ms = loop_now_ms(&w->loop);
    l->fed = w->feedings;
    list_push(&w->hungry, &l->hungry);
    link_holder(l->call->link)->hungry++;
    loop_task_want(&w->loop, &w->feed);
    worker_watch_memory(w);
}

static bool has_less(const struct lane *a, const struct lane *b)
{
    const struct link *la = a->call->link, *lb = b->call->link;
    uint64_t ha = link_holder(la)->claims, hb = link_holder(lb)->claims;

    return ha < hb || (ha == hb && link_claims(la) < link_claims(lb));
}

/* Of the client that has the least, the one that has been hungry for longest; who was fed in this
 * feeding aside. NULL: there is none. */
static struct lane *neediest(const struct worker *w)
{
    struct lane *found = NULL;

    LIST_FOREACH(it, &w->hungry) {
        struct lane *l = LIST_ENTRY(it, struct lane, hungry);

        if (l->fed != w->feedings && (found == NULL || has_less(l, found)))
            found = l;
    }
    return found;
}

/* True: it is not hungry any more. */
static bool feed(struct lane *l)
{
    l->fed = l->call->worker->feedings;
    lane__credit(l);
    call_claim(l->call);
    return !is_hungry(l);
}

void lane_feed_hungry(struct worker *w)
{
    unsigned misses = 0;
    struct lane *l;

    if (list_is_empty(&w->hungry))
        return;
    w->feedings++;
    w->may_go_beyond = true;
    LIST_FOREACH(it, &w->hungry) {
        l = LIST_ENTRY(it, struct lane, hungry);
        if (l->call == w->beyond)
            (void)feed(l);
    }
    while (misses < MISSES_MAX && (l = neediest(w)) != NULL)
        misses += !feed(l);
    w->may_go_beyond = false;
}

/* --- room ------------------------------------------------------------------------------------ */

size_t lane_promised(const struct lane *l)
{
    size_t used = LIMIT_STREAM_FIRST + l->uncredited;

    if (l->state == LANE_DEAD || l->has_ended || l->window <= used)
        return 0;
    return l->window - used;
}

/* What the worker may hold more while all hold no more than so many parts of the limit. Its own
 * share of that is there for it, whatever the others hold. */
static uint64_t left(const struct worker *w, unsigned parts)
{
    const struct budget *b = w->budget.of;
    uint64_t held = worker_held(w) + w->promised, own = b->fair / PARTS * parts;
    uint64_t n = budget_left(&w->budget, held, b->limit / PARTS * parts);

    return own > held && own - held > n ? own - held : n;
}

/* A client that has less comes first. */
static bool is_behind(const struct lane *l)
{
    return !list_is_empty(&l->call->worker->hungry) && holder_is_behind(link_holder(l->call->link));
}

static bool has_room(const struct lane *l, size_t n)
{
    uint64_t most = left(l->call->worker, ROOM_PARTS);

    return n <= most && link_claims(l->call->link) + n <= most && !is_behind(l);
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

/* What comes for it yet: all of a message that is collected, for without its end the rest is of no
 * use; else what there is credit for. */
static size_t rest_of(const struct lane *l, size_t n)
{
    size_t len = message_len(l), has = l->in.len;

    return l->state == LANE_COLLECT && len > has && len - has > n ? len - has : n;
}

static uint64_t little(const struct worker *w)
{
    uint64_t part = w->budget.of->limit / PARTS;

    return part > LITTLE ? part : LITTLE;
}

/* All its connections claim little, with all that comes for it. */
static bool holder_has_little(const struct lane *l, uint64_t rest)
{
    return link_holder(l->call->link)->claims + rest <= 2 * little(l->call->worker);
}

/* Its client claims little, with all that comes for it, and there is that much of the reserve. */
static bool has_little(const struct lane *l, size_t n)
{
    const struct link *link = l->call->link;
    const struct worker *w = l->call->worker;
    uint64_t rest = rest_of(l, n);
    bool is_alone = holder_is_alone(link_holder(link));

    if (holder_has_little(l, rest) && rest <= left(w, RESERVE_PARTS))
        return true;
    return link_claims(link) + rest <= little(w) &&
           rest <= left(w, is_alone ? RESERVE_PARTS : LINK_PARTS) && !is_behind(l);
}

/* While the others hold little, one may have more than there is. */
static bool fits_beyond(const struct call *c, size_t n)
{
    const struct worker *w = c->worker;

    return n <= left(w, BEYOND_PARTS) ||
           worker_held(w) - call_held(c) < w->budget.of->limit / PARTS * NEXT_PARTS;
}

/* It is hungry, and there is no room. */
static bool may_go_on(const struct lane *l, size_t n)
{
    struct call *c = l->call;
    struct worker *w = c->worker;
    uint64_t now = loop_now_ms(&w->loop);

    if (has_little(l, n))
        return true;
    if (w->beyond == c)
        return call_is_small(c) && fits_beyond(c, n);
    if (!w->may_go_beyond || !call_is_small(c))
        return false;
    w->may_go_beyond = false;
    if (!fits_beyond(c, n))
        return false;
    if (w->beyond != NULL && (now - w->beyond_ms <= FIRST_MS || n > left(w, NEXT_PARTS)))
        return false;
    w->beyond = c;
    w->beyond_ms = now;
    return true;
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
    if (!may_go_on(l, n))
        return;
    give(l, from, window);
    l->hungry_ms = loop_now_ms(&c->worker->loop); /* it gets on, so it has not waited */
}

/* --- those that are hungry for long ---------------------------------------------------------- */

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

uint64_t lane_hunger_beside_ms(const struct worker *w, const struct holder *other)
{
    uint64_t now = loop_now_ms(&w->loop), since = now;

    LIST_FOREACH(it, &w->hungry) {
        const struct lane *l = LIST_ENTRY(it, struct lane, hungry);

        if (link_holder(l->call->link) != other && l->hungry_ms < since &&
            holder_has_little(l, rest_of(l, l->uncredited)))
            since = l->hungry_ms;
    }
    return now - since;
}

void lane_refuse_hungry(struct worker *w, uint64_t ms)
{
    while (lane_hunger_ms(w) >= ms) {
        struct lane *l = hungriest(w);

        call_shed(l->call, ERR_MEMORY_LIMIT);
        lane__sated(l); /* also one that had nothing more to shed */
    }
}
