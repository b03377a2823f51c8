/* SPDX-License-Identifier: Apache-2.0 */
#include "kms/text.h"

#include <openssl/sha.h>
#include <stdio.h>
#include <time.h>

const char *kms_hash_text(struct bytes id, char out[static KMS_HASH_TEXT])
{
    uint8_t md[SHA256_DIGEST_LENGTH];
    size_t at = (size_t)snprintf(out, KMS_HASH_TEXT, "sha256:");

    if (id.n == 0) {
        out[0] = '\0';
        return out;
    }
    SHA256(id.p, id.n, md);
    for (size_t i = 0; i < sizeof md; i++, at += 2)
        snprintf(out + at, KMS_HASH_TEXT - at, "%02x", md[i]);
    return out;
}

const char *kms_clean_text(struct bytes text, char *out, size_t cap)
{
    size_t n = text.n < cap - 1 ? text.n : cap - 1;

    for (size_t i = 0; i < n; i++) {
        uint8_t c = text.p[i];

        if (c < 0x20 || c > 0x7e)
            c = '?';
        out[i] = c == '"' ? '\'' : (char)c;
    }
    out[n] = '\0';
    return out;
}

const char *kms_code_text(enum grpc_status status, char *out, size_t cap)
{
    const char *from = status == GRPC_CANCELLED ? "CANCELED" : grpc_status_name(status);
    bool is_first = true;
    size_t n = 0;

    for (; *from != '\0' && n + 1 < cap; from++) {
        if (*from == '_') {
            is_first = true;
            continue;
        }
        out[n++] = is_first || status == GRPC_OK ? *from : (char)(*from | 0x20);
        is_first = false;
    }
    out[n] = '\0';
    return out;
}

const char *kms_rpc_text(enum grpc_status status, const char *message, char *out, size_t cap)
{
    char clean[160], name[32];

    kms_clean_text(bytes_str(message == NULL ? "" : message), clean, sizeof clean);
    kms_code_text(status, name, sizeof name);
    snprintf(out, cap, "rpc error: code = %s desc = %s", name, clean);
    return out;
}

const char *kms_time_text(int64_t unix_s, char out[static KMS_TIME_TEXT])
{
    time_t t = (time_t)unix_s;
    struct tm tm;

    if (gmtime_r(&t, &tm) == NULL || strftime(out, KMS_TIME_TEXT, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        out[0] = '\0';
    return out;
}
