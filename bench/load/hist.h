/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: durations. Gives: percentiles. Owns: its counters. Thread: one.
 * Log-linear buckets, as HdrHistogram has them: 64 to a power of two, so a percentile is right
 * to 1.6 %. */
#ifndef BENCH_HIST_H
#define BENCH_HIST_H

#include <stdint.h>

#define HIST_SUB 64u
#define HIST_BUCKETS (HIST_SUB * 40u)

struct hist {
    uint64_t count, max;
    uint64_t buckets[HIST_BUCKETS];
};

void hist_add(struct hist *h, uint64_t ns);
/* The duration that share (0 < share <= 1) of all are not above; 0 when there are none. */
uint64_t hist_at(const struct hist *h, double share);

#endif
