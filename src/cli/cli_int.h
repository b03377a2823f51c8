/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of cli/, one for each subcommand (encrypt and decrypt share one).
 *
 *   tool_args.c   the flags that the tools have beside the proxy's
 *   memory.c      memory for keys, locked or allowed not to be */
#ifndef CLI_CLI_INT_H
#define CLI_CLI_INT_H

#include <stdio.h>

#include "base/slice.h"
#include "config/settings.h"

#define CLI__WHY_MAX 4096

/* Says why on standard error; returns status. */
int cli__refuse(int status, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* --- tool_args.c ------------------------------------------------------------------------------ */

struct cli__flag {
    const char *name;   /* without dashes */
    const char **value; /* set to the argument's own memory; NULL beforehand */
};

/* What of argv is not the tool's own, in order. */
struct cli__args {
    char **rest; /* points into argv; the array is the caller's to free */
    int rest_count;
    bool wants_help;
};

/* Takes the flags of the table out of argv: "--name=value" or "--name value"; of several the last
 * counts. Also -h and --help. Errors: ERR_CONFIG with why (a value is missing); then nothing is to
 * be freed. */
MUST_CHECK enum err cli__args_take(int argc, char *const argv[], const struct cli__flag *flags,
                                   size_t flag_count, struct cli__args *out, char *why,
                                   size_t why_len);

/* --- memory.c --------------------------------------------------------------------------------- */

/* Sets aside the memory for keys. Returns CLI_OK, or the exit status after having said why not. */
MUST_CHECK int cli__lock_memory(const struct settings *o);
/* For when the log has started: says so where the memory is not locked. */
void cli__warn_unlocked(void);

/* --- inspect.c -------------------------------------------------------------------------------- */

/* Explains the stored value on f; returns the exit status. */
int cli__inspect(struct slice value, FILE *f, bool is_json);

#endif
