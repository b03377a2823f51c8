/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of envelope/.
 *
 *   open.c, seal.c    the exported functions: walk the provider list, dispatch by kind
 *   provider.c        the table of kinds, and identity
 *   kmsv2.c           kms v2: prefix and EncryptedObject around the ciphertext
 *   kmsv2_gcm.c       kms v2: the ciphertext
 *   object.c          EncryptedObject's wire format
 *   kmsv1.c           kms v1
 *   local.c           aesgcm, aescbc, secretbox: providers with a list of keys
 *   gcm.c, cbc.c, secretbox.c   the ciphers on chains
 *   dek.c, dek_id.c   keys and their names;  hash.c  SHA-256;  kdf.c  HKDF;  ctx.c  cipher contexts
 *   value_digest.c    what a value is remembered by that did not open */
#ifndef ENVELOPE_ENVELOPE_INT_H
#define ENVELOPE_ENVELOPE_INT_H

#include <openssl/evp.h>

#include "envelope/envelope.h"

#define ENVELOPE__INFO_LEN 32u
#define ENVELOPE__NONCE_LEN 12u
#define ENVELOPE__TAG_LEN 16u
#define ENVELOPE__KEY_MAX 32u /* AES-256 */
#define ENVELOPE__DIGEST_KEY_LEN 32u
#define ENVELOPE__BLOCK_LEN 16u                    /* of AES */
#define ENVELOPE__SEALED_MAX (1024u * 1024 * 1024) /* what slab_new gives at most */
/* What we take as a wrapped DEK of kms v1, whose field goes up to 65535. Its names may contain
 * ':', so a value of "a:b" also has the prefix of "a"; then its length field would be two
 * characters of a name, thus 0x2000 and more: too long, and the right provider is found without
 * asking the plugin of the wrong one. */
#define ENVELOPE__V1_WRAPPED_MAX 0x1fffu

/* --- ctx.c ----------------------------------------------------------------------------------- */

/* Modes, each with the AES key sizes in the order of the context arrays. */
enum envelope__mode { ENVELOPE__GCM, ENVELOPE__CBC, ENVELOPE__MODE_COUNT };
enum envelope__aes { ENVELOPE__AES_128, ENVELOPE__AES_192, ENVELOPE__AES_256, ENVELOPE__AES_COUNT };

/* An OpenSSL context that is bound to its cipher once and then only rekeyed: binding it anew with
 * every key costs more than the key schedule. */
struct envelope__cipher {
    EVP_CIPHER *evp; /* fetched at start */
    EVP_CIPHER_CTX *seal, *open;
    bool seal_bound, open_bound; /* false after a wipe */
};

/* HKDF of OpenSSL's provider: where FIPS's algorithms are asked for (base/fips.h). */
struct envelope__kdf {
    struct evp_kdf_ctx_st *ctx; /* NULL: keys are derived by hash.c */
    bool is_bound;              /* it has a digest, a mode, and the last key */
};

struct envelope_ctx {
    envelope_random_fn random;
    void *random_arg;
    struct envelope__cipher aes[ENVELOPE__MODE_COUNT][ENVELOPE__AES_COUNT];
    struct envelope__kdf kdf;
    struct envelope__memo *memo; /* NULL until a value may come again */
    bool has_digest_key;         /* of value_digest.c: made when it is first needed */
    uint8_t digest_key[ENVELOPE__DIGEST_KEY_LEN];
};

/* Contexts ready for EncryptUpdate or DecryptUpdate under key and nonce, with the AAD (and, to
 * open, the tag) taken. key_len is 16, 24 or 32. Borrowed until the next call. Errors:
 * ERR_CRYPTO. */
MUST_CHECK enum err envelope__gcm_seal_start(struct envelope_ctx *ctx, struct bytes key,
                                             const uint8_t nonce[static ENVELOPE__NONCE_LEN],
                                             struct bytes aad, EVP_CIPHER_CTX **out);
MUST_CHECK enum err envelope__gcm_open_start(struct envelope_ctx *ctx, struct bytes key,
                                             const uint8_t nonce[static ENVELOPE__NONCE_LEN],
                                             struct bytes aad,
                                             const uint8_t tag[static ENVELOPE__TAG_LEN],
                                             EVP_CIPHER_CTX **out);
/* The same for AES-CBC; sealing pads, opening leaves the padding to the caller. */
MUST_CHECK enum err envelope__cbc_seal_start(struct envelope_ctx *ctx, struct bytes key,
                                             const uint8_t iv[static ENVELOPE__BLOCK_LEN],
                                             EVP_CIPHER_CTX **out);
MUST_CHECK enum err envelope__cbc_open_start(struct envelope_ctx *ctx, struct bytes key,
                                             const uint8_t iv[static ENVELOPE__BLOCK_LEN],
                                             EVP_CIPHER_CTX **out);
/* Notes a failure of the crypto library; empties its error queue, which nobody reads. */
enum err envelope__crypto_failed(enum err e);

/* --- hash.c ---------------------------------------------------------------------------------- */

/* Fills *derived (base/secret.h memory of envelope__hmac_size() bytes) with the two SHA-256 states
 * that HMAC with this key begins from. */
size_t envelope__hmac_size(void);
void envelope__hmac_init(void *derived, struct bytes key);
/* HKDF-Expand-SHA256(PRK = the key, info, L = 32): one block (RFC 5869 section 2.3). */
void envelope__hkdf_expand(const void *derived, struct bytes info,
                           uint8_t out[static ENVELOPE__KEY_MAX]);

/* --- kdf.c ----------------------------------------------------------------------------------- */

/* Errors: ERR_CRYPTO: no provider has it. fini in any case. */
MUST_CHECK enum err envelope__kdf_init(struct envelope__kdf *k);
void envelope__kdf_fini(struct envelope__kdf *k);
/* Takes the last key out of it. */
void envelope__kdf_wipe(struct envelope__kdf *k);
/* The same as envelope__hkdf_expand; info is not empty, which OpenSSL 3.0 does not take well.
 * Errors: ERR_CRYPTO. */
MUST_CHECK enum err envelope__kdf_expand(struct envelope__kdf *k, struct bytes key,
                                         struct bytes info, uint8_t out[static ENVELOPE__KEY_MAX]);

/* --- object.c -------------------------------------------------------------------------------- */

/* An EncryptedObject as Go's decoder sees it. All bytes borrow from what was parsed. */
struct envelope__object {
    bool has_data;
    struct bytes data; /* valid when has_data; may be empty */
    struct dek_id id;  /* annotations in the arena, in order */
};

/* Parses the fields in in, which is contiguous: a whole EncryptedObject or the end of one. Errors:
 * ERR_PROTOBUF_MALFORMED, ERR_INVALID_UTF8, ERR_ANNOTATIONS_INVALID (so many that they can't be
 * valid), ERR_NOMEM. */
MUST_CHECK enum err envelope__object_parse(struct bytes in, struct arena *arena,
                                           struct envelope__object *out);
/* Fields 2..5 as Go writes them, annotations in the order of id. The length, and the bytes; with
 * into, id's copy that points into them. */
size_t envelope__object_tail_len(const struct dek_id *id);
void envelope__object_tail_put(uint8_t *out, const struct dek_id *id, struct dek_id *into,
                               struct dek_annotation *annotations);

/* --- provider.c ------------------------------------------------------------------------------ */

/* A provider whose prefix a stored value has. */
struct envelope__candidate {
    const struct provider *provider;
    struct chain_pos body; /* behind the prefix */
    size_t body_len;
};

/* What identify found, and what a candidate needs to open into scratch. */
struct envelope__job {
    const struct envelope_value *value;
    const struct dek *dek; /* what value->id names; NULL when it names nothing */
    struct bytes aad;
    struct slab_pool *pool;
};

struct envelope__local; /* of local.c */

/* What a kind of provider is like and can do. A function that is NULL is refused. */
struct envelope__kind {
    struct provider_traits traits;
    /* Fills form, needs_dek, data_at, data_len, plain_len, plain_at and id of out; the local-key
     * kinds also key_index, is_stale and earlier; kms v2 also tail. like: as for
     * envelope_identify. */
    enum err (*identify)(const struct envelope__candidate *c, struct arena *arena,
                         const struct envelope_value *like, struct envelope_value *out);
    enum err (*open)(struct envelope_ctx *ctx, const struct envelope_value *v,
                     const struct dek *dek, struct bytes aad, struct chain_pos data, uint8_t *out);
    /* *opened comes in as zero. The caller adds to opened->stale what the list index says. */
    enum err (*open_scratch)(struct envelope_ctx *ctx, const struct envelope__candidate *c,
                             const struct envelope__job *job, struct slice *out,
                             struct envelope_opened *opened);
    enum err (*sealed_len)(const struct provider *provider, const struct dek *dek, size_t plain_len,
                           size_t *out);
    enum err (*seal)(struct envelope_ctx *ctx, const struct provider *provider,
                     const struct dek *dek, struct bytes aad, struct chain_pos in, size_t len,
                     uint8_t *out);
    const struct envelope__local *local; /* local-key kinds: the cipher */
    /* A failed read is forgotten: reading goes on as if the list did not have this provider. */
    bool errors_are_ignored;
};

/* Whether no other candidate may be tried after this error: it says nothing about the value. */
static inline bool envelope__ends_the_search(enum err e)
{
    return e != ERR_OK && !err_is_of_value(e);
}

/* Never NULL: an unknown kind can do nothing. */
const struct envelope__kind *envelope__kind(const struct provider *p);
/* Whether the value of len bytes at pos begins with p's prefix; then fills c. */
MUST_CHECK bool envelope__candidate(const struct provider *p, const struct chain_pos *pos,
                                    size_t len, struct envelope__candidate *c);

/* The len bytes at pos in one piece: where they lie, or a copy in the arena. */
MUST_CHECK enum err envelope__contiguous(struct chain_pos pos, size_t len, struct arena *arena,
                                         struct bytes *out);
/* Whether the len bytes at pos begin with prefix. */
MUST_CHECK bool envelope__begins_with(struct chain_pos pos, size_t len, struct bytes prefix);
/* Where the bytes at pos may be overwritten. What comes there is plaintext: marks the slab. */
uint8_t *envelope__for_writing(const struct chain_pos *pos);
/* Room for n bytes of plaintext, small ones beside each other: a list may hold thousands of
 * values, all of them opened before the first is sent. NULL: no memory. */
MUST_CHECK uint8_t *envelope__scratch_new(struct slab_pool *pool, size_t n, struct slice *room);
/* After opening into it: its first len bytes become *out if e is ERR_OK. What isn't handed out is
 * wiped and given back. Returns e. */
MUST_CHECK enum err envelope__scratch_done(struct slice *room, enum err e, size_t len,
                                           struct slice *out);

/* --- memo.c ---------------------------------------------------------------------------------- */

/* Wipes and frees what is kept. */
void envelope__memo_wipe(struct envelope_ctx *ctx);

/* --- gcm.c ----------------------------------------------------------------------------------- */

/* Writes ciphertext and tag. */
MUST_CHECK enum err envelope__gcm_seal(struct envelope_ctx *ctx, struct bytes key,
                                       const uint8_t nonce[static ENVELOPE__NONCE_LEN],
                                       struct bytes aad, struct chain_pos in, size_t len,
                                       uint8_t *out);
/* Opens ciphertext and tag, len bytes at data. The plaintext goes to out, or, when out is NULL,
 * takes the place of the ciphertext, slice by slice. */
MUST_CHECK enum err envelope__gcm_open(struct envelope_ctx *ctx, struct bytes key,
                                       const uint8_t nonce[static ENVELOPE__NONCE_LEN],
                                       struct bytes aad, struct chain_pos data, size_t len,
                                       uint8_t *out);

/* The same for what lies in one piece, at most 1 GiB (a slab); out does not overlap with it. */
MUST_CHECK enum err envelope__gcm_open_flat(struct envelope_ctx *ctx, struct bytes key,
                                            const uint8_t nonce[static ENVELOPE__NONCE_LEN],
                                            struct bytes aad, struct bytes in, uint8_t *out);

/* nonce(12) ciphertext tag(16), as aesgcm, kms v1 and kms v2's type 0 have it. */
#define ENVELOPE__GCM_OVERHEAD (ENVELOPE__NONCE_LEN + ENVELOPE__TAG_LEN)
MUST_CHECK enum err envelope__gcm_seal_nonce(struct envelope_ctx *ctx, struct bytes key,
                                             struct bytes aad, struct chain_pos in, size_t len,
                                             uint8_t *out);
MUST_CHECK enum err envelope__gcm_open_nonce(struct envelope_ctx *ctx, struct bytes key,
                                             struct bytes aad, struct chain_pos data, size_t len,
                                             uint8_t *out);

/* --- cbc.c ----------------------------------------------------------------------------------- */

/* IV(16), then AES-CBC of the plaintext with 1 to 16 bytes of PKCS #7 padding. */
size_t envelope__cbc_sealed_len(size_t plain_len);
MUST_CHECK enum err envelope__cbc_seal(struct envelope_ctx *ctx, struct bytes key,
                                       struct chain_pos in, size_t len, uint8_t *out);
/* Can len bytes be of this form? ERR_TOO_SHORT (an IV alone, too), ERR_BAD_BLOCK_SIZE. */
MUST_CHECK enum err envelope__cbc_check(size_t len);
/* Opens into out, which has room for len - 16 bytes: the plaintext with its padding. *plain_len is
 * without. Errors: those of the check, ERR_BAD_PADDING, ERR_CRYPTO. */
MUST_CHECK enum err envelope__cbc_open(struct envelope_ctx *ctx, struct bytes key,
                                       struct chain_pos data, size_t len, uint8_t *out,
                                       size_t *plain_len);

/* --- secretbox.c ----------------------------------------------------------------------------- */

/* nonce(24) tag(16) ciphertext: XSalsa20-Poly1305, key of 32 bytes. */
#define ENVELOPE__BOX_NONCE_LEN 24u
#define ENVELOPE__BOX_OVERHEAD (ENVELOPE__BOX_NONCE_LEN + ENVELOPE__TAG_LEN)
MUST_CHECK enum err envelope__box_seal(struct envelope_ctx *ctx, struct bytes key,
                                       struct chain_pos in, size_t len, uint8_t *out);
/* As envelope__gcm_open; but if the tag is wrong, nothing was written. */
MUST_CHECK enum err envelope__box_open(struct bytes key, struct chain_pos data, size_t len,
                                       uint8_t *out);

/* --- local.c, kmsv1.c ------------------------------------------------------------------------ */

extern const struct envelope__kind envelope__aesgcm, envelope__aescbc, envelope__secretbox;
extern const struct envelope__kind envelope__kmsv1;

/* The key of a DEK that is a key itself. */
static inline struct bytes envelope__dek_key(const struct dek *dek)
{
    return bytes_of(dek->secret, dek->secret_len);
}

/* --- kmsv2.c, kmsv2_gcm.c -------------------------------------------------------------------- */

extern const struct envelope__kind envelope__kmsv2;

/* encryptedData around the plaintext. */
size_t envelope__kmsv2_overhead(uint32_t type);
/* Writes info, nonce, ciphertext and tag. dek is of type 1. */
MUST_CHECK enum err envelope__kmsv2_gcm_seal(struct envelope_ctx *ctx, const struct dek *dek,
                                             struct bytes aad, struct chain_pos in, size_t len,
                                             uint8_t *out);
/* Opens the encryptedData of len bytes at data. The plaintext goes to out, or, when out is NULL,
 * takes the place of the ciphertext, slice by slice. */
MUST_CHECK enum err envelope__kmsv2_gcm_open(struct envelope_ctx *ctx, const struct dek *dek,
                                             struct bytes aad, struct chain_pos data, size_t len,
                                             uint8_t *out);

#endif
