/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: calls that wait for bytes of a peer, or for a peer to take some. Gives: an end to those
 * whose peer does not get on. Owns: a list of calls, a timer that runs while there are any.
 * Thread: the worker's.
 *
 * Whoever hands bytes to a call that do not complete a message, or queues bytes for a client, calls
 * progress_watch. Once a second each call of the list is looked at; one that waits for nobody, and
 * stands in no message, leaves it. So an idle stream, however long it idles, is in no list, has no
 * timer and no end:
 *
 *   who is waited for                            has to make              within
 *   the client: its message or unary request     LIMIT_PROGRESS_BYTES,    LIMIT_PROGRESS_MS
 *   has begun, and is not whole                  or the end
 *   etcd: the same of its answer                 the same                 the same
 *   the client: bytes wait for its window        room for a byte          --stall-timeout
 *     while memory is short                      LIMIT_PROGRESS_BYTES     LIMIT_STALL_SHORT_MS
 *
 * Time is counted in looks, not on a clock: the time in which this thread did not run counts
 * against nobody, and neither does that in which we give the peer no credit. */
#ifndef PROXY_PROGRESS_H
#define PROXY_PROGRESS_H

#include "base/list.h"
#include "loop/loop.h"

struct call;

/* One for each worker. */
struct progress {
    struct loop *loop;
    struct list calls;
    struct loop_timer timer;
    bool is_looking; /* the timer runs */
    uint32_t looks;
};

/* How far a peer had come, and when. */
struct progress_mark {
    uint32_t bytes; /* of a count that wraps */
    uint32_t since; /* the look at which it was so far, or was waited for by nobody */
};

/* In each call. */
struct call_progress {
    struct list node;              /* in progress.calls, or empty */
    struct progress_mark marks[3]; /* request, answer, reader */
    uint32_t drained;              /* bytes for the client that went into frames */
    bool is_held_by_conn;          /* the reader's mark counts the connection's bytes */
};

void progress_init(struct progress *p, struct loop *loop);
void progress_fini(struct progress *p);

void progress__add(struct progress *p, struct call_progress *c);
/* Idempotent, and cheap where nothing is to be done. */
static inline void progress_watch(struct progress *p, struct call_progress *c)
{
    if (list_is_empty(&c->node))
        progress__add(p, c);
}

#endif
