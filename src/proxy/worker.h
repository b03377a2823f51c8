/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: accepted sockets, rule sets and orders by mail. Gives: served links.
 * Owns: a thread with its loop, slab pool, cipher contexts, key rings, links.
 * Thread: made and joined by the control thread; everything inside is the worker's own. */
#ifndef PROXY_WORKER_H
#define PROXY_WORKER_H

#include <pthread.h>

#include "base/randpool.h"
#include "loop/mailbox.h"
#include "net/conn.h"
#include "net/tls.h"
#include "proxy/env.h"
#include "proxy/progress.h"
#include "policy/ruleset.h"
#include "proxy/tally.h"
#include "proxy/upstream.h"

/* A rule set with this worker's key ring for it. A message ends with the set that its plan was made
 * with; the set goes when the last such message is done and a newer one has come. */
struct keyset {
    struct ruleset *rules;
    struct keyring *ring;
    struct kms_manager *manager; /* handed back to the control thread with owner, never called */
    void *owner;
    uint32_t users; /* lanes, and 1 for being the present one */
    struct worker *worker;
    struct list node;       /* in worker.keysets */
    struct mail free_order; /* of worker_free_keyset, which must not fail */
};

struct worker;
struct link;

enum worker_event {
    WORKER_LINK_READY, /* its client speaks HTTP/2; link.who tells who it is */
    WORKER_LINK_CLOSED,
    WORKER_SHED_NOBODY,   /* worker_shed found no link for shed and link.who */
    WORKER_KEYSET_MADE,   /* join keys->ring to keys->manager, then worker_use_keyset */
    WORKER_KEYSET_IN_USE, /* messages that begin from now on are planned with it */
    WORKER_KEYSET_UNUSED, /* take its ring out of the manager, then worker_free_keyset */
    WORKER_KEYSET_FREED,  /* keys is void by now: only keys_owner tells which it was */
    WORKER_DRAINED,
};

/* Which link of a worker has to go. */
enum worker_shed {
    WORKER_SHED_OPENING, /* one without HTTP/2: the oldest if it is a second old, else the newest */
    WORKER_SHED_NEWEST,  /* of a client */
    WORKER_SHED_IDLEST,  /* of a client: GOAWAY to the one that was idle for longest */
};

/* What a worker reports to the control thread. */
struct worker_report {
    enum worker_event event;
    struct worker *worker;
    struct keyset *keys; /* of the KEYSET events */
    void *keys_owner;
    struct {
        char who[NET_WHO_MAX]; /* "": it never was READY */
        bool was_shed;
    } link; /* of the LINK events */
    enum worker_shed shed;
};
typedef void (*worker_report_fn)(void *arg, const struct worker_report *r);

/* A report on its way. The order that leads to it brings it along, since a report that is lost for
 * want of memory would keep the control thread waiting for ever. */
struct worker_report_mail {
    struct mail mail;
    worker_report_fn fn;
    void *arg;
    struct worker_report report;
};

struct worker {
    const struct proxy_env *env;
    unsigned number;
    pthread_t thread;
    struct loop loop;
    struct mailbox mailbox;  /* orders of the control thread, answers of key managers */
    struct mailbox *control; /* where this worker's reports go */
    worker_report_fn report;
    void *report_arg;
    struct slab_pool pool;
    struct randpool random;
    struct loop_flush random_drop; /* at the end of a turn that used it */
    struct envelope_ctx *envelope;
    struct keyset *keys; /* the present set; NULL before the first came */
    struct list keysets; /* all that are not freed yet */
    struct upstream_pool upstream;
    struct net_tls *etcd_tls_http1; /* for dialling; NULL: no https URL */
    struct list links;
    struct list holders;             /* whose they are (holder.h) */
    struct list probes, probe_conns; /* no links, but they keep the loop running */
    size_t link_count, probe_conn_count;
    struct list calls; /* by age, oldest first: the oldest holder of memory always gets credit */
    struct budget_part budget;
    uint64_t promised;  /* to peers: bytes that may come for credit that they have */
    struct list hungry; /* lanes that there is no room for (lane_credit.c), as they came */
    uint32_t feedings;
    uint32_t relief;           /* how often room was made */
    bool may_go_beyond;        /* in a feeding: nobody has been asked whether he may be beyond */
    const struct call *beyond; /* the one that gets credit where there is no room; NULL: none */
    uint64_t beyond_ms;        /* since when */
    struct loop_task feed;     /* there is room again */
    struct list turns;         /* lanes that have yielded: one of them in each turn of the loop */
    struct loop_task turn;
    uint64_t shed_ms;               /* when room was made for them last */
    struct loop_timer memory_timer; /* worker_watch_memory */
    uint64_t peak_held;             /* since libc was made to give memory back */
    uint64_t trimmed_ms;            /* when that was */
    uint64_t kept_bytes; /* of calls: themselves, headers, what they asked for, parked plans */
    uint64_t last_id;
    struct list spare_reports;           /* for what the orders so far will lead to */
    struct worker_report_mail *drained;  /* until it is sent */
    struct mail drain_order, stop_order; /* each is given once, and must not fail */
    uint64_t drain_order_ms;
    bool is_draining;
    uint64_t drain_began_ms;
    uint64_t drain_limit_ms;
    struct loop_timer drain_timer;
    struct loop_timer wipe_timer;
    struct progress progress;
    struct loop_timer settle_timer; /* connections came or went: memory goes back */
    unsigned settle_count;
    struct lane_work *idle_work;
    unsigned idle_work_count;
    struct tally *tally; /* what the metrics will say */
};

/* Makes a worker that has no thread yet: it lives while somebody runs w->loop. control is the
 * control thread's mailbox; report is called on the control thread. Errors: ERR_NOMEM, ERR_SYSTEM,
 * ERR_CRYPTO. */
MUST_CHECK enum err worker_new(const struct proxy_env *env, unsigned number,
                               struct mailbox *control, worker_report_fn report, void *arg,
                               struct worker **out);
/* The same, with a thread that runs the loop. */
MUST_CHECK enum err worker_start(const struct proxy_env *env, unsigned number,
                                 struct mailbox *control, worker_report_fn report, void *arg,
                                 struct worker **out);
/* Takes fd, also on error. tls may be NULL; a reference is taken. WORKER_LINK_READY follows if it
 * gets to HTTP/2, and WORKER_LINK_CLOSED when the connection is over, not on error. Errors:
 * ERR_NOMEM. Control thread, like all that follow. */
MUST_CHECK enum err worker_give_socket(struct worker *w, int fd, struct net_tls *tls);
/* One link ends, for which WORKER_LINK_CLOSED says was_shed; or there is none, and
 * WORKER_SHED_NOBODY says so. who: of WORKER_LINK_READY; NULL for WORKER_SHED_OPENING. Errors:
 * ERR_NOMEM. */
MUST_CHECK enum err worker_shed(struct worker *w, enum worker_shed how, const char *who);
/* Makes a key ring for a rule set: answered by WORKER_KEYSET_MADE. References are taken; owner
 * comes back in every report on the set. Errors: ERR_NOMEM. */
MUST_CHECK enum err worker_make_keyset(struct worker *w, struct ruleset *rules,
                                       struct kms_manager *manager, void *owner);
/* The set for every message that begins from now on. Its ring has been joined before, so that it
 * knows the write keys. Errors: ERR_NOMEM. */
MUST_CHECK enum err worker_use_keyset(struct worker *w, struct keyset *k);
/* TLS contexts for connections to etcd that are dialled from now on. References are taken. Errors:
 * ERR_NOMEM. */
MUST_CHECK enum err worker_give_tls(struct worker *w, struct net_tls *tls,
                                    struct net_tls *tls_http1);
/* Once. GOAWAY on every link; calls in flight finish, streams end with UNAVAILABLE after a second,
 * whatever is left ends so that all is over after limit_ms. Answered by WORKER_DRAINED. */
void worker_drain(struct worker *w, uint64_t limit_ms);
/* Frees a key set whose ring has left its manager: answered by WORKER_KEYSET_FREED. */
void worker_free_keyset(struct worker *w, struct keyset *k);
/* Ends the loop (after WORKER_DRAINED) and frees the key sets: their managers must be closed before
 * anything else happens on the control thread. */
void worker_end(struct worker *w);
/* When the loop has ended. */
void worker_free(struct worker *w);
/* worker_end, the thread's end and worker_free. */
void worker_stop(struct worker *w);

/* --- on the worker's own thread --- */

/* For a link or a call: a number that the process gives once, and never 0. */
uint64_t worker_next_id(struct worker *w);

/* The present set, with one more user. NULL: no rules yet. */
struct keyset *worker_keys_ref(struct worker *w);
void keyset_drop(struct keyset *k);
/* All that clients and etcd make the worker hold. */
static inline uint64_t worker_held(const struct worker *w)
{
    return slab_pool_held(&w->pool) + w->kept_bytes;
}
/* From now on, and until all is as if nobody held anything: gives back what is not needed, to the
 * other workers and to the kernel, and sees that no lane is hungry for long. */
void worker_watch_memory(struct worker *w);
/* The worker holds more than it gets of --memory-limit. */
static inline bool worker_is_over_limit(struct worker *w)
{
    uint64_t held = worker_held(w);

    if (held <= w->budget.drawn)
        return false;
    worker_watch_memory(w); /* what is drawn now is given back some day */
    return !budget_covers(&w->budget, held);
}
/* More than half of the limit is used: whoever does not take what it asked for gets less time. */
bool worker_is_half_full(const struct worker *w);
/* When it is over: ends calls of the holder that holds the most, newest first, on the link that
 * holds the most of it, until it is well below. A client that reads nothing must not keep the
 * others from being served. The oldest call that holds a message stays. */
void worker_relieve(struct worker *w);
/* May a call begin on l? Makes room first. Where there is still too much it is the heaviest client
 * that may not, and all others when it is much too much. */
bool worker_admits(struct worker *w, const struct link *l);
/* The cipher contexts have been used: they are wiped when the burst is over. */
void worker_contexts_used(struct worker *w);
/* who: NULL when it was not reported ready. */
void worker_link_closed(struct worker *w, const char *who, bool was_shed);
void worker_link_ready(struct worker *w, const char *who);

#endif
