/* SPDX-License-Identifier: Apache-2.0 */
/* Askers in turn: the first of the order gives its oldest node and goes to the end. One that has
 * none left when its turn comes is forgotten. */
#include "kms/turns_int.h"

#include <stdlib.h>

static void turn_init(struct turn *turn, uint64_t asker)
{
    turn->asker = asker;
    list_init(&turn->bucket);
    list_init(&turn->node);
    list_init(&turn->queue);
}

void turns_init(struct turns *t)
{
    for (size_t i = 0; i < TURNS_BUCKETS; i++)
        list_init(&t->buckets[i]);
    list_init(&t->order);
    turn_init(&t->nobody, 0);
}

static void turn_end(struct turns *t, struct turn *turn)
{
    list_remove(&turn->node);
    if (turn == &t->nobody)
        return;
    list_remove(&turn->bucket);
    free(turn);
}

void turns_fini(struct turns *t)
{
    while (!list_is_empty(&t->order)) {
        struct turn *turn = LIST_FIRST(&t->order, struct turn, node);

        while (!list_is_empty(&turn->queue))
            list_remove(turn->queue.next);
        turn_end(t, turn);
    }
}

static struct turn *turn_of(struct turns *t, uint64_t asker)
{
    struct list *bucket = &t->buckets[asker % TURNS_BUCKETS];
    struct turn *turn;

    if (asker == 0)
        return &t->nobody;
    LIST_FOREACH(it, bucket) {
        turn = LIST_ENTRY(it, struct turn, bucket);
        if (turn->asker == asker)
            return turn;
    }
    turn = malloc(sizeof *turn);
    if (turn == NULL)
        return &t->nobody;
    turn_init(turn, asker);
    list_push(bucket, &turn->bucket);
    return turn;
}

void turns_push(struct turns *t, uint64_t asker, struct list *node)
{
    struct turn *turn = turn_of(t, asker);

    list_push(&turn->queue, node);
    if (list_is_empty(&turn->node))
        list_push(&t->order, &turn->node);
}

struct list *turns_next(struct turns *t)
{
    while (!list_is_empty(&t->order)) {
        struct turn *turn = LIST_FIRST(&t->order, struct turn, node);
        struct list *node;

        if (list_is_empty(&turn->queue)) {
            turn_end(t, turn);
            continue;
        }
        node = turn->queue.next;
        list_remove(node);
        list_remove(&turn->node);
        list_push(&t->order, &turn->node);
        return node;
    }
    return NULL;
}
