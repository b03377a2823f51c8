/* SPDX-License-Identifier: Apache-2.0 */
#include "pages/words.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char out[PAGES_WORDS];

static void test_sizes(void **state)
{
    (void)state;
    assert_string_equal(pages__size_words(0, out), "0 bytes");
    assert_string_equal(pages__size_words(1, out), "1 byte");
    assert_string_equal(pages__size_words(1023, out), "1023 bytes");
    assert_string_equal(pages__size_words(1024, out), "1.0 KiB");
    assert_string_equal(pages__size_words((1 << 20) - 1, out), "1.0 MiB");
    assert_string_equal(pages__size_words(12902400, out), "12.3 MiB");
    assert_string_equal(pages__size_words(UINT64_MAX, out), "16384.0 PiB");
}

static void test_durations(void **state)
{
    (void)state;
    assert_string_equal(pages__duration_words(-5, out), "0 seconds");
    assert_string_equal(pages__duration_words(0, out), "0 seconds");
    assert_string_equal(pages__duration_words(1, out), "1 second");
    assert_string_equal(pages__duration_words(61, out), "1 minute 1 second");
    assert_string_equal(pages__duration_words(3600, out), "1 hour");
    assert_string_equal(pages__duration_words(2 * 86400 + 7299, out), "2 days 2 hours");
    assert_true(strlen(pages__duration_words(INT64_MAX, out)) < PAGES_WORDS);
}

static void test_numbers(void **state)
{
    (void)state;
    assert_string_equal(pages__number_words(0, out), "0");
    assert_string_equal(pages__number_words(0.5, out), "0.50");
    assert_string_equal(pages__number_words(9.994, out), "9.99");
    assert_string_equal(pages__number_words(9.996, out), "10.0");
    assert_string_equal(pages__number_words(99.94, out), "99.9");
    assert_string_equal(pages__number_words(99.96, out), "100");
    assert_string_equal(pages__number_words(1234567.4, out), "1,234,567");
    assert_true(strlen(pages__number_words(1e300, out)) < PAGES_WORDS);
    assert_string_equal(pages__count_words(0, out), "0");
    assert_string_equal(pages__count_words(999, out), "999");
    assert_string_equal(pages__count_words(1000, out), "1,000");
    assert_string_equal(pages__count_words(UINT64_MAX, out), "18,446,744,073,709,551,615");
}

static void test_latencies(void **state)
{
    (void)state;
    assert_string_equal(pages__latency_words(NAN, out), "-");
    assert_string_equal(pages__latency_words(85e-6, out), "85.0 \xc2\xb5s");
    assert_string_equal(pages__latency_words(0.00099949, out), "999 \xc2\xb5s");
    assert_string_equal(pages__latency_words(0.0009996, out), "1.00 ms");
    assert_string_equal(pages__latency_words(0.0123, out), "12.3 ms");
    assert_string_equal(pages__latency_words(12.3, out), "12,300 ms");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_durations),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_latencies),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
