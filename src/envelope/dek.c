/* SPDX-License-Identifier: Apache-2.0 */
/* A DEK is one allocation for what is public and one or two of base/secret.h for what is not:
 *
 *   struct dek | annotations[] | tail (fields 2..5)      dek->id points into the tail
 *   secret                                               as the plugin unwrapped it
 *   derived                                              a seed's HMAC states; see hash.c
 *
 * derived is NULL for type 0, whose secret is the AES key itself. */
#include <stdlib.h>

#include "base/secret.h"
#include "envelope/envelope_int.h"

#define SEED_MIN 32u
/* What a plugin may call a seed. The bytes are its own; kube-apiserver's limit is that of gRPC. */
#define SEED_MAX 65536u

_Static_assert(sizeof(struct dek) % _Alignof(struct dek_annotation) == 0,
               "annotations follow the struct");

static enum err secret_check(uint32_t type, size_t n)
{
    if (type == DEK_AES_GCM_KEY)
        return n == 16 || n == 24 || n == 32 ? ERR_OK : ERR_BAD_DEK_SIZE;
    return n >= SEED_MIN && n <= SEED_MAX ? ERR_OK : ERR_BAD_DEK_SIZE;
}

static enum err id_check(const struct dek_id *id)
{
    TRY(dek_id_validate(id));
    for (uint32_t i = 1; i < id->annotation_count; i++)
        if (bytes_cmp(id->annotations[i - 1].key, id->annotations[i].key) >= 0)
            return ERR_ANNOTATIONS_INVALID;
    return ERR_OK;
}

/* The public part. id is valid, so all of it is below 100 KiB. */
static struct dek *dek_alloc(const struct dek_id *id)
{
    size_t annotations_len = id->annotation_count * sizeof(struct dek_annotation);
    size_t tail_len = envelope__object_tail_len(id);
    struct dek *dek = calloc(1, sizeof *dek + annotations_len + tail_len);
    struct dek_annotation *annotations;
    uint8_t *tail;

    if (dek == NULL)
        return NULL;
    annotations = (struct dek_annotation *)(dek + 1);
    tail = (uint8_t *)(dek + 1) + annotations_len;
    envelope__object_tail_put(tail, id, &dek->id, annotations);
    dek->tail = bytes_of(tail, tail_len);
    refcount_init(&dek->refs);
    return dek;
}

enum err dek_new(const struct dek_id *id, struct bytes secret, struct dek **out)
{
    struct dek *dek;

    TRY(id_check(id));
    TRY(secret_check(id->type, secret.n));
    dek = dek_alloc(id);
    if (dek == NULL)
        return ERR_NOMEM;
    dek->secret = secret_alloc(secret.n);
    if (dek->secret == NULL)
        goto err_drop;
    dek->secret_len = secret.n;
    memcpy(dek->secret, secret.p, secret.n);
    if (id->type == DEK_HKDF_SEED) {
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
