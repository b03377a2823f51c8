/* SPDX-License-Identifier: Apache-2.0 */
/* AES-GCM over chains.
 *
 * Plaintext and ciphertext are taken slice by slice as they lie; GCM is a stream, so pieces of any
 * length give the same bytes. Output is contiguous, or each piece's own place: never a place that
 * overlaps in part with the input, which OpenSSL would get wrong without saying so. */
#include "envelope/envelope_int.h"

static enum err seal_pieces(EVP_CIPHER_CTX *c, struct chain_pos in, size_t len, uint8_t *out)
{
    int n;

    while (len > 0) {
        struct bytes b = chain_peek(&in, len);

        /* A slab has at most 1 GiB. */
        if (b.n == 0 || EVP_EncryptUpdate(c, out, &n, b.p, (int)b.n) != 1 || (size_t)n != b.n)
            return envelope__crypto_failed(ERR_CRYPTO);
        chain_skip(&in, b.n);
        out += b.n;
        len -= b.n;
    }
    if (EVP_EncryptFinal_ex(c, out, &n) != 1 || n != 0 ||
        EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, ENVELOPE__TAG_LEN, out) != 1)
        return envelope__crypto_failed(ERR_CRYPTO);
    return ERR_OK;
}

enum err envelope__gcm_seal(struct envelope_ctx *ctx, struct bytes key,
                            const uint8_t nonce[static ENVELOPE__NONCE_LEN], struct bytes aad,
                            struct chain_pos in, size_t len, uint8_t *out)
{
    EVP_CIPHER_CTX *c;

    TRY(envelope__gcm_seal_start(ctx, key, nonce, aad, &c));
    return seal_pieces(c, in, len, out);
}

static enum err open_pieces(EVP_CIPHER_CTX *c, struct chain_pos *in, size_t len, uint8_t *out)
{
    int n;

    while (len > 0) {
        struct bytes b = chain_peek(in, len);
        uint8_t *to;

        if (b.n == 0)
            return ERR_CRYPTO;
        to = out != NULL ? out : envelope__for_writing(in);
        if (EVP_DecryptUpdate(c, to, &n, b.p, (int)b.n) != 1 || (size_t)n != b.n)
            return envelope__crypto_failed(ERR_CRYPTO);
        chain_skip(in, b.n);
        out = out != NULL ? out + b.n : NULL;
        len -= b.n;
    }
    return ERR_OK;
}

/* The next n bytes: where they lie, or a copy in buf. Moves behind them. */
static const uint8_t *take(struct chain_pos *pos, size_t n, uint8_t *buf)
{
    struct bytes b = chain_peek(pos, n);

    if (b.n == n) {
        chain_skip(pos, n);
        return b.p;
    }
    chain_take(pos, buf, n);
    return buf;
}

enum err envelope__gcm_open(struct envelope_ctx *ctx, struct bytes key,
                            const uint8_t nonce[static ENVELOPE__NONCE_LEN], struct bytes aad,
                            struct chain_pos data, size_t len, uint8_t *out)
{
    NOT_CLEARED uint8_t buf[ENVELOPE__TAG_LEN], none[ENVELOPE__TAG_LEN];
    struct chain_pos tag = data;
    EVP_CIPHER_CTX *c;
    int n;

    if (len < ENVELOPE__TAG_LEN) /* the error that Go's AEAD returns for it */
        return ERR_AUTH_FAILED;
    chain_skip(&tag, len - ENVELOPE__TAG_LEN);
    TRY(envelope__gcm_open_start(ctx, key, nonce, aad, take(&tag, ENVELOPE__TAG_LEN, buf), &c));
    TRY(open_pieces(c, &data, len - ENVELOPE__TAG_LEN, out));
    return EVP_DecryptFinal_ex(c, none, &n) == 1 ? ERR_OK
                                                 : envelope__crypto_failed(ERR_AUTH_FAILED);
}

enum err envelope__gcm_open_flat(struct envelope_ctx *ctx, struct bytes key,
                                 const uint8_t nonce[static ENVELOPE__NONCE_LEN], struct bytes aad,
                                 struct bytes in, uint8_t *out)
{
    NOT_CLEARED uint8_t none[ENVELOPE__TAG_LEN];
    size_t len = in.n - ENVELOPE__TAG_LEN;
    EVP_CIPHER_CTX *c;
    int n;

    if (in.n < ENVELOPE__TAG_LEN)
        return ERR_AUTH_FAILED;
    TRY(envelope__gcm_open_start(ctx, key, nonce, aad, in.p + len, &c));
    if (len > 0 && (EVP_DecryptUpdate(c, out, &n, in.p, (int)len) != 1 || (size_t)n != len))
        return envelope__crypto_failed(ERR_CRYPTO);
    return EVP_DecryptFinal_ex(c, none, &n) == 1 ? ERR_OK
                                                 : envelope__crypto_failed(ERR_AUTH_FAILED);
}

enum err envelope__gcm_seal_nonce(struct envelope_ctx *ctx, struct bytes key, struct bytes aad,
                                  struct chain_pos in, size_t len, uint8_t *out)
{
    TRY(ctx->random(ctx->random_arg, out, ENVELOPE__NONCE_LEN));
    return envelope__gcm_seal(ctx, key, out, aad, in, len, out + ENVELOPE__NONCE_LEN);
}

enum err envelope__gcm_open_nonce(struct envelope_ctx *ctx, struct bytes key, struct bytes aad,
                                  struct chain_pos data, size_t len, uint8_t *out)
{
    uint8_t nonce[ENVELOPE__NONCE_LEN];

    if (len < sizeof nonce)
        return ERR_TOO_SHORT;
    chain_take(&data, nonce, sizeof nonce);
    return envelope__gcm_open(ctx, key, nonce, aad, data, len - sizeof nonce, out);
}
