/* SPDX-License-Identifier: Apache-2.0 */
/* What every server must take: h2spec's generic cases, of all sections. */
#include "conformance.h"

#define NO_WINDOW SETTINGS(INITIAL_WINDOW(NONE))

/* RFC 7541 appendix C.4 has these words in Huffman code. */
#define HUFFMAN_NAME "\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f"
#define HUFFMAN_VALUE "\x89\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf"
#define PLAIN_NAME                                                                                 \
    "\x0a"                                                                                         \
    "custom-key"
#define PLAIN_VALUE                                                                                \
    "\x0c"                                                                                         \
    "custom-value"
#define BLOCK(number, name, bytes)                                                                 \
    CASE("generic " number, name, 0, ANSWERED(1), FRAME(F_HEADERS, LAST, 1, bytes))

static const struct conf_case cases[] = {
    CASE("generic 1/1", "the client's preface", 0, ALIVE, FRAME(F_PING, 0, 0, "01234567")),
    CASE("generic 2/1", "PRIORITY on an idle stream", 0, ALIVE, PRIORITY(1)),
    CASE("generic 2/2", "WINDOW_UPDATE on a half-closed stream", 0, ALIVE, NO_WINDOW, REQUEST(1),
         WINDOW(1, ONE), EXPECT_DATA(1, 1)),
    CASE("generic 2/3", "PRIORITY on a half-closed stream", 0, ALIVE, NO_WINDOW, REQUEST(1),
         PRIORITY(1), WINDOW(1, ONE), EXPECT_DATA(1, 1)),
    CASE("generic 2/4", "RST_STREAM on a half-closed stream", CONF_SILENT, ALIVE, REQUEST(1),
         RST(1)),
    CASE("generic 2/5", "PRIORITY on a closed stream", 0, ANSWERED(1), REQUEST(1), AWAIT_END(1),
         PRIORITY(1)),

    CASE("generic 3.1/1", "DATA", 0, ANSWERED(1), OPEN(1), DATA(END, 1, "test")),
    CASE("generic 3.1/2", "DATA in two frames", 0, ANSWERED(1), OPEN(1), DATA(0, 1, "test"),
         DATA(END, 1, "test")),
    CASE("generic 3.1/3", "DATA with padding", 0, ANSWERED(1), OPEN(1),
         DATA(END | FLAG_PADDED, 1, "\3test\0\0\0")),
    CASE("generic 3.2/1", "HEADERS", 0, ANSWERED(1), REQUEST(1)),
    CASE("generic 3.2/2", "HEADERS with padding", 0, ANSWERED(1),
         FRAME(F_HEADERS, LAST | FLAG_PADDED, 1, "\3" GET_BLOCK "\0\0\0")),
    CASE("generic 3.2/3", "HEADERS with a priority", 0, ANSWERED(1),
         FRAME(F_HEADERS, LAST | FLAG_PRIORITY, 1, "\0\0\0\0\xff" GET_BLOCK)),
    CASE("generic 3.3/1", "PRIORITY with the least weight", 0, ANSWERED(1),
         FRAME(F_PRIORITY, 0, 1, "\0\0\0\0\0"), REQUEST(1)),
    CASE("generic 3.3/2", "PRIORITY with the greatest weight", 0, ANSWERED(1), PRIORITY(1),
         REQUEST(1)),
    CASE("generic 3.3/3", "PRIORITY that depends on a stream", 0, ANSWERED(1), PRIORITY(1),
         FRAME(F_PRIORITY, 0, 3, "\0\0\0\1\xff"), REQUEST(1)),
    CASE("generic 3.3/4", "PRIORITY that is exclusive", 0, ANSWERED(1),
         FRAME(F_PRIORITY, 0, 3, "\x80\0\0\1\xff"), REQUEST(1)),
    CASE("generic 3.3/5", "PRIORITY on an idle stream, HEADERS on one below", 0, ANSWERED(1),
         PRIORITY(3), REQUEST(1)),
    CASE("generic 3.4/1", "RST_STREAM", 0, ALIVE, OPEN(1), RST(1)),
    CASE("generic 3.5/1", "SETTINGS", 0, ALIVE, SETTINGS("\0\3\0\0\0\x64"), AWAIT_ACK),
    CASE("generic 3.7/1", "PING", 0, ALIVE, FRAME(F_PING, 0, 0, "01234567"), AWAIT(F_PING, 0)),
    CASE("generic 3.8/1", "GOAWAY", 0, ALIVE_OR_CLOSED, FRAME(F_GOAWAY, 0, 0, NONE NONE "bye")),
    CASE("generic 3.9/1", "WINDOW_UPDATE on the connection", 0, ANSWERED(1), WINDOW(0, ONE),
         REQUEST(1)),
    CASE("generic 3.9/2", "WINDOW_UPDATE on a stream", 0, ANSWERED(1), OPEN(1), WINDOW(1, ONE),
         DATA(END, 1, "")),
    CASE("generic 3.10/1", "CONTINUATION", 0, ANSWERED(1), FIELDS(F_HEADERS, END, 1, GET),
         FIELDS(F_CONT, WHOLE, 1, "x-test: 1\n")),
    CASE("generic 3.10/2", "several CONTINUATIONs", 0, ANSWERED(1), FIELDS(F_HEADERS, END, 1, GET),
         FIELDS(F_CONT, 0, 1, "x-test: 1\n"), FIELDS(F_CONT, WHOLE, 1, "x-other: 2\n")),

    CASE("generic 4/1", "GET", 0, ANSWERED(1), REQUEST(1)),
    CASE("generic 4/2", "HEAD", 0, ANSWERED(1),
         FIELDS(F_HEADERS, LAST, 1, ":method: HEAD\n:scheme: http\n:path: /\n:authority: x\n")),
    CASE("generic 4/3", "POST with a body", 0, ANSWERED(1), OPEN(1), DATA(END, 1, "test")),
    CASE("generic 4/4", "POST with trailers", 0, ANSWERED(1), OPEN(1), DATA(0, 1, "test"),
         FIELDS(F_HEADERS, LAST, 1, "x-test: 1\n")),

    BLOCK("5/1", "an indexed field", GET_BLOCK "\xba"),
    BLOCK("5/2", "a literal that is indexed, with an indexed name",
          GET_BLOCK "\x7a" PLAIN_VALUE "\xbe"),
    BLOCK("5/3", "the same in Huffman code", GET_BLOCK "\x7a" HUFFMAN_VALUE "\xbe"),
    BLOCK("5/4", "a literal that is indexed, with a new name",
          GET_BLOCK "\x40" PLAIN_NAME PLAIN_VALUE "\xbe"),
    BLOCK("5/5", "the same in Huffman code", GET_BLOCK "\x40" HUFFMAN_NAME HUFFMAN_VALUE "\xbe"),
    BLOCK("5/6", "a literal without indexing, with an indexed name",
          GET_BLOCK "\x0f\x2b" PLAIN_VALUE),
    BLOCK("5/7", "the same in Huffman code", GET_BLOCK "\x0f\x2b" HUFFMAN_VALUE),
    BLOCK("5/8", "a literal without indexing, with a new name",
          GET_BLOCK "\0" PLAIN_NAME PLAIN_VALUE),
    BLOCK("5/9", "the same in Huffman code", GET_BLOCK "\0" HUFFMAN_NAME HUFFMAN_VALUE),
    BLOCK("5/10", "a literal never indexed, with an indexed name",
          GET_BLOCK "\x1f\x2b" PLAIN_VALUE),
    BLOCK("5/11", "the same in Huffman code", GET_BLOCK "\x1f\x2b" HUFFMAN_VALUE),
    BLOCK("5/12", "a literal never indexed, with a new name",
          GET_BLOCK "\x10" PLAIN_NAME PLAIN_VALUE),
    BLOCK("5/13", "the same in Huffman code", GET_BLOCK "\x10" HUFFMAN_NAME HUFFMAN_VALUE),
    BLOCK("5/14", "a table size update", "\x20" GET_BLOCK),
    BLOCK("5/15", "two table size updates", "\x20\x3e" GET_BLOCK),
};

const struct conf_table conf_generic = {cases, ARRAY_LEN(cases)};
