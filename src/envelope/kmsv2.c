/* SPDX-License-Identifier: Apache-2.0 */
/* kms v2: PREFIX EncryptedObject.
 *
 * Reading, the way of every value that a Kubernetes or we ourselves wrote: field 1 comes first, so
 * its ciphertext is left where it lies, and only the fields behind it (some hundred bytes) are
 * looked at, gathered if they lie across slices. A value whose field 1 comes later or twice is
 * legal too: it is gathered as a whole, and opened into scratch. */
#include "envelope/envelope_int.h"
#include "pb/pb.h"

#define TAG_DATA 0x0a

/* Most values of a list answer have the same tail: key id, wrapped DEK and annotations. */
static bool is_like(const struct envelope_value *like, const struct provider *p, struct bytes tail)
{
    return like != NULL && like->provider == p && like->tail.n > 0 && bytes_eq(like->tail, tail);
}

/* Parses the usual form: field 1 comes first and only once. In any other form *is_usual is false,
 * and out is unchanged. */
static enum err parse_usual(const struct envelope__candidate *c, struct arena *arena,
                            const struct envelope_value *like, struct envelope__object *o,
                            struct envelope_value *out, bool *is_usual)
{
    struct pb_reader r = {c->body, c->body.at + c->body_len};
    struct pb_field f;
    struct bytes tail;
    enum pb_result res = pb_next(&r, &f);

    *is_usual = false;
    if (res != PB_FIELD && res != PB_END)
        return ERR_PROTOBUF_MALFORMED;
    if (res == PB_END || f.number != 1 || f.wire != PB_LEN)
        return ERR_OK;
    TRY(envelope__contiguous(r.pos, r.end - r.pos.at, arena, &tail));
    if (is_like(like, c->provider, tail)) {
        *o = (struct envelope__object){.id = like->id};
        tail = like->tail;
    } else {
        TRY(envelope__object_parse(tail, arena, o));
    }
    if (o->has_data)
        return ERR_OK;
    *is_usual = true;
    out->tail = tail;
    out->data_at = f.value_at;
    out->data_len = f.value_len;
    return ERR_OK;
}

static enum err parse_any(const struct envelope__candidate *c, struct arena *arena,
                          struct envelope__object *o, struct envelope_value *out)
{
    struct bytes body;

    TRY(envelope__contiguous(c->body, c->body_len, arena, &body));
    TRY(envelope__object_parse(body, arena, o));
    if (o->has_data) {
        out->data_at = c->body.at + (size_t)(o->data.p - body.p);
        out->data_len = o->data.n;
    }
    return ERR_OK;
}

/* In the order of kube-apiserver's ValidateEncryptedObject: type, data, the rest. */
static enum err object_validate(const struct envelope__object *o, size_t data_len)
{
    if (o->id.type != DEK_AES_GCM_KEY && o->id.type != DEK_HKDF_SEED)
        return ERR_UNKNOWN_DEK_SOURCE_TYPE;
    if (data_len == 0)
        return ERR_ENCRYPTED_DATA_EMPTY;
    return dek_id_validate(&o->id);
}

static enum err kmsv2_identify(const struct envelope__candidate *c, struct arena *arena,
                               const struct envelope_value *like, struct envelope_value *out)
{
    struct envelope__object o;
    size_t overhead;
    bool is_usual;

    TRY(parse_usual(c, arena, like, &o, out, &is_usual));
    if (!is_usual)
        TRY(parse_any(c, arena, &o, out));
    if (!is_usual || like == NULL || out->tail.p != like->tail.p)
        TRY(object_validate(&o, out->data_len));
    else if (out->data_len == 0) /* the rest was found valid before */
        return ERR_ENCRYPTED_DATA_EMPTY;
    out->form = is_usual ? ENVELOPE_IN_PLACE : ENVELOPE_SCRATCH;
    out->needs_dek = true;
    out->id = o.id;
    /* Data that is too short is refused when it is opened: kube-apiserver, too, asks the plugin
     * first. */
    overhead = envelope__kmsv2_overhead(o.id.type);
    out->plain_len = out->data_len > overhead ? out->data_len - overhead : 0;
    out->plain_at = overhead - ENVELOPE__TAG_LEN;
    return ERR_OK;
}

static enum err kmsv2_open(struct envelope_ctx *ctx, const struct envelope_value *v,
                           const struct dek *dek, struct bytes aad, struct chain_pos data,
                           uint8_t *out)
{
    CHECK(dek != NULL && dek->id.type == v->id.type);
    return envelope__kmsv2_gcm_open(ctx, dek, aad, data, v->data_len, out);
}

static enum err kmsv2_open_scratch(struct envelope_ctx *ctx, const struct envelope__candidate *c,
                                   const struct envelope__job *job, struct slice *out,
                                   struct envelope_opened *opened)
{
    const struct envelope_value *v = job->value;
    struct slice room;
    uint8_t *to;
    enum err e;

    /* The caller resolved one DEK, that of v->provider. No second kms v2 provider can fit: the name
     * is the whole of the prefix, and the configuration refuses a name that comes twice. */
    if (c->provider != v->provider || job->dek == NULL)
        return ERR_KMS_ERROR;
    CHECK(job->dek->id.type == v->id.type);
    to = envelope__scratch_new(job->pool, v->plain_len, &room);
    if (to == NULL)
        return ERR_NOMEM;
    e = envelope__kmsv2_gcm_open(ctx, job->dek, job->aad, chain_seek(c->body.chain, v->data_at),
                                 v->data_len, to);
    opened->authentic = e == ERR_OK;
    return envelope__scratch_done(&room, e, v->plain_len, out);
}

static enum err kmsv2_sealed_len(const struct provider *provider, const struct dek *dek,
                                 size_t plain_len, size_t *out)
{
    size_t data_len;

    if (dek == NULL || dek->id.type != DEK_HKDF_SEED)
        return ERR_NO_WRITE_KEY;
    if (plain_len > ENVELOPE__SEALED_MAX)
        return ERR_MESSAGE_TOO_LARGE;
    data_len = plain_len + envelope__kmsv2_overhead(DEK_HKDF_SEED);
    *out = provider->prefix.n + 1 + pb_varint_len(data_len) + data_len + dek->tail.n;
    return *out <= ENVELOPE__SEALED_MAX ? ERR_OK : ERR_MESSAGE_TOO_LARGE;
}

static enum err kmsv2_seal(struct envelope_ctx *ctx, const struct provider *provider,
                           const struct dek *dek, struct bytes aad, struct chain_pos in, size_t len,
                           uint8_t *out)
{
    size_t data_len = len + envelope__kmsv2_overhead(DEK_HKDF_SEED);

    memcpy(out, provider->prefix.p, provider->prefix.n);
    out += provider->prefix.n;
    *out++ = TAG_DATA;
    out += pb_put_varint(out, data_len);
    TRY(envelope__kmsv2_gcm_seal(ctx, dek, aad, in, len, out));
    memcpy(out + data_len, dek->tail.p, dek->tail.n);
    return ERR_OK;
}

const struct envelope__kind envelope__kmsv2 = {
    .traits =
        {
            .kind = PROVIDER_KMS_V2,
            .name = "kms",
            .version = "v2",
            .prefix = "kms:v2:",
            .is_kms = true,
            .is_fips = true,
            .is_authentic = true,
            .body = PROVIDER_BODY_OBJECT,
            .nonce_len = ENVELOPE__NONCE_LEN,
            .tag_len = ENVELOPE__TAG_LEN,
        },
    .identify = kmsv2_identify,
    .open = kmsv2_open,
    .open_scratch = kmsv2_open_scratch,
    .sealed_len = kmsv2_sealed_len,
    .seal = kmsv2_seal,
};
