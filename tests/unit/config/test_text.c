/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "config/config_int.h"

static void test_durations(void **state)
{
    static const struct {
        const char *text;
        int64_t ns;
    } good[] = {
        {"0", 0},
        {"+0", 0},
        {"-0", 0},
        {"0s", 0},
        {"1ns", 1},
        {"1us", 1000},
        {"1\xc2\xb5s", 1000},
        {"1\xce\xbcs", 1000},
        {"300ms", 300000000},
        {"1.5s", 1500000000},
        {"-1.5h", -5400 * INT64_C(1000000000)},
        {"1h2m3s", 3723 * INT64_C(1000000000)},
        {".5s", 500000000},
        {"5.s", 5 * INT64_C(1000000000)},
        {"1s1s", 2 * INT64_C(1000000000)},
        {"9223372036854775807ns", INT64_MAX},
    };
    static const struct {
        const char *text;
        const char *problem;
    } bad[] = {
        {"", "invalid duration"},
        {"-", "invalid duration"},
        {"abc", "invalid duration"},
        {".s", "invalid duration"},
        {" 1s", "invalid duration"},
        {"1s ", "unknown unit"},
        {"3s5", "missing unit"},
        {"3", "missing unit"},
        {"1.5", "missing unit"},
        {"1d", "unknown unit"},
        {"1S", "unknown unit"},
        {"1s-1s", "unknown unit"},
        {"9223372036854775808ns", "invalid duration"},
        {"99999999999999999999s", "invalid duration"},
        {"9223372036s1h", "invalid duration"},
        {"2562048h", "invalid duration"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        int64_t ns = -7;

        assert_null(config__duration(good[i].text, &ns));
        assert_true(ns == good[i].ns);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        int64_t ns;
        const char *problem = config__duration(bad[i].text, &ns);

        if (problem == NULL || strstr(problem, bad[i].problem) == NULL)
            fail_msg("\"%s\": %s", bad[i].text, problem != NULL ? problem : "accepted");
    }
}

static void test_base64(void **state)
{
    static const struct {
        const char *text;
        const char *bytes;
    } good[] = {
        {"", ""},
        {"\n", ""},
        {"QQ==", "A"},
        {"QUI=", "AB"},
        {"QUJD", "ABC"},
        {"QUJDRA==", "ABCD"},
        {"Q\r\nUJ\nD", "ABC"},
        {"QQ=\n=\n", "A"},
        {"QR==", "A"},
        {"QUJ=", "AB"},
        {"+/+/", "\xfb\xff\xbf"},
    };
    static const char *const bad[] = {"Q",    "QQ",    "QQ=",   "QQ=QQ", "=",
                                      "Q===", "QQ===", "QUI==", "QUJD=", "QQ==QQ==",
                                      "Q Q=", "QQ== ", "_-==",  "QUJD!"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        uint8_t out[16];
        size_t len = 99;
        size_t only_len = 99;

        assert_true(config__base64(good[i].text, strlen(good[i].text), out, &len));
        assert_true(config__base64(good[i].text, strlen(good[i].text), NULL, &only_len));
        assert_int_equal(len, strlen(good[i].bytes));
        assert_int_equal(only_len, len);
        assert_memory_equal(out, good[i].bytes, len);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        size_t len;

        if (config__base64(bad[i], strlen(bad[i]), NULL, &len))
            fail_msg("\"%s\" is accepted", bad[i]);
    }
}

static void test_endpoints(void **state)
{
    static const struct {
        const char *text;
        const char *scheme;
        const char *path;
    } good[] = {
        {"unix:///run/a.sock", "unix", "/run/a.sock"},
        {"unix:/run/a.sock", "unix", "/run/a.sock"},
        {"UNIX:///a", "unix", "/a"},
        {"unix:///@name", "unix", "/@name"},
        {"unix://a/b", "unix", "/b"},
        {"unix://user:p@a:80/b", "unix", "/b"},
        {"unix://[::1]:1/b", "unix", "/b"},
        {"unix:///a%20b%2f", "unix", "/a b/"},
        {"unix:///a b", "unix", "/a b"},
        {"unix:///a?x=1", "unix", "/a"},
        {"unix:///a?%zz", "unix", "/a"},
        {"unix:///a#f", "unix", "/a"},
        {"unix://", "unix", ""},
        {"unix:a", "unix", ""},
        {"unix:", "unix", ""},
        {"/run/a", "", "/run/a"},
        {"unix", "", "unix"},
        {"1a/b", "", "1a/b"},
        {"///a:b", "", "///a:b"},
        {"tcp://127.0.0.1:1", "tcp", ""},
        {"a+b-c.1:/x", "a+b-c.1", "/x"},
    };
    static const struct {
        const char *text;
        const char *problem;
    } bad[] = {
        {":", "missing protocol scheme"},      {"://a", "missing protocol scheme"},
        {"unix:///%zz", "invalid URL escape"}, {"unix:///%", "invalid URL escape"},
        {"unix:///%2", "invalid URL escape"},  {"unix:///a#%zz", "invalid URL escape"},
        {"unix:///a\nb", "control character"}, {"unix:///a\x7f", "control character"},
        {"1:2", "first path segment"},         {"unix://a b/c", "invalid character in host"},
        {"unix://a:b/c", "invalid port"},      {"unix://[::1/c", "missing ']'"},
        {"unix://[::1]x/c", "invalid port"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        char scheme[CONFIG_SCHEME_MAX];
        char path[64];
        const char *problem = config__endpoint(good[i].text, scheme, path);

        if (problem != NULL || strcmp(scheme, good[i].scheme) != 0 ||
            strcmp(path, good[i].path) != 0)
            fail_msg("%s: %s \"%s\" \"%s\"", good[i].text, problem, scheme, path);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        char scheme[CONFIG_SCHEME_MAX];
        char path[64];
        const char *problem = config__endpoint(bad[i].text, scheme, path);

        if (problem == NULL || strstr(problem, bad[i].problem) == NULL)
            fail_msg("%s: %s", bad[i].text, problem != NULL ? problem : "accepted");
    }
}

static void test_group_resources(void **state)
{
    struct group_resource gr = config__group_resource("pandas.bears.example");

    (void)state;
    assert_true(bytes_eq(gr.plural, BYTES_LIT("pandas")));
    assert_true(bytes_eq(gr.group, BYTES_LIT("bears.example")));
    assert_true(config__group_resource_eq(config__group_resource("secrets"),
                                          config__group_resource("secrets.")));
    assert_false(config__group_resource_eq(config__group_resource("secrets"),
                                           config__group_resource("secrets.a")));
    assert_true(bytes_eq(config__group_resource(".a").plural, BYTES_LIT("")));
}

static void test_dns_names(void **state)
{
    static const char *const labels[] = {"a", "a1", "1", "a-b", "0a"};
    static const char *const domains[] = {"a.b", "networking.k8s.io", "a-1.b-2"};
    static const char *const neither[] = {"",     "-",  "-a", "a-",   "a_b",  "A", "a b",     "a/b",
                                          "a..b", ".a", "a.", "a.-b", "a-.b", "*", "\xc3\xa9"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(labels); i++) {
        assert_true(config__is_dns_name(bytes_str(labels[i]), false));
        assert_true(config__is_dns_name(bytes_str(labels[i]), true));
    }
    for (size_t i = 0; i < ARRAY_LEN(domains); i++) {
        assert_false(config__is_dns_name(bytes_str(domains[i]), false));
        assert_true(config__is_dns_name(bytes_str(domains[i]), true));
    }
    for (size_t i = 0; i < ARRAY_LEN(neither); i++) {
        assert_false(config__is_dns_name(bytes_str(neither[i]), false));
        assert_false(config__is_dns_name(bytes_str(neither[i]), true));
    }
}

static void test_paths(void **state)
{
    static const struct {
        const char *path;
        const char *normal;
        bool is_bad;
    } cases[] = {
        {"", "", false},
        {"/", "", false},
        {"//", "", false},
        {"registry", "/registry", false},
        {"//a///b/", "/a/b", false},
        {"a/..b/.c", "/a/..b/.c", false},
        {"/a/./b", "/a/./b", true},
        {"..", "/..", true},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        bool is_bad = false;
        char *normal = config__normalise(cases[i].path, &is_bad);

        assert_non_null(normal);
        assert_string_equal(normal, cases[i].normal);
        assert_int_equal(is_bad, cases[i].is_bad);
        free(normal);
    }
    assert_true(config__lies_in("/a/b", "/a"));
    assert_true(config__lies_in("/a", "/a"));
    assert_true(config__lies_in("/a", ""));
    assert_false(config__lies_in("/ab", "/a"));
    assert_false(config__lies_in("/a", "/a/b"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_durations), cmocka_unit_test(test_base64),
        cmocka_unit_test(test_endpoints), cmocka_unit_test(test_group_resources),
        cmocka_unit_test(test_dns_names), cmocka_unit_test(test_paths),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
