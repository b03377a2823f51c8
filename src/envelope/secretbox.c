/* SPDX-License-Identifier: Apache-2.0 */
/* NaCl's secretbox over chains: nonce(24) tag(16) ciphertext.
 *
 * libsodium's own function wants one piece, so its parts are put together here: the XSalsa20 key is
 * HSalsa20(key, nonce[0..16)); of the keystream under nonce[16..24)
 *
 *   | 32 bytes: Poly1305's key | 32 bytes | 64 bytes | ...
 *                              ^ the message begins here
 *
 * byte i of the message is XORed with byte 32 + i. Opening reads the ciphertext twice: the tag is
 * verified before the first byte is decrypted. */
#include <openssl/crypto.h>
#include <sodium.h>

#include "base/fips.h"
#include "base/secret.h"
#include "envelope/envelope_int.h"

#define STREAM_BLOCK 64u
#define MAC_KEY_LEN crypto_onetimeauth_poly1305_KEYBYTES

_Static_assert(ENVELOPE__TAG_LEN == crypto_onetimeauth_poly1305_BYTES, "the tag is Poly1305's");
_Static_assert(ENVELOPE__BOX_NONCE_LEN == crypto_secretbox_xsalsa20poly1305_NONCEBYTES, "a nonce");
_Static_assert(ENVELOPE__KEY_MAX == crypto_secretbox_xsalsa20poly1305_KEYBYTES, "a key");

/* Key and nonce of the Salsa20 stream of one value. Its user wipes it. */
struct box {
    uint8_t key[crypto_stream_salsa20_KEYBYTES];
    uint8_t nonce[crypto_stream_salsa20_NONCEBYTES];
};

static void box_init(struct box *b, struct bytes key, const uint8_t nonce[static 24])
{
    CHECK(key.n == ENVELOPE__KEY_MAX);
    crypto_core_hsalsa20(b->key, nonce, key.p, NULL);
    memcpy(b->nonce, nonce + crypto_core_hsalsa20_INPUTBYTES, sizeof b->nonce);
}

/* XORs n bytes with the keystream from its byte at on. out is in, or does not overlap with it. */
static void box_xor(const struct box *b, uint64_t at, const uint8_t *in, uint8_t *out, size_t n)
{
    size_t skip = at % STREAM_BLOCK;

    if (skip > 0) { /* up to the end of the block */
        uint8_t block[STREAM_BLOCK] = {0};
        size_t here = n < STREAM_BLOCK - skip ? n : STREAM_BLOCK - skip;

        if (here > 0)
            memcpy(block + skip, in, here);
        crypto_stream_salsa20_xor_ic(block, block, sizeof block, b->nonce, at / STREAM_BLOCK,
                                     b->key);
        if (here > 0)
            memcpy(out, block + skip, here);
        secret_wipe(block, sizeof block);
        if (here == n)
            return;
        in += here;
        out += here;
        n -= here;
        at += here;
    }
    crypto_stream_salsa20_xor_ic(out, in, n, b->nonce, at / STREAM_BLOCK, b->key);
}

static void mac_init(crypto_onetimeauth_poly1305_state *mac, const struct box *b)
{
    uint8_t key[MAC_KEY_LEN];

    crypto_stream_salsa20(key, sizeof key, b->nonce, b->key);
    crypto_onetimeauth_poly1305_init(mac, key);
    secret_wipe(key, sizeof key);
}

static void mac_final(crypto_onetimeauth_poly1305_state *mac, uint8_t tag[static ENVELOPE__TAG_LEN])
{
    crypto_onetimeauth_poly1305_final(mac, tag);
    secret_wipe(mac, sizeof *mac);
}

static enum err seal_pieces(const struct box *b, struct chain_pos in, size_t len, uint8_t *out)
{
    uint64_t at = MAC_KEY_LEN;

    while (len > 0) {
        struct bytes piece = chain_peek(&in, len);

        if (piece.n == 0)
            return ERR_CRYPTO;
        box_xor(b, at, piece.p, out, piece.n);
        chain_skip(&in, piece.n);
        out += piece.n;
        at += piece.n;
        len -= piece.n;
    }
    return ERR_OK;
}

enum err envelope__box_seal(struct envelope_ctx *ctx, struct bytes key, struct chain_pos in,
                            size_t len, uint8_t *out)
{
    uint8_t *tag = out + ENVELOPE__BOX_NONCE_LEN, *text = out + ENVELOPE__BOX_OVERHEAD;
    crypto_onetimeauth_poly1305_state mac;
    struct box b;
    enum err e;

    if (fips_is_on()) /* refused with its configuration; the last gate */
        return ERR_CRYPTO;
    TRY(ctx->random(ctx->random_arg, out, ENVELOPE__BOX_NONCE_LEN));
    box_init(&b, key, out);
    e = seal_pieces(&b, in, len, text);
    mac_init(&mac, &b);
    crypto_onetimeauth_poly1305_update(&mac, text, len);
    mac_final(&mac, tag);
    secret_wipe(&b, sizeof b);
    return e;
}

static enum err verify(const struct box *b, struct chain_pos in, size_t len,
                       const uint8_t tag[static ENVELOPE__TAG_LEN])
{
    uint8_t ours[ENVELOPE__TAG_LEN];
    crypto_onetimeauth_poly1305_state mac;
    enum err e = ERR_OK;

    mac_init(&mac, b);
    while (len > 0 && e == ERR_OK) {
        struct bytes piece = chain_peek(&in, len);

        crypto_onetimeauth_poly1305_update(&mac, piece.p, piece.n);
        chain_skip(&in, piece.n);
        len -= piece.n;
        e = piece.n > 0 ? ERR_OK : ERR_CRYPTO;
    }
    mac_final(&mac, ours);
    if (e == ERR_OK && CRYPTO_memcmp(ours, tag, sizeof ours) != 0)
        e = ERR_AUTH_FAILED;
    secret_wipe(ours, sizeof ours); /* of a forged value this would be the valid tag */
    return e;
}

static void open_pieces(const struct box *b, struct chain_pos in, size_t len, uint8_t *out)
{
    uint64_t at = MAC_KEY_LEN;

    while (len > 0) {
        struct bytes piece = chain_peek(&in, len);
        uint8_t *to = out != NULL ? out : envelope__for_writing(&in);

        box_xor(b, at, piece.p, to, piece.n);
        chain_skip(&in, piece.n);
        out = out != NULL ? out + piece.n : NULL;
        at += piece.n;
        len -= piece.n;
    }
}

enum err envelope__box_open(struct bytes key, struct chain_pos data, size_t len, uint8_t *out)
{
    uint8_t nonce[ENVELOPE__BOX_NONCE_LEN], tag[ENVELOPE__TAG_LEN];
    struct box b;
    enum err e;

    if (fips_is_on())
        return ERR_CRYPTO;
    if (len < ENVELOPE__BOX_OVERHEAD)
        return ERR_TOO_SHORT;
    len -= ENVELOPE__BOX_OVERHEAD;
    chain_take(&data, nonce, sizeof nonce);
    chain_take(&data, tag, sizeof tag);
    box_init(&b, key, nonce);
    e = verify(&b, data, len, tag);
    if (e == ERR_OK)
        open_pieces(&b, data, len, out);
    secret_wipe(&b, sizeof b);
    return e;
}
