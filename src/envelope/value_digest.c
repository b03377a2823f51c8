/* SPDX-License-Identifier: Apache-2.0 */
/* BLAKE2b with a key, over the length of the etcd key, that key, and the value slice by slice;
 * where FIPS's algorithms are asked for HMAC-SHA-256 over the same. */
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <sodium.h>

#include "base/fips.h"
#include "envelope/envelope_int.h"

_Static_assert(ENVELOPE__DIGEST_KEY_LEN >= crypto_generichash_KEYBYTES_MIN &&
                   ENVELOPE__DIGEST_KEY_LEN <= crypto_generichash_KEYBYTES_MAX,
               "a key that BLAKE2b takes");

static enum err key_of(struct envelope_ctx *ctx)
{
    if (ctx->has_digest_key)
        return ERR_OK;
    TRY(ctx->random(ctx->random_arg, ctx->digest_key, sizeof ctx->digest_key));
    ctx->has_digest_key = true;
    return ERR_OK;
}

static bool mac_value(EVP_MAC_CTX *mac, struct bytes aad, struct chain_pos pos, size_t len)
{
    uint64_t aad_len = aad.n;

    if (EVP_MAC_update(mac, (const uint8_t *)&aad_len, sizeof aad_len) != 1 ||
        (aad.n > 0 && EVP_MAC_update(mac, aad.p, aad.n) != 1))
        return false;
    while (len > 0) {
        struct bytes piece = chain_peek(&pos, len);

        if (piece.n == 0 || EVP_MAC_update(mac, piece.p, piece.n) != 1)
            return false;
        chain_skip(&pos, piece.n);
        len -= piece.n;
    }
    return true;
}

static enum err hmac_digest(const struct envelope_ctx *ctx, struct bytes aad, struct chain_pos pos,
                            size_t len, uint8_t out[static DEK_DIGEST_LEN])
{
    char digest[] = "SHA2-256";
    const OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };
    EVP_MAC *hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    EVP_MAC_CTX *mac = hmac == NULL ? NULL : EVP_MAC_CTX_new(hmac);
    size_t n = 0;
    bool is_done = mac != NULL &&
                   EVP_MAC_init(mac, ctx->digest_key, sizeof ctx->digest_key, params) == 1 &&
                   mac_value(mac, aad, pos, len) &&
                   EVP_MAC_final(mac, out, &n, DEK_DIGEST_LEN) == 1 && n == DEK_DIGEST_LEN;

    EVP_MAC_CTX_free(mac);
    EVP_MAC_free(hmac);
    return is_done ? ERR_OK : envelope__crypto_failed(ERR_CRYPTO);
}

enum err envelope_value_digest(struct envelope_ctx *ctx, struct bytes aad, struct chain_pos pos,
                               size_t len, uint8_t out[static DEK_DIGEST_LEN])
{
    crypto_generichash_state state;
    uint64_t aad_len = aad.n;

    TRY(key_of(ctx));
    if (fips_is_on())
        return hmac_digest(ctx, aad, pos, len, out);
    crypto_generichash_init(&state, ctx->digest_key, sizeof ctx->digest_key, DEK_DIGEST_LEN);
    crypto_generichash_update(&state, (const uint8_t *)&aad_len, sizeof aad_len);
    crypto_generichash_update(&state, aad.p, aad.n);
    while (len > 0) {
        struct bytes piece = chain_peek(&pos, len);

        crypto_generichash_update(&state, piece.p, piece.n);
        chain_skip(&pos, piece.n);
        len -= piece.n;
    }
    crypto_generichash_final(&state, out, DEK_DIGEST_LEN);
    return ERR_OK;
}
