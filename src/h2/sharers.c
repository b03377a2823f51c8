/* SPDX-License-Identifier: Apache-2.0 */
/* The queues of streams that wait for their turn to send, each of them sharer by sharer: of a
 * connection to etcd the clients whose calls are on it, so that one with hundreds of streams has
 * no more turns than one with a single stream.
 *
 *   c->queue[READY] -> A -> B -> nobody             sharers that have a stream there, in turn
 *                      |    |
 *                      1    2                       their streams, in turn
 *                      3
 *   next: 1, 2, nobody's, 3, ...
 *
 * While the connection has a window, READY and STALLED are one to the sharers: the one of either
 * that was served longest ago is next, with a stalled stream of its own if it has any.
 *
 * A sharer lives as long as it has streams on the connection, and the last one that has none any
 * more until there is another. Streams that were given none share
 * the turns of "nobody", as all of a server's do. Without memory for a sharer of its own a stream
 * stays there, too. */
#include "h2/h2_int.h"

#define BUCKETS 32u

static void sharer_init(struct h2__sharer *sh, uint64_t id)
{
    *sh = (struct h2__sharer){.id = id};
    list_init(&sh->bucket);
    for (int q = 0; q < H2__QUEUE_COUNT; q++) {
        list_init(&sh->turn[q].node);
        list_init(&sh->turn[q].streams);
    }
}

void h2__sharers_init(struct h2_conn *c)
{
    for (int q = 0; q < H2__QUEUE_COUNT; q++)
        list_init(&c->queue[q]);
    sharer_init(&c->nobody, 0);
}

void h2__sharers_fini(struct h2_conn *c)
{
    objects_free(&c->pool->objects, c->idle_sharer);
    c->idle_sharer = NULL;
    objects_free(&c->pool->objects, c->sharers);
    c->sharers = NULL;
}

void h2__queue_push(struct h2_stream *s, enum h2__queue q)
{
    struct h2__turn *turn = &s->sharer->turn[q];

    s->queue = (uint8_t)q;
    list_push(&turn->streams, &s->send_node);
    if (list_is_empty(&turn->node))
        list_push(&s->c->queue[q], &turn->node);
}

void h2__queue_leave(struct h2_stream *s)
{
    struct h2__turn *turn = &s->sharer->turn[s->queue];

    list_remove(&s->send_node);
    if (list_is_empty(&turn->streams))
        list_remove(&turn->node);
}

static struct h2__sharer *first_sharer(const struct h2_conn *c, enum h2__queue q)
{
    return LIST_ENTRY(c->queue[q].next, struct h2__sharer, turn[q].node);
}

static void to_the_end(struct list *queue, struct list *node)
{
    if (queue->prev == node)
        return;
    list_remove(node);
    list_push(queue, node);
}

static struct h2_stream *take(struct h2_conn *c, struct h2__sharer *sh, enum h2__queue q)
{
    struct h2__turn *turn = &sh->turn[q];
    struct h2_stream *s = LIST_FIRST(&turn->streams, struct h2_stream, send_node);

    list_remove(&s->send_node);
    if (list_is_empty(&turn->streams))
        list_remove(&turn->node);
    else
        to_the_end(&c->queue[q], &turn->node);
    return s;
}

/* The same of READY or STALLED, which are one. */
static struct h2_stream *serve(struct h2_conn *c, struct h2__sharer *sh, enum h2__queue q)
{
    enum h2__queue other = q == H2__READY ? H2__STALLED : H2__READY;

    sh->served = ++c->served;
    if (!list_is_empty(&sh->turn[other].node))
        to_the_end(&c->queue[other], &sh->turn[other].node);
    return take(c, sh, q);
}

struct h2_stream *h2__queue_next_waiting(struct h2_conn *c)
{
    if (h2__queue_is_empty(c, H2__WAITING))
        return NULL;
    return take(c, first_sharer(c, H2__WAITING), H2__WAITING);
}

/* Who is served, when both queues count and STALLED has some. */
static struct h2__sharer *next_sharer(const struct h2_conn *c)
{
    struct h2__sharer *stalled = first_sharer(c, H2__STALLED), *ready;

    if (h2__queue_is_empty(c, H2__READY))
        return stalled;
    ready = first_sharer(c, H2__READY);
    return ready->served < stalled->served ? ready : stalled;
}

struct h2_stream *h2__queue_next(struct h2_conn *c)
{
    struct h2__sharer *sh;

    if (!h2__queue_is_empty(c, H2__ENDING))
        return take(c, first_sharer(c, H2__ENDING), H2__ENDING);
    if (c->send_left <= 0 || h2__queue_is_empty(c, H2__STALLED)) {
        if (h2__queue_is_empty(c, H2__READY))
            return NULL;
        return serve(c, first_sharer(c, H2__READY), H2__READY);
    }
    sh = next_sharer(c);
    return serve(c, sh, list_is_empty(&sh->turn[H2__STALLED].streams) ? H2__READY : H2__STALLED);
}

/* NULL: no memory. */
static struct list *bucket_of(struct h2_conn *c, uint64_t id)
{
    if (c->sharers == NULL) {
        c->sharers = objects_calloc(&c->pool->objects, BUCKETS, sizeof *c->sharers);
        for (size_t i = 0; c->sharers != NULL && i < BUCKETS; i++)
            list_init(&c->sharers[i]);
    }
    return c->sharers == NULL ? NULL : &c->sharers[id % BUCKETS];
}

static struct h2__sharer *sharer_of(struct h2_conn *c, uint64_t id)
{
    struct list *bucket = bucket_of(c, id);
    struct h2__sharer *sh;

    if (bucket == NULL)
        return &c->nobody;
    LIST_FOREACH(it, bucket) {
        sh = LIST_ENTRY(it, struct h2__sharer, bucket);
        if (sh->id == id)
            return sh;
    }
    sh = objects_alloc(&c->pool->objects, sizeof *sh);
    if (sh == NULL)
        return &c->nobody;
    sharer_init(sh, id);
    list_push(bucket, &sh->bucket);
    return sh;
}

static void sharer_free(struct h2_conn *c, struct h2__sharer *sh)
{
    list_remove(&sh->bucket);
    objects_free(&c->pool->objects, sh);
}

/* The last one that has no more streams is kept: a client's next call most likely follows. */
void h2__sharer_drop(struct h2_stream *s)
{
    struct h2__sharer *sh = s->sharer;
    struct h2_conn *c = s->c;

    if (sh == &c->nobody || --sh->streams > 0 || c->idle_sharer == sh)
        return;
    if (c->idle_sharer != NULL && c->idle_sharer->streams == 0)
        sharer_free(c, c->idle_sharer);
    c->idle_sharer = sh;
}

void h2_stream_share(struct h2_stream *s, uint64_t id)
{
    bool is_queued = !list_is_empty(&s->send_node);

    CHECK(s->sharer == &s->c->nobody);
    if (is_queued)
        h2__queue_leave(s);
    s->sharer = sharer_of(s->c, id);
    s->sharer->streams++;
    if (is_queued)
        h2__queue_push(s, (enum h2__queue)s->queue);
}
