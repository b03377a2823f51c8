/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: the links of a worker whose clients speak HTTP/2. Gives: whose they are. Owns: what all
 * connections of one client claim together, as of this worker. Thread: the worker's.
 *
 * A holder is who has seats (server/seats.h): an address, with the name in the client certificate
 * if there is one (net_conn_who). Whoever opens more connections is no more for it. An apiserver
 * has many, and behind a balancer all clients are one holder: so within a holder it goes by
 * connection, and where there is only one it is as if there were none. Workers count for
 * themselves: each has its fair share of memory (base/budget.h), which no other can take. */
#ifndef PROXY_HOLDER_H
#define PROXY_HOLDER_H

#include "base/base.h"
#include "base/list.h"

struct link;

struct holder {
    struct list node; /* in worker.holders */
    struct list *holders;
    size_t link_count;
    size_t hungry;         /* lanes of its in worker.hungry */
    uint64_t claims;       /* of its links (link_claims) */
    uint64_t held;         /* worker_relief.c: when it was last added up, */
    uint64_t most;         /* and of that the most that one link had: */
    struct link *heaviest; /* this one */
    char who[];
};

/* One more link of who. NULL: no memory. */
struct holder *holder_join(struct list *holders, const char *who);
/* One less: the last one frees it. It claims nothing by then. */
void holder_leave(struct holder *h);
/* Another one claims less, and waits for room. */
bool holder_is_behind(const struct holder *h);
/* There is no other in the worker. */
static inline bool holder_is_alone(const struct holder *h)
{
    return h->node.next == h->node.prev;
}

#endif
