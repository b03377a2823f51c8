/* SPDX-License-Identifier: Apache-2.0 */
/* What the walk finds in answers: KeyValues.
 *
 *   etcd__on_kv      the end of a KeyValue: judged at once, or kept for its event (scan_watch.c)
 *   etcd__judge_kv   in the ask? protected? empty? sealed by whom? -> OPEN, or the bytes stay
 *
 * Whatever does not fit is DATA_LOSS. */
#include "etcd/walk_int.h"

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
    etcd__plan_count(
        s->p,
        &(struct etcd_count){.list = list, .provider = provider, .need = ETCD__NONE, .err = e}, 1);
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
    const struct etcd__value *last = s->last_value;
    NOT_CLEARED struct envelope_value v;
    struct etcd__value *value;
    enum err e;

    e = envelope_identify(list, f->value, f->value_len, &s->p->arena,
                          last == NULL ? NULL : &last->v, &v);
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
    s->last_value = value;
    if (v.tail.n > 0 && last != NULL && v.tail.p == last->v.tail.p)
        value->need = last->need;
    else if (v.needs_dek)
        TRY(etcd__plan_need(s->p, v.provider, &v.id, &value->need));
    return etcd__edit(s, ETCD__OPEN, f->at, f->value_at + f->value_len - f->at, value);
}

/* may_be_empty: the kv of a DELETE event. */
enum err etcd__judge_kv(struct etcd__scan *s, const struct etcd__kv *kv, bool may_be_empty)
{
    const struct provider_list *list = NULL;
    bool keys_only;
    enum err e = judge_key(s, kv, &keys_only);

    if (e == ERR_OK)
        list = etcd_rules_find_near(s->rules, kv->key, &s->last_rule);
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
        return etcd__judge_kv(s, &kv, false);
    s->event_kv[s->sub_index == EVENT_KV ? 0 : 1] = kv;
    return ERR_OK;
}

/* --- */

enum etcd_verdict etcd_scan_answer(struct etcd_plan *p, enum etcd_content content,
                                   const struct etcd_rules *rules, const struct chain *msg,
                                   struct etcd_ask *ask)
{
    const struct etcd__msg *m = etcd__answer_schema(content);
    NOT_CLEARED struct etcd__scan s;

    etcd_plan_reset(p);
    if (m == NULL && content == ETCD_OPAQUE)
        return ETCD_AS_IS;
    if (m == NULL) { /* member lists have their own way: etcd_members_rewrite */
        p->err = ERR_UNKNOWN_METHOD;
        return ETCD_REJECT;
    }
    etcd__scan_init(&s, p, content, rules, ask, NULL, true);
    return etcd__scan_whole(&s, m, msg);
}

enum etcd_verdict etcd__scan_rest(struct etcd_plan *p, enum etcd_content content,
                                  const struct etcd_rules *rules, const struct chain *msg,
                                  struct etcd_ask *ask)
{
    NOT_CLEARED struct etcd__scan s;

    etcd__scan_init(&s, p, content, rules, ask, NULL, true);
    s.done = p->part.at;
    s.has_edits = true; /* of the part */
    return etcd__scan_whole(&s, etcd__answer_schema(content), msg);
}
