/* SPDX-License-Identifier: Apache-2.0 */
/* Field lists that were encoded before, with their blocks.
 *
 * What a connection sends is a handful of lists, over and over. One whose encoding inserted nothing
 * into the table is kept, without its grpc-timeout; it is found again by comparing all its bytes,
 * which is a tenth of the work of encoding them. It is valid as long as the table has not changed
 * (its generation). Lists with a credential, or with more than one grpc-timeout, are never kept, so
 * none is found either.
 *
 * A kept list is one object: its fields, their bytes, the block with room behind it. */
#include "h2/hpack_int.h"

#define FIELDS_MAX 48u
#define BYTES_MAX 1024u

static inline bool is_same8(const uint8_t *a, const uint8_t *b)
{
    uint64_t x, y;

    memcpy(&x, a, 8);
    memcpy(&y, b, 8);
    return x == y;
}

static inline bool is_same4(const uint8_t *a, const uint8_t *b)
{
    uint32_t x, y;

    memcpy(&x, a, 4);
    memcpy(&y, b, 4);
    return x == y;
}

/* The same n bytes? Most names and values are short: a call of memcmp would cost more than what it
 * does, two dozen times a list. The last step of each kind looks at some bytes a second time. */
static inline bool is_same(const uint8_t *a, const uint8_t *b, size_t n)
{
    if (n > 16) {
        for (size_t i = 0; i + 16 < n; i += 16)
            if (!is_same8(a + i, b + i) || !is_same8(a + i + 8, b + i + 8))
                return false;
        a += n - 16;
        b += n - 16;
        n = 16;
    }
    if (n >= 8)
        return is_same8(a, b) && is_same8(a + n - 8, b + n - 8);
    if (n >= 4)
        return is_same4(a, b) && is_same4(a + n - 4, b + n - 4);
    return n == 0 || (a[0] == b[0] && a[n / 2] == b[n / 2] && a[n - 1] == b[n - 1]);
}

/* The list, or the list and a grpc-timeout, which is at *timeout then; else that is f.count. */
static bool list_has(const struct h2__hpack_list *m, struct h2_fields f, size_t *timeout)
{
    const struct h2_field *known = m->fields, *end = known + m->count;

    *timeout = f.count;
    for (const struct h2_field *v = f.v; v < f.v + f.count; v++) {
        if (known < end && known->name.n == v->name.n && known->value.n == v->value.n &&
            is_same(known->name.p, v->name.p, v->name.n) &&
            is_same(known->value.p, v->value.p, v->value.n)) {
            known++;
            continue;
        }
        if (*timeout < f.count || !h2__hpack_is_timeout(v))
            return false;
        *timeout = (size_t)(v - f.v);
    }
    return known == end;
}

/* Tells most lists apart: the length of the :path, which is third of our requests, behind :method
 * and :scheme; of short lists that of the :status. */
static size_t key_of(struct h2_fields f)
{
    if (f.count > 2)
        return f.v[2].value.n;
    return f.count > 0 ? f.v[0].value.n : 0;
}

const struct h2__hpack_list *h2__hpack_list_find(const struct h2__hpack_out *o, struct h2_fields f,
                                                 size_t *timeout)
{
    size_t key = key_of(f);

    for (size_t i = 0; i < H2__HPACK_LISTS; i++) {
        const struct h2__hpack_list *m = o->lists[i];

        if (m == NULL)
            break;
        if (m->key == key && m->generation == o->generation && list_has(m, f, timeout))
            return m;
    }
    return NULL;
}

/* A free place, one that is out of date, or the next in turn. */
static size_t place_of(struct h2__hpack_out *o)
{
    for (size_t i = 0; i < H2__HPACK_LISTS; i++)
        if (o->lists[i] == NULL || o->lists[i]->generation != o->generation)
            return i;
    o->list_next = (uint8_t)((o->list_next + 1) % H2__HPACK_LISTS);
    return o->list_next;
}

static struct bytes put(uint8_t **to, struct bytes b)
{
    struct bytes copy = bytes_of(*to, b.n);

    if (b.n > 0)
        memcpy(*to, b.p, b.n);
    *to += b.n;
    return copy;
}

static struct h2__hpack_list *list_new(struct h2__hpack_out *o, struct h2_fields f, size_t timeout,
                                       size_t bytes)
{
    size_t count = f.count - (timeout < f.count), k = 0;
    size_t head = sizeof(struct h2__hpack_list) + count * sizeof(struct h2_field);
    struct h2__hpack_list *m = objects_alloc(o->mem, head + bytes + o->buf_len + H2__TIMEOUT_ROOM);
    uint8_t *to;

    if (m == NULL)
        return NULL;
    to = (uint8_t *)m + head;
    *m = (struct h2__hpack_list){o->generation, key_of(f), count, o->buf_len, to + bytes};
    for (size_t i = 0; i < f.count; i++) {
        if (i == timeout)
            continue;
        m->fields[k].name = put(&to, f.v[i].name);
        m->fields[k++].value = put(&to, f.v[i].value);
    }
    memcpy(m->block, o->buf, o->buf_len);
    return m;
}

void h2__hpack_list_keep(struct h2__hpack_out *o, struct h2_fields f, size_t timeout)
{
    struct h2__hpack_list *m;
    size_t bytes = 0, at;

    for (size_t i = 0; i < f.count; i++)
        bytes += i == timeout ? 0 : f.v[i].name.n + f.v[i].value.n;
    if (f.count > FIELDS_MAX || bytes > BYTES_MAX)
        return;
    m = list_new(o, f, timeout, bytes);
    if (m == NULL) /* it is kept another time */
        return;
    at = place_of(o);
    objects_free(o->mem, o->lists[at]);
    o->lists[at] = m;
}
