/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: names and values, one after the other. Gives: JSON text. Owns: nothing. Thread: any. */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include <stdio.h>

#include "base/bytes.h"

/* Nested objects and arrays, on one line. A name is NULL in an array. */
struct json {
    FILE *f;
    bool has_any; /* the present object or array has a member */
};

void json_open(struct json *j, const char *name, char bracket); /* '{' or '[' */
void json_close(struct json *j, char bracket);                  /* '}' or ']' */
/* Bytes that are not printable ASCII are escaped as if they were Latin-1, so that nothing is lost.
 * */
void json_bytes(struct json *j, const char *name, struct bytes v);
/* UTF-8 as it is; what is none as json_bytes has it. */
void json_text(struct json *j, const char *name, const char *v);
void json_number(struct json *j, const char *name, int64_t v);
/* Six digits; what is no number (NaN, infinity) is null,
 * for JSON has no word for it. */
void json_decimal(struct json *j, const char *name, double v);
void json_bool(struct json *j, const char *name, bool v);
/* null: not known. */
void json_nothing(struct json *j, const char *name);

#endif
