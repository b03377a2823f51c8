/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: HTTP/1.1 GET and HEAD requests, a table of routes. Gives: the answers that the routes'
 * functions make, at once or later. Owns: the listeners and their connections. Thread: its loop's
 * (control).
 *
 * One request a connection (Connection: close). At most 64 connections, 5 s for the request and for
 * the last bytes of the answer. What is not a GET or HEAD of a route is answered with a status.
 *
 * Who comes when there are 64 takes the place of another: of the address that has most connections
 * the one goes that has been without a whole request, or has not taken its answer, for longest. So
 * somebody who only opens connections keeps no probe away. Requests that wait for others (etcd, a
 * plugin) have three quarters of the places, and 503 beyond: those that wait for nobody always find
 * one. */
#ifndef ADMIN_ADMIN_H
#define ADMIN_ADMIN_H

#include "http1/http1.h"
#include "net/listen.h"
#include "net/tls.h"

#define ADMIN_CONNS_MAX 64u
#define ADMIN_WAITING_MAX 48u /* requests whose route has yet to answer */
#define ADMIN_READ_MS 5000u
#define ADMIN_ANSWER_MS 30000u /* a route has answered by then, or the connection is closed */

struct admin;
struct admin_reply; /* one request that waits for its answer */

/* Answers by admin_reply_send, exactly once, now or later from the loop, also when the peer is
 * gone by then and after admin_close. r is valid during the call. */
typedef void (*admin_fn)(void *arg, struct admin_reply *reply, const struct http1_request *r);

struct admin_route {
    const char *path; /* exact; one that ends with '/' also covers what is below */
    admin_fn fn;
    bool may_wait; /* false: fn answers before it returns */
};

/* routes: up to a NULL path; the first that fits. They and arg outlive the module. Errors:
 * ERR_NOMEM. */
MUST_CHECK enum err admin_new(struct loop *loop, const struct admin_route *routes, void *arg,
                              struct admin **out);
/* The TLS context for a connection that was accepted now; borrowed. NULL: it is closed. */
typedef struct net_tls *(*admin_tls_fn)(void *arg);

/* One more listener. tls NULL: clear text. why gets a text. Errors: of net_listen. */
MUST_CHECK enum err admin_listen(struct admin *a, const struct net_url *url, admin_tls_fn tls,
                                 char *why, size_t why_len);
/* The port of the i-th listener. */
uint16_t admin_port(const struct admin *a, size_t i);
/* Listeners and connections close now. a is freed from the loop, when the last route that works on
 * an answer has sent it. */
void admin_close(struct admin *a);

/* Takes the reply. type: of the body, with its charset. */
void admin_reply_send(struct admin_reply *reply, int status, const char *type, struct bytes body);
/* The same with more fields in the head: lines, as http1_respond takes them. */
void admin_reply_send_fields(struct admin_reply *reply, int status, const char *type,
                             const char *fields, struct bytes body);

/* --- queries; pure --- */

/* The value of the n-th parameter "name=value" of a query, percent-decoded, in out; a value that is
 * cut or not to be decoded counts as absent. False: there are not so many. */
MUST_CHECK bool admin_query(const char *query, const char *name, size_t n, char *out, size_t cap);
/* The parameter is there, with or without a value. */
MUST_CHECK bool admin_query_has(const char *query, const char *name);

#endif
