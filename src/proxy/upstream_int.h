/* SPDX-License-Identifier: Apache-2.0 */
/* Shared between the files of the pool only: upstream.c (users: which endpoint, and who waits),
 * upstream_group.c (an endpoint: which connection serves which class), upstream_conn.c (the life of
 * one connection). */
#ifndef PROXY_UPSTREAM_INT_H
#define PROXY_UPSTREAM_INT_H

#include "proxy/upstream.h"

/*   DIALLING ─ SETTINGS of etcd ─► READY ─ GOAWAY, replaced ─► DRAINING
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
    struct upstream_group *group;
    enum upstream_class class;
    enum upstream_conn_state state;
    bool is_suspect;      /* another connection to the endpoint fell silent */
    unsigned tls_age;     /* the pool's, when it was dialled */
    uint64_t opened;      /* streams, since it is ready */
    uint64_t idle_ms;     /* when its last stream was over, or it was ready */
    uint64_t limit_ms;    /* DIALLING: when it is given up */
    struct net_conn *net; /* while it is dialled; then h2's */
    struct h2_conn *h2;
    struct loop_timer timer; /* DIALLING: to limit_ms */
};

/*   IDLE ─ somebody comes ─► DIALLING ─ SETTINGS of etcd ─► READY ─ base lost ─► DIALLING ...
 *     │                       ▲    └─ failed: IDLE, and the users move on        └─ RESTING
 *     └─ too early ─► RESTING ┘                      READY ─ 30 s without users ─► IDLE */
enum upstream_group_state {
    UPSTREAM_GROUP_IDLE = 0, /* no base, and nobody wants one */
    UPSTREAM_GROUP_RESTING,  /* dials when LIMIT_REDIAL_MS are over */
    UPSTREAM_GROUP_DIALLING, /* dials what will be its base */
    UPSTREAM_GROUP_READY,    /* the endpoint answers */
};

/* The worker's connections to one endpoint, and those who use them. */
struct upstream_group {
    struct upstream_pool *pool;
    const struct net_url *url;
    enum upstream_group_state state;
    struct list users;
    struct list due;            /* those of users that are being told something */
    struct list conns;          /* in any state */
    struct upstream_conn *base; /* READY: serves unary calls; while it is there the endpoint is */
    struct upstream_conn
        *next;              /* dialled to become the base; NULL in DIALLING: it failed at once */
    uint64_t ready_ms;      /* when the last base became ready */
    uint64_t not_before_ms; /* the next base is dialled */
    uint64_t left_ms;       /* when the last user left */
    bool has_failed[UPSTREAM_CLASSES];  /* the last further connection is not there, or useless */
    uint64_t dial_ms[UPSTREAM_CLASSES]; /* when that was tried */
    bool is_due[UPSTREAM_CLASSES];      /* it could not be dialled, and somebody may wait for it */
    struct loop_timer timer;            /* RESTING */
    uint64_t sweep_at_ms;               /* when that timer fires, if it runs */
    struct loop_timer sweep; /* idle connections, and a group without users, are closed */
    struct loop_task task;   /* somebody has joined a READY group, or there is room again */
};

/* --- upstream_conn.c --- */

/* limit_ms: from now. Errors: ERR_NOMEM and what net_conn_dial says. */
MUST_CHECK enum err upstream__conn_dial(struct upstream_group *g, enum upstream_class class,
                                        uint64_t limit_ms, struct upstream_conn **out);
/* DIALLING: has no more than that left. */
void upstream__conn_hurry(struct upstream_conn *uc, uint64_t limit_ms);
/* READY → DRAINING: no new streams; closed behind the last. */
void upstream__conn_drain(struct upstream_conn *uc);
/* Its streams end from the loop; of the calls below none comes for it. Idempotent. */
void upstream__conn_close(struct upstream_conn *uc);
/* It has to be replaced: its stream ids run out, TLS files have changed, or it may be dead. */
bool upstream__conn_is_aged(const struct upstream_conn *uc);

/* --- upstream_group.c --- */

MUST_CHECK enum err upstream__groups_new(struct upstream_pool *p);
/* u is a SEEKING one, in no group. */
void upstream__group_add(struct upstream_group *g, struct upstream_user *u);
/* u has gone. */
void upstream__group_left(struct upstream_group *g);
/* For one stream now; NULL: none, but one is dialled, or there will be room. The asker is among
 * those that wait already. */
struct h2_conn *upstream__group_pick(struct upstream_group *g, enum upstream_class class);
/* Dials what those that wait need. */
void upstream__group_want(struct upstream_group *g, enum upstream_class class);
/* DIALLING → READY. */
void upstream__on_ready(struct upstream_conn *uc);
/* DIALLING → OVER. */
void upstream__on_failed(struct upstream_conn *uc);
/* READY → DRAINING or OVER, by etcd: takes no more streams. */
void upstream__on_retired(struct upstream_conn *uc, bool is_silent);
/* READY: no stream is open. */
void upstream__on_idle(struct upstream_conn *uc);

/* --- upstream.c: what users hear; each call is the last that its caller does --- */

/* READY: those who are not HOME are told, and all waits served for which there is a connection. */
void upstream__users_serve(struct upstream_group *g);
/* The endpoint is lost, and dialled once more: all are SEEKING. */
void upstream__users_lost(struct upstream_group *g);
/* It does not answer: each goes on to the next endpoint, or is AWAY. */
void upstream__users_failed(struct upstream_group *g);
/* How long an attempt may take for u. */
uint64_t upstream__user_patience_ms(const struct upstream_user *u);

#endif
