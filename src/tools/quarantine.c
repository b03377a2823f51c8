/* SPDX-License-Identifier: Apache-2.0 */
/* Happy path, out: a run over all values of the kinds of the named keys counts, and keeps the named
 * ones with their verdicts; if each may be moved, one Txn after the other.
 * Happy path, back: each copy is read, then what is under its old key, and the copy is judged as a
 * value of that key; then as above.
 * Failure modes:
 *  - a plugin or etcd is away: the run ends, and nothing was moved if it was still being looked;
 *  - a key may not be moved: nothing is;
 *  - somebody was quicker with one: that one is left, the others are moved;
 *  - an answer was lost: the Txn is made again, and finds its own work done. */
#include "tools/quarantine_int.h"

#include <stdlib.h>

#include "sweep/source_etcd.h"
#include "tools/words.h"

/* --- the end ---------------------------------------------------------------------------------- */

static void finish(struct quarantine *q, enum err e, const char *why)
{
    sweep_judge_fini(&q->judge);
    tools__ask_cancel(&q->ask);
    sweep_call_cancel(&q->call);
    slice_drop(&q->request);
    if (q->sweep != NULL)
        sweep_stop(q->sweep);
    q->sweep = NULL;
    if (q->source != NULL)
        q->source->ops->close(q->source);
    q->source = NULL;
    q->is_through = e == ERR_OK;
    tools_cluster_end(q->c, e, why);
}

static struct slice copy_of(struct quarantine *q, struct bytes v)
{
    struct slab *slab;

    if (v.n == 0)
        return SLICE_EMPTY;
    slab = slab_new(&q->c->pool, v.n, SLAB_SECRET);
    CHECK(slab != NULL); /* nothing is served yet: as base_xcalloc */
    memcpy(slab->data, v.p, v.n);
    slab->fill = (uint32_t)v.n;
    return (struct slice){slab, 0, slab->fill};
}

/* It is about copies: they are moved back, or deleted. */
static bool is_of_copies(const struct quarantine *q)
{
    return q->o->is_restore || q->o->is_discard;
}

static struct bytes from_of(const struct quarantine *q, const struct tools__case *k)
{
    return bytes_str(is_of_copies(q) ? k->copy : k->key);
}

static struct bytes to_of(const struct quarantine *q, const struct tools__case *k)
{
    return bytes_str(is_of_copies(q) ? k->key : k->copy);
}

/* True when it is bad, and the run ended. */
static bool is_bad(struct quarantine *q, const struct client_answer *a)
{
    char why[TOOLS_CLUSTER_WHY];
    enum err e = tools__answer_judge(a, why, sizeof why);

    if (e != ERR_OK)
        finish(q, e, why);
    return e != ERR_OK;
}

static void malformed(struct quarantine *q, enum err e)
{
    finish(q, e, "etcd's answer is malformed");
}

/* --- moving ----------------------------------------------------------------------------------- */

static void move_next(struct quarantine *q);

/* What a key has, of a RangeResponse for it alone. *kv is zero where there is none. */
static enum err read_kv(struct bytes range, struct bytes key, struct etcd_kv *kv, bool *has)
{
    TRY(etcd_message_next_kv(&range, kv, has));
    return !*has || bytes_eq(kv->key, key) ? ERR_OK : ERR_ANS_OUTSIDE;
}

/* The Txn did nothing: somebody was quicker, maybe its own first attempt. */
static enum err not_moved(const struct quarantine *q, struct tools__case *k,
                          const struct etcd_move_answer *answer)
{
    bool has_from, has_to;
    struct etcd_kv from, to;

    TRY(read_kv(answer->from, from_of(q, k), &from, &has_from));
    TRY(read_kv(answer->to, to_of(q, k), &to, &has_to));
    k->fate = TOOLS__LEFT;
    if (q->o->is_discard) {
        k->fate = has_from ? TOOLS__LEFT : TOOLS__MOVED;
        k->why = has_from ? "somebody has written the key, or its copy, meanwhile" : NULL;
    } else if (!has_from && has_to && bytes_eq(to.value, slice_bytes(k->value)))
        k->fate = TOOLS__MOVED;
    else if (has_to)
        k->why = q->o->is_restore ? "the key is there again: what it has is not overwritten"
                                  : "there is a copy of this key already";
    else
        k->why =
            has_from ? "somebody has written it meanwhile" : "somebody has deleted it meanwhile";
    return ERR_OK;
}

static void on_moved(void *arg, const struct client_answer *a)
{
    struct quarantine *q = arg;
    struct tools__case *k = &q->v[q->at];
    struct etcd_move_answer answer;
    enum err e;

    if (is_bad(q, a))
        return;
    e = etcd_message_read_move(a->body, &answer);
    if (e == ERR_OK && answer.is_done)
        k->fate = TOOLS__MOVED;
    else if (e == ERR_OK)
        e = not_moved(q, k, &answer);
    q->c->has_written |= k->fate == TOOLS__MOVED;
    if (e != ERR_OK) {
        malformed(q, e);
        return;
    }
    q->at++;
    move_next(q);
}

static void put_request(const struct quarantine *q, const struct tools__case *k,
                        struct etcd_message *m)
{
    const struct etcd_move_request move = {.from = from_of(q, k),
                                           .to = to_of(q, k),
                                           .value = slice_bytes(k->value),
                                           .mod_revision = k->mod_revision};
    const struct etcd_discard_request discard = {.copy = from_of(q, k),
                                                 .original = to_of(q, k),
                                                 .copy_revision = k->mod_revision,
                                                 .original_revision = k->original_revision};

    if (q->o->is_discard)
        etcd_message_put_discard(m, &discard);
    else
        etcd_message_put_move(m, &move);
}

static void move_next(struct quarantine *q)
{
    const struct tools__case *k = &q->v[q->at];
    struct etcd_message m;
    struct bytes body;
    struct slab *slab;
    size_t cap;

    slice_drop(&q->request);
    if (q->at == q->count) {
        finish(q, ERR_OK, "");
        return;
    }
    cap = etcd_move_max(from_of(q, k).n, to_of(q, k).n, k->value.len);
    slab = slab_new(&q->c->pool, cap, SLAB_SECRET);
    if (slab == NULL) {
        finish(q, ERR_NOMEM, "out of memory");
        return;
    }
    etcd_message_init(&m, slab->data, cap);
    put_request(q, k, &m);
    CHECK(etcd_message_body(&m, &body) == ERR_OK);
    slab->fill = (uint32_t)body.n;
    q->request = (struct slice){slab, 0, slab->fill};
    sweep_call_start(&q->call, q->c->etcd, ETCD_TXN_PATH, body, LIMIT_ANSWER_UNIT, on_moved, q);
}

/* Everything was looked at. */
static void decide(struct quarantine *q)
{
    for (size_t i = 0; i < q->count; i++) {
        tools__quarantine_judge(q, &q->v[i]);
        q->is_refused |= q->v[i].fate != TOOLS__ALLOWED;
    }
    q->refused_kind = tools__quarantine_bad_kind(q);
    q->is_refused |= q->refused_kind != NULL;
    q->at = 0;
    if (q->is_refused || !q->o->is_yes)
        finish(q, ERR_OK, "");
    else
        move_next(q);
}

/* --- looking, out ----------------------------------------------------------------------------- */

static void keep_value(struct quarantine *q, struct tools__case *k, const struct sweep_value *v)
{
    k->is_found = true;
    k->value = copy_of(q, v->kv.value);
    k->mod_revision = v->kv.mod_revision;
    k->lease = v->kv.lease;
    k->state = v->verdict->state;
    k->err = v->verdict->err;
    k->provider = v->verdict->provider;
}

static enum sweep_go on_value(void *user, const struct sweep_value *v)
{
    struct quarantine *q = user;

    for (size_t i = 0; i < q->count; i++)
        if (!q->v[i].is_found && bytes_eq(v->kv.key, bytes_str(q->v[i].key)))
            keep_value(q, &q->v[i], v);
    return tools_counts_add(&q->counts, v) == ERR_OK ? SWEEP_GO : SWEEP_NO_MEMORY;
}

static void read_key(struct quarantine *q, struct bytes key, client_answer_fn fn)
{
    tools__ask(&q->ask, q->c->etcd, &(struct etcd_range_request){.key = key}, fn, q);
}

static void look_for_copies(struct quarantine *q);

static void on_copy_there(void *arg, const struct client_answer *a)
{
    struct quarantine *q = arg;
    struct tools__case *k = &q->v[q->at];
    struct etcd_kv kv;
    enum err e;

    if (is_bad(q, a))
        return;
    e = read_kv(a->body, bytes_str(k->copy), &kv, &k->is_in_the_way);
    if (e != ERR_OK) {
        malformed(q, e);
        return;
    }
    q->at++;
    look_for_copies(q);
}

/* Of the keys that are not there, as after a first run. */
static void look_for_copies(struct quarantine *q)
{
    while (q->at < q->count && q->v[q->at].is_found)
        q->at++;
    if (q->at == q->count)
        decide(q);
    else
        read_key(q, bytes_str(q->v[q->at].copy), on_copy_there);
}

static void on_end(void *user, enum err e, const char *why)
{
    struct quarantine *q = user;

    if (e == ERR_OK)
        look_for_copies(q);
    else
        finish(q, e, why);
}

static void start_sweep(struct quarantine *q)
{
    struct sweep_opts o = {.rules = q->c->rules,
                           .filter = &q->filter,
                           .judge = &q->c->judge,
                           .on_value = on_value,
                           .on_end = on_end,
                           .user = q};
    enum err e = sweep_source_etcd_new(q->c->etcd, &q->source);

    o.source = q->source;
    if (e == ERR_OK)
        e = sweep_start(&o, &q->sweep);
    if (e != ERR_OK)
        finish(q, e, "out of memory");
}

/* --- looking, back ---------------------------------------------------------------------------- */

static void look_next(struct quarantine *q);

static void take_verdict(struct quarantine *q, enum err e)
{
    struct tools__case *k = &q->v[q->at];
    char why[200];

    if (e != ERR_OK) {
        snprintf(why, sizeof why, "cannot open values: %s", tools_words(e));
        finish(q, e, why);
        return;
    }
    k->state = q->judge.verdict.state;
    k->err = q->judge.verdict.err;
    k->provider = q->judge.verdict.provider;
    sweep_judge_end(&q->judge);
    q->at++;
    look_next(q);
}

static void on_judged(struct sweep_judge *j)
{
    take_verdict(CONTAINER_OF(j, struct quarantine, judge), j->err);
}

static void on_original(void *arg, const struct client_answer *a)
{
    struct quarantine *q = arg;
    struct tools__case *k = &q->v[q->at];
    struct etcd_kv kv;
    enum err e;

    if (is_bad(q, a))
        return;
    e = read_kv(a->body, bytes_str(k->key), &kv, &k->is_in_the_way);
    if (e != ERR_OK) {
        malformed(q, e);
        return;
    }
    if (q->o->is_discard && !k->is_in_the_way) {
        q->at++;
        look_next(q);
        return;
    }
    if (q->o->is_discard) { /* what is there again has to be good */
        k->original_revision = kv.mod_revision;
        slice_drop(&k->value);
        k->value = copy_of(q, kv.value);
    }
    q->judge.on_done = on_judged;
    e = sweep_judge_start(&q->judge, &q->c->judge, bytes_str(k->key), k->list, k->value);
    if (e != ERR_AGAIN)
        take_verdict(q, e);
}

static void on_copy(void *arg, const struct client_answer *a)
{
    struct quarantine *q = arg;
    struct tools__case *k = &q->v[q->at];
    struct etcd_kv kv;
    enum err e;

    if (is_bad(q, a))
        return;
    e = read_kv(a->body, bytes_str(k->copy), &kv, &k->is_found);
    if (e != ERR_OK) {
        malformed(q, e);
    } else if (!k->is_found) {
        q->at++;
        look_next(q);
    } else {
        k->value = copy_of(q, kv.value);
        k->mod_revision = kv.mod_revision;
        read_key(q, bytes_str(k->key), on_original);
    }
}

static void look_next(struct quarantine *q)
{
    if (q->at == q->count)
        decide(q);
    else
        read_key(q, bytes_str(q->v[q->at].copy), on_copy);
}

/* --- exported --------------------------------------------------------------------------------- */

static void on_ready(void *arg)
{
    struct quarantine *q = arg;

    if (is_of_copies(q))
        look_next(q);
    else
        start_sweep(q);
}

static void make_cases(struct quarantine *q)
{
    q->count = q->o->key_count;
    q->v = base_xcalloc(q->count + 1, sizeof *q->v);
    q->kinds = base_xcalloc(q->count + 1, sizeof *q->kinds);
    for (size_t i = 0; i < q->count; i++) {
        struct tools__case *k = &q->v[i];
        size_t n = strlen(q->o->prefix) + strlen(q->o->keys[i]) + 1;

        k->key = q->o->keys[i];
        k->copy = base_xcalloc(n, 1);
        snprintf(k->copy, n, "%s%s", q->o->prefix, k->key);
        k->list = etcd_rules_find(q->c->rules->rules, bytes_str(k->key));
        CHECK(k->list != NULL);
        q->kinds[i] = k->list->resource; /* twice is no harm */
    }
    q->filter = (struct sweep_filter){.resources = q->kinds, .resource_count = q->count};
}

static enum tools_quarantine_result result_of(const struct quarantine *q)
{
    if (!q->is_through)
        return TOOLS_QUARANTINE_FAILED;
    if (q->is_refused)
        return TOOLS_QUARANTINE_REFUSED;
    if (!q->o->is_yes)
        return TOOLS_QUARANTINE_PLANNED;
    for (size_t i = 0; i < q->count; i++)
        if (q->v[i].fate != TOOLS__MOVED)
            return TOOLS_QUARANTINE_PART;
    return TOOLS_QUARANTINE_GOOD;
}

enum tools_quarantine_result tools_quarantine(struct tools_cluster *c,
                                              const struct tools_quarantine_opts *o)
{
    struct quarantine q = {.c = c, .o = o};
    enum tools_quarantine_result result;

    make_cases(&q);
    tools_cluster_run(c, &q.filter, on_ready, &q);
    result = result_of(&q);
    tools__quarantine_report(&q, result);
    for (size_t i = 0; i < q.count; i++) {
        slice_drop(&q.v[i].value);
        free(q.v[i].copy);
    }
    tools__ask_fini(&q.ask);
    tools_counts_fini(&q.counts);
    free(q.kinds);
    free(q.v);
    return result;
}
