/* SPDX-License-Identifier: Apache-2.0 */
/* One function for each member of the object. What is not known is null, never left out. No secret
 * and no key id is among it: a key id stands as its hash, a local key as its name. */
#include "pages/statusz.h"

#include <stddef.h>
#include <string.h>

#include "base/json.h"
#include "base/metrics.h"
#include "base/metric_series.h"
#include "kms/text.h"
#include "pages/process.h"
#include "pages/protection.h"

static void put_time(struct json *j, const char *name, int64_t unix_s)
{
    char text[KMS_TIME_TEXT];

    if (unix_s == 0)
        json_nothing(j, name);
    else
        json_text(j, name, kms_time_text(unix_s, text));
}

/* "" is null. */
static void put_text(struct json *j, const char *name, const char *text)
{
    if (text == NULL || text[0] == '\0')
        json_nothing(j, name);
    else
        json_text(j, name, text);
}

/* --- what is wrong --------------------------------------------------------------------------- */

static void put_diagnosis(struct json *j, const struct pages_diagnosis *d)
{
    json_text(j, "status", pages__severity_word(d->severity));
    json_text(j, "summary", d->summary);
    json_open(j, "problems", '[');
    for (size_t i = 0; i < d->count; i++) {
        const struct pages_problem *p = &d->problems[i];

        json_open(j, NULL, '{');
        json_text(j, "severity", pages__severity_word(p->severity));
        json_text(j, "about", p->about);
        json_text(j, "title", p->title);
        json_text(j, "effect", p->effect);
        put_text(j, "reason", p->reason);
        json_text(j, "advice", p->advice);
        json_close(j, '}');
    }
    json_close(j, ']');
}

/* --- etcd and KMS ---------------------------------------------------------------------------- */

static void put_etcd(struct json *j, const struct pages_state *st)
{
    char url[NET_URL_MAX];

    json_open(j, "etcd", '{');
    json_bool(j, "healthy", st->etcd_why[0] == '\0');
    put_text(j, "reason", st->etcd_why);
    json_open(j, "endpoints", '[');
    for (size_t i = 0; i < st->endpoint_count; i++) {
        const struct pages_endpoint *e = &st->endpoints[i];

        json_open(j, NULL, '{');
        json_text(j, "url", net_url_text(e->url, url));
        if (e->was_checked)
            json_bool(j, "healthy", e->is_good);
        else
            json_nothing(j, "healthy");
        put_text(j, "reason", e->why);
        json_close(j, '}');
    }
    json_close(j, ']');
    json_close(j, '}');
}

static void put_plugins(struct json *j, const struct pages_state *st)
{
    json_open(j, "kms", '[');
    for (size_t i = 0; i < st->plugin_count; i++) {
        const struct pages_plugin *p = &st->plugins[i];

        json_open(j, NULL, '{');
        json_text(j, "name", p->name);
        json_text(j, "version", p->traits->version);
        json_text(j, "endpoint", st->rules->plugins[i].endpoint);
        json_bool(j, "healthy", p->last.is_healthy);
        put_text(j, "reason", p->last.is_healthy ? "" : p->last.why);
        put_text(j, "key_id_hash", p->last.key_id_hash);
        put_time(j, "writes_until", p->last.writes_until_s);
        json_close(j, '}');
    }
    json_close(j, ']');
}

/* --- what is protected ----------------------------------------------------------------------- */

static void put_way(struct json *j, const char *name, const struct pages_way *way)
{
    const struct provider_traits *t = provider_traits(way->provider);

    json_open(j, name, '{');
    json_text(j, "provider", t->name);
    put_text(j, "version", t->version);
    put_text(j, "name", way->provider->name);
    put_text(j, t->is_kms ? "key_id_hash" : "key", way->key);
    json_close(j, '}');
}

static void put_group(struct json *j, const struct pages_state *st, size_t group)
{
    const struct key_rules *rules = st->rules->key_rules;
    struct pages_way way;

    json_open(j, NULL, '{');
    json_open(j, "resources", '[');
    for (size_t i = group; i < rules->count; i = pages__group_rule_next(st->rules, i)) {
        json_open(j, NULL, '{');
        json_text(j, "resource", rules->v[i].resource);
        json_text(j, "prefix", rules->v[i].prefix);
        json_bool(j, "unknown_kinds", rules->v[i].kind == KEY_RULE_DOTLESS);
        json_close(j, '}');
    }
    json_close(j, ']');
    if (pages__group_way(st, group, 0, &way))
        put_way(j, "writes", &way);
    else
        json_nothing(j, "writes");
    json_open(j, "reads_only", '[');
    for (size_t n = 1; pages__group_way(st, group, n, &way); n++)
        put_way(j, NULL, &way);
    json_close(j, ']');
    json_close(j, '}');
}

static void put_protection(struct json *j, const struct pages_state *st)
{
    json_open(j, "protection", '[');
    for (size_t i = st->rules == NULL ? 0 : pages__group_next(st->rules, 0);
         st->rules != NULL && i < st->rules->key_rules->count;
         i = pages__group_next(st->rules, i + 1))
        put_group(j, st, i);
    json_close(j, ']');
}

static void put_coverage(struct json *j, const struct pages_coverage *c)
{
    if (c->count == 0) {
        json_nothing(j, "coverage");
        return;
    }
    json_open(j, "coverage", '{');
    put_time(j, "looked", c->time_s);
    json_open(j, "resources", '[');
    for (size_t i = 0; i < c->count; i++) {
        json_open(j, NULL, '{');
        json_text(j, "resource", c->rows[i].resource);
        for (size_t k = 0; k < COVERAGE_STATES; k++)
            json_number(j, pages__coverage_states[k], (int64_t)c->rows[i].counts[k]);
        json_close(j, '}');
    }
    json_close(j, ']');
    json_close(j, '}');
}

/* --- figures --------------------------------------------------------------------------------- */

/* The figures of a span. */
static const struct {
    const char *name;
    size_t at; /* of a double in struct history_span */
    double factor;
} figures[] = {
    {"calls_per_second", offsetof(struct history_span, calls_rate), 1},
    {"failed_per_second", offsetof(struct history_span, failed_rate), 1},
    {"sealed_per_second", offsetof(struct history_span, sealed_rate), 1},
    {"opened_per_second", offsetof(struct history_span, opened_rate), 1},
    {"added_p50_ms", offsetof(struct history_span, p50_s), 1000},
    {"added_p99_ms", offsetof(struct history_span, p99_s), 1000},
};

static void put_figure(struct json *j, const char *name, size_t i, const struct history_span *s)
{
    double v;

    memcpy(&v, (const char *)s + figures[i].at, sizeof v);
    json_decimal(j, name, v * figures[i].factor);
}

static void put_span(struct json *j, const struct history_span *s)
{
    json_decimal(j, "seconds", s->seconds);
    for (size_t i = 0; i < ARRAY_LEN(figures); i++)
        put_figure(j, figures[i].name, i, s);
}

static void put_column(struct json *j, const struct history *h, size_t i)
{
    json_open(j, figures[i].name, '[');
    for (size_t k = 1; k < pages__history_count(h); k++) {
        struct history_span span;

        pages__history_span(pages__history_at(h, k - 1), pages__history_at(h, k), &span);
        put_figure(j, NULL, i, &span);
    }
    json_close(j, ']');
}

/* The spans between two points each, the oldest first, as columns; and how long ago each ended. */
static void put_history(struct json *j, const struct history *h, const struct history_point *now)
{
    json_open(j, "history", '{');
    json_open(j, "age_seconds", '[');
    for (size_t k = 1; k < pages__history_count(h); k++)
        json_decimal(j, NULL, (double)(now->at_ms - pages__history_at(h, k)->at_ms) / 1000);
    json_close(j, ']');
    for (size_t i = 0; i < ARRAY_LEN(figures); i++)
        put_column(j, h, i);
    json_close(j, '}');
}

static void put_traffic(struct json *j, const struct pages_state *st)
{
    struct history_point now;
    struct history_span span;

    pages__history_now(st->history, &now);
    pages__history_span(pages__last_minute(st->history, &now), &now, &span);
    json_open(j, "traffic", '{');
    json_open(j, "since_start", '{');
    json_number(j, "calls", (int64_t)now.calls);
    json_number(j, "failed", (int64_t)now.failed);
    json_number(j, "sealed", (int64_t)now.sealed);
    json_number(j, "opened", (int64_t)now.opened);
    json_number(j, "plaintext_read", (int64_t)metric_get(METRIC_identity_reads_total));
    json_close(j, '}');
    json_open(j, "last_minute", '{');
    put_span(j, &span);
    json_close(j, '}');
    put_history(j, st->history, &now);
    json_close(j, '}');
}

static void put_refusals(struct json *j)
{
    json_open(j, "refusals", '{');
    for (int e = ERR_OK + 1; e < ERR_COUNT; e++)
        if (metric_refused_get((enum err)e) > 0)
            json_number(j, err_reason((enum err)e), (int64_t)metric_refused_get((enum err)e));
    json_close(j, '}');
}

/* --- the rest -------------------------------------------------------------------------------- */

static void put_configuration(struct json *j, const struct pages_state *st)
{
    const struct server_reload *r = st->reload;

    json_open(j, "configuration", '{');
    put_text(j, "file", st->settings->encryption_provider_config);
    put_text(j, "hash", st->config == NULL ? "" : st->config->hash);
    json_bool(j, "automatic_reload", st->settings->encryption_provider_config_automatic_reload);
    json_bool(j, "in_force", !st->is_reload_failed);
    if (r->time_s == 0) {
        json_nothing(j, "last_reload");
    } else {
        json_open(j, "last_reload", '{');
        put_time(j, "time", r->time_s);
        json_text(j, "result", r->is_good ? "success" : "failure");
        put_text(j, "error", r->why);
        json_close(j, '}');
    }
    json_close(j, '}');
}

static void put_certificate(struct json *j, const struct pages_state *st, const char *name,
                            const struct pages_certificate *c)
{
    if (!c->is_there)
        return;
    json_open(j, NULL, '{');
    json_text(j, "certificate", name);
    put_time(j, "ends", c->ends);
    json_number(j, "seconds_left", c->ends - st->now_s);
    json_close(j, '}');
}

static void put_process(struct json *j, const struct pages_state *st)
{
    json_open(j, "build", '{');
    json_text(j, "version", pages__build.version);
    json_text(j, "compiler", pages__build.compiler);
    json_text(j, "platform", pages__build.platform);
    json_close(j, '}');
    json_open(j, "process", '{');
    put_text(j, "host", pages__host());
    put_time(j, "started", st->started_s);
    json_number(j, "uptime_seconds", st->now_s - st->started_s);
    json_bool(j, "draining", st->is_draining);
    json_number(j, "workers", st->settings->workers);
    json_number(j, "connections", (int64_t)metric_get(METRIC_links));
    if (st->connection_limit > 0)
        json_number(j, "connection_limit", (int64_t)st->connection_limit);
    else
        json_nothing(j, "connection_limit");
    json_close(j, '}');
    json_open(j, "memory", '{');
    json_number(j, "held_bytes", (int64_t)metric_get(METRIC_held_bytes));
    json_number(j, "limit_bytes", (int64_t)st->settings->memory_limit);
    json_number(j, "resident_bytes", (int64_t)pages__resident_bytes());
    json_close(j, '}');
}

static void put_all(struct json *j, const struct pages_state *st, const struct pages_diagnosis *d,
                    const struct pages_coverage *coverage)
{
    json_open(j, NULL, '{');
    put_time(j, "time", st->now_s);
    put_diagnosis(j, d);
    put_etcd(j, st);
    put_plugins(j, st);
    put_protection(j, st);
    put_coverage(j, coverage);
    put_traffic(j, st);
    put_refusals(j);
    put_configuration(j, st);
    json_open(j, "certificates", '[');
    put_certificate(j, st, "server", &st->listen_certificate);
    put_certificate(j, st, "etcd_client", &st->etcd_certificate);
    json_close(j, ']');
    put_process(j, st);
    json_close(j, '}');
    fputc('\n', j->f);
}

enum err pages__statusz_write(const struct pages_state *st, FILE *f)
{
    struct json j = {.f = f};
    struct pages_diagnosis d = {0};
    struct pages_coverage coverage;
    enum err e = pages__coverage_take(&coverage);

    if (e == ERR_OK)
        e = pages__diagnose(st, &coverage, &d);
    if (e == ERR_OK)
        put_all(&j, st, &d, &coverage);
    pages__diagnosis_fini(&d);
    pages__coverage_fini(&coverage);
    return e;
}
