/* SPDX-License-Identifier: Apache-2.0 */
/* EncryptedObject (Kubernetes, kmsv2 api.proto) as Go's decoder reads and its encoder writes it:
 * any field order, the last of a repeated field wins, a known number with another wire type is
 * unknown, unknown fields are skipped, strings are UTF-8; written ascending, zero values left out.
 *
 * Errors come in the order of the bytes: Go stops at the first field that is wrong. */
#include "envelope/envelope_int.h"
#include "pb/pb.h"

enum {
    FIELD_DATA = 1,
    FIELD_KEY_ID = 2,
    FIELD_DEK_SOURCE = 3,
    FIELD_ANNOTATION = 4,
    FIELD_TYPE = 5
};
enum { ENTRY_KEY = 1, ENTRY_VALUE = 2 };

/* A bound on memory. Valid annotations have keys of at least 3 bytes ("a.b") and LIMIT_ANNOTATIONS
 * bytes in all, so more different ones are invalid whatever they say. But one key may be repeated
 * without end, so doubles are dropped before the bound applies. */
#define DIFFERENT_MAX (LIMIT_ANNOTATIONS / 3)
#define HELD_MAX (2 * DIFFERENT_MAX)

struct annotations {
    struct dek_annotation *v;
    uint32_t count, cap;
    struct arena *arena;
};

static enum err annotations_grow(struct annotations *as)
{
    uint32_t cap = as->cap == 0 ? 8 : as->cap * 2;
    struct dek_annotation *v;

    if (as->count == HELD_MAX) {
        TRY(dek_annotations_sort(as->v, &as->count));
        return as->count > DIFFERENT_MAX ? ERR_ANNOTATIONS_INVALID : ERR_OK;
    }
    if (cap > HELD_MAX)
        cap = HELD_MAX;
    v = arena_alloc(as->arena, cap * sizeof *v);
    if (v == NULL)
        return ERR_NOMEM;
    if (as->count > 0)
        memcpy(v, as->v, as->count * sizeof *v);
    as->v = v;
    as->cap = cap;
    return ERR_OK;
}

static enum err entry_parse(struct bytes in, struct dek_annotation *a)
{
    struct pb_span f;
    enum pb_result r;

    *a = (struct dek_annotation){0};
    while ((r = pb_span_next(&in, &f)) == PB_FIELD) {
        if (f.number == ENTRY_KEY && f.wire == PB_LEN) {
            if (!pb_utf8_valid(f.value))
                return ERR_INVALID_UTF8;
            a->key = f.value;
        } else if (f.number == ENTRY_VALUE && f.wire == PB_LEN) {
            a->value = f.value;
        }
    }
    return r == PB_END ? ERR_OK : ERR_PROTOBUF_MALFORMED;
}

static enum err annotation_add(struct annotations *as, struct bytes entry)
{
    struct dek_annotation a;

    TRY(entry_parse(entry, &a));
    if (as->count == as->cap)
        TRY(annotations_grow(as));
    as->v[as->count++] = a;
    return ERR_OK;
}

static enum err field_take(const struct pb_span *f, struct envelope__object *o,
                           struct annotations *as)
{
    /* An enum is the low 32 bits of its varint. */
    if (f->number == FIELD_TYPE && f->wire == PB_VARINT)
        o->id.type = (uint32_t)f->varint;
    if (f->wire != PB_LEN)
        return ERR_OK;
    switch (f->number) {
    case FIELD_DATA:
        o->has_data = true;
        o->data = f->value;
        return ERR_OK;
    case FIELD_KEY_ID:
        if (!pb_utf8_valid(f->value))
            return ERR_INVALID_UTF8;
        o->id.key_id = f->value;
        return ERR_OK;
    case FIELD_DEK_SOURCE:
        o->id.wrapped = f->value;
        return ERR_OK;
    case FIELD_ANNOTATION:
        return annotation_add(as, f->value);
    default:
        return ERR_OK;
    }
}

enum err envelope__object_parse(struct bytes in, struct arena *arena, struct envelope__object *out)
{
    struct annotations as = {.arena = arena};
    struct pb_span f;
    enum pb_result r;

    *out = (struct envelope__object){0};
    while ((r = pb_span_next(&in, &f)) == PB_FIELD)
        TRY(field_take(&f, out, &as));
    if (r != PB_END)
        return ERR_PROTOBUF_MALFORMED;
    TRY(dek_annotations_sort(as.v, &as.count));
    out->id.annotations = as.v;
    out->id.annotation_count = as.count;
    return ERR_OK;
}

static size_t field_len(size_t n)
{
    return 1 + pb_varint_len(n) + n;
}

/* Key and value are written also when they are empty. */
static size_t entry_len(const struct dek_annotation *a)
{
    return field_len(a->key.n) + field_len(a->value.n);
}

size_t envelope__object_tail_len(const struct dek_id *id)
{
    size_t n = 0;

    if (id->key_id.n > 0)
        n += field_len(id->key_id.n);
    if (id->wrapped.n > 0)
        n += field_len(id->wrapped.n);
    for (uint32_t i = 0; i < id->annotation_count; i++)
        n += field_len(entry_len(&id->annotations[i]));
    if (id->type != 0)
        n += 1 + pb_varint_len(id->type);
    return n;
}

static uint8_t *head_put(uint8_t *out, uint32_t number, size_t n)
{
    out += pb_put_varint(out, pb_tag(number, PB_LEN));
    return out + pb_put_varint(out, n);
}

/* Returns the end of what was written, *copy where the bytes of b now are. */
static uint8_t *field_put(uint8_t *out, uint32_t number, struct bytes b, struct bytes *copy)
{
    out = head_put(out, number, b.n);
    if (b.n > 0)
        memcpy(out, b.p, b.n);
    *copy = bytes_of(out, b.n);
    return out + b.n;
}

void envelope__object_tail_put(uint8_t *out, const struct dek_id *id, struct dek_id *into,
                               struct dek_annotation *annotations)
{
    *into = (struct dek_id){.type = id->type};
    if (id->key_id.n > 0)
        out = field_put(out, FIELD_KEY_ID, id->key_id, &into->key_id);
    if (id->wrapped.n > 0)
        out = field_put(out, FIELD_DEK_SOURCE, id->wrapped, &into->wrapped);
    for (uint32_t i = 0; i < id->annotation_count; i++) {
        const struct dek_annotation *a = &id->annotations[i];

        out = head_put(out, FIELD_ANNOTATION, entry_len(a));
        out = field_put(out, ENTRY_KEY, a->key, &annotations[i].key);
        out = field_put(out, ENTRY_VALUE, a->value, &annotations[i].value);
    }
    into->annotations = annotations;
    into->annotation_count = id->annotation_count;
    if (id->type != 0) {
        out += pb_put_varint(out, pb_tag(FIELD_TYPE, PB_VARINT));
        pb_put_varint(out, id->type);
    }
}
