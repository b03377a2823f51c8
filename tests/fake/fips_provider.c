/* SPDX-License-Identifier: Apache-2.0 */
#include "fips_provider.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/params.h>

#define OPERATIONS (OSSL_OP__HIGHEST + 1)

/* What FIPS 140 does not approve, by the beginning of its first name. */
static const char *const unapproved[] = {
    "ChaCha",   "CHACHA",  "BLAKE",    "MD5",      "SM2",    "SM3",    "SM4",  "RIPEMD", "ARIA",
    "CAMELLIA", "SIPHASH", "Poly1305", "POLY1305", "SCRYPT", "X25519", "X448", "RC4",    "NULL",
};

struct fake {
    OSSL_LIB_CTX *libctx; /* of the default provider behind */
    OSSL_PROVIDER *real;
    const char *without;
    OSSL_ALGORITHM *lists[OPERATIONS]; /* made at the first question, kept to the end */
};

static struct fake fake;

/* Is name one of those between colons in names? */
static int has_name(const char *names, const char *name)
{
    size_t n = strlen(name);

    for (const char *at = names; at != NULL; at = strchr(at, ':')) {
        at += *at == ':';
        if (strncmp(at, name, n) == 0 && (at[n] == ':' || at[n] == '\0'))
            return 1;
    }
    return 0;
}

static int is_offered(const char *names)
{
    if (fake.without != NULL && has_name(names, fake.without))
        return 0;
    for (size_t i = 0; i < sizeof unapproved / sizeof unapproved[0]; i++)
        if (strncmp(names, unapproved[i], strlen(unapproved[i])) == 0)
            return 0;
    return 1;
}

static const OSSL_ALGORITHM *query(void *arg, int operation, int *no_cache)
{
    const OSSL_ALGORITHM *real;
    size_t count = 0, kept = 0;

    (void)arg;
    if (operation < 0 || operation >= OPERATIONS)
        return NULL;
    *no_cache = 0;
    if (fake.lists[operation] != NULL)
        return fake.lists[operation];
    real = OSSL_PROVIDER_query_operation(fake.real, operation, no_cache);
    if (real == NULL)
        return NULL;
    while (real[count].algorithm_names != NULL)
        count++;
    fake.lists[operation] = calloc(count + 1, sizeof *real);
    for (size_t i = 0; fake.lists[operation] != NULL && i < count; i++) {
        if (!is_offered(real[i].algorithm_names))
            continue;
        fake.lists[operation][kept] = real[i];
        fake.lists[operation][kept++].property_definition = "provider=fips,fips=yes";
    }
    return fake.lists[operation];
}

static int get_params(void *arg, OSSL_PARAM params[])
{
    OSSL_PARAM *name = OSSL_PARAM_locate(params, OSSL_PROV_PARAM_NAME);
    OSSL_PARAM *version = OSSL_PARAM_locate(params, OSSL_PROV_PARAM_VERSION);

    (void)arg;
    return (name == NULL || OSSL_PARAM_set_utf8_ptr(name, FAKE_FIPS_NAME)) &&
           (version == NULL || OSSL_PARAM_set_utf8_ptr(version, "0"));
}

/* TLS groups and the like: the default provider's own. */
static int get_capabilities(void *arg, const char *capability, OSSL_CALLBACK *cb, void *cb_arg)
{
    (void)arg;
    return OSSL_PROVIDER_get_capabilities(fake.real, capability, cb, cb_arg);
}

static void teardown(void *arg)
{
    (void)arg;
    for (size_t i = 0; i < OPERATIONS; i++)
        free(fake.lists[i]);
    OSSL_PROVIDER_unload(fake.real);
    OSSL_LIB_CTX_free(fake.libctx);
    memset(&fake, 0, sizeof fake);
}

int fake_fips_init(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in,
                   const OSSL_DISPATCH **out, void **provctx)
{
    static const OSSL_DISPATCH functions[] = {
        {OSSL_FUNC_PROVIDER_QUERY_OPERATION, (void (*)(void))query},
        {OSSL_FUNC_PROVIDER_GET_PARAMS, (void (*)(void))get_params},
        {OSSL_FUNC_PROVIDER_GET_CAPABILITIES, (void (*)(void))get_capabilities},
        {OSSL_FUNC_PROVIDER_TEARDOWN, (void (*)(void))teardown},
        {0, NULL},
    };

    (void)handle;
    (void)in;
    fake.without = getenv("FAKE_FIPS_WITHOUT");
    fake.libctx = OSSL_LIB_CTX_new();
    fake.real = fake.libctx == NULL ? NULL : OSSL_PROVIDER_load(fake.libctx, "default");
    if (fake.real == NULL)
        return 0;
    *out = functions;
    *provctx = OSSL_PROVIDER_get0_provider_ctx(fake.real);
    return 1;
}

#ifdef FAKE_FIPS_MODULE
OSSL_provider_init_fn OSSL_provider_init;

int OSSL_provider_init(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in,
                       const OSSL_DISPATCH **out, void **provctx)
{
    return fake_fips_init(handle, in, out, provctx);
}
#endif
