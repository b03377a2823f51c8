/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tools/samples.h"

static void test_samples(void **state)
{
    static const char text[] = "# HELP a b\n"
                               "# TYPE a gauge\n"
                               "\n"
                               "plain 5\n"
                               "labels{hash=\"sha256:x\",other=\"a,b=}\\\"c\\\\\"} 1.5e3\n"
                               "cut{hash=\"x\n"
                               "none{} -2\n"
                               "word x\n"
                               "name\n"
                               "{} 3\n"
                               "last{x=\"\"} +Inf";
    static const struct {
        const char *name, *hash, *other;
    } wanted[] = {{"plain", "", ""},
                  {"labels", "sha256:x", "a,b=}\\\"c\\\\"},
                  {"none", "", ""},
                  {"last", "", ""}};
    struct bytes rest = bytes_of(text, sizeof text - 1);
    struct tools_sample s;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
        assert_true(tools_samples_next(&rest, &s));
        assert_true(bytes_eq(s.name, bytes_str(wanted[i].name)));
        assert_true(bytes_eq(tools_sample_label(&s, "hash"), bytes_str(wanted[i].hash)));
        assert_true(bytes_eq(tools_sample_label(&s, "other"), bytes_str(wanted[i].other)));
        assert_true(i != 1 || s.value == 1500);
        assert_true(i != 2 || s.value == -2);
    }
    assert_false(tools_samples_next(&rest, &s));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_samples)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
