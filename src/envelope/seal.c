/* SPDX-License-Identifier: Apache-2.0 */
#include "envelope/envelope_int.h"

enum err envelope_sealed_len(const struct provider *provider, const struct dek *dek,
                             size_t plain_len, size_t *out)
{
    const struct envelope__kind *kind = envelope__kind(provider);

    return kind->sealed_len == NULL ? ERR_CONFIG : kind->sealed_len(provider, dek, plain_len, out);
}

enum err envelope_seal(struct envelope_ctx *ctx, const struct provider *provider,
                       const struct dek *dek, struct bytes aad, struct chain_pos in, size_t len,
                       uint8_t *out)
{
    size_t sealed_len;

    TRY(envelope_sealed_len(provider, dek, len, &sealed_len));
    if (envelope__kind(provider)->seal == NULL)
        return ERR_CONFIG;
    return envelope__kind(provider)->seal(ctx, provider, dek, aad, in, len, out);
}
