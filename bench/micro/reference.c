/* SPDX-License-Identifier: Apache-2.0 */
#define OPENSSL_SUPPRESS_DEPRECATED /* the low-level SHA-256 is the fastest that OpenSSL has */
#include "reference.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/sha.h>

#define INFO_LEN 32u
#define KEY_LEN 32u

static struct {
    SHA256_CTX inner, outer; /* behind seed ^ ipad, seed ^ opad */
    EVP_CIPHER_CTX *seal, *open;
    size_t random_left;
    uint8_t random[16384];
} ref;

static void must(int ok)
{
    if (ok == 1)
        return;
    fputs("bench: the reference failed\n", stderr);
    exit(1);
}

static void keyed(SHA256_CTX *state, const uint8_t seed[static 32], uint8_t pad)
{
    uint8_t block[SHA256_CBLOCK];

    memset(block, pad, sizeof block);
    for (size_t i = 0; i < 32; i++)
        block[i] ^= seed[i];
    must(SHA256_Init(state));
    must(SHA256_Update(state, block, sizeof block));
}

void reference_init(const uint8_t seed[static 32])
{
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);

    keyed(&ref.inner, seed, 0x36);
    keyed(&ref.outer, seed, 0x5c);
    ref.seal = EVP_CIPHER_CTX_new();
    ref.open = EVP_CIPHER_CTX_new();
    must(cipher != NULL && ref.seal != NULL && ref.open != NULL);
    must(EVP_EncryptInit_ex2(ref.seal, cipher, NULL, NULL, NULL));
    must(EVP_DecryptInit_ex2(ref.open, cipher, NULL, NULL, NULL));
    EVP_CIPHER_free(cipher);
}

static void random_bytes(uint8_t *out, size_t n)
{
    uint8_t *p;

    if (ref.random_left < n) {
        must(RAND_bytes(ref.random, sizeof ref.random));
        ref.random_left = sizeof ref.random;
    }
    p = ref.random + sizeof ref.random - ref.random_left;
    memcpy(out, p, n);
    OPENSSL_cleanse(p, n);
    ref.random_left -= n;
}

/* HKDF-Expand of one block: HMAC(seed, info || 1). */
void reference_derive(const uint8_t info[static REFERENCE_KEY], uint8_t key[static REFERENCE_KEY])
{
    static const uint8_t one = 1;
    SHA256_CTX state = ref.inner;

    SHA256_Update(&state, info, INFO_LEN);
    SHA256_Update(&state, &one, 1);
    SHA256_Final(key, &state);
    state = ref.outer;
    SHA256_Update(&state, key, KEY_LEN);
    SHA256_Final(key, &state);
}

void reference_seal(uint8_t *p, size_t n, const char *aad, size_t aad_len)
{
    uint8_t key[KEY_LEN], *data = p + REFERENCE_HEAD;
    int len;

    random_bytes(p, REFERENCE_HEAD);
    reference_derive(p, key);
    must(EVP_EncryptInit_ex2(ref.seal, NULL, key, p + INFO_LEN, NULL));
    OPENSSL_cleanse(key, sizeof key);
    must(EVP_EncryptUpdate(ref.seal, NULL, &len, (const uint8_t *)aad, (int)aad_len));
    must(EVP_EncryptUpdate(ref.seal, data, &len, data, (int)n));
    must(EVP_EncryptFinal_ex(ref.seal, data + n, &len));
    must(EVP_CIPHER_CTX_ctrl(ref.seal, EVP_CTRL_AEAD_GET_TAG, REFERENCE_TAG, data + n));
}

void reference_open(uint8_t *p, size_t n, const char *aad, size_t aad_len)
{
    uint8_t key[KEY_LEN], *data = p + REFERENCE_HEAD;
    int len;

    reference_derive(p, key);
    must(EVP_DecryptInit_ex2(ref.open, NULL, key, p + INFO_LEN, NULL));
    OPENSSL_cleanse(key, sizeof key);
    must(EVP_DecryptUpdate(ref.open, NULL, &len, (const uint8_t *)aad, (int)aad_len));
    must(EVP_DecryptUpdate(ref.open, data, &len, data, (int)n));
    must(EVP_CIPHER_CTX_ctrl(ref.open, EVP_CTRL_AEAD_SET_TAG, REFERENCE_TAG, data + n));
    must(EVP_DecryptFinal_ex(ref.open, data + n, &len));
}
