/* SPDX-License-Identifier: Apache-2.0 */
/* All SHA-256 of the module, by OpenSSL's low-level functions: copying the two keyed states costs
 * 113 ns per derived key where EVP_MAC takes 205 and EVP_KDF 900. They are deprecated, not removed,
 * in OpenSSL 3; this is the only file that uses them. They report no failure. They know of no
 * provider either: where FIPS's algorithms are asked for, keys are derived by kdf.c. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/evp.h>
#include <openssl/sha.h>

#include "base/fips.h"
#include "base/secret.h"
#include "envelope/envelope_int.h"

_Static_assert(DEK_DIGEST_LEN == SHA256_DIGEST_LENGTH, "a digest is one SHA-256");
_Static_assert(ENVELOPE__KEY_MAX == SHA256_DIGEST_LENGTH, "one HKDF block is the key");

/* The states behind key ^ ipad and key ^ opad (RFC 2104 section 4). */
struct hmac {
    SHA256_CTX inner, outer;
};

size_t envelope__hmac_size(void)
{
    return sizeof(struct hmac);
}

static void keyed_state(SHA256_CTX *state, const uint8_t key[static SHA256_CBLOCK], uint8_t pad)
{
    uint8_t block[SHA256_CBLOCK];

    for (size_t i = 0; i < sizeof block; i++)
        block[i] = key[i] ^ pad;
    SHA256_Init(state);
    SHA256_Update(state, block, sizeof block);
    secret_wipe(block, sizeof block);
}

void envelope__hmac_init(void *derived, struct bytes key)
{
    struct hmac *h = derived;
    uint8_t block[SHA256_CBLOCK] = {0};

    if (key.n <= sizeof block) {
        memcpy(block, key.p, key.n);
    } else { /* RFC 2104 section 2 */
        SHA256_Init(&h->inner);
        SHA256_Update(&h->inner, key.p, key.n);
        SHA256_Final(block, &h->inner);
    }
    keyed_state(&h->inner, block, 0x36);
    keyed_state(&h->outer, block, 0x5c);
    secret_wipe(block, sizeof block);
}

void envelope__hkdf_expand(const void *derived, struct bytes info,
                           uint8_t out[static ENVELOPE__KEY_MAX])
{
    static const uint8_t counter = 1;
    const struct hmac *h = derived;
    SHA256_CTX state = h->inner;

    SHA256_Update(&state, info.p, info.n);
    SHA256_Update(&state, &counter, 1);
    SHA256_Final(out, &state);
    state = h->outer;
    SHA256_Update(&state, out, SHA256_DIGEST_LENGTH);
    SHA256_Final(out, &state);
    secret_wipe(&state, sizeof state);
}

/* One SHA-256 in pieces: by the provider in force where it has to be, else by the functions above.
 */
struct sha {
    EVP_MD_CTX *evp; /* NULL: low */
    bool is_failed;
    SHA256_CTX low;
};

static void sha_begin(struct sha *s)
{
    s->evp = NULL;
    s->is_failed = false;
    if (!fips_is_on()) {
        SHA256_Init(&s->low);
        return;
    }
    s->evp = EVP_MD_CTX_new();
    s->is_failed = s->evp == NULL || EVP_DigestInit_ex2(s->evp, EVP_sha256(), NULL) != 1;
}

static void sha_put(struct sha *s, const void *p, size_t n)
{
    if (s->is_failed)
        return;
    if (s->evp == NULL)
        SHA256_Update(&s->low, p, n);
    else
        s->is_failed = EVP_DigestUpdate(s->evp, p, n) != 1;
}

static enum err sha_end(struct sha *s, uint8_t out[static SHA256_DIGEST_LENGTH])
{
    if (s->is_failed || s->evp != NULL) {
        s->is_failed = s->is_failed || EVP_DigestFinal_ex(s->evp, out, NULL) != 1;
        EVP_MD_CTX_free(s->evp);
        return s->is_failed ? envelope__crypto_failed(ERR_CRYPTO) : ERR_OK;
    }
    SHA256_Final(out, &s->low);
    return ERR_OK;
}

static void put_u32(struct sha *s, uint32_t v)
{
    const uint8_t be[4] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};

    sha_put(s, be, sizeof be);
}

/* Length and bytes. The length fits: see digestible. */
static void put_counted(struct sha *s, struct bytes b)
{
    const uint8_t be[2] = {(uint8_t)(b.n >> 8), (uint8_t)b.n};

    sha_put(s, be, sizeof be);
    if (b.n > 0)
        sha_put(s, b.p, b.n);
}

/* A length that needs more than its two bytes would make the serialization ambiguous. */
static enum err digestible(const struct dek_id *id)
{
    if (id->wrapped.n > UINT16_MAX)
        return ERR_DEK_SOURCE_TOO_LONG;
    if (id->key_id.n > UINT16_MAX)
        return ERR_KEY_ID_TOO_LONG;
    for (uint32_t i = 0; i < id->annotation_count; i++)
        if (id->annotations[i].key.n > UINT16_MAX || id->annotations[i].value.n > UINT16_MAX)
            return ERR_ANNOTATIONS_INVALID;
    return ERR_OK;
}

enum err dek_id_digest(const struct dek_id *id, uint8_t out[static DEK_DIGEST_LEN])
{
    struct sha s;

    TRY(digestible(id));
    sha_begin(&s);
    put_u32(&s, id->type);
    put_counted(&s, id->wrapped);
    put_counted(&s, id->key_id);
    if (id->annotation_count > 0)
        put_u32(&s, id->annotation_count);
    for (uint32_t i = 0; i < id->annotation_count; i++) {
        put_counted(&s, id->annotations[i].key);
        put_counted(&s, id->annotations[i].value);
    }
    return sha_end(&s, out);
}
