/* SPDX-License-Identifier: Apache-2.0 */
/* The opener, between a process that it opens for and files that change under their names. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "contain/contain.h"
#include "contain/opener.h"

static char folder[] = "/tmp/etcd-envelope-opener-XXXXXX";
static char listed[64], other[64], target[64];

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static int set_up(void **state)
{
    (void)state;
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(listed, sizeof listed, "%s/listed", folder);
    snprintf(other, sizeof other, "%s/other", folder);
    snprintf(target, sizeof target, "%s/target", folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    opener_stop();
    (void)unlink(listed);
    (void)unlink(other);
    (void)unlink(target);
    return rmdir(folder);
}

/* What file_open gives: the text, or "" with errno. */
static const char *content(const char *path)
{
    static char text[64];
    int fd = file_open(path);
    size_t n = 0;

    text[0] = '\0';
    if (fd < 0)
        return text;
    assert_int_equal(file_read_all(fd, (uint8_t *)text, sizeof text - 1, 0, &n), ERR_OK);
    text[n] = '\0';
    close(fd);
    return text;
}

static void use(void)
{
    char why[200] = "";

    if (opener_use(why, sizeof why) != ERR_OK)
        fail_msg("%s", why);
}

static void start(void)
{
    const char *const paths[] = {NULL, listed};

    assert_int_equal(opener_start(paths, ARRAY_LEN(paths)), ERR_OK);
    use();
}

/* Whatever the name is by now: each opening looks anew. */
static void test_a_name_that_changes(void **state)
{
    (void)state;
    write_file(listed, "first");
    start();
    assert_string_equal(content(listed), "first");
    assert_int_equal(unlink(listed), 0);
    assert_string_equal(content(listed), "");
    assert_int_equal(errno, ENOENT);
    assert_int_equal(file_open_mode(listed), 0);
    write_file(target, "behind a link");
    assert_int_equal(symlink(target, listed), 0);
    assert_string_equal(content(listed), "behind a link");
    assert_int_equal(chmod(target, 0604), 0);
    assert_int_equal(file_open_mode(listed), 0604);
    assert_int_equal(unlink(listed), 0);
    assert_int_equal(mkdir(listed, 0700), 0);
    assert_string_equal(content(listed), "");
    assert_int_equal(errno, EISDIR);
    assert_int_equal(rmdir(listed), 0);
    assert_int_equal(mkfifo(listed, 0600), 0);
    assert_true(file_is_read_once(listed));
    assert_string_equal(content(listed), "");
    opener_stop();
    assert_int_equal(unlink(listed), 0);
}

static size_t open_descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    size_t n = 0;

    assert_non_null(dir);
    while (readdir(dir) != NULL)
        n++;
    closedir(dir);
    return n;
}

/* Descriptors neither leak nor run out, whatever the answers are. */
static void test_many_requests(void **state)
{
    size_t before;

    (void)state;
    write_file(listed, "x");
    start();
    before = open_descriptors();
    for (int i = 0; i < 3000; i++) {
        assert_string_equal(content(listed), "x");
        assert_false(file_is_read_once(listed));
    }
    assert_int_equal(open_descriptors(), before);
    opener_stop();
}

/* A name that is not on the list is the process's own matter. */
static void test_other_names(void **state)
{
    (void)state;
    write_file(other, "opened by ourselves");
    start();
    assert_string_equal(content(other), "opened by ourselves");
    opener_stop();
}

/* Of this process, which has one thread. */
static pid_t only_child(void)
{
    char path[64], text[32] = "";
    FILE *f;

    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    f = fopen(path, "re");
    if (f == NULL) /* a kernel without it */
        skip();
    assert_non_null(fgets(text, sizeof text, f));
    fclose(f);
    return (pid_t)strtol(text, NULL, 10);
}

/* A pipe is the process's own, read once before it is contained: the opener has no such thing. */
static void test_a_pipe(void **state)
{
    char path[32];
    int fds[2];

    (void)state;
    assert_int_equal(pipe(fds), 0);
    snprintf(path, sizeof path, "/dev/fd/%d", fds[0]);
    {
        const char *const paths[] = {path};

        assert_int_equal(opener_start(paths, 1), ERR_OK);
        use();
    }
    assert_true(file_is_read_once(path));
    opener_stop();
    close(fds[0]);
    close(fds[1]);
}

/* However slow the machine is: the state that a signal brings about is waited for. */
static void wait_for_problem(bool is_wanted)
{
    for (int i = 0; i < 6000 && (opener_problem() != NULL) != is_wanted; i++) {
        opener_look();
        usleep(5000);
    }
    assert_int_equal(opener_problem() != NULL, is_wanted);
}

/* It is said, what was waited for ends in an error of its own, and nothing is left of it. */
static void test_it_is_gone(void **state)
{
    (void)state;
    write_file(listed, "x");
    start();
    assert_null(opener_problem());
    assert_true(contain_state(CONTAIN_OPENER)->is_in_force);
    assert_int_equal(kill(only_child(), SIGKILL), 0);
    wait_for_problem(true);
    assert_false(contain_state(CONTAIN_OPENER)->is_in_force);
    assert_non_null(strstr(contain_state(CONTAIN_OPENER)->text, "signal 9"));
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no zombie */
    assert_int_equal(errno, ECHILD);
    assert_string_equal(content(listed), "");
    assert_int_equal(errno, FILE_OPENER_GONE);
    assert_string_equal(opener_problem(), file_open_problem(FILE_OPENER_GONE));
    assert_int_equal(file_open_mode(listed), 0);
    opener_look(); /* a SIGCHLD of something else */
    opener_stop();
    assert_string_equal(content(listed), "x");
}

/* It ends while it is waited for: by the end of the socket, not by the time that is over. */
static void test_it_goes_with_a_request(void **state)
{
    pid_t child, killer;
    int status;

    (void)state;
    write_file(listed, "x");
    start();
    child = only_child();
    assert_int_equal(kill(child, SIGSTOP), 0);
    killer = fork();
    if (killer == 0) {
        usleep(100000);
        _exit(kill(child, SIGKILL) == 0 ? 0 : 1);
    }
    assert_string_equal(content(listed), "");
    assert_int_equal(errno, FILE_OPENER_GONE);
    assert_int_equal(waitpid(killer, &status, 0), killer);
    assert_int_equal(status, 0);
    wait_for_problem(true);
    opener_stop();
}

/* A process that began without it would find out when a certificate ends. */
static void test_gone_before_it_is_used(void **state)
{
    const char *const paths[] = {listed};
    char why[200] = "";

    (void)state;
    write_file(listed, "x");
    assert_int_equal(opener_start(paths, 1), ERR_OK);
    assert_int_equal(kill(only_child(), SIGKILL), 0);
    assert_int_equal(opener_use(why, sizeof why), ERR_SYSTEM);
    assert_string_equal(why, file_open_problem(FILE_OPENER_GONE));
    opener_stop();
}

/* As a file system that hangs for a while: errors at once, and then it goes on; what it says late
 * is nobody's answer. */
static void test_it_is_late(void **state)
{
    size_t before;
    pid_t child;

    (void)state;
    write_file(listed, "x");
    start();
    before = open_descriptors();
    child = only_child();
    assert_int_equal(kill(child, SIGSTOP), 0);
    assert_string_equal(content(listed), ""); /* waits */
    assert_int_equal(errno, FILE_OPENER_LATE);
    for (int i = 0; i < 3; i++) { /* do not */
        assert_string_equal(content(listed), "");
        assert_int_equal(errno, FILE_OPENER_LATE);
    }
    assert_string_equal(opener_problem(), file_open_problem(FILE_OPENER_LATE));
    opener_look();
    assert_int_equal(kill(child, SIGCONT), 0);
    wait_for_problem(false);
    assert_false(file_is_read_once(listed)); /* a mode, and not the descriptor of before */
    assert_string_equal(content(listed), "x");
    assert_int_equal(open_descriptors(), before);
    opener_stop();
}

/* From its first moment: each is sent right behind the fork. Those of its own faults still end it,
 * and the two that nobody can ignore. */
static void test_signals(void **state)
{
    static const int others[] = {SIGKILL, SIGSTOP, SIGSEGV, SIGBUS, SIGILL,
                                 SIGFPE,  SIGTRAP, SIGABRT, SIGSYS};
    const char *const paths[] = {listed};

    (void)state;
    write_file(listed, "x");
    assert_int_equal(opener_start(paths, 1), ERR_OK);
    for (int twice = 0; twice < 2; twice++) {
        for (int number = 1; number <= SIGRTMAX; number++) {
            bool is_other = false;

            for (size_t i = 0; i < ARRAY_LEN(others); i++)
                is_other |= number == others[i];
            if (!is_other && (number < 32 || number >= SIGRTMIN))
                assert_true(kill(only_child(), number) == 0 || errno == EINVAL);
        } /* EINVAL: an emulator keeps some for itself */
        use();
        assert_string_equal(content(listed), "x");
    }
    assert_int_equal(kill(only_child(), SIGABRT), 0);
    wait_for_problem(true);
    opener_stop();
}

/* --- together with everything else ------------------------------------------------------------ */

/* In a child: contained, the listed file is readable, whatever becomes of it, and no other is. */
static int contained_main(void)
{
    const struct contain_opts all = {.drop_privileges = true, .landlock = true, .seccomp = true};
    char why[256];

    start();
    if (contain_process(&all, why, sizeof why) != ERR_OK)
        return 1;
    if (strcmp(content(listed), "before") != 0)
        return 2;
    if (contain_state(CONTAIN_LANDLOCK)->is_in_force && !CONTAIN_INSTRUMENTED) {
        if (content(other)[0] != '\0' || errno != EACCES)
            return 3;
        if (open("/etc/passwd", O_RDONLY) >= 0 || open("/proc/self/environ", O_RDONLY) >= 0 ||
            open("/", O_RDONLY | O_DIRECTORY) >= 0)
            return 4;
        if (unlink(other) == 0 || errno != EACCES)
            return 5;
        if (open("/dev/null", O_RDONLY) < 0)
            return 6;
    }
    puts("go on");
    fflush(stdout);
    if (getchar() == EOF)
        return 7;
    return strcmp(content(listed), "after") == 0 ? 0 : 8;
}

static void test_contained(void **state)
{
    int to[2], from[2], status;
    char line[8];
    pid_t pid;

    (void)state;
    write_file(listed, "before");
    write_file(other, "not for us");
    assert_int_equal(pipe(to) | pipe(from), 0);
    pid = fork();
    if (pid == 0) {
        (void)dup2(to[0], 0);
        (void)dup2(from[1], 1);
        close(to[1]);
        _exit(contained_main());
    }
    close(from[1]);
    if (read(from[0], line, sizeof line) > 0) {
        /* Another file of the name, by a link into another folder. */
        write_file(target, "after");
        assert_int_equal(unlink(listed), 0);
        assert_int_equal(symlink(target, listed), 0);
        assert_int_equal(write(to[1], "\n", 1), 1);
    }
    close(to[0]);
    close(to[1]);
    close(from[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status), 0);
    assert_int_equal(access(other, F_OK), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_name_that_changes),
        cmocka_unit_test(test_many_requests),
        cmocka_unit_test(test_other_names),
        cmocka_unit_test(test_a_pipe),
        cmocka_unit_test(test_it_is_gone),
        cmocka_unit_test(test_it_goes_with_a_request),
        cmocka_unit_test(test_it_is_late),
        cmocka_unit_test(test_gone_before_it_is_used),
        cmocka_unit_test(test_signals),
        cmocka_unit_test(test_contained),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
