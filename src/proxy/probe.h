/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: a request that is HTTP's and not gRPC's. Gives: one answer to whoever asked. Owns: a
 * connection to etcd for each question. Thread: the worker's.
 *
 *   HTTP/1.1 connection ─ probe_http1.c ─┐
 *                                        ├─► probe.c ─► a request of our own to etcd
 *   HTTP/2 stream ─────── call_admit.c ──┘
 *
 * /health, /livez, /readyz, /livez/NAME, /readyz/NAME, /version and /metrics, with any method and
 * query, and OPTIONS of anything, are answered by what etcd answers to a request of our own, which
 * never has a body. All else is 404, the JSON gateway above all: it would return ciphertext and
 * store plaintext. */
#ifndef PROXY_PROBE_H
#define PROXY_PROBE_H

#include "http1/http1.h"
#include "net/conn.h"
#include "proxy/worker.h"

struct probe;

/* The answer; r and what it points to are borrowed for the call. Comes once, within 5 s, unless
 * probe_cancel comes first. The probe is dead for the receiver from then on. */
typedef void probe_reply_fn(void *user, const struct http1_reply *r);

/* Asks. on_reply may come from inside: *out is then NULL. Errors: ERR_NOMEM (no answer comes). */
MUST_CHECK enum err probe_ask(struct worker *w, const struct http1_request *request,
                              probe_reply_fn *on_reply, void *user, struct probe **out);
/* Nobody waits for the answer any more: on_reply does not come. Not after it has come. */
void probe_cancel(struct probe *p);
/* The worker ends: requests that are not whole yet are dropped, and answers come within left_ms. */
void probes_end(struct worker *w, uint64_t left_ms);
/* To what can't be read as a request. */
extern const struct http1_reply probe_bad_request;

/* --- probe_http1.c --- */

/* Answers one request of a client connection that does not speak HTTP/2, and closes it. Takes net
 * and first (the bytes already read). */
void probe_http1_start(struct worker *w, struct net_conn *net, struct chain *first);
/* Closes the connections whose request is not whole yet. */
void probe_http1_end(struct worker *w);

#endif
