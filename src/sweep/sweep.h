/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: a rule set, a source of values. Gives: each protected value and its state, to a sink.
 * Owns: one page of values at a time. Thread: its loop's.
 *
 * The run over all values of the protected prefixes, in the order of their keys, at one revision.
 * When etcd compacts it away meanwhile, the run goes on behind the last key at the present one:
 * each key that was there all the time is seen once, at a revision that the run tells of. */
#ifndef SWEEP_SWEEP_H
#define SWEEP_SWEEP_H

#include "sweep/judge.h"
#include "sweep/ranges.h"
#include "sweep/source.h"

struct sweep;

/* Borrowed for the call to the sink. */
struct sweep_value {
    struct etcd_kv kv;
    const struct provider_list *list; /* its resource is the value's */
    const struct sweep_verdict *verdict;
    struct slice plain; /* slice_ref to keep, until before sweep_stop; empty: not opened */
};

enum sweep_go {
    SWEEP_GO = 0,    /* the next value */
    SWEEP_WAIT,      /* the sink has taken this one, and takes the next after sweep_resume */
    SWEEP_NO_MEMORY, /* the sink can't go on: the run ends with ERR_NOMEM */
};

struct sweep_opts {
    const struct ruleset *rules;         /* borrowed, as all of this */
    const struct sweep_filter *filter;   /* what is wanted of it */
    const struct sweep_judge_env *judge; /* its ring NULL: nothing is opened */
    struct sweep_source *source;
    bool is_sample; /* the first page of each range is enough */
    enum sweep_go (*on_value)(void *user, const struct sweep_value *v);
    /* The end, once; not after sweep_stop. Errors: those of the source and of sweep_judge_start,
     * ERR_ANS_OUTSIDE (the source gave a key that was not asked for, or not in order). */
    void (*on_end)(void *user, enum err e, const char *why);
    void *user;
};

/* At which revisions a run read. */
struct sweep_position {
    struct etcd_header first, last; /* equal when the run had one revision */
    unsigned compacted_count;       /* so many times it had to go on at a new one */
    uint64_t value_count;           /* values that the sink was told of */
};

/* Begins; the sink is called from the loop. Errors: ERR_NOMEM. */
MUST_CHECK enum err sweep_start(const struct sweep_opts *o, struct sweep **out);
/* Goes on after SWEEP_WAIT; ignored when the run does not wait. */
void sweep_resume(struct sweep *s);
const struct sweep_position *sweep_position(const struct sweep *s);
/* Ends the run, wherever it is, and frees it. */
void sweep_stop(struct sweep *s);

#endif
