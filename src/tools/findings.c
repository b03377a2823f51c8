/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/findings.h"

#include <stdarg.h>

static const char *const names[] = {
    [TOOLS_OK] = "ok", [TOOLS_NOTE] = "note", [TOOLS_WARN] = "warn", [TOOLS_FAIL] = "FAIL"};

void tools_findings_begin(struct tools_findings *r, FILE *f, bool is_json)
{
    *r = (struct tools_findings){.f = f, .is_json = is_json, .json = {.f = f}};
    if (!is_json)
        return;
    json_open(&r->json, NULL, '{');
    json_open(&r->json, "findings", '[');
}

void tools_finding(struct tools_findings *r, enum tools_level level, const char *what,
                   const char *fmt, ...)
{
    char text[4096];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    r->counts[level]++;
    if (!r->is_json) {
        fprintf(r->f, "%-5s %-14s %s\n", names[level], what, text);
        fflush(r->f); /* the next one may take its time */
        return;
    }
    json_open(&r->json, NULL, '{');
    json_text(&r->json, "level", level == TOOLS_FAIL ? "fail" : names[level]);
    json_text(&r->json, "what", what);
    json_text(&r->json, "text", text);
    json_close(&r->json, '}');
}

void tools_findings_end(struct tools_findings *r)
{
    if (r->is_json) {
        json_close(&r->json, ']');
        json_number(&r->json, "notes", r->counts[TOOLS_NOTE]);
        json_number(&r->json, "warnings", r->counts[TOOLS_WARN]);
        json_number(&r->json, "failures", r->counts[TOOLS_FAIL]);
        json_close(&r->json, '}');
        fputc('\n', r->f);
        return;
    }
    fprintf(r->f, "\n%u failed, %u warning%s, %u note%s, %u ok\n", r->counts[TOOLS_FAIL],
            r->counts[TOOLS_WARN], r->counts[TOOLS_WARN] == 1 ? "" : "s", r->counts[TOOLS_NOTE],
            r->counts[TOOLS_NOTE] == 1 ? "" : "s", r->counts[TOOLS_OK]);
}
