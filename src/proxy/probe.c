/* SPDX-License-Identifier: Apache-2.0 */
/* The happy path: judge the request, dial etcd, send a request of our own with the same method,
 * path and query, hand status, type and body on. Failure modes: another path 404; etcd not
 * reachable, silent for 5 s or talking nonsense: 503 with etcd's own form of a health answer; the
 * client goes away: PROBE_OVER, so that nobody is told what comes later. */
#include "proxy/probe.h"

#include <stdio.h>
#include <stdlib.h>

#define TEXT_PLAIN "text/plain; charset=utf-8"
#define PROBE_LIMIT_MS 5000
#define PROBE_BODY_MAX (16u * 1024 * 1024)

enum probe_state {
    PROBE_OVER = 0, /* answered or cancelled: only waits for its connection to etcd to be gone */
    PROBE_ASKING,   /* the connection to etcd is there */
};

struct probe {
    struct list node; /* in worker.probes */
    struct worker *worker;
    enum probe_state state;
    probe_reply_fn *on_reply; /* not called in PROBE_OVER: user may be gone */
    void *user;
    struct net_conn *etcd; /* NULL after on_closed */
    struct http1_response_parser *parser;
    struct http1_request request;
    size_t server, servers_tried;
    struct loop_timer timer;
};

const struct http1_reply probe_bad_request = {
    .status = 400, .content_type = TEXT_PLAIN, .body = BYTES_LIT("400 Bad Request")};

/* Without a connection p is freed by it. */
static void probe_end(struct probe *p)
{
    p->state = PROBE_OVER;
    if (p->etcd != NULL) {
        net_conn_close(p->etcd, 0); /* on_closed comes from the loop */
        return;
    }
    list_remove(&p->node);
    http1_response_parser_free(p->parser);
    loop_timer_fini(&p->timer);
    free(p);
}

static bool is_head(const struct probe *p)
{
    return strcmp(p->request.method, "HEAD") == 0;
}

/* p may be freed by it, as by all that answer. */
static void reply(struct probe *p, struct http1_reply r)
{
    CHECK(p->state == PROBE_ASKING);
    p->state = PROBE_OVER;
    r.is_head = is_head(p);
    p->on_reply(p->user, &r);
    probe_end(p);
}

static void answer_away(struct probe *p)
{
    reply(p,
          (struct http1_reply){
              .status = 503,
              .content_type = "application/json",
              .body = BYTES_LIT(
                  "{\"health\":\"false\",\"reason\":\"etcd-envelope: etcd is not reachable\"}\n")});
}

static void answer_not_found(struct probe *p)
{
    reply(p, (struct http1_reply){.status = 404,
                                  .content_type = TEXT_PLAIN,
                                  .body = BYTES_LIT("404 page not found\n")});
}

static void on_timer(struct loop_timer *t)
{
    struct probe *p = CONTAINER_OF(t, struct probe, timer);

    if (p->state == PROBE_ASKING)
        answer_away(p);
}

static bool dial(struct probe *p);

/* --- etcd's side ----------------------------------------------------------------------------- */

static void etcd_failed(struct probe *p)
{
    if (++p->servers_tried >= p->worker->env->etcd_url_count)
        answer_away(p);
    else
        net_conn_close(p->etcd, 0); /* the next one is dialled when it is closed */
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

    switch (http1_response_feed(p->parser, in, eof, &r)) {
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

    if (p->state == PROBE_ASKING)
        etcd_feed(p, slice_bytes(*s), false);
    slice_drop(s);
}

static void etcd_on_eof(struct net_conn *n, enum err why)
{
    struct probe *p = net_conn_user(n);

    if (p->state != PROBE_ASKING)
        return;
    if (why == ERR_CLOSED)
        etcd_feed(p, bytes_of(NULL, 0), true);
    else
        etcd_failed(p);
}

static void etcd_on_closed(struct net_conn *n)
{
    struct probe *p = net_conn_user(n);

    p->etcd = NULL;
    if (p->state != PROBE_ASKING) {
        probe_end(p);
        return;
    }
    p->server = (p->server + 1) % p->worker->env->etcd_url_count;
    (void)dial(p);
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

/* False: it could not be, and has been answered. */
static bool dial(struct probe *p)
{
    const struct proxy_env *env = p->worker->env;
    const struct net_url *url = &env->etcd_urls[p->server];

    http1_response_parser_free(p->parser);
    p->parser = NULL;
    if (http1_response_parser_new(PROBE_BODY_MAX, is_head(p), &p->parser) == ERR_OK &&
        net_conn_dial(&p->worker->loop, &p->worker->pool, 0, url,
                      url->is_tls ? p->worker->etcd_tls_http1 : NULL, &etcd_ops, p,
                      &p->etcd) == ERR_OK)
        return true;
    answer_away(p);
    return false;
}

/* --- the request ------------------------------------------------------------------------------ */

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

/* False: it has been answered. */
static bool is_for_etcd(struct probe *p)
{
    char path[HTTP1_TARGET_MAX];
    enum http1_path kind;

    if (strcmp(p->request.method, "OPTIONS") == 0) {
        /* etcd answers all paths alike, before it looks at them. */
        (void)snprintf(p->request.path, sizeof p->request.path, "/");
        p->request.query[0] = '\0';
        return true;
    }
    kind = http1_path_clean(p->request.path, path);
    if (kind == HTTP1_PATH_BAD)
        reply(p, probe_bad_request);
    else if (!is_allowed_path(path))
        answer_not_found(p);
    else if (kind == HTTP1_PATH_UNCLEAN)
        redirect(p, path);
    else
        memcpy(p->request.path, path, sizeof path);
    return kind == HTTP1_PATH_CLEAN && is_allowed_path(path);
}

enum err probe_ask(struct worker *w, const struct http1_request *request, probe_reply_fn *on_reply,
                   void *user, struct probe **out)
{
    struct probe *p = calloc(1, sizeof *p);

    *out = NULL;
    if (p == NULL)
        return ERR_NOMEM;
    loop_timer_init(&p->timer, on_timer);
    if (loop_timer_start(&w->loop, &p->timer, PROBE_LIMIT_MS) != ERR_OK) {
        free(p);
        return ERR_NOMEM;
    }
    list_push(&w->probes, &p->node);
    p->worker = w;
    p->state = PROBE_ASKING;
    p->on_reply = on_reply;
    p->user = user;
    p->request = *request;
    p->server = w->upstream.next_server % w->env->etcd_url_count;
    if (is_for_etcd(p) && dial(p))
        *out = p;
    return ERR_OK;
}

void probe_cancel(struct probe *p)
{
    CHECK(p->state == PROBE_ASKING);
    probe_end(p);
}

void probes_end(struct worker *w, uint64_t left_ms)
{
    probe_http1_end(w);
    LIST_FOREACH(it, &w->probes) {
        struct probe *p = LIST_ENTRY(it, struct probe, node);

        if (p->state == PROBE_ASKING && loop_timer_start(&w->loop, &p->timer, left_ms) != ERR_OK)
            answer_away(p);
    }
}
