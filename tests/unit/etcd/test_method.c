/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "etcd/method.h"

static void expect(const char *path, enum etcd_shape shape, enum etcd_content content)
{
    const struct etcd_method *m = etcd_method_find(bytes_str(path));

    assert_non_null(m);
    assert_string_equal(m->path, path);
    assert_int_equal(m->shape, shape);
    assert_int_equal(m->content, content);
}

static void test_contents(void **state)
{
    (void)state;
    expect("/etcdserverpb.KV/Range", ETCD_UNARY, ETCD_RANGE);
    expect("/etcdserverpb.KV/RangeStream", ETCD_SERVER_STREAM, ETCD_RANGE_STREAM);
    expect("/etcdserverpb.KV/Put", ETCD_UNARY, ETCD_PUT);
    expect("/etcdserverpb.KV/DeleteRange", ETCD_UNARY, ETCD_DELETE_RANGE);
    expect("/etcdserverpb.KV/Txn", ETCD_UNARY, ETCD_TXN);
    expect("/etcdserverpb.KV/Compact", ETCD_UNARY, ETCD_OPAQUE);
    expect("/etcdserverpb.Watch/Watch", ETCD_BIDI, ETCD_WATCH);
    expect("/etcdserverpb.Lease/LeaseKeepAlive", ETCD_BIDI, ETCD_OPAQUE);
    expect("/etcdserverpb.Maintenance/Snapshot", ETCD_SERVER_STREAM, ETCD_OPAQUE);
    expect("/etcdserverpb.Maintenance/Downgrade", ETCD_UNARY, ETCD_OPAQUE);
    expect("/etcdserverpb.Cluster/MemberList", ETCD_UNARY, ETCD_MEMBERS);
    expect("/etcdserverpb.Cluster/MemberAdd", ETCD_UNARY, ETCD_MEMBER_ADD);
    expect("/etcdserverpb.Cluster/MemberRemove", ETCD_UNARY, ETCD_MEMBERS_CHANGED);
    expect("/etcdserverpb.Cluster/MemberUpdate", ETCD_UNARY, ETCD_MEMBERS_CHANGED);
    expect("/etcdserverpb.Cluster/MemberPromote", ETCD_UNARY, ETCD_MEMBERS_CHANGED);
    expect("/etcdserverpb.Auth/Authenticate", ETCD_UNARY, ETCD_OPAQUE);
    expect("/grpc.health.v1.Health/Check", ETCD_UNARY, ETCD_OPAQUE);
    expect("/grpc.health.v1.Health/Watch", ETCD_SERVER_STREAM, ETCD_OPAQUE);
    expect("/grpc.health.v1.Health/List", ETCD_UNARY, ETCD_OPAQUE);
}

static void test_auth_is_complete(void **state)
{
    static const char *const names[] = {"AuthEnable",
                                        "AuthDisable",
                                        "AuthStatus",
                                        "Authenticate",
                                        "UserAdd",
                                        "UserGet",
                                        "UserList",
                                        "UserDelete",
                                        "RoleAdd",
                                        "RoleGet",
                                        "RoleList",
                                        "UserChangePassword",
                                        "UserGrantRole",
                                        "RoleDelete",
                                        "UserRevokeRole",
                                        "RoleGrantPermission",
                                        "RoleRevokePermission"};
    char path[128];

    (void)state;
    assert_int_equal(ARRAY_LEN(names), 17);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        (void)snprintf(path, sizeof path, "/etcdserverpb.Auth/%s", names[i]);
        expect(path, ETCD_UNARY, ETCD_OPAQUE);
    }
}

static void test_refused(void **state)
{
    static const char *const paths[] = {
        "",
        "/",
        "Range",
        "/etcdserverpb.KV/",
        "/etcdserverpb.KV/range",
        "/etcdserverpb.kv/Range",
        "/etcdserverpb.KV/Range/",
        "/etcdserverpb.KV/Range?",
        "//etcdserverpb.KV/Range",
        "/etcdserverpb.KV/../KV/Range",
        "/etcdserverpb.KV/%52ange",
        "/etcdserverpb.KV/PutStream",
        "/v3lockpb.Lock/Lock",
        "/v3lockpb.Lock/Unlock",
        "/v3electionpb.Election/Campaign",
        "/v3electionpb.Election/Proclaim",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(paths); i++)
        assert_null(etcd_method_find(bytes_str(paths[i])));
    assert_null(etcd_method_find(bytes_of("/etcdserverpb.KV/Put\0", 21)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_contents),
        cmocka_unit_test(test_auth_is_complete),
        cmocka_unit_test(test_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
