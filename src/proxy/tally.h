/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: what a worker's calls and plans did. Gives: it to the control thread's metric
 * series, at most a fifth of a second later. Owns: the sums in between. Thread: the worker's.
 *
 * So a value costs its worker one comparison (in the plan), a message a few additions to memory of
 * its own, and label texts are only looked at on the control thread. */
#ifndef PROXY_TALLY_H
#define PROXY_TALLY_H

#include "etcd/plan.h"
#include "loop/mailbox.h"

struct ruleset;
struct tally;

/* control: where the sums are sent. pool: whose live bytes the metric held_bytes adds up; both
 * outlive it. Errors: ERR_NOMEM. */
MUST_CHECK enum err tally_new(struct loop *loop, struct mailbox *control,
                              const struct slab_pool *pool, struct tally **out);
/* Sends what is left; before the worker's loop ends. t may be NULL. */
void tally_free(struct tally *t);

/* The counts of a plan that was made with rules, then forgotten by the plan. ns: how long all its
 * values took together; each is recorded with an equal part of it, for one look at the clock costs
 * as much as sealing a small value. */
void tally_plan(struct tally *t, struct ruleset *rules, struct etcd_plan *p, uint64_t ns);
/* A call of a client is over. method NULL: an unknown one. */
void tally_call(struct tally *t, const struct etcd_method *method, enum grpc_status status);
/* What the proxy added to the time of a unary call. */
void tally_added(struct tally *t, const struct etcd_method *method, uint64_t ns);

#endif
