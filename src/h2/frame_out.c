/* SPDX-License-Identifier: Apache-2.0 */
/* Frames -> bytes (RFC 9113 section 4).
 *
 *   all but DATA: h2__put_* -> c->control, at any time
 *   in the flush: c->control, then DATA -> c->out -> net
 *
 * Control goes out ahead of DATA that is framed after it was put, so the order is that of the
 * calls: a stream's HEADERS before its DATA, its trailers behind all of it. Frame heads and small
 * payloads are gathered in a scratch slab, larger payloads are referenced (an iovec or TLS record
 * costs more than a small copy).
 *
 * Failure modes:
 *  - a peer that makes us queue answers and reads none of them (CVE-2019-9512, -9515): cut; so is a
 *    client whose calls are answered at once, and over, for no limit of streams holds those back
 *  - memory: h2__fail, since a frame is missing then; ERR_NOMEM in the flush */
#include "base/metrics.h"
#include "h2/h2_int.h"

#define CONTROL_FIRST 240u
#define ACKS_MAX 1000u
#define UNREAD_MAX (4u * 1024 * 1024) /* the answers of some 50,000 calls */

/* ------------------------------------------------------------------------ control */

/* Room for n bytes at the end; NULL: no memory, noted. */
static uint8_t *control_add(struct h2_conn *c, size_t n)
{
    struct h2__control *k = &c->control;

    if (k->len + n > k->cap) {
        size_t cap = k->cap == 0 ? CONTROL_FIRST : 2 * k->cap;
        uint8_t *p;

        if (cap < k->len + n)
            cap = k->len + n;
        p = objects_realloc(&c->pool->objects, k->p, cap);
        if (p == NULL) {
            h2__fail(c, ERR_NOMEM);
            return NULL;
        }
        k->p = p;
        k->cap = cap;
        slab_pool_keep(c->pool, &k->counted, cap > CONTROL_FIRST ? cap : 0);
    }
    k->len += n;
    if (k->len > UNREAD_MAX && c->opts.is_server && c->is_blocked)
        h2__cut(c, H2_ENHANCE_YOUR_CALM, "flooded by the peer, which does not read");
    return k->p + (k->len - n);
}

void h2__put_bytes(struct h2_conn *c, const void *p, size_t n)
{
    uint8_t *to = control_add(c, n);

    if (to != NULL)
        memcpy(to, p, n);
}

void h2__put_frame(struct h2_conn *c, uint8_t type, uint8_t flags, uint32_t id, const void *p,
                   size_t n)
{
    uint8_t *to = control_add(c, H2__HEAD_LEN + n);

    if (to == NULL)
        return;
    h2__put_head(to, n, type, flags, id);
    if (n > 0)
        memcpy(to + H2__HEAD_LEN, p, n);
}

void h2__put_rst(struct h2_conn *c, uint32_t id, uint32_t code)
{
    uint8_t p[4];

    h2__put_u32(p, code);
    h2__put_frame(c, H2__RST_STREAM, 0, id, p, sizeof p);
}

void h2__put_ack(struct h2_conn *c, uint8_t type, const void *p, size_t n)
{
    h2__put_frame(c, type, H2__FLAG_ACK, 0, p, n);
    if (++c->control.acks > ACKS_MAX)
        h2__cut(c, H2_ENHANCE_YOUR_CALM, "flooded by the peer, which does not read");
}

enum err h2__put_headers(struct h2_conn *c, uint32_t id, struct h2_fields f, bool end)
{
    struct bytes block;
    enum err e = h2__hpack_encode(&c->hpack_out, f, &block);
    uint8_t type = H2__HEADERS, flags = end ? H2__FLAG_END_STREAM : 0;

    if (e != ERR_OK) {
        h2__fail(c, e);
        return e;
    }
    while (block.n > H2__FRAME_MAX) {
        h2__put_frame(c, type, flags, id, block.p, H2__FRAME_MAX);
        block = bytes_of(block.p + H2__FRAME_MAX, block.n - H2__FRAME_MAX);
        type = H2__CONTINUATION;
        flags = 0;
    }
    h2__put_frame(c, type, flags | H2__FLAG_END_HEADERS, id, block.p, block.n);
    return c->fatal;
}

/* ------------------------------------------------------------------------ out */

bool h2__out_is_full(const struct h2_conn *c)
{
    return net_conn_queued(c->net) + c->out.len > c->out_limit;
}

/* Room in the scratch slab for n bytes or fewer; *got says for how many. NULL: no memory. */
static uint8_t *scratch_get(struct h2_conn *c, size_t n, uint32_t flags, size_t *got)
{
    struct slab *s = c->scratch;

    if (s == NULL || s->fill == s->cap) {
        if (s != NULL)
            slab_drop(s);
        c->scratch = s = slab_new(c->pool, LIMIT_SLAB_SIZE, 0);
        if (s == NULL)
            return NULL;
    }
    s->flags |= flags & SLAB_SECRET;
    *got = s->cap - s->fill < n ? s->cap - s->fill : n;
    return s->data + s->fill;
}

static enum err out_copy(struct h2_conn *c, const uint8_t *p, size_t n, uint32_t flags)
{
    while (n > 0) {
        size_t part;
        uint8_t *to = scratch_get(c, n, flags, &part);
        struct slice s;

        if (to == NULL)
            return ERR_NOMEM;
        memcpy(to, p, part);
        slab_ref(c->scratch);
        s = (struct slice){c->scratch, c->scratch->fill, (uint32_t)part};
        c->scratch->fill += (uint32_t)part;
        TRY(chain_push(&c->out, &s));
        p += part;
        n -= part;
    }
    return ERR_OK;
}

enum err h2__out_control(struct h2_conn *c)
{
    struct h2__control *k = &c->control;
    enum err e;

    if (k->len == 0)
        return ERR_OK;
    e = out_copy(c, k->p, k->len, 0);
    k->len = 0;
    k->acks = 0;
    return e;
}

static enum err out_payload(struct h2_conn *c, struct chain *from, size_t n)
{
    metric_add(METRIC_bytes_forwarded_total, n);
    while (n > 0) {
        struct slice piece = *chain_at(from, 0);
        size_t part = piece.len < n ? piece.len : n;

        if (part >= LIMIT_SMALL_COPY) {
            TRY(chain_move(&c->out, from, part));
        } else {
            TRY(out_copy(c, slice_data(piece), part, piece.slab->flags));
            metric_add(METRIC_bytes_copied_total, part);
            chain_consume(from, part);
        }
        n -= part;
    }
    return ERR_OK;
}

enum err h2__out_data(struct h2_conn *c, struct h2_stream *s, size_t n, bool end)
{
    uint8_t head[H2__HEAD_LEN];

    h2__put_head(head, n, H2__DATA, end ? H2__FLAG_END_STREAM : 0, s->id);
    TRY(h2__out_control(c));
    TRY(out_copy(c, head, sizeof head, 0));
    return out_payload(c, &s->out, n);
}

void h2__out_settle(struct h2_conn *c)
{
    if (c->scratch != NULL && (c->scratch->refs == 1 || c->state != H2__OPEN)) {
        slab_drop(c->scratch);
        c->scratch = NULL;
    }
    if (c->control.len > 0)
        return;
    objects_free(&c->pool->objects, c->control.p);
    slab_pool_keep(c->pool, &c->control.counted, 0);
    c->control = (struct h2__control){0};
}

void h2__out_fini(struct h2_conn *c)
{
    c->control.len = 0;
    chain_fini(&c->out);
    if (c->scratch != NULL)
        slab_drop(c->scratch);
    c->scratch = NULL;
    h2__out_settle(c);
}
