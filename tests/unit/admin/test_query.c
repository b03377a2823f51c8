/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "admin/admin.h"

static void assert_value(const char *query, size_t n, const char *want)
{
    char out[32];

    assert_true(admin_query(query, "exclude", n, out, sizeof out));
    assert_string_equal(out, want);
}

static void assert_absent(const char *query, size_t n)
{
    char out[8];

    assert_false(admin_query(query, "exclude", n, out, sizeof out));
}

static void test_values(void **state)
{
    (void)state;
    assert_value("exclude=etcd", 0, "etcd");
    assert_value("verbose&exclude=etcd&exclude=b", 1, "b");
    assert_value("exclude=a%2Fb+c", 0, "a/b c");
    assert_value("exclude", 0, "");
    assert_value("exclude=", 0, "");
    assert_value("&&exclude=x&", 0, "x");
    assert_value("exclude=a=b", 0, "a=b");
}

static void test_absent(void **state)
{
    (void)state;
    assert_absent("", 0);
    assert_absent("exclude=a", 1);
    assert_absent("xexclude=a&excludex=b&exclud=c", 0);
    assert_absent("exclude=%", 0);
    assert_absent("exclude=%4", 0);
    assert_absent("exclude=%zz", 0);
    assert_absent("exclude=%00", 0);
    assert_absent("exclude=12345678", 0);            /* longer than there is room */
    assert_value("exclude=%zz&exclude=ok", 0, "ok"); /* and not counted */
}

static void test_has(void **state)
{
    (void)state;
    assert_true(admin_query_has("verbose", "verbose"));
    assert_true(admin_query_has("a=b&verbose=true", "verbose"));
    assert_false(admin_query_has("a=verbose", "verbose"));
    assert_false(admin_query_has("verboser", "verbose"));
    assert_false(admin_query_has("", "verbose"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_absent),
        cmocka_unit_test(test_has),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
