/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/notify.h"

static char name[96];
static int manager;

/* A manager's socket: a file, or an abstract name that begins with '@'. */
static void listen_as_manager(const char *kind)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    snprintf(name, sizeof name, kind[0] == '@' ? "@test-notify-%d" : "/tmp/test-notify-%d",
             getpid());
    manager = socket(AF_UNIX, SOCK_DGRAM, 0);
    assert_true(manager >= 0);
    memcpy(addr.sun_path, name, strlen(name));
    if (name[0] == '@')
        addr.sun_path[0] = '\0';
    assert_int_equal(bind(manager, (struct sockaddr *)&addr,
                          (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name))),
                     0);
    setenv("NOTIFY_SOCKET", name, 1);
}

static int teardown(void **state)
{
    (void)state;
    if (manager > 0)
        close(manager);
    if (name[0] == '/')
        unlink(name);
    manager = 0;
    name[0] = '\0';
    unsetenv("NOTIFY_SOCKET");
    return 0;
}

static void expect(const char *text)
{
    char got[2048];
    ssize_t n = recv(manager, got, sizeof got - 1, MSG_DONTWAIT);

    assert_true(n >= 0);
    got[n] = '\0';
    assert_string_equal(got, text);
}

static void without_a_manager_nothing_happens(void **state)
{
    (void)state;
    assert_true(notify_manager("READY=1", "x"));
    setenv("NOTIFY_SOCKET", "", 1);
    assert_true(notify_manager("READY=1", "x"));
}

static void state_and_status_are_lines_of_one_datagram(void **state)
{
    static const char *const kinds[] = {"/", "@"};

    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        listen_as_manager(kinds[i]);
        assert_true(notify_manager("READY=1", "serving"));
        expect("READY=1\nSTATUS=serving");
        assert_true(notify_manager("RELOADING=1\nMONOTONIC_USEC=7", "x"));
        expect("RELOADING=1\nMONOTONIC_USEC=7\nSTATUS=x");
        assert_true(notify_manager("", "only text"));
        expect("STATUS=only text");
        teardown(state);
    }
}

static void a_status_cannot_be_an_assignment(void **state)
{
    (void)state;
    listen_as_manager("/");
    assert_true(notify_manager("", "a\nMAINPID=1\r\x01\x7f\xc3\xa9"));
    expect("STATUS=a?MAINPID=1???\xc3\xa9");
}

static void a_long_status_is_cut(void **state)
{
    char text[3000], got[4096];
    ssize_t n;

    (void)state;
    listen_as_manager("@");
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    assert_true(notify_manager("READY=1", text));
    n = recv(manager, got, sizeof got, MSG_DONTWAIT);
    assert_in_range(n, 500, 1024);
    assert_memory_equal(got, "READY=1\nSTATUS=xxx", 18);
}

static void who_cannot_be_told_is_known(void **state)
{
    char path[300];

    (void)state;
    setenv("NOTIFY_SOCKET", "/tmp/there-is-no/such-socket", 1);
    assert_false(notify_manager("READY=1", "x"));
    setenv("NOTIFY_SOCKET", "vsock:2:1", 1);
    assert_false(notify_manager("READY=1", "x"));
    memset(path, 'x', sizeof path - 1);
    path[0] = '/';
    path[sizeof path - 1] = '\0';
    setenv("NOTIFY_SOCKET", path, 1);
    assert_false(notify_manager("READY=1", "x"));
}

static void a_manager_that_does_not_read_is_not_waited_for(void **state)
{
    int told = 0;

    (void)state;
    listen_as_manager("/");
    while (told < 1000000 && notify_manager("", "x"))
        told++;
    assert_in_range(told, 1, 999999); /* the queue is full, and the call came back */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(without_a_manager_nothing_happens, teardown),
        cmocka_unit_test_teardown(state_and_status_are_lines_of_one_datagram, teardown),
        cmocka_unit_test_teardown(a_status_cannot_be_an_assignment, teardown),
        cmocka_unit_test_teardown(a_long_status_is_cut, teardown),
        cmocka_unit_test_teardown(who_cannot_be_told_is_known, teardown),
        cmocka_unit_test_teardown(a_manager_that_does_not_read_is_not_waited_for, teardown),
    };

    unsetenv("NOTIFY_SOCKET");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
