/* SPDX-License-Identifier: Apache-2.0 */
/* Keys that are told one by one: whether the prefix may be wrong is the same in whatever order. */
#include "tools/outside.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void expect(const char *root, const char *const *keys, size_t count,
                   enum tools_outside wanted, const char *registry)
{
    for (size_t first = 0; first < count; first++) {
        struct tools_outside_look l = {.root = root, .place = "/etcd-envelope"};

        for (size_t i = 0; i < count; i++)
            tools_outside_note(&l, bytes_str(keys[(first + i) % count]));
        assert_int_equal(l.found, wanted);
        if (wanted == TOOLS_OUTSIDE_REGISTRY)
            assert_string_equal(l.registry, registry);
    }
}

static void in_any_order(void **state)
{
    static const char *const registry[] = {"/other", "/registry/pods/a", "compact_rev_key"};
    static const char *const openshift[] = {"/kubernetes.io/a", "/registrya/b"};
    static const char *const others[] = {"/registry", "/registryx/a", "a"};

    static const char *const proxies[] = {"/etcd-envelope/lock", "/etcd-envelope/quarantine/a"};

    (void)state;
    expect("/registry", registry, 3, TOOLS_OUTSIDE_NONE, NULL);
    expect("/registri", registry, 3, TOOLS_OUTSIDE_REGISTRY, "/registry");
    expect("/registry/pods", registry, 3, TOOLS_OUTSIDE_NONE, NULL);
    expect("/registry/p", registry, 3, TOOLS_OUTSIDE_REGISTRY, "/registry");
    expect("/registry", openshift, 2, TOOLS_OUTSIDE_REGISTRY, "/kubernetes.io");
    expect("/registry", proxies, 2, TOOLS_OUTSIDE_NONE, NULL);
    expect("/registry", others, 3, TOOLS_OUTSIDE_KEYS, NULL);
    expect("", others, 3, TOOLS_OUTSIDE_NONE, NULL);
    expect("", others + 2, 1, TOOLS_OUTSIDE_KEYS, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_any_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
