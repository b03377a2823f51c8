/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: an etcd. Gives: whether it has users, and whether it lets the proxy read without a
 * token, as it lets every client then that has none: where the name in the proxy's certificate is a
 * user's. Owns: a connection to etcd. Thread: its loop's. */
#ifndef SWEEP_NOBODY_H
#define SWEEP_NOBODY_H

#include "sweep/etcd.h"

#define SWEEP_NOBODY_KEY 512u

/* Embedded in its owner, who has zero-initialised it. */
struct sweep_nobody {
    struct sweep_etcd *etcd;
    struct sweep_call call;
    char key[SWEEP_NOBODY_KEY];
    uint8_t request[SWEEP_NOBODY_KEY + 64];
    void (*fn)(struct sweep_nobody *self);
    bool has_users; /* etcd's authentication is on */
    bool may_read;  /* and yet the key can be read without a token */
};

/* o: without a login. key: that is asked for, a protected one; copied. fn is called once, from the
 * loop, also when etcd does not answer, of which both are false. Errors: ERR_NOMEM, also for a key
 * that is too long; fini is due in any case. */
MUST_CHECK enum err sweep_nobody_start(struct sweep_nobody *n, const struct sweep_etcd_opts *o,
                                       const char *key, void (*fn)(struct sweep_nobody *self));
/* Not from inside of fn. Safe on one that is zero-initialised. */
void sweep_nobody_fini(struct sweep_nobody *n);

#endif
