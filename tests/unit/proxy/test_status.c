/* SPDX-License-Identifier: Apache-2.0 */
/* What a client is told of every error. It may read the name of the key that does not open; the log
 * gets a hash of it, whatever failed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "proxy/status.h"

#define KEY "/registry/secrets/default/launch-codes"
/* printf %s /registry/secrets/default/launch-codes | sha256sum */
#define KEY_HASH "sha256:2b1ea170f33c0b56"

/* --- every error ----------------------------------------------------------------------------- */

/* By struct failure's is_write + 2 * is_watch. */
#define ALWAYS(status)                                                                             \
    {                                                                                              \
        status, status, status, status                                                             \
    }
/* A client of a Watch takes INTERNAL for something that will never end it. */
#define INTERNAL                                                                                   \
    {                                                                                              \
        GRPC_INTERNAL, GRPC_INTERNAL, GRPC_UNAVAILABLE, GRPC_UNAVAILABLE                           \
    }
#define CANNOT_DECRYPT                                                                             \
    ALWAYS(GRPC_DATA_LOSS),                                                                        \
        .text = "etcd-envelope: cannot decrypt /k",                                                \
        .keyless = "etcd-envelope: cannot decrypt: etcd's answer is not what was asked for"
/* No call is told. */
#define OF_CONNECTION(reason)                                                                      \
    ALWAYS(GRPC_UNAVAILABLE), .text = "etcd-envelope: request refused: " reason                    \
                                      " (field 7) in a request that touches encrypted keys"
#define NO_DEK(reason)                                                                             \
    {GRPC_FAILED_PRECONDITION, GRPC_UNAVAILABLE, GRPC_FAILED_PRECONDITION, GRPC_UNAVAILABLE},      \
        .text =                                                                                    \
            "etcd-envelope: KMS unavailable, the value's key could not be fetched (" reason ")",   \
        .write = "etcd-envelope: KMS unavailable, nothing was written (" reason ")"

static const struct answer {
    enum grpc_status status[4];
    const char *text, *write, *keyless; /* NULL: as text */
} answers[ERR_COUNT] = {
    [ERR_OK] = {ALWAYS(GRPC_OK), .text = "etcd-envelope: internal error (ok)"},
    [ERR_NOMEM] = {ALWAYS(GRPC_RESOURCE_EXHAUSTED),
                   .text = "etcd-envelope: the proxy's memory limit is reached (out_of_memory; see "
                           "--memory-limit)"},
    [ERR_MEMORY_LIMIT] = {ALWAYS(GRPC_RESOURCE_EXHAUSTED),
                          .text = "etcd-envelope: the proxy's memory limit is reached "
                                  "(memory_limit; see --memory-limit)"},
    [ERR_CONNECTION_MEMORY] = {ALWAYS(GRPC_RESOURCE_EXHAUSTED),
                               .text = "etcd-envelope: the calls of this connection need too much "
                                       "memory (connection_memory; see --connection-memory-limit)"},
    [ERR_STREAM_MEMORY] = {ALWAYS(GRPC_RESOURCE_EXHAUSTED),
                           .text = "etcd-envelope: the call needs too much memory (stream_memory; "
                                   "see --stream-memory-limit)"},
    [ERR_CRYPTO] = {INTERNAL, .text = "etcd-envelope: internal error (crypto_library)"},
    [ERR_RANDOM] = {INTERNAL, .text = "etcd-envelope: internal error (no_randomness)"},
    [ERR_SYSTEM] = {INTERNAL, .text = "etcd-envelope: internal error (system_call)"},
    [ERR_TLS] = {ALWAYS(GRPC_UNAVAILABLE), .text = "etcd-envelope: internal error (tls)"},
    [ERR_CONFIG] = {INTERNAL, .text = "etcd-envelope: internal error (configuration)"},
    [ERR_CLOSED] = {ALWAYS(GRPC_UNAVAILABLE), .text = "etcd-envelope: shutting down"},
    [ERR_TIMEOUT] = {ALWAYS(GRPC_UNAVAILABLE), .text = "etcd-envelope: internal error (timeout)"},
    [ERR_AGAIN] = {ALWAYS(GRPC_OK), .text = "etcd-envelope: internal error (again)"},
    [ERR_FILE_DAMAGED] = {INTERNAL, .text = "etcd-envelope: internal error (file_damaged)"},
    [ERR_MESSAGE_TOO_LARGE] = {ALWAYS(GRPC_RESOURCE_EXHAUSTED),
                               .text = "grpc: received message larger than max (8 vs. 4)"},
    [ERR_MESSAGE_CUT] = {ALWAYS(GRPC_INTERNAL), .text = "unexpected EOF"},
    [ERR_MESSAGE_EXTRA] = {ALWAYS(GRPC_INTERNAL),
                           .text = "grpc: a unary call carries more than one message"},
    [ERR_MESSAGE_COMPRESSED] = {ALWAYS(GRPC_UNIMPLEMENTED),
                                .text =
                                    "grpc: Decompressor is not installed for grpc-encoding \"/k\"",
                                .keyless =
                                    "grpc: Decompressor is not installed for grpc-encoding \"\""},
    [ERR_PROTOBUF] =
        {ALWAYS(GRPC_INTERNAL),
         .text = "grpc: error unmarshalling request: proto: cannot parse invalid wire-format data"},
    [ERR_UNKNOWN_METHOD] =
        {ALWAYS(GRPC_UNIMPLEMENTED),
         .text = "etcd-envelope: unknown method C for service a.B (not forwarded to etcd)"},
    [ERR_REQ_UNKNOWN_FIELD] = {ALWAYS(GRPC_INVALID_ARGUMENT),
                               .text = "etcd-envelope: request refused: unknown_field (field 7) in "
                                       "a request that touches encrypted "
                                       "keys"},
    [ERR_REQ_DOUBLED] = {ALWAYS(GRPC_INVALID_ARGUMENT),
                         .text = "etcd-envelope: request refused: doubled_field (field 7) in a "
                                 "request that touches encrypted "
                                 "keys"},
    [ERR_REQ_ONEOF] = {ALWAYS(GRPC_INVALID_ARGUMENT),
                       .text = "etcd-envelope: request refused: two_oneof_members (field 7) in a "
                               "request that touches "
                               "encrypted keys"},
    [ERR_REQ_WIRE_TYPE] =
        {ALWAYS(GRPC_INVALID_ARGUMENT),
         .text =
             "etcd-envelope: request refused: wrong_wire_type (field 7) in a request that touches "
             "encrypted keys"},
    [ERR_REQ_DEPTH] = {ALWAYS(GRPC_INVALID_ARGUMENT),
                       .text = "etcd-envelope: the request is nested too deeply (limit 16 levels)"},
    [ERR_REQ_TOO_MANY_OPS] = {ALWAYS(GRPC_INVALID_ARGUMENT),
                              .text = "etcdserver: too many operations in txn request"},
    [ERR_REQ_TOO_MANY_FIELDS] =
        {ALWAYS(GRPC_INVALID_ARGUMENT),
         .text = "etcd-envelope: the request has too many unknown or repeated fields"},
    [ERR_REQ_VALUE_COMPARE] =
        {ALWAYS(GRPC_INVALID_ARGUMENT),
         .text = "etcd-envelope: value comparison on an encrypted key is not supported"},
    [ERR_REQ_VALUE_SORT] =
        {ALWAYS(GRPC_INVALID_ARGUMENT),
         .text = "etcd-envelope: sorting by value is not supported on encrypted keys"},
    [ERR_REQ_EMPTY_KEY] = {ALWAYS(GRPC_INVALID_ARGUMENT),
                           .text = "etcdserver: key is not provided"},
    [ERR_REQ_VALUE_PROVIDED] = {ALWAYS(GRPC_INVALID_ARGUMENT),
                                .text = "etcdserver: value is provided"},
    [ERR_DEADLINE] = {ALWAYS(GRPC_DEADLINE_EXCEEDED), .text = "context deadline exceeded"},
    [ERR_REQ_SEALED_VALUE] = {ALWAYS(GRPC_INVALID_ARGUMENT),
                              .text = "etcd-envelope: the value begins with k8s:enc: but no "
                                      "configured authenticating provider "
                                      "opens it under its key; it was not stored"},
    [ERR_REQUEST_STALLED] = {ALWAYS(GRPC_UNAVAILABLE),
                             .text = "etcd-envelope: the request makes no progress"},
    [ERR_READER_STALLED] = {ALWAYS(GRPC_UNAVAILABLE),
                            .text = "etcd-envelope: the client opens no window for its answer"},
    [ERR_SLOW_HANDSHAKE] = {OF_CONNECTION("slow_handshake")},
    [ERR_SLOW_PREFACE] = {OF_CONNECTION("slow_preface")},
    [ERR_SLOW_SETTINGS] = {OF_CONNECTION("slow_settings")},
    [ERR_SLOW_HEADERS] = {OF_CONNECTION("slow_headers")},
    [ERR_SLOW_SOCKET] = {OF_CONNECTION("slow_socket")},
    [ERR_PING_UNANSWERED] = {OF_CONNECTION("ping_unanswered")},
    [ERR_CONNECTION_LIMIT] = {ALWAYS(GRPC_UNAVAILABLE),
                              .text = "etcd-envelope: internal error (connection_limit)"},
    [ERR_CONNECTION_SHARE] = {OF_CONNECTION("connection_share")},
    [ERR_OPENING_LIMIT] = {ALWAYS(GRPC_UNAVAILABLE),
                           .text = "etcd-envelope: internal error (opening_limit)"},
    [ERR_PROBE_LIMIT] = {OF_CONNECTION("probe_limit")},
    [ERR_NO_DESCRIPTOR] = {ALWAYS(GRPC_UNAVAILABLE),
                           .text = "etcd-envelope: internal error (no_descriptor)"},
    [ERR_STREAM_LIMIT] = {OF_CONNECTION("stream_limit")},
    [ERR_HEADERS_TOO_LARGE] = {OF_CONNECTION("headers_too_large")},
    [ERR_FLOOD] = {OF_CONNECTION("flood")},
    [ERR_HTTP2] = {OF_CONNECTION("http2_violation")},
    [ERR_ANS_MALFORMED] = {CANNOT_DECRYPT},
    [ERR_ANS_DOUBLED] = {CANNOT_DECRYPT},
    [ERR_ANS_WIRE_TYPE] = {CANNOT_DECRYPT},
    [ERR_ANS_OUTSIDE] = {CANNOT_DECRYPT},
    [ERR_ANS_NO_KEY] = {CANNOT_DECRYPT},
    [ERR_ANS_PREV_KEY] = {CANNOT_DECRYPT},
    [ERR_ANS_COMPRESSED] = {INTERNAL,
                            .text = "etcd-envelope: etcd's answer is broken (answer_compressed)"},
    [ERR_ANS_CUT] = {INTERNAL, .text = "etcd-envelope: etcd's answer is broken (answer_cut)"},
    [ERR_ANS_RESET] =
        {ALWAYS(GRPC_UNAVAILABLE),
         .text = "etcd-envelope: stream terminated by etcd with RST_STREAM, error code 8"},
    [ERR_ANS_BROKEN] = {ALWAYS(GRPC_UNAVAILABLE),
                        .text = "etcd-envelope: etcd's answer is broken (answer_breaks_http2)"},
    [ERR_ANS_STALLED] = {ALWAYS(GRPC_UNAVAILABLE),
                         .text = "etcd-envelope: etcd's answer is broken (answer_stalled)"},
    [ERR_ANS_HTTP] = {ALWAYS(GRPC_UNKNOWN),
                      .text = "etcd-envelope: unexpected HTTP status code received from etcd: 8"},
    [ERR_ANS_UNKNOWN_WATCH] = {CANNOT_DECRYPT},
    [ERR_NO_ADVERTISE_URL] =
        {ALWAYS(GRPC_FAILED_PRECONDITION),
         .text =
             "etcd-envelope: member URLs would lead past the proxy: set --advertise-client-urls"},
    [ERR_UPSTREAM_LOST] = {ALWAYS(GRPC_UNAVAILABLE),
                           .text =
                               "etcdserver: request timed out, possibly due to connection lost"},
    [ERR_UPSTREAM_AWAY] = {ALWAYS(GRPC_UNAVAILABLE),
                           .text = "etcd-envelope: etcd is not reachable"},
    [ERR_NO_MATCHING_PREFIX] = {CANNOT_DECRYPT},
    [ERR_NO_MATCHING_KEY] = {CANNOT_DECRYPT},
    [ERR_IDENTITY_SAW_ENCRYPTED] = {CANNOT_DECRYPT},
    [ERR_TOO_SHORT] = {CANNOT_DECRYPT},
    [ERR_AUTH_FAILED] = {CANNOT_DECRYPT},
    [ERR_BAD_BLOCK_SIZE] = {CANNOT_DECRYPT},
    [ERR_BAD_PADDING] = {CANNOT_DECRYPT},
    [ERR_PROTOBUF_MALFORMED] = {CANNOT_DECRYPT},
    [ERR_INVALID_UTF8] = {CANNOT_DECRYPT},
    [ERR_UNKNOWN_DEK_SOURCE_TYPE] = {CANNOT_DECRYPT},
    [ERR_ENCRYPTED_DATA_EMPTY] = {CANNOT_DECRYPT},
    [ERR_DEK_SOURCE_EMPTY] = {CANNOT_DECRYPT},
    [ERR_DEK_SOURCE_TOO_LONG] = {CANNOT_DECRYPT},
    [ERR_KEY_ID_EMPTY] = {CANNOT_DECRYPT},
    [ERR_KEY_ID_TOO_LONG] = {CANNOT_DECRYPT},
    [ERR_ANNOTATIONS_INVALID] = {CANNOT_DECRYPT},
    [ERR_BAD_DEK_SIZE] = {CANNOT_DECRYPT},
    [ERR_V1_BAD_LENGTH_PREFIX] = {CANNOT_DECRYPT},
    [ERR_NO_STATE] = {NO_DEK("no_state")},
    [ERR_KMS_AWAY] = {NO_DEK("kms_away")},
    [ERR_KMS_ERROR] = {CANNOT_DECRYPT},
    [ERR_NO_WRITE_KEY] = {NO_DEK("no_write_key")},
    [ERR_DEK_SOURCE_EXPOSED] = {NO_DEK("dek_source_exposed")},
};

static void every_error_has_one_answer(void **state)
{
    char text[STATUS_TEXT_MAX];

    (void)state;
    for (unsigned e = 0; e < ERR_COUNT; e++) {
        const struct answer *a = &answers[e];

        assert_non_null(a->text); /* a new error has its line above */
        for (unsigned kind = 0; kind < 4; kind++) {
            struct failure f = {.err = (enum err)e,
                                .key = BYTES_LIT("/k"),
                                .field = 7,
                                .size = 8,
                                .max = 4,
                                .is_write = kind & 1,
                                .is_watch = kind & 2,
                                .path = BYTES_LIT("/a.B/C")};
            const char *want = f.is_write && a->write != NULL ? a->write : a->text;

            assert_int_equal(status_of(&f, text), a->status[kind]);
            assert_string_equal(text, want);
            f.key = (struct bytes){0};
            assert_int_equal(status_of(&f, text), a->status[kind]);
            assert_string_equal(text, a->keyless != NULL ? a->keyless : want);
        }
    }
}

/* doc/http-grpc-status-mapping.md of gRPC, but for 400 of a Watch. */
static void an_http_status_becomes_one_of_grpc(void **state)
{
    static const struct {
        uint64_t http;
        enum grpc_status call, watch;
    } cases[] = {
        {200, GRPC_UNKNOWN, GRPC_UNKNOWN},
        {400, GRPC_INTERNAL, GRPC_UNKNOWN},
        {401, GRPC_UNAUTHENTICATED, GRPC_UNAUTHENTICATED},
        {403, GRPC_PERMISSION_DENIED, GRPC_PERMISSION_DENIED},
        {404, GRPC_UNIMPLEMENTED, GRPC_UNIMPLEMENTED},
        {429, GRPC_UNAVAILABLE, GRPC_UNAVAILABLE},
        {500, GRPC_UNKNOWN, GRPC_UNKNOWN},
        {502, GRPC_UNAVAILABLE, GRPC_UNAVAILABLE},
        {503, GRPC_UNAVAILABLE, GRPC_UNAVAILABLE},
        {504, GRPC_UNAVAILABLE, GRPC_UNAVAILABLE},
    };
    char text[STATUS_TEXT_MAX];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct failure f = {.err = ERR_ANS_HTTP, .size = cases[i].http};

        assert_int_equal(status_of(&f, text), cases[i].call);
        f.is_watch = true;
        assert_int_equal(status_of(&f, text), cases[i].watch);
    }
}

/* CANCEL (8) must not become CANCELLED: clients then repeat writes. */
static void a_reset_becomes_a_status_by_its_code(void **state)
{
    static const struct {
        uint64_t code;
        enum grpc_status call, watch;
    } cases[] = {
        {0, GRPC_INTERNAL, GRPC_UNAVAILABLE},
        {2, GRPC_INTERNAL, GRPC_UNAVAILABLE},
        {7, GRPC_INTERNAL, GRPC_UNAVAILABLE},
        {8, GRPC_UNAVAILABLE, GRPC_UNAVAILABLE},
        {11, GRPC_RESOURCE_EXHAUSTED, GRPC_RESOURCE_EXHAUSTED},
    };
    char text[STATUS_TEXT_MAX];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct failure f = {.err = ERR_ANS_RESET, .size = cases[i].code};

        assert_int_equal(status_of(&f, text), cases[i].call);
        f.is_watch = true;
        assert_int_equal(status_of(&f, text), cases[i].watch);
    }
}

static void a_path_that_is_no_method_is_called_so(void **state)
{
    static const char *const paths[] = {"", "/", "C", "/C"};
    char text[STATUS_TEXT_MAX], want[STATUS_TEXT_MAX];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        struct failure f = {.err = ERR_UNKNOWN_METHOD, .path = bytes_str(paths[i])};

        assert_int_equal(status_of(&f, text), GRPC_UNIMPLEMENTED);
        snprintf(want, sizeof want, "malformed method name: \"%s\"", paths[i]);
        assert_string_equal(text, want);
    }
}

/* --- the key --------------------------------------------------------------------------------- */

static void no_text_of_the_log_names_a_key(void **state)
{
    char text[STATUS_TEXT_MAX];

    (void)state;
    for (int e = ERR_OK + 1; e < ERR_COUNT; e++) {
        for (int kind = 0; kind < 4; kind++) {
            struct failure f = {.err = (enum err)e,
                                .key = BYTES_LIT(KEY),
                                .is_write = kind & 1,
                                .is_watch = kind & 2};

            if (e == ERR_MESSAGE_COMPRESSED)
                continue; /* there the key is the name of an encoding */
            status_log_text(&f, text);
            assert_null(strstr(text, "launch-codes"));
            assert_non_null(memchr(text, '\0', sizeof text));
        }
    }
}

static void the_client_is_told_the_key_and_the_log_its_hash(void **state)
{
    struct failure f = {.err = ERR_AUTH_FAILED, .key = BYTES_LIT(KEY)};
    char text[STATUS_TEXT_MAX];

    (void)state;
    assert_int_equal(status_of(&f, text), GRPC_DATA_LOSS);
    assert_string_equal(text, "etcd-envelope: cannot decrypt " KEY);
    status_log_text(&f, text);
    assert_string_equal(text, "etcd-envelope: cannot decrypt " KEY_HASH);
}

static void without_a_key_both_say_the_same(void **state)
{
    char text[STATUS_TEXT_MAX], log_text[STATUS_TEXT_MAX];

    (void)state;
    for (int e = ERR_OK + 1; e < ERR_COUNT; e++) {
        struct failure f = {.err = (enum err)e, .path = BYTES_LIT("/a.B/C"), .size = 8};

        (void)status_of(&f, text);
        status_log_text(&f, log_text);
        assert_string_equal(text, log_text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_error_has_one_answer),
        cmocka_unit_test(an_http_status_becomes_one_of_grpc),
        cmocka_unit_test(a_reset_becomes_a_status_by_its_code),
        cmocka_unit_test(a_path_that_is_no_method_is_called_so),
        cmocka_unit_test(no_text_of_the_log_names_a_key),
        cmocka_unit_test(the_client_is_told_the_key_and_the_log_its_hash),
        cmocka_unit_test(without_a_key_both_say_the_same),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
