/* SPDX-License-Identifier: Apache-2.0 */
/* Files, pipes and FIFOs, with writers that are slow, late, absent or gone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"

static char folder[] = "/tmp/etcd-envelope-file-XXXXXX";
static char path[64];
static uint8_t buf[256 * 1024];

static void sleep_ms(long ms)
{
    const struct timespec t = {.tv_nsec = ms * 1000000};

    nanosleep(&t, NULL);
}

/* Writes "first", waits, writes "second" and closes. */
static void *write_slowly(void *arg)
{
    FILE *f;

    (void)arg;
    sleep_ms(100);
    f = fopen(path, "w");
    assert_non_null(f);
    fputs("first ", f);
    fflush(f);
    sleep_ms(200);
    fputs("second", f);
    fclose(f);
    return NULL;
}

static void a_fifo_is_read_to_its_end(void **state)
{
    pthread_t writer;
    size_t len;
    int fd;

    (void)state;
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_true(file_is_read_once(path));
    fd = file_open(path); /* before it has a writer */
    assert_true(fd >= 0);
    assert_int_equal(pthread_create(&writer, NULL, write_slowly, NULL), 0);
    assert_int_equal(file_read_all(fd, buf, sizeof buf, FILE_WAIT_MS, &len), ERR_OK);
    pthread_join(writer, NULL);
    assert_int_equal(len, strlen("first second"));
    assert_memory_equal(buf, "first second", len);
    close(fd);
}

static void nobody_writes(void **state)
{
    size_t len;
    int fd;

    (void)state;
    assert_int_equal(mkfifo(path, 0600), 0);
    fd = file_open(path);
    assert_int_equal(file_read_all(fd, buf, sizeof buf, 50, &len), ERR_SYSTEM);
    assert_int_equal(errno, ETIMEDOUT);
    assert_non_null(strstr(file_read_problem(ETIMEDOUT), "not closed"));
    close(fd);
}

/* One byte now and then does not make the wait longer: the bound is for all of it. */
static void *drip(void *arg)
{
    const int *fd = arg;

    for (int i = 0; i < 20; i++) {
        if (write(*fd, "x", 1) != 1)
            break;
        sleep_ms(20);
    }
    return NULL;
}

static void a_writer_that_does_not_end(void **state)
{
    pthread_t writer;
    int ends[2];
    size_t len;

    (void)state;
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(pthread_create(&writer, NULL, drip, &ends[1]), 0);
    assert_int_equal(file_read_all(ends[0], buf, sizeof buf, 100, &len), ERR_SYSTEM);
    assert_int_equal(errno, ETIMEDOUT);
    pthread_join(writer, NULL);
    close(ends[0]);
    close(ends[1]);
}

static void a_file_needs_no_wait(void **state)
{
    FILE *f = fopen(path, "w");
    size_t len;
    int fd;

    (void)state;
    assert_non_null(f);
    for (int i = 0; i < 20000; i++)
        fprintf(f, "%05d\n", i);
    fclose(f);
    assert_false(file_is_read_once(path));
    fd = file_open(path);
    assert_int_equal(file_read_all(fd, buf, sizeof buf, 0, &len), ERR_OK);
    assert_int_equal(len, 120000);
    assert_memory_equal(buf + len - 6, "19999\n", 6);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    assert_int_equal(file_read_all(fd, buf, 10, 0, &len), ERR_OK);
    assert_int_equal(len, 10);
    close(fd);
}

static void what_is_no_file(void **state)
{
    size_t len;
    int fd;

    (void)state;
    assert_int_equal(file_open(path), -1);
    assert_int_equal(errno, ENOENT);
    assert_false(file_is_read_once(path));
    assert_false(file_is_read_once(folder));
    assert_true(file_is_read_once("/dev/null"));
    fd = file_open(folder);
    assert_int_equal(file_read_all(fd, buf, sizeof buf, 0, &len), ERR_SYSTEM);
    assert_int_equal(errno, EISDIR);
    close(fd);
}

/* One rule for all names of a descriptor, whatever lies behind it: to another process it means
 * something else, and to this one nothing any more once it is contained. */
static void a_descriptor_is_read_once(void **state)
{
    char by_number[40];
    const char *const own[] = {"/dev/stdin",
                               "/dev/stdout",
                               "/dev/stderr",
                               "/dev/fd/0",
                               "/dev/fd/77",
                               "/proc/self/fd/0",
                               "/proc/thread-self/fd/0",
                               by_number};
    const char *const others[] = {"/dev/stdinx", "/dev/fd", "/proc/self/status", "/proc/self/cwd/x",
                                  "/proc/1/status"};
    int fd, before = dup(0);

    (void)state;
    snprintf(by_number, sizeof by_number, "/proc/%d/fd/0", (int)getpid());
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0 && before >= 0);
    assert_int_equal(dup2(fd, 0), 0); /* a regular file */
    for (size_t i = 0; i < ARRAY_LEN(own); i++)
        assert_true(file_is_read_once(own[i]));
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        assert_false(file_is_read_once(others[i]));
    assert_int_equal(dup2(before, 0), 0);
    close(before);
    close(fd);
    unlink(path);
}

static void what_is_said(void **state)
{
    (void)state;
    assert_string_equal(file_open_problem(ENOENT), strerror(ENOENT));
    assert_non_null(strstr(file_open_problem(FILE_OPENER_GONE), "has ended"));
    assert_non_null(strstr(file_open_problem(FILE_OPENER_LATE), "does not answer"));
}

static int teardown(void **state)
{
    (void)state;
    unlink(path);
    return 0;
}

#define FILE_TEST(name) cmocka_unit_test_teardown(name, teardown)

static void a_path_is_taken_apart_name_by_name(void **state)
{
    char way[] = "//run/./etcd-envelope///kms.sock/", name[NAME_MAX + 1], *longest;

    (void)state;
    assert_true(file_path_next(way, name));
    assert_string_equal(name, "run");
    assert_true(file_path_next(way, name));
    assert_string_equal(name, ".");
    assert_true(file_path_next(way, name));
    assert_string_equal(name, "etcd-envelope");
    assert_true(file_path_next(way, name));
    assert_string_equal(name, "kms.sock");
    assert_false(file_path_next(way, name));
    longest = calloc(1, NAME_MAX + 2);
    memset(longest, 'x', NAME_MAX + 1);
    assert_false(file_path_next(longest, name));
    longest[NAME_MAX] = '\0';
    assert_true(file_path_next(longest, name));
    assert_int_equal(strlen(name), NAME_MAX);
    free(longest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_path_is_taken_apart_name_by_name),
        FILE_TEST(a_fifo_is_read_to_its_end),
        FILE_TEST(nobody_writes),
        FILE_TEST(a_writer_that_does_not_end),
        FILE_TEST(a_file_needs_no_wait),
        FILE_TEST(what_is_no_file),
        FILE_TEST(a_descriptor_is_read_once),
        cmocka_unit_test(what_is_said),
    };
    int failed;

    if (mkdtemp(folder) == NULL)
        return 1;
    snprintf(path, sizeof path, "%s/file", folder);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(folder);
    return failed;
}
