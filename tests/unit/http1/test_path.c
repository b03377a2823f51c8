/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "http1/http1.h"

static enum http1_path clean(const char *text, char out[static HTTP1_TARGET_MAX])
{
    char path[HTTP1_TARGET_MAX];

    snprintf(path, sizeof path, "%s", text);
    return http1_path_clean(path, out);
}

static void as_go_cleans(void **state)
{
    static const struct {
        const char *path, *out;
        enum http1_path kind;
    } cases[] = {
        {"/", "/", HTTP1_PATH_CLEAN},
        {"/a", "/a", HTTP1_PATH_CLEAN},
        {"/a/b/", "/a/b/", HTTP1_PATH_CLEAN},
        {"/%61/%2562", "/a/%62", HTTP1_PATH_CLEAN}, /* decoded once */
        {"/a%2Fb", "/a/b", HTTP1_PATH_CLEAN},
        {"/a%0d%0ab", "/a\r\nb", HTTP1_PATH_CLEAN},
        {"/...", "/...", HTTP1_PATH_CLEAN},
        {"/.a/..b", "/.a/..b", HTTP1_PATH_CLEAN},
        {"//", "/", HTTP1_PATH_UNCLEAN},
        {"//a", "/a", HTTP1_PATH_UNCLEAN},
        {"/a//b", "/a/b", HTTP1_PATH_UNCLEAN},
        {"/a/", "/a/", HTTP1_PATH_CLEAN},
        {"/a//", "/a/", HTTP1_PATH_UNCLEAN},
        {"/./a", "/a", HTTP1_PATH_UNCLEAN},
        {"/a/.", "/a", HTTP1_PATH_UNCLEAN},
        {"/a/./", "/a/", HTTP1_PATH_UNCLEAN},
        {"/a/..", "/", HTTP1_PATH_UNCLEAN},
        {"/a/../b", "/b", HTTP1_PATH_UNCLEAN},
        {"/../../b", "/b", HTTP1_PATH_UNCLEAN},
        {"/a/b/../../../c/", "/c/", HTTP1_PATH_UNCLEAN},
        {"/a/%2e%2E/b", "/b", HTTP1_PATH_UNCLEAN},
        {"/a%2f..%2fb", "/b", HTTP1_PATH_UNCLEAN},
    };
    char out[HTTP1_TARGET_MAX];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(clean(cases[i].path, out), cases[i].kind);
        assert_string_equal(out, cases[i].out);
        /* What is clean stays so: nobody is redirected twice. */
        if (strchr(out, '%') == NULL) {
            char again[HTTP1_TARGET_MAX];

            assert_int_equal(clean(out, again), HTTP1_PATH_CLEAN);
            assert_string_equal(again, out);
        }
    }
}

static void no_paths(void **state)
{
    static const char *const cases[] = {"", "*", "a", "/%", "/%4", "/%zz", "/%0g", "/a%00b", "a/b"};
    char out[HTTP1_TARGET_MAX];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_int_equal(clean(cases[i], out), HTTP1_PATH_BAD);
}

static void the_longest(void **state)
{
    char path[HTTP1_TARGET_MAX], out[HTTP1_TARGET_MAX];

    (void)state;
    memset(path, 'a', sizeof path);
    path[0] = '/';
    path[sizeof path - 1] = '\0';
    assert_int_equal(http1_path_clean(path, out), HTTP1_PATH_CLEAN);
    assert_string_equal(out, path);
    memset(path, '/', sizeof path - 1);
    assert_int_equal(http1_path_clean(path, out), HTTP1_PATH_UNCLEAN);
    assert_string_equal(out, "/");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_go_cleans),
        cmocka_unit_test(no_paths),
        cmocka_unit_test(the_longest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
