/* SPDX-License-Identifier: Apache-2.0 */
/* The second step of a lane: l->msg holds a whole message. etcd_scan_* makes its plan, with the
 * rule set of this moment. A message of which nothing is to be sealed or opened goes on byte for
 * byte. An answer of the usual form, whose keys are at hand, is opened here and needs no plan. */
#include "grpc/grpc.h"
#include "proxy/lane_int.h"

/* --- the message in work --------------------------------------------------------------------- */

/* A request may be on its way to etcd now. Until it is answered, a reload that drops keys has to
 * know that something may still be stored with those of this set. */
static void let_keys_go(struct lane *l)
{
    struct call *c = l->call;

    if (!l->is_answer && c->sealed_with == NULL && call_is_unary(c))
        c->sealed_with = l->keys;
    else
        keyset_drop(l->keys);
    l->keys = NULL;
}

void lane__message_over(struct lane *l)
{
    chain_clear(&l->msg);
    chain_clear(&l->out);
    sealed_msg_fini(&l->sealed);
    lane__work_give_back(l);
    if (l->large == NULL && l->keys != NULL)
        let_keys_go(l);
}

bool lane__message_begin(struct lane *l)
{
    if (!lane__work_take(l))
        return false;
    if (l->keys == NULL)
        l->keys = worker_keys_ref(l->call->worker);
    return l->keys != NULL;
}

bool lane__has_values(enum etcd_content content)
{
    return content != ETCD_OPAQUE && !etcd_content_is_members(content);
}

bool lane__is_swallowed(const struct lane *l)
{
    return l->call->method->content == ETCD_WATCH && l->work->plan.watch.is_swallowed;
}

static enum lane_step go(struct lane *l, enum lane_state to)
{
    lane__set_state(l, to);
    return STEP_NEXT;
}

/* --- requests -------------------------------------------------------------------------------- */

/* The message goes to etcd byte for byte, behind its prefix. */
static enum err pass_request(struct lane *l, enum etcd_verdict verdict)
{
    uint8_t *prefix;

    if (l->has_prefix) {
        chain_unconsume(&l->msg, GRPC_PREFIX_LEN);
        return etcd_passthrough(verdict, &l->msg, &l->sealed);
    }
    prefix = sealed_msg_reserve(&l->sealed, &l->call->worker->pool, GRPC_PREFIX_LEN);
    if (prefix == NULL)
        return ERR_NOMEM;
    lane__prefix_fill(prefix, l->msg.len);
    return etcd_passthrough(verdict, &l->msg, &l->sealed);
}

static enum lane_step scan_request(struct lane *l)
{
    struct call *c = l->call;
    enum etcd_verdict verdict = ETCD_AS_IS;
    enum err e;

    if (lane__has_values(c->method->content))
        verdict = etcd_scan_request(&l->work->plan, c->method->content, l->keys->rules->rules,
                                    &l->msg, &c->ask);
    lane__tally(l, 0);
    switch (verdict) {
    case ETCD_EDIT:
        return go(l, LANE_RESOLVE);
    case ETCD_AS_IS:
        e = pass_request(l, verdict);
        return e == ERR_OK ? go(l, LANE_SEND) : lane__fails(l, e);
    default:
        return lane__fails(l, l->work->plan.err);
    }
}

/* --- answers --------------------------------------------------------------------------------- */

static enum lane_step members_answer(struct lane *l)
{
    struct call *c = l->call;
    uint8_t *prefix = lane__prefix_reserve(l, &l->out);
    enum err e = prefix == NULL
                     ? ERR_NOMEM
                     : etcd_members_rewrite(c->method->content, &c->worker->env->advertise,
                                            &c->worker->pool, &l->msg, &l->out);

    if (e != ERR_OK)
        return lane__fails(l, e == ERR_CONFIG ? ERR_NO_ADVERTISE_URL : e);
    lane__prefix_fill(prefix, l->out.len - GRPC_PREFIX_LEN);
    return go(l, LANE_SEND);
}

static void remember_header(struct lane *l)
{
    const struct etcd_watch_info *info = &l->work->plan.watch;
    uint8_t header[sizeof l->call->watch_header];

    if (!info->has_header || info->header_len > sizeof header)
        return;
    chain_copy(&l->msg, info->header_at, info->header_len, header);
    lane__remember_header(l, bytes_of(header, info->header_len));
}

/* The message goes to the client byte for byte, behind its prefix. */
static enum err pass_answer(struct lane *l)
{
    uint8_t *prefix;

    if (l->has_prefix) {
        chain_unconsume(&l->msg, GRPC_PREFIX_LEN);
        return chain_append(&l->out, &l->msg);
    }
    prefix = lane__prefix_reserve(l, &l->out);
    if (prefix == NULL)
        return ERR_NOMEM;
    lane__prefix_fill(prefix, l->msg.len);
    return chain_append(&l->out, &l->msg);
}

/* All of it was opened by now, behind its prefix. */
static enum lane_step opened(struct lane *l, uint8_t *prefix, uint64_t began_ns)
{
    lane__prefix_fill(prefix, l->out.len - GRPC_PREFIX_LEN);
    lane__tally(l, loop_hrtime_ns() - began_ns);
    chain_clear(&l->msg);
    return go(l, LANE_SEND);
}

/* Opens the message as far as it is of the usual form; makes a plan for what is left. */
static enum lane_step scan_answer(struct lane *l)
{
    struct call *c = l->call;
    struct etcd_plan *p = &l->work->plan;
    uint64_t began_ns = loop_hrtime_ns();
    uint8_t *prefix = lane__prefix_reserve(l, &l->out);
    enum etcd_verdict verdict;
    struct etcd_direct with;
    enum err e;

    if (prefix == NULL)
        return lane__fails(l, ERR_NOMEM);
    lane__direct_init(l, &with);
    verdict = etcd_direct_answer(p, c->method->content, l->keys->rules->rules, &l->msg, &c->ask,
                                 &with, &l->out);
    if (c->method->content == ETCD_WATCH)
        remember_header(l);
    if (verdict == ETCD_OPENED)
        return opened(l, prefix, began_ns);
    if (l->out.len == GRPC_PREFIX_LEN) { /* no part of it was opened */
        chain_clear(&l->out);
        lane__tally(l, 0);
    }
    if (lane__is_swallowed(l)) {
        lane__message_over(l);
        return go(l, LANE_COLLECT);
    }
    switch (verdict) {
    case ETCD_EDIT:
        return go(l, LANE_RESOLVE);
    case ETCD_AS_IS:
        e = pass_answer(l);
        return e == ERR_OK ? go(l, LANE_SEND) : lane__fails(l, e);
    default:
        return lane__fails(l, p->err);
    }
}

enum lane_step lane__scan(struct lane *l)
{
    if (!lane__message_begin(l))
        return lane__fails(l, ERR_NOMEM);
    if (!l->is_answer)
        return scan_request(l);
    return lane__has_values(l->call->method->content) ? scan_answer(l) : members_answer(l);
}
