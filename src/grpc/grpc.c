/* SPDX-License-Identifier: Apache-2.0 */
#include "grpc/grpc.h"

#include "base/digit.h"

#define TIMEOUT_DIGITS_MAX 8u
#define TIMEOUT_VALUE_MAX 99999999u

bool grpc_prefix_peek(const struct chain *c, struct grpc_prefix *out)
{
    uint8_t copy[GRPC_PREFIX_LEN];
    const uint8_t *b = copy;

    if (c->len < GRPC_PREFIX_LEN)
        return false;
    if (chain_at(c, 0)->len >= GRPC_PREFIX_LEN)
        b = slice_data(*chain_at(c, 0));
    else
        chain_copy(c, 0, sizeof copy, copy);
    out->flag = b[0];
    out->length = (uint32_t)b[1] << 24 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 8 | b[4];
    return true;
}

void grpc_prefix_put(uint8_t out[static GRPC_PREFIX_LEN], uint32_t length)
{
    out[0] = 0;
    out[1] = (uint8_t)(length >> 24);
    out[2] = (uint8_t)(length >> 16);
    out[3] = (uint8_t)(length >> 8);
    out[4] = (uint8_t)length;
}

static const struct {
    char letter;
    uint64_t ns;
} units[] = {
    {'n', 1},          {'u', 1000},        {'m', 1000000},
    {'S', 1000000000}, {'M', 60000000000}, {'H', 3600000000000},
};

bool grpc_timeout_parse(struct bytes text, uint64_t *ns)
{
    uint64_t value = 0;

    if (text.n < 2 || text.n > TIMEOUT_DIGITS_MAX + 1)
        return false;
    for (size_t i = 0; i < text.n - 1; i++) {
        if (text.p[i] < '0' || text.p[i] > '9')
            return false;
        value = value * 10 + (uint64_t)(text.p[i] - '0');
    }
    for (size_t u = 0; u < ARRAY_LEN(units); u++) {
        if (text.p[text.n - 1] != (uint8_t)units[u].letter)
            continue;
        *ns = value > UINT64_MAX / units[u].ns ? UINT64_MAX : value * units[u].ns;
        return true;
    }
    return false;
}

/* Writes v, which has at most TIMEOUT_DIGITS_MAX digits; gives their number. Every call has one to
 * write, and snprintf costs ten times as much. */
static size_t decimal_put(char *out, uint64_t v)
{
    char digits[TIMEOUT_DIGITS_MAX];
    size_t at = sizeof digits;

    do {
        digits[--at] = (char)('0' + v % 10);
        v /= 10;
    } while (v > 0);
    memcpy(out, digits + at, sizeof digits - at);
    return sizeof digits - at;
}

size_t grpc_timeout_format(uint64_t ns, char out[static GRPC_TIMEOUT_MAX])
{
    uint64_t value = ns == 0 ? 1 : ns;
    size_t u = 0, n;

    /* The finest unit that 8 digits can hold; UINT64_MAX ns are 5,124,095 hours. */
    while (value > TIMEOUT_VALUE_MAX)
        value = ns / units[++u].ns;
    n = decimal_put(out, value);
    out[n++] = units[u].letter;
    out[n] = '\0';
    return n;
}

size_t grpc_message_encode(struct bytes text, char *out, size_t cap)
{
    static const char digits[] = "0123456789ABCDEF";
    size_t n = 0;

    if (cap == 0)
        return 0;
    for (size_t i = 0; i < text.n; i++) {
        uint8_t b = text.p[i];
        bool is_plain = b >= 0x20 && b <= 0x7e && b != '%';

        /* Cut between escapes, never inside one. */
        if (n + (is_plain ? 1 : 3) > cap - 1)
            break;
        if (is_plain) {
            out[n++] = (char)b;
            continue;
        }
        out[n++] = '%';
        out[n++] = digits[b >> 4];
        out[n++] = digits[b & 15];
    }
    out[n] = '\0';
    return n;
}

/* The byte that an escape at the start of text stands for, or -1. */
static int escape_value(struct bytes text)
{
    int high, low;

    if (text.n < 3 || text.p[0] != '%')
        return -1;
    high = digit_hex(text.p[1]);
    low = digit_hex(text.p[2]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

size_t grpc_message_decode(struct bytes text, char *out, size_t cap)
{
    size_t n = 0;

    if (cap == 0)
        return 0;
    for (size_t i = 0; i < text.n && n < cap - 1; i++) {
        int v = escape_value(bytes_of(text.p + i, text.n - i));

        out[n++] = (char)(v >= 0 ? v : text.p[i]);
        if (v >= 0)
            i += 2;
    }
    out[n] = '\0';
    return n;
}

bool grpc_content_type_ok(struct bytes value)
{
    static const struct bytes base = BYTES_LIT("application/grpc");

    if (!bytes_has_prefix(value, base))
        return false;
    return value.n == base.n || value.p[base.n] == '+' || value.p[base.n] == ';';
}
