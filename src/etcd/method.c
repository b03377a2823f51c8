/* SPDX-License-Identifier: Apache-2.0 */
#include "etcd/method.h"

#define KV "/etcdserverpb.KV/"
#define WATCH "/etcdserverpb.Watch/"
#define LEASE "/etcdserverpb.Lease/"
#define CLUSTER "/etcdserverpb.Cluster/"
#define MAINTENANCE "/etcdserverpb.Maintenance/"
#define AUTH "/etcdserverpb.Auth/"
#define HEALTH "/grpc.health.v1.Health/"

/* Everything that etcd 3.4 to 3.8 serves on its client port, but for v3lockpb.Lock and
 * v3electionpb.Election: etcd turns their requests into Puts inside itself, past any proxy. The
 * most frequent ones first. */
static const struct etcd_method methods[] = {
    {KV "Range", ETCD_UNARY, ETCD_RANGE},
    {KV "Txn", ETCD_UNARY, ETCD_TXN},
    {WATCH "Watch", ETCD_BIDI, ETCD_WATCH},
    {KV "Put", ETCD_UNARY, ETCD_PUT},
    {KV "DeleteRange", ETCD_UNARY, ETCD_DELETE_RANGE},
    {KV "RangeStream", ETCD_SERVER_STREAM, ETCD_RANGE_STREAM},
    {KV "Compact", ETCD_UNARY, ETCD_OPAQUE},

    {LEASE "LeaseGrant", ETCD_UNARY, ETCD_OPAQUE},
    {LEASE "LeaseRevoke", ETCD_UNARY, ETCD_OPAQUE},
    {LEASE "LeaseKeepAlive", ETCD_BIDI, ETCD_OPAQUE},
    {LEASE "LeaseTimeToLive", ETCD_UNARY, ETCD_OPAQUE},
    {LEASE "LeaseLeases", ETCD_UNARY, ETCD_OPAQUE},

    {CLUSTER "MemberList", ETCD_UNARY, ETCD_MEMBERS},
    {CLUSTER "MemberAdd", ETCD_UNARY, ETCD_MEMBER_ADD},
    {CLUSTER "MemberRemove", ETCD_UNARY, ETCD_MEMBERS},
    {CLUSTER "MemberUpdate", ETCD_UNARY, ETCD_MEMBERS},
    {CLUSTER "MemberPromote", ETCD_UNARY, ETCD_MEMBERS},

    {MAINTENANCE "Status", ETCD_UNARY, ETCD_OPAQUE},
    {MAINTENANCE "Alarm", ETCD_UNARY, ETCD_OPAQUE},
    {MAINTENANCE "Defragment", ETCD_UNARY, ETCD_OPAQUE},
    {MAINTENANCE "Hash", ETCD_UNARY, ETCD_OPAQUE},
    {MAINTENANCE "HashKV", ETCD_UNARY, ETCD_OPAQUE},
    {MAINTENANCE "Snapshot", ETCD_SERVER_STREAM, ETCD_OPAQUE}, /* stored, so sealed, bytes */
    {MAINTENANCE "MoveLeader", ETCD_UNARY, ETCD_OPAQUE},
    {MAINTENANCE "Downgrade", ETCD_UNARY, ETCD_OPAQUE},

    {AUTH "AuthEnable", ETCD_UNARY, ETCD_OPAQUE},
    {AUTH "AuthDisable", ETCD_UNARY, ETCD_OPAQUE},
    {AUTH "AuthStatus", ETCD_UNARY, ETCD_OPAQUE},
    {AUTH "Authenticate", ETCD_UNARY, ETCD_OPAQUE},
    {AUTH "UserAdd", ETCD_UNARY, ETCD_OPAQUE},
    {AUTH "UserGet", ETCD_UNARY, ETCD_OPAQUE},
    {AUTH "UserList", ETCD_UNARY, ETCD_OPAQUE},
    {AUTH "UserDelete", ETCD_UNARY, ETCD_OPAQUE},
    {AUTH "UserChangePassword", ETCD_UNARY, ETCD_OPAQUE},
    {AUTH "UserGrantRole", ETCD_UNARY, ETCD_OPAQUE},
    {AUTH "UserRevokeRole", ETCD_UNARY, ETCD_OPAQUE},
    {AUTH "RoleAdd", ETCD_UNARY, ETCD_OPAQUE},
    {AUTH "RoleGet", ETCD_UNARY, ETCD_OPAQUE},
    {AUTH "RoleList", ETCD_UNARY, ETCD_OPAQUE},
    {AUTH "RoleDelete", ETCD_UNARY, ETCD_OPAQUE},
    {AUTH "RoleGrantPermission", ETCD_UNARY, ETCD_OPAQUE},
    {AUTH "RoleRevokePermission", ETCD_UNARY, ETCD_OPAQUE},

    {HEALTH "Check", ETCD_UNARY, ETCD_OPAQUE},
    {HEALTH "Watch", ETCD_SERVER_STREAM, ETCD_OPAQUE},
    {HEALTH "List", ETCD_UNARY, ETCD_OPAQUE},
};

const struct etcd_method *etcd_method_find(struct bytes path)
{
    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        if (bytes_eq(path, bytes_str(methods[i].path)))
            return &methods[i];
    }
    return NULL;
}
