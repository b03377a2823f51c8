/* SPDX-License-Identifier: Apache-2.0 */
#include "counts.h"

static size_t place_of(const struct counts *c, const struct etcd_count *count,
                       const struct dek *dek)
{
    size_t i = 0;

    while (i < c->count &&
           (c->v[i].dek != dek || c->v[i].count.list != count->list ||
            c->v[i].count.provider != count->provider || c->v[i].count.err != count->err ||
            c->v[i].count.key_index != count->key_index ||
            c->v[i].count.is_write != count->is_write))
        i++;
    return i;
}

void counts_take(struct counts *c, struct etcd_plan *p)
{
    for (size_t i = 0; i < p->count_count; i++) {
        const struct etcd_count *count = &p->counts[i];
        const struct dek *dek = count->need < p->need_count ? p->needs[count->need].dek : NULL;
        size_t at = place_of(c, count, dek);

        CHECK(at < ARRAY_LEN(c->v));
        if (at == c->count) {
            c->v[at].count = *count;
            c->v[at].count.n = 0;
            c->v[at].dek = dek;
            c->count++;
        }
        c->v[at].count.n += count->n;
    }
    c->sealed += p->sealed;
    c->opened += p->opened;
    c->plain += p->plain;
    p->count_count = p->sealed = p->opened = p->plain = 0;
}

bool counts_same(const struct counts *a, const struct counts *b)
{
    if (a->count != b->count || a->sealed != b->sealed || a->opened != b->opened ||
        a->plain != b->plain)
        return false;
    for (size_t i = 0; i < a->count; i++) {
        size_t at = place_of(b, &a->v[i].count, a->v[i].dek);

        if (at == b->count || b->v[at].count.n != a->v[i].count.n)
            return false;
    }
    return true;
}
