/* SPDX-License-Identifier: Apache-2.0 */
/* Decoding header blocks (RFC 7541). */
#include "h2/hpack.h"

#include "h2/h2_int.h"

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

enum err h2__hpack_in_init(struct h2__hpack_in *in, struct objects *mem)
{
    *in = (struct h2__hpack_in){.mem = mem};
    in->allocator = (nghttp2_mem){mem, mem_malloc, mem_free, mem_calloc, mem_realloc};
    if (nghttp2_hd_inflate_new2(&in->inflater, &in->allocator) == 0)
        return ERR_OK;
    in->mem = NULL;
    return ERR_NOMEM;
}

static void headers_clear(struct h2__hpack_in *in)
{
    for (size_t i = 0; i < in->headers.count; i++)
        objects_free(in->mem, (void *)(uintptr_t)in->headers.v[i].name.p);
    in->headers.count = 0;
}

void h2__hpack_in_fini(struct h2__hpack_in *in)
{
    if (in->mem == NULL)
        return;
    headers_clear(in);
    objects_free(in->mem, in->headers.v);
    nghttp2_hd_inflate_del(in->inflater);
    *in = (struct h2__hpack_in){0};
}

static enum err field_keep(struct h2__hpack_in *in, struct bytes name, struct bytes value)
{
    struct h2__headers *h = &in->headers;
    uint8_t *copy;

    if (h->count == h->cap) {
        size_t cap = h->cap == 0 ? 32 : h->cap * 2;
        struct h2_field *v = objects_realloc(in->mem, h->v, cap * sizeof *v);

        if (v == NULL)
            return ERR_NOMEM;
        h->v = v;
        h->cap = cap;
    }
    copy = objects_alloc(in->mem, name.n + value.n + 1);
    if (copy == NULL)
        return ERR_NOMEM;
    memcpy(copy, name.p, name.n);
    memcpy(copy + name.n, value.p, value.n);
    h->v[h->count++] = (struct h2_field){bytes_of(copy, name.n), bytes_of(copy + name.n, value.n)};
    return ERR_OK;
}

static enum err field_add(struct h2__hpack_in *in, struct bytes name, struct bytes value,
                          struct h2__hpack_limits limits)
{
    struct h2__headers *h = &in->headers;

    h->bytes += h2__field_size(name.n, value.n);
    if (h->bytes > limits.bytes || h->count >= limits.fields)
        h->is_over = true;
    if (h->is_over)
        return ERR_OK;
    h2__message_field(h, name, value);
    return field_keep(in, name, value);
}

enum err h2__hpack_decode(struct h2__hpack_in *in, struct bytes block, enum h2__block kind,
                          struct h2__hpack_limits limits, const struct h2__headers **out)
{
    int flags = 0;

    headers_clear(in);
    in->headers.bytes = 0;
    in->headers.is_over = false;
    h2__message_begin(&in->headers, kind);
    while ((flags & NGHTTP2_HD_INFLATE_FINAL) == 0) {
        nghttp2_nv nv;
        ssize_t n = nghttp2_hd_inflate_hd2(in->inflater, &nv, &flags, block.p, block.n, 1);

        if (n < 0)
            return n == NGHTTP2_ERR_NOMEM ? ERR_NOMEM : ERR_CLOSED;
        block.p += n;
        block.n -= (size_t)n;
        if ((flags & NGHTTP2_HD_INFLATE_EMIT) != 0)
            TRY(field_add(in, bytes_of(nv.name, nv.namelen), bytes_of(nv.value, nv.valuelen),
                          limits));
    }
    (void)nghttp2_hd_inflate_end_headers(in->inflater);
    *out = &in->headers;
    return ERR_OK;
}
