/* SPDX-License-Identifier: Apache-2.0 */
/* Sections 7 and 8 of RFC 7540: error codes, and what makes frames an HTTP message. */
#include "conformance.h"

#define MALFORMED STREAM_ERROR(1, CODE(PROTOCOL_ERROR))
#define HEADERS(text) FIELDS(F_HEADERS, LAST, 1, text)
#define AS_ETCD "clear or TLS, one of etcd's two servers takes it"

static const struct conf_case cases[] = {
    CASE("7/1", "GOAWAY with an unknown code", 0, ALIVE_OR_CLOSED,
         FRAME(F_GOAWAY, 0, 0, NONE "\0\0\0\xff")),
    CASE("7/2", "RST_STREAM with an unknown code", 0, ALIVE, OPEN(1),
         FRAME(F_RST, 0, 1, "\0\0\0\xff")),

    CASE("8.1/1", "a second field list without END_STREAM", 0, MALFORMED, OPEN(1),
         DATA(0, 1, "test"), FIELDS(F_HEADERS, WHOLE, 1, "x-test: 1\n"), DATA(END, 1, "test")),
    CASE("8.1.2/1", "a name in upper case", 0, MALFORMED, HEADERS(GET "X-TEST: 1\n")),
    CASE("8.1.2.1/1", "a pseudo-header field that nobody knows", 0, MALFORMED,
         HEADERS(GET ":test: 1\n")),
    CASE("8.1.2.1/2", "a pseudo-header field of answers", 0, MALFORMED,
         HEADERS(GET ":status: 200\n")),
    CASE("8.1.2.1/3", "a pseudo-header field among trailers", 0, MALFORMED, OPEN(1),
         DATA(0, 1, "test"), HEADERS(":method: GET\n")),
    CASE("8.1.2.1/4", "a pseudo-header field behind another field", 0, MALFORMED,
         HEADERS("x-test: 1\n" GET)),
    CASE("8.1.2.2/1", "a field of the connection", 0, MALFORMED,
         HEADERS(GET "connection: keep-alive\n")),
    ON_PURPOSE("8.1.2.2/2", "te that is not \"trailers\"", AS_ETCD, MALFORMED, ANSWERED(1),
               HEADERS(GET "te: trailers, deflate\n")),
    CASE("8.1.2.3/1", ":path that is empty", 0, MALFORMED,
         HEADERS(":method: GET\n:scheme: http\n:path: \n:authority: x\n")),
    CASE("8.1.2.3/2", "no :method", 0, MALFORMED,
         HEADERS(":scheme: http\n:path: /\n:authority: x\n")),
    ON_PURPOSE("8.1.2.3/3", "no :scheme", AS_ETCD, MALFORMED, ANSWERED(1),
               HEADERS(":method: GET\n:path: /\n:authority: x\n")),
    CASE("8.1.2.3/4", "no :path", 0, MALFORMED,
         HEADERS(":method: GET\n:scheme: http\n:authority: x\n")),
    CASE("8.1.2.3/5", ":method twice", 0, MALFORMED, HEADERS(":method: GET\n" GET)),
    CASE("8.1.2.3/6", ":scheme twice", 0, MALFORMED, HEADERS(":scheme: http\n" GET)),
    CASE("8.1.2.3/7", ":path twice", 0, MALFORMED, HEADERS(":path: /\n" GET)),
    ON_PURPOSE("8.1.2.6/1", "content-length that DATA does not keep to", AS_ETCD, MALFORMED,
               ANSWERED(1), FIELDS(F_HEADERS, WHOLE, 1, POST "content-length: 1\n"),
               DATA(END, 1, "test")),
    ON_PURPOSE("8.1.2.6/2", "content-length that two DATA do not keep to", AS_ETCD, MALFORMED,
               ANSWERED(1), FIELDS(F_HEADERS, WHOLE, 1, POST "content-length: 1\n"),
               DATA(0, 1, "test"), DATA(END, 1, "test")),
    CASE("8.2/1", "PUSH_PROMISE from a client", 0, CONN_ERROR(CODE(PROTOCOL_ERROR)), OPEN(1),
         FRAME(F_PUSH, WHOLE, 1, TWO GET_BLOCK)),
};

const struct conf_table conf_messages = {cases, ARRAY_LEN(cases)};
