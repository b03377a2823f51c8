/* SPDX-License-Identifier: Apache-2.0 */
/* The way of a wait:
 *   1. write DEK or cache: answered at once, no mail;
 *   2. else it joins the pending entry of its DEK; the entry's first wait sends one dek_request;
 *   3. the request comes back as the answer and ends all waits of the entry;
 *   4. a DEK that opened a value is confirmed: into the cache, and once to the manager's.
 *
 * Failure modes:
 *   - the answer is "away" while some waits are younger than that: the request is sent again for
 *     them;
 *   - no answer at all: the ring's timer ends each wait after LIMIT_KEY_WAIT_MS;
 *   - the ring is freed with mail under way: the mail finds ring_handle.ring NULL and drops what it
 *     carries. */
#include "kms/keyring.h"

#include <stdlib.h>
#include <string.h>

#include "kms/cache_int.h"
#include "kms/kms_int.h"

#define RING_CACHE_MAX 1024u
#define RING_REFUSED_MAX 1024u
#define PENDING_BUCKETS 256u
#define EVICT_FOR_ROOM (RING_CACHE_MAX / 2)
/* Answers of the manager and ends of waits fall together: what would end so soon isn't asked again.
 */
#define REASK_MIN_MS 100u

struct slot {
    bool was_reached;      /* the plugin was healthy once */
    struct dek *write_dek; /* NULL while it was not, and with KMS v1 */
    uint64_t expiry_ms;
    struct dek_cache cache;
    struct dek_cache refused;
};

/* All waits for one DEK. Lives as long as it has any. */
struct key_pending {
    struct list bucket;
    struct list waits;
    uint32_t slot;
    bool is_wrap; /* has one wait, and never another */
    uint8_t digest[DEK_DIGEST_LEN];
};

struct keyring {
    struct loop *loop;
    struct mailbox *manager_box;
    struct ring_handle *handle;
    struct list buckets[PENDING_BUCKETS];
    struct list waits; /* oldest first: all wait equally long */
    struct loop_timer timer;
    uint64_t wrap_count;
    uint32_t slot_count;
    struct slot slots[];
};

/* --- mail ------------------------------------------------------------------------------------- */

void kms__ring_handle_drop(struct ring_handle *h)
{
    if (refcount_drop(&h->refs))
        free(h);
}

struct ring_handle *kms__ring_handle(struct keyring *r)
{
    return ring_handle_ref(r->handle);
}

void kms__request_free(struct dek_request *a)
{
    kms__ring_handle_drop(a->ring);
    dek_drop(a->dek);
    free(a);
}

static uint8_t *put_bytes(uint8_t *at, struct bytes from, struct bytes *to)
{
    if (from.n > 0)
        memcpy(at, from.p, from.n);
    *to = bytes_of(at, from.n);
    return at + from.n;
}

/* One block: the ask, then the annotations, then their bytes. */
static struct dek_request *ask_new(struct keyring *r, uint32_t slot, const uint8_t *digest,
                                   const struct dek_id *id)
{
    size_t text_len = id->key_id.n + id->wrapped.n;
    struct dek_annotation *annotations;
    struct dek_request *a;
    uint8_t *at;

    for (uint32_t i = 0; i < id->annotation_count; i++)
        text_len += id->annotations[i].key.n + id->annotations[i].value.n;
    a = calloc(1, sizeof *a + id->annotation_count * sizeof *annotations + text_len);
    if (a == NULL)
        return NULL;
    annotations = (struct dek_annotation *)(void *)(a + 1);
    at = (uint8_t *)(annotations + id->annotation_count);
    a->id = (struct dek_id){
        .type = id->type, .annotation_count = id->annotation_count, .annotations = annotations};
    at = put_bytes(at, id->key_id, &a->id.key_id);
    at = put_bytes(at, id->wrapped, &a->id.wrapped);
    for (uint32_t i = 0; i < id->annotation_count; i++) {
        at = put_bytes(at, id->annotations[i].key, &annotations[i].key);
        at = put_bytes(at, id->annotations[i].value, &annotations[i].value);
    }
    a->to = r->manager_box;
    a->ring = ring_handle_ref(r->handle);
    a->slot = slot;
    memcpy(a->digest, digest, sizeof a->digest);
    return a;
}

static void ask_send(struct keyring *r, struct dek_request *a, uint64_t deadline_ms)
{
    a->deadline_ms = deadline_ms;
    a->mail.deliver = kms__request_deliver;
    mailbox_post(r->manager_box, &a->mail);
}

/* --- waits ------------------------------------------------------------------------------------ */

static struct list *bucket_of(struct keyring *r, const uint8_t *digest)
{
    return &r->buckets[digest[0]];
}

static struct key_pending *pending_find(struct keyring *r, uint32_t slot, const uint8_t *digest)
{
    struct list *bucket = bucket_of(r, digest);

    LIST_FOREACH(it, bucket) {
        struct key_pending *p = LIST_ENTRY(it, struct key_pending, bucket);

        if (p->slot == slot && memcmp(p->digest, digest, sizeof p->digest) == 0)
            return p;
    }
    return NULL;
}

static void pending_free(struct key_pending *p)
{
    list_remove(&p->bucket);
    free(p);
}

static void wait_detach(struct key_wait *w)
{
    list_remove(&w->node);
    list_remove(&w->by_age);
    w->is_pending = false;
    w->pending = NULL;
}

static void wait_finish(struct key_wait *w, enum err err, struct dek *dek)
{
    wait_detach(w);
    w->err = err;
    w->dek = err == ERR_OK ? dek_ref(dek) : NULL;
    w->on_done(w);
}

/* on_done may use the ring, and may even free it when the last wait is over: nothing of p or of the
 * ring is touched afterwards. */
static void pending_finish(struct key_pending *p, enum err err, struct dek *dek)
{
    struct list now;

    list_init(&now);
    list_splice(&now, &p->waits);
    pending_free(p);
    LIST_FOREACH(it, &now)
        LIST_ENTRY(it, struct key_wait, node)->pending = NULL;
    while (!list_is_empty(&now))
        wait_finish(LIST_FIRST(&now, struct key_wait, node), err, dek);
}

void keyring_cancel(struct key_wait *w)
{
    struct key_pending *p = w->pending;

    if (!w->is_pending)
        return;
    wait_detach(w);
    if (p != NULL && list_is_empty(&p->waits))
        pending_free(p);
}

static void restart_timer(struct keyring *r)
{
    uint64_t now = loop_now_ms(r->loop), at;

    if (list_is_empty(&r->waits)) {
        loop_timer_stop(&r->timer);
        return;
    }
    at = LIST_FIRST(&r->waits, struct key_wait, by_age)->deadline_ms;
    CHECK(loop_timer_start(r->loop, &r->timer, at > now ? at - now : 0) == ERR_OK);
}

static void on_timer(struct loop_timer *t)
{
    struct keyring *r = CONTAINER_OF(t, struct keyring, timer);
    struct ring_handle *h = ring_handle_ref(r->handle);

    while (h->ring != NULL && !list_is_empty(&r->waits)) {
        struct key_wait *w = LIST_FIRST(&r->waits, struct key_wait, by_age);
        struct key_pending *p = w->pending;
        enum err err;

        if (w->deadline_ms > loop_now_ms(r->loop))
            break;
        err = r->slots[p->slot].was_reached ? ERR_KMS_AWAY : ERR_NO_STATE;
        list_remove(&w->node);
        if (list_is_empty(&p->waits))
            pending_free(p);
        wait_finish(w, err, NULL);
    }
    if (h->ring != NULL)
        restart_timer(r);
    kms__ring_handle_drop(h);
}

/* --- the manager's mail ----------------------------------------------------------------------- */

static void take_answer(struct keyring *r, struct dek_request *a)
{
    struct key_pending *p = pending_find(r, a->slot, a->digest);
    uint64_t now = loop_now_ms(r->loop), last_ms;

    if (a->until_ms != 0)
        dek_cache_put(&r->slots[a->slot].refused, a->digest, NULL, a->err, a->until_ms);
    if (p == NULL) {
        kms__request_free(a);
        return;
    }
    last_ms = LIST_ENTRY(p->waits.prev, struct key_wait, node)->deadline_ms;
    if ((a->err == ERR_KMS_AWAY || a->err == ERR_NO_STATE) && !a->is_wrap &&
        last_ms > now + REASK_MIN_MS) {
        ask_send(r, a, last_ms); /* the older waits are the timer's */
        return;
    }
    pending_finish(p, a->err, a->dek);
    kms__request_free(a);
}

void kms__answer_deliver(struct mail *self, bool delivered)
{
    struct dek_request *a = CONTAINER_OF(self, struct dek_request, mail);

    if (delivered && a->ring->ring != NULL)
        take_answer(a->ring->ring, a);
    else
        kms__request_free(a);
}

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

static enum err slots_init(struct keyring *r, uint32_t slot_count)
{
    for (; r->slot_count < slot_count; r->slot_count++) {
        struct slot *s = &r->slots[r->slot_count];

        TRY(dek_cache_init(&s->cache, RING_CACHE_MAX, false));
        if (dek_cache_init(&s->refused, RING_REFUSED_MAX, false) != ERR_OK) {
            dek_cache_fini(&s->cache);
            return ERR_NOMEM;
        }
    }
    return ERR_OK;
}

static void slots_fini(struct keyring *r)
{
    for (uint32_t i = 0; i < r->slot_count; i++) {
        dek_drop(r->slots[i].write_dek);
        dek_cache_fini(&r->slots[i].cache);
        dek_cache_fini(&r->slots[i].refused);
    }
}

enum err keyring_new(struct loop *loop, struct mailbox *manager_box, struct mailbox *worker_box,
                     uint32_t slot_count, struct keyring **out)
{
    struct keyring *r = calloc(1, sizeof *r + slot_count * sizeof r->slots[0]);

    if (r == NULL)
        return ERR_NOMEM;
    r->loop = loop;
    r->manager_box = manager_box;
    list_init(&r->waits);
    loop_timer_init(&r->timer, on_timer);
    for (size_t i = 0; i < PENDING_BUCKETS; i++)
        list_init(&r->buckets[i]);
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
    CHECK(list_is_empty(&r->waits));
    r->handle->ring = NULL;
    kms__ring_handle_drop(r->handle);
    loop_timer_fini(&r->timer);
    slots_fini(r);
    free(r);
}

static struct slot *slot_of(struct keyring *r, const struct provider *provider)
{
    CHECK(provider->slot < r->slot_count);
    return &r->slots[provider->slot];
}

/* The wait is for later: into its pending entry, which is made and asked for if it is the first. */
static enum err wait_begin(struct keyring *r, uint32_t slot, const uint8_t *digest,
                           const struct dek_id *id, bool is_wrap, struct key_wait *w)
{
    uint64_t deadline_ms = loop_now_ms(r->loop) + LIMIT_KEY_WAIT_MS;
    struct key_pending *p = pending_find(r, slot, digest);

    if (!loop_timer_is_active(&r->timer))
        TRY(loop_timer_start(r->loop, &r->timer, LIMIT_KEY_WAIT_MS));
    if (p == NULL) {
        struct dek_request *a = ask_new(r, slot, digest, id);

        p = calloc(1, sizeof *p);
        if (a == NULL || p == NULL) {
            if (a != NULL)
                kms__request_free(a);
            free(p);
            return ERR_NOMEM;
        }
        p->slot = slot;
        p->is_wrap = a->is_wrap = is_wrap;
        memcpy(p->digest, digest, sizeof p->digest);
        list_init(&p->waits);
        list_push(bucket_of(r, digest), &p->bucket);
        ask_send(r, a, deadline_ms);
    }
    w->pending = p;
    w->deadline_ms = deadline_ms;
    w->is_pending = true;
    list_push(&p->waits, &w->node);
    list_push(&r->waits, &w->by_age);
    return ERR_AGAIN;
}

static void wait_init(struct key_wait *w)
{
    w->is_pending = false;
    w->err = ERR_OK;
    w->dek = NULL;
}

/* The write key, or one of those that were used last: without the cost of a digest. */
static struct dek *near_by(const struct slot *s, const struct dek_id *id, uint64_t now)
{
    if (s->write_dek != NULL && dek_id_eq(&s->write_dek->id, id))
        return s->write_dek;
    return dek_cache_recent(&s->cache, id, now);
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
    struct slot *s = slot_of(r, provider);
    uint64_t now = loop_now_ms(r->loop);
    struct dek *dek = near_by(s, id, now);
    const struct dek_cache_entry *e;
    uint8_t digest[DEK_DIGEST_LEN];

    if (dek != NULL || dek_id_digest(id, digest) != ERR_OK)
        return dek;
    e = dek_cache_find(&s->cache, digest, now);
    return e == NULL ? NULL : e->dek;
}

enum err keyring_get(struct keyring *r, const struct provider *provider, const struct dek_id *id,
                     struct key_wait *w)
{
    struct slot *s = slot_of(r, provider);
    uint64_t now = loop_now_ms(r->loop);
    uint8_t digest[DEK_DIGEST_LEN];
    const struct dek_cache_entry *e;
    struct dek *dek = near_by(s, id, now);

    wait_init(w);
    if (dek != NULL) {
        w->dek = dek_ref(dek);
        return ERR_OK;
    }
    TRY(dek_id_digest(id, digest));
    e = dek_cache_find(&s->cache, digest, now);
    if (e == NULL)
        e = dek_cache_find(&s->refused, digest, now);
    if (e == NULL)
        return wait_begin(r, provider->slot, digest, id, false, w);
    w->dek = e->err == ERR_OK ? dek_ref(e->dek) : NULL;
    return e->err;
}

enum err keyring_wrap(struct keyring *r, const struct provider *provider, struct key_wait *w)
{
    const struct dek_id id = {0}; /* the plugin's answer will name it */
    /* A number in place of a digest: no other request is like it. */
    uint8_t digest[DEK_DIGEST_LEN] = {0};
    uint64_t number = ++r->wrap_count;

    CHECK(provider_traits(provider)->has_dek_per_value && provider->slot < r->slot_count);
    wait_init(w);
    memcpy(digest, &number, sizeof number);
    return wait_begin(r, provider->slot, digest, &id, true, w);
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
