/* SPDX-License-Identifier: Apache-2.0 */
/* The rule for requests that are HTTP's and not gRPC's, on both ways by which they come, HTTP/2
 * streams and HTTP/1.1 connections: a probe gets etcd's answer or one of ours, once; what would be
 * the JSON gateway never gets to etcd; who does not wait any more costs etcd nothing; and probes
 * are no calls, so that they take nothing from them. */
#include <sys/socket.h>
#include <unistd.h>

#include "rig.h"

#define ANSWER                                                                                     \
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 17\r\n\r\n"              \
    "{\"health\":\"true\"}"

static struct rig r;

static int setup(void **state)
{
    (void)rig_setup_with_client(state);
    r.how = ETCD_SILENT; /* what comes from now on are probes: the test answers by hand */
    return 0;
}

static struct rec *ask(const char *method, const char *path)
{
    struct h2_field f[] = {{BYTES_LIT(":method"), bytes_str(method)},
                           {BYTES_LIT(":scheme"), BYTES_LIT("http")},
                           {BYTES_LIT(":path"), bytes_str(path)},
                           {BYTES_LIT(":authority"), BYTES_LIT("etcd")}};

    return end_request(r.client, (struct h2_fields){f, ARRAY_LEN(f)}, true);
}

static void say(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* etcd's socket of the nth probe, when its request is there; which begins as wanted. */
static int etcd_hears(unsigned nth, const char *wanted)
{
    char got[4096] = "";

    RIG_UNTIL(&r, r.silent_count >= nth);
    rig_settle(&r);
    assert_true(recv(r.silent[nth - 1], got, sizeof got - 1, 0) > 0);
    assert_int_equal(strncmp(got, wanted, strlen(wanted)), 0);
    assert_null(strstr(got, "etcdserverpb"));
    return r.silent[nth - 1];
}

static bool has(const struct rec *c, const char *line)
{
    return c->headers != NULL && strstr(c->headers, line) != NULL;
}

/* --- HTTP/2 ---------------------------------------------------------------------------------- */

static void a_probe_gets_etcds_answer(void **state)
{
    struct rec *c = ask("GET", "/health?serializable=true");

    (void)state;
    say(etcd_hears(1, "GET /health?serializable=true HTTP/1.1\r\n"), ANSWER);
    RIG_UNTIL(&r, c->close_count == 1);
    assert_true(has(c, ":status: 200\n") && has(c, "content-type: application/json\n"));
    assert_true(has(c, "content-length: 17\n"));
    assert_int_equal(c->body_len, 17);
    assert_memory_equal(c->body, "{\"health\":\"true\"}", 17);
    assert_int_equal(c->how, H2_END_COMPLETE);
    assert_int_equal(r.etcd->recs_count, 0); /* it does not go over the calls' connection */
}

static void head_has_no_body(void **state)
{
    struct rec *c = ask("HEAD", "/health");

    (void)state;
    say(etcd_hears(1, "HEAD /health HTTP/1.1\r\n"),
        "HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n");
    RIG_UNTIL(&r, c->close_count == 1);
    assert_true(has(c, ":status: 200\n") && c->headers_end);
    assert_int_equal(c->body_len, 0);
}

static void the_gateway_is_no_probe(void **state)
{
    static const char *const paths[] = {"/v3/kv/range", "/v3/kv/put", "/", "/debug/vars",
                                        "/v2/keys/x"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        struct rec *c = ask("GET", paths[i]);

        RIG_UNTIL(&r, c->close_count == 1);
        assert_true(has(c, ":status: 404\n"));
    }
    assert_int_equal(r.accepted, 1); /* the client's own */
}

static void no_request_of_http1_is_refused(void **state)
{
    struct rec *c = ask("GET", "no path");

    (void)state;
    RIG_UNTIL(&r, c->close_count == 1);
    assert_true(has(c, ":status: 400\n"));
    assert_int_equal(r.accepted, 1);
}

static void etcd_does_not_answer(void **state)
{
    uint64_t from = rig_now_ms();
    struct rec *silent = ask("GET", "/health"), *lost, *away;

    (void)state;
    etcd_hears(1, "GET /health ");
    RIG_UNTIL(&r, silent->close_count == 1);
    assert_true(has(silent, ":status: 503\n"));
    assert_in_range(rig_now_ms() - from, 4900, 5200);
    lost = ask("GET", "/health");
    shutdown(etcd_hears(2, "GET /health "), SHUT_RDWR);
    RIG_UNTIL(&r, lost->close_count == 1);
    assert_true(has(lost, ":status: 503\n"));
    rig_etcd_away(&r);
    away = ask("GET", "/health");
    RIG_UNTIL(&r, away->close_count == 1);
    assert_true(has(away, ":status: 503\n"));
}

static void an_answer_that_is_none(void **state)
{
    static const char *const texts[] = {"HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n{\"heal",
                                        "SSH-2.0-x\r\n", "HTTP/1.1 2"};

    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(texts); i++) {
        struct rec *c = ask("GET", "/health");
        int fd = etcd_hears(i + 1, "GET /health ");

        say(fd, texts[i]);
        shutdown(fd, SHUT_RDWR);
        RIG_UNTIL(&r, c->close_count == 1);
        assert_true(has(c, ":status: 503\n"));
    }
}

static void a_stream_that_is_reset_takes_its_probe_with_it(void **state)
{
    struct rec *c = ask("GET", "/health");
    int fd = etcd_hears(1, "GET /health ");

    (void)state;
    h2_stream_reset(c->s, H2_CANCEL);
    RIG_UNTIL(&r, rig_is_closed(fd));
    RIG_UNTIL(&r, rig_is_idle(&r));
}

static void a_client_that_goes_takes_its_probes_with_it(void **state)
{
    int fd[5];

    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(fd); i++) {
        (void)ask("GET", "/readyz");
        fd[i] = etcd_hears(i + 1, "GET /readyz ");
    }
    h2_conn_close(r.client->c, H2_NO_ERROR, 0);
    for (unsigned i = 0; i < ARRAY_LEN(fd); i++)
        RIG_UNTIL(&r, rig_is_closed(fd[i]));
    RIG_UNTIL(&r, r.closed_count == 1);
}

/* Each has a connection of its own: only so many at a time, and then again. */
static void no_more_than_32_at_a_time(void **state)
{
    struct rec *c[33], *again;

    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(c); i++)
        c[i] = ask("GET", "/health");
    RIG_UNTIL(&r, c[32]->close_count == 1);
    assert_int_equal(c[32]->code, H2_REFUSED_STREAM);
    assert_int_equal(c[32]->headers_count, 0);
    for (unsigned i = 0; i < 32; i++) {
        assert_int_equal(c[i]->close_count, 0);
        say(etcd_hears(i + 1, "GET /health "), ANSWER);
    }
    for (unsigned i = 0; i < 32; i++) {
        RIG_UNTIL(&r, c[i]->close_count == 1);
        assert_true(has(c[i], ":status: 200\n"));
    }
    again = ask("GET", "/health");
    say(etcd_hears(33, "GET /health "), ANSWER);
    RIG_UNTIL(&r, again->close_count == 1);
    assert_true(has(again, ":status: 200\n"));
}

/* A call is served while probes wait, and a body that nobody asked for is dropped. */
static void probes_are_in_nobodys_way(void **state)
{
    struct h2_field f[] = {{BYTES_LIT(":method"), BYTES_LIT("POST")},
                           {BYTES_LIT(":scheme"), BYTES_LIT("http")},
                           {BYTES_LIT(":path"), BYTES_LIT("/health")},
                           {BYTES_LIT(":authority"), BYTES_LIT("etcd")}};
    struct rec *c = end_request(r.client, (struct h2_fields){f, ARRAY_LEN(f)}, false), *put;
    struct buf m = put_response(), body = {calloc(1, 3000000), 3000000, 0};

    (void)state;
    rig_send(c, body.p, body.n, true);
    rig_settle(&r);
    assert_int_equal(c->drained, body.n);
    put = rig_put(r.client, SECRET_KEY, "treasure");
    rig_answer(rig_await(&r, 1), &m);
    rig_expect(&r, put, 0);
    say(etcd_hears(1, "POST /health HTTP/1.1\r\n"), ANSWER);
    RIG_UNTIL(&r, c->close_count == 1);
    assert_int_equal(rig_tally(&r, "OK", PUT), 1);
    buf_free(&body);
}

/* --- HTTP/1.1 -------------------------------------------------------------------------------- */

/* What came by the end of the connection. */
static size_t read_all(int fd, char *got, size_t cap)
{
    size_t n = 0;
    ssize_t k;
    uint64_t end = rig_now_ms() + 20000;

    do {
        rig_turn(&r);
        k = recv(fd, got + n, cap - 1 - n, 0);
        n += k > 0 ? (size_t)k : 0;
    } while (k != 0 && rig_now_ms() < end);
    assert_int_equal(k, 0);
    got[n] = '\0';
    return n;
}

static void http1_gets_the_same_answer(void **state)
{
    static const char request[] = "GET /health HTTP/1.1\r\nHost: etcd\r\n\r\n";
    char got[1024];

    (void)state;
    for (unsigned piecewise = 0; piecewise < 2; piecewise++) {
        int fd = rig_raw_client(&r);

        for (size_t i = 0; i < sizeof request - 1 && piecewise; i++) {
            char one[2] = {request[i], 0};

            say(fd, one);
            rig_settle(&r);
        }
        if (!piecewise)
            say(fd, request);
        say(etcd_hears(piecewise + 1, "GET /health HTTP/1.1\r\n"), ANSWER);
        read_all(fd, got, sizeof got);
        assert_int_equal(strncmp(got, "HTTP/1.1 200 OK\r\n", 17), 0);
        assert_non_null(strstr(got, "\r\n\r\n{\"health\":\"true\"}"));
        close(fd);
    }
}

static void http1_that_is_none(void **state)
{
    static const char *const texts[] = {"\r\n\r\n\1\2\3 x\r\n\r\n", "GET\r\n\r\n",
                                        "GET /health HTTP/9.9\r\n\r\n", "\x16\x03\x01\x02"};
    char got[1024];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        int fd = rig_raw_client(&r);

        say(fd, texts[i]);
        read_all(fd, got, sizeof got);
        assert_true(got[0] == '\0' || strncmp(got, "HTTP/1.1 4", 10) == 0);
        close(fd);
    }
    assert_int_equal(r.accepted, 1);
}

static void half_a_request_is_not_waited_for_long(void **state)
{
    int fd = rig_raw_client(&r);
    uint64_t from = rig_now_ms();
    char got[1024];

    (void)state;
    say(fd, "GET /health HT");
    read_all(fd, got, sizeof got);
    assert_in_range(rig_now_ms() - from, 1000, 11000);
    assert_int_equal(r.accepted, 1);
    close(fd);
}

/* It may end its side and wait; if it is gone altogether the probe is, too. */
static void http1_clients_that_go(void **state)
{
    int waits = rig_raw_client(&r), gone = rig_raw_client(&r), fd[2];
    char got[1024];

    (void)state;
    say(waits, "GET /health HTTP/1.1\r\nHost: etcd\r\n\r\n");
    fd[0] = etcd_hears(1, "GET /health ");
    shutdown(waits, SHUT_WR);
    rig_settle(&r);
    say(fd[0], ANSWER);
    read_all(waits, got, sizeof got);
    assert_non_null(strstr(got, "{\"health\":\"true\"}"));
    close(waits);
    say(gone, "GET /health HTTP/1.1\r\nHost: etcd\r\n\r\n");
    fd[1] = etcd_hears(2, "GET /health ");
    close(gone);
    rig_settle(&r);
    say(fd[1], ANSWER);
    RIG_UNTIL(&r, rig_is_closed(fd[1]));
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_prestate_setup_teardown(fn, setup, rig_teardown, &r)
    const struct CMUnitTest tests[] = {
        TEST(a_probe_gets_etcds_answer),
        TEST(head_has_no_body),
        TEST(the_gateway_is_no_probe),
        TEST(no_request_of_http1_is_refused),
        TEST(etcd_does_not_answer),
        TEST(an_answer_that_is_none),
        TEST(a_stream_that_is_reset_takes_its_probe_with_it),
        TEST(a_client_that_goes_takes_its_probes_with_it),
        TEST(no_more_than_32_at_a_time),
        TEST(probes_are_in_nobodys_way),
        TEST(http1_gets_the_same_answer),
        TEST(http1_that_is_none),
        TEST(half_a_request_is_not_waited_for_long),
        TEST(http1_clients_that_go),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
