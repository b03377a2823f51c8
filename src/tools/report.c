/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/report.h"

#include <string.h>

#define LABEL_WIDTH 16
#define SHOWN_MAX 1024u /* of bytes; what is longer is cut, its length is a problem of its own */

void tools_report_begin(struct tools_report *r, FILE *f, bool is_json)
{
    *r = (struct tools_report){.f = f, .is_json = is_json};
    if (is_json)
        fputc('{', f);
}

void tools_report_end(struct tools_report *r)
{
    if (r->is_json)
        fputs("}\n", r->f);
}

static bool is_printable(struct bytes v)
{
    for (size_t i = 0; i < v.n; i++)
        if (v.p[i] < 0x20 || v.p[i] > 0x7e)
            return false;
    return true;
}

static struct bytes shown(struct bytes v)
{
    return bytes_of(v.p, v.n < SHOWN_MAX ? v.n : SHOWN_MAX);
}

/* Printable ASCII as a JSON string. */
static void put_quoted(FILE *f, struct bytes v)
{
    fputc('"', f);
    for (size_t i = 0; i < v.n; i++) {
        if (v.p[i] == '"' || v.p[i] == '\\')
            fputc('\\', f);
        fputc(v.p[i], f);
    }
    fputc('"', f);
}

static void put_hex(FILE *f, struct bytes v)
{
    for (size_t i = 0; i < v.n; i++)
        fprintf(f, "%02x", v.p[i]);
}

static void put_name(struct tools_report *r, const char *name, const char *suffix)
{
    fprintf(r->f, "%s\"%s%s\":", r->has_any ? "," : "", name, suffix);
    r->has_any = true;
}

static void put_label(struct tools_report *r, const char *label)
{
    fprintf(r->f, "%s:%*s", label, (int)(LABEL_WIDTH - strlen(label)), "");
}

/* Writes bytes as a value, in text or JSON, without ending the line. */
static void put_bytes(struct tools_report *r, const char *name, struct bytes v)
{
    bool is_text = is_printable(v);

    v = shown(v);
    if (r->is_json) {
        put_name(r, name, is_text ? "" : "_hex");
        if (is_text) {
            put_quoted(r->f, v);
        } else {
            fputc('"', r->f);
            put_hex(r->f, v);
            fputc('"', r->f);
        }
    } else if (is_text) {
        fprintf(r->f, "%.*s", (int)v.n, v.n > 0 ? (const char *)v.p : "");
    } else {
        fputs("(hex) ", r->f);
        put_hex(r->f, v);
    }
}

void tools_report_bytes(struct tools_report *r, const char *name, const char *label, struct bytes v)
{
    if (!r->is_json && v.n == 0)
        return;
    if (!r->is_json)
        put_label(r, label);
    put_bytes(r, name, v);
    if (!r->is_json)
        fputc('\n', r->f);
}

void tools_report_text(struct tools_report *r, const char *name, const char *label, const char *v)
{
    tools_report_bytes(r, name, label, bytes_str(v));
}

void tools_report_size(struct tools_report *r, const char *name, const char *label, size_t v)
{
    if (r->is_json) {
        put_name(r, name, "");
        fprintf(r->f, "%zu", v);
        return;
    }
    put_label(r, label);
    fprintf(r->f, "%zu byte%s\n", v, v == 1 ? "" : "s");
}

void tools_report_list_begin(struct tools_report *r, const char *name)
{
    if (!r->is_json)
        return;
    put_name(r, name, "");
    fputc('[', r->f);
    r->has_any = false;
}

static void item_begin(struct tools_report *r, const char *label)
{
    if (!r->is_json) {
        put_label(r, label);
        return;
    }
    fputs(r->has_any ? ",{" : "{", r->f);
    r->has_any = false;
}

static void item_end(struct tools_report *r)
{
    fputs(r->is_json ? "}" : "\n", r->f);
    r->has_any = true;
}

void tools_report_item_size(struct tools_report *r, const char *label, struct bytes key, size_t v)
{
    item_begin(r, label);
    put_bytes(r, "key", key);
    if (r->is_json)
        fprintf(r->f, ",\"length\":%zu", v);
    else
        fprintf(r->f, ", %zu byte%s", v, v == 1 ? "" : "s");
    item_end(r);
}

void tools_report_item_text(struct tools_report *r, const char *label, const char *key,
                            const char *v)
{
    item_begin(r, label);
    if (r->is_json) {
        put_bytes(r, "class", bytes_str(key));
        put_bytes(r, "text", bytes_str(v));
    } else {
        fprintf(r->f, "%s: %s", key, v);
    }
    item_end(r);
}

void tools_report_list_end(struct tools_report *r)
{
    if (r->is_json)
        fputc(']', r->f);
    r->has_any = true;
}
