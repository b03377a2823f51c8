/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: nothing. Gives: the one table of errors. Owns: nothing. Thread: any.
 *
 * Functions that can fail return enum err (ERR_OK = 0) and give results through trailing out
 * parameters. An error is logged once, where it is born, and translated once, in call_fail. */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include "base/base.h"

/* gRPC status codes (grpc/grpc doc/statuscodes.md). */
enum grpc_status {
    GRPC_OK = 0,
    GRPC_CANCELLED = 1,
    GRPC_UNKNOWN = 2,
    GRPC_INVALID_ARGUMENT = 3,
    GRPC_DEADLINE_EXCEEDED = 4,
    GRPC_NOT_FOUND = 5,
    GRPC_ALREADY_EXISTS = 6,
    GRPC_PERMISSION_DENIED = 7,
    GRPC_RESOURCE_EXHAUSTED = 8,
    GRPC_FAILED_PRECONDITION = 9,
    GRPC_ABORTED = 10,
    GRPC_OUT_OF_RANGE = 11,
    GRPC_UNIMPLEMENTED = 12,
    GRPC_INTERNAL = 13,
    GRPC_UNAVAILABLE = 14,
    GRPC_DATA_LOSS = 15,
    GRPC_UNAUTHENTICATED = 16,
};

enum err_fault {
    FAULT_NONE,
    FAULT_CLIENT,   /* what the client sent */
    FAULT_UPSTREAM, /* what etcd sent */
    FAULT_KMS,      /* the plugin */
    FAULT_US,       /* ourselves or the machine */
};

/* What an error concerns. Zero is the most refusing: a new error is of the call until its line in
 * ERR_TABLE says that it is of less. Of a Watch, what came before an error of less may go out. */
enum err_scope {
    SCOPE_CALL = 0, /* the whole call */
    SCOPE_ANSWER,   /* one answer: it is not what was asked for; so the call ends, too */
    SCOPE_DEK,      /* a DEK that the KMS does not give at present; the call ends, too */
    SCOPE_VALUE,    /* one stored value, which does not open: it ends one watch alone */
};

/* X(name, reason for log and metric, whose fault, gRPC status, scope, text).
 * The text is what a client reads of every such error; NULL: it depends on what has failed, and
 * proxy/status.c makes it. "etcdserver:" and "grpc:" begin texts of etcd and of grpc-go, for
 * clients match on some of them. What users are told about the
 * statuses stands in README.md, "Answers of its own". */
#define ERR_TABLE(X)                                                                               \
    X(OK, "ok", FAULT_NONE, GRPC_OK, SCOPE_CALL, NULL)                                             \
    /* ourselves */                                                                                \
    X(NOMEM, "out_of_memory", FAULT_US, GRPC_RESOURCE_EXHAUSTED, SCOPE_CALL,                       \
      "etcd-envelope: the proxy's memory limit is reached (out_of_memory; see "                    \
      "--memory-limit)")                                                                           \
    X(MEMORY_LIMIT, "memory_limit", FAULT_US, GRPC_RESOURCE_EXHAUSTED, SCOPE_CALL,                 \
      "etcd-envelope: the proxy's memory limit is reached (memory_limit; see "                     \
      "--memory-limit)")                                                                           \
    X(CONNECTION_MEMORY, "connection_memory", FAULT_CLIENT, GRPC_RESOURCE_EXHAUSTED, SCOPE_CALL,   \
      "etcd-envelope: the calls of this connection need too much memory (connection_memory; "      \
      "see --connection-memory-limit)")                                                            \
    X(STREAM_MEMORY, "stream_memory", FAULT_CLIENT, GRPC_RESOURCE_EXHAUSTED, SCOPE_CALL,           \
      "etcd-envelope: the call needs too much memory (stream_memory; see "                         \
      "--stream-memory-limit)")                                                                    \
    X(CRYPTO, "crypto_library", FAULT_US, GRPC_INTERNAL, SCOPE_CALL, NULL)                         \
    X(RANDOM, "no_randomness", FAULT_US, GRPC_INTERNAL, SCOPE_CALL, NULL)                          \
    X(SYSTEM, "system_call", FAULT_US, GRPC_INTERNAL, SCOPE_CALL, NULL)                            \
    X(TLS, "tls", FAULT_US, GRPC_UNAVAILABLE, SCOPE_CALL, NULL)                                    \
    X(CONFIG, "configuration", FAULT_US, GRPC_INTERNAL, SCOPE_CALL, NULL)                          \
    X(CLOSED, "closed", FAULT_US, GRPC_UNAVAILABLE, SCOPE_CALL, "etcd-envelope: shutting down")    \
    X(TIMEOUT, "timeout", FAULT_US, GRPC_UNAVAILABLE, SCOPE_CALL, NULL)                            \
    X(AGAIN, "again", FAULT_NONE, GRPC_OK, SCOPE_CALL, NULL)                                       \
    X(FILE_DAMAGED, "file_damaged", FAULT_US, GRPC_INTERNAL, SCOPE_CALL, NULL)                     \
    /* messages of the client */                                                                   \
    X(MESSAGE_TOO_LARGE, "message_too_large", FAULT_CLIENT, GRPC_RESOURCE_EXHAUSTED, SCOPE_CALL,   \
      NULL)                                                                                        \
    X(MESSAGE_CUT, "message_cut", FAULT_CLIENT, GRPC_INTERNAL, SCOPE_CALL, "unexpected EOF")       \
    X(MESSAGE_EXTRA, "more_than_one_message", FAULT_CLIENT, GRPC_INTERNAL, SCOPE_CALL,             \
      "grpc: a unary call carries more than one message")                                          \
    X(MESSAGE_COMPRESSED, "compressed_message", FAULT_CLIENT, GRPC_UNIMPLEMENTED, SCOPE_CALL,      \
      NULL)                                                                                        \
    X(PROTOBUF, "malformed_protobuf", FAULT_CLIENT, GRPC_INTERNAL, SCOPE_CALL,                     \
      "grpc: error unmarshalling request: proto: cannot parse invalid wire-format data")           \
    X(UNKNOWN_METHOD, "unknown_method", FAULT_CLIENT, GRPC_UNIMPLEMENTED, SCOPE_CALL, NULL)        \
    X(REQ_UNKNOWN_FIELD, "unknown_field", FAULT_CLIENT, GRPC_INVALID_ARGUMENT, SCOPE_CALL, NULL)   \
    X(REQ_DOUBLED, "doubled_field", FAULT_CLIENT, GRPC_INVALID_ARGUMENT, SCOPE_CALL, NULL)         \
    X(REQ_ONEOF, "two_oneof_members", FAULT_CLIENT, GRPC_INVALID_ARGUMENT, SCOPE_CALL, NULL)       \
    X(REQ_WIRE_TYPE, "wrong_wire_type", FAULT_CLIENT, GRPC_INVALID_ARGUMENT, SCOPE_CALL, NULL)     \
    X(REQ_DEPTH, "too_deep", FAULT_CLIENT, GRPC_INVALID_ARGUMENT, SCOPE_CALL,                      \
      "etcd-envelope: the request is nested too deeply (limit 16 levels)")                         \
    X(REQ_TOO_MANY_OPS, "too_many_operations", FAULT_CLIENT, GRPC_INVALID_ARGUMENT, SCOPE_CALL,    \
      "etcdserver: too many operations in txn request")                                            \
    X(REQ_TOO_MANY_FIELDS, "too_many_fields", FAULT_CLIENT, GRPC_INVALID_ARGUMENT, SCOPE_CALL,     \
      "etcd-envelope: the request has too many unknown or repeated fields")                        \
    X(REQ_VALUE_COMPARE, "value_compare", FAULT_CLIENT, GRPC_INVALID_ARGUMENT, SCOPE_CALL,         \
      "etcd-envelope: value comparison on an encrypted key is not supported")                      \
    X(REQ_VALUE_SORT, "value_sort", FAULT_CLIENT, GRPC_INVALID_ARGUMENT, SCOPE_CALL,               \
      "etcd-envelope: sorting by value is not supported on encrypted keys")                        \
    X(REQ_EMPTY_KEY, "empty_key", FAULT_CLIENT, GRPC_INVALID_ARGUMENT, SCOPE_CALL,                 \
      "etcdserver: key is not provided")                                                           \
    X(REQ_VALUE_PROVIDED, "ignore_value_with_value", FAULT_CLIENT, GRPC_INVALID_ARGUMENT,          \
      SCOPE_CALL, "etcdserver: value is provided")                                                 \
    /* the client has given up by now, for its own clock started before ours */                    \
    X(DEADLINE, "deadline_exceeded", FAULT_CLIENT, GRPC_DEADLINE_EXCEEDED, SCOPE_CALL,             \
      "context deadline exceeded")                                                                 \
    X(REQ_SEALED_VALUE, "sealed_value_does_not_open", FAULT_CLIENT, GRPC_INVALID_ARGUMENT,         \
      SCOPE_CALL,                                                                                  \
      "etcd-envelope: the value begins with k8s:enc: but no configured authenticating "            \
      "provider opens it under its key; it was not stored")                                        \
    X(REQUEST_STALLED, "request_stalled", FAULT_CLIENT, GRPC_UNAVAILABLE, SCOPE_CALL,              \
      "etcd-envelope: the request makes no progress")                                              \
    X(READER_STALLED, "reader_stalled", FAULT_CLIENT, GRPC_UNAVAILABLE, SCOPE_CALL,                \
      "etcd-envelope: the client opens no window for its answer")                                  \
    /* connections of clients: they are cut, and no call hears of it */                            \
    X(SLOW_HANDSHAKE, "slow_handshake", FAULT_CLIENT, GRPC_UNAVAILABLE, SCOPE_CALL, NULL)          \
    X(SLOW_PREFACE, "slow_preface", FAULT_CLIENT, GRPC_UNAVAILABLE, SCOPE_CALL, NULL)              \
    X(SLOW_SETTINGS, "slow_settings", FAULT_CLIENT, GRPC_UNAVAILABLE, SCOPE_CALL, NULL)            \
    X(SLOW_HEADERS, "slow_headers", FAULT_CLIENT, GRPC_UNAVAILABLE, SCOPE_CALL, NULL)              \
    X(SLOW_SOCKET, "slow_socket", FAULT_CLIENT, GRPC_UNAVAILABLE, SCOPE_CALL, NULL)                \
    X(PING_UNANSWERED, "ping_unanswered", FAULT_CLIENT, GRPC_UNAVAILABLE, SCOPE_CALL, NULL)        \
    X(CONNECTION_LIMIT, "connection_limit", FAULT_US, GRPC_UNAVAILABLE, SCOPE_CALL, NULL)          \
    X(CONNECTION_SHARE, "connection_share", FAULT_CLIENT, GRPC_UNAVAILABLE, SCOPE_CALL, NULL)      \
    X(OPENING_LIMIT, "opening_limit", FAULT_US, GRPC_UNAVAILABLE, SCOPE_CALL, NULL)                \
    X(PROBE_LIMIT, "probe_limit", FAULT_CLIENT, GRPC_UNAVAILABLE, SCOPE_CALL, NULL)                \
    X(NO_DESCRIPTOR, "no_descriptor", FAULT_US, GRPC_UNAVAILABLE, SCOPE_CALL, NULL)                \
    X(STREAM_LIMIT, "stream_limit", FAULT_CLIENT, GRPC_UNAVAILABLE, SCOPE_CALL, NULL)              \
    X(HEADERS_TOO_LARGE, "headers_too_large", FAULT_CLIENT, GRPC_UNAVAILABLE, SCOPE_CALL, NULL)    \
    X(FLOOD, "flood", FAULT_CLIENT, GRPC_UNAVAILABLE, SCOPE_CALL, NULL)                            \
    X(HTTP2, "http2_violation", FAULT_CLIENT, GRPC_UNAVAILABLE, SCOPE_CALL, NULL)                  \
    /* answers of etcd */                                                                          \
    X(ANS_MALFORMED, "answer_malformed", FAULT_UPSTREAM, GRPC_DATA_LOSS, SCOPE_ANSWER, NULL)       \
    X(ANS_DOUBLED, "answer_doubled_field", FAULT_UPSTREAM, GRPC_DATA_LOSS, SCOPE_ANSWER, NULL)     \
    X(ANS_WIRE_TYPE, "answer_wrong_wire_type", FAULT_UPSTREAM, GRPC_DATA_LOSS, SCOPE_ANSWER, NULL) \
    X(ANS_OUTSIDE, "answer_outside_of_request", FAULT_UPSTREAM, GRPC_DATA_LOSS, SCOPE_ANSWER,      \
      NULL)                                                                                        \
    X(ANS_NO_KEY, "value_without_key", FAULT_UPSTREAM, GRPC_DATA_LOSS, SCOPE_ANSWER, NULL)         \
    X(ANS_PREV_KEY, "prev_kv_of_another_key", FAULT_UPSTREAM, GRPC_DATA_LOSS, SCOPE_ANSWER, NULL)  \
    X(ANS_COMPRESSED, "answer_compressed", FAULT_UPSTREAM, GRPC_INTERNAL, SCOPE_CALL,              \
      "etcd-envelope: etcd's answer is broken (answer_compressed)")                                \
    X(ANS_CUT, "answer_cut", FAULT_UPSTREAM, GRPC_INTERNAL, SCOPE_CALL,                            \
      "etcd-envelope: etcd's answer is broken (answer_cut)")                                       \
    X(ANS_RESET, "answer_reset", FAULT_UPSTREAM, GRPC_INTERNAL, SCOPE_CALL, NULL)                  \
    X(ANS_BROKEN, "answer_breaks_http2", FAULT_UPSTREAM, GRPC_UNAVAILABLE, SCOPE_CALL,             \
      "etcd-envelope: etcd's answer is broken (answer_breaks_http2)")                              \
    X(ANS_STALLED, "answer_stalled", FAULT_UPSTREAM, GRPC_UNAVAILABLE, SCOPE_CALL,                 \
      "etcd-envelope: etcd's answer is broken (answer_stalled)")                                   \
    X(ANS_HTTP, "answer_http_status", FAULT_UPSTREAM, GRPC_UNKNOWN, SCOPE_CALL, NULL)              \
    X(ANS_UNKNOWN_WATCH, "unknown_watch_id", FAULT_UPSTREAM, GRPC_DATA_LOSS, SCOPE_ANSWER, NULL)   \
    X(NO_ADVERTISE_URL, "no_advertise_url", FAULT_US, GRPC_FAILED_PRECONDITION, SCOPE_CALL,        \
      "etcd-envelope: member URLs would lead past the proxy: set --advertise-client-urls")         \
    X(UPSTREAM_LOST, "upstream_lost", FAULT_UPSTREAM, GRPC_UNAVAILABLE, SCOPE_CALL,                \
      "etcdserver: request timed out, possibly due to connection lost")                            \
    X(UPSTREAM_AWAY, "upstream_away", FAULT_UPSTREAM, GRPC_UNAVAILABLE, SCOPE_CALL,                \
      "etcd-envelope: etcd is not reachable")                                                      \
    /* stored values: the error classes of tests/golden/ */                                        \
    X(NO_MATCHING_PREFIX, "no_matching_prefix", FAULT_UPSTREAM, GRPC_DATA_LOSS, SCOPE_VALUE, NULL) \
    X(NO_MATCHING_KEY, "no_matching_key", FAULT_UPSTREAM, GRPC_DATA_LOSS, SCOPE_VALUE, NULL)       \
    X(IDENTITY_SAW_ENCRYPTED, "identity_saw_encrypted", FAULT_UPSTREAM, GRPC_DATA_LOSS,            \
      SCOPE_VALUE, NULL)                                                                           \
    X(TOO_SHORT, "too_short", FAULT_UPSTREAM, GRPC_DATA_LOSS, SCOPE_VALUE, NULL)                   \
    X(AUTH_FAILED, "auth_failed", FAULT_UPSTREAM, GRPC_DATA_LOSS, SCOPE_VALUE, NULL)               \
    X(BAD_BLOCK_SIZE, "bad_block_size", FAULT_UPSTREAM, GRPC_DATA_LOSS, SCOPE_VALUE, NULL)         \
    X(BAD_PADDING, "bad_padding", FAULT_UPSTREAM, GRPC_DATA_LOSS, SCOPE_VALUE, NULL)               \
    X(PROTOBUF_MALFORMED, "protobuf_malformed", FAULT_UPSTREAM, GRPC_DATA_LOSS, SCOPE_VALUE, NULL) \
    X(INVALID_UTF8, "invalid_utf8", FAULT_UPSTREAM, GRPC_DATA_LOSS, SCOPE_VALUE, NULL)             \
    X(UNKNOWN_DEK_SOURCE_TYPE, "unknown_dek_source_type", FAULT_UPSTREAM, GRPC_DATA_LOSS,          \
      SCOPE_VALUE, NULL)                                                                           \
    X(ENCRYPTED_DATA_EMPTY, "encrypted_data_empty", FAULT_UPSTREAM, GRPC_DATA_LOSS, SCOPE_VALUE,   \
      NULL)                                                                                        \
    X(DEK_SOURCE_EMPTY, "dek_source_empty", FAULT_UPSTREAM, GRPC_DATA_LOSS, SCOPE_VALUE, NULL)     \
    X(DEK_SOURCE_TOO_LONG, "dek_source_too_long", FAULT_UPSTREAM, GRPC_DATA_LOSS, SCOPE_VALUE,     \
      NULL)                                                                                        \
    X(KEY_ID_EMPTY, "key_id_empty", FAULT_UPSTREAM, GRPC_DATA_LOSS, SCOPE_VALUE, NULL)             \
    X(KEY_ID_TOO_LONG, "key_id_too_long", FAULT_UPSTREAM, GRPC_DATA_LOSS, SCOPE_VALUE, NULL)       \
    X(ANNOTATIONS_INVALID, "annotations_invalid", FAULT_UPSTREAM, GRPC_DATA_LOSS, SCOPE_VALUE,     \
      NULL)                                                                                        \
    X(BAD_DEK_SIZE, "bad_dek_size", FAULT_KMS, GRPC_DATA_LOSS, SCOPE_VALUE, NULL)                  \
    X(V1_BAD_LENGTH_PREFIX, "v1_bad_length_prefix", FAULT_UPSTREAM, GRPC_DATA_LOSS, SCOPE_VALUE,   \
      NULL)                                                                                        \
    /* the plugin; a write that meets KMS_AWAY is answered UNAVAILABLE (see status.c) */           \
    X(NO_STATE, "no_state", FAULT_KMS, GRPC_FAILED_PRECONDITION, SCOPE_DEK, NULL)                  \
    X(KMS_AWAY, "kms_away", FAULT_KMS, GRPC_FAILED_PRECONDITION, SCOPE_DEK, NULL)                  \
    X(KMS_ERROR, "kms_error", FAULT_KMS, GRPC_DATA_LOSS, SCOPE_VALUE, NULL)                        \
    X(NO_WRITE_KEY, "no_write_key", FAULT_KMS, GRPC_UNAVAILABLE, SCOPE_DEK, NULL)                  \
    X(DEK_SOURCE_EXPOSED, "dek_source_exposed", FAULT_KMS, GRPC_UNAVAILABLE, SCOPE_DEK, NULL)

enum err {
#define X(name, reason, fault, status, scope, text) ERR_##name,
    ERR_TABLE(X)
#undef X
        ERR_COUNT
};

/* The stable reason word of an error, for logs and metric labels. Static storage. */
const char *err_reason(enum err e);
enum err_fault err_fault(enum err e);
enum grpc_status err_status(enum err e);
/* What a client reads; NULL: see ERR_TABLE. Static storage. */
const char *err_text(enum err e);
enum err_scope err_scope(enum err e);
/* It concerns one stored value, and ends one watch alone. */
bool err_is_of_value(enum err e);
/* Of a Watch, what came before it may go out: it is not of the call. */
bool err_spares_earlier(enum err e);
/* "DATA_LOSS" and so on; "CODE(n)" is "UNKNOWN". Static storage. */
const char *grpc_status_name(enum grpc_status s);

/* Returns the error of an expression, if it has one: the only macro with control flow. */
#define TRY(expr)                                                                                  \
    do {                                                                                           \
        enum err try_err_ = (expr);                                                                \
        if (try_err_ != ERR_OK)                                                                    \
            return try_err_;                                                                       \
    } while (0)

#endif
