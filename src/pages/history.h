/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: the counters. Gives: how they stood during the last minutes, so that whoever opens the
 * status page sees what happened before. Owns: its points, 40 KB. Thread: control. */
#ifndef PAGES_HISTORY_H
#define PAGES_HISTORY_H

#include "base/metric_series.h"
#include "loop/loop.h"

#define HISTORY_STEP_MS 2000u
#define HISTORY_POINTS 151u /* with the ends of 5 minutes */

/* Sums since the start of the process. */
struct history_point {
    uint64_t at_ms; /* loop_now_ms */
    double calls;   /* of clients, that are over */
    double failed;  /* of these, neither OK nor given up by the client */
    double sealed, opened;
    double unreadable;      /* values that do not open */
    struct histogram added; /* what the proxy added to the time of unary calls */
};

struct history;

/* Takes a point now, and one each HISTORY_STEP_MS. Errors: ERR_NOMEM. */
MUST_CHECK enum err pages__history_new(struct loop *loop, struct history **out);
void pages__history_close(struct history *h);
/* One more point, besides those that the timer takes. */
void pages__history_take(struct history *h);
size_t pages__history_count(const struct history *h);
/* The i-th, the oldest first. */
const struct history_point *pages__history_at(const struct history *h, size_t i);
/* The counters as they stand now. */
void pages__history_now(const struct history *h, struct history_point *out);

/* The point that the last minute begins with: the newest that is a minute old, or the oldest. */
const struct history_point *pages__last_minute(const struct history *h,
                                               const struct history_point *now);

/* --- pure --- */

/* What happened between two points. */
struct history_span {
    double seconds;
    double calls_rate, failed_rate, sealed_rate, opened_rate; /* a second; 0 when seconds is 0 */
    double unreadable;                                        /* how many */
    double p50_s, p99_s; /* of what was added; NaN: no unary call ended */
};
void pages__history_span(const struct history_point *from, const struct history_point *to,
                         struct history_span *out);

#endif
