/* SPDX-License-Identifier: Apache-2.0 */
/* One function for each section of the page. Every value goes through pages__html; sections with
 * data-live are what the script renews. */
#include "pages/status_page.h"

#include <string.h>

#include "base/metrics.h"
#include "kms/text.h"
#include "pages/html.h"
#include "pages/process.h"
#include "pages/protection.h"
#include "pages/status_html.h"
#include "pages/words.h"

/* What is written of. */
struct view {
    const struct pages_state *st;
    const struct pages_coverage *coverage;
    const struct pages_diagnosis *diagnosis;
    FILE *f;
};

static void open_section(FILE *f, const char *id, const char *title)
{
    pages__html(f,
                "<section id=\"%s\" data-live aria-labelledby=\"%s-title\">\n<h2 "
                "id=\"%s-title\">%s</h2>\n",
                id, id, id, title);
}

static void put_pair(FILE *f, const char *name, const char *value)
{
    pages__html(f, "<dt>%s</dt><dd>%s</dd>\n", name, value);
}

static void put_code_pair(FILE *f, const char *name, const char *value)
{
    pages__html(f, "<dt>%s</dt><dd><code>%s</code></dd>\n", name, value);
}

/* --- whether all is well --------------------------------------------------------------------- */

static void put_facts(const struct view *v)
{
    char when[KMS_TIME_TEXT], up[PAGES_WORDS];

    pages__html(v->f,
                "<p id=\"facts\" data-live>etcd-envelope %s on %s, up for %s, as of "
                "<time>%s</time></p>\n",
                pages__build.version, pages__host(),
                pages__duration_words(v->st->now_s - v->st->started_s, up),
                kms_time_text(v->st->now_s, when));
}

static void put_problem(const struct pages_problem *p, bool is_only, FILE *f)
{
    pages__html(f, "<li class=\"%s\">\n", pages__severity_word(p->severity));
    if (!is_only) /* the headline has it */
        pages__html(f, "<h2>%s</h2>\n", p->title);
    pages__html(f, "<p>%s</p>\n<p><strong>What to do:</strong> %s</p>\n", p->effect, p->advice);
    if (p->reason[0] != '\0')
        pages__html(f, "<p class=\"soft\">Reason: <code>%s</code></p>\n", p->reason);
    pages__html(f, "</li>\n");
}

static void put_verdict(const struct view *v)
{
    static const char *const marks[] = {"Failing: ", "Warning: ", ""};
    const struct pages_diagnosis *d = v->diagnosis;

    pages__html(v->f,
                "<div id=\"verdict\" data-live class=\"%s\" role=\"status\" "
                "aria-live=\"polite\">\n<h1>%s%s</h1>\n",
                pages__severity_word(d->severity), marks[d->severity], d->summary);
    if (d->count == 0)
        pages__html(v->f, "<p>%s, and the configuration file is in force.</p>\n",
                    v->st->plugin_count > 0 ? "etcd and the KMS answer" : "etcd answers");
    else
        pages__html(v->f, "<ol>\n");
    for (size_t i = 0; i < d->count; i++)
        put_problem(&d->problems[i], d->count == 1, v->f);
    pages__html(v->f, d->count > 0 ? "</ol>\n</div>\n" : "</div>\n");
}

/* --- health ---------------------------------------------------------------------------------- */

static void put_state(FILE *f, enum pages_severity severity, const char *word)
{
    pages__html(f, "<td><span class=\"state %s\">%s</span></td>", pages__severity_word(severity),
                word);
}

static void put_endpoint(const struct pages_endpoint *e, FILE *f)
{
    char url[NET_URL_MAX];

    pages__html(f, "<tr><th scope=\"row\">etcd</th>");
    if (!e->was_checked)
        put_state(f, PAGES_WARNING, "not checked yet");
    else if (e->is_good)
        put_state(f, PAGES_WELL, "answers");
    else
        put_state(f, PAGES_FAILING, "does not answer");
    pages__html(f, "<td><code>%s</code>", net_url_text(e->url, url));
    if (e->was_checked && !e->is_good)
        pages__html(f, "<br>%s", e->why);
    pages__html(f, "</td></tr>\n");
}

static void put_plugin(const struct pages_plugin *p, const char *endpoint, FILE *f)
{
    char until[KMS_TIME_TEXT];

    pages__html(f, "<tr><th scope=\"row\">KMS plugin %s (%s)</th>", p->name, p->traits->version);
    if (p->last.is_healthy)
        put_state(f, PAGES_WELL, "well");
    else
        put_state(f, PAGES_FAILING, "not well");
    pages__html(f, "<td><code>%s</code>", endpoint);
    if (!p->last.is_healthy)
        pages__html(f, "<br>%s", p->last.why);
    if (!p->last.is_healthy && p->last.writes_until_s != 0)
        pages__html(f, "<br>writes with it go on until %s",
                    kms_time_text(p->last.writes_until_s, until));
    pages__html(f, "</td></tr>\n");
}

static void put_health(const struct view *v)
{
    open_section(v->f, "health", "Health");
    pages__html(v->f,
                "<table><thead><tr><th scope=\"col\">Part</th><th scope=\"col\">State</th><th "
                "scope=\"col\">Where, and why</th></tr></thead><tbody>\n");
    for (size_t i = 0; i < v->st->endpoint_count; i++)
        put_endpoint(&v->st->endpoints[i], v->f);
    for (size_t i = 0; i < v->st->plugin_count; i++)
        put_plugin(&v->st->plugins[i], v->st->rules->plugins[i].endpoint, v->f);
    pages__html(v->f, "</tbody></table>\n</section>\n");
}

/* --- what is protected ----------------------------------------------------------------------- */

static void put_way(FILE *f, const struct pages_way *way)
{
    const struct provider_traits *t = provider_traits(way->provider);
    char words[300];

    if (t->is_identity) {
        pages__html(f, "plaintext (identity)");
        return;
    }
    pages__html(f, "%s", pages__provider_words(way->provider, words));
    if (t->is_kms && way->key[0] != '\0')
        pages__html(f, ", key id <code>%s</code>", way->key);
    else if (!t->is_kms)
        pages__html(f, ", key %s", way->key);
}

/* Names may come several times, one after the other: of a resource with two prefixes. */
static void put_resources(const struct view *v, size_t group)
{
    const struct key_rules *rules = v->st->rules->key_rules;
    const char *last = "";

    for (size_t i = group; i < rules->count; i = pages__group_rule_next(v->st->rules, i)) {
        const char *name = rules->v[i].resource;

        if (rules->v[i].kind == KEY_RULE_DOTLESS)
            pages__html(v->f, "%sunknown kinds below %s", i == group ? "" : ", ",
                        rules->v[i].prefix);
        else if (strcmp(name, last) != 0)
            pages__html(v->f, "%s%s", i == group ? "" : ", ", name);
        last = name;
    }
}

static void put_group(const struct view *v, size_t group)
{
    struct pages_way way;
    size_t n = 1;

    pages__html(v->f, "<tr><th scope=\"row\">");
    put_resources(v, group);
    pages__html(v->f, "</th><td data-name=\"sealed with\">");
    if (pages__group_way(v->st, group, 0, &way))
        put_way(v->f, &way);
    else
        pages__html(v->f, "not sealed: left out by identity");
    pages__html(v->f, "</td><td data-name=\"also read with\">");
    for (; pages__group_way(v->st, group, n, &way); n++) {
        pages__html(v->f, n > 1 ? "<br>" : "");
        put_way(v->f, &way);
    }
    pages__html(v->f, n == 1 ? "nothing else</td></tr>\n" : "</td></tr>\n");
}

static void put_protection(const struct view *v)
{
    const struct ruleset *rules = v->st->rules;
    size_t i = rules == NULL ? 0 : pages__group_next(rules, 0);

    open_section(v->f, "protection", "What is protected");
    pages__html(v->f, "<table><thead><tr><th scope=\"col\">Resources</th><th scope=\"col\">New "
                      "values are sealed with</th><th scope=\"col\">Others are also read "
                      "with</th></tr></thead><tbody>\n");
    for (; rules != NULL && i < rules->key_rules->count; i = pages__group_next(rules, i + 1))
        put_group(v, i);
    pages__html(v->f, "</tbody></table>\n</section>\n");
}

static void put_coverage(const struct view *v)
{
    const struct pages_coverage *c = v->coverage;
    char text[PAGES_WORDS], when[KMS_TIME_TEXT];

    open_section(v->f, "coverage", "What is stored");
    if (c->count == 0) {
        pages__html(v->f, "<p>Not looked yet. <code>etcd-envelope verify</code> counts what is "
                          "sealed with which key.</p>\n</section>\n");
        return;
    }
    pages__html(v->f, "<table><thead><tr><th scope=\"col\">Resource</th>");
    for (size_t k = 0; k < COVERAGE_STATES; k++)
        pages__html(v->f, "<th scope=\"col\" class=\"number\">%s</th>", pages__coverage_states[k]);
    pages__html(v->f, "</tr></thead><tbody>\n");
    for (size_t i = 0; i < c->count; i++) {
        pages__html(v->f, "<tr><th scope=\"row\">%s</th>", c->rows[i].resource);
        for (size_t k = 0; k < COVERAGE_STATES; k++)
            pages__html(v->f, "<td class=\"number\" data-name=\"%s\">%s</td>",
                        pages__coverage_states[k],
                        pages__count_words((uint64_t)c->rows[i].counts[k], text));
        pages__html(v->f, "</tr>\n");
    }
    pages__html(v->f, "</tbody></table>\n");
    if (c->time_s != 0)
        pages__html(v->f, "<p class=\"soft\">As of %s.</p>\n", kms_time_text(c->time_s, when));
    pages__html(v->f, "</section>\n");
}

/* --- figures --------------------------------------------------------------------------------- */

static void put_figure(FILE *f, const char *name, const char *value)
{
    pages__html(f, "<div><dt>%s</dt><dd>%s</dd></div>\n", name, value);
}

static void put_traffic(const struct view *v)
{
    struct history_point now;
    struct history_span s;
    char text[PAGES_WORDS];

    pages__history_now(v->st->history, &now);
    pages__history_span(pages__last_minute(v->st->history, &now), &now, &s);
    open_section(v->f, "traffic", "Traffic of the last minute");
    pages__html(v->f, "<dl class=\"figures\">\n");
    put_figure(v->f, "requests a second", pages__number_words(s.calls_rate, text));
    put_figure(v->f, "of these failed", pages__number_words(s.failed_rate, text));
    put_figure(v->f, "added latency, median", pages__latency_words(s.p50_s, text));
    put_figure(v->f, "99th percentile", pages__latency_words(s.p99_s, text));
    put_figure(v->f, "values sealed a second", pages__number_words(s.sealed_rate, text));
    put_figure(v->f, "values opened a second", pages__number_words(s.opened_rate, text));
    pages__html(v->f, "</dl>\n</section>\n");
}

static void put_count(FILE *f, const char *name, double n)
{
    char text[PAGES_WORDS];

    pages__html(f, "<tr><td>%s</td><td class=\"number\">%s</td></tr>\n", name,
                pages__count_words((uint64_t)n, text));
}

static void put_counts(const struct view *v)
{
    struct history_point now;
    bool has_any = false;

    pages__history_now(v->st->history, &now);
    open_section(v->f, "counts", "Since the start");
    pages__html(v->f, "<table><tbody>\n");
    put_count(v->f, "requests", now.calls);
    put_count(v->f, "of these failed", now.failed);
    put_count(v->f, "values sealed", now.sealed);
    put_count(v->f, "values opened", now.opened);
    put_count(v->f, "protected values read as plaintext",
              (double)metric_get(METRIC_identity_reads_total));
    for (int e = ERR_OK + 1; e < ERR_COUNT; e++) {
        uint64_t n = metric_refused_get((enum err)e);
        char name[80];

        if (n == 0)
            continue;
        (void)snprintf(name, sizeof name, "refused: %s", err_reason((enum err)e));
        put_count(v->f, name, (double)n);
        has_any = true;
    }
    pages__html(v->f, "</tbody></table>\n");
    if (!has_any)
        pages__html(v->f, "<p class=\"soft\">Nothing was refused.</p>\n");
    pages__html(v->f, "</section>\n");
}

/* --- the rest -------------------------------------------------------------------------------- */

static void put_reload(const struct view *v)
{
    const struct server_reload *r = v->st->reload;
    char when[KMS_TIME_TEXT];

    if (r->time_s == 0) {
        put_pair(v->f, "last reload", "none since the start");
        return;
    }
    pages__html(v->f, "<dt>last reload</dt><dd>%s: %s", kms_time_text(r->time_s, when),
                r->is_good ? "taken over" : "refused");
    if (!r->is_good)
        pages__html(v->f, "<br>%s", r->why);
    pages__html(v->f, "</dd>\n");
}

static void put_configuration(const struct view *v)
{
    const struct settings *o = v->st->settings;

    open_section(v->f, "configuration", "Configuration");
    pages__html(v->f, "<dl>\n");
    if (o->encryption_provider_config != NULL)
        put_code_pair(v->f, "file", o->encryption_provider_config);
    put_code_pair(v->f, "in force", v->st->config == NULL ? "none" : v->st->config->hash);
    put_pair(v->f, "reloaded",
             o->encryption_provider_config_automatic_reload ? "when the file changes"
                                                            : "on SIGHUP");
    put_reload(v);
    pages__html(v->f, "</dl>\n</section>\n");
}

static void put_certificate(const struct view *v, const char *name,
                            const struct pages_certificate *c)
{
    char when[KMS_TIME_TEXT], left[PAGES_WORDS], text[2 * PAGES_WORDS + KMS_TIME_TEXT];
    int64_t seconds = c->ends - v->st->now_s;

    if (!c->is_there) {
        put_pair(v->f, name, "none");
        return;
    }
    (void)snprintf(text, sizeof text, "ends %s, %s %s", kms_time_text(c->ends, when),
                   seconds > 0 ? "in" : "over since",
                   pages__duration_words(seconds > 0 ? seconds : -seconds, left));
    put_pair(v->f, name, text);
}

static void put_process(const struct view *v)
{
    const struct settings *o = v->st->settings;
    char a[PAGES_WORDS], b[PAGES_WORDS], when[KMS_TIME_TEXT];

    open_section(v->f, "process", "Process and certificates");
    pages__html(v->f, "<dl>\n");
    put_pair(v->f, "started", kms_time_text(v->st->started_s, when));
    put_pair(v->f, "build", pages__build.compiler);
    pages__html(v->f, "<dt>client connections</dt><dd>%s of at most %s</dd>\n",
                pages__count_words(metric_get(METRIC_links), a),
                v->st->connection_limit > 0 ? pages__count_words(v->st->connection_limit, b)
                                            : "any number");
    pages__html(v->f, "<dt>memory of messages</dt><dd>%s of %s</dd>\n",
                pages__size_words(metric_get(METRIC_held_bytes), a),
                pages__size_words(o->memory_limit, b));
    put_pair(v->f, "memory of the process", pages__size_words(pages__resident_bytes(), a));
    put_certificate(v, "certificate for clients", &v->st->listen_certificate);
    put_certificate(v, "certificate for etcd", &v->st->etcd_certificate);
    pages__html(v->f, "</dl>\n</section>\n");
}

/* --- the page -------------------------------------------------------------------------------- */

static void put_part(FILE *f, size_t i)
{
    fwrite(pages__status_html[i].p, 1, pages__status_html[i].n, f);
}

static void put_all(const struct view *v)
{
    put_part(v->f, STATUS_HTML_TITLE);
    pages__html(v->f, "%s - %s (etcd-envelope)", v->diagnosis->summary, pages__host());
    put_part(v->f, STATUS_HTML_TOP);
    put_facts(v);
    put_verdict(v);
    put_health(v);
    put_protection(v);
    put_coverage(v);
    put_traffic(v);
    put_part(v->f, STATUS_HTML_REST);
    pages__html(v->f, "<div class=\"pair\">\n");
    put_counts(v);
    pages__html(v->f, "<div>\n");
    put_configuration(v);
    put_process(v);
    pages__html(v->f, "</div>\n</div>\n");
    put_part(v->f, STATUS_HTML_MARKS);
}

enum err pages__status_page_write(const struct pages_state *st, FILE *f)
{
    struct pages_diagnosis d = {0};
    struct pages_coverage coverage;
    const struct view view = {st, &coverage, &d, f};
    enum err e = pages__coverage_take(&coverage);

    if (e == ERR_OK)
        e = pages__diagnose(st, &coverage, &d);
    if (e == ERR_OK)
        put_all(&view);
    pages__diagnosis_fini(&d);
    pages__coverage_fini(&coverage);
    return e;
}

const char *pages__status_page_policy(void)
{
    static char policy[512];

    (void)snprintf(policy, sizeof policy,
                   "default-src 'none'; script-src %s; style-src %s; img-src data:; connect-src "
                   "'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
                   pages__status_html_script, pages__status_html_style);
    return policy;
}
