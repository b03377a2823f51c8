/* SPDX-License-Identifier: Apache-2.0 */
/* Each allocation of slabs, chains, objects, arenas and metric series fails in turn: NULL or
 * ERR_NOMEM, nothing lost but what the contract says, nothing leaked, and all goes on afterwards.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/metric_series.h"
#include "base/slice.h"
#include "failing_alloc.h"

#define TRIES_MAX 1000u
#define PIECES 40u

static struct slab_pool pool;

static void forget_all(void)
{
    for (int id = 0; id < SERIES_COUNT; id++)
        series_forget((enum series_id)id);
}

static int setup(void **state)
{
    (void)state;
    slab_pool_init(&pool, 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    slab_pool_fini(&pool); /* checks that every slab came back */
    forget_all();
    return 0;
}

/* --- slabs and chains ------------------------------------------------------------------------- */

static enum err slabs_once(void)
{
    struct slab *small = slab_new(&pool, 10, 0), *large = NULL, *open = NULL;
    enum err e = ERR_NOMEM;

    if (small != NULL)
        large = slab_new(&pool, LIMIT_SLAB_SIZE + 1, SLAB_SECRET);
    if (large != NULL)
        open = slab_gather(&pool, 100, SLAB_SECRET); /* the pool's own */
    if (open != NULL)
        e = ERR_OK;
    if (small != NULL)
        slab_drop(small);
    if (large != NULL)
        slab_drop(large);
    return e;
}

static void slabs(void **state)
{
    (void)state;
    alloc_fail_each(slabs_once, &pool);
}

/* Every second byte of a slab, so that no two pieces are joined. */
static enum err fill(struct chain *c, struct slab *slab)
{
    for (uint32_t i = 0; i < PIECES; i++) {
        struct slice s = {slab, 2 * i, 1};
        enum err e;

        slab_ref(slab);
        e = chain_push(c, &s);
        assert_null(s.slab); /* taken, also on error */
        assert_int_equal(c->len, e == ERR_OK ? i + 1 : i);
        TRY(e);
    }
    return ERR_OK;
}

static struct slab *numbered(void)
{
    struct slab *slab = slab_new(&pool, 2 * PIECES, 0);

    if (slab == NULL)
        return NULL;
    for (uint32_t i = 0; i < 2 * PIECES; i++)
        slab->data[i] = (uint8_t)(i / 2);
    slab->fill = 2 * PIECES;
    return slab;
}

/* The bytes of c are first, first + 1, ... */
static void check_numbers(const struct chain *c, size_t first)
{
    struct chain_pos pos = chain_begin(c);

    for (size_t i = 0; i < c->len; i++)
        assert_int_equal(chain_next(&pos), first + i);
    assert_int_equal(chain_next(&pos), -1);
}

static enum err move_part(struct chain *from, struct chain *to)
{
    enum err e = chain_move(to, from, PIECES / 2);

    check_numbers(to, 0);
    if (e == ERR_OK)
        assert_int_equal(from->len + to->len, PIECES);
    else /* what could not be moved is dropped, what was not tried is there */
        assert_int_equal(from->len + to->len, PIECES - 1);
    check_numbers(from, PIECES - from->len);
    return e;
}

static enum err share_all(const struct chain *from, struct chain *to)
{
    enum err e = chain_share(to, from, 0, from->len);

    assert_int_equal(from->len, PIECES);
    check_numbers(from, 0);
    check_numbers(to, 0);
    return e;
}

static enum err append_behind(struct chain *from, struct chain *to)
{
    size_t before = to->len;
    enum err e = chain_append(to, from);

    assert_true(e == ERR_OK ? from->len == 0 : from->len + to->len + 1 == PIECES + before);
    check_numbers(from, PIECES - from->len);
    return e;
}

static enum err with_chains(enum err (*fn)(struct chain *from, struct chain *to))
{
    struct slab *slab = numbered();
    struct chain from = {0}, to = {0};
    enum err e = ERR_NOMEM;

    if (slab == NULL)
        return ERR_NOMEM;
    e = fill(&from, slab);
    if (e == ERR_OK)
        e = fn(&from, &to);
    chain_fini(&from);
    chain_fini(&to);
    slab_drop(slab);
    return e;
}

static enum err move_once(void)
{
    return with_chains(move_part);
}

static enum err share_fn(struct chain *from, struct chain *to)
{
    return share_all(from, to);
}

static enum err share_once(void)
{
    return with_chains(share_fn);
}

static enum err append_fn(struct chain *from, struct chain *to)
{
    static const uint8_t byte;
    static struct slab constant;
    struct slice s = slice_static(&constant, &byte, 1);

    TRY(chain_push(to, &s));
    return append_behind(from, to);
}

static enum err append_once(void)
{
    return with_chains(append_fn);
}

static void chains(void **state)
{
    (void)state;
    alloc_fail_each(move_once, &pool);
    alloc_fail_each(share_once, &pool);
    alloc_fail_each(append_once, &pool);
}

/* Over three slabs. */
static enum err copy_once(void)
{
    static uint8_t bytes[2 * LIMIT_SLAB_SIZE + 100];
    struct chain c = {0};
    enum err e;

    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i % 251);
    e = chain_push_copy(&c, &pool, bytes, sizeof bytes, SLAB_SECRET);
    assert_true(e == ERR_OK ? c.len == sizeof bytes : c.len < sizeof bytes);
    for (size_t at = 0; at < c.len; at += 1000) {
        uint8_t b;

        chain_copy(&c, at, 1, &b);
        assert_int_equal(b, bytes[at]);
    }
    chain_fini(&c);
    return e;
}

static void copies(void **state)
{
    (void)state;
    alloc_fail_each(copy_once, &pool);
}

/* The pool's open slab is full and no other is to be had: the next one gets memory again. */
static void a_pool_goes_on_after_it_had_no_slab(void **state)
{
    struct slab *open = slab_gather(&pool, LIMIT_SLAB_SIZE, 0);

    (void)state;
    open->fill = open->cap;
    alloc_fail_from(1);
    assert_null(slab_gather(&pool, 1, 0));
    assert_null(slab_gather(&pool, 1, 0));
    assert_true(alloc_recover());
    assert_int_equal(pool.live_bytes, 0);
    assert_non_null(slab_gather(&pool, 1, 0));
    slab_pool_settle(&pool);
}

/* --- objects ---------------------------------------------------------------------------------- */

static enum err objects_once(void)
{
    struct objects o = {0};
    char *small = objects_alloc(&o, 20), *large, *grown;
    enum err e = ERR_NOMEM;

    large = small == NULL ? NULL : objects_calloc(&o, 3, OBJECTS_MAX);
    if (large != NULL) {
        memset(small, 'x', 20);
        grown = objects_realloc(&o, small, 2 * OBJECTS_MAX);
        e = grown == NULL ? ERR_NOMEM : ERR_OK;
        small = grown == NULL ? small : grown; /* on failure the old one stays */
        for (int i = 0; i < 20; i++)
            assert_int_equal(small[i], 'x');
        assert_int_equal(large[3 * OBJECTS_MAX - 1], 0);
    }
    objects_free(&o, small);
    objects_free(&o, large);
    assert_int_equal(o.live, 0);
    objects_fini(&o);
    return e;
}

static void small_objects(void **state)
{
    (void)state;
    alloc_fail_each(objects_once, NULL);
}

/* --- arena ------------------------------------------------------------------------------------ */

static enum err arena_once(void)
{
    static const size_t sizes[] = {100, 8000, 200, 100000, 50};
    struct arena a = {0};
    uint8_t *got[ARRAY_LEN(sizes)] = {NULL};
    enum err e = ERR_OK;

    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        got[i] = arena_alloc(&a, sizes[i]);
        if (got[i] == NULL)
            e = ERR_NOMEM; /* and the next one is tried all the same */
        else
            memset(got[i], (int)i, sizes[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        for (size_t at = 0; got[i] != NULL && at < sizes[i]; at++)
            assert_int_equal(got[i][at], i);
    }
    arena_reset(&a);
    arena_fini(&a);
    return e;
}

static void arenas(void **state)
{
    (void)state;
    alloc_fail_each(arena_once, NULL);
}

/* --- metric series ---------------------------------------------------------------------------- */

static char *text(void)
{
    char *p = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&p, &n);

    assert_int_equal(series_write(f), ERR_OK);
    fclose(f);
    return p;
}

static size_t count_lines(const char *with)
{
    char *all = text();
    size_t n = 0;

    for (const char *at = strstr(all, with); at != NULL; at = strstr(at + 1, with))
        n++;
    free(all);
    return n;
}

#define LINE "etcd_envelope_grpc_calls_total{"
#define HISTOGRAM "etcd_envelope_added_latency_seconds_count{"
#define BOUND "apiserver_encryption_config_controller_last_config_info{"

/* What cannot be kept is not counted; a series that is there is counted always. */
static void series_do_without(void **state)
{
    size_t n = 0;
    bool has_failed = true;

    (void)state;
    series_add(SERIES_CALLS, LABELS("OK", "Range"), 1);
    while (has_failed) {
        struct histogram h = {.sum = 1};

        series_forget(SERIES_ADDED_TIME);
        series_set(SERIES_CONFIG, LABELS("old"), 1);
        alloc_fail_once(++n);
        series_add(SERIES_CALLS, LABELS("OK", "Range"), 1);
        series_add(SERIES_CALLS, LABELS("NOT_FOUND", "Range"), 1);
        series_observe(SERIES_ADDED_TIME, LABELS("Range"), 1);
        series_merge(SERIES_ADDED_TIME, LABELS("Put"), &h);
        series_set(SERIES_CONFIG, LABELS("new"), 1);
        has_failed = alloc_recover();
        assert_in_range(count_lines(HISTOGRAM), has_failed ? 1 : 2, 2);
        assert_int_equal(count_lines(BOUND), 1); /* the old or the new one */
        series_forget(SERIES_CONFIG);
        assert_true(n < TRIES_MAX);
    }
    assert_true(n > 8); /* of so many allocations each has failed */
    assert_int_equal(count_lines(LINE), 2);
    {
        char want[80], *all = text();

        snprintf(want, sizeof want, LINE "grpc_code=\"OK\",grpc_method=\"Range\"} %zu\n", n + 1);
        assert_non_null(strstr(all, want));
        free(all);
    }
}

/* The families that are always there, too. */
static void the_text_is_written_without_memory(void **state)
{
    FILE *f = fopen("/dev/null", "w");

    (void)state;
    alloc_fail_from(1);
    assert_int_equal(series_write(f), ERR_OK);
    assert_true(alloc_recover());
    fclose(f);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(slabs),
        TEST(chains),
        TEST(copies),
        TEST(a_pool_goes_on_after_it_had_no_slab),
        TEST(small_objects),
        TEST(arenas),
        TEST(series_do_without),
        TEST(the_text_is_written_without_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
