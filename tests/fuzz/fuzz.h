/* SPDX-License-Identifier: Apache-2.0 */
/* What the fuzz targets share: a cursor over the input, chains whose pieces end at the end of their
 * slab (a read past one is seen), a provider with fixed DEKs, rules, and sealing and opening.
 *
 * A target is LLVMFuzzerTestOneInput in a file of its own. Built by clang with ENVELOPE_FUZZ it is
 * linked with libFuzzer; everywhere else with replay.c, which runs the corpus. What must not
 * happen is a CHECK. */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stdlib.h>

#include "etcd/plan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The target got to what it is for: an input was accepted and the result was compared. replay.c
 * fails when no file of the corpus came so far. */
void fuzz_deep(void);
size_t fuzz_deep_count(void);

/* --- the input --- */

uint8_t fuzz_u8(struct bytes *in); /* 0 at the end */
uint16_t fuzz_u16(struct bytes *in);
struct bytes fuzz_take(struct bytes *in, size_t n); /* at most what is there */

/* Owned bytes, as long as their allocation. */
struct buf {
    uint8_t *p;
    size_t n;
};
struct buf buf_of(struct bytes b);
struct buf buf_chain(const struct chain *c);
void buf_free(struct buf *b);
static inline struct bytes buf_bytes(const struct buf *b)
{
    return bytes_of(b->p, b->n);
}
bool bytes_contain(struct bytes b, struct bytes what);

/* Up to 3 damages, 3 bytes each: where, and what to xor; 0 cuts the rest off. */
struct fuzz_damage {
    unsigned count;
    struct {
        uint16_t at;
        uint8_t what;
    } v[3];
};
struct fuzz_damage fuzz_damage_take(struct bytes *in, unsigned count);
void fuzz_damage_do(const struct fuzz_damage *d, struct buf *b);

/* --- the kit --- */

#define KIT_DEKS 4 /* the last is of type 0, the others are seeds; [0] is the write key */
#define KIT_PREFIX "k8s:enc:kms:v2:one:"

/* Rules: /registry/secrets [kms], /registry/configmaps [kms identity], /registry/moving [identity
 * kms], /registry [kms] but for /registry/open; nothing else is protected. */
struct kit {
    struct slab_pool pool;
    struct envelope_ctx *ctx;
    struct dek *deks[KIT_DEKS];
    struct provider kms, identity;
    const struct provider *kms_only[1], *kms_identity[2], *identity_kms[2];
    struct provider_list secrets, configmaps, moving;
    struct etcd_rules *rules;
    uint64_t random;
};

/* The one kit of the process, its randomness set to seed: an input always runs the same way. */
struct kit *kit_get(uint16_t seed);
/* At the end of an input: every slab has come back. */
void kit_done(struct kit *k);
uint32_t kit_random(struct kit *k, uint32_t below);

/* A chain of the bytes, cut at up to pieces - 1 random places. */
void kit_chain(struct kit *k, struct bytes b, uint32_t pieces, struct chain *out);
/* Gives every need its DEK; those that the kit does not know get an error. */
void kit_resolve(struct kit *k, struct etcd_plan *p);
/* The stored value of plain. */
struct buf kit_seal(struct kit *k, const struct dek *dek, struct bytes key, struct bytes plain);
/* The DEK that id names, or NULL. */
struct dek *kit_dek(const struct kit *k, const struct dek_id *id);
/* Opens a stored value by the list of its key. False: it is not sealed, or does not open. */
bool kit_open(struct kit *k, struct bytes key, struct bytes stored, struct buf *plain);
/* Is plaintext under this key refused? (a list without identity) */
bool kit_is_strict(const struct kit *k, struct bytes key);
/* Are values under this key sealed when written? */
bool kit_is_sealing(const struct kit *k, struct bytes key);

/* In place, for a value of a chain: *plain_at is the chain offset of the plaintext. */
static inline enum err fuzz_open_in_place(struct envelope_ctx *ctx, const struct envelope_value *v,
                                          const struct dek *dek, struct bytes aad, struct chain *in,
                                          size_t *plain_at)
{
    *plain_at = v->data_at + v->plain_at;
    return envelope_open(ctx, v, dek, aad, chain_seek(in, v->data_at), NULL);
}

#endif
