/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: a client connection that does not speak HTTP/2. Gives: one HTTP/1.1 answer. Owns: the
 * connection, and one of its own to etcd. Thread: the worker's.
 *
 * GET of /health, /livez, /readyz, /version or /metrics, exactly so, with at most the queries
 * exclude and serializable, is answered by what etcd answers to a request of our own. All else is
 * 404, the JSON gateway above all: it would return ciphertext and store plaintext. */
#ifndef PROXY_PROBE_H
#define PROXY_PROBE_H

#include "net/conn.h"
#include "proxy/worker.h"

/* Takes net and first (the bytes already read). */
void probe_start(struct worker *w, struct net_conn *net, struct chain *first);

#endif
