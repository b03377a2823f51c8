/* SPDX-License-Identifier: Apache-2.0 */
#include "kms/codec_int.h"

#include <protobuf-c/protobuf-c.h>
#include <stdlib.h>
#include <string.h>

#include "base/secret.h"
#include "kms_v1.pb-c.h"
#include "kms_v2.pb-c.h"
#include "pb/pb.h"

/* --- the wiping allocator --------------------------------------------------------------------- */

static void *wiping_alloc(void *arg, size_t n)
{
    bool *is_out_of_memory = arg;
    void *p = n > CODEC_ANSWER_MAX * 64ull ? NULL : secret_heap_alloc(n);

    if (p == NULL)
        *is_out_of_memory = true;
    return p;
}

static void wiping_free(void *arg, void *p)
{
    (void)arg;
    secret_heap_free(p);
}

static enum err unpack(const ProtobufCMessageDescriptor *d, struct bytes body, void **out)
{
    bool is_out_of_memory = false;
    ProtobufCAllocator a = {wiping_alloc, wiping_free, &is_out_of_memory};

    *out = protobuf_c_message_unpack(d, &a, body.n, body.p);
    if (*out != NULL)
        return ERR_OK;
    return is_out_of_memory ? ERR_NOMEM : ERR_KMS_ERROR;
}

static void drop_msg(void **msg)
{
    bool unused = false;
    ProtobufCAllocator a = {wiping_alloc, wiping_free, &unused};

    if (*msg != NULL)
        protobuf_c_message_free_unpacked(*msg, &a);
    *msg = NULL;
}

/* --- what protobuf-c does not check ----------------------------------------------------------- */

static bool string_ok(struct bytes s)
{
    return pb_utf8_valid(s) && (s.n == 0 || memchr(s.p, 0, s.n) == NULL);
}

/* strings: a bit per field number that is a string; map: the number of the annotations, 0 for none,
 * whose entries have a string in field 1. */
static bool strings_ok(struct bytes body, uint32_t strings, uint32_t map)
{
    struct pb_span f;

    for (;;) {
        enum pb_result r = pb_span_next(&body, &f);

        if (r != PB_FIELD)
            return r == PB_END;
        if (f.wire != PB_LEN || f.number >= 32)
            continue;
        if ((strings >> f.number & 1) != 0 && !string_ok(f.value))
            return false;
        if (f.number == map && !strings_ok(f.value, 1u << 1, 0))
            return false;
    }
}

static enum err read_answer(const ProtobufCMessageDescriptor *d, struct bytes body,
                            uint32_t strings, uint32_t map, void **out)
{
    *out = NULL;
    if (body.n > CODEC_ANSWER_MAX || !strings_ok(body, strings, map))
        return ERR_KMS_ERROR;
    return unpack(d, body, out);
}

static struct bytes data_bytes(ProtobufCBinaryData d)
{
    return bytes_of(d.data, d.len);
}

/* --- answers ---------------------------------------------------------------------------------- */

enum err codec_status_read(struct bytes body, struct codec_status *out)
{
    V2__StatusResponse *m;

    TRY(read_answer(&v2__status_response__descriptor, body, 1u << 1 | 1u << 2 | 1u << 3, 0,
                    &out->msg));
    m = out->msg;
    out->s.version = bytes_str(m->version);
    out->s.healthz = bytes_str(m->healthz);
    out->s.key_id = bytes_str(m->key_id);
    return ERR_OK;
}

void codec_status_fini(struct codec_status *s)
{
    drop_msg(&s->msg);
}

struct numbered {
    struct dek_annotation a;
    size_t at; /* in the answer: qsort is not stable */
};

static int by_key(const void *a, const void *b)
{
    const struct numbered *x = a, *y = b;
    int c = bytes_cmp(x->a.key, y->a.key);

    return c != 0 ? c : (x->at > y->at) - (x->at < y->at);
}

static enum err sort_annotations(const V2__EncryptResponse *m, struct codec_wrapped *out)
{
    size_t n = m->n_annotations;
    struct numbered *v;

    out->annotations = NULL;
    out->id.annotation_count = 0;
    if (n == 0)
        return ERR_OK;
    v = calloc(n, sizeof *v);
    out->annotations = calloc(n, sizeof *out->annotations);
    if (v == NULL || out->annotations == NULL) {
        free(v);
        return ERR_NOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        v[i].a.key = bytes_str(m->annotations[i]->key);
        v[i].a.value = data_bytes(m->annotations[i]->value);
        v[i].at = i;
    }
    qsort(v, n, sizeof *v, by_key);
    for (size_t i = 0; i < n; i++) {
        if (i + 1 == n || !bytes_eq(v[i].a.key, v[i + 1].a.key))
            out->annotations[out->id.annotation_count++] = v[i].a;
    }
    free(v);
    return ERR_OK;
}

enum err codec_wrapped_read(struct bytes body, struct codec_wrapped *out)
{
    V2__EncryptResponse *m;
    enum err e;

    TRY(read_answer(&v2__encrypt_response__descriptor, body, 1u << 2, 3, &out->msg));
    m = out->msg;
    out->id.type = DEK_HKDF_SEED;
    out->id.key_id = bytes_str(m->key_id);
    out->id.wrapped = data_bytes(m->ciphertext);
    e = sort_annotations(m, out);
    out->id.annotations = out->annotations;
    if (e != ERR_OK)
        codec_wrapped_fini(out);
    return e;
}

void codec_wrapped_fini(struct codec_wrapped *w)
{
    free(w->annotations);
    w->annotations = NULL;
    drop_msg(&w->msg);
}

enum err codec_secret_read(struct bytes body, struct codec_secret *out)
{
    V2__DecryptResponse *m;

    TRY(read_answer(&v2__decrypt_response__descriptor, body, 0, 0, &out->msg));
    m = out->msg;
    out->secret = data_bytes(m->plaintext);
    return ERR_OK;
}

void codec_secret_fini(struct codec_secret *s)
{
    drop_msg(&s->msg);
    s->secret = (struct bytes){0};
}

enum err codec_v1_version_read(struct bytes body, struct codec_v1_answer *out)
{
    TRY(read_answer(&v1beta1__version_response__descriptor, body, 1u << 1 | 1u << 2 | 1u << 3, 0,
                    &out->msg));
    out->value = bytes_str(((V1beta1__VersionResponse *)out->msg)->version);
    return ERR_OK;
}

enum err codec_v1_wrapped_read(struct bytes body, struct codec_v1_answer *out)
{
    TRY(read_answer(&v1beta1__encrypt_response__descriptor, body, 0, 0, &out->msg));
    out->value = data_bytes(((V1beta1__EncryptResponse *)out->msg)->cipher);
    if (out->value.n > 0)
        return ERR_OK;
    codec_v1_answer_fini(out);
    return ERR_KMS_ERROR;
}

enum err codec_v1_secret_read(struct bytes body, struct codec_v1_answer *out)
{
    TRY(read_answer(&v1beta1__decrypt_response__descriptor, body, 0, 0, &out->msg));
    out->value = data_bytes(((V1beta1__DecryptResponse *)out->msg)->plain);
    return ERR_OK;
}

void codec_v1_answer_fini(struct codec_v1_answer *a)
{
    drop_msg(&a->msg);
    a->value = (struct bytes){0};
}

/* --- requests --------------------------------------------------------------------------------- */

static ProtobufCBinaryData binary(struct bytes b)
{
    /* protobuf-c's type has no const; packing only reads. */
    return (ProtobufCBinaryData){b.n, (uint8_t *)(uintptr_t)b.p};
}

static enum err pack(const ProtobufCMessage *m, bool is_secret, struct codec_request *out)
{
    out->n = protobuf_c_message_get_packed_size(m);
    out->is_secret = is_secret;
    out->p = is_secret ? secret_alloc(out->n) : malloc(out->n);
    if (out->p == NULL)
        return ERR_NOMEM;
    CHECK(protobuf_c_message_pack(m, out->p) == out->n);
    return ERR_OK;
}

enum err codec_encrypt_write(struct bytes seed, const char *uid, struct codec_request *out)
{
    V2__EncryptRequest m = V2__ENCRYPT_REQUEST__INIT;

    m.plaintext = binary(seed);
    m.uid = (char *)(uintptr_t)uid;
    return pack(&m.base, true, out);
}

/* Everything that a Decrypt request with its strings and entries needs, in one block. */
struct decrypt_parts {
    V2__DecryptRequest__AnnotationsEntry **list;
    V2__DecryptRequest__AnnotationsEntry *entries;
    char *text; /* key id and annotation keys, each with its NUL */
};

static char *put_text(char **at, struct bytes s)
{
    char *start = *at;

    if (s.n > 0)
        memcpy(start, s.p, s.n);
    start[s.n] = '\0';
    *at = start + s.n + 1;
    return start;
}

static void fill_parts(const struct dek_id *id, struct decrypt_parts *p, V2__DecryptRequest *m)
{
    char *at = p->text;

    m->key_id = put_text(&at, id->key_id);
    m->ciphertext = binary(id->wrapped);
    m->n_annotations = id->annotation_count;
    m->annotations = p->list;
    for (uint32_t i = 0; i < id->annotation_count; i++) {
        V2__DecryptRequest__AnnotationsEntry *e = &p->entries[i];

        v2__decrypt_request__annotations_entry__init(e);
        e->key = put_text(&at, id->annotations[i].key);
        e->value = binary(id->annotations[i].value);
        p->list[i] = e;
    }
}

enum err codec_decrypt_write(const struct dek_id *id, const char *uid, struct codec_request *out)
{
    V2__DecryptRequest m = V2__DECRYPT_REQUEST__INIT;
    size_t count = id->annotation_count, text_len = id->key_id.n + 1;
    struct decrypt_parts p;
    bool is_sayable = string_ok(id->key_id);
    enum err e = ERR_NOMEM;

    for (size_t i = 0; i < count; i++) {
        text_len += id->annotations[i].key.n + 1;
        is_sayable = is_sayable && string_ok(id->annotations[i].key);
    }
    if (!is_sayable)
        return ERR_KMS_ERROR;
    p.list = calloc(count + 1, sizeof *p.list);
    p.entries = calloc(count + 1, sizeof *p.entries);
    p.text = malloc(text_len);
    if (p.list != NULL && p.entries != NULL && p.text != NULL) {
        m.uid = (char *)(uintptr_t)uid;
        fill_parts(id, &p, &m);
        e = pack(&m.base, false, out);
    }
    free(p.list);
    free(p.entries);
    free(p.text);
    return e;
}

static char v1_version[] = CODEC_V1_VERSION;

enum err codec_v1_version_write(struct codec_request *out)
{
    V1beta1__VersionRequest m = V1BETA1__VERSION_REQUEST__INIT;

    m.version = v1_version;
    return pack(&m.base, false, out);
}

enum err codec_v1_encrypt_write(struct bytes secret, struct codec_request *out)
{
    V1beta1__EncryptRequest m = V1BETA1__ENCRYPT_REQUEST__INIT;

    m.version = v1_version;
    m.plain = binary(secret);
    return pack(&m.base, true, out);
}

enum err codec_v1_decrypt_write(struct bytes wrapped, struct codec_request *out)
{
    V1beta1__DecryptRequest m = V1BETA1__DECRYPT_REQUEST__INIT;

    m.version = v1_version;
    m.cipher = binary(wrapped);
    return pack(&m.base, false, out);
}

void codec_request_fini(struct codec_request *r)
{
    if (r->is_secret) {
        secret_free(r->p, r->n);
    } else if (r->p != NULL) {
        secret_wipe(r->p, r->n);
        free(r->p);
    }
    r->p = NULL;
}
