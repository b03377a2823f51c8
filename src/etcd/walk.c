/* SPDX-License-Identifier: Apache-2.0 */
/* The walk over a message, whole or in part.
 *
 *   etcd__walk         field after field; descends into the sub-messages that the schema knows
 *   etcd__check_field  doubled members, wire types, unknown fields
 *   on_key, on_end     the hooks of a message decide: scan_request.c, scan_answer.c, scan_watch.c
 *   etcd__edit         a value field becomes an operation; what lies before it is kept, and every
 *                      sub-message that is open gets a LEN
 *
 * Failure modes: malformed wire, sub-messages or oneof members given twice and too much depth
 * refuse any message; what all parsers agree on but a well-behaved client does not send (unknown
 * fields, doubled scalars, groups) is noted as "soft", for the hooks to judge. */
#include "etcd/walk_int.h"

/* Beside LIMIT_ODD_FIELDS a message may have an odd field in so many bytes: in a later etcd each
 * KeyValue of a list may have one. */
#define ODD_FIELD_BYTES 16u

void etcd__scan_init(struct etcd__scan *s, struct etcd_plan *p, enum etcd_content content,
                     const struct etcd_rules *rules, struct etcd_ask *ask, struct etcd__txn *txn,
                     bool is_answer)
{
    memset(s, 0, offsetof(struct etcd__scan, frames));
    s->p = p;
    s->content = content;
    s->rules = rules;
    s->ask = ask;
    s->is_answer = is_answer;
    s->txn = txn;
    if (txn == NULL) {
        s->txn = &s->own_txn;
        etcd__txn_init(s->txn, ask);
    }
}

enum err etcd__gather(struct etcd_plan *p, struct chain_pos pos, size_t n, struct bytes *out)
{
    struct bytes b = chain_peek(&pos, n);
    uint8_t *to;

    *out = b;
    if (b.n == n)
        return ERR_OK;
    to = arena_alloc(&p->arena, n);
    if (to == NULL)
        return ERR_NOMEM;
    *out = bytes_of(to, n);
    chain_take(&pos, to, n);
    return ERR_OK;
}

/* --- operations ------------------------------------------------------------------------------ */

static uint32_t parent_op(const struct etcd__scan *s, uint32_t depth)
{
    return depth == 0 ? ETCD__NONE : s->frames[depth - 1].op;
}

static enum err push_keep(struct etcd__scan *s, size_t at, uint32_t parent)
{
    struct etcd_op op = {.kind = ETCD__KEEP, .parent = parent, .at = s->done, .len = at - s->done};

    DCHECK(at >= s->done);
    s->done = at;
    return op.len == 0 ? ERR_OK : etcd__plan_op(s->p, &op);
}

static enum err push_len(struct etcd__scan *s, uint32_t i)
{
    struct etcd__frame *f = &s->frames[i];
    struct etcd_op op = {.kind = ETCD__LEN,
                         .parent = parent_op(s, i),
                         .at = f->at,
                         .len = f->head_len,
                         .u.sub = {f->number, f->body_len}};

    f->op = (uint32_t)s->p->op_count;
    s->done = f->at + f->head_len;
    return etcd__plan_op(s->p, &op);
}

enum err etcd__keep_to(struct etcd__scan *s, size_t at)
{
    for (uint32_t i = 0; i < s->depth; i++) {
        if (s->frames[i].op != ETCD__NONE)
            continue;
        TRY(push_keep(s, s->frames[i].at, parent_op(s, i)));
        TRY(push_len(s, i));
    }
    return push_keep(s, at, parent_op(s, s->depth));
}

enum err etcd__edit(struct etcd__scan *s, enum etcd__op_kind kind, size_t at, size_t len,
                    struct etcd__value *value)
{
    struct etcd_op op = {.kind = kind, .at = at, .len = len, .u.value = value};

    TRY(etcd__keep_to(s, at));
    op.parent = parent_op(s, s->depth);
    s->done = at + len;
    s->has_edits = true;
    return etcd__plan_op(s->p, &op);
}

enum err etcd__mark(struct etcd__scan *s, enum etcd__op_kind kind, size_t at, int64_t revision)
{
    struct etcd_op op = {.kind = kind, .parent = ETCD__NONE, .at = at, .u.revision = revision};

    DCHECK(s->depth == 0);
    TRY(etcd__keep_to(s, at));
    return etcd__plan_op(s->p, &op);
}

enum err etcd__value_new(struct etcd__scan *s, uint32_t number, struct bytes key,
                         const struct provider_list *list, struct etcd__value **out)
{
    struct etcd__value *v = arena_alloc(&s->p->arena, sizeof *v);
    uint8_t *copy = arena_alloc(&s->p->arena, key.n);

    *out = v;
    if (v == NULL || copy == NULL)
        return ERR_NOMEM;
    memset(v, 0, sizeof *v);
    if (key.n > 0)
        memcpy(copy, key.p, key.n);
    v->number = number;
    v->key = bytes_of(copy, key.n);
    v->list = list;
    v->need = v->write_need = ETCD__NONE;
    return ERR_OK;
}

/* --- the walk -------------------------------------------------------------------------------- */

static void note_soft(struct etcd__scan *s, enum err e, uint32_t number)
{
    if (s->soft != ERR_OK)
        return;
    s->soft = e;
    s->soft_field = number;
}

static enum err hard(struct etcd__scan *s, enum err request, enum err answer, uint32_t number)
{
    s->p->bad_field = number;
    return s->is_answer ? answer : request;
}

static const struct etcd__field *field_find(const struct etcd__msg *m, uint32_t number)
{
    uint32_t guess = number - 1; /* most schemas have their fields in order and without gaps */

    if (guess < m->count && m->fields[guess].number == number)
        return &m->fields[guess];
    for (uint32_t i = 0; i < m->count; i++) {
        if (m->fields[i].number == number)
            return &m->fields[i];
    }
    return NULL;
}

static bool wire_fits(const struct etcd__field *fd, enum pb_wire wire)
{
    /* A packed list of scalars is as good as single ones. */
    return wire == fd->wire || (fd->kind == ETCD__REPEATED && wire == PB_LEN);
}

/* A field that no client and no etcd writes, and that costs a walk nothing but time. */
static enum err note_odd(struct etcd__scan *s)
{
    size_t len = s->msg == NULL ? 0 : s->msg->len;

    if (++s->odd_count <= LIMIT_ODD_FIELDS + len / ODD_FIELD_BYTES)
        return ERR_OK;
    return s->is_answer ? ERR_ANS_MALFORMED : ERR_REQ_TOO_MANY_FIELDS;
}

/* A field that was seen before, or another member of its oneof. */
static enum err check_again(struct etcd__scan *s, const struct etcd__field *fd, bool is_again,
                            bool has_oneof)
{
    switch (fd->kind) {
    case ETCD__MSGS:
        return ERR_OK;
    case ETCD__REPEATED:
        return is_again ? note_odd(s) : ERR_OK;
    case ETCD__SCALAR:
        if (is_again && !s->is_answer)
            note_soft(s, ERR_REQ_DOUBLED, fd->number);
        return is_again ? note_odd(s) : ERR_OK;
    case ETCD__ONEOF:
    case ETCD__ONEOF_MSG:
        if (has_oneof && !is_again)
            return hard(s, ERR_REQ_ONEOF, ERR_ANS_DOUBLED, fd->number);
        break;
    case ETCD__ONCE:
    case ETCD__MSG:
        break;
    }
    return is_again ? hard(s, ERR_REQ_DOUBLED, ERR_ANS_DOUBLED, fd->number) : ERR_OK;
}

enum err etcd__check_field(struct etcd__scan *s, const struct etcd__msg *m, uint32_t *seen,
                           bool *has_oneof, const struct pb_field *f, const struct etcd__field **fd)
{
    const struct etcd__field *found = field_find(m, f->number);
    uint32_t bit;

    *fd = NULL;
    if (found == NULL) {
        if (m->is_strict)
            return hard(s, ERR_REQ_UNKNOWN_FIELD, ERR_ANS_MALFORMED, f->number);
        note_soft(s, ERR_REQ_UNKNOWN_FIELD, f->number);
        return note_odd(s);
    }
    if (!wire_fits(found, f->wire)) /* some parsers refuse it, others skip it */
        return hard(s, ERR_REQ_WIRE_TYPE, ERR_ANS_WIRE_TYPE, f->number);
    bit = 1u << (found - m->fields);
    TRY(check_again(s, found, (*seen & bit) != 0, *has_oneof));
    *seen |= bit;
    if (found->kind == ETCD__ONEOF || found->kind == ETCD__ONEOF_MSG)
        *has_oneof = true;
    *fd = found;
    return ERR_OK;
}

enum err etcd__walk_sub(struct etcd__scan *s, const struct etcd__msg *m, const struct pb_field *f,
                        uint32_t depth)
{
    /* An answer to a request of full depth has one level more, the KeyValues. */
    uint32_t max = s->is_answer ? LIMIT_DEPTH + 1 : LIMIT_DEPTH;
    enum err e;

    if (depth > max)
        return s->is_answer ? ERR_ANS_MALFORMED : ERR_REQ_DEPTH;
    if (m->is_counted && ++s->op_count > LIMIT_TXN_OPS)
        return ERR_REQ_TOO_MANY_OPS;
    CHECK(s->depth < ARRAY_LEN(s->frames));
    s->frames[s->depth++] = (struct etcd__frame){.at = f->at,
                                                 .head_len = f->value_at - f->at,
                                                 .number = f->number,
                                                 .body_len = f->value_len,
                                                 .op = ETCD__NONE};
    e = etcd__walk(s, m, pb_reader_sub(f), depth);
    s->depth--;
    return e;
}

static enum err walk_known(struct etcd__scan *s, const struct etcd__msg *m,
                           const struct etcd__field *fd, const struct pb_field *f,
                           struct etcd__got *got, uint32_t depth)
{
    uint32_t index = (uint32_t)(fd - m->fields);

    got->f[index] = *f;
    if (fd->is_key) {
        TRY(etcd__gather(s->p, f->value, f->value_len, &got->key));
        if (m->on_key != NULL)
            m->on_key(s, got->key);
    }
    if (fd->sub == NULL)
        return m->on_field == NULL ? ERR_OK : m->on_field(s->txn, f);
    if (fd->sub->is_event)
        return ERR_OK;
    s->sub_index = index;
    s->sub_field = *f;
    return etcd__walk_sub(s, fd->sub, f, depth + 1);
}

enum err etcd__walk(struct etcd__scan *s, const struct etcd__msg *m, struct pb_reader r,
                    uint32_t depth)
{
    const struct etcd__field *fd;
    NOT_CLEARED struct etcd__got got;
    struct pb_field f;
    enum pb_result res;

    got.seen = depth == 0 ? s->p->part.seen : 0;
    got.has_oneof = false;
    got.key = bytes_of(NULL, 0);
    if (m->on_enter != NULL)
        TRY(m->on_enter(s->txn, depth == 0 ? 0 : s->frames[s->depth - 1].number));
    while ((res = pb_next(&r, &f)) == PB_FIELD) {
        TRY(etcd__check_field(s, m, &got.seen, &got.has_oneof, &f, &fd));
        if (fd != NULL)
            TRY(walk_known(s, m, fd, &f, &got, depth));
    }
    if (res != PB_END)
        return s->is_answer ? ERR_ANS_MALFORMED : ERR_PROTOBUF;
    if (m->on_leave != NULL)
        TRY(m->on_leave(s->txn));
    return m->on_end == NULL ? ERR_OK : m->on_end(s, &got);
}

static enum err scan_whole(struct etcd__scan *s, const struct etcd__msg *m, const struct chain *msg)
{
    size_t at = s->p->part.at;

    s->msg = msg;
    TRY(etcd__walk(s, m, pb_reader_range(msg, at, msg->len - at), 0));
    if (s->is_protected && s->soft != ERR_OK) {
        s->p->bad_field = s->soft_field;
        return etcd__plan_fail(s->p, s->soft, s->protected_key);
    }
    return s->has_edits ? etcd__keep_to(s, msg->len) : ERR_OK;
}

enum etcd_verdict etcd__scan_whole(struct etcd__scan *s, const struct etcd__msg *m,
                                   const struct chain *msg)
{
    s->p->err = scan_whole(s, m, msg);
    if (s->p->err != ERR_OK)
        return ETCD_REJECT;
    return s->has_edits ? ETCD_EDIT : ETCD_AS_IS;
}
