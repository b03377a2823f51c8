/* SPDX-License-Identifier: Apache-2.0 */
/* The happy path: parse the request, dial etcd, send a request of our own with the same method,
 * path and query, relay status, type and body, close. Failure modes: what is no request 400;
 * another path 404; etcd not reachable, silent for 5 s or talking nonsense: 503 with etcd's own
 * form of a health answer. */
#include "proxy/probe.h"

#include <stdio.h>
#include <stdlib.h>

#include "http1/http1.h"

#define TEXT_PLAIN "text/plain; charset=utf-8"
#define PROBE_LIMIT_MS 5000
#define PROBE_LINGER_MS 1000
#define PROBE_BODY_MAX (16u * 1024 * 1024)

struct probe {
    struct list node; /* in worker.probes */
    struct worker *worker;
    struct net_conn *client; /* NULL after on_closed */
    struct net_conn *etcd;
    struct http1_request_parser *request_parser;
    struct http1_response_parser *response_parser;
    struct http1_request request;
    size_t server, servers_tried;
    bool is_asked;    /* the request is complete */
    bool is_answered; /* the answer is on its way to the client */
    struct loop_timer timer;
};

static void dial(struct probe *p);

static void probe_free_if_over(struct probe *p)
{
    if (p->client != NULL || p->etcd != NULL)
        return;
    list_remove(&p->node);
    http1_request_parser_free(p->request_parser);
    http1_response_parser_free(p->response_parser);
    loop_timer_fini(&p->timer);
    free(p);
}

static void probe_close(struct probe *p, uint64_t linger_ms)
{
    if (p->etcd != NULL)
        net_conn_close(p->etcd, 0);
    if (p->client != NULL)
        net_conn_close(p->client, linger_ms);
}

static bool is_head(const struct probe *p)
{
    return p->is_asked && strcmp(p->request.method, "HEAD") == 0;
}

static void reply(struct probe *p, struct http1_reply r)
{
    struct chain out = {0};

    if (p->is_answered || p->client == NULL)
        return;
    p->is_answered = true;
    r.is_head = is_head(p);
    if (http1_reply_write(&out, &p->worker->pool, &r) != ERR_OK ||
        net_conn_write(p->client, &out) != ERR_OK) {
        chain_fini(&out);
        probe_close(p, 0);
        return;
    }
    chain_fini(&out);
    net_conn_flush(p->client);
    probe_close(p, PROBE_LINGER_MS);
}

static void answer(struct probe *p, int status, const char *type, struct bytes body)
{
    reply(p, (struct http1_reply){.status = status, .content_type = type, .body = body});
}

static void answer_away(struct probe *p)
{
    answer(
        p, 503, "application/json",
        BYTES_LIT("{\"health\":\"false\",\"reason\":\"etcd-envelope: etcd is not reachable\"}\n"));
}

static void answer_not_found(struct probe *p)
{
    answer(p, 404, TEXT_PLAIN, BYTES_LIT("404 page not found\n"));
}

static void answer_bad(struct probe *p)
{
    answer(p, 400, TEXT_PLAIN, BYTES_LIT("400 Bad Request"));
}

static void on_timer(struct loop_timer *t)
{
    struct probe *p = CONTAINER_OF(t, struct probe, timer);

    if (p->is_asked)
        answer_away(p);
    else
        probe_close(p, 0);
}

/* --- etcd's side ----------------------------------------------------------------------------- */

static void etcd_failed(struct probe *p)
{
    struct net_conn *n = p->etcd;

    if (n != NULL)
        net_conn_close(n, 0);
    if (p->is_answered)
        return;
    if (++p->servers_tried >= p->worker->env->etcd_url_count)
        answer_away(p);
    /* else: the next one is dialled when this connection is closed */
}

static void etcd_on_open(struct net_conn *n)
{
    struct probe *p = net_conn_user(n);
    const struct net_url *url = &p->worker->env->etcd_urls[p->server];
    char head[2 * HTTP1_TARGET_MAX + 512];
    struct chain out = {0};
    int len;

    len = snprintf(head, sizeof head,
                   "%s %s%s%s HTTP/1.1\r\nHost: %s%s%s\r\nUser-Agent: etcd-envelope\r\n"
                   "Accept: */*\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                   p->request.method, p->request.path, p->request.query[0] ? "?" : "",
                   p->request.query, url->is_unix ? "localhost" : url->host,
                   url->is_unix ? "" : ":", url->port);
    if (len < 0 || (size_t)len >= sizeof head ||
        chain_push_copy(&out, &p->worker->pool, head, (size_t)len, 0) != ERR_OK ||
        net_conn_write(n, &out) != ERR_OK) {
        chain_fini(&out);
        etcd_failed(p);
        return;
    }
    chain_fini(&out);
    net_conn_flush(n);
}

static void etcd_feed(struct probe *p, struct bytes in, bool eof)
{
    struct http1_response r;

    switch (http1_response_feed(p->response_parser, in, eof, &r)) {
    case HTTP1_DONE:
        reply(p, (struct http1_reply){.status = r.status,
                                      .content_type = r.content_type,
                                      .allow = r.allow,
                                      .body = r.body});
        return;
    case HTTP1_MORE:
        if (!eof)
            return;
        break;
    case HTTP1_BAD:
        break;
    }
    etcd_failed(p);
}

static void etcd_on_read(struct net_conn *n, struct slice *s)
{
    struct probe *p = net_conn_user(n);

    if (!p->is_answered)
        etcd_feed(p, slice_bytes(*s), false);
    slice_drop(s);
}

static void etcd_on_eof(struct net_conn *n, enum err why)
{
    struct probe *p = net_conn_user(n);

    if (p->is_answered)
        net_conn_close(n, 0);
    else if (why == ERR_CLOSED)
        etcd_feed(p, bytes_of(NULL, 0), true);
    else
        etcd_failed(p);
}

static void etcd_on_closed(struct net_conn *n)
{
    struct probe *p = net_conn_user(n);

    p->etcd = NULL;
    if (!p->is_answered && p->client != NULL) {
        p->server = (p->server + 1) % p->worker->env->etcd_url_count;
        dial(p);
        return;
    }
    probe_free_if_over(p);
}

static void on_writable(struct net_conn *n)
{
    (void)n;
}

static const struct net_conn_ops etcd_ops = {
    .on_open = etcd_on_open,
    .on_read = etcd_on_read,
    .on_writable = on_writable,
    .on_eof = etcd_on_eof,
    .on_closed = etcd_on_closed,
};

static void dial(struct probe *p)
{
    const struct proxy_env *env = p->worker->env;
    const struct net_url *url = &env->etcd_urls[p->server];

    http1_response_parser_free(p->response_parser);
    p->response_parser = NULL;
    if (http1_response_parser_new(PROBE_BODY_MAX, is_head(p), &p->response_parser) != ERR_OK ||
        net_conn_dial(&p->worker->loop, &p->worker->pool, 0, url,
                      url->is_tls ? p->worker->etcd_tls_http1 : NULL, &etcd_ops, p,
                      &p->etcd) != ERR_OK)
        answer_away(p);
}

/* --- the client's side ----------------------------------------------------------------------- */

/* Of a check: "ping", "serializable_read". etcd knows which it has. */
static bool is_check_name(const char *name)
{
    size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-");

    return n > 0 && name[n] == '\0';
}

static bool is_allowed_path(const char *path)
{
    static const char *const allowed[] = {"/health", "/livez", "/readyz", "/version", "/metrics"};
    static const char *const with_checks[] = {"/livez/", "/readyz/"};

    for (size_t i = 0; i < ARRAY_LEN(allowed); i++)
        if (strcmp(path, allowed[i]) == 0)
            return true;
    for (size_t i = 0; i < ARRAY_LEN(with_checks); i++)
        if (strncmp(path, with_checks[i], strlen(with_checks[i])) == 0)
            return is_check_name(path + strlen(with_checks[i]));
    return false;
}

/* As etcd's router: what has to be cleaned is sent to the clean path. */
static void redirect(struct probe *p, const char *path)
{
    char location[2 * HTTP1_TARGET_MAX];

    (void)snprintf(location, sizeof location, "%s%s%s", path, p->request.query[0] ? "?" : "",
                   p->request.query);
    reply(p, (struct http1_reply){.status = 301, .location = location});
}

static void take_request(struct probe *p)
{
    char path[HTTP1_TARGET_MAX];
    enum http1_path kind;

    p->is_asked = true;
    if (strcmp(p->request.method, "OPTIONS") == 0) {
        /* etcd answers all paths alike, before it looks at them. */
        (void)snprintf(p->request.path, sizeof p->request.path, "/");
        p->request.query[0] = '\0';
    } else {
        kind = http1_path_clean(p->request.path, path);
        if (kind == HTTP1_PATH_BAD) {
            answer_bad(p);
            return;
        }
        if (!is_allowed_path(path)) {
            answer_not_found(p);
            return;
        }
        if (kind == HTTP1_PATH_UNCLEAN) {
            redirect(p, path);
            return;
        }
        memcpy(p->request.path, path, sizeof path);
    }
    p->server = p->worker->next_server % p->worker->env->etcd_url_count;
    dial(p);
}

static void client_feed(struct probe *p, struct bytes in)
{
    switch (http1_request_feed(p->request_parser, in, &p->request)) {
    case HTTP1_MORE:
        return;
    case HTTP1_BAD:
        answer_bad(p);
        return;
    case HTTP1_DONE:
        take_request(p);
        return;
    }
}

static void client_on_open(struct net_conn *n)
{
    (void)n;
}

static void client_on_read(struct net_conn *n, struct slice *s)
{
    struct probe *p = net_conn_user(n);

    if (!p->is_asked && !p->is_answered)
        client_feed(p, slice_bytes(*s));
    slice_drop(s);
}

static void client_on_eof(struct net_conn *n, enum err why)
{
    struct probe *p = net_conn_user(n);

    /* A client may end its side behind the request and still wait for the answer. */
    if (why != ERR_CLOSED || !p->is_asked)
        probe_close(p, 0);
}

static void client_on_closed(struct net_conn *n)
{
    struct probe *p = net_conn_user(n);

    p->client = NULL;
    if (p->etcd != NULL)
        net_conn_close(p->etcd, 0);
    probe_free_if_over(p);
}

static const struct net_conn_ops client_ops = {
    .on_open = client_on_open,
    .on_read = client_on_read,
    .on_writable = on_writable,
    .on_eof = client_on_eof,
    .on_closed = client_on_closed,
};

static void abandoned_on_closed(struct net_conn *n)
{
    (void)n;
}

void probe_start(struct worker *w, struct net_conn *net, struct chain *first)
{
    static const struct net_conn_ops abandoned = {
        .on_open = client_on_open, .on_writable = on_writable, .on_closed = abandoned_on_closed};
    struct probe *p = calloc(1, sizeof *p);

    if (p != NULL)
        loop_timer_init(&p->timer, on_timer);
    if (p == NULL || http1_request_parser_new(&p->request_parser) != ERR_OK ||
        loop_timer_start(&w->loop, &p->timer, PROBE_LIMIT_MS) != ERR_OK) {
        if (p != NULL)
            http1_request_parser_free(p->request_parser);
        free(p);
        net_conn_set_ops(net, &abandoned, NULL);
        net_conn_close(net, 0);
        chain_clear(first);
        return;
    }
    p->worker = w;
    p->client = net;
    list_push(&w->probes, &p->node);
    net_conn_set_ops(net, &client_ops, p);
    while (first->count > 0 && !p->is_asked && !p->is_answered) {
        client_feed(p, slice_bytes(*chain_at(first, 0)));
        chain_consume(first, chain_at(first, 0)->len);
    }
    chain_clear(first);
}

void probes_end(struct worker *w, uint64_t left_ms)
{
    LIST_FOREACH(it, &w->probes)
    {
        struct probe *p = LIST_ENTRY(it, struct probe, node);

        if (p->is_answered)
            continue;
        if (!p->is_asked || loop_timer_start(&w->loop, &p->timer, left_ms) != ERR_OK)
            probe_close(p, 0);
    }
}
