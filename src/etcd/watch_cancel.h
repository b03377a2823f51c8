/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: a watch that ends by our doing. Gives: what etcd and the client are told. Owns:
 * nothing. Thread: one. */
#ifndef ETCD_WATCH_CANCEL_H
#define ETCD_WATCH_CANCEL_H

#include "etcd/plan.h"

/* WatchRequest { cancel_request { watch_id } }: made by us, so it holds no value. Appends. Errors:
 * ERR_NOMEM; then out is empty. */
MUST_CHECK enum err etcd_watch_cancel_request(int64_t watch_id, struct slab_pool *pool,
                                              struct sealed_msg *out);
/* WatchResponse { header, watch_id, canceled, cancel_reason }. header: body of a ResponseHeader
 * seen on this stream (clients crash without one). compact_revision is never set: it would read as
 * "compacted". */
MUST_CHECK enum err etcd_watch_canceled_response(struct bytes header, int64_t watch_id,
                                                 const char *reason, struct slab_pool *pool,
                                                 struct chain *out);

#endif
