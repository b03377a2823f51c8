/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: a state. Gives: whether all is well, and if not, what is wrong, what that means and
 * what to do. Owns: its texts. Thread: control. */
#ifndef PAGES_DIAGNOSIS_H
#define PAGES_DIAGNOSIS_H

#include "pages/coverage.h"
#include "pages/state.h"

/* Zero is the worst. */
enum pages_severity {
    PAGES_FAILING = 0, /* calls are refused, or will be in a moment */
    PAGES_WARNING,     /* somebody has to do something, but clients are served */
    PAGES_WELL,
};
/* "failing", "warning", "well". */
const char *pages__severity_word(enum pages_severity s);

struct pages_problem {
    enum pages_severity severity;
    const char *about; /* a word: what it concerns */
    char title[320];   /* what is wrong */
    char effect[400];  /* what that means for clients */
    char reason[1100]; /* what was said; "" when nothing was */
    char advice[640];  /* what to do */
};

struct pages_diagnosis {
    enum pages_severity severity; /* of the worst problem */
    struct pages_problem *problems;
    size_t count;      /* the worst first */
    char summary[400]; /* one line: "All is well", or the titles */
};

/* Certificates are warned of so long before they end. */
#define DIAGNOSIS_CERTIFICATE_S (14 * 86400)

/* Errors: ERR_NOMEM; fini is due in any case. */
MUST_CHECK enum err pages__diagnose(const struct pages_state *st,
                                    const struct pages_coverage *coverage,
                                    struct pages_diagnosis *out);
void pages__diagnosis_fini(struct pages_diagnosis *d);

#endif
