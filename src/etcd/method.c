/* SPDX-License-Identifier: Apache-2.0 */
#include "etcd/method.h"

#define KV "/etcdserverpb.KV/"
#define WATCH "/etcdserverpb.Watch/"
#define LEASE "/etcdserverpb.Lease/"
#define CLUSTER "/etcdserverpb.Cluster/"
#define MAINTENANCE "/etcdserverpb.Maintenance/"
#define AUTH "/etcdserverpb.Auth/"
#define HEALTH "/grpc.health.v1.Health/"

/* Everything that etcd 3.4 to 3.7 serves on its client port, but for v3lockpb.Lock and
 * v3electionpb.Election: etcd turns their requests into Puts inside itself, past any proxy. The
 * most frequent ones first. */
#define METHOD(path, shape, content)                                                               \
    {                                                                                              \
        (path), sizeof(path) - 1, (shape), (content)                                               \
    }

static const struct etcd_method methods[] = {
    METHOD(KV "Range", ETCD_UNARY, ETCD_RANGE),
    METHOD(KV "Txn", ETCD_UNARY, ETCD_TXN),
    METHOD(WATCH "Watch", ETCD_BIDI, ETCD_WATCH),
    METHOD(KV "Put", ETCD_UNARY, ETCD_PUT),
    METHOD(KV "DeleteRange", ETCD_UNARY, ETCD_DELETE_RANGE),
    METHOD(KV "RangeStream", ETCD_SERVER_STREAM, ETCD_RANGE_STREAM),
    METHOD(KV "Compact", ETCD_UNARY, ETCD_OPAQUE),

    METHOD(LEASE "LeaseGrant", ETCD_UNARY, ETCD_OPAQUE),
    METHOD(LEASE "LeaseRevoke", ETCD_UNARY, ETCD_OPAQUE),
    METHOD(LEASE "LeaseKeepAlive", ETCD_BIDI, ETCD_OPAQUE),
    METHOD(LEASE "LeaseTimeToLive", ETCD_UNARY, ETCD_OPAQUE),
    METHOD(LEASE "LeaseLeases", ETCD_UNARY, ETCD_OPAQUE),

    METHOD(CLUSTER "MemberList", ETCD_UNARY, ETCD_MEMBERS),
    METHOD(CLUSTER "MemberAdd", ETCD_UNARY, ETCD_MEMBER_ADD),
    METHOD(CLUSTER "MemberRemove", ETCD_UNARY, ETCD_MEMBERS_CHANGED),
    METHOD(CLUSTER "MemberUpdate", ETCD_UNARY, ETCD_MEMBERS_CHANGED),
    METHOD(CLUSTER "MemberPromote", ETCD_UNARY, ETCD_MEMBERS_CHANGED),

    METHOD(MAINTENANCE "Status", ETCD_UNARY, ETCD_OPAQUE),
    METHOD(MAINTENANCE "Alarm", ETCD_UNARY, ETCD_OPAQUE),
    METHOD(MAINTENANCE "Defragment", ETCD_UNARY, ETCD_OPAQUE),
    METHOD(MAINTENANCE "Hash", ETCD_UNARY, ETCD_OPAQUE),
    METHOD(MAINTENANCE "HashKV", ETCD_UNARY, ETCD_OPAQUE),
    METHOD(MAINTENANCE "Snapshot", ETCD_SERVER_STREAM, ETCD_OPAQUE), /* stored, so sealed, bytes */
    METHOD(MAINTENANCE "MoveLeader", ETCD_UNARY, ETCD_OPAQUE),
    METHOD(MAINTENANCE "Downgrade", ETCD_UNARY, ETCD_OPAQUE),

    METHOD(AUTH "AuthEnable", ETCD_UNARY, ETCD_OPAQUE),
    METHOD(AUTH "AuthDisable", ETCD_UNARY, ETCD_OPAQUE),
    METHOD(AUTH "AuthStatus", ETCD_UNARY, ETCD_OPAQUE),
    METHOD(AUTH "Authenticate", ETCD_UNARY, ETCD_OPAQUE),
    METHOD(AUTH "UserAdd", ETCD_UNARY, ETCD_OPAQUE),
    METHOD(AUTH "UserGet", ETCD_UNARY, ETCD_OPAQUE),
    METHOD(AUTH "UserList", ETCD_UNARY, ETCD_OPAQUE),
    METHOD(AUTH "UserDelete", ETCD_UNARY, ETCD_OPAQUE),
    METHOD(AUTH "UserChangePassword", ETCD_UNARY, ETCD_OPAQUE),
    METHOD(AUTH "UserGrantRole", ETCD_UNARY, ETCD_OPAQUE),
    METHOD(AUTH "UserRevokeRole", ETCD_UNARY, ETCD_OPAQUE),
    METHOD(AUTH "RoleAdd", ETCD_UNARY, ETCD_OPAQUE),
    METHOD(AUTH "RoleGet", ETCD_UNARY, ETCD_OPAQUE),
    METHOD(AUTH "RoleList", ETCD_UNARY, ETCD_OPAQUE),
    METHOD(AUTH "RoleDelete", ETCD_UNARY, ETCD_OPAQUE),
    METHOD(AUTH "RoleGrantPermission", ETCD_UNARY, ETCD_OPAQUE),
    METHOD(AUTH "RoleRevokePermission", ETCD_UNARY, ETCD_OPAQUE),

    METHOD(HEALTH "Check", ETCD_UNARY, ETCD_OPAQUE),
    METHOD(HEALTH "Watch", ETCD_SERVER_STREAM, ETCD_OPAQUE),
    METHOD(HEALTH "List", ETCD_UNARY, ETCD_OPAQUE),
};

const struct etcd_method *etcd_method_find(struct bytes path)
{
    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        if (bytes_eq(path, bytes_of(methods[i].path, methods[i].path_len)))
            return &methods[i];
    }
    return NULL;
}
