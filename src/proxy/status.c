/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/status.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/log.h"
#include "kms/text.h"

#define KEY_HASH_LEN (sizeof "sha256:" - 1 + 16)

/* One text for every way in which a stored value can fail, so that a client learns nothing about
 * keys: the reason is in the log and in the metric. */
static bool is_stored_value_error(enum err e)
{
    return err_status(e) == GRPC_DATA_LOSS;
}

static void request_text(const struct failure *f, char *text)
{
    switch (f->err) {
    case ERR_REQ_VALUE_COMPARE:
        snprintf(text, STATUS_TEXT_MAX,
                 "etcd-envelope: value comparison on an encrypted key is not supported");
        return;
    case ERR_REQ_VALUE_SORT:
        snprintf(text, STATUS_TEXT_MAX,
                 "etcd-envelope: sorting by value is not supported on encrypted keys");
        return;
    case ERR_REQ_EMPTY_KEY: /* etcd's own text: clients match on it */
        snprintf(text, STATUS_TEXT_MAX, "etcdserver: key is not provided");
        return;
    case ERR_REQ_VALUE_PROVIDED:
        snprintf(text, STATUS_TEXT_MAX, "etcdserver: value is provided");
        return;
    case ERR_REQ_TOO_MANY_OPS:
        snprintf(text, STATUS_TEXT_MAX, "etcdserver: too many operations in txn request");
        return;
    case ERR_REQ_DEPTH:
        snprintf(text, STATUS_TEXT_MAX,
                 "etcd-envelope: the request is nested too deeply (limit 16 levels)");
        return;
    case ERR_REQ_SEALED_VALUE:
        snprintf(text, STATUS_TEXT_MAX,
                 "etcd-envelope: the value begins with k8s:enc: but no configured authenticating "
                 "provider opens it under its key; it was not stored");
        return;
    default:
        snprintf(text, STATUS_TEXT_MAX,
                 "etcd-envelope: request refused: %s (field %" PRIu32
                 ") in a request that touches encrypted keys",
                 err_reason(f->err), f->field);
        return;
    }
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

static enum grpc_status kms_status(const struct failure *f, char *text)
{
    if (f->is_write) {
        snprintf(text, STATUS_TEXT_MAX, "etcd-envelope: KMS unavailable, nothing was written (%s)",
                 err_reason(f->err));
        return GRPC_UNAVAILABLE;
    }
    snprintf(text, STATUS_TEXT_MAX,
             "etcd-envelope: KMS unavailable, the value's key could not be fetched (%s)",
             err_reason(f->err));
    return GRPC_FAILED_PRECONDITION;
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

/* key: how the key is called in the text. */
static enum grpc_status status_with_key(const struct failure *f, const char *key,
                                        char text[static STATUS_TEXT_MAX])
{
    enum grpc_status status = err_status(f->err);

    switch (f->err) {
    case ERR_KMS_AWAY:
    case ERR_NO_STATE:
    case ERR_NO_WRITE_KEY:
    case ERR_DEK_SOURCE_EXPOSED:
        return kms_status(f, text);
    case ERR_ANS_HTTP:
        return http_status(f, text);
    case ERR_ANS_RESET:
        return reset_status(f, text);
    case ERR_PROTOBUF:
        snprintf(text, STATUS_TEXT_MAX,
                 "grpc: error unmarshalling request: proto: cannot parse invalid wire-format data");
        return status;
    case ERR_DEADLINE:
        snprintf(text, STATUS_TEXT_MAX, "context deadline exceeded");
        return status;
    case ERR_MESSAGE_CUT:
        snprintf(text, STATUS_TEXT_MAX, "unexpected EOF");
        return status;
    case ERR_MESSAGE_EXTRA:
        snprintf(text, STATUS_TEXT_MAX, "grpc: a unary call carries more than one message");
        return status;
    case ERR_MESSAGE_TOO_LARGE:
        snprintf(text, STATUS_TEXT_MAX,
                 "grpc: received message larger than max (%" PRIu64 " vs. %" PRIu64 ")", f->size,
                 f->max);
        return status;
    case ERR_MESSAGE_COMPRESSED:
        snprintf(text, STATUS_TEXT_MAX,
                 "grpc: Decompressor is not installed for grpc-encoding \"%.*s\"",
                 (int)(f->key.n < 64 ? f->key.n : 64), f->key.n > 0 ? (const char *)f->key.p : "");
        return status;
    case ERR_UNKNOWN_METHOD:
        unknown_method_text(f, text);
        return status;
    case ERR_NO_ADVERTISE_URL:
        snprintf(
            text, STATUS_TEXT_MAX,
            "etcd-envelope: member URLs would lead past the proxy: set --advertise-client-urls");
        return status;
    case ERR_UPSTREAM_AWAY:
        snprintf(text, STATUS_TEXT_MAX, "etcd-envelope: etcd is not reachable");
        return status;
    case ERR_UPSTREAM_LOST: /* etcd's own text for it */
        snprintf(text, STATUS_TEXT_MAX,
                 "etcdserver: request timed out, possibly due to connection lost");
        return status;
    case ERR_CLOSED:
        snprintf(text, STATUS_TEXT_MAX, "etcd-envelope: shutting down");
        return status;
    case ERR_MEMORY_LIMIT:
    case ERR_NOMEM:
        snprintf(text, STATUS_TEXT_MAX,
                 "etcd-envelope: the proxy's memory limit is reached (%s; see --memory-limit)",
                 err_reason(f->err));
        return status;
    case ERR_ANS_BROKEN:
    case ERR_ANS_COMPRESSED:
    case ERR_ANS_CUT:
        snprintf(text, STATUS_TEXT_MAX, "etcd-envelope: etcd's answer is broken (%s)",
                 err_reason(f->err));
        return f->is_watch ? GRPC_UNAVAILABLE : status; /* INTERNAL never ends a Watch */
    default:
        break;
    }
    if (err_fault(f->err) == FAULT_CLIENT) {
        request_text(f, text);
        return status;
    }
    if (is_stored_value_error(f->err)) {
        if (f->key.n > 0)
            snprintf(text, STATUS_TEXT_MAX, "etcd-envelope: cannot decrypt %s", key);
        else
            snprintf(text, STATUS_TEXT_MAX,
                     "etcd-envelope: cannot decrypt: etcd's answer is not what was asked for");
        return status;
    }
    snprintf(text, STATUS_TEXT_MAX, "etcd-envelope: internal error (%s)", err_reason(f->err));
    return f->is_watch && status == GRPC_INTERNAL ? GRPC_UNAVAILABLE : status;
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

    if (f->key.n > 0 && is_stored_value_error(f->err))
        LOG(DEBUG, "does not open", "call=%llu key=%s", (unsigned long long)call_id,
            log_key(f->key.p, f->key.n, key));
}
