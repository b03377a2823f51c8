/* SPDX-License-Identifier: Apache-2.0 */
/* What a key ring knows, and what is asked of it. The way of a wait:
 *   1. write DEK or cache: answered at once, no mail;
 *   2. else it waits for the manager's answer (waits.c);
 *   3. a DEK that opened a value is confirmed: into the cache, and once to the manager's; one that
 *      did not is forgotten, and the value is remembered as refused.
 *
 * Failure mode: the ring is freed with mail under way: the mail finds ring_handle.ring NULL and
 * drops what it carries. */

#include <stdlib.h>
#include <string.h>

#include "kms/keyring_int.h"

#define RING_CACHE_MAX 1024u
#define RING_REFUSED_MAX 1024u /* DEKs, and as many values */
#define EVICT_FOR_ROOM (RING_CACHE_MAX / 2)

struct ring_handle *kms__ring_handle(struct keyring *r)
{
    return ring_handle_ref(r->handle);
}

/* --- the manager's news ----------------------------------------------------------------------- */

static void cache_put(struct keyring *r, struct slot *s, const uint8_t *digest, struct dek *dek)
{
    dek_cache_put(&s->cache, digest, dek, ERR_OK, loop_now_ms(r->loop) + DEK_CACHE_TTL_MS);
}

static void make_room(struct keyring *r)
{
    for (uint32_t i = 0; i < r->slot_count; i++)
        dek_cache_evict(&r->slots[i].cache, EVICT_FOR_ROOM);
}

static void take_news(struct keyring *r, const struct kms_news *n)
{
    struct slot *s = &r->slots[n->slot];
    uint8_t digest[DEK_DIGEST_LEN];

    if (n->kind == KMS_NEWS_MAKE_ROOM) {
        make_room(r);
        return;
    }
    s->was_reached = true;
    s->expiry_ms = n->expiry_ms;
    if (s->write_dek == n->dek)
        return;
    dek_drop(s->write_dek);
    s->write_dek = dek_ref(n->dek);
    /* Kept for the time after the next rotation; without a digest it is just not kept. */
    if (dek_id_digest(&n->dek->id, digest) == ERR_OK)
        cache_put(r, s, digest, n->dek);
}

void kms__news_deliver(struct mail *self, bool delivered)
{
    struct kms_news *n = CONTAINER_OF(self, struct kms_news, mail);

    if (delivered && n->ring->ring != NULL)
        take_news(n->ring->ring, n);
    dek_drop(n->dek);
    kms__ring_handle_drop(n->ring);
    free(n);
}

/* --- exported --------------------------------------------------------------------------------- */

/* s is all zeros, or as far as slots_init came. */
static void slot_fini(struct slot *s)
{
    dek_drop(s->write_dek);
    dek_cache_fini(&s->cache);
    dek_cache_fini(&s->refused);
    dek_cache_fini(&s->refused_values);
}

static enum err slots_init(struct keyring *r, uint32_t slot_count)
{
    for (; r->slot_count < slot_count; r->slot_count++) {
        struct slot *s = &r->slots[r->slot_count];

        if (dek_cache_init(&s->cache, RING_CACHE_MAX, false) != ERR_OK ||
            dek_cache_init(&s->refused, RING_REFUSED_MAX, false) != ERR_OK ||
            dek_cache_init(&s->refused_values, RING_REFUSED_MAX, false) != ERR_OK) {
            slot_fini(s);
            return ERR_NOMEM;
        }
    }
    return ERR_OK;
}

static void slots_fini(struct keyring *r)
{
    for (uint32_t i = 0; i < r->slot_count; i++)
        slot_fini(&r->slots[i]);
}

enum err keyring_new(struct loop *loop, struct mailbox *manager_box, struct mailbox *worker_box,
                     uint32_t slot_count, struct keyring **out)
{
    struct keyring *r = calloc(1, sizeof *r + slot_count * sizeof r->slots[0]);

    if (r == NULL)
        return ERR_NOMEM;
    r->loop = loop;
    r->manager_box = manager_box;
    kms__waits_init(r);
    if (slots_init(r, slot_count) != ERR_OK)
        goto err_slots;
    r->handle = malloc(sizeof *r->handle);
    if (r->handle == NULL)
        goto err_slots;
    refcount_init(&r->handle->refs);
    r->handle->worker_box = worker_box;
    r->handle->ring = r;
    *out = r;
    return ERR_OK;

err_slots:
    slots_fini(r);
    free(r);
    return ERR_NOMEM;
}

void keyring_free(struct keyring *r)
{
    kms__waits_fini(r);
    r->handle->ring = NULL;
    kms__ring_handle_drop(r->handle);
    slots_fini(r);
    free(r);
}

static struct slot *slot_of(struct keyring *r, const struct provider *provider)
{
    CHECK(provider->slot < r->slot_count);
    return &r->slots[provider->slot];
}

static void wait_init(struct keyring *r, const struct provider *provider, const struct dek_id *id,
                      struct key_wait *w)
{
    w->ring = r;
    w->provider = provider;
    w->id = id;
    w->pending = NULL;
    w->is_pending = false;
    w->is_wrap = id == NULL;
    w->err = ERR_OK;
    w->dek = NULL;
}

enum err kms__known(struct keyring *r, const struct key_wait *w,
                    uint8_t digest[static DEK_DIGEST_LEN], struct dek **dek)
{
    struct slot *s = slot_of(r, w->provider);
    uint64_t now = loop_now_ms(r->loop);
    const struct dek_cache_entry *e;

    *dek = s->write_dek != NULL && dek_id_eq(&s->write_dek->id, w->id)
               ? s->write_dek
               : dek_cache_recent(&s->cache, w->id, now);
    if (*dek != NULL)
        return ERR_OK;
    TRY(dek_id_digest(w->id, digest));
    e = dek_cache_find(&s->cache, digest, now);
    if (e == NULL)
        e = dek_cache_find(&s->refused, digest, now);
    if (e == NULL)
        return ERR_AGAIN;
    *dek = e->dek;
    return e->err;
}

struct dek *keyring_find_tail(struct keyring *r, const struct provider *provider, struct bytes tail)
{
    struct slot *s = slot_of(r, provider);

    if (s->write_dek != NULL && bytes_eq(s->write_dek->tail, tail))
        return s->write_dek;
    return dek_cache_recent_tail(&s->cache, tail, loop_now_ms(r->loop));
}

struct dek *keyring_find(struct keyring *r, const struct provider *provider,
                         const struct dek_id *id)
{
    const struct key_wait w = {.provider = provider, .id = id};
    uint8_t digest[DEK_DIGEST_LEN];
    struct dek *dek = NULL;

    return kms__known(r, &w, digest, &dek) == ERR_OK ? dek : NULL;
}

enum err keyring_get(struct keyring *r, const struct provider *provider, const struct dek_id *id,
                     struct key_wait *w)
{
    uint8_t digest[DEK_DIGEST_LEN];
    struct dek *dek = NULL;
    enum err e;

    wait_init(r, provider, id, w);
    e = kms__known(r, w, digest, &dek);
    if (e == ERR_AGAIN)
        return kms__wait_begin(r, digest, w);
    w->dek = e == ERR_OK ? dek_ref(dek) : NULL;
    return e;
}

enum err keyring_wrap(struct keyring *r, const struct provider *provider, struct key_wait *w)
{
    CHECK(provider_traits(provider)->has_dek_per_value && provider->slot < r->slot_count);
    wait_init(r, provider, NULL, w);
    return kms__wait_begin(r, NULL, w);
}

void keyring_confirm(struct keyring *r, const struct provider *provider, struct dek *dek)
{
    struct slot *s = slot_of(r, provider);
    uint64_t now = loop_now_ms(r->loop);
    size_t max = provider_cache_size(provider, RING_CACHE_MAX); /* configured: maybe less */
    struct kms_confirm *c;
    uint8_t digest[DEK_DIGEST_LEN];

    if (max == 0 || s->write_dek == dek || dek_cache_has_recent(&s->cache, dek, now) ||
        dek_id_digest(&dek->id, digest) != ERR_OK || dek_cache_find(&s->cache, digest, now) != NULL)
        return;
    cache_put(r, s, digest, dek);
    if (s->cache.count > max)
        dek_cache_evict(&s->cache, s->cache.count - max);
    c = calloc(1, sizeof *c);
    if (c == NULL)
        return; /* the manager just does not keep it */
    c->to = r->manager_box;
    c->slot = provider->slot;
    c->dek = dek_ref(dek);
    memcpy(c->digest, digest, sizeof c->digest);
    c->mail.deliver = kms__confirm_deliver;
    mailbox_post(r->manager_box, &c->mail);
}

void keyring_refuse_value(struct keyring *r, const struct provider *provider,
                          const uint8_t digest[static DEK_DIGEST_LEN], enum err err)
{
    r->values_until_ms = loop_now_ms(r->loop) + LIMIT_NEGATIVE_MS;
    dek_cache_put(&slot_of(r, provider)->refused_values, digest, NULL, err, r->values_until_ms);
}

enum err keyring_value_refusal(struct keyring *r, const struct provider *provider,
                               const uint8_t digest[static DEK_DIGEST_LEN])
{
    const struct dek_cache_entry *e =
        dek_cache_find(&slot_of(r, provider)->refused_values, digest, loop_now_ms(r->loop));

    return e == NULL ? ERR_OK : e->err;
}

bool keyring_has_refused_values(const struct keyring *r)
{
    return loop_now_ms(r->loop) < r->values_until_ms;
}

enum err keyring_write_key(struct keyring *r, const struct provider *provider, struct dek **out)
{
    const struct slot *s = slot_of(r, provider);

    *out = NULL;
    if (s->write_dek == NULL || loop_now_ms(r->loop) > s->expiry_ms)
        return ERR_NO_WRITE_KEY;
    *out = s->write_dek;
    return ERR_OK;
}

struct dek *keyring_state(const struct keyring *r, const struct provider *provider)
{
    CHECK(provider->slot < r->slot_count);
    return r->slots[provider->slot].write_dek;
}
