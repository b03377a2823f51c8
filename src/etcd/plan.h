/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: one gRPC message body as a chain. Gives: a plan (which bytes hold values), then the
 * edited message. Owns: plans. Thread: one.
 *
 * The three steps of a lane:
 *   etcd_scan_*   walks the wire bytes once; allocates no value and copies none
 *   (the lane)    fills the dek of every need: the only step that can wait
 *   etcd_apply_*  writes the output: SEAL and OPEN go straight into the outgoing slab, short KEEP
 *                 spans are copied there; long ones, and large opened values, are referenced
 *
 * A plan is a list of operations in wire order; each that lies in a sub-message whose length
 * changes names the LEN operation of that sub-message as its parent:
 *
 *   TxnRequest { success(2) { request_put(2) { key(1) value(2) } } }
 *   KEEP tag | LEN a | KEEP tag | LEN b(parent a) | KEEP key(b) | SEAL value(b) | KEEP rest
 *
 * Sealed and opened lengths are known from the envelope's header, so the LENs are computed before a
 * byte is written. */
#ifndef ETCD_PLAN_H
#define ETCD_PLAN_H

#include "envelope/envelope.h"
#include "etcd/ask.h"
#include "etcd/method.h"
#include "etcd/rules.h"
#include "etcd/sealed.h"

enum etcd_verdict {
    ETCD_REJECT = 0, /* plan.err says why */
    ETCD_AS_IS,      /* no protected value: forward byte for byte */
    ETCD_EDIT,
    ETCD_OPENED, /* all was done at once: direct.h */
};

/* A DEK that the plan needs: filled by the lane before apply. Equal ones are collapsed. */
struct etcd_need {
    bool is_write; /* the provider's present write key; id is void. kms v1: one for each value */
    const struct provider *provider;
    struct dek_id id; /* in the plan's arena */
    struct dek *dek;  /* a reference: set by the lane, dropped by the plan */
    /* Set by the lane instead of dek when the key can't be had: its values fail with this. So a
     * Watch still gets the events of earlier revisions. */
    enum err err;
    bool was_used; /* apply: a value was opened and authenticated with it */
    /* Set by the lane. Fresh: the DEK was unwrapped for this message, and nobody knows yet whether
     * it opens anything. Doubtful: it is not at hand, so its values are looked up among those that
     * a DEK did not open a moment ago (etcd_plan_check_doubtful). */
    bool is_fresh, is_doubtful;
    bool is_refused; /* of each of its values it is known that it does not open: not to be asked for
                      */
};

/* Values that were sealed or opened, or could not be, with the same of everything: for metrics. */
struct etcd_count {
    const struct provider_list *list;
    const struct provider *provider; /* NULL: the value fits none of the list */
    uint32_t key_index;              /* local-key kinds */
    uint32_t need;                   /* index into the plan's needs; UINT32_MAX: none */
    bool is_write;
    enum err err;
    size_t n;
};

struct etcd_op; /* plan_int.h */

/* What a WatchResponse says besides its events. */
struct etcd_watch_info {
    int64_t watch_id;
    bool created, canceled, has_events, has_header, is_fragment;
    bool is_swallowed; /* the watch was in state SWALLOW when the message began, its canceled answer
                          included: the caller drops the message */
    size_t header_at, header_len; /* the body of header(1), in the scanned chain; a stream's header
                                   * is etcd_large_header */
};

/* A value that its DEK, a fresh one, did not open. */
struct etcd_unopened {
    enum err err; /* ERR_OK: there was none in the last apply */
    uint32_t need;
    uint8_t digest[DEK_DIGEST_LEN]; /* envelope_value_digest */
};

/* What of an answer was opened before its plan was made (direct.h): apply goes on behind it. */
struct etcd_part {
    size_t at;          /* bytes of the message */
    uint32_t seen;      /* the fields of its root that were met: a bit for each */
    size_t out_len;     /* what became of them, at the end of the output */
    size_t opened;      /* values */
    size_t count_count; /* the first of the plan's counts are theirs */
};

/* Reused for message after message of a lane. Zero-initialised is empty and valid. */
struct etcd_plan {
    struct arena arena;
    struct etcd_op *ops;
    size_t op_count, op_cap;
    struct etcd_need *needs;
    size_t need_count, need_cap;
    uint32_t *need_slots; /* hash table over needs, once there are more than a few; index + 1 */
    size_t need_slot_count;
    uint32_t need_last;   /* the one that was used last */
    enum err err;         /* of the last failed step */
    struct bytes bad_key; /* the key that it concerns, in arena; empty when none */
    uint32_t bad_field;   /* ERR_REQ_UNKNOWN_FIELD and the like: the field number */
    struct etcd_watch_info watch;
    size_t sealed, opened, plain; /* counts of the last apply, for metrics; plain: identity reads */
    /* The same by provider; plain ones since the scan. One that there is no memory for is missing.
     */
    struct etcd_count *counts;
    size_t count_count, count_cap;
    struct etcd_part part;
    struct etcd_unopened unopened;
    /* The caller's, for the next call of an apply function: it does about so many bytes' work, and
     * says ERR_AGAIN when there is more to be done. 0: all of it. */
    size_t apply_max;
    struct etcd__apply *going; /* where it has got to: in the arena; NULL: at no place */
};

/* Drops references and forgets the last message; keeps memory. */
void etcd_plan_reset(struct etcd_plan *p);
void etcd_plan_fini(struct etcd_plan *p);
/* Bytes of memory that it has now. */
size_t etcd_plan_size(const struct etcd_plan *p);
/* The answer is refused, so what was opened of it does not count. */
void etcd_plan_forget_part(struct etcd_plan *p);
/* Counts the first value whose need failed with e as failed, and names its key in bad_key. */
void etcd_plan_count_missing(struct etcd_plan *p, enum err e);

/* Is it remembered of the value with that digest that the need's DEK does not open it? The error
 * with which it did not, or ERR_OK. */
typedef enum err (*etcd_refusal_fn)(void *user, const struct etcd_need *need,
                                    const uint8_t digest[static DEK_DIGEST_LEN]);
/* Looks up the values of all doubtful needs; msg is what the plan was made of. alone: a value that
 * is refused fails by itself when apply comes to it, and a need that has no other is_refused.
 * Otherwise the first one is the answer: counted, with its key in bad_key. Errors: what refusal
 * says, ERR_RANDOM. */
MUST_CHECK enum err etcd_plan_check_doubtful(struct etcd_plan *p, struct envelope_ctx *ctx,
                                             const struct chain *msg, bool alone,
                                             etcd_refusal_fn refusal, void *user);

/* Scans a request (p is reset first). Adds to ask what it asks for (Watch: a create). content
 * OPAQUE and MEMBERS need no scan. On ETCD_REJECT p->err is one of ERR_PROTOBUF, ERR_REQ_*,
 * ERR_NOMEM, ERR_MEMORY_LIMIT (too many watches). */
MUST_CHECK enum etcd_verdict etcd_scan_request(struct etcd_plan *p, enum etcd_content content,
                                               const struct etcd_rules *rules,
                                               const struct chain *msg, struct etcd_ask *ask);

/* Scans a whole answer (p is reset first). Watch: p->watch is filled, and the watch's id is bound
 * (etcd_ask_created) or forgotten (etcd_ask_canceled); for a watch in state SWALLOW nothing but
 * p->watch is filled and the verdict is ETCD_AS_IS: the caller drops the message. On ETCD_REJECT
 * p->err is one of ERR_ANS_*, a stored-value class, ERR_NOMEM. */
MUST_CHECK enum etcd_verdict etcd_scan_answer(struct etcd_plan *p, enum etcd_content content,
                                              const struct etcd_rules *rules,
                                              const struct chain *msg, struct etcd_ask *ask);

/* An apply function has said ERR_AGAIN: it is to be called again, with the same arguments, until it
 * says something else. What it has done so far lies in out, which is not to be touched meanwhile,
 * nor is msg. */
static inline bool etcd_plan_is_going(const struct etcd_plan *p)
{
    return p->going != NULL;
}

/* ETCD_EDIT of a request: every need has its dek. Takes msg; appends to out. All or nothing.
 * ERR_AGAIN: see above. Errors: ERR_CRYPTO, ERR_RANDOM, ERR_NOMEM, ERR_REQ_SEALED_VALUE; then out
 * is empty. */
MUST_CHECK enum err etcd_apply_request(struct etcd_plan *p, struct envelope_ctx *ctx,
                                       struct slab_pool *pool, struct chain *msg,
                                       struct sealed_msg *out);
/* The verdict was ETCD_AS_IS, or the method's content is opaque (ETCD_OPAQUE, ETCD_MEMBERS...).
 * Takes msg; appends to out. verdict is passed for the CHECK that nobody comes here with a plan
 * that edits. Errors: ERR_NOMEM; then out is empty. */
MUST_CHECK enum err etcd_passthrough(enum etcd_verdict verdict, struct chain *msg,
                                     struct sealed_msg *out);

/* ETCD_EDIT of an answer. Takes msg; appends to out. Errors: ERR_AUTH_FAILED and the like with
 * p->bad_key; then out has nothing added — but for Watch: if events of earlier revisions than the
 * failing one stand before it in this message (and it is no fragment), out gets a whole
 * WatchResponse with these. */
MUST_CHECK enum err etcd_apply_answer(struct etcd_plan *p, struct envelope_ctx *ctx,
                                      struct slab_pool *pool, struct chain *msg, struct chain *out);

#endif
