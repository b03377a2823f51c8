/* SPDX-License-Identifier: Apache-2.0 */
/* Shared between the files of a lane only: lane.c (the driver, flow), lane_collect.c (collect,
 * relay), lane_credit.c (windows), lane_gather.c (small pieces), lane_large.c (large answers),
 * lane_scan.c, lane_keys.c (resolve), lane_apply.c (apply, send), lane_watch.c (a watch that ends
 * alone). */
#ifndef PROXY_LANE_INT_H
#define PROXY_LANE_INT_H

#include "etcd/direct.h"
#include "proxy/call.h"
#include "proxy/lane.h"

struct lane_wait {
    struct key_wait wait;
    size_t need; /* index into the plan's needs */
};

struct lane_work {
    struct etcd_plan plan;
    struct lane_wait *waits;
    size_t wait_count, wait_cap;
    size_t asked;   /* needs of the plan that have been asked for */
    size_t pending; /* of waits */
    enum err err;   /* the first need that was refused at once while others were pending */
    uint64_t ns;    /* of the turns of apply that are over */
    struct lane_work *next;
};

/* What a step says to the driver. */
enum lane_step {
    STEP_FAIL = 0, /* with l->err: lane__fails */
    STEP_WAIT,     /* nothing to do before something else happens; or the call has ended */
    STEP_NEXT,     /* go on with l->state */
    STEP_TURN,     /* the same, after the loop had its turn */
};

/* lane.c */
void lane__set_state(struct lane *l, enum lane_state to);
/* Runs steps until one waits, or until others have to have their turn. */
void lane__run(struct lane *l);
static inline enum lane_step lane__fails(struct lane *l, enum err e)
{
    l->err = e;
    return STEP_FAIL;
}
/* Ends the call; with the key and field of the plan when e is its error. Returns STEP_WAIT. */
enum lane_step lane__fail_call(struct lane *l, enum err e);

/* The client reads slower than bytes come for it. */
bool lane__client_is_behind(const struct lane *l);

/* lane_collect.c */
enum lane_step lane__collect(struct lane *l);
/* COLLECT: a part of a message is there, or a unary request is not whole. */
bool lane__is_collecting(const struct lane *l);
/* A stream's requests that wait until its client reads what etcd has answered. */
bool lane__is_held(const struct lane *l);
enum lane_step lane__relay(struct lane *l);

/* lane_credit.c */
/* Gives back what credit there is room for, and widens the window for a large message. Those that
 * have to wait are hungry. */
void lane__credit(struct lane *l);
void lane__leave_hungry(struct lane *l);
/* It is not hungry any more. */
static inline void lane__sated(struct lane *l)
{
    if (!list_is_empty(&l->hungry))
        lane__leave_hungry(l);
}

/* lane_gather.c */
/* Puts received bytes behind in. Takes s. Errors: ERR_NOMEM. */
MUST_CHECK enum err lane__take_in(struct lane *l, struct slice *s);
void lane__gather_drop(struct lane *l);
/* The same when nothing waits for more. */
void lane__gather_settle(struct lane *l);

/* lane_large.c */
/* A large answer begins: its prefix goes out, or is dropped when it is split. */
enum lane_step lane__large_begin(struct lane *l, uint32_t length);
enum lane_step lane__large(struct lane *l);
void lane__large_over(struct lane *l);
/* The large answer in work keeps its announced length (as against one that is split). */
bool lane__is_fill(const struct lane *l);
/* LANE_FILLING: n bytes came from etcd and were dropped, or its end came. */
void lane__fill_on(struct lane *l, size_t n);

/* lane_scan.c */
enum lane_step lane__scan(struct lane *l);
bool lane__has_values(enum etcd_content content);
/* Takes a lane_work and the present rule set. False: no memory, or no rules yet. */
bool lane__message_begin(struct lane *l);
/* Everything of the present message goes; the lane can take the next one. */
void lane__message_over(struct lane *l);
/* The message is for a watch that we ended: it is dropped. */
bool lane__is_swallowed(const struct lane *l);

/* lane_keys.c */
bool lane__work_take(struct lane *l);
size_t lane__work_size(const struct lane_work *b);
void lane__work_give_back(struct lane *l);
/* What opening without a plan takes; good while the lane's rule set is. */
void lane__direct_init(struct lane *l, struct etcd_direct *d);
/* Asks for the DEK of every need, parking the lane when one is missing. */
enum lane_step lane__resolve(struct lane *l);
/* The keys that were waited for move into the plan, and the write keys with them. STEP_NEXT: apply.
 */
enum lane_step lane__take_keys(struct lane *l);
/* DEKs that were unwrapped for this message and have opened a value are worth keeping. */
void lane__confirm_keys(struct lane *l);
/* One that was unwrapped for this message and did not open its value is not asked for again at once
 * for that value. */
void lane__remember_unopened(struct lane *l);

/* lane_apply.c */
enum lane_step lane__apply(struct lane *l);
enum lane_step lane__send(struct lane *l);
/* Hands what the plan has counted to the metrics. ns: how long its values took. */
void lane__tally(struct lane *l, uint64_t ns);
/* Room for a gRPC prefix at the end of out, where the message will gather behind it. NULL: no
 * memory. lane__prefix_fill: out is the prefix and its message. */
uint8_t *lane__prefix_reserve(const struct lane *l, struct chain *out);
void lane__prefix_fill(uint8_t *prefix, size_t len);

/* lane_watch.c */
/* A value of a watch does not open: that watch alone ends, if it can. */
enum lane_step lane__watch_cancel(struct lane *l, enum err e);
/* Keeps a copy of the ResponseHeader for responses of our own. */
void lane__remember_header(struct lane *l, struct bytes header);

#endif
