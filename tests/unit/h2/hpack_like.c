/* SPDX-License-Identifier: Apache-2.0 */
/* Known differences:
 *  - a string of more than 64 KiB, as it is coded, is an error for nghttp2 and a string for us: the
 *    list's limit is for the owner to say, and a bearer token may be as long. */
#include "hpack_like.h"

#include <stdlib.h>

#include "h2/hpack_int.h"

#define STRING_MAX 65536u /* nghttp2's */

/* Two decoders of the same blocks, and what nghttp2 has decoded. */
struct pair {
    struct h2__hpack_in ours;
    nghttp2_hd_inflater *theirs;
    bool is_over;
    struct h2_field *v;
    size_t count;
};

struct hpack_like {
    struct objects mem;
    struct pair raw, ours, theirs; /* fed by: the test, our encoder, nghttp2's */
    struct h2__hpack_out out;
    nghttp2_hd_deflater *deflater;
    size_t blocks_known, lists_known;
};

static void pair_init(struct pair *p, struct objects *mem)
{
    *p = (struct pair){0};
    CHECK(h2__hpack_in_init(&p->ours, mem) == ERR_OK);
    CHECK(nghttp2_hd_inflate_new(&p->theirs) == 0);
}

static void pair_clear(struct pair *p)
{
    for (size_t i = 0; i < p->count; i++)
        free((void *)(uintptr_t)p->v[i].name.p);
    free(p->v);
    p->v = NULL;
    p->count = 0;
}

static void pair_fini(struct pair *p)
{
    pair_clear(p);
    h2__hpack_in_fini(&p->ours);
    nghttp2_hd_inflate_del(p->theirs);
}

static void pair_push(struct pair *p, const nghttp2_nv *nv)
{
    uint8_t *copy = malloc(nv->namelen + nv->valuelen + 1);

    CHECK(copy != NULL);
    if ((p->count & (p->count - 1)) == 0) {
        p->v = realloc(p->v, (p->count * 2 + 1) * sizeof *p->v);
        CHECK(p->v != NULL);
    }
    memcpy(copy, nv->name, nv->namelen);
    memcpy(copy + nv->namelen, nv->value, nv->valuelen);
    p->v[p->count++] =
        (struct h2_field){bytes_of(copy, nv->namelen), bytes_of(copy + nv->namelen, nv->valuelen)};
}

/* nghttp2's fields of the block. False: an error. */
static bool theirs_decode(struct pair *p, struct bytes block)
{
    int flags = 0;

    pair_clear(p);
    while ((flags & NGHTTP2_HD_INFLATE_FINAL) == 0) {
        nghttp2_nv nv;
        ssize_t n = nghttp2_hd_inflate_hd2(p->theirs, &nv, &flags, block.p, block.n, 1);

        if (n < 0)
            return false;
        block.p += n;
        block.n -= (size_t)n;
        if ((flags & NGHTTP2_HD_INFLATE_EMIT) != 0)
            pair_push(p, &nv);
    }
    CHECK(nghttp2_hd_inflate_end_headers(p->theirs) == 0);
    return true;
}

static bool field_eq(const struct h2_field *a, const struct h2_field *b)
{
    return bytes_eq(a->name, b->name) && bytes_eq(a->value, b->value);
}

/* Is h what the limits leave of nghttp2's fields, and message.c's verdict on them? */
static void check_list(const struct pair *p, const struct h2__headers *h,
                       struct h2__hpack_limits limits)
{
    struct h2__headers wanted = {0};
    size_t bytes = 0, kept = 0;
    bool is_over = false;

    h2__message_begin(&wanted, h->kind);
    for (size_t i = 0; i < p->count; i++) {
        bytes += p->v[i].name.n + p->v[i].value.n + 32;
        is_over = is_over || bytes > limits.bytes || i >= limits.fields;
        if (is_over)
            continue;
        CHECK(kept < h->count && field_eq(&h->v[kept], &p->v[i]));
        kept++;
        h2__message_field(&wanted, p->v[i].name, p->v[i].value);
    }
    CHECK(h->count == kept && h->is_over == is_over && h->bytes == bytes);
    CHECK(h->is_malformed == wanted.is_malformed);
}

/* The dynamic tables are the same, field by field, and within their bounds. */
static void check_tables(const struct pair *p)
{
    const struct h2__hpack_table *t = &p->ours.table;
    size_t size = 0;

    CHECK(t->count == nghttp2_hd_inflate_get_num_table_entries(p->theirs) - H2__HPACK_STATIC);
    CHECK(t->size == nghttp2_hd_inflate_get_dynamic_table_size(p->theirs) && t->size <= t->max);
    CHECK(t->max == nghttp2_hd_inflate_get_max_dynamic_table_size(p->theirs));
    for (uint32_t i = 0; i < t->count; i++) {
        const nghttp2_nv *nv =
            nghttp2_hd_inflate_get_table_entry(p->theirs, i + 1 + H2__HPACK_STATIC);
        struct h2__hpack_item item = {0};

        CHECK(h2__hpack_lookup(t, i + 1 + H2__HPACK_STATIC, &item));
        CHECK(bytes_eq(item.field.name, bytes_of(nv->name, nv->namelen)) &&
              bytes_eq(item.field.value, bytes_of(nv->value, nv->valuelen)));
        CHECK(item.class ==
              (h2__message_name(item.field.name) | h2__message_value(item.field.value)));
        size += h2__field_size(nv->namelen, nv->valuelen);
    }
    CHECK(size == t->size);
}

static bool pair_feed(struct hpack_like *l, struct pair *p, struct bytes block, enum h2__block kind,
                      struct h2__hpack_limits limits)
{
    uint8_t *copy = malloc(block.n > 0 ? block.n : 1); /* gone before the list is */
    const struct h2__headers *h;
    enum err e;
    bool is_good;

    CHECK(copy != NULL);
    if (block.n > 0)
        memcpy(copy, block.p, block.n);
    is_good = theirs_decode(p, bytes_of(copy, block.n));
    e = h2__hpack_decode(&p->ours, bytes_of(copy, block.n), kind, limits, &h);
    free(copy);
    CHECK(e == ERR_OK || e == ERR_CLOSED);
    CHECK(is_good == (e == ERR_OK) || block.n > STRING_MAX);
    p->is_over = !is_good || e != ERR_OK;
    if (p->is_over)
        return false;
    l->blocks_known += h != &p->ours.headers;
    CHECK(h->kind == kind);
    check_list(p, h, limits);
    check_tables(p);
    return true;
}

bool hpack_like_decode(struct hpack_like *l, struct bytes block, unsigned kind, size_t bytes_max,
                       size_t fields_max)
{
    struct h2__hpack_limits limits = {bytes_max, fields_max};

    CHECK(kind < HPACK_LIKE_KINDS);
    return !l->raw.is_over && pair_feed(l, &l->raw, block, (enum h2__block)kind, limits);
}

/* What was encoded has come out; a grpc-timeout that is short and the only one is last. */
static void check_order(const struct pair *p, struct h2_fields f)
{
    size_t timeout = f.count, timeouts = 0;

    CHECK(p->count == f.count);
    for (size_t i = 0; i < f.count; i++) {
        if (!bytes_eq(f.v[i].name, BYTES_LIT("grpc-timeout")))
            continue;
        timeouts++;
        timeout = i;
    }
    if (timeouts != 1 || f.v[timeout].value.n > 40)
        timeout = f.count;
    for (size_t i = 0, k = 0; i < f.count; i++)
        CHECK(field_eq(&f.v[i], &p->v[i == timeout ? f.count - 1 : k++]));
}

static bool is_list_of(const struct hpack_like *l, struct bytes block)
{
    return block.p < l->out.buf || block.p >= l->out.buf + l->out.buf_cap;
}

void hpack_like_encode(struct hpack_like *l, struct h2_fields f)
{
    struct h2__hpack_limits none = {SIZE_MAX, SIZE_MAX};
    struct bytes block;

    CHECK(h2__hpack_encode(&l->out, f, &block) == ERR_OK);
    l->lists_known += is_list_of(l, block);
    CHECK(pair_feed(l, &l->ours, block, H2__REQUEST, none));
    check_order(&l->ours, f);
}

void hpack_like_deflate(struct hpack_like *l, struct h2_fields f, uint32_t is_never)
{
    nghttp2_nv *nv = calloc(f.count + 1, sizeof *nv);
    struct h2__hpack_limits none = {SIZE_MAX, SIZE_MAX};
    size_t cap;
    uint8_t *buf;
    ssize_t n;

    CHECK(nv != NULL);
    for (size_t i = 0; i < f.count; i++) {
        nv[i] =
            (nghttp2_nv){(uint8_t *)(uintptr_t)f.v[i].name.p, (uint8_t *)(uintptr_t)f.v[i].value.p,
                         f.v[i].name.n, f.v[i].value.n, NGHTTP2_NV_FLAG_NONE};
        if (i < 32 && (is_never >> i & 1) != 0)
            nv[i].flags = NGHTTP2_NV_FLAG_NO_INDEX;
    }
    cap = nghttp2_hd_deflate_bound(l->deflater, nv, f.count);
    buf = malloc(cap);
    CHECK(buf != NULL);
    n = nghttp2_hd_deflate_hd(l->deflater, buf, cap, nv, f.count);
    CHECK(n >= 0);
    CHECK(pair_feed(l, &l->theirs, bytes_of(buf, (size_t)n), H2__REQUEST, none));
    CHECK(l->theirs.count == f.count);
    for (size_t i = 0; i < f.count; i++)
        CHECK(field_eq(&f.v[i], &l->theirs.v[i]));
    free(buf);
    free(nv);
}

void hpack_like_resize(struct hpack_like *l, uint32_t size)
{
    h2__hpack_out_set_table_size(&l->out, size);
    CHECK(nghttp2_hd_deflate_change_table_size(l->deflater, size) == 0);
}

size_t hpack_like_blocks_known(const struct hpack_like *l)
{
    return l->blocks_known;
}

size_t hpack_like_lists_known(const struct hpack_like *l)
{
    return l->lists_known;
}

struct hpack_like *hpack_like_new(void)
{
    struct hpack_like *l = calloc(1, sizeof *l);

    CHECK(l != NULL);
    pair_init(&l->raw, &l->mem);
    pair_init(&l->ours, &l->mem);
    pair_init(&l->theirs, &l->mem);
    CHECK(h2__hpack_out_init(&l->out, &l->mem) == ERR_OK);
    CHECK(nghttp2_hd_deflate_new(&l->deflater, H2__HPACK_TABLE) == 0);
    return l;
}

void hpack_like_free(struct hpack_like *l)
{
    pair_fini(&l->raw);
    pair_fini(&l->ours);
    pair_fini(&l->theirs);
    h2__hpack_out_fini(&l->out);
    nghttp2_hd_deflate_del(l->deflater);
    objects_fini(&l->mem); /* every object came back */
    free(l);
}
