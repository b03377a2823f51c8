/* SPDX-License-Identifier: Apache-2.0 */
/* A probe's life, on a loop without a thread: whatever happens, there is one answer or none, and
 * nothing of it is left when the loop ends (loop_fini would abort, the sanitizer report). */
#include "proxy/probe.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cmocka.h>

#define SOON_MS 50

struct kit {
    struct worker worker;
    struct proxy_env env;
    struct net_url urls[2];
    int listener; /* etcd's port: the kernel takes connections, the test reads and writes */
    struct probe *probe;
    struct loop_timer soon;
    void (*at_soon)(struct kit *k);
    unsigned replies;
    struct http1_reply last; /* pointers are void by now */
    char body[256], asked[4096];
};

static void on_reply(void *user, const struct http1_reply *r)
{
    struct kit *k = user;

    k->replies++;
    k->probe = NULL;
    k->last = *r;
    (void)snprintf(k->body, sizeof k->body, "%.*s", (int)r->body.n, (const char *)r->body.p);
    loop_stop(&k->worker.loop);
}

static void on_soon(struct loop_timer *t)
{
    struct kit *k = CONTAINER_OF(t, struct kit, soon);

    k->at_soon(k);
    loop_timer_fini(t);
}

static int listen_somewhere(struct net_url *url)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    const struct timeval wait = {.tv_sec = 20}; /* for who is never called, or told nothing */
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait), 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, len), 0);
    assert_int_equal(listen(fd, 5), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    (void)snprintf(url->host, sizeof url->host, "127.0.0.1");
    (void)snprintf(url->port, sizeof url->port, "%d", ntohs(a.sin_port));
    return fd;
}

/* count servers, of which the last is there unless is_away. */
static void kit_init(struct kit *k, size_t count, bool is_away)
{
    *k = (struct kit){.listener = -1};
    assert_int_equal(loop_init(&k->worker.loop), ERR_OK);
    slab_pool_init(&k->worker.pool, 1);
    list_init(&k->worker.probes);
    list_init(&k->worker.probe_conns);
    for (size_t i = 0; i < count; i++) {
        if (k->listener >= 0)
            close(k->listener); /* nobody is on the port of the server before */
        k->listener = listen_somewhere(&k->urls[i]);
    }
    if (is_away)
        close(k->listener);
    k->env = (struct proxy_env){.etcd_urls = k->urls, .etcd_url_count = count};
    k->worker.env = &k->env;
    loop_timer_init(&k->soon, on_soon);
}

static void kit_fini(struct kit *k)
{
    loop_timer_fini(&k->soon);
    loop_fini(&k->worker.loop);
    slab_pool_fini(&k->worker.pool);
}

static void ask(struct kit *k, const char *method, const char *target)
{
    struct http1_request r;

    assert_true(http1_request_of(bytes_str(method), bytes_str(target), &r));
    k->probe = (struct probe *)k; /* has to be written */
    assert_int_equal(probe_ask(&k->worker, &r, on_reply, k, &k->probe), ERR_OK);
}

static void soon(struct kit *k, void (*at_soon)(struct kit *))
{
    k->at_soon = at_soon;
    assert_int_equal(loop_timer_start(&k->worker.loop, &k->soon, SOON_MS), ERR_OK);
    loop_run(&k->worker.loop);
}

/* What needs no etcd is answered from inside, and there is no probe then. */
static void answered_at_once(void **state)
{
    static const struct {
        const char *method, *target;
        int status;
    } cases[] = {
        {"GET", "/v3/kv/range", 404},
        {"GET", "/livez/../v3/kv/range", 404},
        {"HEAD", "/foo", 404},
        {"GET", "//health", 301},
        {"GET", "*", 400},
        {"GET", "/livez%zz", 400},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct kit k;

        kit_init(&k, 1, false);
        ask(&k, cases[i].method, cases[i].target);
        assert_null(k.probe);
        assert_int_equal(k.replies, 1);
        assert_int_equal(k.last.status, cases[i].status);
        assert_int_equal(k.last.is_head, strcmp(cases[i].method, "HEAD") == 0);
        loop_stop(&k.worker.loop);
        close(k.listener);
        kit_fini(&k);
    }
}

static void etcd_answers(struct kit *k)
{
    static const char answer[] = "HTTP/1.1 405 Method Not Allowed\r\nAllow: GET\r\n"
                                 "Content-Length: 2\r\n\r\nno";
    int fd = accept(k->listener, NULL, NULL);

    assert_true(read(fd, k->asked, sizeof k->asked - 1) > 0);
    assert_int_equal(write(fd, answer, strlen(answer)), strlen(answer));
    close(fd);
    close(k->listener);
}

static void answered_by_etcd(void **state)
{
    (void)state;
    for (size_t servers = 1; servers <= 2; servers++) { /* of two the first is away */
        struct kit k;

        kit_init(&k, servers, false);
        ask(&k, "POST", "/health?a=b");
        assert_non_null(k.probe);
        soon(&k, etcd_answers);
        assert_int_equal(k.replies, 1);
        assert_int_equal(k.last.status, 405);
        assert_string_equal(k.body, "no");
        assert_memory_equal(k.asked, "POST /health?a=b HTTP/1.1\r\n", 27);
        assert_non_null(strstr(k.asked, "\r\nContent-Length: 0\r\n"));
        kit_fini(&k);
    }
}

static void nothing(struct kit *k)
{
    (void)k;
}

static void etcd_is_away(void **state)
{
    (void)state;
    for (size_t servers = 1; servers <= 2; servers++) {
        struct kit k;

        kit_init(&k, servers, true);
        ask(&k, "GET", "/health");
        soon(&k, nothing);
        assert_int_equal(k.replies, 1);
        assert_int_equal(k.last.status, 503);
        kit_fini(&k);
    }
}

static void cancel(struct kit *k)
{
    probe_cancel(k->probe);
    loop_stop(&k->worker.loop);
}

/* The client goes: before etcd is dialled, and while it thinks about the answer. */
static void cancelled(void **state)
{
    struct kit k;

    (void)state;
    kit_init(&k, 1, false);
    ask(&k, "GET", "/health");
    cancel(&k);
    loop_run(&k.worker.loop);
    assert_int_equal(k.replies, 0);
    close(k.listener);
    kit_fini(&k);

    kit_init(&k, 1, false);
    ask(&k, "GET", "/health");
    soon(&k, cancel);
    assert_int_equal(k.replies, 0);
    close(k.listener);
    kit_fini(&k);
}

static void answer_then_cancel(struct kit *k)
{
    etcd_answers(k);
    cancel(k); /* the answer lies in the socket */
}

static void cancelled_with_the_answer_on_its_way(void **state)
{
    struct kit k;

    (void)state;
    kit_init(&k, 1, false);
    ask(&k, "GET", "/health");
    soon(&k, answer_then_cancel);
    assert_int_equal(k.replies, 0);
    kit_fini(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answered_at_once),
        cmocka_unit_test(answered_by_etcd),
        cmocka_unit_test(etcd_is_away),
        cmocka_unit_test(cancelled),
        cmocka_unit_test(cancelled_with_the_answer_on_its_way),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
