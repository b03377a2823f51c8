/* SPDX-License-Identifier: Apache-2.0 */
#include "etcd/message.h"

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

void etcd_message_put_bytes(struct etcd_message *m, uint32_t number, struct bytes v)
{
    uint64_t tag = pb_tag(number, PB_LEN);
    size_t head = pb_varint_len(tag) + pb_varint_len(v.n);

    if (!has_room(m, head) || !has_room(m, v.n) || !has_room(m, head + v.n))
        return;
    m->len += pb_put_varint(m->buf + m->len, tag);
    m->len += pb_put_varint(m->buf + m->len, v.n);
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

/* ResponseHeader: revision 3. */
static enum err read_header(struct bytes header, int64_t *revision)
{
    struct pb_span f;
    enum pb_result r;

    while ((r = pb_span_next(&header, &f)) == PB_FIELD)
        if (f.number == 3 && f.wire == PB_VARINT)
            *revision = (int64_t)f.varint;
    return r == PB_END ? ERR_OK : ERR_ANS_MALFORMED;
}

/* RangeResponse: header 1, kvs 2. */
enum err etcd_message_read_range(struct bytes body, struct etcd_range_answer *out)
{
    struct pb_span f;
    enum pb_result r;

    *out = (struct etcd_range_answer){0};
    while ((r = pb_span_next(&body, &f)) == PB_FIELD) {
        out->kv_count += f.number == 2;
        if (f.number == 1 && f.wire == PB_LEN)
            TRY(read_header(f.value, &out->revision));
    }
    return r == PB_END ? ERR_OK : ERR_ANS_MALFORMED;
}
