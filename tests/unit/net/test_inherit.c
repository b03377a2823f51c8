/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors 3 and following are those that a service manager passes: setup takes these numbers
 * before anything else can be opened there, and each test puts its sockets in their place. */
#include "net/inherit.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "net/listen.h"

#define FIRST 3
#define PLACES 6

static struct loop loop;
static int accepted;
static char why[300], path[64];

static int setup(void **state)
{
    (void)state;
    accepted = 0;
    snprintf(path, sizeof path, "/tmp/test-inherit-%d.sock", getpid());
    for (int fd = FIRST; fd < FIRST + PLACES; fd++)
        if (fcntl(fd, F_GETFD) < 0)
            assert_int_equal(dup2(STDERR_FILENO, fd), fd);
    return loop_init(&loop) == ERR_OK ? 0 : -1;
}

static int teardown(void **state)
{
    char text[NET_URL_MAX];

    (void)state;
    loop_stop(&loop);
    loop_run(&loop);
    loop_fini(&loop);
    unlink(path);
    assert_null(net_inherit_left(text)); /* what one test leaves would be another's */
    return 0;
}

static struct net_url url_of(const char *text)
{
    struct net_url url;
    const char *reason;

    assert_int_equal(net_url_parse(text, &url, &reason), ERR_OK);
    return url;
}

/* A listening socket of 127.0.0.1 becomes descriptor fd; returns its port. */
static unsigned tcp_at(int fd, int family)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6}; /* the wildcard */
    const struct sockaddr *addr =
        family == AF_INET ? (struct sockaddr *)&v4 : (struct sockaddr *)&v6;
    socklen_t len = family == AF_INET ? sizeof v4 : sizeof v6;
    struct sockaddr_in6 got = {0};
    socklen_t got_len = sizeof got;
    int s = socket(family, SOCK_STREAM, 0);

    assert_true(s >= 0);
    assert_int_equal(bind(s, addr, len), 0);
    assert_int_equal(listen(s, 8), 0);
    assert_int_equal(dup2(s, fd), fd); /* closes what a test before had there */
    close(s);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&got, &got_len), 0);
    return ntohs(family == AF_INET ? ((struct sockaddr_in *)(void *)&got)->sin_port
                                   : got.sin6_port);
}

static void unix_at(int fd, mode_t mode)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int s = socket(AF_UNIX, SOCK_STREAM, 0);

    memcpy(addr.sun_path, path, strlen(path) + 1);
    assert_int_equal(bind(s, (struct sockaddr *)&addr, sizeof addr), 0);
    assert_int_equal(chmod(path, mode), 0);
    assert_int_equal(listen(s, 8), 0);
    assert_int_equal(dup2(s, fd), fd);
    close(s);
}

static void announce(const char *count, const char *names, pid_t pid)
{
    char text[32];

    snprintf(text, sizeof text, "%d", pid);
    setenv("LISTEN_FDS", count, 1);
    setenv("LISTEN_PID", text, 1);
    if (names != NULL)
        setenv("LISTEN_FDNAMES", names, 1);
}

static void take_over(const char *count, const char *names)
{
    announce(count, names, getpid());
    if (net_inherit(why, sizeof why) != ERR_OK)
        fail_msg("%s", why);
    assert_null(getenv("LISTEN_FDS")); /* children, if there were any, would take them for theirs */
    assert_null(getenv("LISTEN_PID"));
    assert_null(getenv("LISTEN_FDNAMES"));
}

static void on_accept(void *arg, int fd)
{
    (void)arg;
    accepted++;
    close(fd);
}

static struct net_listener *listen_on(const char *text)
{
    const struct net_url url = url_of(text);
    struct net_listener *l;

    if (net_listen(&loop, &url, on_accept, NULL, &l, why, sizeof why) != ERR_OK)
        fail_msg("%s", why);
    return l;
}

static void connect_to(unsigned port)
{
    const struct sockaddr_in addr = {.sin_family = AF_INET,
                                     .sin_port = htons((uint16_t)port),
                                     .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int s = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(connect(s, (const struct sockaddr *)&addr, sizeof addr), 0);
    close(s);
}

/* --- the tests --- */

static void a_socket_is_found_by_its_address(void **state)
{
    unsigned ports[2] = {tcp_at(FIRST, AF_INET), tcp_at(FIRST + 1, AF_INET)};
    struct net_listener *l[2];
    char text[NET_URL_MAX];

    (void)state;
    take_over("2", "one:two");
    assert_true(fcntl(FIRST, F_GETFD) & FD_CLOEXEC);
    assert_true(fcntl(FIRST, F_GETFL) & O_NONBLOCK);
    connect_to(ports[1]);          /* waits in the queue */
    for (int i = 1; i >= 0; i--) { /* the order does not matter */
        snprintf(text, sizeof text, i == 0 ? "http://127.0.0.1:%u" : "https://localhost:%u",
                 ports[i]);
        l[i] = listen_on(text);
        assert_int_equal(net_listener_port(l[i]), ports[i]);
    }
    assert_null(net_inherit_left(text));
    for (int i = 0; i < 100 && accepted == 0; i++)
        uv_run(&loop.uv, UV_RUN_ONCE);
    assert_int_equal(accepted, 1);
    net_listener_close(l[0]);
    net_listener_close(l[1]);
}

static void without_a_host_the_wildcard_is_meant(void **state)
{
    char text[NET_URL_MAX];
    struct net_listener *l;

    (void)state;
    snprintf(text, sizeof text, "http://:%u", tcp_at(FIRST, AF_INET6));
    take_over("1", NULL);
    l = listen_on(text);
    assert_null(net_inherit_left(text));
    net_listener_close(l);
}

/* A wildcard's socket is not that of one address: it would listen where nobody wanted it. */
static void another_address_does_not_fit(void **state)
{
    char text[NET_URL_MAX], other[NET_URL_MAX];
    unsigned port = tcp_at(FIRST, AF_INET6);
    struct net_listener *l;
    struct net_url url;

    (void)state;
    take_over("1", "wildcard");
    snprintf(text, sizeof text, "http://127.0.0.1:%u", port);
    url = url_of(text);
    assert_int_not_equal(net_listen(&loop, &url, on_accept, NULL, &l, why, sizeof why), ERR_OK);
    snprintf(text, sizeof text, "http://[::]:%u", port);
    assert_string_equal(net_inherit_left(other), text);
    l = listen_on(text);
    net_listener_close(l);
}

static void a_unix_socket_keeps_its_file(void **state)
{
    char text[NET_URL_MAX];
    struct net_listener *l;
    struct stat st;

    (void)state;
    unix_at(FIRST, 0660);
    take_over("1", NULL);
    snprintf(text, sizeof text, "unix://%s", path);
    l = listen_on(text);
    net_listener_close(l);
    assert_int_equal(stat(path, &st), 0); /* it is the manager's, who goes on listening */
}

static void a_name_stands_for_the_address(void **state)
{
    char text[NET_URL_MAX];
    unsigned port = tcp_at(FIRST, AF_INET);
    struct net_url url = url_of("https://192.0.2.1:1");
    struct net_listener *l;

    (void)state;
    tcp_at(FIRST + 1, AF_INET);
    tcp_at(FIRST + 2, AF_INET);
    take_over("3", "client:twice:twice");
    net_inherit_address("metrics", &url); /* nobody's */
    net_inherit_address("twice", &url);   /* which? */
    assert_string_equal(url.host, "192.0.2.1");
    net_inherit_address("client", &url);
    assert_true(url.is_tls);
    snprintf(text, sizeof text, "https://127.0.0.1:%u", port);
    assert_string_equal(net_url_text(&url, why), text);
    while (net_inherit_left(text) != NULL) {
        l = listen_on(text);
        net_listener_close(l);
    }
}

static void refused(const char *count, const char *text)
{
    char left[NET_URL_MAX];

    announce(count, NULL, getpid());
    assert_int_equal(net_inherit(why, sizeof why), ERR_CONFIG);
    assert_non_null(strstr(why, text));
    assert_null(net_inherit_left(left));
}

static void what_is_no_listening_socket_is_refused(void **state)
{
    int s;

    (void)state;
    refused("0", "not a number");
    refused("33", "not a number");
    refused("1x", "not a number");
    refused("-1", "not a number");
    refused("", "not a number");
    dup2(open("/dev/null", O_RDONLY | O_CLOEXEC), FIRST);
    refused("1", "no listening stream socket");
    s = socket(AF_INET, SOCK_STREAM, 0);
    dup2(s, FIRST);
    refused("1", "no listening stream socket"); /* Accept=yes would pass such a one */
    close(s);
    s = socket(AF_INET, SOCK_DGRAM, 0);
    dup2(s, FIRST);
    refused("1", "no listening stream socket");
    close(s);
    unix_at(FIRST, 0666);
    refused("1", "SocketMode");
}

static void what_is_meant_for_another_process_stays_untouched(void **state)
{
    char text[NET_URL_MAX];

    (void)state;
    tcp_at(FIRST, AF_INET);
    announce("1", NULL, getppid());
    assert_int_equal(net_inherit(why, sizeof why), ERR_OK);
    assert_null(net_inherit_left(text));
    assert_false(fcntl(FIRST, F_GETFD) & FD_CLOEXEC);
    assert_null(getenv("LISTEN_FDS"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_socket_is_found_by_its_address, setup, teardown),
        cmocka_unit_test_setup_teardown(without_a_host_the_wildcard_is_meant, setup, teardown),
        cmocka_unit_test_setup_teardown(another_address_does_not_fit, setup, teardown),
        cmocka_unit_test_setup_teardown(a_unix_socket_keeps_its_file, setup, teardown),
        cmocka_unit_test_setup_teardown(a_name_stands_for_the_address, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_no_listening_socket_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_meant_for_another_process_stays_untouched, setup,
                                        teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
