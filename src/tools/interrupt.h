/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: SIGINT and SIGTERM, during a run. Gives: one call. Owns: two handles of the loop.
 * Thread: its loop's. */
#ifndef TOOLS_INTERRUPT_H
#define TOOLS_INTERRUPT_H

#include "loop/loop.h"

struct tools_interrupt {
    uv_signal_t handles[2];
    void (*fn)(void *arg);
    void *arg;
    int number; /* of the signal that came; 0: none */
};

/* fn is called from the loop with the first of the signals. From then on they end the process, as
 * they do by themselves. Errors: ERR_SYSTEM; then there is nothing to stop. */
MUST_CHECK enum err tools_interrupt_start(struct tools_interrupt *t, struct loop *loop,
                                          void (*fn)(void *arg), void *arg);
/* Its handles close from the loop, which has to run until then. Safe on one never started. */
void tools_interrupt_stop(struct tools_interrupt *t);

#endif
