/* SPDX-License-Identifier: Apache-2.0 */
/* Accepted sockets and the workers that they are given to. The workers have no thread here, only a
 * mailbox. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/metrics.h"
#include "failing_alloc.h"
#include "server/server_int.h"

enum { WORKERS = 3 };

struct fixture {
    struct loop loop;
    struct worker workers[WORKERS];
    struct server_worker known[WORKERS];
    struct server s;
    struct server_listener listener;
};

static struct fixture f;

static int setup(void **state)
{
    (void)state;
    memset(&f, 0, sizeof f);
    if (loop_init(&f.loop) != ERR_OK)
        return -1;
    f.s.workers = f.known;
    f.s.worker_count = WORKERS;
    f.s.workers_ready = WORKERS;
    f.listener.server = &f.s;
    if (seats_init(&f.s.seats, WORKERS) != ERR_OK)
        return -1;
    for (unsigned i = 0; i < WORKERS; i++) {
        f.known[i].worker = &f.workers[i];
        if (mailbox_init(&f.workers[i].mailbox, &f.loop) != ERR_OK)
            return -1;
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    (void)alloc_recover();
    for (unsigned i = 0; i < WORKERS; i++)
        mailbox_close(&f.workers[i].mailbox); /* closes the sockets in it */
    loop_stop(&f.loop);
    loop_run(&f.loop);
    for (unsigned i = 0; i < WORKERS; i++)
        mailbox_fini(&f.workers[i].mailbox);
    loop_fini(&f.loop);
    seats_fini(&f.s.seats);
    return 0;
}

static int accept_one(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    assert_true(fd >= 0);
    server__on_accept(&f.listener, fd);
    return fd;
}

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) != -1 || errno != EBADF;
}

static void expect_links(size_t a, size_t b, size_t c)
{
    assert_int_equal(f.known[0].links, a);
    assert_int_equal(f.known[1].links, b);
    assert_int_equal(f.known[2].links, c);
}

static void few_go_to_one_worker(void **state)
{
    (void)state;
    for (size_t i = 0; i < SERVER_FEW_LINKS; i++) {
        expect_links(i, 0, 0);
        assert_true(is_open(accept_one()));
    }
    assert_true(is_open(accept_one()));
    assert_true(is_open(accept_one()));
    expect_links(SERVER_FEW_LINKS, 1, 1);
}

/* However many they are, and whichever have gone meanwhile: at most what the few were is uneven. */
static void many_are_spread(void **state)
{
    size_t most, least;

    (void)state;
    for (int i = 0; i < 300; i++)
        assert_true(is_open(accept_one()));
    expect_links(100, 100, 100);
    for (unsigned n = 0, seed = 1; n < 600; n++) {
        struct worker_report closed = {.event = WORKER_LINK_CLOSED};

        seed = seed * 1664525u + 1013904223u;
        closed.worker = &f.workers[(seed >> 16) % WORKERS];
        if (f.known[closed.worker - f.workers].links > 90)
            server__on_report(&f.s, &closed);
        if (n % 3 != 0)
            assert_true(is_open(accept_one()));
    }
    for (int i = 0; i < 60; i++)
        assert_true(is_open(accept_one()));
    most = least = f.known[0].links;
    for (unsigned i = 1; i < WORKERS; i++) {
        most = f.known[i].links > most ? f.known[i].links : most;
        least = f.known[i].links < least ? f.known[i].links : least;
    }
    assert_in_range(most - least, 0, 1);
}

/* They go on where the others are, also when that is not the first worker. */
static void few_that_are_left_attract(void **state)
{
    struct worker_report closed = {.event = WORKER_LINK_CLOSED};

    (void)state;
    for (int i = 0; i < 12; i++)
        assert_true(is_open(accept_one()));
    expect_links(8, 2, 2);
    closed.worker = &f.workers[0];
    for (int i = 0; i < 8; i++)
        server__on_report(&f.s, &closed);
    assert_true(is_open(accept_one()));
    expect_links(0, 3, 2);
}

/* What was not handed over is closed and counts for nobody: else the worker would look busier than
 * it is for ever. */
static void what_cannot_be_handed_over_is_not_counted(void **state)
{
    (void)state;
    alloc_fail_from(1);
    for (int i = 0; i < 5; i++)
        assert_false(is_open(accept_one()));
    assert_true(alloc_recover());
    expect_links(0, 0, 0);
    assert_true(is_open(accept_one()));
    alloc_fail_from(1);
    assert_false(is_open(accept_one()));
    assert_true(alloc_recover());
    expect_links(1, 0, 0);
    assert_true(is_open(accept_one()));
    expect_links(2, 0, 0);
}

/* Those that came before the workers were ready. */
static void early_ones_are_the_same(void **state)
{
    struct worker_report ready = {.event = WORKER_KEYSET_IN_USE};
    int fds[SERVER_EARLY_MAX];

    (void)state;
    f.s.workers_ready = 0;
    for (int i = 0; i < SERVER_EARLY_MAX; i++)
        fds[i] = accept_one();
    assert_false(is_open(accept_one())); /* one too many */
    for (unsigned i = 0; i < WORKERS; i++) {
        expect_links(0, 0, 0);
        alloc_fail_from(1);
        ready.worker = &f.workers[i];
        server__on_report(&f.s, &ready);
        (void)alloc_recover();
    }
    expect_links(0, 0, 0);
    for (int i = 0; i < SERVER_EARLY_MAX; i++)
        assert_false(is_open(fds[i]));
}

/* Each link that is over is one less. */
static void closed_links_count_down(void **state)
{
    struct worker_report closed = {.event = WORKER_LINK_CLOSED, .worker = &f.workers[1]};

    (void)state;
    for (int i = 0; i < 10; i++)
        assert_true(is_open(accept_one()));
    expect_links(8, 1, 1);
    server__on_report(&f.s, &closed);
    expect_links(8, 0, 1);
    assert_true(is_open(accept_one()));
    expect_links(8, 1, 1);
}

/* At the limit an address that has its share is refused before any worker hears of it. */
static void at_the_limit_the_newest_is_refused(void **state)
{
    struct worker_report ready = {.event = WORKER_LINK_READY, .worker = &f.workers[0]};
    struct worker_report closed = {.event = WORKER_LINK_CLOSED, .worker = &f.workers[0]};
    uint64_t before = metric_refused_get(ERR_CONNECTION_LIMIT);

    (void)state;
    f.s.seats.max = 5;
    snprintf(ready.link.who, sizeof ready.link.who, "?"); /* of a socket without a peer */
    snprintf(closed.link.who, sizeof closed.link.who, "?");
    for (int i = 0; i < 5; i++) {
        assert_true(is_open(accept_one()));
        server__on_report(&f.s, &ready);
    }
    assert_false(is_open(accept_one()));
    expect_links(5, 0, 0);
    assert_int_equal(metric_refused_get(ERR_CONNECTION_LIMIT), before + 1);
    f.listener.is_tls = true; /* a certificate may tell it apart */
    assert_true(is_open(accept_one()));
    f.listener.is_tls = false;
    server__on_report(&f.s, &closed);
    assert_true(is_open(accept_one()));
    assert_int_equal(f.s.seats.taken, 4);
    assert_int_equal(f.s.seats.opening, 2);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(few_go_to_one_worker),
        TEST(many_are_spread),
        TEST(few_that_are_left_attract),
        TEST(what_cannot_be_handed_over_is_not_counted),
        TEST(early_ones_are_the_same),
        TEST(closed_links_count_down),
        TEST(at_the_limit_the_newest_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
