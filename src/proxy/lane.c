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
 *   - the worker is over its memory share: calls that hold bytes fail, the oldest excepted. */
#include "proxy/lane.h"

#include <stdlib.h>

#include "base/metrics.h"
#include "etcd/watch.h"
#include "grpc/grpc.h"
#include "proxy/call.h"

struct lane_wait {
    struct key_wait wait;
    size_t need; /* index into the plan's needs */
};

struct lane_bench {
    struct etcd_plan plan;
    struct lane_wait *waits;
    size_t wait_count, wait_cap;
    size_t pending;
    struct lane_bench *next;
};

/* What lane_step has to say to lane_run. */
enum step {
    STEP_WAIT = 0, /* nothing to do before something else happens */
    STEP_AGAIN,    /* made progress: look again */
};

static void lane_run(struct lane *l);

/* --- benches --------------------------------------------------------------------------------- */

static bool bench_take(struct lane *l)
{
    struct worker *w = l->call->worker;

    if (l->bench != NULL)
        return true;
    l->bench = w->benches;
    if (l->bench != NULL)
        w->benches = l->bench->next;
    else
        l->bench = calloc(1, sizeof *l->bench);
    return l->bench != NULL;
}

static void bench_drop_waits(struct lane_bench *b)
{
    for (size_t i = 0; i < b->wait_count; i++) {
        struct key_wait *wait = &b->waits[i].wait;

        if (wait->is_pending)
            keyring_cancel(wait);
        dek_drop(wait->dek);
        wait->dek = NULL;
    }
    b->wait_count = b->pending = 0;
}

static void bench_give_back(struct lane *l)
{
    struct lane_bench *b = l->bench;

    if (b == NULL)
        return;
    bench_drop_waits(b);
    etcd_plan_reset(&b->plan);
    b->next = l->call->worker->benches;
    l->call->worker->benches = b;
    l->bench = NULL;
}

void lane_benches_free(struct worker *w)
{
    while (w->benches != NULL) {
        struct lane_bench *b = w->benches;

        w->benches = b->next;
        etcd_plan_fini(&b->plan);
        free(b->waits);
        free(b);
    }
}

/* --- the message in work --------------------------------------------------------------------- */

/* Everything of the present message goes; the lane can take the next one. */
static void message_over(struct lane *l)
{
    chain_clear(&l->msg);
    bench_give_back(l);
    if (l->stream == NULL && l->keys != NULL) {
        keyset_drop(l->keys);
        l->keys = NULL;
    }
}

static void stream_over(struct lane *l)
{
    etcd_stream_free(l->stream);
    l->stream = NULL;
    l->stream_todo = 0;
    chain_clear(&l->stream_in);
    message_over(l);
}

static enum step lane_fail(struct lane *l, enum err e)
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

static enum step lane_fail_size(struct lane *l, uint64_t size, uint64_t max)
{
    struct failure f;

    call_failure_init(l->call, ERR_MESSAGE_TOO_LARGE, &f);
    f.size = size;
    f.max = max;
    call_fail(l->call, &f);
    return STEP_WAIT;
}

static bool message_begin(struct lane *l)
{
    if (!bench_take(l))
        return false;
    if (l->keys == NULL)
        l->keys = worker_keys_ref(l->call->worker);
    return l->keys != NULL;
}

/* Puts the gRPC prefix before body and sends it to the client. Takes body. */
static bool send_answer(struct lane *l, struct chain *body)
{
    struct call *c = l->call;
    uint8_t prefix[GRPC_PREFIX_LEN];
    struct chain out = {0};
    enum err e;
    bool ok;

    grpc_prefix_put(prefix, (uint32_t)body->len);
    e = chain_push_copy(&out, &c->worker->pool, prefix, sizeof prefix, SLAB_SECRET);
    if (e == ERR_OK)
        e = chain_move(&out, body, body->len);
    if (e != ERR_OK) {
        chain_fini(&out);
        call_fail_err(c, e);
        return false;
    }
    ok = call_send_down(c, &out);
    chain_fini(&out);
    return ok;
}

/* --- resolve --------------------------------------------------------------------------------- */

static enum step lane_apply(struct lane *l);

static void on_key(struct key_wait *wait)
{
    struct lane *l = wait->user;
    struct lane_bench *b = l->bench;

    CHECK(l->state == LANE_PARKED && b->pending > 0);
    if (--b->pending > 0)
        return;
    l->state = LANE_OPEN;
    if (lane_apply(l) == STEP_AGAIN)
        lane_run(l);
}

static bool bench_reserve_waits(struct lane_bench *b, size_t n)
{
    struct lane_wait *waits;

    if (n <= b->wait_cap)
        return true;
    waits = realloc(b->waits, n * sizeof *waits);
    if (waits == NULL)
        return false;
    b->waits = waits;
    b->wait_cap = n;
    return true;
}

/* Asks for every DEK that values of the plan need, all at once. ERR_AGAIN: parked. */
static enum err resolve_reads(struct lane *l)
{
    struct lane_bench *b = l->bench;
    struct etcd_plan *p = &b->plan;

    if (!bench_reserve_waits(b, p->need_count))
        return ERR_NOMEM;
    for (size_t i = 0; i < p->need_count; i++) {
        struct etcd_need *need = &p->needs[i];
        struct lane_wait *w = &b->waits[b->wait_count];
        enum err e;

        if (need->is_write || need->dek != NULL)
            continue;
        *w = (struct lane_wait){.wait = {.on_done = on_key, .user = l}, .need = i};
        e = keyring_get(l->keys->ring, need->provider, &need->id, &w->wait);
        if (e == ERR_AGAIN) {
            b->wait_count++;
            b->pending++;
        } else if (e != ERR_OK) {
            return e;
        } else {
            need->dek = w->wait.dek;
        }
    }
    return b->pending > 0 ? ERR_AGAIN : ERR_OK;
}

/* The answers of the key ring move into the plan. */
static enum err collect_waits(struct lane_bench *b)
{
    enum err first = ERR_OK;

    for (size_t i = 0; i < b->wait_count; i++) {
        struct lane_wait *w = &b->waits[i];

        if (w->wait.err != ERR_OK && first == ERR_OK)
            first = w->wait.err;
        b->plan.needs[w->need].dek = w->wait.dek;
        w->wait.dek = NULL;
    }
    return first;
}

/* The write keys come last, so that a key's expiry is judged when it is used. */
static enum err resolve_writes(struct lane *l)
{
    struct etcd_plan *p = &l->bench->plan;

    for (size_t i = 0; i < p->need_count; i++) {
        struct etcd_need *need = &p->needs[i];
        struct dek *dek;

        if (!need->is_write || need->dek != NULL)
            continue;
        TRY(keyring_write_key(l->keys->ring, need->provider, &dek));
        need->dek = dek_ref(dek);
    }
    return ERR_OK;
}

/* A DEK that has just been unwrapped for us and has opened a value is worth keeping. */
static void confirm_keys(struct lane *l)
{
    struct lane_bench *b = l->bench;

    for (size_t i = 0; i < b->wait_count; i++) {
        struct etcd_need *need = &b->plan.needs[b->waits[i].need];

        if (need->was_used)
            keyring_confirm(l->keys->ring, need->provider, need->dek);
    }
}

/* --- apply and send -------------------------------------------------------------------------- */

static void count_applied(const struct etcd_plan *p)
{
    if (p->sealed > 0)
        metric_add(METRIC_values_sealed_total, p->sealed);
    if (p->opened > 0)
        metric_add(METRIC_values_opened_total, p->opened);
    if (p->plain > 0)
        metric_add(METRIC_identity_reads_total, p->plain);
}

static bool is_value_error(enum err e)
{
    return err_status(e) == GRPC_DATA_LOSS && e != ERR_ANS_MALFORMED && e != ERR_ANS_DOUBLED &&
           e != ERR_ANS_WIRE_TYPE && e != ERR_ANS_OUTSIDE && e != ERR_ANS_NO_KEY &&
           e != ERR_ANS_PREV_KEY && e != ERR_ANS_UNKNOWN_WATCH;
}

/* A value of a watch does not open: that watch alone ends. Upstream is asked to cancel it, the
 * client is told, and what etcd still sends for it is swallowed. out: whole responses that go
 * before. */
static enum step watch_cancel(struct lane *l, enum err e)
{
    struct call *c = l->call;
    struct etcd_plan *p = &l->bench->plan;
    struct etcd_watch *watch = etcd_ask_watch(&c->ask, p->watch.watch_id);
    struct sealed_msg cancel = {{0}};
    struct chain response = {0};
    struct failure f;
    char text[STATUS_TEXT_MAX];
    enum err made;

    if (c->up_has_ended || c->up == NULL || watch == NULL || c->watch_header_len == 0)
        return lane_fail(l, e);
    call_failure_init(c, e, &f);
    f.key = p->bad_key;
    status_of(&f, text);
    metric_refused(e);
    LOG_RATED(WARN, "watch cancelled", "call=%llu watch=%lld reason=%s text=\"%s\"",
              (unsigned long long)c->id, (long long)watch->id, err_reason(e), text);
    made = etcd_watch_cancel_request(watch->id, &c->worker->pool, &cancel);
    if (made == ERR_OK)
        made = etcd_watch_canceled_response(bytes_of(c->watch_header, c->watch_header_len),
                                            watch->id, text, &c->worker->pool, &response);
    if (made != ERR_OK) {
        sealed_msg_fini(&cancel);
        chain_fini(&response);
        return lane_fail(l, made);
    }
    watch->state = ETCD_WATCH_SWALLOW;
    if (!call_send_up(c, &cancel, false)) {
        chain_fini(&response);
        return STEP_WAIT;
    }
    if (!send_answer(l, &response))
        return STEP_WAIT;
    message_over(l);
    return STEP_AGAIN;
}

static enum step lane_apply_failed(struct lane *l, enum err e)
{
    if (l->is_answer && l->call->method->content == ETCD_WATCH && is_value_error(e))
        return watch_cancel(l, e);
    return lane_fail(l, e);
}

static enum step apply_request(struct lane *l)
{
    struct call *c = l->call;
    struct sealed_msg out = {{0}};
    enum err e;

    e = etcd_apply_request(&l->bench->plan, c->worker->envelope, &c->worker->pool, &l->msg, &out);
    if (e != ERR_OK)
        return lane_fail(l, e);
    count_applied(&l->bench->plan);
    confirm_keys(l);
    if (!call_send_up(c, &out, c->method->shape != ETCD_BIDI))
        return STEP_WAIT;
    message_over(l);
    return STEP_AGAIN;
}

static enum step apply_answer(struct lane *l)
{
    struct call *c = l->call;
    struct chain out = {0};
    enum err e;
    bool ok = true;

    if (l->stream != NULL)
        e = etcd_stream_apply(l->stream, &l->bench->plan, c->worker->envelope, &c->worker->pool,
                              &l->msg, &out);
    else
        e = etcd_apply_answer(&l->bench->plan, c->worker->envelope, &c->worker->pool, &l->msg,
                              &out);
    if (e == ERR_OK) {
        count_applied(&l->bench->plan);
        confirm_keys(l);
    }
    if (out.len > 0 || (e == ERR_OK && l->stream == NULL)) {
        if (l->stream != NULL && c->method->content != ETCD_RANGE_STREAM &&
            c->method->content != ETCD_WATCH)
            ok = call_send_down(c, &out);
        else
            ok = send_answer(l, &out);
    }
    chain_fini(&out);
    if (!ok)
        return STEP_WAIT;
    if (e != ERR_OK)
        return lane_apply_failed(l, e);
    message_over(l);
    return STEP_AGAIN;
}

/* Every read has its DEK, or failed. */
static enum step lane_apply(struct lane *l)
{
    enum err e = collect_waits(l->bench);

    if (e == ERR_OK)
        e = resolve_writes(l);
    if (e != ERR_OK) {
        l->bench->plan.err = e;
        return lane_apply_failed(l, e);
    }
    worker_contexts_used(l->call->worker);
    return l->is_answer ? apply_answer(l) : apply_request(l);
}

static enum step lane_resolve(struct lane *l)
{
    enum err e = resolve_reads(l);

    if (e == ERR_AGAIN) {
        l->state = LANE_PARKED;
        return STEP_WAIT;
    }
    if (e != ERR_OK) {
        l->bench->plan.err = e;
        return lane_apply_failed(l, e);
    }
    return lane_apply(l);
}

/* --- whole messages -------------------------------------------------------------------------- */

static bool has_values(enum etcd_content content)
{
    return content != ETCD_OPAQUE && content != ETCD_MEMBERS && content != ETCD_MEMBER_ADD;
}

/* l->msg holds one whole request message. */
static enum step request_message(struct lane *l)
{
    struct call *c = l->call;
    struct sealed_msg out = {{0}};
    enum etcd_verdict verdict = ETCD_AS_IS;

    if (!message_begin(l))
        return lane_fail(l, ERR_NOMEM);
    if (has_values(c->method->content))
        verdict = etcd_scan_request(&l->bench->plan, c->method->content, l->keys->rules->rules,
                                    &l->msg, &c->ask);
    switch (verdict) {
    case ETCD_EDIT:
        return lane_resolve(l);
    case ETCD_AS_IS:
        etcd_passthrough(verdict, &l->msg, &out);
        if (!call_send_up(c, &out, c->method->shape != ETCD_BIDI))
            return STEP_WAIT;
        message_over(l);
        return STEP_AGAIN;
    case ETCD_REJECT:
        break;
    }
    return lane_fail(l, l->bench->plan.err);
}

static enum step members_answer(struct lane *l)
{
    struct call *c = l->call;
    struct chain out = {0};
    enum err e = etcd_members_rewrite(c->method->content, &c->worker->env->advertise,
                                      &c->worker->pool, &l->msg, &out);
    bool ok;

    if (e != ERR_OK) {
        chain_fini(&out);
        return lane_fail(l, e == ERR_CONFIG ? ERR_NO_ADVERTISE_URL : e);
    }
    ok = send_answer(l, &out);
    chain_fini(&out);
    if (!ok)
        return STEP_WAIT;
    message_over(l);
    return STEP_AGAIN;
}

static void remember_watch_header(struct lane *l, const struct chain *msg)
{
    struct call *c = l->call;
    const struct etcd_watch_info *info = &l->bench->plan.watch;

    if (!info->has_header || info->header_len > sizeof c->watch_header || info->header_len == 0)
        return;
    chain_copy(msg, info->header_at, info->header_len, c->watch_header);
    c->watch_header_len = info->header_len;
}

static bool is_swallowed(const struct lane *l)
{
    return l->call->method->content == ETCD_WATCH && l->bench->plan.watch.is_swallowed;
}

/* l->msg holds one whole answer message. */
static enum step answer_message(struct lane *l)
{
    struct call *c = l->call;
    enum etcd_verdict verdict;

    if (!message_begin(l))
        return lane_fail(l, ERR_NOMEM);
    if (!has_values(c->method->content))
        return members_answer(l);
    verdict = etcd_scan_answer(&l->bench->plan, c->method->content, l->keys->rules->rules, &l->msg,
                               &c->ask);
    if (c->method->content == ETCD_WATCH)
        remember_watch_header(l, &l->msg);
    if (is_swallowed(l)) {
        message_over(l);
        return STEP_AGAIN;
    }
    switch (verdict) {
    case ETCD_EDIT:
        return lane_resolve(l);
    case ETCD_AS_IS:
        if (!send_answer(l, &l->msg))
            return STEP_WAIT;
        message_over(l);
        return STEP_AGAIN;
    case ETCD_REJECT:
        break;
    }
    return lane_apply_failed(l, l->bench->plan.err);
}

/* --- large answers --------------------------------------------------------------------------- */

static bool is_fill(const struct lane *l)
{
    enum etcd_content content = l->call->method->content;

    return content != ETCD_RANGE_STREAM && content != ETCD_WATCH;
}

static enum step stream_begin(struct lane *l, uint32_t length)
{
    struct call *c = l->call;
    uint8_t prefix[GRPC_PREFIX_LEN];
    struct chain out = {0};
    enum err e;
    bool ok;

    if (!message_begin(l))
        return lane_fail(l, ERR_NOMEM);
    e = etcd_stream_new(c->method->content, l->keys->rules->rules, &c->ask, length, &l->stream);
    if (e != ERR_OK)
        return lane_fail(l, e);
    metric_add(METRIC_messages_streamed_total, 1);
    l->stream_todo = length;
    chain_consume(&l->in, GRPC_PREFIX_LEN);
    if (!is_fill(l))
        return STEP_AGAIN;
    grpc_prefix_put(prefix, length);
    e = chain_push_copy(&out, &c->worker->pool, prefix, sizeof prefix, SLAB_SECRET);
    ok = e == ERR_OK && call_send_down(c, &out);
    chain_fini(&out);
    if (e != ERR_OK)
        return lane_fail(l, e);
    return ok ? STEP_AGAIN : STEP_WAIT;
}

/* The client reads slower than etcd sends: do not open more than its queue should hold. */
static bool client_is_behind(const struct lane *l)
{
    return l->call->down != NULL && h2_stream_queued(l->call->down) >= LIMIT_STREAM_OUT;
}

static enum step stream_step(struct lane *l)
{
    size_t n = l->in.len < l->stream_todo ? l->in.len : l->stream_todo;
    enum err e = chain_move(&l->stream_in, &l->in, n);

    if (e != ERR_OK || !bench_take(l))
        return lane_fail(l, ERR_NOMEM);
    l->stream_todo -= n;
    if (client_is_behind(l))
        return STEP_WAIT;
    switch (etcd_stream_next(l->stream, &l->stream_in, &l->bench->plan, &l->msg)) {
    case ETCD_STREAM_BATCH:
        if (l->call->method->content == ETCD_WATCH)
            remember_watch_header(l, &l->msg);
        if (is_swallowed(l)) {
            message_over(l);
            return STEP_AGAIN;
        }
        return lane_resolve(l);
    case ETCD_STREAM_MORE:
        bench_give_back(l);
        return STEP_WAIT;
    case ETCD_STREAM_DONE:
        stream_over(l);
        return STEP_AGAIN;
    case ETCD_STREAM_BAD:
        break;
    }
    return lane_apply_failed(l, l->bench->plan.err);
}

void lane_break_off(struct lane *l)
{
    struct chain out = {0};

    if (l->stream == NULL || !is_fill(l) || l->call->down == NULL)
        return;
    if (etcd_stream_abort(l->stream, &l->call->worker->pool, &out) == ERR_OK)
        (void)!h2_stream_send(l->call->down, &out, false);
    chain_fini(&out);
}

/* --- deframe --------------------------------------------------------------------------------- */

static enum step relay_step(struct lane *l)
{
    size_t n = l->in.len < l->relay_left ? l->in.len : l->relay_left;
    struct chain out = {0};
    bool ok;

    if (n == 0)
        return STEP_WAIT;
    if (chain_move(&out, &l->in, n) != ERR_OK) {
        chain_fini(&out);
        return lane_fail(l, ERR_NOMEM);
    }
    l->relay_left -= n;
    ok = call_send_down(l->call, &out);
    chain_fini(&out);
    return ok ? STEP_AGAIN : STEP_WAIT;
}

/* Moves the body of the message in front, which is whole, to l->msg. */
static bool take_message(struct lane *l, uint32_t length)
{
    chain_consume(&l->in, GRPC_PREFIX_LEN);
    return chain_move(&l->msg, &l->in, length) == ERR_OK;
}

static enum step answer_step(struct lane *l, const struct grpc_prefix *prefix)
{
    struct call *c = l->call;
    enum etcd_content content = c->method->content;

    if (prefix->flag != 0)
        return lane_fail(l, ERR_ANS_COMPRESSED);
    if (l->messages > 0 && call_is_unary(c) && c->method->shape == ETCD_UNARY)
        return lane_fail(l, ERR_ANS_DOUBLED);
    if (content == ETCD_OPAQUE) {
        l->messages++;
        l->relay_left = (size_t)prefix->length + GRPC_PREFIX_LEN;
        return STEP_AGAIN;
    }
    if (has_values(content) && prefix->length > c->worker->env->settings->stream_threshold) {
        l->messages++;
        return stream_begin(l, prefix->length);
    }
    if (prefix->length > LIMIT_ANSWER_UNIT)
        return lane_fail(l, ERR_MEMORY_LIMIT);
    if (l->in.len - GRPC_PREFIX_LEN < prefix->length)
        return STEP_WAIT;
    l->messages++;
    if (!take_message(l, prefix->length))
        return lane_fail(l, ERR_NOMEM);
    return answer_message(l);
}

static enum step request_step(struct lane *l, const struct grpc_prefix *prefix)
{
    struct call *c = l->call;
    uint64_t max = c->worker->env->settings->max_request_bytes;
    bool is_bidi = c->method->shape == ETCD_BIDI;

    if (prefix->flag != 0)
        return lane_fail(l, ERR_MESSAGE_COMPRESSED);
    if (prefix->length > max)
        return lane_fail_size(l, prefix->length, max);
    if (l->in.len - GRPC_PREFIX_LEN < prefix->length)
        return l->has_ended ? lane_fail(l, ERR_MESSAGE_CUT) : STEP_WAIT;
    if (!is_bidi && l->in.len - GRPC_PREFIX_LEN > prefix->length)
        return lane_fail(l, ERR_MESSAGE_EXTRA);
    /* A unary request goes on only after its END_STREAM, so that nothing can follow it. */
    if (!is_bidi && !l->has_ended)
        return STEP_WAIT;
    if (is_bidi && c->up == NULL)
        return STEP_WAIT;
    l->messages++;
    if (!take_message(l, prefix->length))
        return lane_fail(l, ERR_NOMEM);
    return request_message(l);
}

/* Nothing more can be taken out of l->in. */
static enum step end_step(struct lane *l)
{
    struct call *c = l->call;

    if (!l->has_ended || l->state != LANE_OPEN)
        return STEP_WAIT;
    if (l->is_answer) {
        if (l->in.len > 0 || l->relay_left > 0 || l->stream != NULL)
            return lane_fail(l, ERR_ANS_CUT);
        l->state = LANE_ENDED;
        call_finish(c);
        return STEP_WAIT;
    }
    if (l->in.len > 0 || (l->messages == 0 && c->method->shape != ETCD_BIDI))
        return lane_fail(l, ERR_MESSAGE_CUT);
    if (c->method->shape == ETCD_BIDI) {
        if (c->up == NULL)
            return STEP_WAIT;
        call_end_up(c);
    }
    l->state = LANE_ENDED;
    return STEP_WAIT;
}

static enum step lane_step(struct lane *l)
{
    struct grpc_prefix prefix;

    if (l->stream != NULL) {
        enum step s = stream_step(l);

        return s == STEP_WAIT && l->stream_todo > 0 && l->state == LANE_OPEN ? end_step(l) : s;
    }
    if (l->relay_left > 0)
        return l->in.len > 0 ? relay_step(l) : end_step(l);
    if (!grpc_prefix_peek(&l->in, &prefix))
        return end_step(l);
    if (prefix.flag > 1)
        return lane_fail(l, l->is_answer ? ERR_ANS_MALFORMED : ERR_PROTOBUF);
    if (!l->is_answer)
        return request_step(l, &prefix);
    if (answer_step(l, &prefix) == STEP_AGAIN)
        return STEP_AGAIN;
    /* An answer that is over but not whole. */
    return l->state == LANE_OPEN && l->stream == NULL && l->in.len > 0 ? end_step(l) : STEP_WAIT;
}

/* --- flow ------------------------------------------------------------------------------------ */

/* Credit goes back while a unit is being collected and while the other side's queue is short; a
 * parked lane and one that still has work of its own hold it back. */
static void lane_credit(struct lane *l)
{
    struct call *c = l->call;
    struct h2_stream *from = l->is_answer ? c->up : c->down;
    struct h2_stream *to = l->is_answer ? c->down : c->up;

    if (l->uncredited == 0 || from == NULL || l->state == LANE_PARKED)
        return;
    if (l->state == LANE_OPEN && to != NULL && h2_stream_queued(to) >= LIMIT_STREAM_OUT)
        return;
    h2_stream_credit(from, l->uncredited);
    l->uncredited = 0;
}

bool lane_is_holding(const struct lane *l)
{
    return l->in.len > 0 || l->msg.len > 0 || l->stream_in.len > 0;
}

static bool is_oldest_holder(const struct call *c)
{
    LIST_FOREACH(it, &c->worker->calls)
    {
        const struct call *other = LIST_ENTRY(it, struct call, age_node);

        if (lane_is_holding(&other->request) || lane_is_holding(&other->answer))
            return other == c;
    }
    return true;
}

static void lane_run(struct lane *l)
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
    if (lane_is_holding(l) && worker_is_over_limit(l->call->worker) && !is_oldest_holder(l->call)) {
        lane_fail(l, ERR_MEMORY_LIMIT);
        return;
    }
    lane_credit(l);
}

static void on_turn(struct loop_task *t)
{
    lane_run(CONTAINER_OF(t, struct lane, turn));
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
        stream_over(l);
    else
        message_over(l);
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
    if (chain_push(&l->in, s) != ERR_OK)
        lane_fail(l, ERR_NOMEM);
    else if (l->state == LANE_OPEN)
        lane_run(l);
}

void lane_end(struct lane *l)
{
    if (l->state == LANE_DEAD || l->has_ended)
        return;
    l->has_ended = true;
    if (l->state == LANE_OPEN)
        lane_run(l);
}

void lane_kick(struct lane *l)
{
    if (l->state == LANE_OPEN)
        lane_run(l);
    else if (l->state == LANE_ENDED)
        lane_credit(l);
}
