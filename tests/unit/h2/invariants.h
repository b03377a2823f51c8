/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: a connection, outside of its callbacks. Gives: whether its streams, their table, the
 * queues and the sharers are what h2_int.h says of them. Owns: nothing. Thread: the test's. */
#ifndef TESTS_H2_INVARIANTS_H
#define TESTS_H2_INVARIANTS_H

#include "h2/h2_int.h"

/* Fails the test when they are not, or when a stream that could send is in no queue. */
void h2_check(struct h2_conn *c);

#endif
