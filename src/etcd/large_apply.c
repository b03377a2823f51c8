/* SPDX-License-Identifier: Apache-2.0 */
/* Puts the batches of a large answer together.
 *
 *   FILL       the batch's bytes as they come; what was saved is carried on to the next FILL
 *   SPLIT_KV   range_response { kvs }, the last: range_response { head kvs tail } outer
 *   SPLIT_REV  repeat events, the last: head events
 *
 * If a value fails nothing of its batch goes out, but for a Watch: whole revisions before it do, as
 * a piece of their own. After a failure of FILL, etcd_large_fill completes the message from where
 * the last good batch ended: every open message is filled to its announced length, the innermost
 * first. */
#include "etcd/large_int.h"

static enum err fill_apply(struct etcd_large *st, struct etcd__apply *a, struct chain *out)
{
    enum err e;

    a->out = out;
    a->saved = st->saved;
    etcd__apply_begin(a);
    e = etcd__apply_run(a);
    if (e == ERR_AGAIN)
        return e;
    if (e != ERR_OK) {
        etcd__chain_cut(out, a->out_len);
        return e;
    }
    st->emitted += out->len - a->out_len;
    st->saved = a->saved;
    st->applied = st->parsed;
    DCHECK(st->emitted + st->saved == st->taken);
    return ERR_OK;
}

static enum err wrap_kvs(struct etcd_large *st, struct slab_pool *pool, struct chain *units,
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

static enum err wrap_events(struct etcd_large *st, bool is_last, struct chain *units,
                            struct chain *out)
{
    if (is_last)
        TRY(chain_append(out, &st->head));
    else
        TRY(chain_share(out, &st->repeat, 0, st->repeat.len));
    return chain_append(out, units);
}

static enum err split_apply(struct etcd_large *st, struct etcd__apply *a, struct chain *out)
{
    struct chain *units = &st->units;
    size_t len = out->len;
    bool is_watch = st->mode == ETCD__LARGE_SPLIT_REV;
    enum err e, wrapped = ERR_OK;

    a->out = units;
    etcd__apply_begin(a);
    e = etcd__apply_run(a);
    if (e == ERR_AGAIN)
        return e;
    if (is_watch && (e == ERR_OK || etcd__apply_keep_earlier(a)))
        wrapped = wrap_events(st, st->is_over && e == ERR_OK, units, out);
    else if (e == ERR_OK)
        wrapped = wrap_kvs(st, a->pool, units, out);
    chain_fini(units);
    if (wrapped == ERR_OK)
        return e;
    etcd__chain_cut(out, len);
    return wrapped;
}

enum err etcd_large_apply(struct etcd_large *st, struct etcd_plan *p, struct envelope_ctx *ctx,
                          struct slab_pool *pool, struct chain *batch, struct chain *out)
{
    struct etcd__apply a = {.p = p, .ctx = ctx, .pool = pool, .msg = batch};

    return st->mode == ETCD__LARGE_FILL ? fill_apply(st, &a, out) : split_apply(st, &a, out);
}

/* How far the message may have gone out when sent bytes of it have come from etcd: whole if that
 * takes no more filler than is allowed, else as far as etcd is. */
static size_t fill_end(const struct etcd_large *st, size_t sent)
{
    size_t allowed = sent > LIMIT_FILLER ? sent : LIMIT_FILLER;

    if (st->announced - st->good <= allowed)
        return st->announced;
    return sent > st->emitted ? sent : st->emitted;
}

/* The next piece of filler, of at most about max bytes. */
static enum err fill_piece(struct etcd_large *st, struct slab_pool *pool, size_t max,
                           struct chain *out)
{
    struct etcd__stand *stand = &st->applied;
    uint8_t head[2 * PB_VARINT_MAX];
    size_t left, n;

    if (stand->raw_left > 0) {
        n = stand->raw_left < max ? stand->raw_left : max;
        stand->raw_left -= n;
        st->emitted += n;
        return etcd__push_zeros(out, n);
    }
    left = stand->ends[stand->count - 1] - st->emitted;
    if (left == 0) {
        stand->count--;
        return ERR_OK;
    }
    if (left == 1) { /* only of a message that was announced with that length */
        stand->raw_left = 1;
        return ERR_OK;
    }
    n = etcd__filler_field(left, head, &stand->raw_left);
    st->emitted += n;
    return chain_push_copy(out, pool, head, n, 0);
}

enum err etcd_large_fill(struct etcd_large *st, struct slab_pool *pool, size_t todo,
                         struct chain *out)
{
    size_t end;

    CHECK(st->mode == ETCD__LARGE_FILL);
    if (!st->is_aborted)
        st->good = st->emitted;
    st->is_aborted = true;
    end = fill_end(st, st->announced - todo);
    while (st->emitted < end)
        TRY(fill_piece(st, pool, end - st->emitted, out));
    return ERR_OK;
}

bool etcd_large_is_filled(const struct etcd_large *st)
{
    return st->emitted == st->announced;
}
