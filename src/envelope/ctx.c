/* SPDX-License-Identifier: Apache-2.0 */
/* The happy path: ciphers are fetched and contexts bound to them at start; each value only sets
 * key, nonce and AAD. Key schedules stay in the contexts until the next value or envelope_ctx_wipe.
 * Failure: binding a context again after a wipe allocates, and may fail; then the value is refused
 * (ERR_CRYPTO) and the next one tries again. */
#include <limits.h>
#include <stdlib.h>

#include <openssl/err.h>

#include "envelope/envelope_int.h"

static const struct {
    const char *name;
    size_t key_len;
} ciphers[ENVELOPE__AES_COUNT] = {
    [ENVELOPE__AES_128] = {"AES-128-GCM", 16},
    [ENVELOPE__AES_192] = {"AES-192-GCM", 24},
    [ENVELOPE__AES_256] = {"AES-256-GCM", 32},
};

enum err envelope__crypto_failed(enum err e)
{
    ERR_clear_error();
    return e;
}

static bool cipher_init(struct envelope__cipher *c, const char *name)
{
    c->gcm = EVP_CIPHER_fetch(NULL, name, NULL);
    c->seal = EVP_CIPHER_CTX_new();
    c->open = EVP_CIPHER_CTX_new();
    return c->gcm != NULL && c->seal != NULL && c->open != NULL;
}

enum err envelope_ctx_new(envelope_random_fn random, void *random_arg, struct envelope_ctx **out)
{
    struct envelope_ctx *ctx = calloc(1, sizeof *ctx);

    if (ctx == NULL)
        return ERR_NOMEM;
    ctx->random = random;
    ctx->random_arg = random_arg;
    for (size_t i = 0; i < ENVELOPE__AES_COUNT; i++) {
        if (!cipher_init(&ctx->aes[i], ciphers[i].name)) {
            envelope_ctx_free(ctx);
            return envelope__crypto_failed(ERR_CRYPTO);
        }
    }
    *out = ctx;
    return ERR_OK;
}

void envelope_ctx_free(struct envelope_ctx *ctx)
{
    if (ctx == NULL)
        return;
    for (size_t i = 0; i < ENVELOPE__AES_COUNT; i++) {
        EVP_CIPHER_CTX_free(ctx->aes[i].seal);
        EVP_CIPHER_CTX_free(ctx->aes[i].open);
        EVP_CIPHER_free(ctx->aes[i].gcm);
    }
    free(ctx);
}

void envelope_ctx_wipe(struct envelope_ctx *ctx)
{
    for (size_t i = 0; i < ENVELOPE__AES_COUNT; i++) {
        struct envelope__cipher *c = &ctx->aes[i];

        /* A reset cleanses the cipher's own context; of one that is not bound it does nothing. */
        if (c->seal_bound)
            EVP_CIPHER_CTX_reset(c->seal);
        if (c->open_bound)
            EVP_CIPHER_CTX_reset(c->open);
        c->seal_bound = c->open_bound = false;
    }
}

static struct envelope__cipher *cipher_for(struct envelope_ctx *ctx, size_t key_len)
{
    for (size_t i = 0; i < ENVELOPE__AES_COUNT; i++)
        if (ciphers[i].key_len == key_len)
            return &ctx->aes[i];
    return NULL;
}

enum err envelope__gcm_seal_start(struct envelope_ctx *ctx, struct bytes key,
                                  const uint8_t nonce[static ENVELOPE__NONCE_LEN], struct bytes aad,
                                  EVP_CIPHER_CTX **out)
{
    struct envelope__cipher *c = cipher_for(ctx, key.n);
    int n;

    if (c == NULL || aad.n > INT_MAX)
        return ERR_CRYPTO;
    if (EVP_EncryptInit_ex2(c->seal, c->seal_bound ? NULL : c->gcm, key.p, nonce, NULL) != 1)
        return envelope__crypto_failed(ERR_CRYPTO);
    c->seal_bound = true;
    if (aad.n > 0 && EVP_EncryptUpdate(c->seal, NULL, &n, aad.p, (int)aad.n) != 1)
        return envelope__crypto_failed(ERR_CRYPTO);
    *out = c->seal;
    return ERR_OK;
}

enum err envelope__gcm_open_start(struct envelope_ctx *ctx, struct bytes key,
                                  const uint8_t nonce[static ENVELOPE__NONCE_LEN], struct bytes aad,
                                  EVP_CIPHER_CTX **out)
{
    struct envelope__cipher *c = cipher_for(ctx, key.n);
    int n;

    if (c == NULL || aad.n > INT_MAX)
        return ERR_CRYPTO;
    if (EVP_DecryptInit_ex2(c->open, c->open_bound ? NULL : c->gcm, key.p, nonce, NULL) != 1)
        return envelope__crypto_failed(ERR_CRYPTO);
    c->open_bound = true;
    if (aad.n > 0 && EVP_DecryptUpdate(c->open, NULL, &n, aad.p, (int)aad.n) != 1)
        return envelope__crypto_failed(ERR_CRYPTO);
    *out = c->open;
    return ERR_OK;
}
