/* SPDX-License-Identifier: Apache-2.0 */
#include "kms/cache_int.h"

#include <stdlib.h>
#include <string.h>

#include "base/metrics.h"

#define RECENT 4
#define FIRST_BUCKETS 64

static struct list *buckets_new(size_t count)
{
    struct list *buckets = calloc(count, sizeof *buckets);

    for (size_t i = 0; buckets != NULL && i < count; i++)
        list_init(&buckets[i]);
    return buckets;
}

enum err dek_cache_init(struct dek_cache *c, size_t max, bool is_counted)
{
    *c = (struct dek_cache){.bucket_count = FIRST_BUCKETS, .max = max, .is_counted = is_counted};
    list_init(&c->age);
    c->buckets = buckets_new(c->bucket_count);
    return c->buckets == NULL ? ERR_NOMEM : ERR_OK;
}

static void entry_free(struct dek_cache *c, struct dek_cache_entry *e)
{
    list_remove(&e->bucket);
    list_remove(&e->age);
    dek_drop(e->dek);
    free(e);
    c->count--;
    if (c->is_counted)
        metric_sub(METRIC_dek_cache_size, 1);
}

void dek_cache_evict(struct dek_cache *c, size_t n)
{
    while (n-- > 0 && c->count > 0)
        entry_free(c, LIST_FIRST(&c->age, struct dek_cache_entry, age));
}

void dek_cache_fini(struct dek_cache *c)
{
    if (c->buckets == NULL)
        return;
    dek_cache_evict(c, c->count);
    free(c->buckets);
    c->buckets = NULL;
}

/* The digest is a hash already. Whoever can write etcd may choose the bucket: the bound on the
 * number of entries is the bound on the chain. */
static struct list *bucket_of(const struct dek_cache *c, const uint8_t *digest)
{
    uint32_t h;

    memcpy(&h, digest, sizeof h);
    return &c->buckets[h & (c->bucket_count - 1)];
}

/* Doubles the table once there are as many entries as buckets. Without memory for it the chains
 * just get longer. */
static void grow(struct dek_cache *c)
{
    struct list *old = c->buckets, *buckets;

    if (c->count < c->bucket_count)
        return;
    buckets = buckets_new(c->bucket_count * 2);
    if (buckets == NULL)
        return;
    c->buckets = buckets;
    c->bucket_count *= 2;
    LIST_FOREACH(it, &c->age) {
        struct dek_cache_entry *e = LIST_ENTRY(it, struct dek_cache_entry, age);

        list_remove(&e->bucket);
        list_push(bucket_of(c, e->digest), &e->bucket);
    }
    free(old);
}

static struct dek_cache_entry *lookup(const struct dek_cache *c, const uint8_t *digest)
{
    struct list *bucket = bucket_of(c, digest);

    LIST_FOREACH(it, bucket) {
        struct dek_cache_entry *e = LIST_ENTRY(it, struct dek_cache_entry, bucket);

        if (memcmp(e->digest, digest, sizeof e->digest) == 0)
            return e;
    }
    return NULL;
}

static void touch(struct dek_cache *c, struct dek_cache_entry *e)
{
    list_remove(&e->age);
    list_push(&c->age, &e->age);
}

const struct dek_cache_entry *
dek_cache_find(struct dek_cache *c, const uint8_t digest[static DEK_DIGEST_LEN], uint64_t now_ms)
{
    struct dek_cache_entry *e = lookup(c, digest);

    if (e == NULL)
        return NULL;
    if (now_ms >= e->until_ms) {
        entry_free(c, e);
        return NULL;
    }
    touch(c, e);
    return e;
}

static struct dek_cache_entry *entry_new(struct dek_cache *c, const uint8_t *digest)
{
    struct dek_cache_entry *e = calloc(1, sizeof *e);

    if (e == NULL)
        return NULL;
    if (c->count >= c->max)
        dek_cache_evict(c, 1);
    grow(c);
    memcpy(e->digest, digest, sizeof e->digest);
    list_push(bucket_of(c, digest), &e->bucket);
    list_push(&c->age, &e->age);
    c->count++;
    if (c->is_counted)
        metric_add(METRIC_dek_cache_size, 1);
    return e;
}

void dek_cache_put(struct dek_cache *c, const uint8_t digest[static DEK_DIGEST_LEN],
                   struct dek *dek, enum err err, uint64_t until_ms)
{
    struct dek_cache_entry *e = lookup(c, digest);

    if (e == NULL)
        e = entry_new(c, digest);
    if (e == NULL)
        return;
    if (dek != NULL)
        dek_ref(dek);
    dek_drop(e->dek);
    e->dek = dek;
    e->err = err;
    e->until_ms = until_ms;
    touch(c, e);
}

struct dek *dek_cache_recent(const struct dek_cache *c, const struct dek_id *id, uint64_t now_ms)
{
    const struct list *it = c->age.prev;

    for (int i = 0; i < RECENT && it != &c->age; i++, it = it->prev) {
        const struct dek_cache_entry *e = LIST_ENTRY(it, struct dek_cache_entry, age);

        if (e->dek != NULL && now_ms < e->until_ms && dek_id_eq(&e->dek->id, id))
            return e->dek;
    }
    return NULL;
}

struct dek *dek_cache_recent_tail(const struct dek_cache *c, struct bytes tail, uint64_t now_ms)
{
    const struct list *it = c->age.prev;

    for (int i = 0; i < RECENT && it != &c->age; i++, it = it->prev) {
        const struct dek_cache_entry *e = LIST_ENTRY(it, struct dek_cache_entry, age);

        if (e->dek != NULL && now_ms < e->until_ms && bytes_eq(e->dek->tail, tail))
            return e->dek;
    }
    return NULL;
}

bool dek_cache_has_recent(const struct dek_cache *c, const struct dek *dek, uint64_t now_ms)
{
    const struct list *it = c->age.prev;

    for (int i = 0; i < RECENT && it != &c->age; i++, it = it->prev) {
        const struct dek_cache_entry *e = LIST_ENTRY(it, struct dek_cache_entry, age);

        if (e->dek == dek && now_ms < e->until_ms)
            return true;
    }
    return false;
}
