/* SPDX-License-Identifier: Apache-2.0 */
/* Counters of many threads. */
#include "base/metrics.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define ADDS 1000

static void *count(void *arg)
{
    (void)arg;
    for (int i = 0; i < ADDS; i++) {
        metric_add(METRIC_calls_total, 3);
        metric_add(METRIC_links, 2);
        metric_sub(METRIC_links, 1);
        metric_refused(ERR_PROTOBUF);
    }
    return NULL;
}

static void *lower(void *arg)
{
    metric_sub(METRIC_links, *(const uint64_t *)arg);
    return NULL;
}

static void run(pthread_t *threads, size_t n)
{
    for (size_t i = 0; i < n; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, count, NULL), 0);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
}

/* Nothing is lost, also when there are more threads than blocks (the last is shared then), and when
 * the threads have ended. */
static void threads_add_up(void **state)
{
    static pthread_t threads[8];
    uint64_t done = 0;

    (void)state;
    for (int round = 0; round < 50; round++) {
        run(threads, ARRAY_LEN(threads));
        done += ARRAY_LEN(threads) * ADDS;
        assert_int_equal(metric_get(METRIC_calls_total), 3 * done);
        assert_int_equal(metric_get(METRIC_links), done);
        assert_int_equal(metric_refused_get(ERR_PROTOBUF), done);
    }
}

/* What one thread raised another may lower. */
static void a_gauge_of_two_threads(void **state)
{
    uint64_t before = metric_get(METRIC_links);
    pthread_t thread;

    (void)state;
    metric_add(METRIC_links, 5);
    before += 5;
    assert_int_equal(pthread_create(&thread, NULL, lower, &before), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(metric_get(METRIC_links), 0);
}

/* Only the want of room is shedding; what one client did wrong is not. */
static void room_that_was_missing(void **state)
{
    static const enum err others[] = {ERR_PROTOBUF,     ERR_REQUEST_STALLED, ERR_CONNECTION_SHARE,
                                      ERR_FLOOD,        ERR_STREAM_LIMIT,    ERR_CONNECTION_MEMORY,
                                      ERR_STREAM_MEMORY};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        metric_refused(others[i]);
    assert_true(metric_shed_ago_ms() == UINT64_MAX);
    metric_refused(ERR_MEMORY_LIMIT);
    assert_in_range(metric_shed_ago_ms(), 0, 60000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_add_up),
        cmocka_unit_test(a_gauge_of_two_threads),
        cmocka_unit_test(room_that_was_missing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
