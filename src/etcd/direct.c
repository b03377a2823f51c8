/* SPDX-License-Identifier: Apache-2.0 */
/* Whole answers in one pass.
 *
 *   RangeResponse   header, kvs, more, count, as far as they are of the usual form; from the first
 *                   field that is not, scan and apply go on with the same plan and output (part)
 *   WatchResponse   header, watch_id, events, nothing else: all of it, or scan and apply begin
 *                   anew, for which watch it is for is known at its end only
 *
 * Failure modes: no memory is one more thing that is not as usual. */
#include "etcd/direct_int.h"

#include "base/metrics.h"

enum { RANGE_HEADER = 1, RANGE_KVS = 2, RANGE_MORE = 3, RANGE_COUNT = 4 };
enum { TYPE_NUMBER = 1, KV_NUMBER = 2, PREV_KV_NUMBER = 3 };

/* An event whose values are opened where they lie is left to the plan: what was opened so can't be
 * opened again when a later event is not of the usual form. */
#define EVENT_MAX (ETCD__OUT_VALUE_MAX)

/* --- Range ----------------------------------------------------------------------------------- */

/* A field at pos, which ends at end. */
static bool range_field(struct etcd__direct *d, const struct chain_pos *pos,
                        const struct pb_field *f, size_t end, uint32_t *seen)
{
    bool is_number = f->number == RANGE_MORE || f->number == RANGE_COUNT;

    if (f->number == RANGE_KVS && f->wire == PB_LEN)
        return etcd__direct_kv(d, &f->value, f->value_len, RANGE_KVS);
    if ((!is_number && f->number != RANGE_HEADER) || f->wire != (is_number ? PB_VARINT : PB_LEN))
        return false;
    if ((*seen & 1u << (f->number - 1)) != 0 || end - f->at > LIMIT_SMALL_COPY ||
        !etcd__direct_copy(d, *pos, end - f->at))
        return false;
    *seen |= 1u << (f->number - 1);
    return true;
}

/* Returns how far it came. */
static size_t range_walk(struct etcd__direct *d, const struct chain *msg, uint32_t *seen)
{
    struct pb_reader r = pb_reader_all(msg);
    NOT_CLEARED struct chain_pos pos;
    NOT_CLEARED struct pb_field f;
    size_t at, len;
    bool ok;

    do {
        at = r.pos.at;
        if (etcd__direct_next(&r, RANGE_KVS, &pos, &len)) {
            ok = etcd__direct_kv(d, &pos, len, RANGE_KVS);
        } else {
            pos = r.pos;
            ok = pb_next(&r, &f) == PB_FIELD && range_field(d, &pos, &f, r.pos.at, seen);
        }
    } while (ok);
    return at;
}

static enum etcd_verdict range_answer(struct etcd__direct *d, const struct chain *msg,
                                      struct etcd_ask *ask)
{
    struct etcd_plan *p = d->p;
    size_t len = d->out->len, at;
    uint32_t seen = 0;
    enum etcd_verdict verdict;

    at = range_walk(d, msg, &seen);
    etcd__direct_count(d);
    if (p->opened == 0) {
        etcd__chain_cut(d->out, len);
        return etcd_scan_answer(p, ETCD_RANGE, d->rules, msg, ask);
    }
    metric_add(METRIC_bytes_copied_total, d->copied);
    if (at == msg->len)
        return ETCD_OPENED;
    p->part = (struct etcd_part){at, seen, d->out->len - len, p->opened, p->count_count};
    verdict = etcd__scan_rest(p, ETCD_RANGE, d->rules, msg, ask);
    if (verdict == ETCD_REJECT) {
        etcd__chain_cut(d->out, len);
        etcd_plan_forget_part(p);
    }
    return verdict;
}

/* --- Watch ----------------------------------------------------------------------------------- */

/* What is no event stands first, each once. False: there is something else. */
static bool watch_shape(const struct chain *msg, struct etcd_watch_info *info,
                        struct chain_pos *events)
{
    struct pb_reader r = pb_reader_all(msg);
    struct pb_field f;
    enum pb_result res;
    uint32_t last = 0;

    while ((res = pb_next(&r, &f)) == PB_FIELD) {
        if (f.number == WATCH_EVENTS_NUMBER && f.wire == PB_LEN) {
            if (f.value_len > EVENT_MAX)
                return false;
        } else if (f.number <= last || f.number > WATCH_ID_NUMBER || info->has_events ||
                   f.wire != (f.number == WATCH_ID_NUMBER ? PB_VARINT : PB_LEN)) {
            return false;
        }
        last = f.number;
        etcd__watch_note(info, &f);
        if (f.number != WATCH_EVENTS_NUMBER)
            *events = r.pos;
    }
    return res == PB_END && info->has_events;
}

/* The fields of an event: type, kv, prev_kv in this order. */
struct event {
    size_t type_len; /* of the field; 0: it is absent */
    struct chain_pos type;
    bool is_delete, has_kv, has_prev;
    struct pb_field kv, prev;
};

static bool event_read(const struct pb_field *field, struct event *e)
{
    struct pb_reader r = pb_reader_sub(field);
    struct pb_field f;
    enum pb_result res;
    uint32_t last = 0;

    e->type_len = 0;
    e->is_delete = e->has_kv = e->has_prev = false;
    e->type = r.pos;
    while ((res = pb_next(&r, &f)) == PB_FIELD) {
        if (f.number <= last || f.number > PREV_KV_NUMBER ||
            f.wire != (f.number == TYPE_NUMBER ? PB_VARINT : PB_LEN))
            return false;
        last = f.number;
        if (f.number == TYPE_NUMBER) {
            if (f.varint > 1)
                return false;
            e->type_len = r.pos.at - f.at;
            e->is_delete = f.varint == 1;
        } else if (f.number == KV_NUMBER) {
            e->has_kv = true;
            e->kv = f;
        } else {
            e->has_prev = true;
            e->prev = f;
        }
    }
    return res == PB_END && e->has_kv;
}

/* Tag and length are the shortest, as what is kept without a change has to be written again. */
static bool is_short_head(const struct pb_field *f)
{
    return f->value_at - f->at == etcd__head_len(f->number, f->value_len);
}

/* A KeyValue of an event, before it is written. is_bare: the kv of a DELETE, which has no value. */
static bool event_kv(struct etcd__direct *d, const struct pb_field *f, bool is_delete,
                     struct etcd__direct_kv *kv, bool *is_bare)
{
    *is_bare = false;
    if (!etcd__direct_read(&f->value, f->value_len, kv))
        return false;
    if (!is_delete || kv->value_len > 0)
        return etcd__direct_judge(d, kv);
    *is_bare = true;
    kv->new_len = f->value_len;
    return is_short_head(f) && etcd_range_holds(d->range, kv->key);
}

static bool write_bare(struct etcd__direct *d, const struct etcd__direct_kv *kv, uint32_t number)
{
    size_t head = etcd__head_len(number, kv->new_len);
    uint8_t *to = etcd__room(d->out, d->with->pool, false, head + kv->new_len);

    if (to == NULL)
        return false;
    memcpy(to + etcd__put_head(to, number, kv->new_len), kv->kept.p, kv->kept.n);
    d->copied += head + kv->new_len;
    return true;
}

static bool write_event_head(struct etcd__direct *d, const struct event *e, size_t len)
{
    uint8_t *to = etcd__room(d->out, d->with->pool, false,
                             etcd__head_len(WATCH_EVENTS_NUMBER, len) + e->type_len);
    struct chain_pos type = e->type;

    if (to == NULL)
        return false;
    to += etcd__put_head(to, WATCH_EVENTS_NUMBER, len);
    chain_take(&type, to, e->type_len);
    d->copied += e->type_len;
    return true;
}

static bool watch_event(struct etcd__direct *d, const struct pb_field *f)
{
    NOT_CLEARED struct etcd__direct_kv kv, prev;
    NOT_CLEARED struct event e;
    bool is_bare, prev_is_bare;
    size_t len;

    if (!event_read(f, &e) || !event_kv(d, &e.kv, e.is_delete, &kv, &is_bare))
        return false;
    len = e.type_len + etcd__head_len(KV_NUMBER, kv.new_len) + kv.new_len;
    if (e.has_prev) {
        if (!event_kv(d, &e.prev, false, &prev, &prev_is_bare) || !bytes_eq(prev.key, kv.key))
            return false;
        len += etcd__head_len(PREV_KV_NUMBER, prev.new_len) + prev.new_len;
    }
    if (is_bare && !e.has_prev && !is_short_head(f))
        return false;
    if (!write_event_head(d, &e, len) ||
        !(is_bare ? write_bare(d, &kv, KV_NUMBER) : etcd__direct_write(d, &kv, KV_NUMBER)))
        return false;
    return !e.has_prev || etcd__direct_write(d, &prev, PREV_KV_NUMBER);
}

static bool watch_events(struct etcd__direct *d, const struct chain *msg, struct chain_pos pos)
{
    struct pb_reader r = {pos, msg->len};
    struct pb_field f;

    if (pos.at > LIMIT_SMALL_COPY || !etcd__direct_copy(d, chain_begin(msg), pos.at))
        return false;
    while (pb_next(&r, &f) == PB_FIELD) {
        if (!watch_event(d, &f))
            return false;
    }
    etcd__direct_count(d);
    return d->p->opened > 0;
}

static enum etcd_verdict watch_answer(struct etcd__direct *d, const struct chain *msg,
                                      struct etcd_ask *ask)
{
    struct etcd_plan *p = d->p;
    size_t len = d->out->len;
    const struct etcd_watch *w;
    struct chain_pos events = chain_begin(msg);

    if (watch_shape(msg, &p->watch, &events)) {
        w = etcd_ask_watch(ask, p->watch.watch_id);
        d->range = w == NULL || w->state != ETCD_WATCH_OPEN ? NULL : &w->range;
        d->may_come_again = true;
        if (d->range != NULL && watch_events(d, msg, events)) {
            metric_add(METRIC_bytes_copied_total, d->copied);
            return ETCD_OPENED;
        }
    }
    etcd__chain_cut(d->out, len);
    return etcd_scan_answer(p, ETCD_WATCH, d->rules, msg, ask);
}

/* --- */

enum etcd_verdict etcd_direct_answer(struct etcd_plan *p, enum etcd_content content,
                                     const struct etcd_rules *rules, struct chain *msg,
                                     struct etcd_ask *ask, const struct etcd_direct *with,
                                     struct chain *out)
{
    const struct etcd_range *range = etcd__direct_range(ask, 0);
    NOT_CLEARED struct etcd__direct d;

    etcd_plan_reset(p);
    etcd__direct_init(&d, with, p, rules, range, out);
    if (content == ETCD_WATCH)
        return watch_answer(&d, msg, ask);
    if (content == ETCD_RANGE && range != NULL)
        return range_answer(&d, msg, ask);
    return etcd_scan_answer(p, content, rules, msg, ask);
}
