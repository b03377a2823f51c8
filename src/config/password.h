/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: the name of a file. Gives: the password in it. Owns: nothing. Thread: control. */
#ifndef CONFIG_PASSWORD_H
#define CONFIG_PASSWORD_H

#include "base/err.h"

/* Reads the only line of a file; its end does not count. *out is in memory for keys, and for
 * password_free. wait_ms: how long a pipe's writer may take; see file_read_all. Errors: ERR_CONFIG
 * with why, which says nothing of the content; ERR_NOMEM, the same. */
MUST_CHECK enum err password_read(const char *path, unsigned wait_ms, char **out, char *why,
                                  size_t why_len);
/* p may be NULL. */
void password_free(char *p);

#endif
