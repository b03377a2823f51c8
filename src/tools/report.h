/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: facts, one after the other. Gives: lines for people, or JSON. Owns: nothing.
 * Thread: any. */
#ifndef TOOLS_REPORT_H
#define TOOLS_REPORT_H

#include <stdio.h>

#include "base/bytes.h"

/* Facts in order, as lines "label: value" or as one JSON object. Bytes that are not printable ASCII
 * are shown as hex, under the JSON name with "_hex" behind it. */
struct tools_report {
    FILE *f;
    bool is_json;
    bool has_any; /* a member of the present object was written */
    bool in_list;
};

void tools_report_begin(struct tools_report *r, FILE *f, bool is_json);
void tools_report_bytes(struct tools_report *r, const char *name, const char *label,
                        struct bytes v);
void tools_report_text(struct tools_report *r, const char *name, const char *label, const char *v);
void tools_report_size(struct tools_report *r, const char *name, const char *label, size_t v);
/* A list of objects with a text and a size or a text each; of no items it is [] in JSON and nothing
 * in text. */
void tools_report_list_begin(struct tools_report *r, const char *name);
void tools_report_item_size(struct tools_report *r, const char *label, struct bytes key, size_t v);
void tools_report_item_text(struct tools_report *r, const char *label, const char *key,
                            const char *v);
void tools_report_list_end(struct tools_report *r);
void tools_report_end(struct tools_report *r);

#endif
