/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: endpoints; users who want to reach etcd. Gives: a connection that is good for one more
 * stream, or a wait for one. Owns: every connection that it dialled, draining ones included.
 * Thread: the worker's.
 *
 * The pool knows neither links nor calls. A user joins, gets one endpoint, and all that it asks for
 * goes there, over connections that it shares with the endpoint's other users:
 *
 *   upstream_join ─► on_back ─► upstream_ask gives a connection
 *                      ▲            │ the endpoint is lost, or says GOAWAY
 *                      │            ▼
 *                      ├─────── upstream_ask gives a wait; the same endpoint is dialled, then
 *                      │            │ the others; all users of one endpoint move together
 *    join, the same ───┘            ▼ nobody answers for LIMIT_UPSTREAM_WAIT_MS
 *    time ────────────────────► every wait ends without a connection, then on_away
 *
 * Which connection serves which class is the affair of upstream_group.c. */
#ifndef PROXY_UPSTREAM_H
#define PROXY_UPSTREAM_H

#include "h2/h2.h"
#include "proxy/env.h"

struct upstream_group;
struct upstream_user;

/* One for each worker. */
struct upstream_pool {
    struct loop *loop;
    struct slab_pool *slabs;
    const struct proxy_env *env;
    struct net_tls *tls;           /* for https endpoints, from now on; NULL: there are none */
    unsigned tls_age;              /* how often tls was set: older connections are replaced */
    struct upstream_group *groups; /* one for each of env->etcd_urls; NULL: nobody joined yet */
    size_t next_server;            /* where the next user begins in env->etcd_urls */
    uint64_t conn_streams;         /* so many streams, then a connection is replaced: ids run out */
    uint64_t wait_seq;             /* of the newest wait */
    size_t waiting[3];             /* by class */
    struct upstream_user *told; /* whose functions are being called; NULL: it has left meanwhile */
};

/* What a stream is wanted for: those of one class do not hold each other up. */
enum upstream_class {
    UPSTREAM_UNARY = 0, /* short answers, leases */
    UPSTREAM_WATCH,
    UPSTREAM_LIST, /* answers that may be large */
    UPSTREAM_CLASSES
};

struct upstream_user_ops {
    /* Its endpoint answers: for the first time, or again after waits. From the loop. */
    void (*on_back)(struct upstream_user *u);
    /* No endpoint answers, and none is dialled any more. From the loop. */
    void (*on_away)(struct upstream_user *u);
};

enum upstream_user_state {
    UPSTREAM_OUT = 0, /* not joined, or has left */
    UPSTREAM_SEEKING, /* its group's endpoint is dialled */
    UPSTREAM_HOME,    /* was told on_back */
    UPSTREAM_AWAY,    /* was told on_away */
};

/* Embedded in its owner; the pool's. Zero-initialised has not joined. */
struct upstream_user {
    struct list node; /* in its group's users */
    const struct upstream_user_ops *ops;
    struct upstream_pool *pool;
    struct upstream_group *group; /* SEEKING, HOME */
    enum upstream_user_state state;
    bool was_home;
    unsigned attempts;                   /* SEEKING: that have failed */
    uint64_t deadline_ms;                /* SEEKING: then AWAY, when each endpoint was tried */
    struct list waits[UPSTREAM_CLASSES]; /* the longest first */
};

/* A request for a connection that can't be had yet. Embedded in the asker. */
struct upstream_wait;
/* conn: as from upstream_ask; NULL: etcd is away. From the loop. */
typedef void upstream_wait_fn(struct upstream_wait *w, struct h2_conn *conn);
struct upstream_wait {
    struct list node; /* in its user's waits; the pool's, as user, class and seq */
    struct upstream_user *user;
    enum upstream_class class;
    uint64_t seq;
    upstream_wait_fn *fn;
};

void upstream_pool_init(struct upstream_pool *p, struct loop *loop, struct slab_pool *slabs,
                        const struct proxy_env *env);
/* Takes tls. Connections that were dialled with another one finish their streams; new streams go to
 * new connections as soon as these are there. */
void upstream_pool_set_tls(struct upstream_pool *p, struct net_tls *tls);
/* Every user has left: closes the connections, which takes some turns of the loop. */
void upstream_pool_close(struct upstream_pool *p);
/* When the loop has ended, behind upstream_pool_close. */
void upstream_pool_fini(struct upstream_pool *p);

/* Errors: ERR_NOMEM (then u has not joined). */
MUST_CHECK enum err upstream_join(struct upstream_pool *p, struct upstream_user *u,
                                  const struct upstream_user_ops *ops);
/* Neither u nor its waits are called any more; u may be freed. Streams of its own that are still
 * open are its owner's to reset. Idempotent. */
void upstream_leave(struct upstream_user *u);
/* A connection: call h2_request at once or not at all. NULL: there is none at present; then w waits
 * until its fn is called, upstream_wait_cancel comes, or u leaves. The longest wait of a class is
 * the first of its user's to be served. w is not waiting yet. */
struct h2_conn *upstream_ask(struct upstream_user *u, enum upstream_class class,
                             struct upstream_wait *w);
void upstream_wait_init(struct upstream_wait *w, upstream_wait_fn *fn);
/* At any time, from other waits' fn too; idempotent. */
void upstream_wait_cancel(struct upstream_wait *w);
/* From a stream's on_close: there may be room for one who waits. */
void upstream_released(struct h2_conn *conn);

/* ":scheme" of a connection that upstream_ask gave: "http" or "https". */
const char *upstream_scheme(const struct h2_conn *conn);
/* How many streams at a time etcd allows to one connection. From on_back. */
uint32_t upstream_max_streams(const struct upstream_user *u);

#endif
