/* SPDX-License-Identifier: Apache-2.0 */
/* A request names its checks; those of others are begun (each keeps its result for a while, so that
 * probes cost the plugins nothing) and waited for. Failure modes: of a check that is not over after
 * 10 s the last result counts. */
#include "pages/health.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pages/wait.h"

#define LIMIT_MS 10000u
#define TEXT_PLAIN "text/plain; charset=utf-8"

struct check {
    char name[40];
    bool is_excluded;
    char why[1200]; /* "" when good */
};

struct ask {
    struct pages_wait wait;
    struct pages_source *source;
    struct admin_reply *reply;
    struct http1_request request;
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

/* How many KMS checks there are: none, one for all plugins, or one for each. */
static size_t kms_check_count(const struct pages_state *st, bool *is_each)
{
    bool is_reloading = st->settings->encryption_provider_config_automatic_reload;

    *is_each = st->has_own_checks && !is_reloading;
    if (*is_each)
        return st->plugin_count;
    return st->plugin_count > 0 || is_reloading ? 1 : 0;
}

/* --- results --------------------------------------------------------------------------------- */

/* "" when the plugin is well: what it said before does not count then. */
static const char *why_of(const struct pages_plugin *p)
{
    return p->last.is_healthy ? "" : p->last.why;
}

/* kube-apiserver's one check: all plugins' errors, in brackets when there are several. */
static void all_kms_why(const struct pages_state *st, char *out, size_t cap)
{
    size_t bad = 0, at = 1;

    out[0] = out[1] = '\0';
    for (size_t i = 0; i < st->plugin_count; i++) {
        const char *why = why_of(&st->plugins[i]);

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
static size_t list_checks(const struct pages_state *st, const char *group, struct check **out)
{
    bool is_live = strcmp(group, "livez") == 0, is_each;
    size_t kms = is_live ? 0 : kms_check_count(st, &is_each);
    struct check *v = calloc(kms + 4, sizeof *v);
    size_t n = 0;

    *out = v;
    if (v == NULL)
        return 0;
    snprintf(v[n++].name, sizeof v->name, "ping");
    if (is_live)
        return n;
    snprintf(v[n].name, sizeof v->name, "etcd");
    snprintf(v[n++].why, sizeof v->why, "%s", st->etcd_why);
    for (size_t i = 0; i < kms; i++, n++) {
        if (is_each) {
            snprintf(v[n].name, sizeof v->name, "kms-provider-%zu", i);
            snprintf(v[n].why, sizeof v->why, "%s", why_of(&st->plugins[i]));
        } else {
            snprintf(v[n].name, sizeof v->name, "kms-providers");
            all_kms_why(st, v[n].why, sizeof v->why);
        }
    }
    if (strcmp(group, "readyz") == 0) {
        snprintf(v[n].name, sizeof v->name, "shutdown");
        snprintf(v[n++].why, sizeof v->why, "%s",
                 st->is_draining ? "process is shutting down" : "");
        snprintf(v[n].name, sizeof v->name, "shedding");
        snprintf(v[n++].why, sizeof v->why, "%s",
                 st->is_shedding
                     ? "calls or connections were refused in the last 10 s: there is no "
                       "memory, or no place, for more"
                     : "");
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

/* /healthz/converge has an answer of its own: a proxy that does not rewrite serves as well as any,
 * so it is in no other check. */
static int answer_converge(const struct pages_state *st, FILE *f)
{
    if (st->converge.is_well)
        fprintf(f, "ok: %s\n", st->converge.text);
    else
        fprintf(f, "internal server error: %s\n", st->converge.text);
    return st->converge.is_well ? 200 : 500;
}

/* Writes the body; returns the status. */
static int write_answer(const struct ask *a, FILE *f)
{
    struct check *v = NULL;
    struct pages_state st;
    char group[16];
    const char *one;
    int status = 500;
    size_t n = 0;

    if (!split_path(a->request.path, group, &one)) {
        fputs("404 page not found\n", f);
        return 404;
    }
    if (pages__state_take(a->source, &st) == ERR_OK)
        n = list_checks(&st, group, &v);
    if (n > 0 && st.has_converge && strcmp(a->request.path, "/healthz/converge") == 0)
        status = answer_converge(&st, f);
    else if (n > 0)
        status =
            one == NULL ? answer_all(group, a->request.query, v, n, f) : answer_one(one, v, n, f);
    free(v);
    pages__state_fini(&st);
    return status;
}

static void answer(struct pages_wait *wait)
{
    struct ask *a = CONTAINER_OF(wait, struct ask, wait);
    char *text = NULL;
    size_t text_len = 0;
    FILE *f = open_memstream(&text, &text_len);
    int status = f == NULL ? 500 : write_answer(a, f);

    if (f != NULL)
        fclose(f);
    admin_reply_send(a->reply, status, TEXT_PLAIN, bytes_of(text, text_len));
    free(text);
    free(a);
}

/* --- requests -------------------------------------------------------------------------------- */

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

/* Which checks the request needs: a set of enum pages_checked. */
static unsigned checked_by(const struct ask *a)
{
    return (wants(a, "etcd") ? PAGES_ETCD : 0u) |
           (wants(a, "kms-providers") || wants(a, "kms-provider") ? PAGES_KMS : 0u);
}

void pages__health_ask(struct pages_source *source, struct admin_reply *reply,
                       const struct http1_request *r)
{
    struct ask *a = calloc(1, sizeof *a);

    if (a == NULL) {
        admin_reply_send(reply, 500, TEXT_PLAIN, BYTES_LIT("out of memory\n"));
        return;
    }
    a->source = source;
    a->reply = reply;
    a->request = *r;
    pages__wait(source, &a->wait, checked_by(a), LIMIT_MS, answer);
}
