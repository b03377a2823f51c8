/* SPDX-License-Identifier: Apache-2.0 */
/* What is handed out never comes twice, in a fork either; what is fetched ahead is little, is wiped
 * as it is used, and is gone once the turn is over. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/randpool.h"

static struct randpool pool;

static int setup_ahead(void **state)
{
    (void)state;
    randpool_init_as(&pool, true);
    return pool.page != NULL ? 0 : -1;
}

static int setup_alone(void **state)
{
    (void)state;
    randpool_init_as(&pool, false);
    return pool.page == NULL ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    randpool_fini(&pool);
    return 0;
}

static void draw(size_t n)
{
    uint8_t out[RANDPOOL_MAX];

    assert_int_equal(randpool_get(&pool, out, n), ERR_OK);
}

static int compare(const void *a, const void *b)
{
    return memcmp(a, b, 16);
}

/* 40,000 blocks of 128 bits, over several fillings and turns: none comes twice. */
static void nothing_comes_twice(void **state)
{
    enum { COUNT = 40000 };
    uint8_t(*v)[16] = malloc(COUNT * sizeof *v);

    (void)state;
    assert_non_null(v);
    for (size_t i = 0; i < COUNT; i++) {
        assert_int_equal(randpool_get(&pool, v[i], 16), ERR_OK);
        if (i % 100 == 0)
            randpool_drop(&pool);
    }
    qsort(v, COUNT, sizeof *v, compare);
    for (size_t i = 1; i < COUNT; i++)
        assert_int_not_equal(memcmp(v[i - 1], v[i], 16), 0);
    free(v);
}

static bool has(const void *needle, size_t n)
{
    return memmem(pool.page->buf, sizeof pool.page->buf, needle, n) != NULL;
}

static void used_bytes_are_wiped(void **state)
{
    uint8_t out[44];

    (void)state;
    for (int i = 0; i < 500; i++) {
        assert_int_equal(randpool_get(&pool, out, sizeof out), ERR_OK);
        assert_false(has(out, 16));
    }
}

/* A snapshot while the thread sleeps finds nothing; one within a turn at most 1 KiB. */
static void the_turns_end_leaves_nothing(void **state)
{
    static const uint8_t zeros[RANDPOOL_MAX];

    (void)state;
    for (int turn = 0; turn < 50; turn++) {
        for (int i = 0; i < turn; i++)
            draw(44);
        assert_true(pool.page->left <= RANDPOOL_MAX);
        assert_int_equal(randpool_wants_drop(&pool), turn > 0);
        randpool_drop(&pool);
        assert_false(randpool_wants_drop(&pool));
        assert_memory_equal(pool.page->buf, zeros, sizeof zeros);
    }
}

static void one_value_in_a_turn_is_fetched_alone(void **state)
{
    (void)state;
    draw(44);
    assert_int_equal(pool.page->left, 0);
    draw(44);
    assert_true(pool.page->left > 0);
    for (int i = 0; i < 1000; i++)
        draw(44);
    assert_int_equal(pool.page->fill, RANDPOOL_MAX);
    randpool_drop(&pool);
    draw(12);
    assert_int_equal(pool.page->left, 0);
}

static void odd_sizes(void **state)
{
    uint8_t out[RANDPOOL_MAX + 8] = {0};

    (void)state;
    assert_int_equal(randpool_get(&pool, out, RANDPOOL_MAX), ERR_OK);
    for (size_t i = RANDPOOL_MAX; i < sizeof out; i++)
        assert_int_equal(out[i], 0);
    assert_int_equal(pool.page->left, 0);
    draw(1);
    assert_int_equal(pool.page->left, RANDPOOL_MAX - 1);
    draw(0);
    assert_int_equal(pool.page->left, RANDPOOL_MAX - 1);
    assert_int_equal(randpool_get(&pool, out, sizeof out), ERR_OK); /* more than a pool has */
    assert_int_equal(pool.page->left, RANDPOOL_MAX - 1);
}

/* What a child draws next is not what its parent draws next. */
static void a_fork_shares_nothing(void **state)
{
    uint8_t own[16], others[16];
    int fds[2], status;
    pid_t child;

    (void)state;
    draw(16);
    draw(16);
    assert_int_equal(pipe(fds), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        bool ok = (pool.page == NULL || pool.page->left == 0) &&
                  randpool_get(&pool, others, sizeof others) == ERR_OK &&
                  write(fds[1], others, sizeof others) == (ssize_t)sizeof others;

        _exit(ok ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(read(fds[0], others, sizeof others), sizeof others);
    assert_int_equal(randpool_get(&pool, own, sizeof own), ERR_OK);
    assert_memory_not_equal(own, others, sizeof own);
    close(fds[0]);
    close(fds[1]);
}

static void without_a_page_nothing_is_kept(void **state)
{
    (void)state;
    for (int i = 0; i < 100; i++) {
        draw(44);
        assert_false(randpool_wants_drop(&pool));
    }
    randpool_drop(&pool);
}

/* Where the kernel need not be called nothing is fetched ahead. */
static void cheap_means_alone(void **state)
{
    struct randpool own;

    (void)state;
    randpool_init(&own);
    assert_int_equal(own.page == NULL, random_is_cheap());
    randpool_fini(&own);
}

static void uuids(void **state)
{
    char a[37], b[37];

    (void)state;
    assert_int_equal(random_uuid(a), ERR_OK);
    assert_int_equal(random_uuid(b), ERR_OK);
    assert_string_not_equal(a, b);
    assert_int_equal(strlen(a), 36);
    for (size_t i = 0; i < 36; i++) {
        if (i == 8 || i == 13 || i == 18 || i == 23)
            assert_int_equal(a[i], '-');
        else
            assert_non_null(strchr("0123456789abcdef", a[i]));
    }
    assert_int_equal(a[14], '4');
    assert_non_null(strchr("89ab", a[19]));
}

#define AHEAD(name) cmocka_unit_test_setup_teardown(name, setup_ahead, teardown)
#define ALONE(name) cmocka_unit_test_setup_teardown(name, setup_alone, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        AHEAD(nothing_comes_twice),
        ALONE(nothing_comes_twice),
        AHEAD(used_bytes_are_wiped),
        AHEAD(the_turns_end_leaves_nothing),
        AHEAD(one_value_in_a_turn_is_fetched_alone),
        AHEAD(odd_sizes),
        AHEAD(a_fork_shares_nothing),
        ALONE(a_fork_shares_nothing),
        ALONE(without_a_page_nothing_is_kept),
        cmocka_unit_test(cheap_means_alone),
        cmocka_unit_test(uuids),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
