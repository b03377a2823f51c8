/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by load.c (requests, answers and what they have to be) and run.c (how long, how fast, and
 * what is reported). Thread: one. */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include "hist.h"
#include "options.h"
#include "peer.h"
#include "wire.h"

#define PUTS 65536u /* watch: so many Puts may be ahead of their events */

struct conn;

/* One request after the other. */
struct slot {
    struct conn *conn;
    uint64_t started;
    struct buf request;
    size_t request_at;
    struct buf first; /* the answer, as long as it is looked at */
    size_t answer_len;
    bool is_checked, is_busy, has_status, has_grpc_status, is_writer, is_watch;
    bool is_filler; /* apiserver: it puts the objects of the list, one after the other */
    bool is_made;   /* a real etcd: its key exists, for it was put */
    enum kind kind; /* of the request under way */
    char item[96];
    uint64_t revision; /* of its key: what the next update expects */
    uint64_t events;   /* watch: that it has had */
    struct slot *next_free;
};

struct conn {
    struct peer *peer; /* first */
    struct slot *free;
};

enum phase { WARMUP, MEASURE, DRAIN };

struct run {
    enum phase phase;
    struct conn *conns;
    struct slot *writer; /* watch */
    struct buf expected; /* without its gRPC prefix */
    struct hist latencies;
    uint64_t sent, requests, events, answered, busy, bytes;
    uint64_t watches, slots;
    uint64_t writes, seen; /* apiserver: acknowledged, and events of them */
    uint64_t filled;       /* apiserver: objects of the list */
    uint64_t jitter;       /* of the timeouts */
    uint64_t cpu_before[OPTIONS_CPU_MAX], cpu_after[OPTIONS_CPU_MAX];
    uint64_t begun, ended;
    uint64_t puts, put_at[PUTS]; /* watch: so many were sent, and when */
    char authority[128];
};

extern struct run run;
extern struct peer_loop loop;

/* Before all else. */
void load_init(void);
/* Opens the connections and watches; of a closed loop the first requests, too. */
void load_start(void);
/* A request of the open loop, due at. */
void load_send_due(struct conn *c, uint64_t at);

#endif
