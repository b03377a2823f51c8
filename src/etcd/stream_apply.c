/* SPDX-License-Identifier: Apache-2.0 */
/* Puts the batches of a large answer together.
 *
 *   FILL       the batch's bytes as they come; what was saved is carried on to the next FILL
 *   SPLIT_KV   range_response { kvs }, the last: range_response { head kvs tail } outer
 *   SPLIT_REV  repeat events, the last: head events
 *
 * If a value fails nothing of its batch goes out, but for a Watch: whole revisions before it do, as
 * a piece of their own. After a failure of FILL, etcd_stream_abort completes the message from where
 * the last good batch ended: every open message is filled to its announced length, the innermost
 * first. */
#include "etcd/stream_int.h"

static enum err fill_apply(struct etcd_stream *st, struct etcd__apply *a, struct chain *out)
{
    size_t len = out->len;
    enum err e;

    a->out = out;
    a->saved = st->saved;
    e = etcd__apply_run(a);
    if (e != ERR_OK) {
        etcd__chain_cut(out, len);
        return e;
    }
    st->emitted += out->len - len;
    st->saved = a->saved;
    st->applied = st->parsed;
    DCHECK(st->emitted + st->saved == st->taken);
    return ERR_OK;
}

static enum err wrap_kvs(struct etcd_stream *st, struct slab_pool *pool, struct chain *units,
                         struct chain *out)
{
    size_t len = units->len;

    if (!st->is_over) {
        TRY(etcd__push_head(out, pool, 1, len));
        return chain_append(out, units);
    }
    if (st->has_inner) {
        TRY(etcd__push_head(out, pool, 1, len + st->head.len + st->tail.len));
        TRY(chain_append(out, &st->head));
        TRY(chain_append(out, units));
        TRY(chain_append(out, &st->tail));
    }
    return chain_append(out, &st->outer);
}

static enum err wrap_events(struct etcd_stream *st, bool is_last, struct chain *units,
                            struct chain *out)
{
    if (is_last)
        TRY(chain_append(out, &st->head));
    else
        TRY(chain_share(out, &st->repeat, 0, st->repeat.len));
    return chain_append(out, units);
}

static enum err split_apply(struct etcd_stream *st, struct etcd__apply *a, struct chain *out)
{
    struct chain units = {0};
    size_t len = out->len;
    bool is_watch = st->mode == ETCD__STREAM_SPLIT_REV;
    enum err e, wrapped = ERR_OK;

    a->out = &units;
    e = etcd__apply_run(a);
    if (is_watch && (e == ERR_OK || etcd__apply_keep_earlier(a)))
        wrapped = wrap_events(st, st->is_over && e == ERR_OK, &units, out);
    else if (e == ERR_OK)
        wrapped = wrap_kvs(st, a->pool, &units, out);
    chain_fini(&units);
    if (wrapped == ERR_OK)
        return e;
    etcd__chain_cut(out, len);
    return wrapped;
}

enum err etcd_stream_apply(struct etcd_stream *st, struct etcd_plan *p, struct envelope_ctx *ctx,
                           struct slab_pool *pool, struct chain *batch, struct chain *out)
{
    struct etcd__apply a = {.p = p, .ctx = ctx, .pool = pool, .msg = batch};

    return st->mode == ETCD__STREAM_FILL ? fill_apply(st, &a, out) : split_apply(st, &a, out);
}

static enum err complete(const struct etcd_stream *st, struct slab_pool *pool, struct chain *out)
{
    const struct etcd__stand *stand = &st->applied;
    size_t at = st->emitted + stand->raw_left;

    TRY(etcd__push_zeros(out, stand->raw_left));
    for (uint32_t i = stand->count; i-- > 0;) {
        size_t n = stand->ends[i] - at;

        /* One byte is missing only of a message that was announced with that length. */
        TRY(n == 1 ? etcd__push_zeros(out, n) : etcd__push_filler(out, pool, n));
        at += n;
    }
    return ERR_OK;
}

enum err etcd_stream_abort(struct etcd_stream *st, struct slab_pool *pool, struct chain *out)
{
    size_t len = out->len;
    enum err e;

    CHECK(st->mode == ETCD__STREAM_FILL);
    e = complete(st, pool, out);
    if (e != ERR_OK) {
        etcd__chain_cut(out, len);
        return e;
    }
    st->emitted = st->announced;
    st->applied = (struct etcd__stand){.count = 0};
    st->is_over = true;
    return ERR_OK;
}
