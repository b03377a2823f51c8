/* SPDX-License-Identifier: Apache-2.0 */
#include "oracle.h"

#include <string.h>

#include "pb/pb.h"

const ProtobufCMessageDescriptor *oracle_request(enum etcd_content content)
{
    switch (content) {
    case ETCD_RANGE:
    case ETCD_RANGE_STREAM:
        return &etcdserverpb__range_request__descriptor;
    case ETCD_PUT:
        return &etcdserverpb__put_request__descriptor;
    case ETCD_DELETE_RANGE:
        return &etcdserverpb__delete_range_request__descriptor;
    case ETCD_TXN:
        return &etcdserverpb__txn_request__descriptor;
    case ETCD_WATCH:
        return &etcdserverpb__watch_request__descriptor;
    default:
        return NULL;
    }
}

const ProtobufCMessageDescriptor *oracle_answer(enum etcd_content content)
{
    switch (content) {
    case ETCD_RANGE:
        return &etcdserverpb__range_response__descriptor;
    case ETCD_RANGE_STREAM:
        return &etcdserverpb__range_stream_response__descriptor;
    case ETCD_PUT:
        return &etcdserverpb__put_response__descriptor;
    case ETCD_DELETE_RANGE:
        return &etcdserverpb__delete_range_response__descriptor;
    case ETCD_TXN:
        return &etcdserverpb__txn_response__descriptor;
    case ETCD_WATCH:
        return &etcdserverpb__watch_response__descriptor;
    case ETCD_MEMBERS:
    case ETCD_MEMBERS_CHANGED:
        return &etcdserverpb__member_list_response__descriptor;
    case ETCD_MEMBER_ADD:
        return &etcdserverpb__member_add_response__descriptor;
    default:
        return NULL;
    }
}

/* --- walking --------------------------------------------------------------------------------- */

static bool is_set(const ProtobufCMessage *m, const ProtobufCFieldDescriptor *fd)
{
    uint32_t oneof;

    if (!(fd->flags & PROTOBUF_C_FIELD_FLAG_ONEOF))
        return true;
    memcpy(&oneof, (const uint8_t *)m + fd->quantifier_offset, sizeof oneof);
    return oneof == fd->id;
}

static void walk_field(ProtobufCMessage *m, const ProtobufCFieldDescriptor *fd, oracle_visit fn,
                       void *arg)
{
    void *at = (uint8_t *)m + fd->offset;

    if (fd->label == PROTOBUF_C_LABEL_REPEATED) {
        size_t n = *(size_t *)(void *)((uint8_t *)m + fd->quantifier_offset);

        for (size_t i = 0; i < n; i++)
            oracle_walk((*(ProtobufCMessage ***)at)[i], fn, arg);
    } else if (is_set(m, fd) && *(ProtobufCMessage **)at != NULL) {
        oracle_walk(*(ProtobufCMessage **)at, fn, arg);
    }
}

void oracle_walk(ProtobufCMessage *m, oracle_visit fn, void *arg)
{
    fn(m, arg);
    for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
        if (m->descriptor->fields[i].type == PROTOBUF_C_TYPE_MESSAGE)
            walk_field(m, &m->descriptor->fields[i], fn, arg);
    }
}

static void drop_unknown(ProtobufCMessage *m, void *arg)
{
    for (unsigned i = 0; i < m->n_unknown_fields; i++) {
        if (m->unknown_fields[i].tag != 19999 && m->unknown_fields[i].tag != 15)
            *(bool *)arg = true;
        free(m->unknown_fields[i].data);
    }
    free(m->unknown_fields);
    m->unknown_fields = NULL;
    m->n_unknown_fields = 0;
}

ProtobufCMessage *oracle_unpack(const ProtobufCMessageDescriptor *d, struct bytes in)
{
    ProtobufCMessage *m = protobuf_c_message_unpack(d, NULL, in.n, in.p);
    bool has_unknown = false;

    if (m == NULL)
        return NULL;
    oracle_walk(m, drop_unknown, &has_unknown);
    if (!has_unknown)
        return m;
    oracle_free(m);
    return NULL;
}

void oracle_free(ProtobufCMessage *m)
{
    protobuf_c_message_free_unpacked(m, NULL);
}

struct buf oracle_pack(const ProtobufCMessage *m)
{
    struct buf b = {malloc(protobuf_c_message_get_packed_size(m) + 1), 0};

    CHECK(b.p != NULL);
    b.n = protobuf_c_message_pack(m, b.p);
    return b;
}

struct buf oracle_canonical(const ProtobufCMessageDescriptor *d, struct bytes in)
{
    ProtobufCMessage *m = oracle_unpack(d, in);
    struct buf b = {0};

    if (m == NULL)
        return b;
    b = oracle_pack(m);
    oracle_free(m);
    return b;
}

void oracle_set(ProtobufCBinaryData *d, struct buf b)
{
    free(d->data);
    d->data = b.p;
    d->len = b.n;
}

/* --- KeyValues ------------------------------------------------------------------------------- */

struct sealing {
    struct kit *k;
    struct oracle_kvs *plain;
};

static void seal_kv(ProtobufCMessage *m, void *arg)
{
    struct sealing *s = arg;
    Mvccpb__KeyValue *kv = (Mvccpb__KeyValue *)m;
    struct bytes key, value;
    size_t at = s->plain->count;

    if (m->descriptor != &mvccpb__key_value__descriptor)
        return;
    key = oracle_bytes(kv->key);
    value = oracle_bytes(kv->value);
    if (!kit_is_sealing(s->k, key) || (value.n == 0 && kit_random(s->k, 4) == 0) ||
        at == ARRAY_LEN(s->plain->v))
        return;
    s->plain->v[at].key = buf_of(key);
    s->plain->v[at].value = buf_of(value);
    s->plain->count++;
    oracle_set(&kv->value, kit_seal(s->k, s->k->deks[kit_random(s->k, KIT_DEKS - 1)], key, value));
}

void oracle_seal(struct kit *k, ProtobufCMessage *m, struct oracle_kvs *plain)
{
    struct sealing s = {k, plain};

    oracle_walk(m, seal_kv, &s);
}

static void check_kv(ProtobufCMessage *m, void *arg)
{
    const struct sealing *s = arg;
    const Mvccpb__KeyValue *kv = (const Mvccpb__KeyValue *)m;
    bool was_sealed = false;

    if (m->descriptor != &mvccpb__key_value__descriptor || kv->value.len == 0 ||
        !kit_is_strict(s->k, oracle_bytes(kv->key)))
        return;
    for (size_t i = 0; i < s->plain->count; i++)
        was_sealed =
            was_sealed || (bytes_eq(oracle_bytes(kv->key), buf_bytes(&s->plain->v[i].key)) &&
                           bytes_eq(oracle_bytes(kv->value), buf_bytes(&s->plain->v[i].value)));
    CHECK(was_sealed);
}

void oracle_check_kvs(struct kit *k, ProtobufCMessage *m, const struct oracle_kvs *plain)
{
    /* The struct is shared with sealing, which writes; here nobody does. */
    struct sealing s = {k, (struct oracle_kvs *)(uintptr_t)plain};

    oracle_walk(m, check_kv, &s);
}

void oracle_kvs_free(struct oracle_kvs *kvs)
{
    for (size_t i = 0; i < kvs->count; i++) {
        buf_free(&kvs->v[i].key);
        buf_free(&kvs->v[i].value);
    }
    kvs->count = 0;
}

/* --- well-formed ------------------------------------------------------------------------------ */

bool oracle_well_formed(const ProtobufCMessageDescriptor *d, struct bytes in)
{
    for (;;) {
        const ProtobufCFieldDescriptor *fd;
        struct pb_span f;
        enum pb_result r = pb_span_next(&in, &f);

        if (r != PB_FIELD)
            return r == PB_END;
        fd = protobuf_c_message_descriptor_get_field(d, f.number);
        if (fd == NULL || fd->type != PROTOBUF_C_TYPE_MESSAGE || f.wire != PB_LEN)
            continue;
        /* A header is nobody's business but the client's. */
        if (fd->descriptor != &etcdserverpb__response_header__descriptor &&
            !oracle_well_formed(fd->descriptor, f.value))
            return false;
    }
}

/* --- the judge -------------------------------------------------------------------------------- */

enum level { IN_TXN, IN_OP, IN_PUT, IN_COMPARE, IN_NOTHING };

static enum level level_of(enum level in, uint32_t number)
{
    if (in == IN_TXN && number >= 1 && number <= 3)
        return number == 1 ? IN_COMPARE : IN_OP;
    if (in == IN_OP && (number == 2 || number == 4))
        return number == 2 ? IN_PUT : IN_TXN;
    return IN_NOTHING;
}

/* 0 at the end; takes more than ten bytes. */
static uint64_t lenient_varint(struct bytes *in)
{
    uint64_t v = 0;
    unsigned shift = 0;
    uint8_t c;

    while (in->n > 0) {
        c = fuzz_u8(in);
        if (shift < 64)
            v |= (uint64_t)(c & 0x7f) << shift;
        shift += 7;
        if (c < 0x80)
            break;
    }
    return v;
}

/* The next length-delimited field outside of groups, which every parser skips whole. Field numbers
 * are cut off at 32 bits, as Go's old decoder does. */
static bool lenient_next(struct bytes *in, uint32_t *number, struct bytes *value)
{
    unsigned groups = 0;

    while (in->n > 0) {
        uint64_t tag = lenient_varint(in), n;

        *number = (uint32_t)(tag >> 3);
        switch (tag & 7) {
        case 0:
            (void)lenient_varint(in);
            break;
        case 1:
        case 5:
            (void)fuzz_take(in, (tag & 7) == 1 ? 8 : 4);
            break;
        case 2:
            n = lenient_varint(in);
            *value = fuzz_take(in, n < in->n ? (size_t)n : in->n);
            if (groups == 0)
                return true;
            break;
        case 3:
            groups++;
            break;
        default:
            groups -= groups > 0;
        }
    }
    return false;
}

static bool leaks(const struct kit *k, struct bytes in, enum level level, struct bytes what)
{
    uint32_t number, key_number = level == IN_PUT ? 1 : 3, value_number = level == IN_PUT ? 2 : 7;
    bool has_key = false, has_value = false;
    struct bytes value;

    while (lenient_next(&in, &number, &value)) {
        enum level below = level_of(level, number);

        if (below != IN_NOTHING && leaks(k, value, below, what))
            return true;
        if (level != IN_PUT && level != IN_COMPARE)
            continue;
        has_key = has_key || (number == key_number && kit_is_sealing(k, value));
        has_value = has_value || (number == value_number && bytes_contain(value, what));
    }
    return has_key && has_value;
}

bool oracle_leaks(const struct kit *k, enum etcd_content content, struct bytes in,
                  struct bytes what)
{
    if (content != ETCD_PUT && content != ETCD_TXN)
        return false;
    return leaks(k, in, content == ETCD_PUT ? IN_PUT : IN_TXN, what);
}
