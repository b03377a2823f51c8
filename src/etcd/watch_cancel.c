/* SPDX-License-Identifier: Apache-2.0 */
#include "etcd/watch_cancel.h"

#include "etcd/message.h"
#include "etcd/output_int.h"

#define REASON_MAX 1024u /* a key in it is cut by the caller; this only bounds the buffer */

enum err etcd_watch_cancel_request(int64_t watch_id, struct slab_pool *pool, struct sealed_msg *out)
{
    uint8_t buf[ETCD_WATCH_CANCEL_MAX];
    struct etcd_message m;
    struct bytes body;
    enum err e;

    etcd_message_init(&m, buf, sizeof buf);
    etcd_message_put_watch_cancel(&m, watch_id);
    TRY(etcd_message_body(&m, &body));
    e = chain_push_copy(&out->etcd__bytes, pool, body.p, body.n, 0);
    if (e != ERR_OK)
        sealed_msg_fini(out);
    return e;
}

static enum err push_response(struct bytes header, int64_t watch_id, struct bytes reason,
                              struct slab_pool *pool, struct chain *out)
{
    uint8_t buf[4 * PB_VARINT_MAX];
    struct etcd_message mid;

    etcd_message_init(&mid, buf, sizeof buf);
    if (watch_id != 0)
        etcd_message_put_varint(&mid, 2, (uint64_t)watch_id);
    etcd_message_put_varint(&mid, 4, 1);
    TRY(etcd__push_head(out, pool, 1, header.n));
    TRY(chain_push_copy(out, pool, header.p, header.n, 0));
    TRY(chain_push_copy(out, pool, buf, mid.len, 0));
    TRY(etcd__push_head(out, pool, 6, reason.n));
    return chain_push_copy(out, pool, reason.p, reason.n, 0);
}

enum err etcd_watch_canceled_response(struct bytes header, int64_t watch_id, const char *reason,
                                      struct slab_pool *pool, struct chain *out)
{
    struct bytes text = bytes_str(reason);
    size_t len = out->len;
    enum err e;

    if (text.n > REASON_MAX)
        text.n = REASON_MAX;
    e = push_response(header, watch_id, text, pool, out);
    if (e != ERR_OK)
        etcd__chain_cut(out, len);
    return e;
}
