/* SPDX-License-Identifier: Apache-2.0 */
#include "net/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define MANY 64

static struct loop loop;
static int accepted[MANY];
static int accepted_count;
static char path[64], url_text[80];
static bool is_closing_in_callback;

static struct net_listener *closing;

static void on_accept(void *arg, int fd)
{
    assert_ptr_equal(arg, &accepted_count);
    assert_true(accepted_count < MANY);
    accepted[accepted_count++] = fd;
    if (is_closing_in_callback)
        net_listener_close(closing);
}

static int setup(void **state)
{
    (void)state;
    accepted_count = 0;
    is_closing_in_callback = false;
    (void)snprintf(path, sizeof path, "/tmp/test-listen-%d.sock", getpid());
    (void)snprintf(url_text, sizeof url_text, "unix://%s", path);
    return loop_init(&loop) == ERR_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    for (int i = 0; i < accepted_count; i++)
        close(accepted[i]);
    loop_stop(&loop);
    loop_run(&loop);
    loop_fini(&loop);
    (void)unlink(path);
    return 0;
}

static enum err try_listen(const char *text, struct net_listener **out)
{
    struct net_url url;
    const char *bad;
    char why[200] = "";
    enum err e;

    assert_int_equal(net_url_parse(text, &url, &bad), ERR_OK);
    e = net_listen(&loop, &url, on_accept, &accepted_count, out, why, sizeof why);
    if (e != ERR_OK) {
        assert_null(*out);
        assert_non_null(strstr(why, url.host)); /* which of several URLs it is */
    }
    return e;
}

static struct net_listener *listen_on(const char *text)
{
    struct net_listener *l;

    assert_int_equal(try_listen(text, &l), ERR_OK);
    return l;
}

static int connect_tcp(int family, uint16_t port)
{
    struct sockaddr_in v4 = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in6 v6 = {
        .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int ret;

    if (fd < 0)
        return -1;
    ret = family == AF_INET ? connect(fd, (struct sockaddr *)&v4, sizeof v4)
                            : connect(fd, (struct sockaddr *)&v6, sizeof v6);
    if (ret == 0)
        return fd;
    close(fd);
    return -1;
}

static int connect_unix(void)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    memcpy(addr.sun_path, path, strlen(path) + 1);
    if (connect(fd, (struct sockaddr *)&addr, sizeof addr) == 0)
        return fd;
    close(fd);
    return -1;
}

static void turns(int n)
{
    for (int i = 0; i < n; i++)
        (void)uv_run(&loop.uv, UV_RUN_NOWAIT);
}

static int int_option(int fd, int level, int name)
{
    int value = -1;
    socklen_t len = sizeof value;

    assert_int_equal(getsockopt(fd, level, name, &value, &len), 0);
    return value;
}

static void accepted_sockets_are_tuned(void **state)
{
    struct net_listener *l = listen_on("http://127.0.0.1:0");
    int fd, c;

    (void)state;
    assert_true(net_listener_port(l) > 0);
    c = connect_tcp(AF_INET, net_listener_port(l));
    assert_true(c >= 0);
    turns(2);
    assert_int_equal(accepted_count, 1);
    fd = accepted[0];
    assert_true((fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
    assert_true((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    assert_int_equal(int_option(fd, IPPROTO_TCP, TCP_NODELAY), 1);
    assert_int_equal(int_option(fd, SOL_SOCKET, SO_KEEPALIVE), 1);
    assert_int_equal(int_option(fd, IPPROTO_TCP, TCP_KEEPIDLE), 30);
    assert_int_equal(int_option(fd, IPPROTO_TCP, TCP_KEEPINTVL), 10);
    assert_int_equal(int_option(fd, IPPROTO_TCP, TCP_KEEPCNT), 3);
    close(c);
    net_listener_close(l);
}

static void the_wildcard_takes_both_families(void **state)
{
    struct net_listener *l = listen_on("http://:0");
    int v4 = connect_tcp(AF_INET, net_listener_port(l));
    int v6 = connect_tcp(AF_INET6, net_listener_port(l));
    int probe = socket(AF_INET6, SOCK_STREAM, 0);
    struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    bool has_v6 = probe >= 0 && bind(probe, (struct sockaddr *)&any, sizeof any) == 0;

    (void)state;
    turns(2);
    assert_true(v4 >= 0);
    if (has_v6)
        assert_true(v6 >= 0);
    assert_int_equal(accepted_count, has_v6 ? 2 : 1);
    close(v4);
    close(v6);
    close(probe);
    net_listener_close(l);
}

static void an_address_in_use_is_an_error(void **state)
{
    struct net_listener *l = listen_on("http://127.0.0.1:0"), *second;
    char text[64];

    (void)state;
    (void)snprintf(text, sizeof text, "http://127.0.0.1:%u", net_listener_port(l));
    assert_int_equal(try_listen(text, &second), ERR_SYSTEM);
    assert_int_equal(try_listen("http://192.0.2.1:0", &second), ERR_SYSTEM); /* RFC 5737 */
    assert_int_equal(try_listen("http://a..b:0", &second), ERR_SYSTEM);
    net_listener_close(l);
}

static void closing_inside_the_callback_is_safe(void **state)
{
    int c[3];

    (void)state;
    closing = listen_on("http://127.0.0.1:0");
    for (int i = 0; i < 3; i++)
        c[i] = connect_tcp(AF_INET, net_listener_port(closing));
    is_closing_in_callback = true;
    turns(3);
    assert_int_equal(accepted_count, 1);
    for (int i = 0; i < 3; i++)
        close(c[i]);
}

/* --- unix sockets --- */

static void a_socket_file_is_for_its_owner_alone(void **state)
{
    mode_t old = umask(0); /* must not depend on it */
    struct net_listener *l = listen_on(url_text);
    struct stat st;
    int c;

    (void)state;
    umask(old);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(net_listener_port(l), 0);
    c = connect_unix();
    assert_true(c >= 0);
    turns(2);
    assert_int_equal(accepted_count, 1);
    close(c);
    net_listener_close(l);
    assert_int_equal(stat(path, &st), -1);
}

static void a_stale_socket_file_is_replaced(void **state)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int dead = socket(AF_UNIX, SOCK_STREAM, 0);
    struct net_listener *l;
    int c;

    (void)state;
    memcpy(addr.sun_path, path, strlen(path) + 1);
    assert_int_equal(bind(dead, (struct sockaddr *)&addr, sizeof addr), 0);
    close(dead);
    l = listen_on(url_text);
    c = connect_unix();
    assert_true(c >= 0);
    close(c);
    net_listener_close(l);
}

static void a_live_socket_file_is_left_alone(void **state)
{
    struct net_listener *l = listen_on(url_text), *second;
    int c;

    (void)state;
    assert_int_equal(try_listen(url_text, &second), ERR_SYSTEM);
    c = connect_unix();
    assert_true(c >= 0);
    turns(2);
    assert_int_equal(accepted_count, 2); /* the probe of the second one, and c */
    close(c);
    net_listener_close(l);
}

static void another_file_is_left_alone(void **state)
{
    struct net_listener *l;
    int fd = open(path, O_CREAT | O_WRONLY | O_EXCL, 0600);
    struct stat st;

    (void)state;
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(try_listen(url_text, &l), ERR_SYSTEM);
    assert_int_equal(stat(path, &st), 0);
    assert_true(S_ISREG(st.st_mode));
    assert_int_equal(try_listen("unix:///nonexistent/a.sock", &l), ERR_SYSTEM);
}

static void a_successors_socket_file_is_left_alone(void **state)
{
    struct net_listener *l = listen_on(url_text), *successor;
    int c;

    (void)state;
    assert_int_equal(unlink(path), 0);
    successor = listen_on(url_text);
    net_listener_close(l);
    c = connect_unix();
    assert_true(c >= 0);
    close(c);
    net_listener_close(successor);
}

static void abstract_sockets_take_the_same_user(void **state)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    struct net_listener *l, *second;
    int fd = socket(AF_UNIX, SOCK_STREAM, 0), n;
    char text[64];

    (void)state;
    n = snprintf(text, sizeof text, "unix://@test-listen-%d", getpid());
    l = listen_on(text);
    assert_int_equal(try_listen(text, &second), ERR_SYSTEM);
    memcpy(addr.sun_path + 1, text + 8, (size_t)n - 8);
    assert_int_equal(
        connect(fd, (struct sockaddr *)&addr, (socklen_t)(sizeof addr.sun_family + (size_t)n - 7)),
        0);
    turns(2);
    assert_int_equal(accepted_count, 1);
    close(fd);
    net_listener_close(l);
}

/* --- no descriptors left --- */

static bool is_closed_by_peer(int fd)
{
    char byte;

    return recv(fd, &byte, 1, MSG_DONTWAIT) == 0;
}

static void without_descriptors_accepting_pauses_and_recovers(void **state)
{
    struct net_listener *l = listen_on(url_text);
    struct rlimit old, low;
    int c[2];
    uint64_t begin;

    (void)state;
    (void)uv_run(&loop.uv, UV_RUN_NOWAIT);
    c[0] = connect_unix();
    c[1] = connect_unix();
    assert_true(c[0] >= 0 && c[1] >= 0);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    /* Descriptors are given out from below: no free number is left under this limit. */
    low = (struct rlimit){(rlim_t)c[1] + 1, old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    begin = loop_hrtime_ns();
    turns(5);
    assert_int_equal(accepted_count, 0);
    assert_true(is_closed_by_peer(c[0])); /* told, instead of waiting */
    assert_false(is_closed_by_peer(c[1]));
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    while (accepted_count == 0)
        (void)uv_run(&loop.uv, UV_RUN_ONCE);
    assert_true(loop_hrtime_ns() - begin >= 95u * 1000 * 1000);
    assert_int_equal(accepted_count, 1);
    close(c[0]);
    close(c[1]);
    net_listener_close(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        T(accepted_sockets_are_tuned),
        T(the_wildcard_takes_both_families),
        T(an_address_in_use_is_an_error),
        T(closing_inside_the_callback_is_safe),
        T(a_socket_file_is_for_its_owner_alone),
        T(a_stale_socket_file_is_replaced),
        T(a_live_socket_file_is_left_alone),
        T(another_file_is_left_alone),
        T(a_successors_socket_file_is_left_alone),
        T(abstract_sockets_take_the_same_user),
        T(without_descriptors_accepting_pauses_and_recovers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
