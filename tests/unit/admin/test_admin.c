/* SPDX-License-Identifier: Apache-2.0 */
/* The listener on a thread of its own, blocking sockets in front of it. */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "admin/admin.h"

struct fixture {
    struct loop loop;
    struct admin *admin;
    uint16_t port;
    pthread_t thread;
    struct loop_timer later;
    struct admin_reply *waiting; /* of /later, answered by the timer, or at the end */
    struct admin_reply *held;    /* of /held, answered when the next one comes, or at the end */
    struct admin_reply *parked[ADMIN_WAITING_MAX]; /* of /park, answered at the end */
    size_t parked_count;
};

/* --- routes ---------------------------------------------------------------------------------- */

static void on_hello(void *arg, struct admin_reply *reply, const struct http1_request *r)
{
    char body[2200];
    int n = snprintf(body, sizeof body, "%s?%s\n", r->path, r->query);

    (void)arg;
    admin_reply_send(reply, 200, "text/plain", bytes_of(body, (size_t)n));
}

static void on_later_timer(struct loop_timer *t)
{
    struct fixture *f = CONTAINER_OF(t, struct fixture, later);

    admin_reply_send(f->waiting, 503, "text/plain", BYTES_LIT("late"));
    f->waiting = NULL;
}

static void on_later(void *arg, struct admin_reply *reply, const struct http1_request *r)
{
    struct fixture *f = arg;

    (void)r;
    f->waiting = reply;
    assert_int_equal(loop_timer_start(&f->loop, &f->later, 50), ERR_OK);
}

static void release(struct fixture *f)
{
    if (f->held != NULL)
        admin_reply_send(f->held, 200, "text/plain", BYTES_LIT("released"));
    f->held = NULL;
}

static void on_held(void *arg, struct admin_reply *reply, const struct http1_request *r)
{
    struct fixture *f = arg;

    (void)r;
    release(f);
    f->held = reply;
}

static void on_park(void *arg, struct admin_reply *reply, const struct http1_request *r)
{
    struct fixture *f = arg;

    (void)r;
    assert_in_range(f->parked_count, 0, ADMIN_WAITING_MAX - 1);
    f->parked[f->parked_count++] = reply;
}

static void on_large(void *arg, struct admin_reply *reply, const struct http1_request *r)
{
    char *body = malloc(3 << 20);

    (void)arg, (void)r;
    assert_non_null(body);
    memset(body, 'x', 3 << 20);
    admin_reply_send(reply, 200, "text/plain", bytes_of(body, 3 << 20));
    free(body);
}

static void on_stop(void *arg, struct admin_reply *reply, const struct http1_request *r)
{
    struct fixture *f = arg;

    (void)r;
    admin_reply_send(reply, 200, "text/plain", BYTES_LIT("bye"));
    admin_close(f->admin);
    release(f);
    while (f->parked_count > 0)
        admin_reply_send(f->parked[--f->parked_count], 200, "text/plain", BYTES_LIT("parked"));
    if (f->waiting != NULL) /* a test that failed did not wait for it */
        on_later_timer(&f->later);
    loop_timer_fini(&f->later);
    loop_stop(&f->loop);
}

static const struct admin_route routes[] = {
    {"/hello", on_hello, false}, {"/below/", on_hello, false}, {"/later", on_later, true},
    {"/held", on_held, true},    {"/park", on_park, true},     {"/large", on_large, false},
    {"/stop", on_stop, false},   {NULL, NULL, false},
};

/* --- set-up ---------------------------------------------------------------------------------- */

static void *run(void *arg)
{
    struct fixture *f = arg;

    loop_run(&f->loop);
    return NULL;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct net_url url;
    const char *reason;
    char why[256];

    signal(SIGPIPE, SIG_IGN);
    assert_non_null(f);
    assert_int_equal(loop_init(&f->loop), ERR_OK);
    loop_timer_init(&f->later, on_later_timer);
    assert_int_equal(admin_new(&f->loop, routes, f, &f->admin), ERR_OK);
    assert_int_equal(net_url_parse("http://127.0.0.1:0", &url, &reason), ERR_OK);
    assert_int_equal(admin_listen(f->admin, &url, NULL, why, sizeof why), ERR_OK);
    f->port = admin_port(f->admin, 0);
    assert_int_not_equal(f->port, 0);
    assert_int_equal(admin_port(f->admin, 1), 0);
    assert_int_equal(pthread_create(&f->thread, NULL, run, f), 0);
    *state = f;
    return 0;
}

/* --- the client's side ----------------------------------------------------------------------- */

/* From 127.0.0.host. */
static int dial_from(const struct fixture *f, uint32_t host)
{
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000000 + host)};
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(f->port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval limit = {.tv_sec = 10};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&from, sizeof from), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

static int dial(const struct fixture *f)
{
    return dial_from(f, 1);
}

static void say(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* Calls that go on when they are interrupted. The kernel takes an io_uring apart some milliseconds
 * after its loop was closed (libuv 1.45 and later), and interrupts the thread that made it although
 * no signal was sent; recv with a time limit, poll and sleeps are never restarted (signal(7)). */
static ssize_t receive(int fd, char *buf, size_t cap)
{
    ssize_t got;

    do {
        got = recv(fd, buf, cap, 0);
    } while (got < 0 && errno == EINTR);
    return got;
}

/* 1 when the socket has something to read within that time, else 0. */
static int wait_readable(int fd, int ms)
{
    uint64_t until_ns = loop_hrtime_ns() + (uint64_t)ms * 1000000;
    struct pollfd p = {.fd = fd, .events = POLLIN};
    uint64_t now_ns;
    int ready;

    do {
        now_ns = loop_hrtime_ns();
        ready = poll(&p, 1, now_ns < until_ns ? (int)((until_ns - now_ns) / 1000000) : 0);
    } while (ready < 0 && errno == EINTR);
    return ready;
}

static void nap(long ms)
{
    struct timespec left = {.tv_nsec = ms * 1000000};

    while (nanosleep(&left, &left) != 0)
        assert_int_equal(errno, EINTR);
}

/* All bytes until the peer closes; returns how many; buf is terminated. */
static size_t hear(int fd, char *buf, size_t cap)
{
    size_t n = 0;
    ssize_t got;

    while (n + 1 < cap && (got = receive(fd, buf + n, cap - 1 - n)) > 0)
        n += (size_t)got;
    buf[n] = '\0';
    close(fd);
    return n;
}

static void ask(const struct fixture *f, const char *request, char buf[static 4096])
{
    int fd = dial(f);

    say(fd, request);
    hear(fd, buf, 4096);
}

static void assert_status(const char *answer, const char *status)
{
    char want[32];

    snprintf(want, sizeof want, "HTTP/1.1 %s ", status);
    assert_memory_equal(answer, want, strlen(want));
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    char buf[4096];

    ask(f, "GET /stop HTTP/1.1\r\nHost: x\r\n\r\n", buf);
    pthread_join(f->thread, NULL);
    loop_fini(&f->loop);
    free(f);
    return 0;
}

/* --- tests ----------------------------------------------------------------------------------- */

static void test_get(void **state)
{
    char buf[4096];

    ask(*state, "GET /hello?a=b HTTP/1.1\r\nHost: x\r\n\r\n", buf);
    assert_status(buf, "200");
    assert_non_null(strstr(buf, "\r\n\r\n/hello?a=b\n"));
    ask(*state, "GET /below/x/y HTTP/1.0\r\n\r\n", buf);
    assert_status(buf, "200");
    assert_non_null(strstr(buf, "/below/x/y?\n"));
}

static void test_head(void **state)
{
    char buf[4096];

    ask(*state, "HEAD /hello HTTP/1.1\r\nHost: x\r\n\r\n", buf);
    assert_status(buf, "200");
    assert_non_null(strcasestr(buf, "content-length: 8\r\n"));
    assert_string_equal(strstr(buf, "\r\n\r\n"), "\r\n\r\n");
}

static void test_refused(void **state)
{
    char buf[4096];

    ask(*state, "GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", buf);
    assert_status(buf, "404");
    ask(*state, "GET /hello/ HTTP/1.1\r\nHost: x\r\n\r\n", buf);
    assert_status(buf, "404");
    ask(*state, "GET /below HTTP/1.1\r\nHost: x\r\n\r\n", buf);
    assert_status(buf, "404");
    ask(*state, "DELETE /hello HTTP/1.1\r\nHost: x\r\n\r\n", buf);
    assert_status(buf, "405");
    ask(*state, "POST /hello HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx", buf);
    assert_status(buf, "400");
    ask(*state, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", buf);
    assert_status(buf, "400");
    ask(*state, "\x16\x03\x01 what is this\r\n\r\n", buf);
    assert_status(buf, "400");
}

static void test_in_pieces(void **state)
{
    const char *request = "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n";
    int fd = dial(*state);
    char buf[4096];

    for (const char *p = request; *p != '\0'; p++) {
        assert_int_equal(send(fd, p, 1, MSG_NOSIGNAL), 1);
        usleep(500);
    }
    hear(fd, buf, sizeof buf);
    assert_status(buf, "200");
}

static void test_later(void **state)
{
    int fd = dial(*state);
    char buf[4096];

    say(fd, "GET /later HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_int_equal(shutdown(fd, SHUT_WR), 0); /* and still waits for the answer */
    hear(fd, buf, sizeof buf);
    assert_status(buf, "503");
    assert_non_null(strstr(buf, "\r\n\r\nlate"));
}

/* The peer goes away while the route works; the answer then finds nobody. */
static void test_gone_before_the_answer(void **state)
{
    struct linger hard = {.l_onoff = 1};
    int fd = dial(*state);
    char buf[4096];

    say(fd, "GET /held HTTP/1.1\r\nHost: x\r\n\r\n");
    nap(50);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard), 0);
    close(fd); /* a reset */
    nap(50);
    fd = dial(*state);
    say(fd, "GET /held HTTP/1.1\r\nHost: x\r\n\r\n"); /* answers the first */
    nap(50);
    ask(*state, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n", buf);
    assert_status(buf, "200");
    close(fd); /* answered at the end, by /stop */
}

static void test_large_answer(void **state)
{
    char *buf = malloc(4 << 20);
    int fd = dial(*state);

    assert_non_null(buf);
    say(fd, "GET /large HTTP/1.1\r\nHost: x\r\n\r\n");
    nap(100); /* more than the socket takes waits for us */
    assert_true(hear(fd, buf, 4 << 20) > 3 << 20);
    assert_status(buf, "200");
    free(buf);
}

static void assert_answered(int fd)
{
    char buf[4096];

    hear(fd, buf, sizeof buf);
    assert_status(buf, "200");
}

static void assert_closed(int fd)
{
    char buf[16];

    assert_int_equal(wait_readable(fd, 3000), 1);
    assert_int_equal(hear(fd, buf, sizeof buf), 0);
}

/* Whatever the connections are that fill all places and are not done with their requests: who comes
 * then is answered at once, and the oldest of them goes. */
static void test_too_many(void **state)
{
    static const char *const begun[] = {"", "G", "GET /hello HTTP/1.1\r\nHost: ", NULL};
    int fds[ADMIN_CONNS_MAX], probe;
    char buf[4096];

    for (size_t k = 0; begun[k] != NULL; k++) {
        for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
            fds[i] = dial(*state);
            say(fds[i], begun[k]);
        }
        for (size_t i = 0; i < 5; i++) {
            probe = dial(*state);
            say(probe, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
            assert_answered(probe);
            if (i == 0)
                assert_closed(fds[0]);
        }
        for (size_t i = 1; i < ARRAY_LEN(fds); i++)
            close(fds[i]);
        ask(*state, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n", buf);
        assert_status(buf, "200");
    }
}

/* Who has few connections keeps them, however old they are. */
static void test_who_has_most_pays(void **state)
{
    int fds[ADMIN_CONNS_MAX], few[3], probe;

    for (size_t i = 0; i < ARRAY_LEN(few); i++) {
        few[i] = dial_from(*state, 2);
        say(few[i], "GET /hel");
    }
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        fds[i] = dial_from(*state, 3);
    probe = dial_from(*state, 4);
    say(probe, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_answered(probe);
    for (size_t i = 0; i < ARRAY_LEN(few); i++) {
        say(few[i], "lo HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_answered(few[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        close(fds[i]);
}

/* Requests whose routes wait have not all the places. */
static void test_too_many_that_wait(void **state)
{
    int fds[ADMIN_WAITING_MAX], idle[ADMIN_CONNS_MAX];
    char buf[4096];

    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        fds[i] = dial(*state);
        say(fds[i], "GET /park HTTP/1.1\r\nHost: x\r\n\r\n");
        ask(*state, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n", buf); /* it has been read */
        assert_status(buf, "200");
    }
    for (size_t i = 0; i < ARRAY_LEN(idle); i++)
        idle[i] = dial(*state);
    ask(*state, "GET /park HTTP/1.1\r\nHost: x\r\n\r\n", buf);
    assert_status(buf, "503");
    ask(*state, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n", buf);
    assert_status(buf, "200");
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) /* none of these had to go */
        assert_int_equal(wait_readable(fds[i], 0), 0);
    for (size_t i = 0; i < ARRAY_LEN(idle); i++)
        close(idle[i]);
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        close(fds[i]);
}

static void test_silent_peer(void **state)
{
    int fd = dial(*state);
    char buf[16];

    say(fd, "GET /hel");
    assert_int_equal(wait_readable(fd, (int)ADMIN_READ_MS - 1000), 0);
    assert_int_equal(wait_readable(fd, 3000), 1);
    assert_int_equal(hear(fd, buf, sizeof buf), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_get, setup, teardown),
        cmocka_unit_test_setup_teardown(test_head, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_in_pieces, setup, teardown),
        cmocka_unit_test_setup_teardown(test_later, setup, teardown),
        cmocka_unit_test_setup_teardown(test_gone_before_the_answer, setup, teardown),
        cmocka_unit_test_setup_teardown(test_large_answer, setup, teardown),
        cmocka_unit_test_setup_teardown(test_too_many, setup, teardown),
        cmocka_unit_test_setup_teardown(test_who_has_most_pays, setup, teardown),
        cmocka_unit_test_setup_teardown(test_too_many_that_wait, setup, teardown),
        cmocka_unit_test_setup_teardown(test_silent_peer, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
