/* SPDX-License-Identifier: Apache-2.0 */
/* The decoder's tables (RFC 7541 sections 2.3 and 4, appendix A).
 *
 * An entry of the dynamic table is one object. A ring of pointers has their order: one that is
 * inserted goes before the newest. Field lists point into entries; one that goes while the list of
 * the present block points into it is dead, and stays until the list is given back. Others are
 * freed at once: a block of a few bytes a field can insert and evict gigabytes.
 *
 * The generation changes with whatever the table has: as long as it is the same, an index means the
 * same. Failure modes: no memory: ERR_NOMEM, and the table is no more the peer's. */
#include "base/secret.h"
#include "h2/hpack_int.h"

#define RING_FIRST 16u
#define RING_MAX (H2__HPACK_TABLE / 32) /* no entry counts less than its overhead */

#define FIELD(n, v, c)                                                                             \
    {                                                                                              \
        {{(const uint8_t *)(n), sizeof(n) - 1}, {(const uint8_t *)(v), sizeof(v) - 1}}, c, NULL    \
    }

const struct h2__hpack_item h2__hpack_static[H2__HPACK_STATIC] = {
    FIELD(":authority", "", H2__IS_AUTHORITY),
    FIELD(":method", "GET", H2__IS_METHOD),
    FIELD(":method", "POST", H2__IS_METHOD),
    FIELD(":path", "/", H2__IS_PATH),
    FIELD(":path", "/index.html", H2__IS_PATH),
    FIELD(":scheme", "http", H2__IS_SCHEME),
    FIELD(":scheme", "https", H2__IS_SCHEME),
    FIELD(":status", "200", H2__IS_STATUS),
    FIELD(":status", "204", H2__IS_STATUS),
    FIELD(":status", "206", H2__IS_STATUS),
    FIELD(":status", "304", H2__IS_STATUS),
    FIELD(":status", "400", H2__IS_STATUS),
    FIELD(":status", "404", H2__IS_STATUS),
    FIELD(":status", "500", H2__IS_STATUS),
    FIELD("accept-charset", "", 0),
    FIELD("accept-encoding", "gzip, deflate", 0),
    FIELD("accept-language", "", 0),
    FIELD("accept-ranges", "", 0),
    FIELD("accept", "", 0),
    FIELD("access-control-allow-origin", "", 0),
    FIELD("age", "", 0),
    FIELD("allow", "", 0),
    FIELD("authorization", "", H2__IS_SECRET),
    FIELD("cache-control", "", 0),
    FIELD("content-disposition", "", 0),
    FIELD("content-encoding", "", 0),
    FIELD("content-language", "", 0),
    FIELD("content-length", "", 0),
    FIELD("content-location", "", 0),
    FIELD("content-range", "", 0),
    FIELD("content-type", "", 0),
    FIELD("cookie", "", 0),
    FIELD("date", "", 0),
    FIELD("etag", "", 0),
    FIELD("expect", "", 0),
    FIELD("expires", "", 0),
    FIELD("from", "", 0),
    FIELD("host", "", 0),
    FIELD("if-match", "", 0),
    FIELD("if-modified-since", "", 0),
    FIELD("if-none-match", "", 0),
    FIELD("if-range", "", 0),
    FIELD("if-unmodified-since", "", 0),
    FIELD("last-modified", "", 0),
    FIELD("link", "", 0),
    FIELD("location", "", 0),
    FIELD("max-forwards", "", 0),
    FIELD("proxy-authenticate", "", 0),
    FIELD("proxy-authorization", "", 0),
    FIELD("range", "", 0),
    FIELD("referer", "", 0),
    FIELD("refresh", "", 0),
    FIELD("retry-after", "", 0),
    FIELD("server", "", 0),
    FIELD("set-cookie", "", 0),
    FIELD("strict-transport-security", "", 0),
    FIELD("transfer-encoding", "", 0),
    FIELD("user-agent", "", 0),
    FIELD("vary", "", 0),
    FIELD("via", "", 0),
    FIELD("www-authenticate", "", 0),
};

void h2__hpack_table_init(struct h2__hpack_table *t, struct objects *mem)
{
    *t = (struct h2__hpack_table){.mem = mem, .max = H2__HPACK_TABLE, .block = 1};
}

static void entry_free(struct h2__hpack_table *t, struct h2__hpack_entry *e)
{
    if ((e->class & H2__IS_SECRET) != 0)
        secret_wipe(e->data, (size_t)e->name_len + e->value_len);
    objects_free(t->mem, e);
}

/* Evicts the oldest entries until at most size bytes are left. */
static void shrink(struct h2__hpack_table *t, uint32_t size)
{
    while (t->size > size) {
        struct h2__hpack_entry *e = h2__hpack_dynamic(t, --t->count);

        t->size -= (uint32_t)h2__field_size(e->name_len, e->value_len);
        if (e->lent == t->block) {
            e->next = t->dead;
            t->dead = e;
        } else {
            entry_free(t, e);
        }
    }
}

void h2__hpack_bury(struct h2__hpack_table *t)
{
    while (t->dead != NULL) {
        struct h2__hpack_entry *e = t->dead;

        t->dead = e->next;
        entry_free(t, e);
    }
    t->block++;
}

void h2__hpack_table_fini(struct h2__hpack_table *t)
{
    shrink(t, 0);
    h2__hpack_bury(t);
    objects_free(t->mem, t->ring);
    *t = (struct h2__hpack_table){0};
}

void h2__hpack_resize(struct h2__hpack_table *t, uint32_t max)
{
    t->generation++;
    t->max = max;
    shrink(t, max);
}

static enum err ring_reserve(struct h2__hpack_table *t)
{
    uint32_t cap = t->ring_cap == 0 ? RING_FIRST : t->ring_cap * 2;
    struct h2__hpack_entry **ring;

    if (t->count < t->ring_cap)
        return ERR_OK;
    DCHECK(cap <= RING_MAX);
    ring = objects_alloc(t->mem, cap * sizeof(struct h2__hpack_entry *));
    if (ring == NULL)
        return ERR_NOMEM;
    for (uint32_t i = 0; i < t->count; i++)
        ring[i] = h2__hpack_dynamic(t, i);
    objects_free(t->mem, t->ring);
    t->ring = ring;
    t->ring_cap = cap;
    t->newest = 0;
    return ERR_OK;
}

static struct h2__hpack_entry *entry_new(struct h2__hpack_table *t, struct h2_field f,
                                         unsigned class)
{
    struct h2__hpack_entry *e = objects_alloc(t->mem, sizeof *e + f.name.n + f.value.n);

    if (e == NULL)
        return NULL;
    e->lent = 0;
    e->name_len = (uint16_t)f.name.n;
    e->value_len = (uint16_t)f.value.n;
    e->class = (uint16_t) class;
    if (f.name.n > 0)
        memcpy(e->data, f.name.p, f.name.n);
    if (f.value.n > 0)
        memcpy(e->data + f.name.n, f.value.p, f.value.n);
    return e;
}

enum err h2__hpack_insert(struct h2__hpack_table *t, struct h2_field f, unsigned class,
                          struct h2__hpack_entry **out)
{
    size_t size = h2__field_size(f.name.n, f.value.n);
    struct h2__hpack_entry *e;

    *out = NULL;
    if (size > t->max) {
        t->generation++;
        shrink(t, 0);
        return ERR_OK;
    }
    e = entry_new(t, f, class); /* before its name is evicted */
    if (e == NULL)
        return ERR_NOMEM;
    shrink(t, t->max - (uint32_t)size);
    if (ring_reserve(t) != ERR_OK) {
        entry_free(t, e);
        return ERR_NOMEM;
    }
    t->generation++;
    t->newest = (t->newest - 1) & (t->ring_cap - 1);
    t->ring[t->newest] = e;
    t->count++;
    t->size += (uint32_t)size;
    *out = e;
    return ERR_OK;
}
