/* SPDX-License-Identifier: Apache-2.0 */
/* One KeyValue of the usual form: read, judged, written.
 *
 * In the order in which etcd writes its fields: key, create_revision, mod_revision, version,
 * value, lease; those that are zero are absent. The value is one that exactly one provider may
 * open, whose plaintext's length is known before, and whose DEK is at hand. The first of a kind
 * is identified as the scan does it; those that are alike (envelope_alike_data) are compared
 * with it.
 *
 * Nothing is released here that is not verified: etcd__direct_write cuts off what it wrote when
 * the tag is wrong, and everything that may fail for want of memory comes before the value is
 * opened. */
#include "etcd/direct_int.h"

#define NEEDS_MAX 64u /* more DEKs than this in one answer are left to the plan */

enum {
    TAG_KEY = 0x0a,
    TAG_CREATE_REVISION = 0x10,
    TAG_MOD_REVISION = 0x18,
    TAG_VERSION = 0x20,
    TAG_VALUE = 0x2a,
    TAG_LEASE = 0x30
};

void etcd__direct_init(struct etcd__direct *d, const struct etcd_direct *with, struct etcd_plan *p,
                       const struct etcd_rules *rules, const struct etcd_range *range,
                       struct chain *out)
{
    d->with = with;
    d->p = p;
    d->rules = rules;
    d->range = range;
    d->out = out;
    d->may_come_again = false;
    d->rule = NULL;
    d->kin = 0;
    for (uint32_t i = 0; i < ETCD__KINS; i++)
        d->kins[i].list = NULL;
    d->count = (struct etcd_count){.need = ETCD__NONE};
    d->copied = 0;
}

const struct etcd_range *etcd__direct_range(const struct etcd_ask *ask, uint32_t op)
{
    const struct etcd_asked_op *o = op < ask->op_count ? &ask->ops[op] : NULL;

    if (o == NULL || o->kind == ETCD_ASKED_NOTHING || o->kind == ETCD_ASKED_TXN ||
        o->range.keys_only)
        return NULL;
    return &o->range;
}

/* --- read ------------------------------------------------------------------------------------ */

/* Behind the varint at p, or NULL: it is not over at end, or longer than any that etcd writes. */
static inline const uint8_t *varint(const uint8_t *p, const uint8_t *end, uint64_t *v)
{
    uint64_t value = 0;

    for (uint32_t i = 0; i < PB_VARINT_MAX - 1 && p + i < end; i++) {
        value |= (uint64_t)(p[i] & 0x7f) << (7 * i);
        if (p[i] < 0x80) {
            *v = value;
            return p + i + 1;
        }
    }
    return NULL;
}

/* Behind a number with this tag, or p when it is absent. NULL: malformed. */
static inline const uint8_t *number(const uint8_t *p, const uint8_t *end, uint8_t tag)
{
    const uint8_t *from = p;

    if (p == end || *p != tag)
        return p;
    do
        p++;
    while (p < end && *p >= 0x80);
    return p < end && p - from < PB_VARINT_MAX ? p + 1 : NULL;
}

/* key .. version, and the head of the value. Returns the value's offset in the body of len bytes,
 * of which b has the first; 0: not of the usual form, or b is too short. */
static size_t read_begin(struct bytes b, size_t len, struct etcd__direct_kv *kv)
{
    const uint8_t *p = b.p, *end;
    uint64_t n;

    if (b.n < 2 || *p != TAG_KEY)
        return 0;
    end = b.p + b.n;
    p = varint(p + 1, end, &n);
    if (p == NULL || n == 0 || n > (size_t)(end - p))
        return 0;
    kv->key = bytes_of(p, (size_t)n);
    p += n;
    if ((p = number(p, end, TAG_CREATE_REVISION)) == NULL ||
        (p = number(p, end, TAG_MOD_REVISION)) == NULL || (p = number(p, end, TAG_VERSION)) == NULL)
        return 0;
    kv->kept = bytes_of(b.p, (size_t)(p - b.p));
    kv->value_len = 0;
    if (p == end)
        return b.n == len ? len : 0;
    if (*p != TAG_VALUE)
        return 0;
    p = varint(p + 1, end, &n);
    if (p == NULL || n == 0 || n > len - (size_t)(p - b.p))
        return 0;
    kv->value_len = (size_t)n;
    return (size_t)(p - b.p);
}

/* What stands behind the value, of which b may have all, is a lease or nothing. */
static bool read_rest(struct bytes b, size_t at, size_t len, struct etcd__direct_kv *kv)
{
    size_t n = len - at;

    kv->rest = bytes_of(b.p + at, n);
    if (n == 0)
        return true;
    if (n > sizeof kv->rest_buf)
        return false;
    if (b.n < len) {
        struct chain_pos pos = kv->body;

        chain_skip(&pos, at);
        chain_take(&pos, kv->rest_buf, n);
        kv->rest.p = kv->rest_buf;
    }
    return number(kv->rest.p, kv->rest.p + n, TAG_LEASE) == kv->rest.p + n;
}

bool etcd__direct_read(const struct chain_pos *pos, size_t len, struct etcd__direct_kv *kv)
{
    size_t most = len < ETCD__BEGIN_MAX ? len : ETCD__BEGIN_MAX, at;
    struct bytes b = chain_peek(pos, len);

    if (b.n < most) { /* it lies across slices */
        struct chain_pos from = *pos;

        chain_take(&from, kv->begin_buf, most);
        b = bytes_of(kv->begin_buf, most);
    }
    at = read_begin(b, len, kv);
    if (at == 0 || kv->kept.n > LIMIT_SMALL_COPY)
        return false;
    kv->begin = bytes_of(b.p + at, b.n - at < kv->value_len ? b.n - at : kv->value_len);
    kv->body = *pos;
    kv->value_at = at;
    return read_rest(b, at + kv->value_len, len, kv);
}

/* --- judge ----------------------------------------------------------------------------------- */

/* The plan's need for a DEK that is there. False: too many, or no memory. */
static bool take_need(struct etcd_plan *p, struct etcd__direct_kin *k)
{
    for (uint32_t i = 0; i < p->need_count; i++) {
        if (p->needs[i].dek == k->dek) {
            k->need = i;
            return true;
        }
    }
    return p->need_count < NEEDS_MAX &&
           etcd__plan_need_has(p, k->alike.provider, k->dek, &k->need) == ERR_OK;
}

/* Values like this one: what they have in common, and their DEK. */
NEVER_INLINE static bool meet(struct etcd__direct *d, const struct provider_list *list,
                              const struct etcd__direct_kv *kv)
{
    NOT_CLEARED struct envelope_value v;
    struct chain_pos value = kv->body;
    struct etcd__direct_kin *k;
    struct envelope_alike *a;

    chain_skip(&value, kv->value_at);
    d->kin = (d->kin + 1) % ETCD__KINS;
    k = &d->kins[d->kin];
    a = &k->alike;
    k->list = NULL;
    if (!envelope_alike_find(a, list, value, kv->value_len, &d->p->arena))
        return false;
    k->dek = d->with->find(d->with->user, a->provider, NULL, a->tail);
    if (k->dek == NULL) { /* other bytes may name it, too */
        if (envelope_identify(list, value, kv->value_len, &d->p->arena, NULL, &v) != ERR_OK ||
            v.form != ENVELOPE_IN_PLACE || v.provider != a->provider)
            return false;
        k->dek = d->with->find(d->with->user, a->provider, &v.id, bytes_of(NULL, 0));
    }
    if (k->dek == NULL || !take_need(d->p, k))
        return false;
    envelope_alike_set(a, &k->dek->id);
    k->list = list;
    return true;
}

/* Does the value end with these bytes? */
static bool ends_with(const struct etcd__direct_kv *kv, struct bytes tail)
{
    size_t at = kv->value_len - tail.n;
    struct chain_pos pos;

    if (kv->begin.n == kv->value_len) /* all of it was looked at */
        return memcmp(kv->begin.p + at, tail.p, tail.n) == 0;
    pos = kv->body;
    for (chain_skip(&pos, kv->value_at + at); tail.n > 0;) {
        struct bytes b = chain_peek(&pos, tail.n);

        if (memcmp(b.p, tail.p, b.n) != 0)
            return false;
        chain_skip(&pos, b.n);
        tail = bytes_of(tail.p + b.n, tail.n - b.n);
    }
    return true;
}

static inline bool is_kin(struct etcd__direct_kin *k, const struct provider_list *list,
                          struct etcd__direct_kv *kv)
{
    if (k->list != list)
        return false;
    kv->data_len = envelope_alike_data(&k->alike, kv->begin, kv->value_len, &kv->data_at);
    if (kv->data_len == 0 || !ends_with(kv, k->alike.tail))
        return false;
    kv->kin = k;
    kv->plain_len = kv->data_len - k->alike.overhead;
    return true;
}

static bool find_kin(struct etcd__direct *d, const struct provider_list *list,
                     struct etcd__direct_kv *kv)
{
    for (uint32_t i = 0; i < ETCD__KINS; i++) {
        if (is_kin(&d->kins[d->kin], list, kv))
            return true;
        d->kin = (d->kin + 1) % ETCD__KINS;
    }
    return meet(d, list, kv) && is_kin(&d->kins[d->kin], list, kv);
}

bool etcd__direct_judge(struct etcd__direct *d, struct etcd__direct_kv *kv)
{
    const struct provider_list *list;

    if (kv->value_len == 0 || !etcd_range_holds(d->range, kv->key))
        return false;
    list = etcd_rules_find_near(d->rules, kv->key, &d->rule);
    if (list == NULL || !find_kin(d, list, kv))
        return false;
    kv->new_len = kv->kept.n + etcd__head_len(5, kv->plain_len) + kv->plain_len + kv->rest.n;
    return true;
}

/* --- write ----------------------------------------------------------------------------------- */

bool etcd__direct_copy(struct etcd__direct *d, struct chain_pos pos, size_t n)
{
    uint8_t *to;

    if (n == 0)
        return true;
    to = etcd__room(d->out, d->with->pool, false, n);
    if (to == NULL)
        return false;
    chain_take(&pos, to, n);
    d->copied += n;
    return true;
}

/* Head, kept bytes and the value's head. */
static uint8_t *put_begin(uint8_t *to, const struct etcd__direct_kv *kv, uint32_t number)
{
    to += etcd__put_head(to, number, kv->new_len);
    memcpy(to, kv->kept.p, kv->kept.n);
    to += kv->kept.n;
    return to + etcd__put_head(to, 5, kv->plain_len);
}

static enum err open_to(const struct etcd__direct *d, const struct etcd__direct_kv *kv, uint8_t *to)
{
    const struct envelope_value *v =
        envelope_alike_value(&kv->kin->alike, kv->data_at, kv->data_len);
    struct chain_pos data = kv->body;

    chain_skip(&data, kv->value_at + kv->data_at);
    if (to != NULL && d->may_come_again)
        return envelope_open_again(d->with->ctx, v, kv->kin->dek, kv->key, data, to);
    return envelope_open(d->with->ctx, v, kv->kin->dek, kv->key, data, to);
}

/* Into the slab where output gathers. */
static bool write_here(struct etcd__direct *d, const struct etcd__direct_kv *kv, uint32_t number)
{
    uint8_t *to =
        etcd__room(d->out, d->with->pool, false, etcd__head_len(number, kv->new_len) + kv->new_len);

    if (to == NULL)
        return false;
    to = put_begin(to, kv, number);
    if (open_to(d, kv, to) != ERR_OK)
        return false;
    if (kv->rest.n > 0)
        memcpy(to + kv->plain_len, kv->rest.p, kv->rest.n);
    d->copied += kv->kept.n + kv->rest.n;
    return true;
}

/* A large value stays where it lies. It is opened last: what has become plaintext can't be opened
 * again. */
static bool write_there(struct etcd__direct *d, const struct etcd__direct_kv *kv, uint32_t number)
{
    struct chain_pos plain = kv->body;
    size_t n = etcd__head_len(number, kv->new_len) + kv->new_len - kv->plain_len - kv->rest.n;
    uint8_t *to = etcd__room(d->out, d->with->pool, false, n);
    enum err e;

    if (to == NULL)
        return false;
    put_begin(to, kv, number);
    chain_skip(&plain, kv->value_at + kv->data_at + kv->kin->alike.value.plain_at);
    if (etcd__share_at(d->out, &plain, kv->plain_len) != ERR_OK)
        return false;
    if (kv->rest.n > 0) {
        to = etcd__room(d->out, d->with->pool, false, kv->rest.n);
        if (to == NULL)
            return false;
        memcpy(to, kv->rest.p, kv->rest.n);
    }
    d->copied += kv->kept.n + kv->rest.n;
    e = open_to(d, kv, NULL);
    /* GCM's cipher is a stream: once more, and the value is again what scan and apply have to see.
     * Else it would open to them if its plaintext had been put in place of its ciphertext. */
    if (e == ERR_AUTH_FAILED)
        (void)open_to(d, kv, NULL);
    return e == ERR_OK;
}

bool etcd__direct_write(struct etcd__direct *d, const struct etcd__direct_kv *kv, uint32_t number)
{
    size_t len = d->out->len, copied = d->copied;
    bool ok = kv->plain_len > ETCD__OUT_VALUE_MAX ? write_there(d, kv, number)
                                                  : write_here(d, kv, number);

    if (ok) {
        if (d->count.need != kv->kin->need || d->count.list != kv->kin->list)
            etcd__direct_count(d);
        d->count.list = kv->kin->list;
        d->count.need = kv->kin->need;
        d->count.n++;
        return true;
    }
    etcd__chain_cut(d->out, len);
    d->copied = copied;
    return false;
}

void etcd__direct_count(struct etcd__direct *d)
{
    struct etcd_count *c = &d->count;
    struct etcd_need *need;

    if (c->n == 0)
        return;
    need = &d->p->needs[c->need];
    need->was_used = true;
    d->p->opened += c->n;
    etcd__plan_count(
        d->p, &(struct etcd_count){.list = c->list, .provider = need->provider, .need = c->need},
        c->n);
    c->n = 0;
}

FLATTEN bool etcd__direct_kv(struct etcd__direct *d, const struct chain_pos *pos, size_t len,
                             uint32_t number)
{
    NOT_CLEARED struct etcd__direct_kv kv;

    return etcd__direct_read(pos, len, &kv) && etcd__direct_judge(d, &kv) &&
           etcd__direct_write(d, &kv, number);
}
