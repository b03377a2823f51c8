/* SPDX-License-Identifier: Apache-2.0 */
/* Shared between the files of a call only: call.c (its life), call_admit.c (which requests are
 * calls, and the answers to those that are not), call_end.c (every end). */
#ifndef PROXY_CALL_INT_H
#define PROXY_CALL_INT_H

#include "proxy/call.h"
#include "proxy/request.h"

/* --- call.c --- */

void call__set_state(struct call *c, enum call_state to);
/* Work on bytes of the answer ends for now. */
void call__answer_done(struct call *c);

/* --- call_admit.c --- */

/* True when the request may go on; else it has been answered, or will be as a probe. */
bool call__admit(struct call *c, struct h2_fields h, struct request_head *head);
/* The client does not wait for the answer to a probe any more, if there is one. */
void call__probe_cancel(struct call *c);

/* --- call_end.c --- */

enum call_end_how {
    CALL_END_GONE = 0, /* the client's stream is over: nothing is said */
    CALL_END_ANSWERED, /* with trailers of etcd, or all has been said: trailers-only, a probe */
    CALL_END_STATUS,   /* a status of ours, in trailers or trailers-only */
    CALL_END_RESET,    /* RST_STREAM */
};

struct call_end {
    enum call_end_how how;
    enum grpc_status status; /* counted, unless the call was, or is a probe; STATUS: sent, too */
    const char *text;        /* STATUS */
    const char *http_status; /* STATUS before anything else was said; NULL: "200" */
    bool refuse_encoding;    /* STATUS: says that we take identity only */
    enum h2_code code;       /* RESET */
};

/* Ends the call: nothing of it goes either way any more, but for its end. */
void call__end(struct call *c, const struct call_end *end);
/* Etcd can do no more with its request: the key set that it was sealed with may go. */
void call__release_keys(struct call *c);
/* Behind the on_close of either stream. */
void call__free_if_over(struct call *c);
/* An answered stream's client does not end its own side. */
void call__on_reap(struct loop_timer *t);
/* Of grpc-status, as a peer sent it. */
enum grpc_status call__status_of(struct bytes code);

#endif
