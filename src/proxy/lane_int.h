/* SPDX-License-Identifier: Apache-2.0 */
/* Shared between the files of a lane only: lane.c (deframe, flow), lane_keys.c (resolve),
 * lane_message.c (scan, apply, send), lane_stream.c (large answers). */
#ifndef PROXY_LANE_INT_H
#define PROXY_LANE_INT_H

#include "proxy/call.h"
#include "proxy/lane.h"

struct lane_wait {
    struct key_wait wait;
    size_t need; /* index into the plan's needs */
};

struct lane_bench {
    struct etcd_plan plan;
    struct lane_wait *waits;
    size_t wait_count, wait_cap;
    size_t pending;
    struct lane_bench *next;
};

/* What a step has to say to lane__run. */
enum lane_step {
    STEP_WAIT = 0, /* nothing to do before something else happens */
    STEP_AGAIN,    /* made progress: look again */
};

/* lane.c */
void lane__run(struct lane *l);
/* Ends the call; with the key and field of the plan when e is its error. Returns STEP_WAIT. */
enum lane_step lane__fail(struct lane *l, enum err e);

/* lane_keys.c */
bool lane__bench_take(struct lane *l);
void lane__bench_give_back(struct lane *l);
/* Gets the DEK of every need, parking the lane when one is missing, then applies the plan. */
enum lane_step lane__resolve(struct lane *l);
/* DEKs that were unwrapped for this message and have opened a value are worth keeping. */
void lane__confirm_keys(struct lane *l);

/* lane_message.c */
/* Takes a bench and the present rule set. False: no memory, or no rules yet. */
bool lane__message_begin(struct lane *l);
/* Everything of the present message goes; the lane can take the next one. */
void lane__message_over(struct lane *l);
/* l->msg holds one whole message. */
enum lane_step lane__request(struct lane *l);
enum lane_step lane__answer(struct lane *l);
/* Hands what the plan has counted to the metrics. ns: how long its values took. */
void lane__tally(struct lane *l, uint64_t ns);
/* Every need has its DEK: apply and send. */
enum lane_step lane__apply(struct lane *l);
/* The plan of an answer or request cannot be made or applied. */
enum lane_step lane__apply_failed(struct lane *l, enum err e);
/* A Watch: keeps a copy of the ResponseHeader for responses of our own. */
void lane__remember_header(struct lane *l, struct bytes header);
bool lane__is_swallowed(const struct lane *l);
bool lane__has_values(enum etcd_content content);

/* lane_stream.c */
enum lane_step lane__stream_begin(struct lane *l, uint32_t length);
enum lane_step lane__stream_step(struct lane *l);
void lane__stream_over(struct lane *l);
/* LANE_FILLING: n bytes came from etcd and were dropped, or its end came. */
void lane__fill_on(struct lane *l, size_t n);
/* The large answer in work keeps its announced length (as against one that is split). */
bool lane__is_fill(const struct lane *l);

#endif
