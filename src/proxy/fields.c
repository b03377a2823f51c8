/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/fields.h"

#include <stdlib.h>

void fields_fini(struct fields *f)
{
    for (size_t i = 0; i < f->count; i++)
        free(f->chunks[i]);
    free(f->v);
    free(f->chunks);
    *f = (struct fields){0};
}

static enum err fields_reserve(struct fields *f)
{
    size_t cap = f->cap == 0 ? 16 : f->cap * 2;
    struct h2_field *v;
    char **chunks;

    if (f->count < f->cap)
        return ERR_OK;
    v = realloc(f->v, cap * sizeof *v);
    if (v == NULL)
        return ERR_NOMEM;
    f->v = v;
    chunks = realloc(f->chunks, cap * sizeof *chunks);
    if (chunks == NULL)
        return ERR_NOMEM;
    f->chunks = chunks;
    f->cap = cap;
    return ERR_OK;
}

enum err fields_add(struct fields *f, struct bytes name, struct bytes value)
{
    char *chunk;

    TRY(fields_reserve(f));
    chunk = malloc(name.n + value.n + 1);
    if (chunk == NULL)
        return ERR_NOMEM;
    memcpy(chunk, name.p, name.n);
    if (value.n > 0)
        memcpy(chunk + name.n, value.p, value.n);
    f->v[f->count] = (struct h2_field){bytes_of(chunk, name.n), bytes_of(chunk + name.n, value.n)};
    f->chunks[f->count++] = chunk;
    return ERR_OK;
}

enum err fields_add_str(struct fields *f, const char *name, const char *value)
{
    return fields_add(f, bytes_str(name), bytes_str(value));
}

struct h2_fields fields_view(const struct fields *f)
{
    return (struct h2_fields){f->v, f->count};
}

struct bytes fields_find(struct h2_fields h, const char *name)
{
    struct bytes want = bytes_str(name);

    for (size_t i = 0; i < h.count; i++)
        if (bytes_eq(h.v[i].name, want))
            return h.v[i].value;
    return bytes_of(NULL, 0);
}
