/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of etcd/: what etcd's messages look like, and what happens where. */
#ifndef ETCD_SCHEMA_INT_H
#define ETCD_SCHEMA_INT_H

#include "etcd/plan.h"
#include "pb/pb.h"

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

/* Field numbers of a WatchResponse. */
enum {
    WATCH_HEADER_NUMBER = 1,
    WATCH_ID_NUMBER = 2,
    WATCH_CREATED_NUMBER = 3,
    WATCH_CANCELED_NUMBER = 4,
    WATCH_COMPACT_REVISION_NUMBER = 5,
    WATCH_CANCEL_REASON_NUMBER = 6,
    WATCH_FRAGMENT_NUMBER = 7,
    WATCH_EVENTS_NUMBER = 11
};

/* scan_request.c, scan_answer.c, scan_watch.c: what the schema calls. */
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

#endif
