/* SPDX-License-Identifier: Apache-2.0 */
/* Happy path: the cluster is ready; a run over all protected values counts them, and lists those
 * that were asked for; at its end the report. Failure modes: whatever ends the run early ends it
 * without a report: what was not looked at cannot be vouched for. */
#include "tools/verify_int.h"

#include <time.h>

/* The key id with which values were counted as current: is it that in the end, too? */
static bool is_still_current(const struct verify *v, const struct tools_key_count *k)
{
    const struct provider_traits *t = k->by != NULL ? provider_traits(k->by) : NULL;
    const struct dek *dek;

    if (k->state != SWEEP_CURRENT || t == NULL || !t->is_kms || t->has_dek_per_value)
        return true;
    dek = keyring_state(v->c->ring, k->by);
    return dek != NULL && bytes_eq(dek->id.key_id, bytes_of(k->name, k->name_len));
}

static bool has_key_changed(const struct verify *v)
{
    for (size_t i = 0; v->c->ring != NULL && i < v->counts.count; i++)
        for (size_t k = 0; k < v->counts.v[i].key_count; k++)
            if (!is_still_current(v, &v->counts.v[i].keys[k]))
                return true;
    return false;
}

static void finish(struct verify *v, enum err e, const char *why)
{
    tools_progress_stop(&v->progress);
    if (v->sweep != NULL) {
        v->position = *sweep_position(v->sweep);
        sweep_stop(v->sweep);
    }
    v->sweep = NULL;
    if (v->source != NULL)
        v->source->ops->close(v->source);
    v->source = NULL;
    v->ended_s = (int64_t)time(NULL);
    v->is_done = e == ERR_OK;
    v->has_key_changed = has_key_changed(v);
    if (v->c->etcd != NULL)
        sweep_etcd_server(v->c->etcd, v->server);
    tools_cluster_end(v->c, e, why);
}

static bool is_listed(const struct verify *v, const struct sweep_verdict *d)
{
    bool is_refused = d->state == SWEEP_PLAINTEXT && d->err != ERR_OK;

    switch (v->o->list) {
    case TOOLS_LIST_UNREADABLE:
        return d->state == SWEEP_UNREADABLE || is_refused;
    case TOOLS_LIST_PLAINTEXT:
        return d->state == SWEEP_PLAINTEXT;
    case TOOLS_LIST_STALE:
        return d->state == SWEEP_OTHER || d->state == SWEEP_OLDER;
    default:
        return false;
    }
}

static enum sweep_go on_value(void *user, const struct sweep_value *value)
{
    struct verify *v = user;

    v->progress.done++;
    if (is_listed(v, value->verdict))
        tools__verify_list(v, value);
    /* Plaintext is not copied to where it was not. */
    if (value->verdict->state == SWEEP_UNREADABLE && v->o->export != NULL)
        tools_export_add(v->o->export, value, tools_counts_reason(value->verdict));
    return tools_counts_add(&v->counts, value) == ERR_OK ? SWEEP_GO : SWEEP_NO_MEMORY;
}

static void on_end(void *user, enum err e, const char *why)
{
    struct verify *v = user;
    const struct tools_export *x = v->o->export;

    if (e == ERR_OK && x != NULL && x->err != ERR_OK)
        finish(v, x->err, x->why);
    else
        finish(v, e, why);
}

static void on_interrupt(void *arg)
{
    struct verify *v = arg;

    if (!v->is_done)
        finish(v, ERR_CLOSED, "interrupted by a signal");
}

static enum err make_source(struct verify *v)
{
    if (v->o->snapshot != NULL)
        return tools_snapshot_source(v->o->snapshot, &v->c->loop, &v->source);
    return sweep_source_etcd_new(v->c->etcd, &v->source);
}

static void on_ready(void *arg)
{
    struct verify *v = arg;
    struct sweep_opts o = {.rules = v->c->rules,
                           .filter = &v->o->filter,
                           .judge = &v->c->judge,
                           .on_value = on_value,
                           .on_end = on_end,
                           .user = v};
    enum err e = tools_progress_start(&v->progress, &v->c->loop, "verify", v->c->key_count, false);

    if (e == ERR_OK)
        e = make_source(v);
    o.source = v->source;
    if (e == ERR_OK)
        e = sweep_start(&o, &v->sweep);
    if (e != ERR_OK)
        finish(v, e, "out of memory");
}

static enum tools_verify_result result_of(const struct verify *v)
{
    const struct tools_resource_count *all = &v->counts.all;

    if (!v->is_done)
        return TOOLS_VERIFY_FAILED;
    if (all->states[SWEEP_UNREADABLE] + all->unread_plain > 0)
        return TOOLS_VERIFY_UNREADABLE;
    if (all->due > 0 || v->has_key_changed ||
        (!v->o->is_open && tools__verify_has_several_key_ids(v)))
        return TOOLS_VERIFY_DUE;
    if (v->c->rules->protected_count == 0 ||
        (all->count == 0 && v->c->outside.found == TOOLS_OUTSIDE_REGISTRY))
        return TOOLS_VERIFY_NOTHING;
    return TOOLS_VERIFY_GOOD;
}

enum tools_verify_result tools_verify(struct tools_cluster *c, const struct tools_verify_opts *o)
{
    struct verify v = {.c = c, .o = o, .json = {.f = o->out}, .began_s = (int64_t)time(NULL)};
    enum tools_verify_result result;

    if (o->is_json) {
        json_open(&v.json, NULL, '{');
        if (o->list != TOOLS_LIST_NONE)
            json_open(&v.json, "keys", '[');
    }
    if (o->snapshot != NULL) {
        c->key_count = snapshot_store_count(o->snapshot->store);
        c->outside.found = o->snapshot->outside.found;
        c->outside.root = o->snapshot->outside.root;
        c->outside.registry = o->snapshot->outside.registry;
    }
    c->on_interrupt = on_interrupt;
    tools_cluster_run(c, &o->filter, on_ready, &v);
    result = result_of(&v);
    tools__verify_report(&v, result);
    tools_counts_fini(&v.counts);
    return result;
}
