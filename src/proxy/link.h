/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: one client socket. Gives: its calls, each mapped to one upstream stream. Owns: the
 * client's connection, its place in the worker's pool of upstream connections, its calls. Thread:
 * the worker's.
 *
 *   accepted ─ first bytes ─► HTTP/1.1: probe.c answers and closes
 *        └─ preface and SETTINGS ─► join the pool ─► etcd answers ─► SETTINGS to it ─► calls
 *
 * The client's SETTINGS go out only when etcd is reached: a balancer must see a dead member as
 * dead. Connections to etcd are shared with the worker's other links; all calls of a link go to one
 * endpoint. If a connection is lost its streams end with UNAVAILABLE; new calls wait for the redial
 * for at most 1 s; then GOAWAY and close. */
#ifndef PROXY_LINK_H
#define PROXY_LINK_H

#include "h2/h2.h"
#include "proxy/holder.h"
#include "proxy/worker.h"

struct call;
struct link;

/* About what an idle client takes in memory: struct link, its connection, the tables of HPACK, and
 * with TLS a session. It counts in --memory-limit. */
#define LINK_COST (24u * 1024)
#define LINK_COST_TLS (40u * 1024)

/* Takes fd (also on error). */
void link_open(struct worker *w, int fd, struct net_tls *tls);
struct worker *link_worker(const struct link *l);
/* Begins the graceful end: GOAWAY; no new calls. */
void link_drain(struct link *l);
enum link_end { LINK_END_NONE, LINK_END_STREAMS, LINK_END_ALL };
/* While draining: the chosen calls end with UNAVAILABLE, and a link without calls is closed. */
void link_end_calls(struct link *l, enum link_end which);
/* Closes at once. */
void link_close(struct link *l);

/* --- for call.c --- */

/* Unlike any other's of the process, and not 0. */
uint64_t link_id(const struct link *l);
/* As whom a call asks the pool for a connection. */
struct upstream_user *link_upstream(struct link *l);
/* As whom its calls ask for DEKs. */
struct key_asker *link_key_asker(struct link *l);
void link_call_added(struct link *l, struct list *node);
/* A call is gone. */
void link_call_removed(struct link *l);
/* One of its calls becomes a probe of etcd (probe.h), until link_probe_removed. False: there are
 * enough of them. */
MUST_CHECK bool link_probe_added(struct link *l);
void link_probe_removed(struct link *l);

/* --- for worker_relief.c, when memory is short --- */

/* Memory that the calls hold, all but one (which may be another link's). */
size_t link_held(const struct link *l, const struct call *but);
/* What its calls hold, small ones aside, and what was promised to their peers. */
uint64_t link_claims(const struct link *l);
/* Whose it is. NULL: its client does not speak HTTP/2 yet, so it has no calls. */
struct holder *link_holder(const struct link *l);
/* That of one of them was `was` and is `now`. */
void link_claimed(struct link *l, size_t was, size_t now);
/* It claims more than --connection-memory-limit. link_shed_own: ends calls then, newest first. */
bool link_is_over(const struct link *l);
void link_shed_own(struct link *l);
/* In this relief nothing more is to be had of it. */
void link_set_relieved(struct link *l, uint32_t relief);
bool link_was_relieved(const struct link *l, uint32_t relief);
/* Ends calls that hold any, newest first and never that one, until the worker holds no more than
 * low or none is left. */
void link_shed(struct link *l, const struct call *but, uint64_t low);

/* --- for worker_shed.c, when there are too many connections --- */

/* Its client does not speak HTTP/2 yet. */
bool link_is_opening(const struct link *l);
/* It does, and is who (net_conn_who); not when it is on its way out. */
bool link_is_of(const struct link *l, const char *who);
bool link_has_calls(const struct link *l);
/* Since the client's last byte, or since it was accepted. */
uint64_t link_idle_ms(const struct link *l);
/* Ends it, with GOAWAY where there is HTTP/2, and counts why. */
void link_shed_whole(struct link *l, enum err why);

/* The link that owns node (in worker.links). */
struct link *link_of_node(struct list *node);

#endif
