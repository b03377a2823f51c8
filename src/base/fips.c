/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fips.h"

#include <stdio.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/provider.h>
#include <openssl/rand.h>

#include "base/log.h"

bool fips__on;

static bool has_cipher(const char *name)
{
    EVP_CIPHER *c = EVP_CIPHER_fetch(NULL, name, NULL);

    EVP_CIPHER_free(c);
    return c != NULL;
}

static bool has_digest(const char *name)
{
    EVP_MD *md = EVP_MD_fetch(NULL, name, NULL);

    EVP_MD_free(md);
    return md != NULL;
}

static bool has_kdf(const char *name)
{
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, name, NULL);

    EVP_KDF_free(kdf);
    return kdf != NULL;
}

static bool has_mac(const char *name)
{
    EVP_MAC *mac = EVP_MAC_fetch(NULL, name, NULL);

    EVP_MAC_free(mac);
    return mac != NULL;
}

/* The generator of OpenSSL's configuration can be made and seeded. */
static bool has_random(const char *name)
{
    (void)name;
    return RAND_get0_private(NULL) != NULL && RAND_status() == 1;
}

enum err fips_init(const char **missing)
{
    static const struct {
        const char *name;
        bool (*has)(const char *name);
    } needed[] = {
        {"AES-128-GCM", has_cipher},
        {"AES-256-GCM", has_cipher},
        {"AES-256-CBC", has_cipher},
        {"SHA2-256", has_digest},
        {"HKDF", has_kdf},
        {"HMAC", has_mac},
        {"a random generator", has_random},
    };
    enum err e = ERR_OK;

    /* Without it nothing of openssl.cnf is known yet. A broken file leaves OpenSSL without
     * providers or as it is by default; which of both shows below and in the start line. */
    (void)OPENSSL_init_crypto(OPENSSL_INIT_LOAD_CONFIG, NULL);
    fips__on = EVP_default_properties_is_fips_enabled(NULL) == 1;
    for (size_t i = 0; fips__on && e == ERR_OK && i < sizeof needed / sizeof needed[0]; i++) {
        if (!needed[i].has(needed[i].name)) {
            *missing = needed[i].name;
            e = ERR_CRYPTO;
        }
    }
    ERR_clear_error();
    return e;
}

const char *fips_provider(char out[static FIPS_PROVIDER_TEXT])
{
    EVP_CIPHER *c = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
    const OSSL_PROVIDER *of = c == NULL ? NULL : EVP_CIPHER_get0_provider(c);
    char *name = NULL, *version = NULL;
    OSSL_PARAM ask[] = {
        OSSL_PARAM_utf8_ptr(OSSL_PROV_PARAM_NAME, &name, 0),
        OSSL_PARAM_utf8_ptr(OSSL_PROV_PARAM_VERSION, &version, 0),
        OSSL_PARAM_END,
    };

    if (of == NULL || OSSL_PROVIDER_get_params(of, ask) != 1)
        name = NULL;
    snprintf(out, FIPS_PROVIDER_TEXT, "%s %s", name == NULL ? "unknown" : name,
             version == NULL ? "" : version);
    EVP_CIPHER_free(c);
    ERR_clear_error();
    return out;
}

void fips_log(void)
{
    char text[FIPS_PROVIDER_TEXT];

    if (fips_is_on())
        LOG(INFO, "only FIPS algorithms are used, as OpenSSL's configuration asks",
            "fips=yes provider=\"%s\"", fips_provider(text));
}
