/* SPDX-License-Identifier: Apache-2.0 */
/* encryptedData of kms v2:
 *
 *   type 1   info(32) nonce(12) ciphertext tag(16)    key: HKDF-Expand(seed, info)
 *   type 0            nonce(12) ciphertext tag(16)    key: the DEK itself
 *
 * Plaintext and ciphertext are taken slice by slice as they lie; GCM is a stream, so pieces of any
 * length give the same bytes. Output is contiguous, or each piece's own place: never a place that
 * overlaps in part with the input, which OpenSSL would get wrong without saying so. */
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
static struct bytes value_key(const struct dek *dek, const uint8_t *head,
                              uint8_t buf[static ENVELOPE__KEY_MAX])
{
    if (dek->id.type == DEK_AES_GCM_KEY)
        return bytes_of(dek->secret, dek->secret_len);
    envelope__hkdf_expand(dek->derived, head, buf);
    return bytes_of(buf, ENVELOPE__KEY_MAX);
}

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

enum err envelope__kmsv2_gcm_seal(struct envelope_ctx *ctx, const struct dek *dek, struct bytes aad,
                                  struct chain_pos in, size_t len, uint8_t *out)
{
    uint8_t buf[ENVELOPE__KEY_MAX];
    EVP_CIPHER_CTX *c;
    struct bytes key;
    enum err e;

    CHECK(dek->id.type == DEK_HKDF_SEED);
    TRY(ctx->random(ctx->random_arg, out, HEAD_MAX));
    key = value_key(dek, out, buf);
    e = envelope__gcm_seal_start(ctx, key, out + ENVELOPE__INFO_LEN, aad, &c);
    secret_wipe(buf, sizeof buf);
    TRY(e);
    return seal_pieces(c, in, len, out + HEAD_MAX);
}

/* Where the bytes at pos may be overwritten. What comes there is plaintext, so the slab is marked
 * first. */
static uint8_t *piece_for_writing(const struct chain_pos *pos)
{
    struct slice *s = chain_at(pos->chain, pos->index);

    CHECK(!(s->slab->flags & SLAB_STATIC));
    s->slab->flags |= SLAB_SECRET;
    return s->slab->data + s->off + pos->off;
}

static enum err open_pieces(EVP_CIPHER_CTX *c, struct chain_pos *in, size_t len, uint8_t *out)
{
    int n;

    while (len > 0) {
        struct bytes b = chain_peek(in, len);
        uint8_t *to;

        if (b.n == 0)
            return ERR_CRYPTO;
        to = out != NULL ? out : piece_for_writing(in);
        if (EVP_DecryptUpdate(c, to, &n, b.p, (int)b.n) != 1 || (size_t)n != b.n)
            return envelope__crypto_failed(ERR_CRYPTO);
        chain_skip(in, b.n);
        out = out != NULL ? out + b.n : NULL;
        len -= b.n;
    }
    return ERR_OK;
}

static enum err verify(EVP_CIPHER_CTX *c, uint8_t tag[static ENVELOPE__TAG_LEN])
{
    uint8_t none[ENVELOPE__TAG_LEN];
    int n;

    if (EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_SET_TAG, ENVELOPE__TAG_LEN, tag) != 1)
        return envelope__crypto_failed(ERR_CRYPTO);
    return EVP_DecryptFinal_ex(c, none, &n) == 1 ? ERR_OK
                                                 : envelope__crypto_failed(ERR_AUTH_FAILED);
}

/* Reads n bytes at pos and moves it. */
static void take(struct chain_pos *pos, uint8_t *to, size_t n)
{
    while (n > 0) {
        struct bytes b = chain_peek(pos, n);

        CHECK(b.n > 0);
        memcpy(to, b.p, b.n);
        chain_skip(pos, b.n);
        to += b.n;
        n -= b.n;
    }
}

enum err envelope__kmsv2_gcm_open(struct envelope_ctx *ctx, const struct dek *dek, struct bytes aad,
                                  struct chain_pos data, size_t len, uint8_t *out)
{
    size_t head = head_len(dek->id.type);
    uint8_t in[HEAD_MAX], buf[ENVELOPE__KEY_MAX], tag[ENVELOPE__TAG_LEN];
    EVP_CIPHER_CTX *c;
    struct bytes key;
    enum err e;

    if (len < head)
        return ERR_TOO_SHORT;
    if (len < head + ENVELOPE__TAG_LEN) /* as Go's AEAD says it */
        return ERR_AUTH_FAILED;
    take(&data, in, head);
    key = value_key(dek, in, buf);
    e = envelope__gcm_open_start(ctx, key, in + head - ENVELOPE__NONCE_LEN, aad, &c);
    secret_wipe(buf, sizeof buf);
    TRY(e);
    TRY(open_pieces(c, &data, len - head - ENVELOPE__TAG_LEN, out));
    take(&data, tag, sizeof tag);
    return verify(c, tag);
}
