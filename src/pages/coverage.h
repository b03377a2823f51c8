/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: the metrics. Gives: how many values of each resource are in which state in etcd, as of
 * the last full look, if somebody has looked. Owns: its rows. Thread: control. */
#ifndef PAGES_COVERAGE_H
#define PAGES_COVERAGE_H

#include "base/metric_series.h"

enum pages_coverage_state {
    COVERAGE_CURRENT, /* sealed as it would be sealed now */
    COVERAGE_OLDER,   /* sealed otherwise */
    COVERAGE_PLAINTEXT,
    COVERAGE_UNREADABLE,
    COVERAGE_STATES
};
/* "current" and so on, as the metric has it. */
extern const char *const pages__coverage_states[COVERAGE_STATES];

struct pages_coverage_row {
    char resource[256];
    double counts[COVERAGE_STATES];
};

struct pages_coverage {
    struct pages_coverage_row *rows;
    size_t count;                   /* 0: nobody has looked yet */
    double totals[COVERAGE_STATES]; /* of all rows */
    int64_t time_s;                 /* of that look, since 1970; 0: not known */
};

/* Errors: ERR_NOMEM; fini is due in any case. */
MUST_CHECK enum err pages__coverage_take(struct pages_coverage *out);
/* The same from a family with the labels resource and state; time_s is left 0. */
MUST_CHECK enum err pages__coverage_read(enum series_id family, struct pages_coverage *out);
void pages__coverage_fini(struct pages_coverage *c);

#endif
