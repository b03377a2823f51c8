/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: a client connection that does not speak HTTP/2. Gives: one HTTP/1.1 answer. Owns: the
 * connection, and one of its own to etcd. Thread: the worker's.
 *
 * /health, /livez, /readyz, /livez/NAME, /readyz/NAME, /version and /metrics, with any method and
 * query, and OPTIONS of anything, are answered by what etcd answers to a request of our own, which
 * never has a body. All else is 404, the JSON gateway above all: it would return ciphertext and
 * store plaintext. */
#ifndef PROXY_PROBE_H
#define PROXY_PROBE_H

#include "net/conn.h"
#include "proxy/worker.h"

/* Takes net and first (the bytes already read). */
void probe_start(struct worker *w, struct net_conn *net, struct chain *first);
/* The worker ends: what is not asked yet is closed, and answers have to come within left_ms. */
void probes_end(struct worker *w, uint64_t left_ms);

#endif
