/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/metrics.h"
#include "base/slice.h"

static struct slab_pool pool;

static int setup(void **state)
{
    (void)state;
    slab_pool_init(&pool, 4);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    slab_pool_fini(&pool); /* checks that every slab came back */
    return 0;
}

/* A slice over a slab of its own. */
static struct slice slice_new(const char *text)
{
    size_t n = strlen(text);
    struct slab *slab = slab_new(&pool, n, 0);

    assert_non_null(slab);
    memcpy(slab->data, text, n);
    slab->fill = (uint32_t)n;
    return (struct slice){slab, 0, (uint32_t)n};
}

static void push(struct chain *c, const char *text)
{
    struct slice s = slice_new(text);

    assert_int_equal(chain_push(c, &s), ERR_OK);
    assert_null(s.slab);
}

static void check(const struct chain *c, const char *text)
{
    char buf[256];
    size_t sum = 0;

    assert_int_equal(c->len, strlen(text));
    chain_copy(c, 0, c->len, (uint8_t *)buf);
    assert_memory_equal(buf, text, c->len);
    for (uint32_t i = 0; i < c->count; i++) {
        assert_int_not_equal(chain_at(c, i)->len, 0);
        sum += chain_at(c, i)->len;
    }
    assert_int_equal(sum, c->len);
}

static void slabs_are_pooled(void **state)
{
    struct slab *slab[6];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(slab); i++) {
        slab[i] = slab_new(&pool, i == 0 ? 0 : LIMIT_SLAB_SIZE, 0);
        assert_non_null(slab[i]);
        assert_int_equal(slab[i]->cap, LIMIT_SLAB_SIZE);
    }
    assert_int_equal(pool.live_bytes, 6 * LIMIT_SLAB_SIZE);
    for (size_t i = 0; i < ARRAY_LEN(slab); i++)
        slab_drop(slab[i]);
    assert_int_equal(pool.live_bytes, 0);
    assert_int_equal(pool.free.count, 4); /* its bound */
    slab[0] = slab_new(&pool, 1, 0);
    assert_int_equal(pool.free.count, 3);
    slab_drop(slab[0]);
}

static void large_ones_have_a_bin_of_their_own(void **state)
{
    struct slab_pool own;
    struct slab *slab[3];

    (void)state;
    slab_pool_init(&own, 32);
    for (size_t i = 0; i < ARRAY_LEN(slab); i++) {
        slab[i] = slab_new(&own, LIMIT_SLAB_LARGE, 0);
        assert_non_null(slab[i]);
        assert_int_equal(slab[i]->cap, LIMIT_SLAB_LARGE);
    }
    for (size_t i = 0; i < ARRAY_LEN(slab); i++)
        slab_drop(slab[i]);
    assert_int_equal(own.free_large.count, 2);
    assert_int_equal(own.free.count, 0);
    slab[0] = slab_new(&own, LIMIT_SLAB_LARGE, 0);
    assert_int_equal(own.free_large.count, 1);
    slab_drop(slab[0]);
    slab_pool_trim(&own, 8);
    assert_int_equal(own.free_large.count, 0);
    slab_pool_fini(&own);
}

static void others_are_made_to_measure(void **state)
{
    uint32_t free_before = pool.free.count;
    struct slab *slab = slab_new(&pool, LIMIT_SLAB_SIZE + 1, 0);

    (void)state;
    assert_non_null(slab);
    assert_int_equal(slab->cap, LIMIT_SLAB_SIZE + 1);
    assert_int_equal(pool.live_bytes, LIMIT_SLAB_SIZE + 1);
    slab_ref(slab);
    slab_drop(slab);
    assert_int_equal(pool.live_bytes, LIMIT_SLAB_SIZE + 1);
    slab_drop(slab);
    assert_int_equal(pool.live_bytes, 0);
    assert_int_equal(pool.free.count, free_before);
    assert_null(slab_new(&pool, 1024u * 1024 * 1024 + 1, 0));
    assert_null(slab_new(&pool, SIZE_MAX, 0));
}

/* A pooled slab stays allocated after its last drop: the test may look at what is left in it. */
static void secret_slabs_are_wiped(void **state)
{
    struct slab *slab = slab_new(&pool, 100, SLAB_SECRET);

    (void)state;
    assert_non_null(slab);
    memset(slab->data, 'p', 100);
    slab->fill = 100;
    slab_ref(slab);
    slab_drop(slab);
    assert_int_equal(slab->data[50], 'p'); /* not the last drop */
    slab_drop(slab);
    assert_ptr_equal(pool.free.first, slab);
    for (size_t i = 0; i < 100; i++)
        assert_int_equal(slab->data[i], 0);
}

static void static_slices(void **state)
{
    static const uint8_t zeros[10];
    struct slab slab;
    struct slice s = slice_static(&slab, zeros, sizeof zeros), part;
    struct chain c = {0};

    (void)state;
    for (int i = 0; i < 3; i++) {
        part = slice_sub(s, 0, 7);
        assert_int_equal(chain_push(&c, &part), ERR_OK);
    }
    assert_int_equal(c.len, 21);
    /* Nothing is ever written behind constant memory. */
    assert_int_equal(chain_push_copy(&c, &pool, "x", 1, 0), ERR_OK);
    assert_int_equal(c.count, 4);
    chain_fini(&c);
    slice_drop(&s);
    assert_int_equal(slab.refs, 1);
}

static void neighbours_are_joined(void **state)
{
    struct slice s = slice_new("0123456789"), part;
    struct chain c = {0};

    (void)state;
    for (uint32_t i = 0; i < 10; i += 2) {
        part = slice_sub(s, i, 2);
        assert_int_equal(chain_push(&c, &part), ERR_OK);
    }
    assert_int_equal(c.count, 1);
    assert_int_equal(s.slab->refs, 2);
    part = slice_sub(s, 3, 2); /* the same slab, but not the next bytes */
    assert_int_equal(chain_push(&c, &part), ERR_OK);
    assert_int_equal(c.count, 2);
    part = slice_sub(s, 0, 0);
    assert_int_equal(chain_push(&c, &part), ERR_OK);
    check(&c, "012345678934");
    slice_drop(&s);
    chain_fini(&c);
}

static void moves_shares_and_consumes(void **state)
{
    struct chain a = {0}, b = {0};

    (void)state;
    push(&a, "abc");
    push(&a, "def");
    push(&a, "ghi");
    assert_int_equal(chain_share(&b, &a, 2, 5), ERR_OK);
    check(&a, "abcdefghi");
    check(&b, "cdefg");
    assert_int_equal(chain_move(&b, &a, 4), ERR_OK);
    check(&a, "efghi");
    check(&b, "cdefgabcd");
    chain_consume(&b, 5);
    check(&b, "abcd");
    assert_int_equal(chain_append(&b, &a), ERR_OK);
    check(&a, "");
    check(&b, "abcdefghi");
    assert_int_equal(chain_append(&a, &b), ERR_OK); /* into an empty one: swapped */
    check(&a, "abcdefghi");
    check(&b, "");
    chain_clear(&a);
    check(&a, "");
    push(&a, "again");
    check(&a, "again");
    chain_fini(&a);
    chain_fini(&b);
    chain_fini(&b);
}

static void copies_gather_in_the_open_slab(void **state)
{
    uint64_t copied = metric_get(METRIC_bytes_copied_total);
    struct chain c = {0}, other = {0};

    (void)state;
    assert_int_equal(chain_push_copy(&c, &pool, "abc", 3, 0), ERR_OK);
    assert_int_equal(chain_push_copy(&c, &pool, "def", 3, 0), ERR_OK);
    assert_int_equal(c.count, 1);
    assert_int_equal(metric_get(METRIC_bytes_copied_total) - copied, 6);
    /* Several chains share the open slab: a queued small message does not pin one of its own. */
    assert_int_equal(chain_push_copy(&other, &pool, "abcdef", 6, 0), ERR_OK);
    assert_ptr_equal(chain_at(&other, 0)->slab, chain_at(&c, 0)->slab);
    assert_int_equal(pool.live_bytes, LIMIT_SLAB_SIZE);
    assert_int_equal(chain_push_copy(&c, &pool, "ghi", 3, 0), ERR_OK);
    assert_int_equal(c.count, 2);
    /* Nor one with other flags: secrets and others are kept apart. */
    assert_int_equal(chain_push_copy(&c, &pool, "jkl", 3, SLAB_SECRET), ERR_OK);
    assert_int_equal(c.count, 3);
    check(&c, "abcdefghijkl");
    check(&other, "abcdef");
    chain_fini(&c);
    chain_fini(&other);
    assert_int_equal(pool.live_bytes, 2 * LIMIT_SLAB_SIZE);
    slab_pool_settle(&pool);
    assert_int_equal(pool.live_bytes, 0);
}

static void large_copies(void **state)
{
    size_t n = 3 * LIMIT_SLAB_SIZE + 17;
    uint8_t *from = malloc(n), *to = malloc(n);
    struct chain c = {0};

    (void)state;
    assert_non_null(from);
    assert_non_null(to);
    for (size_t i = 0; i < n; i++)
        from[i] = (uint8_t)(i * 7);
    assert_int_equal(chain_push_copy(&c, &pool, from, 5, 0), ERR_OK);
    assert_int_equal(chain_push_copy(&c, &pool, from + 5, n - 5, 0), ERR_OK);
    assert_int_equal(c.len, n);
    chain_copy(&c, 0, n, to);
    assert_memory_equal(from, to, n);
    chain_fini(&c);
    free(from);
    free(to);
}

static void positions(void **state)
{
    struct chain c = {0};
    struct chain_pos pos;

    (void)state;
    pos = chain_begin(&c);
    assert_int_equal(chain_peek(&pos, 10).n, 0);
    assert_int_equal(chain_next(&pos), -1);
    push(&c, "abc");
    push(&c, "d");
    push(&c, "efg");
    for (size_t off = 0; off <= c.len; off++) {
        pos = chain_seek(&c, off);
        assert_int_equal(pos.at, off);
        for (size_t i = off; i < c.len; i++)
            assert_int_equal(chain_next(&pos), 'a' + (int)i);
        assert_int_equal(chain_next(&pos), -1);
    }
    pos = chain_seek(&c, 1);
    assert_true(bytes_eq(chain_peek(&pos, 99), BYTES_LIT("bc")));
    assert_true(bytes_eq(chain_peek(&pos, 1), BYTES_LIT("b")));
    assert_int_equal(chain_peek(&pos, 0).n, 0);
    chain_skip(&pos, 3);
    assert_true(bytes_eq(chain_peek(&pos, 2), BYTES_LIT("ef")));
    chain_fini(&c);
}

/* --- a chain against a plain array ------------------------------------------------------------ */

#define MODEL_MAX 100000

struct model {
    struct chain c;
    uint8_t bytes[MODEL_MAX];
    size_t n;
};

static uint32_t seed;

static uint32_t dice(uint32_t n)
{
    seed = seed * 1664525 + 1013904223;
    return (seed >> 8) % n;
}

static void model_check(const struct model *m)
{
    struct chain_pos pos = chain_begin(&m->c);

    assert_int_equal(m->c.len, m->n);
    for (size_t at = 0; at < m->n;) {
        struct bytes b = chain_peek(&pos, SIZE_MAX);

        assert_memory_equal(b.p, m->bytes + at, b.n);
        chain_skip(&pos, b.n);
        at += b.n;
    }
    assert_int_equal(chain_next(&pos), -1);
}

static void model_take(struct model *to, const uint8_t *p, size_t n)
{
    memcpy(to->bytes + to->n, p, n);
    to->n += n;
}

static void model_lose(struct model *m, size_t n)
{
    m->n -= n;
    memmove(m->bytes, m->bytes + n, m->n);
}

static void model_step(struct model *a, struct model *b)
{
    static uint8_t next;
    uint8_t fresh[300];
    size_t n = dice(sizeof fresh), part = a->n == 0 ? 0 : dice((uint32_t)a->n + 1);
    size_t off = a->n == part ? 0 : dice((uint32_t)(a->n - part) + 1);

    switch (dice(6)) {
    case 0:
    case 1:
        for (size_t i = 0; i < n; i++)
            fresh[i] = next++;
        assert_int_equal(chain_push_copy(&a->c, &pool, fresh, n, dice(2) ? SLAB_SECRET : 0),
                         ERR_OK);
        model_take(a, fresh, n);
        break;
    case 2:
        assert_int_equal(chain_move(&b->c, &a->c, part), ERR_OK);
        model_take(b, a->bytes, part);
        model_lose(a, part);
        break;
    case 3:
        part = part < 200 ? part : 200;
        assert_int_equal(chain_share(&b->c, &a->c, off, part), ERR_OK);
        model_take(b, a->bytes + off, part);
        break;
    case 4:
        chain_consume(&a->c, part);
        model_lose(a, part);
        break;
    default:
        assert_int_equal(chain_append(&b->c, &a->c), ERR_OK);
        model_take(b, a->bytes, a->n);
        a->n = 0;
    }
}

static void pins_whole_slabs(void **state)
{
    static const uint8_t zeros[8];
    struct slab_pool own;
    struct slab constant;
    struct chain c = {0};
    struct slice s;

    (void)state;
    slab_pool_init(&own, 4);
    assert_int_equal(chain_pinned(&c), 0);
    for (int i = 0; i < 2; i++) {
        struct slab *slab = slab_new(&own, LIMIT_SLAB_SIZE, 0);

        assert_non_null(slab);
        slab->fill = 100;
        slab_ref(slab);
        s = (struct slice){slab, 0, 1};
        assert_int_equal(chain_push(&c, &s), ERR_OK);
        s = (struct slice){slab, 50, 1}; /* no neighbour in memory, but of the same slab */
        assert_int_equal(chain_push(&c, &s), ERR_OK);
    }
    s = slice_static(&constant, zeros, sizeof zeros);
    assert_int_equal(chain_push(&c, &s), ERR_OK);
    assert_int_equal(chain_pinned(&c), 2 * LIMIT_SLAB_SIZE + c.cap * sizeof *c.v);
    assert_int_equal(own.live_bytes, 2 * LIMIT_SLAB_SIZE);
    assert_int_equal(slab_pool_held(&own), chain_pinned(&c));
    chain_fini(&c);
    assert_int_equal(slab_pool_held(&own), 0);
    slab_pool_fini(&own);
}

/* The array of a chain counts where its slabs do, whatever becomes of the chain: moved, appended,
 * cleared. Most have none. */
static void arrays_count(void **state)
{
    struct chain c = {0}, to = {0};
    struct slab_pool own;
    struct slab *slab;

    (void)state;
    slab_pool_init(&own, 4);
    slab = slab_new(&own, LIMIT_SLAB_SIZE, 0);
    assert_non_null(slab);
    slab->fill = slab->cap;
    for (uint32_t i = 0; i < 5000; i++) {
        struct slice s = {slab, 2 * i, 1};

        slab_ref(slab);
        assert_int_equal(chain_push(&c, &s), ERR_OK);
        assert_true(i < CHAIN_FEW ? own.kept_bytes == 0 : own.kept_bytes > i * sizeof s);
        assert_int_equal(own.kept_bytes, c.v == NULL ? 0 : c.cap * sizeof s);
    }
    assert_int_equal(chain_move(&to, &c, 2500), ERR_OK);
    assert_int_equal(own.kept_bytes, (c.cap + to.cap) * sizeof(struct slice));
    assert_int_equal(chain_append(&to, &c), ERR_OK);
    chain_clear(&to);
    assert_int_equal(own.kept_bytes, (c.cap + to.cap) * sizeof(struct slice));
    chain_fini(&to);
    chain_fini(&c);
    assert_int_equal(own.kept_bytes, 0);
    slab_drop(slab);
    slab_pool_fini(&own);
}

static void like_an_array(void **state)
{
    static struct model m[2];

    (void)state;
    seed = 20261124;
    for (int step = 0; step < 5000; step++) {
        uint32_t i = dice(2);

        model_step(&m[i], &m[1 - i]);
        model_check(&m[0]);
        model_check(&m[1]);
        for (i = 0; i < 2; i++) {
            if (m[i].n < MODEL_MAX / 3)
                continue;
            chain_clear(&m[i].c);
            m[i].n = 0;
        }
    }
    chain_fini(&m[0].c);
    chain_fini(&m[1].c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slabs_are_pooled),
        cmocka_unit_test(large_ones_have_a_bin_of_their_own),
        cmocka_unit_test(others_are_made_to_measure),
        cmocka_unit_test(secret_slabs_are_wiped),
        cmocka_unit_test(static_slices),
        cmocka_unit_test(neighbours_are_joined),
        cmocka_unit_test(moves_shares_and_consumes),
        cmocka_unit_test(copies_gather_in_the_open_slab),
        cmocka_unit_test(large_copies),
        cmocka_unit_test(positions),
        cmocka_unit_test(pins_whole_slabs),
        cmocka_unit_test(arrays_count),
        cmocka_unit_test(like_an_array),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
