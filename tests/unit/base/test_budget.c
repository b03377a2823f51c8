/* SPDX-License-Identifier: Apache-2.0 */
/* The rule of the budget: parts hold what they like while the sum is within the limit; beyond it a
 * part gets its fair share all the same, and those above theirs are told to let go until the sum
 * is within the limit again. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/budget.h"

#define MIB (1024ull * 1024)

static void one_part_may_have_all(void **state)
{
    static const uint64_t limits[] = {1000, MIB, 64 * MIB, 192 * MIB, 1 << 30};

    (void)state;
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        for (unsigned parts = 1; parts <= 4; parts++) {
            struct budget b;
            struct budget_part p;

            budget_init(&b, limits[i], parts);
            budget_join(&p, &b);
            for (uint64_t held = 0; held <= limits[i]; held += limits[i] / 10)
                assert_true(budget_covers(&p, held));
            assert_true(budget_covers(&p, limits[i]));
            assert_false(budget_covers(&p, limits[i] + 1));
            assert_int_equal(budget_excess(&p, limits[i] + 100),
                             parts == 1 || limits[i] > 200 ? 100 : 0);
            assert_true(budget_covers(&p, limits[i]));
            assert_true(budget_settle(&p, 0));
            budget_leave(&p);
            assert_int_equal(b.drawn, 0);
        }
    }
}

/* One has taken all: the other gets its share, not more, and the first has to make room for it. */
static void a_fair_share_is_never_refused(void **state)
{
    struct budget b;
    struct budget_part hog, other;

    (void)state;
    budget_init(&b, 64 * MIB, 2);
    budget_join(&hog, &b);
    budget_join(&other, &b);
    assert_true(budget_covers(&hog, 64 * MIB));
    assert_int_equal(budget_left(&other, 0, 64 * MIB), 0);
    assert_true(budget_covers(&other, 10 * MIB));
    assert_false(budget_may_keep(&hog, 64 * MIB));
    assert_int_equal(budget_excess(&hog, 64 * MIB), 10 * MIB);
    assert_true(budget_covers(&other, 32 * MIB));
    assert_false(budget_covers(&other, 33 * MIB));
    assert_int_equal(budget_excess(&hog, 64 * MIB), 32 * MIB); /* not below its own share */
    assert_true(budget_may_keep(&hog, 32 * MIB));
    assert_true(budget_covers(&other, 32 * MIB));
    budget_leave(&hog);
    budget_leave(&other);
    assert_int_equal(b.drawn, 0);
}

/* What is drawn ahead is given back for others. */
static void portions_go_back(void **state)
{
    struct budget b;
    struct budget_part p, q;

    (void)state;
    budget_init(&b, 64 * MIB, 2);
    budget_join(&p, &b);
    budget_join(&q, &b);
    assert_true(budget_covers(&p, 60 * MIB));
    assert_false(budget_settle(&p, 30 * MIB));
    assert_in_range(b.drawn, 30 * MIB, 34 * MIB);
    assert_in_range(budget_left(&q, 0, 48 * MIB), 14 * MIB, 18 * MIB);
    assert_true(budget_covers(&q, 30 * MIB));
    assert_true(budget_may_keep(&p, 30 * MIB)); /* lets go of what it drew ahead, if need be */
    assert_true(budget_settle(&p, 0));
    assert_true(budget_settle(&q, 0));
    assert_in_range(b.drawn, 0, 8 * MIB);
    budget_leave(&p);
    budget_leave(&q);
}

#define THREADS 4
#define ROUNDS 20000u

static struct budget shared;

static void *worker(void *arg)
{
    unsigned seed = *(unsigned *)arg;
    struct budget_part p;

    budget_join(&p, &shared);
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t held = (uint64_t)rand_r(&seed) % (40 * MIB);

        if (!budget_covers(&p, held) && held <= shared.fair)
            return arg; /* never */
        (void)budget_settle(&p, held / 2);
    }
    budget_leave(&p);
    return NULL;
}

static void threads_lose_nothing(void **state)
{
    unsigned seeds[THREADS];
    pthread_t t[THREADS];
    void *bad;

    (void)state;
    budget_init(&shared, 64 * MIB, THREADS);
    for (unsigned i = 0; i < THREADS; i++) {
        seeds[i] = i + 1;
        assert_int_equal(pthread_create(&t[i], NULL, worker, &seeds[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(t[i], &bad), 0);
        assert_null(bad);
    }
    assert_int_equal(shared.drawn, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_part_may_have_all),
        cmocka_unit_test(a_fair_share_is_never_refused),
        cmocka_unit_test(portions_go_back),
        cmocka_unit_test(threads_lose_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
