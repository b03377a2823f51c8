/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: mail from any thread. Gives: each mail's deliver call on the receiver's loop, in the
 * order of posting. Owns: mail between post and deliver. Thread: post any, the rest the loop's.
 *
 * The only way for a pointer to cross threads. What a mail points to is moved or immutable. */
#ifndef LOOP_MAILBOX_H
#define LOOP_MAILBOX_H

#include <pthread.h>

#include "loop/loop.h"

/* Embedded first in every message type. */
struct mail {
    struct list node;
    /* Runs on the receiver's thread and frees the mail. delivered is false when the mailbox was
     * closed first: then it only frees. */
    void (*deliver)(struct mail *self, bool delivered);
};

struct mailbox {
    pthread_mutex_t lock;
    struct list queue; /* guarded by lock */
    bool is_closed;    /* guarded by lock */
    uv_async_t async;
    void (*on_closed)(struct mailbox *self);
};

MUST_CHECK enum err mailbox_init(struct mailbox *mb, struct loop *loop);
/* Any thread. Takes m. After close, deliver is called at once with false, on the caller's
 * thread. */
void mailbox_post(struct mailbox *mb, struct mail *m);
/* Loop's thread: no deliveries any more; what is queued is freed. mb's memory lives on until
 * loop_run has returned. Closing again changes nothing. */
void mailbox_close(struct mailbox *mb);
/* The same of a mailbox that is still open, when its memory has to go before the loop ends:
 * on_closed is called from the loop once nothing points to mb any more, and may fini and free it.
 */
void mailbox_close_then(struct mailbox *mb, void (*on_closed)(struct mailbox *self));
void mailbox_fini(struct mailbox *mb);

#endif
