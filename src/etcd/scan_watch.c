/* SPDX-License-Identifier: Apache-2.0 */
/* What the walk finds in WatchResponses: events.
 *
 *   etcd__on_watch   what is not an event was walked, for the watch id decides which range the
 *                    events have to lie in; now the events are
 *   etcd__on_event   the end of an event: only now its type is known, and prev_kv's key; its
 *                    KeyValues are judged
 *
 * Failure modes: an id that nobody asked for is DATA_LOSS. For an event that does not fit, if
 * events of earlier revisions stand before it, the plan gets a FAIL: apply then still delivers
 * these. */
#include "etcd/walk_int.h"

/* Judges a KeyValue of an event as if the walk stood at its end. */
static enum err judge_in_event(struct etcd__scan *s, uint32_t i, bool is_delete)
{
    const struct etcd__kv *kv = &s->event_kv[i];
    enum err e;

    if (!kv->is_there)
        return ERR_OK;
    s->frames[s->depth++] = (struct etcd__frame){.at = kv->self.at,
                                                 .head_len = kv->self.value_at - kv->self.at,
                                                 .number = kv->self.number,
                                                 .body_len = kv->self.value_len,
                                                 .op = ETCD__NONE};
    e = etcd__judge_kv(s, kv, is_delete && i == 0);
    s->depth--;
    return e;
}

/* The plan gets a mark in front of the first event of each revision. The event is the only message
 * that is open. */
static enum err mark_event(struct etcd__scan *s, const struct etcd__kv *kv)
{
    enum err e;

    if (!s->has_marks || !kv->is_there || !kv->has_revision ||
        (s->has_revision && s->revision == kv->revision))
        return ERR_OK;
    CHECK(s->depth == 1);
    s->depth = 0;
    e = etcd__mark(s, ETCD__EVENT, s->frames[0].at, kv->revision);
    s->depth = 1;
    s->kept_ops = s->p->op_count;
    s->kept_to = s->done;
    s->has_earlier = s->has_earlier || (s->has_revision && kv->revision > s->revision);
    s->has_revision = true;
    s->revision = kv->revision;
    return e;
}

enum err etcd__on_event(struct etcd__scan *s, const struct etcd__got *got)
{
    const struct etcd__kv *kv = &s->event_kv[0], *prev = &s->event_kv[1];
    bool is_delete = etcd__enum(got, EVENT_TYPE) == 1;
    uint32_t first;

    TRY(mark_event(s, kv));
    if (prev->is_there && (!kv->is_there || !bytes_eq(kv->key, prev->key)))
        return etcd__plan_fail(s->p, ERR_ANS_PREV_KEY, prev->key);
    first = kv->is_there && prev->is_there && prev->self.at < kv->self.at ? 1 : 0;
    TRY(judge_in_event(s, first, is_delete));
    return judge_in_event(s, 1 - first, is_delete);
}

bool etcd__event_revision(const struct pb_field *event, int64_t *out)
{
    struct pb_reader r = pb_reader_sub(event), kv;
    struct pb_field f;
    bool has_one = false;

    while (pb_next(&r, &f) == PB_FIELD) {
        if (f.number != 2 || f.wire != PB_LEN)
            continue;
        kv = pb_reader_sub(&f);
        while (pb_next(&kv, &f) == PB_FIELD) {
            if (f.number != 3 || f.wire != PB_VARINT)
                continue;
            *out = (int64_t)f.varint;
            has_one = true;
        }
    }
    return has_one;
}

/* Instead of refusing the message: forgets what the event has added to the plan and ends it. */
static enum err fail_later(struct etcd__scan *s, const struct pb_field *f, enum err e)
{
    struct etcd__value *v;

    TRY(etcd__value_new(s, f->number, s->p->bad_key, NULL, &v));
    v->err = e;
    s->p->op_count = s->kept_ops;
    s->p->bad_key = bytes_of(NULL, 0);
    s->done = s->kept_to;
    s->is_failing = true;
    return etcd__edit(s, ETCD__FAIL, f->at, f->value_at + f->value_len - f->at, v);
}

enum err etcd__scan_event(struct etcd__scan *s, const struct pb_field *f)
{
    const struct etcd__msg *m = etcd__answer_schema(ETCD_WATCH)->fields[WATCH_EVENTS].sub;
    enum err e;

    if (s->is_failing)
        return ERR_OK;
    s->kept_ops = s->p->op_count;
    s->kept_to = s->done;
    memset(s->event_kv, 0, sizeof s->event_kv);
    s->is_in_event = true;
    e = etcd__walk_sub(s, m, f, 1);
    s->is_in_event = false;
    if (!err_spares_earlier(e) || !s->has_earlier)
        return e;
    return fail_later(s, f, e);
}

enum err etcd__watch_begin(struct etcd__scan *s, const struct etcd_watch_info *info,
                           bool *is_swallowed)
{
    const struct etcd_watch *w;

    *is_swallowed = false;
    s->watched = NULL;
    if (info->created)
        TRY(etcd_ask_created(s->ask, info->watch_id, info->canceled));
    w = etcd_ask_watch(s->ask, info->watch_id);
    if (w == NULL)
        return info->has_events ? ERR_ANS_UNKNOWN_WATCH : ERR_OK;
    s->watched = &w->range;
    /* A refused create's answer may carry the id of an older watch. */
    *is_swallowed = w->state == ETCD_WATCH_SWALLOW && !info->created;
    return ERR_OK;
}

void etcd__watch_end(struct etcd_ask *ask, const struct etcd_watch_info *info)
{
    /* created and canceled at once: refused, and bound to nothing */
    if (info->canceled && !info->created)
        etcd_ask_canceled(ask, info->watch_id);
}

void etcd__watch_note(struct etcd_watch_info *info, const struct pb_field *f)
{
    switch (f->number) {
    case WATCH_HEADER_NUMBER:
        info->has_header = true;
        info->header_at = f->value_at;
        info->header_len = f->value_len;
        break;
    case WATCH_ID_NUMBER:
        info->watch_id = (int64_t)f->varint;
        break;
    case WATCH_CREATED_NUMBER:
        info->created = f->varint != 0;
        break;
    case WATCH_CANCELED_NUMBER:
        info->canceled = f->varint != 0;
        break;
    case WATCH_FRAGMENT_NUMBER:
        info->is_fragment = f->varint != 0;
        break;
    case WATCH_EVENTS_NUMBER:
        info->has_events = true;
        break;
    default:
        break;
    }
}

/* Can the events of earlier revisions stand alone when a later one fails? Then everything else has
 * to stand before them, the header above all (clients crash without one). */
static bool can_cut(const struct etcd__got *got, const struct pb_field *first_event)
{
    if (!etcd__has(got, WATCH_HEADER) || etcd__varint(got, WATCH_FRAGMENT) != 0)
        return false;
    for (uint32_t i = 0; i < WATCH_EVENTS; i++) {
        if (etcd__has(got, i) && got->f[i].at > first_event->at)
            return false;
    }
    return true;
}

static enum err scan_events(struct etcd__scan *s, const struct etcd__got *got)
{
    struct pb_reader r = pb_reader_all(s->msg);
    bool is_first = true;
    struct pb_field f;
    enum pb_result res;

    while ((res = pb_next(&r, &f)) == PB_FIELD) {
        if (f.number != WATCH_EVENTS_NUMBER)
            continue;
        if (is_first)
            s->has_marks = can_cut(got, &f);
        is_first = false;
        TRY(etcd__scan_event(s, &f));
    }
    return res == PB_END ? ERR_OK : ERR_ANS_MALFORMED;
}

enum err etcd__on_watch(struct etcd__scan *s, const struct etcd__got *got)
{
    struct etcd_watch_info *info = &s->p->watch;
    bool is_swallowed;

    for (uint32_t i = 0; i <= WATCH_EVENTS; i++) {
        if (etcd__has(got, i))
            etcd__watch_note(info, &got->f[i]);
    }
    TRY(etcd__watch_begin(s, info, &is_swallowed));
    info->is_swallowed = is_swallowed;
    if (!is_swallowed)
        TRY(scan_events(s, got));
    etcd__watch_end(s->ask, info);
    return ERR_OK;
}
