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

#include "base/file.h"

#define NEVER_MS 3600000u
#define QUIET_MS 250 /* more than it takes an event to become a call */

static struct loop loop;
static char dir[64];
static int calls;
static struct loop_watch *closed_by_call;
static struct loop_watch *open_watch; /* a test that failed leaves it to teardown */

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

static void close_watch(struct loop_watch *w)
{
    loop_watch_close(w);
    if (w == open_watch)
        open_watch = NULL;
}

static void on_change(void *arg)
{
    assert_ptr_equal(arg, &calls);
    calls++;
    close_watch(closed_by_call);
    closed_by_call = NULL;
}

static void turn(void)
{
    (void)uv_run(&loop.uv, UV_RUN_NOWAIT);
    usleep(1000);
}

/* Behind the call that every watch begins with. */
static struct loop_watch *watch(const char *const *paths, size_t count, uint64_t interval_ms)
{
    struct loop_watch *w, *closed_later = closed_by_call;

    closed_by_call = NULL;
    assert_int_equal(loop_watch_new(&loop, paths, count, interval_ms, on_change, &calls, &w),
                     ERR_OK);
    open_watch = w;
    for (int i = 0; i < 5000 && calls == 0; i++)
        turn();
    assert_int_not_equal(calls, 0);
    calls = 0;
    closed_by_call = closed_later;
    return w;
}

static struct loop_watch *watch_one(const char *name)
{
    char path[128];
    const char *paths[] = {path};

    path_of(path, name);
    return watch(paths, 1, NEVER_MS);
}

static void pass_quiet(void)
{
    uint64_t end = loop_hrtime_ns() + QUIET_MS * 1000000u;

    while (loop_hrtime_ns() < end)
        turn();
}

/* Until fn was called, then until it is not called any more. */
static void expect_call(void)
{
    for (int i = 0; i < 5000 && calls == 0; i++)
        turn();
    assert_int_not_equal(calls, 0);
    pass_quiet();
    assert_in_range(calls, 1, 3);
    calls = 0;
}

static void expect_quiet(void)
{
    pass_quiet();
    assert_int_equal(calls, 0);
}

static void close_trials(void);

static int setup(void **state)
{
    (void)state;
    calls = 0;
    closed_by_call = NULL;
    file_use_opener(NULL);
    snprintf(dir, sizeof dir, "/tmp/envelope-watch-XXXXXX");
    if (mkdtemp(dir) == NULL)
        return -1;
    return loop_init(&loop) == ERR_OK ? 0 : -1;
}

static int teardown(void **state)
{
    char command[128];

    (void)state;
    close_watch(open_watch);
    close_trials();
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
    close_watch(w);
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
    close_watch(w);
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
    close_watch(w);
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
    close_watch(w);
}

static void a_burst_is_a_few_calls(void **state)
{
    struct loop_watch *w;
    uint64_t began_ns;

    (void)state;
    w = watch_one("file");
    began_ns = loop_hrtime_ns();
    for (int i = 0; i < 200; i++) {
        write_file("file", "again");
        if (i % 50 == 0)
            turn();
    }
    pass_quiet();
    assert_in_range(calls, 1, 1 + (loop_hrtime_ns() - began_ns) / 100000000); /* one per 100 ms */
    close_watch(w);
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
    close_watch(w);
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
    close_watch(w);
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
    assert_in_range(calls, 4, 5); /* the first call may fall into the same turn */
    close_watch(w);
}

/* --- files that others open ------------------------------------------------------------------- */

static int look_error;      /* what the opener says; 0: all is well */
static const char *look_at; /* which file it was asked for last */
static unsigned looks_here; /* so often this process has looked itself */

int __real_lstat(const char *path, struct stat *st);
int __wrap_lstat(const char *path, struct stat *st);

int __wrap_lstat(const char *path, struct stat *st)
{
    looks_here++;
    return __real_lstat(path, st);
}

static int look(const char *path, unsigned *mode)
{
    look_at = path;
    *mode = 0100600;
    errno = look_error;
    return look_error == 0 ? 0 : -1;
}

/* A file system that hangs for the opener would hang for us: fn is told as ever, and nothing is
 * looked at, until the opener has caught up. */
static void a_file_system_that_hangs(void **state)
{
    static const int hangs[] = {FILE_OPENER_LATE, FILE_OPENER_GONE};
    static const struct file_opener opener = {.look = look};
    static const char *const paths[] = {"not/absolute"};
    struct loop_watch *w;

    (void)state;
    file_use_opener(&opener);
    for (size_t i = 0; i < ARRAY_LEN(hangs); i++) {
        look_error = 0;
        w = watch(paths, 1, 5);
        assert_non_null(look_at);
        assert_string_equal(look_at, paths[0]); /* the opener knows it by that name */
        look_error = hangs[i];
        looks_here = 0;
        calls = 0;
        for (int n = 0; n < 5000 && calls < 3; n++)
            turn();
        assert_true(calls >= 3);
        assert_int_equal(looks_here, 0);
        look_error = ENOENT;
        for (int n = 0; n < 5000 && looks_here == 0; n++)
            turn();
        assert_int_not_equal(looks_here, 0);
        close_watch(w);
    }
    file_use_opener(NULL);
}

static void closed_means_silent(void **state)
{
    struct loop_watch *w;

    (void)state;
    w = watch_one("file");
    write_file("file", "on its way when it is closed");
    for (int i = 0; i < 20; i++)
        turn();
    close_watch(w);
    calls = 0;
    write_file("file", "and this");
    expect_quiet();
    loop_watch_close(NULL); /* nothing */
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
    calls = 0;
    closed_by_call = watch(paths, 1, 10);
    for (int i = 0; i < 5000 && calls == 0; i++)
        turn();
    for (int i = 0; i < 50; i++)
        turn();
    assert_int_equal(calls, 1);
}

/* --- layouts --------------------------------------------------------------------------------- */

/* Shell commands in the test's folder. make is run before "f" is watched; each change has to be
 * noticed, the second one, too, for the way may be another one by then; quiet must not be. */
struct layout {
    const char *what, *make, *changes[3], *quiet;
};

#define PLAIN "echo 1 >f"
#define TO_FOLDER "mkdir a b && echo 1 >a/f && echo 1 >b/f && ln -s a way && ln -s way/f f"
#define OTHERS "echo x >other; mv other another; rm another"

static const struct layout layouts[] = {
    {"written in place", PLAIN, {"echo 2 >f", "echo 3 >>f"}, OTHERS},
    {"replaced by rename", PLAIN, {"echo 2 >n; mv n f", "echo 3 >n; mv n f", "echo 4 >f"}, OTHERS},
    {"deleted and made again", PLAIN, {"rm f", "echo 2 >f", "echo 3 >f"}, OTHERS},
    {"missing at first", ":", {"echo 1 >f", "rm f", "echo 2 >f"}, OTHERS},
    {"a mode that lets nobody read, then does", PLAIN, {"chmod 0 f", "chmod 600 f"}, OTHERS},
    {"a link to another folder",
     "mkdir a && echo 1 >a/x && ln -s a/x f",
     {"echo 2 >a/x", "echo 3 >a/n; mv a/n a/x", "echo 4 >a/x"},
     "echo x >a/other; " OTHERS},
    {"an absolute link",
     "mkdir a && echo 1 >a/x && ln -s $PWD/a/x f",
     {"echo 2 >a/x", "echo 3 >a/n; mv a/n a/x", "echo 4 >a/x"},
     "echo x >a/other; " OTHERS},
    {"a link with dots in it",
     "mkdir -p a/b c && echo 1 >c/x && ln -s ./a/b/../../c/./x f",
     {"echo 2 >c/x", "mv c d; mkdir c; echo 3 >c/x", "echo 4 >c/x"},
     "echo x >d/other; echo x >c/other"},
    {"a link's own target switched",
     "echo 1 >a && echo 1 >b && ln -s a f",
     {"ln -s b n; mv -T n f", "echo 2 >b"},
     OTHERS},
    {"a target that is deleted and made again",
     "mkdir a && echo 1 >a/x && ln -s a/x f",
     {"rm a/x", "echo 2 >a/x", "echo 3 >a/x"},
     OTHERS},
    {"a target folder that is deleted and made again",
     "mkdir a && echo 1 >a/x && ln -s a/x f",
     {"rm -r a", "mkdir a; echo 2 >a/x", "echo 3 >a/x"},
     OTHERS},
    {"a target whose folders come one by one",
     "ln -s a/b/x f",
     {"mkdir a", "mkdir a/b", "echo 1 >a/b/x"},
     "echo x >b; " OTHERS},
    {"a chain of links",
     "mkdir a b c && echo 1 >c/x && ln -s ../c/x b/x && ln -s ../b/x a/x && ln -s a/x f",
     {"echo 2 >c/x", "echo 3 >b/n; mv b/n b/x", "echo 4 >b/x"},
     "echo x >c/other; echo x >b/other; " OTHERS},
    {"a folder's link on the way is switched",
     TO_FOLDER,
     {"ln -s b n; mv -T n way", "echo 2 >b/f", "ln -s a n; mv -T n way"},
     OTHERS},
    {"what was switched away from is silent",
     TO_FOLDER,
     {"ln -s b n; mv -T n way"},
     "echo 2 >a/f; rm a/f"},
    {"a folder on the way replaced by rename",
     "mkdir -p a/b n/b && echo 1 >a/b/x && echo 1 >n/b/x && ln -s a/b/x f",
     {"mv a o; mv n a", "echo 2 >a/b/x"},
     "echo 2 >o/b/x"},
    {"the kubelet's volume",
     "mkdir ..1 ..2 && echo 1 >..1/f && echo 2 >..2/f && ln -s ..1 ..data && ln -s ..data/f f",
     {"ln -s ..2 ..n; mv -T ..n ..data; rm -r ..1", "mkdir ..3; echo 3 >..3/f; ln -s ..3 ..n; "
                                                    "mv -T ..n ..data; rm -r ..2"},
     "echo x >..3/other"},
    {"another name of the same file",
     "mkdir a && echo 1 >a/x && ln a/x f",
     {"echo 2 >a/x", "echo 3 >>a/x"},
     "echo x >a/other"},
    {"a link to itself", "ln -s f f", {"rm f; echo 1 >f", "echo 2 >f"}, OTHERS},
};

#define LAYOUTS (sizeof layouts / sizeof *layouts)

static void run_in(const char *where, const char *commands)
{
    char line[1024];

    assert_in_range(snprintf(line, sizeof line, "cd %s && umask 77 && (%s)", where, commands), 1,
                    sizeof line - 1);
    assert_int_equal(system(line), 0);
}

static void run(const char *commands)
{
    run_in(dir, commands);
}

/* A layout in a folder of its own; all at once, for each step takes its time. */
static struct trial {
    char dir[96];
    struct loop_watch *watch;
    int calls;
} trials[LAYOUTS];

static void on_trial_change(void *arg)
{
    ((struct trial *)arg)->calls++;
}

static void trial_begin(struct trial *t, const struct layout *l)
{
    char path[128];
    const char *paths[] = {path};

    snprintf(t->dir, sizeof t->dir, "%s/%zu", dir, (size_t)(t - trials));
    assert_int_equal(mkdir(t->dir, 0700), 0);
    run_in(t->dir, l->make);
    snprintf(path, sizeof path, "%s/f", t->dir);
    t->calls = 0;
    assert_int_equal(loop_watch_new(&loop, paths, 1, NEVER_MS, on_trial_change, t, &t->watch),
                     ERR_OK);
}

/* Every layout that has commands is noticed, and no other. */
static void expect_trials(const char *const commands[LAYOUTS])
{
    bool is_over = false;

    for (int i = 0; i < 5000 && !is_over; i++) {
        turn();
        is_over = true;
        for (size_t k = 0; k < LAYOUTS; k++)
            is_over &= commands[k] == NULL || trials[k].calls > 0;
    }
    pass_quiet();
    for (size_t k = 0; k < LAYOUTS; k++) {
        int least = commands[k] != NULL ? 1 : 0, most = commands[k] != NULL ? 3 : 0;

        if (trials[k].calls < least || trials[k].calls > most)
            fail_msg("%s: %d calls after: %s", layouts[k].what, trials[k].calls,
                     commands[k] != NULL ? commands[k] : layouts[k].quiet);
        trials[k].calls = 0;
    }
}

static void close_trials(void)
{
    for (size_t k = 0; k < LAYOUTS; k++) {
        loop_watch_close(trials[k].watch);
        trials[k].watch = NULL;
    }
}

static void every_layout(void **state)
{
    const char *commands[LAYOUTS];

    (void)state;
    for (size_t k = 0; k < LAYOUTS; k++) {
        trial_begin(&trials[k], &layouts[k]);
        commands[k] = layouts[k].make;
    }
    expect_trials(commands); /* the first call */
    for (size_t step = 0; step < 3; step++) {
        for (size_t k = 0; k < LAYOUTS; k++) {
            commands[k] = layouts[k].changes[step];
            if (commands[k] != NULL)
                run_in(trials[k].dir, commands[k]);
        }
        expect_trials(commands);
    }
    for (size_t k = 0; k < LAYOUTS; k++) {
        run_in(trials[k].dir, layouts[k].quiet);
        commands[k] = NULL;
    }
    expect_trials(commands);
    close_trials();
}

/* The folder of the file itself has a link above it, however far. */
static void a_link_above(void **state)
{
    struct loop_watch *w;

    (void)state;
    run("mkdir -p a/b/c o/b/c && echo 1 >a/b/c/f && echo 1 >o/b/c/f && ln -s a up");
    w = watch_one("up/b/c/f");
    run("ln -s o n; mv -T n up");
    expect_call();
    run("echo 2 >a/b/c/f");
    expect_quiet();
    run("echo 2 >o/b/c/f");
    expect_call();
    close_watch(w);
}

/* What changes between the reading of a file and the first watch of it. */
static void begins_with_a_call(void **state)
{
    char path[128];
    const char *paths[] = {path};
    struct loop_watch *w;

    (void)state;
    path_of(path, "file");
    assert_int_equal(loop_watch_new(&loop, paths, 1, NEVER_MS, on_change, &calls, &w), ERR_OK);
    open_watch = w;
    expect_call();
    close_watch(w);
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
        TEST(every_layout),
        TEST(a_link_above),
        TEST(begins_with_a_call),
        TEST(a_file_system_that_hangs),
        TEST(closed_means_silent),
        TEST(closed_from_inside_the_call),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
