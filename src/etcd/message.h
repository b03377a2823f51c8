/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: what we want to know of etcd. Gives: the bodies of requests that are our own, and what
 * their answers say. Owns: nothing; a body lies in its maker's buffer. Thread: any.
 *
 * Of the proxy's own requests none holds a value of anybody: the check of etcd's health, the look
 * for keys under the prefix, the end of one watch. The tools read and replace stored values, and so
 * does the proxy with --converge. */
#ifndef ETCD_MESSAGE_H
#define ETCD_MESSAGE_H

#include "base/bytes.h"
#include "base/err.h"

#define ETCD_RANGE_PATH "/etcdserverpb.KV/Range"
#define ETCD_TXN_PATH "/etcdserverpb.KV/Txn"
#define ETCD_AUTHENTICATE_PATH "/etcdserverpb.Auth/Authenticate"
#define ETCD_STATUS_PATH "/etcdserverpb.Maintenance/Status"
/* With this our own tools ask who a server is. There is no such method, in etcd as little as in the
 * proxy: the text with which it is refused tells. */
#define ETCD_IDENTIFY_PATH "/etcd_envelope.Proxy/Identify"

/* --- a message that is being written: field by field, in the order of the calls --- */

struct etcd_message {
    uint8_t *buf; /* the maker's */
    size_t cap, len;
    bool is_cut; /* a field had no room: there is no body */
};

void etcd_message_init(struct etcd_message *m, uint8_t *buf, size_t cap);
void etcd_message_put_varint(struct etcd_message *m, uint32_t number, uint64_t v);
/* What goes before the n bytes of a field that are put next. */
void etcd_message_put_head(struct etcd_message *m, uint32_t number, size_t n);
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
    bool count_only;
};

/* RangeRequest. */
void etcd_message_put_range(struct etcd_message *m, const struct etcd_range_request *r);
/* What has to be so as well when a value is replaced: a lock is still the one that was created at
 * lock_revision, and of the keys from watched on, before watched_end, none was written since
 * seen_revision. */
struct etcd_fence {
    struct bytes lock;
    int64_t lock_revision;
    struct bytes watched, watched_end;
    int64_t seen_revision;
};
/* A value that takes the place of the one that a key had at mod_revision. */
struct etcd_replace_request {
    struct bytes key;
    struct bytes value;
    int64_t mod_revision;
    const struct etcd_fence *fence; /* NULL: nothing else is asked for */
};
/* TxnRequest: while the key's mod_revision is still that, and the fence holds, its value is put and
 * its lease left as it is; otherwise the key is read. At most etcd_replace_max bytes. */
size_t etcd_replace_max(const struct etcd_replace_request *r);
void etcd_message_put_replace(struct etcd_message *m, const struct etcd_replace_request *r);
/* A value that goes from one key to another one, byte for byte. */
struct etcd_move_request {
    struct bytes from, to;
    struct bytes value;   /* as from has it */
    int64_t mod_revision; /* of from */
};
/* TxnRequest: while from's mod_revision is still that and there is no key to, the value is put
 * there, without a lease, and from is deleted; otherwise both are read. At most etcd_move_max
 * bytes. */
size_t etcd_move_max(size_t from_len, size_t to_len, size_t value_len);
void etcd_message_put_move(struct etcd_message *m, const struct etcd_move_request *r);
/* A copy that is not needed any more. */
struct etcd_discard_request {
    struct bytes copy, original;
    int64_t copy_revision, original_revision; /* mod_revision of each */
};
/* TxnRequest: while both have these revisions the copy is deleted; otherwise both are read: the
 * answer is read as that of a move from copy to original. At most etcd_move_max(copy.n, original.n,
 * 0) bytes. */
void etcd_message_put_discard(struct etcd_message *m, const struct etcd_discard_request *r);
/* WatchRequest { cancel_request { watch_id } }: at most ETCD_WATCH_CANCEL_MAX bytes. */
#define ETCD_WATCH_CANCEL_MAX 16u
void etcd_message_put_watch_cancel(struct etcd_message *m, int64_t watch_id);

/* AuthenticateRequest: a user and its password. */
void etcd_message_put_authenticate(struct etcd_message *m, struct bytes user,
                                   struct bytes password);

/* --- answers --- */

struct etcd_header {
    uint64_t cluster_id, member_id;
    int64_t revision; /* of the store, when it answered; 0: it did not say */
};

struct etcd_range_answer {
    struct etcd_header header;
    size_t kv_count; /* KeyValues in this answer */
    bool has_more;   /* the limit cut the answer off */
    int64_t count;   /* all keys of the range */
};

/* RangeResponse. Errors: ERR_ANS_MALFORMED. */
MUST_CHECK enum err etcd_message_read_range(struct bytes body, struct etcd_range_answer *out);

/* Borrows from the answer. */
struct etcd_kv {
    struct bytes key, value;
    int64_t create_revision, mod_revision;
    int64_t lease; /* 0: none */
};
/* The next KeyValue of a RangeResponse: rest is the answer at first, and then what lies behind the
 * last one. *has is false at the end. Errors: ERR_ANS_MALFORMED, ERR_ANS_WIRE_TYPE, ERR_ANS_DOUBLED
 * (a field of it twice), ERR_ANS_NO_KEY. */
MUST_CHECK enum err etcd_message_next_kv(struct bytes *rest, struct etcd_kv *out, bool *has);

struct etcd_replace_answer {
    struct etcd_header header;
    bool is_done;      /* the value was put */
    struct bytes read; /* otherwise the RangeResponse of the key, borrowed */
};
/* TxnResponse of etcd_message_put_replace. Errors: ERR_ANS_MALFORMED. */
MUST_CHECK enum err etcd_message_read_replace(struct bytes body, struct etcd_replace_answer *out);

struct etcd_move_answer {
    bool is_done;          /* the value was moved */
    struct bytes from, to; /* otherwise the RangeResponses of the keys, borrowed */
};
/* TxnResponse of etcd_message_put_move. Errors: ERR_ANS_MALFORMED. */
MUST_CHECK enum err etcd_message_read_move(struct bytes body, struct etcd_move_answer *out);

/* AuthenticateResponse: the token for the calls that follow, borrowed. Errors: ERR_ANS_MALFORMED,
 * also for one without a token. */
MUST_CHECK enum err etcd_message_read_authenticate(struct bytes body, struct bytes *token);

struct etcd_status {
    struct etcd_header header;
    char version[32];
    int64_t db_size, db_size_in_use;
    int64_t db_quota;  /* 0: it did not say; etcd does from 3.6 on */
    bool has_no_space; /* the alarm NOSPACE is raised: no write is taken */
};
/* StatusResponse. Errors: ERR_ANS_MALFORMED. */
MUST_CHECK enum err etcd_message_read_status(struct bytes body, struct etcd_status *out);

#endif
