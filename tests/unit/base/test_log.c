/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/metrics.h"

static void plain_keys_stay(void **state)
{
    static const char key[] = "/registry/secrets/kube-system/a.b_c~D9";
    char out[LOG_KEY_MAX];

    (void)state;
    assert_ptr_equal(log_key(key, sizeof key - 1, out), out);
    assert_string_equal(out, key);
    assert_string_equal(log_key(NULL, 0, out), "");
}

static void everything_else_is_escaped(void **state)
{
    char out[LOG_KEY_MAX];

    (void)state;
    assert_string_equal(log_key("a b%c\n\0\xff\"=", 10, out), "a%20b%25c%0A%00%FF%22%3D");
}

/* Never half an escape, never beyond the end. */
static void long_keys_are_cut(void **state)
{
    char key[400], out[LOG_KEY_MAX + 8];

    (void)state;
    memset(key, 'k', sizeof key);
    memset(out, 'X', sizeof out);
    log_key(key, sizeof key, out);
    assert_int_equal(strlen(out), LOG_KEY_MAX - 1);
    assert_int_equal(out[LOG_KEY_MAX], 'X');
    for (size_t lead = 0; lead < 4; lead++) {
        size_t n;

        memset(key, ' ', sizeof key);
        memset(key, 'k', lead);
        log_key(key, sizeof key, out);
        n = strlen(out);
        assert_int_equal(n, lead + (LOG_KEY_MAX - 1 - lead) / 3 * 3);
        assert_string_equal(out + n - 3, "%20");
        assert_int_equal(out[LOG_KEY_MAX], 'X');
    }
}

/* --- what does not get out -------------------------------------------------------------------- */

static int real_stderr = -1;

static void redirect(int fd)
{
    assert_true(real_stderr >= 0 || (real_stderr = dup(STDERR_FILENO)) >= 0);
    assert_int_equal(dup2(fd, STDERR_FILENO), STDERR_FILENO);
    close(fd);
}

static int restore(void **state)
{
    (void)state;
    log_stop();
    if (real_stderr >= 0)
        dup2(real_stderr, STDERR_FILENO);
    close(real_stderr);
    real_stderr = -1;
    return 0;
}

/* A file without a name, as the new stderr; the returned descriptor reads it. */
static int redirect_to_file(void)
{
    FILE *f = tmpfile();
    int fd;

    assert_non_null(f);
    fd = dup(fileno(f));
    redirect(dup(fd));
    fclose(f);
    return fd;
}

static uint64_t dropped(void)
{
    return metric_get(METRIC_log_dropped_total);
}

static void wait_dropped(uint64_t n)
{
    for (int i = 0; i < 5000 && dropped() < n; i++)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    assert_int_equal(dropped(), n);
}

/* What the lines "msg ... count=N ..." of a log, text or JSON, say together; lines of another kind
 * are counted. */
struct told {
    uint64_t lines, others;
    unsigned long long count;
    char last[4096]; /* line */
};

static void read_told(FILE *f, const char *msg, struct told *t)
{
    char line[4096];

    *t = (struct told){0};
    while (fgets(line, sizeof line, f) != NULL) {
        const char *count = strstr(line, line[0] == '{' ? "\"count\":" : "count=");

        assert_int_equal(line[strlen(line) - 1], '\n');
        if (strstr(line, msg) != NULL && count != NULL) {
            t->lines++;
            t->count += strtoull(count + strcspn(count, "0123456789"), NULL, 10);
        } else {
            t->others++;
        }
        memcpy(t->last, line, sizeof line);
    }
}

static void read_file(int fd, const char *msg, struct told *t)
{
    FILE *f = fdopen(fd, "r");

    assert_non_null(f);
    rewind(f);
    read_told(f, msg, t);
    fclose(f);
}

static void a_full_disk_costs_counted_lines(void **state)
{
    uint64_t before = dropped();
    struct told t;
    int fd;

    (void)state;
    redirect(open("/dev/full", O_WRONLY | O_CLOEXEC));
    assert_int_equal(log_start(LOG_INFO, LOG_TEXT), ERR_OK);
    for (int i = 0; i < 7; i++)
        LOG(INFO, "lost", "i=%d", i);
    wait_dropped(before + 7);
    fd = redirect_to_file();
    LOG(INFO, "there again", "%s", "");
    restore(NULL);
    read_file(fd, "log lines were dropped", &t);
    assert_int_equal(t.lines, 1);
    assert_int_equal(t.count, 7);
    assert_int_equal(t.others, 1);
    assert_non_null(strstr(t.last, "there again"));
    assert_int_equal(dropped(), before + 7);
}

/* The disk is full within a line: the rest of it is lost, and what follows begins a line. */
static void a_torn_line_is_ended(void **state)
{
    struct rlimit old, small;
    uint64_t before = dropped();
    char wide[201];
    struct told t;
    int fd;

    (void)state;
    memset(wide, 'w', sizeof wide - 1);
    wide[sizeof wide - 1] = '\0';
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = (struct rlimit){.rlim_cur = 1000, .rlim_max = old.rlim_max};
    fd = redirect_to_file();
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    assert_int_equal(log_start(LOG_INFO, LOG_TEXT), ERR_OK);
    for (int i = 0; i < 10; i++)
        LOG(INFO, "a line", "x=%s", wide);
    wait_dropped(before + 6); /* 4 of some 240 bytes fit, and a piece of the fifth */
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    LOG(INFO, "there again", "%s", "");
    restore(NULL);
    read_file(fd, "log lines were dropped", &t);
    assert_int_equal(t.lines, 1);
    assert_int_equal(t.count, 6);
    assert_int_equal(t.others, 4 + 1 + 1); /* whole, torn, new */
    assert_non_null(strstr(t.last, "there again"));
}

struct reader {
    FILE *from;
    struct told told;
};

static void *read_all(void *arg)
{
    struct reader *r = arg;

    read_told(r->from, "log lines were dropped", &r->told);
    return NULL;
}

/* Nobody reads for a while; then each line has come, or is in a count. flags: of the pipe's end
 * that is stderr, which other processes may share and make non-blocking. */
static void stuck_reader(int flags)
{
    const uint64_t written = 40000, before = dropped();
    struct reader r = {0};
    pthread_t thread;
    int fds[2];

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    assert_int_equal(fcntl(fds[1], F_SETFL, flags), 0);
    r.from = fdopen(fds[0], "r");
    assert_non_null(r.from);
    redirect(fds[1]);
    assert_int_equal(log_start(LOG_INFO, LOG_JSON), ERR_OK);
    for (uint64_t i = 0; i < written; i++)
        LOG(INFO, "a line", "i=%llu", (unsigned long long)i);
    assert_true(dropped() > before);
    assert_int_equal(pthread_create(&thread, NULL, read_all, &r), 0);
    restore(NULL);
    pthread_join(thread, NULL);
    fclose(r.from);
    assert_true(r.told.lines >= 1);
    assert_int_equal(r.told.count, dropped() - before);
    assert_int_equal(r.told.others + r.told.count, written);
}

static void a_stuck_reader_costs_counted_lines(void **state)
{
    (void)state;
    stuck_reader(0);
    stuck_reader(O_NONBLOCK);
}

/* The end of a program does not wait for one who reads its log. In a process of its own, for the
 * writer is left behind. */
static void a_stuck_reader_holds_up_no_end(void **state)
{
    int fds[2], status = -1;
    pid_t child;

    (void)state;
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        alarm(60);
        if (dup2(fds[1], STDERR_FILENO) < 0 || log_start(LOG_INFO, LOG_TEXT) != ERR_OK)
            _exit(1);
        for (int i = 0; i < 10000; i++)
            LOG(INFO, "a line", "i=%d", i);
        log_stop();
        LOG(INFO, "later", "%s", "");
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    close(fds[0]);
    close(fds[1]);
}

/* --- the rate --------------------------------------------------------------------------------- */

static void one_line_a_second(void **state)
{
    struct log_rate rate = {0};
    int lines = 0;

    (void)state;
    for (int i = 0; i < 1000; i++)
        lines += log_rate_ok(&rate, LOG_DEBUG, "a line");
    assert_in_range(lines, 1, 2); /* 2: the second may change meanwhile */
}

static void log_often(void)
{
    LOG_RATED(WARN, "often", "%s", "");
}

static void lines_left_out_are_counted(void **state)
{
    uint64_t before = metric_get(METRIC_log_left_out_total), calls = 0, left_out;
    int fd = redirect_to_file();
    struct timespec first, now;
    struct told t;

    (void)state;
    clock_gettime(CLOCK_MONOTONIC, &first);
    do { /* until the next second has begun, and then once more */
        clock_gettime(CLOCK_MONOTONIC, &now);
        log_often();
        calls++;
    } while (now.tv_sec == first.tv_sec);
    left_out = metric_get(METRIC_log_left_out_total) - before;
    restore(NULL);
    read_file(fd, "lines were left out", &t);
    assert_int_equal(t.others, 2);
    assert_int_equal(t.others + left_out, calls);
    assert_int_equal(t.lines, 1);
    assert_in_range(t.count, left_out - 1, left_out); /* the second can begin within the loop */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_keys_stay),
        cmocka_unit_test(everything_else_is_escaped),
        cmocka_unit_test(long_keys_are_cut),
        cmocka_unit_test_teardown(a_full_disk_costs_counted_lines, restore),
        cmocka_unit_test_teardown(a_torn_line_is_ended, restore),
        cmocka_unit_test_teardown(a_stuck_reader_costs_counted_lines, restore),
        cmocka_unit_test(a_stuck_reader_holds_up_no_end),
        cmocka_unit_test(one_line_a_second),
        cmocka_unit_test_teardown(lines_left_out_are_counted, restore),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
