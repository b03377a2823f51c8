/* SPDX-License-Identifier: Apache-2.0 */
/* The way of a mail:
 *   1. a thread posts it: into the queue under the lock, and the first one wakes the loop;
 *   2. the loop takes the whole queue at once and delivers in order, without the lock.
 * Failure modes: a mail that comes to a closed mailbox, or lies in it when it closes, is delivered
 * with false, which frees it. The wake-up happens under the lock, so it never meets a handle that
 * mailbox_close has given to uv_close. */
#include "loop/mailbox.h"

#include <errno.h>

static void discard(struct list *queue)
{
    while (!list_is_empty(queue)) {
        struct mail *m = LIST_FIRST(queue, struct mail, node);

        list_remove(&m->node);
        m->deliver(m, false);
    }
}

static void on_async(uv_async_t *handle)
{
    struct mailbox *mb = handle->data;
    struct list now;

    list_init(&now);
    pthread_mutex_lock(&mb->lock);
    list_splice(&now, &mb->queue);
    pthread_mutex_unlock(&mb->lock);
    /* is_closed is written by this thread alone, so reading it here needs no lock. */
    while (!mb->is_closed && !list_is_empty(&now)) {
        struct mail *m = LIST_FIRST(&now, struct mail, node);

        list_remove(&m->node);
        m->deliver(m, true);
    }
    discard(&now);
}

enum err mailbox_init(struct mailbox *mb, struct loop *loop)
{
    int status;

    if (pthread_mutex_init(&mb->lock, NULL) != 0)
        return ERR_NOMEM;
    list_init(&mb->queue);
    mb->is_closed = false;
    mb->on_closed = NULL;
    status = uv_async_init(&loop->uv, &mb->async, on_async);
    if (status != 0) {
        pthread_mutex_destroy(&mb->lock);
        errno = -status;
        return ERR_SYSTEM;
    }
    mb->async.data = mb;
    return ERR_OK;
}

void mailbox_post(struct mailbox *mb, struct mail *m)
{
    bool is_closed, was_empty;

    list_init(&m->node);
    pthread_mutex_lock(&mb->lock);
    is_closed = mb->is_closed;
    if (!is_closed) {
        was_empty = list_is_empty(&mb->queue);
        list_push(&mb->queue, &m->node);
        if (was_empty)
            (void)uv_async_send(&mb->async);
    }
    pthread_mutex_unlock(&mb->lock);
    if (is_closed)
        m->deliver(m, false);
}

static void on_async_closed(uv_handle_t *handle)
{
    struct mailbox *mb = handle->data;

    mb->on_closed(mb);
}

static void close_box(struct mailbox *mb)
{
    struct list rest;

    list_init(&rest);
    pthread_mutex_lock(&mb->lock);
    mb->is_closed = true;
    list_splice(&rest, &mb->queue);
    pthread_mutex_unlock(&mb->lock);
    uv_close((uv_handle_t *)&mb->async, mb->on_closed == NULL ? NULL : on_async_closed);
    discard(&rest);
}

void mailbox_close(struct mailbox *mb)
{
    if (!mb->is_closed)
        close_box(mb);
}

void mailbox_close_then(struct mailbox *mb, void (*on_closed)(struct mailbox *self))
{
    CHECK(!mb->is_closed);
    mb->on_closed = on_closed;
    close_box(mb);
}

void mailbox_fini(struct mailbox *mb)
{
    CHECK(mb->is_closed && list_is_empty(&mb->queue));
    pthread_mutex_destroy(&mb->lock);
}
