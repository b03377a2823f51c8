/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: findings, one after the other. Gives: a line each, or JSON. Owns: nothing.
 * Thread: one. */
#ifndef TOOLS_FINDINGS_H
#define TOOLS_FINDINGS_H

#include "base/json.h"

enum tools_level { TOOLS_OK = 0, TOOLS_NOTE, TOOLS_WARN, TOOLS_FAIL, TOOLS_LEVEL_COUNT };

struct tools_findings {
    FILE *f;
    bool is_json;
    struct json json;
    unsigned counts[TOOLS_LEVEL_COUNT];
};

void tools_findings_begin(struct tools_findings *r, FILE *f, bool is_json);
/* what: "KMS", "etcd", one or two words. */
void tools_finding(struct tools_findings *r, enum tools_level level, const char *what,
                   const char *fmt, ...) PRINTF_LIKE(4, 5);
/* The last line: how many of each. */
void tools_findings_end(struct tools_findings *r);

#endif
