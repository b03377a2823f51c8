/* SPDX-License-Identifier: Apache-2.0 */
/* A request names its checks; those of others are begun (each keeps its result for a while, so that
 * probes cost the plugins nothing), and a timer looks until they are over. The checks are looked at
 * anew each time: a reload may change the plugins meanwhile. Failure modes: a check that is not
 * over after 10 s counts as failed. */
#include "pages/health.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "pages/etcd_health.h"

#define LOOK_MS 10u
#define LIMIT_MS 10000u
#define TEXT_PLAIN "text/plain; charset=utf-8"

struct check {
    char name[40];
    bool is_excluded;
    char why[1200]; /* "" when good */
};

struct ask {
    struct list node;
    struct health *health;
    struct admin_reply *reply;
    struct http1_request request;
    struct loop_timer timer;
    uint64_t until_ms;
};

struct health {
    struct server *server;
    const struct settings *settings;
    struct etcd_health *etcd;
    struct list asks;
};

/* --- which checks ---------------------------------------------------------------------------- */

/* "healthz" of "/healthz/etcd"; *one is "etcd", or NULL for all. */
static bool split_path(const char *path, char group[static 16], const char **one)
{
    const char *slash = strchr(path + 1, '/');
    size_t n = slash == NULL ? strlen(path + 1) : (size_t)(slash - path - 1);

    if (n >= 16)
        return false;
    memcpy(group, path + 1, n);
    group[n] = '\0';
    *one = slash == NULL || slash[1] == '\0' ? NULL : slash + 1;
    return strcmp(group, "livez") == 0 || strcmp(group, "readyz") == 0 ||
           strcmp(group, "healthz") == 0;
}

static bool has_own_checks(const struct ruleset *rules)
{
    for (size_t i = 0; i < rules->plugin_count; i++)
        if (provider_traits(rules->plugins[i].provider)->has_own_health_check)
            return true;
    return false;
}

/* How many KMS checks there are: none, one for all plugins, or one for each. */
static size_t kms_check_count(const struct health *h, bool *is_each)
{
    const struct ruleset *rules = server_rules(h->server);
    bool is_reloading = h->settings->encryption_provider_config_automatic_reload;

    *is_each = rules != NULL && !is_reloading && has_own_checks(rules);
    if (rules == NULL)
        return is_reloading ? 1 : 0;
    if (*is_each)
        return rules->plugin_count;
    return rules->plugin_count > 0 || is_reloading ? 1 : 0;
}

/* --- results --------------------------------------------------------------------------------- */

static void kms_why(const struct health *h, size_t slot, char *out, size_t cap)
{
    struct kms_manager *m = server_manager(h->server);
    struct kms_plugin_state state = {.why = "the server is ending"};

    if (m != NULL)
        kms_manager_state(m, slot, &state);
    snprintf(out, cap, "%s", state.is_healthy ? "" : state.why);
}

/* kube-apiserver's one check: all plugins' errors, in brackets when there are several. */
static void all_kms_why(const struct health *h, char *out, size_t cap)
{
    const struct ruleset *rules = server_rules(h->server);
    size_t bad = 0, at = 1;
    char why[1024];

    out[0] = out[1] = '\0';
    for (size_t i = 0; rules != NULL && i < rules->plugin_count; i++) {
        kms_why(h, i, why, sizeof why);
        if (why[0] == '\0')
            continue;
        if (at + 1 < cap)
            snprintf(out + at, cap - at - 1, "%skms-provider-%zu: %s", bad > 0 ? ", " : "", i, why);
        at += strlen(out + at);
        bad++;
    }
    if (bad > 1) {
        out[0] = '[';
        snprintf(out + at, cap - at, "]");
    } else {
        memmove(out, out + 1, strlen(out + 1) + 1);
    }
}

/* The checks of a group, with their results. Returns how many. */
static size_t list_checks(const struct health *h, const char *group, struct check **out)
{
    bool is_live = strcmp(group, "livez") == 0, is_each;
    size_t kms = is_live ? 0 : kms_check_count(h, &is_each);
    struct check *v = calloc(kms + 3, sizeof *v);
    size_t n = 0;

    *out = v;
    if (v == NULL)
        return 0;
    snprintf(v[n++].name, sizeof v->name, "ping");
    if (is_live)
        return n;
    snprintf(v[n].name, sizeof v->name, "etcd");
    snprintf(v[n++].why, sizeof v->why, "%s", pages__etcd_health_why(h->etcd));
    for (size_t i = 0; i < kms; i++, n++) {
        if (is_each) {
            snprintf(v[n].name, sizeof v->name, "kms-provider-%zu", i);
            kms_why(h, i, v[n].why, sizeof v->why);
        } else {
            snprintf(v[n].name, sizeof v->name, "kms-providers");
            all_kms_why(h, v[n].why, sizeof v->why);
        }
    }
    if (strcmp(group, "readyz") == 0) {
        snprintf(v[n].name, sizeof v->name, "shutdown");
        snprintf(v[n++].why, sizeof v->why, "%s",
                 server_is_draining(h->server) ? "process is shutting down" : "");
    }
    return n;
}

/* --- answers --------------------------------------------------------------------------------- */

/* Marks what the query excludes; writes a warning for names that are none. */
static void exclude(const char *query, struct check *v, size_t n, FILE *warning)
{
    char name[256];
    bool has_unknown = false;

    for (size_t k = 0; admin_query(query, "exclude", k, name, sizeof name); k++) {
        bool is_known = false;

        for (size_t i = 0; i < n; i++) {
            if (strcmp(v[i].name, name) == 0)
                v[i].is_excluded = is_known = true;
        }
        if (is_known || name[0] == '\0')
            continue;
        for (char *c = name; *c != '\0'; c++)
            *c = *c < 0x20 || *c > 0x7e || *c == '"' ? '?' : *c;
        fprintf(warning, "%s\"%s\"",
                has_unknown ? "," : "warn: some health checks cannot be excluded: no matches for ",
                name);
        has_unknown = true;
    }
    if (has_unknown)
        fputc('\n', warning);
}

/* kube-apiserver withholds the reason here; we name it, for the listener is not for everybody. */
static bool write_checks(const struct check *v, size_t n, FILE *f)
{
    bool all_good = true;

    for (size_t i = 0; i < n; i++) {
        bool is_good = v[i].why[0] == '\0';

        if (v[i].is_excluded)
            fprintf(f, "[+]%s excluded: ok\n", v[i].name);
        else if (is_good)
            fprintf(f, "[+]%s ok\n", v[i].name);
        else
            fprintf(f, "[-]%s failed: %s\n", v[i].name, v[i].why);
        all_good &= is_good || v[i].is_excluded;
    }
    return all_good;
}

static int answer_all(const char *group, const char *query, struct check *v, size_t n, FILE *f)
{
    char *warning = NULL, *lines = NULL;
    size_t warning_len, lines_len;
    FILE *w = open_memstream(&warning, &warning_len);
    FILE *l = open_memstream(&lines, &lines_len);
    bool is_good = false;

    if (w != NULL && l != NULL) {
        exclude(query, v, n, w);
        is_good = write_checks(v, n, l);
    }
    if (w != NULL)
        fclose(w);
    if (l != NULL)
        fclose(l);
    if (!is_good || admin_query_has(query, "verbose"))
        fprintf(f, "%s%s%s check %s\n", lines == NULL ? "" : lines, warning == NULL ? "" : warning,
                group, is_good ? "passed" : "failed");
    else
        fputs("ok", f);
    free(warning);
    free(lines);
    return is_good ? 200 : 500;
}

static int answer_one(const char *one, const struct check *v, size_t n, FILE *f)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(v[i].name, one) != 0)
            continue;
        if (v[i].why[0] == '\0')
            fputs("ok", f);
        else
            fprintf(f, "internal server error: %s\n", v[i].why);
        return v[i].why[0] == '\0' ? 200 : 500;
    }
    fputs("404 page not found\n", f);
    return 404;
}

static void answer(struct ask *a)
{
    char group[16], *text = NULL;
    const char *one;
    struct check *v = NULL;
    size_t n, text_len = 0;
    FILE *f = open_memstream(&text, &text_len);
    int status = 500;

    if (f != NULL && split_path(a->request.path, group, &one)) {
        n = list_checks(a->health, group, &v);
        if (n > 0)
            status = one == NULL ? answer_all(group, a->request.query, v, n, f)
                                 : answer_one(one, v, n, f);
    } else if (f != NULL) {
        fputs("404 page not found\n", f);
        status = 404;
    }
    if (f != NULL)
        fclose(f);
    admin_reply_send(a->reply, status, TEXT_PLAIN, bytes_of(text, text_len));
    free(text);
    free(v);
    list_remove(&a->node);
    loop_timer_fini(&a->timer);
    free(a);
}

/* --- waiting --------------------------------------------------------------------------------- */

/* The request needs the check of this name. */
static bool wants(const struct ask *a, const char *name)
{
    char group[16], excluded[256];
    const char *one;

    if (!split_path(a->request.path, group, &one) || strcmp(group, "livez") == 0)
        return false;
    if (one != NULL)
        return strncmp(one, name, strlen(name)) == 0;
    for (size_t k = 0; admin_query(a->request.query, "exclude", k, excluded, sizeof excluded); k++)
        if (strcmp(excluded, name) == 0)
            return false;
    return true;
}

static bool is_waiting(const struct ask *a)
{
    const struct health *h = a->health;
    struct kms_manager *m = server_manager(h->server);

    return (wants(a, "etcd") && pages__etcd_health_is_checking(h->etcd)) ||
           (m != NULL && (wants(a, "kms-providers") || wants(a, "kms-provider")) &&
            kms_manager_is_checking(m));
}

static void look(struct ask *a)
{
    struct loop *loop = server_loop(a->health->server);

    if (is_waiting(a) && loop_now_ms(loop) < a->until_ms &&
        loop_timer_start(loop, &a->timer, LOOK_MS) == ERR_OK)
        return;
    answer(a);
}

static void on_look(struct loop_timer *t)
{
    look(CONTAINER_OF(t, struct ask, timer));
}

void pages__health_ask(struct health *h, struct admin_reply *reply, const struct http1_request *r)
{
    struct kms_manager *m = server_manager(h->server);
    struct ask *a = calloc(1, sizeof *a);

    if (a == NULL) {
        admin_reply_send(reply, 500, TEXT_PLAIN, BYTES_LIT("out of memory\n"));
        return;
    }
    a->health = h;
    a->reply = reply;
    a->request = *r;
    a->until_ms = loop_now_ms(server_loop(h->server)) + LIMIT_MS;
    loop_timer_init(&a->timer, on_look);
    list_push(&h->asks, &a->node);
    if (wants(a, "etcd"))
        pages__etcd_health_check(h->etcd);
    if (m != NULL && (wants(a, "kms-providers") || wants(a, "kms-provider")))
        kms_manager_check(m);
    look(a);
}

enum err pages__health_new(struct server *server, const struct settings *settings,
                           struct health **out)
{
    struct health *h = calloc(1, sizeof *h);
    enum err e;

    if (h == NULL)
        return ERR_NOMEM;
    h->server = server;
    h->settings = settings;
    list_init(&h->asks);
    e = pages__etcd_health_new(server, &h->etcd);
    if (e != ERR_OK) {
        free(h);
        return e;
    }
    *out = h;
    return ERR_OK;
}

void pages__health_close(struct health *h)
{
    LIST_FOREACH(it, &h->asks) {
        answer(LIST_ENTRY(it, struct ask, node));
    }
    pages__etcd_health_close(h->etcd);
    free(h);
}
