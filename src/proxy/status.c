/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/status.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/log.h"
#include "kms/text.h"

#define KEY_HASH_LEN (sizeof "sha256:" - 1 + 16)

/* One text for every way in which a stored value can fail, so that a client learns nothing about
 * keys: the reason is in the log and in the metric. */
static bool is_cannot_decrypt(enum err e)
{
    return err_scope(e) == SCOPE_VALUE || err_scope(e) == SCOPE_ANSWER;
}

static void unknown_method_text(const struct failure *f, char *text)
{
    char path[200];
    char *slash;

    snprintf(path, sizeof path, "%.*s", (int)(f->path.n < 190 ? f->path.n : 190),
             f->path.n > 0 ? (const char *)f->path.p : "");
    slash = path[0] == '/' ? strrchr(path + 1, '/') : NULL;
    if (slash == NULL) {
        snprintf(text, STATUS_TEXT_MAX, "malformed method name: \"%s\"", path);
        return;
    }
    *slash = '\0';
    snprintf(text, STATUS_TEXT_MAX,
             "etcd-envelope: unknown method %s for service %s (not forwarded to etcd)", slash + 1,
             path + 1);
}

static void kms_text(const struct failure *f, char *text)
{
    snprintf(text, STATUS_TEXT_MAX, "etcd-envelope: KMS unavailable, %s (%s)",
             f->is_write ? "nothing was written" : "the value's key could not be fetched",
             err_reason(f->err));
}

/* What gRPC makes of an HTTP status (doc/http-grpc-status-mapping.md). */
static enum grpc_status http_status(const struct failure *f, char *text)
{
    snprintf(text, STATUS_TEXT_MAX,
             "etcd-envelope: unexpected HTTP status code received from etcd: %" PRIu64, f->size);
    switch (f->size) {
    case 400:
        return f->is_watch ? GRPC_UNKNOWN : GRPC_INTERNAL; /* INTERNAL never ends a Watch */
    case 401:
        return GRPC_UNAUTHENTICATED;
    case 403:
        return GRPC_PERMISSION_DENIED;
    case 404:
        return GRPC_UNIMPLEMENTED;
    case 429:
    case 502:
    case 503:
    case 504:
        return GRPC_UNAVAILABLE;
    default:
        return GRPC_UNKNOWN;
    }
}

/* etcd reset the stream. CANCEL must not become CANCELLED: clients then repeat writes. */
static enum grpc_status reset_status(const struct failure *f, char *text)
{
    snprintf(text, STATUS_TEXT_MAX,
             "etcd-envelope: stream terminated by etcd with RST_STREAM, error code %" PRIu64,
             f->size);
    if (f->size == 11) /* ENHANCE_YOUR_CALM */
        return GRPC_RESOURCE_EXHAUSTED;
    return f->size == 8 || f->is_watch ? GRPC_UNAVAILABLE : GRPC_INTERNAL; /* 8: CANCEL */
}

/* Without a text of its own in the table of errors: what an error of its scope and fault says.
 * key: how the key is called in the text. */
static void general_text(const struct failure *f, const char *key, char *text)
{
    if (err_scope(f->err) == SCOPE_DEK)
        kms_text(f, text);
    else if (is_cannot_decrypt(f->err) && f->key.n > 0)
        snprintf(text, STATUS_TEXT_MAX, "etcd-envelope: cannot decrypt %s", key);
    else if (is_cannot_decrypt(f->err))
        snprintf(text, STATUS_TEXT_MAX,
                 "etcd-envelope: cannot decrypt: etcd's answer is not what was asked for");
    else if (err_fault(f->err) == FAULT_CLIENT)
        snprintf(text, STATUS_TEXT_MAX,
                 "etcd-envelope: request refused: %s (field %" PRIu32
                 ") in a request that touches encrypted keys",
                 err_reason(f->err), f->field);
    else
        snprintf(text, STATUS_TEXT_MAX, "etcd-envelope: internal error (%s)", err_reason(f->err));
}

static void make_text(const struct failure *f, const char *key, char *text)
{
    switch (f->err) {
    case ERR_MESSAGE_TOO_LARGE:
        snprintf(text, STATUS_TEXT_MAX,
                 "grpc: received message larger than max (%" PRIu64 " vs. %" PRIu64 ")", f->size,
                 f->max);
        return;
    case ERR_MESSAGE_COMPRESSED:
        snprintf(text, STATUS_TEXT_MAX,
                 "grpc: Decompressor is not installed for grpc-encoding \"%.*s\"",
                 (int)(f->key.n < 64 ? f->key.n : 64), f->key.n > 0 ? (const char *)f->key.p : "");
        return;
    case ERR_UNKNOWN_METHOD:
        unknown_method_text(f, text);
        return;
    default:
        if (err_text(f->err) != NULL)
            snprintf(text, STATUS_TEXT_MAX, "%s", err_text(f->err));
        else
            general_text(f, key, text);
        return;
    }
}

static enum grpc_status status_with_key(const struct failure *f, const char *key,
                                        char text[static STATUS_TEXT_MAX])
{
    enum grpc_status status = err_status(f->err);

    if (f->err == ERR_ANS_HTTP)
        return http_status(f, text);
    if (f->err == ERR_ANS_RESET)
        return reset_status(f, text);
    make_text(f, key, text);
    if (err_scope(f->err) == SCOPE_DEK)
        return f->is_write ? GRPC_UNAVAILABLE : GRPC_FAILED_PRECONDITION;
    /* A client takes no INTERNAL as the end of its Watch. One that breaks gRPC itself is told so,
     * as by grpc-go. */
    if (f->is_watch && status == GRPC_INTERNAL && err_fault(f->err) != FAULT_CLIENT)
        return GRPC_UNAVAILABLE;
    return status;
}

enum grpc_status status_of(const struct failure *f, char text[static STATUS_TEXT_MAX])
{
    char key[LOG_KEY_MAX];

    return status_with_key(f, log_key(f->key.p, f->key.n, key), text);
}

void status_log_text(const struct failure *f, char text[static STATUS_TEXT_MAX])
{
    char hash[KMS_HASH_TEXT];

    kms_hash_text(f->key, hash);
    hash[KEY_HASH_LEN] = '\0';
    (void)status_with_key(f, hash, text);
}

void status_log_key(const struct failure *f, uint64_t call_id)
{
    char key[LOG_KEY_MAX];

    if (f->key.n > 0 && is_cannot_decrypt(f->err))
        LOG(DEBUG, "does not open", "call=%llu key=%s", (unsigned long long)call_id,
            log_key(f->key.p, f->key.n, key));
}
