/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a connection: GOAWAY both ways, shutdown, loss, keepalive, stalls, closing. */
#include <sys/socket.h>
#include <unistd.h>

#include "kit.h"

struct fix {
    struct kit k;
    struct end client, server; /* a pair, or one of them against raw */
    struct raw raw;
};

static void setup_pair(struct fix *f)
{
    kit_init(&f->k);
    end_pair(&f->k, &f->client, NULL, &f->server, NULL);
    KIT_UNTIL(&f->k, f->client.ready_count == 1 && f->server.ready_count == 1);
}

static void teardown_pair(struct fix *f)
{
    end_close(&f->client);
    end_close(&f->server);
    kit_fini(&f->k);
}

/* h2 is the client; the raw server has sent its SETTINGS. */
static void setup_client(struct fix *f, const struct h2_opts *opts)
{
    int fd[2];

    kit_init(&f->k);
    kit_socketpair(fd);
    end_init(&f->client, &f->k, fd[0], opts);
    raw_init(&f->raw, &f->k, fd[1]);
    f->raw.at = 24;
    assert_true(raw_frame(&f->raw, F_SETTINGS, 0, 0, NULL, 0));
    (void)raw_await(&f->raw, F_SETTINGS);
    KIT_UNTIL(&f->k, f->client.ready_count == 1);
}

static void setup_server(struct fix *f, const struct h2_opts *opts)
{
    int fd[2];

    kit_init(&f->k);
    kit_socketpair(fd);
    end_init(&f->server, &f->k, fd[0], opts);
    raw_init(&f->raw, &f->k, fd[1]);
    raw_hello(&f->raw);
    (void)raw_await(&f->raw, F_SETTINGS);
}

static void teardown_raw(struct fix *f, struct end *e)
{
    end_close(e);
    raw_fini(&f->raw);
    kit_fini(&f->k);
}

static void open_stream(struct fix *f, uint32_t id)
{
    uint8_t block[200];

    assert_true(raw_frame(&f->raw, F_HEADERS, FLAG_END_HEADERS | FLAG_END_STREAM, id, block,
                          raw_put_request(block)));
}

static uint32_t u32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* --- shutdown --- */

static void test_shutdown_on_the_wire(void **state)
{
    struct fix f;
    struct raw_frame r;
    uint8_t ping[8];

    (void)state;
    setup_server(&f, &kit_server_opts);
    open_stream(&f, 1);
    KIT_UNTIL(&f.k, f.server.recs_count == 1);
    h2_conn_shutdown(f.server.c);
    h2_conn_shutdown(f.server.c);
    r = raw_await(&f.raw, F_PING);
    assert_int_equal(r.flags, 0);
    memcpy(ping, r.p, 8);
    f.raw.at = 0;
    r = raw_await(&f.raw, F_GOAWAY);
    assert_int_equal(u32(r.p), 0x7fffffff);
    assert_int_equal(u32(r.p + 4), 0);
    /* Sent before the client knew: still served. */
    open_stream(&f, 3);
    KIT_UNTIL(&f.k, f.server.recs_count == 2);
    /* Another PING's ack is not ours. */
    assert_true(raw_frame(&f.raw, F_PING, FLAG_ACK, 0, "other...", 8));
    kit_run_ms(&f.k, 30);
    open_stream(&f, 5);
    KIT_UNTIL(&f.k, f.server.recs_count == 3);
    assert_true(raw_frame(&f.raw, F_PING, FLAG_ACK, 0, ping, 8));
    r = raw_await(&f.raw, F_GOAWAY);
    assert_int_equal(u32(r.p), 5);
    assert_int_equal(u32(r.p + 4), 0);
    /* From here on nothing is taken, and what was is finished. */
    open_stream(&f, 7);
    kit_run_ms(&f.k, 30);
    assert_int_equal(f.server.recs_count, 3);
    rec_answer(f.server.last, 10);
    (void)raw_await(&f.raw, F_DATA);
    KIT_UNTIL(&f.k, h2_conn_stream_count(f.server.c) == 2);
    assert_int_equal(f.server.lost_count, 0);
    teardown_raw(&f, &f.server);
}

/* A stream that comes together with the PING's ack: it is above the last id, so it must not be
 * heard of: the client is going to make the request again. */
static void test_shutdown_race(void **state)
{
    struct fix f;
    struct raw_frame r;
    uint8_t out[400], block[200];
    size_t n;

    (void)state;
    setup_server(&f, &kit_server_opts);
    open_stream(&f, 1);
    KIT_UNTIL(&f.k, f.server.recs_count == 1);
    h2_conn_shutdown(f.server.c);
    r = raw_await(&f.raw, F_PING);
    n = raw_put_frame(out, F_PING, FLAG_ACK, 0, r.p, 8);
    n += raw_put_frame(out + n, F_HEADERS, FLAG_END_HEADERS | FLAG_END_STREAM, 3, block,
                       raw_put_request(block));
    assert_true(raw_write(&f.raw, out, n));
    r = raw_await(&f.raw, F_GOAWAY);
    while (u32(r.p) == 0x7fffffff)
        r = raw_await(&f.raw, F_GOAWAY);
    assert_int_equal(u32(r.p), 1);
    kit_run_ms(&f.k, 30);
    assert_int_equal(f.server.recs_count, 1);
    teardown_raw(&f, &f.server);
}

static void test_shutdown_without_ack(void **state)
{
    struct fix f;
    struct raw_frame r;
    uint64_t start = loop_hrtime_ns();

    (void)state;
    setup_server(&f, &kit_server_opts);
    h2_conn_shutdown(f.server.c);
    r = raw_await(&f.raw, F_GOAWAY);
    assert_int_equal(u32(r.p), 0x7fffffff);
    r = raw_await(&f.raw, F_GOAWAY);
    assert_int_equal(u32(r.p), 0);
    assert_true(loop_hrtime_ns() - start > 900 * 1000000ull);
    teardown_raw(&f, &f.server);
}

static void test_shutdown_of_a_pair(void **state)
{
    struct fix f;
    struct rec *r;
    struct h2_stream *s;

    (void)state;
    setup_pair(&f);
    r = end_request(&f.client, kit_request, true);
    KIT_UNTIL(&f.k, f.server.recs_count == 1);
    h2_conn_shutdown(f.server.c);
    KIT_UNTIL(&f.k, f.client.goaway_count >= 1);
    assert_int_equal(f.client.goaway_code, H2_NO_ERROR);
    assert_false(h2_conn_can_request(f.client.c));
    assert_int_equal(h2_request(f.client.c, kit_request, true, NULL, NULL, &s), ERR_CLOSED);
    rec_answer(f.server.last, 2000000);
    KIT_UNTIL(&f.k, r->close_count == 1);
    assert_int_equal(r->how, H2_END_COMPLETE);
    assert_int_equal(r->body_len, 2000000);
    /* The owners decide when it ends. */
    kit_run_ms(&f.k, 50);
    assert_int_equal(f.client.lost_count + f.server.lost_count, 0);
    h2_conn_close(f.client.c, H2_NO_ERROR, 0);
    KIT_UNTIL(&f.k, f.server.lost_count == 1);
    assert_int_equal(f.server.lost_err, ERR_CLOSED);
    teardown_pair(&f);
}

/* --- the peer's GOAWAY --- */

static void test_goaway_from_peer(void **state)
{
    struct fix f;
    struct rec *r[4];
    uint8_t goaway[8] = {0, 0, 0, 3, 0, 0, 0, 0}, block[100];

    (void)state;
    setup_client(&f, &kit_client_opts);
    for (int i = 0; i < 4; i++) {
        r[i] = end_request(&f.client, kit_request, true);
        (void)raw_await(&f.raw, F_HEADERS);
    }
    assert_true(raw_frame(&f.raw, F_GOAWAY, 0, 0, goaway, 8));
    KIT_UNTIL(&f.k, f.client.goaway_count == 1);
    KIT_UNTIL(&f.k, r[2]->close_count == 1 && r[3]->close_count == 1);
    assert_int_equal(r[2]->code, H2_REFUSED_STREAM);
    assert_int_equal(r[3]->code, H2_REFUSED_STREAM);
    assert_int_equal(r[0]->close_count + r[1]->close_count, 0);
    assert_true(raw_frame(&f.raw, F_HEADERS, FLAG_END_HEADERS | FLAG_END_STREAM, 3, block,
                          raw_put_field(block, ":status", "200")));
    KIT_UNTIL(&f.k, r[1]->close_count == 1);
    assert_int_equal(r[1]->how, H2_END_COMPLETE);
    /* The other one ends with the connection. */
    assert_int_equal(shutdown(f.raw.fd, SHUT_RDWR), 0);
    KIT_UNTIL(&f.k, f.client.lost_count == 1);
    assert_int_equal(r[0]->code, H2_INTERNAL_ERROR);
    assert_int_equal(r[0]->how, H2_END_LOST);
    teardown_raw(&f, &f.client);
}

/* Requests that wait for the peer's stream limit when GOAWAY comes, or when the connection dies,
 * were never sent. */
static void test_unsent_requests_are_refused(void **state)
{
    (void)state;
    for (int dies = 0; dies < 2; dies++) {
        struct fix f;
        struct rec *r[3];

        setup_client(&f, &kit_client_opts);
        assert_true(raw_frame(&f.raw, F_SETTINGS, 0, 0, "\0\3\0\0\0\1", 6));
        (void)raw_await(&f.raw, F_SETTINGS);
        kit_run_ms(&f.k, 20);
        assert_true(h2_conn_can_request(f.client.c));
        r[0] = end_request(&f.client, kit_request, true);
        assert_false(h2_conn_can_request(f.client.c));
        r[1] = end_request(&f.client, kit_request, true);
        r[2] = end_request(&f.client, kit_request, true);
        h2_stream_reset(r[2]->s, H2_CANCEL);
        (void)raw_await(&f.raw, F_HEADERS);
        if (dies)
            assert_int_equal(shutdown(f.raw.fd, SHUT_RDWR), 0);
        else
            assert_true(raw_frame(&f.raw, F_GOAWAY, 0, 0, "\0\0\0\1\0\0\0\0", 8));
        if (!dies) {
            /* It is still in line behind the first one. */
            KIT_UNTIL(&f.k, f.client.goaway_count == 1);
            assert_true(raw_frame(&f.raw, F_RST, 0, 1, "\0\0\0\x08", 4));
        }
        KIT_UNTIL(&f.k, r[0]->close_count == 1 && r[1]->close_count == 1);
        assert_int_equal(r[0]->code, dies ? H2_INTERNAL_ERROR : H2_CANCEL);
        assert_int_equal(r[1]->code, H2_REFUSED_STREAM);
        assert_int_equal(r[2]->code, H2_CANCEL);
        /* The connection, or the peer; and what the owner has reset stays reset. */
        assert_int_equal(r[0]->how, dies ? H2_END_LOST : H2_END_RESET);
        assert_int_equal(r[1]->how, dies ? H2_END_LOST : H2_END_RESET);
        assert_int_equal(r[2]->how, H2_END_RESET);
        teardown_raw(&f, &f.client);
    }
}

/* --- keepalive and stalls --- */

static struct h2_opts keepalive_opts(void)
{
    struct h2_opts o = kit_client_opts;

    o.ping_ms = 60;
    o.ping_ack_ms = 60;
    return o;
}

static unsigned count_pings(struct raw *r)
{
    struct raw_frame f;
    unsigned n = 0;

    raw_read(r);
    while (raw_next(r, &f))
        n += f.type == F_PING;
    return n;
}

static void test_mute_peer(void **state)
{
    struct fix f;
    struct h2_opts opts = keepalive_opts();
    struct rec *r;

    (void)state;
    setup_client(&f, &opts);
    /* No stream, no PING. */
    kit_run_ms(&f.k, 200);
    assert_int_equal(count_pings(&f.raw), 0);
    r = end_request(&f.client, kit_request, true);
    KIT_UNTIL(&f.k, f.client.lost_count == 1);
    assert_int_equal(f.client.lost_err, ERR_TIMEOUT);
    assert_string_equal(f.client.lost_why, "no answer to PING");
    assert_int_equal(r->code, H2_INTERNAL_ERROR);
    assert_int_equal(count_pings(&f.raw), 1);
    teardown_raw(&f, &f.client);
}

static void test_living_peer(void **state)
{
    struct fix f;
    struct h2_opts opts = keepalive_opts();
    struct rec *r;
    unsigned pings = 0;

    (void)state;
    setup_client(&f, &opts);
    r = end_request(&f.client, kit_request, true);
    for (int i = 0; i < 60; i++) {
        unsigned n = count_pings(&f.raw);

        if (n > 0)
            assert_true(raw_frame(&f.raw, F_PING, FLAG_ACK, 0, "\0\0\0\0\0\0\0\0", 8));
        pings += n;
        kit_run_ms(&f.k, 10);
    }
    assert_int_equal(f.client.lost_count, 0);
    assert_in_range(pings, 4, 60);
    /* While something comes there is nothing to ask. */
    (void)count_pings(&f.raw);
    for (int i = 0; i < 30; i++) {
        assert_true(raw_frame(&f.raw, F_WINDOW, 0, 0, "\0\0\0\1", 4));
        kit_run_ms(&f.k, 10);
    }
    assert_in_range(count_pings(&f.raw), 0, 3); /* some, if the machine is slow */
    /* And when the stream is over, no more. */
    h2_stream_reset(r->s, H2_CANCEL);
    KIT_UNTIL(&f.k, r->close_count == 1);
    kit_run_ms(&f.k, 200);
    assert_in_range(count_pings(&f.raw), 0, 1);
    kit_run_ms(&f.k, 200);
    assert_int_equal(count_pings(&f.raw), 0);
    teardown_raw(&f, &f.client);
}

/* Our own loop was late, and the answer lies in the socket. */
static void test_late_loop(void **state)
{
    struct fix f;
    struct h2_opts opts = keepalive_opts();

    (void)state;
    setup_client(&f, &opts);
    (void)end_request(&f.client, kit_request, true);
    (void)raw_await(&f.raw, F_PING);
    assert_true(raw_frame(&f.raw, F_PING, FLAG_ACK, 0, "\0\0\0\0\0\0\0\0", 8));
    (void)usleep(200000);
    kit_run_ms(&f.k, 30);
    assert_int_equal(f.client.lost_count, 0);
    teardown_raw(&f, &f.client);
}

static void test_write_stall(void **state)
{
    struct fix f;
    struct h2_opts opts = kit_server_opts;
    uint64_t start;

    (void)state;
    opts.write_stall_ms = 150;
    setup_server(&f, &opts);
    assert_true(raw_frame(&f.raw, F_SETTINGS, 0, 0, "\0\4\x7f\xff\xff\xff", 6));
    assert_true(raw_frame(&f.raw, F_WINDOW, 0, 0, "\x70\0\0\0", 4));
    open_stream(&f, 1);
    KIT_UNTIL(&f.k, f.server.recs_count == 1);
    start = loop_hrtime_ns();
    rec_answer(f.server.last, 30u * 1024 * 1024);
    kit_run_ms(&f.k, 20);
    /* Not framed beyond the limit of the socket's queue. */
    assert_true(f.server.last->drained < 2u * 1024 * 1024);
    assert_int_equal(f.server.lost_count, 0);
    KIT_UNTIL(&f.k, f.server.lost_count == 1);
    assert_true(loop_hrtime_ns() - start > 140 * 1000000ull);
    assert_int_equal(f.server.lost_err, ERR_TIMEOUT);
    assert_string_equal(f.server.lost_why, "the peer takes no bytes");
    teardown_raw(&f, &f.server);
}

/* A reader that takes a little now and then is slow, not stalled. */
static void test_slow_reader(void **state)
{
    struct fix f;
    struct h2_opts opts = kit_server_opts;
    uint8_t some[4096];

    (void)state;
    opts.write_stall_ms = 600;
    setup_server(&f, &opts);
    assert_true(raw_frame(&f.raw, F_SETTINGS, 0, 0, "\0\4\x7f\xff\xff\xff", 6));
    assert_true(raw_frame(&f.raw, F_WINDOW, 0, 0, "\x70\0\0\0", 4));
    open_stream(&f, 1);
    KIT_UNTIL(&f.k, f.server.recs_count == 1);
    rec_answer(f.server.last, 30u * 1024 * 1024);
    for (int i = 0; i < 70; i++) {
        for (int j = 0; j < 40; j++)
            (void)!recv(f.raw.fd, some, sizeof some, MSG_DONTWAIT);
        kit_run_ms(&f.k, 15);
        assert_int_equal(f.server.lost_count, 0);
    }
    teardown_raw(&f, &f.server);
}

/* PINGs whose answers are never read: the limit of queued acks holds. */
static void test_unread_pings(void **state)
{
    struct fix f;
    bool is_gone = false;

    (void)state;
    setup_server(&f, &kit_server_opts);
    assert_true(raw_frame(&f.raw, F_SETTINGS, 0, 0, "\0\4\x7f\xff\xff\xff", 6));
    assert_true(raw_frame(&f.raw, F_WINDOW, 0, 0, "\x70\0\0\0", 4));
    open_stream(&f, 1);
    KIT_UNTIL(&f.k, f.server.recs_count == 1);
    rec_answer(f.server.last, 30u * 1024 * 1024); /* fills the socket */
    kit_run_ms(&f.k, 20);
    for (int i = 0; i < 9000 && !is_gone; i++)
        is_gone = f.server.lost_count > 0 || !raw_frame(&f.raw, F_PING, 0, 0, "01234567", 8);
    KIT_UNTIL(&f.k, f.server.lost_count == 1);
    teardown_raw(&f, &f.server);
}

/* --- closing --- */

/* What is queued when the owner closes still leaves, GOAWAY behind it. */
static void test_close_lingers(void **state)
{
    struct fix f;
    struct rec *r;

    (void)state;
    setup_pair(&f);
    r = end_request(&f.client, kit_request, true);
    r->is_forgetful = true;
    KIT_UNTIL(&f.k, f.server.recs_count == 1);
    rec_answer(f.server.last, 900000);
    h2_conn_close(f.server.c, H2_ENHANCE_YOUR_CALM, 2000);
    h2_conn_close(f.server.c, H2_NO_ERROR, 5000); /* changes nothing */
    assert_int_equal(f.server.last->close_count, 0);
    KIT_UNTIL(&f.k, f.client.lost_count == 1);
    assert_int_equal(r->body_len, 900000);
    assert_int_equal(r->trailers_count, 1);
    assert_int_equal(r->how, H2_END_COMPLETE);
    assert_int_equal(f.client.goaway_code, H2_ENHANCE_YOUR_CALM);
    assert_int_equal(f.server.lost_count, 0); /* it closed by itself */
    KIT_UNTIL(&f.k, f.server.c == NULL);
    teardown_pair(&f);
}

static void test_close_at_once(void **state)
{
    struct fix f;
    struct rec *r;

    (void)state;
    setup_pair(&f);
    r = end_request(&f.client, kit_request, false);
    KIT_UNTIL(&f.k, f.server.recs_count == 1);
    h2_conn_close(f.client.c, H2_NO_ERROR, 0);
    assert_int_equal(r->close_count, 0);
    assert_non_null(f.client.c);
    KIT_UNTIL(&f.k, f.client.c == NULL && f.server.c == NULL);
    assert_int_equal(r->close_count, 1);
    assert_int_equal(r->how, H2_END_LOST);
    assert_int_equal(f.server.last->close_count, 1);
    assert_int_equal(f.server.lost_count, 1);
    teardown_pair(&f);
}

static void close_conn(struct rec *r)
{
    if (r->end->c != NULL)
        h2_conn_close(r->end->c, H2_INTERNAL_ERROR, 100);
}

static void close_conn_on_data(struct rec *r, size_t n)
{
    (void)n;
    close_conn(r);
}

static void answer_some(struct rec *r)
{
    rec_answer(r, 300000);
}

/* The owner closes from inside each of its callbacks. */
static void test_close_inside_callbacks(void **state)
{
    (void)state;
    for (int i = 0; i < 8; i++) {
        struct fix f;

        setup_pair(&f);
        f.server.on_end = answer_some;
        if (i == 0)
            f.server.on_request = close_conn;
        if (i == 1)
            f.server.on_data = close_conn_on_data;
        if (i == 2)
            f.server.on_end = close_conn;
        if (i == 3)
            f.server.on_drained = close_conn;
        if (i == 4)
            f.server.on_close = close_conn;
        if (i == 5)
            f.client.on_response = close_conn;
        if (i == 6)
            f.client.on_data = close_conn_on_data;
        if (i == 7)
            f.client.on_close = close_conn;
        for (int j = 0; j < 3; j++)
            rec_send(end_request(&f.client, kit_request, false), 0, 100, 100, true);
        KIT_UNTIL(&f.k, f.client.c == NULL && f.server.c == NULL);
        teardown_pair(&f);
    }
}

/* on_lost without closing: the connection waits for its owner. */
static void test_owner_closes_late(void **state)
{
    struct fix f;
    struct h2_stream *s;

    (void)state;
    setup_pair(&f);
    f.client.keep_on_lost = true;
    (void)end_request(&f.client, kit_request, false);
    KIT_UNTIL(&f.k, f.server.recs_count == 1);
    h2_conn_close(f.server.c, H2_NO_ERROR, 0);
    KIT_UNTIL(&f.k, f.client.lost_count == 1);
    kit_run_ms(&f.k, 30);
    assert_non_null(f.client.c);
    assert_false(h2_conn_can_request(f.client.c));
    assert_int_equal(h2_request(f.client.c, kit_request, true, NULL, NULL, &s), ERR_CLOSED);
    assert_int_equal(f.client.last->code, H2_INTERNAL_ERROR);
    teardown_pair(&f);
}

/* Cut for a flood, and the owner is slow to close: the descriptor is gone long before. */
static void test_owner_closes_after_cut(void **state)
{
    struct fix f;

    (void)state;
    setup_server(&f, &kit_server_opts);
    f.server.keep_on_lost = true;
    assert_true(raw_frame(&f.raw, F_DATA, 0, 0, "x", 1));
    assert_true(raw_await_eof(&f.raw, 3000));
    kit_run_ms(&f.k, 50);
    assert_int_equal(f.server.lost_count, 1);
    assert_non_null(f.server.c);
    teardown_raw(&f, &f.server);
}

static void test_peer_text(void **state)
{
    struct fix f;

    (void)state;
    setup_pair(&f);
    assert_ptr_equal(h2_conn_user(f.client.c), &f.client);
    assert_non_null(h2_conn_peer(f.client.c));
    assert_string_equal(h2_conn_why(f.client.c), "");
    teardown_pair(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shutdown_on_the_wire),
        cmocka_unit_test(test_shutdown_race),
        cmocka_unit_test(test_shutdown_without_ack),
        cmocka_unit_test(test_shutdown_of_a_pair),
        cmocka_unit_test(test_goaway_from_peer),
        cmocka_unit_test(test_unsent_requests_are_refused),
        cmocka_unit_test(test_mute_peer),
        cmocka_unit_test(test_living_peer),
        cmocka_unit_test(test_late_loop),
        cmocka_unit_test(test_write_stall),
        cmocka_unit_test(test_slow_reader),
        cmocka_unit_test(test_unread_pings),
        cmocka_unit_test(test_close_lingers),
        cmocka_unit_test(test_close_at_once),
        cmocka_unit_test(test_close_inside_callbacks),
        cmocka_unit_test(test_owner_closes_late),
        cmocka_unit_test(test_owner_closes_after_cut),
        cmocka_unit_test(test_peer_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
