/* SPDX-License-Identifier: Apache-2.0 */
/* The last steps of a lane. Apply: every key is there; the plan is carried out, in turns when it
 * has much to do, and what it gives gathers behind a gRPC prefix. Send: that is queued on the other
 * side's stream.
 *
 * An answer may fail and still have something to send: a Watch's events of earlier revisions. So
 * the error waits in l->err until out is sent. */
#include "base/metrics.h"
#include "grpc/grpc.h"
#include "proxy/lane_int.h"

uint8_t *lane__prefix_reserve(const struct lane *l, struct chain *out)
{
    static const uint8_t none[GRPC_PREFIX_LEN];
    struct slice *s;

    if (chain_push_copy(out, &l->call->worker->pool, none, sizeof none, SLAB_SECRET) != ERR_OK)
        return NULL;
    s = chain_at(out, out->count - 1);
    return slice_data(*s) + s->len - sizeof none;
}

void lane__prefix_fill(uint8_t *prefix, size_t len)
{
    grpc_prefix_put(prefix, (uint32_t)len);
}

void lane__tally(struct lane *l, uint64_t ns)
{
    struct etcd_plan *p = &l->work->plan;

    call_count_kept(l->call);
    if (p->sealed > 0)
        metric_add(METRIC_values_sealed_total, p->sealed);
    if (p->opened > 0)
        metric_add(METRIC_values_opened_total, p->opened);
    if (p->plain > 0)
        metric_add(METRIC_identity_reads_total, p->plain);
    p->sealed = p->opened = p->plain = 0;
    tally_plan(l->call->worker->tally, l->keys->rules, p, ns);
}

/* --- apply ----------------------------------------------------------------------------------- */

/* Where the prefix goes; NULL: no memory. */
static uint8_t *request_prefix(struct lane *l)
{
    if (sealed_msg_len(&l->sealed) > 0) /* in an earlier turn */
        return sealed_msg_head(&l->sealed);
    return sealed_msg_reserve(&l->sealed, &l->call->worker->pool, GRPC_PREFIX_LEN);
}

static enum err apply_request(struct lane *l)
{
    struct worker *w = l->call->worker;
    uint8_t *prefix = request_prefix(l);

    if (prefix == NULL)
        return ERR_NOMEM;
    TRY(etcd_apply_request(&l->work->plan, w->envelope, &w->pool, &l->msg, &l->sealed));
    lane__prefix_fill(prefix, sealed_msg_len(&l->sealed) - GRPC_PREFIX_LEN);
    return ERR_OK;
}

/* A part of a large answer whose prefix went out when it began. */
static enum err apply_part(struct lane *l)
{
    struct worker *w = l->call->worker;

    return etcd_large_apply(l->large, &l->work->plan, w->envelope, &w->pool, &l->msg, &l->out);
}

/* A message of its own: a whole answer, or a piece of one that is split. */
static enum err apply_answer(struct lane *l)
{
    struct worker *w = l->call->worker;
    uint8_t *prefix;
    size_t len;
    enum err e;

    if (l->out.len == 0) {
        prefix = lane__prefix_reserve(l, &l->out);
        if (prefix == NULL)
            return ERR_NOMEM;
    } else { /* a part was opened by the scan, or in an earlier turn, behind the prefix */
        prefix = slice_data(*chain_at(&l->out, 0));
    }
    if (l->large != NULL)
        e = apply_part(l);
    else
        e = etcd_apply_answer(&l->work->plan, w->envelope, &w->pool, &l->msg, &l->out);
    if (e == ERR_AGAIN)
        return e;
    len = l->out.len - GRPC_PREFIX_LEN;
    if (len == 0 && (e != ERR_OK || l->large != NULL))
        chain_clear(&l->out); /* nothing was made */
    else
        lane__prefix_fill(prefix, len);
    return e;
}

static enum err apply(struct lane *l)
{
    if (!l->is_answer)
        return apply_request(l);
    return l->large != NULL && lane__is_fill(l) ? apply_part(l) : apply_answer(l);
}

enum lane_step lane__apply(struct lane *l)
{
    struct lane_work *b = l->work;
    enum lane_step said = etcd_plan_is_going(&b->plan) ? STEP_NEXT : lane__take_keys(l);
    uint64_t began_ns;
    enum err e;

    if (said != STEP_NEXT)
        return said;
    worker_contexts_used(l->call->worker);
    began_ns = loop_hrtime_ns();
    b->plan.apply_max = LIMIT_APPLY_TURN;
    e = apply(l);
    b->ns += loop_hrtime_ns() - began_ns;
    if (e == ERR_AGAIN)
        return STEP_TURN;
    l->err = e;
    lane__tally(l, b->ns);
    lane__remember_unopened(l);
    if (l->err == ERR_OK)
        lane__confirm_keys(l);
    else if (!l->is_answer)
        return STEP_FAIL;
    lane__set_state(l, LANE_SEND);
    return STEP_NEXT;
}

/* --- send ------------------------------------------------------------------------------------ */

enum lane_step lane__send(struct lane *l)
{
    struct call *c = l->call;
    bool ok = true;

    if (!l->is_answer)
        ok = call_send_up(c, &l->sealed, c->method->shape != ETCD_BIDI);
    else if (l->out.len > 0)
        ok = call_send_down(c, &l->out);
    if (!ok)
        return STEP_WAIT;
    if (l->err != ERR_OK)
        return STEP_FAIL;
    lane__message_over(l);
    lane__set_state(l, l->large != NULL ? LANE_LARGE : LANE_COLLECT);
    return STEP_NEXT;
}
