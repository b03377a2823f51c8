/* SPDX-License-Identifier: Apache-2.0 */
#include "pages/history.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/metrics.h"
#include "rig.h"

static void test_span(void **state)
{
    struct history_point from = {.at_ms = 1000, .calls = 10, .sealed = 5, .unreadable = 1},
                         to = from;
    struct history_span span;

    (void)state;
    to.at_ms += 2500;
    to.calls += 100;
    to.failed = 10;
    to.sealed += 25;
    to.opened = 50;
    to.unreadable = 4;
    histogram_observe(&from.added, SERIES_ADDED_TIME, 1, 1000); /* of before: no matter */
    to.added = from.added;
    pages__history_span(&from, &to, &span);
    assert_true(span.seconds == 2.5 && span.calls_rate == 40 && span.failed_rate == 4);
    assert_true(span.sealed_rate == 10 && span.opened_rate == 20 && span.unreadable == 3);
    assert_true(isnan(span.p50_s) && isnan(span.p99_s));
    histogram_observe(&to.added, SERIES_ADDED_TIME, 0.001, 100);
    pages__history_span(&from, &to, &span);
    assert_true(span.p50_s > 0.0005 && span.p50_s < span.p99_s && span.p99_s < 0.002);
}

/* Two looks within a millisecond: no rate is infinite. */
static void test_span_of_no_time(void **state)
{
    struct history_point from = {.at_ms = 5, .calls = 1}, to = {.at_ms = 5, .calls = 2};
    struct history_span span;

    (void)state;
    pages__history_span(&from, &to, &span);
    assert_true(span.seconds == 0 && span.calls_rate == 0);
}

/* What is counted where: a call that its client gave up has not failed, and what a KMS does not
 * give is no unreadable value. */
static void test_point(void **state)
{
    struct history_point before, after;

    (void)state;
    pages__history_now(rig.source.history, &before);
    series_add(SERIES_CALLS, LABELS("OK", "/a"), 3);
    series_add(SERIES_CALLS, LABELS("Canceled", "/a"), 2);
    series_add(SERIES_CALLS, LABELS("Unavailable", "/b"), 1);
    metric_add(METRIC_values_sealed_total, 4);
    metric_add(METRIC_values_opened_total, 5);
    metric_refused(ERR_AUTH_FAILED);
    metric_refused(ERR_KMS_AWAY);
    series_observe(SERIES_ADDED_TIME, LABELS("/a"), 0.01);
    series_observe(SERIES_ADDED_TIME, LABELS("/b"), 0.01);
    pages__history_now(rig.source.history, &after);
    assert_true(after.calls - before.calls == 6 && after.failed - before.failed == 1);
    assert_true(after.sealed - before.sealed == 4 && after.opened - before.opened == 5);
    assert_true(after.unreadable - before.unreadable == 1);
    assert_int_equal(histogram_count(&after.added) - histogram_count(&before.added), 2);
}

/* One more than it keeps: the oldest one went, and the rest is in order. */
static void test_ring(void **state)
{
    struct history *h = rig.source.history;
    struct history_point now;
    size_t n = 0;

    (void)state;
    assert_int_equal(pages__history_count(h), 1);
    for (; n < HISTORY_POINTS + 7; n++) {
        metric_add(METRIC_values_sealed_total, 1);
        pages__history_take(h);
    }
    assert_int_equal(pages__history_count(h), HISTORY_POINTS);
    pages__history_now(h, &now);
    for (size_t i = 0; i < HISTORY_POINTS; i++)
        assert_true(pages__history_at(h, i)->sealed ==
                    now.sealed - (double)(HISTORY_POINTS - 1 - i));
    assert_ptr_equal(pages__last_minute(h, &now), pages__history_at(h, 0));
    now.at_ms += 60000; /* then the newest is a minute old */
    assert_ptr_equal(pages__last_minute(h, &now), pages__history_at(h, HISTORY_POINTS - 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_span),
        cmocka_unit_test(test_span_of_no_time),
        cmocka_unit_test_setup_teardown(test_point, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_ring, rig_setup, rig_teardown),
    };

    return cmocka_run_group_tests(tests, rig_setup_all, NULL);
}
