/* SPDX-License-Identifier: Apache-2.0 */
/* The rule of progress: whoever has begun a message gets on with it, whoever was sent one takes it,
 * or the call ends; whoever is between two messages may take for ever. Time in which we keep the
 * credit back, or do not run, is nobody's fault. */
#include "base/metrics.h"
#include "rig.h"

#define KEEP_ALIVE "/etcdserverpb.Lease/LeaseKeepAlive"
#define HOUR_MS 3600000u
#define LARGE 400000u

static struct rig r;

/* How long, from now on, until the client's stream is over: in milliseconds, at most max. */
static uint64_t over_after(struct rec *c, uint64_t max)
{
    uint64_t from = rig_now_ms();

    while (c->close_count == 0 && rig_now_ms() - from < max)
        rig_pass(&r, 100);
    return rig_now_ms() - from;
}

static void expect_reset(struct rec *c, enum h2_code code)
{
    assert_int_equal(c->close_count, 1);
    assert_int_equal(c->how, H2_END_RESET);
    assert_int_equal(c->code, code);
}

/* What a client's message looks like that has begun: its prefix and a part. */
static struct rec *begin_message(const char *path, size_t len)
{
    struct rec *c = rig_begin(r.client, path, NULL);

    rig_send(c, "\0\0\1\0\0", 5, false); /* 64 KiB are announced */
    for (size_t i = 5; i < len; i++)
        rig_send(c, "x", 1, false);
    return c;
}

static bool nobody_is_watched(void)
{
    return list_is_empty(&r.w->progress.calls);
}

/* --- requests -------------------------------------------------------------------------------- */

/* A unary call: headers alone, half a prefix, half a body. */
static void a_request_that_stops(void **state)
{
    static const size_t lens[] = {0, 1, 4, 5, 50};
    uint64_t before = metric_refused_get(ERR_REQUEST_STALLED);

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
        struct rec *c = rig_begin(r.client, PUT, NULL);

        if (lens[i] > 0)
            rig_send(c, "\0\0\0\1\0xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", lens[i],
                     false);
        assert_in_range(over_after(c, 60000), 29000, 32000);
        expect_reset(c, H2_ENHANCE_YOUR_CALM);
    }
    assert_int_equal(metric_refused_get(ERR_REQUEST_STALLED), before + ARRAY_LEN(lens));
    assert_int_equal(rig_tally(&r, "ResourceExhausted", PUT), ARRAY_LEN(lens));
    assert_int_equal(rig_calls(&r), 0); /* etcd heard of none */
    assert_true(nobody_is_watched());
    assert_int_equal(r.client->lost_count, 0);
}

/* The whole message is there, but not its end. */
static void a_request_without_its_end(void **state)
{
    struct buf m = put_request(POD_KEY, "v", 1), framed = rig_framed(&m);
    struct rec *c = rig_begin(r.client, PUT, NULL);

    (void)state;
    rig_send(c, framed.p, framed.n, false);
    assert_in_range(over_after(c, 60000), 29000, 32000);
    expect_reset(c, H2_ENHANCE_YOUR_CALM);
    assert_int_equal(rig_calls(&r), 0);
    buf_free(&framed);
}

/* Slow, but fast enough: 64 KiB in less than 30 s. */
static void a_slow_upload_is_taken(void **state)
{
    enum { STEP = 70000, STEPS = 8 };
    struct buf value = {0}, m, framed;
    struct rec *c;

    (void)state;
    for (size_t i = 0; i < (size_t)STEP * STEPS / 100; i++)
        buf_add(&value,
                "0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwx"
                "yz0123456789abcdefghijklmnopqr",
                100);
    m = put_request(POD_KEY, value.p, value.n);
    framed = rig_framed(&m);
    c = rig_begin(r.client, PUT, NULL);
    for (size_t at = 0; at < framed.n; at += STEP) {
        size_t n = framed.n - at < STEP ? framed.n - at : STEP;

        rig_send(c, framed.p + at, n, at + n == framed.n);
        if (at + n < framed.n)
            rig_pass_in(&r, 25000, 100);
    }
    rig_answer_put(&r, c, 1);
    buf_free(&framed);
    buf_free(&value);
}

/* And too slow, however steady. */
static void a_dripping_upload_is_not(void **state)
{
    struct rec *c = begin_message(PUT, 5);
    uint64_t from = rig_now_ms();

    (void)state;
    while (c->close_count == 0 && rig_now_ms() - from < 60000) {
        rig_send(c, "xxxxxxxx", 8, false);
        rig_pass(&r, 500);
    }
    assert_in_range(rig_now_ms() - from, 29000, 32000);
    expect_reset(c, H2_ENHANCE_YOUR_CALM);
}

/* A watch whose request stops half way has its client open another. */
static void half_a_watch_request(void **state)
{
    struct rec *c = begin_message(WATCH, 20);

    (void)state;
    assert_in_range(over_after(c, 60000), 29000, 32000);
    assert_int_equal(rig_status(c), 14);
    RIG_UNTIL(&r, r.call->close_count == 1); /* etcd's part of it goes, too */
    assert_int_equal(r.call->code, H2_CANCEL);
    assert_int_equal(rig_tally(&r, "Unavailable", WATCH), 1);
}

/* Many small requests, each cut at the moment of the look: none of them is slow. */
static void small_requests_that_are_cut(void **state)
{
    struct rec *c = rig_begin(r.client, KEEP_ALIVE, NULL);

    (void)state;
    rig_send(c, "\0\0\0", 3, false);
    for (unsigned i = 0; i < 300; i++) {
        rig_pass(&r, 200);
        rig_send(c, "\0\2\10\1\0\0\0", 7,
                 false); /* LeaseKeepAliveRequest{1}, and the next prefix */
    }
    rig_settle(&r);
    assert_int_equal(c->close_count, 0);
    assert_int_equal(r.call->body_len, 300 * 7);
    h2_stream_reset(c->s, H2_CANCEL);
}

/* The thread did not run for ten minutes (the machine slept, or the process was stopped): what the
 * client has sent meanwhile is read before anybody is judged. */
static void time_that_we_did_not_see(void **state)
{
    struct buf m = put_request(POD_KEY, "v", 1), framed = rig_framed(&m);
    struct rec *c = rig_begin(r.client, PUT, NULL);

    (void)state;
    rig_send(c, framed.p, 9, false);
    rig_pass(&r, 2500);
    rig_pass_in(&r, 600000, 600000);
    assert_int_equal(c->close_count, 0);
    rig_send(c, framed.p + 9, framed.n - 9, true);
    rig_answer_put(&r, c, 1);
    buf_free(&framed);
}

/* --- nobody waits ---------------------------------------------------------------------------- */

static void idle_streams_live(void **state)
{
    struct buf create = watch_create(POD_KEY, NULL), created = watch_created(0), m;
    struct buf framed = rig_framed(&create);
    struct rec *watch = rig_begin(r.client, WATCH, NULL), *lease, *s;

    (void)state;
    rig_send(watch, framed.p, framed.n, false);
    s = rig_await_headers(&r, 1);
    rig_respond(s);
    rig_message(s, &created, false);
    lease = rig_begin(r.client, KEEP_ALIVE, NULL);
    rig_await_headers(&r, 2);
    rig_pass(&r, 3000);
    assert_true(nobody_is_watched());
    assert_false(r.w->progress.is_looking); /* and it costs nothing */
    rig_pass_in(&r, HOUR_MS, 500);
    assert_int_equal(watch->close_count + lease->close_count, 0);
    m = watch_event(0, POD_KEY, &framed);
    rig_message(s, &m, false);
    RIG_UNTIL(&r, rig_message_count(watch) == 2);
    h2_stream_reset(watch->s, H2_CANCEL);
    h2_stream_reset(lease->s, H2_CANCEL);
    buf_free(&framed);
}

/* Compact and Defragment take their time before the first byte. */
static void etcd_may_think(void **state)
{
    struct buf m = {0}, answer = response_header(), out = {0};
    struct rec *c, *s;

    (void)state;
    buf_varint(&m, 1, 7);
    c = rig_call(r.client, COMPACT, &m);
    s = rig_await(&r, 1);
    rig_respond(s);
    rig_pass_in(&r, HOUR_MS, 500);
    assert_int_equal(c->close_count, 0);
    buf_sub(&out, 1, &answer);
    rig_message(s, &out, false);
    rig_trailers(s, "0");
    rig_expect(&r, c, 0);
}

/* But once it has begun a message it has to get on. */
static void half_an_answer(void **state)
{
    static const size_t lens[] = {1, 5, 60, LARGE};
    struct buf value = {0}, sealed, m, framed;

    (void)state;
    for (size_t i = 0; i < 2 * LARGE; i += 8)
        buf_add(&value, "12345678", 8);
    sealed = value;
    for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
        struct rec *c = rig_range(r.client, POD_KEY), *s = rig_await(&r, (unsigned)i + 1);

        m = range_response(POD_KEY, &sealed);
        framed = rig_framed(&m);
        rig_respond(s);
        rig_send(s, framed.p, lens[i], false);
        assert_in_range(over_after(c, 60000), 29000, 33000);
        assert_int_equal(rig_status(c), 14);
        RIG_UNTIL(&r, s->close_count == 1);
        assert_int_equal(s->code, H2_CANCEL);
        buf_free(&framed);
    }
    buf_free(&value);
}

/* --- readers --------------------------------------------------------------------------------- */

/* An answer of n bytes and more, of which the client takes what its window holds. */
static struct rec *unread_range(struct end *client, size_t n, unsigned nth)
{
    struct rec *c = rig_range(client, POD_KEY), *s;
    struct buf value = {0}, m;

    c->is_hungry = false;
    while (value.n < n)
        buf_add(&value, "12345678", 8);
    s = rig_await(&r, nth);
    m = range_response(POD_KEY, &value);
    rig_answer(s, &m);
    buf_free(&value);
    rig_settle(&r);
    return c;
}

static struct end *client_with_window(uint32_t window)
{
    struct h2_opts opts = kit_client_opts;
    struct end *e;

    opts.stream_window = window;
    e = rig_connect(&r, &opts);
    RIG_UNTIL(&r, e->ready_count == 1);
    return e;
}

static void a_reader_that_stops(void **state)
{
    static const uint32_t windows[] = {0, 1000};
    uint64_t before = metric_refused_get(ERR_READER_STALLED);

    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(windows); i++) {
        struct end *client = client_with_window(windows[i]);
        struct rec *c = unread_range(client, LARGE, i + 1);

        assert_in_range(over_after(c, 2 * LIMIT_STALL_MS), LIMIT_STALL_MS - 1000,
                        LIMIT_STALL_MS + 3000);
        expect_reset(c, H2_ENHANCE_YOUR_CALM);
        assert_int_equal(client->lost_count, 0); /* its connection stays */
    }
    assert_int_equal(metric_refused_get(ERR_READER_STALLED), before + ARRAY_LEN(windows));
}

/* While memory is short there is less time, and a drop now and then is not enough. */
static void a_reader_that_stops_while_memory_is_short(void **state)
{
    struct end *client = client_with_window(1000);
    struct rec *c;

    (void)state;
    rig_limit(&r, 2 * LARGE);
    c = unread_range(client, LARGE, 1);
    assert_true(worker_is_half_full(r.w));
    assert_in_range(over_after(c, 60000), 29000, 33000);
    expect_reset(c, H2_ENHANCE_YOUR_CALM);
}

static void a_slow_reader_is_served(void **state)
{
    struct end *client = client_with_window(1000);
    struct rec *c = unread_range(client, 3000, 1);

    (void)state;
    for (unsigned i = 0; i < 3 && c->end_count + c->trailers_count == 0; i++) {
        rig_pass_in(&r, LIMIT_STALL_MS - 20000, 500);
        assert_int_equal(c->close_count, 0);
        h2_stream_credit(c->s, 1000);
    }
    rig_expect(&r, c, 0);
}

/* Watch and lease: the client has to open another stream, and loses none of its watches by it. */
static struct rec *unread_watch(struct end *client, size_t n)
{
    struct buf create = watch_create(POD_KEY, NULL), framed = rig_framed(&create), value = {0};
    struct buf created = watch_created(0), m;
    struct rec *c = rig_begin(client, WATCH, NULL), *s;

    c->is_hungry = false;
    rig_send(c, framed.p, framed.n, false);
    s = rig_await_headers(&r, rig_calls(&r) == 0 ? 1 : rig_calls(&r));
    RIG_UNTIL(&r, s->body_len == framed.n);
    rig_respond(s);
    rig_message(s, &created, false);
    while (value.n < n)
        buf_add(&value, "12345678", 8);
    for (unsigned i = 0; i < 3; i++) {
        m = watch_event(0, POD_KEY, &value);
        rig_message(s, &m, false);
    }
    buf_free(&framed);
    buf_free(&value);
    rig_settle(&r);
    return c;
}

/* With every window from none to one that takes all. */
static void a_watch_that_is_not_read(void **state)
{
    bool was_whole = false, was_cut = false, was_read = false;

    (void)state;
    for (uint32_t window = 0; !was_read; window += 13) {
        struct end *client = client_with_window(window);
        struct rec *c = unread_watch(client, 100);
        size_t whole = 0;

        (void)over_after(c, 2 * LIMIT_STALL_MS);
        was_read = c->close_count == 0;
        while (c->body_len - whole >= 5 && whole + 5 + c->body[whole + 4] <= c->body_len)
            whole += 5u + c->body[whole + 4];
        if (was_read) {
            assert_int_equal(rig_message_count(c), 4);
        } else if (whole == c->body_len) {
            assert_int_equal(rig_status(c), 14);
            was_whole = true;
        } else {
            expect_reset(c, H2_REFUSED_STREAM);
            was_cut = true;
        }
        h2_conn_close(client->c, H2_NO_ERROR, 0);
        RIG_UNTIL(&r, client->c == NULL);
        end_close(client);
        free(client);
        r.client_count--;
        rig_pass_in(&r, 40000, 500); /* etcd's connections go, too */
    }
    assert_true(was_whole && was_cut);
}

/* The stream of a client that reads slowly ends, by etcd or because etcd is lost, at whatever byte
 * it stands: as long as it has the time to read on, it gets what was there before, and then why. */
static void what_comes_before_the_end_is_read_in_time(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2 * 8; i++) {
        struct end *client = client_with_window(i / 2 * 40);
        struct rec *c = unread_watch(client, 100);

        if (i % 2 == 0)
            rig_trailers(r.call, "14");
        else
            rig_etcd_lost(&r);
        rig_pass_in(&r, LIMIT_STALL_MS - 20000, 500);
        assert_int_equal(c->close_count, 0);
        c->is_hungry = true;
        h2_stream_widen(c->s, 65536);
        rig_expect(&r, c, 14);
        assert_int_equal(rig_message_count(c), 4);
        RIG_UNTIL(&r, rig_is_idle(&r));
    }
}

/* The connection's window holds up all its streams, and none of another connection. */
static void the_window_of_the_connection(void **state)
{
    struct end *client = client_with_window(10 * LARGE);
    struct rec *c[3], *other;

    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(c); i++)
        c[i] = unread_range(client, LARGE, i + 1);
    other = unread_range(r.client, 1000, ARRAY_LEN(c) + 1);
    rig_expect(&r, other, 0);
    for (unsigned i = 0; i < ARRAY_LEN(c); i++)
        rig_expect(&r, c[i], 0); /* the kit's end credits its connection: nobody is held */
}

static struct rec *watch_pods(struct end *client, size_t value_len, unsigned nth)
{
    struct rec *c = rig_begin(client, WATCH, NULL), *s;
    struct buf value = {0}, m = watch_create("/registry/pods/", "/registry/pods0");

    for (size_t i = 0; i < value_len; i++)
        buf_add(&value, "x", 1);
    rig_message(c, &m, false);
    s = rig_await_headers(&r, nth);
    RIG_UNTIL(&r, s->body_len > 0);
    rig_respond(s);
    m = watch_created(0);
    rig_message(s, &m, false);
    m = watch_event(0, POD_KEY, &value);
    rig_message(s, &m, false);
    rig_settle(&r);
    buf_free(&value);
    return c;
}

/* Of two watches of a client that does not open its connection's window the first has taken all of
 * it, and is over before the second has waited for too long, or ends with it. When the window opens
 * at last the client is served on. */
static void window_opens_late(bool is_given_up, unsigned nth)
{
    struct h2_opts opts = kit_client_opts;
    struct rec *c[2], *other;
    struct end *client;

    opts.conn_window = 65535;
    client = rig_connect(&r, &opts);
    RIG_UNTIL(&r, client->ready_count == 1);
    end_hold_window(client, true);
    c[0] = watch_pods(client, 100000, nth);
    c[1] = watch_pods(client, 1000, nth + 1);
    if (is_given_up)
        h2_stream_reset(c[0]->s, H2_CANCEL);
    rig_pass(&r, 8000);
    if (!is_given_up)
        expect_reset(c[0], H2_REFUSED_STREAM); /* in the middle of a message */
    rig_expect(&r, c[1], 14);
    end_hold_window(client, false);
    other = rig_put(client, POD_KEY, "anything");
    rig_answer_put(&r, other, nth + 2);
}

static void a_connection_window_that_opens_late(void **state)
{
    (void)state;
    r.settings.stall_timeout_ms = 5000;
    window_opens_late(false, 1);
    window_opens_late(true, 4);
}

int main(void)
{
#define TEST(fn) RIG_TEST_WITH_CLIENT(fn, &r)
    const struct CMUnitTest tests[] = {
        TEST(a_request_that_stops),
        TEST(a_request_without_its_end),
        TEST(a_slow_upload_is_taken),
        TEST(a_dripping_upload_is_not),
        TEST(half_a_watch_request),
        TEST(small_requests_that_are_cut),
        TEST(time_that_we_did_not_see),
        TEST(idle_streams_live),
        TEST(etcd_may_think),
        TEST(half_an_answer),
        TEST(a_reader_that_stops),
        TEST(a_reader_that_stops_while_memory_is_short),
        TEST(a_slow_reader_is_served),
        TEST(a_watch_that_is_not_read),
        TEST(what_comes_before_the_end_is_read_in_time),
        TEST(the_window_of_the_connection),
        TEST(a_connection_window_that_opens_late),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
