/* SPDX-License-Identifier: Apache-2.0 */
/* The first step of a lane: takes messages out of the received bytes, one by one.
 *
 *   in   | prefix | body ... | prefix | bo
 *
 * A request is taken whole; a unary one only after its END_STREAM, so that nothing can follow it.
 * An answer without values is relayed as it comes, a large one goes to etcd_large, any other is
 * taken whole. What ends in the middle of a message fails. */
#include "grpc/grpc.h"
#include "proxy/lane_int.h"

static enum lane_step fail_size(struct lane *l, uint64_t size, uint64_t max)
{
    struct failure f;

    call_failure_init(l->call, ERR_MESSAGE_TOO_LARGE, &f);
    f.size = size;
    f.max = max;
    call_fail(l->call, &f);
    return STEP_WAIT;
}

/* Moves the body of the message in front, which is whole, to l->msg. */
static enum lane_step take_message(struct lane *l, uint32_t length)
{
    enum err e;

    l->messages++;
    l->progress += LIMIT_PROGRESS_BYTES;
    l->has_prefix = length > 0 && chain_at(&l->in, 0)->len > GRPC_PREFIX_LEN;
    chain_consume(&l->in, GRPC_PREFIX_LEN);
    if (l->in.len == length)
        e = chain_append(&l->msg, &l->in);
    else
        e = chain_move(&l->msg, &l->in, length);
    if (e != ERR_OK)
        return lane__fails(l, e);
    lane__set_state(l, LANE_SCAN);
    return STEP_NEXT;
}

/* No message is whole. Is more to come? */
static enum lane_step answer_ends(struct lane *l)
{
    if (!l->has_ended)
        return STEP_WAIT;
    if (l->in.len > 0)
        return lane__fails(l, ERR_ANS_CUT);
    lane__set_state(l, LANE_ENDED);
    call_finish(l->call);
    return STEP_WAIT;
}

static enum lane_step request_ends(struct lane *l)
{
    struct call *c = l->call;
    bool is_bidi = c->method->shape == ETCD_BIDI;

    if (!l->has_ended)
        return STEP_WAIT;
    if (l->in.len > 0 || (l->messages == 0 && !is_bidi))
        return lane__fails(l, ERR_MESSAGE_CUT);
    if (is_bidi && c->up == NULL)
        return STEP_WAIT;
    if (is_bidi)
        call_end_up(c);
    lane__set_state(l, LANE_ENDED);
    return STEP_WAIT;
}

static enum lane_step collect_answer(struct lane *l, const struct grpc_prefix *prefix)
{
    struct call *c = l->call;
    enum etcd_content content = c->method->content;

    if (prefix->flag != 0)
        return lane__fails(l, ERR_ANS_COMPRESSED);
    if (l->messages > 0 && c->method->shape == ETCD_UNARY)
        return lane__fails(l, ERR_ANS_DOUBLED);
    if (content == ETCD_OPAQUE) {
        l->messages++;
        l->relay_left = (size_t)prefix->length + GRPC_PREFIX_LEN;
        lane__set_state(l, LANE_RELAY);
        return STEP_NEXT;
    }
    if (lane__has_values(content) && prefix->length > c->worker->env->settings->stream_threshold) {
        l->messages++;
        return lane__large_begin(l, prefix->length);
    }
    if (prefix->length > LIMIT_ANSWER_UNIT)
        return lane__fails(l, ERR_MEMORY_LIMIT);
    if (l->in.len - GRPC_PREFIX_LEN < prefix->length)
        return answer_ends(l);
    return take_message(l, prefix->length);
}

/* etcd stops to read a stream's requests when nobody takes its answers. Behind TLS (Go's net/http)
 * it then gives no credit of the connection back either, which other clients' streams share: so a
 * client that does not read is not heard. */
bool lane__is_held(const struct lane *l)
{
    const struct call *c = l->call;

    return !call_is_unary(c) && c->method->shape == ETCD_BIDI && lane__client_is_behind(l);
}

static enum lane_step collect_request(struct lane *l, const struct grpc_prefix *prefix)
{
    struct call *c = l->call;
    uint64_t max = c->worker->env->settings->max_request_bytes;
    bool is_bidi = c->method->shape == ETCD_BIDI;

    if (prefix->flag != 0)
        return lane__fails(l, ERR_MESSAGE_COMPRESSED);
    if (prefix->length > max)
        return fail_size(l, prefix->length, max);
    if (l->in.len - GRPC_PREFIX_LEN < prefix->length)
        return l->has_ended ? lane__fails(l, ERR_MESSAGE_CUT) : STEP_WAIT;
    if (!is_bidi && l->in.len - GRPC_PREFIX_LEN > prefix->length)
        return lane__fails(l, ERR_MESSAGE_EXTRA);
    if (is_bidi ? c->up == NULL || lane__is_held(l) : !l->has_ended)
        return STEP_WAIT;
    return take_message(l, prefix->length);
}

bool lane__is_collecting(const struct lane *l)
{
    struct grpc_prefix prefix;

    if (!l->is_answer && l->call->method->shape != ETCD_BIDI)
        return true; /* up to its END_STREAM */
    if (!grpc_prefix_peek(&l->in, &prefix))
        return l->in.len > 0;
    return l->in.len - GRPC_PREFIX_LEN < prefix.length;
}

enum lane_step lane__collect(struct lane *l)
{
    struct grpc_prefix prefix;

    if (!grpc_prefix_peek(&l->in, &prefix))
        return l->is_answer ? answer_ends(l) : request_ends(l);
    if (prefix.flag > 1)
        return lane__fails(l, l->is_answer ? ERR_ANS_MALFORMED : ERR_PROTOBUF);
    return l->is_answer ? collect_answer(l, &prefix) : collect_request(l, &prefix);
}

enum lane_step lane__relay(struct lane *l)
{
    size_t n = l->in.len < l->relay_left ? l->in.len : l->relay_left;
    struct chain out = {0};
    bool ok;

    if (n == 0)
        return l->has_ended ? lane__fails(l, ERR_ANS_CUT) : STEP_WAIT;
    if (chain_move(&out, &l->in, n) != ERR_OK) {
        chain_fini(&out);
        return lane__fails(l, ERR_NOMEM);
    }
    l->relay_left -= n;
    if (l->relay_left == 0) {
        l->progress += LIMIT_PROGRESS_BYTES;
        lane__set_state(l, LANE_COLLECT);
    }
    ok = call_send_down(l->call, &out);
    chain_fini(&out);
    return ok ? STEP_NEXT : STEP_WAIT;
}
