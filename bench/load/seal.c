/* SPDX-License-Identifier: Apache-2.0 */
#include "seal.h"

#include <string.h>

#include <openssl/rand.h>

#include "base/secret.h"
#include "envelope/envelope.h"
#include "pb/pb.h"
#include "peer.h"

#define KEY_ID "bench-key-1"
#define SEED_LEN 32
#define WRAP_PAD 28 /* as long as a nonce and a tag: what a plugin with AES-GCM adds */

static struct {
    struct envelope_ctx *ctx;
    struct dek *dek;
    struct provider provider;
    struct slab_pool pool;
} seal;

static enum err random_bytes(void *arg, void *out, size_t n)
{
    (void)arg;
    return RAND_bytes(out, (int)n) == 1 ? ERR_OK : ERR_RANDOM;
}

static void xor_to(uint8_t *out, const uint8_t *in, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = in[i] ^ 0xa5;
}

static void must(enum err e)
{
    if (e != ERR_OK)
        die("sealing: error %d", (int)e);
}

void seal_init(void)
{
    uint8_t seed[SEED_LEN], wrapped[WRAP_PAD + SEED_LEN] = {0};
    struct dek_id id = {.type = DEK_HKDF_SEED,
                        .key_id = BYTES_LIT(KEY_ID),
                        .wrapped = bytes_of(wrapped, sizeof wrapped)};

    must(secret_init());
    must(random_bytes(NULL, seed, sizeof seed));
    xor_to(wrapped + WRAP_PAD, seed, sizeof seed);
    must(dek_new(&id, bytes_of(seed, sizeof seed), &seal.dek));
    must(envelope_ctx_new(random_bytes, NULL, &seal.ctx));
    slab_pool_init(&seal.pool, 4);
    seal.provider = (struct provider){.kind = PROVIDER_KMS_V2,
                                      .name = SEAL_PROVIDER,
                                      .prefix = BYTES_LIT("k8s:enc:kms:v2:" SEAL_PROVIDER ":")};
}

void seal_value(struct bytes key, struct bytes value, uint32_t number, struct buf *out)
{
    uint8_t sealed[4096];
    struct chain in = {0};
    size_t n;

    must(envelope_sealed_len(&seal.provider, seal.dek, value.n, &n));
    if (n > sizeof sealed)
        die("a value of %zu bytes", value.n);
    must(chain_push_copy(&in, &seal.pool, value.p, value.n, 0));
    must(envelope_seal(seal.ctx, &seal.provider, seal.dek, key, chain_begin(&in), value.n, sealed));
    chain_fini(&in);
    buf_field(out, number, bytes_of(sealed, n));
}

/* Field 1 of a request: plaintext of Encrypt, ciphertext of Decrypt. */
static struct bytes field_one(struct bytes request)
{
    struct pb_span f;

    while (pb_span_next(&request, &f) == PB_FIELD)
        if (f.number == 1 && f.wire == PB_LEN)
            return f.value;
    return (struct bytes){0};
}

void seal_kms_answer(struct bytes path, struct bytes request, struct buf *out)
{
    struct bytes in = field_one(request);
    uint8_t t[1024] = {0};

    if (bytes_eq(path, BYTES_LIT("/v2.KeyManagementService/Status"))) {
        buf_field(out, 1, BYTES_LIT("v2"));
        buf_field(out, 2, BYTES_LIT("ok"));
        buf_field(out, 3, BYTES_LIT(KEY_ID));
    } else if (bytes_eq(path, BYTES_LIT("/v2.KeyManagementService/Encrypt"))) {
        if (in.n > sizeof t - WRAP_PAD)
            die("kms: %zu bytes to wrap", in.n);
        xor_to(t + WRAP_PAD, in.p, in.n);
        buf_field(out, 1, bytes_of(t, WRAP_PAD + in.n));
        buf_field(out, 2, BYTES_LIT(KEY_ID));
    } else {
        if (in.n < WRAP_PAD || in.n > sizeof t)
            die("kms: %zu bytes to unwrap", in.n);
        xor_to(t, in.p + WRAP_PAD, in.n - WRAP_PAD);
        buf_field(out, 1, bytes_of(t, in.n - WRAP_PAD));
    }
}
