/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: how much memory a worker's peers make it hold. Gives: whether it may. Owns: the count
 * of what all workers have drawn of --memory-limit. Thread: a budget any, a part its worker's.
 *
 * A worker draws portions, so that the counter that all share is touched once in a few MiB, and
 * gives them back when it holds less. Up to its fair share (the limit by the number of workers) it
 * gets what it asks for even when all is drawn; then those that have more than theirs are over. */
#ifndef BASE_BUDGET_H
#define BASE_BUDGET_H

#include <stdatomic.h>

#include "base/base.h"

struct budget {
    uint64_t limit, portion, fair;
    _Atomic uint64_t drawn; /* of all parts */
};

struct budget_part {
    struct budget *of;
    uint64_t drawn;
};

/* limit > 0 bytes for so many parts. Before any part is made. */
void budget_init(struct budget *b, uint64_t limit, unsigned parts);
void budget_join(struct budget_part *p, struct budget *b);
/* Gives all back. */
void budget_leave(struct budget_part *p);
bool budget__draw(struct budget_part *p, uint64_t held);
/* May the part hold so much? Draws what it takes. False: somebody has to let go of
 * budget_excess(). */
static inline bool budget_covers(struct budget_part *p, uint64_t held)
{
    return held <= p->drawn || budget__draw(p, held);
}
/* What budget_covers is too hasty for: have others had to draw more than there was, and is it this
 * part that has too much? Gives back what it only drew ahead. True: it may hold what it holds. */
bool budget_may_keep(struct budget_part *p, uint64_t held);
/* How much the part has to let go of when one of them has said no: never below its fair share. */
uint64_t budget_excess(const struct budget_part *p, uint64_t held);
/* How much more the part may hold while the process stays below `below` (at most the limit). */
uint64_t budget_left(const struct budget_part *p, uint64_t held, uint64_t below);
/* Gives back what is drawn beyond held and a portion. True: it has no more than a portion now. */
bool budget_settle(struct budget_part *p, uint64_t held);

#endif
