/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: the rule set in use; etcd. Gives: to log and metrics, which stored values do not open
 * with it, and which keys they name. Owns: a connection to etcd while it looks. Thread: its
 * loop's.
 *
 * A reload that drops a key which stored values need is refused. A start is not: it takes what its
 * file says without having asked etcd, for static pods start in any order. This look, made behind
 * the start, says what came of that. It asks no plugin, so of a KMS it knows the provider and not
 * the key; values of local keys are opened. It reads at a bounded rate. */
#ifndef CONVERGE_MISSING_H
#define CONVERGE_MISSING_H

#include "net/addr.h"
#include "net/tls.h"
#include "policy/ruleset.h"
#include "sweep/login.h"

struct converge_missing;

struct converge_missing_opts {
    struct loop *loop;
    const struct net_url *etcd_urls; /* borrowed */
    size_t etcd_url_count;
    struct net_tls *tls;       /* for https URLs; a reference is taken */
    struct sweep_login *login; /* NULL: of nobody; a reference is taken */
    struct ruleset *rules;     /* a reference is taken */
    /* The look is over, once, from the loop; m is to be freed. ERR_OK: log and metrics say what was
     * found, which count values do not open. Else nothing is known. */
    void (*on_end)(void *user, enum err e, uint64_t count, const char *why);
    void *user;
};

/* Errors: ERR_NOMEM. */
MUST_CHECK enum err converge_missing_start(const struct converge_missing_opts *o,
                                           struct converge_missing **out);
/* Ends the look, wherever it is. */
void converge_missing_free(struct converge_missing *m);

#endif
