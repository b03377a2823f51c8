/* SPDX-License-Identifier: Apache-2.0 */
/* Targets: envelope_sealed_len, envelope_seal, then envelope_identify and the two ways to open.
 * What is sealed opens to itself, however it was cut; not under another key, and not after a bit of
 * its encrypted data has changed. The cuts of the plaintext don't change the bytes.
 *
 * Input: seed, pieces, place of the changed bit, length of the key, key, plaintext. */
#include "fuzz.h"

static struct buf seal(struct kit *k, const struct dek *dek, struct bytes key, struct bytes plain,
                       uint32_t pieces, uint16_t seed)
{
    struct chain in;
    struct buf b = {0};

    kit_chain(k, plain, pieces, &in);
    CHECK(envelope_sealed_len(&k->kms, dek, plain.n, &b.n) == ERR_OK);
    b.p = malloc(b.n);
    CHECK(b.p != NULL);
    k->random = seed; /* whatever the cuts took */
    CHECK(envelope_seal(k->ctx, &k->kms, dek, key, chain_begin(&in), plain.n, b.p) == ERR_OK);
    chain_fini(&in);
    return b;
}

static enum err open_in_place(struct kit *k, const struct dek *dek, struct bytes key,
                              struct bytes stored, struct bytes plain, uint32_t pieces,
                              size_t *data_at)
{
    struct arena arena = {0};
    struct envelope_value v;
    struct chain in, got = {0};
    struct buf b;
    size_t at;
    enum err e;

    kit_chain(k, stored, pieces, &in);
    CHECK(envelope_identify(&k->secrets, chain_begin(&in), in.len, &arena, NULL, &v) == ERR_OK);
    CHECK(v.form == ENVELOPE_IN_PLACE && v.needs_dek && v.plain_len == plain.n && !v.is_stale);
    CHECK(dek_id_eq(&v.id, &dek->id));
    *data_at = v.data_at;
    e = fuzz_open_in_place(k->ctx, &v, dek, key, &in, &at);
    if (e == ERR_OK) {
        CHECK(chain_share(&got, &in, at, v.plain_len) == ERR_OK);
        b = buf_chain(&got);
        CHECK(bytes_eq(buf_bytes(&b), plain));
        buf_free(&b);
    }
    chain_fini(&got);
    chain_fini(&in);
    arena_fini(&arena);
    return e;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes in = bytes_of(data, size);
    uint16_t seed = fuzz_u16(&in), bit;
    struct kit *k = kit_get(seed);
    const struct dek *dek = k->deks[seed % (KIT_DEKS - 1)];
    uint32_t pieces = 1 + fuzz_u8(&in) % 50;
    struct bytes key, plain, wrong;
    struct buf a, b, other;
    size_t at;

    bit = fuzz_u16(&in);
    key = fuzz_take(&in, fuzz_u8(&in));
    plain = in;
    a = seal(k, dek, key, plain, pieces, seed);
    b = seal(k, dek, key, plain, 1, seed);
    CHECK(bytes_eq(buf_bytes(&a), buf_bytes(&b)));
    CHECK(open_in_place(k, dek, key, buf_bytes(&a), plain, pieces, &at) == ERR_OK);
    CHECK(plain.n < 8 || !bytes_contain(bytes_of(a.p + at, 60 + plain.n), plain));

    other = buf_of(key);
    wrong = buf_bytes(&other);
    if (wrong.n > 0)
        other.p[bit % wrong.n] ^= 1;
    else
        wrong = BYTES_LIT("x");
    CHECK(open_in_place(k, dek, wrong, buf_bytes(&a), plain, pieces, &at) == ERR_AUTH_FAILED);
    /* info, nonce, ciphertext and tag: 32 + 12 + n + 16 bytes. */
    a.p[at + bit / 8 % (60 + plain.n)] ^= (uint8_t)(1u << bit % 8);
    CHECK(open_in_place(k, dek, key, buf_bytes(&a), plain, pieces, &at) == ERR_AUTH_FAILED);
    fuzz_deep();
    buf_free(&a);
    buf_free(&b);
    buf_free(&other);
    kit_done(k);
    return 0;
}
