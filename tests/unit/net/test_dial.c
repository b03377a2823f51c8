/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "net/conn.h"
#include "net/listen.h"

static struct loop loop;
static struct slab_pool pool;
static struct net_listener *listener;
static struct net_conn *dialled, *accepted;
static int opens, eofs, closes;
static enum err eof_why;
static char why[160];
static bool is_closing_in_callback;

static void on_open(struct net_conn *c)
{
    assert_ptr_equal(c, dialled);
    opens++;
    if (is_closing_in_callback)
        net_conn_close(c, 0);
}

static void on_read(struct net_conn *c, struct slice *s)
{
    (void)c;
    slice_drop(s);
}

static void on_eof(struct net_conn *c, enum err e)
{
    eofs++;
    eof_why = e;
    (void)snprintf(why, sizeof why, "%s", net_conn_why(c));
    if (is_closing_in_callback)
        net_conn_close(c, 0);
}

static void on_closed(struct net_conn *c)
{
    assert_ptr_equal(c, dialled);
    closes++;
    dialled = NULL;
}

static void on_accepted_eof(struct net_conn *c, enum err e)
{
    (void)e;
    net_conn_close(c, 0);
}

static void on_accepted_closed(struct net_conn *c)
{
    assert_ptr_equal(c, accepted);
    accepted = NULL;
}

static const struct net_conn_ops ops = {
    .on_open = on_open, .on_read = on_read, .on_eof = on_eof, .on_closed = on_closed};
static const struct net_conn_ops accepted_ops = {
    .on_read = on_read, .on_eof = on_accepted_eof, .on_closed = on_accepted_closed};

static void on_accept(void *arg, int fd)
{
    (void)arg;
    assert_null(accepted);
    assert_int_equal(net_conn_accept(&loop, &pool, 0, fd, NULL, &accepted_ops, NULL, &accepted),
                     ERR_OK);
}

static int setup(void **state)
{
    (void)state;
    opens = eofs = closes = 0;
    why[0] = '\0';
    is_closing_in_callback = true;
    listener = NULL;
    slab_pool_init(&pool, 4);
    return loop_init(&loop) == ERR_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    if (listener != NULL)
        net_listener_close(listener);
    loop_stop(&loop);
    loop_run(&loop);
    loop_fini(&loop);
    slab_pool_fini(&pool);
    return 0;
}

static struct net_url parse(const char *text)
{
    struct net_url url;
    const char *bad;

    if (net_url_parse(text, &url, &bad) != ERR_OK)
        fail_msg("%s: %s", text, bad);
    return url;
}

static void listen_on(const char *text)
{
    struct net_url url = parse(text);
    char reason[128] = "";

    if (net_listen(&loop, &url, on_accept, NULL, &listener, reason, sizeof reason) != ERR_OK)
        fail_msg("%s: %s", text, reason);
}

static void dial(const char *text)
{
    struct net_url url = parse(text);

    assert_int_equal(net_conn_dial(&loop, &pool, 0, &url, NULL, &ops, NULL, &dialled), ERR_OK);
    assert_int_equal(opens + eofs + closes, 0); /* nothing from inside */
}

static void dial_port(const char *host)
{
    char text[64];

    (void)snprintf(text, sizeof text, "http://%s:%u", host, net_listener_port(listener));
    dial(text);
}

static void run_until_closed(void)
{
    while (dialled != NULL || accepted != NULL)
        (void)uv_run(&loop.uv, UV_RUN_ONCE);
    assert_int_equal(closes, 1);
    assert_int_equal(opens + eofs, 1);
}

static void expect_open(void)
{
    run_until_closed();
    if (opens != 1)
        fail_msg("%s", why);
}

static void expect_failure(enum err e, const char *reason)
{
    run_until_closed();
    assert_int_equal(eofs, 1);
    assert_int_equal(eof_why, e);
    if (strstr(why, reason) == NULL)
        fail_msg("\"%s\" lacks \"%s\"", why, reason);
}

static void numeric_hosts(void **state)
{
    (void)state;
    listen_on("http://127.0.0.1:0");
    dial_port("127.0.0.1");
    assert_non_null(strstr(net_conn_peer(dialled), "127.0.0.1:"));
    expect_open();
}

static void names_are_resolved_and_each_address_is_tried(void **state)
{
    (void)state;
    listen_on("http://127.0.0.1:0"); /* localhost is ::1 too where there is IPv6 */
    dial_port("localhost");
    expect_open();
}

static void an_empty_host_is_this_machine(void **state)
{
    (void)state;
    listen_on("http://127.0.0.1:0");
    dial_port("");
    expect_open();
}

static void unix_sockets(void **state)
{
    char text[64];

    (void)state;
    (void)snprintf(text, sizeof text, "unix:///tmp/test-dial-%d.sock", getpid());
    listen_on(text);
    dial(text);
    assert_string_equal(net_conn_peer(dialled), "unix");
    expect_open();
}

static void abstract_sockets(void **state)
{
    char text[64];

    (void)state;
    (void)snprintf(text, sizeof text, "unix:@test-dial-%d", getpid());
    listen_on(text);
    dial(text);
    expect_open();
}

static void a_refused_connection(void **state)
{
    char text[64];

    (void)state;
    listen_on("http://127.0.0.1:0");
    (void)snprintf(text, sizeof text, "http://127.0.0.1:%u", net_listener_port(listener));
    net_listener_close(listener);
    listener = NULL;
    dial(text);
    expect_failure(ERR_SYSTEM, "Connection refused");
}

static void a_refused_name(void **state)
{
    (void)state;
    dial("http://localhost:1");
    expect_failure(ERR_SYSTEM, "Connection refused");
}

static void a_missing_socket_file(void **state)
{
    (void)state;
    dial("unix:///nonexistent/a.sock");
    expect_failure(ERR_SYSTEM, "No such file");
}

static void a_name_that_nobody_has(void **state)
{
    (void)state;
    dial("http://a..b:2379"); /* not a legal name: no server is asked */
    expect_failure(ERR_SYSTEM, "resolve");
}

static void closing_while_the_name_is_resolved(void **state)
{
    (void)state;
    is_closing_in_callback = false;
    dial("http://localhost:1");
    (void)uv_run(&loop.uv, UV_RUN_NOWAIT); /* the dial has begun */
    net_conn_close(dialled, 0);
    while (dialled != NULL)
        (void)uv_run(&loop.uv, UV_RUN_ONCE);
    assert_int_equal(opens + eofs, 0);
    assert_int_equal(closes, 1);
}

/* A listener whose queue is full answers no SYN: an address behind a black hole. */
static int black_hole(struct sockaddr_in *addr, int fillers[static 8])
{
    socklen_t len = sizeof *addr;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    *addr = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(bind(fd, (struct sockaddr *)addr, sizeof *addr), 0);
    assert_int_equal(listen(fd, 0), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)addr, &len), 0);
    for (int i = 0; i < 8; i++) {
        fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        (void)connect(fillers[i], (struct sockaddr *)addr, sizeof *addr);
    }
    usleep(50000);
    return fd;
}

static void a_silent_address_is_given_up_after_5_seconds(void **state)
{
    struct sockaddr_in addr;
    int fillers[8], fd = black_hole(&addr, fillers);
    uint64_t begin = loop_hrtime_ns(), ms;
    char text[64];

    (void)state;
    (void)snprintf(text, sizeof text, "http://127.0.0.1:%u", ntohs(addr.sin_port));
    dial(text);
    expect_failure(ERR_TIMEOUT, "timed out");
    ms = (loop_hrtime_ns() - begin) / 1000000;
    assert_true(ms >= 4900 && ms < 8000);
    for (int i = 0; i < 8; i++)
        close(fillers[i]);
    close(fd);
}

static void closing_while_it_connects(void **state)
{
    struct sockaddr_in addr;
    int fillers[8], fd = black_hole(&addr, fillers);
    char text[64];

    (void)state;
    is_closing_in_callback = false;
    (void)snprintf(text, sizeof text, "http://127.0.0.1:%u", ntohs(addr.sin_port));
    dial(text);
    for (int i = 0; i < 3; i++)
        (void)uv_run(&loop.uv, UV_RUN_NOWAIT);
    assert_int_equal(opens + eofs, 0);
    net_conn_close(dialled, 1000); /* nothing to linger for */
    while (dialled != NULL)
        (void)uv_run(&loop.uv, UV_RUN_ONCE);
    assert_int_equal(opens + eofs, 0);
    for (int i = 0; i < 8; i++)
        close(fillers[i]);
    close(fd);
}

static int group_setup(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_IGN);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        T(numeric_hosts),
        T(names_are_resolved_and_each_address_is_tried),
        T(an_empty_host_is_this_machine),
        T(unix_sockets),
        T(abstract_sockets),
        T(a_refused_connection),
        T(a_refused_name),
        T(a_missing_socket_file),
        T(a_name_that_nobody_has),
        T(closing_while_the_name_is_resolved),
        T(a_silent_address_is_given_up_after_5_seconds),
        T(closing_while_it_connects),
    };

    return cmocka_run_group_tests(tests, group_setup, NULL);
}
