/* SPDX-License-Identifier: Apache-2.0 */
/* A large answer: its bytes go through etcd_large batch by batch, each with the same resolve and
 * apply as a whole message. One that keeps its announced length (FILL) is completed with filler
 * when the call fails, at once or, when much is missing, as etcd sends it; one that is split needs
 * nothing. */
#include "base/metrics.h"
#include "grpc/grpc.h"
#include "proxy/lane_int.h"

void lane__large_over(struct lane *l)
{
    etcd_large_free(l->large);
    l->large = NULL;
    l->large_todo = 0;
    chain_clear(&l->large_in);
    lane__message_over(l);
}

/* --- large answers --------------------------------------------------------------------------- */

bool lane__is_fill(const struct lane *l)
{
    enum etcd_content content = l->call->method->content;

    return content != ETCD_RANGE_STREAM && content != ETCD_WATCH;
}

/* The prefix of a message that keeps its length goes out at once. */
static enum err send_prefix(struct lane *l, uint32_t length, bool *ok)
{
    struct call *c = l->call;
    uint8_t prefix[GRPC_PREFIX_LEN];
    struct chain out = {0};
    enum err e;

    grpc_prefix_put(prefix, length);
    e = chain_push_copy(&out, &c->worker->pool, prefix, sizeof prefix, SLAB_SECRET);
    *ok = e == ERR_OK && call_send_down(c, &out);
    chain_fini(&out);
    return e;
}

enum lane_step lane__large_begin(struct lane *l, uint32_t length)
{
    struct call *c = l->call;
    enum err e = ERR_NOMEM;
    bool ok = true;

    if (lane__message_begin(l))
        e = etcd_large_new(c->method->content, l->keys->rules->rules, &c->ask, length,
                           LIMIT_LANE_TURN, &l->large);
    lane__work_give_back(l);
    if (e != ERR_OK)
        return lane__fails(l, e);
    metric_add(METRIC_messages_streamed_total, 1);
    l->large_todo = length;
    chain_consume(&l->in, GRPC_PREFIX_LEN);
    lane__set_state(l, LANE_LARGE);
    if (lane__is_fill(l))
        e = send_prefix(l, length, &ok);
    if (e != ERR_OK) {
        lane__large_over(l); /* nothing was promised, so there is nothing to fill */
        return lane__fails(l, e);
    }
    return ok ? STEP_NEXT : STEP_WAIT;
}

/* Nothing can be done now. Is more to come? */
static enum lane_step large_waits(struct lane *l)
{
    return l->has_ended && l->large_todo > 0 ? lane__fails(l, ERR_ANS_CUT) : STEP_WAIT;
}

static enum lane_step batch(struct lane *l)
{
    if (l->call->method->content == ETCD_WATCH)
        lane__remember_header(l, etcd_large_header(l->large));
    if (lane__is_swallowed(l))
        lane__message_over(l);
    else
        lane__set_state(l, LANE_RESOLVE);
    return STEP_NEXT;
}

/* The next batch by way of a plan. */
static enum lane_step plan_batch(struct lane *l)
{
    switch (etcd_large_next(l->large, &l->large_in, &l->work->plan, &l->msg)) {
    case ETCD_LARGE_BATCH:
        lane__tally(l, 0);
        return batch(l);
    case ETCD_LARGE_AGAIN:
        return STEP_TURN;
    case ETCD_LARGE_MORE:
        lane__work_give_back(l);
        return large_waits(l);
    case ETCD_LARGE_DONE:
        lane__large_over(l);
        lane__set_state(l, LANE_COLLECT);
        return STEP_NEXT;
    case ETCD_LARGE_BAD:
        break;
    }
    lane__tally(l, 0);
    return lane__fails(l, l->work->plan.err);
}

/* KeyValues of the usual form, whose keys are at hand, need no plan. */
static enum etcd_direct_step open_batch(struct lane *l)
{
    uint64_t began_ns = loop_hrtime_ns();
    uint8_t *prefix = NULL;
    enum etcd_direct_step step;
    struct etcd_direct with;

    if (!lane__is_fill(l)) {
        prefix = lane__prefix_reserve(l, &l->out);
        if (prefix == NULL) {
            l->work->plan.err = ERR_NOMEM;
            return ETCD_DIRECT_BAD;
        }
    }
    lane__direct_init(l, &with);
    step = etcd_large_direct(l->large, &l->large_in, &l->work->plan, &with, &l->out);
    if (step != ETCD_DIRECT_BATCH) {
        chain_clear(&l->out);
        return step;
    }
    if (prefix != NULL)
        lane__prefix_fill(prefix, l->out.len - GRPC_PREFIX_LEN);
    lane__tally(l, loop_hrtime_ns() - began_ns);
    return step;
}

enum lane_step lane__large(struct lane *l)
{
    size_t n = l->in.len < l->large_todo ? l->in.len : l->large_todo;
    enum err e = chain_move(&l->large_in, &l->in, n);

    if (e != ERR_OK)
        return lane__fails(l, e);
    l->large_todo -= n;
    if (lane__client_is_behind(l)) /* do not open more than its queue should hold */
        return large_waits(l);
    if (!lane__work_take(l)) /* not before, or whoever does not read would keep it */
        return lane__fails(l, ERR_NOMEM);
    switch (open_batch(l)) {
    case ETCD_DIRECT_BATCH:
        lane__set_state(l, LANE_SEND);
        return STEP_NEXT;
    case ETCD_DIRECT_MORE:
        lane__work_give_back(l);
        return large_waits(l);
    case ETCD_DIRECT_NONE:
        return plan_batch(l);
    case ETCD_DIRECT_BAD:
        break;
    }
    return lane__fails(l, l->work->plan.err);
}

/* --- broken off ------------------------------------------------------------------------------ */

static enum lane_fill fill(struct lane *l)
{
    struct call *c = l->call;
    struct chain out = {0};
    enum err e = etcd_large_fill(l->large, &c->worker->pool, l->large_todo, &out);

    if (e == ERR_OK && out.len > 0)
        e = h2_stream_send(c->down, &out, false);
    chain_fini(&out);
    if (e != ERR_OK)
        return LANE_FILL_BROKEN;
    if (etcd_large_is_filled(l->large))
        return LANE_FILLED;
    return l->has_ended ? LANE_FILL_BROKEN : LANE_FILL_MORE;
}

static void count_sent(struct lane *l, size_t n)
{
    l->large_todo -= n < l->large_todo ? n : l->large_todo;
}

enum lane_fill lane_break_off(struct lane *l)
{
    if (l->large == NULL || !lane__is_fill(l) || l->call->down == NULL)
        return LANE_FILLED;
    lane__work_give_back(l); /* and what it waits for */
    count_sent(l, l->in.len);
    chain_clear(&l->in);
    chain_clear(&l->large_in);
    chain_clear(&l->msg);
    chain_clear(&l->out);
    list_remove(&l->turn);
    lane__set_state(l, LANE_FILLING);
    return fill(l);
}

void lane__fill_on(struct lane *l, size_t n)
{
    count_sent(l, n);
    call_filled(l->call, fill(l));
}
