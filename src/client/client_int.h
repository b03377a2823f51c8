/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of client share. client.c: calls and connections. answer.c: from the frames of an
 * answer to its status and message. */
#ifndef CLIENT_CLIENT_INT_H
#define CLIENT_CLIENT_INT_H

#include "client/client.h"
#include "h2/h2.h"
#include "net/conn.h"

/* One connection; the client has one for new calls and some that drain behind a GOAWAY. */
struct client_conn {
    struct list node;
    struct client *client;
    struct net_conn *net; /* while dialling */
    struct h2_conn *h2;   /* afterwards */
    struct loop_timer greeting;
};

enum client_state {
    CLIENT_IDLE,    /* no connection, and no call that waits for one */
    CLIENT_DIALING, /* current has no SETTINGS yet */
    CLIENT_READY,   /* current takes calls */
    CLIENT_BACKOFF, /* the redial timer runs */
    CLIENT_CLOSED,  /* client_close was called: freed when the last connection is */
};

struct client {
    struct loop *loop;
    struct slab_pool pool;
    struct net_url url;
    struct net_tls *tls;
    char *authority;
    char *token; /* NULL: none */
    enum client_state state;
    struct client_conn *current;
    struct list conns;
    struct list waiting, sent; /* calls */
    struct loop_timer redial;
    struct loop_task task;
    uint64_t backoff_ms;
    uint64_t dial_count;
    bool is_resting;     /* keeps no connection that no call needs */
    bool is_distrusted;  /* its server is: client_distrust */
    uint32_t answer_max; /* of a new call */
    char why[128];       /* of the last connection that failed */
};

struct client_call {
    struct list node;
    struct client *client;
    client_answer_fn fn;
    void *arg;
    char *path;
    struct slice request; /* prefix and message; kept for a repeat */
    uint64_t deadline_ms; /* on the loop's clock */
    struct loop_timer timer;
    struct h2_stream *stream; /* NULL while waiting */
    struct chain answer;
    struct slab *gather; /* where small pieces of it are copied to; NULL: none came yet */
    uint32_t answer_max;
};

static inline void client__gather_drop(struct client_call *call)
{
    if (call->gather != NULL)
        slab_drop(call->gather);
    call->gather = NULL;
}

/* End the call: fn is called, the call is gone. status: an answer of the server, or of our own
 * making. */
void client__call_answer(struct client_call *call, const struct client_answer *a);
void client__call_status(struct client_call *call, enum grpc_status status, const char *message);

/* answer.c: what h2 calls. */
void client__on_response(struct h2_stream *s, struct h2_fields f, bool end);
void client__on_data(struct h2_stream *s, struct slice *data);
void client__on_trailers(struct h2_stream *s, struct h2_fields f);
void client__on_end(struct h2_stream *s);

#endif
