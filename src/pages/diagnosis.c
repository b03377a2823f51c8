/* SPDX-License-Identifier: Apache-2.0 */
/* One function for each thing that can be wrong; each adds a problem or none. */
#include "pages/diagnosis.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/metrics.h"
#include "kms/text.h"
#include "pages/protection.h"
#include "pages/words.h"

#define AGE_MAX (PAGES_WORDS + 40) /* a sentence */
#define NAMES_MAX 240u             /* of resources, in a title */
#define OTHERS_MAX 16u             /* problems that are neither of an endpoint nor of a plugin */

const char *pages__severity_word(enum pages_severity s)
{
    static const char *const words[] = {"failing", "warning", "well"};

    return words[s];
}

static struct pages_problem *add(struct pages_diagnosis *d, enum pages_severity severity,
                                 const char *about)
{
    struct pages_problem *p = &d->problems[d->count++];

    p->severity = severity;
    p->about = about;
    if (severity < d->severity)
        d->severity = severity;
    return p;
}

PRINTF_LIKE(3, 4) static void say(char *out, size_t cap, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(out, cap, fmt, ap); /* what is too long is cut */
    va_end(ap);
}

/* Of an array in a struct pages_problem. */
#define SAY(member, ...) say(member, sizeof(member), __VA_ARGS__)

/* --- etcd ------------------------------------------------------------------------------------ */

static void look_at_etcd(const struct pages_state *st, struct pages_diagnosis *d)
{
    struct pages_problem *p;

    if (st->etcd_why[0] == '\0')
        return;
    p = add(d, PAGES_FAILING, "etcd");
    SAY(p->title, "etcd does not answer");
    SAY(p->effect, "No call can be served until it does. The proxy goes on by itself then.");
    SAY(p->reason, "%s", st->etcd_why);
    SAY(p->advice, "See that etcd runs and has a leader (etcdctl endpoint health), that "
                   "--etcd-servers are its client URLs, and that the TLS files for it are right.");
}

static void look_at_endpoints(const struct pages_state *st, struct pages_diagnosis *d)
{
    for (size_t i = 0; i < st->endpoint_count && st->etcd_why[0] == '\0'; i++) {
        const struct pages_endpoint *e = &st->endpoints[i];
        struct pages_problem *p;
        char url[NET_URL_MAX];

        if (!e->was_checked || e->is_good)
            continue;
        p = add(d, PAGES_WARNING, "etcd");
        SAY(p->title, "etcd does not answer at %s", net_url_text(e->url, url));
        SAY(p->effect, "Clients are served through the other endpoints.");
        SAY(p->reason, "%s", e->why);
        SAY(p->advice, "See to that member. Nothing has to be done here.");
    }
}

/* Clients have tokens of their own, and are served. */
static void look_at_own_calls(const struct pages_state *st, struct pages_diagnosis *d)
{
    bool has_user = st->settings->etcd_user != NULL;
    struct pages_problem *p;

    if (st->refusal[0] == '\0')
        return;
    p = add(d, PAGES_WARNING, "etcd");
    SAY(p->title, "etcd refuses what the proxy asks on its own account");
    SAY(p->effect, "Clients are served. What does not open cannot be found by the proxy, nothing "
                   "is rewritten, and a reload that drops a key is refused.");
    SAY(p->reason, "%s", st->refusal);
    if (has_user)
        SAY(p->advice,
            "See that user %.100s exists in etcd and has the password in --etcd-password-file, and "
            "that its roles give it read on the protected prefixes, with --converge readwrite, and "
            "readwrite under %.100s/.",
            st->settings->etcd_user, st->settings->converge_key);
    else
        SAY(p->advice, "Where etcd has users, make one for the proxy, and give its name with "
                       "--etcd-user and its password with --etcd-password-file.");
}

static void look_at_password_file(const struct pages_state *st, struct pages_diagnosis *d)
{
    struct pages_problem *p;

    if (st->password_why[0] == '\0')
        return;
    p = add(d, PAGES_WARNING, "configuration");
    SAY(p->title, "The password file for etcd cannot be used");
    SAY(p->effect, "The password that was read before is in use as long as the proxy runs.");
    SAY(p->reason, "%s", st->password_why);
    SAY(p->advice, "Correct the file: it is read again by itself.");
}

/* --- KMS ------------------------------------------------------------------------------------- */

/* New values of some resource are sealed with it. */
static bool is_writer(const struct pages_state *st, size_t slot)
{
    for (size_t i = 0; i < st->rules->key_rules->count; i++) {
        const struct provider_list *list = &st->rules->lists[i];

        if (list->count > 0 && provider_traits(list->v[0])->is_kms && list->v[0]->slot == slot)
            return true;
    }
    return false;
}

static void say_kms_effect(const struct pages_state *st, size_t slot, struct pages_problem *p)
{
    const struct pages_plugin *plugin = &st->plugins[slot];
    char until[KMS_TIME_TEXT];

    if (!is_writer(st, slot)) {
        p->severity = PAGES_WARNING;
        SAY(p->effect, "Nothing new is sealed with it, but values that are cannot be read, unless "
                       "their keys are in memory.");
    } else if (plugin->traits->has_dek_per_value || !plugin->last.has_state) {
        SAY(p->effect, "What it seals cannot be written, and not be read either, unless its keys "
                       "are in memory.");
    } else if (plugin->last.writes_until_s < st->now_s) {
        SAY(p->effect, "What it seals cannot be written any more, for it has not been well for "
                       "more than 3 minutes. Values whose keys are in memory can be read.");
    } else {
        p->severity = PAGES_WARNING;
        SAY(p->effect,
            "Writes go on with the key at hand until %s. Values whose keys are in memory can be "
            "read, others cannot.",
            kms_time_text(plugin->last.writes_until_s, until));
    }
}

static void look_at_plugin(const struct pages_state *st, size_t slot, struct pages_diagnosis *d)
{
    const struct pages_plugin *plugin = &st->plugins[slot];
    struct pages_problem *p;

    if (plugin->last.is_healthy)
        return;
    p = add(d, PAGES_FAILING, "kms");
    SAY(p->title, "KMS plugin %s is not well", plugin->name);
    say_kms_effect(st, slot, p);
    SAY(p->reason, "%s", plugin->last.why);
    SAY(p->advice,
        "Start the plugin at %s, or see its log. The proxy tries it again by itself. Do not "
        "restart the proxy before the plugin is back: the keys that it has in memory would be "
        "lost.",
        st->rules->plugins[slot].endpoint);
}

/* --- the configuration ----------------------------------------------------------------------- */

static void look_at_reload(const struct pages_state *st, struct pages_diagnosis *d)
{
    struct pages_problem *p;
    char when[KMS_TIME_TEXT];

    if (!st->is_reload_failed)
        return;
    p = add(d, PAGES_WARNING, "configuration");
    SAY(p->title, "The configuration file was refused");
    SAY(p->effect, "Since %s the file says something else than what is in force.",
        kms_time_text(st->reload->time_s, when));
    SAY(p->reason, "%s", st->reload->why);
    SAY(p->advice,
        "Correct %s and send SIGHUP; etcd-envelope check says beforehand what is wrong with the "
        "file, etcd-envelope verify with it whether all stored values open. A restart would look "
        "at the file alone: it may be refused then, too, or be taken "
        "although stored values still need a key that it lacks.",
        st->settings->encryption_provider_config);
}

static void look_at_tls_files(const struct pages_state *st, struct pages_diagnosis *d)
{
    struct pages_problem *p;

    if (st->tls_why[0] == '\0')
        return;
    p = add(d, PAGES_WARNING, "certificate");
    SAY(p->title, "TLS files have changed and cannot be used");
    SAY(p->effect, "The old ones are in use as long as the proxy runs.");
    SAY(p->reason, "%s", st->tls_why);
    SAY(p->advice, "Correct the files: they are read again by themselves.");
}

/* An opener that is gone, or does not answer: see contain/opener.h. */
static void look_at_files(const struct pages_state *st, struct pages_diagnosis *d)
{
    struct pages_problem *p;

    if (st->files_why == NULL)
        return;
    p = add(d, PAGES_WARNING, "process");
    SAY(p->title, "Files cannot be read");
    SAY(p->effect, "Everything is served, with the configuration, keys and certificates that were "
                   "read last: another configuration or certificate is not taken over.");
    SAY(p->reason, "%s", st->files_why);
    SAY(p->advice, "Where the process that opens files (opener) has ended, restart the proxy, at "
                   "the latest before its certificates end. Where it does not answer see to the "
                   "file system of its files: it goes on by itself.");
}

static bool writes_plaintext(const struct provider_list *list)
{
    return list->count > 0 && provider_traits(list->v[0])->is_identity;
}

/* Names resources whose new values are plaintext, each once, and counts those for which there is no
 * room: "secrets, configmaps and 3 more". Returns how many there are. */
static size_t name_plaintext(const struct ruleset *r, char out[static NAMES_MAX])
{
    size_t count = 0, at = 0, left_out = 0;

    out[0] = '\0';
    for (size_t i = 0; i < r->key_rules->count; i++) {
        const char *name = r->lists[i].resource;
        bool is_named = !writes_plaintext(&r->lists[i]);

        for (size_t k = 0; k < i && !is_named; k++)
            is_named = writes_plaintext(&r->lists[k]) && strcmp(r->lists[k].resource, name) == 0;
        if (is_named)
            continue;
        count++;
        if (count == 1 || (left_out == 0 && at + strlen(name) + 24 < NAMES_MAX)) {
            say(out + at, NAMES_MAX - at, "%s%s", count > 1 ? ", " : "", name);
            at = strlen(out);
        } else {
            left_out++;
        }
    }
    if (left_out > 0)
        say(out + at, NAMES_MAX - at, " and %zu more", left_out);
    return count;
}

static void look_at_plaintext_writes(const struct pages_state *st, struct pages_diagnosis *d)
{
    struct pages_problem *p;
    char names[NAMES_MAX];
    size_t count = name_plaintext(st->rules, names);

    if (count == 0 && st->rules->protected_count > 0)
        return;
    p = add(d, PAGES_WARNING, "configuration");
    if (count > 0)
        SAY(p->title, "New values of %s are stored as plaintext", names);
    else
        SAY(p->title, "Nothing is protected");
    SAY(p->effect, "identity comes first in the configuration, and --allow-identity-writes was "
                   "given.");
    SAY(p->advice, "Right on the way off encryption. Else put a provider that seals first in the "
                   "lists of these.");
}

/* --- the rest -------------------------------------------------------------------------------- */

/* file: where the certificate lies; NULL: not known. */
static void look_at_certificate(const struct pages_state *st, const struct pages_certificate *c,
                                const char *whose, const char *file, struct pages_diagnosis *d)
{
    struct pages_problem *p;
    char when[KMS_TIME_TEXT], left[PAGES_WORDS];
    bool is_over = c->ends <= st->now_s;

    if (!c->is_there || c->ends - st->now_s > DIAGNOSIS_CERTIFICATE_S)
        return;
    p = add(d, is_over ? PAGES_FAILING : PAGES_WARNING, "certificate");
    if (is_over)
        SAY(p->title, "The certificate shown to %s has ended", whose);
    else
        SAY(p->title, "The certificate shown to %s ends in %s", whose,
            pages__duration_words(c->ends - st->now_s, left));
    SAY(p->effect, "From %s on connections are refused by the other side.",
        kms_time_text(c->ends, when));
    SAY(p->advice, "Replace %s and its key: they are read again by themselves.",
        file != NULL ? file : "it");
}

static void look_at_memory(const struct pages_state *st, struct pages_diagnosis *d)
{
    uint64_t held = metric_get(METRIC_held_bytes), limit = st->settings->memory_limit;
    struct pages_problem *p;
    char a[PAGES_WORDS], b[PAGES_WORDS];

    if (limit == 0 || held < limit - limit / 10)
        return;
    p = add(d, PAGES_WARNING, "memory");
    SAY(p->title, "Messages hold %s of %s", pages__size_words(held, a),
        pages__size_words(limit, b));
    SAY(p->effect, "At the limit the client that holds most is refused calls, with "
                   "RESOURCE_EXHAUSTED.");
    SAY(p->advice, "See which client lists much or reads slowly, or raise --memory-limit.");
}

static void look_at_connections(const struct pages_state *st, struct pages_diagnosis *d)
{
    uint64_t links = metric_get(METRIC_links), limit = st->connection_limit;
    struct pages_problem *p;

    if (limit == 0 || links < limit - limit / 10)
        return;
    p = add(d, PAGES_WARNING, "connections");
    SAY(p->title, "%llu of %llu client connections are open", (unsigned long long)links,
        (unsigned long long)limit);
    SAY(p->effect, "At the limit a new one is refused, or takes the place of one of whoever has "
                   "most.");
    SAY(p->advice, "See who opens so many (the log names whom it refuses), or raise "
                   "--max-connections and the file descriptors that the process may have.");
}

static void look_at_values(const struct pages_state *st, struct pages_diagnosis *d)
{
    struct history_point now;
    struct history_span span;
    struct pages_problem *p;
    char n[PAGES_WORDS];

    pages__history_now(st->history, &now);
    pages__history_span(pages__history_at(st->history, 0), &now, &span);
    if (span.unreadable < 1)
        return;
    p = add(d, PAGES_WARNING, "values");
    SAY(p->title, "Stored values do not open");
    SAY(p->effect,
        "%s reads of the last 5 minutes met one. A list fails with DATA_LOSS as long as "
        "one of its values does not open.",
        pages__count_words((uint64_t)span.unreadable, n));
    SAY(p->advice, "etcd-envelope verify --list unreadable names them, and tells damaged values "
                   "from those whose key or provider is missing in the configuration.");
}

/* Since then others may have rewritten, or repaired, some. */
static const char *age_of_look(const struct pages_state *st, const struct pages_coverage *c,
                               char out[static AGE_MAX])
{
    char ago[PAGES_WORDS];

    out[0] = '\0';
    if (c->time_s != 0)
        say(out, AGE_MAX, " That was counted %s ago.",
            pages__duration_words(st->now_s > c->time_s ? st->now_s - c->time_s : 0, ago));
    return out;
}

/* Where new values are written in clear, too, that is said, and plaintext is what is wanted. */
static double plaintext_of(const struct pages_state *st, const struct pages_coverage *c)
{
    double plain = c->totals[COVERAGE_PLAINTEXT];

    for (size_t i = 0; st->rules != NULL && i < c->count; i++)
        for (size_t k = 0; k < st->rules->key_rules->count; k++) {
            const struct provider_list *list = &st->rules->lists[k];

            if (!writes_plaintext(list) || strcmp(list->resource, c->rows[i].resource) != 0)
                continue;
            plain -= c->rows[i].counts[COVERAGE_PLAINTEXT];
            break; /* several rules may be of one resource */
        }
    return plain;
}

static void look_at_coverage(const struct pages_state *st, const struct pages_coverage *c,
                             struct pages_diagnosis *d)
{
    double plain = plaintext_of(st, c), bad = c->totals[COVERAGE_UNREADABLE];
    struct pages_problem *p;
    char n[PAGES_WORDS], age[AGE_MAX];

    if (bad > 0) {
        p = add(d, PAGES_WARNING, "values");
        SAY(p->title, "%s stored value%s cannot be read", pages__count_words((uint64_t)bad, n),
            bad < 2 ? "" : "s");
        SAY(p->effect, "A list fails with DATA_LOSS as long as one of its values does not open.%s",
            age_of_look(st, c, age));
        SAY(p->advice, "etcd-envelope verify --list unreadable names them.");
    }
    if (plain > 0) {
        p = add(d, PAGES_WARNING, "values");
        SAY(p->title, "%s stored value%s plaintext", pages__count_words((uint64_t)plain, n),
            plain < 2 ? " is" : "s are");
        SAY(p->effect, "They are of protected resources, and are not sealed.%s",
            age_of_look(st, c, age));
        SAY(p->advice,
            "Where identity is in the list behind another provider etcd-envelope reencrypt seals "
            "them. Where it is not listed reads of them fail, for somebody may have planted them: "
            "verify --list plaintext names them.");
    }
}

/* What the look behind the start, a reload or SIGHUP has found. */
static void look_at_unopened(const struct pages_state *st, struct pages_diagnosis *d)
{
    int64_t ago = st->now_s > st->unopened_s ? st->now_s - st->unopened_s : 0;
    struct pages_problem *p;
    char n[PAGES_WORDS];

    if (st->unopened < 1)
        return;
    p = add(d, PAGES_WARNING, "values");
    SAY(p->title, "%s stored value%s not open with this configuration",
        pages__count_words((uint64_t)st->unopened, n), st->unopened < 2 ? " does" : "s do");
    SAY(p->effect,
        "Every list that has one of them fails with DATA_LOSS. They were counted %s ago.",
        pages__duration_words(ago, n));
    SAY(p->advice,
        "etcd-envelope verify --list unreadable names the values, each with the reason. Only where "
        "a key or its provider is missing: put it back into %s, behind the one that writes, and "
        "send SIGHUP. What was damaged or planted is a matter for the runbook.",
        st->settings->encryption_provider_config);
}

static void look_at_end(const struct pages_state *st, struct pages_diagnosis *d)
{
    struct pages_problem *p;

    if (!st->is_draining)
        return;
    p = add(d, PAGES_WARNING, "process");
    SAY(p->title, "The proxy is shutting down");
    SAY(p->effect, "Calls in flight are finished, new connections are refused.");
    SAY(p->advice, "It was asked to by a signal.");
}

/* --- all of it ------------------------------------------------------------------------------- */

/* Otherwise in the order in which they were found. */
static void sort_worst_first(struct pages_diagnosis *d)
{
    for (size_t i = 1; i < d->count; i++) {
        struct pages_problem moving = d->problems[i];
        size_t to = i;

        for (; to > 0 && d->problems[to - 1].severity > moving.severity; to--)
            d->problems[to] = d->problems[to - 1];
        d->problems[to] = moving;
    }
}

static void summarize(struct pages_diagnosis *d)
{
    size_t at = 0, i = 0;

    if (d->count == 0) {
        SAY(d->summary, "All is well");
        return;
    }
    d->severity = d->problems[0].severity;
    for (; i < d->count && (i == 0 || at + strlen(d->problems[i].title) < 160); i++) {
        say(d->summary + at, sizeof d->summary - at, "%s%s", i > 0 ? "; " : "",
            d->problems[i].title);
        at = strlen(d->summary);
    }
    if (i < d->count)
        say(d->summary + at, sizeof d->summary - at, "; and %zu more", d->count - i);
}

enum err pages__diagnose(const struct pages_state *st, const struct pages_coverage *coverage,
                         struct pages_diagnosis *d)
{
    const struct settings *o = st->settings;

    *d = (struct pages_diagnosis){.severity = PAGES_WELL};
    d->problems = calloc(OTHERS_MAX + st->endpoint_count + st->plugin_count, sizeof d->problems[0]);
    if (d->problems == NULL)
        return ERR_NOMEM;
    look_at_etcd(st, d);
    for (size_t i = 0; i < st->plugin_count; i++)
        look_at_plugin(st, i, d);
    look_at_endpoints(st, d);
    look_at_own_calls(st, d);
    look_at_password_file(st, d);
    look_at_certificate(st, &st->listen_certificate, "clients", o->cert_file, d);
    look_at_certificate(st, &st->etcd_certificate, "etcd", o->etcd_certfile, d);
    look_at_tls_files(st, d);
    look_at_reload(st, d);
    look_at_files(st, d);
    if (st->rules != NULL)
        look_at_plaintext_writes(st, d);
    look_at_memory(st, d);
    look_at_connections(st, d);
    look_at_values(st, d);
    look_at_coverage(st, coverage, d);
    look_at_unopened(st, d);
    look_at_end(st, d);
    sort_worst_first(d);
    summarize(d);
    return ERR_OK;
}

void pages__diagnosis_fini(struct pages_diagnosis *d)
{
    free(d->problems);
    d->problems = NULL;
    d->count = 0;
}
