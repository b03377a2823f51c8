/* SPDX-License-Identifier: Apache-2.0 */
/* Slabs and their pool, chains, positions in chains.
 *
 * The happy path of a slab: slab_new takes it from the pool's free list or from malloc; readers and
 * writers fill it and share it by slices; the last drop (slab__free) wipes it if it may hold
 * plaintext and puts it back, or frees it when it was made to measure or the pool has enough.
 *
 *   chain    v: head | unused | slice | slice | slice | unused |     of cap places
 *                      0        head                             head + count
 *
 * Failure modes: no memory for a slab or for a longer list: the caller gets NULL or ERR_NOMEM; a
 * slice that it handed over is dropped, of a chain it keeps what was not moved. A pool that is
 * freed before its slabs came back is a bug of ours (CHECK). */
#include "base/slice.h"

#include <stdlib.h>

#include "base/metrics.h"
#include "base/secret.h"

#define SLAB_MAX (1024u * 1024 * 1024)
#define SLABS_A_LARGE_ONE 16u /* free ones are kept in this proportion */
#define PINNED_SAMPLE 1024u   /* slices that chain_pinned looks at */

/* In front of a chain's array. It counts in the pool of the slab for which it was made; NULL: in
 * none, for that one was constant. */
struct array_head {
    _Alignas(16) struct slab_pool *pool;
};
_Static_assert(sizeof(struct array_head) % sizeof(struct slice) == 0, "slices stay aligned");

void slab_pool_init(struct slab_pool *pool, uint32_t free_max)
{
    *pool = (struct slab_pool){.free = {.max = free_max},
                               .free_large = {.max = free_max / SLABS_A_LARGE_ONE}};
}

static void slab_release(struct slab *slab)
{
    free(slab->data);
    free(slab);
}

void slab_pool_settle(struct slab_pool *pool)
{
    for (size_t i = 0; i < ARRAY_LEN(pool->gather); i++) {
        if (pool->gather[i] != NULL)
            slab_drop(pool->gather[i]);
        pool->gather[i] = NULL;
    }
}

static struct slab *bin_take(struct slab_bin *bin)
{
    struct slab *slab = bin->first;

    if (slab != NULL) {
        bin->first = slab->next_free;
        bin->count--;
    }
    return slab;
}

static void bin_trim(struct slab_bin *bin, uint32_t keep)
{
    while (bin->count > keep)
        slab_release(bin_take(bin));
}

void slab_pool_fini(struct slab_pool *pool)
{
    slab_pool_settle(pool);
    CHECK(pool->live_bytes == 0);
    DCHECK(pool->kept_bytes == 0);
    bin_trim(&pool->free, 0);
    bin_trim(&pool->free_large, 0);
    objects_fini(&pool->objects);
}

void slab_pool_trim(struct slab_pool *pool, uint32_t keep)
{
    bin_trim(&pool->free, keep);
    bin_trim(&pool->free_large, 0);
    objects_trim(&pool->objects);
}

static struct slab *slab_alloc(size_t cap)
{
    struct slab *slab = malloc(sizeof *slab);

    if (slab == NULL)
        return NULL;
    slab->data = malloc(cap);
    if (slab->data == NULL) {
        free(slab);
        return NULL;
    }
    slab->cap = (uint32_t)cap;
    return slab;
}

/* Where free slabs of that size are kept; NULL for those made to measure. */
static struct slab_bin *bin_of(struct slab_pool *pool, size_t cap)
{
    if (cap == LIMIT_SLAB_SIZE)
        return &pool->free;
    return cap == LIMIT_SLAB_LARGE ? &pool->free_large : NULL;
}

struct slab *slab_new(struct slab_pool *pool, size_t min_cap, uint32_t flags)
{
    return slab_new_exact(pool, min_cap <= LIMIT_SLAB_SIZE ? LIMIT_SLAB_SIZE : min_cap, flags);
}

struct slab *slab_new_exact(struct slab_pool *pool, size_t cap, uint32_t flags)
{
    struct slab_bin *bin = bin_of(pool, cap);
    struct slab *slab = bin == NULL ? NULL : bin_take(bin);

    if (slab == NULL)
        slab = cap > SLAB_MAX ? NULL : slab_alloc(cap);
    if (slab == NULL)
        return NULL;
    slab->fill = 0;
    slab->refs = 1;
    slab->flags = flags;
    slab->pool = pool;
    slab->next_free = NULL;
    pool->live_bytes += slab->cap;
    return slab;
}

/* The last reference is gone. */
void slab__free(struct slab *slab)
{
    struct slab_pool *pool = slab->pool;
    struct slab_bin *bin = bin_of(pool, slab->cap);

    if (slab->flags & SLAB_SECRET)
        secret_wipe(slab->data, slab->fill < slab->cap ? slab->fill : slab->cap);
    pool->live_bytes -= slab->cap;
    if (bin == NULL || bin->count >= bin->max) {
        slab_release(slab);
        return;
    }
    slab->next_free = bin->first;
    bin->first = slab;
    bin->count++;
}

struct slice slice_static(struct slab *slab, const uint8_t *data, uint32_t len)
{
    /* Nobody writes to a static slab: the cast only fits the common type. */
    *slab = (struct slab){.data = (uint8_t *)(uintptr_t)data,
                          .cap = len,
                          .fill = len,
                          .refs = 1,
                          .flags = SLAB_STATIC};
    return (struct slice){slab, 0, len};
}

void chain__clear(struct chain *c)
{
    for (uint32_t i = 0; i < c->count; i++)
        slice_drop(chain_at(c, i));
    c->head = c->count = 0;
    c->len = 0;
}

static struct array_head *head_of(const struct chain *c)
{
    return c->v == NULL ? NULL : (struct array_head *)(void *)c->v - 1;
}

void chain__fini(struct chain *c)
{
    struct array_head *head = head_of(c);

    chain__clear(c);
    if (head != NULL && head->pool != NULL)
        head->pool->kept_bytes -= c->cap * sizeof *c->v;
    free(head);
    *c = (struct chain){0};
}

static void slide_to_front(struct chain *c, struct slice *v)
{
    memmove(v, v + c->head, c->count * sizeof *v);
    c->head = 0;
}

/* Twice as many places. */
static enum err array_grow(struct chain *c, uint32_t cap, struct slab_pool *pool)
{
    struct array_head *old = head_of(c), *head;

    head = realloc(old, sizeof *head + 2 * cap * sizeof *c->v);
    if (head == NULL)
        return ERR_NOMEM;
    if (old == NULL)
        head->pool = pool;
    if (head->pool != NULL)
        head->pool->kept_bytes += (old == NULL ? 2 * cap : cap) * sizeof *c->v;
    c->v = (struct slice *)(void *)(head + 1);
    if (old == NULL)
        memcpy(c->v, c->few, sizeof c->few);
    c->cap = 2 * cap;
    return ERR_OK;
}

/* Makes room for one more slice (of a slab of that pool) at the end: slides to the front when half
 * of the array is unused, else doubles it. */
static enum err chain_reserve(struct chain *c, struct slab_pool *pool)
{
    uint32_t cap = c->v != NULL ? c->cap : CHAIN_FEW;
    struct slice *v = c->v != NULL ? c->v : c->few;

    if (c->head + c->count < cap)
        return ERR_OK;
    if (c->head > cap / 2 || (c->v == NULL && c->head > 0)) {
        slide_to_front(c, v);
        return ERR_OK;
    }
    return array_grow(c, cap, pool);
}

enum err chain_push(struct chain *c, struct slice *s)
{
    struct slice *tail;
    enum err e;

    if (s->len == 0) {
        slice_drop(s);
        return ERR_OK;
    }
    if (c->count > 0) {
        tail = chain_at(c, c->count - 1);
        if (tail->slab == s->slab && tail->off + tail->len == s->off) {
            tail->len += s->len;
            c->len += s->len;
            slice_drop(s);
            return ERR_OK;
        }
    }
    e = chain_reserve(c, s->slab->pool);
    if (e != ERR_OK) {
        slice_drop(s);
        return e;
    }
    c->count++;
    *chain_at(c, c->count - 1) = *s;
    c->len += s->len;
    *s = SLICE_EMPTY;
    return ERR_OK;
}

static void chain_pop_head(struct chain *c)
{
    c->head++;
    c->count--;
    if (c->count == 0)
        c->head = 0;
}

enum err chain_append(struct chain *dst, struct chain *src)
{
    if (dst->count == 0) { /* swap: the common case costs nothing */
        struct chain t = *dst;

        *dst = *src;
        *src = t;
        return ERR_OK;
    }
    return chain_move(dst, src, src->len);
}

enum err chain_move(struct chain *dst, struct chain *src, size_t n)
{
    DCHECK(n <= src->len);
    while (n > 0) {
        struct slice *s = chain_at(src, 0);

        if (s->len > n) {
            struct slice part = slice_sub(*s, 0, (uint32_t)n);

            TRY(chain_push(dst, &part));
            chain_consume(src, n);
            return ERR_OK;
        }
        n -= s->len;
        src->len -= s->len;
        enum err e = chain_push(dst, s);
        chain_pop_head(src);
        TRY(e);
    }
    return ERR_OK;
}

enum err chain_share(struct chain *dst, const struct chain *src, size_t off, size_t n)
{
    struct chain_pos pos = chain_seek(src, off);

    DCHECK(off + n <= src->len);
    while (n > 0) {
        struct slice s = *chain_at(src, pos.index);
        uint32_t len = s.len - pos.off < n ? s.len - pos.off : (uint32_t)n;
        struct slice part = slice_sub(s, pos.off, len);

        TRY(chain_push(dst, &part));
        chain_skip(&pos, len);
        n -= len;
    }
    return ERR_OK;
}

void chain_consume(struct chain *c, size_t n)
{
    DCHECK(n <= c->len);
    c->len -= n;
    while (n > 0) {
        struct slice *s = chain_at(c, 0);

        if (s->len > n) {
            s->off += (uint32_t)n;
            s->len -= (uint32_t)n;
            return;
        }
        n -= s->len;
        slice_drop(s);
        chain_pop_head(c);
    }
}

void chain_unconsume(struct chain *c, size_t n)
{
    struct slice *s = chain_at(c, 0);

    CHECK(n <= s->off);
    s->off -= (uint32_t)n;
    s->len += (uint32_t)n;
    c->len += n;
}

size_t chain_pinned(const struct chain *c)
{
    uint32_t seen = c->count < PINNED_SAMPLE ? c->count : PINNED_SAMPLE;
    const struct slab *last = NULL;
    size_t n = 0;

    for (uint32_t i = 0; i < seen; i++) {
        const struct slab *slab = chain_at(c, i)->slab;

        if (slab != last && (slab->flags & SLAB_STATIC) == 0)
            n += slab->cap;
        last = slab;
    }
    if (seen != c->count)
        n = n / seen * c->count;
    return n + (c->v == NULL ? 0 : c->cap * sizeof *c->v);
}

void chain_copy(const struct chain *c, size_t off, size_t n, uint8_t *dst)
{
    struct chain_pos pos = chain_seek(c, off);

    chain_take(&pos, dst, n);
}

struct slab *slab_gather(struct slab_pool *pool, size_t n, uint32_t flags)
{
    struct slab **open = &pool->gather[flags & SLAB_SECRET ? 1 : 0];

    CHECK(n <= LIMIT_SLAB_SIZE);
    if (*open != NULL && (*open)->cap - (*open)->fill >= n)
        return *open;
    if (*open != NULL)
        slab_drop(*open);
    *open = slab_new(pool, LIMIT_SLAB_SIZE, flags);
    return *open;
}

enum err chain_push_copy(struct chain *c, struct slab_pool *pool, const void *p, size_t n,
                         uint32_t flags)
{
    const uint8_t *from = p;

    metric_add(METRIC_bytes_copied_total, n);
    while (n > 0) {
        struct slab *slab = slab_gather(pool, n < LIMIT_SMALL_COPY ? n : 1, flags);
        struct slice s;
        size_t part;

        if (slab == NULL)
            return ERR_NOMEM;
        part = slab->cap - slab->fill < n ? slab->cap - slab->fill : n;
        memcpy(slab->data + slab->fill, from, part);
        slab_ref(slab);
        s = (struct slice){slab, slab->fill, (uint32_t)part};
        slab->fill += (uint32_t)part;
        TRY(chain_push(c, &s));
        from += part;
        n -= part;
    }
    return ERR_OK;
}

struct chain_pos chain_seek(const struct chain *c, size_t off)
{
    struct chain_pos pos = chain_begin(c);

    chain_skip(&pos, off);
    return pos;
}

void chain__skip_slices(struct chain_pos *pos, size_t n)
{
    pos->at += n;
    while (n > 0) {
        uint32_t left = chain_at(pos->chain, pos->index)->len - pos->off;

        if (n < left) {
            pos->off += (uint32_t)n;
            return;
        }
        n -= left;
        pos->index++;
        pos->off = 0;
    }
}

void chain_take(struct chain_pos *pos, uint8_t *to, size_t n)
{
    while (n > 0) {
        struct bytes b = chain_peek(pos, n);

        CHECK(b.n > 0);
        memcpy(to, b.p, b.n);
        chain_skip(pos, b.n);
        to += b.n;
        n -= b.n;
    }
}

int chain_next(struct chain_pos *pos)
{
    struct bytes b = chain_peek(pos, 1);

    if (b.n == 0)
        return -1;
    chain_skip(pos, 1);
    return b.p[0];
}
