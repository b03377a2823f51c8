/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: an answer. Gives: the opened answer, in one pass, as far as it is of the usual form.
 * Owns: nothing. Thread: one.
 *
 * What etcd nearly always sends is a list of KeyValues with their fields in order, all sealed with
 * a DEK that is at hand. Such an answer takes no plan: each KeyValue is judged as the scan judges
 * it, and opened straight to the output. Whatever is not so (order, unknown or doubled fields, a
 * key that was not asked for or is not protected, plaintext, a key that is not at hand, a tag
 * that fails) is taken back and left to scan and apply: there alone are verdicts and errors. So
 * what comes out, what is counted and what is refused is what these would have made of it. */
#ifndef ETCD_DIRECT_H
#define ETCD_DIRECT_H

#include "etcd/large.h"
#include "etcd/plan.h"

/* What it takes to open at once. */
struct etcd_direct {
    struct envelope_ctx *ctx;
    struct slab_pool *pool;
    /* The DEK that id names, or, when id is NULL, whose tail it is; NULL when it is not at hand.
     * Nobody is asked for it. Borrowed until the next call. */
    struct dek *(*find)(void *user, const struct provider *provider, const struct dek_id *id,
                        struct bytes tail);
    void *user;
};

/* A whole answer: etcd_scan_answer, but what can be is opened at once. p is reset first.
 * ETCD_OPENED: all of it was appended to out, and p has the counts; msg may have been written to
 * and is the caller's to drop. ETCD_EDIT: etcd_apply_answer goes on with the same out, which may
 * hold a part that must not be sent before. Else out is as it was. */
MUST_CHECK enum etcd_verdict etcd_direct_answer(struct etcd_plan *p, enum etcd_content content,
                                                const struct etcd_rules *rules, struct chain *msg,
                                                struct etcd_ask *ask,
                                                const struct etcd_direct *with, struct chain *out);

enum etcd_direct_step {
    ETCD_DIRECT_BAD = 0, /* ERR_NOMEM, in plan.err */
    ETCD_DIRECT_BATCH,   /* something was opened */
    ETCD_DIRECT_MORE,    /* a KeyValue is next that has not arrived: no more is to be had now */
    ETCD_DIRECT_NONE,    /* what is next is not of the usual form: etcd_large_next */
};

/* A large answer: before etcd_large_next, opens what has arrived at the begin of in. p is reset
 * first, unless that has said ETCD_LARGE_AGAIN: then it is ETCD_DIRECT_NONE. On ETCD_DIRECT_BATCH
 * it was taken from in, and appended to out as etcd_large_apply appends a batch; else both are as
 * they were. */
MUST_CHECK enum etcd_direct_step etcd_large_direct(struct etcd_large *st, struct chain *in,
                                                   struct etcd_plan *p,
                                                   const struct etcd_direct *with,
                                                   struct chain *out);

#endif
