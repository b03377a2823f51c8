/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of etcd/: the walk over a message (walk.c), where it stands in a Txn (txn.c),
 * and what scan_answer.c and scan_watch.c have for stream.c. */
#ifndef ETCD_WALK_INT_H
#define ETCD_WALK_INT_H

#include "etcd/plan_int.h"
#include "etcd/schema_int.h"

/* --- txn.c ----------------------------------------------------------------------------------- */

/* A Txn that the walk is in. */
struct etcd__txn_level {
    uint32_t op;        /* the operation that it is, in the ask */
    uint32_t next;      /* answers: the operation that the next response is for; 0: none */
    bool has_branch;    /* answers: next is valid */
    bool has_succeeded; /* answers: the branch */
};

struct etcd__txn {
    struct etcd_ask *ask;
    uint32_t op;     /* the operation that the walk is in; 0 outside of a Txn */
    uint32_t depth;  /* Txns that are open */
    bool has_member; /* answers: the response has one */
    struct etcd__txn_level levels[LIMIT_DEPTH];
};

void etcd__txn_init(struct etcd__txn *t, struct etcd_ask *ask);
/* Notes what the operation that the walk is in asks. */
MUST_CHECK enum err etcd__txn_ask(struct etcd__txn *t, enum etcd_asked kind,
                                  const struct etcd_range *r);
/* Hooks of TxnRequest, RequestOp, TxnResponse, ResponseOp and the members of that. */
enum err etcd__txn_enter(struct etcd__txn *t, uint32_t number);
enum err etcd__txn_leave(struct etcd__txn *t);
enum err etcd__txn_op_enter(struct etcd__txn *t, uint32_t number);
enum err etcd__txn_answer_enter(struct etcd__txn *t, uint32_t number);
enum err etcd__txn_answer_field(struct etcd__txn *t, const struct pb_field *f);
enum err etcd__txn_answer_leave(struct etcd__txn *t);
enum err etcd__txn_response_enter(struct etcd__txn *t, uint32_t number);
enum err etcd__txn_response_leave(struct etcd__txn *t);
enum err etcd__txn_member_enter(struct etcd__txn *t, uint32_t number);

/* --- walk.c ---------------------------------------------------------------------------------- */

/* A sub-message that the walk is in. */
struct etcd__frame {
    size_t at, head_len; /* tag and length */
    uint32_t number;
    size_t body_len;
    uint32_t op; /* its LEN, once it needs one */
};

/* A KeyValue that was walked over. */
struct etcd__kv {
    bool is_there;
    struct bytes key;
    struct pb_field value; /* zero when absent */
    struct pb_field self;  /* the KeyValue, in its event */
    bool has_revision;
    int64_t revision; /* when it was last written */
};

#define ETCD__DEPTH_MAX (LIMIT_DEPTH + 4)

struct etcd__scan {
    struct etcd_plan *p;
    const struct etcd_rules *rules;
    struct etcd_ask *ask;
    struct etcd__txn *txn; /* own_txn, or that of the stream */
    enum etcd_content content;
    bool is_answer;
    size_t done; /* ops cover the message up to here */
    uint32_t depth;
    bool has_edits;
    const struct etcd__value *last_value; /* that was identified; in the arena */
    const struct etcd_rule *last_rule;    /* that a KeyValue's key matched */
    const struct chain *msg;
    uint32_t sub_index; /* of the sub-message that was entered last, in its parent's schema */
    struct pb_field sub_field;

    /* requests */
    bool is_protected; /* it writes or could write a protected key: it has to be strictly right */
    struct bytes protected_key;
    enum err soft; /* the first thing that such a message may not have */
    uint32_t soft_field;
    uint32_t odd_count;      /* answers, too: fields that count against LIMIT_ODD_FIELDS */
    bool compares_protected; /* the Compare being walked names a protected key */
    uint32_t op_count, compare_count;

    /* answers */
    const struct etcd_range *watched; /* Watch: the range of the message's watch */
    bool is_in_event;
    /* Watch: where a value may fail without those of earlier revisions */
    bool has_marks;    /* the plan gets an EVENT for each event */
    bool has_revision; /* an event was there */
    bool has_earlier;  /* one of an earlier revision was there */
    bool is_failing;   /* the plan ended with a FAIL */
    int64_t revision;  /* of the last event */
    /* What stays of the plan when the present event fails: its mark and what lies before it. */
    size_t kept_ops, kept_to;

    /* From here on nothing is cleared. Of the frames only the first depth are ever read; event_kv
     * is cleared where an event begins. */
    struct etcd__frame frames[ETCD__DEPTH_MAX];
    struct etcd__kv event_kv[2]; /* kv, prev_kv */
    struct etcd__txn own_txn;
};

/* txn: where the message's earlier part has left it; NULL: at the message's begin. */
void etcd__scan_init(struct etcd__scan *s, struct etcd_plan *p, enum etcd_content content,
                     const struct etcd_rules *rules, struct etcd_ask *ask, struct etcd__txn *txn,
                     bool is_answer);
/* Looks a field up and applies the rules on doubled members and wire types. *fd is NULL for one
 * that we don't know or that has another wire type (requests only). */
MUST_CHECK enum err etcd__check_field(struct etcd__scan *s, const struct etcd__msg *m,
                                      uint32_t *seen, bool *has_oneof, const struct pb_field *f,
                                      const struct etcd__field **fd);
/* Walks a whole message. depth: nesting below the root. */
MUST_CHECK enum err etcd__walk(struct etcd__scan *s, const struct etcd__msg *m, struct pb_reader r,
                               uint32_t depth);
/* The same for a sub-message in field f. */
MUST_CHECK enum err etcd__walk_sub(struct etcd__scan *s, const struct etcd__msg *m,
                                   const struct pb_field *f, uint32_t depth);
/* The bytes at pos: where they lie, or gathered in the plan's arena. */
MUST_CHECK enum err etcd__gather(struct etcd_plan *p, struct chain_pos pos, size_t n,
                                 struct bytes *out);
/* Ops up to at are kept, and every open sub-message gets its LEN. */
MUST_CHECK enum err etcd__keep_to(struct etcd__scan *s, size_t at);
/* An operation on the value field at [at, at + len). */
MUST_CHECK enum err etcd__edit(struct etcd__scan *s, enum etcd__op_kind kind, size_t at, size_t len,
                               struct etcd__value *value);
/* A marker at s->done or later, outside of any LEN. */
MUST_CHECK enum err etcd__mark(struct etcd__scan *s, enum etcd__op_kind kind, size_t at,
                               int64_t revision);
/* An etcd__value in the arena, with a copy of the key. */
MUST_CHECK enum err etcd__value_new(struct etcd__scan *s, uint32_t number, struct bytes key,
                                    const struct provider_list *list, struct etcd__value **out);

/* The whole of a message, or what follows its part: a plan for it, or the reason why there is none,
 * in s->p. */
MUST_CHECK enum etcd_verdict etcd__scan_whole(struct etcd__scan *s, const struct etcd__msg *m,
                                              const struct chain *msg);

/* --- scan_answer.c --------------------------------------------------------------------------- */

/* Plans what follows p->part, of an answer whose root takes no hooks but for its KeyValues. */
MUST_CHECK enum etcd_verdict etcd__scan_rest(struct etcd_plan *p, enum etcd_content content,
                                             const struct etcd_rules *rules,
                                             const struct chain *msg, struct etcd_ask *ask);
/* Judges a KeyValue as if the walk stood at its end. may_be_empty: the kv of a DELETE event. */
MUST_CHECK enum err etcd__judge_kv(struct etcd__scan *s, const struct etcd__kv *kv,
                                   bool may_be_empty);

/* --- scan_watch.c ---------------------------------------------------------------------------- */

/* Watch: binds or forgets the watch and finds its range. *is_swallowed: nothing more is to be done.
 * has_events as far as is known. */
MUST_CHECK enum err etcd__watch_begin(struct etcd__scan *s, const struct etcd_watch_info *info,
                                      bool *is_swallowed);
/* At the end of the message: a canceled watch is forgotten. */
void etcd__watch_end(struct etcd_ask *ask, const struct etcd_watch_info *info);
/* Takes a field of a WatchResponse that is no event. */
void etcd__watch_note(struct etcd_watch_info *info, const struct pb_field *f);
/* One event of a WatchResponse. */
MUST_CHECK enum err etcd__scan_event(struct etcd__scan *s, const struct pb_field *f);
/* The revision of an event that is whole: that of its kv. False: it has none. */
bool etcd__event_revision(const struct pb_field *f, int64_t *out);

#endif
