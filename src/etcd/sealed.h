/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: what the three makers below give. Gives: the only thing that is ever sent to etcd.
 * Owns: its bytes. Thread: one.
 *
 * Only etcd_apply_request, etcd_passthrough and etcd_watch_cancel_request put bytes of a message
 * into a struct sealed_msg, and upstream sends nothing else: these three functions are the audit
 * list for "can plaintext leak?". Its member is etcd/'s own: nobody else may read or write it (a
 * lint holds that). */
#ifndef ETCD_SEALED_H
#define ETCD_SEALED_H

#include "base/slice.h"

/* Zero-initialised is empty and valid. */
struct sealed_msg {
    struct chain etcd__bytes;
};

void sealed_msg_fini(struct sealed_msg *m);
/* Room of n bytes at the begin of an empty m for what stands in front of the message, its gRPC
 * prefix: the caller fills it, once the message behind it is made. NULL: no memory. */
MUST_CHECK uint8_t *sealed_msg_reserve(struct sealed_msg *m, struct slab_pool *pool, size_t n);
/* Where that room is, of an m that is not empty. */
uint8_t *sealed_msg_head(const struct sealed_msg *m);
/* Bytes, those that were reserved included. */
size_t sealed_msg_len(const struct sealed_msg *m);
/* The memory that it keeps from being freed, as chain_pinned. */
size_t sealed_msg_pinned(const struct sealed_msg *m);
/* Moves the message; to is empty. */
void sealed_msg_move(struct sealed_msg *to, struct sealed_msg *from);
/* Moves the bytes out, for the stream to etcd; to is empty. */
void sealed_msg_release(struct sealed_msg *m, struct chain *to);

#endif
