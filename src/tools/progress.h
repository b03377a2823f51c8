/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: how far a run is. Gives: a line that is drawn over and over on a terminal, or a line of
 * the log every 10 s. Owns: a timer. Thread: its loop's. */
#ifndef TOOLS_PROGRESS_H
#define TOOLS_PROGRESS_H

#include "loop/loop.h"

struct tools_progress {
    struct loop *loop;
    const char *what;               /* "verify" */
    bool is_terminal, is_rewriting; /* is_rewriting: how many were changed is shown, too */
    uint64_t total, done, changed;  /* the owner's to keep up to date */
    uint64_t began_ms;
    struct loop_timer timer;
};

/* Standard error is looked at: is it a terminal? Errors: ERR_NOMEM. */
MUST_CHECK enum err tools_progress_start(struct tools_progress *p, struct loop *loop,
                                         const char *what, uint64_t total, bool is_rewriting);
/* Takes the line off the terminal. Safe on one never started. */
void tools_progress_stop(struct tools_progress *p);
/* "2m05s"; out has room for it. */
#define TOOLS_DURATION_MAX 24
const char *tools_duration_text(uint64_t ms, char out[static TOOLS_DURATION_MAX]);

#endif
