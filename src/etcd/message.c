/* SPDX-License-Identifier: Apache-2.0 */
#include "etcd/message.h"

#include <stdio.h>

#include "pb/pb.h"

/* --- writing --- */

void etcd_message_init(struct etcd_message *m, uint8_t *buf, size_t cap)
{
    *m = (struct etcd_message){.buf = buf, .cap = cap};
}

/* Is there room for n bytes more? If not there never will be. */
static bool has_room(struct etcd_message *m, size_t n)
{
    if (m->is_cut || n > m->cap - m->len)
        m->is_cut = true;
    return !m->is_cut;
}

void etcd_message_put_varint(struct etcd_message *m, uint32_t number, uint64_t v)
{
    uint64_t tag = pb_tag(number, PB_VARINT);

    if (!has_room(m, pb_varint_len(tag) + pb_varint_len(v)))
        return;
    m->len += pb_put_varint(m->buf + m->len, tag);
    m->len += pb_put_varint(m->buf + m->len, v);
}

void etcd_message_put_head(struct etcd_message *m, uint32_t number, size_t n)
{
    uint64_t tag = pb_tag(number, PB_LEN);

    if (!has_room(m, pb_varint_len(tag) + pb_varint_len(n)))
        return;
    m->len += pb_put_varint(m->buf + m->len, tag);
    m->len += pb_put_varint(m->buf + m->len, n);
}

void etcd_message_put_bytes(struct etcd_message *m, uint32_t number, struct bytes v)
{
    size_t before = m->len;

    etcd_message_put_head(m, number, v.n);
    if (!has_room(m, v.n)) {
        m->len = before;
        return;
    }
    if (v.n > 0)
        memcpy(m->buf + m->len, v.p, v.n);
    m->len += v.n;
}

enum err etcd_message_body(const struct etcd_message *m, struct bytes *out)
{
    if (m->is_cut)
        return ERR_MESSAGE_TOO_LARGE;
    *out = bytes_of(m->buf, m->len);
    return ERR_OK;
}

void etcd_message_put_range(struct etcd_message *m, const struct etcd_range_request *r)
{
    etcd_message_put_bytes(m, 1, r->key);
    if (r->range_end.n > 0)
        etcd_message_put_bytes(m, 2, r->range_end);
    if (r->limit != 0)
        etcd_message_put_varint(m, 3, (uint64_t)r->limit);
    if (r->revision != 0)
        etcd_message_put_varint(m, 4, (uint64_t)r->revision);
    if (r->keys_only)
        etcd_message_put_varint(m, 8, 1);
    if (r->count_only)
        etcd_message_put_varint(m, 9, 1);
}

void etcd_message_put_authenticate(struct etcd_message *m, struct bytes user, struct bytes password)
{
    etcd_message_put_bytes(m, 1, user);
    etcd_message_put_bytes(m, 2, password);
}

/* --- a value put in place of another --- */

/* Bytes of a field of n bytes whose number is below 16. */
static size_t field_len(size_t n)
{
    return 1 + pb_varint_len(n) + n;
}

enum compare { COMPARE_CREATE = 1, COMPARE_MOD = 2 };

/* Compare: result EQUAL (0, left out), target 2, key 3, create_revision 5, mod_revision 6. */
static void put_compare(struct etcd_message *m, enum compare target, struct bytes key,
                        int64_t revision)
{
    etcd_message_put_head(m, 1, 2 + field_len(key.n) + 1 + pb_varint_len((uint64_t)revision));
    etcd_message_put_varint(m, 2, target);
    etcd_message_put_bytes(m, 3, key);
    etcd_message_put_varint(m, target == COMPARE_MOD ? 6 : 5, (uint64_t)revision);
}

/* What a Txn does otherwise: RequestOp { request_range 1 { key 1 } }. */
static void put_otherwise_read(struct etcd_message *m, struct bytes key)
{
    etcd_message_put_head(m, 3, field_len(field_len(key.n)));
    etcd_message_put_head(m, 1, field_len(key.n));
    etcd_message_put_bytes(m, 1, key);
}

/* Compare: result LESS (2), target MOD, key 3, mod_revision 6, range_end 64: of every key there. */
static void put_watched_compare(struct etcd_message *m, const struct etcd_fence *f)
{
    uint64_t before = (uint64_t)f->seen_revision + 1;
    size_t n = 2 + 2 + field_len(f->watched.n) + 1 + pb_varint_len(before);

    etcd_message_put_head(m, 1,
                          n + 1 + field_len(f->watched_end.n)); /* the tag of 64 has two bytes */
    etcd_message_put_varint(m, 1, 2);
    etcd_message_put_varint(m, 2, 2);
    etcd_message_put_bytes(m, 3, f->watched);
    etcd_message_put_varint(m, 6, before);
    etcd_message_put_bytes(m, 64, f->watched_end);
}

size_t etcd_replace_max(const struct etcd_replace_request *r)
{
    size_t n = 3 * r->key.n + r->value.n + 128; /* some fifteen tags and lengths */

    if (r->fence != NULL)
        n += r->fence->lock.n + r->fence->watched.n + r->fence->watched_end.n + 128;
    return n;
}

/* TxnRequest: compare 1, success 2, failure 3; RequestOp: range 1, put 2; PutRequest: key 1, value
 * 2, ignore_lease 6. */
void etcd_message_put_replace(struct etcd_message *m, const struct etcd_replace_request *r)
{
    size_t put = field_len(r->key.n) + field_len(r->value.n) + 2;

    if (r->fence != NULL) {
        put_compare(m, COMPARE_CREATE, r->fence->lock, r->fence->lock_revision);
        put_watched_compare(m, r->fence);
    }
    put_compare(m, COMPARE_MOD, r->key, r->mod_revision);
    etcd_message_put_head(m, 2, field_len(put));
    etcd_message_put_head(m, 2, put);
    etcd_message_put_bytes(m, 1, r->key);
    etcd_message_put_bytes(m, 2, r->value);
    etcd_message_put_varint(m, 6, 1);
    put_otherwise_read(m, r->key);
}

size_t etcd_move_max(size_t from_len, size_t to_len, size_t value_len)
{
    return 3 * (from_len + to_len) + value_len + 256; /* some twenty-five tags and lengths */
}

/* RequestOp: put 2 { key 1, value 2 }, request_delete_range 3 { key 1 }. */
void etcd_message_put_move(struct etcd_message *m, const struct etcd_move_request *r)
{
    size_t put = field_len(r->to.n) + field_len(r->value.n);

    put_compare(m, COMPARE_MOD, r->from, r->mod_revision);
    put_compare(m, COMPARE_CREATE, r->to, 0);
    etcd_message_put_head(m, 2, field_len(put));
    etcd_message_put_head(m, 2, put);
    etcd_message_put_bytes(m, 1, r->to);
    etcd_message_put_bytes(m, 2, r->value);
    etcd_message_put_head(m, 2, field_len(field_len(r->from.n)));
    etcd_message_put_head(m, 3, field_len(r->from.n));
    etcd_message_put_bytes(m, 1, r->from);
    put_otherwise_read(m, r->from);
    put_otherwise_read(m, r->to);
}

void etcd_message_put_discard(struct etcd_message *m, const struct etcd_discard_request *r)
{
    put_compare(m, COMPARE_MOD, r->copy, r->copy_revision);
    put_compare(m, COMPARE_MOD, r->original, r->original_revision);
    etcd_message_put_head(m, 2, field_len(field_len(r->copy.n)));
    etcd_message_put_head(m, 3, field_len(r->copy.n));
    etcd_message_put_bytes(m, 1, r->copy);
    put_otherwise_read(m, r->copy);
    put_otherwise_read(m, r->original);
}

void etcd_message_put_watch_cancel(struct etcd_message *m, int64_t watch_id)
{
    uint8_t buf[ETCD_WATCH_CANCEL_MAX];
    struct etcd_message cancel;

    etcd_message_init(&cancel, buf, sizeof buf);
    etcd_message_put_varint(&cancel, 1, (uint64_t)watch_id); /* 1 + 10 bytes at most */
    etcd_message_put_bytes(m, 2, bytes_of(buf, cancel.len));
}

/* --- reading --- */

/* ResponseHeader: cluster_id 1, member_id 2, revision 3. */
static enum err read_header(struct bytes header, struct etcd_header *out)
{
    struct pb_span f;
    enum pb_result r;

    while ((r = pb_span_next(&header, &f)) == PB_FIELD) {
        if (f.wire != PB_VARINT)
            continue;
        if (f.number == 1)
            out->cluster_id = f.varint;
        else if (f.number == 2)
            out->member_id = f.varint;
        else if (f.number == 3)
            out->revision = (int64_t)f.varint;
    }
    return r == PB_END ? ERR_OK : ERR_ANS_MALFORMED;
}

/* RangeResponse: header 1, kvs 2, more 3, count 4. */
enum err etcd_message_read_range(struct bytes body, struct etcd_range_answer *out)
{
    struct pb_span f;
    enum pb_result r;

    *out = (struct etcd_range_answer){0};
    while ((r = pb_span_next(&body, &f)) == PB_FIELD) {
        out->kv_count += f.number == 2;
        if (f.number == 1 && f.wire == PB_LEN)
            TRY(read_header(f.value, &out->header));
        else if (f.number == 3 && f.wire == PB_VARINT)
            out->has_more = f.varint != 0;
        else if (f.number == 4 && f.wire == PB_VARINT)
            out->count = (int64_t)f.varint;
    }
    return r == PB_END ? ERR_OK : ERR_ANS_MALFORMED;
}

/* KeyValue: key 1, create_revision 2, mod_revision 3, version 4, value 5, lease 6. */
static enum err read_kv(struct bytes in, struct etcd_kv *out)
{
    unsigned seen = 0;
    struct pb_span f;
    enum pb_result r;

    *out = (struct etcd_kv){0};
    while ((r = pb_span_next(&in, &f)) == PB_FIELD) {
        if (f.number > 6)
            continue;
        if (f.wire != (f.number == 1 || f.number == 5 ? PB_LEN : PB_VARINT))
            return ERR_ANS_WIRE_TYPE;
        if ((seen & 1u << f.number) != 0)
            return ERR_ANS_DOUBLED;
        seen |= 1u << f.number;
        if (f.number == 1)
            out->key = f.value;
        else if (f.number == 5)
            out->value = f.value;
        else if (f.number == 2)
            out->create_revision = (int64_t)f.varint;
        else if (f.number == 3)
            out->mod_revision = (int64_t)f.varint;
        else if (f.number == 6)
            out->lease = (int64_t)f.varint;
    }
    if (r != PB_END)
        return ERR_ANS_MALFORMED;
    return out->key.n > 0 ? ERR_OK : ERR_ANS_NO_KEY;
}

enum err etcd_message_next_kv(struct bytes *rest, struct etcd_kv *out, bool *has)
{
    struct pb_span f;
    enum pb_result r;

    *has = false;
    while ((r = pb_span_next(rest, &f)) == PB_FIELD) {
        if (f.number != 2)
            continue;
        if (f.wire != PB_LEN)
            return ERR_ANS_WIRE_TYPE;
        *has = true;
        return read_kv(f.value, out);
    }
    return r == PB_END ? ERR_OK : ERR_ANS_MALFORMED;
}

/* ResponseOp: response_range 1. */
static enum err read_response_op(struct bytes op, struct bytes *range)
{
    struct pb_span f;
    enum pb_result r;

    while ((r = pb_span_next(&op, &f)) == PB_FIELD)
        if (f.number == 1 && f.wire == PB_LEN)
            *range = f.value;
    return r == PB_END ? ERR_OK : ERR_ANS_MALFORMED;
}

/* TxnResponse: header 1, succeeded 2, responses 3. */
enum err etcd_message_read_replace(struct bytes body, struct etcd_replace_answer *out)
{
    struct pb_span f;
    enum pb_result r;

    *out = (struct etcd_replace_answer){0};
    while ((r = pb_span_next(&body, &f)) == PB_FIELD) {
        if (f.number == 1 && f.wire == PB_LEN)
            TRY(read_header(f.value, &out->header));
        else if (f.number == 2 && f.wire == PB_VARINT)
            out->is_done = f.varint != 0;
        else if (f.number == 3 && f.wire == PB_LEN)
            TRY(read_response_op(f.value, &out->read));
    }
    return r == PB_END ? ERR_OK : ERR_ANS_MALFORMED;
}

enum err etcd_message_read_move(struct bytes body, struct etcd_move_answer *out)
{
    size_t count = 0;
    struct pb_span f;
    enum pb_result r;

    *out = (struct etcd_move_answer){0};
    while ((r = pb_span_next(&body, &f)) == PB_FIELD) {
        if (f.number == 2 && f.wire == PB_VARINT)
            out->is_done = f.varint != 0;
        else if (f.number == 3 && f.wire == PB_LEN && count < 2)
            TRY(read_response_op(f.value, count++ == 0 ? &out->from : &out->to));
    }
    return r == PB_END && (out->is_done || count == 2) ? ERR_OK : ERR_ANS_MALFORMED;
}

enum err etcd_message_read_authenticate(struct bytes body, struct bytes *token)
{
    struct pb_span f;
    enum pb_result r;

    *token = bytes_of(NULL, 0);
    while ((r = pb_span_next(&body, &f)) == PB_FIELD)
        if (f.number == 2 && f.wire == PB_LEN)
            *token = f.value;
    return r == PB_END && token->n > 0 ? ERR_OK : ERR_ANS_MALFORMED;
}

static bool holds(struct bytes text, struct bytes word)
{
    return memmem(text.p, text.n, word.p, word.n) != NULL;
}

/* StatusResponse: header 1, version 2, dbSize 3, errors 8, dbSizeInUse 9, dbSizeQuota 12. */
static enum err read_status_field(const struct pb_span *f, struct etcd_status *out)
{
    if (f->wire == PB_VARINT) {
        if (f->number == 3)
            out->db_size = (int64_t)f->varint;
        else if (f->number == 9)
            out->db_size_in_use = (int64_t)f->varint;
        else if (f->number == 12)
            out->db_quota = (int64_t)f->varint;
    }
    if (f->wire != PB_LEN)
        return ERR_OK;
    if (f->number == 1)
        return read_header(f->value, &out->header);
    if (f->number == 2)
        snprintf(out->version, sizeof out->version, "%.*s",
                 (int)(f->value.n < 31 ? f->value.n : 31), (const char *)f->value.p);
    if (f->number == 8 && holds(f->value, BYTES_LIT("NOSPACE")))
        out->has_no_space = true;
    return ERR_OK;
}

enum err etcd_message_read_status(struct bytes body, struct etcd_status *out)
{
    struct pb_span f;
    enum pb_result r;

    *out = (struct etcd_status){0};
    while ((r = pb_span_next(&body, &f)) == PB_FIELD)
        TRY(read_status_field(&f, out));
    return r == PB_END ? ERR_OK : ERR_ANS_MALFORMED;
}
