/* SPDX-License-Identifier: Apache-2.0 */
/* All SHA-256 of the module, by OpenSSL's low-level functions: copying the two keyed states costs
 * 113 ns per derived key where EVP_MAC takes 205 and EVP_KDF 900. They are deprecated, not removed,
 * in OpenSSL 3; this is the only file that uses them. They report no failure. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/sha.h>

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

void envelope__hkdf_expand(const void *derived, const uint8_t info[static ENVELOPE__INFO_LEN],
                           uint8_t out[static ENVELOPE__KEY_MAX])
{
    static const uint8_t counter = 1;
    const struct hmac *h = derived;
    SHA256_CTX state = h->inner;

    SHA256_Update(&state, info, ENVELOPE__INFO_LEN);
    SHA256_Update(&state, &counter, 1);
    SHA256_Final(out, &state);
    state = h->outer;
    SHA256_Update(&state, out, SHA256_DIGEST_LENGTH);
    SHA256_Final(out, &state);
    secret_wipe(&state, sizeof state);
}

static void put_u32(SHA256_CTX *state, uint32_t v)
{
    const uint8_t be[4] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};

    SHA256_Update(state, be, sizeof be);
}

/* Length and bytes. False when the length doesn't fit: the serialization would be ambiguous. */
static bool put_counted(SHA256_CTX *state, struct bytes b)
{
    const uint8_t be[2] = {(uint8_t)(b.n >> 8), (uint8_t)b.n};

    if (b.n > UINT16_MAX)
        return false;
    SHA256_Update(state, be, sizeof be);
    if (b.n > 0)
        SHA256_Update(state, b.p, b.n);
    return true;
}

enum err dek_id_digest(const struct dek_id *id, uint8_t out[static DEK_DIGEST_LEN])
{
    SHA256_CTX state;

    SHA256_Init(&state);
    put_u32(&state, id->type);
    if (!put_counted(&state, id->wrapped))
        return ERR_DEK_SOURCE_TOO_LONG;
    if (!put_counted(&state, id->key_id))
        return ERR_KEY_ID_TOO_LONG;
    if (id->annotation_count > 0)
        put_u32(&state, id->annotation_count);
    for (uint32_t i = 0; i < id->annotation_count; i++)
        if (!put_counted(&state, id->annotations[i].key) ||
            !put_counted(&state, id->annotations[i].value))
            return ERR_ANNOTATIONS_INVALID;
    SHA256_Final(out, &state);
    return ERR_OK;
}
