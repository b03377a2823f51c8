/* SPDX-License-Identifier: Apache-2.0 */
/* The happy path:
 *   1. at start the ciphers are fetched and the contexts bound to them;
 *   2. each value only sets key, nonce and AAD; the key schedule stays in the context until the
 *      next value or envelope_ctx_wipe;
 *   3. after a wipe the next value binds its context again.
 * Failure modes: binding allocates and may fail. Then the value is refused (ERR_CRYPTO), and the
 * next one tries again. */
#include <limits.h>
#include <stdlib.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <sodium.h>

#include "base/fips.h"
#include "envelope/envelope_int.h"

static const char *const names[ENVELOPE__MODE_COUNT][ENVELOPE__AES_COUNT] = {
    [ENVELOPE__GCM] = {"AES-128-GCM", "AES-192-GCM", "AES-256-GCM"},
    [ENVELOPE__CBC] = {"AES-128-CBC", "AES-192-CBC", "AES-256-CBC"},
};

enum err envelope__crypto_failed(enum err e)
{
    ERR_clear_error();
    return e;
}

static bool cipher_init(struct envelope__cipher *c, const char *name)
{
    c->evp = EVP_CIPHER_fetch(NULL, name, NULL);
    c->seal = EVP_CIPHER_CTX_new();
    c->open = EVP_CIPHER_CTX_new();
    return c->evp != NULL && c->seal != NULL && c->open != NULL;
}

static void cipher_fini(struct envelope__cipher *c)
{
    EVP_CIPHER_CTX_free(c->seal);
    EVP_CIPHER_CTX_free(c->open);
    EVP_CIPHER_free(c->evp);
}

/* A reset cleanses the cipher's own context; of one that is not bound it does nothing. */
static void cipher_wipe(struct envelope__cipher *c)
{
    if (c->seal_bound)
        EVP_CIPHER_CTX_reset(c->seal);
    if (c->open_bound)
        EVP_CIPHER_CTX_reset(c->open);
    c->seal_bound = c->open_bound = false;
}

enum err envelope_ctx_new(envelope_random_fn random, void *random_arg, struct envelope_ctx **out)
{
    struct envelope_ctx *ctx = calloc(1, sizeof *ctx);

    if (ctx == NULL)
        return ERR_NOMEM;
    ctx->random = random;
    ctx->random_arg = random_arg;
    if (sodium_init() < 0) /* chooses the code for this CPU; safe to repeat, from any thread */
        goto err_ctx;
    if (fips_is_on() && envelope__kdf_init(&ctx->kdf) != ERR_OK)
        goto err_ctx;
    for (size_t mode = 0; mode < ENVELOPE__MODE_COUNT; mode++)
        for (size_t i = 0; i < ENVELOPE__AES_COUNT; i++)
            if (!cipher_init(&ctx->aes[mode][i], names[mode][i]))
                goto err_ctx;
    *out = ctx;
    return ERR_OK;

err_ctx:
    envelope_ctx_free(ctx);
    return envelope__crypto_failed(ERR_CRYPTO);
}

void envelope_ctx_free(struct envelope_ctx *ctx)
{
    if (ctx == NULL)
        return;
    envelope__memo_wipe(ctx);
    for (size_t mode = 0; mode < ENVELOPE__MODE_COUNT; mode++)
        for (size_t i = 0; i < ENVELOPE__AES_COUNT; i++)
            cipher_fini(&ctx->aes[mode][i]);
    envelope__kdf_fini(&ctx->kdf);
    free(ctx);
}

void envelope_ctx_wipe(struct envelope_ctx *ctx)
{
    envelope__memo_wipe(ctx);
    envelope__kdf_wipe(&ctx->kdf);
    for (size_t mode = 0; mode < ENVELOPE__MODE_COUNT; mode++)
        for (size_t i = 0; i < ENVELOPE__AES_COUNT; i++)
            cipher_wipe(&ctx->aes[mode][i]);
}

static struct envelope__cipher *cipher_for(struct envelope_ctx *ctx, enum envelope__mode mode,
                                           size_t key_len)
{
    switch (key_len) {
    case 16:
        return &ctx->aes[mode][ENVELOPE__AES_128];
    case 24:
        return &ctx->aes[mode][ENVELOPE__AES_192];
    case 32:
        return &ctx->aes[mode][ENVELOPE__AES_256];
    default:
        return NULL;
    }
}

static enum err seal_start(struct envelope__cipher *c, struct bytes key, const uint8_t *iv)
{
    if (c == NULL)
        return ERR_CRYPTO;
    if (EVP_EncryptInit_ex2(c->seal, c->seal_bound ? NULL : c->evp, key.p, iv, NULL) != 1)
        return envelope__crypto_failed(ERR_CRYPTO);
    c->seal_bound = true;
    return ERR_OK;
}

static enum err open_start(struct envelope__cipher *c, struct bytes key, const uint8_t *iv,
                           const OSSL_PARAM *params)
{
    if (c == NULL)
        return ERR_CRYPTO;
    if (EVP_DecryptInit_ex2(c->open, c->open_bound ? NULL : c->evp, key.p, iv, params) != 1)
        return envelope__crypto_failed(ERR_CRYPTO);
    c->open_bound = true;
    return ERR_OK;
}

enum err envelope__gcm_seal_start(struct envelope_ctx *ctx, struct bytes key,
                                  const uint8_t nonce[static ENVELOPE__NONCE_LEN], struct bytes aad,
                                  EVP_CIPHER_CTX **out)
{
    struct envelope__cipher *c = cipher_for(ctx, ENVELOPE__GCM, key.n);
    int n;

    if (aad.n > INT_MAX)
        return ERR_CRYPTO;
    TRY(seal_start(c, key, nonce));
    if (aad.n > 0 && EVP_EncryptUpdate(c->seal, NULL, &n, aad.p, (int)aad.n) != 1)
        return envelope__crypto_failed(ERR_CRYPTO);
    *out = c->seal;
    return ERR_OK;
}

/* The tag comes with the rest: a call of its own for it costs as much as the AAD's. */
enum err envelope__gcm_open_start(struct envelope_ctx *ctx, struct bytes key,
                                  const uint8_t nonce[static ENVELOPE__NONCE_LEN], struct bytes aad,
                                  const uint8_t tag[static ENVELOPE__TAG_LEN], EVP_CIPHER_CTX **out)
{
    struct envelope__cipher *c = cipher_for(ctx, ENVELOPE__GCM, key.n);
    const OSSL_PARAM params[] = {OSSL_PARAM_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG,
                                                         (void *)(uintptr_t)tag, ENVELOPE__TAG_LEN),
                                 OSSL_PARAM_END};
    int n;

    if (aad.n > INT_MAX)
        return ERR_CRYPTO;
    TRY(open_start(c, key, nonce, params));
    if (aad.n > 0 && EVP_DecryptUpdate(c->open, NULL, &n, aad.p, (int)aad.n) != 1)
        return envelope__crypto_failed(ERR_CRYPTO);
    *out = c->open;
    return ERR_OK;
}

enum err envelope__cbc_seal_start(struct envelope_ctx *ctx, struct bytes key,
                                  const uint8_t iv[static ENVELOPE__BLOCK_LEN],
                                  EVP_CIPHER_CTX **out)
{
    struct envelope__cipher *c = cipher_for(ctx, ENVELOPE__CBC, key.n);

    TRY(seal_start(c, key, iv));
    *out = c->seal;
    return ERR_OK;
}

enum err envelope__cbc_open_start(struct envelope_ctx *ctx, struct bytes key,
                                  const uint8_t iv[static ENVELOPE__BLOCK_LEN],
                                  EVP_CIPHER_CTX **out)
{
    struct envelope__cipher *c = cipher_for(ctx, ENVELOPE__CBC, key.n);

    TRY(open_start(c, key, iv, NULL));
    if (EVP_CIPHER_CTX_set_padding(c->open, 0) != 1)
        return envelope__crypto_failed(ERR_CRYPTO);
    *out = c->open;
    return ERR_OK;
}
