/* SPDX-License-Identifier: Apache-2.0 */
/* Steps two, four and five of a lane: scan a whole message, apply its plan, send the result. A
 * Watch loses only the watch whose value does not open. */
#include "base/log.h"
#include "base/metrics.h"
#include "etcd/watch.h"
#include "grpc/grpc.h"
#include "proxy/lane_int.h"

/* Everything of the present message goes; the lane can take the next one. */
void lane__message_over(struct lane *l)
{
    chain_clear(&l->msg);
    lane__bench_give_back(l);
    if (l->stream == NULL && l->keys != NULL) {
        keyset_drop(l->keys);
        l->keys = NULL;
    }
}

bool lane__message_begin(struct lane *l)
{
    if (!lane__bench_take(l))
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

/* --- apply and send -------------------------------------------------------------------------- */

void lane__tally(struct lane *l, uint64_t ns)
{
    struct etcd_plan *p = &l->bench->plan;

    if (p->sealed > 0)
        metric_add(METRIC_values_sealed_total, p->sealed);
    if (p->opened > 0)
        metric_add(METRIC_values_opened_total, p->opened);
    if (p->plain > 0)
        metric_add(METRIC_identity_reads_total, p->plain);
    p->sealed = p->opened = p->plain = 0;
    tally_plan(l->call->worker->tally, l->keys->rules, p, ns);
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
static enum lane_step watch_cancel(struct lane *l, enum err e)
{
    struct call *c = l->call;
    struct etcd_plan *p = &l->bench->plan;
    struct etcd_watch *watch = etcd_ask_watch(&c->ask, p->watch.watch_id);
    struct sealed_msg cancel = {{0}};
    struct chain response = {0};
    struct failure f;
    char text[STATUS_TEXT_MAX];
    enum err made;
    bool is_sent;

    if (c->up_has_ended || c->up == NULL || watch == NULL || c->watch_header_len == 0)
        return lane__fail(l, e);
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
        return lane__fail(l, made);
    }
    watch->state = ETCD_WATCH_SWALLOW;
    if (!call_send_up(c, &cancel, false)) {
        chain_fini(&response);
        return STEP_WAIT;
    }
    is_sent = send_answer(l, &response);
    chain_fini(&response);
    if (!is_sent)
        return STEP_WAIT;
    lane__message_over(l);
    return STEP_AGAIN;
}

enum lane_step lane__apply_failed(struct lane *l, enum err e)
{
    if (l->is_answer && l->call->method->content == ETCD_WATCH && is_value_error(e))
        return watch_cancel(l, e);
    return lane__fail(l, e);
}

static enum lane_step apply_request(struct lane *l)
{
    struct call *c = l->call;
    uint64_t began_ns = loop_hrtime_ns();
    struct sealed_msg out = {{0}};
    enum err e;

    e = etcd_apply_request(&l->bench->plan, c->worker->envelope, &c->worker->pool, &l->msg, &out);
    lane__tally(l, loop_hrtime_ns() - began_ns);
    if (e != ERR_OK)
        return lane__fail(l, e);
    lane__confirm_keys(l);
    if (!call_send_up(c, &out, c->method->shape != ETCD_BIDI))
        return STEP_WAIT;
    lane__message_over(l);
    return STEP_AGAIN;
}

static enum lane_step apply_answer(struct lane *l)
{
    struct call *c = l->call;
    uint64_t began_ns = loop_hrtime_ns();
    struct chain out = {0};
    enum err e;
    bool ok = true;

    if (l->stream != NULL)
        e = etcd_stream_apply(l->stream, &l->bench->plan, c->worker->envelope, &c->worker->pool,
                              &l->msg, &out);
    else
        e = etcd_apply_answer(&l->bench->plan, c->worker->envelope, &c->worker->pool, &l->msg,
                              &out);
    lane__tally(l, loop_hrtime_ns() - began_ns);
    if (e == ERR_OK)
        lane__confirm_keys(l);
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
        return lane__apply_failed(l, e);
    lane__message_over(l);
    return STEP_AGAIN;
}

enum lane_step lane__apply(struct lane *l)
{
    return l->is_answer ? apply_answer(l) : apply_request(l);
}

/* --- whole messages -------------------------------------------------------------------------- */

bool lane__has_values(enum etcd_content content)
{
    return content != ETCD_OPAQUE && !etcd_content_is_members(content);
}

/* l->msg holds one whole request message. */
enum lane_step lane__request(struct lane *l)
{
    struct call *c = l->call;
    struct sealed_msg out = {{0}};
    enum etcd_verdict verdict = ETCD_AS_IS;

    if (!lane__message_begin(l))
        return lane__fail(l, ERR_NOMEM);
    if (lane__has_values(c->method->content))
        verdict = etcd_scan_request(&l->bench->plan, c->method->content, l->keys->rules->rules,
                                    &l->msg, &c->ask);
    lane__tally(l, 0);
    switch (verdict) {
    case ETCD_EDIT:
        return lane__resolve(l);
    case ETCD_AS_IS:
        etcd_passthrough(verdict, &l->msg, &out);
        if (!call_send_up(c, &out, c->method->shape != ETCD_BIDI))
            return STEP_WAIT;
        lane__message_over(l);
        return STEP_AGAIN;
    case ETCD_REJECT:
        break;
    }
    return lane__fail(l, l->bench->plan.err);
}

static enum lane_step members_answer(struct lane *l)
{
    struct call *c = l->call;
    struct chain out = {0};
    enum err e = etcd_members_rewrite(c->method->content, &c->worker->env->advertise,
                                      &c->worker->pool, &l->msg, &out);
    bool ok;

    if (e != ERR_OK) {
        chain_fini(&out);
        return lane__fail(l, e == ERR_CONFIG ? ERR_NO_ADVERTISE_URL : e);
    }
    ok = send_answer(l, &out);
    chain_fini(&out);
    if (!ok)
        return STEP_WAIT;
    lane__message_over(l);
    return STEP_AGAIN;
}

void lane__remember_header(struct lane *l, struct bytes header)
{
    struct call *c = l->call;

    if (header.n == 0 || header.n > sizeof c->watch_header)
        return;
    memcpy(c->watch_header, header.p, header.n);
    c->watch_header_len = header.n;
}

static void remember_header_of(struct lane *l)
{
    const struct etcd_watch_info *info = &l->bench->plan.watch;
    uint8_t header[sizeof l->call->watch_header];

    if (!info->has_header || info->header_len > sizeof header)
        return;
    chain_copy(&l->msg, info->header_at, info->header_len, header);
    lane__remember_header(l, bytes_of(header, info->header_len));
}

bool lane__is_swallowed(const struct lane *l)
{
    return l->call->method->content == ETCD_WATCH && l->bench->plan.watch.is_swallowed;
}

/* l->msg holds one whole answer message. */
enum lane_step lane__answer(struct lane *l)
{
    struct call *c = l->call;
    enum etcd_verdict verdict;

    if (!lane__message_begin(l))
        return lane__fail(l, ERR_NOMEM);
    if (!lane__has_values(c->method->content))
        return members_answer(l);
    verdict = etcd_scan_answer(&l->bench->plan, c->method->content, l->keys->rules->rules, &l->msg,
                               &c->ask);
    lane__tally(l, 0);
    if (c->method->content == ETCD_WATCH)
        remember_header_of(l);
    if (lane__is_swallowed(l)) {
        lane__message_over(l);
        return STEP_AGAIN;
    }
    switch (verdict) {
    case ETCD_EDIT:
        return lane__resolve(l);
    case ETCD_AS_IS:
        if (!send_answer(l, &l->msg))
            return STEP_WAIT;
        lane__message_over(l);
        return STEP_AGAIN;
    case ETCD_REJECT:
        break;
    }
    return lane__apply_failed(l, l->bench->plan.err);
}
