/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/config_int.h"

static void test_values(void **state)
{
    static const char doc[] = "\t{\"a\": [1, -2, 0.5, 1e3, true, false, null, \"x\"],\n"
                              "\"b\":{} , \"c\" : [ ] }\r\n";
    struct tree t;
    const struct node *a;

    (void)state;
    assert_int_equal(config__read(bytes_str(doc), &t), ERR_OK);
    assert_false(t.has_more);
    a = config__get(t.root, "a");
    assert_int_equal(a->count, 8);
    assert_int_equal(a->items[0]->kind, NODE_INT);
    assert_true(a->items[1]->number == -2);
    assert_int_equal(a->items[2]->kind, NODE_FLOAT);
    assert_int_equal(a->items[3]->kind, NODE_FLOAT); /* no integer in JSON, unlike in YAML */
    assert_true(a->items[4]->boolean);
    assert_int_equal(a->items[5]->kind, NODE_BOOL);
    assert_int_equal(a->items[6]->kind, NODE_NULL);
    assert_string_equal(a->items[7]->text, "x");
    assert_int_equal(config__get(t.root, "b")->kind, NODE_MAP);
    assert_int_equal(config__get_count(t.root, "c"), 0);
    config__tree_fini(&t);
}

/* What Go calls white space before a '{' makes it JSON, which knows less of it. */
static void test_what_is_json(void **state)
{
    static const char *const odd[] = {
        "\v",           "\f",           "\xc2\x85",     "\xc2\xa0",     "\xe1\x9a\x80",
        "\xe2\x80\x80", "\xe2\x80\x8a", "\xe2\x80\xa8", "\xe2\x80\xa9", "\xe2\x80\xaf",
        "\xe2\x81\x9f", "\xe3\x80\x80", " \xc2\x85\n"};
    /* U+200B and U+FEFF are none: YAML, for which the first is the beginning of a word. */
    static const char *const yaml[] = {"\xef\xbb\xbf{a: 1}", "# c\n{a: 1}", "\xe2\x80\x8b{a: 1"};
    struct tree t;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(odd); i++) {
        char doc[32];

        snprintf(doc, sizeof(doc), "%s{\"a\": 1}", odd[i]);
        assert_int_equal(config__read(bytes_str(doc), &t), ERR_CONFIG);
        config__tree_fini(&t);
    }
    for (size_t i = 0; i < ARRAY_LEN(yaml); i++) {
        enum err e = config__read(bytes_str(yaml[i]), &t);

        if (e != ERR_OK && strstr(t.problem, "column") == NULL) /* libyaml's words */
            fail_msg("%s", t.problem);
        config__tree_fini(&t);
    }
}

static void test_strings(void **state)
{
    static const struct {
        const char *text;
        const char *value;
    } cases[] = {
        {"\"\"", ""},
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t"},
        {"\"\\u0041\\u00e9\\u20AC\"", "A\xc3\xa9\xe2\x82\xac"},
        {"\"\\ud83d\\ude00\"", "\xf0\x9f\x98\x80"},
        {"\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"", "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"},
        {"\"a\\\\\"", "a\\"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct tree t = {0};

        if (config__read_json(bytes_str(cases[i].text), &t) != ERR_OK)
            fail_msg("%s: %s", cases[i].text, t.problem);
        assert_string_equal(t.root->text, cases[i].value);
        assert_int_equal(t.root->text_len, strlen(cases[i].value));
        config__tree_fini(&t);
    }
}

static void assert_bad(struct bytes doc)
{
    struct tree t = {0};
    enum err e = config__read_json(doc, &t);

    if (e != ERR_CONFIG || t.problem[0] == '\0')
        fail_msg("\"%.*s\": %s", (int)doc.n, doc.p, err_reason(e));
    assert_null(strstr(t.problem, "TOPSECRET"));
    config__tree_fini(&t);
}

static void test_refused(void **state)
{
    static const char *const docs[] = {
        "",
        "{",
        "{]",
        "[1",
        "[1,]",
        "{\"a\":1,}",
        "{a:1}",
        "{'a':1}",
        "{\"a\" 1}",
        "{\"a\":}",
        "{\"a\":1 \"b\":2}",
        "[1 2]",
        "{} {}",
        "{}x",
        "{},",
        "nul",
        "TRUE",
        "01",
        "-",
        "1.",
        ".5",
        "1e",
        "+1",
        "0x1",
        "NaN",
        "\"a",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\"\\ud83d\"",
        "\"\\ud83dx\"",
        "\"\\ud83d\\u0041\"",
        "\"\\ude00\"",
        "\"a\tb\"",
        "\"a\nb\"",
        "\"\\\"",
        "\"\\",
        "\"\xff\"",
        "\"\xc3\"",
        "\"\xc0\x80\"",
        "\"\xed\xa0\x80\"",
        "\"\xf4\x90\x80\x80\"",
        "\"\xe0\x80\x80\"",
        "# c\n{}",
        "{} # c",
        "{\"s\": \"TOPSECRET",
        "{\"s\": TOPSECRET}",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(docs); i++)
        assert_bad(bytes_str(docs[i]));
    assert_bad(bytes_of("\"a\\\0\"", 5));
    assert_bad(bytes_of("[1,\0]", 5));
}

/* Every beginning of a document is refused, wherever it is cut. */
static void test_cut(void **state)
{
    static const char doc[] = "{\"a\":[1.5e1,\"x\\u00e9\\n\",{\"b\":null}],\"c\":true}";

    (void)state;
    for (size_t n = 0; n < sizeof(doc) - 1; n++) {
        uint8_t *copy = malloc(n + 1); /* to measure, so that a sanitizer sees reads behind it */

        memcpy(copy, doc, n);
        assert_bad(bytes_of(copy, n));
        free(copy);
    }
}

static void test_bounds(void **state)
{
    char *doc = malloc(2 * CONFIG_MAX_NODES + 10);
    struct tree t = {0};

    (void)state;
    memset(doc, '[', CONFIG_MAX_DEPTH);
    memset(doc + CONFIG_MAX_DEPTH, ']', CONFIG_MAX_DEPTH);
    assert_int_equal(config__read_json(bytes_of(doc, 2 * CONFIG_MAX_DEPTH), &t), ERR_OK);
    config__tree_fini(&t);
    memset(doc, '[', 2 * CONFIG_MAX_NODES);
    assert_bad(bytes_of(doc, 2 * CONFIG_MAX_NODES));
    doc[0] = '[';
    for (size_t i = 0; i <= CONFIG_MAX_NODES; i++)
        memcpy(doc + 1 + 2 * i, i == CONFIG_MAX_NODES ? "1]" : "1,", 2);
    assert_bad(bytes_of(doc, 2 * CONFIG_MAX_NODES + 3));
    free(doc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),  cmocka_unit_test(test_what_is_json),
        cmocka_unit_test(test_strings), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_cut),     cmocka_unit_test(test_bounds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
