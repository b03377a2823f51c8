/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of etcd/ share: providers with a fixed DEK, rules, chains cut in every way, and
 * the three steps of a lane in one call. */
#ifndef TESTS_UNIT_ETCD_FIXTURE_H
#define TESTS_UNIT_ETCD_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "ask_like.h"
#include "etcd/plan.h"

#define FIX_DEKS 3

/* Rules: /registry/secrets [kms], /registry/configmaps [kms identity], /registry/moving [identity
 * kms], /registry [kms] but for /registry/open; nothing else is protected. */
struct fix {
    struct slab_pool pool;
    struct envelope_ctx *ctx;
    struct dek *deks[FIX_DEKS]; /* [0] is the write key */
    struct local_key cbc_key;
    struct provider kms, identity, cbc;
    const struct provider *kms_only[1], *kms_identity[2], *identity_kms[3], *cbc_only[1],
        *kms_cbc[2];
    struct provider_list secrets, configmaps, moving, local, fromcbc;
    struct etcd_rules *rules;
    uint64_t random;
};

void fix_init(struct fix *f);
void fix_fini(struct fix *f); /* every slab must have come back */

uint32_t fix_random(struct fix *f, uint32_t below);

/* Owned bytes. */
struct buf {
    uint8_t *p;
    size_t n;
    size_t cap; /* 0: just n */
};
void buf_free(struct buf *b);
struct buf buf_of(const void *p, size_t n);
struct buf buf_chain(struct chain *c); /* frees the chain */
void buf_add(struct buf *b, const void *p, size_t n);
/* Wire pieces: a varint field, a length-delimited one. */
void buf_varint(struct buf *b, uint32_t number, uint64_t v);
void buf_field(struct buf *b, uint32_t number, const void *p, size_t n);
void buf_str(struct buf *b, uint32_t number, const char *s);
void buf_sub(struct buf *b, uint32_t number, struct buf *sub); /* frees sub */

/* A chain of bytes, cut at the given offsets (ascending); every piece in a slab of its own. */
void fix_chain(struct fix *f, const void *p, size_t n, const size_t *cuts, size_t count,
               struct chain *out);
/* Cut at up to count random places. */
void fix_chain_random(struct fix *f, const void *p, size_t n, size_t count, struct chain *out);

/* How much of an apply is done at a time: everything, one operation, or some, in turn. What comes
 * of it must be the same. */
size_t fix_apply_max(void);
/* Gives every need its DEK. */
void fix_resolve(struct fix *f, struct etcd_plan *p);
/* A stored value under deks[dek]. */
struct buf fix_seal(struct fix *f, size_t dek, const char *key, const void *value, size_t n);
/* The same under the local key of aescbc. */
struct buf fix_seal_cbc(struct fix *f, const char *key, const void *value, size_t n);
/* The plaintext of a stored value; fails the test if it does not open. */
struct buf fix_open(struct fix *f, const char *key, const void *value, size_t n);

struct run {
    enum etcd_verdict verdict;
    enum err err;      /* of scan or apply */
    struct buf out;    /* the message that goes on (as it came in for AS_IS) */
    char bad_key[256]; /* of the plan */
    uint32_t bad_field;
    size_t needs, sealed, opened, plain;
    struct etcd_watch_info watch;
};
void run_free(struct run *r);
/* Scan, resolve, apply. ask may be NULL (requests). Takes msg. */
void fix_request(struct fix *f, enum etcd_content content, struct chain *msg, struct etcd_ask *ask,
                 struct run *r);
void fix_answer(struct fix *f, enum etcd_content content, struct chain *msg, struct etcd_ask *ask,
                struct run *r);
/* An ask of one range; end may be NULL. */
void fix_ask(struct etcd_ask *ask, const char *key, const char *end, bool keys_only);

bool bytes_contain(const void *p, size_t n, const char *what);

#endif
