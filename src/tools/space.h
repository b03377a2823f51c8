/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: an etcd. Gives: whether its database may still grow. Owns: nothing. Thread: its loop's.
 *
 * A rewrite adds a revision: the database grows until kube-apiserver compacts it. Past its quota
 * etcd takes no write from anybody, which stops the whole cluster, so we stop well before. */
#ifndef TOOLS_SPACE_H
#define TOOLS_SPACE_H

#include "tools/cluster.h"

#define TOOLS_SPACE_DEFAULT (1638ull * 1024 * 1024) /* 80 % of etcd's default quota */

/* Embedded in its owner. */
struct tools_space {
    struct tools_cluster *c;
    uint64_t max_bytes; /* no more than this; 0: to be found out */
    bool is_known;      /* the quota is: max_bytes is 80 % of it */
    struct tools_http_get *get;
    struct sweep_call call;
    struct loop_timer timer;
    uint64_t db_size;                 /* when etcd was asked last */
    uint64_t written, written_before; /* bytes noted since then, and in the time before */
    void (*on_room)(void *arg);
    void (*on_full)(void *arg, const char *why);
    void *arg;
};

/* Finds out max_bytes unless it is given: from etcd's Status (3.6), else from the metric
 * etcd_server_quota_backend_bytes, else TOOLS_SPACE_DEFAULT. From then on etcd is asked four times
 * a second, and each time on_room is called, or at last, once, on_full: its database has grown to
 * max_bytes, or it has raised NOSPACE. Both come from the loop. Errors: ERR_NOMEM. */
MUST_CHECK enum err tools_space_start(struct tools_space *s, struct tools_cluster *c,
                                      uint64_t max_bytes, void (*on_room)(void *arg),
                                      void (*on_full)(void *arg, const char *why), void *arg);
/* So much was written. */
void tools_space_note(struct tools_space *s, size_t n);
/* What was noted may have brought it to max_bytes already: better wait for on_room. */
bool tools_space_is_tight(const struct tools_space *s);
/* Safe on one never started. */
void tools_space_stop(struct tools_space *s);

#endif
