/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: requests of our own to etcd. Gives: their answers, from whichever server gives one.
 * Owns: a connection to the server in use. Thread: its loop's.
 *
 * A request is made again while no server answers, so it has to be one that may be made twice: a
 * read, or a write that compares first. */
#ifndef SWEEP_ETCD_H
#define SWEEP_ETCD_H

#include "client/client.h"
#include "sweep/login.h"

struct sweep_etcd;

struct sweep_etcd_opts {
    struct loop *loop;
    const struct net_url *urls; /* at least one; borrowed */
    size_t url_count;
    struct net_tls *tls;       /* for https URLs; a reference is taken */
    struct sweep_login *login; /* NULL: of nobody; a reference is taken */
    uint64_t first_ms;         /* how long a call may take while none was ever answered */
    uint64_t away_ms;          /* how long later on */
};

/* Errors: ERR_NOMEM. */
MUST_CHECK enum err sweep_etcd_new(const struct sweep_etcd_opts *o, struct sweep_etcd **out);
/* Cancels all calls and frees e; its connection closes from the loop. */
void sweep_etcd_close(struct sweep_etcd *e);

/* One request, embedded in its owner. Zero-initialised is not under way. */
struct sweep_call {
    struct list node;
    struct sweep_etcd *etcd; /* NULL: not under way */
    const char *path;
    struct bytes body;
    uint32_t answer_max;
    uint64_t began_ms;
    unsigned token_number; /* with which it was sent */
    unsigned login_count;  /* of tokens that etcd did not take */
    client_answer_fn fn;
    void *arg;
    struct client_call *call; /* NULL: waits for a server */
};

/* Asks; path and body are the owner's until fn is called, once and from the loop. Servers are asked
 * one after the other; the one that answered goes on being asked. Answers that fn gets: err ERR_OK
 * with etcd's own status; ERR_UPSTREAM_AWAY when none answered for too long; ERR_CONFIG when the
 * server is a proxy of ours and no etcd; ERR_NOMEM; all with a message. answer_max: a larger answer
 * is RESOURCE_EXHAUSTED. */
void sweep_call_start(struct sweep_call *c, struct sweep_etcd *e, const char *path,
                      struct bytes body, uint32_t answer_max, client_answer_fn fn, void *arg);
/* fn is not called any more. Safe on one that is not under way. */
void sweep_call_cancel(struct sweep_call *c);
/* The server in use, for texts. Returns out. */
const char *sweep_etcd_server(const struct sweep_etcd *e, char out[static NET_URL_MAX]);
/* The same as a URL, borrowed. */
const struct net_url *sweep_etcd_url(const struct sweep_etcd *e);

#endif
