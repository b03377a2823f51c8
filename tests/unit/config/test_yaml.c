/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/config_int.h"

/* Reads "v: TEXT" and gives the kind of v. */
static enum node_kind kind_of(const char *text, double *number)
{
    struct tree t = {0};
    char doc[1024];
    enum node_kind kind;

    snprintf(doc, sizeof(doc), "v: %s\n", text);
    if (config__read_yaml(bytes_str(doc), &t) != ERR_OK)
        fail_msg("%s: %s", text, t.problem);
    kind = t.root->items[1]->kind;
    *number = t.root->items[1]->number;
    config__tree_fini(&t);
    return kind;
}

/* Words and numbers as go-yaml v2 takes them: YAML 1.1's words, no base 60. */
static void test_plain_scalars(void **state)
{
    static const struct {
        const char *text;
        enum node_kind kind;
    } cases[] = {
        {"", NODE_NULL},
        {"~", NODE_NULL},
        {"null", NODE_NULL},
        {"NULL", NODE_NULL},
        {"nULL", NODE_STRING},
        {"y", NODE_BOOL},
        {"No", NODE_BOOL},
        {"on", NODE_BOOL},
        {"OFF", NODE_BOOL},
        {"true", NODE_BOOL},
        {"tRue", NODE_STRING},
        {"1", NODE_INT},
        {"+1", NODE_INT},
        {"-1_000", NODE_INT},
        {"0x1F", NODE_INT},
        {"0b11", NODE_INT},
        {"0o17", NODE_INT},
        {"017", NODE_INT},
        {"08", NODE_INT},
        {"0x", NODE_STRING},
        {"0b2", NODE_STRING},
        {"1.5", NODE_FLOAT},
        {".5", NODE_FLOAT},
        {"1e3", NODE_INT},
        {"1.5e-3", NODE_FLOAT},
        {"10.0", NODE_INT},
        {"1e", NODE_STRING},
        {"1e999", NODE_STRING},
        {".", NODE_STRING},

        {"+", NODE_STRING},
        {".inf", NODE_FLOAT},
        {"-.INF", NODE_FLOAT},
        {".nan", NODE_FLOAT},
        {"1:30", NODE_STRING},
        {"2026-11-24", NODE_STRING},
        {"1a", NODE_STRING},
        {"yes please", NODE_STRING},
        {"'1'", NODE_STRING},
        {"\"yes\"", NODE_STRING},
        {"|\n  1", NODE_STRING},
        {"!!str 1", NODE_STRING},
        {"!!int 1", NODE_INT},
        {"!!float 1", NODE_INT},
        {"!!null ''", NODE_NULL},
        {"!own 1", NODE_STRING},
        {"\"1\\0\"", NODE_STRING},
        {"[]", NODE_SEQ},
        {"{}", NODE_MAP},
        {"18446744073709551615", NODE_INT},
        {"99999999999999999999999", NODE_FLOAT},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        double number;
        enum node_kind kind = kind_of(cases[i].text, &number);

        if (kind != cases[i].kind)
            fail_msg("%s: kind %d", cases[i].text, (int)kind);
    }
}

static void test_numbers(void **state)
{
    static const struct {
        const char *text;
        double number;
    } cases[] = {{"0x1F", 31}, {"-0x1F", -31},  {"017", 15},    {"08", 8},
                 {"0b11", 3},  {"1_000", 1000}, {"-2.5", -2.5}, {"1e3", 1000}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        double number;

        (void)kind_of(cases[i].text, &number);
        assert_true(number == cases[i].number);
    }
}

static void test_long_digits(void **state)
{
    char digits[700];
    double number;

    (void)state;
    memset(digits, '7', sizeof(digits));
    digits[sizeof(digits) - 1] = '\0';
    assert_int_equal(kind_of(digits, &number), NODE_FLOAT);
    digits[300] = 'x';
    assert_int_equal(kind_of(digits, &number), NODE_STRING);
}

static void test_structure(void **state)
{
    static const char doc[] = "a: &x [1, two]\nb: {c: *x, 'd': ~}\nx: &x 3\nz: *x\n";
    struct tree t = {0};
    const struct node *b;

    (void)state;
    assert_int_equal(config__read_yaml(bytes_str(doc), &t), ERR_OK);
    assert_false(t.has_more);
    b = config__get(t.root, "b");
    assert_int_equal(config__get_count(b, "c"), 2);
    assert_ptr_equal(config__get(b, "c"), config__get(t.root, "a")); /* an alias is the same node */
    assert_string_equal(config__get(b, "c")->items[1]->text, "two");
    assert_null(config__get(b, "d"));                   /* null is absent */
    assert_true(config__get(t.root, "z")->number == 3); /* an anchor may be used again */
    assert_string_equal(config__get_text(b, "none"), "");
    config__tree_fini(&t);
}

static void test_merge(void **state)
{
    static const char doc[] = "base: &b {p: 1, q: 2}\nmore: &m {r: 3}\n"
                              "one: {<<: *b, s: 4}\nmany: {<<: [*b, *m]}\nquoted: {'<<': x}\n";
    struct tree t = {0};

    (void)state;
    assert_int_equal(config__read_yaml(bytes_str(doc), &t), ERR_OK);
    assert_int_equal(config__get(t.root, "one")->count, 6);
    assert_true(config__get(config__get(t.root, "one"), "q")->number == 2);
    assert_int_equal(config__get(t.root, "many")->count, 6);
    assert_string_equal(config__get_text(config__get(t.root, "quoted"), "<<"), "x");
    config__tree_fini(&t);
}

static void test_documents(void **state)
{
    static const struct {
        const char *text;
        bool has_root;
        bool has_more;
    } cases[] = {
        {"", false, false},
        {"# c\n", false, false},
        {"---\n", true, false},
        {"a: 1\n", true, false},
        {"a: 1\n...\n", true, false},
        {"%YAML 1.1\n---\na: 1\n", true, false},
        {"a: 1\n---\nb: 2\n", true, true},
        {"a: 1\n---\n}{\n", true, true}, /* what follows is not read */
        {"\xef\xbb\xbf"
         "a: 1\n",
         true, false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct tree t = {0};

        assert_int_equal(config__read_yaml(bytes_str(cases[i].text), &t), ERR_OK);
        assert_int_equal(t.root != NULL, cases[i].has_root);
        assert_int_equal(t.has_more, cases[i].has_more);
        config__tree_fini(&t);
    }
}

static void assert_bad(const char *doc, const char *problem)
{
    struct tree t = {0};
    enum err e = config__read_yaml(bytes_str(doc), &t);

    if (e != ERR_CONFIG || strstr(t.problem, problem) == NULL)
        fail_msg("\"%.60s\": %s \"%s\"", doc, err_reason(e), t.problem);
    config__tree_fini(&t);
}

static void test_refused(void **state)
{
    (void)state;
    assert_bad("a: [1\n", "line 2");
    assert_bad("a: b: c\n", "line 1");
    assert_bad("a: \"x\n", "line");
    assert_bad("\t- a\n", "line 1");
    assert_bad("a: \xff\n", "line 1");
    assert_bad("a: *x\n", "unknown anchor");
    assert_bad("a: &x [*x]\n", "contains itself");
    assert_bad("a: &x {b: {c: *x}}\n", "contains itself");
    assert_bad("a: &x {<<: *x}\n", "contains itself");
    assert_bad("? [a]\n: b\n", "name of a field");
    assert_bad("? {a: b}\n: b\n", "name of a field");
    assert_bad("a: &x [b]\n? *x\n: c\n", "name of a field");
    assert_bad("a: {<<: 1}\n", "map merge requires");
    assert_bad("a: {<<: [1]}\n", "map merge requires");
    assert_bad("a: {<<: [[{b: c}]]}\n", "map merge requires");
    assert_bad("a: !!int x\n", "does not fit its tag");
    assert_bad("a: !!bool 1\n", "does not fit its tag");
    assert_bad("a: !!null 1\n", "does not fit its tag");
    assert_bad("a: !!binary QQ\n", "does not fit its tag");
    assert_bad("a: !!binary '?'\n", "does not fit its tag");
    assert_bad("%YAML 1.2\n---\na: 1\n", "only YAML 1.1");
    assert_bad("%YAML 2.0\n---\na: 1\n", "incompatible");
    assert_bad("%YAML 1.0\n---\na: 1\n", "incompatible");
    assert_bad("%YAML 1.1\n%YAML 1.1\n---\na: 1\n", "line");
}

/* What tags make of a text; the header of yaml_scalar.c says whose reading it is. */
static void test_tagged_text(void **state)
{
    static const struct {
        const char *text, *value;
    } cases[] = {
        {"!!binary QQ==", "A"},
        {"!!binary 'c2Vj\n\n  cmV0'", "secret"}, /* a line break is skipped */
        {"!!binary ''", ""},
        {"!!binary /2HDqcM=", "\xef\xbf\xbd"
                              "a\xc3\xa9\xef\xbf\xbd"}, /* ff, a, U+00E9, half a character */
        {"!<tag:yaml.org,2002:binary> QQ==", "A"},
        {"!binary QQ==", "QQ=="},
        {"!!merge x", "x"},
        {"!!timestamp 2026-11-24", "2026-11-24"},
        {"!!timestamp 2028-2-29", "2028-2-29"},
        {"!!timestamp 2026-11-24T1:2:3.5Z", "2026-11-24T1:2:3.5Z"},
        {"!!timestamp 2026-11-24t01:02:03+01:00", "2026-11-24t01:02:03+01:00"},
        {"!!timestamp 2026-11-24 01:02:03", "2026-11-24 01:02:03"},
    };
    static const char *const times[] = {"x",         "1",          "2026-13-1",
                                        "2026-2-29", "26-11-24",   "2026-11-24T01:02:03",
                                        "2026-1",    "2026-11-32", "2026-11-24 01:02:03Z",
                                        "",          "2026-1-1 ?", "2026-11-24T24:00:00Z"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct tree t = {0};
        char doc[128];
        const struct node *n;

        snprintf(doc, sizeof(doc), "v: %s\n", cases[i].text);
        if (config__read_yaml(bytes_str(doc), &t) != ERR_OK)
            fail_msg("%s: %s", cases[i].text, t.problem);
        n = t.root->items[1];
        assert_int_equal(n->kind, NODE_STRING);
        assert_string_equal(n->text, cases[i].value);
        assert_int_equal(n->text_len, strlen(cases[i].value));
        config__tree_fini(&t);
    }
    for (size_t i = 0; i < ARRAY_LEN(times); i++) {
        char doc[128];

        snprintf(doc, sizeof(doc), "v: !!timestamp '%s'\n", times[i]);
        assert_bad(doc, "does not fit its tag");
    }
}

#define BOM "\xef\xbb\xbf"

/* A byte order mark is one at the very beginning; elsewhere it is a character. */
static void test_byte_order_marks(void **state)
{
    static const char *const good[] = {
        BOM "a: 1\n",         "a: " BOM "1\n",           "a: b" BOM "c\nd: 1\n",
        "a: 'b\n" BOM "c'\n", "a: |\n  b\n  " BOM "c\n", "a: 1\n...\n---\n" BOM "b: 2\n",
        "  " BOM "a: 1\n",    "a: {b: c\n" BOM "d}\n",   BOM "\xc3\xa9: 'b\n" BOM "c'\n",
    };
    static const char *const bad[] = {
        "a: 1\n" BOM "b: 2\n",          "a:\n" BOM "  b: 2\n",
        BOM "a: 1\n" BOM "b: 2\n",      "a: 1\r\n" BOM "b: 2\r\n",
        "a: 1\n" BOM "# c\n",           "a: 1\n" BOM,
        "a: 1\xc2\x85" BOM "b: 2\n",    "a: 1\xe2\x80\xa8" BOM "b: 2\n",
        "\xc3\xa9: 1\n" BOM "b: 'c'\n", "a: 'b\n" BOM "c'\n" BOM "d: 1\n",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        struct tree t = {0};

        if (config__read_yaml(bytes_str(good[i]), &t) != ERR_OK)
            fail_msg("%zu: %s", i, t.problem);
        config__tree_fini(&t);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_bad(bad[i], ""); /* where libyaml refuses it by itself, in its words */
}

static void test_merge_tag(void **state)
{
    struct tree t = {0};

    (void)state;
    assert_int_equal(config__read_yaml(BYTES_LIT("a: {!!merge <<: {b: 1}, '<<': 2}\n"), &t),
                     ERR_OK);
    assert_int_equal(config__get(config__get(t.root, "a"), "b")->kind, NODE_INT);
    assert_int_equal(config__get(config__get(t.root, "a"), "<<")->kind, NODE_INT);
    config__tree_fini(&t);
}

/* The text of the document, which may be a key, is in no message. */
static void test_no_text_in_problems(void **state)
{
    static const char *const docs[] = {"secret: TOPSECRET: x\n",    "secret: 'TOPSECRET\n",
                                       "secret: *TOPSECRET\n",      "{TOPSECRET: [}\n",
                                       "secret: !!int TOPSECRET\n", "%TOPSECRET\n"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(docs); i++) {
        struct tree t = {0};

        assert_int_equal(config__read_yaml(bytes_str(docs[i]), &t), ERR_CONFIG);
        assert_null(strstr(t.problem, "TOPSECRET"));
        config__tree_fini(&t);
    }
}

/* Nine lists of nine aliases each: 9^9 values when written out. */
static void test_billion_laughs(void **state)
{
    char doc[2048];
    size_t used = (size_t)snprintf(doc, sizeof(doc), "a0: &a0 [x,x,x,x,x,x,x,x,x]\n");

    (void)state;
    for (int i = 1; i < 10; i++) {
        used += (size_t)snprintf(doc + used, sizeof(doc) - used, "a%d: &a%d [", i, i);
        for (int k = 0; k < 9; k++)
            used +=
                (size_t)snprintf(doc + used, sizeof(doc) - used, "%s*a%d", k > 0 ? "," : "", i - 1);
        used += (size_t)snprintf(doc + used, sizeof(doc) - used, "]\n");
    }
    assert_bad(doc, "more than");
}

static void test_bounds(void **state)
{
    char *doc = malloc(CONFIG_MAX_NODES * 4 + 100);
    struct tree t = {0};
    size_t used = 0;

    (void)state;
    for (unsigned i = 0; i < CONFIG_MAX_NODES; i++)
        used += (size_t)sprintf(doc + used, "- a\n");
    assert_int_equal(config__read_yaml(bytes_str(doc), &t), ERR_OK);
    config__tree_fini(&t);
    sprintf(doc + used, "- a\n");
    assert_bad(doc, "more than");
    for (used = 0; used < CONFIG_MAX_DEPTH; used++)
        doc[used] = '[';
    memset(doc + used, ']', used);
    doc[2 * used] = '\0';
    memset(&t, 0, sizeof(t));
    assert_int_equal(config__read_yaml(bytes_str(doc), &t), ERR_OK);
    config__tree_fini(&t);
    memset(doc, '[', 100);
    doc[100] = '\0';
    assert_bad(doc, "too deeply");
    for (used = 0; used < (CONFIG_MAX_ANCHORS + 1) * 9;)
        used += (size_t)sprintf(doc + used, "- &a%04zu\n", used % 10000);
    assert_bad(doc, "too many anchors");
    free(doc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_scalars),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_long_digits),
        cmocka_unit_test(test_structure),
        cmocka_unit_test(test_merge),
        cmocka_unit_test(test_documents),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_tagged_text),
        cmocka_unit_test(test_byte_order_marks),
        cmocka_unit_test(test_merge_tag),
        cmocka_unit_test(test_no_text_in_problems),
        cmocka_unit_test(test_billion_laughs),
        cmocka_unit_test(test_bounds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
