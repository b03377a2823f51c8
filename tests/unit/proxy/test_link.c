/* SPDX-License-Identifier: Apache-2.0 */
/* The rule of a link: a client is greeted only when etcd is there behind us, and served as long as
 * both are. What ends, ends on both sides: a client that goes takes its connections to etcd with
 * it, an etcd that does not come back takes the client, a drain waits for calls that will end by
 * themselves and no longer than it was told. Everybody who says nothing is hung up on in time. */
#include <sys/socket.h>
#include <unistd.h>

#include "base/metrics.h"
#include "rig.h"

#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

static struct rig r;

static void say(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* How long, from now on, until the worker hangs up: in milliseconds, at most max. */
static uint64_t hung_up_after(int fd, uint64_t max)
{
    uint64_t from = rig_now_ms();

    while (!rig_is_closed(fd) && rig_now_ms() - from < max)
        rig_pass(&r, 10);
    return rig_now_ms() - from;
}

/* A put from the client to etcd's nth call and back. */
static void serve(struct end *client, unsigned nth)
{
    rig_answer_put(&r, rig_put(client, SECRET_KEY, "treasure"), nth);
}

/* --- greeting -------------------------------------------------------------------------------- */

static void etcd_comes_first(void **state)
{
    struct end *client;

    (void)state;
    r.how = ETCD_SILENT;
    client = rig_connect(&r, NULL);
    rig_pass(&r, 2500);
    assert_int_equal(r.accepted, 1);
    assert_int_equal(client->ready_count, 0);
    assert_non_null(client->c);
    rig_pass(&r, 1000); /* a silent etcd is tried again, and is no etcd in the end */
    RIG_UNTIL(&r, client->c == NULL);
    assert_int_equal(client->ready_count, 0);
    assert_int_equal(client->goaway_count, 0);
}

static void no_settings_without_etcd(void **state)
{
    uint64_t from = rig_now_ms();
    struct end *client;

    (void)state;
    rig_etcd_away(&r);
    client = rig_connect(&r, NULL);
    RIG_UNTIL(&r, client->c == NULL);
    assert_int_equal(client->ready_count, 0);
    assert_in_range(rig_now_ms() - from, 700, 1500);
    RIG_UNTIL(&r, r.closed_count == 1);
    rig_etcd_back(&r);
    serve(rig_client(&r), 1);
}

static void etcd_that_comes_in_time_is_waited_for(void **state)
{
    struct end *client;

    (void)state;
    rig_etcd_away(&r);
    client = rig_connect(&r, NULL);
    rig_pass(&r, 500);
    assert_int_equal(client->ready_count, 0);
    rig_etcd_back(&r);
    RIG_UNTIL(&r, client->ready_count == 1);
    serve(client, 1);
}

static void etcd_that_hangs_up_is_not_hammered(void **state)
{
    struct end *client;

    (void)state;
    r.how = ETCD_HANGS_UP;
    client = rig_connect(&r, NULL);
    RIG_UNTIL(&r, client->c == NULL);
    assert_in_range(r.accepted, 2, 25); /* every 50 ms, for 0.8 s */
    assert_int_equal(client->ready_count, 0);
}

static void the_client_is_told_how_many_streams(void **state)
{
    static const struct {
        uint32_t ours, etcds, want;
    } cases[] = {{1000, 500, 500}, {7, 500, 7}, {1000, UINT32_MAX, 1000}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        r.settings.max_concurrent_streams = cases[i].ours;
        r.etcd_opts.max_streams = cases[i].etcds;
        if (r.etcd != NULL) /* its SETTINGS are those of before */
            rig_etcd_lost(&r);
        assert_int_equal(h2_conn_peer_streams(rig_client(&r)->c), cases[i].want);
    }
}

/* --- first bytes ----------------------------------------------------------------------------- */

static void nothing_said(void **state)
{
    int fd = rig_raw_client(&r);

    (void)state;
    assert_in_range(hung_up_after(fd, 8000), 4900, 5200);
    assert_int_equal(r.accepted, 0); /* etcd never heard of it */
    close(fd);
}

/* Wherever it stops: it is closed in time, counted, and etcd has not heard of it. */
static void half_a_greeting(void **state)
{
    static const char greeting[] = PREFACE "\0\0\6\4\0\0\0\0\0\0\3\0\0\0\144";
    uint64_t prefaces = metric_refused_get(ERR_SLOW_PREFACE);
    uint64_t settings = metric_refused_get(ERR_SLOW_SETTINGS);

    (void)state;
    for (size_t n = 1; n < sizeof greeting - 1; n += n < 24 ? 7 : 3) {
        int fd = rig_raw_client(&r);
        bool is_preface = n < sizeof PREFACE - 1;

        assert_int_equal(send(fd, greeting, n, 0), n);
        if (is_preface)
            assert_in_range(hung_up_after(fd, 20000), 4900, 5200);
        else
            assert_in_range(hung_up_after(fd, 20000), 9900, 10200);
        prefaces += is_preface;
        settings += !is_preface;
        close(fd);
    }
    assert_int_equal(r.accepted, 0);
    assert_int_equal(metric_refused_get(ERR_SLOW_PREFACE), prefaces);
    assert_int_equal(metric_refused_get(ERR_SLOW_SETTINGS), settings);
}

/* A byte now and then buys no time. */
static void a_dripping_greeting(void **state)
{
    int fd = rig_raw_client(&r);
    uint64_t from = rig_now_ms();

    (void)state;
    for (size_t i = 0; i < 24 && !rig_is_closed(fd); i++) {
        (void)send(fd, PREFACE + i, 1, MSG_NOSIGNAL);
        rig_pass(&r, 900);
    }
    assert_true(rig_is_closed(fd));
    assert_in_range(rig_now_ms() - from, 4900, 6500);
    close(fd);
}

static void a_first_frame_that_is_not_settings(void **state)
{
    static const char *const heads[] = {"\0\0\10\6\0\0\0\0\0",  "\0\0\0\4\1\0\0\0\0",
                                        "\0\0\0\4\0\0\0\0\1",   "\0\0\5\4\0\0\0\0\0",
                                        "\0\0\306\4\0\0\0\0\0", "\377\0\0\4\0\0\0\0\0"};
    uint64_t before = metric_refused_get(ERR_HTTP2);

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(heads); i++) {
        int fd = rig_raw_client(&r);

        say(fd, PREFACE);
        assert_int_equal(send(fd, heads[i], 9, 0), 9);
        assert_in_range(hung_up_after(fd, 8000), 0, 100);
        close(fd);
    }
    assert_int_equal(metric_refused_get(ERR_HTTP2), before + ARRAY_LEN(heads));
    assert_int_equal(r.accepted, 0);
}

/* Greets as a client does, and lets etcd and the worker do the same. */
static int greet(void)
{
    int fd = rig_raw_client(&r);

    say(fd, PREFACE);
    assert_int_equal(send(fd, "\0\0\0\4\0\0\0\0\0", 9, 0), 9);
    rig_pass(&r, 100);
    assert_int_equal(r.accepted, 1);
    return fd;
}

/* Between frames a client may be silent as long as it answers PINGs; within one it may not. */
static void half_a_header_block(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
    } halves[] = {
        {"\0\0\20\1\4\0\0\0\1\203", 10},                       /* HEADERS, a byte of 16 */
        {"\0\0\1\1\0\0\0\0\1\203", 10},                        /* HEADERS without END_HEADERS */
        {"\0\0\1\1\0\0\0\0\1\203\0\0\2\11\0\0\0\0\1\206", 20}, /* half a CONTINUATION */
        {"\0\0\10\6\0\0\0\0\0\1", 10},                         /* PING */
    };
    uint64_t before = metric_refused_get(ERR_SLOW_HEADERS);

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(halves); i++) {
        int fd = greet();

        assert_int_equal(send(fd, halves[i].bytes, halves[i].n, 0), halves[i].n);
        assert_in_range(hung_up_after(fd, 20000), 9900, 11500);
        close(fd);
    }
    assert_int_equal(metric_refused_get(ERR_SLOW_HEADERS), before + ARRAY_LEN(halves));
}

/* The limit is one frame's: cuts in every frame of a long talk are nobody's fault. */
static void frames_that_are_cut_all_the_time(void **state)
{
    static const char frame[] = "\0\0\10\6\0\0\0\0\0"
                                "12345678";
    int fd = greet();

    (void)state;
    assert_int_equal(send(fd, frame, 12, 0), 12);
    for (unsigned i = 0; i < 20; i++) {
        rig_pass(&r, 2000);
        assert_int_equal(send(fd, frame + 12, 5, MSG_NOSIGNAL), 5);
        assert_int_equal(send(fd, frame, 12, MSG_NOSIGNAL), 12);
    }
    rig_pass(&r, 2000);
    assert_false(rig_is_closed(fd));
    close(fd);
}

/* Without a stream a client stays for ever, but it has to be there. */
static void a_client_that_answers_no_ping(void **state)
{
    uint64_t before = metric_refused_get(ERR_PING_UNANSWERED);
    struct end *client = rig_client(&r);
    int fd = greet();
    uint64_t from = rig_now_ms();

    (void)state;
    while (!rig_is_closed(fd) && rig_now_ms() - from < 2 * LIMIT_STALL_MS)
        rig_pass_in(&r, 500, 500);
    assert_in_range(rig_now_ms() - from, LIMIT_STALL_MS + LIMIT_IDLE_PING_ACK_MS - 1000,
                    LIMIT_STALL_MS + LIMIT_IDLE_PING_ACK_MS + 5000);
    assert_int_equal(metric_refused_get(ERR_PING_UNANSWERED), before + 1);
    rig_pass_in(&r, 3600000, 500);
    assert_int_equal(client->lost_count, 0);
    close(fd);
}

/* etcd hears of a client when its preface and SETTINGS are whole, whatever its pieces. */
static void a_greeting_in_pieces(void **state)
{
    static const char greeting[] = PREFACE "\0\0\6\4\0\0\0\0\0\0\3\0\0\0\144";
    int fd = rig_raw_client(&r);
    uint64_t before = rig_held(&r);
    uint8_t got[9];

    (void)state;
    for (size_t i = 0; i < sizeof greeting - 1; i++) {
        assert_int_equal(r.accepted, 0);
        assert_int_equal(rig_held(&r), before); /* no slab waits with it */
        assert_int_equal(send(fd, greeting + i, 1, 0), 1);
        rig_settle(&r);
    }
    rig_pass(&r, 100);
    assert_int_equal(r.accepted, 1);
    assert_int_equal(recv(fd, got, sizeof got, 0), 9); /* SETTINGS */
    assert_int_equal(got[3], F_SETTINGS);
    close(fd);
}

static void a_preface_that_goes_on_wrong(void **state)
{
    int fd = rig_raw_client(&r);

    (void)state;
    say(fd, "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n and more of it");
    assert_in_range(hung_up_after(fd, 8000), 0, 3000);
    close(fd);
}

static void the_client_goes_before_etcd_is_there(void **state)
{
    int fd[2] = {rig_raw_client(&r), rig_raw_client(&r)};

    (void)state;
    r.how = ETCD_SILENT;
    say(fd[0], "PR");
    say(fd[1], PREFACE);
    assert_int_equal(send(fd[1], "\0\0\0\4\0\0\0\0\0", 9, 0), 9);
    RIG_UNTIL(&r, r.accepted == 1);
    close(fd[0]);
    close(fd[1]);
    rig_pass(&r, 5000);
    RIG_UNTIL(&r, r.closed_count == 2);
}

/* HTTP/1.1 is a probe's: answered and closed, and with no connection of HTTP/2 behind it. */
static void http1_is_answered_and_closed(void **state)
{
    int fd = rig_raw_client(&r);
    char got[512] = "";

    (void)state;
    say(fd, "GET /v3/kv/range HTTP/1.1\r\nHost: x\r\n\r\n");
    rig_pass(&r, 100);
    assert_true(recv(fd, got, sizeof got - 1, 0) > 0);
    assert_int_equal(strncmp(got, "HTTP/1.1 404 ", 13), 0);
    assert_in_range(hung_up_after(fd, 8000), 0, 3000);
    assert_int_equal(r.closed_count, 1);
    assert_int_equal(r.accepted, 0);
    close(fd);
}

/* --- the client goes ------------------------------------------------------------------------- */

static void a_client_takes_its_connections_with_it(void **state)
{
    struct end *first, *second, *etcd;
    uint64_t links = metric_get(METRIC_links);

    (void)state;
    first = rig_client(&r);
    second = rig_client(&r);
    etcd = r.etcd;
    assert_int_equal(metric_get(METRIC_links), links + 2);
    h2_conn_close(first->c, H2_NO_ERROR, 0);
    RIG_UNTIL(&r, r.closed_count == 1);
    assert_int_equal(metric_get(METRIC_links), links + 1);
    r.etcd = etcd;
    serve(second, 1);
    h2_conn_close(second->c, H2_NO_ERROR, 0);
    RIG_UNTIL(&r, r.closed_count == 2);
    for (size_t i = 0; i < r.etcd_count; i++)
        RIG_UNTIL(&r, r.etcds[i]->c == NULL);
}

static void write_all(int fd, const uint8_t *p, size_t n)
{
    assert_int_equal(send(fd, p, n, MSG_NOSIGNAL), n);
    rig_settle(&r);
}

/* A client that says GOAWAY is served to the end of its last call, and no longer. */
static void a_client_that_takes_its_leave(void **state)
{
    static const uint8_t goaway[8], cancel[4] = {0, 0, 0, H2_CANCEL};
    uint8_t fields[512], frame[600];
    size_t n = 0;

    (void)state;
    for (unsigned calls = 0; calls < 2; calls++) {
        int fd = rig_raw_client(&r);

        say(fd, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        write_all(fd, frame, raw_put_frame(frame, F_SETTINGS, 0, 0, NULL, 0));
        rig_pass(&r, 50);
        n = raw_put_field(fields, ":method", "POST");
        n += raw_put_field(fields + n, ":scheme", "http");
        n += raw_put_field(fields + n, ":path", PUT);
        n += raw_put_field(fields + n, ":authority", "etcd");
        n += raw_put_field(fields + n, "te", "trailers");
        n += raw_put_field(fields + n, "content-type", "application/grpc");
        if (calls > 0)
            write_all(fd, frame, raw_put_frame(frame, F_HEADERS, FLAG_END_HEADERS, 1, fields, n));
        write_all(fd, frame, raw_put_frame(frame, F_GOAWAY, 0, 0, goaway, sizeof goaway));
        if (calls > 0) {
            rig_pass(&r, 1000);
            assert_false(rig_is_closed(fd));
            write_all(fd, frame, raw_put_frame(frame, F_RST, 0, 1, cancel, sizeof cancel));
        }
        assert_in_range(hung_up_after(fd, 8000), 0, 2000);
        RIG_UNTIL(&r, r.closed_count == calls + 1);
        close(fd);
    }
}

static void idle_is_no_reason_to_part(void **state)
{
    struct end *client = rig_client(&r);
    struct rec *watch;

    (void)state;
    rig_pass(&r, 60000);
    serve(client, 1);
    watch = rig_begin(client, WATCH, NULL); /* with a stream open etcd is pinged */
    rig_await_headers(&r, 2);
    rig_pass(&r, 60000);
    serve(client, 3);
    assert_int_equal(watch->close_count, 0);
    assert_int_equal(r.accepted, 2); /* watches have a connection of their own */
    h2_stream_reset(watch->s, H2_CANCEL);
}

/* One that answers no PING while calls are open. */
static void silent_etcd_is_lost(void **state)
{
    struct rec *watch, *put;
    struct end *client;
    uint64_t from;

    (void)state;
    r.how = ETCD_GREETS;
    client = rig_client(&r);
    from = rig_now_ms();
    watch = rig_begin(client, WATCH, NULL);
    put = rig_put(client, SECRET_KEY, "treasure");
    rig_settle(&r);
    r.how = ETCD_SPEAKS;
    rig_expect(&r, watch, 14);
    rig_expect(&r, put, 14);
    assert_in_range(rig_now_ms() - from, 10000, 14000);
    RIG_UNTIL(&r, r.etcd != NULL);
    serve(client, 1);
}

/* --- etcd goes ------------------------------------------------------------------------------- */

static void etcd_goes_and_comes_back(void **state)
{
    struct end *client = rig_client(&r);

    (void)state;
    for (unsigned i = 0; i < 5; i++) {
        struct end *lost = r.etcd;

        serve(client, 1);
        rig_pass(&r, 200);
        rig_etcd_lost(&r);
        RIG_UNTIL(&r, r.etcd != lost && r.etcd->ready_count == 1);
    }
    serve(client, 1);
    assert_int_equal(r.accepted, 6);
    assert_int_equal(client->goaway_count, 0);
}

static void etcd_that_greets_and_leaves_is_not_hammered(void **state)
{
    struct end *client = rig_client(&r);

    (void)state;
    r.how = ETCD_LEAVES;
    rig_etcd_lost(&r);
    rig_pass(&r, 1000);
    assert_in_range(r.accepted, 5, 25); /* every 50 ms */
    r.how = ETCD_SPEAKS;
    RIG_UNTIL(&r, r.etcd_count == 2 && r.etcd->ready_count == 1);
    serve(client, 1);
}

static void etcd_does_not_come_back(void **state)
{
    struct end *client = rig_client(&r);
    struct rec *c;

    (void)state;
    rig_pass(&r, 200);
    rig_etcd_away(&r);
    rig_etcd_lost(&r);
    rig_pass(&r, 300);
    c = rig_put(client, SECRET_KEY, "treasure");
    rig_pass(&r, 700);
    rig_expect(&r, c, 14);
    RIG_UNTIL(&r, client->c == NULL);
    assert_int_equal(client->goaway_count + client->lost_count > 0, 1);
    RIG_UNTIL(&r, r.closed_count == 1);
    rig_etcd_back(&r);
    serve(rig_client(&r), 1);
}

/* A balancer has to see it as dead, even with nothing to do. */
static void an_idle_client_hears_of_it_too(void **state)
{
    struct end *client = rig_client(&r);
    uint64_t from;

    (void)state;
    rig_pass(&r, 200);
    rig_etcd_away(&r);
    rig_etcd_lost(&r);
    from = rig_now_ms();
    RIG_UNTIL(&r, client->c == NULL);
    assert_in_range(rig_now_ms() - from, 700, 1500);
}

static void goaway_of_an_idle_connection(void **state)
{
    struct end *client = rig_client(&r), *old = r.etcd;

    (void)state;
    rig_pass(&r, 200);
    h2_conn_shutdown(old->c);
    RIG_UNTIL(&r, old->c == NULL); /* we close it: it has no streams */
    RIG_UNTIL(&r, r.etcd != old && r.etcd->ready_count == 1);
    serve(client, 1);
}

/* --- drain ----------------------------------------------------------------------------------- */

static void drained_with_nobody_there(void **state)
{
    int fd;

    (void)state;
    worker_drain(r.w, 5000);
    RIG_UNTIL(&r, r.drained_count == 1);
    fd = rig_raw_client(&r); /* too late */
    assert_in_range(hung_up_after(fd, 1000), 0, 100);
    RIG_UNTIL(&r, r.closed_count == 1);
    close(fd);
}

static void calls_in_flight_finish(void **state)
{
    struct end *client = rig_client(&r), *idle = rig_client(&r);
    struct end *etcd = r.etcds[0];
    struct rec *c, *s;
    struct buf m = put_response();

    (void)state;
    c = rig_put(client, SECRET_KEY, "treasure");
    RIG_UNTIL(&r, etcd->recs_count == 1);
    s = etcd->last;
    RIG_UNTIL(&r, s->end_count == 1);
    worker_drain(r.w, 10000);
    RIG_UNTIL(&r, client->goaway_count > 0 && idle->c == NULL);
    rig_pass(&r, 3000);
    assert_int_equal(r.drained_count, 0);
    rig_answer(s, &m);
    rig_expect(&r, c, 0);
    RIG_UNTIL(&r, r.drained_count == 1);
    assert_int_equal(r.closed_count, 2);
}

static void watches_end_after_a_while(void **state)
{
    struct end *client = rig_client(&r);
    struct rec *watch = rig_begin(client, WATCH, NULL), *s = rig_await_headers(&r, 1);
    uint64_t from = rig_now_ms();

    (void)state;
    rig_respond(s);
    worker_drain(r.w, 10000);
    rig_expect(&r, watch, 14);
    assert_in_range(rig_now_ms() - from, 450, 800);
    RIG_UNTIL(&r, r.drained_count == 1);
    assert_in_range(rig_now_ms() - from, 450, 1000);
    RIG_UNTIL(&r, s->close_count == 1);
    assert_int_equal(s->code, H2_CANCEL);
}

static void what_does_not_end_is_ended(void **state)
{
    struct end *client = rig_client(&r);
    struct rec *c = rig_put(client, SECRET_KEY, "treasure");
    uint64_t from = rig_now_ms();

    (void)state;
    rig_await(&r, 1);
    worker_drain(r.w, 10000);
    rig_expect(&r, c, 14);
    RIG_UNTIL(&r, r.drained_count == 1);
    assert_in_range(rig_now_ms() - from, 8000, 10000);
}

int main(void)
{
#define TEST(fn) RIG_TEST(fn, &r)
    const struct CMUnitTest tests[] = {
        TEST(etcd_comes_first),
        TEST(no_settings_without_etcd),
        TEST(etcd_that_comes_in_time_is_waited_for),
        TEST(etcd_that_hangs_up_is_not_hammered),
        TEST(the_client_is_told_how_many_streams),
        TEST(nothing_said),
        TEST(half_a_greeting),
        TEST(a_dripping_greeting),
        TEST(a_first_frame_that_is_not_settings),
        TEST(a_greeting_in_pieces),
        TEST(half_a_header_block),
        TEST(frames_that_are_cut_all_the_time),
        TEST(a_client_that_answers_no_ping),
        TEST(a_preface_that_goes_on_wrong),
        TEST(the_client_goes_before_etcd_is_there),
        TEST(http1_is_answered_and_closed),
        TEST(a_client_takes_its_connections_with_it),
        TEST(a_client_that_takes_its_leave),
        TEST(idle_is_no_reason_to_part),
        TEST(silent_etcd_is_lost),
        TEST(etcd_goes_and_comes_back),
        TEST(etcd_that_greets_and_leaves_is_not_hammered),
        TEST(etcd_does_not_come_back),
        TEST(an_idle_client_hears_of_it_too),
        TEST(goaway_of_an_idle_connection),
        TEST(drained_with_nobody_there),
        TEST(calls_in_flight_finish),
        TEST(watches_end_after_a_while),
        TEST(what_does_not_end_is_ended),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
