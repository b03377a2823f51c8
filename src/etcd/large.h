/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: a large answer while it arrives. Gives: batches of it, each with a plan. Owns: the
 * parse state. Thread: one.
 *
 * The length of a gRPC message stands before it, so a list whose values shrink can't be sent before
 * it is whole, unless the announced length is kept. Three modes:
 *
 *   FILL       Range, Put, DeleteRange, Txn: the lengths of the message and of every message down
 *              to the one that holds the KeyValues stay as announced. Each KeyValue is rewritten
 *              exactly; what that saves is paid back at the end of the message that holds the
 *              KeyValues, as one unknown length-delimited field 19999 of zeros (two where the size
 *              is not reachable by one), without over-long varints.
 *   SPLIT_KV   RangeStream: pieces between KeyValues, each an exact message; header, more, count
 *              and unknown fields in the last one.
 *   SPLIT_REV  Watch: pieces between revisions; header and watch_id repeated, fragment kept on the
 *              last.
 *
 * A batch is what has arrived and is complete: KeyValues (events of whole revisions), at most about
 * batch_max bytes. */
#ifndef ETCD_LARGE_H
#define ETCD_LARGE_H

#include "etcd/plan.h"

struct etcd_large;

#define ETCD_LARGE_EVENT_COST 256u /* bytes of batch_max for each event that is planned at a time */

enum etcd_large_step {
    ETCD_LARGE_BAD = 0, /* plan.err says why */
    ETCD_LARGE_BATCH,   /* batch and plan are filled: resolve, then etcd_large_apply */
    ETCD_LARGE_MORE,    /* nothing complete yet */
    ETCD_LARGE_AGAIN,   /* a part of the batch is planned: call again, with the same plan */
    ETCD_LARGE_DONE,    /* the message is over and all of it was given out */
};

/* announced: the length in the gRPC prefix. batch_max: a batch ends behind the unit with which it
 * has this many bytes. Errors: ERR_NOMEM. */
MUST_CHECK enum err etcd_large_new(enum etcd_content content, const struct etcd_rules *rules,
                                   struct etcd_ask *ask, uint32_t announced, size_t batch_max,
                                   struct etcd_large **out);
void etcd_large_free(struct etcd_large *s);

/* Takes what is complete from in (which holds only bytes of this message) to batch (empty) and
 * plans it. The plan may need no edit at all. A unit (KeyValue, revision) over LIMIT_ANSWER_UNIT is
 * ERR_MEMORY_LIMIT. Watch: the info of the header is in p->watch, as with etcd_scan_answer; for a
 * SWALLOW watch batches have to be dropped by the caller. A revision may have a million events, so
 * they are planned in turns of batch_max / ETCD_LARGE_EVENT_COST: ETCD_LARGE_AGAIN, with nothing
 * taken from in, which may grow meanwhile. */
MUST_CHECK enum etcd_large_step etcd_large_next(struct etcd_large *s, struct chain *in,
                                                struct etcd_plan *p, struct chain *batch);
/* Watch, once a batch was given out: the body of the message's header(1), empty when it has none.
 * Valid until it is freed. */
struct bytes etcd_large_header(const struct etcd_large *s);
/* Bytes of the message not yet taken from in. */
size_t etcd_large_left(const struct etcd_large *s);
/* Applies the plan of the last batch; appends to out. FILL: raw bytes of the one message. SPLIT:
 * one whole message body (the caller puts its own gRPC prefix before it), or nothing. Takes batch.
 * Errors: as etcd_apply_answer; then FILL adds nothing to out. */
MUST_CHECK enum err etcd_large_apply(struct etcd_large *s, struct etcd_plan *p,
                                     struct envelope_ctx *ctx, struct slab_pool *pool,
                                     struct chain *batch, struct chain *out);
/* FILL only, after a failure: appends filler from where the last good batch ended, so that the
 * announced length and those of the messages inside hold and the message parses. What etcd has
 * announced but not sent is not ours to make up: filler never exceeds LIMIT_FILLER or, if that is
 * more, what etcd has sent of the message. todo: bytes of the message that etcd has not sent yet;
 * as they come (the caller drops them) this is called again, until etcd_large_is_filled. Errors:
 * ERR_NOMEM; then the message can't be completed. */
MUST_CHECK enum err etcd_large_fill(struct etcd_large *s, struct slab_pool *pool, size_t todo,
                                    struct chain *out);
/* All that was announced has gone out. */
bool etcd_large_is_filled(const struct etcd_large *s);

#endif
