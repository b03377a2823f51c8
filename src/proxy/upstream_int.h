/* SPDX-License-Identifier: Apache-2.0 */
/* Shared between the files of the pool only: upstream.c (which endpoint, when, and who gets the
 * connection), upstream_conn.c (the life of one connection). */
#ifndef PROXY_UPSTREAM_INT_H
#define PROXY_UPSTREAM_INT_H

#include "proxy/upstream.h"

/*   DIALLING ─ SETTINGS of etcd ─► READY ─ GOAWAY ─► DRAINING
 *       └─ failed ─────────────┐     └─ lost ──┐        └─ last stream over, lost
 *                              ▼               ▼        ▼
 *                             OVER: freed when its socket is closed */
enum upstream_conn_state {
    UPSTREAM_CONN_DIALLING = 0,
    UPSTREAM_CONN_READY,
    UPSTREAM_CONN_DRAINING,
    UPSTREAM_CONN_OVER,
};

struct upstream_conn {
    struct list node; /* in its group's conns */
    const struct upstream_pool *pool;
    struct upstream_group *group;
    enum upstream_conn_state state;
    const struct net_url *url;
    struct net_conn *net; /* while it is dialled; then h2's */
    struct h2_conn *h2;
};

/* --- upstream_conn.c --- */

/* Errors: ERR_NOMEM and what net_conn_dial says. */
MUST_CHECK enum err upstream__conn_dial(const struct upstream_pool *p, const struct net_url *url,
                                        struct upstream_group *g, struct list *conns);
/* A dialled connection has not answered in time. */
void upstream__conn_cut(struct upstream_conn *uc);
/* Its streams end from the loop; of the three calls below only upstream__on_gone comes. Idempotent.
 */
void upstream__conn_close(struct upstream_conn *uc);

/* --- upstream.c; uc is freed behind upstream__on_gone --- */

/* DIALLING → READY. */
void upstream__on_ready(struct upstream_conn *uc);
/* DIALLING → OVER, not by upstream__conn_close. */
void upstream__on_failed(struct upstream_conn *uc);
/* READY → DRAINING or OVER, not by upstream__conn_close: takes no more streams. */
void upstream__on_retired(struct upstream_conn *uc);
/* A connection of g has left the list. */
void upstream__on_gone(struct upstream_group *g);

#endif
