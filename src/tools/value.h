/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: a file descriptor. Gives: a value from it, or a value to it. Owns: nothing.
 * Thread: any. */
#ifndef TOOLS_VALUE_H
#define TOOLS_VALUE_H

#include "base/slice.h"

#define TOOLS_VALUE_MAX (16u * 1024 * 1024)

enum tools_encoding { TOOLS_RAW, TOOLS_BASE64, TOOLS_HEX };

/* text NULL: raw. False: no such encoding. */
MUST_CHECK bool tools_encoding_parse(const char *text, enum tools_encoding *out);
/* Decodes in place; white space is skipped. What is left of the text is wiped. False: not of that
 * encoding. */
MUST_CHECK bool tools_decode(enum tools_encoding encoding, uint8_t *p, size_t *n);
/* Everything until the end of fd, at most TOOLS_VALUE_MAX bytes, into a slab that is wiped on its
 * last drop. Errors: ERR_SYSTEM, ERR_MESSAGE_TOO_LARGE, ERR_CONFIG (not of that encoding),
 * ERR_NOMEM; all with why. */
MUST_CHECK enum err tools_value_read(int fd, enum tools_encoding encoding, struct slab_pool *pool,
                                     struct slice *out, char *why, size_t why_len);
/* Errors: ERR_SYSTEM with why. */
MUST_CHECK enum err tools_value_write(int fd, struct bytes value, char *why, size_t why_len);

#endif
