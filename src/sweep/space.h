/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: an etcd. Gives: whether its database may still grow. Owns: nothing. Thread: its loop's.
 *
 * A rewrite adds a revision: the database grows until kube-apiserver compacts it. Past its quota
 * etcd takes no write from anybody, which stops the whole cluster, so we stop well before. */
#ifndef SWEEP_SPACE_H
#define SWEEP_SPACE_H

#include "client/http_get.h"
#include "etcd/message.h"
#include "sweep/etcd.h"

#define SWEEP_SPACE_DEFAULT (1638ull * 1024 * 1024) /* 80 % of etcd's default quota */

struct sweep_space_opts {
    struct loop *loop;
    struct sweep_etcd *etcd;          /* borrowed */
    struct net_tls *tls_http1;        /* for its metrics behind TLS, borrowed; NULL: not asked */
    const struct etcd_status *status; /* as it is now, borrowed for the call; NULL: asked for */
    uint64_t max_bytes;               /* no more than this; 0: to be found out */
    const char *flag;                 /* that sets it, for texts: "--max-db-size" */
    const char *then;                 /* what comes once there is room again, for texts */
    void (*on_room)(void *arg);
    void (*on_stop)(void *arg, enum err e, const char *why);
    void *arg;
};

/* Embedded in its owner. Zero-initialised was never started. */
struct sweep_space {
    struct sweep_space_opts o;
    bool has_begun;            /* max_bytes is known, or being found out */
    bool is_known;             /* the quota is: max_bytes is 80 % of it */
    struct etcd_status status; /* the first one */
    struct client_http_get *get;
    struct sweep_call call;
    struct loop_timer timer;
    uint64_t db_size;                 /* when etcd was asked last */
    uint64_t written, written_before; /* bytes noted since then, and in the time before */
};

/* Finds out max_bytes unless it is given: from etcd's Status (3.6), else from the metric
 * etcd_server_quota_backend_bytes, else SWEEP_SPACE_DEFAULT. From then on etcd is asked four times
 * a second, and each time on_room is called, or at last, once, on_stop: its database has grown to
 * max_bytes, or it has raised NOSPACE, or refuses to tell (ERR_SYSTEM), or is away
 * (ERR_UPSTREAM_AWAY, ...). From the loop, or from inside of this. Errors: ERR_NOMEM. */
MUST_CHECK enum err sweep_space_start(struct sweep_space *s, const struct sweep_space_opts *o);
/* So much was written. */
void sweep_space_note(struct sweep_space *s, size_t n);
/* What was noted may have brought it to max_bytes already: better wait for on_room. */
bool sweep_space_is_tight(const struct sweep_space *s);
/* Safe on one never started. */
void sweep_space_stop(struct sweep_space *s);

#endif
