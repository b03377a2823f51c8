/* SPDX-License-Identifier: Apache-2.0 */
/* The walk over a message, and what it finds in requests.
 *
 *   etcd__walk         field after field; descends into the sub-messages that the schema knows
 *   etcd__check_field  doubled members, wire types, unknown fields
 *   on_key, on_end     the hooks of a message decide (here: of requests)
 *   etcd__edit         a value field becomes an operation; what lies before it is kept, and every
 *                      sub-message that is open gets a LEN
 *
 * A request is refused outright for what parsers disagree on: malformed wire, sub-messages or oneof
 * members given twice, too much depth. What all parsers agree on but a well-behaved client does not
 * send (unknown fields, doubled scalars, wrong wire types, groups) is noted as "soft" and refused
 * once a protected Put turns up, wherever in the message it stands. */
#include "etcd/plan_int.h"

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

/* By position, not by offset: looking at each of many values in a chain of many slices stays
 * linear. */
enum err etcd__share_at(struct chain *to, struct chain_pos *pos, size_t n)
{
    while (n > 0) {
        struct slice all = *chain_at(pos->chain, pos->index);
        uint32_t left = all.len - pos->off;
        uint32_t len = left < n ? left : (uint32_t)n;
        struct slice part = slice_sub(all, pos->off, len);

        TRY(chain_push(to, &part));
        chain_skip(pos, len);
        n -= len;
    }
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

/* A field that was seen before, or another member of its oneof. */
static enum err check_again(struct etcd__scan *s, const struct etcd__field *fd, bool is_again,
                            bool has_oneof)
{
    switch (fd->kind) {
    case ETCD__REPEATED:
    case ETCD__MSGS:
        return ERR_OK;
    case ETCD__SCALAR:
        if (is_again && !s->is_answer)
            note_soft(s, ERR_REQ_DOUBLED, fd->number);
        return ERR_OK;
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
        return ERR_OK;
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

    got.seen = 0;
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

    switch (first->kind) {
    case PROVIDER_KMS_V2:
    case PROVIDER_KMS_V1:
        return etcd__plan_need_write(s->p, first, &v->write_need);
    case PROVIDER_AESGCM:
    case PROVIDER_AESCBC:
    case PROVIDER_SECRETBOX:
        return first->key_count > 0 ? ERR_OK : ERR_NO_WRITE_KEY;
    default:
        return ERR_NO_WRITE_KEY;
    }
}

static bool is_always_authentic(const struct provider *p)
{
    return p->kind == PROVIDER_KMS_V2 || (p->kind == PROVIDER_KMS_V1 && !p->cbc_reads) ||
           p->kind == PROVIDER_AESGCM || p->kind == PROVIDER_SECRETBOX;
}

/* A value that begins with "k8s:enc:": whether it may stay is known once it was opened. */
static enum err put_sealed(struct etcd__scan *s, const struct pb_field *f, struct etcd__value *v)
{
    enum err e;

    e = envelope_identify(v->list, f->value, f->value_len, &s->p->arena, NULL, &v->v);
    if (e == ERR_NOMEM)
        return e;
    if (e != ERR_OK || (v->v.form != ENVELOPE_IN_PLACE && v->v.form != ENVELOPE_SCRATCH))
        return etcd__plan_fail(s->p, ERR_REQ_SEALED_VALUE, v->key);
    if (v->v.needs_dek)
        TRY(etcd__plan_need(s->p, v->v.provider, &v->v.id, &v->need));
    if (!is_always_authentic(v->v.provider) && v->list->v[0]->kind != PROVIDER_IDENTITY)
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
    if (list->v[0]->kind == PROVIDER_IDENTITY) {
        etcd__plan_count(
            s->p, &(struct etcd_count){
                      .list = list, .provider = list->v[0], .need = ETCD__NONE, .is_write = true});
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

static enum err scan_root(struct etcd__scan *s, const struct etcd__msg *m, const struct chain *msg)
{
    TRY(etcd__walk(s, m, pb_reader_all(msg), 0));
    if (s->is_protected && s->soft != ERR_OK) {
        s->p->bad_field = s->soft_field;
        return etcd__plan_fail(s->p, s->soft, s->protected_key);
    }
    return s->has_edits ? etcd__keep_to(s, msg->len) : ERR_OK;
}

enum etcd_verdict etcd_scan_request(struct etcd_plan *p, enum etcd_content content,
                                    const struct etcd_rules *rules, const struct chain *msg,
                                    struct etcd_ask *ask)
{
    const struct etcd__msg *m = etcd__request_schema(content);
    NOT_CLEARED struct etcd__scan s;

    etcd_plan_reset(p);
    if (m == NULL) {
        if (content == ETCD_OPAQUE || etcd_content_is_members(content))
            return ETCD_AS_IS;
        p->err = ERR_UNKNOWN_METHOD;
        return ETCD_REJECT;
    }
    etcd__scan_init(&s, p, content, rules, ask, NULL, false);
    p->err = scan_root(&s, m, msg);
    if (p->err != ERR_OK)
        return ETCD_REJECT;
    return s.has_edits ? ETCD_EDIT : ETCD_AS_IS;
}
