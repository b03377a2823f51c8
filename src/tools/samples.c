/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/samples.h"

#include <stdio.h>
#include <stdlib.h>

/* Cuts the bytes up to c off text; what stands behind c is left. */
static bool cut(struct bytes *text, uint8_t c, struct bytes *out)
{
    const uint8_t *at = text->n == 0 ? NULL : memchr(text->p, c, text->n);

    if (at == NULL)
        return false;
    *out = bytes_of(text->p, (size_t)(at - text->p));
    *text = bytes_of(at + 1, text->n - out->n - 1);
    return true;
}

/* The length of a quoted string that begins at text, quotes included; 0: it has no end. */
static size_t quoted_len(struct bytes text)
{
    for (size_t i = 1; i < text.n; i++) {
        if (text.p[i] == '\\')
            i++;
        else if (text.p[i] == '"')
            return i + 1;
    }
    return 0;
}

/* Up to the brace that closes, which may stand in a label's value, too. */
static bool cut_labels(struct bytes *line, struct bytes *out)
{
    for (size_t i = 0; i < line->n; i++) {
        if (line->p[i] == '"') {
            size_t n = quoted_len(bytes_of(line->p + i, line->n - i));

            if (n == 0)
                return false;
            i += n - 1;
        } else if (line->p[i] == '}') {
            *out = bytes_of(line->p, i);
            *line = bytes_of(line->p + i + 1, line->n - i - 1);
            return true;
        }
    }
    return false;
}

static bool read_number(struct bytes text, double *out)
{
    char number[64], *end;

    while (text.n > 0 && text.p[0] == ' ')
        text = bytes_of(text.p + 1, text.n - 1);
    if (text.n == 0 || text.n >= sizeof number)
        return false;
    memcpy(number, text.p, text.n);
    number[text.n] = '\0';
    *out = strtod(number, &end);
    return end != number;
}

static bool read_line(struct bytes line, struct tools_sample *out)
{
    size_t n = 0;

    while (n < line.n && line.p[n] != '{' && line.p[n] != ' ')
        n++;
    if (n == 0 || n == line.n || line.p[0] == '#')
        return false;
    *out = (struct tools_sample){.name = bytes_of(line.p, n)};
    line = bytes_of(line.p + n, line.n - n);
    if (line.p[0] == '{') {
        line = bytes_of(line.p + 1, line.n - 1);
        if (!cut_labels(&line, &out->labels))
            return false;
    }
    return read_number(line, &out->value);
}

bool tools_samples_next(struct bytes *text, struct tools_sample *out)
{
    struct bytes line;

    while (text->n > 0) {
        if (!cut(text, '\n', &line)) {
            line = *text;
            *text = bytes_of(text->p + text->n, 0);
        }
        if (read_line(line, out))
            return true;
    }
    return false;
}

struct bytes tools_sample_label(const struct tools_sample *s, const char *name)
{
    struct bytes rest = s->labels, label;

    while (cut(&rest, '=', &label)) {
        size_t n = rest.n > 0 && rest.p[0] == '"' ? quoted_len(rest) : 0;

        if (n == 0)
            break;
        if (bytes_eq(label, bytes_str(name)))
            return bytes_of(rest.p + 1, n - 2);
        rest = bytes_of(rest.p + n, rest.n - n);
        if (rest.n > 0 && rest.p[0] == ',')
            rest = bytes_of(rest.p + 1, rest.n - 1);
    }
    return bytes_of(NULL, 0);
}
