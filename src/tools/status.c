/* SPDX-License-Identifier: Apache-2.0 */
/* Happy path: every proxy is asked for /readyz, which has it look at etcd and the plugins, then for
 * /metrics, and where these tell of problems for /statusz, which names them; when all have answered
 * the loop ends, and the report compares them. Failure modes: one does not answer within ASK_MS: it
 * is shown as that. One has no /statusz, or no place for one more request: its problems are
 * counted, and not named. */
#include "tools/status.h"

#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

#include "kms/text.h"
#include "client/http_get.h"
#include "base/json.h"
#include "tools/problems.h"
#include "tools/samples.h"

#define ASK_MS 5000u
#define KEYS_MAX 32u

/* What a proxy writes with. */
struct write_key {
    char provider[128], key[128];
};

struct proxy {
    struct asking *all;
    const struct net_url *url;
    struct client_http_get *get;
    bool has_answered;
    char why[256];
    int ready; /* HTTP status of /readyz; 0: none */
    char version[32], config[KMS_HASH_TEXT];
    struct write_key keys[KEYS_MAX];
    size_t key_count;
    double problems; /* that its page tells of */
    struct tools_problems named;
    bool is_kms_ailing;
    double etcd_healthy; /* below 0: not said */
    double start_s, reload_s, reload_failures, reload_failed, sealed, opened, plain;
    char key_text[KEYS_MAX * (sizeof(struct write_key) + 4)];
};

struct asking {
    struct loop loop;
    const struct tools_status_opts *o;
    size_t left;
    struct proxy *proxies;
};

/* --- metrics ---------------------------------------------------------------------------------- */

static void copy_text(struct bytes from, char *out, size_t cap)
{
    kms_clean_text(from, out, cap);
}

static void note_key(struct proxy *p, const struct tools_sample *s)
{
    struct write_key *k;

    if (p->key_count == KEYS_MAX)
        return;
    k = &p->keys[p->key_count++];
    copy_text(tools_sample_label(s, "provider"), k->provider, sizeof k->provider);
    copy_text(tools_sample_label(s, "key"), k->key, sizeof k->key);
}

static bool is_named(const struct tools_sample *s, const char *name)
{
    return bytes_eq(s->name, bytes_str(name));
}

static void note_number(struct proxy *p, const struct tools_sample *s)
{
    const struct {
        const char *name;
        double *to;
    } numbers[] = {
        {"process_start_time_seconds", &p->start_s},
        {"etcd_envelope_etcd_healthy", &p->etcd_healthy},
        {"etcd_envelope_values_sealed_total", &p->sealed},
        {"etcd_envelope_values_opened_total", &p->opened},
        {"etcd_envelope_identity_reads_total", &p->plain},
        {"etcd_envelope_reload_failures_total", &p->reload_failures},
        {"etcd_envelope_reload_failed", &p->reload_failed},
    };

    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        if (is_named(s, numbers[i].name))
            *numbers[i].to = s->value;
}

static void note(struct proxy *p, const struct tools_sample *s)
{
    if (is_named(s, "etcd_envelope_config_info") && s->value == 1)
        copy_text(tools_sample_label(s, "hash"), p->config, sizeof p->config);
    else if (is_named(s, "etcd_envelope_build_info"))
        copy_text(tools_sample_label(s, "version"), p->version, sizeof p->version);
    else if (is_named(s, "etcd_envelope_kms_healthy"))
        p->is_kms_ailing |= s->value != 1;
    else if (is_named(s, "etcd_envelope_write_key_info"))
        note_key(p, s);
    else if (is_named(s, "etcd_envelope_problems"))
        p->problems += s->value;
    else if (is_named(s, "apiserver_encryption_config_controller_automatic_reload_last_timestamp_"
                         "seconds") &&
             bytes_eq(tools_sample_label(s, "status"), BYTES_LIT("success")))
        p->reload_s = s->value;
    else
        note_number(p, s);
}

static int key_cmp(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct write_key)); /* texts, and zeros behind them */
}

static void read_metrics(struct proxy *p, struct bytes text)
{
    struct tools_sample s;
    size_t at = 0;

    while (tools_samples_next(&text, &s))
        note(p, &s);
    if (p->key_count > 0)
        qsort(p->keys, p->key_count, sizeof p->keys[0], key_cmp);
    for (size_t i = 0; i < p->key_count; i++)
        at += (size_t)snprintf(p->key_text + at, sizeof p->key_text - at, "%s%s%s%s",
                               i > 0 ? ", " : "", p->keys[i].provider,
                               p->keys[i].key[0] != '\0' ? " " : "", p->keys[i].key);
}

/* --- asking ----------------------------------------------------------------------------------- */

static enum err ask(struct proxy *p, const char *path, client_http_fn fn);

static void done(struct proxy *p)
{
    p->get = NULL;
    if (--p->all->left == 0)
        loop_stop(&p->all->loop);
}

static void failed(struct proxy *p, const char *why)
{
    snprintf(p->why, sizeof p->why, "%s", why);
    done(p);
}

static void on_statusz(void *arg, const struct http1_response *r, const char *why)
{
    struct proxy *p = arg;

    (void)why;
    if (r == NULL || r->status != 200 || tools_problems_read(r->body, &p->named) != ERR_OK)
        p->named.count = 0;
    done(p);
}

static void on_metrics(void *arg, const struct http1_response *r, const char *why)
{
    struct proxy *p = arg;

    if (r == NULL) {
        failed(p, why);
        return;
    }
    read_metrics(p, r->body);
    p->has_answered = p->version[0] != '\0';
    if (!p->has_answered)
        failed(p, "it answers, but is no etcd-envelope");
    else if (p->problems == 0 || ask(p, "/statusz", on_statusz) != ERR_OK)
        done(p);
}

static enum err ask(struct proxy *p, const char *path, client_http_fn fn)
{
    struct asking *a = p->all;

    return client_http_get(&a->loop, p->url, p->url->is_tls ? a->o->tls : NULL, path, ASK_MS, fn, p,
                           &p->get);
}

static void on_ready(void *arg, const struct http1_response *r, const char *why)
{
    struct proxy *p = arg;

    if (r == NULL) {
        failed(p, why);
        return;
    }
    p->ready = r->status;
    if (ask(p, "/metrics", on_metrics) != ERR_OK)
        failed(p, "out of memory");
}

/* --- the report ------------------------------------------------------------------------------- */

static bool is_well(const struct proxy *p)
{
    return p->has_answered && p->ready == 200 && !p->is_kms_ailing && p->etcd_healthy != 0 &&
           p->reload_failed == 0 && p->problems == 0;
}

static const char *time_text(double s, char out[static KMS_TIME_TEXT])
{
    if (s <= 0)
        snprintf(out, KMS_TIME_TEXT, "-");
    else
        kms_time_text((int64_t)s, out);
    return out;
}

static void put_problems(const struct proxy *p, struct json *j)
{
    json_number(j, "problems", (int64_t)p->problems);
    json_open(j, "problem_list", '[');
    for (size_t i = 0; i < p->named.count; i++) {
        json_open(j, NULL, '{');
        json_text(j, "severity", p->named.v[i].severity);
        json_text(j, "about", p->named.v[i].about);
        json_text(j, "title", p->named.v[i].title);
        json_close(j, '}');
    }
    json_close(j, ']');
}

static void put_json(const struct proxy *p, struct json *j)
{
    char url[NET_URL_MAX], text[KMS_TIME_TEXT];

    json_open(j, NULL, '{');
    json_text(j, "url", net_url_text(p->url, url));
    json_bool(j, "answers", p->has_answered);
    if (p->has_answered) {
        json_bool(j, "ready", p->ready == 200);
        json_text(j, "version", p->version);
        json_text(j, "configuration", p->config);
        json_text(j, "write_keys", p->key_text);
        put_problems(p, j);
        json_bool(j, "kms_healthy", !p->is_kms_ailing);
        json_bool(j, "etcd_healthy", p->etcd_healthy != 0);
        json_text(j, "started", time_text(p->start_s, text));
        json_text(j, "reloaded", time_text(p->reload_s, text));
        json_bool(j, "last_reload_failed", p->reload_failed != 0);
        json_number(j, "reload_failures", (int64_t)p->reload_failures);
        json_number(j, "values_sealed", (int64_t)p->sealed);
        json_number(j, "values_opened", (int64_t)p->opened);
        json_number(j, "plaintext_read", (int64_t)p->plain);
    } else {
        json_text(j, "error", p->why);
    }
    json_close(j, '}');
}

static void put_text(const struct proxy *p, FILE *f)
{
    char url[NET_URL_MAX], start[KMS_TIME_TEXT], reload[KMS_TIME_TEXT];

    fprintf(f, "%s\n", net_url_text(p->url, url));
    if (!p->has_answered) {
        fprintf(f, "  does not answer: %s\n", p->why);
        return;
    }
    fprintf(f, "  %s, version %s, started %s\n", p->ready == 200 ? "ready" : "NOT READY",
            p->version, time_text(p->start_s, start));
    fprintf(f, "  configuration  %s, reloaded %s, %.0f reloads failed%s\n",
            p->config[0] != '\0' ? p->config : "-", time_text(p->reload_s, reload),
            p->reload_failures, p->reload_failed != 0 ? ", THE LAST ONE, too: see its log" : "");
    if (p->problems > 0)
        fprintf(f, "  problems       %.0f: its page says more (%s)\n", p->problems,
                net_url_text(p->url, url));
    for (size_t i = 0; i < p->named.count; i++)
        fprintf(f, "                 %s: %s\n", p->named.v[i].severity, p->named.v[i].title);
    fprintf(f, "  written with   %s\n", p->key_text[0] != '\0' ? p->key_text : "-");
    fprintf(f, "  KMS            %s\n  etcd           %s\n",
            p->is_kms_ailing ? "NOT WELL" : "healthy",
            p->etcd_healthy == 0 ? "NOT REACHED" : "reached");
    fprintf(f,
            "  values         %.0f sealed, %.0f opened, %.0f read as plaintext since the start\n",
            p->sealed, p->opened, p->plain);
}

/* What two proxies must have in common; NULL: all have. */
static const char *difference(const struct asking *a)
{
    const struct proxy *first = NULL;

    for (size_t i = 0; i < a->o->url_count; i++) {
        const struct proxy *p = &a->proxies[i];

        if (!p->has_answered)
            continue;
        if (first == NULL)
            first = p;
        if (strcmp(p->config, first->config) != 0)
            return "configuration";
        if (strcmp(p->key_text, first->key_text) != 0)
            return "write key";
    }
    return NULL;
}

static enum tools_status_result report(const struct asking *a)
{
    struct json j = {.f = a->o->out};
    enum tools_status_result result = TOOLS_STATUS_GOOD;
    const char *what = difference(a);
    size_t well = 0, there = 0;

    for (size_t i = 0; i < a->o->url_count; i++) {
        there += a->proxies[i].has_answered;
        well += is_well(&a->proxies[i]);
    }
    if (there < a->o->url_count)
        result = TOOLS_STATUS_AWAY;
    else if (what != NULL || well < there)
        result = TOOLS_STATUS_DIFFER;
    if (a->o->is_json) {
        json_open(&j, NULL, '{');
        json_bool(&j, "all_agree", what == NULL && there == a->o->url_count);
        json_text(&j, "differ_in", what != NULL ? what : "");
        json_open(&j, "proxies", '[');
    }
    for (size_t i = 0; i < a->o->url_count; i++) {
        if (a->o->is_json)
            put_json(&a->proxies[i], &j);
        else
            put_text(&a->proxies[i], a->o->out);
    }
    if (a->o->is_json) {
        json_close(&j, ']');
        json_close(&j, '}');
        fputc('\n', a->o->out);
    } else if (what != NULL) {
        fprintf(a->o->out, "\nThey DIFFER: not the same %s\n", what);
    } else {
        fprintf(a->o->out, "\n%zu of %zu answer, %zu %s well%s\n", there, a->o->url_count, well,
                well == 1 ? "is" : "are", there > 1 ? ", and all that answer agree" : "");
    }
    return result;
}

enum err tools_status(const struct tools_status_opts *o, enum tools_status_result *result)
{
    struct asking a = {.o = o, .left = o->url_count};

    TRY(loop_init(&a.loop));
    a.proxies = base_xcalloc(o->url_count + 1, sizeof *a.proxies);
    for (size_t i = 0; i < o->url_count; i++) {
        struct proxy *p = &a.proxies[i];

        *p = (struct proxy){.all = &a, .url = &o->urls[i], .etcd_healthy = -1};
        if (ask(p, "/readyz", on_ready) != ERR_OK)
            failed(p, "out of memory");
    }
    loop_run(&a.loop);
    *result = report(&a);
    free(a.proxies);
    loop_fini(&a.loop);
    return ERR_OK;
}
