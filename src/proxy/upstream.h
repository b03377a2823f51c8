/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: endpoints; users who want to reach etcd. Gives: a connection that is good for one more
 * stream, or a wait for one. Owns: every connection that it dialled, draining ones included.
 * Thread: the worker's.
 *
 * The pool knows neither links nor calls. A user joins, and all that it asks for goes to one
 * endpoint at a time:
 *
 *   upstream_join ─► on_back ─► upstream_ask gives a connection
 *                      ▲            │ the endpoint is lost, or says GOAWAY
 *                      │            ▼
 *                      ├─────── upstream_ask gives a wait
 *                      │            │ nobody answers for LIMIT_UPSTREAM_WAIT_MS
 *    join, the same ───┘            ▼
 *    time ────────────────────► every wait ends without a connection, then on_away
 *
 * Which connection serves which class of which user is the pool's affair (upstream.c). */
#ifndef PROXY_UPSTREAM_H
#define PROXY_UPSTREAM_H

#include "h2/h2.h"
#include "proxy/env.h"

struct upstream_group;

/* One for each worker. */
struct upstream_pool {
    struct loop *loop;
    struct slab_pool *slabs;
    const struct proxy_env *env;
    struct net_tls *tls; /* for https endpoints, from now on; NULL: there are none */
    struct list groups;  /* every struct upstream_group, also those that nobody uses any more */
    size_t next_server;  /* where the next user begins in env->etcd_urls */
};

/* What a stream is wanted for: those of one class do not hold each other up. */
enum upstream_class {
    UPSTREAM_UNARY = 0, /* short answers, leases */
    UPSTREAM_WATCH,
    UPSTREAM_LIST, /* answers that may be large */
};

/* Embedded in its owner. */
struct upstream_user;
struct upstream_user_ops {
    /* Its endpoint answers: for the first time, or again after waits. From the loop. */
    void (*on_back)(struct upstream_user *u);
    /* No endpoint answers, and none is dialled any more. From the loop. */
    void (*on_away)(struct upstream_user *u);
};
struct upstream_user {
    const struct upstream_user_ops *ops;
    struct upstream_group *group; /* the pool's; NULL: not joined, or has left */
};

/* A request for a connection that can't be had yet. Embedded in the asker. */
struct upstream_wait;
/* conn: as from upstream_ask; NULL: etcd is away. From the loop. */
typedef void upstream_wait_fn(struct upstream_wait *w, struct h2_conn *conn);
struct upstream_wait {
    struct list node;
    upstream_wait_fn *fn;
};

void upstream_pool_init(struct upstream_pool *p, struct loop *loop, struct slab_pool *slabs,
                        const struct proxy_env *env);
/* Takes tls. */
void upstream_pool_set_tls(struct upstream_pool *p, struct net_tls *tls);
/* When the loop has ended and every user has left. */
void upstream_pool_fini(struct upstream_pool *p);

/* Dials. Errors: ERR_NOMEM and what net_conn_dial says (then u has not joined). */
MUST_CHECK enum err upstream_join(struct upstream_pool *p, struct upstream_user *u,
                                  const struct upstream_user_ops *ops);
/* Neither u nor its waits are called any more; u may be freed. Streams of its own that are still
 * open end by their on_close, from the loop. Idempotent. */
void upstream_leave(struct upstream_user *u);
/* A connection: call h2_request at once or not at all. NULL: there is none at present; then w waits
 * until its fn is called, upstream_wait_cancel comes, or u leaves. The longest wait is the first to
 * be served. w is not waiting yet. */
struct h2_conn *upstream_ask(struct upstream_user *u, enum upstream_class class,
                             struct upstream_wait *w);
void upstream_wait_init(struct upstream_wait *w, upstream_wait_fn *fn);
/* At any time, from other waits' fn too; idempotent. */
void upstream_wait_cancel(struct upstream_wait *w);

/* ":scheme" of a connection that upstream_ask gave: "http" or "https". */
const char *upstream_scheme(const struct h2_conn *conn);
/* How many streams at a time etcd allows to one client. From on_back. */
uint32_t upstream_max_streams(const struct upstream_user *u);

#endif
