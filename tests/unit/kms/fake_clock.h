/* SPDX-License-Identifier: Apache-2.0 */
/* Time that passes only when a test says so. All clocks of the program stand still, libuv's
 * included, and jump ahead on demand: a wait of hours takes a millisecond, and what happens at what
 * time does not depend on the machine. */
#ifndef TESTS_KMS_FAKE_CLOCK_H
#define TESTS_KMS_FAKE_CLOCK_H

#include "loop/loop.h"

/* One turn of the loop. When nothing is to be done, the clocks jump to its next timer, but not by
 * more than max_ms. Peers have to be on the same loop: nobody waits for another thread. */
void fake_clock_turn(struct loop *l, uint64_t max_ms);
/* Turns until *flag is set. Fails when that takes more than an hour of the fake clock. */
void fake_clock_until(struct loop *l, const bool *flag);
/* Turns until *n has reached want; fails likewise. */
void fake_clock_until_count(struct loop *l, const unsigned *n, unsigned want);
/* Turns until ms have passed and all that was due has happened. */
void fake_clock_pass(struct loop *l, uint64_t ms);

#endif
