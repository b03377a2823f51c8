/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: settings and a rule set. Gives: etcd and the keys, to a tool that works on a whole
 * cluster. Owns: a loop, a connection to etcd, a key manager. Thread: one without a loop. */
#ifndef TOOLS_CLUSTER_H
#define TOOLS_CLUSTER_H

#include "config/settings.h"
#include "etcd/message.h"
#include "policy/ruleset.h"
#include "sweep/count.h"
#include "sweep/etcd.h"
#include "sweep/judge.h"
#include "tools/interrupt.h"
#include "tools/outside.h"

#define TOOLS_CLUSTER_WHY 1024
#define TOOLS_CLUSTER_TELL 1024

struct tools_cluster {
    struct loop loop;
    struct mailbox box;
    struct ruleset *rules; /* borrowed */
    const char *place;     /* where proxies register; borrowed */
    struct net_url *urls;
    size_t url_count;
    struct net_tls *tls, *tls_http1; /* the same without ALPN h2 */
    struct sweep_etcd *etcd;         /* NULL: not wanted */
    struct kms_manager *manager;     /* NULL: no KMS provider, or no keys are wanted */
    struct keyring *ring;            /* NULL: no keys are wanted */
    struct envelope_ctx *ctx;
    struct slab_pool pool; /* of plaintexts */
    struct sweep_judge_env judge;
    struct etcd_status status; /* the server in use, as it was at the start */
    uint64_t key_count;        /* of the keys to look at, at the start */
    /* When there are none: whether the prefix may be wrong. */
    struct tools_outside_look outside;
    const struct sweep_filter *filter;
    void (*on_ready)(void *arg);
    /* SIGINT or SIGTERM came: the tool says what it has done so far, and ends the run. NULL: they
     * end the process. To be set before tools_cluster_run. */
    void (*on_interrupt)(void *arg);
    void *arg;
    bool has_written; /* by the tool: stored values are not as proxies have counted them */
    enum err err;     /* of the run; why says what it is */
    char why[TOOLS_CLUSTER_WHY];
    /* private */
    struct sweep_call status_call;
    struct sweep_count count;
    struct tools_interrupt interrupt;
    struct mail behind_news;
    struct loop_task closing;
    bool is_over;
    struct sweep_call tell_call;
    struct loop_timer tell_limit;
    uint8_t tell_request[TOOLS_CLUSTER_TELL];
};

/* What a tool needs. */
enum tools_wants {
    TOOLS_WANTS_KEYS = 1, /* values are opened */
    TOOLS_WANTS_ETCD = 2, /* else they come from somewhere else, and etcd is NULL */
};

/* wants: of enum tools_wants. user: of etcd's, its name NULL for none; copied. The URLs of
 * --etcd-servers, and TLS for them. Errors: ERR_CONFIG with why (a URL), ERR_TLS with why
 * (files). */
MUST_CHECK enum err tools_cluster_init(struct tools_cluster *c, const struct settings *o,
                                       struct ruleset *rules, unsigned wants,
                                       const struct sweep_user *user);
/* Runs the loop: the plugins are checked for the first time, etcd says who it is and how many keys
 * the filter's ranges hold (without etcd: the caller has set key_count), then on_ready is called.
 * Returns when tools_cluster_end was called; what it was told is in err and why. Keys that lie
 * elsewhere than under --etcd-prefix are warned of. Without on_ready being called:
 * ERR_UPSTREAM_AWAY, ERR_CONFIG (the server is a proxy of ours), ERR_SYSTEM (etcd refuses us),
 * ERR_NOMEM. Where has_written was set by then, proxies with --converge are told at the end. */
void tools_cluster_run(struct tools_cluster *c, const struct sweep_filter *filter,
                       void (*on_ready)(void *arg), void *arg);
/* The run is over; from the loop. Runs and rewriters of the caller have to be stopped by now. Only
 * the first call counts. why is copied. */
void tools_cluster_end(struct tools_cluster *c, enum err e, const char *why);
/* The number of the signal that on_interrupt was called for; 0: of none. */
int tools_cluster_signal(const struct tools_cluster *c);
/* After run, or init that failed. */
void tools_cluster_fini(struct tools_cluster *c);

#endif
