/* SPDX-License-Identifier: Apache-2.0 */
/* Large answers in one pass: the KeyValues that stand at the begin of what has arrived.
 *
 * The messages that hold them are left to etcd_large_next, which is asked again wherever this
 * stops; so a large answer is opened here and there in turns. FILL: the small fields beside them
 * go out, too, and what was saved is noted as by a batch. SPLIT_KV: the KeyValues are a piece of
 * their own. A large WatchResponse is rare, and its plan knows where it may be cut. */
#include "etcd/direct_int.h"
#include "etcd/large_int.h"

#include "base/metrics.h"

/* The number of the KeyValues of a message, if it holds a list of them; then they are seen. */
static uint32_t kvs_number(const struct etcd__msg *m, uint32_t *seen)
{
    for (uint32_t i = 0; m->holds_kvs && i < m->count; i++) {
        if (m->fields[i].kind == ETCD__MSGS && m->fields[i].sub->is_kv) {
            *seen |= 1u << i;
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

/* A small field of a message that keeps its length, neither KeyValue nor message: header, more,
 * count. SPLIT has other places for them. */
static bool other_field(const struct etcd_large *st, struct etcd__direct *d,
                        const struct pb_field *f, struct chain_pos pos, size_t end, uint32_t *seen)
{
    const struct etcd__msg *m = st->levels[st->depth - 1].m;
    uint32_t i = 0;

    while (i < m->count && m->fields[i].number != f->number)
        i++;
    if (st->mode != ETCD__LARGE_FILL || i == m->count || m->fields[i].sub != NULL ||
        m->fields[i].wire != f->wire || (*seen >> i & 1) != 0 || end - f->at > LIMIT_SMALL_COPY ||
        !etcd__direct_copy(d, pos, end - f->at))
        return false;
    *seen |= 1u << i;
    return true;
}

/* Is a field next that has a head of its own? A group is walked over up to its end, which costs
 * too much for one that arrives in small pieces (is_worth_a_look in large.c). */
static bool is_simple(const struct pb_reader *r)
{
    struct bytes b = chain_peek(&r->pos, 1);

    return b.n == 1 && b.p[0] < 0x80 && ((b.p[0] & 7) == PB_VARINT || (b.p[0] & 7) == PB_LEN);
}

/* What is next: a KeyValue, or a field beside it. */
static bool next(const struct etcd_large *st, struct etcd__direct *d, struct pb_reader *r,
                 uint32_t number, uint32_t *seen)
{
    NOT_CLEARED struct chain_pos pos;
    NOT_CLEARED struct pb_field f;
    size_t len;

    if (etcd__direct_next(r, number, &pos, &len))
        return !leaves_one(st, r->pos.at) && etcd__direct_kv(d, &pos, len, number);
    pos = r->pos;
    if (!is_simple(r) || pb_next(r, &f) != PB_FIELD || leaves_one(st, r->pos.at))
        return false;
    if (f.number == number && f.wire == PB_LEN)
        return f.value_len <= LIMIT_ANSWER_UNIT &&
               etcd__direct_kv(d, &f.value, f.value_len, number);
    return other_field(st, d, &f, pos, r->pos.at, seen);
}

/* Opens what stands at the begin of in; returns where it stops. */
static size_t walk(const struct etcd_large *st, struct etcd__direct *d, const struct chain *in,
                   uint32_t number, uint32_t *seen)
{
    struct pb_reader r = {chain_begin(in), st->levels[st->depth - 1].end - st->taken};
    size_t at = 0;

    while (at < st->batch_max && next(st, d, &r, number, seen))
        at = r.pos.at;
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

/* Is a KeyValue next of which the end has not arrived? */
static bool is_cut(const struct etcd_large *st, const struct chain *in, uint32_t number)
{
    struct pb_reader r = {chain_begin(in), st->levels[st->depth - 1].end - st->taken};
    struct pb_field f;

    return is_simple(&r) && pb_next_head(&r, &f) == PB_FIELD && f.number == number &&
           f.wire == PB_LEN && f.value_at + f.value_len > in->len &&
           f.value_len <= LIMIT_ANSWER_UNIT && !leaves_one(st, f.value_at + f.value_len);
}

/* What was opened goes out. */
static enum etcd_direct_step give(struct etcd_large *st, const struct etcd__direct *d,
                                  struct chain *in, size_t n, struct chain *out)
{
    struct etcd_plan *p = d->p;
    size_t written = d->out->len;

    p->err =
        st->mode == ETCD__LARGE_FILL ? chain_append(out, d->out) : wrap(d->with->pool, d->out, out);
    if (p->err != ERR_OK)
        return ETCD_DIRECT_BAD;
    metric_add(METRIC_bytes_copied_total, d->copied);
    st->rule = d->rule;
    st->levels[st->depth - 1].has_edits = true;
    note(st, n, written);
    chain_consume(in, n);
    return ETCD_DIRECT_BATCH;
}

enum etcd_direct_step etcd_large_direct(struct etcd_large *st, struct chain *in,
                                        struct etcd_plan *p, const struct etcd_direct *with,
                                        struct chain *out)
{
    const struct etcd_range *range = etcd__direct_range(st->ask, st->txn.op);
    struct etcd__level *l = st->depth == 0 ? NULL : &st->levels[st->depth - 1];
    NOT_CLEARED struct etcd__direct d;
    enum etcd_direct_step step;
    struct chain units = {0};
    uint32_t number, seen;
    size_t n;

    if (st->scan != NULL) /* a batch is being planned */
        return ETCD_DIRECT_NONE;
    etcd_plan_reset(p);
    if (l == NULL || st->raw_left > 0 || range == NULL || in->len == 0)
        return ETCD_DIRECT_NONE;
    seen = l->seen;
    number = kvs_number(l->m, &seen);
    if (number == 0)
        return ETCD_DIRECT_NONE;
    etcd__direct_init(&d, with, p, st->rules, range, &units);
    d.rule = st->rule;
    n = walk(st, &d, in, number, &seen);
    if (p->opened == 0) {
        step = n == 0 && is_cut(st, in, number) ? ETCD_DIRECT_MORE : ETCD_DIRECT_NONE;
    } else {
        l->seen = seen;
        step = give(st, &d, in, n, out);
    }
    chain_fini(&units);
    return step;
}
