/* SPDX-License-Identifier: Apache-2.0 */
/* A worker's relief from the memory limit: who is over it, and who pays.
 *
 *   worker_held    slabs that are referenced, and all that is kept besides
 *   oldest holder  is spared while it is small, so that somebody gets on
 *   heaviest link  of the heaviest holder (holder.h): loses calls, newest first, until a part of
 *                  the limit is free again
 *
 * That is the last resort, for credit has stopped long before (lane_credit.c): the worker holds
 * more than it gets of the limit, or a lane was hungry for HUNGER_MS, or, while its holder claims
 * little and another one holds much, for HUNGER_BESIDE_MS. After REFUSE_MS its call ends.
 *
 *   worker_watch_memory ─► a look every WATCH_MS: feed the hungry, give back ─► all is given back
 *
 * Failure modes: nobody holds anything that can be let go of; then callers refuse. */
#include <malloc.h>

#include "base/limits.h"
#include "proxy/call.h"
#include "proxy/link.h"
#include "proxy/worker_int.h"

#define RELIEF_PART 16 /* of the memory limit is set free at a time: the search costs something */
/* So much beyond the limit calls of others than the heaviest may begin, and clients are spared that
 * hold no more than FEW: one call that may stay must not have them all refused. */
#define BEYOND_PART 32
#define BEYOND_LEAST (256u * 1024) /* a slab or two of each direction */
#define FEW (4u * LIMIT_SLAB_SIZE)
#define MUCH_PART 4 /* of the limit: who holds more makes room for those that have little */
#define WATCH_MS 100u
#define HUNGER_MS 5000u
#define HUNGER_BESIDE_MS 400u
#define AGAIN_MS 500u
#define REFUSE_MS 10000u
/* malloc_trim walks the heap under its locks: only when much was freed, and not often. */
#define TRIM_LEAST (8u * 1024 * 1024)
#define TRIM_EVERY_MS 1000u
#define SLABS_KEPT 16u /* free ones, then */

bool worker_is_half_full(const struct worker *w)
{
    const struct budget *b = w->budget.of;

    return budget_left(&w->budget, worker_held(w), b->limit / 2) == 0;
}

/* --- who pays -------------------------------------------------------------------------------- */

static const struct call *oldest_holder(const struct worker *w)
{
    LIST_FOREACH(it, &w->calls) {
        const struct call *c = LIST_ENTRY(it, struct call, age_node);

        if (call_is_holding(c) && call_is_small(c))
            return c;
    }
    return NULL;
}

static void add_up(struct worker *w, const struct call *stays)
{
    LIST_FOREACH(it, &w->holders) {
        struct holder *h = LIST_ENTRY(it, struct holder, node);

        h->held = h->most = 0;
        h->heaviest = NULL;
    }
    LIST_FOREACH(it, &w->links) {
        struct link *l = link_of_node(it);
        struct holder *h = link_holder(l);
        uint64_t held = h == NULL || link_was_relieved(l, w->relief) ? 0 : link_held(l, stays);

        if (held == 0)
            continue;
        h->held += held;
        if (held > h->most) {
            h->most = held;
            h->heaviest = l;
        }
    }
}

/* NULL: nobody holds anything but the call that stays. */
static struct holder *heaviest_holder(struct worker *w, const struct call *stays)
{
    struct holder *heaviest = NULL;

    add_up(w, stays);
    LIST_FOREACH(it, &w->holders) {
        struct holder *h = LIST_ENTRY(it, struct holder, node);

        if (h->held > 0 && (heaviest == NULL || h->held > heaviest->held))
            heaviest = h;
    }
    return heaviest;
}

static bool is_far_beyond(const struct worker *w)
{
    uint64_t part = w->budget.of->limit / BEYOND_PART;

    return budget_excess(&w->budget, worker_held(w)) > (part > BEYOND_LEAST ? part : BEYOND_LEAST);
}

static void shed(struct worker *w, uint64_t low)
{
    const struct call *stays = oldest_holder(w);

    w->relief++;
    while (worker_held(w) > low) {
        struct holder *h = heaviest_holder(w, stays);
        uint64_t before = worker_held(w);

        if (h == NULL || (h->held <= FEW && !is_far_beyond(w)))
            break;
        link_shed(h->heaviest, stays, low);
        /* What it holds yet goes with the next turn of the loop, or when its client reads: it is
         * for the others to go on. */
        if (worker_held(w) >= before)
            link_set_relieved(h->heaviest, w->relief);
    }
    (void)budget_settle(&w->budget, worker_held(w));
}

/* What the worker may hold at most when it has let go of enough. */
static uint64_t low_mark(const struct worker *w, uint64_t excess)
{
    uint64_t held = worker_held(w), less = excess + w->budget.of->limit / RELIEF_PART;

    return held > less ? held - less : 0;
}

void worker_relieve(struct worker *w)
{
    if (budget_may_keep(&w->budget, worker_held(w)))
        return;
    slab_pool_trim(&w->pool, 0);
    worker_watch_memory(w);
    shed(w, low_mark(w, budget_excess(&w->budget, worker_held(w))));
}

bool worker_admits(struct worker *w, const struct link *l)
{
    const struct holder *heaviest;

    if (!worker_is_over_limit(w))
        return true;
    worker_relieve(w);
    if (!worker_is_over_limit(w))
        return true;
    if (is_far_beyond(w))
        return false;
    w->relief++; /* all count */
    heaviest = heaviest_holder(w, NULL);
    if (heaviest == NULL || heaviest != link_holder(l))
        return true;
    return holder_is_alone(heaviest) && heaviest->heaviest != l;
}

/* --- while much is held ---------------------------------------------------------------------- */

/* Somebody who has little waits, while another, who has much, does not get on either. */
static bool is_hungry_beside(struct worker *w)
{
    const struct holder *h;

    if (lane_hunger_beside_ms(w, NULL) < HUNGER_BESIDE_MS)
        return false;
    w->relief++;
    h = heaviest_holder(w, NULL);
    return h != NULL && h->held > w->budget.of->limit / MUCH_PART &&
           lane_hunger_beside_ms(w, h) >= HUNGER_BESIDE_MS;
}

/* Somebody has waited for long, whoever else got room: more is made, and who still has none is told
 * so. What was promised to others may be more than what they hold, so one that has little may need
 * more than one part. */
static void end_hunger(struct worker *w)
{
    uint64_t now = loop_now_ms(&w->loop);

    if (now - w->shed_ms < AGAIN_MS)
        return;
    for (unsigned i = 0; i < RELIEF_PART / 2 && is_hungry_beside(w); i++) {
        w->shed_ms = now;
        shed(w, low_mark(w, 0));
        lane_feed_hungry(w);
    }
    if (lane_hunger_ms(w) >= HUNGER_MS && w->shed_ms != now) {
        w->shed_ms = now;
        shed(w, low_mark(w, 0));
        lane_feed_hungry(w);
    }
    lane_refuse_hungry(w, REFUSE_MS);
}

/* Slabs that were freed lie all over the heap, which libc would keep. */
static void give_back(struct worker *w)
{
    uint64_t held = worker_held(w), now = loop_now_ms(&w->loop);

    if (w->peak_held < held + TRIM_LEAST || now - w->trimmed_ms < TRIM_EVERY_MS)
        return;
    slab_pool_trim(&w->pool, SLABS_KEPT);
    malloc_trim(0);
    w->peak_held = held;
    w->trimmed_ms = now;
}

static void on_memory_timer(struct loop_timer *t)
{
    struct worker *w = CONTAINER_OF(t, struct worker, memory_timer);
    bool is_quiet;

    worker_relieve(w);
    lane_feed_hungry(w);
    end_hunger(w);
    give_back(w);
    is_quiet = budget_settle(&w->budget, worker_held(w));
    if (!is_quiet || !list_is_empty(&w->hungry) || w->peak_held > worker_held(w) + TRIM_LEAST)
        worker_watch_memory(w);
}

void worker_watch_memory(struct worker *w)
{
    uint64_t held = worker_held(w);

    if (held > w->peak_held)
        w->peak_held = held;
    /* One that cannot be started is asked for again with the next call that is not small. */
    if (!loop_timer_is_active(&w->memory_timer))
        (void)!loop_timer_start(&w->loop, &w->memory_timer, WATCH_MS);
}

static void on_feed(struct loop_task *t)
{
    lane_feed_hungry(CONTAINER_OF(t, struct worker, feed));
}

void worker__memory_init(struct worker *w)
{
    list_init(&w->hungry);
    loop_task_init(&w->feed, on_feed);
    loop_timer_init(&w->memory_timer, on_memory_timer);
}

void worker__memory_fini(struct worker *w)
{
    loop_task_cancel(&w->feed);
    loop_task_cancel(&w->turn);
    loop_timer_fini(&w->memory_timer);
}
