/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever is counted, for however long: looks are neither too many nor too late. */
#include "converge/pace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/base.h"

static uint32_t seed = 1;

static unsigned any(unsigned n)
{
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 8) % n;
}

static const uint64_t takes[] = {0, 10, 999, 1001, 30000, 61000, 400000, 5000000};

static uint64_t least_of(uint64_t took, uint64_t most)
{
    uint64_t ms = 10 * took > CONVERGE_PACE_SOON_MS ? 10 * took : CONVERGE_PACE_SOON_MS;

    return ms < most ? ms : most;
}

/* Where others rewrite, what was counted is old by the shortest pause at most, each time anew. */
static void test_while_others_rewrite(void **state)
{
    (void)state;
    for (size_t t = 0; t < ARRAY_LEN(takes); t++) {
        struct converge_pace p = {0};
        uint64_t counts[SWEEP_STATE_COUNT] = {0};
        uint64_t least = least_of(takes[t], CONVERGE_PACE_DUE_MS);

        counts[SWEEP_PLAINTEXT] = 5000;
        for (; counts[SWEEP_PLAINTEXT] > 0; counts[SWEEP_PLAINTEXT] -= 100) {
            assert_int_equal(converge_pace_looked(&p, takes[t], counts, counts[SWEEP_PLAINTEXT]),
                             least);
            counts[SWEEP_CURRENT] += 100;
        }
        assert_int_equal(converge_pace_looked(&p, takes[t], counts, 0), CONVERGE_PACE_MS);
        assert_true(converge_pace_news(&p) == UINT64_MAX);
        assert_int_equal(converge_pace_told(&p), least_of(takes[t], CONVERGE_PACE_MS));
    }
}

/* Where nobody does, they become fewer, up to the bound, even if objects come; news begin anew. */
static void test_while_nobody_does(void **state)
{
    (void)state;
    for (size_t t = 0; t < ARRAY_LEN(takes) * SWEEP_STATE_COUNT; t++) {
        struct converge_pace p = {0};
        uint64_t took = takes[t % ARRAY_LEN(takes)], counts[SWEEP_STATE_COUNT] = {0}, before = 0;
        size_t s = t / ARRAY_LEN(takes);
        uint64_t due = s == SWEEP_PLAINTEXT ? 7 : 0;
        uint64_t most = due > 0 ? CONVERGE_PACE_DUE_MS : CONVERGE_PACE_MS;

        counts[s] = 7;
        for (int n = 0; n < 20; n++) {
            uint64_t ms = converge_pace_looked(&p, took, counts, due);

            assert_true(ms >= before && ms >= least_of(took, most) && ms <= most);
            assert_true(n > 0 || s == SWEEP_CURRENT || ms == least_of(took, most));
            before = ms;
            counts[SWEEP_CURRENT] += any(10);
        }
        assert_int_equal(before, most);
        assert_true(converge_pace_news(&p) ==
                    (s == SWEEP_CURRENT ? UINT64_MAX : least_of(took, most)));
    }
}

/* Anything at all. */
static void test_share_of_the_time(void **state)
{
    struct converge_pace p = {0};

    (void)state;
    for (int n = 0; n < 20000; n++) {
        uint64_t took = any(200000), counts[SWEEP_STATE_COUNT], due = any(3), ms;
        uint64_t most = due > 0 ? CONVERGE_PACE_DUE_MS : CONVERGE_PACE_MS;

        for (int s = 0; s < SWEEP_STATE_COUNT; s++)
            counts[s] = any(2);
        ms = converge_pace_looked(&p, took, counts, due);
        assert_true(ms >= least_of(took, most) && ms <= most);
        ms = any(2) > 0 ? converge_pace_told(&p) : converge_pace_news(&p);
        assert_true(ms == UINT64_MAX || (ms >= least_of(took, most) && ms <= most));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_while_others_rewrite),
                                       cmocka_unit_test(test_while_nobody_does),
                                       cmocka_unit_test(test_share_of_the_time)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
