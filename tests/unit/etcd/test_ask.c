/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "base/limits.h"
#include "etcd/ask.h"

static struct etcd_range range(const char *key, const char *end)
{
    return (struct etcd_range){.key = bytes_str(key), .end = bytes_str(end)};
}

static bool holds(const struct etcd_range *r, const char *key)
{
    return etcd_range_holds(r, bytes_str(key));
}

static void test_range(void **state)
{
    struct etcd_range one = range("b", ""), some = range("b", "d");
    struct etcd_range from = {.key = bytes_str("b"), .end = bytes_of("", 1)};

    (void)state;
    assert_true(holds(&one, "b"));
    assert_false(holds(&one, "ba"));
    assert_false(holds(&one, "a"));
    assert_false(holds(&one, ""));
    assert_true(holds(&some, "b"));
    assert_true(holds(&some, "cz"));
    assert_false(holds(&some, "d"));
    assert_false(holds(&some, "a"));
    assert_true(holds(&from, "b"));
    assert_true(holds(&from, "\xff"));
    assert_false(holds(&from, "a"));
}

static void test_ask_copies_keys(void **state)
{
    struct etcd_ask a = {0}, b = {0};
    char key[] = "key", end[] = "kez";
    struct etcd_range r = range(key, end);
    bool keys_only;

    (void)state;
    assert_false(etcd_ask_holds(&a, 0, bytes_str("key"), &keys_only));
    assert_int_equal(etcd_ask_add(&a, ETCD_ASKED_RANGE, &r), ERR_OK);
    key[0] = end[0] = 'x';
    assert_true(etcd_ask_holds(&a, 0, bytes_str("keyed"), &keys_only));
    assert_false(keys_only);
    assert_false(etcd_ask_holds(&a, 0, bytes_str("x"), &keys_only));
    r = range("keyed", "");
    r.keys_only = true;
    assert_int_equal(etcd_ask_add(&b, ETCD_ASKED_RANGE, &r), ERR_OK);
    assert_true(etcd_ask_holds(&b, 0, bytes_str("keyed"), &keys_only));
    assert_true(keys_only);
    assert_false(etcd_ask_holds(&b, 0, bytes_str("keyee"), &keys_only));
    assert_false(keys_only);
    etcd_ask_fini(&a);
    etcd_ask_fini(&b);
}

/* A Txn's operations keep their order in each branch, wherever they were added; none holds the key
 * of another. */
static void test_txn_operations(void **state)
{
    struct etcd_range r[] = {range("0", ""), range("1", ""), range("2", ""), range("3", "")};
    struct etcd_ask a = {0};
    uint32_t op[4], none;
    bool keys_only;

    (void)state;
    assert_int_equal(etcd_ask_txn(&a), ERR_OK);
    for (uint32_t i = 0; i < 4; i++) { /* success: 0 2, failure: 1 3 */
        assert_int_equal(etcd_ask_op(&a, 0, i % 2 == 0, &op[i]), ERR_OK);
        assert_int_equal(etcd_ask_set(&a, op[i], ETCD_ASKED_PUT, &r[i]), ERR_OK);
    }
    assert_int_equal(a.ops[0].first[true], op[0]);
    assert_int_equal(a.ops[op[0]].next, op[2]);
    assert_int_equal(a.ops[op[2]].next, 0);
    assert_int_equal(a.ops[0].first[false], op[1]);
    assert_int_equal(a.ops[op[1]].next, op[3]);
    assert_int_equal(a.ops[op[3]].next, 0);
    for (uint32_t i = 0; i < 4; i++) {
        for (uint32_t j = 0; j < 4; j++)
            assert_int_equal(etcd_ask_holds(&a, op[i], r[j].key, &keys_only), i == j);
        assert_false(etcd_ask_holds(&a, 0, r[i].key, &keys_only)); /* the Txn itself asks none */
    }
    assert_int_equal(etcd_ask_op(&a, 0, true, &none), ERR_OK);
    assert_false(etcd_ask_holds(&a, none, bytes_str(""), &keys_only)); /* an empty operation */
    etcd_ask_fini(&a);
}

/* Creates are answered in the order in which they were sent. */
static void test_watches(void **state)
{
    struct etcd_ask a = {0};
    struct etcd_range r;
    char key[8];

    (void)state;
    assert_int_equal(etcd_ask_created(&a, 1, false), ERR_ANS_UNKNOWN_WATCH);
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < 7; i++) {
            (void)snprintf(key, sizeof key, "%d", i);
            r = range(key, "");
            assert_int_equal(etcd_ask_create(&a, 0, &r), ERR_OK);
        }
        for (int i = 0; i < 7; i++) { /* the fourth one is refused by etcd */
            assert_int_equal(etcd_ask_created(&a, i == 3 ? -1 : i, i == 3), ERR_OK);
            if (i == 1) {
                r = range("late", "");
                assert_int_equal(etcd_ask_create(&a, 0, &r), ERR_OK);
            }
        }
        assert_int_equal(etcd_ask_created(&a, 100, false), ERR_OK);
        assert_int_equal(etcd_ask_created(&a, 101, false), ERR_ANS_UNKNOWN_WATCH);
        assert_null(etcd_ask_watch(&a, -1));
        assert_null(etcd_ask_watch(&a, 3));
        for (int i = 0; i < 7; i++) {
            (void)snprintf(key, sizeof key, "%d", i);
            if (i != 3)
                assert_true(holds(&etcd_ask_watch(&a, i)->range, key));
        }
        assert_true(holds(&etcd_ask_watch(&a, 100)->range, "late"));
        etcd_ask_canceled(&a, 5);
        etcd_ask_canceled(&a, 5);
        etcd_ask_canceled(&a, 77);
        assert_null(etcd_ask_watch(&a, 5));
        assert_true(holds(&etcd_ask_watch(&a, 6)->range, "6"));
    }
    etcd_ask_fini(&a);
}

/* The id that the client asked for has to come back; 0 leaves the choice to etcd. */
static void test_asked_ids(void **state)
{
    struct etcd_range five = range("five", ""), six = range("six", ""), any = range("any", "");
    struct etcd_ask a = {0};

    (void)state;
    assert_int_equal(etcd_ask_create(&a, 5, &five), ERR_OK);
    assert_int_equal(etcd_ask_create(&a, 6, &six), ERR_OK);
    assert_int_equal(etcd_ask_created(&a, 7, false), ERR_ANS_UNKNOWN_WATCH);
    assert_int_equal(etcd_ask_created(&a, 0, false), ERR_ANS_UNKNOWN_WATCH);
    assert_int_equal(etcd_ask_created(&a, -1, false), ERR_ANS_UNKNOWN_WATCH);
    assert_int_equal(etcd_ask_created(&a, 7, true), ERR_ANS_UNKNOWN_WATCH);
    /* In another order each id still has the range that it was asked with. */
    assert_int_equal(etcd_ask_created(&a, 6, false), ERR_OK);
    assert_int_equal(etcd_ask_created(&a, 6, false), ERR_ANS_UNKNOWN_WATCH);
    assert_int_equal(etcd_ask_created(&a, 5, false), ERR_OK);
    assert_true(holds(&etcd_ask_watch(&a, 5)->range, "five"));
    assert_true(holds(&etcd_ask_watch(&a, 6)->range, "six"));
    /* An id that etcd has chosen may be one that a later create asks for: that is refused then. */
    assert_int_equal(etcd_ask_create(&a, 0, &any), ERR_OK);
    assert_int_equal(etcd_ask_create(&a, 8, &six), ERR_OK);
    assert_int_equal(etcd_ask_created(&a, 8, false), ERR_OK);
    assert_true(holds(&etcd_ask_watch(&a, 8)->range, "any"));
    assert_int_equal(etcd_ask_created(&a, -1, true), ERR_OK);
    assert_true(holds(&etcd_ask_watch(&a, 8)->range, "any"));
    assert_int_equal(a.create_count, 0);
    etcd_ask_fini(&a);
}

/* A create that etcd refuses with the id of a living watch does not touch that watch. */
static void test_refused_create_keeps_other(void **state)
{
    struct etcd_ask a = {0};
    struct etcd_range one = range("one", ""), two = range("two", "");

    (void)state;
    assert_int_equal(etcd_ask_create(&a, 0, &one), ERR_OK);
    assert_int_equal(etcd_ask_created(&a, 9, false), ERR_OK);
    assert_int_equal(etcd_ask_create(&a, 9, &two), ERR_OK);
    assert_int_equal(etcd_ask_created(&a, 9, true), ERR_OK);
    assert_true(holds(&etcd_ask_watch(&a, 9)->range, "one"));
    assert_int_equal(etcd_ask_watch(&a, 9)->state, ETCD_WATCH_OPEN);
    etcd_ask_fini(&a);
}

/* The keys of watches stay as long as the stream: they are bounded, and room comes back. */
static void test_watched_bytes_are_bounded(void **state)
{
    size_t n = LIMIT_WATCHED / 8;
    struct etcd_ask a = {0};
    struct etcd_range large = {.key = bytes_of(calloc(1, n), n)};
    int64_t id = 0;

    (void)state;
    assert_non_null(large.key.p);
    for (int i = 0; i < 3; i++) {
        while (id < 7) {
            assert_int_equal(etcd_ask_create(&a, 0, &large), ERR_OK);
            assert_int_equal(etcd_ask_created(&a, id++, false), ERR_OK);
        }
        assert_int_equal(etcd_ask_create(&a, 0, &large), ERR_MEMORY_LIMIT);
        etcd_ask_canceled(&a, --id);
        assert_int_equal(etcd_ask_create(&a, 0, &large), ERR_OK);
        assert_int_equal(etcd_ask_created(&a, -1, true), ERR_OK);
        assert_int_equal(etcd_ask_create(&a, 0, &large), ERR_OK);
        assert_int_equal(etcd_ask_created(&a, 5, false), ERR_OK); /* in place of another */
    }
    etcd_ask_fini(&a);
    free((void *)(uintptr_t)large.key.p);
}

/* As many as a stream may have: none of the steps may look at all of them. */
static void test_many_watches(void **state)
{
    enum { MANY = 100000 };
    struct etcd_ask a = {0};
    struct etcd_range r = range("k", "");
    clock_t began = clock();

    (void)state;
    for (int i = 0; i < MANY; i++) {
        assert_int_equal(etcd_ask_create(&a, 0, &r), ERR_OK);
        assert_int_equal(etcd_ask_create(&a, 0, &r), ERR_OK);
        /* Ids count up, but a client may choose some. */
        assert_int_equal(etcd_ask_created(&a, i % 1000 == 999 ? -i : i, false), ERR_OK);
    }
    for (int i = 0; i < MANY; i++)
        assert_int_equal(etcd_ask_created(&a, -1, true), ERR_OK);
    assert_int_equal(etcd_ask_created(&a, 1, false), ERR_ANS_UNKNOWN_WATCH);
    assert_int_equal(a.watch_count, MANY);
    for (int i = 0; i < MANY; i++) {
        int id = i % 1000 == 999 ? -i : i;

        assert_non_null(etcd_ask_watch(&a, id));
        assert_int_equal(etcd_ask_watch(&a, id)->id, id);
        if (i % 1000 == 500)
            etcd_ask_canceled(&a, id);
        assert_null(etcd_ask_watch(&a, MANY + i));
    }
    assert_null(etcd_ask_watch(&a, 500));
    assert_non_null(etcd_ask_watch(&a, 501));
    assert_int_equal(a.watch_count, MANY - MANY / 1000);
    etcd_ask_fini(&a);
    assert_true((clock() - began) / CLOCKS_PER_SEC < 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_range),
        cmocka_unit_test(test_ask_copies_keys),
        cmocka_unit_test(test_txn_operations),
        cmocka_unit_test(test_watches),
        cmocka_unit_test(test_asked_ids),
        cmocka_unit_test(test_refused_create_keeps_other),
        cmocka_unit_test(test_watched_bytes_are_bounded),
        cmocka_unit_test(test_many_watches),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
