/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: unary gRPC requests of our own. Gives: their answers. Owns: one connection per client,
 * redialled when needed. Thread: its loop's. For the KMS plugins and for the tools' calls to etcd.
 */
#ifndef CLIENT_CLIENT_H
#define CLIENT_CLIENT_H

#include "base/slice.h"
#include "loop/loop.h"
#include "net/addr.h"
#include "net/tls.h"

struct client;
struct client_call;

struct client_answer {
    /* ERR_OK: the call has a gRPC status, the server's or, for an answer that is none (malformed,
     * compressed, too large, another HTTP status), one as gRPC clients make it up, never OK. Else
     * the call never got one: ERR_UPSTREAM_AWAY (could not connect in time), ERR_UPSTREAM_LOST,
     * ERR_TIMEOUT. */
    enum err err;
    enum grpc_status status; /* ERR_TIMEOUT: DEADLINE_EXCEEDED, other errors: UNAVAILABLE */
    const char *message;     /* decoded text of the status or of the failure; borrowed */
    struct bytes body; /* the answer message; borrowed, in SLAB_SECRET memory, wiped afterwards */
};

typedef void (*client_answer_fn)(void *arg, const struct client_answer *a);

/* authority: the :authority of the calls. Errors: ERR_NOMEM. */
MUST_CHECK enum err client_new(struct loop *loop, const struct net_url *url, struct net_tls *tls,
                               const char *authority, struct client **out);
/* The server is trusted no more than a client would be: for calls and connections that begin from
 * now on. An answer has at most answer_max bytes (in place of CLIENT_ANSWER_MAX) and pins no more
 * than about that, in whatever pieces it comes; a connection on which too many frames come that are
 * of no use is lost. */
void client_distrust(struct client *c, uint32_t answer_max);
/* etcd's metadata field "token" of the calls that are sent from now on: "" is none. Copied into
 * wiped memory. Errors: ERR_NOMEM; then the old one is gone, too. */
MUST_CHECK enum err client_set_token(struct client *c, const char *token);
/* One unary call with a deadline in ms from now. "Wait for ready": while the peer cannot be
 * connected the call waits, redialling, until its deadline. body is copied into wiped memory. fn is
 * called once, from the loop, unless the call is cancelled before. Errors: ERR_NOMEM. */
MUST_CHECK enum err client_call(struct client *c, const char *path, struct bytes body,
                                uint64_t deadline_ms, client_answer_fn fn, void *arg,
                                struct client_call **out);
/* The largest answer that is taken, in bytes, in place of CLIENT_ANSWER_MAX: a larger one is
 * RESOURCE_EXHAUSTED. For right behind client_call. */
#define CLIENT_ANSWER_MAX (4u * 1024 * 1024)
void client_limit_answer(struct client_call *call, uint32_t max);
/* Which connection takes calls now: each has another number; 0: none does. */
uint64_t client_connection(const struct client *c);
/* fn will not be called any more. */
void client_cancel(struct client_call *call);
/* From now on a connection is kept only while calls need it: it is closed after the last one, and
 * dialled again for the next. */
void client_rest(struct client *c);
/* Cancels all calls and frees c (from the loop). */
void client_close(struct client *c);

#endif
