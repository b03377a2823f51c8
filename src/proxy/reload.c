/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a rule set:
 *   1. loaded and checked; it may not leave a protected key unprotected (without
 * --allow-unprotect);
 *   2. ON_PROBATION: its key manager reaches the plugins, 10 s at most; the first set skips this;
 *   3. every worker makes a key ring for it (KEYSET_MADE), the ring joins the manager, so that it
 * knows the write keys, and only then the worker plans new messages with it: IN_USE;
 *   4. RETIRED when the next one is in use: messages in work end with it; when the last ring is
 * freed its manager is closed. TLS files are read again when their content changes; connections
 * that are open stay as they are. Failure modes: on any error what was in use stays, with a log
 * line and the failure counter. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/registry.h"
#include "config/digest.h"
#include "proxy/server_int.h"

#define PROBATION_MS 10000
#define PROBATION_TICK_MS 100
#define FILES_INTERVAL_MS 60000
#define REFUSED_AGAIN_MS 10000 /* file events alone do not try the same refused content sooner */
#define WHY_MAX 4096

/* --- sets ------------------------------------------------------------------------------------ */

static void on_primed(void *arg);
static void on_probation_tick(struct loop_timer *t);

/* Takes rules, also on error. */
static enum err set_new(struct server *s, struct ruleset *rules, struct server_set **out)
{
    const struct kms_manager_opts kms = {
        .loop = &s->loop, .plugins = rules->plugins, .plugin_count = rules->plugin_count};
    struct server_set *set = calloc(1, sizeof *set);
    enum err e = set == NULL ? ERR_NOMEM : kms_manager_new(&kms, &set->manager);

    if (e != ERR_OK) {
        free(set);
        ruleset_drop(rules);
        return e;
    }
    set->server = s;
    set->rules = rules;
    set->state = SET_ON_PROBATION;
    loop_timer_init(&set->timer, on_probation_tick);
    list_push(&s->sets, &set->node);
    *out = set;
    return ERR_OK;
}

static void on_manager_closed(void *arg)
{
    struct server_set *set = arg;
    struct server *s = set->server;

    list_remove(&set->node);
    loop_timer_fini(&set->timer);
    ruleset_drop(set->rules);
    free(set);
    if (s->worker_count == 0 && list_is_empty(&s->sets))
        server__finish(s);
}

static void set_close_if_over(struct server_set *set)
{
    if (set->state != SET_RETIRED || set->rings > 0 || set->is_closing)
        return;
    set->is_closing = true;
    kms_manager_close(set->manager, on_manager_closed, set);
}

static void set_retire(struct server_set *set)
{
    set->state = SET_RETIRED;
    loop_timer_stop(&set->timer);
    set_close_if_over(set);
}

void server__close_sets(struct server *s)
{
    s->set = NULL;
    LIST_FOREACH(it, &s->sets)
    {
        struct server_set *set = LIST_ENTRY(it, struct server_set, node);

        set->rings = 0; /* the workers are gone, and their rings with them */
        set_retire(set);
    }
}

static void say_kept(const struct worker *w)
{
    LOG(ERROR, "a worker keeps its old rules: out of memory", "worker=%u", w->number);
}

/* Every worker gets a key ring for the set; the old set retires as they let go of it. */
static void set_use(struct server *s, struct server_set *set)
{
    struct server_set *old = s->set;

    set->state = SET_IN_USE;
    s->set = set;
    for (size_t i = 0; i < s->worker_count; i++) {
        if (worker_make_keyset(s->workers[i].worker, set->rules, set->manager, set) == ERR_OK) {
            set->rings++;
            continue;
        }
        CHECK(old != NULL); /* as every allocation before serving */
        say_kept(s->workers[i].worker);
    }
    if (old != NULL)
        set_retire(old);
}

/* The worker's ring hears of the write keys before it is used. */
static void keyset_made(struct server_set *set, const struct worker_report *r)
{
    if (kms_manager_join(set->manager, &r->worker->mailbox, r->keys->ring) == ERR_OK &&
        worker_use_keyset(r->worker, r->keys) == ERR_OK)
        return;
    say_kept(r->worker);
    kms_manager_leave(set->manager, r->keys->ring);
    worker_free_keyset(r->worker, r->keys);
}

void server__on_keyset(const struct worker_report *r)
{
    struct server_set *set = r->keys_owner;

    switch (r->event) {
    case WORKER_KEYSET_MADE:
        keyset_made(set, r);
        return;
    case WORKER_KEYSET_UNUSED:
        kms_manager_leave(set->manager, r->keys->ring);
        worker_free_keyset(r->worker, r->keys);
        return;
    case WORKER_KEYSET_FREED:
        if (r->keys == NULL)
            say_kept(r->worker); /* it could not make one */
        set->rings--;
        set_close_if_over(set);
        return;
    default:
        return;
    }
}

/* --- what is protected ----------------------------------------------------------------------- */

static void say_protected(const struct ruleset *r)
{
    for (size_t i = 0; i < r->key_rules->count; i++) {
        const struct provider_list *list = &r->lists[i];

        if (list->count > 0)
            LOG(INFO, "protected", "resource=%s prefix=\"%s%s\" provider=%.*s", list->resource,
                r->key_rules->v[i].prefix,
                r->key_rules->v[i].kind == KEY_RULE_DOTLESS ? "/* (unknown kinds)" : "",
                list->v[0]->prefix.n > 0 ? (int)list->v[0]->prefix.n : 8,
                list->v[0]->prefix.n > 0 ? (const char *)list->v[0]->prefix.p : "identity");
        else if (r->key_rules->v[i].entry_count > 0)
            LOG(INFO, "excluded by identity", "prefix=%s", r->key_rules->v[i].prefix);
    }
    if (r->protected_count == 0)
        LOG(WARN, "nothing is protected: all values are stored and passed as they are",
            "allowed_by=%s", "--allow-identity-writes");
    if (r->config->has_more_documents)
        LOG(WARN, "configuration", "reason=\"only the first YAML document of the file counts\"");
    if (r->config->open_mode != 0)
        LOG(WARN, "configuration",
            "the file is open to others (mode %04o): it may hold keys, chmod 600 it",
            r->config->open_mode);
    for (size_t i = 0; i < r->key_rules->warning_count; i++)
        LOG(WARN, "configuration", "reason=%s", r->key_rules->warnings[i]);
}

static void on_primed(void *arg)
{
    const struct server_set *set = arg;

    for (size_t i = 0; i < set->rules->plugin_count; i++) {
        const char *name = set->rules->plugins[i].provider->name;
        struct kms_plugin_state state;

        kms_manager_state(set->manager, i, &state);
        if (state.has_state)
            LOG(INFO, "KMS ready", "provider=%s key_id_hash=%s", name, state.key_id_hash);
        else
            LOG(WARN, "KMS not ready: protected keys are refused until it is",
                "provider=%s reason=\"%s\"", name, state.why);
    }
}

enum err server__first_set(struct server *s, struct ruleset *rules)
{
    struct server_set *set;

    say_protected(rules);
    TRY(set_new(s, rules, &set));
    kms_manager_on_primed(set->manager, on_primed, set);
    set_use(s, set);
    return ERR_OK;
}

/* --- reload ---------------------------------------------------------------------------------- */

static void reload_failed(struct server *s, const char *why)
{
    s->refused_at_ms = loop_now_ms(&s->loop);
    metric_add(METRIC_reload_failures_total, 1);
    metric_reload(false, NULL);
    LOG(ERROR, "reload failed: the old configuration stays in force", "reason=\"%s\"", why);
}

static void reload_succeeded(struct server *s, struct server_set *set)
{
    say_protected(set->rules);
    on_primed(set);
    set_use(s, set);
    metric_add(METRIC_reload_successes_total, 1);
    metric_reload(true, set->rules->config->hash);
    LOG(INFO, "configuration reloaded", "hash=%s", set->rules->config->hash);
}

/* Names the first plugin that is not well; NULL: all are. */
static const char *ailing_plugin(const struct server_set *set, struct kms_plugin_state *state)
{
    for (size_t i = 0; i < set->rules->plugin_count; i++) {
        kms_manager_state(set->manager, i, state);
        if (!state->is_healthy || !state->has_state)
            return set->rules->plugins[i].provider->name;
    }
    return NULL;
}

static void on_probation_tick(struct loop_timer *t)
{
    struct server_set *set = CONTAINER_OF(t, struct server_set, timer);
    struct server *s = set->server;
    struct kms_plugin_state state;
    const char *ailing = ailing_plugin(set, &state);
    char why[sizeof state.why + 128];

    if (s->is_draining) {
        set_retire(set);
        return;
    }
    if (ailing == NULL) {
        reload_succeeded(s, set);
        return;
    }
    kms_manager_check(set->manager);
    if (loop_now_ms(&s->loop) < set->probation_until &&
        loop_timer_start(&s->loop, &set->timer, PROBATION_TICK_MS) == ERR_OK)
        return;
    snprintf(why, sizeof why, "KMS provider %s: %s", ailing, state.why);
    reload_failed(s, why);
    set_retire(set);
}

/* A key that the old rules protect and the new ones do not, at or below prefix. */
static bool loses(const struct ruleset *old, const struct ruleset *fresh, const char *prefix,
                  char *key, size_t key_len)
{
    static const char *const below[] = {"", "/x", "/x/y", "/x.y/z"};

    for (size_t i = 0; i < ARRAY_LEN(below); i++) {
        snprintf(key, key_len, "%s%s", prefix, below[i]);
        if (etcd_rules_find(old->rules, bytes_str(key)) != NULL &&
            etcd_rules_find(fresh->rules, bytes_str(key)) == NULL)
            return true;
    }
    return false;
}

static bool leaves_unprotected(const struct ruleset *old, const struct ruleset *fresh, char *key,
                               size_t key_len)
{
    for (size_t i = 0; i < old->key_rules->count; i++)
        if (loses(old, fresh, old->key_rules->v[i].prefix, key, key_len))
            return true;
    for (size_t i = 0; i < fresh->key_rules->count; i++)
        if (loses(old, fresh, fresh->key_rules->v[i].prefix, key, key_len))
            return true;
    return false;
}

/* One set at a time is on probation: any newer content of the file makes it void, be that good, bad
 * or what is in use. */
static void drop_probation(struct server *s)
{
    LIST_FOREACH(it, &s->sets)
    {
        struct server_set *set = LIST_ENTRY(it, struct server_set, node);

        if (set->state != SET_ON_PROBATION)
            continue;
        LOG(INFO, "the configuration changed before its KMS was reached", "hash=%s",
            set->rules->config->hash);
        set_retire(set);
    }
}

static bool is_in_state(const struct server *s, enum server_set_state state, const char *hash)
{
    LIST_FOREACH(it, &s->sets)
    {
        const struct server_set *set = LIST_ENTRY(it, struct server_set, node);

        if (set->state == state && strcmp(set->rules->config->hash, hash) == 0)
            return true;
    }
    return false;
}

/* Other files of the directory change, too, a log file for instance. */
static bool was_refused_lately(const struct server *s, const char *hash)
{
    return strcmp(hash, s->refused_hash) == 0 &&
           loop_now_ms(&s->loop) - s->refused_at_ms < REFUSED_AGAIN_MS;
}

static void reload_rules(struct server *s, bool is_forced)
{
    char why[WHY_MAX] = "", key[1024], hash[DIGEST_TEXT_LEN];
    struct ruleset *fresh;
    struct server_set *set;

    if (digest_file(s->settings->encryption_provider_config, hash) != ERR_OK)
        snprintf(hash, sizeof hash, "unreadable");
    if (is_in_state(s, SET_ON_PROBATION, hash)) /* the content decides, not the time of the file */
        return;
    drop_probation(s);
    if (is_in_state(s, SET_IN_USE, hash) || (!is_forced && was_refused_lately(s, hash)))
        return;
    snprintf(s->refused_hash, sizeof s->refused_hash, "%s", hash); /* counts if it is refused */
    if (s->source.load(s->settings, &fresh, why, sizeof why) != ERR_OK) {
        reload_failed(s, why);
        return;
    }
    if (!s->settings->allow_unprotect &&
        leaves_unprotected(s->set->rules, fresh, key, sizeof key)) {
        ruleset_drop(fresh);
        snprintf(
            why, sizeof why,
            "keys such as %s would be left unprotected; if that is meant give --allow-unprotect",
            key);
        reload_failed(s, why);
        return;
    }
    if (set_new(s, fresh, &set) != ERR_OK) {
        reload_failed(s, "out of memory");
        return;
    }
    set->probation_until = loop_now_ms(&s->loop) + PROBATION_MS;
    on_probation_tick(&set->timer);
}

/* --- TLS ------------------------------------------------------------------------------------- */

void server__tls_hash(const struct server *s, char out[static 72])
{
    const struct settings *o = s->settings;
    const char *const files[] = {o->cert_file,   o->key_file,      o->trusted_ca_file,
                                 o->etcd_cafile, o->etcd_certfile, o->etcd_keyfile};

    digest_files(files, ARRAY_LEN(files), out);
}

static void swap_tls(struct net_tls **slot, struct net_tls *fresh)
{
    if (*slot != NULL)
        net_tls_drop(*slot);
    *slot = fresh;
}

static void reload_tls(struct server *s)
{
    struct net_tls *tls = NULL, *etcd = NULL, *etcd_http1 = NULL;
    char why[WHY_MAX] = "", hash[DIGEST_TEXT_LEN];

    server__tls_hash(s, hash);
    if (strcmp(hash, s->tls_hash) == 0)
        return;
    if ((s->tls != NULL && server__make_server_tls(s, &tls, why, sizeof why) != 0) ||
        server__make_etcd_tls(s, &etcd, &etcd_http1, why, sizeof why) != 0) {
        if (tls != NULL)
            net_tls_drop(tls);
        LOG(ERROR, "TLS files changed but cannot be used: the old ones stay", "reason=\"%s\"", why);
        return;
    }
    memcpy(s->tls_hash, hash, sizeof hash);
    if (tls != NULL)
        swap_tls(&s->tls, tls);
    if (etcd != NULL) {
        swap_tls(&s->etcd_tls, etcd);
        swap_tls(&s->etcd_tls_http1, etcd_http1);
        for (size_t i = 0; i < s->worker_count; i++)
            worker_give_tls(s->workers[i].worker, etcd, etcd_http1);
    }
    LOG(INFO, "TLS files reloaded", "%s", "");
}

/* --- */

void server__reload(struct server *s, bool is_forced)
{
    if (s->is_draining)
        return;
    reload_tls(s);
    /* A pipe never changes for us. Asked by signal, reload_rules says so. */
    if (is_forced || (s->settings->encryption_provider_config_automatic_reload &&
                      !file_is_read_once(s->settings->encryption_provider_config)))
        reload_rules(s, is_forced);
}

static void on_files(void *arg)
{
    server__reload(arg, false);
}

enum err server__watch(struct server *s)
{
    const struct settings *o = s->settings;
    const char *const all[] = {o->encryption_provider_config,
                               o->cert_file,
                               o->key_file,
                               o->trusted_ca_file,
                               o->etcd_cafile,
                               o->etcd_certfile,
                               o->etcd_keyfile};
    const char *given[ARRAY_LEN(all)];
    size_t count = 0;

    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        if (all[i] != NULL)
            given[count++] = all[i];
    return loop_watch_new(&s->loop, given, count, FILES_INTERVAL_MS, on_files, s, &s->watch);
}
