/* SPDX-License-Identifier: Apache-2.0 */
/* A timer looks until the checks are over: they are looked at anew each time, for a reload may
 * change the plugins meanwhile. Failure modes: no memory for the timer, or a check that takes too
 * long: the wait ends, and the last results count. */
#include "pages/wait.h"

#define LOOK_MS 10u

static void end(struct pages_wait *w)
{
    list_remove(&w->node);
    loop_timer_fini(&w->timer);
    w->fn(w);
}

static void look(struct pages_wait *w)
{
    struct loop *loop = server_loop(w->source->server);

    if (pages__state_is_checking(w->source, w->checked) && loop_now_ms(loop) < w->until_ms &&
        loop_timer_start(loop, &w->timer, LOOK_MS) == ERR_OK)
        return;
    end(w);
}

static void on_look(struct loop_timer *t)
{
    look(CONTAINER_OF(t, struct pages_wait, timer));
}

void pages__wait(struct pages_source *source, struct pages_wait *w, unsigned checked,
                 uint64_t limit_ms, void (*fn)(struct pages_wait *self))
{
    w->source = source;
    w->checked = checked;
    w->until_ms = loop_now_ms(server_loop(source->server)) + limit_ms;
    w->fn = fn;
    loop_timer_init(&w->timer, on_look);
    list_push(&source->waits, &w->node);
    pages__state_check(source, checked);
    look(w);
}

void pages__wait_end_all(struct pages_source *source)
{
    LIST_FOREACH(it, &source->waits) {
        end(LIST_ENTRY(it, struct pages_wait, node));
    }
}
