/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: /statusz of a proxy. Gives: what it says is wrong. Owns: nothing. Thread: any. */
#ifndef TOOLS_PROBLEMS_H
#define TOOLS_PROBLEMS_H

#include "base/bytes.h"
#include "base/err.h"

#define TOOLS_PROBLEMS_MAX 24u

/* For people: what could break a line is not in it. */
struct tools_problem {
    char severity[16], about[32], title[320];
};

struct tools_problems {
    struct tools_problem v[TOOLS_PROBLEMS_MAX]; /* the worst first, as the proxy has them */
    size_t count;                               /* those beyond the room are left out */
};

/* The member "problems" of the object, whatever else it has. Errors: ERR_CONFIG: it is no JSON, or
 * has no such member, ERR_NOMEM; then out is empty. */
MUST_CHECK enum err tools_problems_read(struct bytes statusz, struct tools_problems *out);

#endif
