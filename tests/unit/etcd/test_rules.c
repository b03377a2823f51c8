/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "etcd/rules.h"

static struct provider_list list_a, list_b, list_all;

static struct etcd_rules *make(const struct etcd_rule *v, size_t n)
{
    struct etcd_rules *r;

    assert_int_equal(etcd_rules_new(v, n, &r), ERR_OK);
    return r;
}

static void expect(const struct etcd_rules *r, const char *key, const struct provider_list *want)
{
    assert_ptr_equal(etcd_rules_find(r, bytes_str(key)), want);
}

static void test_whole_segments(void **state)
{
    const struct etcd_rule v[] = {{BYTES_LIT("/registry/secrets"), false, &list_a}};
    struct etcd_rules *r = make(v, 1);

    (void)state;
    expect(r, "/registry/secrets", &list_a);
    expect(r, "/registry/secrets/", &list_a);
    expect(r, "/registry/secrets/default/x", &list_a);
    expect(r, "/registry/secrets//x", &list_a);
    expect(r, "/registry/secretsfoo", NULL);
    expect(r, "/registry/secretsfoo/x", NULL);
    expect(r, "/registry/secret", NULL);
    expect(r, "/registry/", NULL);
    expect(r, "/registry//secrets/x", NULL);
    expect(r, "", NULL);
    assert_ptr_equal(etcd_rules_find(r, bytes_of("/registry/secrets\0x", 19)), NULL);
    etcd_rules_free(r);
}

static void test_longest_wins(void **state)
{
    const struct etcd_rule v[] = {
        {BYTES_LIT("/registry"), false, &list_all},
        {BYTES_LIT("/registry/secrets"), false, &list_a},
        {BYTES_LIT("/registry/masterleases"), false, NULL},
        {BYTES_LIT("/registry/secrets/kept"), false, &list_b},
    };
    struct etcd_rules *r = make(v, ARRAY_LEN(v));

    (void)state;
    expect(r, "/registry/secrets/x/y", &list_a);
    expect(r, "/registry/secrets/kept/y", &list_b);
    expect(r, "/registry/secrets/keptx", &list_a);
    expect(r, "/registry/masterleases/10.0.0.1", NULL);
    expect(r, "/registry/other", &list_all);
    expect(r, "/registry//secrets/x", &list_all);
    expect(r, "/registry", &list_all);
    expect(r, "/registryx", NULL);
    expect(r, "compact_rev_key", NULL);
    etcd_rules_free(r);
}

static void test_dotless(void **state)
{
    const struct etcd_rule v[] = {
        {BYTES_LIT("/registry"), true, &list_a},
        {BYTES_LIT("/registry/group.example.com"), false, &list_b},
        {BYTES_LIT("/same"), true, &list_a},
        {BYTES_LIT("/same"), false, &list_b},
    };
    struct etcd_rules *r = make(v, ARRAY_LEN(v));

    (void)state;
    expect(r, "/registry/pods/a.b", &list_a);
    expect(r, "/registry/pods", &list_a);
    expect(r, "/registry", &list_a);
    expect(r, "/registry/other.example.com/x", NULL);
    expect(r, "/registry/group.example.com/x", &list_b);
    expect(r, "/same/a.b", &list_b);
    expect(r, "/same/ab", &list_b);
    etcd_rules_free(r);
}

static void test_empty(void **state)
{
    const struct etcd_rule root[] = {{BYTES_LIT(""), false, &list_all}};
    struct etcd_rules *r = make(NULL, 0);

    (void)state;
    expect(r, "", NULL);
    expect(r, "/registry/secrets/a", NULL);
    assert_false(etcd_rules_touch(r, bytes_of("", 1), bytes_of("", 1)));
    etcd_rules_free(r);
    r = make(root, 1);
    expect(r, "/anything", &list_all);
    expect(r, "no slash", NULL);
    etcd_rules_free(r);
}

static bool touches(const struct etcd_rules *r, const char *key, const char *end)
{
    return etcd_rules_touch(r, bytes_str(key), bytes_str(end));
}

static void test_touch(void **state)
{
    const struct etcd_rule v[] = {
        {BYTES_LIT("/registry/secrets"), false, &list_a},
        {BYTES_LIT("/registry/secrets/public"), false, NULL},
        {BYTES_LIT("/registry/secrets/public/but"), false, &list_b},
    };
    struct etcd_rules *r = make(v, ARRAY_LEN(v));

    (void)state;
    assert_true(touches(r, "/registry/secrets/a", ""));
    assert_false(touches(r, "/registry/secretsx", ""));
    assert_true(touches(r, "/registry/secrets/", "/registry/secrets0"));
    assert_true(touches(r, "/registry/", "/registry0"));
    assert_true(touches(r, "/", "0"));
    assert_true(touches(r, "/registry/secrets", "/registry/secrets/"));
    assert_true(touches(r, "/registry/secrets/z", "/zzz"));
    assert_true(touches(r, "/a", "/registry/secrets/b"));
    assert_false(touches(r, "/a", "/registry/secrets"));
    assert_false(touches(r, "/registry/secrets0", "/zzz"));
    assert_false(touches(r, "/registry/pods/", "/registry/pods0"));
    assert_false(touches(r, "/registry/secrets.", "/registry/secrets/"));
    assert_true(etcd_rules_touch(r, bytes_of("", 1), bytes_of("", 1)));
    assert_true(etcd_rules_touch(r, bytes_str("/registry/secrets/z"), bytes_of("", 1)));
    assert_false(etcd_rules_touch(r, bytes_str("/registry/secrets0"), bytes_of("", 1)));
    /* within the hidden part, but for the rule in it */
    assert_false(touches(r, "/registry/secrets/public/x", "/registry/secrets/public/y"));
    assert_true(touches(r, "/registry/secrets/public/", "/registry/secrets/public0"));
    assert_true(touches(r, "/registry/secrets/public", "/registry/secrets/public0"));
    etcd_rules_free(r);
}

/* touch may say yes too often, never no where a key of the range is protected: all short keys over
 * a small alphabet. */
static void test_touch_never_misses(void **state)
{
    const struct etcd_rule v[] = {
        {BYTES_LIT("/a"), false, &list_a},    {BYTES_LIT("/a/b"), false, NULL},
        {BYTES_LIT("/a/b/a"), true, &list_b}, {BYTES_LIT("/b"), true, &list_a},
        {BYTES_LIT("/b"), false, NULL},
    };
    static const char alphabet[] = {'.', '/', 'a', 'b'};
    struct etcd_rules *r = make(v, ARRAY_LEN(v));
    enum { LEN = 5, KEYS = 1024 };
    char keys[KEYS][LEN];

    (void)state;
    for (unsigned i = 0; i < KEYS; i++) {
        for (unsigned j = 0, x = i; j < LEN; j++, x /= 4)
            keys[i][j] = alphabet[x % 4];
    }
    for (unsigned k = 0; k < KEYS; k++) {
        if (etcd_rules_find(r, bytes_of(keys[k], LEN)) == NULL)
            continue;
        for (unsigned i = 0; i < KEYS; i += 7) {
            for (unsigned j = 0; j < KEYS; j += 11) {
                struct bytes from = bytes_of(keys[i], 1 + i % LEN), key = bytes_of(keys[k], LEN),
                             end = bytes_of(keys[j], 1 + j % LEN);

                if (bytes_cmp(from, key) <= 0 && bytes_cmp(key, end) < 0)
                    assert_true(etcd_rules_touch(r, from, end));
            }
        }
    }
    etcd_rules_free(r);
}

/* Whatever key came before, the answer is that of a look-up alone: all short keys. */
static void test_near(void **state)
{
    const struct etcd_rule v[] = {
        {BYTES_LIT("/a"), false, &list_a},      {BYTES_LIT("/a/b"), false, NULL},
        {BYTES_LIT("/a/b/a"), true, &list_b},   {BYTES_LIT("/b"), true, &list_a},
        {BYTES_LIT("/b"), false, &list_all},    {BYTES_LIT("/bb"), true, &list_b},
        {BYTES_LIT("/ab/a"), false, &list_all}, {BYTES_LIT("/ab.a"), false, &list_b},
    };
    static const char alphabet[] = {'.', '/', 'a', 'b'};
    struct etcd_rules *r = make(v, ARRAY_LEN(v));
    const struct etcd_rule *near = NULL;
    uint32_t random = 1;
    char key[6];

    (void)state;
    for (unsigned i = 0; i < 200000; i++) {
        struct bytes k = bytes_of(key, 1 + i % sizeof key);

        for (unsigned j = 0; j < k.n; j++) {
            random = random * 1103515245u + 12345u;
            key[j] = alphabet[random >> 29 & 3];
        }
        key[0] = '/';
        assert_ptr_equal(etcd_rules_find_near(r, k, &near), etcd_rules_find(r, k));
    }
    etcd_rules_free(r);
}

/* The longest prefix whose segments the key begins with, by trying all of them. */
static const struct provider_list *find_slowly(const struct etcd_rule *v, size_t n,
                                               struct bytes key)
{
    const struct etcd_rule *best = NULL;

    for (size_t i = 0; i < n; i++) {
        struct bytes p = v[i].prefix;

        if (bytes_has_prefix(key, p) && (key.n == p.n || key.p[p.n] == '/') &&
            (best == NULL || p.n > best->prefix.n))
            best = &v[i];
    }
    return best == NULL ? NULL : best->list;
}

static void test_every_set_of_prefixes(void **state)
{
    const struct etcd_rule all[] = {
        {BYTES_LIT(""), false, &list_all},    {BYTES_LIT("/a"), false, &list_a},
        {BYTES_LIT("/b"), false, &list_b},    {BYTES_LIT("/a/b"), false, &list_b},
        {BYTES_LIT("/ab/a"), false, &list_a}, {BYTES_LIT("/a/b/ab"), false, &list_all},
    };
    static const char alphabet[] = {'/', '/', 'a', 'b'};
    char key[9];

    (void)state;
    for (unsigned set = 0; set < 1u << ARRAY_LEN(all); set++) {
        struct etcd_rule v[ARRAY_LEN(all)];
        struct etcd_rules *r;
        size_t n = 0;

        for (size_t i = 0; i < ARRAY_LEN(all); i++)
            if ((set >> i & 1) != 0)
                v[n++] = all[i];
        r = make(v, n);
        for (uint32_t random = set, i = 0; i < 4000; i++) {
            struct bytes k = bytes_of(key, i % (sizeof key + 1));

            for (size_t j = 0; j < k.n; j++) {
                random = random * 1103515245u + 12345u;
                key[j] = j == 0 ? '/' : alphabet[random >> 29 & 3];
            }
            assert_ptr_equal(etcd_rules_find(r, k), find_slowly(v, n, k));
        }
        etcd_rules_free(r);
    }
}

/* --- etcd_rules_lost ------------------------------------------------------------------------- */

static char *lost(const struct etcd_rules *old, const struct etcd_rules *fresh)
{
    char *key;

    assert_int_equal(etcd_rules_lost(old, fresh, &key), ERR_OK);
    return key;
}

/* Each group of rules against each other one. */
static void test_lost(void **state)
{
    const struct etcd_rule all[] = {{BYTES_LIT("/r"), false, &list_all}},
                           dotless[] = {{BYTES_LIT("/r"), true, &list_all}},
                           /* What stands for other custom groups must not be one that is named. */
        named[] = {{BYTES_LIT("/r"), true, &list_a},
                   {BYTES_LIT("/r/x.y"), false, &list_a},
                   {BYTES_LIT("/r/example.com"), false, &list_a},
                   {BYTES_LIT("/r/example.comx"), false, &list_a}},
                           hole[] = {{BYTES_LIT("/r"), false, &list_a},
                                     {BYTES_LIT("/r/x/y/z"), false, NULL}},
                           both[] = {{BYTES_LIT("/r"), true, &list_b},
                                     {BYTES_LIT("/r"), false, &list_a},
                                     {BYTES_LIT("/r/more"), false, &list_a}};
    struct etcd_rules *r[] = {make(all, 1),  make(dotless, 1), make(named, 4),
                              make(hole, 2), make(both, 3),    make(NULL, 0)};
    static const char *const want[6][6] = {
        /* from all */ {NULL, "/r/example.com", "/r/example.comxx", "/r/x/y/z/example", NULL,
                        "/r/example"},
        /* dotless */ {NULL, NULL, NULL, "/r/x/y/z/example", NULL, "/r/example"},
        /* named */
        {NULL, "/r/example.com/example", NULL, "/r/x/y/z/example", NULL, "/r/example"},
        /* hole */ {NULL, "/r/example.com", "/r/example.comxx", NULL, NULL, "/r/example"},
        /* both */
        {NULL, "/r/example.com", "/r/example.comxx", "/r/x/y/z/example", NULL, "/r/example"},
        /* nothing */ {NULL, NULL, NULL, NULL, NULL, NULL}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(r); i++) {
        for (size_t k = 0; k < ARRAY_LEN(r); k++) {
            char *key = lost(r[i], r[k]);

            if (want[i][k] == NULL)
                assert_null(key);
            else
                assert_non_null(key);
            if (key != NULL)
                assert_string_equal(key, want[i][k]);
            free(key);
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(r); i++)
        etcd_rules_free(r[i]);
}

static uint32_t seed = 20231;

static unsigned pick(unsigned n)
{
    seed = seed * 1103515245u + 12345u;
    return (seed >> 16) % n;
}

/* The first USED may stand in a prefix; keys have others, too. */
static const char *const segments[] = {"a",        "a.b", "example", "example.com",
                                       "examplex", "",    "z",       "z.z"};
enum { USED = 6, SEGMENTS = 8, RULES = 6, PREFIX_MAX = 64 };

static struct etcd_rules *random_rules(char text[RULES][PREFIX_MAX])
{
    struct etcd_rule v[RULES];
    size_t n = pick(RULES + 1);

    for (size_t i = 0; i < n; i++) {
        unsigned depth = pick(4);

        text[i][0] = '\0';
        for (unsigned d = 0; d < depth; d++) {
            size_t at = strlen(text[i]);

            (void)snprintf(text[i] + at, PREFIX_MAX - at, "/%s", segments[pick(USED)]);
        }
        v[i] = (struct etcd_rule){bytes_str(text[i]), pick(2) == 0, pick(3) == 0 ? NULL : &list_a};
    }
    return make(v, n);
}

static bool has_lost(const struct etcd_rules *old, const struct etcd_rules *fresh, const char *key)
{
    return etcd_rules_find(old, bytes_str(key)) != NULL &&
           etcd_rules_find(fresh, bytes_str(key)) == NULL;
}

/* Every key of up to so many segments. */
static bool any_lost(const struct etcd_rules *old, const struct etcd_rules *fresh, char *key,
                     unsigned depth)
{
    size_t at = strlen(key);
    bool is = has_lost(old, fresh, key);

    for (unsigned i = 0; i < SEGMENTS && depth > 0 && !is; i++) {
        (void)snprintf(key + at, 2 * PREFIX_MAX - at, "/%s", segments[i]);
        is = any_lost(old, fresh, key, depth - 1);
    }
    key[at] = '\0';
    return is;
}

static void test_lost_is_exact(void **state)
{
    unsigned yes = 0, no = 0;

    (void)state;
    for (unsigned i = 0; i < 4000; i++) {
        char old_text[RULES][PREFIX_MAX], fresh_text[RULES][PREFIX_MAX];
        char brute[2 * PREFIX_MAX] = "";
        struct etcd_rules *old = random_rules(old_text);
        struct etcd_rules *fresh = random_rules(fresh_text);
        char *key = lost(old, fresh);

        if (key == NULL) {
            assert_false(any_lost(old, fresh, brute, 4));
            no++;
        } else {
            assert_true(has_lost(old, fresh, key));
            yes++;
        }
        free(key);
        etcd_rules_free(old);
        etcd_rules_free(fresh);
    }
    assert_true(yes > 500 && no > 500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_segments), cmocka_unit_test(test_longest_wins),
        cmocka_unit_test(test_dotless),        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_touch),          cmocka_unit_test(test_touch_never_misses),
        cmocka_unit_test(test_near),           cmocka_unit_test(test_every_set_of_prefixes),
        cmocka_unit_test(test_lost),           cmocka_unit_test(test_lost_is_exact),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
