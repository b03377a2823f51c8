/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by large.c (takes the message apart), large_watch.c (the same for a Watch), large_apply.c
 * (puts it together) and direct_large.c (opens what needs no plan). */
#ifndef ETCD_LARGE_INT_H
#define ETCD_LARGE_INT_H

#include "etcd/walk_int.h"
#include "etcd/large.h"
#include "etcd/output_int.h"

enum etcd__large_mode { ETCD__LARGE_FILL, ETCD__LARGE_SPLIT_KV, ETCD__LARGE_SPLIT_REV };

/* A message that is open. All ends count from the start of the root. */
struct etcd__level {
    const struct etcd__msg *m;
    size_t end;
    uint32_t seen;
    bool has_oneof;
    bool has_edits;
};

/* FILL: where the output stands: in which messages, and how much of an unknown field is to come.
 * The output's levels end where the input's end, for what is saved is paid back in time. */
struct etcd__stand {
    size_t ends[ETCD__DEPTH_MAX];
    uint32_t count;
    size_t raw_left;
};

struct etcd_large {
    enum etcd_content content;
    enum etcd__large_mode mode;
    const struct etcd_rules *rules;
    struct etcd_ask *ask;
    size_t announced;
    size_t batch_max;
    size_t taken; /* bytes of the message that were taken from the caller's chain */

    const struct etcd_rule *rule; /* that the last KeyValue opened without a plan matched */
    struct etcd__txn txn;
    struct etcd__level levels[ETCD__DEPTH_MAX];
    size_t
        group_len;   /* of the field at hand, when it is a group: what was there at the last look */
    uint32_t depth;  /* open levels; 0: the message is over */
    size_t raw_left; /* FILL: of an unknown field that is passed in pieces */
    bool is_over;    /* the last batch was given out */

    /* FILL */
    struct etcd__stand parsed;  /* at the end of the last batch */
    struct etcd__stand applied; /* at the end of the last one that was applied */
    size_t emitted, saved;
    bool is_aborted; /* what goes out now is filler */
    size_t good;     /* emitted before that */

    /* SPLIT: what waits for the last piece: of the message that holds the units before them, behind
     * them, and what stands outside of it */
    struct chain head, tail, outer;
    struct chain units; /* of the batch that is being applied */
    bool has_inner, has_units;

    /* SPLIT_REV */
    struct chain repeat; /* header and watch_id: in every piece */
    struct etcd_watch_info info;
    uint8_t *header;
    bool has_begun;
    size_t peeked;               /* bytes of the caller's chain that are known to be whole events */
    struct chain_pos peeked_pos; /* behind them, chain_pos_keep; chain NULL: to be found */
    size_t cut;                  /* of these, whole revisions */
    bool has_revision;
    int64_t revision;        /* of the last event that was peeked at */
    struct etcd__scan *scan; /* of a batch that is planned in turns; else NULL */
    size_t planned;          /* bytes of it that are */
};

/* Notes where the parse stands. */
void etcd__large_stand(const struct etcd_large *st, struct etcd__stand *to);
/* The next field of the innermost level, at pos. *is_stuck: it has not arrived; nothing is changed.
 */
MUST_CHECK enum err etcd__large_head(struct etcd_large *st, const struct chain_pos *pos,
                                     struct pb_field *f, bool *is_stuck);
/* Takes the first n bytes of in for batch. */
MUST_CHECK enum err etcd__large_take(struct etcd_large *st, struct chain *in, size_t n,
                                     struct chain *batch);
/* ERR_AGAIN: s stands in the middle of the batch. */
MUST_CHECK enum err etcd__large_watch_next(struct etcd_large *st, struct etcd__scan *s,
                                           struct chain *in, struct chain *batch, bool *has_batch);

#endif
