/* SPDX-License-Identifier: Apache-2.0 */
/* The happy path:
 *   1. URLs, TLS contexts, workers, key manager, rule set to every worker, listeners;
 *   2. an accepted socket goes to the worker with the fewest links;
 *   3. SIGTERM or SIGINT: listeners close, workers drain, then everything ends in reverse order.
 * Failure modes: what cannot be set up ends the start with a reason; a KMS plugin that is away does
 * not (reads and writes of protected keys are refused until it comes). A second signal exits at
 * once. */
#include "proxy/server.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "net/listen.h"
#include "proxy/worker.h"

#define EXIT_ERROR 1
#define EXIT_USAGE 2

struct server_worker {
    struct worker *worker;
    size_t links;
    bool is_drained;
};

struct server_listener {
    struct server *server;
    struct net_listener *listener;
    struct net_tls *tls; /* NULL: clear text */
};

struct server {
    const struct settings *settings;
    struct proxy_env env;
    struct net_url *etcd_urls;
    struct etcd_advertise_url *advertise;
    char (*advertise_texts)[NET_URL_MAX];
    struct loop loop;
    struct mailbox mailbox;
    struct server_worker *workers;
    size_t worker_count;
    struct server_listener *listeners;
    size_t listener_count;
    struct net_tls *tls;
    struct ruleset *rules;
    struct kms_manager *manager;
    uv_signal_t sigterm, sigint;
    bool is_draining;
    size_t drained_count;
    size_t rings_joined;
};

/* --- the end --------------------------------------------------------------------------------- */

static void on_manager_closed(void *arg)
{
    struct server *s = arg;

    s->manager = NULL;
    mailbox_close(&s->mailbox);
    uv_close((uv_handle_t *)&s->sigterm, NULL);
    uv_close((uv_handle_t *)&s->sigint, NULL);
    loop_stop(&s->loop);
}

static void all_drained(struct server *s)
{
    for (size_t i = 0; i < s->worker_count; i++) {
        struct keyset *keys =
            s->workers[i].worker->keys; /* the worker is idle: nobody changes it */

        if (keys != NULL)
            kms_manager_leave(s->manager, keys->ring);
        worker_stop(s->workers[i].worker);
    }
    s->worker_count = 0;
    kms_manager_close(s->manager, on_manager_closed, s);
}

static void begin_drain(struct server *s)
{
    if (s->is_draining)
        _exit(EXIT_ERROR); /* the second signal */
    s->is_draining = true;
    LOG(INFO, "shutting down", "limit_ms=%llu",
        (unsigned long long)s->settings->shutdown_timeout_ms);
    for (size_t i = 0; i < s->listener_count; i++)
        net_listener_close(s->listeners[i].listener);
    s->listener_count = 0;
    for (size_t i = 0; i < s->worker_count; i++)
        worker_drain(s->workers[i].worker, s->settings->shutdown_timeout_ms);
}

static void on_signal(uv_signal_t *handle, int signum)
{
    (void)signum;
    begin_drain(handle->data);
}

/* --- workers --------------------------------------------------------------------------------- */

static struct server_worker *find_worker(struct server *s, const struct worker *w)
{
    for (size_t i = 0; i < s->worker_count; i++)
        if (s->workers[i].worker == w)
            return &s->workers[i];
    return NULL;
}

static void on_report(void *arg, const struct worker_report *r)
{
    struct server *s = arg;
    struct server_worker *sw = find_worker(s, r->worker);

    if (sw == NULL)
        return;
    switch (r->event) {
    case WORKER_LINK_CLOSED:
        sw->links--;
        return;
    case WORKER_KEYSET_IN_USE:
        if (kms_manager_join(r->keys->manager, &r->worker->mailbox, r->keys->ring) != ERR_OK)
            LOG(ERROR, "a worker has no keys", "worker=%u", r->worker->number);
        return;
    case WORKER_KEYSET_UNUSED:
        kms_manager_leave(r->keys->manager, r->keys->ring);
        worker_free_keyset(r->worker, r->keys);
        return;
    case WORKER_DRAINED:
        if (sw->is_drained)
            return;
        sw->is_drained = true;
        if (++s->drained_count == s->worker_count)
            all_drained(s);
        return;
    }
}

static void on_accept(void *arg, int fd)
{
    struct server_listener *sl = arg;
    struct server *s = sl->server;
    struct server_worker *best = &s->workers[0];

    for (size_t i = 1; i < s->worker_count; i++)
        if (s->workers[i].links < best->links)
            best = &s->workers[i];
    best->links++;
    worker_give_socket(best->worker, fd, sl->tls);
}

/* --- set-up ---------------------------------------------------------------------------------- */

struct setup {
    struct server *s;
    char *why;
    size_t why_len;
};

static int PRINTF_LIKE(3, 4) refuse(const struct setup *u, int status, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(u->why, u->why_len, fmt, ap);
    va_end(ap);
    return status;
}

static int parse_url(const struct setup *u, const char *flag, const char *text, struct net_url *out)
{
    const char *reason = "";

    if (net_url_parse(text, out, &reason) != ERR_OK)
        return refuse(u, EXIT_USAGE, "--%s: %s: %s", flag, text, reason);
    return 0;
}

static int setup_upstream(const struct setup *u)
{
    struct server *s = u->s;
    const struct settings *o = s->settings;
    struct net_tls_client_opts tls = {.ca_file = o->etcd_cafile,
                                      .cert_file = o->etcd_certfile,
                                      .key_file = o->etcd_keyfile,
                                      .alpn_h2 = true};
    bool needs_tls = false;

    s->etcd_urls = base_xcalloc(o->etcd_server_count + 1, sizeof *s->etcd_urls);
    for (size_t i = 0; i < o->etcd_server_count; i++) {
        int status = parse_url(u, "etcd-servers", o->etcd_servers[i], &s->etcd_urls[i]);

        if (status != 0)
            return status;
        needs_tls |= s->etcd_urls[i].is_tls;
    }
    s->env.etcd_urls = s->etcd_urls;
    s->env.etcd_url_count = o->etcd_server_count;
    if (o->etcd_server_count == 0)
        return refuse(u, EXIT_USAGE, "--etcd-servers: at least one URL is needed");
    if (!needs_tls)
        return 0;
    if (net_tls_client_new(&tls, &s->env.etcd_tls, u->why, u->why_len) != ERR_OK)
        return EXIT_ERROR;
    tls.alpn_h2 = false;
    if (net_tls_client_new(&tls, &s->env.etcd_tls_http1, u->why, u->why_len) != ERR_OK)
        return EXIT_ERROR;
    return 0;
}

static int setup_server_tls(const struct setup *u)
{
    const struct settings *o = u->s->settings;
    struct net_tls_server_opts tls = {.cert_file = o->cert_file,
                                      .key_file = o->key_file,
                                      .ca_file = o->trusted_ca_file,
                                      .require_client_cert =
                                          o->client_cert_auth || o->trusted_ca_file != NULL,
                                      .allowed_names = (const char *const *)o->allowed_client_names,
                                      .allowed_count = o->allowed_client_name_count};

    if (u->s->tls != NULL)
        return 0;
    if (o->cert_file == NULL || o->key_file == NULL)
        return refuse(u, EXIT_USAGE, "https and unixs listen URLs need --cert-file and --key-file");
    if (o->client_cert_auth && o->trusted_ca_file == NULL)
        return refuse(u, EXIT_USAGE, "--client-cert-auth needs --trusted-ca-file");
    return net_tls_server_new(&tls, &u->s->tls, u->why, u->why_len) == ERR_OK ? 0 : EXIT_ERROR;
}

/* Whoever reaches the proxy reads plaintext: beyond this machine only authenticated clients. */
static int check_listen_url(const struct setup *u, const char *text, const struct net_url *url)
{
    const struct settings *o = u->s->settings;

    if (net_url_is_local(url) || o->insecure_listen || (url->is_tls && o->trusted_ca_file != NULL))
        return 0;
    return refuse(u, EXIT_USAGE,
                  "--listen-client-urls: %s is reachable by others, who would read plaintext: use "
                  "https with --trusted-ca-file, or say --insecure-listen",
                  text);
}

static int setup_listeners(const struct setup *u)
{
    struct server *s = u->s;
    const struct settings *o = s->settings;

    s->listeners = base_xcalloc(o->listen_client_url_count + 1, sizeof *s->listeners);
    for (size_t i = 0; i < o->listen_client_url_count; i++) {
        const char *text = o->listen_client_urls[i];
        struct server_listener *sl = &s->listeners[i];
        struct net_url url;
        int status = parse_url(u, "listen-client-urls", text, &url);

        if (status == 0)
            status = check_listen_url(u, text, &url);
        if (status == 0 && url.is_tls)
            status = setup_server_tls(u);
        if (status != 0)
            return status;
        sl->server = s;
        sl->tls = url.is_tls ? s->tls : NULL;
        if (net_listen(&s->loop, &url, on_accept, sl, &sl->listener, u->why, u->why_len) != ERR_OK)
            return EXIT_ERROR;
        s->listener_count++;
        LOG(INFO, "listening", "url=%s port=%u", text, net_listener_port(sl->listener));
    }
    return s->listener_count > 0 ? 0 : refuse(u, EXIT_USAGE, "--listen-client-urls: none given");
}

static bool is_wildcard(const struct net_url *url)
{
    return !url->is_unix && (url->host[0] == '\0' || strcmp(url->host, "0.0.0.0") == 0 ||
                             strcmp(url->host, "::") == 0 || strcmp(url->port, "0") == 0);
}

/* "member=URL" or "URL"; a '=' can't stand in a URL of ours before "://". */
static int advertise_one(const struct setup *u, char *text, struct etcd_advertise_url *out)
{
    char *scheme = strstr(text, "://");
    char *equals = strchr(text, '=');
    struct net_url url;

    *out = (struct etcd_advertise_url){.url = text};
    if (equals != NULL && (scheme == NULL || equals < scheme)) {
        *equals = '\0';
        *out = (struct etcd_advertise_url){.member = text, .url = equals + 1};
    }
    return parse_url(u, "advertise-client-urls", out->url, &url);
}

static int setup_advertise(const struct setup *u)
{
    struct server *s = u->s;
    const struct settings *o = s->settings;
    struct net_url url;

    s->advertise = base_xcalloc(o->advertise_client_url_count + 1, sizeof *s->advertise);
    s->advertise_texts = base_xcalloc(o->advertise_client_url_count + 1, NET_URL_MAX);
    s->env.advertise.v = s->advertise;
    for (size_t i = 0; i < o->advertise_client_url_count; i++) {
        int status;

        snprintf(s->advertise_texts[i], NET_URL_MAX, "%s", o->advertise_client_urls[i]);
        status = advertise_one(u, s->advertise_texts[i], &s->advertise[i]);
        if (status != 0)
            return status;
        s->env.advertise.count++;
    }
    if (s->env.advertise.count > 0 || o->listen_client_url_count == 0)
        return 0;
    if (parse_url(u, "listen-client-urls", o->listen_client_urls[0], &url) != 0)
        return EXIT_USAGE;
    if (is_wildcard(&url))
        return 0; /* MemberList answers FAILED_PRECONDITION */
    net_url_text(&url, s->advertise_texts[0]);
    s->advertise[0] = (struct etcd_advertise_url){.url = s->advertise_texts[0]};
    s->env.advertise.count = 1;
    return 0;
}

static int setup_workers(const struct setup *u)
{
    struct server *s = u->s;
    unsigned count = s->settings->workers;

    s->env.worker_memory_limit = s->settings->memory_limit / count;
    s->workers = base_xcalloc(count, sizeof *s->workers);
    for (unsigned i = 0; i < count; i++) {
        if (worker_start(&s->env, i, &s->mailbox, on_report, s, &s->workers[i].worker) != ERR_OK)
            return refuse(u, EXIT_ERROR, "cannot start worker %u", i);
        s->worker_count++;
        worker_give_rules(s->workers[i].worker, s->rules, s->manager);
    }
    return 0;
}

/* --- what is protected ----------------------------------------------------------------------- */

static void say_protected(const struct server *s)
{
    const struct ruleset *r = s->rules;

    for (size_t i = 0; i < r->key_rules->count; i++) {
        const struct provider_list *list = &r->lists[i];

        if (list->count > 0)
            LOG(INFO, "protected", "resource=%s prefix=%s%s provider=%.*s", list->resource,
                r->key_rules->v[i].prefix,
                r->key_rules->v[i].kind == KEY_RULE_DOTLESS ? "/* (unknown kinds)" : "",
                list->v[0]->prefix.n > 0 ? (int)list->v[0]->prefix.n : 8,
                list->v[0]->prefix.n > 0 ? (const char *)list->v[0]->prefix.p : "identity");
        else if (r->key_rules->v[i].entry_count > 0)
            LOG(INFO, "excluded by identity", "prefix=%s", r->key_rules->v[i].prefix);
    }
    if (r->config->has_more_documents)
        LOG(WARN, "configuration", "%s", "only the first YAML document of the file counts");
    for (size_t i = 0; i < r->key_rules->warning_count; i++)
        LOG(WARN, "configuration", "%s", r->key_rules->warnings[i]);
}

static void on_primed(void *arg)
{
    struct server *s = arg;

    for (size_t i = 0; i < s->rules->plugin_count; i++) {
        struct kms_plugin_state state;

        kms_manager_state(s->manager, i, &state);
        if (state.has_state)
            LOG(INFO, "KMS ready", "provider=%s key_id_hash=%s",
                s->rules->plugins[i].provider->name, state.key_id_hash);
        else
            LOG(WARN, "KMS not ready: protected keys are refused until it is",
                "provider=%s reason=\"%s\"", s->rules->plugins[i].provider->name, state.why);
    }
}

/* --- run ------------------------------------------------------------------------------------- */

static int setup_signals(const struct setup *u)
{
    struct server *s = u->s;

    s->sigterm.data = s->sigint.data = s;
    signal(SIGPIPE, SIG_IGN);
    if (uv_signal_init(&s->loop.uv, &s->sigterm) != 0 ||
        uv_signal_init(&s->loop.uv, &s->sigint) != 0 ||
        uv_signal_start(&s->sigterm, on_signal, SIGTERM) != 0 ||
        uv_signal_start(&s->sigint, on_signal, SIGINT) != 0)
        return refuse(u, EXIT_ERROR, "cannot watch signals");
    return 0;
}

static int setup(const struct setup *u)
{
    struct server *s = u->s;
    struct kms_manager_opts kms = {
        .loop = &s->loop, .plugins = s->rules->plugins, .plugin_count = s->rules->plugin_count};
    int status = setup_upstream(u);

    if (status == 0)
        status = setup_advertise(u);
    if (status != 0)
        return status;
    if (loop_init(&s->loop) != ERR_OK || mailbox_init(&s->mailbox, &s->loop) != ERR_OK)
        return refuse(u, EXIT_ERROR, "cannot make the control loop");
    if (kms_manager_new(&kms, &s->manager) != ERR_OK)
        return refuse(u, EXIT_ERROR, "cannot make the key manager");
    kms_manager_on_primed(s->manager, on_primed, s);
    status = setup_signals(u);
    if (status == 0)
        status = setup_workers(u);
    if (status == 0)
        status = setup_listeners(u);
    return status;
}

int server_run(const struct settings *settings, struct ruleset *rules, char *why, size_t why_len)
{
    struct server s = {.settings = settings, .rules = rules};
    struct setup u = {&s, why, why_len};
    int status;

    s.env.settings = settings;
    status = setup(&u);
    if (status != 0)
        return status; /* the process ends: the system takes the rest back */
    say_protected(&s);
    loop_run(&s.loop);
    mailbox_fini(&s.mailbox);
    loop_fini(&s.loop);
    ruleset_drop(s.rules);
    if (s.tls != NULL)
        net_tls_drop(s.tls);
    if (s.env.etcd_tls != NULL)
        net_tls_drop(s.env.etcd_tls);
    if (s.env.etcd_tls_http1 != NULL)
        net_tls_drop(s.env.etcd_tls_http1);
    free(s.listeners);
    free(s.workers);
    free(s.etcd_urls);
    free(s.advertise);
    free(s.advertise_texts);
    LOG(INFO, "stopped", "%s", "");
    return 0;
}
