/* SPDX-License-Identifier: Apache-2.0 */
/* What of a link goes when memory is short (worker_relief.c chooses the link; one over its own
 * limit is asked by its calls), and when there are too many connections (worker_shed.c). */
#include "base/metrics.h"
#include "proxy/call.h"
#include "proxy/link_int.h"

#define SHED_PART 16 /* so much of its own limit a link that is over it sets free */

void link__count_cut(enum err blame, const char *peer, const char *text)
{
    static struct log_rate rates[ERR_COUNT];

    metric_refused(blame);
    if (log_is_on(LOG_INFO) && log_rate_ok(&rates[blame], LOG_INFO, "client connection cut"))
        log_write(LOG_INFO, "client connection cut", "peer=%s reason=%s text=\"%s\"", peer,
                  err_reason(blame), text);
}

size_t link_held(const struct link *l, const struct call *but)
{
    size_t n = 0;

    LIST_FOREACH(it, &l->calls) {
        const struct call *c = call_of_link_node(it);

        n += c == but ? 0 : call_held(c);
    }
    return n;
}

/* The newest first of those that hold more than least. */
static void shed_above(struct link *l, const struct call *but, uint64_t low, size_t least)
{
    for (struct list *it = l->calls.prev; it != &l->calls; it = it->prev) {
        struct call *c = call_of_link_node(it);

        if (worker_held(l->worker) <= low)
            return;
        if (c != but && call_held(c) > least)
            call_shed(c, ERR_MEMORY_LIMIT);
    }
}

void link_shed(struct link *l, const struct call *but, uint64_t low)
{
    shed_above(l, but, low, 2 * CALL_COST);
    shed_above(l, but, low, 0); /* it has very many that only wait */
}

void link_set_relieved(struct link *l, uint32_t relief)
{
    l->relieved = relief;
}

bool link_was_relieved(const struct link *l, uint32_t relief)
{
    return l->relieved == relief;
}

uint64_t link_claims(const struct link *l)
{
    return l->claims;
}

void link_claimed(struct link *l, size_t was, size_t now)
{
    l->claims += now;
    l->claims -= was;
    l->holder->claims += now;
    l->holder->claims -= was;
}

struct holder *link_holder(const struct link *l)
{
    return l->holder;
}

static uint64_t own_limit(const struct link *l)
{
    return l->worker->env->settings->connection_memory_limit;
}

bool link_is_over(const struct link *l)
{
    return l->claims > own_limit(l);
}

void link_shed_own(struct link *l)
{
    uint64_t low = own_limit(l) - own_limit(l) / SHED_PART;

    for (struct list *it = l->calls.prev; it != &l->calls; it = it->prev) {
        struct call *c = call_of_link_node(it);

        if (l->claims <= low)
            return;
        if (c->claims > 0)
            call_shed(c, ERR_CONNECTION_MEMORY);
    }
}

bool link_is_opening(const struct link *l)
{
    return l->state == LINK_OPENING;
}

bool link_is_of(const struct link *l, const char *who)
{
    return (l->state == LINK_DIALLING || l->state == LINK_OPEN) && !l->was_shed &&
           strcmp(l->holder->who, who) == 0;
}

bool link_has_calls(const struct link *l)
{
    return l->call_count > 0;
}

uint64_t link_idle_ms(const struct link *l)
{
    uint64_t since = l->down != NULL ? h2_conn_read_at_ms(l->down) : l->opened_ms;

    return loop_now_ms(&l->worker->loop) - since;
}

void link_shed_whole(struct link *l, enum err why)
{
    link__count_cut(why, l->down != NULL ? h2_conn_peer(l->down) : net_conn_peer(l->net),
                    "too many connections");
    l->was_shed = true;
    if (l->state == LINK_OPEN)
        link__wind_down(l);
    else
        link_close(l);
}
