/* SPDX-License-Identifier: Apache-2.0 */
/* Encoding field lists (RFC 7541), by nghttp2. */
#include "h2/hpack.h"

#define TABLE_MAX 4096u  /* RFC 9113 section 6.5.2: what a peer has before it says anything */
#define BUF_KEPT 4096u   /* buffers up to this size stay for the next block */
#define FIELDS_KEPT 128u /* and arrays */

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
    if (nghttp2_hd_deflate_new2(&o->deflater, TABLE_MAX, &o->allocator) == 0)
        return ERR_OK;
    o->mem = NULL;
    return ERR_NOMEM;
}

void h2__hpack_out_fini(struct h2__hpack_out *o)
{
    if (o->mem == NULL)
        return;
    objects_free(o->mem, o->nv);
    objects_free(o->mem, o->buf);
    nghttp2_hd_deflate_del(o->deflater);
    *o = (struct h2__hpack_out){0};
}

void h2__hpack_out_set_table_size(struct h2__hpack_out *o, uint32_t size)
{
    /* It only fails for want of memory, which making the table smaller does not need. */
    (void)nghttp2_hd_deflate_change_table_size(o->deflater, size);
}

static enum err nv_of(struct h2__hpack_out *o, struct h2_fields f)
{
    if (f.count > o->nv_cap || o->nv_cap > FIELDS_KEPT) {
        size_t cap = f.count < 32 ? 32 : f.count;
        nghttp2_nv *nv = objects_realloc(o->mem, o->nv, cap * sizeof *nv);

        if (nv == NULL)
            return ERR_NOMEM;
        o->nv = nv;
        o->nv_cap = cap;
    }
    for (size_t i = 0; i < f.count; i++) {
        const struct h2_field *from = &f.v[i];
        bool is_secret = bytes_eq(from->name, BYTES_LIT("authorization")) ||
                         bytes_eq(from->name, BYTES_LIT("token"));

        /* The cast: nghttp2 does not write to the bytes, but its type has no const. */
        o->nv[i] = (nghttp2_nv){(uint8_t *)(uintptr_t)from->name.p,
                                (uint8_t *)(uintptr_t)from->value.p, from->name.n, from->value.n,
                                is_secret ? NGHTTP2_NV_FLAG_NO_INDEX : NGHTTP2_NV_FLAG_NONE};
    }
    return ERR_OK;
}

enum err h2__hpack_encode(struct h2__hpack_out *o, struct h2_fields f, struct bytes *block)
{
    size_t bound;
    ssize_t n;

    TRY(nv_of(o, f));
    bound = nghttp2_hd_deflate_bound(o->deflater, o->nv, f.count);
    if (bound > o->buf_cap || o->buf_cap > BUF_KEPT) {
        uint8_t *p = objects_realloc(o->mem, o->buf, bound);

        if (p == NULL)
            return ERR_NOMEM;
        o->buf = p;
        o->buf_cap = bound;
    }
    n = nghttp2_hd_deflate_hd(o->deflater, o->buf, o->buf_cap, o->nv, f.count);
    if (n < 0)
        return ERR_NOMEM;
    *block = bytes_of(o->buf, (size_t)n);
    return ERR_OK;
}
