/* SPDX-License-Identifier: Apache-2.0 */
/* Takes a large answer apart while it arrives.
 *
 *   levels   root > responses > ResponseOp > RangeResponse     open messages, by announced length
 *   in       |taken before| whole fields | a part |            the caller's chain begins at taken
 *                         ^pos
 *
 *   1. the next head: PB_MORE, then what was taken so far is the batch
 *   2. a message that may be large is entered (its head goes out, or, SPLIT, is dropped)
 *   3. a KeyValue has to be there whole: it is walked over like one in a small answer
 *   4. other fields have to be there whole, too, and are small; unknown ones of FILL pass in pieces
 *   5. at the end of a message that holds KeyValues the plan gets a FILL
 *
 * The rules on doubled members and wire types hold across batches: levels remember what they saw.
 *
 * FILL must be able to complete the message at any time (etcd_large_fill), and nothing completes
 * a message that lacks one byte. A rest of one byte can only stand in a malformed message: such a
 * field is refused before anything of it goes out. */
#include "etcd/large_int.h"

#include <stdlib.h>

static enum etcd__large_mode mode_of(enum etcd_content content)
{
    switch (content) {
    case ETCD_WATCH:
        return ETCD__LARGE_SPLIT_REV;
    case ETCD_RANGE_STREAM:
        return ETCD__LARGE_SPLIT_KV;
    default:
        return ETCD__LARGE_FILL;
    }
}

void etcd__large_stand(const struct etcd_large *st, struct etcd__stand *to)
{
    to->count = st->depth;
    for (uint32_t i = 0; i < st->depth; i++)
        to->ends[i] = st->levels[i].end;
    to->raw_left = st->raw_left;
}

static enum err enter(struct etcd_large *st, const struct etcd__msg *m, uint32_t number, size_t end)
{
    /* As in the walk: one level more than requests may have, and that is the KeyValue's. */
    if (st->depth > LIMIT_DEPTH)
        return ERR_ANS_MALFORMED;
    if (m->on_enter != NULL)
        TRY(m->on_enter(&st->txn, number));
    st->levels[st->depth++] = (struct etcd__level){.m = m, .end = end};
    return ERR_OK;
}

static enum err leave(struct etcd_large *st)
{
    const struct etcd__msg *m = st->levels[--st->depth].m;

    return m->on_leave == NULL ? ERR_OK : m->on_leave(&st->txn);
}

enum err etcd_large_new(enum etcd_content content, const struct etcd_rules *rules,
                        struct etcd_ask *ask, uint32_t announced, size_t batch_max,
                        struct etcd_large **out)
{
    const struct etcd__msg *root = etcd__answer_schema(content);
    struct etcd_large *st = calloc(1, sizeof *st);
    enum err e;

    *out = st;
    if (st == NULL)
        return ERR_NOMEM;
    CHECK(root != NULL);
    st->content = content;
    st->mode = mode_of(content);
    st->rules = rules;
    st->ask = ask;
    st->announced = announced;
    st->batch_max = batch_max;
    etcd__txn_init(&st->txn, ask);
    e = enter(st, root, 0, announced);
    if (e != ERR_OK) {
        free(st);
        *out = NULL;
        return e;
    }
    etcd__large_stand(st, &st->parsed);
    st->applied = st->parsed;
    return ERR_OK;
}

void etcd_large_free(struct etcd_large *st)
{
    if (st == NULL)
        return;
    chain_fini(&st->head);
    chain_fini(&st->tail);
    chain_fini(&st->outer);
    chain_fini(&st->units);
    chain_fini(&st->repeat);
    free(st->header);
    free(st->scan);
    free(st);
}

struct bytes etcd_large_header(const struct etcd_large *st)
{
    return bytes_of(st->header, st->header == NULL ? 0 : st->info.header_len);
}

size_t etcd_large_left(const struct etcd_large *st)
{
    return st->announced - st->taken;
}

/* A head is short, but for an unknown group, which is walked over up to its end. It is looked at
 * again when twice as much is there, or all: so it costs what its length says, in however small
 * pieces it arrives. */
static bool is_worth_a_look(const struct etcd_large *st, size_t here, size_t left)
{
    return here >= 2 * st->group_len || here >= left;
}

enum err etcd__large_head(struct etcd_large *st, const struct chain_pos *pos, struct pb_field *f,
                          bool *is_stuck)
{
    const struct etcd__level *l = &st->levels[st->depth - 1];
    size_t end = l->end - st->taken, here = pos->chain->len - pos->at;
    struct pb_reader r = {*pos, end};

    *is_stuck = !is_worth_a_look(st, here, end - pos->at);
    if (*is_stuck)
        return ERR_OK;
    st->group_len = 0;
    switch (pb_next_head(&r, f)) {
    case PB_FIELD:
        return ERR_OK;
    case PB_MORE:
        *is_stuck = true;
        st->group_len = here > 2 * PB_VARINT_MAX ? here : 0;
        return here > LIMIT_ANSWER_SMALL ? ERR_MEMORY_LIMIT : ERR_OK;
    default:
        return ERR_ANS_MALFORMED;
    }
}

enum err etcd__large_take(struct etcd_large *st, struct chain *in, size_t n, struct chain *batch)
{
    st->taken += n;
    return chain_move(batch, in, n);
}

static size_t field_end(const struct pb_field *f)
{
    return f->value_at + f->value_len;
}

/* The next field of the innermost level. That it was seen counts once it is taken (note_look): it
 * may have to be looked at again. */
struct look {
    struct pb_field f;
    const struct etcd__field *fd; /* NULL: unknown */
    bool is_kv;
    uint32_t seen;
    bool has_oneof;
};

static enum err look(struct etcd_large *st, struct etcd__scan *s, const struct chain_pos *pos,
                     struct look *k, bool *is_stuck)
{
    const struct etcd__level *l = &st->levels[st->depth - 1];

    TRY(etcd__large_head(st, pos, &k->f, is_stuck));
    if (*is_stuck)
        return ERR_OK;
    k->seen = l->seen;
    k->has_oneof = l->has_oneof;
    TRY(etcd__check_field(s, l->m, &k->seen, &k->has_oneof, &k->f, &k->fd));
    k->is_kv = k->fd != NULL && k->fd->sub != NULL && k->fd->sub->is_kv;
    return ERR_OK;
}

static void note_look(struct etcd__level *l, const struct look *k)
{
    l->seen = k->seen;
    l->has_oneof = k->has_oneof;
}

/* A KeyValue: *is_stuck while it has not arrived. */
static enum err take_unit(struct etcd_large *st, struct etcd__scan *s, const struct etcd__msg *kv,
                          const struct pb_field *f, struct chain_pos *pos, bool *is_stuck)
{
    struct etcd__level *l = &st->levels[st->depth - 1];
    bool had_edits = s->has_edits;

    if (f->value_len > LIMIT_ANSWER_UNIT)
        return ERR_MEMORY_LIMIT;
    if (field_end(f) > pos->chain->len) {
        *is_stuck = true;
        return ERR_OK;
    }
    s->sub_field = *f;
    s->has_edits = false;
    TRY(etcd__walk_sub(s, kv, f, st->depth));
    l->has_edits = l->has_edits || s->has_edits;
    s->has_edits = s->has_edits || had_edits;
    st->has_units = true;
    chain_skip(pos, field_end(f) - pos->at);
    return ERR_OK;
}

/* --- FILL ------------------------------------------------------------------------------------ */

static enum err fill_leave(struct etcd_large *st, struct etcd__scan *s, size_t at)
{
    bool has_edits = st->levels[st->depth - 1].has_edits;

    TRY(leave(st));
    return has_edits ? etcd__mark(s, ETCD__FILL, at, 0) : ERR_OK;
}

/* A field that is no KeyValue. */
static enum err fill_other(struct etcd_large *st, const struct etcd__field *fd,
                           const struct pb_field *f, struct chain_pos *pos, bool *is_stuck)
{
    const struct etcd__msg *m = st->levels[st->depth - 1].m;

    if (fd == NULL && f->wire == PB_LEN) {
        st->raw_left = f->value_len;
        *pos = f->value;
        return ERR_OK;
    }
    if (fd != NULL && fd->sub != NULL) {
        *pos = f->value;
        if (f->value_len == 1)
            return ERR_ANS_MALFORMED;
        return enter(st, fd->sub, f->number, st->taken + field_end(f));
    }
    if (f->value_len > LIMIT_ANSWER_SMALL)
        return ERR_MEMORY_LIMIT;
    *is_stuck = field_end(f) > pos->chain->len;
    if (*is_stuck)
        return ERR_OK;
    if (fd != NULL && m->on_field != NULL)
        TRY(m->on_field(&st->txn, f));
    chain_skip(pos, field_end(f) - pos->at);
    return ERR_OK;
}

static enum err fill_field(struct etcd_large *st, struct etcd__scan *s, struct chain_pos *pos,
                           bool *is_stuck)
{
    struct etcd__level *l = &st->levels[st->depth - 1];
    struct look k;

    TRY(look(st, s, pos, &k, is_stuck));
    if (*is_stuck)
        return ERR_OK;
    if (l->end - st->taken - field_end(&k.f) == 1)
        return ERR_ANS_MALFORMED;
    if (k.is_kv)
        TRY(take_unit(st, s, k.fd->sub, &k.f, pos, is_stuck));
    else
        TRY(fill_other(st, k.fd, &k.f, pos, is_stuck));
    if (!*is_stuck)
        note_look(l, &k);
    return ERR_OK;
}

static enum err fill_raw(struct etcd_large *st, struct chain_pos *pos, bool *is_stuck)
{
    size_t here = pos->chain->len - pos->at;
    size_t n = st->raw_left < here ? st->raw_left : here;

    *is_stuck = n == 0;
    chain_skip(pos, n);
    st->raw_left -= n;
    return ERR_OK;
}

static enum err fill_next(struct etcd_large *st, struct etcd__scan *s, struct chain *in,
                          struct chain *batch, bool *has_batch)
{
    struct chain_pos pos = chain_begin(in);
    bool is_stuck = false;

    while (!is_stuck && st->depth > 0 && pos.at < st->batch_max) {
        if (st->raw_left > 0)
            TRY(fill_raw(st, &pos, &is_stuck));
        else if (st->levels[st->depth - 1].end == st->taken + pos.at)
            TRY(fill_leave(st, s, pos.at));
        else
            TRY(fill_field(st, s, &pos, &is_stuck));
    }
    TRY(etcd__keep_to(s, pos.at));
    /* A FILL alone, too: the batch before may have ended exactly where an open message does. */
    *has_batch = s->p->op_count > 0;
    TRY(etcd__large_take(st, in, pos.at, batch));
    etcd__large_stand(st, &st->parsed);
    st->is_over = st->depth == 0;
    return ERR_OK;
}

/* --- SPLIT_KV -------------------------------------------------------------------------------- */

/* A field that waits for the last piece. It stands at the begin of in. */
static enum err split_hold(struct etcd_large *st, const struct pb_field *f, struct chain *in,
                           bool *is_stuck)
{
    struct chain *to = st->depth == 1 ? &st->outer : st->has_units ? &st->tail : &st->head;
    size_t held = st->outer.len + st->tail.len + st->head.len;

    if (f->value_len > LIMIT_ANSWER_SMALL || held > LIMIT_ANSWER_SMALL)
        return ERR_MEMORY_LIMIT;
    if (field_end(f) > in->len) {
        *is_stuck = true;
        return ERR_OK;
    }
    st->taken += field_end(f);
    return chain_move(to, in, field_end(f));
}

static enum err split_enter(struct etcd_large *st, const struct etcd__msg *m,
                            const struct pb_field *f, struct chain *in)
{
    size_t end = st->taken + field_end(f), head_len = f->value_at;

    st->taken += head_len;
    st->has_inner = true;
    chain_consume(in, head_len);
    return enter(st, m, f->number, end);
}

/* What changes in stands at its begin: with units in the batch it waits for the next one. */
static enum err split_field(struct etcd_large *st, struct etcd__scan *s, struct chain *in,
                            struct chain_pos *pos, bool *is_stuck)
{
    struct etcd__level *l = &st->levels[st->depth - 1];
    struct look k;

    TRY(look(st, s, pos, &k, is_stuck));
    if (*is_stuck)
        return ERR_OK;
    if (k.is_kv) {
        TRY(take_unit(st, s, k.fd->sub, &k.f, pos, is_stuck));
    } else if (pos->at > 0) {
        *is_stuck = true;
    } else {
        if (k.fd != NULL && k.fd->sub != NULL)
            TRY(split_enter(st, k.fd->sub, &k.f, in));
        else
            TRY(split_hold(st, &k.f, in, is_stuck));
        *pos = chain_begin(in);
    }
    if (!*is_stuck)
        note_look(l, &k);
    return ERR_OK;
}

static enum err split_next(struct etcd_large *st, struct etcd__scan *s, struct chain *in,
                           struct chain *batch, bool *has_batch)
{
    struct chain_pos pos = chain_begin(in);
    bool is_stuck = false;

    while (!is_stuck && st->depth > 0 && pos.at < st->batch_max) {
        if (st->levels[st->depth - 1].end == st->taken + pos.at)
            TRY(leave(st));
        else
            TRY(split_field(st, s, in, &pos, &is_stuck));
    }
    TRY(etcd__keep_to(s, pos.at));
    st->is_over = st->taken + pos.at == st->announced;
    *has_batch = pos.at > 0 || st->is_over;
    return etcd__large_take(st, in, pos.at, batch);
}

/* --- */

static enum err next(struct etcd_large *st, struct etcd__scan *s, struct chain *in,
                     struct chain *batch, bool *has_batch)
{
    switch (st->mode) {
    case ETCD__LARGE_FILL:
        return fill_next(st, s, in, batch, has_batch);
    case ETCD__LARGE_SPLIT_KV:
        return split_next(st, s, in, batch, has_batch);
    case ETCD__LARGE_SPLIT_REV:
        return etcd__large_watch_next(st, s, in, batch, has_batch);
    }
    return ERR_ANS_MALFORMED;
}

/* Where the scan of a batch stands goes to st->scan between two turns, and comes from there. */
static void scan_begin(struct etcd_large *st, struct etcd__scan *s, struct etcd_plan *p)
{
    if (st->scan != NULL) {
        *s = *st->scan;
        return;
    }
    etcd_plan_reset(p);
    etcd__scan_init(s, p, st->content, st->rules, st->ask, &st->txn, true);
}

static enum err scan_end(struct etcd_large *st, const struct etcd__scan *s, enum err e)
{
    if (e != ERR_AGAIN) {
        free(st->scan);
        st->scan = NULL;
        return e;
    }
    if (st->scan == NULL)
        st->scan = malloc(sizeof *st->scan);
    if (st->scan == NULL)
        return ERR_NOMEM;
    *st->scan = *s;
    return e;
}

enum etcd_large_step etcd_large_next(struct etcd_large *st, struct chain *in, struct etcd_plan *p,
                                     struct chain *batch)
{
    NOT_CLEARED struct etcd__scan s;
    bool has_batch = false;
    enum err e;

    scan_begin(st, &s, p);
    p->watch = st->info;
    if (st->is_over)
        return ETCD_LARGE_DONE;
    e = scan_end(st, &s, next(st, &s, in, batch, &has_batch));
    p->watch = st->info;
    if (e == ERR_AGAIN)
        return ETCD_LARGE_AGAIN;
    p->err = e;
    if (e != ERR_OK)
        return ETCD_LARGE_BAD;
    if (has_batch)
        return ETCD_LARGE_BATCH;
    return st->is_over ? ETCD_LARGE_DONE : ETCD_LARGE_MORE;
}
