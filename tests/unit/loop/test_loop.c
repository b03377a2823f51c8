/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/loop.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <cmocka.h>

/* What happened, in order, one letter each. */
static struct loop loop;
static char trace[256];

static void note(char letter)
{
    size_t n = strlen(trace);

    assert_true(n + 1 < sizeof trace);
    trace[n] = letter;
    trace[n + 1] = '\0';
}

static int setup(void **state)
{
    (void)state;
    trace[0] = '\0';
    return loop_init(&loop) == ERR_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    loop_fini(&loop);
    return 0;
}

struct owner {
    struct loop_timer timer;
    struct loop_flush flush;
    struct loop_task task;
    char letter;
    int left; /* how often to ask for itself again */
    struct owner *other;
};

static void on_stop(struct loop_timer *t)
{
    note('.');
    loop_timer_fini(t);
    loop_stop(&loop);
}

static void stop_after(struct loop_timer *t, uint64_t ms)
{
    loop_timer_init(t, on_stop);
    assert_int_equal(loop_timer_start(&loop, t, ms), ERR_OK);
}

static void on_timer(struct loop_timer *t)
{
    note(CONTAINER_OF(t, struct owner, timer)->letter);
}

static void timers_fire_in_order_and_once(void **state)
{
    struct owner a = {.letter = 'a'}, b = {.letter = 'b'}, c = {.letter = 'c'};
    struct loop_timer stop;

    (void)state;
    loop_timer_init(&a.timer, on_timer);
    loop_timer_init(&b.timer, on_timer);
    loop_timer_init(&c.timer, on_timer);
    assert_false(loop_timer_is_active(&a.timer));
    assert_int_equal(loop_timer_start(&loop, &a.timer, 20), ERR_OK);
    assert_int_equal(loop_timer_start(&loop, &b.timer, 10), ERR_OK);
    assert_int_equal(loop_timer_start(&loop, &c.timer, 5), ERR_OK);
    loop_timer_stop(&c.timer);
    assert_true(loop_timer_is_active(&a.timer));
    assert_false(loop_timer_is_active(&c.timer));
    stop_after(&stop, 40);
    loop_run(&loop);
    assert_string_equal(trace, "ba.");
    assert_false(loop_timer_is_active(&a.timer));
    loop_timer_fini(&a.timer);
    loop_timer_fini(&b.timer);
    loop_timer_fini(&c.timer);
}

static void a_restarted_timer_counts_anew(void **state)
{
    struct owner a = {.letter = 'a'};
    struct loop_timer stop;

    (void)state;
    loop_timer_init(&a.timer, on_timer);
    assert_int_equal(loop_timer_start(&loop, &a.timer, 1), ERR_OK);
    assert_int_equal(loop_timer_start(&loop, &a.timer, 200), ERR_OK);
    stop_after(&stop, 20);
    loop_timer_stop(&a.timer);
    loop_run(&loop);
    assert_string_equal(trace, ".");
    loop_timer_fini(&a.timer);
}

static void free_owner(struct loop_timer *t)
{
    struct owner *o = CONTAINER_OF(t, struct owner, timer);

    note(o->letter);
    loop_timer_fini(t);
    free(o);
}

/* The sanitizer build proves that nobody looks at the owner afterwards. */
static void an_owner_may_be_freed_at_once(void **state)
{
    struct owner *in_callback = calloc(1, sizeof *in_callback);
    struct owner *while_active = calloc(1, sizeof *while_active);
    struct owner *never_started = calloc(1, sizeof *never_started);
    struct loop_timer stop;

    (void)state;
    in_callback->letter = 'a';
    loop_timer_init(&in_callback->timer, free_owner);
    loop_timer_init(&while_active->timer, free_owner);
    loop_timer_init(&never_started->timer, free_owner);
    assert_int_equal(loop_timer_start(&loop, &in_callback->timer, 1), ERR_OK);
    assert_int_equal(loop_timer_start(&loop, &while_active->timer, 1), ERR_OK);
    loop_timer_fini(&while_active->timer);
    free(while_active);
    loop_timer_fini(&never_started->timer);
    free(never_started);
    stop_after(&stop, 20);
    loop_run(&loop);
    assert_string_equal(trace, "a.");
}

static void on_flush(struct loop_flush *f)
{
    struct owner *o = CONTAINER_OF(f, struct owner, flush);

    note(o->letter);
    if (o->other != NULL) {
        loop_flush_want(&loop, &o->other->flush);
        o->other = NULL;
    }
    if (o->left-- > 0)
        loop_flush_want(&loop, f);
}

static void a_flush_runs_once_however_often_it_was_wanted(void **state)
{
    struct owner a = {.letter = 'a'}, b = {.letter = 'b'};
    struct loop_timer stop;

    (void)state;
    loop_flush_init(&a.flush, on_flush);
    loop_flush_init(&b.flush, on_flush);
    loop_flush_want(&loop, &a.flush);
    loop_flush_want(&loop, &b.flush);
    loop_flush_want(&loop, &a.flush);
    loop_flush_cancel(&b.flush);
    loop_flush_cancel(&b.flush);
    stop_after(&stop, 5);
    loop_run(&loop);
    assert_string_equal(trace, "a.");
}

static void a_flush_may_want_another_one(void **state)
{
    struct owner a = {.letter = 'a'}, b = {.letter = 'b'};
    struct loop_timer stop;

    (void)state;
    a.other = &b;
    loop_flush_init(&a.flush, on_flush);
    loop_flush_init(&b.flush, on_flush);
    loop_flush_want(&loop, &a.flush);
    stop_after(&stop, 5);
    loop_run(&loop);
    assert_string_equal(trace, "ab.");
}

static int pipe_fds[2];

static void on_pipe(uv_poll_t *poll, int status, int events)
{
    char byte;

    (void)status, (void)events;
    assert_int_equal(read(pipe_fds[0], &byte, 1), 1);
    note('p');
    uv_close((uv_handle_t *)poll, NULL);
}

/* Two that feed each other for ever (here: 20 times) do not keep the pipe waiting. */
static void flushes_that_feed_each_other_leave_sockets_their_turn(void **state)
{
    struct owner a = {.letter = 'a', .left = 20};
    struct loop_timer stop;
    uv_poll_t poll;

    (void)state;
    assert_int_equal(pipe(pipe_fds), 0);
    assert_int_equal(write(pipe_fds[1], "x", 1), 1);
    assert_int_equal(uv_poll_init(&loop.uv, &poll, pipe_fds[0]), 0);
    assert_int_equal(uv_poll_start(&poll, UV_READABLE, on_pipe), 0);
    loop_flush_init(&a.flush, on_flush);
    loop_flush_want(&loop, &a.flush);
    stop_after(&stop, 20);
    loop_run(&loop);
    assert_string_equal(trace, "apaaaaaaaaaaaaaaaaaaaa.");
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}

static void on_task(struct loop_task *t)
{
    struct owner *o = CONTAINER_OF(t, struct owner, task);

    note(o->letter);
    if (o->left-- > 0)
        loop_task_want(&loop, t);
    if (o->letter == 'f')
        loop_flush_want(&loop, &o->flush);
}

static void a_task_that_goes_on_leaves_sockets_their_turn(void **state)
{
    struct owner a = {.letter = 'a', .left = 3}, b = {.letter = 'b'};
    struct loop_timer stop;
    uv_poll_t poll;

    (void)state;
    assert_int_equal(pipe(pipe_fds), 0);
    assert_int_equal(write(pipe_fds[1], "x", 1), 1);
    assert_int_equal(uv_poll_init(&loop.uv, &poll, pipe_fds[0]), 0);
    assert_int_equal(uv_poll_start(&poll, UV_READABLE, on_pipe), 0);
    loop_task_init(&a.task, on_task);
    loop_task_init(&b.task, on_task);
    loop_task_want(&loop, &a.task);
    loop_task_want(&loop, &b.task);
    loop_task_want(&loop, &a.task);
    loop_task_cancel(&b.task);
    stop_after(&stop, 20);
    loop_run(&loop);
    assert_string_equal(trace, "apaaa.");
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}

static void what_a_task_wants_flushed_leaves_before_the_sleep(void **state)
{
    struct owner a = {.letter = 'f'};
    struct loop_timer stop;

    (void)state;
    loop_task_init(&a.task, on_task);
    loop_flush_init(&a.flush, on_flush);
    loop_task_want(&loop, &a.task);
    stop_after(&stop, 20);
    loop_run(&loop);
    assert_string_equal(trace, "ff.");
}

static void count_turn(uv_check_t *check)
{
    (*(int *)check->data)++;
}

static void an_idle_loop_sleeps(void **state)
{
    struct owner a = {.letter = 'a'};
    struct loop_timer stop;
    static uv_check_t check; /* uv's until teardown */
    int turns = 0;

    (void)state;
    assert_int_equal(uv_check_init(&loop.uv, &check), 0);
    check.data = &turns;
    assert_int_equal(uv_check_start(&check, count_turn), 0);
    loop_task_init(&a.task, on_task);
    loop_task_want(&loop, &a.task);
    stop_after(&stop, 50);
    uv_unref((uv_handle_t *)&check);
    loop_run(&loop);
    assert_true(turns < 10);
    uv_close((uv_handle_t *)&check, NULL);
}

static void look_at_the_clock(struct loop_flush *f)
{
    (void)f;
    assert_true(loop_turn_ns(&loop) > 0);
    note('f');
}

static void on_late_bytes(uv_poll_t *poll, int status, int events)
{
    uint64_t turn_ns = loop_turn_ns(&loop);

    (void)status, (void)events;
    assert_true(loop_hrtime_ns() - turn_ns < 30000000);
    note('p');
    uv_close((uv_handle_t *)poll, NULL);
}

/* What was looked at before the sleep is not the time behind it. */
static void the_turn_begins_after_the_sleep(void **state)
{
    const struct itimerspec in_60_ms = {.it_value = {.tv_nsec = 60000000}};
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct owner a = {.letter = 'f'};
    struct loop_timer stop;
    uv_poll_t poll;

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(timerfd_settime(fd, 0, &in_60_ms, NULL), 0);
    assert_int_equal(uv_poll_init(&loop.uv, &poll, fd), 0);
    assert_int_equal(uv_poll_start(&poll, UV_READABLE, on_late_bytes), 0);
    loop_flush_init(&a.flush, look_at_the_clock);
    loop_flush_want(&loop, &a.flush);
    stop_after(&stop, 200);
    loop_run(&loop);
    assert_string_equal(trace, "fp.");
    close(fd);
}

static void on_alarm(int sig)
{
    (void)sig;
}

static void signals_do_not_end_the_loop(void **state)
{
    struct itimerval every = {{0, 2000}, {0, 2000}}, off = {0};
    struct sigaction action = {.sa_handler = on_alarm}; /* no SA_RESTART: EINTR */
    struct loop_timer stop;
    uint64_t begin = loop_hrtime_ns();

    (void)state;
    assert_int_equal(sigaction(SIGALRM, &action, NULL), 0);
    assert_int_equal(setitimer(ITIMER_REAL, &every, NULL), 0);
    stop_after(&stop, 50);
    loop_run(&loop);
    assert_int_equal(setitimer(ITIMER_REAL, &off, NULL), 0);
    assert_string_equal(trace, ".");
    assert_true(loop_hrtime_ns() - begin >= 49u * 1000 * 1000);
}

static void work_goes_on_after_stop_until_handles_are_closed(void **state)
{
    struct owner a = {.letter = 'a', .left = 2};
    struct owner *last = calloc(1, sizeof *last);

    (void)state;
    last->letter = 'z';
    loop_timer_init(&last->timer, free_owner);
    assert_int_equal(loop_timer_start(&loop, &last->timer, 20), ERR_OK);
    loop_task_init(&a.task, on_task);
    loop_task_want(&loop, &a.task);
    loop_stop(&loop);
    loop_stop(&loop);
    loop_run(&loop);
    assert_string_equal(trace, "aaaz");
}

static void clocks_run(void **state)
{
    uint64_t ms = loop_now_ms(&loop), ns = loop_hrtime_ns();
    struct loop_timer stop;

    (void)state;
    assert_true(ns / 1000000 - ms < 10000);
    stop_after(&stop, 10);
    loop_run(&loop);
    assert_true(loop_now_ms(&loop) >= ms + 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        T(timers_fire_in_order_and_once),
        T(a_restarted_timer_counts_anew),
        T(an_owner_may_be_freed_at_once),
        T(a_flush_runs_once_however_often_it_was_wanted),
        T(a_flush_may_want_another_one),
        T(flushes_that_feed_each_other_leave_sockets_their_turn),
        T(a_task_that_goes_on_leaves_sockets_their_turn),
        T(what_a_task_wants_flushed_leaves_before_the_sleep),
        T(an_idle_loop_sleeps),
        T(the_turn_begins_after_the_sleep),
        T(signals_do_not_end_the_loop),
        T(work_goes_on_after_stop_until_handles_are_closed),
        T(clocks_run),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
