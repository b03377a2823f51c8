/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes that a lane gets and cannot hand on yet. A piece that lies in the slab it was read into
 * keeps all of that from being freed, and a peer can make pieces as small as it likes: so from the
 * second on small ones are copied together, and the first with them. The first alone is not worth
 * it, for nearly all messages are whole with it.
 *
 *   gather   | piece piece piece | room |   a slab of the lane's own, about as large as what it
 *                                           holds already
 *
 * Failure modes: no memory: ERR_NOMEM, the piece is lost and the call fails. */
#include "base/metrics.h"
#include "proxy/lane_int.h"

#define GATHER_FIRST 2048u

static bool will_wait(const struct lane *l)
{
    const struct call *c = l->call;
    const struct h2_stream *to = l->is_answer ? c->down : c->up;

    if (l->in.len + l->large_in.len > 0)
        return true;
    return l->state == LANE_RELAY && to != NULL && h2_stream_queued(to) > 0;
}

/* Bytes that lie behind the last ones pin nothing that is not pinned already. */
static bool is_next(const struct chain *c, const struct slice *s)
{
    const struct slice *tail;

    if (c->count == 0)
        return false;
    tail = chain_at(c, c->count - 1);
    return tail->slab == s->slab && tail->off + tail->len == s->off;
}

static bool reserve(struct lane *l, uint32_t flags)
{
    size_t cap = 2 * (l->in.len + l->large_in.len);

    if (l->gather != NULL && l->gather->fill < l->gather->cap)
        return true;
    if (cap < GATHER_FIRST)
        cap = GATHER_FIRST;
    lane__gather_drop(l);
    l->gather = slab_new_exact(&l->call->worker->pool,
                               cap < LIMIT_SLAB_SIZE ? cap : LIMIT_SLAB_SIZE, flags);
    return l->gather != NULL;
}

static enum err copy_in(struct lane *l, struct slice from)
{
    struct bytes b = slice_bytes(from);

    metric_add(METRIC_bytes_copied_total, b.n);
    while (b.n > 0) {
        struct slab *to;
        struct slice s;
        size_t n;

        if (!reserve(l, from.slab->flags & SLAB_SECRET))
            return ERR_NOMEM;
        to = l->gather;
        n = to->cap - to->fill < b.n ? to->cap - to->fill : b.n;
        memcpy(to->data + to->fill, b.p, n);
        s = (struct slice){to, to->fill, (uint32_t)n};
        slab_ref(to);
        to->fill += (uint32_t)n;
        TRY(chain_push(&l->in, &s));
        b = bytes_of(b.p + n, b.n - n);
    }
    return ERR_OK;
}

/* The first piece moves, too. */
static enum err move_first(struct lane *l)
{
    struct slice first = slice_ref(*chain_at(&l->in, 0));
    enum err e;

    chain_clear(&l->in);
    e = copy_in(l, first);
    slice_drop(&first);
    return e;
}

enum err lane__take_in(struct lane *l, struct slice *s)
{
    enum err e = ERR_OK;

    if (l->in.len + l->large_in.len == 0 && l->state != LANE_RELAY)
        return chain_push(&l->in, s);
    if (s->len >= LIMIT_GATHER || is_next(&l->in, s) || !will_wait(l))
        return chain_push(&l->in, s);
    if (l->in.count == 1 && l->gather == NULL && l->in.len < LIMIT_GATHER)
        e = move_first(l);
    if (e == ERR_OK)
        e = copy_in(l, *s);
    slice_drop(s);
    return e;
}

void lane__gather_drop(struct lane *l)
{
    if (l->gather != NULL)
        slab_drop(l->gather);
    l->gather = NULL;
}

void lane__gather_settle(struct lane *l)
{
    if (!will_wait(l))
        lane__gather_drop(l);
}
