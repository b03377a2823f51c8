/* SPDX-License-Identifier: Apache-2.0 */
/* The waits of a key ring, from the first miss to the answer.
 *
 *   kms__wait_begin ─► held ── a DEK of its asker is done ─► begins anew
 *          │                                                  │
 *          ▼                                                  ▼
 *        joins the entry of its DEK, whose first wait sends one request to the manager
 *          │                    │
 *          ▼                    ▼
 *   the answer: on_done      keyring_cancel: with its last wait the entry goes, and its ticket
 *   of all its waits         tells the manager not to call the plugin
 *
 * Failure modes:
 *   - the answer is "away" while some waits are younger than that: the request is sent again for
 *     them;
 *   - no answer at all: the ring's timer ends each wait after LIMIT_KEY_WAIT_MS. */
#include <stdlib.h>
#include <string.h>

#include "kms/keyring_int.h"

/* The manager's "away" often comes in the moment in which the waits end by themselves: one with
 * less time left than this is not asked for again. */
#define REASK_MIN_MS 100u

/* --- askers ----------------------------------------------------------------------------------- */

static void wait_resume(struct key_wait *w);

/* One by one, since the end of a wait may bring others or take them away. */
static void on_asker_task(struct loop_task *t)
{
    struct key_asker *a = CONTAINER_OF(t, struct key_asker, task);

    while (!list_is_empty(&a->held) && a->in_flight < LIMIT_KEYS_A_CONNECTION)
        wait_resume(LIST_FIRST(&a->held, struct key_wait, node));
}

void key_asker_init(struct key_asker *a, struct loop *loop, uint64_t id)
{
    *a = (struct key_asker){.loop = loop, .id = id};
    list_init(&a->sent);
    list_init(&a->held);
    loop_task_init(&a->task, on_asker_task);
}

void key_asker_fini(struct key_asker *a)
{
    CHECK(list_is_empty(&a->held));
    loop_task_cancel(&a->task);
    /* What others have joined meanwhile goes on without it. */
    LIST_FOREACH(it, &a->sent) {
        LIST_ENTRY(it, struct key_pending, charged)->asker = NULL;
        list_remove(it);
    }
    a->in_flight = 0;
}

static void asker_charge(struct key_asker *a, struct key_pending *p)
{
    p->asker = a;
    if (a == NULL)
        return;
    list_push(&a->sent, &p->charged);
    a->in_flight++;
}

static void asker_discharge(struct key_asker *a, struct list *charged)
{
    list_remove(charged);
    a->in_flight--;
    if (!list_is_empty(&a->held))
        loop_task_want(a->loop, &a->task);
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
    if (p->asker != NULL)
        asker_discharge(p->asker, &p->charged);
    atomic_store(&p->ticket->is_given_up, true);
    kms__ticket_drop(p->ticket);
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
        err = r->slots[w->provider->slot].was_reached ? ERR_KMS_AWAY : ERR_NO_STATE;
        list_remove(&w->node);
        if (p != NULL && list_is_empty(&p->waits))
            pending_free(p);
        wait_finish(w, err, NULL);
    }
    if (h->ring != NULL)
        restart_timer(r);
    kms__ring_handle_drop(h);
}

void kms__waits_init(struct keyring *r)
{
    list_init(&r->waits);
    loop_timer_init(&r->timer, on_timer);
    for (size_t i = 0; i < ARRAY_LEN(r->buckets); i++)
        list_init(&r->buckets[i]);
}

void kms__waits_fini(struct keyring *r)
{
    CHECK(list_is_empty(&r->waits));
    loop_timer_fini(&r->timer);
}

/* --- requests and answers --------------------------------------------------------------------- */

static void request_fill(struct keyring *r, const struct key_pending *p, struct dek_request *a)
{
    a->to = r->manager_box;
    a->ring = ring_handle_ref(r->handle);
    a->ticket = p->ticket;
    refcount_ref(&a->ticket->refs);
    a->asker = p->asker == NULL ? 0 : p->asker->id;
    a->is_wrap = p->is_wrap;
    a->slot = p->slot;
    memcpy(a->digest, p->digest, sizeof a->digest);
}

static void request_send(struct keyring *r, struct dek_request *a, uint64_t deadline_ms)
{
    a->deadline_ms = deadline_ms;
    a->mail.deliver = kms__request_deliver;
    mailbox_post(r->manager_box, &a->mail);
}

static struct key_pending *pending_new(uint32_t slot, const uint8_t *digest, bool is_wrap)
{
    struct key_pending *p = calloc(1, sizeof *p);

    if (p == NULL)
        return NULL;
    p->ticket = kms__ticket_new();
    if (p->ticket == NULL) {
        free(p);
        return NULL;
    }
    p->slot = slot;
    p->is_wrap = is_wrap;
    memcpy(p->digest, digest, sizeof p->digest);
    list_init(&p->bucket);
    list_init(&p->waits);
    list_init(&p->charged);
    return p;
}

/* A new entry, with its request on its way. */
static enum err pending_begin(struct keyring *r, const struct key_wait *w, const uint8_t *digest,
                              struct key_pending **out)
{
    static const struct dek_id none = {0}; /* of a wrap the plugin's answer will name it */
    struct key_pending *p = pending_new(w->provider->slot, digest, w->is_wrap);
    struct dek_request *a;

    if (p == NULL)
        return ERR_NOMEM;
    asker_charge(w->asker, p);
    a = kms__request_new(w->is_wrap ? &none : w->id);
    if (a == NULL) {
        pending_free(p);
        return ERR_NOMEM;
    }
    request_fill(r, p, a);
    list_push(bucket_of(r, digest), &p->bucket);
    request_send(r, a, w->deadline_ms);
    *out = p;
    return ERR_OK;
}

/* A number in place of a digest: no other request is like it. */
static void wrap_digest(struct keyring *r, uint8_t digest[static DEK_DIGEST_LEN])
{
    uint64_t number = ++r->wrap_count;

    memset(digest, 0, DEK_DIGEST_LEN);
    memcpy(digest, &number, sizeof number);
}

/* Into the pending entry of its DEK, which is made and asked for if it is the first. */
static enum err wait_join(struct keyring *r, const uint8_t *digest, struct key_wait *w)
{
    struct key_pending *p = pending_find(r, w->provider->slot, digest);

    if (p == NULL)
        TRY(pending_begin(r, w, digest, &p));
    if (w->deadline_ms > p->deadline_ms)
        p->deadline_ms = w->deadline_ms;
    w->pending = p;
    list_push(&p->waits, &w->node);
    return ERR_OK;
}

/* Behind others that are held, too: one message asks for its next DEK in the moment in which one is
 * there, and would always come before the others. */
static bool has_to_be_held(struct keyring *r, const uint8_t *digest, const struct key_wait *w)
{
    const struct key_asker *a = w->asker;

    return a != NULL && (a->in_flight >= LIMIT_KEYS_A_CONNECTION || !list_is_empty(&a->held)) &&
           pending_find(r, w->provider->slot, digest) == NULL;
}

enum err kms__wait_begin(struct keyring *r, const uint8_t *digest, struct key_wait *w)
{
    uint8_t number[DEK_DIGEST_LEN];

    if (w->is_wrap) {
        wrap_digest(r, number);
        digest = number;
    }
    w->deadline_ms = loop_now_ms(r->loop) + LIMIT_KEY_WAIT_MS;
    if (!loop_timer_is_active(&r->timer))
        TRY(loop_timer_start(r->loop, &r->timer, LIMIT_KEY_WAIT_MS));
    if (has_to_be_held(r, digest, w))
        list_push(&w->asker->held, &w->node);
    else
        TRY(wait_join(r, digest, w));
    w->is_pending = true;
    list_push(&r->waits, &w->by_age);
    return ERR_AGAIN;
}

/* Its turn has come: what it waits for may be known by now, or asked for by others. */
static void wait_resume(struct key_wait *w)
{
    uint8_t digest[DEK_DIGEST_LEN];
    struct dek *dek = NULL;
    enum err e = ERR_AGAIN;

    list_remove(&w->node);
    if (w->is_wrap)
        wrap_digest(w->ring, digest);
    else
        e = kms__known(w->ring, w, digest, &dek);
    if (e == ERR_AGAIN) {
        e = wait_join(w->ring, digest, w);
        if (e == ERR_OK)
            return;
    }
    wait_finish(w, e, dek);
}

/* Those for whom it was have given up while it was on its way, and others ask now, by a request of
 * their own. What the plugin said is good for them, too; that it said nothing is not. */
static bool is_late(const struct key_pending *p, const struct dek_request *a)
{
    return a->ticket != p->ticket && a->err != ERR_OK && a->until_ms == 0;
}

static void take_answer(struct keyring *r, struct dek_request *a)
{
    struct key_pending *p = pending_find(r, a->slot, a->digest);
    uint64_t now = loop_now_ms(r->loop);

    if (a->until_ms != 0)
        dek_cache_put(&r->slots[a->slot].refused, a->digest, NULL, a->err, a->until_ms);
    if (p == NULL || is_late(p, a)) {
        kms__request_free(a);
        return;
    }
    if ((a->err == ERR_KMS_AWAY || a->err == ERR_NO_STATE) && !a->is_wrap &&
        p->deadline_ms > now + REASK_MIN_MS) {
        request_send(r, a, p->deadline_ms); /* the older waits end by the timer */
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
