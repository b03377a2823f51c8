/* SPDX-License-Identifier: Apache-2.0 */
/* Encoding field lists (RFC 7541). nghttp2 does it, and has the table; we remember what it made.
 *
 * 1. grpc-timeout is taken off the list: it is new in each call, and would push everything else out
 *    of the table. It goes behind the block as a literal without indexing (section 6.2.2).
 * 2. A list that was encoded before, byte for byte, and inserted nothing into the table, is the
 *    same block again as long as nothing has changed the table since.
 * 3. Everything else is encoded by nghttp2. Credentials are never indexed (section 7.1.3), and a
 *    list that has any is not remembered.
 *
 * Failure modes: no memory for a block: ERR_NOMEM; for remembering it: it is not remembered. */
#include "base/secret.h"
#include "h2/hpack_int.h"

#define BUF_KEPT 2048u   /* buffers up to this size stay for the next block */
#define FIELDS_KEPT 128u /* and arrays */
#define LIST_FIELDS 48u  /* of a list that is remembered */
#define LIST_BYTES 1024u
#define TIMEOUT_MAX 40u  /* longer ones are fields like any other; gRPC has 9 characters at most */
#define TIMEOUT_ROOM 64u /* behind a block */

#define TIMEOUT_NAME "grpc-timeout"
_Static_assert(2 + sizeof TIMEOUT_NAME - 1 + 1 + TIMEOUT_MAX <= TIMEOUT_ROOM, "room for a literal");

/* A list that is remembered: its lengths, then its bytes, then the block with room behind it. */
struct h2__hpack_list {
    uint64_t generation;
    size_t count, bytes, block_len;
    uint8_t *flat, *block;
    struct {
        uint32_t name, value;
    } len[];
};

/* What a look at a list finds. */
struct look {
    size_t timeout; /* its index; count: there is none */
    size_t bytes;   /* of the others */
    bool has_secret;
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
    if (o->has_secret && o->buf_len > 0) /* else there was no memory for it */
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

/* ------------------------------------------------------------------------ lists, remembered */

static bool is_timeout(const struct h2_field *f)
{
    return f->name.n == sizeof TIMEOUT_NAME - 1 && f->value.n <= TIMEOUT_MAX &&
           memcmp(f->name.p, TIMEOUT_NAME, sizeof TIMEOUT_NAME - 1) == 0;
}

static bool is_secret(struct bytes name)
{
    return bytes_eq(name, BYTES_LIT("authorization")) || bytes_eq(name, BYTES_LIT("token"));
}

static struct look look_at(struct h2_fields f)
{
    struct look l = {.timeout = f.count};

    for (size_t i = 0; i < f.count; i++) {
        if (l.timeout == f.count && is_timeout(&f.v[i])) {
            l.timeout = i;
            continue;
        }
        l.bytes += f.v[i].name.n + f.v[i].value.n;
        l.has_secret = l.has_secret || is_secret(f.v[i].name);
    }
    return l;
}

static bool list_has(const struct h2__hpack_list *m, struct h2_fields f, const struct look *l)
{
    const uint8_t *flat = m->flat;
    size_t k = 0;

    for (size_t i = 0; i < f.count; i++) {
        if (i == l->timeout)
            continue;
        if (m->len[k].name != f.v[i].name.n || m->len[k].value != f.v[i].value.n)
            return false;
        k++;
    }
    for (size_t i = 0; i < f.count; i++) {
        const struct h2_field *v = &f.v[i];

        if (i == l->timeout)
            continue;
        if (!bytes_eq(bytes_of(flat, v->name.n), v->name))
            return false;
        flat += v->name.n;
        if (!bytes_eq(bytes_of(flat, v->value.n), v->value))
            return false;
        flat += v->value.n;
    }
    return true;
}

static size_t others(struct h2_fields f, const struct look *l)
{
    return f.count - (l->timeout < f.count);
}

static const struct h2__hpack_list *list_find(const struct h2__hpack_out *o, struct h2_fields f,
                                              const struct look *l)
{
    for (size_t i = 0; i < H2__HPACK_LISTS; i++) {
        const struct h2__hpack_list *m = o->lists[i];

        if (m == NULL)
            break;
        if (m->bytes == l->bytes && m->count == others(f, l) && m->generation == o->generation &&
            list_has(m, f, l))
            return m;
    }
    return NULL;
}

static size_t place_of(struct h2__hpack_out *o)
{
    for (size_t i = 0; i < H2__HPACK_LISTS; i++)
        if (o->lists[i] == NULL || o->lists[i]->generation != o->generation)
            return i;
    o->list_next = (uint8_t)((o->list_next + 1) % H2__HPACK_LISTS);
    return o->list_next;
}

static void list_keep(struct h2__hpack_out *o, struct h2_fields f, const struct look *l)
{
    size_t count = others(f, l), head = sizeof(struct h2__hpack_list), at;
    struct h2__hpack_list *m;
    uint8_t *flat;

    if (count > LIST_FIELDS || l->bytes > LIST_BYTES)
        return;
    head += count * sizeof m->len[0];
    m = objects_alloc(o->mem, head + l->bytes + o->buf_len + TIMEOUT_ROOM);
    if (m == NULL)
        return;
    *m = (struct h2__hpack_list){o->generation,
                                 count,
                                 l->bytes,
                                 o->buf_len,
                                 (uint8_t *)m + head,
                                 (uint8_t *)m + head + l->bytes};
    flat = m->flat;
    for (size_t i = 0, k = 0; i < f.count; i++) {
        if (i == l->timeout)
            continue;
        m->len[k].name = (uint32_t)f.v[i].name.n;
        m->len[k++].value = (uint32_t)f.v[i].value.n;
        memcpy(flat, f.v[i].name.p, f.v[i].name.n);
        flat += f.v[i].name.n;
        if (f.v[i].value.n > 0)
            memcpy(flat, f.v[i].value.p, f.v[i].value.n);
        flat += f.v[i].value.n;
    }
    memcpy(m->block, o->buf, o->buf_len);
    at = place_of(o);
    objects_free(o->mem, o->lists[at]);
    o->lists[at] = m;
}

/* ------------------------------------------------------------------------ blocks */

/* Behind a block, where room is. */
static struct bytes with_timeout(uint8_t *block, size_t n, struct h2_fields f, const struct look *l)
{
    uint8_t *to = block + n;

    if (l->timeout < f.count) {
        struct bytes value = f.v[l->timeout].value;

        *to++ = 0; /* without indexing, with a literal name */
        *to++ = sizeof TIMEOUT_NAME - 1;
        memcpy(to, TIMEOUT_NAME, sizeof TIMEOUT_NAME - 1);
        to += sizeof TIMEOUT_NAME - 1;
        *to++ = (uint8_t)value.n;
        if (value.n > 0)
            memcpy(to, value.p, value.n);
        to += value.n;
    }
    return bytes_of(block, (size_t)(to - block));
}

static enum err nv_of(struct h2__hpack_out *o, struct h2_fields f, const struct look *l)
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

        if (i == l->timeout)
            continue;
        /* The casts: nghttp2 does not write to the bytes, but its type has no const. */
        o->nv[k++] = (nghttp2_nv){
            (uint8_t *)(uintptr_t)from->name.p, (uint8_t *)(uintptr_t)from->value.p, from->name.n,
            from->value.n, is_secret(from->name) ? NGHTTP2_NV_FLAG_NO_INDEX : NGHTTP2_NV_FLAG_NONE};
    }
    return ERR_OK;
}

static enum err deflate(struct h2__hpack_out *o, size_t count)
{
    size_t bound = nghttp2_hd_deflate_bound(o->deflater, o->nv, count) + TIMEOUT_ROOM;
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

enum err h2__hpack_encode(struct h2__hpack_out *o, struct h2_fields f, struct bytes *block)
{
    struct look l = look_at(f);

    if (!l.has_secret) {
        const struct h2__hpack_list *m = list_find(o, f, &l);

        if (m != NULL) {
            *block = with_timeout(m->block, m->block_len, f, &l);
            return ERR_OK;
        }
    }
    buf_clear(o);
    TRY(nv_of(o, f, &l));
    o->has_secret = l.has_secret;
    TRY(deflate(o, others(f, &l)));
    if (!is_pure(bytes_of(o->buf, o->buf_len)))
        o->generation++;
    else if (!l.has_secret)
        list_keep(o, f, &l);
    *block = with_timeout(o->buf, o->buf_len, f, &l);
    return ERR_OK;
}
