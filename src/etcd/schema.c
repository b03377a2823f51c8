/* SPDX-License-Identifier: Apache-2.0 */
/* The messages of etcd's KV and Watch services as the walk sees them. Field numbers are stable from
 * etcd 3.4 on. The order inside a message is that of the index enums in schema_int.h. */
#include "etcd/walk_int.h"

#define FIELD(number, kind, wire)                                                                  \
    {                                                                                              \
        (number), ETCD__##kind, PB_##wire, NULL, false                                             \
    }
#define KEY_FIELD(number, kind)                                                                    \
    {                                                                                              \
        (number), ETCD__##kind, PB_LEN, NULL, true                                                 \
    }
#define SUB(number, kind, sub)                                                                     \
    {                                                                                              \
        (number), ETCD__##kind, PB_LEN, (sub), false                                               \
    }
#define FIELDS(v) .fields = (v), .count = ARRAY_LEN(v)

/* --- requests -------------------------------------------------------------------------------- */

static const struct etcd__field put_fields[] = {
    [PUT_KEY] = KEY_FIELD(1, SCALAR),
    [PUT_VALUE] = FIELD(2, SCALAR, LEN),
    [PUT_LEASE] = FIELD(3, SCALAR, VARINT),
    [PUT_PREV_KV] = FIELD(4, SCALAR, VARINT),
    [PUT_IGNORE_VALUE] = FIELD(5, SCALAR, VARINT),
    [PUT_IGNORE_LEASE] = FIELD(6, SCALAR, VARINT),
};
static const struct etcd__msg put_request = {FIELDS(put_fields), .on_key = etcd__on_put_key,
                                             .on_end = etcd__on_put};

static const struct etcd__field range_fields[] = {
    [RANGE_KEY] = KEY_FIELD(1, SCALAR),
    [RANGE_END] = FIELD(2, SCALAR, LEN),
    [RANGE_LIMIT] = FIELD(3, SCALAR, VARINT),
    [RANGE_REVISION] = FIELD(4, SCALAR, VARINT),
    [RANGE_SORT_ORDER] = FIELD(5, SCALAR, VARINT),
    [RANGE_SORT_TARGET] = FIELD(6, SCALAR, VARINT),
    [RANGE_SERIALIZABLE] = FIELD(7, SCALAR, VARINT),
    [RANGE_KEYS_ONLY] = FIELD(8, SCALAR, VARINT),
    [RANGE_COUNT_ONLY] = FIELD(9, SCALAR, VARINT),
    [RANGE_MIN_MOD] = FIELD(10, SCALAR, VARINT),
    [RANGE_MAX_MOD] = FIELD(11, SCALAR, VARINT),
    [RANGE_MIN_CREATE] = FIELD(12, SCALAR, VARINT),
    [RANGE_MAX_CREATE] = FIELD(13, SCALAR, VARINT),
};
static const struct etcd__msg range_request = {FIELDS(range_fields), .on_end = etcd__on_range};

static const struct etcd__field delete_fields[] = {
    [DELETE_KEY] = KEY_FIELD(1, SCALAR),
    [DELETE_END] = FIELD(2, SCALAR, LEN),
    [DELETE_PREV_KV] = FIELD(3, SCALAR, VARINT),
};
static const struct etcd__msg delete_request = {FIELDS(delete_fields), .on_end = etcd__on_delete};

static const struct etcd__field compare_fields[] = {
    [COMPARE_RESULT] = FIELD(1, SCALAR, VARINT), [COMPARE_TARGET] = FIELD(2, SCALAR, VARINT),
    [COMPARE_KEY] = KEY_FIELD(3, SCALAR),        [COMPARE_VERSION] = FIELD(4, ONEOF, VARINT),
    [COMPARE_CREATE] = FIELD(5, ONEOF, VARINT),  [COMPARE_MOD] = FIELD(6, ONEOF, VARINT),
    [COMPARE_VALUE] = FIELD(7, ONEOF, LEN),      [COMPARE_LEASE] = FIELD(8, ONEOF, VARINT),
    [COMPARE_END] = FIELD(64, SCALAR, LEN),
};
static const struct etcd__msg compare = {FIELDS(compare_fields), .on_key = etcd__on_compare_key,
                                         .on_end = etcd__on_compare};

static const struct etcd__msg txn_request;
static const struct etcd__field request_op_fields[] = {
    SUB(1, ONEOF_MSG, &range_request),
    SUB(2, ONEOF_MSG, &put_request),
    SUB(3, ONEOF_MSG, &delete_request),
    SUB(4, ONEOF_MSG, &txn_request),
};
static const struct etcd__msg request_op = {FIELDS(request_op_fields), .is_counted = true,
                                            .is_strict = true, .on_enter = etcd__txn_op_enter};

static const struct etcd__field txn_fields[] = {
    SUB(1, MSGS, &compare),
    SUB(2, MSGS, &request_op),
    SUB(3, MSGS, &request_op),
};
static const struct etcd__msg txn_request = {FIELDS(txn_fields), .is_strict = true,
                                             .on_enter = etcd__txn_enter,
                                             .on_leave = etcd__txn_leave};

static const struct etcd__field create_fields[] = {
    [CREATE_KEY] = KEY_FIELD(1, SCALAR),           [CREATE_END] = FIELD(2, SCALAR, LEN),
    [CREATE_START] = FIELD(3, SCALAR, VARINT),     [CREATE_PROGRESS] = FIELD(4, SCALAR, VARINT),
    [CREATE_FILTERS] = FIELD(5, REPEATED, VARINT), [CREATE_PREV_KV] = FIELD(6, SCALAR, VARINT),
    [CREATE_WATCH_ID] = FIELD(7, SCALAR, VARINT),  [CREATE_FRAGMENT] = FIELD(8, SCALAR, VARINT),
};
static const struct etcd__msg create_request = {FIELDS(create_fields), .on_end = etcd__on_create};

static const struct etcd__field cancel_fields[] = {FIELD(1, SCALAR, VARINT)};
static const struct etcd__msg cancel_request = {FIELDS(cancel_fields)};
static const struct etcd__msg progress_request = {.fields = NULL};

static const struct etcd__field watch_request_fields[] = {
    SUB(1, ONEOF_MSG, &create_request),
    SUB(2, ONEOF_MSG, &cancel_request),
    SUB(3, ONEOF_MSG, &progress_request),
};
static const struct etcd__msg watch_request = {FIELDS(watch_request_fields)};

/* --- answers --------------------------------------------------------------------------------- */

#define HEADER_FIELD FIELD(1, MSG, LEN) /* ResponseHeader: numbers only, opaque to us */

static const struct etcd__field kv_fields[] = {
    [KV_KEY] = KEY_FIELD(1, ONCE),
    [KV_CREATE_REVISION] = FIELD(2, SCALAR, VARINT),
    [KV_MOD_REVISION] = FIELD(3, SCALAR, VARINT),
    [KV_VERSION] = FIELD(4, SCALAR, VARINT),
    [KV_VALUE] = FIELD(5, ONCE, LEN),
    [KV_LEASE] = FIELD(6, SCALAR, VARINT),
};
static const struct etcd__msg kv = {FIELDS(kv_fields), .is_kv = true, .on_end = etcd__on_kv};

static const struct etcd__field range_answer_fields[] = {
    HEADER_FIELD,
    SUB(2, MSGS, &kv),
    FIELD(3, SCALAR, VARINT),
    FIELD(4, SCALAR, VARINT),
};
static const struct etcd__msg range_answer = {FIELDS(range_answer_fields), .holds_kvs = true,
                                              .on_enter = etcd__txn_member_enter};

static const struct etcd__field put_answer_fields[] = {HEADER_FIELD, SUB(2, MSG, &kv)};
static const struct etcd__msg put_answer = {FIELDS(put_answer_fields), .holds_kvs = true,
                                            .on_enter = etcd__txn_member_enter};

static const struct etcd__field delete_answer_fields[] = {
    HEADER_FIELD,
    FIELD(2, SCALAR, VARINT),
    SUB(3, MSGS, &kv),
};
static const struct etcd__msg delete_answer = {FIELDS(delete_answer_fields), .holds_kvs = true,
                                               .on_enter = etcd__txn_member_enter};

static const struct etcd__msg txn_answer;
static const struct etcd__field response_op_fields[] = {
    SUB(1, ONEOF_MSG, &range_answer),
    SUB(2, ONEOF_MSG, &put_answer),
    SUB(3, ONEOF_MSG, &delete_answer),
    SUB(4, ONEOF_MSG, &txn_answer),
};
static const struct etcd__msg response_op = {FIELDS(response_op_fields),
                                             .on_enter = etcd__txn_response_enter,
                                             .on_leave = etcd__txn_response_leave};

static const struct etcd__field txn_answer_fields[] = {
    HEADER_FIELD,
    FIELD(2, SCALAR, VARINT),
    SUB(3, MSGS, &response_op),
};
static const struct etcd__msg txn_answer = {
    FIELDS(txn_answer_fields), .on_enter = etcd__txn_answer_enter,
    .on_leave = etcd__txn_answer_leave, .on_field = etcd__txn_answer_field};

static const struct etcd__field range_stream_fields[] = {SUB(1, MSG, &range_answer)};
static const struct etcd__msg range_stream_answer = {FIELDS(range_stream_fields)};

static const struct etcd__field event_fields[] = {
    [EVENT_TYPE] = FIELD(1, SCALAR, VARINT),
    [EVENT_KV] = SUB(2, MSG, &kv),
    [EVENT_PREV_KV] = SUB(3, MSG, &kv),
};
static const struct etcd__msg event = {FIELDS(event_fields), .is_event = true,
                                       .on_end = etcd__on_event};

static const struct etcd__field watch_answer_fields[] = {
    [WATCH_HEADER] = FIELD(WATCH_HEADER_NUMBER, MSG, LEN),
    [WATCH_ID] = FIELD(WATCH_ID_NUMBER, SCALAR, VARINT),
    [WATCH_CREATED] = FIELD(WATCH_CREATED_NUMBER, SCALAR, VARINT),
    [WATCH_CANCELED] = FIELD(WATCH_CANCELED_NUMBER, SCALAR, VARINT),
    [WATCH_COMPACT_REVISION] = FIELD(WATCH_COMPACT_REVISION_NUMBER, SCALAR, VARINT),
    [WATCH_CANCEL_REASON] = FIELD(WATCH_CANCEL_REASON_NUMBER, SCALAR, LEN),
    [WATCH_FRAGMENT] = FIELD(WATCH_FRAGMENT_NUMBER, SCALAR, VARINT),
    [WATCH_EVENTS] = SUB(WATCH_EVENTS_NUMBER, MSGS, &event),
};
static const struct etcd__msg watch_answer = {FIELDS(watch_answer_fields),
                                              .on_end = etcd__on_watch};

/* --- */

const struct etcd__msg *etcd__request_schema(enum etcd_content content)
{
    switch (content) {
    case ETCD_RANGE:
    case ETCD_RANGE_STREAM:
        return &range_request;
    case ETCD_PUT:
        return &put_request;
    case ETCD_DELETE_RANGE:
        return &delete_request;
    case ETCD_TXN:
        return &txn_request;
    case ETCD_WATCH:
        return &watch_request;
    default:
        return NULL;
    }
}

const struct etcd__msg *etcd__answer_schema(enum etcd_content content)
{
    switch (content) {
    case ETCD_RANGE:
        return &range_answer;
    case ETCD_RANGE_STREAM:
        return &range_stream_answer;
    case ETCD_PUT:
        return &put_answer;
    case ETCD_DELETE_RANGE:
        return &delete_answer;
    case ETCD_TXN:
        return &txn_answer;
    case ETCD_WATCH:
        return &watch_answer;
    default:
        return NULL;
    }
}
