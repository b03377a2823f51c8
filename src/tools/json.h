/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: names and values, one after the other. Gives: JSON text. Owns: nothing. Thread: any. */
#ifndef TOOLS_JSON_H
#define TOOLS_JSON_H

#include <stdio.h>

#include "base/bytes.h"

/* Nested objects and arrays, on one line. A name is NULL in an array. */
struct tools_json {
    FILE *f;
    bool has_any; /* the present object or array has a member */
};

void tools_json_open(struct tools_json *j, const char *name, char bracket); /* '{' or '[' */
void tools_json_close(struct tools_json *j, char bracket);                  /* '}' or ']' */
/* Bytes that are not printable ASCII are escaped as if they were Latin-1, so that nothing is lost.
 * */
void tools_json_bytes(struct tools_json *j, const char *name, struct bytes v);
void tools_json_text(struct tools_json *j, const char *name, const char *v);
void tools_json_number(struct tools_json *j, const char *name, int64_t v);
void tools_json_bool(struct tools_json *j, const char *name, bool v);

#endif
