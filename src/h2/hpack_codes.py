#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes hpack_codes.h, the tables by which hpack_huffman.c decodes: hpack_codes.py > hpack_codes.h.

The code of RFC 7541 appendix B is canonical: it follows from the lengths of its 257 codes alone. Codes of the same
length are numbers that follow each other, in the order of their symbols, and the shorter codes come first."""

EOS = 256
FIRST = 8  # bits that are looked up at once

# By symbol, 16 a line; that of EOS is the last.
LENGTHS = [int(n) for n in """
    13 23 28 28 28 28 28 28 28 24 30 28 28 30 28 28
    28 28 28 28 28 28 30 28 28 28 28 28 28 28 28 28
    6 10 10 12 13 6 8 11 10 10 8 11 8 6 6 6
    5 5 5 6 6 6 6 6 6 6 7 8 15 6 12 10
    13 6 7 7 7 7 7 7 7 7 7 7 7 7 7 7
    7 7 7 7 7 7 7 7 8 7 8 13 19 13 14 6
    15 5 6 5 6 5 6 6 6 5 7 7 6 6 6 5
    6 7 6 5 5 6 7 7 7 7 7 15 11 14 13 28
    20 22 20 20 22 22 22 23 22 23 23 23 23 23 24 23
    24 24 22 23 24 23 23 23 23 21 22 23 22 23 23 24
    22 21 20 22 22 23 23 21 23 22 22 24 21 22 23 23
    21 21 22 21 23 22 23 23 20 22 22 22 23 22 22 23
    26 26 20 19 22 23 22 25 26 26 26 27 27 26 24 25
    19 21 26 27 27 26 27 24 21 21 26 26 28 27 27 27
    20 24 20 21 22 21 21 23 22 22 25 25 24 24 26 23
    26 27 26 26 27 27 27 27 27 28 27 27 27 27 27 26
    30""".split()]


def codes():
    """(length, code, symbol), in the order of the codes."""
    code, before = 0, 0
    for length, symbol in sorted((length, symbol) for symbol, length in enumerate(LENGTHS)):
        code <<= length - before
        yield length, code, symbol
        code, before = code + 1, length
    assert code == 1 << before, "not a complete code"


def by_first():
    """For the first bits of the input: the length of the code that they begin with << 8 | its symbol; 0: a longer one."""
    table = [0] * (1 << FIRST)
    for length, code, symbol in codes():
        if length <= FIRST:
            for rest in range(1 << (FIRST - length)):
                table[code << (FIRST - length) | rest] = length << 8 | symbol
    return table


def longer():
    """(length, end, base) for each length above FIRST: codes below end, as 32 bits from the left, have it, and their
    symbol is at base + code of that length in symbols()."""
    order = list(codes())
    for length in sorted({length for length, _, _ in order if length > FIRST}):
        at = [i for i, entry in enumerate(order) if entry[0] == length]
        end = (order[at[-1]][1] + 1) << (32 - length)
        yield length, end - 1, at[0] - order[at[0]][1]


def array(what, kind, values, form):
    lines, line = [], ""
    for value in values:
        item = form(value) + ","
        if len(line) + len(item) > 94:
            lines, line = lines + [line], ""
        line += (" " if line else "") + item
    body = "\n".join("    " + line for line in lines + [line])
    return f"static const {kind} {what}[{len(values)}] = {{\n{body}\n}};\n"


def main():
    rows = [f"{{{length}, {base}, 0x{last:08x}u}}" for length, last, base in longer()]
    print(f"""/* SPDX-License-Identifier: Apache-2.0 */
/* Written by hpack_codes.py; the Huffman code of RFC 7541 appendix B. */
#ifndef H2_HPACK_CODES_H
#define H2_HPACK_CODES_H

#include <stdint.h>

/* clang-format off */

/* By the first {FIRST} bits: the length of the code << 8 | its symbol; 0: the code is longer. */
{array("h2__huffman_first", "uint16_t", by_first(), lambda n: f"0x{n:04x}")}
/* Longer codes, by length: the last of them, as 32 bits from the left with ones behind it, and
 * where its symbol is in h2__huffman_symbols: at base + code. */
struct h2__huffman_length {{
    uint8_t bits;
    int32_t base;
    uint32_t last;
}};
{array("h2__huffman_lengths", "struct h2__huffman_length", rows, str)}
/* In the order of the codes; {EOS} is EOS. */
{array("h2__huffman_symbols", "uint16_t", [symbol for _, _, symbol in codes()], str)}
/* clang-format on */

#endif""")


if __name__ == "__main__":
    main()
