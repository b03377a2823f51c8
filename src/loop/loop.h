/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: libuv events. Gives: one loop per thread with timers, deferred work and a flush point.
 * Owns: the uv loop. Thread: its own. */
#ifndef LOOP_LOOP_H
#define LOOP_LOOP_H

#include <uv.h>

#include "base/err.h"
#include "base/list.h"

/* Work that has to happen once before the loop sleeps again: an h2 session with bytes to send. */
struct loop_flush {
    struct list node;
    void (*fn)(struct loop_flush *self);
    uint64_t pass; /* the pass over the flush list in which it ran last */
};

struct loop {
    uv_loop_t uv;
    uv_prepare_t prepare; /* both run the flush list: timers fire before prepare, */
    uv_check_t check;     /* sockets before check */
    uv_idle_t idle; /* active only while deferred work is pending, so that poll does not sleep */
    struct list flushes;
    struct list flushes_later; /* ran in this pass and were asked for again: next pass */
    struct list tasks;
    uint64_t pass;
    uint64_t turn_ns; /* loop_turn_ns; 0: the clock was not read in this turn */
    bool is_flushing;
    bool is_running;
    bool is_stopping;
};

/* Errors: ERR_SYSTEM with errno. */
MUST_CHECK enum err loop_init(struct loop *l);
/* Runs until loop_stop and until every handle is closed. */
void loop_run(struct loop *l);
/* From the loop's thread. Flushes, tasks and timers go on until all other handles are closed; then
 * loop_run returns. */
void loop_stop(struct loop *l);
/* After loop_run. Every handle must be closed or closing by now. */
void loop_fini(struct loop *l);
/* Milliseconds on CLOCK_MONOTONIC, as of this turn. */
uint64_t loop_now_ms(const struct loop *l);
/* Nanoseconds on CLOCK_MONOTONIC at the first call of this turn, so roughly when this turn's input
 * arrived. Cached, because reading the clock costs as much as scanning a small message. */
uint64_t loop_turn_ns(struct loop *l);
/* Nanoseconds on CLOCK_MONOTONIC, now. */
uint64_t loop_hrtime_ns(void);

void loop_flush_init(struct loop_flush *f, void (*fn)(struct loop_flush *));
/* Asks for one call of f->fn before the loop sleeps; asking again before it ran changes nothing. An
 * fn that asks again from inside itself runs next after the sockets had their turn. */
void loop_flush_want(struct loop *l, struct loop_flush *f);
void loop_flush_cancel(struct loop_flush *f);

/* Work for the next turn of the loop, such as a lane that yielded. Same rules as a flush: a task
 * that asks again from inside itself runs in the turn after, and sockets are served in between. */
struct loop_task {
    struct list node;
    void (*fn)(struct loop_task *self);
};
void loop_task_init(struct loop_task *t, void (*fn)(struct loop_task *));
void loop_task_want(struct loop *l, struct loop_task *t);
void loop_task_cancel(struct loop_task *t);

/* A one-shot timer embedded in its owner. uv needs a handle's memory until the handle's close
 * callback, so the handle is allocated apart: the owner may be freed right after
 * loop_timer_fini. */
struct loop_timer {
    uv_timer_t *uv; /* NULL until first used */
    void (*fn)(struct loop_timer *self);
};
void loop_timer_init(struct loop_timer *t, void (*fn)(struct loop_timer *));
/* (Re)starts. Errors: ERR_NOMEM. */
MUST_CHECK enum err loop_timer_start(struct loop *l, struct loop_timer *t, uint64_t ms);
bool loop_timer_is_active(const struct loop_timer *t);
/* Stops for now; keeps the handle. */
void loop_timer_stop(struct loop_timer *t);
/* Stops and gives the handle back; the owner may be freed at once. Safe on one never started. */
void loop_timer_fini(struct loop_timer *t);

#endif
