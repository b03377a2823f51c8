/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: which checks a request needs. Gives: a call once they are over. Owns: nothing; the
 * waits are their owners'. Thread: control. */
#ifndef PAGES_WAIT_H
#define PAGES_WAIT_H

#include "pages/state.h"

/* Embedded in its owner. */
struct pages_wait {
    struct list node;
    struct pages_source *source;
    unsigned checked;
    uint64_t until_ms;
    struct loop_timer timer;
    void (*fn)(struct pages_wait *self);
};

/* Begins the checks of these (a set of enum pages_checked) whose last result is old, and calls fn
 * once none of them is under way, after limit_ms at the latest: maybe at once. w is not touched
 * after that, so fn may free it. */
void pages__wait(struct pages_source *source, struct pages_wait *w, unsigned checked,
                 uint64_t limit_ms, void (*fn)(struct pages_wait *self));
/* Calls the fn of all that wait. */
void pages__wait_end_all(struct pages_source *source);

#endif
