/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: endpoints. Gives: one good HTTP/2 connection to etcd, or word that there is none.
 * Owns: the connections it dialled, draining ones included. Thread: the worker's.
 *
 *   DIALLING ─ SETTINGS of etcd ─► READY ─ lost or GOAWAY ─► DIALLING ...
 *        └─ 1 s of failures ─► DEAD
 * Endpoints are tried in turn, with 50 ms between rounds, and behind a connection that was lost as
 * soon as it was ready. A connection that got GOAWAY goes on until its streams are over, while the
 * next one is dialled, and is closed then. */
#ifndef PROXY_UPSTREAM_H
#define PROXY_UPSTREAM_H

#include "h2/h2.h"
#include "proxy/worker.h"

enum upstream_state { UPSTREAM_DEAD = 0, UPSTREAM_DIALLING, UPSTREAM_READY };

struct upstream {
    enum upstream_state state;
    struct worker *worker;
    void (*on_state)(struct upstream *u); /* READY or DEAD; from the loop */
    void (*on_gone)(struct upstream *u); /* after upstream_close: nothing is left; u may be freed */
    struct h2_conn *current;
    size_t server;        /* index into env->etcd_urls of the present or next attempt */
    size_t attempts;      /* since dialling began */
    uint64_t deadline_ms; /* DIALLING: then DEAD */
    uint64_t ready_ms;    /* when the last connection became ready */
    struct list conns;    /* every struct upstream_conn, dialling, ready, draining */
    struct loop_timer timer;
    struct loop_task task; /* closes draining connections whose last stream has ended */
    bool is_closing;
};

/* on_state and on_gone are set by the caller afterwards. */
void upstream_init(struct upstream *u, struct worker *w);
/* Dials. on_state comes from the loop. */
void upstream_start(struct upstream *u);
/* Closes all connections; their streams end by on_close. on_gone follows from the loop. */
void upstream_close(struct upstream *u);
/* The URL in use. */
const struct net_url *upstream_url(const struct upstream *u);

#endif
