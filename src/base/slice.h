/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: bytes from sockets and from the lanes. Gives: reference-counted pieces of them.
 * Owns: slabs (the pool owns free ones). Thread: one; a slab never crosses threads.
 *
 *   slab   one refcounted block: 64 or 256 KiB from the pool, or made to measure
 *   slice  {slab, off, len}: a reference to a part of a slab
 *   chain  a list of slices: the bytes of a message in order
 *
 * By value means borrowed, by pointer means taken: f(struct slice s) may read during the call,
 * f(struct slice *s) takes the reference and zeroes the caller's variable. */
#ifndef BASE_SLICE_H
#define BASE_SLICE_H

#include "base/bytes.h"
#include "base/err.h"
#include "base/limits.h"
#include "base/objects.h"

enum slab_flags {
    SLAB_SECRET = 1, /* may hold plaintext: wiped on the last drop */
    SLAB_STATIC = 2, /* constant memory: never freed, never written */
};

struct slab_pool;

struct slab {
    uint8_t *data;
    uint32_t cap;
    uint32_t fill; /* bytes [0, fill) are in use; only the slab's one writer appends */
    uint32_t refs;
    uint32_t flags;         /* enum slab_flags */
    struct slab_pool *pool; /* NULL: SLAB_STATIC */
    struct slab *next_free;
};

/* Free slabs of one size. */
struct slab_bin {
    struct slab *first;
    uint32_t count;
    uint32_t max; /* more than that go back to libc */
};

/* One per worker. Keeps free slabs of the two usual sizes up to a bound. */
struct slab_pool {
    struct slab_bin free;       /* of LIMIT_SLAB_SIZE */
    struct slab_bin free_large; /* of LIMIT_SLAB_LARGE */
    uint64_t live_bytes;        /* capacity of all slabs that are referenced now */
    uint64_t kept_bytes;        /* and what goes with them: slab_pool_keep */
    struct slab *gather[2];     /* open slabs where small outputs gather: plain, SLAB_SECRET */
    struct objects objects;     /* the small objects of the same thread */
};

/* free_max: how many free slabs of 64 KiB it keeps; of 256 KiB a sixteenth of that. */
void slab_pool_init(struct slab_pool *pool, uint32_t free_max);
/* Frees the free slabs; every slab must have come back. */
void slab_pool_fini(struct slab_pool *pool);
/* The pool's open slab of that kind (flags: SLAB_SECRET or 0) with room for n bytes (at most
 * LIMIT_SLAB_SIZE) at its fill mark: write there, move fill, take references. Many small messages
 * share one slab this way, so that a queued one does not pin 64 KiB. Borrowed. NULL: no memory. */
MUST_CHECK struct slab *slab_gather(struct slab_pool *pool, size_t n, uint32_t flags);
/* Of what the same peers make the thread hold outside of slabs (the arrays of chains count by
 * themselves): now n bytes instead of *counted, which becomes n. */
static inline void slab_pool_keep(struct slab_pool *pool, size_t *counted, size_t n)
{
    pool->kept_bytes += n;
    pool->kept_bytes -= *counted;
    *counted = n;
}
/* Both together. */
static inline uint64_t slab_pool_held(const struct slab_pool *pool)
{
    return pool->live_bytes + pool->kept_bytes;
}
/* For when the worker is idle: lets go of the open slabs, so that their last readers' drop wipes
 * what is in them. */
void slab_pool_settle(struct slab_pool *pool);
/* After a burst: frees the free slabs but this many of 64 KiB, and the idle chunks of objects. */
void slab_pool_trim(struct slab_pool *pool, uint32_t keep);
/* A slab with one reference and cap >= min_cap: pooled when min_cap <= LIMIT_SLAB_SIZE or is
 * LIMIT_SLAB_LARGE, else made to measure. NULL when memory is out or min_cap exceeds 1 GiB. flags:
 * SLAB_SECRET or 0. */
MUST_CHECK struct slab *slab_new(struct slab_pool *pool, size_t min_cap, uint32_t flags);
/* The same with exactly that capacity, for little that may stay for long. */
MUST_CHECK struct slab *slab_new_exact(struct slab_pool *pool, size_t cap, uint32_t flags);
static inline void slab_ref(struct slab *slab)
{
    if (!(slab->flags & SLAB_STATIC))
        slab->refs++;
}
void slab__free(struct slab *slab);
static inline void slab_drop(struct slab *slab)
{
    if (slab->flags & SLAB_STATIC)
        return;
    DCHECK(slab->refs > 0);
    if (--slab->refs == 0)
        slab__free(slab);
}

struct slice {
    struct slab *slab; /* NULL only when len is 0 */
    uint32_t off;
    uint32_t len;
};

#define SLICE_EMPTY ((struct slice){NULL, 0, 0})

static inline uint8_t *slice_data(struct slice s)
{
    return s.len == 0 ? NULL : s.slab->data + s.off;
}

static inline struct bytes slice_bytes(struct slice s)
{
    return bytes_of(slice_data(s), s.len);
}

/* A new reference to part [off, off + len) of s. */
MUST_CHECK static inline struct slice slice_sub(struct slice s, uint32_t off, uint32_t len)
{
    DCHECK(off <= s.len && len <= s.len - off);
    if (len == 0)
        return SLICE_EMPTY;
    slab_ref(s.slab);
    return (struct slice){s.slab, s.off + off, len};
}
MUST_CHECK static inline struct slice slice_ref(struct slice s)
{
    return slice_sub(s, 0, s.len);
}
static inline void slice_drop(struct slice *s)
{
    if (s->slab != NULL)
        slab_drop(s->slab);
    *s = SLICE_EMPTY;
}
/* A slice over constant memory that outlives the program's use of it. slab is caller's storage of
 * static lifetime, initialised here. */
struct slice slice_static(struct slab *slab, const uint8_t *data, uint32_t len);

/* Most chains of a call are this short, and cost no allocation. */
#define CHAIN_FEW 2u

/* A list of slices. Zero-initialised is empty and valid. Assigning a chain moves it: the old
 * variable must be zeroed. */
struct chain {
    struct slice *v; /* heap, behind its head (slice.c); NULL: they are in few */
    uint32_t head;   /* first used index */
    uint32_t count;
    uint32_t cap; /* of v */
    size_t len;   /* bytes in all */
    struct slice few[CHAIN_FEW];
};

void chain__clear(struct chain *c);
void chain__fini(struct chain *c);
/* Drops everything, keeps the array. */
static inline void chain_clear(struct chain *c)
{
    if (c->count > 0)
        chain__clear(c);
}
/* Drops everything and frees the array; the chain is empty and valid again. Most chains that end
 * are empty and never had an array. */
static inline void chain_fini(struct chain *c)
{
    if (c->count > 0 || c->v != NULL)
        chain__fini(c);
}
static inline struct slice *chain_at(const struct chain *c, uint32_t i)
{
    const struct slice *v = c->v != NULL ? c->v : c->few;

    DCHECK(i < c->count);
    /* A const chain has a constant list; its slices are its owner's to change. */
    return (struct slice *)(uintptr_t)&v[c->head + i];
}
/* Takes *s (also on error, when it is dropped). Adjacent slices of one slab are joined; empty ones
 * vanish. Errors: ERR_NOMEM. */
MUST_CHECK enum err chain_push(struct chain *c, struct slice *s);
/* Moves all of src to the end of dst. On ERR_NOMEM src keeps what was not moved. */
MUST_CHECK enum err chain_append(struct chain *dst, struct chain *src);
/* Moves the first n bytes of src (n <= src->len) to the end of dst, splitting a slice by reference.
 * Errors: ERR_NOMEM; then the bytes moved so far are moved. */
MUST_CHECK enum err chain_move(struct chain *dst, struct chain *src, size_t n);
/* Puts references to bytes [off, off + n) of src at the end of dst. Errors: ERR_NOMEM. */
MUST_CHECK enum err chain_share(struct chain *dst, const struct chain *src, size_t off, size_t n);
/* Drops the first n bytes; n <= c->len. */
void chain_consume(struct chain *c, size_t n);
/* Takes back the n bytes that chain_consume dropped last, if it dropped them from the slice that is
 * the first now. */
void chain_unconsume(struct chain *c, size_t n);
/* The memory that c keeps from being freed: its array, and its slabs whole, constant ones aside.
 * Neighbours that share a slab count once. Of a very long chain an estimate. */
size_t chain_pinned(const struct chain *c);
/* Copies bytes [off, off + n) to dst; they must exist. */
void chain_copy(const struct chain *c, size_t off, size_t n, uint8_t *dst);
/* Copies n bytes of p to the end, into the pool's open slab of that kind (slab_gather). Counts as
 * copied bytes. Errors: ERR_NOMEM; then a part may be in. */
MUST_CHECK enum err chain_push_copy(struct chain *c, struct slab_pool *pool, const void *p,
                                    size_t n, uint32_t flags);

/* A reading position in a chain that the chain outlives; the chain must not change meanwhile (but
 * see chain_pos_keep). */
struct chain_pos {
    const struct chain *chain;
    uint32_t index; /* slice */
    uint32_t off;   /* in that slice */
    size_t at;      /* from the start of the chain */
};

static inline struct chain_pos chain_begin(const struct chain *c)
{
    return (struct chain_pos){c, 0, 0, 0};
}
/* The position off bytes from the start; off <= c->len. Linear in slices: prefer chain_skip. */
struct chain_pos chain_seek(const struct chain *c, size_t off);
/* The contiguous bytes at pos, at most max; does not move. n == 0 only at the end or max == 0. */
static inline struct bytes chain_peek(const struct chain_pos *pos, size_t max)
{
    const struct slice *s;
    size_t n;

    if (pos->index >= pos->chain->count || max == 0)
        return bytes_of(NULL, 0);
    s = chain_at(pos->chain, pos->index);
    n = s->len - pos->off;
    return bytes_of(s->slab->data + s->off + pos->off, n < max ? n : max);
}
/* A position at the chain's end names a slice that does not exist yet, and the next byte may as
 * well be joined to the last slice. So a position that is used again after the chain has grown at
 * its end (and changed nowhere else) is kept as "behind the last byte", by chain_pos_keep, and
 * chain_pos_resume finds the next byte from there. */
static inline struct chain_pos chain_pos_keep(struct chain_pos pos)
{
    if (pos.off == 0 && pos.index > 0) {
        pos.index--;
        pos.off = chain_at(pos.chain, pos.index)->len;
    }
    return pos;
}
static inline struct chain_pos chain_pos_resume(struct chain_pos pos)
{
    if (pos.index < pos.chain->count && pos.off == chain_at(pos.chain, pos.index)->len) {
        pos.index++;
        pos.off = 0;
    }
    return pos;
}
void chain__skip_slices(struct chain_pos *pos, size_t n);
/* Moves n bytes on; they must exist. */
static inline void chain_skip(struct chain_pos *pos, size_t n)
{
    DCHECK(n <= pos->chain->len - pos->at);
    if (n == 0)
        return;
    if (n < chain_at(pos->chain, pos->index)->len - pos->off) {
        pos->at += n;
        pos->off += (uint32_t)n;
        return;
    }
    chain__skip_slices(pos, n);
}
/* Copies the next n bytes, which must exist, and moves behind them. */
void chain_take(struct chain_pos *pos, uint8_t *to, size_t n);
/* The next byte, or -1 at the end; moves. */
int chain_next(struct chain_pos *pos);

#endif
