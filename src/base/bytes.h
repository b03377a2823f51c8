/* SPDX-License-Identifier: Apache-2.0 */
/* Receives / Gives: borrowed contiguous bytes. Owns: nothing. Thread: any. */
#ifndef BASE_BYTES_H
#define BASE_BYTES_H

#include <string.h>

#include "base/base.h"

/* Borrowed: valid as long as whoever lent it says. p may be NULL only when n is 0. */
struct bytes {
    const uint8_t *p;
    size_t n;
};

#define BYTES_LIT(s) ((struct bytes){(const uint8_t *)("" s), sizeof(s) - 1})

static inline struct bytes bytes_of(const void *p, size_t n)
{
    return (struct bytes){p, n};
}

static inline struct bytes bytes_str(const char *s)
{
    return (struct bytes){(const uint8_t *)s, strlen(s)};
}

/* Copies b to where room for it is; returns the place behind it. For names and values of header
 * fields, of which a call copies dozens: most are short, and a call of memcpy costs more than what
 * it does. Two fixed copies may overlap. */
static inline uint8_t *bytes_put(uint8_t *to, struct bytes b)
{
    if (b.n >= 8 && b.n <= 16) {
        memcpy(to, b.p, 8);
        memcpy(to + b.n - 8, b.p + b.n - 8, 8);
    } else if (b.n >= 4 && b.n < 8) {
        memcpy(to, b.p, 4);
        memcpy(to + b.n - 4, b.p + b.n - 4, 4);
    } else if (b.n > 0) {
        memcpy(to, b.p, b.n);
    }
    return to + b.n;
}

/* Not constant time: for public data only (keys, prefixes, ids). */
static inline bool bytes_eq(struct bytes a, struct bytes b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline bool bytes_has_prefix(struct bytes a, struct bytes prefix)
{
    return a.n >= prefix.n && (prefix.n == 0 || memcmp(a.p, prefix.p, prefix.n) == 0);
}

/* Orders like Go's bytes.Compare, which is etcd's key order. */
static inline int bytes_cmp(struct bytes a, struct bytes b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int c = n == 0 ? 0 : memcmp(a.p, b.p, n);

    if (c != 0)
        return c;
    return (a.n > b.n) - (a.n < b.n);
}

#endif
