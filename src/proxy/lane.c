/* SPDX-License-Identifier: Apache-2.0 */
/* One direction of a call. The happy path of a message:
 *   1. deframe: lane_step waits for the 5-byte prefix and the body (an opaque answer is relayed, a
 *      large answer goes through etcd_stream batch by batch instead);
 *   2. scan: etcd_scan_* makes the plan, with the rule set of this moment;
 *   3. resolve: every need gets its DEK; a miss parks the lane, the key ring's answer resumes it;
 *   4. apply: etcd_apply_* writes the sealed or opened message;
 *   5. send: call_send_up or call_send_down queues it; stream credit goes back as that queue
 * drains. Failure modes:
 *   - a bad message, a value that does not open, no key: call_fail, which kills both lanes; a Watch
 *     loses only the watch concerned (watch_cancel);
 *   - the call ends while the lane is parked or waits for its turn: lane_kill cancels both;
 *   - the other side does not read: no credit, so the sender stops;
 *   - the worker is over its memory share: calls of the client that holds the most end, the oldest
 *     of all excepted (worker_relieve). */
#include "proxy/lane_int.h"

#include "grpc/grpc.h"

enum lane_step lane__fail(struct lane *l, enum err e)
{
    struct failure f;

    call_failure_init(l->call, e, &f);
    if (l->bench != NULL && l->bench->plan.err == e) {
        f.key = l->bench->plan.bad_key;
        f.field = l->bench->plan.bad_field;
    }
    call_fail(l->call, &f);
    return STEP_WAIT;
}

static enum lane_step lane_fail_size(struct lane *l, uint64_t size, uint64_t max)
{
    struct failure f;

    call_failure_init(l->call, ERR_MESSAGE_TOO_LARGE, &f);
    f.size = size;
    f.max = max;
    call_fail(l->call, &f);
    return STEP_WAIT;
}

/* --- deframe --------------------------------------------------------------------------------- */

static enum lane_step relay_step(struct lane *l)
{
    size_t n = l->in.len < l->relay_left ? l->in.len : l->relay_left;
    struct chain out = {0};
    bool ok;

    if (n == 0)
        return STEP_WAIT;
    if (chain_move(&out, &l->in, n) != ERR_OK) {
        chain_fini(&out);
        return lane__fail(l, ERR_NOMEM);
    }
    l->relay_left -= n;
    ok = call_send_down(l->call, &out);
    chain_fini(&out);
    return ok ? STEP_AGAIN : STEP_WAIT;
}

/* Moves the body of the message in front, which is whole, to l->msg. */
static bool take_message(struct lane *l, uint32_t length)
{
    l->has_prefix = length > 0 && chain_at(&l->in, 0)->len > GRPC_PREFIX_LEN;
    chain_consume(&l->in, GRPC_PREFIX_LEN);
    if (l->in.len == length)
        return chain_append(&l->msg, &l->in) == ERR_OK;
    return chain_move(&l->msg, &l->in, length) == ERR_OK;
}

static enum lane_step answer_step(struct lane *l, const struct grpc_prefix *prefix)
{
    struct call *c = l->call;
    enum etcd_content content = c->method->content;

    if (prefix->flag != 0)
        return lane__fail(l, ERR_ANS_COMPRESSED);
    if (l->messages > 0 && call_is_unary(c) && c->method->shape == ETCD_UNARY)
        return lane__fail(l, ERR_ANS_DOUBLED);
    if (content == ETCD_OPAQUE) {
        l->messages++;
        l->relay_left = (size_t)prefix->length + GRPC_PREFIX_LEN;
        return STEP_AGAIN;
    }
    if (lane__has_values(content) && prefix->length > c->worker->env->settings->stream_threshold) {
        l->messages++;
        return lane__stream_begin(l, prefix->length);
    }
    if (prefix->length > LIMIT_ANSWER_UNIT)
        return lane__fail(l, ERR_MEMORY_LIMIT);
    if (l->in.len - GRPC_PREFIX_LEN < prefix->length)
        return STEP_WAIT;
    l->messages++;
    if (!take_message(l, prefix->length))
        return lane__fail(l, ERR_NOMEM);
    return lane__answer(l);
}

static enum lane_step request_step(struct lane *l, const struct grpc_prefix *prefix)
{
    struct call *c = l->call;
    uint64_t max = c->worker->env->settings->max_request_bytes;
    bool is_bidi = c->method->shape == ETCD_BIDI;

    if (prefix->flag != 0)
        return lane__fail(l, ERR_MESSAGE_COMPRESSED);
    if (prefix->length > max)
        return lane_fail_size(l, prefix->length, max);
    if (l->in.len - GRPC_PREFIX_LEN < prefix->length)
        return l->has_ended ? lane__fail(l, ERR_MESSAGE_CUT) : STEP_WAIT;
    if (!is_bidi && l->in.len - GRPC_PREFIX_LEN > prefix->length)
        return lane__fail(l, ERR_MESSAGE_EXTRA);
    /* A unary request goes on only after its END_STREAM, so that nothing can follow it. */
    if (!is_bidi && !l->has_ended)
        return STEP_WAIT;
    if (is_bidi && c->up == NULL)
        return STEP_WAIT;
    l->messages++;
    if (!take_message(l, prefix->length))
        return lane__fail(l, ERR_NOMEM);
    return lane__request(l);
}

/* Nothing more can be taken out of l->in. */
static enum lane_step end_step(struct lane *l)
{
    struct call *c = l->call;

    if (!l->has_ended || l->state != LANE_OPEN)
        return STEP_WAIT;
    if (l->is_answer) {
        if (l->in.len > 0 || l->relay_left > 0 || l->stream != NULL)
            return lane__fail(l, ERR_ANS_CUT);
        l->state = LANE_ENDED;
        call_finish(c);
        return STEP_WAIT;
    }
    if (l->in.len > 0 || (l->messages == 0 && c->method->shape != ETCD_BIDI))
        return lane__fail(l, ERR_MESSAGE_CUT);
    if (c->method->shape == ETCD_BIDI) {
        if (c->up == NULL)
            return STEP_WAIT;
        call_end_up(c);
    }
    l->state = LANE_ENDED;
    return STEP_WAIT;
}

static enum lane_step lane_step(struct lane *l)
{
    struct grpc_prefix prefix;

    if (l->stream != NULL) {
        enum lane_step s = lane__stream_step(l);

        return s == STEP_WAIT && l->stream_todo > 0 && l->state == LANE_OPEN ? end_step(l) : s;
    }
    if (l->relay_left > 0)
        return l->in.len > 0 ? relay_step(l) : end_step(l);
    if (!grpc_prefix_peek(&l->in, &prefix))
        return end_step(l);
    if (prefix.flag > 1)
        return lane__fail(l, l->is_answer ? ERR_ANS_MALFORMED : ERR_PROTOBUF);
    if (!l->is_answer)
        return request_step(l, &prefix);
    if (answer_step(l, &prefix) == STEP_AGAIN)
        return STEP_AGAIN;
    /* An answer that is over but not whole. */
    return l->state == LANE_OPEN && l->stream == NULL && l->in.len > 0 ? end_step(l) : STEP_WAIT;
}

/* --- flow ------------------------------------------------------------------------------------ */

/* Credit goes back while a unit is being collected and while the other side's queue is short; a
 * parked lane, one that still has work of its own, and messages that wait for etcd's redial hold it
 * back. */
static void lane_credit(struct lane *l)
{
    struct call *c = l->call;
    struct h2_stream *from = l->is_answer ? c->up : c->down;
    struct h2_stream *to = l->is_answer ? c->down : c->up;

    if (l->uncredited == 0 || from == NULL || l->state == LANE_PARKED)
        return;
    if ((l->state == LANE_OPEN || l->state == LANE_FILLING) && to != NULL &&
        h2_stream_queued(to) >= LIMIT_STREAM_OUT)
        return;
    if (c->state == CALL_WAITING && l->in.len >= LIMIT_STREAM_OUT)
        return;
    h2_stream_credit(from, l->uncredited);
    l->uncredited = 0;
}

size_t lane_held(const struct lane *l)
{
    return chain_pinned(&l->in) + chain_pinned(&l->msg) + chain_pinned(&l->stream_in);
}

bool lane_is_holding(const struct lane *l)
{
    return l->in.len > 0 || l->msg.len > 0 || l->stream_in.len > 0;
}

void lane__run(struct lane *l)
{
    size_t before = l->in.len + l->stream_in.len;

    while (l->state == LANE_OPEN) {
        if (lane_step(l) == STEP_WAIT)
            break;
        if (l->state == LANE_OPEN && before - l->in.len - l->stream_in.len > LIMIT_LANE_TURN) {
            loop_task_want(&l->call->worker->loop, &l->turn);
            return;
        }
    }
    if (l->state == LANE_DEAD)
        return;
    if (worker_is_over_limit(l->call->worker)) {
        worker_relieve(l->call->worker);
        if (l->state == LANE_DEAD)
            return;
    }
    lane_credit(l);
}

static void on_turn(struct loop_task *t)
{
    lane__run(CONTAINER_OF(t, struct lane, turn));
}

void lane_init(struct lane *l, struct call *c, bool is_answer)
{
    *l = (struct lane){.call = c, .state = LANE_OPEN, .is_answer = is_answer};
    loop_task_init(&l->turn, on_turn);
}

void lane_kill(struct lane *l)
{
    struct h2_stream *from = l->is_answer ? l->call->up : l->call->down;

    if (l->state == LANE_DEAD)
        return;
    l->state = LANE_DEAD;
    loop_task_cancel(&l->turn);
    if (l->stream != NULL)
        lane__stream_over(l);
    else
        lane__message_over(l);
    chain_fini(&l->in);
    chain_fini(&l->msg);
    chain_fini(&l->stream_in);
    if (from != NULL && l->uncredited > 0)
        h2_stream_credit(from, l->uncredited);
    l->uncredited = 0;
}

void lane_feed(struct lane *l, struct slice *s)
{
    struct h2_stream *from = l->is_answer ? l->call->up : l->call->down;
    size_t n = s->len;

    if (l->state == LANE_DEAD || l->state == LANE_ENDED || l->has_ended) {
        slice_drop(s);
        if (from != NULL)
            h2_stream_credit(from, n);
        return;
    }
    l->uncredited += n;
    if (l->state == LANE_FILLING) {
        slice_drop(s);
        lane__fill_on(l, n);
        if (l->state == LANE_FILLING)
            lane_credit(l);
        return;
    }
    if (chain_push(&l->in, s) != ERR_OK)
        lane__fail(l, ERR_NOMEM);
    else if (l->state == LANE_OPEN)
        lane__run(l);
}

void lane_end(struct lane *l)
{
    if (l->state == LANE_DEAD || l->has_ended)
        return;
    l->has_ended = true;
    if (l->state == LANE_OPEN)
        lane__run(l);
    else if (l->state == LANE_FILLING)
        lane__fill_on(l, 0);
}

void lane_kick(struct lane *l)
{
    if (l->state == LANE_OPEN)
        lane__run(l);
    else if (l->state == LANE_FILLING)
        lane_credit(l);
    else if (l->state == LANE_ENDED)
        lane_credit(l);
}
