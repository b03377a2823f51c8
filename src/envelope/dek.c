/* SPDX-License-Identifier: Apache-2.0 */
/* A DEK is one allocation for what is public and one or two of base/secret.h for what is not:
 *
 *   struct dek | annotations[] | tail                    dek->id points into the tail
 *   secret                                               as the plugin unwrapped it
 *   derived                                              a seed's HMAC states; see hash.c
 *
 * derived is NULL for all others, whose secret is the key itself, and where the keys of values are
 * derived by OpenSSL's provider (kdf.c). */
#include <stdlib.h>

#include "base/fips.h"
#include "base/secret.h"
#include "envelope/envelope_int.h"

#define SEED_MIN 32u
/* The longest seed that a plugin may give. kube-apiserver knows no limit but gRPC's. */
#define SEED_MAX 65536u

_Static_assert(sizeof(struct dek) % _Alignof(struct dek_annotation) == 0,
               "annotations follow the struct");

static enum err secret_check(uint32_t type, size_t n)
{
    if (type == DEK_HKDF_SEED)
        return n >= SEED_MIN && n <= SEED_MAX ? ERR_OK : ERR_BAD_DEK_SIZE;
    return n == 16 || n == 24 || n == 32 ? ERR_OK : ERR_BAD_DEK_SIZE;
}

static enum err id_check(const struct dek_id *id)
{
    if (id->type == DEK_KMS_V1_KEY) {
        if (id->key_id.n > 0 || id->annotation_count > 0)
            return ERR_UNKNOWN_DEK_SOURCE_TYPE;
        return id->wrapped.n <= ENVELOPE__V1_WRAPPED_MAX ? ERR_OK : ERR_DEK_SOURCE_TOO_LONG;
    }
    TRY(dek_id_validate(id));
    for (uint32_t i = 1; i < id->annotation_count; i++)
        if (bytes_cmp(id->annotations[i - 1].key, id->annotations[i].key) >= 0)
            return ERR_ANNOTATIONS_INVALID;
    return ERR_OK;
}

static size_t tail_len_of(const struct dek_id *id)
{
    switch (id->type) {
    case DEK_LOCAL_KEY:
        return 0;
    case DEK_KMS_V1_KEY:
        return 2 + id->wrapped.n;
    default:
        return envelope__object_tail_len(id);
    }
}

static void tail_put(uint8_t *out, const struct dek_id *id, struct dek_id *into,
                     struct dek_annotation *annotations)
{
    switch (id->type) {
    case DEK_LOCAL_KEY:
        *into = *id;
        break;
    case DEK_KMS_V1_KEY:
        out[0] = (uint8_t)(id->wrapped.n >> 8);
        out[1] = (uint8_t)id->wrapped.n;
        if (id->wrapped.n > 0)
            memcpy(out + 2, id->wrapped.p, id->wrapped.n);
        *into = (struct dek_id){.type = id->type, .wrapped = bytes_of(out + 2, id->wrapped.n)};
        break;
    default:
        envelope__object_tail_put(out, id, into, annotations);
    }
}

/* The public part. id is valid, so all of it is below 100 KiB. */
static struct dek *dek_alloc(const struct dek_id *id)
{
    size_t annotations_len = id->annotation_count * sizeof(struct dek_annotation);
    size_t tail_len = tail_len_of(id);
    struct dek *dek = calloc(1, sizeof *dek + annotations_len + tail_len);
    struct dek_annotation *annotations;
    uint8_t *tail;

    if (dek == NULL)
        return NULL;
    annotations = (struct dek_annotation *)(dek + 1);
    tail = (uint8_t *)(dek + 1) + annotations_len;
    tail_put(tail, id, &dek->id, annotations);
    dek->tail = bytes_of(tail, tail_len);
    refcount_init(&dek->refs);
    return dek;
}

static enum err make(const struct dek_id *id, struct bytes secret, struct dek **out)
{
    struct dek *dek;

    TRY(secret_check(id->type, secret.n));
    dek = dek_alloc(id);
    if (dek == NULL)
        return ERR_NOMEM;
    dek->secret = secret_alloc(secret.n);
    if (dek->secret == NULL)
        goto err_drop;
    dek->secret_len = secret.n;
    memcpy(dek->secret, secret.p, secret.n);
    if (id->type == DEK_HKDF_SEED && !fips_is_on()) {
        dek->derived = secret_alloc(envelope__hmac_size());
        if (dek->derived == NULL)
            goto err_drop;
        envelope__hmac_init(dek->derived, secret);
    }
    *out = dek;
    return ERR_OK;

err_drop:
    dek_drop(dek);
    return ERR_NOMEM;
}

enum err dek_new(const struct dek_id *id, struct bytes secret, struct dek **out)
{
    TRY(id_check(id));
    return make(id, secret, out);
}

enum err dek_new_local(enum provider_kind kind, struct bytes key, struct dek **out)
{
    const struct dek_id id = {.type = DEK_LOCAL_KEY};
    size_t min = provider_kind_traits(kind)->local_key_min;

    if (min == 0)
        return ERR_CONFIG;
    if (key.n < min)
        return ERR_BAD_DEK_SIZE;
    return make(&id, key, out);
}

struct dek *dek_ref(struct dek *dek)
{
    refcount_ref(&dek->refs);
    return dek;
}

void dek_drop(struct dek *dek)
{
    if (dek == NULL || !refcount_drop(&dek->refs))
        return;
    secret_free(dek->secret, dek->secret_len);
    secret_free(dek->derived, envelope__hmac_size());
    free(dek);
}

/* HKDF-Expand with the DEK as its key, whatever the DEK is for. */
static enum err expand_once(const struct dek *dek, struct bytes info, uint8_t *out)
{
    void *derived;

    if (fips_is_on()) {
        struct envelope__kdf kdf;
        enum err e = envelope__kdf_init(&kdf);

        if (e == ERR_OK)
            e = envelope__kdf_expand(&kdf, envelope__dek_key(dek), info, out);
        envelope__kdf_fini(&kdf);
        return e;
    }
    derived = secret_alloc(envelope__hmac_size());
    if (derived == NULL)
        return ERR_NOMEM;
    envelope__hmac_init(derived, envelope__dek_key(dek));
    envelope__hkdf_expand(derived, info, out);
    secret_free(derived, envelope__hmac_size());
    return ERR_OK;
}

enum err dek_check_text(const struct dek *dek, char out[static DEK_CHECK_TEXT])
{
    static const char purpose[ENVELOPE__INFO_LEN] = "etcd-envelope: which key is it?";
    static const char hex[] = "0123456789abcdef";
    uint8_t *block = secret_alloc(ENVELOPE__KEY_MAX);
    enum err e =
        block == NULL ? ERR_NOMEM : expand_once(dek, bytes_of(purpose, sizeof purpose), block);

    if (e == ERR_OK) {
        for (size_t i = 0; i < (DEK_CHECK_TEXT - 1) / 2; i++) {
            out[2 * i] = hex[block[i] >> 4];
            out[2 * i + 1] = hex[block[i] & 15];
        }
        out[DEK_CHECK_TEXT - 1] = '\0';
    }
    secret_free(block, ENVELOPE__KEY_MAX);
    return e;
}
