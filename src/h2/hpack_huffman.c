/* SPDX-License-Identifier: Apache-2.0 */
/* Decoding Huffman-coded strings (RFC 7541 section 5.2 and appendix B). What nghttp2 encodes, the
 * other direction, is its own.
 *
 * The next bits are held left-justified in 64. Eight of them decide most symbols of header fields
 * (codes of 5 to 8 bits, by table); the longer codes are found by their length, of which there are
 * few, because the code is canonical: hpack_codes.py.
 *
 * Errors: EOS in the string; at its end more than 7 bits that are no whole code, or others than
 * ones. */
#include "h2/hpack_codes.h"
#include "h2/hpack_int.h"

#define EOS 256u
#define LONGEST 30u

static uint64_t load_be64(const uint8_t *p)
{
    uint64_t v;

    memcpy(&v, p, 8);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    v = __builtin_bswap64(v);
#endif
    return v;
}

/* The code of more than 8 bits that w begins with, as an entry of the table of short ones. */
NEVER_INLINE static unsigned longer_code(uint32_t w)
{
    const struct h2__huffman_length *l = h2__huffman_lengths;

    while (w > l->last)
        l++;
    return (unsigned)l->bits << 16 |
           h2__huffman_symbols[l->base + (int32_t)(w >> (32 - (unsigned)l->bits))];
}

bool h2__huffman_decode(struct bytes in, uint8_t *out, size_t *out_len)
{
    const uint8_t *p = in.p, *end = p + in.n;
    uint8_t *to = out;
    uint64_t window = 0;
    unsigned count = 0; /* bits of the window that are accounted for; more may be in already */

    for (;;) {
        unsigned code, bits, symbol;

        if (count < LONGEST && end - p >= 8) {
            window |= load_be64(p) >> count;
            p += (63 - count) >> 3;
            count |= 56;
        }
        for (; count < LONGEST && p < end; count += 8)
            window |= (uint64_t)*p++ << (56 - count);
        for (; count >= 8; count -= bits) { /* short codes: nearly all */
            code = h2__huffman_first[window >> 56];
            bits = code >> 8;
            if (code == 0)
                break;
            *to++ = (uint8_t)code;
            window <<= bits;
        }
        if (count < LONGEST && p < end)
            continue;
        code = h2__huffman_first[window >> 56];
        bits = code >> 8;
        symbol = code & 0xff;
        if (code == 0) {
            code = longer_code((uint32_t)(window >> 32));
            bits = code >> 16;
            symbol = code & 0xffff;
        }
        if (bits > count)
            break;
        if (symbol == EOS)
            return false;
        *to++ = (uint8_t)symbol;
        window <<= bits;
        count -= bits;
    }
    *out_len = (size_t)(to - out);
    return count < 8 && (window | UINT64_MAX >> count) == UINT64_MAX;
}
