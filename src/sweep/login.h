/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: a user of etcd's and its password. Gives: the token that etcd wants to see with each
 * call while its authentication is on. Owns: both and the token, in memory for keys. Thread: its
 * loop's.
 *
 * etcd forgets a token after some minutes, at its start, and when users change; then it refuses
 * calls with texts that sweep_login_is_asked knows, and a new token is due. When it does not know
 * the user, or not with this password, it is asked again after a while only: each time costs it a
 * bcrypt. Several connections may share a login, and then have the same token. */
#ifndef SWEEP_LOGIN_H
#define SWEEP_LOGIN_H

#include "client/client.h"

/* name: NULL, and there is nothing to do. Borrowed. */
struct sweep_user {
    const char *name, *password;
};

enum sweep_login_state {
    SWEEP_LOGIN_UNKNOWN = 0, /* etcd has not been asked yet with this password */
    SWEEP_LOGIN_REFUSED,     /* etcd gives no token, as it said when it was asked last */
    SWEEP_LOGIN_IN,          /* etcd gave one when it was asked last */
    SWEEP_LOGIN_OFF,         /* etcd asks nobody who he is */
};

struct sweep_login;

/* Copies user, which has a name; secret_init was called. Errors: ERR_NOMEM. */
MUST_CHECK enum err sweep_login_new(const struct sweep_user *user, struct sweep_login **out);
struct sweep_login *sweep_login_ref(struct sweep_login *l);
/* l may be NULL, as in all of these that take a const one. */
void sweep_login_drop(struct sweep_login *l);
/* fn is called whenever the state has changed, or the reason of a refusal; from inside of calls
 * that are answered, so it must not close a connection. */
void sweep_login_watch(struct sweep_login *l, void (*fn)(void *arg), void *arg);
/* From now on etcd is asked with this password, copied. One that is another than before makes a
 * token due, and a refusal does not count any more; nor does it with is_forced. Errors: ERR_NOMEM;
 * then the old one stays. */
MUST_CHECK enum err sweep_login_change(struct sweep_login *l, const char *password, bool is_forced);
const char *sweep_login_name(const struct sweep_login *l);
enum sweep_login_state sweep_login_state(const struct sweep_login *l);
/* What etcd said when it refused; "" in other states. Borrowed until the loop's next turn. */
const char *sweep_login_why(const struct sweep_login *l);

/* --- for whoever makes the calls (etcd.c) --- */

/* The token has a number; another token, or none, has another one. */
unsigned sweep_login_number(const struct sweep_login *l);
/* A call to Authenticate is due before any other one. */
bool sweep_login_is_due(const struct sweep_login *l);
/* It was refused not long ago: then out is etcd's answer, with borrowed text. */
bool sweep_login_is_refused(const struct sweep_login *l, uint64_t now_ms,
                            struct client_answer *out);
/* Makes the call to Authenticate; the connection's other end is known to be an etcd. Errors:
 * ERR_NOMEM, ERR_MESSAGE_TOO_LARGE. */
MUST_CHECK enum err sweep_login_call(const struct sweep_login *l, struct client *c,
                                     uint64_t deadline_ms, client_answer_fn fn, void *arg,
                                     struct client_call **out);
/* What came of it, for a call that has an answer of etcd's: the token is there, or etcd's
 * authentication is off, or the state is SWEEP_LOGIN_REFUSED. Errors: ERR_NOMEM. */
MUST_CHECK enum err sweep_login_take(struct sweep_login *l, uint64_t now_ms,
                                     const struct client_answer *a);
/* Gives c the token that there is, or none. Errors: ERR_NOMEM. */
MUST_CHECK enum err sweep_login_use(const struct sweep_login *l, struct client *c);
/* The answer refuses the token of a call, or that it had none, and there is a user who can get
 * another one. */
bool sweep_login_is_asked(const struct sweep_login *l, const struct client_answer *a);
/* The token with this number does not count any more: if there is no other one by now, one is
 * due. */
void sweep_login_forget(struct sweep_login *l, unsigned number);

#endif
