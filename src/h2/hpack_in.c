/* SPDX-License-Identifier: Apache-2.0 */
/* Decoding header blocks (RFC 7541 sections 3, 5 and 6).
 *
 * A block is a few size updates, then fields. A field is a reference to the tables, or a literal,
 * whose name may be a reference; literals are decoded into text, or into the entry that they make.
 * So fields point into the tables, into text, or into the memo of a block that came before.
 *
 * Errors of the peer (RFC 7541 section 2.3.3, 4.2, 5 and 6.1): an index that is not there, an
 * integer out of bounds, a string that is cut or badly coded, a size update behind a field or above
 * what our SETTINGS allow. Everything else is a field list. */
#include "base/secret.h"
#include "h2/hpack_int.h"

#define FIELDS_FIRST 16u
#define FIELDS_KEPT 128u /* arrays up to this size stay for the next list */
#define TEXT_KEPT 2048u  /* and room for literals */

struct decoding {
    struct h2__hpack_in *in;
    const uint8_t *p, *end;
    struct h2__hpack_limits limits;
    bool is_pure;  /* may be remembered: it has changed no table, and has no credential */
    bool has_room; /* text has room for all literals of the block */
};

enum err h2__hpack_in_init(struct h2__hpack_in *in, struct objects *mem)
{
    *in = (struct h2__hpack_in){.mem = mem};
    h2__hpack_table_init(&in->table, mem);
    return ERR_OK;
}

void h2__hpack_release(struct h2__hpack_in *in)
{
    h2__hpack_bury(&in->table);
    in->headers.count = 0;
    if (in->headers.cap > FIELDS_KEPT) {
        objects_free(in->mem, in->headers.v);
        in->headers.v = NULL;
        in->headers.cap = 0;
    }
    if (in->has_secret && in->text_len > 0)
        secret_wipe(in->text, in->text_len);
    in->has_secret = false;
    in->text_len = 0;
    if (in->text_cap > TEXT_KEPT) {
        objects_free(in->mem, in->text);
        in->text = NULL;
        in->text_cap = 0;
    }
}

void h2__hpack_in_fini(struct h2__hpack_in *in)
{
    if (in->mem == NULL)
        return;
    h2__hpack_release(in);
    h2__hpack_memo_fini(in);
    h2__hpack_table_fini(&in->table);
    objects_free(in->mem, in->headers.v);
    objects_free(in->mem, in->text);
    *in = (struct h2__hpack_in){0};
}

/* ------------------------------------------------------------------------ the field list */

NEVER_INLINE static enum err fields_grow(struct h2__hpack_in *in)
{
    struct h2__headers *h = &in->headers;
    size_t cap = h->cap == 0 ? FIELDS_FIRST : h->cap * 2;
    struct h2_field *v = objects_realloc(in->mem, h->v, cap * sizeof *v);

    if (v == NULL)
        return ERR_NOMEM;
    h->v = v;
    h->cap = cap;
    return ERR_OK;
}

static enum err field_add(struct decoding *d, const struct h2__hpack_item *item)
{
    struct h2__headers *h = &d->in->headers;

    h->bytes += h2__field_size(item->field.name.n, item->field.value.n);
    if (h->is_over)
        return ERR_OK;
    if (h->bytes > d->limits.bytes || h->count >= d->limits.fields) {
        h->is_over = true;
        return ERR_OK;
    }
    if (h->count == h->cap)
        TRY(fields_grow(d->in));
    h->v[h->count++] = item->field;
    if (item->entry != NULL)
        item->entry->lent = d->in->table.block;
    h2__message_class(h, item->class);
    return ERR_OK;
}

/* ------------------------------------------------------------------------ parts of a field */

bool h2__hpack_int_long(const uint8_t **p, const uint8_t *end, uint32_t *n)
{
    uint64_t sum = *n;

    for (unsigned shift = 0; shift <= 28; shift += 7) {
        uint8_t b;

        if (*p == end)
            return false;
        b = *(*p)++;
        sum += (uint64_t)(b & 0x7f) << shift;
        if (sum > UINT32_MAX)
            return false;
        if ((b & 0x80) == 0) {
            *n = (uint32_t)sum;
            return true;
        }
    }
    return false;
}

/* Room in text for whatever the rest of the block may have in literals: so text never moves while
 * fields point into it. */
static enum err text_reserve(struct decoding *d)
{
    struct h2__hpack_in *in = d->in;
    size_t need = (size_t)(d->end - d->p) * 8 / 5;

    d->has_room = true;
    if (need <= in->text_cap)
        return ERR_OK;
    objects_free(in->mem, in->text);
    in->text = objects_alloc(in->mem, need);
    in->text_cap = in->text == NULL ? 0 : need;
    return in->text == NULL ? ERR_NOMEM : ERR_OK;
}

/* A string literal (section 5.2), into text. */
static enum err take_string(struct decoding *d, struct bytes *out)
{
    bool is_coded;
    uint32_t n;

    if (d->p == d->end)
        return ERR_CLOSED;
    if (!d->has_room)
        TRY(text_reserve(d));
    is_coded = (*d->p & 0x80) != 0;
    if (!h2__hpack_int(&d->p, d->end, 7, &n) || n > (size_t)(d->end - d->p))
        return ERR_CLOSED;
    out->p = d->in->text + d->in->text_len;
    out->n = n;
    if (!is_coded)
        memcpy(d->in->text + d->in->text_len, d->p, n);
    else if (!h2__huffman_decode(bytes_of(d->p, n), d->in->text + d->in->text_len, &out->n))
        return ERR_CLOSED;
    d->p += n;
    d->in->text_len += out->n;
    return ERR_OK;
}

/* Name, by index or as a literal, and value. */
static enum err take_literal(struct decoding *d, unsigned bits, struct h2__hpack_item *item)
{
    uint32_t index;

    if (!h2__hpack_int(&d->p, d->end, bits, &index))
        return ERR_CLOSED;
    if (index != 0) {
        if (!h2__hpack_lookup(&d->in->table, index, item))
            return ERR_CLOSED;
        item->class &= ~(unsigned)H2__BAD_VALUE; /* that was of the entry's own value */
    } else {
        item->entry = NULL;
        TRY(take_string(d, &item->field.name));
        item->class = h2__message_name(item->field.name);
    }
    TRY(take_string(d, &item->field.value));
    item->class |= h2__message_value(item->field.value);
    if ((item->class & H2__IS_SECRET) != 0)
        d->in->has_secret = true;
    return ERR_OK;
}

/* ------------------------------------------------------------------------ representations */

/* Section 6.1. */
static enum err indexed(struct decoding *d)
{
    NOT_CLEARED struct h2__hpack_item item;
    uint32_t index;

    if (!h2__hpack_int(&d->p, d->end, 7, &index) || !h2__hpack_lookup(&d->in->table, index, &item))
        return ERR_CLOSED;
    return field_add(d, &item);
}

/* Section 6.2.1. */
static enum err inserted(struct decoding *d)
{
    struct h2__hpack_table *t = &d->in->table;
    struct h2__hpack_entry *e;
    NOT_CLEARED struct h2__hpack_item item;
    size_t text_len = d->in->text_len;

    d->is_pure = false;
    TRY(take_literal(d, 6, &item));
    /* What does not fit empties the table; the field's name may lie there. */
    if (item.entry != NULL && h2__field_size(item.field.name.n, item.field.value.n) > t->max)
        item.entry->lent = t->block;
    TRY(h2__hpack_insert(t, item.field, item.class, &e));
    item.entry = NULL;
    if (e == NULL)
        return field_add(d, &item);
    item = h2__hpack_item_of(e);
    if (!d->in->has_secret)
        d->in->text_len = text_len;
    return field_add(d, &item);
}

/* Sections 6.2.2 and 6.2.3: without indexing, never indexed. */
static enum err literal(struct decoding *d, bool is_never)
{
    NOT_CLEARED struct h2__hpack_item item;

    TRY(take_literal(d, 4, &item));
    if (is_never || (item.class & H2__IS_SECRET) != 0)
        d->is_pure = false;
    return field_add(d, &item);
}

/* Section 6.3: only where a block begins (section 4.2). */
static enum err take_updates(struct decoding *d)
{
    while (d->p < d->end && (*d->p & 0xe0) == 0x20) {
        uint32_t max;

        if (!h2__hpack_int(&d->p, d->end, 5, &max) || max > H2__HPACK_TABLE)
            return ERR_CLOSED;
        h2__hpack_resize(&d->in->table, max);
        d->is_pure = false;
    }
    return ERR_OK;
}

static enum err take_fields(struct decoding *d)
{
    while (d->p < d->end) {
        uint8_t b = *d->p;

        if ((b & 0x80) != 0)
            TRY(indexed(d));
        else if ((b & 0x40) != 0)
            TRY(inserted(d));
        else if ((b & 0x20) != 0)
            return ERR_CLOSED;
        else
            TRY(literal(d, (b & 0x10) != 0));
    }
    return ERR_OK;
}

/* A block that is not known. */
NEVER_INLINE static enum err decode(struct decoding *d, struct bytes block, enum h2__block kind)
{
    struct h2__hpack_in *in = d->in;

    in->headers.bytes = 0;
    in->headers.is_over = false;
    h2__message_begin(&in->headers, kind);
    in->is_broken = true;
    TRY(take_updates(d));
    TRY(take_fields(d));
    in->is_broken = false;
    if (d->is_pure && !in->headers.is_over)
        h2__hpack_memo_keep(in, block);
    return ERR_OK;
}

enum err h2__hpack_decode(struct h2__hpack_in *in, struct bytes block, enum h2__block kind,
                          struct h2__hpack_limits limits, const struct h2__headers **out)
{
    const uint8_t *end = block.n == 0 ? block.p : block.p + block.n; /* p may be NULL then */
    struct decoding d = {in, block.p, end, limits, true, false};

    if (in->is_broken)
        return ERR_CLOSED;
    h2__hpack_release(in);
    *out = h2__hpack_memo_find(in, block, kind, limits);
    if (*out != NULL)
        return ERR_OK;
    *out = &in->headers;
    return decode(&d, block, kind);
}
