/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/fields.h"

void fields_fini(struct fields *f, struct objects *o)
{
    objects_free(o, f->v);
    *f = (struct fields){0};
}

enum err fields_copy(struct fields *f, struct objects *o, struct h2_fields h, fields_filter keep,
                     size_t extra, size_t extra_bytes)
{
    size_t bytes = extra_bytes;

    for (size_t i = 0; i < h.count; i++)
        bytes += h.v[i].name.n + h.v[i].value.n;
    f->cap = h.count + extra;
    f->v = objects_alloc(o, f->cap * sizeof *f->v + bytes);
    if (f->v == NULL)
        return ERR_NOMEM;
    f->count = 0;
    f->bytes = (uint8_t *)(f->v + f->cap);
    f->bytes_left = bytes;
    for (size_t i = 0; i < h.count; i++)
        if (keep == NULL || keep(h.v[i].name))
            fields_add(f, h.v[i].name, h.v[i].value);
    return ERR_OK;
}

static struct bytes put(struct fields *f, struct bytes b)
{
    uint8_t *to = f->bytes;

    CHECK(b.n <= f->bytes_left);
    if (b.n > 0)
        memcpy(to, b.p, b.n);
    f->bytes += b.n;
    f->bytes_left -= b.n;
    return bytes_of(to, b.n);
}

void fields_add(struct fields *f, struct bytes name, struct bytes value)
{
    fields_add_static(f, put(f, name), put(f, value));
}

void fields_add_static(struct fields *f, struct bytes name, struct bytes value)
{
    CHECK(f->count < f->cap);
    f->v[f->count++] = (struct h2_field){name, value};
}

struct h2_fields fields_view(const struct fields *f)
{
    return (struct h2_fields){f->v, f->count};
}

struct bytes fields_find(struct h2_fields h, struct bytes name)
{
    for (size_t i = 0; i < h.count; i++)
        if (bytes_eq(h.v[i].name, name))
            return h.v[i].value;
    return bytes_of(NULL, 0);
}
