/* SPDX-License-Identifier: Apache-2.0 */
/* A worker's relief from the memory limit: who is over it, and who pays.
 *
 *   worker_held    slabs that are referenced, and what calls keep besides
 *   oldest holder  is spared, so that somebody gets on
 *   heaviest link  loses calls, newest first, until a part of the limit is free again
 *
 * Failure modes: nobody holds anything that can be let go of; then callers refuse. */
#include "proxy/call.h"
#include "proxy/link.h"
#include "proxy/worker.h"

#define RELIEF_PART 16 /* of the memory limit is set free at a time: the search costs something */

uint64_t worker_held(const struct worker *w)
{
    return w->pool.live_bytes + w->kept_bytes;
}

bool worker_is_over_limit(const struct worker *w)
{
    return worker_held(w) > w->env->worker_memory_limit;
}

bool worker_is_half_full(const struct worker *w)
{
    return worker_held(w) > w->env->worker_memory_limit / 2;
}

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

void worker_relieve(struct worker *w)
{
    uint64_t low = w->env->worker_memory_limit - w->env->worker_memory_limit / RELIEF_PART;
    const struct call *stays = oldest_holder(w);
    uint64_t before = UINT64_MAX;

    if (!worker_is_over_limit(w))
        return;
    /* What a connection holds that is closed already goes with the next turn of the loop. */
    while (worker_held(w) > low && worker_held(w) < before) {
        struct link *l = heaviest_link(w, stays);

        before = worker_held(w);
        if (l != NULL)
            link_shed(l, stays, low);
    }
}
