/* SPDX-License-Identifier: Apache-2.0 */
/* Happy path: the connection opens, the request goes out, the answer comes in, fn is told, the
 * connection closes and g is freed. Failure modes: no connection, no answer in time, an answer that
 * is none: fn is told why. */
#include "client/http_get.h"

#include <stdio.h>
#include <stdlib.h>

#define BODY_MAX (16u * 1024 * 1024)

struct client_http_get {
    struct slab_pool pool;
    struct net_conn *conn;
    struct http1_response_parser *parser;
    struct loop_timer timer;
    struct net_url url;
    char path[256];
    client_http_fn fn; /* NULL: told, or cancelled */
    void *arg;
};

static void get_free(struct client_http_get *g)
{
    loop_timer_fini(&g->timer);
    http1_response_parser_free(g->parser);
    slab_pool_settle(&g->pool);
    slab_pool_fini(&g->pool);
    free(g);
}

static void tell(struct client_http_get *g, const struct http1_response *r, const char *why)
{
    client_http_fn fn = g->fn;

    g->fn = NULL;
    loop_timer_stop(&g->timer);
    if (fn != NULL)
        fn(g->arg, r, why);
    net_conn_close(g->conn, 0);
}

static void feed(struct client_http_get *g, struct bytes in, bool is_eof)
{
    struct http1_response r;

    switch (http1_response_feed(g->parser, in, is_eof, &r)) {
    case HTTP1_DONE:
        tell(g, &r, "");
        return;
    case HTTP1_MORE:
        if (is_eof)
            tell(g, NULL, "the answer is cut off");
        return;
    default:
        tell(g, NULL, "the answer is no HTTP/1.1");
    }
}

static void on_open(struct net_conn *n)
{
    struct client_http_get *g = net_conn_user(n);
    struct chain out = {0};
    char head[1024];
    int len = snprintf(head, sizeof head,
                       "GET %s HTTP/1.1\r\nHost: %.255s%s%s\r\nUser-Agent: etcd-envelope\r\n"
                       "Accept: */*\r\nConnection: close\r\n\r\n",
                       g->path, g->url.is_unix ? "localhost" : g->url.host,
                       g->url.is_unix ? "" : ":", g->url.port);

    if (len < 0 || (size_t)len >= sizeof head ||
        chain_push_copy(&out, &g->pool, head, (size_t)len, 0) != ERR_OK ||
        net_conn_write(n, &out) != ERR_OK) {
        chain_fini(&out);
        tell(g, NULL, "out of memory");
        return;
    }
    chain_fini(&out);
    net_conn_flush(n);
}

static void on_read(struct net_conn *n, struct slice *s)
{
    struct client_http_get *g = net_conn_user(n);

    if (g->fn != NULL)
        feed(g, slice_bytes(*s), false);
    slice_drop(s);
}

static void on_eof(struct net_conn *n, enum err why)
{
    struct client_http_get *g = net_conn_user(n);

    if (g->fn == NULL)
        return;
    if (why == ERR_CLOSED)
        feed(g, bytes_of(NULL, 0), true);
    else
        tell(g, NULL, net_conn_why(n)[0] != '\0' ? net_conn_why(n) : err_reason(why));
}

static void on_closed(struct net_conn *n)
{
    get_free(net_conn_user(n));
}

static void on_timer(struct loop_timer *t)
{
    tell(CONTAINER_OF(t, struct client_http_get, timer), NULL, "no answer in time");
}

static const struct net_conn_ops ops = {
    .on_open = on_open, .on_read = on_read, .on_eof = on_eof, .on_closed = on_closed};

enum err client_http_get(struct loop *loop, const struct net_url *url, struct net_tls *tls,
                         const char *path, uint64_t ms, client_http_fn fn, void *arg,
                         struct client_http_get **out)
{
    struct client_http_get *g = calloc(1, sizeof *g);

    if (g == NULL)
        return ERR_NOMEM;
    slab_pool_init(&g->pool, 0);
    loop_timer_init(&g->timer, on_timer);
    g->url = *url;
    g->fn = fn;
    g->arg = arg;
    snprintf(g->path, sizeof g->path, "%s", path);
    if (http1_response_parser_new(BODY_MAX, false, &g->parser) != ERR_OK ||
        loop_timer_start(loop, &g->timer, ms) != ERR_OK ||
        net_conn_dial(loop, &g->pool, 0, url, tls, &ops, g, &g->conn) != ERR_OK) {
        get_free(g);
        return ERR_NOMEM;
    }
    *out = g;
    return ERR_OK;
}

void client_http_cancel(struct client_http_get *g)
{
    g->fn = NULL;
    net_conn_close(g->conn, 0);
}
