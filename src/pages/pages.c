/* SPDX-License-Identifier: Apache-2.0 */
/* The listener for those who run the proxy. What it shows is set up when everything else is, so
 * that whoever gets an answer gets a true one. Failure modes: a URL that cannot be listened on ends
 * the start; certificates that cannot be read later leave those from before in use. */
#include "pages/pages.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "net/inherit.h"
#include "pages/etcd_prefix.h"
#include "pages/configz.h"
#include "pages/health.h"
#include "pages/metrics.h"
#include "pages/process.h"
#include "pages/status_page.h"
#include "pages/statusz.h"
#include "pages/wait.h"

/* A status that hangs is of no use to anybody: what is not known by then is shown as it was. Longer
 * than etcd and a KMS plugin with the usual timeout take to fail. */
#define STATUS_WAIT_MS 4000u

struct pages {
    const struct settings *settings;
    struct pages_source source;
    struct admin *admin;
    struct etcd_prefix *prefix;
    struct net_tls *tls; /* offers http/1.1 alone: else a client that knows h2, too, would get h2 */
    char tls_hash[72];   /* of the files that it was made of */
};

/* --- routes ---------------------------------------------------------------------------------- */

static void on_health(void *arg, struct admin_reply *reply, const struct http1_request *r)
{
    struct pages *a = arg;

    pages__health_ask(&a->source, reply, r);
}

static void send_out_of_memory(struct admin_reply *reply)
{
    admin_reply_send(reply, 500, "text/plain; charset=utf-8", BYTES_LIT("out of memory\n"));
}

/* A page of 200: how it is made, and what its head says of it. */
struct page {
    const char *type;
    const char *fields; /* more fields of the head, as admin_reply_send_fields takes them */
    enum err (*write)(const struct pages_state *st, FILE *f);
};

/* Writes the page from the present state. */
static void send_page(struct pages *a, struct admin_reply *reply, const struct page *page)
{
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);
    struct pages_state st;
    enum err e = pages__state_take(&a->source, &st);

    if (e == ERR_OK)
        e = f == NULL ? ERR_NOMEM : page->write(&st, f);
    pages__state_fini(&st);
    if (f != NULL && fclose(f) == 0 && e == ERR_OK && text != NULL)
        admin_reply_send_fields(reply, 200, page->type, page->fields, bytes_of(text, len));
    else
        send_out_of_memory(reply);
    free(text);
}

static void on_metrics(void *arg, struct admin_reply *reply, const struct http1_request *r)
{
    static const struct page page = {"text/plain; version=0.0.4; charset=utf-8", "",
                                     pages__metrics_write};

    (void)r;
    send_page(arg, reply, &page);
}

static void on_configz(void *arg, struct admin_reply *reply, const struct http1_request *r)
{
    static const struct page page = {"application/yaml", "", pages__configz_write};

    (void)r;
    send_page(arg, reply, &page);
}

/* A request that waits for the checks of everything that its page shows. */
struct checked_ask {
    struct pages_wait wait;
    struct pages *pages;
    struct admin_reply *reply;
    const struct page *page;
};

static void on_checked(struct pages_wait *wait)
{
    struct checked_ask *ask = CONTAINER_OF(wait, struct checked_ask, wait);

    send_page(ask->pages, ask->reply, ask->page);
    free(ask);
}

static void check_and_send(struct pages *a, struct admin_reply *reply, const struct page *page)
{
    struct checked_ask *ask = calloc(1, sizeof *ask);

    if (ask == NULL) {
        send_out_of_memory(reply);
        return;
    }
    ask->pages = a;
    ask->reply = reply;
    ask->page = page;
    pages__wait(&a->source, &ask->wait, PAGES_ETCD | PAGES_EACH_ETCD | PAGES_KMS, STATUS_WAIT_MS,
                on_checked);
}

/* No copy of a state is kept by anybody, nor taken for something else. */
#define STATUS_FIELDS "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"

static void on_statusz(void *arg, struct admin_reply *reply, const struct http1_request *r)
{
    static const struct page page = {"application/json", STATUS_FIELDS, pages__statusz_write};

    (void)r;
    check_and_send(arg, reply, &page);
}

static void on_page(void *arg, struct admin_reply *reply, const struct http1_request *r)
{
    static char fields[1024];
    static const struct page page = {"text/html; charset=utf-8", fields, pages__status_page_write};

    (void)r;
    (void)snprintf(fields, sizeof fields,
                   STATUS_FIELDS "Referrer-Policy: no-referrer\r\nContent-Security-Policy: %s\r\n",
                   pages__status_page_policy());
    check_and_send(arg, reply, &page);
}

static void on_version(void *arg, struct admin_reply *reply, const struct http1_request *r)
{
    static const char body[] =
        "{\"name\":\"etcd-envelope\",\"gitVersion\":\"v" ENVELOPE_VERSION
        "\",\"version\":\"" ENVELOPE_VERSION "\",\"compiler\":\"" ENVELOPE_COMPILER
        "\",\"platform\":\"" ENVELOPE_PLATFORM "\"}\n";

    (void)arg, (void)r;
    admin_reply_send(reply, 200, "application/json", bytes_of(body, sizeof body - 1));
}

static const struct admin_route routes[] = {
    {"/livez", on_health, false},
    {"/livez/", on_health, false},
    {"/readyz", on_health, true},
    {"/readyz/", on_health, true},
    {"/healthz", on_health, true},
    {"/healthz/", on_health, true},
    {"/metrics", on_metrics, false},
    {"/version", on_version, false},
    {"/configz", on_configz, false},
    {"/statusz", on_statusz, true},
    {"/", on_page, true},
    {NULL, NULL, false},
};

/* --- set-up ---------------------------------------------------------------------------------- */

static enum err make_tls(struct pages *a, char *why, size_t why_len)
{
    const struct settings *o = a->settings;
    const struct net_tls_server_opts opts = {
        .cert_file = o->cert_file,
        .key_file = o->key_file,
        .ca_file = o->trusted_ca_file,
        .crl_file = o->client_crl_file,
        .require_client_cert = o->client_cert_auth || o->trusted_ca_file != NULL,
        .allowed_names = (const char *const *)o->allowed_client_names,
        .allowed_count = o->allowed_client_name_count,
        .http1_only = true};
    struct net_tls *tls;

    TRY(net_tls_server_new(&opts, &tls, why, why_len));
    if (a->tls != NULL)
        net_tls_drop(a->tls);
    a->tls = tls;
    return ERR_OK;
}

/* For a connection that comes: with new certificates as soon as the server has found them good. */
static struct net_tls *tls_now(void *arg)
{
    struct pages *a = arg;
    const char *hash = server_tls_hash(a->source.server);
    char why[512];

    if (strcmp(hash, a->tls_hash) != 0) {
        snprintf(a->tls_hash, sizeof a->tls_hash, "%s", hash);
        if (make_tls(a, why, sizeof why) != ERR_OK)
            LOG(ERROR, "the metrics listener keeps its old certificate", "reason=\"%s\"", why);
    }
    return a->tls;
}

/* It shows who is protected by what, and answers whoever asks. */
static bool may_listen(const struct settings *o, const struct net_url *url)
{
    return net_url_is_local(url) || o->insecure_listen ||
           (url->is_tls && o->trusted_ca_file != NULL);
}

/* The i-th URL; where it is the only one its address is that of an inherited socket "metrics". */
static enum err parse_url(const struct settings *o, size_t i, struct net_url *url,
                          const char **reason)
{
    TRY(net_url_parse(o->listen_metrics_urls[i], url, reason));
    if (o->listen_metrics_url_count == 1)
        net_inherit_address("metrics", url);
    return ERR_OK;
}

bool pages_check(const struct settings *o, char *why, size_t why_len)
{
    char text[NET_URL_MAX];

    for (size_t i = 0; i < o->listen_metrics_url_count; i++) {
        const char *reason = "";
        struct net_url url;

        if (parse_url(o, i, &url, &reason) != ERR_OK) {
            snprintf(why, why_len, "--listen-metrics-urls: %s: %s", o->listen_metrics_urls[i],
                     reason);
            return false;
        }
        if (!may_listen(o, &url)) {
            snprintf(why, why_len,
                     "--listen-metrics-urls: %s is reachable by others: use https with "
                     "--trusted-ca-file, or say --insecure-listen",
                     net_url_text(&url, text));
            return false;
        }
    }
    return true;
}

static int listen_on(struct pages *a, size_t i, char *why, size_t why_len)
{
    char text[NET_URL_MAX];
    const char *reason = "";
    struct net_url url;

    CHECK(parse_url(a->settings, i, &url, &reason) == ERR_OK); /* pages_check has */
    if (url.is_tls && a->tls == NULL && make_tls(a, why, why_len) != ERR_OK)
        return SERVER_ERROR;
    if (admin_listen(a->admin, &url, url.is_tls ? tls_now : NULL, why, why_len) != ERR_OK)
        return SERVER_ERROR;
    if (url.is_unix)
        LOG(INFO, "listening for health and metrics", "url=%s", net_url_text(&url, text));
    else
        LOG(INFO, "listening for health and metrics", "url=%s port=%u", net_url_text(&url, text),
            admin_port(a->admin, i));
    return 0;
}

/* Nobody is answered before the loop runs, which is after on_started. */
static int on_listen(void *arg, struct server *server, char *why, size_t why_len)
{
    struct pages *a = arg;
    const struct settings *o = a->settings;

    snprintf(a->tls_hash, sizeof a->tls_hash, "%s", server_tls_hash(server));
    pages__process_open();
    if (admin_new(server_loop(server), routes, a, &a->admin) != ERR_OK) {
        snprintf(why, why_len, "out of memory");
        return SERVER_ERROR;
    }
    for (size_t i = 0; i < o->listen_metrics_url_count; i++) {
        int status = listen_on(a, i, why, why_len);

        if (status != 0)
            return status;
    }
    return 0;
}

static int on_started(void *arg, struct server *server, char *why, size_t why_len)
{
    struct pages *a = arg;
    struct pages_state st;

    if (pages__source_open(&a->source, server, a->settings) != ERR_OK ||
        pages__prefix_look(server, a->settings->converge_key, &a->prefix) != ERR_OK ||
        pages__state_take(&a->source, &st) != ERR_OK) {
        snprintf(why, why_len, "out of memory");
        return SERVER_ERROR;
    }
    pages__metrics_init(&st);
    pages__state_fini(&st);
    return 0;
}

static void on_ending(void *arg)
{
    struct pages *a = arg;

    pages__prefix_close(a->prefix);
    a->prefix = NULL;
    pages__wait_end_all(&a->source); /* answers what waits: before the connections go */
    pages__source_close(&a->source);
    admin_close(a->admin);
    a->admin = NULL;
}

struct pages *pages_new(const struct settings *settings)
{
    struct pages *a = base_xcalloc(1, sizeof *a);

    a->settings = settings;
    return a;
}

void pages_free(struct pages *a)
{
    if (a->tls != NULL)
        net_tls_drop(a->tls);
    free(a);
}

struct server_hooks pages_hooks(struct pages *a)
{
    return (struct server_hooks){
        .listen = on_listen, .started = on_started, .ending = on_ending, .arg = a};
}
