/* SPDX-License-Identifier: Apache-2.0 */
/* Format and fields are walked in step: the fields say what there is, the format what type it
 * has. */
#include "base/logfmt.h"

#include <stdio.h>
#include <string.h>

struct field {
    const char *key, *value; /* value: between its quotes, if it has any */
    size_t key_len, value_len;
};

/* The length of a value: up to a space, or to the quote that ends it. */
static size_t value_end(const char *p, bool is_quoted)
{
    size_t n = 0;

    while (p[n] != '\0' && p[n] != (is_quoted ? '"' : ' '))
        n += p[n] == '\\' && p[n + 1] != '\0' ? 2 : 1;
    return n;
}

/* Takes the next field off *text; false: there is none. Words that belong to no field are passed
 * over. */
static bool next_field(const char **text, struct field *f)
{
    const char *p = *text;
    bool is_quoted;

    for (;;) {
        p += strspn(p, " ");
        f->key = p;
        f->key_len = strcspn(p, "= \"");
        p += f->key_len;
        if (*p == '\0')
            return false;
        if (*p++ == '=')
            break;
    }
    is_quoted = *p == '"';
    p += is_quoted;
    f->value = p;
    f->value_len = value_end(p, is_quoted);
    p += f->value_len;
    *text = p + (is_quoted && *p == '"');
    return true;
}

/* The format asks for a decimal number and nothing else. */
static bool asks_for_number(const struct field *asked)
{
    const char *p = asked->value;

    if (*p != '%' || p[-1] == '"')
        return false;
    p += 1 + strspn(p + 1, "lz");
    return (*p == 'd' || *p == 'u') && p + 1 == asked->value + asked->value_len;
}

static bool is_number(const struct field *f)
{
    size_t at = f->value_len > 0 && f->value[0] == '-';

    return at < f->value_len && strspn(f->value + at, "0123456789") >= f->value_len - at;
}

/* --- output ----------------------------------------------------------------------------------- */

struct out {
    char *p;
    size_t cap, at;
};

/* False, with nothing written, when it does not fit before the NUL. */
static bool put(struct out *o, const char *s, size_t n)
{
    if (n >= o->cap - o->at)
        return false;
    memcpy(o->p + o->at, s, n);
    o->at += n;
    return true;
}

/* Of the escapes of logfmt JSON lacks only \xNN. */
static bool put_value(struct out *o, const struct field *f)
{
    size_t n = f->value_len;

    for (size_t i = 0; i < n; i++) {
        const char *p = f->value + i;
        bool is_byte = n - i >= 4 && p[0] == '\\' && p[1] == 'x';
        bool is_pair = !is_byte && p[0] == '\\' && n - i >= 2;

        if (is_byte ? !put(o, "\\u00", 4) || !put(o, p + 2, 2) : !put(o, p, is_pair ? 2 : 1))
            return false;
        i += is_byte ? 3 : is_pair;
    }
    return true;
}

static bool put_member(struct out *o, const struct field *f, bool is_bare)
{
    const char *quote = is_bare ? "" : "\"";

    return put(o, ",\"", 2) && put(o, f->key, f->key_len) && put(o, "\":", 2) &&
           put(o, quote, strlen(quote)) && put_value(o, f) && put(o, quote, strlen(quote));
}

size_t logfmt_json(char *out, size_t cap, const char *fmt, const char *fields)
{
    struct out o = {.p = out, .cap = cap};
    struct field f, asked = {0};

    CHECK(cap > 0);
    while (next_field(&fields, &f)) {
        size_t before = o.at;
        bool is_known = next_field(&fmt, &asked) && asked.key_len == f.key_len &&
                        memcmp(asked.key, f.key, f.key_len) == 0;

        if (!put_member(&o, &f, is_known && asks_for_number(&asked) && is_number(&f)))
            o.at = before;
    }
    out[o.at] = '\0';
    return o.at;
}
