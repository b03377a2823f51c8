/* SPDX-License-Identifier: Apache-2.0 */
/* The rule of shedding: one link goes for each order, the one that is missed least; each order is
 * answered, by that link's end or by the word that there was none. */
#include <sys/socket.h>
#include <unistd.h>

#include "base/metrics.h"
#include "rig.h"

static struct rig r;

static void order(enum worker_shed how, const char *who)
{
    assert_int_equal(worker_shed(r.w, how, who), ERR_OK);
    rig_settle(&r);
}

/* Of those that say nothing the one that has been there for longest goes, but not at once. */
static void the_oldest_that_opens(void **state)
{
    int fd[3];

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        fd[i] = rig_raw_client(&r);
        rig_pass(&r, i == 2 ? 400 : 700);
    }
    order(WORKER_SHED_OPENING, NULL);
    assert_true(rig_is_closed(fd[0]));
    assert_false(rig_is_closed(fd[2]));
    order(WORKER_SHED_OPENING, NULL);
    assert_true(rig_is_closed(fd[1])); /* it had 1100 ms */
    order(WORKER_SHED_OPENING, NULL);
    assert_true(rig_is_closed(fd[2])); /* the newest, too, when there is no older one */
    assert_int_equal(r.nobody_count, 0);
    order(WORKER_SHED_OPENING, NULL);
    assert_int_equal(r.nobody_count, 1);
    assert_int_equal(r.closed_count, 3);
    assert_int_equal(r.shed_count, 3);
    for (unsigned i = 0; i < 3; i++)
        close(fd[i]);
}

static void the_newest_if_none_is_old(void **state)
{
    int fd[2] = {rig_raw_client(&r), rig_raw_client(&r)};

    (void)state;
    rig_pass(&r, 100);
    order(WORKER_SHED_OPENING, NULL);
    assert_false(rig_is_closed(fd[0]));
    assert_true(rig_is_closed(fd[1]));
    close(fd[0]);
    close(fd[1]);
}

/* Calls, then the time since the client's last byte. */
static void the_idlest_of_a_client(void **state)
{
    uint64_t before = metric_refused_get(ERR_CONNECTION_SHARE);
    struct end *client[4];
    struct rec *watch;

    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        client[i] = rig_client(&r);
        rig_pass(&r, 1000);
    }
    assert_int_equal(r.ready_count, 4);
    assert_string_equal(r.last_who, "unix");
    watch = rig_begin(client[0], WATCH, NULL); /* not idle at all */
    rig_await_headers(&r, 1);
    rig_answer_put(&r, rig_put(client[1], SECRET_KEY, "treasure"), 2);
    rig_pass(&r, 1000);
    order(WORKER_SHED_IDLEST, "127.0.0.1"); /* somebody else */
    assert_int_equal(r.nobody_count, 1);
    order(WORKER_SHED_IDLEST, "unix");
    RIG_UNTIL(&r, client[2]->c == NULL);
    assert_int_equal(client[2]->goaway_count, 1);
    assert_int_equal(client[2]->goaway_code, H2_NO_ERROR);
    order(WORKER_SHED_IDLEST, "unix");
    RIG_UNTIL(&r, client[3]->c == NULL);
    order(WORKER_SHED_IDLEST, "unix");
    RIG_UNTIL(&r, client[1]->c == NULL);
    assert_int_equal(watch->close_count, 0);
    order(WORKER_SHED_IDLEST, "unix");
    RIG_UNTIL(&r, client[0]->c == NULL);
    assert_int_equal(watch->close_count, 1);
    RIG_UNTIL(&r, r.shed_count == 4);
    assert_int_equal(r.closed_count, 4);
    assert_int_equal(metric_refused_get(ERR_CONNECTION_SHARE), before + 4);
}

/* One that is on its way out is not told again. */
static void each_order_ends_another(void **state)
{
    struct end *client[2] = {rig_client(&r), rig_client(&r)};
    struct rec *watch[2];

    (void)state;
    for (unsigned i = 0; i < 2; i++)
        watch[i] = rig_begin(client[i], WATCH, NULL);
    rig_await_headers(&r, 2);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(worker_shed(r.w, WORKER_SHED_NEWEST, "unix"), ERR_OK);
    rig_settle(&r);
    assert_int_equal(r.nobody_count, 1);
    RIG_UNTIL(&r, client[0]->c == NULL && client[1]->c == NULL);
    RIG_UNTIL(&r, r.shed_count == 2);
    assert_int_equal(watch[0]->close_count + watch[1]->close_count, 2);
}

/* Whoever never spoke HTTP/2 was never reported so. */
static void only_http2_is_ready(void **state)
{
    int fd = rig_raw_client(&r);

    (void)state;
    assert_int_equal(send(fd, "GET /version HTTP/1.1\r\n\r\n", 25, 0), 25);
    rig_pass(&r, 6000);
    close(fd);
    RIG_UNTIL(&r, r.closed_count == 1);
    assert_int_equal(r.ready_count, 0);
}

int main(void)
{
#define TEST(fn) RIG_TEST(fn, &r)
    const struct CMUnitTest tests[] = {
        TEST(the_oldest_that_opens),  TEST(the_newest_if_none_is_old),
        TEST(the_idlest_of_a_client), TEST(each_order_ends_another),
        TEST(only_http2_is_ready),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
