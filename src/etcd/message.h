/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: what we want to know of etcd. Gives: the bodies of requests that are our own, and what
 * their answers say. Owns: nothing; a body lies in its maker's buffer. Thread: any.
 *
 * Our own requests hold no value of anybody: the check of etcd's health, the look for keys under
 * the prefix, the end of one watch. */
#ifndef ETCD_MESSAGE_H
#define ETCD_MESSAGE_H

#include "base/bytes.h"
#include "base/err.h"

#define ETCD_RANGE_PATH "/etcdserverpb.KV/Range"

/* --- a message that is being written: field by field, in the order of the calls --- */

struct etcd_message {
    uint8_t *buf; /* the maker's */
    size_t cap, len;
    bool is_cut; /* a field had no room: there is no body */
};

void etcd_message_init(struct etcd_message *m, uint8_t *buf, size_t cap);
void etcd_message_put_varint(struct etcd_message *m, uint32_t number, uint64_t v);
/* A field of bytes, a text or a message in it. */
void etcd_message_put_bytes(struct etcd_message *m, uint32_t number, struct bytes v);
/* The body, borrowed from the buffer. Errors: ERR_MESSAGE_TOO_LARGE. */
MUST_CHECK enum err etcd_message_body(const struct etcd_message *m, struct bytes *out);

/* --- the messages --- */

/* Zero stands for etcd's default, as on the wire. */
struct etcd_range_request {
    struct bytes key;
    struct bytes range_end; /* empty: the key alone; one byte of zero: to the end */
    int64_t limit;
    int64_t revision; /* 0: the present one */
    bool keys_only;
};

/* RangeRequest. */
void etcd_message_put_range(struct etcd_message *m, const struct etcd_range_request *r);
/* WatchRequest { cancel_request { watch_id } }: at most ETCD_WATCH_CANCEL_MAX bytes. */
#define ETCD_WATCH_CANCEL_MAX 16u
void etcd_message_put_watch_cancel(struct etcd_message *m, int64_t watch_id);

/* --- answers --- */

struct etcd_range_answer {
    int64_t revision; /* of the store, when it answered; 0: it did not say */
    size_t kv_count;
};

/* RangeResponse. Errors: ERR_ANS_MALFORMED. */
MUST_CHECK enum err etcd_message_read_range(struct bytes body, struct etcd_range_answer *out);

#endif
