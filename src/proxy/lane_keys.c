/* SPDX-License-Identifier: Apache-2.0 */
/* The third step of a lane, and the begin of the fourth. What is opened without a plan (direct.h)
 * only gets the keys that are at hand.
 *
 *   RESOLVE   values that their DEK did not open a moment ago are refused; every other DEK that the
 *             plan names is asked for, and with them the DEKs that KMS v1 makes
 *             for each value to be written; a miss parks the lane. At most LIMIT_KEYS_A_MESSAGE of
 *             them are under way at a time
 *   PARKED    each answer of the key ring lets the next DEK be asked for; the last one, or the
 *             first refusal, runs the lane again
 *   APPLY     the answers move into the plan; KMS v2's write keys are taken only now, so that a
 *             key's expiry is judged when it is used */
#include <stdlib.h>

#include "proxy/lane_int.h"

#define IDLE_WORK_MAX 8u /* more than that were for calls that waited */

/* --- work --------------------------------------------------------------------------------- */

bool lane__work_take(struct lane *l)
{
    struct worker *w = l->call->worker;

    if (l->work != NULL)
        return true;
    l->work = w->idle_work;
    if (l->work == NULL) {
        l->work = calloc(1, sizeof *l->work);
        return l->work != NULL;
    }
    w->idle_work = l->work->next;
    w->idle_work_count--;
    return true;
}

size_t lane__work_size(const struct lane_work *b)
{
    return sizeof *b + etcd_plan_size(&b->plan) + b->wait_cap * sizeof *b->waits;
}

static void work_free(struct lane_work *b)
{
    etcd_plan_fini(&b->plan);
    free(b->waits);
    free(b);
}

static void work_drop_waits(struct lane_work *b)
{
    for (size_t i = 0; i < b->wait_count; i++) {
        struct key_wait *wait = &b->waits[i].wait;

        if (wait->is_pending)
            keyring_cancel(wait);
        dek_drop(wait->dek);
        wait->dek = NULL;
    }
    b->wait_count = b->pending = b->asked = 0;
    b->err = ERR_OK;
    b->ns = 0;
}

void lane__work_give_back(struct lane *l)
{
    struct worker *w = l->call->worker;
    struct lane_work *b = l->work;

    if (b == NULL)
        return;
    l->work = NULL;
    work_drop_waits(b);
    if (w->idle_work_count >= IDLE_WORK_MAX) {
        work_free(b);
        return;
    }
    etcd_plan_reset(&b->plan);
    b->next = w->idle_work;
    w->idle_work = b;
    w->idle_work_count++;
}

void lane_work_free(struct worker *w)
{
    while (w->idle_work != NULL) {
        struct lane_work *b = w->idle_work;

        w->idle_work = b->next;
        work_free(b);
    }
}

/* --- keys at hand ---------------------------------------------------------------------------- */

static struct dek *find(void *user, const struct provider *provider, const struct dek_id *id,
                        struct bytes tail)
{
    struct lane *l = user;

    worker_contexts_used(l->call->worker);
    if (id != NULL)
        return keyring_find(l->keys->ring, provider, id);
    return keyring_find_tail(l->keys->ring, provider, tail);
}

void lane__direct_init(struct lane *l, struct etcd_direct *d)
{
    struct worker *w = l->call->worker;

    *d = (struct etcd_direct){.ctx = w->envelope, .pool = &w->pool, .find = find, .user = l};
}

/* --- resolve --------------------------------------------------------------------------------- */

static bool work_reserve_waits(struct lane_work *b, size_t n)
{
    struct lane_wait *waits;

    if (n <= b->wait_cap)
        return true;
    waits = realloc(b->waits, n * sizeof *waits);
    if (waits == NULL)
        return false;
    b->waits = waits;
    b->wait_cap = n;
    return true;
}

static bool is_for_later(const struct etcd_need *need)
{
    return need->is_write && !provider_traits(need->provider)->has_dek_per_value;
}

static enum err ask_ring(struct lane *l, const struct etcd_need *need, struct key_wait *wait)
{
    if (need->is_write)
        return keyring_wrap(l->keys->ring, need->provider, wait);
    return keyring_get(l->keys->ring, need->provider, &need->id, wait);
}

/* Does e end only the value that it concerns? Of a Watch the events of earlier revisions still go
 * out: apply stops at that value. */
static bool fails_alone(const struct lane *l, enum err e)
{
    return l->is_answer && l->call->method->content == ETCD_WATCH && err_fault(e) == FAULT_KMS;
}

static void on_key(struct key_wait *wait);

/* One more wait, or an answer at once. */
static enum err ask_for_key(struct lane *l, size_t need_index)
{
    struct lane_work *b = l->work;
    struct etcd_need *need = &b->plan.needs[need_index];
    struct lane_wait *w = &b->waits[b->wait_count];
    enum err e;

    if (is_for_later(need) || need->dek != NULL || need->is_refused)
        return ERR_OK;
    *w = (struct lane_wait){
        .wait = {.asker = link_key_asker(l->call->link), .on_done = on_key, .user = l},
        .need = need_index};
    e = ask_ring(l, need, &w->wait);
    if (e == ERR_AGAIN) {
        b->wait_count++;
        b->pending++;
        return ERR_OK;
    }
    need->dek = w->wait.dek;
    need->err = e;
    return fails_alone(l, e) ? ERR_OK : e;
}

static enum err refusal(void *user, const struct etcd_need *need,
                        const uint8_t digest[static DEK_DIGEST_LEN])
{
    const struct lane *l = user;

    return keyring_value_refusal(l->keys->ring, need->provider, digest);
}

/* A DEK that opened nothing is not kept: without this every read of a damaged value would be a call
 * of the plugin. */
static enum err check_refused(struct lane *l)
{
    struct etcd_plan *p = &l->work->plan;
    bool alone = l->is_answer && l->call->method->content == ETCD_WATCH;

    if (!keyring_has_refused_values(l->keys->ring))
        return ERR_OK;
    for (size_t i = 0; i < p->need_count; i++) {
        struct etcd_need *need = &p->needs[i];

        need->is_doubtful = !need->is_write && need->dek == NULL &&
                            keyring_find(l->keys->ring, need->provider, &need->id) == NULL;
    }
    return etcd_plan_check_doubtful(p, l->call->worker->envelope, &l->msg, alone, refusal, l);
}

/* Asks for the DEKs that values of the plan need, as many as may be under way. ERR_AGAIN: there are
 * some; ERR_OK: all are there. */
static enum err ask_for_keys(struct lane *l)
{
    struct lane_work *b = l->work;

    while (b->asked < b->plan.need_count && b->pending < LIMIT_KEYS_A_MESSAGE)
        TRY(ask_for_key(l, b->asked++));
    return b->pending > 0 ? ERR_AGAIN : ERR_OK;
}

/* After the first refusal nothing more is asked: the message has failed. */
static void on_key(struct key_wait *wait)
{
    struct lane *l = wait->user;
    struct lane_work *b = l->work;
    enum err e = wait->err;

    CHECK(l->state == LANE_PARKED && b->pending > 0);
    b->pending--;
    if (e == ERR_OK || fails_alone(l, e))
        e = b->err = ask_for_keys(l);
    if (e == ERR_AGAIN) {
        b->err = ERR_OK;
        return;
    }
    lane__set_state(l, LANE_APPLY);
    lane__run(l);
}

/* The answers of the key ring move into the plan. */
static enum err collect_waits(struct lane_work *b)
{
    enum err first = b->err;

    for (size_t i = 0; i < b->wait_count; i++) {
        struct lane_wait *w = &b->waits[i];

        if (w->wait.err != ERR_OK && first == ERR_OK)
            first = w->wait.err;
        b->plan.needs[w->need].dek = w->wait.dek;
        b->plan.needs[w->need].err = w->wait.err;
        b->plan.needs[w->need].is_fresh = true;
        w->wait.dek = NULL;
    }
    return first;
}

/* The write keys come last, so that a key's expiry is judged when it is used. */
static enum err take_write_keys(struct lane *l)
{
    struct etcd_plan *p = &l->work->plan;

    for (size_t i = 0; i < p->need_count; i++) {
        struct etcd_need *need = &p->needs[i];
        struct dek *dek;

        if (!is_for_later(need) || need->dek != NULL)
            continue;
        need->err = keyring_write_key(l->keys->ring, need->provider, &dek);
        TRY(need->err);
        need->dek = dek_ref(dek);
    }
    return ERR_OK;
}

void lane__confirm_keys(struct lane *l)
{
    struct lane_work *b = l->work;

    for (size_t i = 0; i < b->wait_count; i++) {
        struct etcd_need *need = &b->plan.needs[b->waits[i].need];

        if (need->was_used)
            keyring_confirm(l->keys->ring, need->provider, need->dek);
    }
}

void lane__remember_unopened(struct lane *l)
{
    const struct etcd_unopened *u = &l->work->plan.unopened;

    if (u->err != ERR_OK)
        keyring_refuse_value(l->keys->ring, l->work->plan.needs[u->need].provider, u->digest,
                             u->err);
}

static enum lane_step keys_failed(struct lane *l, enum err e)
{
    etcd_plan_forget_part(&l->work->plan);
    etcd_plan_count_missing(&l->work->plan, e);
    lane__tally(l, 0);
    /* What a request wants opened is a value that arrived sealed: nothing stored is lost. */
    if (!l->is_answer && err_is_of_value(e))
        e = ERR_REQ_SEALED_VALUE;
    l->work->plan.err = e;
    return lane__fails(l, e);
}

enum lane_step lane__resolve(struct lane *l)
{
    enum err e = ERR_NOMEM;

    if (work_reserve_waits(l->work, l->work->plan.need_count))
        e = check_refused(l);
    if (e == ERR_OK)
        e = ask_for_keys(l);
    if (e == ERR_AGAIN) {
        lane__set_state(l, LANE_PARKED);
        call__count_kept(l->call);
        return STEP_WAIT;
    }
    if (e != ERR_OK)
        return keys_failed(l, e);
    lane__set_state(l, LANE_APPLY);
    return STEP_NEXT;
}

enum lane_step lane__take_keys(struct lane *l)
{
    enum err e = collect_waits(l->work);

    if (e == ERR_OK || fails_alone(l, e))
        e = take_write_keys(l);
    return e == ERR_OK ? STEP_NEXT : keys_failed(l, e);
}
