/* SPDX-License-Identifier: Apache-2.0 */
/* The output of a message that is edited: small pieces gather in the pool's open slab, one behind
 * the other, so that what lies together there is one slice; large ones are referenced. */
#include "etcd/output_int.h"

void etcd__chain_cut(struct chain *c, size_t len)
{
    while (c->len > len) {
        struct slice *tail = chain_at(c, c->count - 1);
        size_t over = c->len - len;

        if (tail->len > over) {
            tail->len -= (uint32_t)over;
            c->len -= over;
            return;
        }
        c->len -= tail->len;
        slice_drop(tail);
        c->count--;
    }
}

/* Are the next n bytes of the open slab those behind the end of out? The common case by far. */
static bool extends_out(const struct chain *out, const struct slab *slab, size_t n)
{
    const struct slice *tail;

    if (slab == NULL || out->count == 0 || slab->cap - slab->fill < n)
        return false;
    tail = chain_at(out, out->count - 1);
    return tail->slab == slab && tail->off + tail->len == slab->fill;
}

uint8_t *etcd__room(struct chain *out, struct slab_pool *pool, bool is_request, size_t n)
{
    uint32_t flags = is_request ? 0 : SLAB_SECRET;
    struct slab *slab = pool->gather[is_request ? 0 : 1];
    struct slice s;

    if (extends_out(out, slab, n)) {
        out->len += n;
        chain_at(out, out->count - 1)->len += (uint32_t)n;
        slab->fill += (uint32_t)n;
        return slab->data + slab->fill - n;
    }
    if (n > LIMIT_SLAB_SIZE) { /* made to measure */
        slab = slab_new(pool, n, flags);
    } else {
        slab = slab_gather(pool, n, flags);
        if (slab != NULL)
            slab_ref(slab);
    }
    if (slab == NULL)
        return NULL;
    s = (struct slice){slab, slab->fill, (uint32_t)n};
    slab->fill += (uint32_t)n;
    /* slab lives on: in out if this succeeds */
    return chain_push(out, &s) == ERR_OK ? slab->data + slab->fill - n : NULL;
}

size_t etcd__head_len(uint32_t number, size_t len)
{
    return pb_varint_len(pb_tag(number, PB_LEN)) + pb_varint_len(len);
}

size_t etcd__put_head(uint8_t *to, uint32_t number, size_t len)
{
    size_t n = pb_put_varint(to, pb_tag(number, PB_LEN));

    return n + pb_put_varint(to + n, len);
}

enum err etcd__push_head(struct chain *out, struct slab_pool *pool, uint32_t number, size_t len)
{
    uint8_t buf[2 * PB_VARINT_MAX];

    return chain_push_copy(out, pool, buf, etcd__put_head(buf, number, len), 0);
}

/* By position, not by offset: looking at each of many values in a chain of many slices stays
 * linear. */
enum err etcd__share_at(struct chain *to, struct chain_pos *pos, size_t n)
{
    while (n > 0) {
        struct slice all = *chain_at(pos->chain, pos->index);
        uint32_t left = all.len - pos->off;
        uint32_t len = left < n ? left : (uint32_t)n;
        struct slice part = slice_sub(all, pos->off, len);

        TRY(chain_push(to, &part));
        chain_skip(pos, len);
        n -= len;
    }
    return ERR_OK;
}
