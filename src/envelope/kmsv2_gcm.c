/* SPDX-License-Identifier: Apache-2.0 */
/* encryptedData of kms v2:
 *
 *   type 1   info(32) nonce(12) ciphertext tag(16)    key: HKDF-Expand(seed, info)
 *   type 0            nonce(12) ciphertext tag(16)    key: the DEK itself */
#include "base/secret.h"
#include "envelope/envelope_int.h"

#define HEAD_MAX (ENVELOPE__INFO_LEN + ENVELOPE__NONCE_LEN)

static size_t head_len(uint32_t type)
{
    return type == DEK_HKDF_SEED ? HEAD_MAX : ENVELOPE__NONCE_LEN;
}

size_t envelope__kmsv2_overhead(uint32_t type)
{
    return head_len(type) + ENVELOPE__TAG_LEN;
}

/* The AES key for a value: of the seed, into buf, or the DEK where it lies. */
static enum err value_key(struct envelope_ctx *ctx, const struct dek *dek, const uint8_t *head,
                          uint8_t buf[static ENVELOPE__KEY_MAX], struct bytes *out)
{
    struct bytes info = bytes_of(head, ENVELOPE__INFO_LEN);

    if (dek->id.type == DEK_AES_GCM_KEY) {
        *out = envelope__dek_key(dek);
        return ERR_OK;
    }
    if (ctx->kdf.ctx != NULL)
        TRY(envelope__kdf_expand(&ctx->kdf, envelope__dek_key(dek), info, buf));
    else
        envelope__hkdf_expand(dek->derived, info, buf);
    *out = bytes_of(buf, ENVELOPE__KEY_MAX);
    return ERR_OK;
}

enum err envelope__kmsv2_gcm_seal(struct envelope_ctx *ctx, const struct dek *dek, struct bytes aad,
                                  struct chain_pos in, size_t len, uint8_t *out)
{
    uint8_t buf[ENVELOPE__KEY_MAX];
    struct bytes key;
    enum err e;

    CHECK(dek->id.type == DEK_HKDF_SEED);
    TRY(ctx->random(ctx->random_arg, out, HEAD_MAX));
    TRY(value_key(ctx, dek, out, buf, &key));
    e = envelope__gcm_seal(ctx, key, out + ENVELOPE__INFO_LEN, aad, in, len, out + HEAD_MAX);
    secret_wipe(buf, sizeof buf);
    return e;
}

FLATTEN enum err envelope__kmsv2_gcm_open(struct envelope_ctx *ctx, const struct dek *dek,
                                          struct bytes aad, struct chain_pos data, size_t len,
                                          uint8_t *out)
{
    size_t n = head_len(dek->id.type);
    NOT_CLEARED uint8_t copy[HEAD_MAX], buf[ENVELOPE__KEY_MAX];
    struct bytes key, b = chain_peek(&data, len);
    const uint8_t *head = b.n < n ? copy : b.p;
    enum err e;

    if (len < n)
        return ERR_TOO_SHORT;
    if (b.n < n)
        chain_take(&(struct chain_pos){data.chain, data.index, data.off, data.at}, copy, n);
    TRY(value_key(ctx, dek, head, buf, &key));
    if (b.n == len && out != NULL) {
        e = envelope__gcm_open_flat(ctx, key, head + n - ENVELOPE__NONCE_LEN, aad,
                                    bytes_of(b.p + n, len - n), out);
    } else {
        chain_skip(&data, n);
        e = envelope__gcm_open(ctx, key, head + n - ENVELOPE__NONCE_LEN, aad, data, len - n, out);
    }
    if (key.p == buf)
        secret_wipe(buf, sizeof buf);
    return e;
}
