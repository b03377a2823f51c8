/* SPDX-License-Identifier: Apache-2.0 */
/* What the walk finds in answers: KeyValues.
 *
 *   etcd__on_kv     the end of a KeyValue: judged at once, or kept for its event
 *   etcd__on_event  the end of an event: only now its type is known, and that of prev_kv's key
 *   judge           in the ask? protected? empty? sealed by whom? -> OPEN, or the bytes stay
 *
 * A WatchResponse is walked twice: first what is not an event, for the watch id decides which range
 * the events have to lie in, then the events.
 *
 * Whatever does not fit is DATA_LOSS. In a Watch, if events of earlier revisions stand before it,
 * the plan gets a FAIL instead: apply then still delivers these. */
#include "etcd/plan_int.h"

static enum err judge_key(struct etcd__scan *s, const struct etcd__kv *kv, bool *keys_only)
{
    bool is_held;

    *keys_only = false;
    if (kv->key.n == 0 && kv->value.value_len > 0)
        return ERR_ANS_NO_KEY;
    if (s->content == ETCD_WATCH)
        is_held = s->watched != NULL && etcd_range_holds(s->watched, kv->key);
    else
        is_held = etcd_ask_holds(s->ask, s->txn->op, kv->key, keys_only);
    return is_held ? ERR_OK : ERR_ANS_OUTSIDE;
}

static void count(struct etcd__scan *s, const struct provider_list *list,
                  const struct provider *provider, enum err e)
{
    etcd__plan_count(s->p, &(struct etcd_count){
                               .list = list, .provider = provider, .need = ETCD__NONE, .err = e});
}

/* The value cannot be opened: counted for the first provider whose prefix it has. */
static void count_bad(struct etcd__scan *s, const struct pb_field *value,
                      const struct provider_list *list, enum err e)
{
    for (uint32_t i = 0; i < list->count; i++) {
        struct bytes prefix = list->v[i]->prefix;
        struct chain_pos pos = value->value;
        size_t same = 0;

        while (same < prefix.n && same < value->value_len && chain_next(&pos) == prefix.p[same])
            same++;
        if (prefix.n > 0 && same == prefix.n) {
            count(s, list, list->v[i], e);
            return;
        }
    }
    count(s, list, NULL, e);
}

static enum err judge_value(struct etcd__scan *s, const struct etcd__kv *kv,
                            const struct provider_list *list)
{
    const struct pb_field *f = &kv->value;
    const struct etcd__value *like = s->like;
    NOT_CLEARED struct envelope_value v;
    struct etcd__value *value;
    enum err e;

    e = envelope_identify(list, f->value, f->value_len, &s->p->arena,
                          like == NULL ? NULL : &like->v, &v);
    if (e != ERR_OK) {
        count_bad(s, f, list, e);
        return e;
    }
    switch (v.form) {
    case ENVELOPE_PLAIN:
        count(s, list, v.provider, ERR_OK);
        s->p->plain++;
        return ERR_OK;
    case ENVELOPE_IN_PLACE:
    case ENVELOPE_SCRATCH:
        break;
    default:
        return ERR_NO_MATCHING_PREFIX;
    }
    TRY(etcd__value_new(s, 5, kv->key, list, &value));
    value->v = v;
    value->v.data_at -= f->value_at;
    value->at = f->value_at;
    value->len = f->value_len;
    s->like = value;
    if (v.tail.n > 0 && like != NULL && v.tail.p == like->v.tail.p)
        value->need = like->need;
    else if (v.needs_dek)
        TRY(etcd__plan_need(s->p, v.provider, &v.id, &value->need));
    return etcd__edit(s, ETCD__OPEN, f->at, f->value_at + f->value_len - f->at, value);
}

/* may_be_empty: the kv of a DELETE event. */
static enum err judge(struct etcd__scan *s, const struct etcd__kv *kv, bool may_be_empty)
{
    const struct provider_list *list = NULL;
    bool keys_only;
    enum err e = judge_key(s, kv, &keys_only);

    if (e == ERR_OK)
        list = etcd_rules_find_near(s->rules, kv->key, &s->near);
    if (list != NULL && !(kv->value.value_len == 0 && (may_be_empty || keys_only)))
        e = judge_value(s, kv, list);
    return e == ERR_OK || e == ERR_NOMEM ? e : etcd__plan_fail(s->p, e, kv->key);
}

enum err etcd__on_kv(struct etcd__scan *s, const struct etcd__got *got)
{
    struct etcd__kv kv = {.is_there = true, .key = got->key, .self = s->sub_field};

    kv.value.value = s->sub_field.value; /* an absent one is looked at, too: no bytes, somewhere */
    if (etcd__has(got, KV_VALUE))
        kv.value = got->f[KV_VALUE];
    kv.has_revision = etcd__has(got, KV_MOD_REVISION);
    kv.revision = (int64_t)etcd__varint(got, KV_MOD_REVISION);
    if (!s->is_in_event)
        return judge(s, &kv, false);
    s->event_kv[s->sub_index == EVENT_KV ? 0 : 1] = kv;
    return ERR_OK;
}

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
    e = judge(s, kv, is_delete && i == 0);
    s->depth--;
    return e;
}

/* The plan gets a mark in front of the event, which is the only message that is open. */
static enum err mark_event(struct etcd__scan *s, const struct etcd__kv *kv)
{
    enum err e;

    if (!s->has_marks || !kv->is_there || !kv->has_revision)
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

/* --- Watch ----------------------------------------------------------------------------------- */

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
    *is_swallowed = w->state == ETCD_WATCH_SWALLOW;
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
    case 1:
        info->has_header = true;
        info->header_at = f->value_at;
        info->header_len = f->value_len;
        break;
    case 2:
        info->watch_id = (int64_t)f->varint;
        break;
    case 3:
        info->created = f->varint != 0;
        break;
    case 4:
        info->canceled = f->varint != 0;
        break;
    case 7:
        info->is_fragment = f->varint != 0;
        break;
    case 11:
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
        if (f.number != 11)
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

/* --- */

static enum err scan_root(struct etcd__scan *s, const struct etcd__msg *m, const struct chain *msg)
{
    s->msg = msg;
    TRY(etcd__walk(s, m, pb_reader_all(msg), 0));
    return s->has_edits ? etcd__keep_to(s, msg->len) : ERR_OK;
}

enum etcd_verdict etcd_scan_answer(struct etcd_plan *p, enum etcd_content content,
                                   const struct etcd_rules *rules, const struct chain *msg,
                                   struct etcd_ask *ask)
{
    const struct etcd__msg *m = etcd__answer_schema(content);
    NOT_CLEARED struct etcd__scan s;

    etcd_plan_reset(p);
    if (m == NULL) {
        if (content == ETCD_OPAQUE)
            return ETCD_AS_IS;
        p->err = ERR_UNKNOWN_METHOD; /* member lists have their own way: etcd_members_rewrite */
        return ETCD_REJECT;
    }
    etcd__scan_init(&s, p, content, rules, ask, NULL, true);
    p->err = scan_root(&s, m, msg);
    if (p->err != ERR_OK)
        return ETCD_REJECT;
    return s.has_edits ? ETCD_EDIT : ETCD_AS_IS;
}
