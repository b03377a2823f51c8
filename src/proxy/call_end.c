/* SPDX-License-Identifier: Apache-2.0 */
/* Every end of a call goes through call__end: it counts the call, lets go of what it holds, ends
 * the upstream stream and tells the client.
 *
 *   etcd's answer is whole, a probe has its answer: ANSWERED ───┐
 *   call_fail, behind FILLING or at once: STATUS or RESET ──────┤
 *   REFUSED_STREAM of etcd, no place for a probe: RESET ────────┼─► call__end
 *   a peer makes no progress: STATUS or RESET ──────────────────┤
 *   the client's stream is over: GONE ──────────────────────────┘
 *
 * Every call ends with GONE at last, and is freed when etcd's stream is over, too.
 *
 * FILLING is before the end: the client was promised a large message that can't be completed with
 * values any more, so it is completed with filler while etcd sends it, and the status follows. */
#include <stdio.h>
#include <stdlib.h>

#include "base/metrics.h"
#include "etcd/message.h"
#include "grpc/grpc.h"
#include "proxy/call_int.h"

/* An answered stream whose client does not end its own side is reset after this time. */
#define REAP_MS 3000

/* --- what it holds --------------------------------------------------------------------------- */

/* Nothing of the request goes to etcd any more. */
static void drop_request(struct call *c)
{
    upstream_wait_cancel(&c->wait);
    lane_kill(&c->request);
    sealed_msg_fini(&c->pending);
    fields_fini(&c->headers, &c->worker->pool.objects);
    call__count_kept(c);
}

void call__release_keys(struct call *c)
{
    if (c->sealed_with != NULL)
        keyset_drop(c->sealed_with);
    c->sealed_with = NULL;
}

void call__free_if_over(struct call *c)
{
    struct link *link;

    if (c->down != NULL || c->up != NULL)
        return;
    CHECK(c->state == CALL_GONE);
    loop_timer_fini(&c->reap);
    fields_fini(&c->trailers, &c->worker->pool.objects);
    call__count_kept(c);
    call__release_keys(c);
    free(c->late_text);
    list_remove(&c->link_node);
    list_remove(&c->age_node);
    list_remove(&c->progress.node);
    link = c->link;
    if (c->is_probe)
        link_probe_removed(link);
    objects_free(&c->worker->pool.objects, c);
    link_call_removed(link);
}

/* --- the client's side ----------------------------------------------------------------------- */

void call__on_reap(struct loop_timer *t)
{
    struct call *c = CONTAINER_OF(t, struct call, reap);

    /* Who has not read all yet has its time for that (progress.c), and the end comes behind. */
    if (c->down != NULL && h2_stream_queued(c->down) == 0)
        h2_stream_reset(c->down, H2_NO_ERROR);
}

static enum err say_status(struct call *c, const struct call_end *end)
{
    const char *http_status = end->http_status == NULL ? "200" : end->http_status;
    char code[16], message[3 * STATUS_TEXT_MAX];
    struct h2_field f[6];
    size_t n = 0;

    snprintf(code, sizeof code, "%d", (int)end->status);
    grpc_message_encode(bytes_str(end->text), message, sizeof message);
    if (!c->down_has_headers) {
        f[n++] = (struct h2_field){BYTES_LIT(":status"), bytes_str(http_status)};
        f[n++] = (struct h2_field){BYTES_LIT("content-type"), BYTES_LIT("application/grpc")};
    }
    f[n++] = (struct h2_field){BYTES_LIT("grpc-status"), bytes_str(code)};
    f[n++] = (struct h2_field){BYTES_LIT("grpc-message"), bytes_str(message)};
    if (end->refuse_encoding)
        f[n++] = (struct h2_field){BYTES_LIT("grpc-accept-encoding"), BYTES_LIT("identity")};
    if (c->down_has_headers)
        return h2_stream_trailers(c->down, (struct h2_fields){f, n});
    return h2_respond(c->down, (struct h2_fields){f, n}, true);
}

static enum err hand_on_trailers(struct call *c)
{
    struct h2_fields trailers = fields_take(&c->trailers);

    return h2_stream_trailers_take(c->down, &trailers);
}

static void tell_client(struct call *c, const struct call_end *end)
{
    enum err e = ERR_OK;

    if (c->down == NULL || c->down_has_ended)
        return;
    c->down_has_ended = true;
    if (end->how == CALL_END_RESET) {
        h2_stream_reset(c->down, end->code);
        return;
    }
    if (end->how == CALL_END_STATUS)
        e = say_status(c, end);
    else if (end->how == CALL_END_ANSWERED && c->trailers.count > 0)
        e = hand_on_trailers(c);
    if (e != ERR_OK)
        h2_stream_reset(c->down, H2_INTERNAL_ERROR);
    /* A client that goes on sending is not read any more. */
    else if (!c->client_has_ended &&
             loop_timer_start(&c->worker->loop, &c->reap, REAP_MS) != ERR_OK)
        h2_stream_reset(c->down, H2_NO_ERROR);
    if (h2_stream_queued(c->down) > 0) /* until the client has taken it */
        progress_watch(&c->worker->progress, &c->progress);
}

/* --- the end --------------------------------------------------------------------------------- */

enum grpc_status call__status_of(struct bytes code)
{
    unsigned status = 0;

    for (size_t i = 0; i < code.n && i < 3; i++)
        status = status * 10 + (unsigned)(code.p[i] - '0');
    return code.n == 0 || code.n > 2 || status > GRPC_UNAUTHENTICATED ? GRPC_UNKNOWN
                                                                      : (enum grpc_status)status;
}

/* Each gRPC call once: not what was counted when it failed or was answered, and no probes. */
static void count(struct call *c, enum call_end_how how, enum grpc_status status)
{
    if (c->state != CALL_REFUSED && !call_is_live(c))
        return;
    tally_call(c->worker->tally, c->method, status);
    if (how != CALL_END_ANSWERED)
        return;
    call__answer_done(c);
    if (call_is_unary(c))
        tally_added(c->worker->tally, c->method, c->added_ns);
}

void call__end(struct call *c, const struct call_end *end)
{
    static const enum call_state states[] = {
        [CALL_END_GONE] = CALL_GONE,
        [CALL_END_ANSWERED] = CALL_ANSWERED,
        [CALL_END_STATUS] = CALL_FAILED,
        [CALL_END_RESET] = CALL_FAILED,
    };

    count(c, end->how, end->status);
    call__set_state(c, states[end->how]);
    if (c->up != NULL && end->how != CALL_END_ANSWERED)
        h2_stream_reset(c->up, H2_CANCEL);
    call__probe_cancel(c);
    lane_kill(&c->answer);
    etcd_ask_fini(&c->ask); /* nothing more of etcd is held to it */
    drop_request(c);
    if (c->worker->beyond == c)
        c->worker->beyond = NULL;
    tell_client(c, end);
    if (c->claims > 0)
        call_claim(c);
}

/* --- etcd's answer is whole ------------------------------------------------------------------ */

void call_finish(struct call *c)
{
    NOT_CLEARED struct fields_head head;

    if (c->state != CALL_OPEN)
        return;
    if (c->trailers.count == 0) { /* END_STREAM without trailers: an answer that was cut */
        call_fail_err(c, ERR_ANS_CUT);
        return;
    }
    fields_look(fields_view(&c->trailers), &head);
    if (head.grpc_status_count > 1) { /* which of them would the client believe? */
        call_fail_err(c, ERR_ANS_BROKEN);
        return;
    }
    call__end(c, &(struct call_end){.how = CALL_END_ANSWERED,
                                    .status = call__status_of(head.grpc_status)});
}

/* --- failures -------------------------------------------------------------------------------- */

static bool is_write(const struct call *c)
{
    enum etcd_content content = c->method == NULL ? ETCD_REFUSED : c->method->content;

    return content == ETCD_PUT || content == ETCD_TXN || content == ETCD_DELETE_RANGE;
}

void call_failure_init(const struct call *c, enum err e, struct failure *f)
{
    *f = (struct failure){
        .err = e,
        /* Once the request has left, a write has been decided: what fails is reading the answer. */
        .is_write = is_write(c) && c->state != CALL_OPEN,
        .is_watch = c->method != NULL && c->method->content == ETCD_WATCH,
        .path = c->method == NULL ? bytes_of(NULL, 0) : bytes_str(c->method->path),
    };
}

/* A tool that took us for an etcd: it hears so, and nothing is wrong here. */
static bool is_who_are_you(const struct failure *f)
{
    return f->err == ERR_UNKNOWN_METHOD && bytes_eq(f->path, BYTES_LIT(ETCD_IDENTIFY_PATH));
}

static void log_failure(const struct call *c, const struct failure *f, enum grpc_status status)
{
    static struct log_rate rates[ERR_COUNT]; /* many of one cause must not hide another */
    /* Stored values and keys are the operator's matter, not the client's. */
    bool is_serious = status == GRPC_DATA_LOSS || err_fault(f->err) == FAULT_KMS;
    enum log_level level = is_serious ? LOG_WARN : LOG_INFO;
    char text[STATUS_TEXT_MAX];

    status_log_text(f, text);
    metric_refused(f->err);
    if (log_is_on(level) && log_rate_ok(&rates[f->err], level, "call failed"))
        log_write(level, "call failed", "call=%llu method=%.*s reason=%s status=%s text=\"%s\"",
                  (unsigned long long)c->id, (int)f->path.n,
                  f->path.n > 0 ? (const char *)f->path.p : "", err_reason(f->err),
                  grpc_status_name(status), text);
    status_log_key(f, c->id);
}

/* The status has to wait for the rest of the message. False: no memory. */
static bool fill_on(struct call *c, enum grpc_status status, const char *text)
{
    c->late_text = strdup(text);
    if (c->late_text == NULL)
        return false;
    c->late_status = status;
    count(c, CALL_END_STATUS, status);
    call__set_state(c, CALL_FILLING);
    drop_request(c);
    return true;
}

/* Nothing more comes of etcd. Behind a part of a message no status can come: clients see an
 * "unexpected EOF". For a stream, which may be opened again, there is a code that they take for
 * UNAVAILABLE. */
static void end_failed(struct call *c, enum lane_fill how, struct call_end end)
{
    bool is_cut = lane_rest(&c->answer) > 0 && !call_is_unary(c);

    end.how = how == LANE_FILLED ? CALL_END_STATUS : CALL_END_RESET;
    end.code = H2_INTERNAL_ERROR;
    if (is_cut && end.status == GRPC_UNAVAILABLE) {
        end.how = CALL_END_RESET;
        end.code = H2_REFUSED_STREAM;
    }
    call__end(c, &end);
}

void call_filled(struct call *c, enum lane_fill how)
{
    if (how != LANE_FILL_MORE)
        end_failed(c, how, (struct call_end){.status = c->late_status, .text = c->late_text});
}

void call_fail(struct call *c, const struct failure *f)
{
    char text[STATUS_TEXT_MAX];
    enum grpc_status status;
    enum lane_fill how;

    if (c->state != CALL_REFUSED && !call_is_live(c))
        return;
    status = status_of(f, text);
    if (!is_who_are_you(f))
        log_failure(c, f, status);
    how = lane_break_off(&c->answer);
    if (how == LANE_FILL_MORE && c->up != NULL && fill_on(c, status, text))
        return;
    end_failed(c, how,
               (struct call_end){.status = status,
                                 .text = text,
                                 .refuse_encoding = f->err == ERR_MESSAGE_COMPRESSED});
}

void call_fail_err(struct call *c, enum err e)
{
    struct failure f;

    call_failure_init(c, e, &f);
    call_fail(c, &f);
}

/* The status would wait behind what is queued, or come in the middle of a message. To gRPC clients
 * this code is the same one. */
static void shed_by_reset(struct call *c, enum err why)
{
    struct failure f;

    if (!call_is_live(c)) { /* it has ended, and what it said is not read */
        h2_stream_reset(c->down, H2_ENHANCE_YOUR_CALM);
        return;
    }
    call_failure_init(c, why, &f);
    log_failure(c, &f, GRPC_RESOURCE_EXHAUSTED);
    call__end(c, &(struct call_end){.how = CALL_END_RESET,
                                    .status = GRPC_RESOURCE_EXHAUSTED,
                                    .code = H2_ENHANCE_YOUR_CALM});
}

void call_shed(struct call *c, enum err why)
{
    bool is_stuck = c->down != NULL && h2_stream_queued(c->down) > 0;
    bool is_cut = lane_is_in_message(&c->answer);

    if (!call_is_live(c) && c->down != NULL)
        metric_refused(why);
    lane_kill(&c->answer); /* a large answer is not completed with filler */
    if ((is_stuck || is_cut) && c->down != NULL)
        shed_by_reset(c, why);
    else
        call_fail_err(c, why);
    if (c->claims > 0)
        call_claim(c);
}

void call_claim_within(struct call *c)
{
    uint64_t most = c->worker->env->settings->stream_memory_limit;

    call_claim(c);
    /* A message as large as the bound passes: windows are promised beyond its end. */
    if (c->claims > most && c->claims - most > LIMIT_STREAM_WINDOW)
        call_shed(c, ERR_STREAM_MEMORY);
    if (link_is_over(c->link))
        link_shed_own(c->link);
}

/* --- peers that make no progress ------------------------------------------------------------- */

/* Does what is in frames for the client end with a message? Then what is queued is whole messages,
 * up to where the lane is in one. (A part that only looks so ends the stream the other way, which
 * its client opens again as well.) */
static bool is_between_messages(const struct call *c)
{
    const struct chain *out = h2_stream_out(c->down);
    struct chain_pos at = chain_begin(out);
    size_t rest = lane_rest(&c->answer);

    while (out->len - at.at >= GRPC_PREFIX_LEN) {
        size_t left = out->len - at.at + rest, length;
        uint8_t prefix[GRPC_PREFIX_LEN];

        chain_take(&at, prefix, sizeof prefix);
        length =
            (size_t)prefix[1] << 24 | (size_t)prefix[2] << 16 | (size_t)prefix[3] << 8 | prefix[4];
        if (prefix[0] != 0 || length > left - GRPC_PREFIX_LEN)
            return false;
        if (length > out->len - at.at) /* its end has not come yet */
            return length == left - GRPC_PREFIX_LEN;
        chain_skip(&at, length);
    }
    return out->len == at.at && rest == 0;
}

void call_stalled(struct call *c, enum err e)
{
    bool is_stream = c->method != NULL && c->method->shape == ETCD_BIDI;
    enum h2_code code = is_stream ? H2_REFUSED_STREAM : H2_ENHANCE_YOUR_CALM;
    bool is_open = call_is_live(c), is_quiet = is_stream && is_between_messages(c);
    struct failure f;

    call_failure_init(c, e, &f);
    log_failure(c, &f, is_stream ? GRPC_UNAVAILABLE : GRPC_RESOURCE_EXHAUSTED);
    lane_kill(&c->answer);
    if (is_quiet) /* trailers need no window, but they do not pass what is queued */
        h2_stream_discard(c->down);
    if (is_open)
        call__end(
            c, &(struct call_end){.how = is_quiet ? CALL_END_STATUS : CALL_END_RESET,
                                  .status = is_stream ? GRPC_UNAVAILABLE : GRPC_RESOURCE_EXHAUSTED,
                                  .text = err_text(e),
                                  .code = code});
    else if (!is_quiet)
        h2_stream_reset(c->down, code);
}

void call_answer_stalled(struct call *c)
{
    if (c->state == CALL_FILLING)
        call_filled(c, LANE_FILL_BROKEN);
    else
        call_fail_err(c, ERR_ANS_STALLED);
}
