/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: stored values. Gives: each as a file of its raw bytes, and a list of them. Owns: a
 * folder that is open. Thread: one. */
#ifndef TOOLS_EXPORT_H
#define TOOLS_EXPORT_H

#include "base/json.h"
#include "sweep/sweep.h"

/* Zero-initialised is none. */
struct tools_export {
    const char *path; /* borrowed; NULL: there is no export */
    int folder;
    FILE *index; /* a line of JSON for each value */
    uint64_t count;
    enum err err; /* the first that went wrong, with why; nothing is written any more then */
    char why[512];
};

/* Makes the folder (mode 0700) unless it is there, and the list in it, which must not be there.
 * Errors: ERR_SYSTEM with why. */
MUST_CHECK enum err tools_export_open(struct tools_export *x, const char *path);
/* One file of mode 0600, named by the SHA-256 of the key: names of secrets may have any bytes. What
 * goes wrong is in x->err. */
void tools_export_add(struct tools_export *x, const struct sweep_value *v, const char *reason);
/* Errors: x->err. Safe on one that is zero-initialised. */
MUST_CHECK enum err tools_export_close(struct tools_export *x);

#endif
