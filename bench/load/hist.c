/* SPDX-License-Identifier: Apache-2.0 */
#include "hist.h"

/* Values below HIST_SUB have a bucket each; above, the top seven bits choose it. */
static uint32_t bucket_of(uint64_t ns)
{
    uint32_t shift, i;

    if (ns < HIST_SUB)
        return (uint32_t)ns;
    shift = 63u - (uint32_t)__builtin_clzll(ns) - 6u;
    i = shift * HIST_SUB + (uint32_t)(ns >> shift);
    return i < HIST_BUCKETS ? i : HIST_BUCKETS - 1;
}

static uint64_t bucket_top(uint32_t i)
{
    uint32_t shift;

    if (i < 2 * HIST_SUB)
        return i;
    shift = i / HIST_SUB - 1;
    return ((uint64_t)(i - shift * HIST_SUB) + 1) << shift;
}

void hist_add(struct hist *h, uint64_t ns)
{
    h->buckets[bucket_of(ns)]++;
    h->count++;
    if (ns > h->max)
        h->max = ns;
}

uint64_t hist_at(const struct hist *h, double share)
{
    double wanted = share * (double)h->count;
    uint64_t seen = 0;

    for (uint32_t i = 0; i < HIST_BUCKETS; i++) {
        seen += h->buckets[i];
        if (seen > 0 && (double)seen >= wanted)
            return bucket_top(i) < h->max ? bucket_top(i) : h->max;
    }
    return h->max;
}
