/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: one character. Gives: its value as a digit. Owns: nothing. Thread: any. */
#ifndef BASE_DIGIT_H
#define BASE_DIGIT_H

/* Of either case; -1: no hexadecimal digit. */
static inline int digit_hex(int c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Of RFC 4648's section 4; -1: none ('=' is none). */
static inline int digit_base64(int c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == '+')
        return 62;
    return c == '/' ? 63 : -1;
}

#endif
