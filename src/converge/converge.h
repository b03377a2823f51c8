/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: the rule set in use, with its key manager; etcd. Gives: how much of what is stored is
 * as it would be written now, and over time all of it. Owns: a connection to etcd, a key ring, a
 * lease in etcd. Thread: the loop's of who makes it (control).
 *
 * `serve --converge RATE`. The states of the work itself (those of the membership are in member.h):
 *
 *   RESTING -- start, reload, new key id, somebody asks, others have rewritten, time (pace.h),
 *      |       work to be done --> LOOKING, REWRITING
 *
 *     LOOKING     a pass that counts, while this proxy may not rewrite
 *     REWRITING   the same, and what is due is rewritten on the way, within the rate
 *       `-- the pass is over, or has failed --> RESTING
 *       `-- it may not be rewritten any more: the pass is dropped --> RESTING, and LOOKING at once
 *
 * Both turn the loop in small steps, so nothing else on it waits for long: a page of 1 MiB is read
 * at a time, and at most 64 values are opened in a turn.
 *
 * Failure modes: a pass that failed is begun again, after a pause that doubles from 5 s to 10
 * minutes; when etcd has no room, or takes no write from us, the values are counted at once and
 * rewriting waits for 5 minutes. */
#ifndef CONVERGE_CONVERGE_H
#define CONVERGE_CONVERGE_H

#include "net/addr.h"
#include "net/tls.h"
#include "policy/ruleset.h"
#include "sweep/login.h"

struct converge;

struct converge_opts {
    struct loop *loop;
    const struct net_url *etcd_urls; /* borrowed, as all of this */
    size_t etcd_url_count;
    struct sweep_login *login; /* NULL: of nobody; a reference is taken */
    const char *place;         /* in etcd; see member.h */
    const char *name;          /* of this proxy, for people; copied */
    uint64_t rate;             /* values a second that are rewritten */
    uint64_t after_ms;         /* not before all proxies have agreed for so long */
    uint64_t max_db_size;      /* 0: 80 % of etcd's quota */
};

/* Nothing happens before converge_use. Errors: ERR_NOMEM. */
MUST_CHECK enum err converge_new(const struct converge_opts *o, struct converge **out);
/* For connections from now on; tls_http1: the same without ALPN h2. NULL: no URL needs it.
 * References are taken. Errors: ERR_NOMEM. */
MUST_CHECK enum err converge_use_tls(struct converge *c, struct net_tls *tls,
                                     struct net_tls *tls_http1);
/* From now on this set is in use. A reference is taken; the manager has to live until another set
 * is used, or converge_close. Errors: ERR_NOMEM: nothing is done until the next one. */
MUST_CHECK enum err converge_use(struct converge *c, struct ruleset *rules,
                                 struct kms_manager *manager);
/* What kept the work from being done may be over: it is tried again at once. */
void converge_try_again(struct converge *c);
/* Somebody asks how it is: a look begins at once, or when the one under way is over, and the log
 * says what it has found. */
void converge_look(struct converge *c);
/* The process is about to end: no more rewrites, and what is registered in etcd is taken back.
 * Once. on_left comes once, from the loop and not from inside, when that is done or has failed,
 * at the latest after within_ms; not after converge_close, which it may call. */
void converge_leave(struct converge *c, uint64_t within_ms, void (*on_left)(void *user),
                    void *user);
/* Lets go of everything but its memory. */
void converge_close(struct converge *c);
/* After the loop has run. c may be NULL. */
void converge_free(struct converge *c);

/* How it goes. */
#define CONVERGE_STATUS_TEXT 1400
struct converge_status {
    bool is_well; /* false: something keeps values from being rewritten that somebody has to look at
                   */
    bool is_denied; /* what does so is that etcd refuses what is asked of it */
    char text[CONVERGE_STATUS_TEXT];
};
void converge_status(const struct converge *c, struct converge_status *out);

#endif
