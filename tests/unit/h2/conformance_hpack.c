/* SPDX-License-Identifier: Apache-2.0 */
/* RFC 7541: field blocks that cannot be decoded. Whatever is wrong with one ends the connection,
 * for the two tables do not agree any more. */
#include "conformance.h"

#define BROKEN(number, name, bytes)                                                                \
    CASE("hpack " number, name, 0, CONN_ERROR(CODE(COMPRESSION_ERROR)),                            \
         FRAME(F_HEADERS, LAST, 1, bytes))
#define TEST_NAME                                                                                  \
    "\0\x6"                                                                                        \
    "x-test"

static const struct conf_case cases[] = {
    BROKEN("2.3.3/1", "an indexed field beyond both tables", GET_BLOCK "\xc6"),
    BROKEN("2.3.3/2", "a literal whose name is beyond both tables", GET_BLOCK "\x7f\x07\x01z"),
    BROKEN("4.2/1", "a table size update at the end of the block", GET_BLOCK "\x21"),
    BROKEN("5.2/1", "Huffman padding of more than 7 bits",
           GET_BLOCK TEST_NAME "\x8a\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf\xff"),
    BROKEN("5.2/2", "Huffman padding of zeros",
           GET_BLOCK TEST_NAME "\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x00"),
    BROKEN("5.2/3", "the end-of-string symbol in Huffman code",
           GET_BLOCK TEST_NAME "\x85\xff\xff\xff\xfc\x7f"),
    BROKEN("6.1/1", "an indexed field with index 0", GET_BLOCK "\x80"),
    BROKEN("6.3/1", "a table size update above SETTINGS_HEADER_TABLE_SIZE",
           "\x3f\xe2\x1f" GET_BLOCK),
};

const struct conf_table conf_hpack = {cases, ARRAY_LEN(cases)};
