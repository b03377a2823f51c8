/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/watch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define NEVER_MS 3600000u
#define QUIET_MS 250 /* more than it takes an event to become a call */

static struct loop loop;
static char dir[64];
static int calls;
static struct loop_watch *closed_by_call;

static void path_of(char out[static 128], const char *name)
{
    snprintf(out, 128, "%s/%s", dir, name);
}

static void write_file(const char *name, const char *text)
{
    char path[128];
    FILE *f;

    path_of(path, name);
    f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void make_dir(const char *name)
{
    char path[128];

    path_of(path, name);
    assert_int_equal(mkdir(path, 0700), 0);
}

static void move_file(const char *from, const char *to)
{
    char a[128], b[128];

    path_of(a, from);
    path_of(b, to);
    assert_int_equal(rename(a, b), 0);
}

static void link_file(const char *target, const char *name)
{
    char path[128];

    path_of(path, name);
    assert_int_equal(symlink(target, path), 0);
}

static void on_change(void *arg)
{
    assert_ptr_equal(arg, &calls);
    calls++;
    loop_watch_close(closed_by_call);
    closed_by_call = NULL;
}

static struct loop_watch *watch(const char *const *paths, size_t count, uint64_t interval_ms)
{
    struct loop_watch *w;

    assert_int_equal(loop_watch_new(&loop, paths, count, interval_ms, on_change, &calls, &w),
                     ERR_OK);
    return w;
}

static struct loop_watch *watch_one(const char *name)
{
    char path[128];
    const char *paths[] = {path};

    path_of(path, name);
    return watch(paths, 1, NEVER_MS);
}

static void turn(void)
{
    (void)uv_run(&loop.uv, UV_RUN_NOWAIT);
    usleep(1000);
}

/* Until fn was called, then until it is not called any more. */
static void expect_call(void)
{
    for (int i = 0; i < 5000 && calls == 0; i++)
        turn();
    assert_int_not_equal(calls, 0);
    for (int i = 0; i < QUIET_MS; i++)
        turn();
    assert_in_range(calls, 1, 3);
    calls = 0;
}

static void expect_quiet(void)
{
    for (int i = 0; i < QUIET_MS; i++)
        turn();
    assert_int_equal(calls, 0);
}

static int setup(void **state)
{
    (void)state;
    calls = 0;
    closed_by_call = NULL;
    snprintf(dir, sizeof dir, "/tmp/envelope-watch-XXXXXX");
    if (mkdtemp(dir) == NULL)
        return -1;
    return loop_init(&loop) == ERR_OK ? 0 : -1;
}

static int teardown(void **state)
{
    char command[128];

    (void)state;
    loop_fini(&loop); /* CHECKs that every handle is closed */
    snprintf(command, sizeof command, "rm -r %s", dir);
    return system(command);
}

static void a_file_that_is_written_in_place(void **state)
{
    struct loop_watch *w;

    (void)state;
    write_file("file", "one");
    w = watch_one("file");
    expect_quiet();
    write_file("file", "two");
    expect_call();
    expect_quiet();
    write_file("file", "three");
    expect_call();
    loop_watch_close(w);
}

static void a_file_that_is_replaced(void **state)
{
    struct loop_watch *w;

    (void)state;
    write_file("file", "one");
    w = watch_one("file");
    for (int i = 0; i < 2; i++) { /* the second one, too: it is another inode by then */
        write_file("new", "two");
        move_file("new", "file");
        expect_call();
    }
    loop_watch_close(w);
}

/* As the kubelet changes a volume: file -> ..data/file, ..data -> ..N. */
static void a_symlink_that_is_swapped(void **state)
{
    struct loop_watch *w;

    (void)state;
    make_dir("..1");
    make_dir("..2");
    write_file("..1/file", "one");
    write_file("..2/file", "two");
    link_file("..1", "..data");
    link_file("..data/file", "file");
    w = watch_one("file");
    link_file("..2", "..new");
    move_file("..new", "..data");
    expect_call();
    loop_watch_close(w);
}

static void a_file_that_comes_and_goes(void **state)
{
    struct loop_watch *w;
    char path[128];

    (void)state;
    w = watch_one("file");
    write_file("file", "here");
    expect_call();
    path_of(path, "file");
    assert_int_equal(unlink(path), 0);
    expect_call();
    loop_watch_close(w);
}

static void a_burst_is_a_few_calls(void **state)
{
    struct loop_watch *w;

    (void)state;
    w = watch_one("file");
    for (int i = 0; i < 200; i++) {
        write_file("file", "again");
        if (i % 50 == 0)
            turn();
    }
    expect_call();
    loop_watch_close(w);
}

static void files_of_several_folders(void **state)
{
    char paths[4][128];
    const char *all[4];
    struct loop_watch *w;

    (void)state;
    make_dir("a");
    make_dir("b");
    path_of(paths[0], "a/one");
    path_of(paths[1], "a/two");
    path_of(paths[2], "b/three");
    path_of(paths[3], "missing/four"); /* cannot be watched: the others are */
    for (int i = 0; i < 4; i++)
        all[i] = paths[i];
    w = watch(all, 4, NEVER_MS);
    write_file("a/one", "x");
    expect_call();
    write_file("a/two", "x");
    expect_call();
    write_file("b/three", "x");
    expect_call();
    loop_watch_close(w);
}

static void a_name_without_folder(void **state)
{
    static const char *const paths[] = {"file"};
    char before[256];
    struct loop_watch *w;

    (void)state;
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(dir), 0);
    w = watch(paths, 1, NEVER_MS);
    write_file("file", "x");
    expect_call();
    loop_watch_close(w);
    assert_int_equal(chdir(before), 0);
}

static void the_interval_serves_what_has_no_events(void **state)
{
    static const char *const paths[] = {"/nowhere/at/all"};
    struct loop_watch *w;

    (void)state;
    w = watch(paths, 1, 20);
    for (int i = 0; i < 5000 && calls < 4; i++)
        turn();
    assert_int_equal(calls, 4);
    loop_watch_close(w);
}

static void closed_means_silent(void **state)
{
    struct loop_watch *w;

    (void)state;
    w = watch_one("file");
    write_file("file", "on its way when it is closed");
    for (int i = 0; i < 20; i++)
        turn();
    loop_watch_close(w);
    calls = 0;
    write_file("file", "and this");
    expect_quiet();
    loop_watch_close(NULL);
}

static void closed_from_inside_the_call(void **state)
{
    static const char *const paths[] = {"/nowhere/at/all"};

    (void)state;
    closed_by_call = watch_one("file");
    write_file("file", "x");
    for (int i = 0; i < 5000 && calls == 0; i++)
        turn();
    assert_int_equal(calls, 1);
    closed_by_call = watch(paths, 1, 10);
    for (int i = 0; i < 5000 && calls == 1; i++)
        turn();
    for (int i = 0; i < 50; i++)
        turn();
    assert_int_equal(calls, 2);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_file_that_is_written_in_place),
        TEST(a_file_that_is_replaced),
        TEST(a_symlink_that_is_swapped),
        TEST(a_file_that_comes_and_goes),
        TEST(a_burst_is_a_few_calls),
        TEST(files_of_several_folders),
        TEST(a_name_without_folder),
        TEST(the_interval_serves_what_has_no_events),
        TEST(closed_means_silent),
        TEST(closed_from_inside_the_call),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
