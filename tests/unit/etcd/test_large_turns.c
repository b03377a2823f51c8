/* SPDX-License-Identifier: Apache-2.0 */
/* The rule: a revision of very many events is planned in turns, each of so many events as batch_max
 * says, and what comes of it is what comes of one that is planned at once. */
#include "large_kit.h"

#include <stdio.h>

#define REVISION 100
#define MANY 1000

/* What event i is: sealed, in clear, or without a value. */
enum sort { PUT_SEALED, PUT_PLAIN, DELETE, SORTS };

static void add_event(struct buf *b, int i, enum sort sort, bool is_stored, int64_t revision)
{
    struct buf event = {0};
    int number = sort == PUT_SEALED ? i - i % 5 : i - i % 5 + 4; /* kit_add_kv: is it protected? */

    if (sort == DELETE)
        buf_varint(&event, 1, 1);
    kit_add_kv(&event, 2, number, sort == DELETE ? 0 : 30, is_stored, revision);
    buf_sub(b, 11, &event);
}

/* count events of one revision, and one of the next. sort SORTS: all in turn. */
static struct buf watch(int count, enum sort sort, bool is_stored)
{
    struct buf b = {0};

    kit_add_header(&b);
    buf_varint(&b, 2, 7);
    for (int i = 0; i < count; i++)
        add_event(&b, i, sort == SORTS ? (enum sort)(i % SORTS) : sort, is_stored, REVISION);
    add_event(&b, 0, PUT_SEALED, is_stored, REVISION + 1);
    return b;
}

struct pieces {
    size_t count;
    struct buf all; /* one behind the other: repeated fields add up */
};

static void on_piece(void *arg, const struct buf *piece)
{
    struct pieces *p = arg;

    p->count++;
    buf_add(&p->all, piece->p, piece->n);
}

/* Returns how often it was planned on. */
static size_t run(int count, enum sort sort, size_t batch_max, size_t *ops_most)
{
    struct buf in = watch(count, sort, true), want = watch(count, sort, false), a, b;
    struct pieces p = {0};
    struct feed f;
    size_t turns;

    feed_init_batch(&f, ETCD_WATCH, &in, in.n, batch_max);
    f.on_piece = on_piece;
    f.arg = &p;
    feed_all(&f, &in, in.n, 1 + fix_random(&fix, (uint32_t)in.n));
    assert_int_equal(f.err, ERR_OK);
    assert_true(f.is_done);
    assert_in_range(p.count, 1, 2);
    a = kit_canonical(ETCD_WATCH, &p.all);
    b = kit_canonical(ETCD_WATCH, &want);
    assert_buf_equal(&a, &b);
    turns = f.turns;
    *ops_most = f.ops_most;
    feed_fini(&f);
    buf_free(&a);
    buf_free(&b);
    buf_free(&p.all);
    buf_free(&in);
    buf_free(&want);
    return turns;
}

static void as_many_turns_as_it_takes(void **state)
{
    static const int counts[] = {1, 2, 3, 7, 64, 65, 255, MANY};
    static const size_t maxima[] = {1, ETCD_LARGE_EVENT_COST, 7 * ETCD_LARGE_EVENT_COST,
                                    100 * ETCD_LARGE_EVENT_COST, LIMIT_LANE_TURN};
    size_t ops;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
        for (size_t k = 0; k < ARRAY_LEN(maxima); k++) {
            size_t events = maxima[k] / ETCD_LARGE_EVENT_COST + 1;
            size_t least = ((size_t)counts[i] - 1) / events;

            /* The event of the next revision may be in the same batch. */
            assert_in_range(run(counts[i], SORTS, maxima[k], &ops), least, least + 1);
        }
    }
}

/* A revision may delete a million keys: without values it takes no plan to speak of. */
static void deletions_take_no_plan(void **state)
{
    size_t few, many;

    (void)state;
    (void)run(1, DELETE, 1, &few);
    (void)run(MANY, DELETE, 1, &many);
    assert_int_equal(few, many);
}

/* The large answer may go before its plan is done. */
static void it_may_end_between_two(void **state)
{
    struct buf in = watch(MANY, SORTS, true);

    (void)state;
    for (int i = 0; i < 20; i++) {
        struct feed f;

        feed_init_batch(&f, ETCD_WATCH, &in, in.n, ETCD_LARGE_EVENT_COST);
        f.may_stop = true;
        feed_bytes(&f, in.p, in.n);
        assert_true(f.turns > 0);
        feed_fini(&f);
    }
    buf_free(&in);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(as_many_turns_as_it_takes, kit_setup, kit_teardown),
        cmocka_unit_test_setup_teardown(deletions_take_no_plan, kit_setup, kit_teardown),
        cmocka_unit_test_setup_teardown(it_may_end_between_two, kit_setup, kit_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
