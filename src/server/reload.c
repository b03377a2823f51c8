/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a rule set:
 *   1. loaded and checked; it may not leave a protected key unprotected, unless --allow-unprotect
 *      was given;
 *   2. ON_PROBATION: its key manager reaches the plugins, 10 s at most; if it drops a key that the
 *      set in use has, no stored value may need that, which converge/drop.h finds out within 60 s,
 *      unless --allow-drop-keys was given; the first set skips both;
 *   3. every worker makes a key ring for it (KEYSET_MADE), the ring joins the manager, so that it
 *      knows the write keys, and only then the worker plans new messages with it: IN_USE;
 *   4. RETIRED when the next one is in use: messages in work end with it, its manager rests; when
 *      the last ring is freed its manager is closed.
 *
 *   loaded --> ON_PROBATION -- no objections ---> IN_USE -- the next set takes over --> RETIRED
 *                   `-- time is up, or the file changed again --> RETIRED
 *
 * Failure modes: on any error the set in use stays, with a log line and the failure counter.
 * Content that was refused is tried again when the file has changed in between, on SIGHUP, and at
 * the earliest after REFUSED_AGAIN_MS, for its plugin may be back. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/metric_series.h"
#include "config/digest.h"
#include "server/server_int.h"

#define PROBATION_MS 10000
#define PROBATION_TICK_MS 100
#define FILES_INTERVAL_MS 60000
#define REFUSED_AGAIN_MS 10000 /* file events alone do not try the same refused content sooner */
#define SETTLE_MS 2000
#define WHY_MAX 4096

/* --- sets ------------------------------------------------------------------------------------ */

static void on_probation_tick(struct loop_timer *t);

static void set_set_state(struct server_set *set, enum server_set_state to)
{
    static const uint8_t legal[] = {
        [SET_ON_PROBATION] = 1 << SET_IN_USE | 1 << SET_RETIRED,
        [SET_IN_USE] = 1 << SET_RETIRED,
        [SET_RETIRED] = 1 << SET_RETIRED, /* again, at the end */
    };

    CHECK(legal[set->state] & 1 << to);
    set->state = to;
}

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
    set_set_state(set, SET_RETIRED);
    loop_timer_stop(&set->timer);
    if (set->drop != NULL)
        converge_drop_free(set->drop);
    set->drop = NULL;
    kms_manager_rest(set->manager); /* a client that does not read its answers may keep it long */
    set_close_if_over(set);
}

void server__close_sets(struct server *s)
{
    s->set = NULL;
    if (s->converge != NULL)
        converge_close(s->converge); /* it has a ring of the set in use */
    LIST_FOREACH(it, &s->sets) {
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

    set_set_state(set, SET_IN_USE);
    s->set = set;
    for (size_t i = 0; i < s->worker_count; i++) {
        if (worker_make_keyset(s->workers[i].worker, set->rules, set->manager, set) == ERR_OK) {
            set->rings++;
            continue;
        }
        CHECK(old != NULL); /* before serving starts, allocations may abort */
        say_kept(s->workers[i].worker);
    }
    if (s->converge != NULL && converge_use(s->converge, set->rules, set->manager) != ERR_OK)
        LOG(ERROR, "converge: out of memory, nothing is looked at until the next reload", "%s", "");
    server__look_later(s);
    if (old != NULL)
        set_retire(old);
}

/* The worker's ring joins the manager, and so gets the write keys, before it is used. */
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
            say_kept(r->worker); /* the worker had no memory for a key ring */
        set->rings--;
        if (set->state == SET_RETIRED)
            set->server->settled_ms = loop_now_ms(&set->server->loop);
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
            "reason=\"the file is open to others (mode %04o): it may hold keys, chmod 600 it\"",
            r->config->open_mode);
    for (size_t i = 0; i < r->key_rules->warning_count; i++)
        LOG(WARN, "configuration", "reason=%s", r->key_rules->warnings[i]);
}

static void say_plugins(const struct server_set *set)
{
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

static void on_first_primed(void *arg)
{
    struct server_set *set = arg;

    say_plugins(set);
    server__keys_tried(set->server);
}

enum err server__first_set(struct server *s, struct ruleset *rules)
{
    struct server_set *set;

    say_protected(rules);
    TRY(set_new(s, rules, &set));
    kms_manager_on_primed(set->manager, on_first_primed, set);
    set_use(s, set);
    return ERR_OK;
}

/* --- reload ---------------------------------------------------------------------------------- */

static void set_reload_failed(struct server *s, bool is_failed)
{
    if (is_failed && !s->is_reload_failed)
        metric_add(METRIC_reload_failed, 1);
    else if (!is_failed && s->is_reload_failed)
        metric_sub(METRIC_reload_failed, 1);
    s->is_reload_failed = is_failed;
}

/* why: "" when it was good. */
static void note_reload(struct server *s, const char *why)
{
    s->last_reload.time_s = time(NULL);
    s->last_reload.is_good = why[0] == '\0';
    (void)snprintf(s->last_reload.why, sizeof s->last_reload.why, "%s", why);
}

static void reload_failed(struct server *s, const char *why)
{
    note_reload(s, why);
    /* A pipe is read once: SIGHUP, which TLS files may need, is no other configuration. */
    set_reload_failed(s, !file_is_read_once(s->settings->encryption_provider_config));
    metric_add(METRIC_reload_failures_total, 1);
    metric_reload(false, NULL);
    LOG(ERROR, "reload failed: the old configuration stays in force", "reason=\"%s\"", why);
}

/* The content itself is refused, not only this try. */
static void refuse_content(struct server *s, const char *hash, const char *why)
{
    snprintf(s->refused_hash, sizeof s->refused_hash, "%s", hash);
    s->refused_at_ms = loop_now_ms(&s->loop);
    reload_failed(s, why);
}

static void reload_succeeded(struct server *s, struct server_set *set)
{
    say_protected(set->rules);
    say_plugins(set);
    set_use(s, set);
    note_reload(s, "");
    set_reload_failed(s, false);
    metric_add(METRIC_reload_successes_total, 1);
    metric_reload(true, set->rules->config->hash);
    LOG(INFO, "configuration reloaded", "hash=%s", set->rules->config->hash);
}

/* The name of the first plugin that is not healthy; NULL: all are. */
static const char *ailing_plugin(const struct server_set *set, struct kms_plugin_state *state)
{
    for (size_t i = 0; i < set->rules->plugin_count; i++) {
        kms_manager_state(set->manager, i, state);
        if (!state->is_healthy || !state->has_state)
            return set->rules->plugins[i].provider->name;
    }
    return NULL;
}

static void on_drop_decided(void *user, enum err e, const char *why)
{
    struct server_set *set = user;
    struct server *s = set->server;
    struct converge_drop *drop = set->drop; /* why is a text of its own */

    set->drop = NULL;
    if (s->is_draining)
        e = ERR_CLOSED;
    else if (e == ERR_OK)
        reload_succeeded(s, set);
    else if (e == ERR_CONFIG)
        refuse_content(s, set->rules->config->hash, why);
    else
        reload_failed(s, why);
    if (e != ERR_OK)
        set_retire(set);
    if (!s->is_draining)
        server__announce_reloaded(s);
    if (drop != NULL)
        converge_drop_free(drop);
}

/* A request that was sealed under an older set keeps a ring of it until etcd has answered. One that
 * its client gave up may still be carried out in etcd: SETTLE_MS are for those. */
static bool is_settled(void *user)
{
    const struct server_set *set = user;
    const struct server *s = set->server;

    LIST_FOREACH(it, &s->sets) {
        const struct server_set *other = LIST_ENTRY(it, struct server_set, node);

        if (other->state == SET_RETIRED && other->rings > 0)
            return false;
    }
    return loop_now_ms(&s->loop) - s->settled_ms >= SETTLE_MS;
}

/* Its plugins are well. If it drops keys, stored values may not need them. */
static void check_keys(struct server_set *set)
{
    struct server *s = set->server;
    const struct converge_drop_opts o = {.loop = &s->loop,
                                         .etcd_urls = s->etcd_urls,
                                         .etcd_url_count = s->env.etcd_url_count,
                                         .tls = s->etcd_tls,
                                         .login = s->login,
                                         .place = s->settings->converge_key,
                                         .has_to_read_it = s->converge != NULL,
                                         .now = s->set->rules,
                                         .next = set->rules,
                                         .is_settled = is_settled,
                                         .on_decided = on_drop_decided,
                                         .user = set};
    char why[WHY_MAX] = "";
    enum err e = ERR_OK;

    if (!s->settings->allow_drop_keys)
        e = converge_drop_start(&o, &set->drop, why, sizeof why);
    if (e != ERR_OK || set->drop == NULL)
        on_drop_decided(set, e, why);
    else
        LOG(INFO, "the new configuration drops keys: looking whether stored values need them",
            "limit_s=%u", CONVERGE_DROP_MS / 1000);
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
        check_keys(set);
        return;
    }
    kms_manager_check(set->manager);
    if (loop_now_ms(&s->loop) < set->probation_until &&
        loop_timer_start(&s->loop, &set->timer, PROBATION_TICK_MS) == ERR_OK)
        return;
    snprintf(why, sizeof why, "KMS provider %s: %s", ailing, state.why);
    refuse_content(s, set->rules->config->hash, why);
    set_retire(set);
    server__announce_reloaded(s);
}

/* Only one set at a time is on probation: any newer content of the file ends its probation, be that
 * content good, bad or the one in use. */
static void drop_probation(struct server *s)
{
    LIST_FOREACH(it, &s->sets) {
        struct server_set *set = LIST_ENTRY(it, struct server_set, node);

        if (set->state != SET_ON_PROBATION)
            continue;
        LOG(INFO, "the configuration changed before its KMS was reached", "hash=%s",
            set->rules->config->hash);
        set_retire(set);
    }
}

static void hash_now(const struct server *s, char hash[static DIGEST_TEXT_LEN])
{
    if (file_is_read_once(s->settings->encryption_provider_config))
        snprintf(hash, DIGEST_TEXT_LEN, "read once");
    else if (digest_file(s->settings->encryption_provider_config, hash) != ERR_OK)
        snprintf(hash, DIGEST_TEXT_LEN, "unreadable");
}

/* What is known of the file's present content. REFUSED lasts only while the content stays the same:
 * if it changes and changes back it is NEW again, for the reason may be gone. */
enum content { CONTENT_NEW = 0, CONTENT_REFUSED, CONTENT_ON_PROBATION, CONTENT_IN_USE };

static enum content judge_content(struct server *s, const char *hash)
{
    LIST_FOREACH(it, &s->sets) {
        const struct server_set *set = LIST_ENTRY(it, struct server_set, node);

        if (set->state != SET_RETIRED && strcmp(set->rules->config->hash, hash) == 0) {
            s->refused_hash[0] = '\0';
            return set->state == SET_IN_USE ? CONTENT_IN_USE : CONTENT_ON_PROBATION;
        }
    }
    if (strcmp(hash, s->refused_hash) != 0)
        s->refused_hash[0] = '\0';
    return s->refused_hash[0] != '\0' ? CONTENT_REFUSED : CONTENT_NEW;
}

/* Without --allow-unprotect no key may lose its protection. */
static enum err check_protection(const struct server *s, const struct ruleset *fresh, char *why,
                                 size_t why_len)
{
    char *key;

    if (s->settings->allow_unprotect)
        return ERR_OK;
    if (etcd_rules_lost(s->set->rules->rules, fresh->rules, &key) != ERR_OK) {
        snprintf(why, why_len, "out of memory");
        return ERR_NOMEM;
    }
    if (key == NULL)
        return ERR_OK;
    snprintf(why, why_len,
             "keys such as %s would be left unprotected; if that is meant give --allow-unprotect",
             key);
    free(key);
    return ERR_CONFIG;
}

/* hash: of the file as it was before it is read here. Only an error that lies in the content makes
 * the content REFUSED; after any other one the next event tries again. */
static void try_content(struct server *s, char hash[static DIGEST_TEXT_LEN])
{
    char why[WHY_MAX] = "", after[DIGEST_TEXT_LEN];
    struct server_set *set;
    struct ruleset *fresh;
    enum err e = s->source.load(s->settings, &fresh, why, sizeof why);

    if (e == ERR_OK) {
        snprintf(hash, DIGEST_TEXT_LEN, "%s", fresh->config->hash);
        e = check_protection(s, fresh, why, sizeof why);
        if (e != ERR_OK)
            ruleset_drop(fresh);
    } else {
        hash_now(s, after);
        if (strcmp(hash, after) != 0) /* it changed meanwhile: which content failed is not known */
            e = ERR_SYSTEM;
    }
    if (e == ERR_OK) {
        e = set_new(s, fresh, &set);
        snprintf(why, sizeof why, "key manager: %s", err_reason(e));
    }
    if (e == ERR_OK) {
        set->probation_until = loop_now_ms(&s->loop) + PROBATION_MS;
        on_probation_tick(&set->timer);
    } else if (e == ERR_NOMEM || e == ERR_SYSTEM) {
        reload_failed(s, why);
    } else {
        refuse_content(s, hash, why);
    }
}

static void reload_rules(struct server *s, bool is_forced)
{
    char hash[DIGEST_TEXT_LEN]; /* the content decides, not the time of the file */
    enum content content;

    /* A pipe cannot be read again. On SIGHUP go on, so that the load says so. */
    if (!is_forced && file_is_read_once(s->settings->encryption_provider_config))
        return;
    hash_now(s, hash);
    content = judge_content(s, hash);
    if (content == CONTENT_ON_PROBATION)
        return;
    drop_probation(s);
    if (content == CONTENT_IN_USE) {
        set_reload_failed(s, false);
        if (is_forced) { /* somebody asked, and waits for an answer */
            LOG(INFO, "the configuration has not changed: all stored values are looked at",
                "hash=%s", hash);
            server__look_asked(s);
        }
        return;
    }
    if (content == CONTENT_REFUSED && !is_forced &&
        loop_now_ms(&s->loop) - s->refused_at_ms < REFUSED_AGAIN_MS)
        return;
    try_content(s, hash);
}

static bool has_probation(const struct server *s)
{
    LIST_FOREACH(it, &s->sets)
        if (LIST_ENTRY(it, struct server_set, node)->state == SET_ON_PROBATION)
            return true;
    return false;
}

/* --- what server.c calls ---------------------------------------------------------------------- */

void server__reload(struct server *s, bool is_forced)
{
    if (s->is_draining)
        return;
    if (is_forced)
        server__announce_reloading(s);
    server__reload_login(s, is_forced);
    server__reload_tls(s, is_forced);
    if (is_forced || s->settings->encryption_provider_config_automatic_reload)
        reload_rules(s, is_forced);
    if (s->is_reload_announced && !has_probation(s))
        server__announce_reloaded(s);
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
                               o->client_crl_file,
                               o->etcd_cafile,
                               o->etcd_certfile,
                               o->etcd_keyfile,
                               o->etcd_password_file};
    const char *given[ARRAY_LEN(all)];
    size_t count = 0;

    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        if (all[i] != NULL)
            given[count++] = all[i];
    return loop_watch_new(&s->loop, given, count, FILES_INTERVAL_MS, on_files, s, &s->watch);
}
