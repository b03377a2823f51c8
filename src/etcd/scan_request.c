/* SPDX-License-Identifier: Apache-2.0 */
/* What the walk finds in requests: values to be sealed, and what is asked for.
 *
 * A request is refused outright for what parsers disagree on. What all parsers agree on but a
 * well-behaved client does not send (walk.c: "soft") is refused once a protected Put turns up,
 * wherever in the message it stands. */
#include "etcd/walk_int.h"

/* --- Put ------------------------------------------------------------------------------------- */

static void note_protected(struct etcd__scan *s, struct bytes key)
{
    if (s->is_protected)
        return;
    s->is_protected = true;
    s->protected_key = key;
}

/* Any occurrence counts, also one that a later one overrides. */
void etcd__on_put_key(struct etcd__scan *s, struct bytes key)
{
    if (etcd_rules_find(s->rules, key) != NULL)
        note_protected(s, key);
}

static bool begins_with_mark(const struct pb_field *f)
{
    struct bytes mark = BYTES_LIT(ENVELOPE_MARK);
    struct chain_pos pos = f->value;

    if (f->value_len < mark.n)
        return false;
    for (size_t i = 0; i < mark.n; i++) {
        if (chain_next(&pos) != mark.p[i])
            return false;
    }
    return true;
}

/* Notes what a write under this list needs. */
static enum err need_write(struct etcd__scan *s, struct etcd__value *v)
{
    const struct provider *first = v->list->v[0];

    if (provider_traits(first)->is_kms)
        return etcd__plan_need_write(s->p, first, &v->write_need);
    return first->key_count > 0 ? ERR_OK : ERR_NO_WRITE_KEY;
}

/* A value that begins with "k8s:enc:": whether it may stay is known once it was opened. */
static enum err put_sealed(struct etcd__scan *s, const struct pb_field *f, struct etcd__value *v)
{
    enum err e;

    e = envelope_identify(v->list, f->value, f->value_len, &s->p->arena, NULL, &v->v);
    if (e != ERR_OK && !err_is_of_value(e))
        return e;
    if (e != ERR_OK || (v->v.form != ENVELOPE_IN_PLACE && v->v.form != ENVELOPE_SCRATCH))
        return etcd__plan_fail(s->p, ERR_REQ_SEALED_VALUE, v->key);
    if (v->v.needs_dek)
        TRY(etcd__plan_need(s->p, v->v.provider, &v->v.id, &v->need));
    if (!provider_is_authentic(v->v.provider) && !provider_traits(v->list->v[0])->is_identity)
        TRY(need_write(s, v));
    v->v.data_at -= f->value_at;
    v->at = f->value_at;
    v->len = f->value_len;
    return etcd__edit(s, ETCD__CHECK, f->at, f->value_at + f->value_len - f->at, v);
}

static enum err put_plain(struct etcd__scan *s, const struct etcd__got *got, struct etcd__value *v)
{
    const struct pb_field *key = &got->f[PUT_KEY], *f = &got->f[PUT_VALUE];
    enum err e = need_write(s, v);

    if (e != ERR_OK)
        return etcd__plan_fail(s->p, e, v->key);
    if (!etcd__has(got, PUT_VALUE)) /* the empty value is sealed, too */
        return etcd__edit(s, ETCD__SEAL, key->value_at + key->value_len, 0, v);
    v->at = f->value_at;
    v->len = f->value_len;
    return etcd__edit(s, ETCD__SEAL, f->at, f->value_at + f->value_len - f->at, v);
}

enum err etcd__on_put(struct etcd__scan *s, const struct etcd__got *got)
{
    bool has_ignore = etcd__varint(got, PUT_IGNORE_VALUE) != 0;
    size_t len = etcd__len(got, PUT_VALUE);
    const struct provider_list *list;
    struct etcd__value *v;

    if (got->key.n == 0)
        return ERR_REQ_EMPTY_KEY;
    if (has_ignore && len > 0)
        return etcd__plan_fail(s->p, ERR_REQ_VALUE_PROVIDED, got->key);
    TRY(etcd__txn_ask(s->txn, ETCD_ASKED_PUT, &(struct etcd_range){.key = got->key}));
    list = etcd_rules_find(s->rules, got->key);
    if (list == NULL || has_ignore)
        return ERR_OK;
    if (list->count == 0)
        return etcd__plan_fail(s->p, ERR_NO_WRITE_KEY, got->key);
    TRY(etcd__value_new(s, 2, got->key, list, &v));
    if (len > 0 && begins_with_mark(&got->f[PUT_VALUE]))
        return put_sealed(s, &got->f[PUT_VALUE], v);
    if (provider_traits(list->v[0])->is_identity) {
        etcd__plan_count(
            s->p,
            &(struct etcd_count){
                .list = list, .provider = list->v[0], .need = ETCD__NONE, .is_write = true},
            1);
        return ERR_OK;
    }
    return put_plain(s, got, v);
}

/* --- the other requests ---------------------------------------------------------------------- */

static enum err gather_field(struct etcd__scan *s, const struct etcd__got *got, uint32_t index,
                             struct bytes *out)
{
    *out = bytes_of(NULL, 0);
    if (!etcd__has(got, index))
        return ERR_OK;
    return etcd__gather(s->p, got->f[index].value, got->f[index].value_len, out);
}

/* An operation without a key could be about any. */
static bool may_touch(const struct etcd__scan *s, struct bytes key, struct bytes end)
{
    return key.n == 0 || etcd_rules_touch(s->rules, key, end);
}

/* Asks for the values of many keys: without a limit, or with one as pages of lists have it. */
static bool is_list(const struct etcd__got *got, const struct etcd_range *r)
{
    uint64_t limit = etcd__varint(got, RANGE_LIMIT);

    return r->end.n > 0 && !r->keys_only && etcd__varint(got, RANGE_COUNT_ONLY) == 0 &&
           (limit == 0 || limit >= ETCD_LIST_LIMIT);
}

enum err etcd__on_range(struct etcd__scan *s, const struct etcd__got *got)
{
    struct etcd_range r = {.key = got->key};

    TRY(gather_field(s, got, RANGE_END, &r.end));
    r.keys_only = etcd__varint(got, RANGE_KEYS_ONLY) != 0;
    /* etcd would sort by ciphertext; of one key there is nothing to sort. */
    if (etcd__enum(got, RANGE_SORT_TARGET) == 4 && r.end.n > 0 &&
        etcd_rules_touch(s->rules, r.key, r.end))
        return etcd__plan_fail(s->p, ERR_REQ_VALUE_SORT, r.key);
    /* A Txn is logged by etcd whole, with fields that nobody knows. */
    if (s->content == ETCD_TXN && may_touch(s, r.key, r.end))
        note_protected(s, r.key);
    s->txn->ask->is_list = s->content == ETCD_RANGE && is_list(got, &r);
    return etcd__txn_ask(s->txn, ETCD_ASKED_RANGE, &r);
}

enum err etcd__on_delete(struct etcd__scan *s, const struct etcd__got *got)
{
    struct etcd_range r = {.key = got->key};

    TRY(gather_field(s, got, DELETE_END, &r.end));
    if (may_touch(s, r.key, r.end))
        note_protected(s, r.key);
    return etcd__txn_ask(s->txn, ETCD_ASKED_DELETE, &r);
}

void etcd__on_compare_key(struct etcd__scan *s, struct bytes key)
{
    if (etcd_rules_find(s->rules, key) != NULL)
        s->compares_protected = true;
}

enum err etcd__on_compare(struct etcd__scan *s, const struct etcd__got *got)
{
    bool is_protected = s->compares_protected;
    bool is_value = etcd__enum(got, COMPARE_TARGET) == 3 || etcd__has(got, COMPARE_VALUE);
    struct bytes end;

    s->compares_protected = false;
    if (++s->compare_count > LIMIT_TXN_OPS)
        return ERR_REQ_TOO_MANY_OPS;
    TRY(gather_field(s, got, COMPARE_END, &end));
    if (!is_protected && !may_touch(s, got->key, end))
        return ERR_OK;
    note_protected(s, got->key);
    /* etcd would compare with ciphertext, and the Txn would be in its log with the plaintext. */
    return is_value ? etcd__plan_fail(s->p, ERR_REQ_VALUE_COMPARE, got->key) : ERR_OK;
}

enum err etcd__on_create(struct etcd__scan *s, const struct etcd__got *got)
{
    struct etcd_range r = {.key = got->key};

    TRY(gather_field(s, got, CREATE_END, &r.end));
    if (r.key.n == 0) /* etcd's watch.go: the first key of all */
        r.key = bytes_of("", 1);
    return etcd_ask_create(s->ask, (int64_t)etcd__varint(got, CREATE_WATCH_ID), &r);
}

/* --- */

enum etcd_verdict etcd_scan_request(struct etcd_plan *p, enum etcd_content content,
                                    const struct etcd_rules *rules, const struct chain *msg,
                                    struct etcd_ask *ask)
{
    const struct etcd__msg *m = etcd__request_schema(content);
    NOT_CLEARED struct etcd__scan s;

    etcd_plan_reset(p);
    if (m == NULL && (content == ETCD_OPAQUE || etcd_content_is_members(content)))
        return ETCD_AS_IS;
    if (m == NULL) {
        p->err = ERR_UNKNOWN_METHOD;
        return ETCD_REJECT;
    }
    etcd__scan_init(&s, p, content, rules, ask, NULL, false);
    return etcd__scan_whole(&s, m, msg);
}
