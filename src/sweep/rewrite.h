/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: values that are due, opened. Gives: them to etcd, as they would be written now. Owns:
 * the values that are on their way. Thread: its loop's.
 *
 * One Txn a value: while its mod_revision is the one that was read, the new value is put, with the
 * lease left as it is. If somebody wrote meanwhile, what he wrote is judged anew and rewritten only
 * if it is due itself. So nothing that anybody else wrote is lost, and what was interrupted is
 * taken up by looking at etcd again. */
#ifndef SWEEP_REWRITE_H
#define SWEEP_REWRITE_H

#include "etcd/message.h"
#include "sweep/etcd.h"
#include "sweep/sweep.h"

struct sweep_rewriter;

enum sweep_outcome {
    SWEEP_NOT_READABLE = 0, /* it was written meanwhile, and that does not open */
    SWEEP_TOO_LARGE,        /* etcd does not take it: sealed, a value is longer */
    SWEEP_BY_OTHERS,        /* somebody deleted it meanwhile, or wrote it as it is to be */
    SWEEP_REWRITTEN,
};

/* Borrowed for the call. */
struct sweep_rewritten {
    struct bytes key;
    const struct provider_list *list;
    enum sweep_state was; /* when it was taken */
    enum sweep_outcome outcome;
    size_t value_len;        /* as it lies in etcd now; REWRITTEN only */
    unsigned conflict_count; /* so many times somebody was quicker */
};

struct sweep_rewrite_opts {
    struct sweep_etcd *etcd;             /* borrowed, as all of this */
    const struct sweep_judge_env *judge; /* with a ring */
    unsigned parallel;                   /* values on their way at a time */
    uint64_t rate;                       /* values a second; 0: no limit */
    uint64_t byte_rate;                  /* bytes of new values a second; 0: no limit */
    /* Asked before each value is sealed with p: may it be, and while what holds? fence, and what it
     * borrows, is good until the loop's next turn. NULL: always, and nothing has to hold. */
    bool (*may_write)(void *user, const struct provider *p, struct etcd_fence *fence);
    /* A value is done; by now there is room for another one. */
    void (*on_done)(void *user, const struct sweep_rewritten *r);
    /* Nothing is written any more, once: a key can't be had (err_scope SCOPE_DEK), etcd is away
     * (ERR_UPSTREAM_AWAY), takes no more (ERR_SYSTEM: no space, no permission), it may not be any
     * more (ERR_AGAIN: may_write says so, or the fence does not hold), ERR_NOMEM, ... */
    void (*on_failed)(void *user, enum err e, const char *why);
    void *user;
};

/* Errors: ERR_NOMEM. */
MUST_CHECK enum err sweep_rewriter_new(const struct sweep_rewrite_opts *o,
                                       struct sweep_rewriter **out);
bool sweep_rewriter_has_room(const struct sweep_rewriter *w);
/* Nothing is on its way. */
bool sweep_rewriter_is_idle(const struct sweep_rewriter *w);
/* Takes a value that is due and open, while there is room. Errors: ERR_NOMEM. */
MUST_CHECK enum err sweep_rewriter_take(struct sweep_rewriter *w, const struct sweep_value *v);
/* Lets go of all; a Txn that was sent may be carried out all the same. Not from inside of on_done.
 */
void sweep_rewriter_free(struct sweep_rewriter *w);

#endif
