/* SPDX-License-Identifier: Apache-2.0 */
/* A large WatchResponse while it arrives.
 *
 *   in   | whole revisions | events of a revision that may go on | a part |
 *                          ^cut                                  ^peeked
 *
 *   1. what is not an event stands first, as etcd writes it; the last piece gets it, header and
 *      watch_id go into every piece
 *   2. events are peeked at for their revisions; a revision is whole when an event of another one,
 *      or the end, follows: up to there is a batch
 *   3. the events of a batch are planned, in turns where they are many (plan_events)
 *   4. unknown fields between events stay where they are
 *
 * Failure modes: a known field behind an event is DATA_LOSS (the pieces before went out without
 * it); a revision of more than LIMIT_ANSWER_UNIT is too large for us. */
#include "etcd/large_int.h"

#include <stdlib.h>

static enum err copy_header(struct etcd_large *st, const struct pb_field *f, const struct chain *in)
{
    st->header = malloc(f->value_len + 1);
    if (st->header == NULL)
        return ERR_NOMEM;
    chain_copy(in, f->value_at, f->value_len, st->header);
    return ERR_OK;
}

/* A field before the first event, at the begin of in. */
static enum err head_field(struct etcd_large *st, struct etcd__scan *s, const struct pb_field *f,
                           struct chain *in)
{
    struct etcd__level *l = &st->levels[0];
    size_t n = f->value_at + f->value_len;
    const struct etcd__field *fd;

    TRY(etcd__check_field(s, l->m, &l->seen, &l->has_oneof, f, &fd));
    if (fd != NULL)
        etcd__watch_note(&st->info, f);
    if (fd != NULL && f->number == WATCH_HEADER_NUMBER)
        TRY(copy_header(st, f, in));
    st->info.header_at = 0; /* not in a batch: see etcd_large_header */
    if (fd != NULL && (f->number == WATCH_HEADER_NUMBER || f->number == WATCH_ID_NUMBER))
        TRY(chain_share(&st->repeat, in, 0, n));
    st->taken += n;
    return chain_move(&st->head, in, n);
}

/* Everything before the events. has_begun at its end. */
static enum err take_head(struct etcd_large *st, struct etcd__scan *s, struct chain *in)
{
    bool is_stuck = false;
    struct pb_field f;

    while (st->taken < st->announced) {
        struct chain_pos pos = chain_begin(in);

        TRY(etcd__large_head(st, &pos, &f, &is_stuck));
        if (is_stuck)
            return ERR_OK;
        if (f.number == WATCH_EVENTS_NUMBER)
            break;
        if (f.value_len > LIMIT_ANSWER_SMALL || st->head.len > LIMIT_ANSWER_SMALL)
            return ERR_MEMORY_LIMIT;
        if (f.value_at + f.value_len > in->len)
            return ERR_OK;
        TRY(head_field(st, s, &f, in));
    }
    st->info.has_events = st->taken < st->announced;
    st->has_begun = true;
    /* A created answer holds no events; in pieces, the first of them would come before it. */
    return st->info.created && st->info.has_events ? ERR_ANS_MALFORMED : ERR_OK;
}

/* Looks at the field at peeked. *is_stuck: not there. */
static enum err peek_field(struct etcd_large *st, struct etcd__scan *s, const struct chain *in,
                           struct chain_pos *pos, bool *is_stuck)
{
    struct etcd__level *l = &st->levels[0];
    const struct etcd__field *fd;
    struct pb_field f;
    int64_t revision;

    TRY(etcd__large_head(st, pos, &f, is_stuck));
    if (*is_stuck)
        return ERR_OK;
    TRY(etcd__check_field(s, l->m, &l->seen, &l->has_oneof, &f, &fd));
    if (fd != NULL && f.number != WATCH_EVENTS_NUMBER)
        return ERR_ANS_MALFORMED;
    if (f.value_len > LIMIT_ANSWER_UNIT || st->peeked - st->cut > LIMIT_ANSWER_UNIT)
        return ERR_MEMORY_LIMIT;
    *is_stuck = f.value_at + f.value_len > in->len;
    if (*is_stuck)
        return ERR_OK;
    if (fd != NULL && etcd__event_revision(&f, &revision)) {
        if (st->has_revision && revision != st->revision)
            st->cut = st->peeked;
        st->has_revision = true;
        st->revision = revision;
    }
    st->peeked = f.value_at + f.value_len;
    chain_skip(pos, st->peeked - pos->at);
    return ERR_OK;
}

/* Where to look on: found once for a batch, then kept while the chain grows. */
static struct chain_pos peeked_pos(const struct etcd_large *st, const struct chain *in)
{
    if (st->peeked_pos.chain != in)
        return chain_seek(in, st->peeked);
    return chain_pos_resume(st->peeked_pos);
}

static enum err peek(struct etcd_large *st, struct etcd__scan *s, const struct chain *in)
{
    struct chain_pos pos = peeked_pos(st, in);
    bool is_stuck = false;

    while (!is_stuck && st->taken + st->peeked < st->announced && st->cut < st->batch_max)
        TRY(peek_field(st, s, in, &pos, &is_stuck));
    st->peeked_pos = chain_pos_keep(pos);
    if (st->taken + st->peeked == st->announced)
        st->cut = st->peeked;
    return ERR_OK;
}

/* Plans the events in the first n bytes of in, from where it was left. */
static enum err plan_events(struct etcd_large *st, struct etcd__scan *s, const struct chain *in,
                            size_t n)
{
    struct pb_reader r = pb_reader_range(in, st->planned, n - st->planned);
    size_t left = st->batch_max / ETCD_LARGE_EVENT_COST + 1;
    struct pb_field f;

    s->has_marks = st->info.has_header && !st->info.is_fragment;
    while (pb_next(&r, &f) == PB_FIELD) {
        if (left-- == 0)
            return ERR_AGAIN;
        if (f.number == WATCH_EVENTS_NUMBER)
            TRY(etcd__scan_event(s, &f));
        st->planned = r.pos.at;
    }
    return etcd__keep_to(s, n);
}

/* The watch may have ended, or been ended by us, since the last batch. */
static enum err find_watch(struct etcd_large *st, struct etcd__scan *s, bool was_begun,
                           bool *is_swallowed)
{
    struct etcd_watch_info info = st->info;

    info.created = info.created && !was_begun;
    TRY(etcd__watch_begin(s, &info, is_swallowed));
    st->info.is_swallowed = *is_swallowed;
    return ERR_OK;
}

/* The first n bytes of in are planned, and become the batch. */
static enum err take(struct etcd_large *st, struct chain *in, size_t n, struct chain *batch)
{
    st->is_over = st->taken + n == st->announced;
    if (n > 0)
        st->peeked_pos.chain = NULL; /* the chain's begin goes to the batch */
    st->peeked -= n;
    st->cut = st->planned = 0;
    if (st->is_over)
        etcd__watch_end(st->ask, &st->info);
    return etcd__large_take(st, in, n, batch);
}

enum err etcd__large_watch_next(struct etcd_large *st, struct etcd__scan *s, struct chain *in,
                                struct chain *batch, bool *has_batch)
{
    bool was_begun = st->has_begun, is_swallowed;

    if (!st->has_begun)
        TRY(take_head(st, s, in));
    if (!st->has_begun)
        return ERR_OK;
    TRY(find_watch(st, s, was_begun, &is_swallowed));
    if (st->scan == NULL)
        TRY(peek(st, s, in));
    *has_batch = st->cut > 0 || st->taken + st->cut == st->announced;
    if (!is_swallowed)
        TRY(plan_events(st, s, in, st->cut));
    else
        TRY(etcd__keep_to(s, st->cut));
    return take(st, in, st->cut, batch);
}
