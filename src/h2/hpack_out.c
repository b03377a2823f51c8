/* SPDX-License-Identifier: Apache-2.0 */
/* Encoding field lists (RFC 7541). nghttp2 does it, and has the table; we remember what it made.
 *
 * 1. grpc-timeout is taken off the list: it is new in each call, and would push everything else out
 *    of the table. It goes behind the block as a literal without indexing (section 6.2.2).
 * 2. A list that was encoded before, byte for byte, and inserted nothing into the table, is the
 *    same block again as long as nothing has changed the table since: hpack_lists.c.
 * 3. Everything else is encoded by nghttp2. Credentials are never indexed (section 7.1.3), and a
 *    list that has any is not remembered.
 *
 * Failure modes: no memory for a block: ERR_NOMEM; for remembering it: it is not remembered. */
#include "base/secret.h"
#include "h2/hpack_int.h"

#define BUF_KEPT 2048u   /* buffers up to this size stay for the next block */
#define FIELDS_KEPT 128u /* and arrays */

_Static_assert(2 + sizeof H2__TIMEOUT - 1 + 1 + H2__TIMEOUT_MAX <= H2__TIMEOUT_ROOM, "it has room");

/* What a look at a list finds that is not remembered. */
struct look {
    size_t timeout; /* index of what is taken off; the list's count: nothing */
    bool has_secret;
    bool may_keep;
};

static void *mem_malloc(size_t n, void *user)
{
    return objects_alloc(user, n);
}

static void mem_free(void *p, void *user)
{
    objects_free(user, p);
}

static void *mem_calloc(size_t count, size_t n, void *user)
{
    return objects_calloc(user, count, n);
}

static void *mem_realloc(void *p, size_t n, void *user)
{
    return objects_realloc(user, p, n);
}

enum err h2__hpack_out_init(struct h2__hpack_out *o, struct objects *mem)
{
    *o = (struct h2__hpack_out){.mem = mem};
    o->allocator = (nghttp2_mem){mem, mem_malloc, mem_free, mem_calloc, mem_realloc};
    if (nghttp2_hd_deflate_new2(&o->deflater, H2__HPACK_TABLE, &o->allocator) == 0)
        return ERR_OK;
    o->mem = NULL;
    return ERR_NOMEM;
}

/* Before the next block. */
static void buf_clear(struct h2__hpack_out *o)
{
    if (o->has_secret && o->buf != NULL)
        secret_wipe(o->buf, o->buf_len);
    o->has_secret = false;
    o->buf_len = 0;
    if (o->buf_cap > BUF_KEPT) {
        objects_free(o->mem, o->buf);
        o->buf = NULL;
        o->buf_cap = 0;
    }
    if (o->nv_cap > FIELDS_KEPT) {
        objects_free(o->mem, o->nv);
        o->nv = NULL;
        o->nv_cap = 0;
    }
}

void h2__hpack_out_fini(struct h2__hpack_out *o)
{
    if (o->mem == NULL)
        return;
    buf_clear(o);
    for (size_t i = 0; i < H2__HPACK_LISTS; i++)
        objects_free(o->mem, o->lists[i]);
    objects_free(o->mem, o->nv);
    objects_free(o->mem, o->buf);
    nghttp2_hd_deflate_del(o->deflater);
    *o = (struct h2__hpack_out){0};
}

void h2__hpack_out_set_table_size(struct h2__hpack_out *o, uint32_t size)
{
    /* Making the table smaller needs no memory, and larger than at first it is never made. */
    CHECK(nghttp2_hd_deflate_change_table_size(o->deflater, size) == 0);
    o->generation++; /* the next block has to begin with a size update */
}

/* Of several grpc-timeouts none is taken off: their order may matter. */
static struct look look_at(struct h2_fields f)
{
    struct look l = {.timeout = f.count};
    size_t timeouts = 0;

    for (size_t i = 0; i < f.count; i++) {
        if (bytes_eq(f.v[i].name, BYTES_LIT(H2__TIMEOUT))) {
            timeouts++;
            l.timeout = i;
        }
        if (h2__message_is_secret(f.v[i].name))
            l.has_secret = true;
    }
    if (timeouts != 1 || !h2__hpack_is_timeout(&f.v[l.timeout]))
        l.timeout = f.count;
    l.may_keep = !l.has_secret && timeouts == (l.timeout < f.count);
    return l;
}

/* Writes f's timeout behind a block, where room is. */
static struct bytes with_timeout(uint8_t *block, size_t n, struct h2_fields f, size_t timeout)
{
    uint8_t *to = block + n;

    if (timeout < f.count) {
        struct bytes value = f.v[timeout].value;

        *to++ = 0; /* without indexing, with a literal name */
        *to++ = sizeof H2__TIMEOUT - 1;
        memcpy(to, H2__TIMEOUT, sizeof H2__TIMEOUT - 1);
        to += sizeof H2__TIMEOUT - 1;
        *to++ = (uint8_t)value.n;
        if (value.n > 0)
            memcpy(to, value.p, value.n);
        to += value.n;
    }
    return bytes_of(block, (size_t)(to - block));
}

static enum err nv_of(struct h2__hpack_out *o, struct h2_fields f, size_t timeout)
{
    size_t k = 0;

    if (f.count > o->nv_cap) {
        size_t cap = f.count < 16 ? 16 : f.count;

        objects_free(o->mem, o->nv);
        o->nv = objects_alloc(o->mem, cap * sizeof *o->nv);
        o->nv_cap = o->nv == NULL ? 0 : cap;
        if (o->nv == NULL)
            return ERR_NOMEM;
    }
    for (size_t i = 0; i < f.count; i++) {
        const struct h2_field *from = &f.v[i];

        if (i == timeout)
            continue;
        /* The casts: nghttp2 does not write to the bytes, but its type has no const. */
        o->nv[k++] = (nghttp2_nv){(uint8_t *)(uintptr_t)from->name.p,
                                  (uint8_t *)(uintptr_t)from->value.p, from->name.n, from->value.n,
                                  h2__message_is_secret(from->name) ? NGHTTP2_NV_FLAG_NO_INDEX
                                                                    : NGHTTP2_NV_FLAG_NONE};
    }
    return ERR_OK;
}

static enum err deflate(struct h2__hpack_out *o, size_t count)
{
    size_t bound = nghttp2_hd_deflate_bound(o->deflater, o->nv, count) + H2__TIMEOUT_ROOM;
    ssize_t n;

    if (bound > o->buf_cap) {
        objects_free(o->mem, o->buf);
        o->buf = objects_alloc(o->mem, bound);
        o->buf_cap = o->buf == NULL ? 0 : bound;
        if (o->buf == NULL)
            return ERR_NOMEM;
    }
    n = nghttp2_hd_deflate_hd(o->deflater, o->buf, o->buf_cap, o->nv, count);
    o->buf_len = n < 0 ? o->buf_cap : (size_t)n; /* what is to be wiped */
    return n < 0 ? ERR_NOMEM : ERR_OK;
}

/* Moves behind a string that nghttp2 has written. */
static void skip_string(const uint8_t **p, const uint8_t *end)
{
    uint32_t n;

    CHECK(h2__hpack_int(p, end, 7, &n) && n <= (size_t)(end - *p));
    *p += n;
}

/* Does the block of nghttp2's leave the table as it was? */
static bool is_pure(struct bytes block)
{
    const uint8_t *p = block.p, *end = p + block.n;

    while (p < end) {
        bool is_indexed = (*p & 0x80) != 0;
        uint32_t index;

        if (!is_indexed && (*p & 0x60) != 0) /* an insertion or a size update */
            return false;
        CHECK(h2__hpack_int(&p, end, is_indexed ? 7 : 4, &index));
        if (is_indexed)
            continue;
        if (index == 0)
            skip_string(&p, end);
        skip_string(&p, end);
    }
    return true;
}

/* A list that is not known. */
NEVER_INLINE static enum err encode(struct h2__hpack_out *o, struct h2_fields f,
                                    struct bytes *block)
{
    struct look l = look_at(f);

    buf_clear(o);
    TRY(nv_of(o, f, l.timeout));
    o->has_secret = l.has_secret;
    TRY(deflate(o, f.count - (l.timeout < f.count)));
    if (!is_pure(bytes_of(o->buf, o->buf_len)))
        o->generation++;
    else if (l.may_keep)
        h2__hpack_list_keep(o, f, l.timeout);
    *block = with_timeout(o->buf, o->buf_len, f, l.timeout);
    return ERR_OK;
}

enum err h2__hpack_encode(struct h2__hpack_out *o, struct h2_fields f, struct bytes *block)
{
    size_t timeout;
    const struct h2__hpack_list *known = h2__hpack_list_find(o, f, &timeout);

    if (known == NULL)
        return encode(o, f, block);
    *block = with_timeout(known->block, known->block_len, f, timeout);
    return ERR_OK;
}
