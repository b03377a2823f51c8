/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: one client stream with its request headers. Gives: the answer of etcd, or a status of
 * our own. Owns: two lanes, what was asked for, copies of headers. Thread: the worker's.
 *
 * A call is made in on_request and freed when neither a client nor an upstream stream is left.
 * Between its end (call_end.c) and that it only waits. */
#ifndef PROXY_CALL_H
#define PROXY_CALL_H

#include "etcd/ask.h"
#include "etcd/method.h"
#include "proxy/fields.h"
#include "proxy/lane.h"
#include "proxy/link.h"
#include "proxy/progress.h"
#include "proxy/status.h"
#include "proxy/upstream.h"

enum call_state {
    CALL_REFUSED = 0, /* answered with an error before anything went to etcd */
    CALL_COLLECTING,  /* the request is not whole; no upstream stream */
    CALL_WAITING,     /* ready to go, but etcd is being redialled */
    CALL_OPEN,        /* the upstream stream is open */
    CALL_FILLING,     /* it failed, but the message that the client was promised is being completed
                         while etcd sends it; then the status follows */
    CALL_PROBING,     /* no gRPC: a question to etcd over HTTP/1.1 is under way */
    CALL_ANSWERED,    /* etcd's trailers, or its answer to a probe, were handed on */
    CALL_FAILED,      /* we ended it with a status of our own */
    CALL_GONE,        /* the client reset it or its connection is lost */
};

struct call {
    uint64_t id;
    struct link *link;
    struct worker *worker;
    struct list link_node;
    struct list age_node;
    enum call_state state;
    const struct etcd_method *method;
    struct h2_stream *down; /* NULL after its on_close */
    struct h2_stream *up;   /* NULL before it is opened and after its on_close */
    struct lane request, answer;
    struct etcd_ask ask;
    struct probe *probe;       /* CALL_PROBING */
    size_t kept_bytes;         /* of this call, as in worker.kept_bytes */
    size_t claims;             /* of this call, in those of its link; 0: too small to be counted */
    size_t promised;           /* of this call, in worker.promised */
    struct fields headers;     /* to etcd; freed once sent */
    struct fields trailers;    /* of etcd, until the answer lane is done */
    uint64_t deadline_ns;      /* CLOCK_MONOTONIC; 0: none */
    struct upstream_wait wait; /* CALL_WAITING: for a connection */
    struct sealed_msg pending; /* CALL_WAITING: the unary request */
    enum grpc_status late_status; /* CALL_FILLING: what follows */
    char *late_text;
    bool down_has_headers;     /* response headers were sent */
    bool down_has_ended;       /* we ended our side of the client's stream */
    bool client_has_ended;     /* the client ended its side */
    bool up_has_ended;         /* we ended our side of the upstream stream */
    bool is_probe;             /* it counts among its link's */
    uint8_t watch_header[128]; /* body of the last ResponseHeader seen: clients crash without one */
    size_t watch_header_len;
    /* What the proxy adds to a unary call, on the monotonic clock. */
    uint64_t request_whole_ns; /* when its last byte was here */
    uint64_t answer_since_ns;  /* bytes of the answer are being worked on; 0: none are */
    uint64_t answer_until_ns;  /* when the last of them were done with */
    uint64_t added_ns;
    struct keyset *sealed_with; /* of its request, until etcd can do no more with it; NULL: none */
    struct call_progress progress;
    struct loop_timer reap; /* an answered stream whose client never ends its side */
};

/* What a call takes of memory that waits for its next message: its own object, two streams, and
 * what it usually keeps. */
#define CALL_COST (sizeof(struct call) + 2 * H2_STREAM_COST + CALL_KEPT_SMALL)
#define CALL_KEPT_SMALL 1024u

/* Calls that hold less are not looked at one by one. */
#define CALL_SMALL (16u * 1024)

/* A request began on the client's connection. */
void call_open(struct link *l, struct h2_stream *down, struct h2_fields h, bool end_stream);
/* Ends the call with a status of ours: resets upstream, answers the client, stops the lanes. */
void call_fail(struct call *c, const struct failure *f);
/* The same by error alone. */
void call_fail_err(struct call *c, enum err e);
bool call_is_unary(const struct call *c);
bool call_is_live(const struct call *c);
/* Memory that the call keeps from being freed: by messages, headers, and what the streams have
 * queued. A byte counts as the slab that it was read into. */
size_t call_held(const struct call *c);
/* It holds bytes of messages, or its one request is with etcd. */
bool call_is_holding(const struct call *c);
/* It holds no more than a message as large as etcd takes needs, so it may be the one that gets on
 * when nobody else does. */
bool call_is_small(const struct call *c);
/* What it holds and what was promised to its peers has changed: counts it. */
void call_claim(struct call *c);
/* What it keeps beside messages (headers, what it asked for, plans) is counted anew. */
void call__count_kept(struct call *c);
/* The same after a change that most often is within what CALL_COST has for it. */
static inline void call_count_kept(struct call *c)
{
    size_t n = c->headers.size + c->trailers.size + c->ask.watched + c->ask.asked;

    if (n > CALL_KEPT_SMALL || c->kept_bytes != CALL_COST)
        call__count_kept(c);
}
/* Ends the call because memory is short (ERR_MEMORY_LIMIT), or because it or its connection has too
 * much (ERR_STREAM_MEMORY, ERR_CONNECTION_MEMORY), and lets go of all that it holds at once. */
void call_shed(struct call *c, enum err why);
/* call_claim; whoever is over a bound of its own loses calls at once: this one is over
 * --stream-memory-limit, or its connection is over --connection-memory-limit. */
void call_claim_within(struct call *c);
/* The client does not get on with its request, or with reading the answer. A watch or a lease's
 * stream ends with UNAVAILABLE, so that its client opens another: in trailers, or by REFUSED_STREAM
 * in the middle of a message; any other call with ENHANCE_YOUR_CALM. */
void call_stalled(struct call *c, enum err e);
/* etcd does not get on with its answer. */
void call_answer_stalled(struct call *c);
struct call *call_of_link_node(struct list *node);

/* --- for lane.c --- */

/* Sends a message, which has its gRPC prefix, to etcd: the only way there. Opens the upstream
 * stream of a unary call. end: nothing follows. Takes msg. False: the call has failed. */
bool call_send_up(struct call *c, struct sealed_msg *msg, bool end);
/* Ends our side of the upstream stream of a streaming call. */
void call_end_up(struct call *c);
/* Sends raw bytes to the client. Takes bytes. False: the call has failed. */
bool call_send_down(struct call *c, struct chain *bytes);
/* The answer lane has handed on everything: trailers. */
void call_finish(struct call *c);
/* CALL_FILLING: the answer lane got on. */
void call_filled(struct call *c, enum lane_fill how);
void call_failure_init(const struct call *c, enum err e, struct failure *f);

#endif
