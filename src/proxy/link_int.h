/* SPDX-License-Identifier: Apache-2.0 */
/* Shared between the files of a link only: link_opening.c (from the accept to its first state with
 * HTTP/2), link.c (the client's session, calls, the end), link_shed.c (what goes when memory or
 * places are short). */
#ifndef PROXY_LINK_INT_H
#define PROXY_LINK_INT_H

#include "proxy/link.h"

enum link_state {
    LINK_OPENING = 0, /* TLS, preface or SETTINGS are not there yet */
    LINK_DIALLING,    /* HTTP/2; etcd not reached yet */
    LINK_OPEN,        /* both sides are up, or etcd is being redialled */
    LINK_CLOSING,     /* waits for its connection and its calls to be gone */
};

struct link {
    struct list node; /* in worker.links */
    struct worker *worker;
    enum link_state state;
    size_t counted;       /* of its cost, in the worker's pool */
    struct net_conn *net; /* OPENING, DIALLING */
    uint8_t *greeting;    /* OPENING: a copy of the first bytes, H2_GREETING_MAX at most */
    size_t greeting_len;
    struct chain first;   /* DIALLING: what came so far */
    struct h2_conn *down; /* OPEN */
    struct upstream_user up;
    struct key_asker keys;
    struct holder *holder; /* as reported; NULL before */
    uint64_t opened_ms;    /* when it was accepted */
    bool was_shed;         /* the control thread waits for its end */
    bool is_draining;
    bool client_leaves; /* it said GOAWAY: the link ends with its last call */
    struct list calls;
    size_t call_count, probe_count;
    uint64_t claims;         /* link_claims */
    uint32_t relieved;       /* in which relief of the worker nothing more was to be had of it */
    struct loop_timer timer; /* first bytes; winding down */
};

/* --- link_opening.c --- */

/* The client's SETTINGS or its first bytes did not come in time. */
void link__opening_late(struct link *l);

/* --- link.c --- */

void link__set_state(struct link *l, enum link_state to);
void link__free_if_over(struct link *l);
/* The greeting is whole, all of it in l->first: joins the pool of connections to etcd. */
MUST_CHECK enum err link__join(struct link *l);
/* Of every state. */
void link__on_timer(struct loop_timer *t);
/* GOAWAY, and a second for what is queued; then the end. */
void link__wind_down(struct link *l);
/* Closes it for what the client did, or left undone. */
void link__cut(struct link *l, enum err blame, const char *peer, const char *text);

/* --- link_shed.c --- */

/* Counts a connection that was ended for its client's sake, and logs it. */
void link__count_cut(enum err blame, const char *peer, const char *text);

#endif
