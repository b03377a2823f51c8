/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: what waits for a free call of a plugin, and for whom. Gives: it back, asker by asker in
 * turn, each asker's own in order. Owns: the turns. Thread: control.
 *
 * So one client with a thousand unknown DEKs delays the single DEK of another by one call. */
#ifndef KMS_TURNS_INT_H
#define KMS_TURNS_INT_H

#include "base/err.h"
#include "base/list.h"

#define TURNS_BUCKETS 64u

/* One asker that has something waiting, or had. */
struct turn {
    struct list bucket;
    struct list node;  /* in the order of turns */
    struct list queue; /* what waits, oldest first; nodes leave it by list_remove at any time */
    uint64_t asker;
};

struct turns {
    struct list buckets[TURNS_BUCKETS];
    struct list order;
    struct turn nobody; /* asker 0, and all others when memory is out */
};

void turns_init(struct turns *t);
/* Nodes that still wait are forgotten. */
void turns_fini(struct turns *t);
/* Queues node for asker. Without memory for a turn of its own it shares that of asker 0. */
void turns_push(struct turns *t, uint64_t asker, struct list *node);
/* Takes the node whose turn it is out of its queue. NULL: nothing waits. */
struct list *turns_next(struct turns *t);

#endif
