/* SPDX-License-Identifier: Apache-2.0 */
/* A worker's relief from the memory limit: who is over it, and who pays.
 *
 *   worker_held    slabs that are referenced, and all that is kept besides
 *   oldest holder  is spared, so that somebody gets on
 *   heaviest link  loses calls, newest first, until a part of the limit is free again
 *
 * Failure modes: nobody holds anything that can be let go of; then callers refuse. */
#include "proxy/call.h"
#include "proxy/link.h"
#include "proxy/worker.h"

#define RELIEF_PART 16 /* of the memory limit is set free at a time: the search costs something */

static const struct call *oldest_holder(const struct worker *w)
{
    LIST_FOREACH(it, &w->calls) {
        const struct call *c = LIST_ENTRY(it, struct call, age_node);

        if (call_is_holding(c))
            return c;
    }
    return NULL;
}

/* NULL: nobody holds anything but the call that stays. */
static struct link *heaviest_link(const struct worker *w, const struct call *stays)
{
    struct link *heaviest = NULL;
    size_t most = 0;

    LIST_FOREACH(it, &w->links) {
        struct link *l = link_of_node(it);
        size_t held = link_held(l, stays);

        if (held > most) {
            most = held;
            heaviest = l;
        }
    }
    return heaviest;
}

/* What the worker may hold at most when it has let go of enough. */
static uint64_t low_mark(const struct worker *w)
{
    uint64_t held = worker_held(w);
    uint64_t less = budget_excess(&w->budget, held) + w->budget.of->limit / RELIEF_PART;

    return held > less ? held - less : 0;
}

void worker_relieve(struct worker *w)
{
    const struct call *stays = oldest_holder(w);
    uint64_t before = UINT64_MAX, low;

    if (!worker_is_over_limit(w))
        return;
    slab_pool_trim(&w->pool, 0);
    low = low_mark(w);
    /* What a connection holds that is closed already goes with the next turn of the loop. */
    while (worker_held(w) > low && worker_held(w) < before) {
        struct link *l = heaviest_link(w, stays);

        before = worker_held(w);
        if (l != NULL)
            link_shed(l, stays, low);
    }
    (void)budget_settle(&w->budget, worker_held(w));
}
