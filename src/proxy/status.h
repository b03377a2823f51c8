/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: an error with what it concerns. Gives: the gRPC status and the one text that a client
 * sees. Owns: nothing. Thread: any. The table of statuses is in README.md. */
#ifndef PROXY_STATUS_H
#define PROXY_STATUS_H

#include "base/bytes.h"
#include "base/err.h"

struct failure {
    enum err err;
    struct bytes key; /* etcd key that it concerns; may be empty */
    uint32_t field;   /* protobuf field number; 0: none */
    uint64_t size,
        max;       /* ERR_MESSAGE_TOO_LARGE; size also: ERR_ANS_HTTP, ERR_ANS_RESET: the code */
    bool is_write; /* the call would have changed etcd */
    bool is_watch;
    struct bytes path; /* the method */
};

#define STATUS_TEXT_MAX 640
/* Returns the status; text is plain (not yet percent-encoded), NUL-terminated. */
enum grpc_status status_of(const struct failure *f, char text[static STATUS_TEXT_MAX]);
/* The same text for a line of the log: the key's name, which is a secret's, is hashed
 * ("sha256:" and the first 16 hex digits of its SHA-256). */
void status_log_text(const struct failure *f, char text[static STATUS_TEXT_MAX]);
/* Names the key whose value does not open, in a line of level debug. */
void status_log_key(const struct failure *f, uint64_t call_id);

#endif
