/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: a gRPC path. Gives: what we know of that method. Owns: the table. Thread: any.
 * A path that is not in the table is refused, whatever its service. */
#ifndef ETCD_METHOD_H
#define ETCD_METHOD_H

#include "base/bytes.h"

enum etcd_shape { ETCD_UNARY, ETCD_SERVER_STREAM, ETCD_BIDI };

/* What the messages of a method hold. */
enum etcd_content {
    ETCD_REFUSED = 0, /* zero means no */
    ETCD_OPAQUE,      /* no values: passed byte for byte */
    ETCD_RANGE,
    ETCD_RANGE_STREAM, /* answers: RangeStreamResponse { range_response 1 } */
    ETCD_PUT,
    ETCD_DELETE_RANGE,
    ETCD_TXN,
    ETCD_WATCH,
    ETCD_MEMBERS,         /* MemberList: members in field 2 */
    ETCD_MEMBERS_CHANGED, /* MemberRemove, -Update, -Promote: the same */
    ETCD_MEMBER_ADD,      /* member in 2, members in 3 */
};

static inline bool etcd_content_is_members(enum etcd_content content)
{
    return content == ETCD_MEMBERS || content == ETCD_MEMBERS_CHANGED || content == ETCD_MEMBER_ADD;
}

struct etcd_method {
    const char *path; /* "/etcdserverpb.KV/Range" */
    size_t path_len;
    enum etcd_shape shape;
    enum etcd_content content;
};

/* Exact, case-sensitive. NULL: refuse with UNIMPLEMENTED. */
const struct etcd_method *etcd_method_find(struct bytes path);

#endif
