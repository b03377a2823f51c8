/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: an etcd, and what serve would ask of it on its own account. Gives: whether etcd has
 * users, who the proxy is without a token, and what is refused. Owns: a connection to etcd.
 * Thread: its loop's.
 *
 * Whether a write is allowed etcd says without carrying it out: it looks at permissions before it
 * looks at conditions, and the one here (a mod_revision below 0) holds for no key. */
#ifndef TOOLS_ACCESS_H
#define TOOLS_ACCESS_H

#include "policy/ruleset.h"
#include "sweep/nobody.h"

#define TOOLS_ACCESS_TEXT 600

struct tools_access_opts {
    struct sweep_etcd_opts bare; /* to the same etcd, without a login */
    struct sweep_etcd *etcd;     /* with it; borrowed, as all of this */
    const struct ruleset *rules; /* what is protected */
    const char *place;           /* where proxies register */
    bool writes;                 /* --converge: values are rewritten, and proxies registered */
    void (*on_end)(void *user);  /* once, from the loop, unless fini comes before */
    void *user;
};

/* Embedded in its owner, who has zero-initialised it. */
struct tools_access {
    struct tools_access_opts o;
    struct sweep_nobody nobody;
    struct sweep_call call;
    uint8_t request[1024];
    size_t at; /* the next rule; behind them the keys at the place */
    bool is_over;
    /* What was found: */
    bool has_users;                 /* etcd's authentication is on */
    bool is_by_certificate;         /* it lets the proxy read without a token */
    size_t denied_count;            /* keys at which it does not let the proxy write */
    char denied[TOOLS_ACCESS_TEXT]; /* the first of them */
};

/* Errors: ERR_NOMEM; fini is due in any case. */
MUST_CHECK enum err tools_access_start(struct tools_access *a, const struct tools_access_opts *o);
/* Not from inside of on_end. Safe on one that is zero-initialised. */
void tools_access_fini(struct tools_access *a);

#endif
