/* SPDX-License-Identifier: Apache-2.0 */
/* The happy path: read a request's head, have it answered by probe.c, write the answer, close.
 * Failure modes: what is no request 400; no whole head in 5 s, the client gone, or too many at a
 * time: closed. */
#include <stdlib.h>

#include "base/metrics.h"
#include "proxy/probe.h"

#define READ_LIMIT_MS 5000
#define LINGER_MS 1000
#define CONNS_MAX 64 /* of a worker: each may have a connection to etcd of its own */

enum probe_conn_state {
    PROBE_CONN_CLOSING = 0, /* answered or given up: waits for on_closed */
    PROBE_CONN_READING,
    PROBE_CONN_ASKING, /* the request is complete, and not answered yet */
};

struct probe_conn {
    struct list node; /* in worker.probe_conns */
    struct worker *worker;
    enum probe_conn_state state;
    struct net_conn *client;
    struct http1_request_parser *parser;
    struct probe *probe; /* PROBE_CONN_ASKING */
    struct loop_timer timer;
};

static void conn_close(struct probe_conn *pc, uint64_t linger_ms)
{
    pc->state = PROBE_CONN_CLOSING;
    loop_timer_stop(&pc->timer);
    if (pc->probe != NULL)
        probe_cancel(pc->probe);
    pc->probe = NULL;
    net_conn_close(pc->client, linger_ms);
}

static void on_reply(void *user, const struct http1_reply *r)
{
    struct probe_conn *pc = user;
    struct chain out = {0};

    pc->probe = NULL;
    if (http1_reply_write(&out, &pc->worker->pool, r) != ERR_OK ||
        net_conn_write(pc->client, &out) != ERR_OK) {
        chain_fini(&out);
        conn_close(pc, 0);
        return;
    }
    chain_fini(&out);
    net_conn_flush(pc->client);
    conn_close(pc, LINGER_MS);
}

static void on_timer(struct loop_timer *t)
{
    conn_close(CONTAINER_OF(t, struct probe_conn, timer), 0);
}

static void client_feed(struct probe_conn *pc, struct bytes in)
{
    struct http1_request request;

    switch (http1_request_feed(pc->parser, in, &request)) {
    case HTTP1_MORE:
        return;
    case HTTP1_BAD:
        on_reply(pc, &probe_bad_request);
        return;
    case HTTP1_DONE:
        pc->state = PROBE_CONN_ASKING;
        loop_timer_stop(&pc->timer);
        if (probe_ask(pc->worker, &request, on_reply, pc, &pc->probe) != ERR_OK)
            conn_close(pc, 0);
        return;
    }
}

static void client_on_open(struct net_conn *n)
{
    (void)n;
}

static void client_on_read(struct net_conn *n, struct slice *s)
{
    struct probe_conn *pc = net_conn_user(n);

    if (pc->state == PROBE_CONN_READING)
        client_feed(pc, slice_bytes(*s));
    slice_drop(s);
}

static void client_on_writable(struct net_conn *n)
{
    (void)n;
}

static void client_on_eof(struct net_conn *n, enum err why)
{
    struct probe_conn *pc = net_conn_user(n);

    /* A client may end its side behind the request and still wait for the answer. */
    if (why != ERR_CLOSED || pc->state == PROBE_CONN_READING)
        conn_close(pc, 0);
}

static void client_on_closed(struct net_conn *n)
{
    struct probe_conn *pc = net_conn_user(n);

    CHECK(pc->state == PROBE_CONN_CLOSING && pc->probe == NULL);
    list_remove(&pc->node);
    pc->worker->probe_conn_count--;
    http1_request_parser_free(pc->parser);
    loop_timer_fini(&pc->timer);
    free(pc);
}

static const struct net_conn_ops client_ops = {
    .on_open = client_on_open,
    .on_read = client_on_read,
    .on_writable = client_on_writable,
    .on_eof = client_on_eof,
    .on_closed = client_on_closed,
};

static void abandoned_on_closed(struct net_conn *n)
{
    (void)n;
}

static struct probe_conn *conn_new(struct worker *w, struct net_conn *net)
{
    struct probe_conn *pc = w->probe_conn_count >= CONNS_MAX ? NULL : calloc(1, sizeof *pc);

    if (pc == NULL)
        return NULL;
    pc->worker = w;
    pc->client = net;
    pc->state = PROBE_CONN_READING;
    loop_timer_init(&pc->timer, on_timer);
    if (http1_request_parser_new(&pc->parser) == ERR_OK &&
        loop_timer_start(&w->loop, &pc->timer, READ_LIMIT_MS) == ERR_OK)
        return pc;
    http1_request_parser_free(pc->parser);
    free(pc);
    return NULL;
}

void probe_http1_start(struct worker *w, struct net_conn *net, struct chain *first)
{
    static const struct net_conn_ops abandoned = {.on_open = client_on_open,
                                                  .on_writable = client_on_writable,
                                                  .on_closed = abandoned_on_closed};
    struct probe_conn *pc = conn_new(w, net);

    if (pc == NULL) {
        metric_refused(ERR_PROBE_LIMIT);
        LOG_RATED(INFO, "client connection cut", "peer=%s reason=%s", net_conn_peer(net),
                  err_reason(ERR_PROBE_LIMIT));
        net_conn_set_ops(net, &abandoned, NULL);
        net_conn_close(net, 0);
        chain_clear(first);
        return;
    }
    list_push(&w->probe_conns, &pc->node);
    w->probe_conn_count++;
    net_conn_set_ops(net, &client_ops, pc);
    while (first->count > 0 && pc->state == PROBE_CONN_READING) {
        client_feed(pc, slice_bytes(*chain_at(first, 0)));
        chain_consume(first, chain_at(first, 0)->len);
    }
    chain_clear(first);
}

void probe_http1_end(struct worker *w)
{
    LIST_FOREACH(it, &w->probe_conns) {
        struct probe_conn *pc = LIST_ENTRY(it, struct probe_conn, node);

        if (pc->state == PROBE_CONN_READING)
            conn_close(pc, 0);
    }
}
