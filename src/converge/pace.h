/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: what full looks have found, and that other proxies have news. Gives: when to look
 * again. Owns: nothing. Thread: any.
 *
 * A look reads and opens all values, and not everybody who has rewritten some tells of it. So where
 * all was current an hour passes; else the next look comes after SOON, then after twice as long
 * each time, up to 10 minutes while something is due and up to an hour for the rest (what does not
 * open, say). Counts that have changed, news, and being told, begin with SOON anew. From one look
 * to the next at least ten times as long passes as a look takes, unless that is more than those
 * bounds. */
#ifndef CONVERGE_PACE_H
#define CONVERGE_PACE_H

#include "sweep/judge.h"

#define CONVERGE_PACE_SOON_MS 10000u
#define CONVERGE_PACE_DUE_MS (600u * 1000)
#define CONVERGE_PACE_MS (3600u * 1000)

/* Zero-initialised: nobody has looked. */
struct converge_pace {
    uint64_t pause_ms; /* after the last look; 0: it left nothing, or there was none */
    uint64_t took_ms;  /* the last look */
    uint64_t due;
    uint64_t left[SWEEP_STATE_COUNT]; /* values that the last look left in each state but current */
};

/* A look is over that took so long, has counted these values in each state, and left so many that
 * are due. Returns after how many ms the next one is. */
uint64_t converge_pace_looked(struct converge_pace *p, uint64_t took_ms,
                              const uint64_t counts[static SWEEP_STATE_COUNT], uint64_t due);
/* Others may be about to rewrite. Returns within how many ms to look; UINT64_MAX: no need. */
uint64_t converge_pace_news(struct converge_pace *p);
/* Others have rewritten values. Returns within how many ms to look. */
uint64_t converge_pace_told(struct converge_pace *p);

#endif
