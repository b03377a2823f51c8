/* SPDX-License-Identifier: Apache-2.0 */
#include "build_db.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEADER 16u

void db_put_u32(uint8_t *p, uint32_t v)
{
    for (unsigned i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> 8 * i);
}

void db_put_u64(uint8_t *p, uint64_t v)
{
    db_put_u32(p, (uint32_t)v);
    db_put_u32(p + 4, (uint32_t)(v >> 32));
}

static void put_big(uint8_t *p, uint64_t v)
{
    for (unsigned i = 0; i < 8; i++)
        p[i] = (uint8_t)(v >> (56 - 8 * i));
}

/* --- values ----------------------------------------------------------------------------------- */

static size_t put_varint(uint8_t *p, uint64_t v)
{
    size_t n = 0;

    for (; v >= 0x80; v >>= 7)
        p[n++] = (uint8_t)(v | 0x80);
    p[n++] = (uint8_t)v;
    return n;
}

static size_t put_field(uint8_t *p, uint8_t tag, const void *v, size_t len)
{
    size_t n = 0;

    p[n++] = tag;
    n += put_varint(p + n, len);
    memcpy(p + n, v, len);
    return n + len;
}

size_t db_kv(const struct db_record *r, uint8_t *out)
{
    size_t n = put_field(out, 0x0a, r->key, strlen(r->key));

    if (r->is_deleted)
        return n;
    out[n++] = 0x10;
    n += put_varint(out + n, (uint64_t)r->revision);
    out[n++] = 0x18;
    n += put_varint(out + n, (uint64_t)r->revision);
    out[n++] = 0x20;
    out[n++] = 1;
    out[n++] = 0x2a;
    n += put_varint(out + n, r->value_len);
    memset(out + n, r->fill, r->value_len);
    return n + r->value_len;
}

static size_t put_name(const struct db_record *r, uint8_t out[static 18])
{
    put_big(out, (uint64_t)r->revision);
    out[8] = '_';
    put_big(out + 9, (uint64_t)r->sub);
    out[17] = 't';
    return r->is_deleted ? 18 : 17;
}

/* --- pages ------------------------------------------------------------------------------------ */

static uint8_t *grow(struct db *db, size_t n)
{
    while (db->n + n > db->cap) {
        db->cap = db->cap == 0 ? 1u << 16 : db->cap * 2;
        db->p = realloc(db->p, db->cap);
        assert_non_null(db->p);
    }
    memset(db->p + db->n, 0, n);
    db->n += n;
    return db->p + db->n - n;
}

static void put_header(uint8_t *p, uint64_t page, unsigned kind, unsigned count, uint32_t overflow)
{
    db_put_u64(p, page);
    p[8] = (uint8_t)kind;
    p[10] = (uint8_t)count;
    p[11] = (uint8_t)(count >> 8);
    db_put_u32(p + 12, overflow);
}

/* A page that is being written: its elements, and behind them their names and values. */
struct draft {
    uint8_t *p;
    size_t len, data_at;
    unsigned at, kind, count;
};

static void draft_begin(struct draft *d, unsigned kind, unsigned count, size_t data_len)
{
    *d = (struct draft){.kind = kind, .count = count, .data_at = HEADER + count * 16};
    d->len = d->data_at + data_len;
    d->p = calloc(1, d->len);
    assert_non_null(d->p);
}

static void draft_data(struct draft *d, const void *v, size_t n)
{
    assert_true(n <= d->len - d->data_at);
    memcpy(d->p + d->data_at, v, n);
    d->data_at += n;
}

static void draft_leaf(struct draft *d, uint32_t flags, struct bytes name, struct bytes value)
{
    uint8_t *e = d->p + HEADER + d->at++ * 16;

    db_put_u32(e, flags);
    db_put_u32(e + 4, (uint32_t)(d->data_at - (size_t)(e - d->p)));
    db_put_u32(e + 8, (uint32_t)name.n);
    db_put_u32(e + 12, (uint32_t)value.n);
    draft_data(d, name.p, name.n);
    draft_data(d, value.p, value.n);
}

static void draft_branch(struct draft *d, struct bytes name, uint64_t page)
{
    uint8_t *e = d->p + HEADER + d->at++ * 16;

    db_put_u32(e, (uint32_t)(d->data_at - (size_t)(e - d->p)));
    db_put_u32(e + 4, (uint32_t)name.n);
    db_put_u64(e + 8, page);
    draft_data(d, name.p, name.n);
}

/* Returns the number of the page that it became. */
static uint64_t draft_end(struct db *db, struct draft *d)
{
    uint64_t page = db->n / db->page_size;
    size_t pages = (d->len + db->page_size - 1) / db->page_size;
    uint8_t *p = grow(db, pages * db->page_size);

    assert_int_equal(d->at, d->count);
    memcpy(p, d->p, d->len);
    put_header(p, page, d->kind, d->count, (uint32_t)pages - 1);
    free(d->p);
    return page;
}

static void draft_records(struct draft *d, const struct db_record *v, size_t count)
{
    size_t room = 0, most = 0;
    uint8_t name[18], *kv;

    for (size_t i = 0; i < count; i++) {
        room += 128 + v[i].value_len;
        most = most > v[i].value_len ? most : v[i].value_len;
    }
    draft_begin(d, 2, (unsigned)count, room);
    kv = malloc(most + 128);
    assert_non_null(kv);
    for (size_t i = 0; i < count; i++) {
        size_t n = put_name(&v[i], name);

        draft_leaf(d, 0, bytes_of(name, n), bytes_of(kv, db_kv(&v[i], kv)));
    }
    free(kv);
    d->len = d->data_at;
}

/* --- trees ------------------------------------------------------------------------------------ */

struct child {
    uint8_t name[18];
    size_t name_len;
    uint64_t page;
};

static size_t build_leaves(struct db *db, unsigned per_leaf, const struct db_record *v,
                           size_t count, struct child *out)
{
    size_t n = 0;

    for (size_t i = 0; i < count || n == 0; i += per_leaf) {
        struct draft d;

        draft_records(&d, v + i, count - i < per_leaf ? count - i : per_leaf);
        out[n].name_len = count > 0 ? put_name(&v[i], out[n].name) : 0;
        out[n++].page = draft_end(db, &d);
    }
    return n;
}

static size_t build_branches(struct db *db, unsigned per_branch, struct child *v, size_t count)
{
    size_t n = 0;

    for (size_t i = 0; i < count; i += per_branch) {
        size_t of = count - i < per_branch ? count - i : per_branch;
        struct child first = v[i];
        struct draft d;

        draft_begin(&d, 1, (unsigned)of, of * 18);
        for (size_t k = 0; k < of; k++)
            draft_branch(&d, bytes_of(v[i + k].name, v[i + k].name_len), v[i + k].page);
        first.page = draft_end(db, &d);
        v[n++] = first;
    }
    return n;
}

static uint64_t build_tree(struct db *db, const struct db_shape *s, const struct db_record *v,
                           size_t count)
{
    struct child *children = calloc(count + 1, sizeof *children);
    size_t n;
    uint64_t root;

    assert_non_null(children);
    n = build_leaves(db, s->per_leaf, v, count, children);
    while (n > 1)
        n = build_branches(db, s->per_branch, children, n);
    root = children[0].page;
    free(children);
    return root;
}

/* A bucket's value: root, sequence, and its page where it is an inline one. */
static struct bytes bucket_of(uint64_t root, struct draft *d, uint8_t **memory)
{
    size_t n = 16 + (d != NULL ? d->len : 0);
    uint8_t *p = calloc(1, n);

    assert_non_null(p);
    db_put_u64(p, root);
    if (d != NULL) {
        put_header(d->p, 0, d->kind, d->count, 0);
        memcpy(p + 16, d->p, d->len);
        free(d->p);
    }
    *memory = p;
    return bytes_of(p, n);
}

static struct bytes meta_bucket(const struct db_shape *s, uint8_t **memory)
{
    uint8_t revision[17], index[8];
    struct draft d;

    put_big(index, 4711);
    put_big(revision, (uint64_t)s->compacted);
    revision[8] = '_';
    put_big(revision + 9, 0);
    draft_begin(&d, 2, s->compacted > 0 ? 2 : 1, 128);
    draft_leaf(&d, 0, BYTES_LIT("consistent_index"), bytes_of(index, 8));
    if (s->compacted > 0)
        draft_leaf(&d, 0, BYTES_LIT("finishedCompactRev"), bytes_of(revision, 17));
    d.len = d.data_at;
    return bucket_of(0, &d, memory);
}

void db_seal_meta(struct db *db, unsigned number)
{
    uint8_t *m = db->p + (size_t)number * db->page_size + HEADER;
    uint64_t h = UINT64_C(14695981039346656037);

    for (unsigned i = 0; i < 56; i++)
        h = (h ^ m[i]) * UINT64_C(1099511628211);
    db_put_u64(m + 56, h);
}

static void put_meta(struct db *db, unsigned number, uint64_t root)
{
    uint8_t *page = db->p + (size_t)number * db->page_size, *m = page + HEADER;

    put_header(page, number, 4, 0, 0);
    db_put_u32(m, 0xED0CDAED);
    db_put_u32(m + 4, 2);
    db_put_u32(m + 8, db->page_size);
    db_put_u64(m + 16, root);
    db_put_u64(m + 32, 2);
    db_put_u64(m + 40, db->n / db->page_size);
    db_put_u64(m + 48, 100 + number);
    db_seal_meta(db, number);
}

/* --- exported --------------------------------------------------------------------------------- */

static enum err read_db(void *arg, uint64_t at, uint8_t *out, size_t n)
{
    const struct db *db = arg;

    assert_true(at <= db->n && n <= db->n - at);
    if (db->cut != 0 && at + n > db->cut)
        return ERR_FILE_DAMAGED;
    memcpy(out, db->p + at, n);
    return ERR_OK;
}

void db_build(struct db *db, const struct db_shape *s, const struct db_record *v, size_t count)
{
    uint8_t *keys_memory, *meta_memory;
    struct bytes keys, meta;
    struct draft d;
    uint64_t root;

    *db = (struct db){.page_size = s->page_size};
    grow(db, 2 * (size_t)s->page_size);
    if (s->is_inline) {
        draft_records(&d, v, count);
        keys = bucket_of(0, &d, &keys_memory);
    } else {
        keys = bucket_of(build_tree(db, s, v, count), NULL, &keys_memory);
    }
    meta = meta_bucket(s, &meta_memory);
    draft_begin(&d, 2, 3, 64 + keys.n + 2 * meta.n);
    draft_leaf(&d, 1, BYTES_LIT("auth"), meta);
    draft_leaf(&d, 1, BYTES_LIT("key"), keys);
    draft_leaf(&d, 1, BYTES_LIT("meta"), meta);
    d.len = d.data_at;
    root = draft_end(db, &d);
    free(keys_memory);
    free(meta_memory);
    put_meta(db, 0, root);
    put_meta(db, 1, root);
    db->input = (struct snapshot_input){.read = read_db, .arg = db, .size = db->n};
}

void db_free(struct db *db)
{
    free(db->p);
    *db = (struct db){0};
}
