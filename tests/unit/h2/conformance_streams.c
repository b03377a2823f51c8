/* SPDX-License-Identifier: Apache-2.0 */
/* Sections 3 to 5 of RFC 7540: preface, frames, streams and their states. */
#include "conformance.h"

#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define EMPTY_SETTINGS "\0\0\0\4\0\0\0\0\0"
#define BAD_PING "\0\0\x8\6\0\0\0\0\3\0\0\0\0\0\0\0\0"
#define CLOSED CODE(STREAM_CLOSED)
#define PROTOCOL CODE(PROTOCOL_ERROR)
#define NO_PRIORITIES                                                                              \
    "RFC 9113 section 5.3.2: priorities are read and not obeyed; etcd does the same"

static const struct conf_case cases[] = {
    CASE("3.5/1", "the client's preface", CONF_BARE, ALIVE, RAW(PREFACE EMPTY_SETTINGS), AWAIT_ACK),
    {.name = "3.5/2",
     .what = "bytes that are no preface",
     .options = CONF_BARE,
     .allowed = {CONF_GOAWAY | CONF_CLOSE, PROTOCOL, 0},
     .steps = STEPS(RAW("INVALID CONNECTION PREFACE\r\n\r\n"), AWAIT(F_SETTINGS, 0))},

    CASE("4.1/1", "a frame of an unknown type", 0, ALIVE, FRAME(0x16, 0, 0, "01234567")),
    CASE("4.1/2", "flags that are not defined", 0, ALIVE, FRAME(F_PING, 0x16, 0, "01234567"),
         AWAIT(F_PING, 0)),
    CASE("4.1/3", "the reserved bit of the stream id", 0, ALIVE,
         FRAME(F_PING, 0, 0x80000000, "01234567"), AWAIT(F_PING, 0)),
    CASE("4.2/1", "DATA of 2^14 bytes", 0, ANSWERED(1), OPEN(1), ZEROS(F_DATA, END, 1, 16384)),
    CASE("4.2/2", "DATA above SETTINGS_MAX_FRAME_SIZE", 0, STREAM_ERROR(1, CODE(FRAME_SIZE_ERROR)),
         OPEN(1), ZEROS(F_DATA, END, 1, 16385)),
    CASE("4.2/3", "HEADERS above SETTINGS_MAX_FRAME_SIZE", 0, CONN_ERROR(CODE(FRAME_SIZE_ERROR)),
         ZEROS(F_HEADERS, LAST, 1, 16385)),
    CASE("4.3/1", "a field block that cannot be decoded", 0, CONN_ERROR(CODE(COMPRESSION_ERROR)),
         FRAME(F_HEADERS, LAST, 1, "\x40")),
    CASE("4.3/2", "PRIORITY amid a field block", 0, CONN_ERROR(PROTOCOL),
         FIELDS(F_HEADERS, END, 1, GET), PRIORITY(1), FIELDS(F_CONT, WHOLE, 1, "x-test: 1\n")),
    CASE("4.3/3", "HEADERS of another stream amid a field block", 0, CONN_ERROR(PROTOCOL),
         FIELDS(F_HEADERS, END, 1, GET), REQUEST(3), FIELDS(F_CONT, WHOLE, 1, "x-test: 1\n")),

    CASE("5.1/1", "idle: DATA", 0, CONN_ERROR(PROTOCOL), DATA(END, 1, "test")),
    CASE("5.1/2", "idle: RST_STREAM", 0, CONN_ERROR(PROTOCOL), RST(1)),
    CASE("5.1/3", "idle: WINDOW_UPDATE", 0, CONN_ERROR(PROTOCOL), WINDOW(1, ONE)),
    CASE("5.1/4", "idle: CONTINUATION", 0, CONN_ERROR(PROTOCOL), FIELDS(F_CONT, LAST, 1, GET)),
    CASE("5.1/5", "half-closed: DATA", CONF_SILENT, STREAM_ERROR(1, CLOSED), REQUEST(1),
         DATA(END, 1, "test")),
    CASE("5.1/6", "half-closed: HEADERS", CONF_SILENT, STREAM_ERROR(1, CLOSED), REQUEST(1),
         REQUEST(1)),
    CASE("5.1/7", "half-closed: CONTINUATION", CONF_SILENT, STREAM_ERROR(1, CLOSED | PROTOCOL),
         REQUEST(1), FIELDS(F_CONT, WHOLE, 1, GET)),
    CASE("5.1/8", "closed by RST_STREAM: DATA", 0, STREAM_ERROR(1, CLOSED), OPEN(1), RST(1),
         DATA(END, 1, "test")),
    CASE("5.1/9", "closed by RST_STREAM: HEADERS", 0, STREAM_ERROR(1, CLOSED), OPEN(1), RST(1),
         REQUEST(1)),
    CASE("5.1/10", "closed by RST_STREAM: CONTINUATION", 0, STREAM_ERROR(1, CLOSED | PROTOCOL),
         OPEN(1), RST(1), FIELDS(F_CONT, WHOLE, 1, "x-test: 1\n")),
    CASE("5.1/11", "closed by END_STREAM: DATA", 0, CONN_ERROR(CLOSED), REQUEST(1), AWAIT_END(1),
         DATA(END, 1, "test")),
    CASE("5.1/12", "closed by END_STREAM: HEADERS", 0, CONN_ERROR(CLOSED), REQUEST(1), AWAIT_END(1),
         REQUEST(1)),
    CASE("5.1/13", "closed by END_STREAM: CONTINUATION", 0, CONN_ERROR(CLOSED | PROTOCOL),
         REQUEST(1), AWAIT_END(1), FIELDS(F_CONT, WHOLE, 1, "x-test: 1\n")),
    CASE("5.1.1/1", "a stream id that is even", 0, CONN_ERROR(PROTOCOL), REQUEST(2)),
    CASE("5.1.1/2", "a stream id that falls", CONF_SILENT, CONN_ERROR(PROTOCOL), REQUEST(5),
         REQUEST(3)),
    CASE("5.1.2/1", "more streams than SETTINGS_MAX_CONCURRENT_STREAMS", 0,
         STREAM_ERROR(9, PROTOCOL | CODE(REFUSED_STREAM)), OPEN(1), OPEN(3), OPEN(5), OPEN(7),
         OPEN(9)),
    ON_PURPOSE("5.3.1/1", "HEADERS that depend on their own stream", NO_PRIORITIES,
               STREAM_ERROR(1, PROTOCOL), ANSWERED(1),
               FRAME(F_HEADERS, LAST | FLAG_PRIORITY, 1, "\0\0\0\1\xff" GET_BLOCK)),
    ON_PURPOSE("5.3.1/2", "PRIORITY that depends on its own stream", NO_PRIORITIES,
               STREAM_ERROR(1, PROTOCOL), ALIVE, OPEN(1), FRAME(F_PRIORITY, 0, 1, "\0\0\0\1\xff")),
    CASE("5.4.1/1", "the connection is closed behind an error", 0, CONN_ERROR(PROTOCOL),
         RAW(BAD_PING)),
    CASE("5.4.1/2", "GOAWAY names the error", 0, CONN_ERROR(PROTOCOL), RAW(BAD_PING),
         AWAIT(F_GOAWAY, 0)),
    CASE("5.5/1", "a frame of an unknown type on a stream", 0, ANSWERED(1), OPEN(1),
         FRAME(0xff, 0xff, 1, "01234567"), DATA(END, 1, "")),
    CASE("5.5/2", "a frame of an unknown type amid a field block", 0, CONN_ERROR(PROTOCOL),
         FIELDS(F_HEADERS, END, 1, GET), FRAME(0xff, 0, 1, "01234567"),
         FIELDS(F_CONT, WHOLE, 1, "x-test: 1\n")),
};

const struct conf_table conf_streams = {cases, ARRAY_LEN(cases)};
