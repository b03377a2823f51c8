/* SPDX-License-Identifier: Apache-2.0 */
/* What else a server owes to a client, in order of the sections of RFC 9113 and RFC 7541. */
#include "conformance.h"

#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define PROTOCOL CODE(PROTOCOL_ERROR)
#define FLOW CODE(FLOW_CONTROL_ERROR)
#define SIZE CODE(FRAME_SIZE_ERROR)
#define CLOSED CODE(STREAM_CLOSED)
#define BROKEN_BLOCK(number, name, bytes)                                                          \
    CASE("server " number, name, 0, CONN_ERROR(CODE(COMPRESSION_ERROR)),                           \
         FRAME(F_HEADERS, LAST, 1, bytes))
#define TEST_NAME                                                                                  \
    "\0\x6"                                                                                        \
    "x-test"
/* We reset the stream of a malformed request. */
#define BROKEN(i) FIELDS(F_HEADERS, WHOLE, i, POST "X-TEST: 1\n")

static const struct conf_case cases[] = {
    CASE("server 3.4/1", "a preface without SETTINGS behind it", CONF_BARE, CONN_ERROR(PROTOCOL),
         RAW(PREFACE "\0\0\x8\6\0\0\0\0\0"
                     "01234567")),
    CASE("server 3.4/2", "an acknowledgement in the place of SETTINGS", CONF_BARE,
         CONN_ERROR(PROTOCOL), RAW(PREFACE "\0\0\0\4\1\0\0\0\0")),
    CASE("server 4.1/1", "a frame of an unknown type above the limit", 0, CONN_ERROR(SIZE),
         ZEROS(0xff, 0, 0, 16385)),
    CASE("server 4.3/1", "a block that goes on after another stream's", 0, CONN_ERROR(PROTOCOL),
         FIELDS(F_HEADERS, END, 1, GET), FIELDS(F_CONT, WHOLE, 3, "x-test: 1\n")),
    CASE("server 4.3/2", "a refused request's block counts in the table", 0, ANSWERED(11), OPEN(1),
         OPEN(3), OPEN(5), OPEN(7), FRAME(F_HEADERS, LAST, 9, GET_BLOCK "\x40\6x-test\5value"),
         DATA(END, 1, ""), DATA(END, 3, ""), AWAIT_END(3),
         FRAME(F_HEADERS, LAST, 11, GET_BLOCK "\xbe")),
    CASE("server 4.3/3", "a malformed request's block counts in the table", 0, ANSWERED(3),
         FRAME(F_HEADERS, LAST, 1, GET_BLOCK "\x40\6X-TEST\5value\x40\6x-test\5value"),
         FRAME(F_HEADERS, LAST, 3, GET_BLOCK "\xbe")),
    CASE("server 4.3/4", "the block of a stream that was reset counts in the table", 0, ANSWERED(3),
         BROKEN(1), FRAME(F_HEADERS, LAST, 1, "\x40\6x-test\5value"),
         FRAME(F_HEADERS, LAST, 3, GET_BLOCK "\xbe")),

    CASE("server 5.1/1", "closed by our RST_STREAM: what is on its way is discarded", 0,
         ANSWERED(3), BROKEN(1), DATA(0, 1, "test"), FIELDS(F_HEADERS, LAST, 1, "x-test: 1\n"),
         RST(1), WINDOW(1, ONE), REQUEST(3)),
    CASE("server 5.1/2", "closed by END_STREAM: WINDOW_UPDATE and RST_STREAM", 0, ANSWERED(3),
         REQUEST(1), AWAIT_END(1), WINDOW(1, ONE), RST(1), REQUEST(3)),
    CASE("server 5.1/3", "closed by RST_STREAM: RST_STREAM and WINDOW_UPDATE", 0,
         ERROR_OR_ALIVE(1, CLOSED), OPEN(1), RST(1), RST(1), WINDOW(1, ONE)),
    CASE("server 5.1/4", "skipped over, so closed: DATA", 0, ERROR_OR_ALIVE(3, CLOSED | PROTOCOL),
         REQUEST(5), AWAIT_END(5), DATA(END, 3, "test")),
    CASE("server 5.1.1/1", "an even stream id: DATA", 0, CONN_ERROR(PROTOCOL),
         DATA(END, 2, "test")),
    CASE("server 5.1.1/2", "an even stream id: WINDOW_UPDATE", 0, CONN_ERROR(PROTOCOL),
         WINDOW(2, ONE)),
    CASE("server 5.1.2/1", "a stream that ended makes room", 0, ANSWERED(9), OPEN(1), OPEN(3),
         OPEN(5), OPEN(7), RST(1), REQUEST(9)),

    CASE("server 6.1/1", "DATA of nothing but padding", 0, ANSWERED(1), OPEN(1),
         DATA(FLAG_PADDED, 1, "\3\0\0\0"), DATA(END | FLAG_PADDED, 1, "\0")),
    CASE("server 6.1/2", "DATA that is empty, but says it is padded", 0,
         CONN_ERROR(PROTOCOL | SIZE), OPEN(1), DATA(END | FLAG_PADDED, 1, "")),
    CASE("server 6.1/3", "padding as long as DATA", 0, CONN_ERROR(PROTOCOL), OPEN(1),
         DATA(END | FLAG_PADDED, 1, "\4\0\0\0")),
    CASE("server 6.2/1", "HEADERS too short for their priority", 0, CONN_ERROR(PROTOCOL | SIZE),
         FRAME(F_HEADERS, LAST | FLAG_PRIORITY, 1, "\0\0\0\0")),
    CASE("server 6.2/2", "HEADERS too short for their padding's length", 0,
         CONN_ERROR(PROTOCOL | SIZE), FRAME(F_HEADERS, LAST | FLAG_PADDED, 1, "")),
    CASE("server 6.2/3", "padding that leaves no room for the priority", 0,
         CONN_ERROR(PROTOCOL | SIZE),
         FRAME(F_HEADERS, LAST | FLAG_PRIORITY | FLAG_PADDED, 1, "\5\0\0\0\0\xff\0\0\0\0")),
    CASE("server 6.4/1", "RST_STREAM of 5 bytes", 0, CONN_ERROR(SIZE), OPEN(1),
         FRAME(F_RST, 0, 1, "\0\0\0\x8\0")),
    CASE("server 6.5/1", "SETTINGS with a piece of a setting", 0, CONN_ERROR(SIZE),
         SETTINGS("\0\3\0\0\0\1\0")),
    CASE("server 6.5.2/1", "MAX_FRAME_SIZE at its ends", 0, ANSWERED(1),
         SETTINGS("\0\5\0\0\x40\0\0\5\0\xff\xff\xff"), REQUEST(1)),
    CASE("server 6.5.2/2", "a header table of nothing", 0, ANSWERED(3), SETTINGS("\0\1" NONE),
         REQUEST(1), REQUEST(3)),
    CASE("server 6.7/1", "PING of 9 bytes", 0, CONN_ERROR(SIZE), FRAME(F_PING, 0, 0, "012345678")),
    CASE("server 6.8/1", "GOAWAY of 7 bytes", 0, CONN_ERROR(SIZE),
         FRAME(F_GOAWAY, 0, 0, "\0\0\0\0\0\0\0")),
    CASE("server 6.9/1", "WINDOW_UPDATE of 5 bytes", 0, CONN_ERROR(SIZE),
         FRAME(F_WINDOW, 0, 0, "\0\0\0\1\0")),
    CASE("server 6.9/2", "the reserved bit of WINDOW_UPDATE", 0, ANSWERED(1),
         WINDOW(0, "\x80\0\0\1"), REQUEST(1)),
    CASE("server 6.9.1/1", "empty DATA pass a window of 0", CONF_SILENT, ALIVE, OPEN(1),
         DATA(0, 1, ""), DATA(END, 1, "")),
    CASE("server 6.9.1/2", "padding counts in the window", 0, ANSWERED(1), OPEN(1),
         ZEROS(F_DATA, FLAG_PADDED, 1, 16384), ZEROS(F_DATA, FLAG_PADDED, 1, 16384),
         ZEROS(F_DATA, FLAG_PADDED, 1, 16384), ZEROS(F_DATA, FLAG_PADDED | END, 1, 16383)),
    CASE("server 6.9.2/1", "INITIAL_WINDOW_SIZE that takes a stream beyond 2^31-1", 0,
         CONN_ERROR(FLOW), OPEN(1), WINDOW(1, "\x7f\xff\0\0"),
         SETTINGS(INITIAL_WINDOW("\0\2\0\0"))),
    CASE("server 6.10/1", "an empty CONTINUATION", 0, ANSWERED(1), FIELDS(F_HEADERS, END, 1, GET),
         FRAME(F_CONT, WHOLE, 1, "")),
    CASE("server 6.10/2", "a representation cut by a CONTINUATION", 0, ANSWERED(1),
         FRAME(F_HEADERS, END, 1, "\x82\x86\x84\x01"), FRAME(F_CONT, WHOLE, 1, "\x01x")),
    CASE("server 6.10/3", "CONTINUATION on an idle stream amid a block", 0, CONN_ERROR(PROTOCOL),
         FIELDS(F_HEADERS, END, 1, GET), FIELDS(F_CONT, WHOLE, 5, "x-test: 1\n")),

    CASE("server 8.2.1/1", "a name with a space", 0, STREAM_ERROR(1, PROTOCOL),
         FRAME(F_HEADERS, LAST, 1, GET_BLOCK "\0\3x y\1z")),
    CASE("server 8.2.1/2", "a name of no bytes", 0, STREAM_ERROR(1, PROTOCOL),
         FRAME(F_HEADERS, LAST, 1, GET_BLOCK "\0\0\1z")),
    CASE("server 8.2.1/3", "a value with a zero byte", 0, STREAM_ERROR(1, PROTOCOL),
         FRAME(F_HEADERS, LAST, 1, GET_BLOCK TEST_NAME "\3z\0z")),
    CASE("server 8.2.1/4", "a value with an end of line", 0, STREAM_ERROR(1, PROTOCOL),
         FRAME(F_HEADERS, LAST, 1, GET_BLOCK TEST_NAME "\3z\r\n")),
    CASE("server 8.2.1/5", "a value in UTF-8", 0, ANSWERED(1),
         FRAME(F_HEADERS, LAST, 1, GET_BLOCK TEST_NAME "\4\xc3\xa4\xc3\xb6")),
    CASE("server 8.3.1/1", ":authority twice", 0, STREAM_ERROR(1, PROTOCOL),
         FIELDS(F_HEADERS, LAST, 1, GET ":authority: y\n")),

    BROKEN_BLOCK("hpack 5.1/1", "an integer that does not end", GET_BLOCK "\xff"),
    BROKEN_BLOCK("hpack 5.1/2", "an integer above 2^32",
                 GET_BLOCK "\xff\xff\xff\xff\xff\xff\xff\x7f"),
    BROKEN_BLOCK("hpack 5.1/3", "an integer that wraps to an index that is there",
                 GET_BLOCK "\xff\x83\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
    BROKEN_BLOCK("hpack 5.2/1", "a string beyond the end of the block",
                 GET_BLOCK TEST_NAME "\x7fz"),
    BROKEN_BLOCK("hpack 5.2/2", "a string whose length takes all of 32 bits",
                 GET_BLOCK TEST_NAME "\x7f\x80\xff\xff\xff\x0f"),
    BROKEN_BLOCK("hpack 5.2/3", "a name without a value", GET_BLOCK TEST_NAME),
    BROKEN_BLOCK("hpack 2.3.3/1", "the first entry of an empty dynamic table", GET_BLOCK "\xbe"),
    CASE("server hpack 4.2/1", "a size update that empties the table", 0,
         CONN_ERROR(CODE(COMPRESSION_ERROR)),
         FRAME(F_HEADERS, LAST, 1, GET_BLOCK "\x40\6x-test\5value"),
         FRAME(F_HEADERS, LAST, 3, "\x20\x3f\xe1\x1f" GET_BLOCK "\xbe")),
    CASE("server hpack 4.4/1", "an entry larger than the table empties it", 0,
         CONN_ERROR(CODE(COMPRESSION_ERROR)),
         FRAME(F_HEADERS, LAST, 1, "\x3f\x21" GET_BLOCK "\x40\6x-test\5value"),
         FRAME(F_HEADERS, LAST, 3,
               GET_BLOCK "\x40\6x-test\x30"
                         "0123456789abcdef0123456789abcdef"
                         "0123456789abcdef\xbe")),
    CASE("server hpack 6.3/1", "the largest size update that is allowed", 0, ANSWERED(1),
         FRAME(F_HEADERS, LAST, 1, "\x3f\xe1\x1f" GET_BLOCK)),
};

const struct conf_table conf_server = {cases, ARRAY_LEN(cases)};
