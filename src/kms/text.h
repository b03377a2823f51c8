/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: key ids and what plugins say. Gives: texts that may be logged and shown. Owns: nothing.
 * Thread: any. */
#ifndef KMS_TEXT_H
#define KMS_TEXT_H

#include "base/bytes.h"
#include "base/err.h"

/* "sha256:" and 64 hex digits of the id, NUL-terminated; "" for an empty id: kube-apiserver's form
 * in metrics and texts. Returns out. */
#define KMS_HASH_TEXT 72
const char *kms_hash_text(struct bytes id, char out[static KMS_HASH_TEXT]);
/* A peer's text, cut to cap - 1 bytes: what is not printable ASCII becomes '?', a double quote a
 * single one, so that it can stand between quotes in a log line. NUL-terminated. Returns out. */
const char *kms_clean_text(struct bytes text, char *out, size_t cap);
/* DEADLINE_EXCEEDED is DeadlineExceeded in Go's texts and metric labels, CANCELLED is Canceled.
 * Returns out. */
const char *kms_code_text(enum grpc_status status, char *out, size_t cap);
/* Go's "rpc error: code = DeadlineExceeded desc = TEXT", the text cleaned. Returns out. */
const char *kms_rpc_text(enum grpc_status status, const char *message, char *out, size_t cap);
/* RFC 3339 in UTC with seconds, as Go prints it. Returns out. */
#define KMS_TIME_TEXT 32
const char *kms_time_text(int64_t unix_s, char out[static KMS_TIME_TEXT]);

#endif
