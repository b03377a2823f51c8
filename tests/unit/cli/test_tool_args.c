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
    bool is_dry;
    struct cli__texts resources;
    struct cli__args args;
    char why[128];
    enum err err;
};

static struct given take(int argc, char *const argv[])
{
    struct given g = {0};
    const struct cli__flag flags[] = {{.name = "key", .value = &g.key},
                                      {.name = "input", .value = &g.input},
                                      {.name = "dry-run", .is_on = &g.is_dry},
                                      {.name = "resource", .texts = &g.resources}};

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

static void test_switches_take_no_value(void **state)
{
    static const struct {
        const char *text;
        bool is_on, is_bad;
    } cases[] = {{"--dry-run", true, false},
                 {"--dry-run=true", true, false},
                 {"--dry-run=false", false, false},
                 {"--dry-run=", false, true},
                 {"--dry-run=yes", false, true}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct given g = take(2, ARGV((char *)(uintptr_t)cases[i].text, "rest"));

        assert_int_equal(g.err, cases[i].is_bad ? ERR_CONFIG : ERR_OK);
        assert_int_equal(g.is_dry, cases[i].is_on);
        assert_int_equal(g.args.rest_count, cases[i].is_bad ? 0 : 1);
        free(g.args.rest);
    }
}

static void test_lists_grow(void **state)
{
    struct given g = take(5, ARGV("--resource", "a", "--resource=b", "--resource", ""));

    (void)state;
    assert_int_equal(g.err, ERR_OK);
    assert_int_equal(g.resources.count, 3);
    assert_string_equal(g.resources.v[0], "a");
    assert_string_equal(g.resources.v[1], "b");
    assert_string_equal(g.resources.v[2], "");
    free(g.resources.v);
    free(g.args.rest);
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
        cmocka_unit_test(test_switches_take_no_value),
        cmocka_unit_test(test_lists_grow),
        cmocka_unit_test(test_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
