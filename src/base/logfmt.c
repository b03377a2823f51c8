/* SPDX-License-Identifier: Apache-2.0 */
#include "base/logfmt.h"

#include <stdio.h>
#include <string.h>

#define CUT "..."

struct out {
    char *p;
    size_t cap, at;
    bool is_quoted; /* the format has opened a quote */
    bool is_full;   /* the rest does not fit */
};

/* One conversion of the format. */
struct spec {
    bool has_zero, has_precision, takes_precision;
    int width, precision;
    unsigned longs; /* l: 1, ll: 2 */
    bool is_size;
    char conversion;
};

/* One byte is kept for the NUL, one for the quote that ends a line which got full. */
static size_t room(const struct out *o)
{
    return o->is_full ? 0 : o->cap - 2 - o->at;
}

/* Puts all of it or nothing. */
static void put(struct out *o, const char *s, size_t n)
{
    if (n > room(o)) {
        o->is_full = true;
        return;
    }
    memcpy(o->p + o->at, s, n);
    o->at += n;
}

static void put_literal(struct out *o, char c)
{
    put(o, (unsigned char)c < 0x20 ? " " : &c, 1);
    if (c == '"' && !o->is_full)
        o->is_quoted = !o->is_quoted;
}

/* --- values ----------------------------------------------------------------------------------- */

static bool is_plain(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (s[i] <= ' ' || s[i] > '~' || strchr("\"=\\", s[i]) != NULL)
            return false;
    return true;
}

/* Returns the length of c's escaped form. */
static size_t escape(unsigned char c, char form[static 5])
{
    static const char named[] = "\"\"\\\\\nn\rr\tt";

    for (size_t i = 0; i + 1 < sizeof named; i += 2)
        if (named[i] == (char)c)
            return (size_t)snprintf(form, 5, "\\%c", named[i + 1]);
    if (c < 0x20 || c > 0x7e)
        return (size_t)snprintf(form, 5, "\\x%02x", c);
    form[0] = (char)c;
    return 1;
}

static void put_escaped(struct out *o, const char *s, size_t n)
{
    size_t end = o->at + (room(o) < LOGFMT_VALUE_MAX ? room(o) : LOGFMT_VALUE_MAX);
    char form[5];

    for (size_t i = 0; i < n; i++) {
        size_t len = escape((unsigned char)s[i], form);

        if (o->at + len + sizeof CUT > end) { /* the mark and the quote behind it have to fit */
            put(o, CUT, sizeof CUT - 1);
            return;
        }
        put(o, form, len);
    }
}

static void put_text(struct out *o, const char *s, const struct spec *spec)
{
    bool needs_quotes;
    size_t n;

    if (s == NULL)
        s = "";
    n = spec->has_precision ? strnlen(s, spec->precision < 0 ? 0 : (size_t)spec->precision)
                            : strlen(s);
    needs_quotes = !o->is_quoted && !is_plain(s, n);
    if (needs_quotes && room(o) < 2 + sizeof CUT) {
        o->is_full = true;
        return;
    }
    if (needs_quotes)
        put(o, "\"", 1);
    put_escaped(o, s, n);
    if (needs_quotes)
        put(o, "\"", 1);
}

static void put_number(struct out *o, unsigned long long v, bool is_negative,
                       const struct spec *spec)
{
    unsigned base = spec->conversion == 'x' ? 16 : spec->conversion == 'o' ? 8 : 10;
    char digits[32];
    size_t at = sizeof digits, width = spec->width > 24 ? 24 : (size_t)spec->width;

    do {
        digits[--at] = "0123456789abcdef"[v % base];
        v /= base;
    } while (v > 0);
    while (sizeof digits - at < width)
        digits[--at] = spec->has_zero ? '0' : ' ';
    if (is_negative)
        digits[--at] = '-';
    put(o, digits + at, sizeof digits - at);
}

/* --- the format ------------------------------------------------------------------------------- */

static int take_int(const char **fmt)
{
    int v = 0;

    for (; **fmt >= '0' && **fmt <= '9' && v < 10000; (*fmt)++)
        v = v * 10 + (**fmt - '0');
    return v;
}

/* Reads what follows a '%'. */
static struct spec take_spec(const char **fmt)
{
    struct spec s = {0};

    s.has_zero = **fmt == '0';
    s.width = take_int(fmt);
    if (**fmt == '.') {
        (*fmt)++;
        s.has_precision = true;
        s.takes_precision = **fmt == '*';
        *fmt += s.takes_precision;
        s.precision = take_int(fmt);
    }
    for (; **fmt == 'l'; (*fmt)++)
        s.longs++;
    s.is_size = **fmt == 'z';
    *fmt += s.is_size;
    s.conversion = **fmt;
    if (s.conversion != '\0')
        (*fmt)++;
    return s;
}

/* va_list is an array type on some machines, so that a pointer to a parameter of that type would
 * not be a va_list *. Inside a struct it can be passed on by pointer everywhere. */
struct args {
    va_list ap;
};

static unsigned long long take_unsigned(const struct spec *s, struct args *a)
{
    if (s->is_size)
        return va_arg(a->ap, size_t);
    if (s->longs > 1)
        return va_arg(a->ap, unsigned long long);
    return s->longs == 1 ? va_arg(a->ap, unsigned long) : va_arg(a->ap, unsigned);
}

static long long take_signed(const struct spec *s, struct args *a)
{
    if (s->is_size)
        return va_arg(a->ap, ssize_t);
    if (s->longs > 1)
        return va_arg(a->ap, long long);
    return s->longs == 1 ? va_arg(a->ap, long) : va_arg(a->ap, int);
}

/* False: no conversion that is known here, so that the arguments behind it can't be found. */
static bool put_conversion(struct out *o, struct spec *s, struct args *a)
{
    long long v;

    switch (s->conversion) {
    case '%':
        put(o, "%", 1);
        return true;
    case 's':
        if (s->takes_precision)
            s->precision = va_arg(a->ap, int);
        put_text(o, va_arg(a->ap, const char *), s);
        return true;
    case 'd':
        v = take_signed(s, a);
        put_number(o, v < 0 ? 0 - (unsigned long long)v : (unsigned long long)v, v < 0, s);
        return true;
    case 'u':
    case 'x':
    case 'o':
        put_number(o, take_unsigned(s, a), false, s);
        return true;
    default:
        return false;
    }
}

size_t logfmt_vwrite(char *out, size_t cap, const char *fmt, va_list ap)
{
    struct out o = {.p = out, .cap = cap};
    struct args a;

    CHECK(cap > 1);
    va_copy(a.ap, ap);
    while (*fmt != '\0') {
        struct spec s;

        if (*fmt != '%') {
            put_literal(&o, *fmt++);
            continue;
        }
        fmt++;
        s = take_spec(&fmt);
        if (!put_conversion(&o, &s, &a)) {
            put(&o, "%?", 2);
            break;
        }
    }
    va_end(a.ap);
    if (o.is_quoted)
        out[o.at++] = '"';
    out[o.at] = '\0';
    return o.at;
}
