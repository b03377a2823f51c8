/* SPDX-License-Identifier: Apache-2.0 */
#include "etcd/lease.h"

#include "pb/pb.h"

/* LeaseGrantRequest: TTL 1. */
void etcd_lease_put_grant(struct etcd_message *m, int64_t ttl_s)
{
    etcd_message_put_varint(m, 1, (uint64_t)ttl_s);
}

void etcd_lease_put_id(struct etcd_message *m, int64_t lease)
{
    etcd_message_put_varint(m, 1, (uint64_t)lease);
}

/* PutRequest: key 1, value 2, lease 3. */
void etcd_lease_put_key(struct etcd_message *m, struct bytes key, struct bytes value, int64_t lease)
{
    etcd_message_put_bytes(m, 1, key);
    etcd_message_put_bytes(m, 2, value);
    etcd_message_put_varint(m, 3, (uint64_t)lease);
}

static size_t field_len(size_t n)
{
    return 1 + pb_varint_len(n) + n;
}

/* TxnRequest: compare 1, success 2. Compare: result EQUAL, target CREATE (1), key 3,
 * create_revision 5. RequestOp: put 2. */
void etcd_lease_put_lock(struct etcd_message *m, struct bytes key, struct bytes value,
                         int64_t lease)
{
    size_t put = field_len(key.n) + field_len(value.n) + 1 + pb_varint_len((uint64_t)lease);

    etcd_message_put_head(m, 1, 2 + field_len(key.n) + 2);
    etcd_message_put_varint(m, 2, 1);
    etcd_message_put_bytes(m, 3, key);
    etcd_message_put_varint(m, 5, 0);
    etcd_message_put_head(m, 2, field_len(put));
    etcd_message_put_head(m, 2, put);
    etcd_lease_put_key(m, key, value, lease);
}

size_t etcd_lease_touch_max(size_t key_len)
{
    return 2 * key_len + 64; /* some twelve tags and lengths */
}

/* Compare: result GREATER (1), target CREATE (1), key 3, create_revision 5. PutRequest: key 1,
 * ignore_value 5, ignore_lease 6. */
void etcd_lease_put_touch(struct etcd_message *m, struct bytes key)
{
    size_t put = field_len(key.n) + 4;

    etcd_message_put_head(m, 1, 4 + field_len(key.n) + 2);
    etcd_message_put_varint(m, 1, 1);
    etcd_message_put_varint(m, 2, 1);
    etcd_message_put_bytes(m, 3, key);
    etcd_message_put_varint(m, 5, 0);
    etcd_message_put_head(m, 2, field_len(put));
    etcd_message_put_head(m, 2, put);
    etcd_message_put_bytes(m, 1, key);
    etcd_message_put_varint(m, 5, 1);
    etcd_message_put_varint(m, 6, 1);
}

/* Both: header 1, ID 2, TTL 3. */
enum err etcd_lease_read(struct bytes body, struct etcd_lease *out)
{
    struct pb_span f;
    enum pb_result r;

    *out = (struct etcd_lease){0};
    while ((r = pb_span_next(&body, &f)) == PB_FIELD) {
        if (f.number == 2 && f.wire == PB_VARINT)
            out->id = (int64_t)f.varint;
        else if (f.number == 3 && f.wire == PB_VARINT)
            out->ttl_s = (int64_t)f.varint;
    }
    return r == PB_END ? ERR_OK : ERR_ANS_MALFORMED;
}
