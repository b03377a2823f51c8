/* SPDX-License-Identifier: Apache-2.0 */
#include "etcd/watch.h"

#include "etcd/plan_int.h"

#define REASON_MAX 1024u /* a key in it is cut by the caller; this only bounds the buffer */

/* Field number = v; returns the bytes written (at most 11). */
static size_t put_varint_field(uint8_t *to, uint32_t number, uint64_t v)
{
    size_t n = pb_put_varint(to, pb_tag(number, PB_VARINT));

    return n + pb_put_varint(to + n, v);
}

enum err etcd_watch_cancel_request(int64_t watch_id, struct slab_pool *pool, struct sealed_msg *out)
{
    uint8_t body[2 * PB_VARINT_MAX], msg[4 * PB_VARINT_MAX];
    size_t body_len = put_varint_field(body, 1, (uint64_t)watch_id);
    size_t n = pb_put_varint(msg, pb_tag(2, PB_LEN));
    enum err e;

    n += pb_put_varint(msg + n, body_len);
    memcpy(msg + n, body, body_len);
    e = chain_push_copy(&out->etcd__bytes, pool, msg, n + body_len, 0);
    if (e != ERR_OK)
        sealed_msg_fini(out);
    return e;
}

static enum err push_response(struct bytes header, int64_t watch_id, struct bytes reason,
                              struct slab_pool *pool, struct chain *out)
{
    uint8_t mid[4 * PB_VARINT_MAX];
    size_t n = 0;

    TRY(etcd__push_head(out, pool, 1, header.n));
    TRY(chain_push_copy(out, pool, header.p, header.n, 0));
    if (watch_id != 0)
        n += put_varint_field(mid, 2, (uint64_t)watch_id);
    n += put_varint_field(mid + n, 4, 1);
    TRY(chain_push_copy(out, pool, mid, n, 0));
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
