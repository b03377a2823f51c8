/* SPDX-License-Identifier: Apache-2.0 */
/* aesgcm, aescbc, secretbox: PREFIX KEYNAME ":" data, under one of the provider's keys.
 *
 * The list of keys is read as the list of providers is: those whose "NAME:" the value has are tried
 * in order, the first that works wins, and if none does the first error is the answer. Several may
 * fit, because a name may come twice and "a:" is also the beginning of "a:b:".
 *
 * aesgcm and secretbox open in place when exactly one key fits. aescbc never does: only its
 * padding, once decrypted, tells how long the plaintext is. */
#include "envelope/envelope_int.h"

/* What the three differ in. */
struct envelope__local {
    /* Where in the data the plaintext begins when it is opened in place. */
    size_t plain_at;
    size_t overhead;     /* at least: the plaintext has len - overhead bytes or fewer */
    bool opens_in_place; /* it is authentic, and the plaintext has exactly that length */
    /* Can len bytes be of this form? */
    enum err (*check)(size_t len);
    size_t (*sealed_len)(size_t plain_len);
    enum err (*seal)(struct envelope_ctx *ctx, struct bytes key, struct bytes aad,
                     struct chain_pos in, size_t len, uint8_t *out);
    /* *plain_len comes in as the room. out is NULL: in place. */
    enum err (*open)(struct envelope_ctx *ctx, struct bytes key, struct bytes aad,
                     struct chain_pos data, size_t len, uint8_t *out, size_t *plain_len);
};

/* --- aesgcm ---------------------------------------------------------------------------------- */

static enum err gcm_check(size_t len)
{
    if (len < ENVELOPE__NONCE_LEN)
        return ERR_TOO_SHORT;
    return len < ENVELOPE__GCM_OVERHEAD ? ERR_AUTH_FAILED : ERR_OK; /* what Go's AEAD returns */
}

static size_t gcm_sealed_len(size_t plain_len)
{
    return ENVELOPE__GCM_OVERHEAD + plain_len;
}

static enum err gcm_open(struct envelope_ctx *ctx, struct bytes key, struct bytes aad,
                         struct chain_pos data, size_t len, uint8_t *out, size_t *plain_len)
{
    (void)plain_len;
    return envelope__gcm_open_nonce(ctx, key, aad, data, len, out);
}

static const struct envelope__local aesgcm = {
    .plain_at = ENVELOPE__NONCE_LEN,
    .overhead = ENVELOPE__GCM_OVERHEAD,
    .opens_in_place = true,
    .check = gcm_check,
    .sealed_len = gcm_sealed_len,
    .seal = envelope__gcm_seal_nonce,
    .open = gcm_open,
};

/* --- aescbc: no AAD -------------------------------------------------------------------------- */

static enum err cbc_seal(struct envelope_ctx *ctx, struct bytes key, struct bytes aad,
                         struct chain_pos in, size_t len, uint8_t *out)
{
    (void)aad;
    return envelope__cbc_seal(ctx, key, in, len, out);
}

static enum err cbc_open(struct envelope_ctx *ctx, struct bytes key, struct bytes aad,
                         struct chain_pos data, size_t len, uint8_t *out, size_t *plain_len)
{
    (void)aad;
    CHECK(out != NULL);
    return envelope__cbc_open(ctx, key, data, len, out, plain_len);
}

static const struct envelope__local aescbc = {
    .overhead = ENVELOPE__BLOCK_LEN,
    .check = envelope__cbc_check,
    .sealed_len = envelope__cbc_sealed_len,
    .seal = cbc_seal,
    .open = cbc_open,
};

/* --- secretbox: no AAD ----------------------------------------------------------------------- */

static enum err box_check(size_t len)
{
    return len < ENVELOPE__BOX_OVERHEAD ? ERR_TOO_SHORT : ERR_OK;
}

static size_t box_sealed_len(size_t plain_len)
{
    return ENVELOPE__BOX_OVERHEAD + plain_len;
}

static enum err box_seal(struct envelope_ctx *ctx, struct bytes key, struct bytes aad,
                         struct chain_pos in, size_t len, uint8_t *out)
{
    (void)aad;
    return envelope__box_seal(ctx, key, in, len, out);
}

static enum err box_open(struct envelope_ctx *ctx, struct bytes key, struct bytes aad,
                         struct chain_pos data, size_t len, uint8_t *out, size_t *plain_len)
{
    (void)ctx;
    (void)aad;
    (void)plain_len;
    return envelope__box_open(key, data, len, out);
}

static const struct envelope__local secretbox = {
    .plain_at = ENVELOPE__BOX_OVERHEAD,
    .overhead = ENVELOPE__BOX_OVERHEAD,
    .opens_in_place = true,
    .check = box_check,
    .sealed_len = box_sealed_len,
    .seal = box_seal,
    .open = box_open,
};

/* --- the kind -------------------------------------------------------------------------------- */

static const struct envelope__local *cipher_of(const struct provider *p)
{
    return envelope__kind(p)->local;
}

/* Whether the body of a candidate begins with the key's name; then data is what follows. */
static bool has_name(const struct envelope__candidate *c, const struct local_key *key,
                     struct chain_pos *data, size_t *len)
{
    if (!envelope__begins_with(c->body, c->body_len, key->prefix))
        return false;
    *data = c->body;
    chain_skip(data, key->prefix.n);
    *len = c->body_len - key->prefix.n;
    return true;
}

static void keep_first(enum err *first, enum err e)
{
    if (*first == ERR_OK)
        *first = e;
}

static enum err local_identify(const struct envelope__candidate *c, struct arena *arena,
                               const struct envelope_value *like, struct envelope_value *out)
{
    const struct envelope__local *cipher = cipher_of(c->provider);
    enum err first = ERR_OK;

    (void)arena;
    (void)like;
    for (uint32_t i = 0; i < c->provider->key_count; i++) {
        struct chain_pos data;
        size_t len;
        enum err e;

        if (!has_name(c, &c->provider->keys[i], &data, &len))
            continue;
        e = cipher->check(len);
        if (e != ERR_OK) {
            keep_first(&first, e);
        } else if (out->form == ENVELOPE_NONE) {
            out->form = cipher->opens_in_place ? ENVELOPE_IN_PLACE : ENVELOPE_SCRATCH;
            out->key_index = i;
            out->is_stale = i != 0;
            out->earlier = first;
            out->data_at = data.at;
            out->data_len = len;
            out->plain_len = cipher->opens_in_place ? len - cipher->overhead : 0;
            out->plain_at = cipher->plain_at;
        } else {
            out->form = ENVELOPE_SCRATCH;
        }
    }
    if (out->form != ENVELOPE_NONE)
        return ERR_OK;
    return first != ERR_OK ? first : ERR_NO_MATCHING_KEY;
}

static enum err local_open(struct envelope_ctx *ctx, const struct envelope_value *v,
                           const struct dek *dek, struct bytes aad, struct chain_pos data,
                           uint8_t *out)
{
    const struct envelope__local *cipher = cipher_of(v->provider);
    size_t plain_len = v->plain_len;

    (void)dek;
    CHECK(cipher->opens_in_place && v->key_index < v->provider->key_count);
    return cipher->open(ctx, envelope__dek_key(v->provider->keys[v->key_index].dek), aad, data,
                        v->data_len, out, &plain_len);
}

static enum err open_with(struct envelope_ctx *ctx, const struct envelope__local *cipher,
                          const struct local_key *key, const struct envelope__job *job,
                          struct chain_pos data, size_t len, struct slice *out)
{
    struct slice room;
    size_t plain_len;
    uint8_t *to;
    enum err e;

    TRY(cipher->check(len));
    plain_len = len - cipher->overhead;
    to = envelope__scratch_new(job->pool, plain_len, &room);
    if (to == NULL)
        return ERR_NOMEM;
    e = cipher->open(ctx, envelope__dek_key(key->dek), job->aad, data, len, to, &plain_len);
    return envelope__scratch_done(&room, e, plain_len, out);
}

static enum err local_open_scratch(struct envelope_ctx *ctx, const struct envelope__candidate *c,
                                   const struct envelope__job *job, struct slice *out,
                                   struct envelope_opened *opened)
{
    const struct envelope__local *cipher = cipher_of(c->provider);
    enum err first = ERR_OK;

    for (uint32_t i = 0; i < c->provider->key_count; i++) {
        const struct local_key *key = &c->provider->keys[i];
        struct chain_pos data;
        size_t len;
        enum err e;

        if (!has_name(c, key, &data, &len))
            continue;
        e = open_with(ctx, cipher, key, job, data, len, out);
        if (e == ERR_OK) {
            opened->authentic = envelope__kind(c->provider)->traits.is_authentic;
            opened->stale = i != 0;
            opened->key_index = i;
        }
        if (e == ERR_OK || envelope__ends_the_search(e))
            return e;
        keep_first(&first, e);
    }
    return first != ERR_OK ? first : ERR_NO_MATCHING_KEY;
}

static enum err local_sealed_len(const struct provider *provider, const struct dek *dek,
                                 size_t plain_len, size_t *out)
{
    (void)dek;
    if (provider->key_count == 0)
        return ERR_NO_WRITE_KEY;
    if (plain_len > ENVELOPE__SEALED_MAX)
        return ERR_MESSAGE_TOO_LARGE;
    *out = provider->prefix.n + provider->keys[0].prefix.n +
           cipher_of(provider)->sealed_len(plain_len);
    return *out <= ENVELOPE__SEALED_MAX ? ERR_OK : ERR_MESSAGE_TOO_LARGE;
}

static enum err local_seal(struct envelope_ctx *ctx, const struct provider *provider,
                           const struct dek *dek, struct bytes aad, struct chain_pos in, size_t len,
                           uint8_t *out)
{
    const struct local_key *key = &provider->keys[0];

    (void)dek;
    memcpy(out, provider->prefix.p, provider->prefix.n);
    out += provider->prefix.n;
    memcpy(out, key->prefix.p, key->prefix.n);
    out += key->prefix.n;
    return cipher_of(provider)->seal(ctx, envelope__dek_key(key->dek), aad, in, len, out);
}

/* The same for all three: what they differ in is their struct envelope__local. */
#define LOCAL_FUNCTIONS                                                                            \
    .identify = local_identify, .open = local_open, .open_scratch = local_open_scratch,            \
    .sealed_len = local_sealed_len, .seal = local_seal

const struct envelope__kind envelope__aesgcm = {
    .traits =
        {
            .kind = PROVIDER_AESGCM,
            .name = "aesgcm",
            .version = "v1",
            .prefix = "aesgcm:v1:",
            .is_authentic = true,
            .is_fips = true,
            .local_key_min = 16,
            .nonce_len = ENVELOPE__NONCE_LEN,
            .tag_len = ENVELOPE__TAG_LEN,
        },
    .local = &aesgcm,
    LOCAL_FUNCTIONS,
};

const struct envelope__kind envelope__aescbc = {
    .traits =
        {
            .kind = PROVIDER_AESCBC,
            .name = "aescbc",
            .version = "v1",
            .prefix = "aescbc:v1:",
            .is_fips = true,
            .local_key_min = 16,
            .nonce_len = ENVELOPE__BLOCK_LEN,
            .block_len = ENVELOPE__BLOCK_LEN,
            .caution = "not_authenticated",
            .caution_text = "AES-CBC proves nothing: damage may go unseen",
        },
    .local = &aescbc,
    LOCAL_FUNCTIONS,
};

const struct envelope__kind envelope__secretbox = {
    .traits =
        {
            .kind = PROVIDER_SECRETBOX,
            .name = "secretbox",
            .version = "v1",
            .prefix = "secretbox:v1:",
            .is_authentic = true,
            .local_key_min = ENVELOPE__KEY_MAX,
            .nonce_len = ENVELOPE__BOX_NONCE_LEN,
            .tag_len = ENVELOPE__TAG_LEN,
            .caution = "not_bound",
            .caution_text = "secretbox does not bind a value to its etcd key",
        },
    .local = &secretbox,
    LOCAL_FUNCTIONS,
};
