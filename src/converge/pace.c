/* SPDX-License-Identifier: Apache-2.0 */
/* Failure modes: none. */
#include "converge/pace.h"

#include <string.h>

#define SHARE 10u /* of the time at most one in so many parts is spent with looking */

static uint64_t most_ms(const struct converge_pace *p)
{
    return p->due > 0 ? CONVERGE_PACE_DUE_MS : CONVERGE_PACE_MS;
}

static uint64_t bounded(const struct converge_pace *p)
{
    uint64_t most = most_ms(p), least = p->took_ms < most / SHARE ? SHARE * p->took_ms : most;
    uint64_t ms = p->pause_ms < least ? least : p->pause_ms;

    return ms < most ? ms : most;
}

uint64_t converge_pace_looked(struct converge_pace *p, uint64_t took_ms,
                              const uint64_t counts[static SWEEP_STATE_COUNT], uint64_t due)
{
    uint64_t left[SWEEP_STATE_COUNT];
    bool is_same = due == p->due, is_any = due > 0;

    memcpy(left, counts, sizeof left);
    left[SWEEP_CURRENT] = 0; /* grows with every new object, and says nothing of rewriting */
    is_same = is_same && memcmp(left, p->left, sizeof left) == 0;
    for (int s = 0; s < SWEEP_STATE_COUNT; s++)
        is_any = is_any || left[s] > 0;
    memcpy(p->left, left, sizeof left);
    p->due = due;
    p->took_ms = took_ms;
    if (!is_any) {
        p->pause_ms = 0;
        return CONVERGE_PACE_MS;
    }
    p->pause_ms = is_same && p->pause_ms > 0 ? 2 * p->pause_ms : CONVERGE_PACE_SOON_MS;
    p->pause_ms = p->pause_ms < most_ms(p) ? p->pause_ms : most_ms(p);
    return bounded(p);
}

uint64_t converge_pace_news(struct converge_pace *p)
{
    return p->pause_ms == 0 ? UINT64_MAX : converge_pace_told(p);
}

uint64_t converge_pace_told(struct converge_pace *p)
{
    p->pause_ms = CONVERGE_PACE_SOON_MS;
    return bounded(p);
}
