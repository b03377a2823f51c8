/* SPDX-License-Identifier: Apache-2.0 */
/* Large answers in one pass: the KeyValues that stand at the begin of what has arrived.
 *
 * The messages that hold them, and all that is no KeyValue, are left to etcd_large_next, which is
 * asked again wherever this stops; so a large answer is opened here and there in turns. FILL: what
 * was saved is noted as by a batch. SPLIT_KV: the KeyValues are a piece of their own. A large
 * WatchResponse is rare, and its plan says more. */
#include "etcd/direct_int.h"
#include "etcd/large_int.h"

#include "base/metrics.h"

/* The number of the KeyValues in the innermost message, if they stand in it directly. */
static uint32_t kvs_number(const struct etcd_large *st, uint32_t *bit)
{
    const struct etcd__msg *m = st->levels[st->depth - 1].m;

    for (uint32_t i = 0; m->holds_kvs && i < m->count; i++) {
        if (m->fields[i].kind == ETCD__MSGS && m->fields[i].sub->is_kv) {
            *bit = 1u << i;
            return m->fields[i].number;
        }
    }
    return 0;
}

/* Of a message that keeps its length, one byte can't be filled (large.c). */
static bool leaves_one(const struct etcd_large *st, size_t at)
{
    return st->mode == ETCD__LARGE_FILL && st->levels[st->depth - 1].end - st->taken - at == 1;
}

/* Opens KeyValues from the begin of in; returns behind the last. */
static size_t walk(const struct etcd_large *st, struct etcd__direct *d, const struct chain *in,
                   uint32_t number)
{
    struct pb_reader r = {chain_begin(in), st->levels[st->depth - 1].end - st->taken};
    NOT_CLEARED struct etcd__direct_kv kv;
    struct pb_field f;
    size_t at = 0;

    while (at < st->batch_max && pb_next(&r, &f) == PB_FIELD) {
        if (f.number != number || f.wire != PB_LEN || f.value_len > LIMIT_ANSWER_UNIT ||
            leaves_one(st, r.pos.at))
            break;
        if (!etcd__direct_read(f.value, f.value_len, &kv) || !etcd__direct_judge(d, &kv) ||
            !etcd__direct_write(d, &kv, number))
            break;
        at = r.pos.at;
    }
    etcd__direct_count(d);
    return at;
}

static void note(struct etcd_large *st, size_t taken, size_t written)
{
    st->taken += taken;
    st->has_units = true;
    if (st->mode != ETCD__LARGE_FILL)
        return;
    st->emitted += written;
    st->saved += taken - written;
    etcd__large_stand(st, &st->parsed);
    st->applied = st->parsed;
    DCHECK(st->emitted + st->saved == st->taken);
}

/* A piece of a split answer around units. */
static enum err wrap(struct slab_pool *pool, struct chain *units, struct chain *out)
{
    size_t len = out->len;
    enum err e = etcd__push_head(out, pool, 1, units->len);

    if (e == ERR_OK)
        e = chain_append(out, units);
    if (e != ERR_OK)
        etcd__chain_cut(out, len);
    return e;
}

enum etcd_large_step etcd_large_direct(struct etcd_large *st, struct chain *in, struct etcd_plan *p,
                                       const struct etcd_direct *with, struct chain *out)
{
    const struct etcd_range *range = etcd__direct_range(st->ask, st->txn.op);
    NOT_CLEARED struct etcd__direct d;
    uint32_t number = 0, bit = 0;
    struct chain units = {0};
    size_t n, written;

    etcd_plan_reset(p);
    if (st->depth > 0 && st->raw_left == 0 && st->mode != ETCD__LARGE_SPLIT_REV && range != NULL)
        number = kvs_number(st, &bit);
    if (number == 0 || in->len == 0)
        return ETCD_LARGE_MORE;
    etcd__direct_init(&d, with, p, st->rules, range, &units);
    n = walk(st, &d, in, number);
    if (n == 0)
        return ETCD_LARGE_MORE;
    written = units.len;
    p->err =
        st->mode == ETCD__LARGE_FILL ? chain_append(out, &units) : wrap(with->pool, &units, out);
    chain_fini(&units);
    if (p->err != ERR_OK)
        return ETCD_LARGE_BAD;
    metric_add(METRIC_bytes_copied_total, d.copied);
    st->levels[st->depth - 1].seen |= bit;
    st->levels[st->depth - 1].has_edits = true;
    note(st, n, written);
    chain_consume(in, n);
    return ETCD_LARGE_BATCH;
}
