/* SPDX-License-Identifier: Apache-2.0 */
#include "base/utf8.h"

/* What the first byte says; 0: it begins no character. */
static size_t promised(uint8_t c)
{
    if (c < 0x80)
        return 1;
    if (c >= 0xc2 && c < 0xe0)
        return 2;
    if (c >= 0xe0 && c < 0xf0)
        return 3;
    return c >= 0xf0 && c < 0xf5 ? 4 : 0;
}

/* What is not overlong, no surrogate and not above U+10FFFF shows in the second byte. */
static bool is_second(uint8_t first, uint8_t second)
{
    switch (first) {
    case 0xe0:
        return second >= 0xa0;
    case 0xed:
        return second <= 0x9f;
    case 0xf0:
        return second >= 0x90;
    case 0xf4:
        return second <= 0x8f;
    default:
        return true;
    }
}

size_t utf8_len(struct bytes text)
{
    size_t n = text.n == 0 ? 0 : promised(text.p[0]);

    if (n > text.n)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((text.p[i] & 0xc0) != 0x80)
            return 0;
    return n < 2 || is_second(text.p[0], text.p[1]) ? n : 0;
}
