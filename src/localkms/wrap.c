/* SPDX-License-Identifier: Apache-2.0 */
#include "localkms/wrap.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "base/randpool.h"
#include "base/secret.h"

#define VERSION 1u
#define NONCE_LEN 12u
#define TAG_LEN 16u

_Static_assert(1 + NONCE_LEN + TAG_LEN == WRAP_OVERHEAD, "layout of a wrapped DEK");

static bool seal(EVP_CIPHER_CTX *c, const struct kek *kek, struct bytes plain, uint8_t *out)
{
    uint8_t *nonce = out + 1, *text = nonce + NONCE_LEN;
    int n = 0;

    return EVP_EncryptInit_ex(c, EVP_aes_256_gcm(), NULL, kek->key, nonce) == 1 &&
           EVP_EncryptUpdate(c, NULL, &n, (const uint8_t *)kek->id, KEK_ID_LEN) == 1 &&
           (plain.n == 0 || EVP_EncryptUpdate(c, text, &n, plain.p, (int)plain.n) == 1) &&
           EVP_EncryptFinal_ex(c, text + plain.n, &n) == 1 &&
           EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, TAG_LEN, text + plain.n) == 1;
}

enum err wrap_seal(const struct kek *kek, struct bytes plain, uint8_t *out)
{
    EVP_CIPHER_CTX *c;
    bool ok;

    CHECK(plain.n <= INT32_MAX - WRAP_OVERHEAD);
    out[0] = VERSION;
    TRY(random_get(out + 1, NONCE_LEN));
    c = EVP_CIPHER_CTX_new();
    ok = c != NULL && seal(c, kek, plain, out);
    EVP_CIPHER_CTX_free(c); /* wipes the key schedule */
    return ok ? ERR_OK : ERR_CRYPTO;
}

static enum err open_with(EVP_CIPHER_CTX *c, const struct kek *kek, const uint8_t *nonce,
                          struct bytes text, const uint8_t *tag, uint8_t *out)
{
    int n = 0;

    if (EVP_DecryptInit_ex(c, EVP_aes_256_gcm(), NULL, kek->key, nonce) != 1 ||
        EVP_DecryptUpdate(c, NULL, &n, (const uint8_t *)kek->id, KEK_ID_LEN) != 1 ||
        (text.n > 0 && EVP_DecryptUpdate(c, out, &n, text.p, (int)text.n) != 1) ||
        EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_SET_TAG, TAG_LEN, (void *)(uintptr_t)tag) != 1)
        return ERR_CRYPTO;
    return EVP_DecryptFinal_ex(c, out + text.n, &n) == 1 ? ERR_OK : ERR_AUTH_FAILED;
}

enum err wrap_open(const struct kek *kek, struct bytes wrapped, uint8_t *out)
{
    EVP_CIPHER_CTX *c;
    struct bytes text;
    enum err e;

    if (wrapped.n < WRAP_OVERHEAD || wrapped.n > INT32_MAX || wrapped.p[0] != VERSION)
        return ERR_AUTH_FAILED;
    text = bytes_of(wrapped.p + 1 + NONCE_LEN, wrapped.n - WRAP_OVERHEAD);
    c = EVP_CIPHER_CTX_new();
    e = c == NULL ? ERR_CRYPTO
                  : open_with(c, kek, wrapped.p + 1, text, wrapped.p + wrapped.n - TAG_LEN, out);
    EVP_CIPHER_CTX_free(c);
    if (e != ERR_OK)
        secret_wipe(out, text.n);
    return e;
}
