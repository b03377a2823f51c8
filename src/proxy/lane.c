/* SPDX-License-Identifier: Apache-2.0 */
/* One direction of a call, driven from here: each step of the table does its part, sets the state
 * and says whether to go on.
 *
 *               .-> RELAY --.                              a message without values, as it comes
 *               |           v
 *   bytes ->  COLLECT <----------------------------.
 *               |  ^                               |
 *               |  `--- LARGE -------.             |      a large answer, batch by batch
 *               v                    v             |
 *              SCAN ------------> RESOLVE -> APPLY -> SEND -> bytes
 *                |                 |   ^               ^
 *                |                 v   | keys          |
 *                |               PARKED                |
 *                `-- nothing to seal or open ----------'
 *
 *   1. collect: the 5-byte prefix and the body are waited for;
 *   2. scan: etcd_scan_* makes the plan, with the rule set of this moment;
 *   3. resolve: every need gets its DEK; a miss parks the lane, the key ring's answer sets APPLY
 *      and runs the lane again: the only step that waits for others than the two peers;
 *   4. apply: etcd_apply_* writes the sealed or opened message;
 *   5. send: call_send_up or call_send_down queues it; stream credit goes back as that queue
 *      drains.
 *
 * Failure modes:
 *   - a bad message, a value that does not open, no key: call_fail, which kills both lanes; a Watch
 *     loses only the watch concerned (lane_watch.c); a large answer that was begun is completed
 *     first (FILLING);
 *   - the call ends while the lane is parked or waits for its turn: lane_kill cancels both;
 *   - the other side does not read: no credit, so the sender stops; nor is there any where memory
 *     is short (lane_credit.c);
 *   - the worker is over what it gets of --memory-limit all the same: calls of the client that
 *     holds the most end, the oldest of all excepted while it is small (worker_relieve). */
#include "proxy/lane_int.h"
#include "proxy/link.h"

/* The states that have no step wait for others. */
static enum lane_step (*const steps[])(struct lane *l) = {
    [LANE_COLLECT] = lane__collect, [LANE_RELAY] = lane__relay,
    [LANE_LARGE] = lane__large,     [LANE_SCAN] = lane__scan,
    [LANE_RESOLVE] = lane__resolve, [LANE_APPLY] = lane__apply,
    [LANE_SEND] = lane__send,       [LANE_ENDED] = NULL,
};

static bool is_open(const struct lane *l)
{
    return steps[l->state] != NULL;
}

#define TO(state) (1u << LANE_##state)

void lane__set_state(struct lane *l, enum lane_state to)
{
    static const uint16_t legal[] = {
        [LANE_DEAD] = 0,
        [LANE_COLLECT] = TO(RELAY) | TO(LARGE) | TO(SCAN) | TO(ENDED) | TO(DEAD),
        [LANE_RELAY] = TO(COLLECT) | TO(DEAD),
        /* again: the watch that a batch is for was ended, and the rest of it is swallowed */
        [LANE_LARGE] = TO(LARGE) | TO(RESOLVE) | TO(SEND) | TO(COLLECT) | TO(FILLING) | TO(DEAD),
        [LANE_SCAN] = TO(RESOLVE) | TO(SEND) | TO(COLLECT) | TO(DEAD),
        [LANE_RESOLVE] = TO(PARKED) | TO(APPLY) | TO(COLLECT) | TO(LARGE) | TO(FILLING) | TO(DEAD),
        [LANE_PARKED] = TO(APPLY) | TO(FILLING) | TO(DEAD),
        [LANE_APPLY] = TO(SEND) | TO(COLLECT) | TO(LARGE) | TO(FILLING) | TO(DEAD),
        [LANE_SEND] = TO(COLLECT) | TO(LARGE) | TO(FILLING) | TO(DEAD),
        [LANE_FILLING] = TO(DEAD),
        [LANE_ENDED] = TO(DEAD),
    };

    CHECK(legal[l->state] & 1u << to);
    l->state = to;
}

enum lane_step lane__fail_call(struct lane *l, enum err e)
{
    struct failure f;

    call_failure_init(l->call, e, &f);
    if (l->work != NULL && l->work->plan.err == e) {
        f.key = l->work->plan.bad_key;
        f.field = l->work->plan.bad_field;
    }
    call_fail(l->call, &f);
    return STEP_WAIT;
}

/* An event outside of its watch ends that one, too: a real etcd sends late events of a watch that
 * was cancelled to the next one with its id, when the client chooses ids. */
static bool ends_one_watch(const struct lane *l, enum err e)
{
    return l->is_answer && l->call->method->content == ETCD_WATCH &&
           (err_is_of_value(e) || e == ERR_ANS_OUTSIDE);
}

/* A step has failed with l->err: the watch that it concerns ends, or the call. */
static enum lane_step failed(struct lane *l)
{
    enum err e = l->err;

    l->err = ERR_OK;
    if (ends_one_watch(l, e))
        return lane__watch_cancel(l, e);
    return lane__fail_call(l, e);
}

/* --- flow ------------------------------------------------------------------------------------ */

bool lane__client_is_behind(const struct lane *l)
{
    return l->call->down != NULL && h2_stream_queued(l->call->down) >= LIMIT_STREAM_OUT;
}

size_t lane_held(const struct lane *l)
{
    return chain_pinned(&l->in) + chain_pinned(&l->msg) + chain_pinned(&l->large_in) +
           chain_pinned(&l->out);
}

size_t lane_len(const struct lane *l)
{
    return l->in.len + l->msg.len + l->large_in.len + l->out.len;
}

size_t lane_kept(const struct lane *l)
{
    bool is_waiting = l->state == LANE_PARKED || !list_is_empty(&l->turn);

    return is_waiting && l->work != NULL ? lane__work_size(l->work) : 0;
}

bool lane_is_holding(const struct lane *l)
{
    return lane_len(l) > 0;
}

bool lane_is_in_message(const struct lane *l)
{
    return l->relay_left > 0 || (l->large != NULL && lane__is_fill(l));
}

size_t lane_rest(const struct lane *l)
{
    return l->relay_left;
}

bool lane_awaits_peer(const struct lane *l)
{
    const struct h2_stream *from = l->is_answer ? l->call->up : l->call->down;

    if (l->has_ended || from == NULL || l->uncredited > 0)
        return false;
    switch (l->state) {
    case LANE_COLLECT:
        return lane__is_collecting(l);
    case LANE_RELAY:
        return true;
    case LANE_LARGE:
    case LANE_FILLING:
        return l->large_todo > 0;
    default:
        return false;
    }
}

/* Nothing waits in it, and its peer may still send half of what it began with. So it is with nearly
 * all messages: what they were is given back together with the next ones. */
static bool is_at_ease(const struct lane *l)
{
    return l->uncredited < LIMIT_STREAM_FIRST / 2 && l->window == 0 && lane_len(l) == 0 &&
           l->large_todo == 0 && l->relay_left == 0 && list_is_empty(&l->hungry);
}

/* Credit, and what the call holds now. */
static void lane_settle(struct lane *l)
{
    struct call *c = l->call;

    if (l->state == LANE_DEAD || (c->claims == 0 && is_at_ease(l)))
        return;
    lane__credit(l);
    if (c->claims == 0 && l->window == 0 && lane_len(l) < CALL_SMALL)
        return;
    call_claim_within(c);
}

/* Goes on behind the others that have yielded. What it holds until then counts. */
static void yield(struct lane *l)
{
    struct call *c = l->call;
    struct worker *w = c->worker;

    list_push(&w->turns, &l->turn);
    loop_task_want(&w->loop, &w->turn);
    call__count_kept(c);
    if (worker_is_over_limit(w))
        worker_relieve(w);
    if (l->state == LANE_DEAD)
        return;
    call_claim_within(c);
}

void lane__run(struct lane *l)
{
    size_t before = l->in.len + l->large_in.len;

    while (is_open(l)) {
        enum lane_step said = steps[l->state](l);

        if (said == STEP_FAIL)
            said = failed(l);
        if (said == STEP_WAIT)
            break;
        if (said == STEP_TURN ||
            (is_open(l) && before - l->in.len - l->large_in.len > LIMIT_LANE_TURN)) {
            yield(l);
            return;
        }
    }
    if (l->state == LANE_DEAD)
        return;
    if (l->gather != NULL)
        lane__gather_settle(l);
    if (worker_is_over_limit(l->call->worker))
        worker_relieve(l->call->worker);
    lane_settle(l);
}

/* It goes on by itself: what comes meanwhile must not take others' turns. */
static bool has_yielded(const struct lane *l)
{
    return !list_is_empty(&l->turn);
}

static void on_turn(struct loop_task *t)
{
    struct worker *w = CONTAINER_OF(t, struct worker, turn);
    struct lane *l;

    if (list_is_empty(&w->turns))
        return;
    l = LIST_ENTRY(w->turns.next, struct lane, turn);
    list_remove(&l->turn);
    lane__run(l);
    if (!list_is_empty(&w->turns))
        loop_task_want(&w->loop, t);
}

void lane_turns_init(struct worker *w)
{
    list_init(&w->turns);
    loop_task_init(&w->turn, on_turn);
}

void lane_init(struct lane *l, struct call *c, bool is_answer)
{
    l->call = c;
    l->state = LANE_COLLECT;
    l->is_answer = is_answer;
    list_init(&l->hungry);
    list_init(&l->turn);
}

void lane_kill(struct lane *l)
{
    struct h2_stream *from = l->is_answer ? l->call->up : l->call->down;

    if (l->state == LANE_DEAD)
        return;
    lane__set_state(l, LANE_DEAD);
    lane__sated(l);
    list_remove(&l->turn);
    if (l->large != NULL)
        lane__large_over(l);
    else
        lane__message_over(l);
    chain_fini(&l->in);
    if (l->gather != NULL)
        lane__gather_drop(l);
    chain_fini(&l->msg);
    chain_fini(&l->large_in);
    chain_fini(&l->out);
    sealed_msg_fini(&l->sealed);
    l->relay_left = 0;
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
    l->progress += (uint32_t)n;
    if (l->state == LANE_FILLING) {
        slice_drop(s);
        lane__fill_on(l, n);
        if (l->state == LANE_FILLING)
            lane__credit(l);
        return;
    }
    if (lane__take_in(l, s) != ERR_OK)
        lane__fail_call(l, ERR_NOMEM);
    else if (is_open(l) && !has_yielded(l))
        lane__run(l);
}

void lane_end(struct lane *l)
{
    if (l->state == LANE_DEAD || l->has_ended)
        return;
    l->has_ended = true;
    if (is_open(l) && has_yielded(l))
        return;
    if (is_open(l))
        lane__run(l);
    else if (l->state == LANE_FILLING)
        lane__fill_on(l, 0);
}

void lane_kick(struct lane *l)
{
    if (is_open(l) && has_yielded(l))
        return;
    if (is_open(l))
        lane__run(l);
    else if (l->state == LANE_FILLING)
        lane__credit(l);
}
