/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: a user of etcd's and its password. Gives: the token that etcd wants to see with each
 * call while its authentication is on. Owns: both and the token, in memory that is wiped. Thread:
 * its loop's.
 *
 * etcd forgets a token after some minutes, at its start, and when users change; then it refuses
 * calls with texts that sweep_login_is_asked knows, and a new token is due. */
#ifndef SWEEP_LOGIN_H
#define SWEEP_LOGIN_H

#include "client/client.h"

/* name: NULL, and there is nothing to do. Borrowed. */
struct sweep_user {
    const char *name, *password;
};

struct sweep_login {
    char *name, *password; /* NULL: no user was given */
    char *token;           /* NULL: none yet, or it does not count any more */
    unsigned number;       /* of the token: each has another one */
    bool is_off;           /* etcd asks nobody who he is */
};

/* Copies user. Errors: ERR_NOMEM; then l needs no fini. */
MUST_CHECK enum err sweep_login_init(struct sweep_login *l, const struct sweep_user *user);
void sweep_login_fini(struct sweep_login *l);
/* A call to Authenticate is due before any other one. */
bool sweep_login_is_due(const struct sweep_login *l);
/* Makes that call; the connection's other end is known to be an etcd. Errors: ERR_NOMEM,
 * ERR_MESSAGE_TOO_LARGE. */
MUST_CHECK enum err sweep_login_call(const struct sweep_login *l, struct client *c,
                                     uint64_t deadline_ms, client_answer_fn fn, void *arg,
                                     struct client_call **out);
/* What came of it, for a call that has an answer of etcd's: the token is there and c has it, or
 * etcd's authentication is off. Errors: ERR_SYSTEM (etcd does not know user or password, as its
 * message says), ERR_ANS_MALFORMED, ERR_NOMEM. */
MUST_CHECK enum err sweep_login_take(struct sweep_login *l, struct client *c,
                                     const struct client_answer *a);
/* Gives c, a new connection, the token that there is. Errors: ERR_NOMEM. */
MUST_CHECK enum err sweep_login_use(const struct sweep_login *l, struct client *c);
/* The answer refuses the token of a call, or that it had none, and there is a user who can get
 * another one. */
bool sweep_login_is_asked(const struct sweep_login *l, const struct client_answer *a);
/* The token with this number does not count any more: if there is no other one by now, one is
 * due. */
void sweep_login_forget(struct sweep_login *l, unsigned number);

#endif
