/* SPDX-License-Identifier: Apache-2.0 */
/* One value of at most TOOLS_VALUE_MAX bytes. It may be plaintext, so it lies in one slab that is
 * wiped when dropped and never in a stdio buffer. */
#include "tools/value.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/digit.h"
#include "base/secret.h"

bool tools_encoding_parse(const char *text, enum tools_encoding *out)
{
    static const char *const names[] = {
        [TOOLS_RAW] = "raw", [TOOLS_BASE64] = "base64", [TOOLS_HEX] = "hex"};

    *out = TOOLS_RAW;
    if (text == NULL)
        return true;
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strcmp(text, names[i]) == 0) {
            *out = (enum tools_encoding)i;
            return true;
        }
    return false;
}

/* --- decoding: out never overtakes in, so both are the same memory --- */

static bool hex_decode(uint8_t *p, size_t n, size_t *out_len)
{
    size_t digits = 0;
    uint8_t byte = 0;

    for (size_t i = 0; i < n; i++) {
        int d = digit_hex(p[i]);

        if (isspace(p[i]))
            continue;
        if (d < 0)
            return false;
        byte = (uint8_t)(byte << 4 | d);
        if (digits++ % 2 == 1)
            p[digits / 2 - 1] = byte;
    }
    *out_len = digits / 2;
    return digits % 2 == 0;
}

static bool base64_decode(uint8_t *p, size_t n, size_t *out_len)
{
    size_t digits = 0, padding = 0, at = 0;
    uint32_t bits = 0;

    for (size_t i = 0; i < n; i++) {
        int d = digit_base64(p[i]);

        if (isspace(p[i]))
            continue;
        if (p[i] == '=') {
            padding++;
            continue;
        }
        if (d < 0 || padding > 0)
            return false;
        bits = bits << 6 | (uint32_t)d;
        if (digits++ % 4 != 0)
            p[at++] = (uint8_t)(bits >> (6 - 2 * ((digits - 1) % 4)));
    }
    *out_len = at;
    return padding <= 2 && (digits + padding) % 4 == 0;
}

bool tools_decode(enum tools_encoding encoding, uint8_t *p, size_t *n)
{
    size_t len = 0;
    bool is_good = true;

    if (encoding == TOOLS_RAW)
        return true;
    is_good = encoding == TOOLS_HEX ? hex_decode(p, *n, &len) : base64_decode(p, *n, &len);
    if (!is_good)
        len = 0;
    secret_wipe(p + len, *n - len);
    *n = len;
    return is_good;
}

/* --- reading and writing --- */

static enum err read_all(int fd, struct slab *slab, char *why, size_t why_len)
{
    for (;;) {
        ssize_t n = read(fd, slab->data + slab->fill, slab->cap - slab->fill);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            snprintf(why, why_len, "cannot read the value: %s", strerror(errno));
            return ERR_SYSTEM;
        }
        if (n == 0)
            return ERR_OK;
        slab->fill += (uint32_t)n;
        if (slab->fill > TOOLS_VALUE_MAX) {
            snprintf(why, why_len, "the value is larger than %u MiB", TOOLS_VALUE_MAX >> 20);
            return ERR_MESSAGE_TOO_LARGE;
        }
    }
}

enum err tools_value_read(int fd, enum tools_encoding encoding, struct slab_pool *pool,
                          struct slice *out, char *why, size_t why_len)
{
    struct slab *slab = slab_new(pool, TOOLS_VALUE_MAX + 1, SLAB_SECRET);
    size_t n;
    enum err e;

    *out = SLICE_EMPTY;
    if (slab == NULL) {
        snprintf(why, why_len, "out of memory");
        return ERR_NOMEM;
    }
    e = read_all(fd, slab, why, why_len);
    n = slab->fill;
    if (e == ERR_OK && !tools_decode(encoding, slab->data, &n)) {
        snprintf(why, why_len, "the value is not %s",
                 encoding == TOOLS_HEX ? "hex" : "base64 (standard alphabet, with padding)");
        e = ERR_CONFIG;
    }
    slab->fill = (uint32_t)n;
    if (e != ERR_OK || n == 0)
        slab_drop(slab);
    else
        *out = (struct slice){slab, 0, (uint32_t)n};
    return e;
}

enum err tools_value_write(int fd, struct bytes value, char *why, size_t why_len)
{
    while (value.n > 0) {
        ssize_t n = write(fd, value.p, value.n);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            snprintf(why, why_len, "cannot write the value: %s", strerror(errno));
            return ERR_SYSTEM;
        }
        value = bytes_of(value.p + n, value.n - (size_t)n);
    }
    return ERR_OK;
}
