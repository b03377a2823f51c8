/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: values and stored values with their etcd keys. Gives: stored values and values.
 * Owns: cipher contexts (struct envelope_ctx), the type struct dek.
 * Thread: a ctx is one worker's; deks and providers are immutable and shared.
 *
 * The stored formats are Kubernetes' own. KMS v2 has a protobuf EncryptedObject behind its prefix:
 *   k8s:enc:kms:v2:NAME:      EncryptedObject, with the fields
 *                             1 encryptedData, 2 keyID, 3 encryptedDEKSource, 4 annotations (map),
 *                             5 encryptedDEKSourceType
 *     type 1 (written, read)  encryptedData = info(32) nonce(12) ciphertext tag(16), under the key
 *                             HKDF-Expand-SHA256(seed, info, 32)
 *     type 0 (read)           encryptedData = nonce(12) ciphertext tag(16)
 * The others have their data there:
 *   k8s:enc:kms:v1:NAME:      length(2, big-endian) wrapped DEK, nonce(12) ciphertext tag(16)
 *   k8s:enc:aesgcm:v1:KEY:    nonce(12) ciphertext tag(16)
 *   k8s:enc:aescbc:v1:KEY:    IV(16) ciphertext, padded as by PKCS #7; authenticates nothing
 *   k8s:enc:secretbox:v1:KEY: nonce(24) tag(16) ciphertext; not bound to the etcd key
 * The AAD of all AES-GCM is the complete etcd key as it is on the wire. */
#ifndef ENVELOPE_ENVELOPE_H
#define ENVELOPE_ENVELOPE_H

#include "base/arena.h"
#include "base/refcount.h"
#include "base/slice.h"
#include "envelope/provider.h"

/* --- keys ------------------------------------------------------------------------------------ */

enum dek_type {
    DEK_AES_GCM_KEY = 0, /* encryptedDEKSourceType 0: the secret is the AES key, 16/24/32 bytes */
    DEK_HKDF_SEED = 1,   /* encryptedDEKSourceType 1: the secret is a seed of at least 32 bytes */
    /* Types of our own. No stored value can name them: all but 0 and 1 are refused when read. */
    DEK_KMS_V1_KEY = 0x100, /* kms v1: an AES key. The id is the wrapped DEK alone, maybe empty */
    DEK_LOCAL_KEY = 0x101,  /* a key of the configuration. The id is empty */
};

struct dek_annotation {
    struct bytes key, value;
};

/* What names a DEK: borrowed bytes. Annotations are sorted by key, each key once: see
 * dek_annotations_sort. */
struct dek_id {
    uint32_t type; /* enum dek_type */
    struct bytes key_id;
    struct bytes wrapped; /* encryptedDEKSource */
    uint32_t annotation_count;
    const struct dek_annotation *annotations;
};

/* A data encryption key or seed with its name. Immutable, refcounted. */
struct dek {
    struct refcount refs;
    struct dek_id id; /* points into this object's own memory */
    /* What we write of the id, constant for the DEK and serialized once: kms v2's fields 2..5,
     * which follow the data; kms v1's length and wrapped DEK, which go before it. */
    struct bytes tail;
    uint8_t *secret; /* base/secret.h memory */
    size_t secret_len;
    void *derived; /* HMAC states of a seed, base/secret.h memory; see dek.c */
};

/* Makes a DEK from the unwrapped secret (copied). Errors: those of dek_id_validate,
 * ERR_BAD_DEK_SIZE (type 1: under 32 bytes; others: not 16/24/32), ERR_ANNOTATIONS_INVALID also
 * when they aren't in order, ERR_NOMEM. A kms v1 id: ERR_DEK_SOURCE_TOO_LONG;
 * ERR_UNKNOWN_DEK_SOURCE_TYPE when it has more than the wrapped DEK. Thread: any. */
MUST_CHECK enum err dek_new(const struct dek_id *id, struct bytes secret, struct dek **out);
/* Makes a key of the configuration (copied) for a local-key kind. Errors: ERR_BAD_DEK_SIZE (not 32
 * for secretbox, not 16/24/32 for AES), ERR_CONFIG (another kind), ERR_NOMEM. Thread: any. */
MUST_CHECK enum err dek_new_local(enum provider_kind kind, struct bytes key, struct dek **out);
struct dek *dek_ref(struct dek *dek);
/* dek may be NULL. The last drop wipes. */
void dek_drop(struct dek *dek);

/* Digits that tell keys apart and give nothing of them away: HKDF-Expand of the key for this
 * purpose alone. Who has values sealed with a key that can be guessed can try his guesses on these
 * digits, but on the values as well. Errors: ERR_NOMEM. */
#define DEK_CHECK_TEXT 33
MUST_CHECK enum err dek_check_text(const struct dek *dek, char out[static DEK_CHECK_TEXT]);

/* SHA-256 over an unambiguous serialization of the id (kube-apiserver's cache key):
 * type u32 BE, u16 BE len wrapped, u16 BE len key_id, and, only if there are annotations: count
 * u32 BE, per annotation u16 len key, u16 len value. */
#define DEK_DIGEST_LEN 32
MUST_CHECK enum err dek_id_digest(const struct dek_id *id, uint8_t out[static DEK_DIGEST_LEN]);
MUST_CHECK bool dek_id_eq(const struct dek_id *a, const struct dek_id *b);
/* Brings annotations into the order of a dek_id: sorted by key, of equal keys only the last, as in
 * a protobuf map. *count may shrink. Errors: ERR_NOMEM. */
MUST_CHECK enum err dek_annotations_sort(struct dek_annotation *v, uint32_t *count);
/* A value sealed under id is due for a rewrite when write_id is what is written with now: another
 * key id or type. Another wrapped DEK or other annotations don't count (kube-apiserver's rule). */
MUST_CHECK bool dek_id_is_stale(const struct dek_id *id, const struct dek_id *write_id);

/* The checks on key id, wrapped DEK, annotations and type that apply to what is read, to what is
 * written and to the plugin's Encrypt answer (kube-apiserver's ValidateEncryptedObject, its
 * order). Errors: ERR_UNKNOWN_DEK_SOURCE_TYPE, ERR_DEK_SOURCE_*, ERR_KEY_ID_*,
 * ERR_ANNOTATIONS_INVALID. */
MUST_CHECK enum err dek_id_validate(const struct dek_id *id);
/* The key id alone (a plugin's Status answer). Errors: ERR_KEY_ID_EMPTY, ERR_KEY_ID_TOO_LONG. */
MUST_CHECK enum err dek_key_id_validate(struct bytes key_id);

/* --- contexts -------------------------------------------------------------------------------- */

/* Cipher contexts and randomness of one worker. */
struct envelope_ctx;

/* Fills out with n random bytes. Tests inject theirs; the worker passes its pool. */
typedef enum err (*envelope_random_fn)(void *arg, void *out, size_t n);

MUST_CHECK enum err envelope_ctx_new(envelope_random_fn random, void *random_arg,
                                     struct envelope_ctx **out);
void envelope_ctx_free(struct envelope_ctx *ctx);
/* For after a burst: resets the cipher contexts, so that no key schedule stays in them, and
 * forgets what envelope_open_again kept. */
void envelope_ctx_wipe(struct envelope_ctx *ctx);

/* --- writing --------------------------------------------------------------------------------- */

/* Bytes of the stored value for a plaintext of plain_len bytes under dek: a seed for kms v2; for
 * kms v1 a DEK of 32 bytes that was made for this one value and wrapped by the plugin. Local-key
 * kinds write with their first key, whatever dek is. Errors: ERR_MESSAGE_TOO_LARGE (it would fit
 * no slab), ERR_NO_WRITE_KEY (dek is NULL or not of that kind; no key), ERR_CONFIG (a provider
 * that does not seal; identity values are stored by not sealing them). */
MUST_CHECK enum err envelope_sealed_len(const struct provider *provider, const struct dek *dek,
                                        size_t plain_len, size_t *out);
/* Seals the len bytes at in. Writes exactly envelope_sealed_len bytes at out, which does
 * not overlap with in. aad is the etcd key. Takes its random bytes at once: 44 for kms v2 (info,
 * then nonce), 12 for kms v1 and aesgcm, 16 for aescbc, 24 for secretbox.
 * Errors: ERR_CRYPTO, ERR_RANDOM and those of envelope_sealed_len; then out is of no use. */
MUST_CHECK enum err envelope_seal(struct envelope_ctx *ctx, const struct provider *provider,
                                  const struct dek *dek, struct bytes aad, struct chain_pos in,
                                  size_t len, uint8_t *out);

/* --- reading --------------------------------------------------------------------------------- */

enum envelope_form {
    ENVELOPE_NONE = 0, /* refuse */
    ENVELOPE_PLAIN,    /* identity: the value is its own plaintext */
    ENVELOPE_IN_PLACE, /* exactly one provider and key fits, and the plaintext's length is known */
    ENVELOPE_SCRATCH,  /* several may fit, or the length is known only afterwards */
};

/* What can be said of a stored value without a key. id borrows from the chain where its part of
 * the value lies in one slice, else from the arena: valid as long as both. Opening in place
 * leaves it valid. */
struct envelope_value {
    enum envelope_form form;
    bool needs_dek; /* id names a DEK that the key ring has to supply */
    /* ENVELOPE_PLAIN, ENVELOPE_IN_PLACE: as far as the places in the list and among the keys tell;
     * for kms v2 the rest is dek_id_is_stale. ENVELOPE_SCRATCH: see struct envelope_opened. */
    bool is_stale;
    const struct provider *provider; /* the first candidate. All others are of its kind */
    uint32_t provider_index;         /* its place in the list */
    uint32_t key_index;              /* local-key kinds: the first key that may fit */
    enum err earlier; /* of list elements before it: if it fails, too, this is the answer */
    size_t data_at;   /* chain offset of the data: encryptedData, or nonce and on */
    size_t data_len;
    size_t plain_len; /* ENVELOPE_PLAIN, ENVELOPE_IN_PLACE */
    size_t plain_at;  /* ENVELOPE_IN_PLACE: where in the data the plaintext comes to lie */
    struct dek_id id;
    struct bytes tail; /* kms v2: the bytes that id was read from; borrowed like id */
};

/* Looks at the stored value of len bytes at pos: finds the candidates in list, parses and
 * validates the envelope. Small parts that lie across slices are gathered in arena; the value
 * itself is not changed, and copied only when its fields come in an order that no writer produces
 * (then it is ENVELOPE_SCRATCH). like: NULL, or the result for an earlier value, whose chain is
 * still there, with the same arena: where both name their DEK by the same bytes these are not
 * parsed again. Errors: the stored-value classes of base/err.h, ERR_NOMEM; ERR_CONFIG for a
 * provider kind that we can't read. */
MUST_CHECK enum err envelope_identify(const struct provider_list *list, struct chain_pos pos,
                                      size_t len, struct arena *arena,
                                      const struct envelope_value *like,
                                      struct envelope_value *out);

/* Values that have their provider and the bytes behind their data in common, as most of a list do
 * (kms v2). */
struct envelope_alike {
    const struct provider *provider;
    uint32_t provider_index;
    struct bytes tail; /* behind the data; borrowed from the arena, a chain or a DEK */
    size_t overhead;
    struct envelope_value value; /* what envelope_identify would say of them, lengths aside */
};

/* Finds what values like the one of len bytes at pos have in common. The tail is not parsed: ask
 * for the DEK whose tail it is, or envelope_identify. Then envelope_alike_set says which id it
 * is. False: the value is not of the usual form, or others of the list may fit. */
MUST_CHECK bool envelope_alike_find(struct envelope_alike *a, const struct provider_list *list,
                                    struct chain_pos pos, size_t len, struct arena *arena);
/* id is what the tail says, validated; borrowed. */
void envelope_alike_set(struct envelope_alike *a, const struct dek_id *id);
/* Does a value of len bytes that begins like this look alike, and is it longer than no plaintext?
 * Then it is if its last bytes are a->tail. Returns the length of its data, which begin at
 * *data_at; 0: no, or begin is too short to say. */
MUST_CHECK size_t envelope_alike_data(const struct envelope_alike *a, struct bytes begin,
                                      size_t len, size_t *data_at);
/* What a value that is alike is opened with; valid until the next call. */
static inline const struct envelope_value *envelope_alike_value(struct envelope_alike *a,
                                                                size_t data_at, size_t data_len)
{
    a->value.data_at = data_at;
    a->value.data_len = data_len;
    a->value.plain_len = data_len - a->overhead;
    return &a->value;
}

/* ENVELOPE_IN_PLACE, which all authenticate: decrypts and verifies the tag. data: the position of
 * v->data_at. out: room for v->plain_len bytes that overlaps with nothing of the value; or NULL,
 * to decrypt where the value lies, piece by piece: then the plaintext is the v->plain_len bytes
 * from v->plain_at of the data on, the slabs are marked SLAB_SECRET, and nobody else may be
 * reading these bytes. On error what was written is garbage and must not be used:
 * ERR_AUTH_FAILED, ERR_TOO_SHORT, ERR_CRYPTO, v->earlier. dek: what v->id names; NULL when
 * !v->needs_dek. */
MUST_CHECK enum err envelope_open(struct envelope_ctx *ctx, const struct envelope_value *v,
                                  const struct dek *dek, struct bytes aad, struct chain_pos data,
                                  uint8_t *out);
/* The same out of place, for a value that may come again soon, byte for byte, because several
 * watch it. A few small ones are kept in ctx, each with its plaintext and a reference to dek,
 * until others take their place or envelope_ctx_wipe. */
MUST_CHECK enum err envelope_open_again(struct envelope_ctx *ctx, const struct envelope_value *v,
                                        struct dek *dek, struct bytes aad, struct chain_pos data,
                                        uint8_t *out);
/* What is known of a value once it was opened. */
struct envelope_opened {
    bool authentic; /* its provider authenticates: all but aescbc and kms v1's AES-CBC */
    bool stale; /* not by the first provider, not by its first key, or kms v1's AES-CBC: due for a
                   rewrite. For KMS kinds see dek_id_is_stale, too */
    uint32_t provider_index; /* of the provider in the list that opened it */
    uint32_t key_index;      /* of the key among that provider's keys */
};

/* A keyed hash of the stored value of len bytes at pos and of the etcd key that it lies under, for
 * remembering a value without its bytes. The key is random and the context's own, so only digests
 * of the same context are comparable, and nobody can make two values with the same one. Errors:
 * ERR_RANDOM, ERR_CRYPTO. */
MUST_CHECK enum err envelope_value_digest(struct envelope_ctx *ctx, struct bytes aad,
                                          struct chain_pos pos, size_t len,
                                          uint8_t out[static DEK_DIGEST_LEN]);

/* Opens a value of any sealed form into a new SLAB_SECRET slab and leaves the input as it is: for
 * values that will be stored again, and where several candidates are tried in order. dek may be
 * NULL when !v->needs_dek. list, off and len as given to identify. Errors: those of the first
 * candidate that counts (ERR_NO_MATCHING_KEY, ERR_BAD_PADDING, ERR_BAD_BLOCK_SIZE besides those
 * above), ERR_NOMEM; then *out is empty and *opened zero. */
MUST_CHECK enum err envelope_open_scratch(struct envelope_ctx *ctx,
                                          const struct provider_list *list,
                                          const struct envelope_value *v, const struct dek *dek,
                                          struct bytes aad, const struct chain *in, size_t off,
                                          size_t len, struct slab_pool *pool, struct slice *out,
                                          struct envelope_opened *opened);

#endif
