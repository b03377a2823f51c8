/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: a format of constant text and what to put into it. Gives: the fields of a log line.
 * Owns: nothing. Thread: any.
 *
 * Only the format, which is constant text of ours, can make a field: what is put in with %s is
 * printable ASCII afterwards, and stands between quotes unless it is a plain word. Inside of quotes
 * a double quote, a backslash and everything that is not printable ASCII are escaped as in a Go or
 * JSON string (\" \\ \n \r \t, else \xNN), so text/logfmt parsers give the bytes back. */
#ifndef BASE_LOGFMT_H
#define BASE_LOGFMT_H

#include <stdarg.h>

#include "base/base.h"

/* A longer value is cut and ends with "...", so that it does not push the fields behind it off the
 * line. */
#define LOGFMT_VALUE_MAX 1024

/* Conversions: %s with an optional precision, %d %u %x %o with an optional 0 and width, and %%; l,
 * ll and z before the integers. An empty value of %s outside of quotes is nothing. NUL-terminates
 * and never exceeds cap; returns the length. */
size_t logfmt_vwrite(char *out, size_t cap, const char *fmt, va_list ap);
/* The same fields as members of a JSON object (RFC 8259), a comma before each. fields: what
 * logfmt_vwrite made of fmt. A value of %d or %u and nothing else is a number, every other one a
 * string, so a name has one type; what is not printable ASCII stands as \u00NN, NN being the byte.
 * A member that does not fit is left out. NUL-terminates; returns the length. */
size_t logfmt_json(char *out, size_t cap, const char *fmt, const char *fields);

#endif
