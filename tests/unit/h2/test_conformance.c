/* SPDX-License-Identifier: Apache-2.0 */
/* Does a connection do what RFC 9113 and RFC 7541 say, whatever its peer sends? The cases are in
 * the tables of the conformance_*.c, section by section. */
#include "conformance.h"

/* Those that we fail, to be mended. Exact: one that passes must leave the list. */
static const char *const known_failures[] = {
    NULL,
};

static bool is_known(const char *name)
{
    for (const char *const *k = known_failures; *k != NULL; k++)
        if (strcmp(*k, name) == 0)
            return true;
    return false;
}

static void run_table(const struct conf_table *t)
{
    unsigned wrong = 0;

    for (size_t i = 0; i < t->count; i++) {
        const struct conf_case *c = &t->v[i];
        char seen[400];
        bool ok = conf_run(c, seen, sizeof seen), known = is_known(c->name);

        if (ok == known) {
            wrong++;
            print_error("%s %s: %s%s\n", c->name, c->what, seen,
                        known ? " (it passes: take it out of known_failures)" : "");
        }
    }
    assert_int_equal(wrong, 0);
}

#define TABLE_TEST(name)                                                                           \
    static void test_##name(void **state)                                                          \
    {                                                                                              \
        (void)state;                                                                               \
        run_table(&conf_##name);                                                                   \
    }

TABLE_TEST(generic)
TABLE_TEST(streams)
TABLE_TEST(frames)
TABLE_TEST(messages)
TABLE_TEST(hpack)
TABLE_TEST(server)
TABLE_TEST(client)

/* First the tables of h2spec's cases. */
#define H2SPEC_TABLES 5
#define H2SPEC_CASES 147 /* 146, and one that it runs when asked to be strict */
static const struct conf_table *const all[] = {&conf_generic,  &conf_streams, &conf_frames,
                                               &conf_messages, &conf_hpack,   &conf_server,
                                               &conf_client};

static size_t count_of(const struct conf_table *t, const char *name)
{
    size_t n = 0;

    for (size_t i = 0; i < t->count; i++)
        n += name == NULL || strcmp(t->v[i].name, name) == 0;
    return n;
}

static size_t count_in_all(const char *name)
{
    size_t n = 0;

    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        n += count_of(all[i], name);
    return n;
}

/* No case of h2spec is missing, no name is given twice, and the list names cases that exist. */
static void test_tables(void **state)
{
    size_t h2spec = 0;

    (void)state;
    for (size_t i = 0; i < H2SPEC_TABLES; i++)
        h2spec += count_of(all[i], NULL);
    assert_int_equal(h2spec, H2SPEC_CASES);
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        for (size_t k = 0; k < all[i]->count; k++)
            assert_int_equal(count_in_all(all[i]->v[k].name), 1);
    for (const char *const *k = known_failures; *k != NULL; k++)
        assert_int_equal(count_in_all(*k), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tables),   cmocka_unit_test(test_generic),
        cmocka_unit_test(test_streams),  cmocka_unit_test(test_frames),
        cmocka_unit_test(test_messages), cmocka_unit_test(test_hpack),
        cmocka_unit_test(test_server),   cmocka_unit_test(test_client),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
