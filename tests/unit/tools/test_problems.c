/* SPDX-License-Identifier: Apache-2.0 */
/* What a proxy says is wrong, wherever it stands in /statusz, and of whatever else is no JSON of
 * that form: nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/json.h"
#include "tools/problems.h"

/* Everything that has no business there: names of ours at other depths, arrays within arrays. */
static void put_noise(struct json *j, const char *name)
{
    json_open(j, name, '{');
    json_open(j, "problems", '[');
    json_open(j, NULL, '{');
    json_text(j, "title", "not this one");
    json_close(j, '}');
    json_close(j, ']');
    json_open(j, "title", '[');
    json_open(j, NULL, '[');
    json_number(j, NULL, 5);
    json_close(j, ']');
    json_nothing(j, NULL);
    json_close(j, ']');
    json_close(j, '}');
}

static void put_problem(struct json *j, size_t i)
{
    char title[64];

    snprintf(title, sizeof title, "%zu: \"quoted\", [x]: {y} # \\ \n", i);
    json_open(j, NULL, '{');
    put_noise(j, "more");
    json_text(j, "severity", "warning");
    json_text(j, "about", "values");
    json_text(j, "title", title);
    json_text(j, "effect", "long");
    put_noise(j, "reason");
    json_close(j, '}');
}

/* The caller's to free. */
static char *make(size_t count, size_t *n)
{
    char *text = NULL;
    struct json j = {.f = open_memstream(&text, n)};

    assert_non_null(j.f);
    json_open(&j, NULL, '{');
    json_text(&j, "summary", "problems");
    put_noise(&j, "before");
    json_open(&j, "problems", '[');
    for (size_t i = 0; i < count; i++)
        put_problem(&j, i);
    json_close(&j, ']');
    put_noise(&j, "behind");
    json_text(&j, "title", "nor this");
    json_close(&j, '}');
    fclose(j.f);
    return text;
}

static void test_each_is_found(void **state)
{
    static struct tools_problems out;

    (void)state;
    for (size_t count = 0; count < TOOLS_PROBLEMS_MAX + 3; count++) {
        size_t n;
        char *text = make(count, &n);

        assert_int_equal(tools_problems_read(bytes_of(text, n), &out), ERR_OK);
        assert_int_equal(out.count, count < TOOLS_PROBLEMS_MAX ? count : TOOLS_PROBLEMS_MAX);
        for (size_t i = 0; i < out.count; i++) {
            char title[64];

            snprintf(title, sizeof title, "%zu: 'quoted', [x]: {y} # \\ ?", i);
            assert_string_equal(out.v[i].severity, "warning");
            assert_string_equal(out.v[i].about, "values");
            assert_string_equal(out.v[i].title, title);
        }
        free(text);
    }
}

/* Cut anywhere it is no JSON, and one byte that differs makes nothing worse than other texts. */
static void test_broken(void **state)
{
    static struct tools_problems out;
    size_t n;
    char *text = make(2, &n);

    (void)state;
    for (size_t cut = 0; cut < n; cut++) {
        char kept = text[cut];

        assert_int_equal(tools_problems_read(bytes_of(text, cut), &out), ERR_CONFIG);
        assert_int_equal(out.count, 0);
        for (size_t c = 0; c < 4; c++) {
            text[cut] = "}]\"\x80"[c];
            if (tools_problems_read(bytes_of(text, n), &out) == ERR_OK)
                assert_true(out.count <= 2);
            else
                assert_int_equal(out.count, 0);
        }
        text[cut] = kept;
    }
    free(text);
}

static void test_no_such_member(void **state)
{
    static const char *const texts[] = {"",
                                        "404 page not found\n",
                                        "{}",
                                        "[]",
                                        "{\"problems\": 3}",
                                        "[{\"problems\": []}]",
                                        "{\"a\": {\"problems\": []}}"};
    static struct tools_problems out;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        assert_int_equal(tools_problems_read(bytes_str(texts[i]), &out), ERR_CONFIG);
}

/* Of somebody else's making: neither ends the process nor keeps it busy. */
static void test_hostile(void **state)
{
    static const char *const begins[] = {
        "{\"problems\": ", "", "{'\"': ", "{\"a\\\": ", "- ", "{#\"\n"};
    static const char *const more[] = {"[", "{\"a\":", "- ", "[\"", "? "};
    static struct tools_problems out;
    const size_t room = 200000;
    char *text = malloc(room + 1);

    (void)state;
    assert_non_null(text);
    alarm(60); /* one of them took longer */
    assert_int_equal(tools_problems_read(bytes_of(NULL, 0), &out), ERR_CONFIG);
    for (size_t i = 0; i < ARRAY_LEN(begins); i++)
        for (size_t k = 0; k < ARRAY_LEN(more); k++) {
            size_t n = (size_t)snprintf(text, room, "%s", begins[i]), len = strlen(more[k]);

            for (; n + len < room; n += len)
                memcpy(text + n, more[k], len);
            assert_int_equal(tools_problems_read(bytes_of(text, n), &out), ERR_CONFIG);
        }
    alarm(0);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_is_found), cmocka_unit_test(test_broken),
        cmocka_unit_test(test_no_such_member), cmocka_unit_test(test_hostile)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
