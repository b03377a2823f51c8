/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "cli/cli_int.h"

#define ARGV(...)                                                                                  \
    (char *[])                                                                                     \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }

struct given {
    const char *key, *input;
    struct cli__args args;
    char why[128];
    enum err err;
};

static struct given take(int argc, char *const argv[])
{
    struct given g = {0};
    const struct cli__flag flags[] = {{"key", &g.key}, {"input", &g.input}};

    g.err = cli__args_take(argc, argv, flags, ARRAY_LEN(flags), &g.args, g.why, sizeof g.why);
    return g;
}

static void test_own_flags_are_taken_out(void **state)
{
    struct given g = take(6, ARGV("--etcd-prefix", "/x", "--key=/a=b", "--input", "hex", "rest"));

    (void)state;
    assert_int_equal(g.err, ERR_OK);
    assert_string_equal(g.key, "/a=b");
    assert_string_equal(g.input, "hex");
    assert_int_equal(g.args.rest_count, 3);
    assert_string_equal(g.args.rest[0], "--etcd-prefix");
    assert_string_equal(g.args.rest[1], "/x");
    assert_string_equal(g.args.rest[2], "rest");
    assert_null(g.args.rest[3]);
    assert_false(g.args.wants_help);
    free(g.args.rest);
}

static void test_the_last_of_several_counts(void **state)
{
    struct given g = take(4, ARGV("--key", "/a", "--key=", "--key=/b"));

    (void)state;
    assert_int_equal(g.err, ERR_OK);
    assert_string_equal(g.key, "/b");
    assert_int_equal(g.args.rest_count, 0);
    free(g.args.rest);
}

static void test_names_are_whole(void **state)
{
    struct given g = take(5, ARGV("--keys", "--ke=1", "-key", "key", "--"));

    (void)state;
    assert_int_equal(g.err, ERR_OK);
    assert_null(g.key);
    assert_int_equal(g.args.rest_count, 5);
    free(g.args.rest);
}

static void test_a_value_may_begin_with_dashes(void **state)
{
    struct given g = take(2, ARGV("--key", "--help"));

    (void)state;
    assert_int_equal(g.err, ERR_OK);
    assert_string_equal(g.key, "--help");
    assert_false(g.args.wants_help);
    free(g.args.rest);
}

static void test_help(void **state)
{
    char *const words[] = {"-h", "--help"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        struct given g = take(2, ARGV("--unknown", words[i]));

        assert_int_equal(g.err, ERR_OK);
        assert_true(g.args.wants_help);
        assert_int_equal(g.args.rest_count, 1);
        free(g.args.rest);
    }
}

static void test_a_missing_value(void **state)
{
    struct given g = take(2, ARGV("--input=raw", "--key"));

    (void)state;
    assert_int_equal(g.err, ERR_CONFIG);
    assert_string_equal(g.why, "--key needs a value");
    assert_null(g.args.rest);
}

static void test_nothing(void **state)
{
    struct given g = take(0, NULL);

    (void)state;
    assert_int_equal(g.err, ERR_OK);
    assert_int_equal(g.args.rest_count, 0);
    free(g.args.rest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_own_flags_are_taken_out),
        cmocka_unit_test(test_the_last_of_several_counts),
        cmocka_unit_test(test_names_are_whole),
        cmocka_unit_test(test_a_value_may_begin_with_dashes),
        cmocka_unit_test(test_help),
        cmocka_unit_test(test_a_missing_value),
        cmocka_unit_test(test_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
