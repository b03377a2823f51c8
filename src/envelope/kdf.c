/* SPDX-License-Identifier: Apache-2.0 */
/* HKDF by the provider in force, which hash.c's way goes past. One context, which keeps digest and
 * mode from value to value; a wipe takes the key out, and the next value sets all of it anew. */
#include <openssl/core_names.h>
#include <openssl/kdf.h>

#include "envelope/envelope_int.h"

enum err envelope__kdf_init(struct envelope__kdf *k)
{
    EVP_KDF *hkdf = EVP_KDF_fetch(NULL, "HKDF", NULL);

    k->is_bound = false;
    k->ctx = hkdf == NULL ? NULL : EVP_KDF_CTX_new(hkdf);
    EVP_KDF_free(hkdf); /* the context holds it */
    return k->ctx == NULL ? envelope__crypto_failed(ERR_CRYPTO) : ERR_OK;
}

void envelope__kdf_wipe(struct envelope__kdf *k)
{
    if (k->is_bound)
        EVP_KDF_CTX_reset(k->ctx);
    k->is_bound = false;
}

void envelope__kdf_fini(struct envelope__kdf *k)
{
    EVP_KDF_CTX_free(k->ctx);
    k->ctx = NULL;
}

/* The cast of const away: OpenSSL's parameters have one type for what is read and written. */
static OSSL_PARAM octets(const char *name, struct bytes b)
{
    return OSSL_PARAM_construct_octet_string(name, (void *)(uintptr_t)b.p, b.n);
}

enum err envelope__kdf_expand(struct envelope__kdf *k, struct bytes key, struct bytes info,
                              uint8_t out[static ENVELOPE__KEY_MAX])
{
    char digest[] = "SHA2-256";
    int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;
    OSSL_PARAM params[] = {
        octets(OSSL_KDF_PARAM_KEY, key),
        octets(OSSL_KDF_PARAM_INFO, info),
        k->is_bound ? OSSL_PARAM_construct_end()
                    : OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode),
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };

    if (EVP_KDF_derive(k->ctx, out, ENVELOPE__KEY_MAX, params) != 1) {
        k->is_bound = true; /* so that a wipe resets it */
        envelope__kdf_wipe(k);
        return envelope__crypto_failed(ERR_CRYPTO);
    }
    k->is_bound = true;
    return ERR_OK;
}
