/* SPDX-License-Identifier: Apache-2.0 */
/* Every part of the way to a socket is looked at, through links, and named once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "kms/socket_path_int.h"

static char root[64];   /* a directory of our own, beneath /tmp */
static char found[800]; /* "what path-beneath-root\n" of each */
static bool was_reached;

static const char *at(const char *name)
{
    static char paths[4][256];
    static unsigned next;
    char *path = paths[next++ % 4];

    snprintf(path, sizeof paths[0], "%s/%s", root, name);
    return path;
}

static void make_dir(const char *name, mode_t mode)
{
    assert_int_equal(mkdir(at(name), 0700), 0);
    assert_int_equal(chmod(at(name), mode), 0);
}

static void make_socket(const char *name, mode_t mode)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    snprintf(a.sun_path, sizeof a.sun_path, "%.100s", at(name));
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(chmod(at(name), mode), 0);
    close(fd);
}

static int setup(void **state)
{
    (void)state;
    strcpy(root, "/tmp/socket-path-XXXXXX");
    return mkdtemp(root) == NULL ? -1 : 0;
}

static int teardown(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof command, "rm -r '%s'", root);
    return system(command);
}

static void on_weakness(void *arg, enum socket_weakness what, const char *path)
{
    static const char *const names[] = {"link", "dir", "socket"};
    size_t n = strlen(found);

    (void)arg;
    if (strncmp(path, root, strlen(root)) == 0)
        path += strlen(root);
    snprintf(found + n, sizeof found - n, "%s %s\n", names[what], path);
}

static const char *look(const char *path)
{
    found[0] = '\0';
    was_reached = socket_path_look(path, on_weakness, NULL);
    return found;
}

static void a_safe_way(void **state)
{
    (void)state;
    make_dir("a", 0755);
    make_dir("a/b", 0770);
    make_socket("a/b/s", 0770);
    assert_string_equal(look(at("a/b/s")), "");
    assert_true(was_reached);
    assert_string_equal(look(at("a/.//b/../b/s")), "");
    assert_string_equal(look("@abstract"), "");
    assert_true(was_reached);
}

static void each_directory(void **state)
{
    (void)state;
    make_dir("a", 0755);
    make_dir("a/b", 0700);
    make_dir("a/b/c", 0755);
    make_socket("a/b/c/s", 0600);
    assert_int_equal(chmod(at("a"), 0757), 0);
    assert_string_equal(look(at("a/b/c/s")), "dir /a\n");
    assert_int_equal(chmod(at("a/b"), 0702), 0);
    assert_string_equal(look(at("a/b/c/s")), "dir /a\ndir /a/b\n");
    assert_int_equal(chmod(at("a"), 0755), 0);
    assert_int_equal(chmod(at("a/b"), 0700), 0);
    assert_int_equal(chmod(at("a/b/c"), 0777), 0);
    assert_string_equal(look(at("a/b/c/s")), "dir /a/b/c\n");
    assert_int_equal(chmod(root, 0777), 0);
    assert_string_equal(look(at("a/b/c/s")), "dir \ndir /a/b/c\n");
}

/* In a sticky directory others cannot rename what is ours, but they may be there first. */
static void sticky_directories(void **state)
{
    (void)state;
    make_dir("t", 01777);
    make_dir("t/own", 0700);
    make_socket("t/own/s", 0600);
    make_socket("t/s", 0600);
    assert_string_equal(look(at("t/own/s")), "");
    assert_string_equal(look(at("t/s")), "dir /t\n");
    assert_string_equal(look(at("t/missing/s")), "dir /t\n");
    if (geteuid() == 0) {
        assert_int_equal(chown(at("t/own"), 12345, 12345), 0);
        assert_string_equal(look(at("t/own/s")), "dir /t\n");
    }
}

static void the_sockets_mode(void **state)
{
    (void)state;
    make_socket("s", 0777);
    assert_string_equal(look(at("s")), "socket /s\n");
    assert_int_equal(chmod(at("s"), 0602), 0);
    assert_string_equal(look(at("s")), "socket /s\n");
    assert_int_equal(chmod(at("s"), 0775), 0);
    assert_string_equal(look(at("s")), "");
}

static void links_anywhere(void **state)
{
    (void)state;
    make_dir("real", 0700);
    make_dir("real/d", 0777);
    make_socket("real/d/s", 0777);
    assert_int_equal(symlink("real", at("relative")), 0);
    assert_string_equal(look(at("relative/d/s")),
                        "link /relative\ndir /real/d\nsocket /real/d/s\n");
    assert_int_equal(symlink(at("real/d"), at("absolute")), 0);
    assert_string_equal(look(at("absolute/s")), "link /absolute\ndir /real/d\nsocket /real/d/s\n");
    assert_int_equal(symlink("s", at("real/d/last")), 0);
    /* the directory of the link and of its target: named once */
    assert_string_equal(look(at("real/d/last")),
                        "dir /real/d\nlink /real/d/last\nsocket /real/d/s\n");
    assert_int_equal(symlink("../relative/d", at("real/up")), 0);
    assert_string_equal(look(at("real/up/s")),
                        "link /real/up\nlink /relative\ndir /real/d\nsocket /real/d/s\n");
}

static void what_is_missing_and_what_goes_round(void **state)
{
    (void)state;
    make_dir("d", 0777);
    assert_string_equal(look(at("d/s")), "dir /d\n");
    assert_false(was_reached);
    assert_string_equal(look(at("no/s")), "");
    assert_false(was_reached);
    assert_int_equal(symlink("loop", at("loop")), 0);
    assert_string_equal(look(at("loop/s")), "link /loop\n");
    assert_false(was_reached);
    assert_int_equal(symlink("nowhere", at("dangling")), 0);
    assert_string_equal(look(at("dangling")), "link /dangling\n");
    assert_false(was_reached);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_safe_way),       TEST(each_directory), TEST(sticky_directories),
        TEST(the_sockets_mode), TEST(links_anywhere), TEST(what_is_missing_and_what_goes_round),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
