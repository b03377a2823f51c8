/* SPDX-License-Identifier: Apache-2.0 */
#include "pages/state.h"

#include <stdlib.h>
#include <time.h>

#include "base/metrics.h"
#include "contain/opener.h"
#include "net/tls.h"

#define SHEDDING_MS 10000u /* who looks every ten seconds does not miss it */

enum err pages__source_open(struct pages_source *s, struct server *server,
                            const struct settings *settings)
{
    s->server = server;
    s->settings = settings;
    s->started_s = time(NULL);
    list_init(&s->waits);
    TRY(pages__history_new(server_loop(server), &s->history));
    return pages__etcd_health_new(server, &s->etcd);
}

void pages__source_close(struct pages_source *s)
{
    if (s->etcd != NULL)
        pages__etcd_health_close(s->etcd);
    if (s->history != NULL)
        pages__history_close(s->history);
    s->etcd = NULL;
    s->history = NULL;
}

void pages__state_check(struct pages_source *s, unsigned checked)
{
    struct kms_manager *m = server_manager(s->server);

    if (checked & (PAGES_ETCD | PAGES_EACH_ETCD))
        pages__etcd_health_check(s->etcd);
    if (checked & PAGES_KMS && m != NULL)
        kms_manager_check(m);
}

bool pages__state_is_checking(const struct pages_source *s, unsigned checked)
{
    const struct kms_manager *m = server_manager(s->server);

    return (checked & PAGES_ETCD && pages__etcd_health_is_checking(s->etcd)) ||
           (checked & PAGES_EACH_ETCD && pages__etcd_health_is_asking(s->etcd)) ||
           (checked & PAGES_KMS && m != NULL && kms_manager_is_checking(m));
}

static enum err take_plugins(const struct pages_source *s, struct pages_state *st)
{
    const struct ruleset *rules = st->rules;

    if (rules->plugin_count == 0)
        return ERR_OK;
    st->plugins = calloc(rules->plugin_count, sizeof *st->plugins);
    if (st->plugins == NULL)
        return ERR_NOMEM;
    st->plugin_count = rules->plugin_count;
    for (size_t i = 0; i < st->plugin_count; i++) {
        struct pages_plugin *p = &st->plugins[i];

        p->name = rules->plugins[i].provider->name;
        p->traits = provider_traits(rules->plugins[i].provider);
        st->has_own_checks = st->has_own_checks || p->traits->has_own_health_check;
        kms_manager_state(server_manager(s->server), i, &p->last);
    }
    return ERR_OK;
}

static enum err take_endpoints(const struct pages_source *s, struct pages_state *st)
{
    size_t count = pages__etcd_health_count(s->etcd);

    st->endpoints = calloc(count + 1, sizeof *st->endpoints);
    if (st->endpoints == NULL)
        return ERR_NOMEM;
    for (; st->endpoint_count < count; st->endpoint_count++)
        st->endpoints[st->endpoint_count] =
            pages__etcd_health_endpoint(s->etcd, st->endpoint_count);
    return ERR_OK;
}

static struct pages_certificate certificate_of(const struct net_tls *tls)
{
    struct pages_certificate c = {0};

    c.is_there = tls != NULL && net_tls_expiry(tls, &c.ends);
    return c;
}

static void add_value(void *arg, const struct series_view *s)
{
    *(double *)arg += s->value;
}

static void note_time(void *arg, const struct series_view *s)
{
    *(int64_t *)arg = (int64_t)s->value;
}

enum err pages__state_take(const struct pages_source *s, struct pages_state *out)
{
    *out = (struct pages_state){
        .settings = s->settings,
        .is_draining = server_is_draining(s->server),
        .connection_limit = server_connection_limit(s->server),
        .now_s = time(NULL),
        .started_s = s->started_s,
        .history = s->history,
        .reload = server_last_reload(s->server),
        .is_reload_failed = server_is_reload_failed(s->server),
        .tls_why = server_tls_why(s->server),
        .files_why = opener_problem(),
        .refusal = server_etcd_refusal(s->server),
        .password_why = server_password_why(s->server),
        .is_shedding = metric_shed_ago_ms() < SHEDDING_MS,
        .rules = server_rules(s->server),
        .etcd_why = pages__etcd_health_why(s->etcd),
        .listen_certificate = certificate_of(server_listen_tls(s->server)),
        .etcd_certificate = certificate_of(server_etcd_tls(s->server)),
    };
    series_each(SERIES_UNOPENED, add_value, &out->unopened);
    series_each(SERIES_UNOPENED_TIME, note_time, &out->unopened_s);
    out->has_converge = server_converge(s->server) != NULL;
    if (out->has_converge)
        converge_status(server_converge(s->server), &out->converge);
    if (out->has_converge && out->converge.is_denied && out->refusal[0] == '\0')
        out->refusal = out->converge.text;
    TRY(take_endpoints(s, out));
    if (out->rules == NULL)
        return ERR_OK;
    out->config = out->rules->config;
    return take_plugins(s, out);
}

void pages__state_fini(struct pages_state *st)
{
    free(st->plugins);
    free(st->endpoints);
    st->plugins = NULL;
    st->endpoints = NULL;
    st->endpoint_count = 0;
    st->plugin_count = 0;
}
