/* SPDX-License-Identifier: Apache-2.0 */
/* Happy path of a value: a free slot takes key and plaintext; when its turn comes by the rate, it
 * is sealed with the key that is written with then, and sent; etcd put it; the slot is free.
 * Failure modes:
 *  - its mod_revision is another one by now: etcd's answer has the present value, which is judged;
 *    due, it goes the same way again;
 *  - the answer to a Txn was lost, and the Txn was sent again: then the present value is ours;
 *  - it is too large for etcd: that value is left as it is;
 *  - no key, no space, no permission, no etcd, or its owner's fence does not hold any more: the
 *    rewriter has failed and sends nothing any more. */
#include "sweep/rewrite.h"

#include <stdio.h>
#include <stdlib.h>

#define BYTES_MAX (4u * 1024 * 1024) /* of plaintexts on their way, when there are several */
#define BURST_NS 20000000u           /* what a late timer may make up for */
#define NS_PER_S 1000000000u
#define NOT_NOW "values may not be rewritten any more"

enum slot_state {
    SLOT_FREE = 0,
    SLOT_QUEUED,  /* waits for its turn */
    SLOT_KEY,     /* waits for a key that is made for it alone */
    SLOT_SENT,    /* the Txn is on its way */
    SLOT_JUDGING, /* somebody wrote it: that is being judged */
};

struct slot {
    struct list node; /* in free, queue or busy */
    struct sweep_rewriter *w;
    enum slot_state state;
    struct slice key; /* a slab of its own */
    struct chain plain;
    const struct provider_list *list;
    enum sweep_state was;
    int64_t mod_revision;
    unsigned conflict_count;
    struct slice sealed; /* what etcd is to store */
    struct slice request;
    struct sweep_call call;
    struct key_wait wait;
    struct slice read; /* the present value, being judged */
    struct sweep_judge judge;
};

struct sweep_rewriter {
    struct sweep_rewrite_opts o;
    struct slab_pool pool;
    struct list free, queue, busy;
    size_t in_flight; /* bytes of plaintext */
    uint64_t turn_ns; /* when the next one may be sent */
    bool has_failed;
    struct loop_timer timer;
    struct loop_task task;
    size_t slot_count;
    struct slot slots[];
};

/* --- slots ------------------------------------------------------------------------------------ */

static void slot_move(struct slot *s, enum slot_state state, struct list *to)
{
    s->state = state;
    list_remove(&s->node);
    list_push(to, &s->node);
}

static void slot_set_plain(struct slot *s, size_t len)
{
    s->w->in_flight += len - s->plain.len;
}

/* Lets go of what was made for the last try. */
static void slot_reset(struct slot *s)
{
    sweep_call_cancel(&s->call);
    keyring_cancel(&s->wait);
    s->wait = (struct key_wait){0};
    sweep_judge_end(&s->judge);
    slice_drop(&s->sealed);
    slice_drop(&s->request);
    slice_drop(&s->read);
}

static void slot_free(struct slot *s)
{
    slot_reset(s);
    slot_set_plain(s, 0);
    chain_clear(&s->plain);
    slice_drop(&s->key);
    slot_move(s, SLOT_FREE, &s->w->free);
}

static void failed(struct sweep_rewriter *w, enum err e, const char *why)
{
    if (w->has_failed)
        return;
    w->has_failed = true;
    loop_timer_stop(&w->timer);
    w->o.on_failed(w->o.user, e, why);
}

static void done(struct slot *s, enum sweep_outcome outcome)
{
    struct sweep_rewriter *w = s->w;
    struct slice key = slice_ref(s->key);
    const struct sweep_rewritten r = {.key = slice_bytes(key),
                                      .list = s->list,
                                      .was = s->was,
                                      .outcome = outcome,
                                      .value_len = s->sealed.len,
                                      .conflict_count = s->conflict_count};

    slot_free(s);
    w->o.on_done(w->o.user, &r);
    slice_drop(&key);
}

/* A slice that holds a copy; empty for no bytes. */
static enum err copy(struct sweep_rewriter *w, struct bytes from, uint32_t flags, struct slice *out)
{
    struct slab *slab;

    *out = SLICE_EMPTY;
    if (from.n == 0)
        return ERR_OK;
    slab = slab_new(&w->pool, from.n, flags);
    if (slab == NULL)
        return ERR_NOMEM;
    memcpy(slab->data, from.p, from.n);
    slab->fill = (uint32_t)from.n;
    *out = (struct slice){slab, 0, slab->fill};
    return ERR_OK;
}

/* --- the Txn ---------------------------------------------------------------------------------- */

static void queue(struct slot *s)
{
    slot_move(s, SLOT_QUEUED, &s->w->queue);
    loop_task_want(s->w->o.judge->loop, &s->w->task);
}

static void on_judged(struct sweep_judge *j);

static void take_verdict(struct slot *s)
{
    const struct sweep_verdict *v = &s->judge.verdict;
    struct slice plain;

    if (s->judge.err != ERR_OK) {
        failed(s->w, s->judge.err, "cannot open what somebody else wrote meanwhile");
    } else if (v->state == SWEEP_UNREADABLE || v->err != ERR_OK) {
        done(s, SWEEP_NOT_READABLE);
    } else if (!v->is_due) {
        done(s, SWEEP_BY_OTHERS);
    } else {
        plain = slice_ref(s->judge.plain);
        slot_set_plain(s, plain.len);
        chain_clear(&s->plain);
        slot_reset(s);
        if (chain_push(&s->plain, &plain) != ERR_OK)
            failed(s->w, ERR_NOMEM, "out of memory");
        else
            queue(s);
    }
}

static void on_judged(struct sweep_judge *j)
{
    take_verdict(CONTAINER_OF(j, struct slot, judge));
}

/* read: the RangeResponse of the key as it is now. */
static enum err look_again(struct slot *s, struct bytes read)
{
    struct etcd_kv kv;
    bool has;
    enum err e;

    TRY(etcd_message_next_kv(&read, &kv, &has));
    if (!has) {
        done(s, SWEEP_BY_OTHERS);
        return ERR_OK;
    }
    if (!bytes_eq(kv.key, slice_bytes(s->key)))
        return ERR_ANS_OUTSIDE;
    if (kv.mod_revision < 1) /* of a key that does not exist */
        return ERR_ANS_MALFORMED;
    if (bytes_eq(kv.value, slice_bytes(s->sealed))) {
        done(s, SWEEP_REWRITTEN); /* by us: the answer was lost */
        return ERR_OK;
    }
    if (kv.mod_revision == s->mod_revision) { /* so it was not the value that had changed */
        failed(s->w, ERR_AGAIN, NOT_NOW);
        return ERR_OK;
    }
    s->conflict_count++;
    s->mod_revision = kv.mod_revision;
    TRY(copy(s->w, kv.value, SLAB_SECRET, &s->read));
    s->state = SLOT_JUDGING;
    e = sweep_judge_start(&s->judge, s->w->o.judge, slice_bytes(s->key), s->list, s->read);
    if (e == ERR_AGAIN)
        return ERR_OK;
    s->judge.err = e;
    take_verdict(s);
    return ERR_OK;
}

static bool says(const struct client_answer *a, const char *text)
{
    return strstr(a->message, text) != NULL;
}

static void refused(struct slot *s, const struct client_answer *a)
{
    char why[512];

    if (says(a, "request is too large") || says(a, "larger than max")) {
        done(s, SWEEP_TOO_LARGE);
        return;
    }
    if (says(a, "database space exceeded"))
        snprintf(why, sizeof why,
                 "etcd has no space left (alarm NOSPACE): compact and defragment it, raise its "
                 "--quota-backend-bytes if need be, disarm the alarm (etcdctl alarm disarm)");
    else
        snprintf(why, sizeof why, "etcd refuses a write: %s: %.300s", grpc_status_name(a->status),
                 a->message);
    failed(s->w, ERR_SYSTEM, why);
}

static void on_answer(void *arg, const struct client_answer *a)
{
    struct slot *s = arg;
    struct etcd_replace_answer answer;
    enum err e;

    if (s->w->has_failed)
        return;
    if (a->err != ERR_OK) {
        failed(s->w, a->err, a->message);
        return;
    }
    if (a->status != GRPC_OK) {
        refused(s, a);
        return;
    }
    e = etcd_message_read_replace(a->body, &answer);
    if (e == ERR_OK && answer.is_done)
        done(s, SWEEP_REWRITTEN);
    else if (e == ERR_OK)
        e = look_again(s, answer.read);
    if (e != ERR_OK)
        failed(s->w, e, e == ERR_NOMEM ? "out of memory" : "etcd's answer is malformed");
}

/* fence: NULL: there is none. */
static enum err send_value(struct slot *s, const struct etcd_fence *fence)
{
    struct sweep_rewriter *w = s->w;
    const struct etcd_replace_request r = {.key = slice_bytes(s->key),
                                           .value = slice_bytes(s->sealed),
                                           .mod_revision = s->mod_revision,
                                           .fence = fence};
    size_t cap = etcd_replace_max(&r);
    struct slab *slab = slab_new(&w->pool, cap, SLAB_SECRET);
    struct etcd_message m;
    struct bytes body;

    if (slab == NULL)
        return ERR_NOMEM;
    etcd_message_init(&m, slab->data, cap);
    etcd_message_put_replace(&m, &r);
    CHECK(etcd_message_body(&m, &body) == ERR_OK);
    slab->fill = (uint32_t)body.n;
    s->request = (struct slice){slab, 0, slab->fill};
    s->state = SLOT_SENT;
    sweep_call_start(&s->call, w->o.etcd, ETCD_TXN_PATH, body, LIMIT_ANSWER_UNIT, on_answer, s);
    return ERR_OK;
}

/* --- sealing ---------------------------------------------------------------------------------- */

static enum err seal(struct slot *s, const struct provider *p, const struct dek *dek)
{
    struct sweep_rewriter *w = s->w;
    struct slab *slab;
    size_t n;

    TRY(envelope_sealed_len(p, dek, s->plain.len, &n));
    slab = slab_new(&w->pool, n, 0);
    if (slab == NULL)
        return ERR_NOMEM;
    slab->fill = (uint32_t)n;
    s->sealed = (struct slice){slab, 0, (uint32_t)n};
    return envelope_seal(w->o.judge->ctx, p, dek, slice_bytes(s->key), chain_begin(&s->plain),
                         s->plain.len, slab->data);
}

static void turn_is_taken(struct sweep_rewriter *w, size_t len)
{
    uint64_t now = loop_hrtime_ns(), cost = 0, bytes_cost;

    if (w->o.rate > 0)
        cost = NS_PER_S / w->o.rate;
    bytes_cost =
        w->o.byte_rate == 0 ? 0 : (uint64_t)((double)len * NS_PER_S / (double)w->o.byte_rate);
    if (bytes_cost > cost)
        cost = bytes_cost;
    if (w->turn_ns + BURST_NS < now)
        w->turn_ns = now - BURST_NS;
    w->turn_ns += cost;
}

static void seal_and_send(struct slot *s, const struct provider *p, const struct dek *dek)
{
    struct etcd_fence fence;
    enum err e = ERR_OK;

    if (s->w->o.may_write != NULL && !s->w->o.may_write(s->w->o.user, p, &fence)) {
        failed(s->w, ERR_AGAIN, NOT_NOW);
        return;
    }
    if (provider_traits(p)->is_identity)
        s->sealed = s->plain.count > 0 ? slice_ref(*chain_at(&s->plain, 0)) : SLICE_EMPTY;
    else
        e = seal(s, p, dek);
    turn_is_taken(s->w, s->sealed.len);
    if (e == ERR_OK)
        e = send_value(s, s->w->o.may_write != NULL ? &fence : NULL);
    if (e != ERR_OK)
        failed(s->w, e, e == ERR_NOMEM ? "out of memory" : "cannot seal a value");
}

static void no_key(struct sweep_rewriter *w, const struct provider *p, enum err e)
{
    char why[300];

    snprintf(why, sizeof why,
             "KMS provider %.150s gives no key to write with: %s; nothing more is written", p->name,
             sweep_key_words(e));
    failed(w, e, why);
}

static void on_key(struct key_wait *wait)
{
    struct slot *s = CONTAINER_OF(wait, struct slot, wait);
    const struct provider *p = s->list->v[0];
    struct dek *dek = wait->dek;

    if (wait->err != ERR_OK) {
        no_key(s->w, p, wait->err);
        return;
    }
    wait->dek = NULL;
    if (!s->w->has_failed)
        seal_and_send(s, p, dek);
    dek_drop(dek);
}

/* It is its turn. */
static void write_value(struct slot *s)
{
    const struct provider *p = s->list->v[0];
    const struct provider_traits *t = provider_traits(p);
    struct keyring *ring = s->w->o.judge->ring;
    struct dek *dek = NULL;
    enum err e = ERR_OK;

    slot_move(s, SLOT_KEY, &s->w->busy);
    if (t->has_dek_per_value) {
        s->wait = (struct key_wait){.on_done = on_key};
        e = keyring_wrap(ring, p, &s->wait);
        if (e != ERR_AGAIN)
            no_key(s->w, p, e);
        return;
    }
    if (t->is_kms)
        e = keyring_write_key(ring, p, &dek);
    if (e == ERR_OK)
        seal_and_send(s, p, dek);
    else
        no_key(s->w, p, e);
}

static void on_task(struct loop_task *t)
{
    struct sweep_rewriter *w = CONTAINER_OF(t, struct sweep_rewriter, task);
    bool is_limited = w->o.rate > 0 || w->o.byte_rate > 0;

    while (!w->has_failed && !list_is_empty(&w->queue)) {
        uint64_t now = loop_hrtime_ns();

        if (is_limited && w->turn_ns > now) { /* the handle exists: it cannot fail */
            CHECK(loop_timer_start(w->o.judge->loop, &w->timer, (w->turn_ns - now) / 1000000 + 1) ==
                  ERR_OK);
            return;
        }
        write_value(LIST_FIRST(&w->queue, struct slot, node));
    }
}

static void on_timer(struct loop_timer *t)
{
    struct sweep_rewriter *w = CONTAINER_OF(t, struct sweep_rewriter, timer);

    loop_task_want(w->o.judge->loop, &w->task);
}

/* --- exported --------------------------------------------------------------------------------- */

bool sweep_rewriter_has_room(const struct sweep_rewriter *w)
{
    return !list_is_empty(&w->free) && w->in_flight < BYTES_MAX;
}

bool sweep_rewriter_is_idle(const struct sweep_rewriter *w)
{
    return list_is_empty(&w->queue) && list_is_empty(&w->busy);
}

enum err sweep_rewriter_take(struct sweep_rewriter *w, const struct sweep_value *v)
{
    struct slice plain = slice_ref(v->plain);
    struct slot *s;
    enum err e;

    CHECK(sweep_rewriter_has_room(w) && v->verdict->is_due);
    s = LIST_FIRST(&w->free, struct slot, node);
    e = copy(w, v->kv.key, 0, &s->key);
    slot_set_plain(s, plain.len);
    if (e == ERR_OK)
        e = chain_push(&s->plain, &plain);
    else
        slice_drop(&plain);
    if (e != ERR_OK) {
        slot_free(s);
        return e;
    }
    s->list = v->list;
    s->was = v->verdict->state;
    s->mod_revision = v->kv.mod_revision;
    s->conflict_count = 0;
    queue(s);
    return ERR_OK;
}

enum err sweep_rewriter_new(const struct sweep_rewrite_opts *o, struct sweep_rewriter **out)
{
    struct sweep_rewriter *w = calloc(1, sizeof *w + o->parallel * sizeof w->slots[0]);

    if (w == NULL)
        return ERR_NOMEM;
    w->o = *o;
    w->slot_count = o->parallel;
    slab_pool_init(&w->pool, 3 * o->parallel);
    list_init(&w->free);
    list_init(&w->queue);
    list_init(&w->busy);
    loop_task_init(&w->task, on_task);
    loop_timer_init(&w->timer, on_timer);
    if (loop_timer_start(o->judge->loop, &w->timer, 1) != ERR_OK) {
        free(w);
        return ERR_NOMEM;
    }
    for (size_t i = 0; i < w->slot_count; i++) {
        w->slots[i].w = w;
        w->slots[i].judge.on_done = on_judged;
        list_init(&w->slots[i].node);
        list_push(&w->free, &w->slots[i].node);
    }
    *out = w;
    return ERR_OK;
}

void sweep_rewriter_free(struct sweep_rewriter *w)
{
    for (size_t i = 0; i < w->slot_count; i++) {
        struct slot *s = &w->slots[i];

        slot_free(s);
        sweep_judge_fini(&s->judge);
        chain_fini(&s->plain);
    }
    loop_task_cancel(&w->task);
    loop_timer_fini(&w->timer);
    slab_pool_fini(&w->pool);
    free(w);
}
