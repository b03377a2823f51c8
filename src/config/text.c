/* SPDX-License-Identifier: Apache-2.0 */
/* The small languages inside of the strings: durations, base64, endpoints, resource names. Each is
 * read as Go reads it, since kube-apiserver reads the same file. */
#include "config/config_int.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/digit.h"

struct group_resource config__group_resource(const char *name)
{
    const char *dot = strchr(name, '.');

    if (dot == NULL)
        return (struct group_resource){bytes_str(name), bytes_of("", 0)};
    return (struct group_resource){bytes_of(name, (size_t)(dot - name)), bytes_str(dot + 1)};
}

bool config__group_resource_eq(struct group_resource a, struct group_resource b)
{
    return bytes_eq(a.plural, b.plural) && bytes_eq(a.group, b.group);
}

/* --- durations --- */

static bool unit_ns(const char *p, size_t n, int64_t *ns)
{
    static const struct {
        const char *name;
        int64_t ns;
    } units[] = {{"ns", 1},
                 {"us", 1000},
                 {"\xc2\xb5s", 1000}, /* U+00B5 micro sign */
                 {"\xce\xbcs", 1000}, /* U+03BC Greek letter mu */
                 {"ms", 1000000},
                 {"s", 1000000000},
                 {"m", 60 * INT64_C(1000000000)},
                 {"h", 3600 * INT64_C(1000000000)}};

    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        if (bytes_eq(bytes_of(p, n), bytes_str(units[i].name))) {
            *ns = units[i].ns;
            return true;
        }
    }
    return false;
}

/* One number with its unit; *p moves behind it. */
static const char *duration_part(const char **p, int64_t *sum)
{
    static const char digits[] = "0123456789";
    size_t whole_len = strspn(*p, digits);
    int64_t whole = 0;
    double part = 0;
    double scale = 1;
    int64_t unit;
    size_t part_len = 0;
    size_t unit_len;

    for (size_t i = 0; i < whole_len; i++)
        if (__builtin_mul_overflow(whole, 10, &whole) ||
            __builtin_add_overflow(whole, (*p)[i] - '0', &whole))
            return "invalid duration";
    *p += whole_len;
    if (**p == '.') {
        ++*p;
        for (part_len = 0; isdigit((unsigned char)**p); part_len++, ++*p) {
            scale /= 10;
            part += (**p - '0') * scale;
        }
    }
    if (whole_len == 0 && part_len == 0)
        return "invalid duration";
    unit_len = strcspn(*p, ".0123456789");
    if (unit_len == 0)
        return "missing unit in duration";
    if (!unit_ns(*p, unit_len, &unit))
        return "unknown unit in duration";
    *p += unit_len;
    if (__builtin_mul_overflow(whole, unit, &whole) || __builtin_add_overflow(*sum, whole, sum) ||
        __builtin_add_overflow(*sum, (int64_t)(part * (double)unit), sum))
        return "invalid duration";
    return NULL;
}

const char *config__duration(const char *text, int64_t *ns)
{
    const char *p = text;
    bool is_negative = *p == '-';
    int64_t sum = 0;

    if (*p == '-' || *p == '+')
        p++;
    if (*p == '\0')
        return "invalid duration";
    if (strcmp(p, "0") == 0) {
        *ns = 0;
        return NULL;
    }
    while (*p != '\0') {
        const char *problem = duration_part(&p, &sum);

        if (problem != NULL)
            return problem;
    }
    *ns = is_negative ? -sum : sum;
    return NULL;
}

/* --- base64 --- */

static void put_byte(uint8_t *out, size_t *n, uint32_t byte)
{
    if (out != NULL)
        out[*n] = (uint8_t)byte;
    ++*n;
}

bool config__base64(const char *text, size_t text_len, uint8_t *out, size_t *out_len)
{
    uint32_t quad = 0;
    unsigned digits = 0; /* of this group of four */
    unsigned pads = 0;
    size_t n = 0;

    for (size_t i = 0; i < text_len; i++) {
        int digit = digit_base64(text[i]);

        if (text[i] == '\r' || text[i] == '\n')
            continue;
        if (text[i] == '=' && digits >= 2 && digits + pads < 4) {
            pads++;
            continue;
        }
        if (digit < 0 || pads > 0)
            return false;
        quad = quad << 6 | (uint32_t)digit;
        if (++digits < 4)
            continue;
        put_byte(out, &n, quad >> 16 & 0xff);
        put_byte(out, &n, quad >> 8 & 0xff);
        put_byte(out, &n, quad & 0xff);
        quad = 0;
        digits = 0;
    }
    if (digits + pads != 0 && digits + pads != 4)
        return false;
    if (digits >= 2)
        put_byte(out, &n, (digits == 2 ? quad >> 4 : quad >> 10) & 0xff);
    if (digits == 3)
        put_byte(out, &n, quad >> 2 & 0xff);
    *out_len = n;
    return true;
}

/* --- endpoints: RFC 3986 as net/url reads it --- */

/* Copies [p, end) to out, percent-decoded and NUL-terminated; out may be NULL. */
static bool unescape(const char *p, const char *end, char *out)
{
    while (p < end) {
        unsigned v = (unsigned char)*p;

        if (*p == '%') {
            if (end - p < 3 || !isxdigit((unsigned char)p[1]) || !isxdigit((unsigned char)p[2]) ||
                sscanf(p + 1, "%2x", &v) != 1)
                return false;
            p += 2;
        }
        p++;
        if (out != NULL)
            *out++ = (char)v;
    }
    if (out != NULL)
        *out = '\0';
    return true;
}

/* Returns what follows "scheme:", or the whole text with scheme "" when it has none. */
static const char *split_scheme(const char *text, char scheme[static CONFIG_SCHEME_MAX],
                                const char **problem)
{
    size_t i;

    scheme[0] = '\0';
    for (i = 0; isalpha((unsigned char)text[i]) ||
                (i > 0 && text[i] != '\0' && strchr("0123456789+-.", text[i]) != NULL);
         i++)
        ;
    if (text[i] != ':')
        return text;
    if (i == 0) {
        *problem = "missing protocol scheme";
        return text;
    }
    for (size_t k = 0; k < i && k + 1 < CONFIG_SCHEME_MAX; k++) {
        scheme[k] = (char)tolower((unsigned char)text[k]);
        scheme[k + 1] = '\0';
    }
    return text + i + 1;
}

/* The part between "//" and the path is dropped, but has to be well formed. */
static const char *check_authority(const char *p, const char *end)
{
    const char *at = memrchr(p, '@', (size_t)(end - p));
    const char *host = at != NULL ? at + 1 : p;
    const char *colon = memrchr(host, ':', (size_t)(end - host));

    if (at != NULL && !unescape(p, at, NULL))
        return "invalid URL escape";
    for (const char *c = host; c < end; c++)
        if (strchr(" \\^`{|}%/?#@", *c) != NULL)
            return "invalid character in host name";
    if (*host == '[') {
        const char *close = memrchr(host, ']', (size_t)(end - host));

        if (close == NULL)
            return "missing ']' in host";
        colon = close + 1 < end ? close + 1 : NULL;
        if (colon != NULL && *colon != ':')
            return "invalid port after host";
    }
    for (const char *c = colon != NULL ? colon + 1 : end; c < end; c++)
        if (!isdigit((unsigned char)*c))
            return "invalid port after host";
    return NULL;
}

const char *config__endpoint(const char *text, char scheme[static CONFIG_SCHEME_MAX], char *path)
{
    const char *problem = NULL;
    const char *rest;
    const char *end;

    *path = '\0';
    scheme[0] = '\0';
    for (const char *c = text; *c != '\0'; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            return "invalid control character in URL";
    end = text + strcspn(text, "#");
    if (*end == '#' && !unescape(end + 1, end + strlen(end), NULL))
        return "invalid URL escape";
    rest = split_scheme(text, scheme, &problem);
    if (problem != NULL)
        return problem;
    if (rest > end)
        return NULL;
    end = rest + strcspn(rest, "?#");
    if (scheme[0] != '\0' && *rest != '/')
        return NULL; /* "unix:a" is opaque: no path */
    if (scheme[0] == '\0' && *rest != '/' && memchr(rest, ':', strcspn(rest, "/?#")) != NULL)
        return "first path segment in URL cannot contain colon";
    if (rest[0] == '/' && rest[1] == '/' && (scheme[0] != '\0' || rest[2] != '/')) {
        const char *host = rest + 2;

        rest = host + strcspn(host, "/?#");
        problem = check_authority(host, rest);
        if (problem != NULL)
            return problem;
    }
    return unescape(rest, end, path) ? NULL : "invalid URL escape";
}

/* --- names and paths --- */

static bool is_dns_label(const uint8_t *p, size_t n)
{
    if (n == 0 || p[0] == '-' || p[n - 1] == '-')
        return false;
    for (size_t i = 0; i < n; i++)
        if ((p[i] < 'a' || p[i] > 'z') && (p[i] < '0' || p[i] > '9') && p[i] != '-')
            return false;
    return true;
}

bool config__is_dns_name(struct bytes name, bool is_dotted)
{
    const uint8_t *end = name.p + name.n;
    const uint8_t *label = name.p;
    const uint8_t *dot;

    while (is_dotted && (dot = memchr(label, '.', (size_t)(end - label))) != NULL) {
        if (!is_dns_label(label, (size_t)(dot - label)))
            return false;
        label = dot + 1;
    }
    return is_dns_label(label, (size_t)(end - label));
}

char *config__normalise(const char *path, bool *is_bad)
{
    char *out = calloc(1, strlen(path) + 2);
    char *end = out;

    if (out == NULL)
        return NULL;
    while (*path != '\0') {
        size_t n = strcspn(path, "/");

        *is_bad |= (n == 1 && path[0] == '.') || (n == 2 && path[0] == '.' && path[1] == '.');
        if (n > 0) {
            *end++ = '/';
            memcpy(end, path, n);
            end += n;
        }
        path += n + (path[n] == '/');
    }
    return out;
}

bool config__lies_in(const char *key, const char *prefix)
{
    size_t n = strlen(prefix);

    return strncmp(key, prefix, n) == 0 && (key[n] == '\0' || key[n] == '/');
}
