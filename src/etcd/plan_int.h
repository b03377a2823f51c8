/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of etcd/: the schema of etcd's messages, the walk over them, the operations
 * of a plan. */
#ifndef ETCD_PLAN_INT_H
#define ETCD_PLAN_INT_H

#include "etcd/plan.h"
#include "pb/pb.h"

/* --- schema.c -------------------------------------------------------------------------------- */

enum etcd__kind {
    ETCD__SCALAR,    /* given twice, the last one counts: every parser agrees */
    ETCD__REPEATED,  /* repeated scalar */
    ETCD__ONCE,      /* scalar that may not be given twice: key and value of a KeyValue */
    ETCD__ONEOF,     /* scalar member of the message's one oneof */
    ETCD__ONEOF_MSG, /* message member of it */
    ETCD__MSG,       /* singular sub-message: parsers merge or replace a second one */
    ETCD__MSGS,      /* repeated sub-message */
};

struct etcd__msg;

struct etcd__field {
    uint32_t number;
    enum etcd__kind kind;
    enum pb_wire wire;
    const struct etcd__msg *sub; /* of the message kinds; NULL: opaque to us */
    bool is_key;                 /* PB_LEN: gathered for the hooks */
};

struct etcd__scan;
struct etcd__got;
struct etcd__txn;

/* What a message is to the walk. */
struct etcd__msg {
    const struct etcd__field *fields;
    uint32_t count;
    bool holds_kvs;  /* an answer that holds KeyValues directly: where FILL pays back */
    bool is_kv;      /* the unit of a streamed answer */
    bool is_event;   /* the walk of a WatchResponse leaves them for a second round */
    bool is_counted; /* an operation: LIMIT_TXN_OPS */
    bool is_strict;  /* a field that we don't know is refused: it could be an operation with a value
                      */
    /* Called where the walk enters the message (number: of the field that it is, 0 for the root),
     * leaves it, and for its fields that are no messages. NULL: nothing to do. */
    enum err (*on_enter)(struct etcd__txn *t, uint32_t number);
    enum err (*on_leave)(struct etcd__txn *t);
    enum err (*on_field)(struct etcd__txn *t, const struct pb_field *f);
    /* Called for every occurrence of the key, also an overridden one, and at the end of the
     * message. NULL: nothing to do. */
    void (*on_key)(struct etcd__scan *s, struct bytes key);
    enum err (*on_end)(struct etcd__scan *s, const struct etcd__got *got);
};

#define ETCD__FIELDS_MAX 14

/* The fields of one message: by index in its schema, the last occurrence of each. */
struct etcd__got {
    uint32_t seen; /* bit per index */
    bool has_oneof;
    struct bytes key; /* of the last is_key field */
    struct pb_field f[ETCD__FIELDS_MAX];
};

static inline bool etcd__has(const struct etcd__got *g, uint32_t index)
{
    return g->seen >> index & 1;
}

/* Of a PB_VARINT field, 0 when absent. Enums are int32 to every parser: the rest is cut off. */
static inline uint64_t etcd__varint(const struct etcd__got *g, uint32_t index)
{
    return etcd__has(g, index) ? g->f[index].varint : 0;
}
static inline int32_t etcd__enum(const struct etcd__got *g, uint32_t index)
{
    return (int32_t)(uint32_t)etcd__varint(g, index);
}
/* Bytes of a PB_LEN field, 0 when absent. */
static inline size_t etcd__len(const struct etcd__got *g, uint32_t index)
{
    return etcd__has(g, index) ? g->f[index].value_len : 0;
}

/* The root messages; NULL for contents without values. */
const struct etcd__msg *etcd__request_schema(enum etcd_content content);
const struct etcd__msg *etcd__answer_schema(enum etcd_content content);

/* Indices of fields in the schema, where hooks use them. */
enum { PUT_KEY, PUT_VALUE, PUT_LEASE, PUT_PREV_KV, PUT_IGNORE_VALUE, PUT_IGNORE_LEASE };
enum {
    RANGE_KEY,
    RANGE_END,
    RANGE_LIMIT,
    RANGE_REVISION,
    RANGE_SORT_ORDER,
    RANGE_SORT_TARGET,
    RANGE_SERIALIZABLE,
    RANGE_KEYS_ONLY,
    RANGE_COUNT_ONLY,
    RANGE_MIN_MOD,
    RANGE_MAX_MOD,
    RANGE_MIN_CREATE,
    RANGE_MAX_CREATE
};
enum { DELETE_KEY, DELETE_END, DELETE_PREV_KV };
enum {
    COMPARE_RESULT,
    COMPARE_TARGET,
    COMPARE_KEY,
    COMPARE_VERSION,
    COMPARE_CREATE,
    COMPARE_MOD,
    COMPARE_VALUE,
    COMPARE_LEASE,
    COMPARE_END
};
enum {
    CREATE_KEY,
    CREATE_END,
    CREATE_START,
    CREATE_PROGRESS,
    CREATE_FILTERS,
    CREATE_PREV_KV,
    CREATE_WATCH_ID,
    CREATE_FRAGMENT
};
enum { KV_KEY, KV_CREATE_REVISION, KV_MOD_REVISION, KV_VERSION, KV_VALUE, KV_LEASE };
enum { EVENT_TYPE, EVENT_KV, EVENT_PREV_KV };
enum {
    WATCH_HEADER,
    WATCH_ID,
    WATCH_CREATED,
    WATCH_CANCELED,
    WATCH_COMPACT_REVISION,
    WATCH_CANCEL_REASON,
    WATCH_FRAGMENT,
    WATCH_EVENTS
};

/* scan.c and scan_kv.c: what the schema calls. */
void etcd__on_put_key(struct etcd__scan *s, struct bytes key);
void etcd__on_compare_key(struct etcd__scan *s, struct bytes key);
enum err etcd__on_put(struct etcd__scan *s, const struct etcd__got *got);
enum err etcd__on_range(struct etcd__scan *s, const struct etcd__got *got);
enum err etcd__on_delete(struct etcd__scan *s, const struct etcd__got *got);
enum err etcd__on_compare(struct etcd__scan *s, const struct etcd__got *got);
enum err etcd__on_create(struct etcd__scan *s, const struct etcd__got *got);
enum err etcd__on_kv(struct etcd__scan *s, const struct etcd__got *got);
enum err etcd__on_event(struct etcd__scan *s, const struct etcd__got *got);
enum err etcd__on_watch(struct etcd__scan *s, const struct etcd__got *got);

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

/* --- operations ------------------------------------------------------------------------------ */

#define ETCD__NONE UINT32_MAX

enum etcd__op_kind {
    ETCD__KEEP,  /* the bytes as they are */
    ETCD__LEN,   /* tag and length of a sub-message whose length changes */
    ETCD__SEAL,  /* a value field: sealed */
    ETCD__CHECK, /* a value field that arrived sealed: opened, then kept or sealed anew */
    ETCD__OPEN,  /* a value field: opened */
    ETCD__FAIL,  /* a value that is known to fail: apply stops here (Watch) */
    ETCD__EVENT, /* takes no bytes: an event of this revision begins (Watch) */
    ETCD__FILL,  /* takes no bytes: what was saved so far is paid back (stream, FILL) */
};

/* The value of SEAL, CHECK, OPEN, FAIL: in the arena. */
struct etcd__value {
    uint32_t number;  /* of the value field */
    size_t at, len;   /* the value's bytes */
    struct bytes key; /* in the arena: the message goes while it is applied */
    const struct provider_list *list;
    uint32_t need;                  /* the DEK that opens it, ETCD__NONE if none is needed */
    uint32_t write_need;            /* the write key, ETCD__NONE for local keys */
    struct envelope_value v;        /* data_at from the value's start */
    struct slice scratch;           /* plaintext that was opened out of place */
    bool is_opened;                 /* scratch is valid, or the value is opened in place */
    bool is_kept;                   /* CHECK: the bytes stay */
    uint32_t opened_by, opened_key; /* scratch: places in the list and among the keys */
    size_t new_len;
    enum err err; /* FAIL */
};

/* Ops cover the message without gaps, in wire order. */
struct etcd_op {
    enum etcd__op_kind kind;
    uint32_t parent; /* index of the LEN that it lies in, or ETCD__NONE */
    size_t at, len;  /* bytes of the message that it stands for */
    ptrdiff_t grow;  /* by how much its output is longer, children of a LEN included */
    union {
        struct {
            uint32_t number;
            size_t body_len; /* of the input */
        } sub;               /* LEN */
        struct etcd__value *value;
        int64_t revision; /* EVENT */
    } u;
};

/* --- plan.c ---------------------------------------------------------------------------------- */

MUST_CHECK enum err etcd__plan_op(struct etcd_plan *p, const struct etcd_op *op);
/* The index of the need for this DEK; a new one or one that is there. The id is copied. */
MUST_CHECK enum err etcd__plan_need(struct etcd_plan *p, const struct provider *provider,
                                    const struct dek_id *id, uint32_t *out);
MUST_CHECK enum err etcd__plan_need_write(struct etcd_plan *p, const struct provider *provider,
                                          uint32_t *out);
/* Counts one value; c->n is ignored. */
void etcd__plan_count(struct etcd_plan *p, const struct etcd_count *c);
/* Notes e and the key that it concerns; returns e. */
enum err etcd__plan_fail(struct etcd_plan *p, enum err e, struct bytes key);

/* --- scan.c ---------------------------------------------------------------------------------- */

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
    const struct etcd__value *like; /* the last one that was identified; in the arena */
    const struct etcd_rule *near;   /* the last one that a KeyValue's key matched */
    const struct chain *msg;
    uint32_t sub_index; /* of the sub-message that was entered last, in its parent's schema */
    struct pb_field sub_field;

    /* requests */
    bool is_protected; /* it writes or could write a protected key: it has to be strictly right */
    struct bytes protected_key;
    enum err soft; /* the first thing that such a message may not have */
    uint32_t soft_field;
    bool compares_protected; /* the Compare being walked names a protected key */
    uint32_t op_count, compare_count;

    /* answers */
    const struct etcd_range *watched; /* Watch: the range of the message's watch */
    bool is_in_event;
    struct etcd__kv event_kv[2]; /* kv, prev_kv */
    /* Watch: where a value may fail without those of earlier revisions */
    bool has_marks;    /* the plan gets an EVENT for each event */
    bool has_revision; /* an event was there */
    bool has_earlier;  /* one of an earlier revision was there */
    bool is_failing;   /* the plan ended with a FAIL */
    int64_t revision;  /* of the last event */
    /* What stays of the plan when the present event fails: its mark and what lies before it. */
    size_t kept_ops, kept_to;

    /* Last, for only the first depth of them are ever read and none is cleared. */
    struct etcd__frame frames[ETCD__DEPTH_MAX];
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
/* Adds references to n bytes at pos and moves pos behind them. */
MUST_CHECK enum err etcd__share_at(struct chain *to, struct chain_pos *pos, size_t n);
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

/* --- scan_kv.c ------------------------------------------------------------------------------- */

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

/* --- apply.c --------------------------------------------------------------------------------- */

struct etcd__apply {
    struct etcd_plan *p;
    bool is_request;
    struct envelope_ctx *ctx;
    struct slab_pool *pool;
    struct chain *msg;
    struct chain_pos pos; /* in msg: where the present operation begins */
    struct chain *out;
    size_t copied;
    size_t saved;          /* bytes saved and not yet paid back */
    bool has_value_failed; /* the error is that of a stored value, p->bad_key names its key */
    /* Watch: the lengths of out where the events and where those of this revision begin. */
    bool has_event, is_unordered;
    int64_t revision;
    size_t events_at, revision_at;
};

/* Runs the plan's operations. On an error out may hold a part. Takes msg in any case. */
MUST_CHECK enum err etcd__apply_run(struct etcd__apply *a);
/* Cuts the chain to its first len bytes. */
void etcd__chain_cut(struct chain *c, size_t len);
/* Tag and length of a PB_LEN field, copied to the end of out. */
MUST_CHECK enum err etcd__push_head(struct chain *out, struct slab_pool *pool, uint32_t number,
                                    size_t len);
/* After a failed Watch apply: does out hold whole revisions before the failing one? Cuts it to
 * them. */
bool etcd__apply_keep_earlier(struct etcd__apply *a);

/* --- filler.c -------------------------------------------------------------------------------- */

/* n zeros from constant memory. */
MUST_CHECK enum err etcd__push_zeros(struct chain *out, size_t n);
/* The first of the unknown fields that make n bytes in all: its tag and length (returned: how many
 * bytes) and the length of its payload of zeros. n > 1: no field has one byte. */
size_t etcd__filler_field(size_t n, uint8_t head[static 2 * PB_VARINT_MAX], size_t *payload);

#endif
