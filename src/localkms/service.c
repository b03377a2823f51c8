/* SPDX-License-Identifier: Apache-2.0 */
#include "localkms/service.h"

#include <protobuf-c/protobuf-c.h>
#include <stdlib.h>

#include "base/secret.h"
#include "kms_v2.pb-c.h"
#include "localkms/wrap.h"

/* --- memory that is wiped --------------------------------------------------------------------- */

static void *wiping_alloc(void *arg, size_t n)
{
    (void)arg;
    /* The bound is far above what an honest request of 64 KiB needs. */
    return n > SERVICE_REQUEST_MAX * 64ull ? NULL : secret_heap_alloc(n);
}

static void wiping_free(void *arg, void *p)
{
    (void)arg;
    secret_heap_free(p);
}

static ProtobufCAllocator wiping = {wiping_alloc, wiping_free, NULL};

/* --- answers ---------------------------------------------------------------------------------- */

static void fail(struct service_answer *out, enum grpc_status status, const char *message)
{
    out->status = status;
    out->message = message;
}

static void reply(struct service_answer *out, const ProtobufCMessage *m)
{
    size_t n = protobuf_c_message_get_packed_size(m);

    if (n == 0)
        return;
    out->body = malloc(n);
    if (out->body == NULL) {
        fail(out, GRPC_RESOURCE_EXHAUSTED, "out of memory");
        return;
    }
    out->body_len = n;
    CHECK(protobuf_c_message_pack(m, out->body) == n);
}

void service_answer_fini(struct service_answer *a)
{
    if (a->body != NULL)
        secret_wipe(a->body, a->body_len);
    free(a->body);
    a->body = NULL;
}

/* Keeps of the peer's text only what may stand in a log line. */
static void take_uid(struct service_answer *out, const char *uid)
{
    size_t n = 0;

    for (; uid[n] != '\0' && n + 1 < sizeof out->uid; n++)
        out->uid[n] = uid[n] > 0x20 && uid[n] < 0x7f && uid[n] != '"' ? uid[n] : '?';
    out->uid[n] = '\0';
}

/* --- the three methods ------------------------------------------------------------------------ */

static void status(const struct kek_set *keys, struct bytes request, struct service_answer *out)
{
    V2__StatusRequest *req = v2__status_request__unpack(&wiping, request.n, request.p);
    V2__StatusResponse resp = V2__STATUS_RESPONSE__INIT;
    char version[] = "v2", healthz[] = "ok", id[KEK_ID_LEN + 1];

    if (req == NULL) {
        fail(out, GRPC_INTERNAL, "malformed StatusRequest");
        return;
    }
    v2__status_request__free_unpacked(req, &wiping);
    memcpy(id, keys->keys[0].id, sizeof id);
    resp.version = version;
    resp.healthz = healthz;
    resp.key_id = id;
    reply(out, &resp.base);
}

static void encrypt(const struct kek_set *keys, const V2__EncryptRequest *req,
                    struct service_answer *out)
{
    V2__EncryptResponse resp = V2__ENCRYPT_RESPONSE__INIT;
    char id[KEK_ID_LEN + 1];

    take_uid(out, req->uid);
    if (req->plaintext.len == 0) {
        fail(out, GRPC_INVALID_ARGUMENT, "plaintext is empty");
        return;
    }
    resp.ciphertext.len = req->plaintext.len + WRAP_OVERHEAD;
    resp.ciphertext.data = malloc(resp.ciphertext.len);
    memcpy(id, keys->keys[0].id, sizeof id);
    resp.key_id = id;
    if (resp.ciphertext.data == NULL)
        fail(out, GRPC_RESOURCE_EXHAUSTED, "out of memory");
    else if (wrap_seal(&keys->keys[0], bytes_of(req->plaintext.data, req->plaintext.len),
                       resp.ciphertext.data) != ERR_OK)
        fail(out, GRPC_INTERNAL, "wrapping failed");
    else
        reply(out, &resp.base);
    free(resp.ciphertext.data);
}

static void open_wrapped(const struct kek *kek, struct bytes wrapped, struct service_answer *out)
{
    V2__DecryptResponse resp = V2__DECRYPT_RESPONSE__INIT;
    enum err e;

    if (wrapped.n <= WRAP_OVERHEAD) {
        fail(out, GRPC_INVALID_ARGUMENT, "ciphertext is too short");
        return;
    }
    resp.plaintext.len = wrapped.n - WRAP_OVERHEAD;
    resp.plaintext.data = wiping_alloc(NULL, resp.plaintext.len);
    if (resp.plaintext.data == NULL) {
        fail(out, GRPC_RESOURCE_EXHAUSTED, "out of memory");
        return;
    }
    e = wrap_open(kek, wrapped, resp.plaintext.data);
    if (e == ERR_OK)
        reply(out, &resp.base);
    else if (e == ERR_AUTH_FAILED)
        fail(out, GRPC_INVALID_ARGUMENT, "ciphertext was not wrapped by this key");
    else
        fail(out, GRPC_INTERNAL, "unwrapping failed");
    wiping_free(NULL, resp.plaintext.data);
}

static void decrypt(const struct kek_set *keys, const V2__DecryptRequest *req,
                    struct service_answer *out)
{
    const struct kek *kek = kek_set_find(keys, bytes_str(req->key_id));

    take_uid(out, req->uid);
    if (kek == NULL)
        fail(out, GRPC_NOT_FOUND, "no key of this key_id in the key file");
    else if (req->n_annotations > 0)
        fail(out, GRPC_INVALID_ARGUMENT, "annotations are not ours: this plugin makes none");
    else
        open_wrapped(kek, bytes_of(req->ciphertext.data, req->ciphertext.len), out);
}

enum service_method service_method_of(struct bytes path)
{
    if (bytes_eq(path, BYTES_LIT("/v2.KeyManagementService/Status")))
        return SERVICE_STATUS;
    if (bytes_eq(path, BYTES_LIT("/v2.KeyManagementService/Encrypt")))
        return SERVICE_ENCRYPT;
    if (bytes_eq(path, BYTES_LIT("/v2.KeyManagementService/Decrypt")))
        return SERVICE_DECRYPT;
    return SERVICE_UNKNOWN;
}

static void call_encrypt(const struct kek_set *keys, struct bytes request,
                         struct service_answer *out)
{
    V2__EncryptRequest *req = v2__encrypt_request__unpack(&wiping, request.n, request.p);

    if (req == NULL) {
        fail(out, GRPC_INTERNAL, "malformed EncryptRequest");
        return;
    }
    encrypt(keys, req, out);
    v2__encrypt_request__free_unpacked(req, &wiping);
}

static void call_decrypt(const struct kek_set *keys, struct bytes request,
                         struct service_answer *out)
{
    V2__DecryptRequest *req = v2__decrypt_request__unpack(&wiping, request.n, request.p);

    if (req == NULL) {
        fail(out, GRPC_INTERNAL, "malformed DecryptRequest");
        return;
    }
    decrypt(keys, req, out);
    v2__decrypt_request__free_unpacked(req, &wiping);
}

void service_call(const struct kek_set *keys, enum service_method method, struct bytes request,
                  struct service_answer *out)
{
    *out = (struct service_answer){.status = GRPC_OK, .message = "", .uid = "-"};
    switch (method) {
    case SERVICE_UNKNOWN:
        fail(out, GRPC_UNIMPLEMENTED, "unknown method");
        break;
    case SERVICE_STATUS:
        status(keys, request, out);
        break;
    case SERVICE_ENCRYPT:
        call_encrypt(keys, request, out);
        break;
    case SERVICE_DECRYPT:
        call_decrypt(keys, request, out);
        break;
    }
}
