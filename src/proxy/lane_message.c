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

/* --- gRPC prefixes --------------------------------------------------------------------------- */

/* Room for a prefix at the end of out, where the message will gather behind it. NULL: no memory. */
static uint8_t *prefix_reserve(const struct lane *l, struct chain *out)
{
    static const uint8_t none[GRPC_PREFIX_LEN];
    struct slice *s;

    if (chain_push_copy(out, &l->call->worker->pool, none, sizeof none,
                        l->is_answer ? SLAB_SECRET : 0) != ERR_OK)
        return NULL;
    s = chain_at(out, out->count - 1);
    return slice_data(*s) + s->len - sizeof none;
}

/* out is the prefix and its message. */
static void prefix_fill(uint8_t *prefix, const struct chain *out)
{
    grpc_prefix_put(prefix, (uint32_t)(out->len - GRPC_PREFIX_LEN));
}

/* Puts the present message, which goes on byte for byte, behind its prefix: as it came. */
static enum err prefix_restore(struct lane *l, struct chain *msg, struct chain *out)
{
    uint8_t *prefix;

    if (l->has_prefix) {
        chain_unconsume(msg, GRPC_PREFIX_LEN);
        return chain_append(out, msg);
    }
    prefix = prefix_reserve(l, out);
    TRY(prefix == NULL ? ERR_NOMEM : chain_append(out, msg));
    prefix_fill(prefix, out);
    return ERR_OK;
}

/* Sends a message with its prefix to the client, or fails the call with e. Takes out. */
static bool send_answer(struct lane *l, enum err e, struct chain *out)
{
    bool ok = e == ERR_OK && call_send_down(l->call, out);

    chain_fini(out);
    if (e != ERR_OK)
        call_fail_err(l->call, e);
    return ok;
}

/* --- apply and send -------------------------------------------------------------------------- */

void lane__tally(struct lane *l, uint64_t ns)
{
    struct etcd_plan *p = &l->bench->plan;

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

static bool is_value_error(enum err e)
{
    return err_is_of_value(e);
}

static enum err make_cancel(struct lane *l, int64_t watch_id, struct sealed_msg *out)
{
    uint8_t *prefix = prefix_reserve(&l->call->request, &out->body);

    TRY(prefix == NULL ? ERR_NOMEM
                       : etcd_watch_cancel_request(watch_id, &l->call->worker->pool, out));
    prefix_fill(prefix, &out->body);
    return ERR_OK;
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
    char text[STATUS_TEXT_MAX], log_text[STATUS_TEXT_MAX];
    uint8_t *prefix;
    enum err made;

    if (c->up_has_ended || c->up == NULL || watch == NULL || c->watch_header_len == 0)
        return lane__fail(l, e);
    call_failure_init(c, e, &f);
    f.key = p->bad_key;
    status_of(&f, text);
    status_log_text(&f, log_text);
    metric_refused(e);
    LOG_RATED(WARN, "watch cancelled", "call=%llu watch=%lld reason=%s text=\"%s\"",
              (unsigned long long)c->id, (long long)watch->id, err_reason(e), log_text);
    status_log_key(&f, c->id);
    made = make_cancel(l, watch->id, &cancel);
    prefix = made == ERR_OK ? prefix_reserve(l, &response) : NULL;
    if (made == ERR_OK)
        made = prefix == NULL
                   ? ERR_NOMEM
                   : etcd_watch_canceled_response(bytes_of(c->watch_header, c->watch_header_len),
                                                  watch->id, text, &c->worker->pool, &response);
    if (made != ERR_OK) {
        sealed_msg_fini(&cancel);
        chain_fini(&response);
        return lane__fail(l, made);
    }
    prefix_fill(prefix, &response);
    watch->state = ETCD_WATCH_SWALLOW;
    if (!call_send_up(c, &cancel, false)) {
        chain_fini(&response);
        return STEP_WAIT;
    }
    if (!send_answer(l, ERR_OK, &response))
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
    uint8_t *prefix = prefix_reserve(l, &out.body);
    enum err e;

    if (prefix == NULL)
        return lane__fail(l, ERR_NOMEM);
    e = etcd_apply_request(&l->bench->plan, c->worker->envelope, &c->worker->pool, &l->msg, &out);
    lane__tally(l, loop_hrtime_ns() - began_ns);
    if (e != ERR_OK)
        return lane__fail(l, e);
    prefix_fill(prefix, &out.body);
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
    bool is_part = l->stream != NULL && lane__is_fill(l); /* of a message that has its prefix */
    uint8_t *prefix = is_part ? NULL : prefix_reserve(l, &out);
    size_t head = out.len;
    enum err e;
    bool ok = true;

    if (!is_part && prefix == NULL)
        return lane__fail(l, ERR_NOMEM);
    if (l->stream != NULL)
        e = etcd_stream_apply(l->stream, &l->bench->plan, c->worker->envelope, &c->worker->pool,
                              &l->msg, &out);
    else
        e = etcd_apply_answer(&l->bench->plan, c->worker->envelope, &c->worker->pool, &l->msg,
                              &out);
    lane__tally(l, loop_hrtime_ns() - began_ns);
    if (e == ERR_OK)
        lane__confirm_keys(l);
    if (prefix != NULL)
        prefix_fill(prefix, &out);
    if (out.len > head || (e == ERR_OK && l->stream == NULL))
        ok = call_send_down(c, &out);
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
    struct chain whole = {0};
    enum etcd_verdict verdict = ETCD_AS_IS;
    enum err e;

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
        e = prefix_restore(l, &l->msg, &whole);
        if (e != ERR_OK) {
            chain_fini(&whole);
            return lane__fail(l, e);
        }
        etcd_passthrough(verdict, &whole, &out);
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
    uint8_t *prefix = prefix_reserve(l, &out);
    enum err e = prefix == NULL
                     ? ERR_NOMEM
                     : etcd_members_rewrite(c->method->content, &c->worker->env->advertise,
                                            &c->worker->pool, &l->msg, &out);

    if (e != ERR_OK) {
        chain_fini(&out);
        return lane__fail(l, e == ERR_CONFIG ? ERR_NO_ADVERTISE_URL : e);
    }
    prefix_fill(prefix, &out);
    if (!send_answer(l, ERR_OK, &out))
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
    struct chain out = {0};
    enum err e;

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
        e = prefix_restore(l, &l->msg, &out);
        if (!send_answer(l, e, &out))
            return STEP_WAIT;
        lane__message_over(l);
        return STEP_AGAIN;
    case ETCD_REJECT:
        break;
    }
    return lane__apply_failed(l, l->bench->plan.err);
}
