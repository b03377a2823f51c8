/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of etcd/large share: answers of every kind with sealed or clear values, a feeder
 * that runs the three steps on whatever arrives, and what a message says without its fillers. */
#ifndef TESTS_UNIT_ETCD_LARGE_KIT_H
#define TESTS_UNIT_ETCD_LARGE_KIT_H

#include "fixture.h"

#include "etcd_rpc.pb-c.h"
#include "etcd/large.h"

#define SECRET "/registry/secrets/default/"

extern struct fix fix;

int kit_setup(void **state);
int kit_teardown(void **state);

/* KeyValue i of value_len bytes as field number; every fifth is not protected. is_stored: its value
 * is sealed, as it lies in etcd. */
void kit_add_kv(struct buf *b, uint32_t number, int i, size_t value_len, bool is_stored,
                int64_t revision);
void kit_add_header(struct buf *b);
struct buf kit_range(int n, size_t value_len, bool is_stored);
struct buf kit_put(bool is_stored);
struct buf kit_delete_range(int n, bool is_stored);
/* A ResponseOp with sub as its member. Frees sub. */
void kit_add_response(struct buf *b, uint32_t member, struct buf sub);
/* Every kind of operation, and a Txn inside, depth times. */
struct buf kit_txn(unsigned depth, bool is_stored);

struct feed {
    struct etcd_large *large;
    struct etcd_ask ask;
    struct etcd_plan plan;
    struct chain in, out;
    size_t fed;
    enum err err; /* BAD, or of apply */
    bool is_done;
    size_t batches;
    size_t turns;    /* a batch was planned in more than one */
    size_t ops_most; /* that a plan had */
    bool may_stop;   /* between two of them more bytes may come */
    char bad_key[64];
    /* SPLIT: called with each piece */
    void (*on_piece)(void *arg, const struct buf *piece);
    void *arg;
};

/* An ask that the answer like fits. */
void feed_init(struct feed *f, enum etcd_content content, const struct buf *like);
void feed_init_batch(struct feed *f, enum etcd_content content, const struct buf *like,
                     size_t announced, size_t batch_max);
void feed_fini(struct feed *f);
/* Takes what can be taken until more has to arrive. */
void feed_run(struct feed *f);
void feed_bytes(struct feed *f, const uint8_t *p, size_t n);
/* Up to byte upto of in, in pieces of 1..max bytes. */
void feed_all(struct feed *f, const struct buf *in, size_t upto, size_t max);

const ProtobufCMessageDescriptor *kit_type_of(enum etcd_content content);
/* The canonical form of a message without fillers; fails the test when it does not parse. */
struct buf kit_canonical(enum etcd_content content, const struct buf *in);
void assert_buf_equal(const struct buf *a, const struct buf *b);

#endif
