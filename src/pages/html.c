/* SPDX-License-Identifier: Apache-2.0 */
#include "pages/html.h"

#include <stdarg.h>
#include <string.h>

#include "base/utf8.h"

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

/* NULL: c stands for itself. */
static const char *escape(uint8_t c)
{
    switch (c) {
    case '&':
        return "&amp;";
    case '<':
        return "&lt;";
    case '>':
        return "&gt;";
    case '"':
        return "&quot;";
    case '\'':
        return "&#39;";
    default:
        return (c < 0x20 && c != '\n' && c != '\t') || c == 0x7f ? REPLACEMENT : NULL;
    }
}

static void write_value(FILE *f, const char *value)
{
    struct bytes rest = bytes_str(value);

    while (rest.n > 0) {
        size_t n = utf8_len(rest);
        const char *escaped = n == 0 ? REPLACEMENT : escape(rest.p[0]);

        if (escaped != NULL)
            fputs(escaped, f);
        else
            fwrite(rest.p, 1, n, f);
        n += n == 0;
        rest = bytes_of(rest.p + n, rest.n - n);
    }
}

void pages__html(FILE *f, const char *markup, ...)
{
    va_list ap;

    va_start(ap, markup);
    for (const char *at; (at = strchr(markup, '%')) != NULL; markup = at + 2) {
        CHECK(at[1] == 's');
        fwrite(markup, 1, (size_t)(at - markup), f);
        write_value(f, va_arg(ap, const char *));
    }
    va_end(ap);
    fputs(markup, f);
}
