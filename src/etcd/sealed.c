/* SPDX-License-Identifier: Apache-2.0 */
#include "etcd/sealed.h"

void sealed_msg_fini(struct sealed_msg *m)
{
    chain_fini(&m->etcd__bytes);
}

uint8_t *sealed_msg_reserve(struct sealed_msg *m, struct slab_pool *pool, size_t n)
{
    static const uint8_t none[LIMIT_SMALL_COPY];
    struct slice *s;

    CHECK(n > 0 && n <= sizeof none && m->etcd__bytes.len == 0);
    if (chain_push_copy(&m->etcd__bytes, pool, none, n, 0) != ERR_OK)
        return NULL;
    s = chain_at(&m->etcd__bytes, m->etcd__bytes.count - 1);
    return slice_data(*s) + s->len - n;
}

uint8_t *sealed_msg_head(const struct sealed_msg *m)
{
    return slice_data(*chain_at(&m->etcd__bytes, 0));
}

size_t sealed_msg_len(const struct sealed_msg *m)
{
    return m->etcd__bytes.len;
}

size_t sealed_msg_pinned(const struct sealed_msg *m)
{
    return chain_pinned(&m->etcd__bytes);
}

void sealed_msg_move(struct sealed_msg *to, struct sealed_msg *from)
{
    CHECK(to->etcd__bytes.len == 0);
    chain_fini(&to->etcd__bytes);
    *to = *from;
    *from = (struct sealed_msg){{0}};
}

void sealed_msg_release(struct sealed_msg *m, struct chain *to)
{
    CHECK(to->len == 0);
    chain_fini(to);
    *to = m->etcd__bytes;
    m->etcd__bytes = (struct chain){0};
}
