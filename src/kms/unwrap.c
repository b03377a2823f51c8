/* SPDX-License-Identifier: Apache-2.0 */
/* The way of a request for a DEK:
 *   1. known (the write DEK, a confirmed one, one refused a moment ago): answered at once;
 *   2. the same DEK is being unwrapped: it joins that unwrap, one request for each ring;
 *   3. else an unwrap of its own: parked while the plugin was never healthy, queued, called. Those
 *      who ask (clients' connections) take turns; what nobody waits for any more is dropped;
 *   4. the plugin's answer is the answer to all its requests. It is kept only when a ring confirms
 *      that it has opened a value.
 * A wrap (KMS v1: a new DEK for one value) is an unwrap that nobody joins, is called once, and has
 * the plugin's timeout as its deadline: writers are told at once.
 *
 * Failure modes:
 *   - the plugin is away: parked for a growing pause and called again, until the deadline of the
 *     last request, then ERR_KMS_AWAY (ERR_NO_STATE while it was never healthy);
 *   - the plugin refuses, or gives a secret of the wrong size: the requests fail, and the refusal
 *     is remembered;
 *   - secret memory is full: the oldest confirmed DEKs make room. */
#include "kms/unwrap_int.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/metric_series.h"

#define BUCKETS 1024u
#define TICK_MS 50u
#define PAUSE_MIN_MS 50u
#define RECHECK_MS 500u
#define PAUSE_MAX_MS 1000u
#define EVICT_FOR_ROOM 256u

enum unwrap_state {
    UNWRAP_PARKED = 0,
    UNWRAP_QUEUED,
    UNWRAP_CALLING,
};

struct unwrap {
    struct list bucket;
    struct list node; /* in one of the three lists, by state */
    struct list turn; /* QUEUED: in turns */
    enum unwrap_state state;
    struct unwraps *owner;
    struct list requests; /* the first one's id is the unwrap's */
    struct plugin_unwrap call;
    bool is_wrap;
    uint64_t deadline_ms;
    uint64_t again_ms; /* parked: not before */
    uint64_t pause_ms;
    size_t held_bytes;
};

static struct dek_request *first_request(const struct unwrap *w)
{
    return LIST_FIRST(&w->requests, struct dek_request, mail.node);
}

static void set_state(struct unwrap *w, enum unwrap_state next)
{
    struct unwraps *u = w->owner;
    struct list *lists[] = {&u->parked, &u->queued, &u->calling};

    CHECK(w->state != UNWRAP_CALLING || next != UNWRAP_QUEUED);
    u->calling_count -= w->state == UNWRAP_CALLING;
    u->calling_count += next == UNWRAP_CALLING;
    w->state = next;
    list_remove(&w->node);
    list_push(lists[next], &w->node);
    list_remove(&w->turn);
    if (next == UNWRAP_QUEUED)
        turns_push(&u->turns, first_request(w)->asker, &w->turn);
}

static void answer(struct dek_request *request, enum err err, struct dek *dek, uint64_t until_ms)
{
    request->err = err;
    request->dek = dek == NULL ? NULL : dek_ref(dek);
    request->until_ms = until_ms;
    request->mail.deliver = kms__answer_deliver;
    mailbox_post(request->ring->worker_box, &request->mail);
}

static void unwrap_free(struct unwrap *w)
{
    struct unwraps *u = w->owner;

    plugin_unwrap_cancel(&w->call);
    u->calling_count -= w->state == UNWRAP_CALLING;
    u->held_bytes -= w->held_bytes;
    list_remove(&w->bucket);
    list_remove(&w->node);
    list_remove(&w->turn);
    while (!list_is_empty(&w->requests)) {
        struct dek_request *request = first_request(w);

        list_remove(&request->mail.node);
        kms__request_free(request);
    }
    free(w);
}

static void finish(struct unwrap *w, enum err err, struct dek *dek, uint64_t until_ms)
{
    while (!list_is_empty(&w->requests)) {
        struct dek_request *request = first_request(w);

        list_remove(&request->mail.node);
        answer(request, err, dek, until_ms);
    }
    unwrap_free(w);
}

/* --- the plugin's answers --------------------------------------------------------------------- */

static void refuse(struct unwrap *w, enum err err, const char *why)
{
    struct unwraps *u = w->owner;
    uint64_t until_ms = loop_now_ms(u->loop) + LIMIT_NEGATIVE_MS;

    LOG_RATED(WARN, "KMS does not unwrap a DEK", "provider=\"%s\" reason=%s why=\"%s\"",
              u->plugin->provider->name, err_reason(err), why);
    dek_cache_put(&u->refused, first_request(w)->digest, NULL, err, until_ms);
    finish(w, err, NULL, until_ms);
}

static void give_up(struct unwrap *w)
{
    struct unwraps *u = w->owner;
    enum err err = u->plugin->life.has_state ? ERR_KMS_AWAY : ERR_NO_STATE;

    LOG_RATED(WARN, "KMS is away", "provider=\"%s\" reason=%s", u->plugin->provider->name,
              err_reason(err));
    finish(w, err, NULL, 0);
}

/* Makes the DEK; when secret memory is full, once more after the caches have made room. */
static enum err make_dek(struct unwraps *u, const struct dek_id *id, struct bytes secret,
                         struct dek **out)
{
    enum err e = dek_new(id, secret, out);

    if (e != ERR_NOMEM)
        return e;
    u->plugin->on_no_room(u->plugin);
    return dek_new(id, secret, out);
}

static void wrap_refused(struct unwrap *w, enum err err, const char *why)
{
    LOG_RATED(WARN, "KMS does not wrap a DEK", "provider=\"%s\" reason=%s why=\"%s\"",
              w->owner->plugin->provider->name, err_reason(err), why);
    finish(w, err, NULL, 0);
}

static void take_wrapped(struct unwrap *w, const struct plugin_answer *a)
{
    struct dek *dek = NULL;
    enum err e = make_dek(w->owner, &a->id, a->secret, &dek);

    if (e == ERR_DEK_SOURCE_TOO_LONG) {
        wrap_refused(w, ERR_NO_WRITE_KEY, "the wrapped DEK is too long");
        return;
    }
    finish(w, e, dek, 0);
    dek_drop(dek);
}

static void on_wrap_answer(struct unwrap *w, const struct plugin_answer *a)
{
    switch (a->verdict) {
    case PLUGIN_UNWRAPPED:
        take_wrapped(w, a);
        return;
    case PLUGIN_AWAY:
        wrap_refused(w, ERR_KMS_AWAY, a->why);
        return;
    case PLUGIN_FAILED:
        finish(w, a->err, NULL, 0);
        return;
    case PLUGIN_REFUSES:
        wrap_refused(w, a->err == ERR_DEK_SOURCE_EXPOSED ? a->err : ERR_NO_WRITE_KEY, a->why);
        return;
    }
}

static void take_secret(struct unwrap *w, struct bytes secret)
{
    struct dek *dek = NULL;
    enum err e = make_dek(w->owner, &first_request(w)->id, secret, &dek);

    if (e == ERR_BAD_DEK_SIZE) {
        refuse(w, e, "wrong size of the unwrapped secret");
        return;
    }
    finish(w, e, dek, 0);
    if (e == ERR_OK)
        dek_drop(dek);
}

static void park(struct unwrap *w)
{
    struct unwraps *u = w->owner;

    w->again_ms = loop_now_ms(u->loop) + w->pause_ms;
    w->pause_ms = w->pause_ms * 2 < PAUSE_MAX_MS ? w->pause_ms * 2 : PAUSE_MAX_MS;
    set_state(w, UNWRAP_PARKED);
}

static void pump(struct unwraps *u);

static void on_answer(struct plugin_unwrap *call, const struct plugin_answer *a)
{
    struct unwrap *w = CONTAINER_OF(call, struct unwrap, call);
    struct unwraps *u = w->owner;

    if (w->is_wrap) {
        on_wrap_answer(w, a);
        pump(u);
        return;
    }
    switch (a->verdict) {
    case PLUGIN_UNWRAPPED:
        take_secret(w, a->secret);
        break;
    case PLUGIN_AWAY:
        LOG(DEBUG, "KMS does not answer, the call is repeated", "provider=\"%s\" why=\"%s\"",
            u->plugin->provider->name, a->why);
        park(w);
        break;
    case PLUGIN_FAILED:
        finish(w, a->err, NULL, 0);
        break;
    case PLUGIN_REFUSES:
        refuse(w, ERR_KMS_ERROR, a->why);
        break;
    }
    pump(u);
}

/* --- queue ------------------------------------------------------------------------------------ */

static bool is_given_up(struct unwrap *w)
{
    LIST_FOREACH(it, &w->requests) {
        const struct dek_request *request = LIST_ENTRY(it, struct dek_request, mail.node);

        if (!atomic_load(&request->ticket->is_given_up))
            return false;
    }
    return true;
}

static void start(struct unwrap *w, uint64_t now)
{
    enum err e;

    if (is_given_up(w)) {
        unwrap_free(w);
        return;
    }
    if (w->deadline_ms <= now) {
        give_up(w);
        return;
    }
    set_state(w, UNWRAP_CALLING);
    if (w->is_wrap)
        e = plugin_wrap(w->owner->plugin, w->deadline_ms - now, &w->call);
    else
        e = plugin_unwrap(w->owner->plugin, &first_request(w)->id, w->deadline_ms - now, &w->call);
    if (e == ERR_KMS_ERROR)
        refuse(w, e, "the key id holds a NUL byte");
    else if (e != ERR_OK)
        finish(w, e, NULL, 0);
}

/* A plugin may be one that is not polled, or may rest: whoever waits for one that was never reached
 * has it checked. */
static void check_if_waited_for(struct unwraps *u, uint64_t now)
{
    struct plugin *p = u->plugin;

    if ((!p->ops->is_polled || p->is_resting) && !p->life.has_state && !list_is_empty(&u->parked) &&
        now >= p->life.ended_ms + RECHECK_MS)
        plugin_check(p);
}

static void keep_ticking(struct unwraps *u)
{
    if ((list_is_empty(&u->queued) && list_is_empty(&u->parked)) || loop_timer_is_active(&u->tick))
        return;
    CHECK(loop_timer_start(u->loop, &u->tick, TICK_MS) == ERR_OK); /* exists since unwraps_init */
}

static void pump(struct unwraps *u)
{
    uint64_t now = loop_now_ms(u->loop);

    while (u->calling_count < UNWRAP_CALLS_MAX) {
        struct list *turn = turns_next(&u->turns);

        if (turn == NULL)
            break;
        start(LIST_ENTRY(turn, struct unwrap, turn), now);
    }
    keep_ticking(u);
}

static void on_tick(struct loop_timer *t)
{
    struct unwraps *u = CONTAINER_OF(t, struct unwraps, tick);
    uint64_t now = loop_now_ms(u->loop);

    LIST_FOREACH(it, &u->queued) {
        struct unwrap *w = LIST_ENTRY(it, struct unwrap, node);

        if (is_given_up(w))
            unwrap_free(w);
        else if (w->deadline_ms <= now)
            give_up(w);
    }
    LIST_FOREACH(it, &u->parked) {
        struct unwrap *w = LIST_ENTRY(it, struct unwrap, node);

        if (is_given_up(w))
            unwrap_free(w);
        else if (w->deadline_ms <= now)
            give_up(w);
        else if (u->plugin->life.has_state && w->again_ms <= now)
            set_state(w, UNWRAP_QUEUED);
    }
    check_if_waited_for(u, now);
    pump(u);
}

/* --- requests --------------------------------------------------------------------------------- */

static struct list *bucket_of(const struct unwraps *u, const uint8_t *digest)
{
    uint32_t h;

    memcpy(&h, digest, sizeof h);
    return &u->buckets[h % BUCKETS];
}

static struct unwrap *find(const struct unwraps *u, const uint8_t *digest)
{
    struct list *bucket = bucket_of(u, digest);

    LIST_FOREACH(it, bucket) {
        struct unwrap *w = LIST_ENTRY(it, struct unwrap, bucket);

        if (memcmp(first_request(w)->digest, digest, DEK_DIGEST_LEN) == 0)
            return w;
    }
    return NULL;
}

static bool answer_known(struct unwraps *u, struct dek_request *request)
{
    uint64_t now = loop_now_ms(u->loop);
    const struct dek_cache_entry *e;
    struct dek *own = u->plugin->dek;

    if (own != NULL && dek_id_eq(&own->id, &request->id)) {
        answer(request, ERR_OK, own, 0);
        return true;
    }
    e = dek_cache_find(&u->confirmed, request->digest, now);
    if (e == NULL)
        e = dek_cache_find(&u->refused, request->digest, now);
    if (e == NULL)
        return false;
    answer(request, e->err, e->dek, e->dek == NULL ? e->until_ms : 0);
    return true;
}

/* One request for each ring is enough: one that asks again has given up its first waits, and now
 * there are others. The first request stays, since a call may hold on to its id. */
static void join(struct unwrap *w, struct dek_request *request)
{
    if (request->deadline_ms > w->deadline_ms)
        w->deadline_ms = request->deadline_ms;
    LIST_FOREACH(it, &w->requests) {
        struct dek_request *first = LIST_ENTRY(it, struct dek_request, mail.node);

        if (first->ring == request->ring) {
            struct dek_ticket *given_up = first->ticket;

            first->ticket = request->ticket;
            request->ticket = given_up;
            kms__request_free(request);
            return;
        }
    }
    list_push(&w->requests, &request->mail.node);
}

static size_t request_len(const struct dek_request *request)
{
    size_t n =
        sizeof *request + sizeof(struct unwrap) + request->id.key_id.n + request->id.wrapped.n;

    for (uint32_t i = 0; i < request->id.annotation_count; i++)
        n += sizeof request->id.annotations[i] + request->id.annotations[i].key.n +
             request->id.annotations[i].value.n;
    return n;
}

static void begin(struct unwraps *u, struct dek_request *request)
{
    uint64_t now = loop_now_ms(u->loop);
    size_t held_bytes = request_len(request);
    struct unwrap *w;

    if (u->held_bytes + held_bytes > UNWRAP_HELD_MAX) {
        answer(request, ERR_MEMORY_LIMIT, NULL, 0);
        return;
    }
    w = calloc(1, sizeof *w);
    if (w == NULL) {
        answer(request, ERR_NOMEM, NULL, 0);
        return;
    }
    w->owner = u;
    w->held_bytes = held_bytes;
    u->held_bytes += held_bytes;
    w->call.on_done = on_answer;
    w->is_wrap = request->is_wrap;
    w->deadline_ms = request->deadline_ms;
    if (w->is_wrap && w->deadline_ms > now + u->plugin->timeout_ms)
        w->deadline_ms = now + u->plugin->timeout_ms;
    w->pause_ms = PAUSE_MIN_MS;
    list_init(&w->requests);
    list_init(&w->node);
    list_init(&w->turn);
    list_push(&w->requests, &request->mail.node);
    list_push(bucket_of(u, request->digest), &w->bucket);
    set_state(w, u->plugin->life.has_state ? UNWRAP_QUEUED : UNWRAP_PARKED);
    pump(u);
}

void unwraps_request(struct unwraps *u, struct dek_request *request)
{
    struct unwrap *w;

    if (request->is_wrap) {
        begin(u, request);
        return;
    }
    if (answer_known(u, request))
        return;
    if (u->confirmed.max > 0)
        series_add(SERIES_CACHE_MISSES, NO_LABELS, 1);
    w = find(u, request->digest);
    if (w != NULL)
        join(w, request);
    else
        begin(u, request);
}

void unwraps_confirm(struct unwraps *u, const uint8_t digest[static DEK_DIGEST_LEN],
                     struct dek *dek)
{
    const struct dek_cache *c = &u->confirmed;

    if (c->max == 0) /* the configuration has it off */
        return;
    dek_cache_put(&u->confirmed, digest, dek, ERR_OK, loop_now_ms(u->loop) + DEK_CACHE_TTL_MS);
    plugin_note_cache(u->plugin, c->count, c->max);
}

void unwraps_make_room(struct unwraps *u)
{
    dek_cache_evict(&u->confirmed, EVICT_FOR_ROOM);
}

void unwraps_on_state(struct unwraps *u)
{
    struct dek *dek = u->plugin->dek; /* KMS v1 has none */
    uint8_t digest[DEK_DIGEST_LEN];

    /* Without a digest it is only not kept for the time after the next rotation. */
    if (dek != NULL && dek_id_digest(&dek->id, digest) == ERR_OK)
        unwraps_confirm(u, digest, dek);
    LIST_FOREACH(it, &u->parked) {
        struct unwrap *w = LIST_ENTRY(it, struct unwrap, node);

        if (w->again_ms == 0)
            set_state(w, UNWRAP_QUEUED);
    }
    pump(u);
}

enum err unwraps_init(struct unwraps *u, struct loop *loop, struct plugin *plugin)
{
    size_t cache_max = provider_cache_size(plugin->provider, UNWRAP_CACHE_MAX);

    *u = (struct unwraps){.loop = loop, .plugin = plugin};
    list_init(&u->queued);
    list_init(&u->parked);
    list_init(&u->calling);
    turns_init(&u->turns);
    loop_timer_init(&u->tick, on_tick);
    u->buckets = calloc(BUCKETS, sizeof *u->buckets);
    if (u->buckets == NULL)
        return ERR_NOMEM;
    for (size_t i = 0; i < BUCKETS; i++)
        list_init(&u->buckets[i]);
    if (loop_timer_start(loop, &u->tick, TICK_MS) != ERR_OK)
        goto err_buckets;
    if (dek_cache_init(&u->confirmed, cache_max, true) != ERR_OK)
        goto err_tick;
    if (dek_cache_init(&u->refused, UNWRAP_REFUSED_MAX, false) != ERR_OK)
        goto err_confirmed;
    return ERR_OK;

err_confirmed:
    dek_cache_fini(&u->confirmed);
err_tick:
    loop_timer_fini(&u->tick);
err_buckets:
    free(u->buckets);
    return ERR_NOMEM;
}

static void free_all(struct list *l)
{
    while (!list_is_empty(l))
        unwrap_free(LIST_FIRST(l, struct unwrap, node));
}

void unwraps_fini(struct unwraps *u)
{
    loop_timer_fini(&u->tick);
    free_all(&u->queued);
    free_all(&u->parked);
    free_all(&u->calling);
    turns_fini(&u->turns);
    dek_cache_fini(&u->confirmed);
    dek_cache_fini(&u->refused);
    free(u->buckets);
}
