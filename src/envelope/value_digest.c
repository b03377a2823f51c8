/* SPDX-License-Identifier: Apache-2.0 */
/* BLAKE2b with a key, over the length of the etcd key, that key, and the value slice by slice. */
#include <sodium.h>

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

enum err envelope_value_digest(struct envelope_ctx *ctx, struct bytes aad, struct chain_pos pos,
                               size_t len, uint8_t out[static DEK_DIGEST_LEN])
{
    crypto_generichash_state state;
    uint64_t aad_len = aad.n;

    TRY(key_of(ctx));
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
