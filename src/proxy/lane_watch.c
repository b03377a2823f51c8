/* SPDX-License-Identifier: Apache-2.0 */
/* A value of a watch does not open: that watch alone ends.
 *
 *   etcd     <- cancel_request     everything that it still sends for the watch is swallowed, up to
 *   client   <- canceled response  its own canceled answer
 *
 * It takes a stream that may still be written to and a header for the response (clients crash
 * without one); else the call ends. */
#include "base/log.h"
#include "base/metrics.h"
#include "etcd/watch_cancel.h"
#include "grpc/grpc.h"
#include "proxy/lane_int.h"

void lane__remember_header(struct lane *l, struct bytes header)
{
    struct call *c = l->call;

    if (header.n == 0 || header.n > sizeof c->watch_header)
        return;
    memcpy(c->watch_header, header.p, header.n);
    c->watch_header_len = header.n;
}

static enum err make_cancel(struct lane *l, int64_t watch_id, struct sealed_msg *out)
{
    struct slab_pool *pool = &l->call->worker->pool;
    uint8_t *prefix = sealed_msg_reserve(out, pool, GRPC_PREFIX_LEN);

    if (prefix == NULL)
        return ERR_NOMEM;
    TRY(etcd_watch_cancel_request(watch_id, pool, out));
    lane__prefix_fill(prefix, sealed_msg_len(out) - GRPC_PREFIX_LEN);
    return ERR_OK;
}

static enum err make_response(struct lane *l, int64_t watch_id, const char *text, struct chain *out)
{
    struct call *c = l->call;
    uint8_t *prefix = lane__prefix_reserve(l, out);

    if (prefix == NULL)
        return ERR_NOMEM;
    TRY(etcd_watch_canceled_response(bytes_of(c->watch_header, c->watch_header_len), watch_id, text,
                                     &c->worker->pool, out));
    lane__prefix_fill(prefix, out->len - GRPC_PREFIX_LEN);
    return ERR_OK;
}

/* Tells both sides. False: the call has ended. */
static bool tell(struct lane *l, struct etcd_watch *watch, const char *text)
{
    struct sealed_msg cancel = {0};
    struct chain response = {0};
    enum err e = make_cancel(l, watch->id, &cancel);
    bool ok;

    if (e == ERR_OK)
        e = make_response(l, watch->id, text, &response);
    if (e != ERR_OK) {
        lane__fail_call(l, e);
    } else {
        watch->state = ETCD_WATCH_SWALLOW;
    }
    ok = e == ERR_OK && call_send_up(l->call, &cancel, false) && call_send_down(l->call, &response);
    sealed_msg_fini(&cancel);
    chain_fini(&response);
    return ok;
}

enum lane_step lane__watch_cancel(struct lane *l, enum err e)
{
    struct call *c = l->call;
    struct etcd_plan *p = &l->work->plan;
    struct etcd_watch *watch = etcd_ask_watch(&c->ask, p->watch.watch_id);
    struct failure f;
    char text[STATUS_TEXT_MAX], log_text[STATUS_TEXT_MAX];

    if (c->up_has_ended || c->up == NULL || watch == NULL || c->watch_header_len == 0)
        return lane__fail_call(l, e);
    call_failure_init(c, e, &f);
    f.key = p->bad_key;
    status_of(&f, text);
    status_log_text(&f, log_text);
    metric_refused(e);
    LOG_RATED(WARN, "watch cancelled", "call=%llu watch=%lld reason=%s text=\"%s\"",
              (unsigned long long)c->id, (long long)watch->id, err_reason(e), log_text);
    status_log_key(&f, c->id);
    if (!tell(l, watch, text))
        return STEP_WAIT;
    lane__message_over(l);
    lane__set_state(l, l->large != NULL ? LANE_LARGE : LANE_COLLECT);
    return STEP_NEXT;
}
