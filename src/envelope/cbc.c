/* SPDX-License-Identifier: Apache-2.0 */
/* AES-CBC over chains: IV(16) ciphertext, with PKCS #7 padding (RFC 5652 section 6.3).
 *
 * It authenticates nothing: a damaged value, or one under another key, may open as garbage. The
 * padding is judged in a time that doesn't depend on it, so that an answer's time tells no more
 * than the answer. Two things kube-apiserver's reader does and we do not: it panics at an IV
 * without a block (ERR_TOO_SHORT here), and accepts padding of up to 255 bytes (ERR_BAD_PADDING
 * here). */
#include "envelope/envelope_int.h"

#define BLOCK ENVELOPE__BLOCK_LEN

size_t envelope__cbc_sealed_len(size_t plain_len)
{
    return BLOCK + (plain_len / BLOCK + 1) * BLOCK;
}

enum err envelope__cbc_seal(struct envelope_ctx *ctx, struct bytes key, struct chain_pos in,
                            size_t len, uint8_t *out)
{
    EVP_CIPHER_CTX *c;
    int n;

    TRY(ctx->random(ctx->random_arg, out, BLOCK));
    TRY(envelope__cbc_seal_start(ctx, key, out, &c));
    out += BLOCK;
    while (len > 0) {
        struct bytes b = chain_peek(&in, len);

        /* Whole blocks come out as they fill up. A slab has at most 1 GiB. */
        if (b.n == 0 || EVP_EncryptUpdate(c, out, &n, b.p, (int)b.n) != 1)
            return envelope__crypto_failed(ERR_CRYPTO);
        chain_skip(&in, b.n);
        out += n;
        len -= b.n;
    }
    return EVP_EncryptFinal_ex(c, out, &n) == 1 && n == BLOCK ? ERR_OK
                                                              : envelope__crypto_failed(ERR_CRYPTO);
}

enum err envelope__cbc_check(size_t len)
{
    if (len <= BLOCK)
        return ERR_TOO_SHORT;
    return len % BLOCK == 0 ? ERR_OK : ERR_BAD_BLOCK_SIZE;
}

/* The length of the padding at the end of the last block, 0 if it is none: looks at all bytes. */
static size_t padding(const uint8_t block[static BLOCK])
{
    uint32_t pad = block[BLOCK - 1];
    uint32_t wrong = (pad - 1) >> 4; /* not 0 for 0 and above 16 */

    for (uint32_t i = 0; i < BLOCK; i++) {
        uint32_t is_pad = (i - pad) >> 31; /* 1 for i < pad */

        wrong |= (0 - is_pad) & (block[BLOCK - 1 - i] ^ pad);
    }
    return wrong == 0 ? pad : 0;
}

static enum err open_pieces(EVP_CIPHER_CTX *c, struct chain_pos in, size_t len, uint8_t *out)
{
    int n;

    while (len > 0) {
        struct bytes b = chain_peek(&in, len);

        if (b.n == 0 || EVP_DecryptUpdate(c, out, &n, b.p, (int)b.n) != 1)
            return envelope__crypto_failed(ERR_CRYPTO);
        chain_skip(&in, b.n);
        out += n;
        len -= b.n;
    }
    return EVP_DecryptFinal_ex(c, out, &n) == 1 && n == 0 ? ERR_OK
                                                          : envelope__crypto_failed(ERR_CRYPTO);
}

enum err envelope__cbc_open(struct envelope_ctx *ctx, struct bytes key, struct chain_pos data,
                            size_t len, uint8_t *out, size_t *plain_len)
{
    uint8_t iv[BLOCK];
    EVP_CIPHER_CTX *c;
    size_t pad;

    TRY(envelope__cbc_check(len));
    chain_take(&data, iv, sizeof iv);
    len -= sizeof iv;
    TRY(envelope__cbc_open_start(ctx, key, iv, &c));
    TRY(open_pieces(c, data, len, out));
    pad = padding(out + len - BLOCK);
    if (pad == 0)
        return ERR_BAD_PADDING;
    *plain_len = len - pad;
    return ERR_OK;
}
