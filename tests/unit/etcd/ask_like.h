/* SPDX-License-Identifier: Apache-2.0 */
/* What a client must have asked for an answer to fit: for tests that begin with the answer. */
#ifndef TESTS_UNIT_ETCD_ASK_LIKE_H
#define TESTS_UNIT_ETCD_ASK_LIKE_H

#include "etcd/ask.h"
#include "etcd/method.h"

/* Every operation asks for range r. Watch: one watch of r with this id. Of a Txn answer both
 * branches have the operations that the responses name, as far as it can be read. Aborts without
 * memory. */
void ask_like(struct etcd_ask *ask, enum etcd_content content, struct bytes answer,
              const struct etcd_range *r, int64_t watch_id);

#endif
