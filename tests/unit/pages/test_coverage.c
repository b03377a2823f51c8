/* SPDX-License-Identifier: Apache-2.0 */
#include "pages/coverage.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "failing_alloc.h"

/* Any gauge with two labels will do. */
#define FAMILY SERIES_KEY_ID_STATUS_TIME

static int forget(void **state)
{
    (void)state;
    series_forget(FAMILY);
    return 0;
}

static void test_nobody_has_looked(void **state)
{
    struct pages_coverage c;

    (void)state;
    assert_int_equal(pages__coverage_read(FAMILY, &c), ERR_OK);
    assert_int_equal(c.count, 0);
    pages__coverage_fini(&c);
    assert_int_equal(pages__coverage_take(&c), ERR_OK);
    assert_int_equal(c.count, 0);
    pages__coverage_fini(&c);
}

static void set_some(void)
{
    series_set(FAMILY, LABELS("secrets", "current"), 5);
    series_set(FAMILY, LABELS("secrets", "plaintext"), 2);
    series_set(FAMILY, LABELS("configmaps", "unreadable"), 1);
    series_set(FAMILY, LABELS("secrets", "older"), 0);
    series_set(FAMILY, LABELS("secrets", "of another time"), 7);
    series_set(FAMILY, LABELS("configmaps", "current"), 3);
}

/* By resource, in the order of their names; a state that is not known is not counted as another. */
static void test_rows(void **state)
{
    static const double want[2][COVERAGE_STATES] = {{3, 0, 0, 1}, {5, 0, 2, 0}};
    struct pages_coverage c;

    (void)state;
    set_some();
    assert_int_equal(pages__coverage_read(FAMILY, &c), ERR_OK);
    assert_int_equal(c.count, 2);
    assert_string_equal(c.rows[0].resource, "configmaps");
    assert_string_equal(c.rows[1].resource, "secrets");
    for (size_t i = 0; i < COVERAGE_STATES; i++) {
        assert_true(c.rows[0].counts[i] == want[0][i] && c.rows[1].counts[i] == want[1][i]);
        assert_true(c.totals[i] == want[0][i] + want[1][i]);
    }
    pages__coverage_fini(&c);
    pages__coverage_fini(&c); /* is due in any case */
}

static enum err read_once(void)
{
    struct pages_coverage c;
    enum err e = pages__coverage_read(FAMILY, &c);

    assert_true(e == ERR_OK || c.count == 0);
    pages__coverage_fini(&c);
    return e;
}

static void test_no_memory(void **state)
{
    (void)state;
    set_some();
    alloc_fail_each(read_once, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_nobody_has_looked, forget),
        cmocka_unit_test_teardown(test_rows, forget),
        cmocka_unit_test_teardown(test_no_memory, forget),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
