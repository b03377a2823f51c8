/* SPDX-License-Identifier: Apache-2.0 */
/* What is made from the settings before anything is served, in this order: URLs and TLS context
 * towards etcd, the login there, URLs to advertise, listeners with their TLS context; then the
 * process is contained, before there is a thread; converge, workers.
 * Failure modes: what cannot be made ends the start with a reason and an exit status. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "net/inherit.h"
#include "server/server_int.h"

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
        return refuse(u, SERVER_USAGE, "--%s: %s: %s", flag, text, reason);
    return 0;
}

static void warn_of_clear_text(const struct net_url *url)
{
    char text[NET_URL_MAX];

    if (!url->is_tls && !net_url_is_local(url))
        LOG(WARN,
            "etcd is reached in clear over the network: others on the way can read keys, "
            "unprotected values, auth tokens and passwords, and can change or replay anything; use "
            "https",
            "url=%s", net_url_text(url, text));
}

static int setup_upstream(const struct setup *u)
{
    struct server *s = u->s;
    const struct settings *o = s->settings;

    s->etcd_urls = base_xcalloc(o->etcd_server_count + 1, sizeof *s->etcd_urls);
    for (size_t i = 0; i < o->etcd_server_count; i++) {
        int status = parse_url(u, "etcd-servers", o->etcd_servers[i], &s->etcd_urls[i]);

        if (status != 0)
            return status;
        warn_of_clear_text(&s->etcd_urls[i]);
    }
    s->env.etcd_urls = s->etcd_urls;
    s->env.etcd_url_count = o->etcd_server_count;
    if (o->etcd_server_count == 0)
        return refuse(u, SERVER_USAGE, "--etcd-servers: at least one URL is needed");
    return server__make_etcd_tls(s, &s->etcd_tls, &s->etcd_tls_http1, u->why, u->why_len);
}

int server__make_etcd_tls(const struct server *s, struct net_tls **out, struct net_tls **out_http1,
                          char *why, size_t why_len)
{
    const struct settings *o = s->settings;
    struct net_tls_client_opts tls = {.ca_file = o->etcd_cafile,
                                      .cert_file = o->etcd_certfile,
                                      .key_file = o->etcd_keyfile,
                                      .alpn_h2 = true};
    bool needs_tls = false;

    for (size_t i = 0; i < s->env.etcd_url_count; i++)
        needs_tls |= s->etcd_urls[i].is_tls;
    *out = *out_http1 = NULL;
    if (!needs_tls)
        return 0;
    if (net_tls_client_new(&tls, out, why, why_len) != ERR_OK)
        return SERVER_ERROR;
    tls.alpn_h2 = false;
    if (net_tls_client_new(&tls, out_http1, why, why_len) != ERR_OK) {
        net_tls_drop(*out);
        *out = NULL;
        return SERVER_ERROR;
    }
    return 0;
}

/* Whoever reads a private key can be the proxy for its clients, or its client for etcd. */
void server__judge_key_files(const struct settings *o)
{
    const char *const files[] = {o->key_file, o->etcd_keyfile};

    for (size_t i = 0; i < ARRAY_LEN(files); i++)
        if (files[i] != NULL && file_open_mode(files[i]) != 0)
            LOG(WARN, "a private key is open to others: chmod 600 it", "file=\"%s\" mode=%04o",
                files[i], file_open_mode(files[i]));
}

int server__make_server_tls(const struct server *s, struct net_tls **out, char *why, size_t why_len)
{
    const struct settings *o = s->settings;
    const struct net_tls_server_opts tls = {
        .cert_file = o->cert_file,
        .key_file = o->key_file,
        .ca_file = o->trusted_ca_file,
        .crl_file = o->client_crl_file,
        .require_client_cert = o->client_cert_auth || o->trusted_ca_file != NULL,
        .allowed_names = (const char *const *)o->allowed_client_names,
        .allowed_count = o->allowed_client_name_count};

    *out = NULL;
    return net_tls_server_new(&tls, out, why, why_len) == ERR_OK ? 0 : SERVER_ERROR;
}

static int setup_server_tls(const struct setup *u)
{
    const struct settings *o = u->s->settings;

    if (u->s->tls != NULL)
        return 0;
    if (o->cert_file == NULL || o->key_file == NULL)
        return refuse(u, SERVER_USAGE,
                      "https and unixs listen URLs need --cert-file and --key-file");
    if (o->client_cert_auth && o->trusted_ca_file == NULL)
        return refuse(u, SERVER_USAGE, "--client-cert-auth needs --trusted-ca-file");
    return server__make_server_tls(u->s, &u->s->tls, u->why, u->why_len);
}

/* Whoever can connect reads plaintext: from other machines only authenticated clients may. */
static int check_listen_url(const struct setup *u, const char *text, const struct net_url *url)
{
    const struct settings *o = u->s->settings;

    if (net_url_is_local(url) || o->insecure_listen || (url->is_tls && o->trusted_ca_file != NULL))
        return 0;
    return refuse(u, SERVER_USAGE,
                  "--listen-client-urls: %s is reachable by others, who would read plaintext: use "
                  "https with --trusted-ca-file, or say --insecure-listen",
                  text);
}

/* The i-th URL; where it is the only one its address is that of an inherited socket "client". */
static int parse_listen_url(const struct setup *u, size_t i, struct net_url *url)
{
    const struct settings *o = u->s->settings;
    int status = parse_url(u, "listen-client-urls", o->listen_client_urls[i], url);

    if (status == 0 && o->listen_client_url_count == 1)
        net_inherit_address("client", url);
    return status;
}

/* May it be listened on, and are the files there that it takes? */
static int judge_listen_url(const struct setup *u, size_t i, struct net_url *url)
{
    char text[NET_URL_MAX];
    int status = parse_listen_url(u, i, url);

    if (status == 0)
        status = check_listen_url(u, net_url_text(url, text), url);
    if (status == 0 && url->is_tls)
        status = setup_server_tls(u);
    return status;
}

static void say_listening(const struct net_url *url, const struct net_listener *l)
{
    char text[NET_URL_MAX];

    if (url->is_unix)
        LOG(INFO, "listening", "url=%s", net_url_text(url, text));
    else
        LOG(INFO, "listening", "url=%s port=%u", net_url_text(url, text), net_listener_port(l));
}

static int setup_listeners(const struct setup *u)
{
    struct server *s = u->s;
    const struct settings *o = s->settings;

    s->listeners = base_xcalloc(o->listen_client_url_count + 1, sizeof *s->listeners);
    for (size_t i = 0; i < o->listen_client_url_count; i++) {
        struct server_listener *sl = &s->listeners[i];
        struct net_url url;
        int status = judge_listen_url(u, i, &url);

        if (status != 0)
            return status;
        sl->server = s;
        sl->is_tls = url.is_tls;
        if (net_listen(&s->loop, &url, server__on_accept, sl, &sl->listener, u->why, u->why_len) !=
            ERR_OK)
            return SERVER_ERROR;
        s->listener_count++;
        say_listening(&url, sl->listener);
    }
    return s->listener_count > 0 ? 0 : refuse(u, SERVER_USAGE, "--listen-client-urls: none given");
}

static bool is_wildcard(const struct net_url *url)
{
    return !url->is_unix && (url->host[0] == '\0' || strcmp(url->host, "0.0.0.0") == 0 ||
                             strcmp(url->host, "::") == 0 || strcmp(url->port, "0") == 0);
}

/* "member=URL" or "URL": a '=' before "://" can't be part of a URL. */
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
    if (parse_listen_url(u, 0, &url) != 0)
        return SERVER_USAGE;
    if (is_wildcard(&url))
        return 0; /* MemberList answers FAILED_PRECONDITION */
    net_url_text(&url, s->advertise_texts[0]);
    s->advertise[0] = (struct etcd_advertise_url){.url = s->advertise_texts[0]};
    s->env.advertise.count = 1;
    return 0;
}

/* Of an error that has errno if it is the system's. */
static const char *reason_of(enum err e)
{
    return e == ERR_SYSTEM ? strerror(errno) : err_reason(e);
}

static int setup_workers(const struct setup *u)
{
    struct server *s = u->s;
    unsigned count = s->settings->workers;

    budget_init(&s->budget, s->settings->memory_limit, count);
    s->env.budget = &s->budget;
    s->workers = base_xcalloc(count, sizeof *s->workers);
    for (unsigned i = 0; i < count; i++) {
        struct worker *w;
        enum err e = worker_start(&s->env, i, &s->mailbox, server__on_report, s, &w);

        if (e != ERR_OK)
            return refuse(u, SERVER_ERROR, "cannot start worker %u: %s", i, reason_of(e));
        s->workers[s->worker_count++].worker = w;
        if (s->etcd_tls != NULL && worker_give_tls(w, s->etcd_tls, s->etcd_tls_http1) != ERR_OK)
            return refuse(u, SERVER_ERROR, "cannot start worker %u: out of memory", i);
    }
    return 0;
}

/* What people know this proxy by: its host and where it listens. */
static void name_of(const struct server *s, char *name, size_t cap)
{
    char host[80] = "";

    if (gethostname(host, sizeof host - 1) != 0 || host[0] == '\0')
        snprintf(host, sizeof host, "localhost");
    snprintf(name, cap, "%s (%s)", host,
             s->env.advertise.count > 0 ? s->env.advertise.v[0].url
                                        : s->settings->listen_client_urls[0]);
}

static int setup_converge(const struct setup *u)
{
    struct server *s = u->s;
    const struct settings *o = s->settings;
    char name[160];
    enum err e;
    const struct converge_opts c = {.loop = &s->loop,
                                    .etcd_urls = s->etcd_urls,
                                    .etcd_url_count = s->env.etcd_url_count,
                                    .login = s->login,
                                    .place = o->converge_key,
                                    .name = name,
                                    .rate = o->converge,
                                    .after_ms = o->converge_after_ms,
                                    .max_db_size = o->converge_max_db_size};

    if (o->converge == 0)
        return 0;
    name_of(s, name, sizeof name);
    e = converge_new(&c, &s->converge);
    if (e == ERR_OK)
        e = converge_use_tls(s->converge, s->etcd_tls, s->etcd_tls_http1);
    return e == ERR_OK ? 0 : refuse(u, SERVER_ERROR, "cannot set up --converge: %s", err_reason(e));
}

int server__setup(struct server *s, const struct ruleset *rules, char *why, size_t why_len)
{
    const struct setup u = {s, why, why_len};
    int status;

    server__tls_hash(s, s->tls_hash); /* before the files are read, so that no change is missed */
    server__judge_key_files(s->settings);
    status = setup_upstream(&u);
    if (status == 0)
        status = server__make_login(s, &s->login, why, why_len);
    if (status == 0)
        status = setup_advertise(&u);
    if (status == 0)
        status = setup_listeners(&u);
    if (status == 0)
        status = s->hooks.listen(s->hooks.arg, s, why, why_len);
    if (status == 0 && server__setup_limits(s) != ERR_OK)
        status = refuse(&u, SERVER_ERROR, "out of memory");
    if (status == 0)
        status = server__contain(s, rules, why, why_len);
    if (status == 0)
        status = setup_converge(&u);
    if (status == 0)
        status = setup_workers(&u); /* last, so that no other failure finds threads running */
    return status;
}

int server_check(const struct settings *settings, const struct ruleset *rules,
                 struct server_files *out, char *why, size_t why_len)
{
    struct server *s = base_xcalloc(1, sizeof *s);
    const struct setup u = {s, why, why_len};
    struct sweep_login *login = NULL;
    struct net_url url;
    int status;

    *out = (struct server_files){0};
    s->settings = settings;
    status = setup_upstream(&u);
    if (status == 0)
        status = server__make_login(s, &login, why, why_len);
    sweep_login_drop(login);
    if (status == 0)
        status = setup_advertise(&u);
    for (size_t i = 0; status == 0 && i < settings->listen_client_url_count; i++)
        status = judge_listen_url(&u, i, &url);
    if (status == 0)
        status = server__try_user(s, rules, &out->closed, why, why_len);
    if (status == 0) {
        out->tls = s->tls;
        out->etcd_tls = s->etcd_tls;
    } else {
        net_tls_drop(s->tls);
        net_tls_drop(s->etcd_tls);
    }
    net_tls_drop(s->etcd_tls_http1);
    free(s->etcd_urls);
    free(s->advertise);
    free(s->advertise_texts);
    free(s);
    return status;
}
