/* SPDX-License-Identifier: Apache-2.0 */
/* Each case in a process of its own, for limits and libuv's pool are a process's for good. */
#include "loop/preflight.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define NOBODYS_UID 54321 /* that no other process has: RLIMIT_NPROC counts all of a user */

static char why[512];

/* How the child ends: its status, or minus the signal. */
static int in_child(int (*fn)(void))
{
    pid_t pid = fork();
    int status;

    assert_true(pid >= 0);
    if (pid == 0)
        _exit(fn());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* Entries of a folder of /proc. */
static int count_of(const char *folder)
{
    DIR *dir = opendir(folder);
    int n = -2; /* "." and ".." */

    if (dir == NULL)
        return -1;
    while (readdir(dir) != NULL)
        n++;
    closedir(dir);
    return n;
}

static void limit_to(int resource, rlim_t value)
{
    const struct rlimit limit = {value, value};

    if (setrlimit(resource, &limit) != 0)
        _exit(99);
}

static int few_descriptors(void)
{
    int before = count_of("/proc/self/fd");

    limit_to(RLIMIT_NOFILE, (rlim_t)before + 4); /* count_of itself had one */
    if (loop_try_descriptors(2, why, sizeof why) != ERR_OK)
        return 1;
    if (loop_try_descriptors(16, why, sizeof why) != ERR_SYSTEM)
        return 2;
    if (strstr(why, "cannot open 16 more file descriptors, only ") != why ||
        strstr(why, "Too many open files: raise RLIMIT_NOFILE, which is ") == NULL)
        return 3;
    return count_of("/proc/self/fd") == before ? 0 : 4;
}

static int few_threads(void)
{
    if (geteuid() == 0 && setresuid(NOBODYS_UID, NOBODYS_UID, NOBODYS_UID) != 0)
        return 77;
    limit_to(RLIMIT_NPROC, 1);
    if (loop_try_threads(3, why, sizeof why) != ERR_SYSTEM)
        return 1;
    if (strstr(why, "cannot make 3 threads, only 0: ") != why ||
        strstr(why, "RLIMIT_NPROC is 1") == NULL || strstr(why, "pids.max") == NULL)
        return 2;
    return 0;
}

static int enough(void)
{
    int fds = count_of("/proc/self/fd"), threads;

    if (loop_try_threads(1, why, sizeof why) != ERR_OK)
        return 1;
    threads = count_of("/proc/self/task"); /* an instrumented build may have got one of its own */
    if (loop_try_threads(20, why, sizeof why) != ERR_OK ||
        loop_try_descriptors(20, why, sizeof why) != ERR_OK ||
        loop_try_threads(0, why, sizeof why) != ERR_OK ||
        loop_try_descriptors(0, why, sizeof why) != ERR_OK)
        return 2;
    return count_of("/proc/self/fd") == fds && count_of("/proc/self/task") == threads ? 0 : 3;
}

/* What we say of the pool is what libuv makes, whatever stands in the environment. */
static int pool(void)
{
    struct loop loop;
    int before;

    if (loop_try_threads(1, why, sizeof why) != ERR_OK)
        return 1;
    before = count_of("/proc/self/task");
    if (loop_init(&loop) != ERR_OK || loop_start_pool(&loop) != ERR_OK)
        return 2;
    loop_stop(&loop);
    loop_run(&loop);
    loop_fini(&loop);
    return count_of("/proc/self/task") - before == (int)loop_pool_threads() ? 0 : 3;
}

static void test_descriptors(void **state)
{
    (void)state;
    assert_int_equal(in_child(few_descriptors), 0);
}

static void test_threads(void **state)
{
    (void)state;
    assert_int_equal(in_child(few_threads), 0);
}

static void test_enough(void **state)
{
    (void)state;
    assert_int_equal(in_child(enough), 0);
}

static void test_pool(void **state)
{
    static const char *const sizes[] = {NULL, "1", "7", "0", "x", "3y"};
    static const unsigned counts[] = {4, 1, 7, 1, 1, 3};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        if (sizes[i] == NULL)
            unsetenv("UV_THREADPOOL_SIZE");
        else
            assert_int_equal(setenv("UV_THREADPOOL_SIZE", sizes[i], 1), 0);
        assert_int_equal(loop_pool_threads(), counts[i]);
        assert_int_equal(in_child(pool), 0);
    }
    assert_int_equal(setenv("UV_THREADPOOL_SIZE", "-1", 1), 0);
    assert_int_equal(loop_pool_threads(), 1024);
    assert_int_equal(setenv("UV_THREADPOOL_SIZE", "5000", 1), 0);
    assert_int_equal(loop_pool_threads(), 1024);
    unsetenv("UV_THREADPOOL_SIZE");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_descriptors),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_enough),
        cmocka_unit_test(test_pool),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
