/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: a rule set, etcd. Gives: how many stored values are in which state, and, when asked to,
 * to etcd what is due as it would be written now. Owns: its run. Thread: its loop's.
 *
 * What a rewriting pass stops at is what stops reencrypt: a database that has grown to its bound,
 * the alarm NOSPACE, an etcd or a plugin that is away, a refusal. Values with a lease are left, for
 * they end by themselves, and so are sealed ones of a list that writes plaintext now. */
#ifndef CONVERGE_PASS_H
#define CONVERGE_PASS_H

#include "sweep/rewrite.h"

struct converge_pass;

struct converge_count {
    uint64_t v[SWEEP_STATE_COUNT];
};

/* What came of it. Borrowed for the call. */
struct converge_result {
    enum err err;    /* of sweep_start and sweep_rewriter_new, with why; ERR_AGAIN: it may not be
                        rewritten any more; ERR_SYSTEM: etcd takes no more writes, or refuses */
    const char *why; /* "" when err is ERR_OK */
    const struct converge_count *counts; /* one for each list of the rule set; complete if ERR_OK */
    uint64_t due; /* values that a rewriting pass would have rewritten, and this one did not */
    uint64_t rewritten; /* by this pass */
};

struct converge_pass_opts {
    struct loop *loop;
    struct sweep_etcd *etcd; /* borrowed, as all of this */
    const struct ruleset *rules;
    const struct sweep_judge_env *judge; /* with a ring */
    bool is_rewriting;
    uint64_t rate;             /* values a second, when it is */
    uint64_t max_db_size;      /* 0: 80 % of etcd's quota */
    struct net_tls *tls_http1; /* see sweep_space_opts */
    /* See sweep_rewrite_opts. */
    bool (*may_write)(void *user, const struct provider *p, struct etcd_fence *fence);
    /* The end, once, from the loop; converge_pass_free is due, and may be called from inside. */
    void (*on_end)(void *user, const struct converge_result *r);
    void *user;
};

/* Errors: ERR_NOMEM. */
MUST_CHECK enum err converge_pass_new(const struct converge_pass_opts *o,
                                      struct converge_pass **out);
bool converge_pass_is_rewriting(const struct converge_pass *p);
/* Wherever it is; on_end is not called any more. A rewrite that was sent may be carried out. */
void converge_pass_free(struct converge_pass *p);

#endif
