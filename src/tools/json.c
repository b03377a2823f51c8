/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/json.h"

#include <inttypes.h>

static void put_quoted(FILE *f, struct bytes v)
{
    fputc('"', f);
    for (size_t i = 0; i < v.n; i++) {
        if (v.p[i] < 0x20 || v.p[i] > 0x7e)
            fprintf(f, "\\u%04x", v.p[i]);
        else if (v.p[i] == '"' || v.p[i] == '\\')
            fprintf(f, "\\%c", v.p[i]);
        else
            fputc(v.p[i], f);
    }
    fputc('"', f);
}

static void begin(struct tools_json *j, const char *name)
{
    if (j->has_any)
        fputc(',', j->f);
    j->has_any = true;
    if (name == NULL)
        return;
    put_quoted(j->f, bytes_str(name));
    fputc(':', j->f);
}

void tools_json_open(struct tools_json *j, const char *name, char bracket)
{
    begin(j, name);
    fputc(bracket, j->f);
    j->has_any = false;
}

void tools_json_close(struct tools_json *j, char bracket)
{
    fputc(bracket, j->f);
    j->has_any = true;
}

void tools_json_bytes(struct tools_json *j, const char *name, struct bytes v)
{
    begin(j, name);
    put_quoted(j->f, v);
}

void tools_json_text(struct tools_json *j, const char *name, const char *v)
{
    tools_json_bytes(j, name, bytes_str(v));
}

void tools_json_number(struct tools_json *j, const char *name, int64_t v)
{
    begin(j, name);
    fprintf(j->f, "%" PRId64, v);
}

void tools_json_bool(struct tools_json *j, const char *name, bool v)
{
    begin(j, name);
    fputs(v ? "true" : "false", j->f);
}
