/* SPDX-License-Identifier: Apache-2.0 */
/* The memory of a plan.
 *
 * Operations and needs are arrays that are reused; ids, keys and values live in the arena. Needs
 * are collapsed: a list of thousands of values under one DEK has one. The look-up tries the need
 * that was used last, then all of a few, then a hash table.
 *
 * Nothing here fails but for want of memory. */
#include "etcd/plan_int.h"

#include <stdlib.h>

#define NEEDS_FEW 8u
#define COUNTS_LOOKED_AT                                                                           \
    16u                /* further back an entry may come twice: its sums are all that counts */
#define OPS_KEPT 1024u /* more than this is given back after a message */

static bool op_has_value(const struct etcd_op *op)
{
    return op->kind == ETCD__SEAL || op->kind == ETCD__CHECK || op->kind == ETCD__OPEN ||
           op->kind == ETCD__FAIL;
}

static void drop_large(struct etcd_plan *p)
{
    if (p->op_cap > OPS_KEPT) {
        free(p->ops);
        p->ops = NULL;
        p->op_cap = 0;
    }
    if (p->need_cap > OPS_KEPT) {
        free(p->needs);
        p->needs = NULL;
        p->need_cap = 0;
    }
    free(p->need_slots);
    p->need_slots = NULL;
    p->need_slot_count = 0;
}

void etcd_plan_reset(struct etcd_plan *p)
{
    for (size_t i = 0; i < p->op_count; i++) {
        if (op_has_value(&p->ops[i]))
            slice_drop(&p->ops[i].u.value->scratch);
    }
    for (size_t i = 0; i < p->need_count; i++)
        dek_drop(p->needs[i].dek);
    p->op_count = p->need_count = 0;
    p->need_last = 0;
    drop_large(p);
    arena_reset(&p->arena);
    p->err = ERR_OK;
    p->bad_key = bytes_of(NULL, 0);
    p->bad_field = 0;
    p->watch = (struct etcd_watch_info){0};
    p->sealed = p->opened = p->plain = 0;
    p->count_count = 0;
    p->part = (struct etcd_part){0};
    p->unopened.err = ERR_OK;
    p->apply_max = 0;
    p->going = NULL;
}

size_t etcd_plan_size(const struct etcd_plan *p)
{
    return p->arena.size + p->op_cap * sizeof *p->ops + p->need_cap * sizeof *p->needs +
           p->need_slot_count * sizeof *p->need_slots + p->count_cap * sizeof *p->counts;
}

void etcd_plan_forget_part(struct etcd_plan *p)
{
    size_t n = p->part.count_count;

    p->count_count -= n;
    if (p->count_count > 0) /* else there may be no array */
        memmove(p->counts, p->counts + n, p->count_count * sizeof *p->counts);
    p->opened -= p->part.opened;
    p->part = (struct etcd_part){0};
}

void etcd_plan_fini(struct etcd_plan *p)
{
    etcd_plan_reset(p);
    arena_fini(&p->arena);
    free(p->ops);
    free(p->needs);
    free(p->counts);
    *p = (struct etcd_plan){0};
}

static bool is_same_count(const struct etcd_count *a, const struct etcd_count *b)
{
    return a->list == b->list && a->provider == b->provider && a->key_index == b->key_index &&
           a->need == b->need && a->is_write == b->is_write && a->err == b->err;
}

/* Values come in the order of their keys, so it is nearly always the last one. */
void etcd__plan_count(struct etcd_plan *p, const struct etcd_count *c, size_t n)
{
    for (size_t i = p->count_count; i-- > 0;) {
        if (is_same_count(&p->counts[i], c)) {
            p->counts[i].n += n;
            return;
        }
        if (p->count_count - i >= COUNTS_LOOKED_AT)
            break;
    }
    if (p->count_count == p->count_cap) {
        size_t cap = p->count_cap == 0 ? 8 : p->count_cap * 2;
        struct etcd_count *v = realloc(p->counts, cap * sizeof *v);

        if (v == NULL)
            return;
        p->counts = v;
        p->count_cap = cap;
    }
    p->counts[p->count_count] = *c;
    p->counts[p->count_count++].n = n;
}

static bool is_missing(const struct etcd_plan *p, uint32_t need, enum err e)
{
    return need != ETCD__NONE && p->needs[need].err == e;
}

void etcd_plan_count_missing(struct etcd_plan *p, enum err e)
{
    for (size_t i = 0; i < p->op_count; i++) {
        const struct etcd_op *op = &p->ops[i];
        const struct etcd__value *v = op->u.value;
        struct etcd_count c = {.need = ETCD__NONE, .err = e};

        if (!op_has_value(op) || op->kind == ETCD__FAIL)
            continue;
        c.list = v->list;
        c.is_write = is_missing(p, v->write_need, e);
        if (!c.is_write && !is_missing(p, v->need, e))
            continue;
        c.provider = p->needs[c.is_write ? v->write_need : v->need].provider;
        p->bad_key = v->key;
        etcd__plan_count(p, &c, 1);
        return;
    }
}

enum err etcd__plan_fail(struct etcd_plan *p, enum err e, struct bytes key)
{
    uint8_t *copy = key.n == 0 ? NULL : arena_alloc(&p->arena, key.n);

    p->err = e;
    p->bad_key = bytes_of(NULL, 0);
    if (copy != NULL) {
        memcpy(copy, key.p, key.n);
        p->bad_key = bytes_of(copy, key.n);
    }
    return e;
}

enum err etcd__plan_op(struct etcd_plan *p, const struct etcd_op *op)
{
    if (p->op_count == p->op_cap) {
        size_t cap = p->op_cap == 0 ? 16 : p->op_cap * 2;
        struct etcd_op *v = cap < ETCD__NONE ? realloc(p->ops, cap * sizeof *v) : NULL;

        if (v == NULL)
            return ERR_NOMEM;
        p->ops = v;
        p->op_cap = cap;
    }
    p->ops[p->op_count++] = *op;
    return ERR_OK;
}

/* FNV-1a from a start that differs from plan to plan: one who writes etcd can't aim at a slot. */
static uint64_t id_hash(const struct etcd_plan *p, const struct dek_id *id)
{
    uint64_t h = 0xcbf29ce484222325u ^ (uint64_t)(uintptr_t)p * 0x9e3779b97f4a7c15u;

    for (size_t i = 0; i < id->wrapped.n; i++)
        h = (h ^ id->wrapped.p[i]) * 0x100000001b3u;
    return h ^ h >> 32;
}

/* The slot of the need for id, or the empty one where it belongs. */
static uint32_t *slot_of(struct etcd_plan *p, const struct provider *provider,
                         const struct dek_id *id)
{
    size_t mask = p->need_slot_count - 1;

    for (size_t i = id_hash(p, id) & mask;; i = (i + 1) & mask) {
        uint32_t *slot = &p->need_slots[i];
        const struct etcd_need *need;

        if (*slot == 0)
            return slot;
        need = &p->needs[*slot - 1];
        if (need->provider == provider && dek_id_eq(&need->id, id))
            return slot;
    }
}

/* Keeps the table at most half full. */
static enum err slots_grow(struct etcd_plan *p)
{
    size_t count = p->need_slot_count == 0 ? 64 : p->need_slot_count * 2;
    uint32_t *slots;

    if (p->need_count * 2 < p->need_slot_count)
        return ERR_OK;
    slots = calloc(count, sizeof *slots);
    if (slots == NULL)
        return ERR_NOMEM;
    free(p->need_slots);
    p->need_slots = slots;
    p->need_slot_count = count;
    for (uint32_t i = 0; i < p->need_count; i++) {
        if (!p->needs[i].is_write)
            *slot_of(p, p->needs[i].provider, &p->needs[i].id) = i + 1;
    }
    return ERR_OK;
}

static enum err need_push(struct etcd_plan *p, const struct etcd_need *need, uint32_t *out)
{
    if (p->need_count == p->need_cap) {
        size_t cap = p->need_cap == 0 ? 4 : p->need_cap * 2;
        struct etcd_need *v = realloc(p->needs, cap * sizeof *v);

        if (v == NULL)
            return ERR_NOMEM;
        p->needs = v;
        p->need_cap = cap;
    }
    *out = (uint32_t)p->need_count++;
    p->needs[*out] = *need;
    return ERR_OK;
}

static enum err copy_bytes(struct arena *a, struct bytes from, struct bytes *to)
{
    uint8_t *p = arena_alloc(a, from.n);

    if (p == NULL)
        return ERR_NOMEM;
    if (from.n > 0)
        memcpy(p, from.p, from.n);
    *to = bytes_of(p, from.n);
    return ERR_OK;
}

static enum err copy_id(struct arena *a, const struct dek_id *from, struct dek_id *to)
{
    struct dek_annotation *notes = arena_alloc(a, from->annotation_count * sizeof *notes);

    if (notes == NULL)
        return ERR_NOMEM;
    *to = *from;
    to->annotations = notes;
    TRY(copy_bytes(a, from->key_id, &to->key_id));
    TRY(copy_bytes(a, from->wrapped, &to->wrapped));
    for (uint32_t i = 0; i < from->annotation_count; i++) {
        TRY(copy_bytes(a, from->annotations[i].key, &notes[i].key));
        TRY(copy_bytes(a, from->annotations[i].value, &notes[i].value));
    }
    return ERR_OK;
}

static bool need_is(const struct etcd_need *need, const struct provider *provider,
                    const struct dek_id *id)
{
    return !need->is_write && need->provider == provider && dek_id_eq(&need->id, id);
}

/* The index of a need that is there, or ETCD__NONE. */
static uint32_t need_find(struct etcd_plan *p, const struct provider *provider,
                          const struct dek_id *id)
{
    if (p->need_count > 0 && need_is(&p->needs[p->need_last], provider, id))
        return p->need_last;
    if (p->need_slots != NULL) {
        uint32_t slot = *slot_of(p, provider, id);

        return slot == 0 ? ETCD__NONE : slot - 1;
    }
    for (uint32_t i = 0; i < p->need_count; i++) {
        if (need_is(&p->needs[i], provider, id))
            return i;
    }
    return ETCD__NONE;
}

enum err etcd__plan_need(struct etcd_plan *p, const struct provider *provider,
                         const struct dek_id *id, uint32_t *out)
{
    struct etcd_need need = {.provider = provider};

    *out = need_find(p, provider, id);
    if (*out != ETCD__NONE) {
        p->need_last = *out;
        return ERR_OK;
    }
    TRY(copy_id(&p->arena, id, &need.id));
    if (p->need_count >= NEEDS_FEW)
        TRY(slots_grow(p));
    TRY(need_push(p, &need, out));
    if (p->need_slots != NULL)
        *slot_of(p, provider, &p->needs[*out].id) = *out + 1;
    p->need_last = *out;
    return ERR_OK;
}

enum err etcd__plan_need_has(struct etcd_plan *p, const struct provider *provider, struct dek *dek,
                             uint32_t *out)
{
    struct etcd_need need = {.provider = provider, .id = dek->id, .dek = dek};

    if (p->need_count >= NEEDS_FEW)
        TRY(slots_grow(p));
    TRY(need_push(p, &need, out));
    dek_ref(dek);
    if (p->need_slots != NULL)
        *slot_of(p, provider, &need.id) = *out + 1;
    return ERR_OK;
}

enum err etcd__plan_need_write(struct etcd_plan *p, const struct provider *provider, uint32_t *out)
{
    struct etcd_need need = {.is_write = true, .provider = provider};

    /* A DEK for this value alone is in no need yet. Of the others a message has as many as the
     * configuration has KMS providers. */
    if (provider_traits(provider)->has_dek_per_value)
        return need_push(p, &need, out);
    for (uint32_t i = 0; i < p->need_count; i++) {
        if (p->needs[i].is_write && p->needs[i].provider == provider) {
            *out = i;
            return ERR_OK;
        }
    }
    return need_push(p, &need, out);
}

enum err etcd_passthrough(enum etcd_verdict verdict, struct chain *msg, struct sealed_msg *out)
{
    enum err e;

    CHECK(verdict == ETCD_AS_IS);
    e = chain_append(&out->etcd__bytes, msg);
    if (e != ERR_OK)
        sealed_msg_fini(out);
    chain_fini(msg);
    return e;
}
