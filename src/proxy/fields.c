/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/fields.h"

void fields_fini(struct fields *f, struct objects *o)
{
    objects_free(o, f->v);
    *f = (struct fields){0};
}

/* --- names ----------------------------------------------------------------------------------- */

enum name {
    NAME_OTHER,
    NAME_METHOD,
    NAME_PATH,
    NAME_AUTHORITY,
    NAME_STATUS,
    NAME_PSEUDO, /* any other */
    NAME_CONTENT_TYPE,
    NAME_ENCODING,
    NAME_TIMEOUT,
    NAME_GRPC_STATUS,
    NAME_OWN, /* ends at a proxy */
};

/* The length is known where this is used, so that it is no call of memcmp. */
#define IS(name, text) bytes_eq(name, BYTES_LIT(text))

static enum name pseudo_of(struct bytes n)
{
    switch (n.n) {
    case 5:
        return IS(n, ":path") ? NAME_PATH : NAME_PSEUDO;
    case 7:
        return IS(n, ":method") ? NAME_METHOD : IS(n, ":status") ? NAME_STATUS : NAME_PSEUDO;
    case 10:
        return IS(n, ":authority") ? NAME_AUTHORITY : NAME_PSEUDO;
    default:
        return NAME_PSEUDO;
    }
}

static enum name own_if(bool is_own)
{
    return is_own ? NAME_OWN : NAME_OTHER;
}

static enum name name_of(struct bytes n)
{
    if (n.n == 0)
        return NAME_OWN;
    if (n.p[0] == ':')
        return pseudo_of(n);
    switch (n.n) { /* most names fit no case, and are not compared at all */
    case 2:
        return own_if(IS(n, "te"));
    case 4:
        return own_if(IS(n, "host"));
    case 6:
        return own_if(IS(n, "expect"));
    case 7:
        return own_if(IS(n, "upgrade"));
    case 10:
        return own_if(IS(n, "connection") || IS(n, "keep-alive"));
    case 11:
        return IS(n, "grpc-status") ? NAME_GRPC_STATUS : NAME_OTHER;
    case 12:
        return IS(n, "content-type")   ? NAME_CONTENT_TYPE
               : IS(n, "grpc-timeout") ? NAME_TIMEOUT
                                       : NAME_OTHER;
    case 13:
        return IS(n, "grpc-encoding") ? NAME_ENCODING : NAME_OTHER;
    case 14:
        return own_if(IS(n, "content-length") || IS(n, "http2-settings"));
    case 16:
        return own_if(IS(n, "proxy-connection"));
    case 17:
        return own_if(IS(n, "transfer-encoding"));
    case 20:
        return own_if(IS(n, "grpc-accept-encoding"));
    default:
        return NAME_OTHER;
    }
}

void fields_look(struct h2_fields h, struct fields_head *out)
{
    struct bytes first[NAME_OWN + 1] = {{NULL, 0}};

    size_t statuses = 0;

    for (size_t i = 0; i < h.count; i++) {
        enum name n = name_of(h.v[i].name);
        struct bytes *at = &first[n];

        statuses += n == NAME_GRPC_STATUS;
        if (at->p == NULL)
            *at = h.v[i].value;
    }
    *out = (struct fields_head){.method = first[NAME_METHOD],
                                .path = first[NAME_PATH],
                                .authority = first[NAME_AUTHORITY],
                                .status = first[NAME_STATUS],
                                .content_type = first[NAME_CONTENT_TYPE],
                                .encoding = first[NAME_ENCODING],
                                .timeout = first[NAME_TIMEOUT],
                                .grpc_status = first[NAME_GRPC_STATUS],
                                .grpc_status_count = statuses};
}

bool fields_is_passed(struct bytes name)
{
    enum name n = name_of(name);

    return n == NAME_OTHER || n == NAME_GRPC_STATUS;
}

/* --- copies ---------------------------------------------------------------------------------- */

enum err fields_new(struct fields *f, struct objects *o, size_t count, size_t bytes)
{
    f->v = objects_alloc(o, count * sizeof *f->v + bytes);
    if (f->v == NULL)
        return ERR_NOMEM;
    f->cap = count;
    f->size = count * sizeof *f->v + bytes;
    f->count = 0;
    f->bytes = (uint8_t *)(f->v + count);
    f->bytes_left = bytes;
    return ERR_OK;
}

size_t fields_bytes(struct h2_fields h)
{
    size_t n = 0;

    for (size_t i = 0; i < h.count; i++)
        n += h.v[i].name.n + h.v[i].value.n;
    return n;
}

void fields_add_passed(struct fields *f, struct h2_fields h)
{
    for (size_t i = 0; i < h.count; i++)
        if (fields_is_passed(h.v[i].name))
            fields_add(f, h.v[i].name, h.v[i].value);
}

enum err fields_copy(struct fields *f, struct objects *o, struct h2_fields h)
{
    TRY(fields_new(f, o, h.count, fields_bytes(h)));
    fields_add_passed(f, h);
    return ERR_OK;
}

static struct bytes put(struct fields *f, struct bytes b)
{
    uint8_t *to = f->bytes;

    CHECK(b.n <= f->bytes_left);
    f->bytes = bytes_put(to, b);
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

struct h2_fields fields_take(struct fields *f)
{
    struct h2_fields v = fields_view(f);

    *f = (struct fields){0};
    return v;
}
