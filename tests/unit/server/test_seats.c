/* SPDX-License-Identifier: Apache-2.0 */
/* The rule of seats: there are never more connections than may be; whoever has less than his share
 * gets one, and keeps it; who goes is the largest holder's. A model carries the orders out, late
 * and in any order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server/seats.h"

enum { WORKERS = 3, MAX = 24, MAX_OPENING = 12, PEERS = 6, CONNS = 4000 };

struct conn {
    enum { FREE = 0, OPENING, SEATED } state;
    unsigned peer;
    size_t worker, born;
    bool was_told;
};

static struct seats s;
static struct conn conns[CONNS];
static struct {
    enum seats_order_kind kind;
    size_t worker;
    char who[16];
} orders[CONNS];
static size_t order_count, failed_count, born;
static unsigned seed;

static unsigned any(unsigned n)
{
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 16) % n;
}

static const char *name_of(unsigned peer)
{
    static char text[16];

    (void)snprintf(text, sizeof text, "10.0.0.%u", peer);
    return text;
}

static int setup(void **state)
{
    (void)state;
    memset(conns, 0, sizeof conns);
    order_count = failed_count = born = 0;
    seed = 7;
    if (seats_init(&s, WORKERS) != ERR_OK)
        return -1;
    s.max = MAX;
    s.max_opening = MAX_OPENING;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    seats_fini(&s);
    return 0;
}

static size_t count(int peer, unsigned conn_state)
{
    size_t n = 0;

    for (size_t i = 0; i < CONNS; i++)
        n += conns[i].state == conn_state && (peer < 0 || conns[i].peer == (unsigned)peer);
    return n;
}

static void take_order(struct seats_order o)
{
    if (o.kind == SEATS_ALL_STAY)
        return;
    assert_true(order_count < CONNS && o.worker < WORKERS);
    orders[order_count].kind = o.kind;
    orders[order_count].worker = o.worker;
    (void)snprintf(orders[order_count++].who, sizeof orders[0].who, "%s",
                   o.who == NULL ? "" : o.who);
}

static void leave(struct conn *c)
{
    seats_left(&s, c->worker, c->state == SEATED ? name_of(c->peer) : NULL, c->was_told);
    *c = (struct conn){.state = FREE};
}

/* As a worker does: the oldest, or the newest. */
static void obey(size_t i)
{
    bool wants_newest = orders[i].kind == SEATS_END_NEWEST, is_seat = orders[i].who[0] != '\0';
    struct conn *found = NULL;

    for (size_t k = 0; k < CONNS; k++) {
        struct conn *c = &conns[k];

        if (c->state != (is_seat ? SEATED : OPENING) || c->worker != orders[i].worker ||
            (is_seat && strcmp(name_of(c->peer), orders[i].who) != 0))
            continue;
        if (found == NULL || (wants_newest ? c->born > found->born : c->born < found->born))
            found = c;
    }
    failed_count += found == NULL;
    if (found == NULL) {
        seats_order_failed(&s, &(struct seats_order){orders[i].kind, orders[i].worker,
                                                     is_seat ? orders[i].who : NULL});
    } else {
        found->was_told = true;
        leave(found);
    }
    orders[i] = orders[--order_count];
}

static void obey_all(void)
{
    while (order_count > 0)
        obey(0);
}

static struct conn *open_one(unsigned peer)
{
    for (size_t i = 0; i < CONNS; i++) {
        if (conns[i].state != FREE)
            continue;
        conns[i] = (struct conn){OPENING, peer, any(WORKERS), ++born, false};
        take_order(seats_opened(&s, conns[i].worker));
        return &conns[i];
    }
    fail();
    return NULL;
}

static void seat(struct conn *c)
{
    c->state = SEATED;
    take_order(seats_taken(&s, c->worker, name_of(c->peer)));
    take_order(seats_excess(&s));
}

/* True when it got in. */
static bool connect_one(unsigned peer)
{
    struct conn *c = open_one(peer);
    size_t id = c->born;

    obey_all();
    if (c->state != OPENING || c->born != id)
        return false;
    seat(c);
    obey_all();
    return c->state == SEATED && c->born == id;
}

static void check(void)
{
    assert_int_equal(s.taken, count(-1, SEATED));
    assert_int_equal(s.opening, count(-1, OPENING));
    assert_in_range(s.taken, 0, MAX + s.leaving + failed_count);
    assert_in_range(s.opening, 0, MAX_OPENING + s.opening_leaving + failed_count);
    if (s.taken <= MAX + s.leaving && s.opening <= MAX_OPENING + s.opening_leaving)
        failed_count = 0; /* nothing is left of it */
}

static void one_alone_may_have_all(void **state)
{
    (void)state;
    for (unsigned i = 0; i < MAX; i++)
        assert_true(connect_one(1));
    for (unsigned i = 0; i < 100; i++)
        assert_false(connect_one(1));
    assert_int_equal(s.taken, MAX);
    assert_false(seats_has_room(&s, name_of(1)));
    assert_true(seats_has_room(&s, name_of(2)));
    assert_true(seats_has_room(&s, NULL)); /* its certificate will tell */
    check();
}

/* The others come to their share, and no further. */
static void the_others_get_their_share(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 3 * MAX; i++)
        (void)connect_one(0);
    for (unsigned peer = 1; peer < PEERS; peer++)
        for (unsigned i = 0; i < MAX; i++)
            assert_int_equal(connect_one(peer), i < MAX / (peer + 1) || count(-1, SEATED) < MAX);
    for (unsigned peer = 0; peer < PEERS; peer++)
        assert_in_range(count((int)peer, SEATED), MAX / PEERS - 1, MAX / PEERS + 1);
    check();
}

/* Many newcomers at once, before anybody has gone: the orders are spread as the connections are. */
static void orders_are_spread(void **state)
{
    size_t had[WORKERS] = {0}, told[WORKERS] = {0};

    (void)state;
    for (unsigned i = 0; i < MAX; i++)
        assert_true(connect_one(0));
    for (size_t i = 0; i < CONNS; i++)
        if (conns[i].state == SEATED)
            had[conns[i].worker]++;
    for (unsigned i = 0; i < MAX / 2; i++)
        seat(open_one(1));
    for (size_t i = 0; i < order_count; i++) {
        assert_int_equal(orders[i].kind, SEATS_END_IDLEST);
        told[orders[i].worker]++;
    }
    assert_int_equal(order_count, MAX / 2);
    for (size_t i = 0; i < WORKERS; i++)
        for (size_t k = 0; k < WORKERS; k++)
            assert_true(told[k] == 0 || had[i] - told[i] <= had[k] - told[k] + 1);
    obey_all();
    check();
}

/* Newcomers of the flood have no part in the honest one's share. */
static void a_flood_beside_an_honest_client(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 5; i++)
        assert_true(connect_one(1));
    for (unsigned i = 0; i < 1000; i++) {
        (void)connect_one(2);
        assert_int_equal(count(1, SEATED), 5);
        if (i % 100 == 0) {
            leave(&conns[0]);
            assert_true(connect_one(1));
        }
    }
    check();
}

static void at_random(void **state)
{
    (void)state;
    for (unsigned n = 0; n < 60000; n++) {
        struct conn *c = &conns[any(MAX + MAX_OPENING + 40)];
        unsigned what = any(5);

        if (what < 2 && count(-1, OPENING) < 60)
            (void)open_one(any(3) == 0 ? any(PEERS) : 0);
        else if (what == 2 && c->state == OPENING)
            seat(c);
        else if (what == 3 && c->state != FREE && any(4) == 0)
            leave(c);
        else if (what == 4 && order_count > 0)
            obey(any((unsigned)order_count));
        check();
    }
    obey_all();
    for (unsigned i = 0; i < 100; i++) {
        take_order(seats_excess(&s));
        obey_all();
    }
    check();
    assert_int_equal(s.leaving + s.opening_leaving, 0);
    assert_in_range(s.taken, 1, MAX);
    for (size_t i = 0; i < CONNS; i++)
        if (conns[i].state != FREE)
            leave(&conns[i]);
    assert_int_equal(s.taken + s.opening + s.holder_count, 0);
}

static void no_limit(void **state)
{
    (void)state;
    s.max = s.max_opening = 0;
    for (unsigned i = 0; i < 500; i++)
        assert_true(connect_one(any(PEERS)));
    for (unsigned i = 0; i < 500; i++)
        (void)open_one(1);
    assert_int_equal(order_count, 0);
    assert_true(seats_has_room(&s, name_of(1)));
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(one_alone_may_have_all),
        TEST(the_others_get_their_share),
        TEST(a_flood_beside_an_honest_client),
        TEST(at_random),
        TEST(no_limit),
        TEST(orders_are_spread),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
