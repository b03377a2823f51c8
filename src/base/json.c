/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json.h"

#include <inttypes.h>
#include <math.h>

#include "base/utf8.h"

static void put_byte(FILE *f, uint8_t c)
{
    if (c < 0x20 || c > 0x7e)
        fprintf(f, "\\u%04x", c);
    else if (c == '"' || c == '\\')
        fprintf(f, "\\%c", c);
    else
        fputc(c, f);
}

static void put_quoted(FILE *f, struct bytes v)
{
    fputc('"', f);
    for (size_t i = 0; i < v.n; i++)
        put_byte(f, v.p[i]);
    fputc('"', f);
}

static void begin(struct json *j, const char *name)
{
    if (j->has_any)
        fputc(',', j->f);
    j->has_any = true;
    if (name == NULL)
        return;
    put_quoted(j->f, bytes_str(name));
    fputc(':', j->f);
}

void json_open(struct json *j, const char *name, char bracket)
{
    begin(j, name);
    fputc(bracket, j->f);
    j->has_any = false;
}

void json_close(struct json *j, char bracket)
{
    fputc(bracket, j->f);
    j->has_any = true;
}

void json_bytes(struct json *j, const char *name, struct bytes v)
{
    begin(j, name);
    put_quoted(j->f, v);
}

void json_text(struct json *j, const char *name, const char *v)
{
    struct bytes rest = bytes_str(v);

    begin(j, name);
    fputc('"', j->f);
    while (rest.n > 0) {
        size_t n = utf8_len(rest);

        if (n > 1)
            fwrite(rest.p, 1, n, j->f);
        else
            put_byte(j->f, rest.p[0]);
        n += n == 0;
        rest = bytes_of(rest.p + n, rest.n - n);
    }
    fputc('"', j->f);
}

void json_number(struct json *j, const char *name, int64_t v)
{
    begin(j, name);
    fprintf(j->f, "%" PRId64, v);
}

void json_decimal(struct json *j, const char *name, double v)
{
    begin(j, name);
    if (isfinite(v))
        fprintf(j->f, "%.6g", v);
    else
        fputs("null", j->f);
}

void json_bool(struct json *j, const char *name, bool v)
{
    begin(j, name);
    fputs(v ? "true" : "false", j->f);
}

void json_nothing(struct json *j, const char *name)
{
    begin(j, name);
    fputs("null", j->f);
}
