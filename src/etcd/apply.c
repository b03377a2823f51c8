/* SPDX-License-Identifier: Apache-2.0 */
/* Runs the operations of a plan: three passes.
 *
 *   open_aside  what has to be opened into scratch is opened, for its length is not known before
 *   measure     the lengths, from the last operation to the first: a LEN comes after all that lies
 *               in it
 *   write       from the first to the last
 *
 *   msg   |    done    |  op  |  later ops  |        a->pos: where the op begins
 *   out   |.... pieces of our slab, and large ones of the message's slabs ....|
 *
 * Tags, lengths, sealed values and opened ones are written into the slab where output gathers, one
 * behind the other, so that a list of thousands of values leaves in a few large pieces. Referenced
 * is what would be long to write again: kept spans above LIMIT_SMALL_COPY, and values above
 * ETCD__OUT_VALUE_MAX, which are opened where they lie.
 *
 * A value that fails stops the run; callers cut off what was written. A run that has done its
 * caller's share of work stops between two operations, and is kept in the plan. */
#include "etcd/plan_int.h"
#include "etcd/output_int.h"

#include "base/metrics.h"

/* --- output ---------------------------------------------------------------------------------- */

static uint8_t *room(struct etcd__apply *a, size_t n)
{
    return etcd__room(a->out, a->pool, a->is_request, n);
}

static enum err write_head(struct etcd__apply *a, uint32_t number, size_t len)
{
    uint8_t *to = room(a, etcd__head_len(number, len));

    if (to == NULL)
        return ERR_NOMEM;
    etcd__put_head(to, number, len);
    return ERR_OK;
}

static void skip_to(struct etcd__apply *a, size_t at)
{
    chain_skip(&a->pos, at - a->pos.at);
}

/* The next n bytes of the message go out. */
static enum err write_in(struct etcd__apply *a, size_t n)
{
    uint8_t *to;

    if (n > LIMIT_SMALL_COPY)
        return etcd__share_at(a->out, &a->pos, n);
    if (n == 0)
        return ERR_OK;
    to = room(a, n);
    if (to == NULL)
        return ERR_NOMEM;
    chain_take(&a->pos, to, n);
    a->copied += n;
    return ERR_OK;
}

static enum err write_slice(struct etcd__apply *a, struct slice *s)
{
    uint8_t *to;

    if (s->len > LIMIT_SMALL_COPY)
        return chain_push(a->out, s);
    if (s->len > 0) {
        to = room(a, s->len);
        if (to == NULL)
            return ERR_NOMEM;
        memcpy(to, slice_data(*s), s->len);
        a->copied += s->len;
    }
    slice_drop(s);
    return ERR_OK;
}

/* --- keys ------------------------------------------------------------------------------------ */

/* The DEK that opens the value; *dek is NULL when none is needed. */
static enum err read_dek(const struct etcd__apply *a, const struct etcd__value *v, struct dek **dek)
{
    const struct etcd_need *need;

    *dek = NULL;
    if (v->need == ETCD__NONE)
        return ERR_OK;
    need = &a->p->needs[v->need];
    *dek = need->dek;
    if (need->err != ERR_OK)
        return need->err;
    return need->dek != NULL ? ERR_OK : ERR_NO_STATE;
}

static enum err write_dek(const struct etcd__apply *a, const struct etcd__value *v,
                          const struct dek **dek)
{
    const struct provider *first = v->list->v[0];
    const struct etcd_need *need;

    *dek = NULL;
    if (v->write_need == ETCD__NONE) {
        if (first->key_count == 0)
            return ERR_NO_WRITE_KEY;
        *dek = first->keys[0].dek;
        return ERR_OK;
    }
    need = &a->p->needs[v->write_need];
    *dek = need->dek;
    if (need->err != ERR_OK)
        return need->err;
    return need->dek != NULL ? ERR_OK : ERR_NO_WRITE_KEY;
}

/* A value that is the first of a fresh DEK may have to be remembered, and opening in place destroys
 * it: so its digest is taken before. */
static enum err digest_first(struct etcd__apply *a, const struct etcd__value *v,
                             struct chain_pos pos)
{
    const struct etcd_need *need = v->need == ETCD__NONE ? NULL : &a->p->needs[v->need];

    if (need == NULL || !need->is_fresh || need->was_used)
        return ERR_OK;
    return envelope_value_digest(a->ctx, v->key, pos, v->len, a->p->unopened.digest);
}

/* What came of opening it. */
static void note_opened(struct etcd__apply *a, const struct etcd__value *v, enum err e)
{
    struct etcd_need *need = v->need == ETCD__NONE ? NULL : &a->p->needs[v->need];

    if (need == NULL)
        return;
    if (e == ERR_OK) {
        need->was_used = true;
    } else if (need->is_fresh && !need->was_used && err_is_of_value(e)) {
        a->p->unopened.err = e;
        a->p->unopened.need = v->need;
    }
}

/* Counts the value by what opened it (or failed to). */
static void count_opened(struct etcd__apply *a, const struct etcd__value *v, enum err e)
{
    bool is_aside = v->v.form == ENVELOPE_SCRATCH && e == ERR_OK;

    if (v->list == NULL)
        return; /* FAIL: the scan has counted it */
    etcd__plan_count(a->p,
                     &(struct etcd_count){
                         .list = v->list,
                         .provider = is_aside ? v->list->v[v->opened_by] : v->v.provider,
                         .key_index = is_aside ? v->opened_key : v->v.key_index,
                         .need = v->need,
                         .err = e,
                     },
                     1);
}

static void count_sealed(struct etcd__apply *a, const struct etcd__value *v, enum err e)
{
    etcd__plan_count(a->p,
                     &(struct etcd_count){.list = v->list,
                                          .provider = v->list->v[0],
                                          .need = v->write_need,
                                          .is_write = true,
                                          .err = e},
                     1);
}

/* --- turns ----------------------------------------------------------------------------------- */

/* What a value costs besides its bytes, in bytes: keys and nonces. To look at an operation. */
#define VALUE_COST 2048u
#define OP_COST 64u

static void spend(struct etcd__apply *a, size_t cost)
{
    a->left -= cost < a->left ? cost : a->left;
}

static void charge(struct etcd__apply *a, size_t value_len)
{
    spend(a, value_len + VALUE_COST);
}

/* --- open_aside ------------------------------------------------------------------------------ */

static enum err open_scratch(struct etcd__apply *a, struct etcd__value *v, struct chain_pos *pos,
                             struct envelope_opened *opened)
{
    struct chain one = {0};
    struct dek *dek;
    enum err e;

    TRY(read_dek(a, v, &dek));
    chain_skip(pos, v->at - pos->at);
    TRY(digest_first(a, v, *pos));
    e = etcd__share_at(&one, pos, v->len);
    if (e == ERR_OK)
        e = envelope_open_scratch(a->ctx, v->list, &v->v, dek, v->key, &one, 0, v->len, a->pool,
                                  &v->scratch, opened);
    chain_fini(&one);
    note_opened(a, v, e);
    v->opened_by = opened->provider_index;
    v->opened_key = opened->key_index;
    return e;
}

/* A value that arrived sealed: it stays if one opens it whose tag proves it. */
static enum err check_sealed(struct etcd__apply *a, struct etcd__value *v, struct chain_pos *pos)
{
    struct envelope_opened opened = {0};
    enum err e = open_scratch(a, v, pos, &opened);

    if (e != ERR_OK) {
        bool is_ours = err_fault(e) == FAULT_US || err_fault(e) == FAULT_KMS;

        return is_ours ? e : ERR_REQ_SEALED_VALUE;
    }
    if (opened.authentic) {
        v->is_kept = true;
        slice_drop(&v->scratch);
        return ERR_OK;
    }
    return provider_traits(v->list->v[0])->is_identity ? ERR_REQ_SEALED_VALUE : ERR_OK;
}

static enum err open_one_aside(struct etcd__apply *a, const struct etcd_op *op, bool *is_over)
{
    struct etcd__value *v = op->u.value;
    struct envelope_opened opened;
    enum err e;

    if (op->kind == ETCD__CHECK) {
        charge(a, v->len);
        e = check_sealed(a, v, &a->pos);
        if (e != ERR_OK)
            return etcd__plan_fail(a->p, e, v->key);
    }
    if (op->kind == ETCD__OPEN && v->v.form == ENVELOPE_SCRATCH) {
        charge(a, v->len);
        if (v->err == ERR_OK)
            v->err = open_scratch(a, v, &a->pos, &opened);
        *is_over = v->err != ERR_OK; /* write stops there */
        if (*is_over)
            return err_spares_earlier(v->err) ? ERR_OK : v->err;
    }
    return ERR_OK;
}

static enum err open_aside(struct etcd__apply *a)
{
    bool is_over = false;

    for (; a->next < a->p->op_count && !is_over; a->next++) {
        if (a->left == 0)
            return ERR_AGAIN;
        spend(a, OP_COST);
        TRY(open_one_aside(a, &a->p->ops[a->next], &is_over));
    }
    return ERR_OK;
}

/* --- measure --------------------------------------------------------------------------------- */

static enum err measure_value(struct etcd__apply *a, const struct etcd_op *op,
                              struct etcd__value *v)
{
    const struct dek *dek;
    size_t plain_len;

    if (op->kind == ETCD__OPEN) {
        v->new_len = v->v.form == ENVELOPE_SCRATCH ? v->scratch.len : v->v.plain_len;
        return ERR_OK;
    }
    plain_len = op->kind == ETCD__CHECK ? v->scratch.len : v->len;
    TRY(write_dek(a, v, &dek));
    return envelope_sealed_len(v->list->v[0], dek, plain_len, &v->new_len);
}

static bool is_unchanged(const struct etcd_op *op)
{
    return op->kind == ETCD__FAIL || (op->kind == ETCD__CHECK && op->u.value->is_kept);
}

/* Bytes of a value field of op: none for an empty value, as writers do it. */
static size_t field_len(const struct etcd__value *v)
{
    return v->new_len == 0 ? 0 : etcd__head_len(v->number, v->new_len) + v->new_len;
}

static enum err measure_op(struct etcd__apply *a, struct etcd_op *op)
{
    switch (op->kind) {
    case ETCD__LEN: /* grow has the sum of its children's */
        op->u.sub.body_len = (size_t)((ptrdiff_t)op->u.sub.body_len + op->grow);
        op->grow += (ptrdiff_t)etcd__head_len(op->u.sub.number, op->u.sub.body_len);
        op->grow -= (ptrdiff_t)op->len;
        break;
    case ETCD__SEAL:
    case ETCD__CHECK:
    case ETCD__OPEN:
    case ETCD__FAIL:
        if (is_unchanged(op))
            break;
        TRY(measure_value(a, op, op->u.value));
        op->grow = (ptrdiff_t)field_len(op->u.value) - (ptrdiff_t)op->len;
        break;
    default:
        break;
    }
    if (op->parent != ETCD__NONE)
        a->p->ops[op->parent].grow += op->grow;
    return ERR_OK;
}

/* a->next counts from the last one. */
static enum err measure(struct etcd__apply *a)
{
    size_t count = a->p->op_count;

    for (; a->next < count; a->next++) {
        if (a->left == 0)
            return ERR_AGAIN;
        spend(a, OP_COST);
        TRY(measure_op(a, &a->p->ops[count - 1 - a->next]));
    }
    return ERR_OK;
}

/* --- write ----------------------------------------------------------------------------------- */

static enum err write_sealed(struct etcd__apply *a, const struct etcd_op *op)
{
    struct etcd__value *v = op->u.value;
    struct chain scratch = {0};
    const struct dek *dek;
    uint8_t *to;
    enum err e = ERR_OK;

    TRY(write_dek(a, v, &dek));
    TRY(write_head(a, v->number, v->new_len));
    to = room(a, v->new_len);
    if (to == NULL)
        return ERR_NOMEM;
    if (op->kind == ETCD__CHECK) {
        size_t len = v->scratch.len;

        e = chain_push(&scratch, &v->scratch);
        if (e == ERR_OK)
            e = envelope_seal(a->ctx, v->list->v[0], dek, v->key, chain_begin(&scratch), len, to);
        chain_fini(&scratch);
    } else {
        if (op->len > 0)
            skip_to(a, v->at);
        e = envelope_seal(a->ctx, v->list->v[0], dek, v->key, a->pos, v->len, to);
    }
    count_sealed(a, v, e);
    if (e != ERR_OK)
        return etcd__plan_fail(a->p, e, v->key);
    if (v->write_need != ETCD__NONE)
        a->p->needs[v->write_need].was_used = true;
    skip_to(a, op->at + op->len);
    a->p->sealed++;
    return ERR_OK;
}

/* Where it lies. a->pos stands at the value's data. */
static enum err open_here(struct etcd__apply *a, const struct etcd__value *v, const struct dek *dek)
{
    TRY(envelope_open(a->ctx, &v->v, dek, v->key, a->pos, NULL));
    chain_skip(&a->pos, v->v.plain_at);
    TRY(write_head(a, v->number, v->new_len));
    return etcd__share_at(a->out, &a->pos, v->new_len);
}

/* Straight into the output; if the tag is wrong, the caller cuts that off. */
static enum err open_to_out(struct etcd__apply *a, const struct etcd__value *v, struct dek *dek)
{
    uint8_t none, *to = &none;

    if (v->new_len > 0) {
        size_t head = etcd__head_len(v->number, v->new_len);

        to = room(a, head + v->new_len);
        if (to == NULL)
            return ERR_NOMEM;
        etcd__put_head(to, v->number, v->new_len);
        to += head;
    }
    if (a->p->watch.has_events) /* other watchers are told the same */
        return envelope_open_again(a->ctx, &v->v, dek, v->key, a->pos, to);
    return envelope_open(a->ctx, &v->v, dek, v->key, a->pos, to);
}

static enum err write_opened_value(struct etcd__apply *a, struct etcd__value *v)
{
    struct dek *dek;
    enum err e;

    TRY(read_dek(a, v, &dek));
    skip_to(a, v->at);
    TRY(digest_first(a, v, a->pos));
    skip_to(a, v->at + v->v.data_at);
    e = v->new_len > ETCD__OUT_VALUE_MAX ? open_here(a, v, dek) : open_to_out(a, v, dek);
    note_opened(a, v, e);
    return e;
}

static enum err write_opened(struct etcd__apply *a, const struct etcd_op *op)
{
    struct etcd__value *v = op->u.value;
    enum err e = v->err;

    if (e == ERR_OK && v->v.form == ENVELOPE_SCRATCH) {
        if (v->new_len > 0)
            e = write_head(a, v->number, v->new_len);
        if (e == ERR_OK)
            e = write_slice(a, &v->scratch);
    } else if (e == ERR_OK) {
        e = write_opened_value(a, v);
    }
    count_opened(a, v, e);
    if (e != ERR_OK) {
        a->has_value_failed = err_spares_earlier(e);
        return etcd__plan_fail(a->p, e, v->key);
    }
    skip_to(a, op->at + op->len);
    a->p->opened++;
    return ERR_OK;
}

static enum err write_len(struct etcd__apply *a, const struct etcd_op *op)
{
    skip_to(a, op->at + op->len);
    return write_head(a, op->u.sub.number, op->u.sub.body_len);
}

static void note_event(struct etcd__apply *a, int64_t revision)
{
    if (!a->has_event)
        a->events_at = a->revision_at = a->out->len;
    else if (revision != a->revision)
        a->revision_at = a->out->len;
    a->is_unordered = a->is_unordered || (a->has_event && revision < a->revision);
    a->has_event = true;
    a->revision = revision;
}

/* What was saved is paid back: small fillers gather with the other small pieces. */
static enum err write_filler(struct etcd__apply *a)
{
    uint8_t head[2 * PB_VARINT_MAX];

    while (a->saved > 0) {
        size_t payload, n = etcd__filler_field(a->saved, head, &payload);
        size_t here = payload > LIMIT_SMALL_COPY ? 0 : payload;
        uint8_t *to = room(a, n + here);

        if (to == NULL)
            return ERR_NOMEM;
        memcpy(to, head, n);
        memset(to + n, 0, here);
        TRY(etcd__push_zeros(a->out, payload - here));
        a->saved -= n + payload;
    }
    return ERR_OK;
}

static enum err write_op(struct etcd__apply *a, const struct etcd_op *op)
{
    DCHECK(op->at == a->pos.at);
    if (op->parent == ETCD__NONE)
        a->saved = (size_t)((ptrdiff_t)a->saved - op->grow);
    if (op->kind != ETCD__KEEP)
        charge(a, op->len);
    switch (op->kind) {
    case ETCD__KEEP:
        return write_in(a, op->len);
    case ETCD__LEN:
        return write_len(a, op);
    case ETCD__SEAL:
        return write_sealed(a, op);
    case ETCD__CHECK:
        return op->u.value->is_kept ? write_in(a, op->len) : write_sealed(a, op);
    case ETCD__OPEN:
    case ETCD__FAIL:
        return write_opened(a, op);
    case ETCD__EVENT:
        note_event(a, op->u.revision);
        return ERR_OK;
    case ETCD__FILL:
        return write_filler(a);
    }
    return ERR_CRYPTO;
}

static enum err write_all(struct etcd__apply *a)
{
    for (; a->next < a->p->op_count; a->next++) {
        if (a->left == 0)
            return ERR_AGAIN;
        TRY(write_op(a, &a->p->ops[a->next]));
    }
    return ERR_OK;
}

static void pass_begin(struct etcd__apply *a, enum etcd__pass pass)
{
    a->pass = pass;
    a->next = 0;
    a->pos = chain_seek(a->msg, a->p->part.at);
}

static enum err run(struct etcd__apply *a)
{
    if (a->pass == ETCD__OPEN_ASIDE) {
        TRY(open_aside(a));
        pass_begin(a, ETCD__MEASURE);
    }
    if (a->pass == ETCD__MEASURE) {
        TRY(measure(a));
        pass_begin(a, ETCD__WRITE);
    }
    return write_all(a);
}

/* Without memory to keep it the run has failed. */
static enum err run_keep(struct etcd__apply *a)
{
    struct etcd__apply *to = a->p->going;

    if (to == NULL)
        to = arena_alloc(&a->p->arena, sizeof *to);
    if (to == NULL)
        return ERR_NOMEM;
    *to = *a;
    a->p->going = to;
    return ERR_AGAIN;
}

void etcd__apply_begin(struct etcd__apply *a)
{
    struct etcd_plan *p = a->p;

    if (p->going != NULL) {
        DCHECK(p->going->msg == a->msg);
        *a = *p->going;
    } else {
        pass_begin(a, ETCD__OPEN_ASIDE);
        p->sealed = 0;
        p->opened = p->part.opened;
        p->err = ERR_OK;
        p->bad_key = bytes_of(NULL, 0);
        p->unopened.err = ERR_OK;
        a->out_len = a->out->len;
    }
    a->left = p->apply_max == 0 ? SIZE_MAX : p->apply_max;
}

enum err etcd__apply_run(struct etcd__apply *a)
{
    enum err e = run(a);

    if (e == ERR_AGAIN)
        e = run_keep(a);
    if (e == ERR_AGAIN)
        return e;
    a->p->going = NULL;
    chain_fini(a->msg);
    metric_add(METRIC_bytes_copied_total, a->copied);
    a->p->err = e;
    return e;
}

bool etcd__apply_keep_earlier(struct etcd__apply *a)
{
    if (!a->has_value_failed || !a->has_event || a->is_unordered || a->revision_at <= a->events_at)
        return false;
    etcd__chain_cut(a->out, a->revision_at);
    return true;
}

/* --- */

enum err etcd_apply_request(struct etcd_plan *p, struct envelope_ctx *ctx, struct slab_pool *pool,
                            struct chain *msg, struct sealed_msg *out)
{
    struct etcd__apply a = {
        .p = p, .is_request = true, .ctx = ctx, .pool = pool, .msg = msg, .out = &out->etcd__bytes};
    enum err e;

    etcd__apply_begin(&a);
    e = etcd__apply_run(&a);
    if (e != ERR_OK && e != ERR_AGAIN)
        sealed_msg_fini(out);
    return e;
}

enum err etcd_apply_answer(struct etcd_plan *p, struct envelope_ctx *ctx, struct slab_pool *pool,
                           struct chain *msg, struct chain *out)
{
    struct etcd__apply a = {.p = p, .ctx = ctx, .pool = pool, .msg = msg, .out = out};
    enum err e;

    etcd__apply_begin(&a);
    e = etcd__apply_run(&a);
    if (e != ERR_OK && e != ERR_AGAIN && !etcd__apply_keep_earlier(&a))
        etcd__chain_cut(out, a.out_len - p->part.out_len);
    return e;
}
