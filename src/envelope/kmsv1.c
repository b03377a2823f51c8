/* SPDX-License-Identifier: Apache-2.0 */
/* kms v1: PREFIX length(2, big-endian) wrapped DEK, then a payload under that DEK, which was made
 * for this one value: nonce(12) ciphertext tag(16).
 *
 * Before Kubernetes v1.25 the payload was AES-CBC, and nothing in the value tells which of the two
 * it is. kube-apiserver tries AES-CBC whenever AES-GCM fails, and so gives out a damaged AES-GCM
 * payload as garbage when the padding happens to be right. We do so only where cbc_reads is set;
 * such values are stale. */
#include "envelope/envelope_int.h"

#define LENGTH_LEN 2u

static enum err kmsv1_identify(const struct envelope__candidate *c, struct arena *arena,
                               const struct envelope_value *like, struct envelope_value *out)
{
    struct chain_pos pos = c->body;
    uint8_t be[LENGTH_LEN];
    size_t wrapped_len;

    (void)like; /* every value has a DEK of its own */
    if (c->body_len < LENGTH_LEN)
        return ERR_V1_BAD_LENGTH_PREFIX;
    chain_take(&pos, be, sizeof be);
    wrapped_len = (size_t)be[0] << 8 | be[1];
    if (wrapped_len > ENVELOPE__V1_WRAPPED_MAX || wrapped_len > c->body_len - LENGTH_LEN)
        return ERR_V1_BAD_LENGTH_PREFIX;
    out->id.type = DEK_KMS_V1_KEY;
    TRY(envelope__contiguous(pos, wrapped_len, arena, &out->id.wrapped));
    out->needs_dek = true;
    out->form = c->provider->cbc_reads ? ENVELOPE_SCRATCH : ENVELOPE_IN_PLACE;
    out->data_at = pos.at + wrapped_len;
    out->data_len = c->body_len - LENGTH_LEN - wrapped_len;
    out->plain_at = ENVELOPE__NONCE_LEN;
    /* A payload that is too short is refused when it is opened: kube-apiserver, too, asks the
     * plugin first. */
    if (out->data_len > ENVELOPE__GCM_OVERHEAD)
        out->plain_len = out->data_len - ENVELOPE__GCM_OVERHEAD;
    return ERR_OK;
}

static enum err kmsv1_open(struct envelope_ctx *ctx, const struct envelope_value *v,
                           const struct dek *dek, struct bytes aad, struct chain_pos data,
                           uint8_t *out)
{
    CHECK(dek != NULL && dek->id.type == DEK_KMS_V1_KEY);
    return envelope__gcm_open_nonce(ctx, envelope__dek_key(dek), aad, data, v->data_len, out);
}

static enum err open_gcm(struct envelope_ctx *ctx, const struct envelope__job *job,
                         struct chain_pos data, size_t len, struct slice *out)
{
    size_t plain_len = job->value->plain_len;
    struct slice room;
    uint8_t *to = envelope__scratch_new(job->pool, plain_len, &room);
    enum err e;

    if (to == NULL)
        return ERR_NOMEM;
    e = envelope__gcm_open_nonce(ctx, envelope__dek_key(job->dek), job->aad, data, len, to);
    return envelope__scratch_done(&room, e, plain_len, out);
}

static enum err open_cbc(struct envelope_ctx *ctx, const struct envelope__job *job,
                         struct chain_pos data, size_t len, struct slice *out)
{
    struct slice room;
    size_t plain_len = 0;
    uint8_t *to;
    enum err e;

    TRY(envelope__cbc_check(len));
    to = envelope__scratch_new(job->pool, len - ENVELOPE__BLOCK_LEN, &room);
    if (to == NULL)
        return ERR_NOMEM;
    e = envelope__cbc_open(ctx, envelope__dek_key(job->dek), data, len, to, &plain_len);
    return envelope__scratch_done(&room, e, plain_len, out);
}

static enum err kmsv1_open_scratch(struct envelope_ctx *ctx, const struct envelope__candidate *c,
                                   const struct envelope__job *job, struct slice *out,
                                   struct envelope_opened *opened)
{
    const struct envelope_value *v = job->value;
    struct chain_pos data;
    enum err e, old;

    /* The caller resolved one DEK, that of v->provider. A second kms v1 provider fits only where a
     * name has control characters behind a ':' (see ENVELOPE__V1_WRAPPED_MAX), or where it is the
     * same plugin once more (policy/ruleset.c). */
    if (c->provider != v->provider || job->dek == NULL)
        return ERR_KMS_ERROR;
    CHECK(job->dek->id.type == DEK_KMS_V1_KEY);
    data = chain_seek(c->body.chain, v->data_at);
    e = open_gcm(ctx, job, data, v->data_len, out);
    opened->authentic = e == ERR_OK;
    if (e == ERR_OK || !c->provider->cbc_reads || envelope__ends_the_search(e))
        return e;
    old = open_cbc(ctx, job, data, v->data_len, out);
    opened->stale = old == ERR_OK;
    return old == ERR_OK || envelope__ends_the_search(old) ? old : e;
}

static enum err kmsv1_sealed_len(const struct provider *provider, const struct dek *dek,
                                 size_t plain_len, size_t *out)
{
    if (dek == NULL || dek->id.type != DEK_KMS_V1_KEY || dek->secret_len != ENVELOPE__KEY_MAX)
        return ERR_NO_WRITE_KEY;
    if (plain_len > ENVELOPE__SEALED_MAX)
        return ERR_MESSAGE_TOO_LARGE;
    *out = provider->prefix.n + dek->tail.n + ENVELOPE__GCM_OVERHEAD + plain_len;
    return *out <= ENVELOPE__SEALED_MAX ? ERR_OK : ERR_MESSAGE_TOO_LARGE;
}

static enum err kmsv1_seal(struct envelope_ctx *ctx, const struct provider *provider,
                           const struct dek *dek, struct bytes aad, struct chain_pos in, size_t len,
                           uint8_t *out)
{
    memcpy(out, provider->prefix.p, provider->prefix.n);
    out += provider->prefix.n;
    memcpy(out, dek->tail.p, dek->tail.n);
    return envelope__gcm_seal_nonce(ctx, envelope__dek_key(dek), aad, in, len, out + dek->tail.n);
}

const struct envelope__kind envelope__kmsv1 = {
    .traits =
        {
            .kind = PROVIDER_KMS_V1,
            .name = "kms",
            .version = "v1",
            .prefix = "kms:v1:",
            .is_kms = true,
            .has_dek_per_value = true,
            .has_cache_size = true,
            .has_cbc_past = true,
            .has_own_health_check = true,
            .is_fips = true,
            .is_authentic = true,
            .body = PROVIDER_BODY_WRAPPED,
            .nonce_len = ENVELOPE__NONCE_LEN,
            .tag_len = ENVELOPE__TAG_LEN,
            .caution = "kms_v1",
            .caution_text = "servers before v1.25 wrote AES-CBC payloads, which look the same",
        },
    .identify = kmsv1_identify,
    .open = kmsv1_open,
    .open_scratch = kmsv1_open_scratch,
    .sealed_len = kmsv1_sealed_len,
    .seal = kmsv1_seal,
};
