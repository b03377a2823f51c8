/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: a lease, keys of our own. Gives: the bodies of the requests with which proxies agree
 * among each other, and what their answers say. Owns: nothing; a body lies in its maker's buffer.
 * Thread: any.
 *
 * LeaseKeepAlive is a stream, but of a stream that is closed behind its first request etcd answers
 * that one and then ends it well: so it can be called as if it were unary. */
#ifndef ETCD_LEASE_H
#define ETCD_LEASE_H

#include "etcd/message.h"

#define ETCD_LEASE_GRANT_PATH "/etcdserverpb.Lease/LeaseGrant"
#define ETCD_LEASE_KEEP_ALIVE_PATH "/etcdserverpb.Lease/LeaseKeepAlive"
#define ETCD_LEASE_REVOKE_PATH "/etcdserverpb.Lease/LeaseRevoke"
#define ETCD_PUT_PATH "/etcdserverpb.KV/Put"

/* LeaseGrantRequest, of an id that etcd chooses. */
void etcd_lease_put_grant(struct etcd_message *m, int64_t ttl_s);
/* LeaseKeepAliveRequest, LeaseRevokeRequest. */
void etcd_lease_put_id(struct etcd_message *m, int64_t lease);
/* PutRequest of a key that goes when the lease ends. */
void etcd_lease_put_key(struct etcd_message *m, struct bytes key, struct bytes value,
                        int64_t lease);
/* TxnRequest: the same, but only while there is no such key. */
void etcd_lease_put_lock(struct etcd_message *m, struct bytes key, struct bytes value,
                         int64_t lease);
/* TxnRequest: while there is the key, it gets another mod_revision, and keeps everything else. At
 * most etcd_lease_touch_max bytes. */
size_t etcd_lease_touch_max(size_t key_len);
void etcd_lease_put_touch(struct etcd_message *m, struct bytes key);

struct etcd_lease {
    int64_t id;
    int64_t ttl_s; /* 0: there is no such lease (any more) */
};
/* LeaseGrantResponse, LeaseKeepAliveResponse. Errors: ERR_ANS_MALFORMED. */
MUST_CHECK enum err etcd_lease_read(struct bytes body, struct etcd_lease *out);

#endif
