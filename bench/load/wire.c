/* SPDX-License-Identifier: Apache-2.0 */
#include "wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pb/pb.h"
#include "peer.h"

#define REVISION 123456u

const char *const kind_names[KIND_COUNT] = {"none",     "range",     "put",      "txn",
                                            "list-500", "list-5000", "list-50",  "list-huge",
                                            "list-big", "watch",     "apiserver"};

struct list {
    enum kind kind;
    const char *prefix, *end;
    uint32_t count;
    size_t value_len;
};

static const struct list lists[] = {
    {KIND_RANGE, WIRE_KEYS "bench/one", "", 1, 1024},
    {KIND_LIST_500, WIRE_KEYS "small/", WIRE_KEYS "small0", 500, 1024},
    {KIND_LIST_5000, WIRE_KEYS "large/", WIRE_KEYS "large0", 5000, 2048},
    {KIND_LIST_50, WIRE_KEYS "few/", WIRE_KEYS "few0", 50, 1024},
    {KIND_LIST_HUGE, WIRE_KEYS "vast/", WIRE_KEYS "vast0", 102400, 2048},
    {KIND_LIST_BIG, WIRE_KEYS "huge/", WIRE_KEYS "huge0", 25600, 1024},
};

enum kind kind_of_name(const char *name)
{
    for (int i = 1; i < KIND_COUNT; i++)
        if (strcmp(kind_names[i], name) == 0)
            return (enum kind)i;
    return KIND_NONE;
}

const char *kind_path(enum kind kind)
{
    switch (kind) {
    case KIND_PUT:
        return "/etcdserverpb.KV/Put";
    case KIND_TXN:
        return "/etcdserverpb.KV/Txn";
    case KIND_WATCH:
        return "/etcdserverpb.Watch/Watch";
    default:
        return "/etcdserverpb.KV/Range";
    }
}

/* --- buffers --------------------------------------------------------------------------------- */

void buf_free(struct buf *b)
{
    free(b->p);
    *b = (struct buf){0};
}

static uint8_t *buf_room(struct buf *b, size_t n)
{
    if (b->n + n > b->cap) {
        b->cap = (b->n + n) * 2;
        b->p = realloc(b->p, b->cap);
        if (b->p == NULL)
            die("out of memory");
    }
    b->n += n;
    return b->p + b->n - n;
}

void buf_add(struct buf *b, const void *p, size_t n)
{
    if (n > 0)
        memcpy(buf_room(b, n), p, n);
}

static void buf_raw_varint(struct buf *b, uint64_t v)
{
    uint8_t t[PB_VARINT_MAX];

    buf_add(b, t, pb_put_varint(t, v));
}

void buf_varint(struct buf *b, uint32_t number, uint64_t v)
{
    buf_raw_varint(b, pb_tag(number, PB_VARINT));
    buf_raw_varint(b, v);
}

void buf_field(struct buf *b, uint32_t number, struct bytes v)
{
    buf_raw_varint(b, pb_tag(number, PB_LEN));
    buf_raw_varint(b, v.n);
    buf_add(b, v.p, v.n);
}

void buf_sub(struct buf *b, uint32_t number, struct buf *sub)
{
    buf_field(b, number, bytes_of(sub->p, sub->n));
    buf_free(sub);
}

void buf_frame(struct buf *b)
{
    size_t n = b->n;

    (void)buf_room(b, 5);
    memmove(b->p + 5, b->p, n);
    b->p[0] = 0;
    b->p[1] = (uint8_t)(n >> 24);
    b->p[2] = (uint8_t)(n >> 16);
    b->p[3] = (uint8_t)(n >> 8);
    b->p[4] = (uint8_t)n;
}

/* --- values ---------------------------------------------------------------------------------- */

/* Text that says which value it is; the rest differs from value to value and does not compress
 * well. */
static void make_value(uint8_t *out, size_t n, const char *key, uint32_t version)
{
    char head[128];
    size_t at = (size_t)snprintf(head, sizeof head,
                                 "k8s {\"key\":\"%.60s\",\"version\":%u,\"data\":\"", key, version);
    uint64_t x = 88172645463325252u + version;

    for (const char *c = key; *c != '\0'; c++)
        x = x * 1099511628211u ^ (uint8_t)*c;
    memcpy(out, head, at < n ? at : n);
    for (; at < n; at++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        out[at] =
            (uint8_t) "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[x >> 58];
    }
}

static void add_value(struct buf *out, uint32_t number, const char *key, size_t n, uint32_t version,
                      wire_seal_fn seal)
{
    uint8_t *value = malloc(n);

    if (value == NULL)
        die("out of memory");
    make_value(value, n, key, version);
    if (seal == NULL)
        buf_field(out, number, bytes_of(value, n));
    else
        seal(bytes_str(key), bytes_of(value, n), number, out);
    free(value);
}

/* KeyValue: key 1, create_revision 2, mod_revision 3, version 4, value 5. */
static void add_kv(struct buf *out, uint32_t number, const char *key, size_t n, uint32_t version,
                   wire_seal_fn seal)
{
    struct buf kv = {0};

    buf_field(&kv, 1, bytes_str(key));
    buf_varint(&kv, 2, 1000);
    buf_varint(&kv, 3, 1000 + version);
    buf_varint(&kv, 4, version);
    add_value(&kv, 5, key, n, version, seal);
    buf_sub(out, number, &kv);
}

/* ResponseHeader: cluster_id 1, member_id 2, revision 3, raft_term 4. */
static void add_header(struct buf *out, uint64_t revision)
{
    struct buf header = {0};

    buf_varint(&header, 1, 14841639068965178418u);
    buf_varint(&header, 2, 10276657743932975437u);
    buf_varint(&header, 3, revision);
    buf_varint(&header, 4, 2);
    buf_sub(out, 1, &header);
}

/* --- requests -------------------------------------------------------------------------------- */

static void request_key(char key[static 128], const char *item)
{
    if (*item == '/')
        snprintf(key, 128, "%s", item);
    else
        snprintf(key, 128, "%s%s", WIRE_KEYS "bench/", *item == '\0' ? "one" : item);
}

/* PutRequest: key 1, value 2. */
static void put_body(struct buf *out, const char *item, size_t value_len)
{
    char key[128];

    request_key(key, item);
    buf_field(out, 1, bytes_str(key));
    add_value(out, 2, key, value_len, 7, NULL);
}

/* What kube-apiserver sends to update an object: Compare{result EQUAL, target MOD 2, key 3,
 * mod_revision 6}, success: a put, failure: a range. */
static void txn_body(struct buf *out, const char *item, uint64_t revision, size_t value_len)
{
    struct buf compare = {0}, op = {0}, put = {0}, range = {0};
    char key[128];

    request_key(key, item);
    buf_varint(&compare, 2, 2);
    buf_field(&compare, 3, bytes_str(key));
    buf_varint(&compare, 6, revision);
    buf_sub(out, 1, &compare);
    put_body(&put, item, value_len);
    buf_sub(&op, 2, &put);
    buf_sub(out, 2, &op);
    buf_field(&range, 1, bytes_str(key));
    buf_sub(&op, 1, &range);
    buf_sub(out, 3, &op);
}

/* key 1, range_end 2: all keys that begin with item. */
void wire_list_request(struct buf *out, const char *item)
{
    char key[128];

    request_key(key, item);
    buf_field(out, 1, bytes_str(key));
    key[strlen(key) - 1]++;
    buf_field(out, 2, bytes_str(key));
}

/* WatchCreateRequest: key 1, range_end 2, prev_kv 6. */
static void watch_body(struct buf *out, const char *item)
{
    struct buf create = {0};

    wire_list_request(&create, item);
    buf_varint(&create, 6, 1);
    buf_sub(out, 1, &create);
}

static const struct list *list_of(enum kind kind)
{
    for (size_t i = 0; i < ARRAY_LEN(lists); i++)
        if (lists[i].kind == kind)
            return &lists[i];
    die("%s: no list", kind_names[kind]);
}

void wire_request(struct buf *out, enum kind kind, const char *item, uint64_t revision,
                  size_t value_len)
{
    const struct list *list;
    char key[128];

    if (kind == KIND_PUT) {
        put_body(out, item, value_len);
    } else if (kind == KIND_TXN) {
        txn_body(out, item, revision, value_len);
    } else if (kind == KIND_WATCH) {
        watch_body(out, *item == '\0' ? WIRE_WATCH_KEYS : item);
    } else if (kind == KIND_RANGE && *item != '\0') {
        request_key(key, item);
        buf_field(out, 1, bytes_str(key));
    } else {
        list = list_of(kind);
        buf_field(out, 1, bytes_str(list->prefix));
        if (*list->end != '\0')
            buf_field(out, 2, bytes_str(list->end));
    }
}

/* --- answers --------------------------------------------------------------------------------- */

/* RangeResponse: header 1, kvs 2, count 4. */
static void list_answer(struct buf *out, const struct list *list, wire_seal_fn seal)
{
    char key[128];

    add_header(out, REVISION);
    for (uint32_t i = 0; i < list->count; i++) {
        if (list->count == 1)
            snprintf(key, sizeof key, "%s", list->prefix);
        else
            snprintf(key, sizeof key, "%sobject-%05u", list->prefix, i);
        add_kv(out, 2, key, list->value_len, 1 + i, seal);
    }
    buf_varint(out, 4, list->count);
}

/* TxnResponse: header 1, succeeded 2, responses 3 { response_put 2 { header 1 { revision 3 } } }.
 */
static void txn_answer(struct buf *out)
{
    struct buf header = {0}, put = {0}, op = {0};

    add_header(out, REVISION);
    buf_varint(out, 2, 1);
    buf_varint(&header, 3, REVISION);
    buf_sub(&put, 1, &header);
    buf_sub(&op, 2, &put);
    buf_sub(out, 3, &op);
}

void wire_answer(struct buf *out, enum kind kind, wire_seal_fn seal)
{
    if (kind == KIND_PUT)
        add_header(out, REVISION);
    else if (kind == KIND_TXN)
        txn_answer(out);
    else if (kind == KIND_WATCH)
        wire_watch_created(out);
    else if (kind != KIND_APISERVER)
        list_answer(out, list_of(kind), seal);
}

/* WatchResponse: events 11 { kv 2 { value 5 } }. */
uint32_t wire_count_events(struct bytes answer, struct bytes *value)
{
    struct pb_span event, kv, field;
    uint32_t count = 0;

    while (pb_span_next(&answer, &event) == PB_FIELD) {
        if (event.number != 11 || event.wire != PB_LEN)
            continue;
        if (count++ > 0)
            continue;
        while (pb_span_next(&event.value, &kv) == PB_FIELD)
            while (kv.number == 2 && pb_span_next(&kv.value, &field) == PB_FIELD)
                if (field.number == 5 && field.wire == PB_LEN)
                    *value = field.value;
    }
    return count;
}

void wire_empty(struct buf *out)
{
    add_header(out, REVISION);
}

enum kind wire_kind_of_key(struct bytes key)
{
    for (size_t i = 0; i < ARRAY_LEN(lists); i++)
        if (bytes_eq(key, bytes_str(lists[i].prefix)))
            return lists[i].kind;
    return KIND_NONE;
}

/* WatchResponse: header 1, watch_id 2, created 3, events 11; Event: kv 2, prev_kv 3. */
void wire_watch_created(struct buf *out)
{
    add_header(out, REVISION);
    buf_varint(out, 3, 1);
}

void wire_watch_event(struct buf *out, uint32_t i, wire_seal_fn seal)
{
    struct buf event = {0};

    add_header(out, REVISION + i);
    add_kv(&event, 2, WIRE_WATCH_KEYS "object", 1024, 2 + i, seal);
    add_kv(&event, 3, WIRE_WATCH_KEYS "object", 1024, 1 + i, seal);
    buf_sub(out, 11, &event);
}
