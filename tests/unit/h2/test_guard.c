/* SPDX-License-Identifier: Apache-2.0 */
/* Floods are cut, clients that work hard are not. */
#include "h2/h2_int.h"
#include "kit.h"

static void test_bucket(void **state)
{
    struct h2__bucket b;

    (void)state;
    h2__bucket_init(&b, 10, 100, 5000);
    assert_true(h2__bucket_take(&b, 10, 5000));
    assert_false(h2__bucket_take(&b, 1, 5000));
    assert_false(h2__bucket_take(&b, 1, 5009));
    assert_true(h2__bucket_take(&b, 1, 5010));
    assert_false(h2__bucket_take(&b, 1, 5010));
    h2__bucket_give(&b, 3);
    assert_true(h2__bucket_take(&b, 3, 5010));
    assert_false(h2__bucket_take(&b, 1, 5010));
    /* Never above its size, however long it rests; time that goes back changes nothing. */
    assert_false(h2__bucket_take(&b, 11, UINT64_MAX));
    assert_true(h2__bucket_take(&b, 10, 0));
    assert_false(h2__bucket_take(&b, 1, 0));
    h2__bucket_give(&b, UINT32_MAX);
    assert_false(h2__bucket_take(&b, 11, 0));
}

/* A frame costs a token of its own, a reset one of the resets' too. */
static void test_every_frame_costs(void **state)
{
    struct h2__guard g;

    (void)state;
    h2__guard_init(&g, 0);
    for (unsigned type = 0; type < 256; type++)
        assert_true(h2__guard_frame(&g, (uint8_t)type, 0, 0));
    assert_int_equal(g.frames.level, (10000 - 256) * 1000);
    assert_int_equal(g.resets.level, (10000 - 1) * 1000);
    for (unsigned i = 0; i < 10000 - 256; i++)
        assert_true(h2__guard_frame(&g, F_PING, 0, 0));
    assert_false(h2__guard_frame(&g, F_PING, 0, 0));
    assert_true(h2__guard_frame(&g, F_PING, 0, 4));
}

struct fix {
    struct kit k;
    struct end server;
    struct raw raw;
};

static void setup(struct fix *f)
{
    int fd[2];

    kit_init(&f->k);
    kit_socketpair(fd);
    end_init(&f->server, &f->k, fd[0], &kit_server_opts);
    raw_init(&f->raw, &f->k, fd[1]);
    raw_hello(&f->raw);
    (void)raw_await(&f->raw, F_SETTINGS);
    assert_true(raw_frame(&f->raw, F_SETTINGS, FLAG_ACK, 0, NULL, 0));
}

static void teardown(struct fix *f)
{
    end_close(&f->server);
    raw_fini(&f->raw);
    kit_fini(&f->k);
}

/* Opens stream id with a whole header block. */
static bool open_stream(struct fix *f, uint32_t id, uint8_t flags)
{
    uint8_t block[200];

    return raw_frame(&f->raw, F_HEADERS, FLAG_END_HEADERS | flags, id, block,
                     raw_put_request(block));
}

/* Writes count copies of a few frames, reading what comes; false: the server closed. */
static bool flood(struct fix *f, const uint8_t *p, size_t n, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (!raw_write(&f->raw, p, n))
            return false;
        if (i % 64 == 0) {
            kit_turn(&f->k);
            raw_read(&f->raw);
        }
        if (f->raw.is_eof)
            return false;
    }
    return !raw_await_eof(&f->raw, 100);
}

static uint32_t goaway_code(struct fix *f)
{
    struct raw_frame r;

    while (raw_next(&f->raw, &r))
        if (r.type == F_GOAWAY)
            return r.p[7];
    return UINT32_MAX;
}

static void check_cut(struct fix *f, uint32_t code)
{
    assert_int_equal(goaway_code(f), code);
    KIT_UNTIL(&f->k, f->server.lost_count == 1);
    assert_int_equal(f->server.lost_err, ERR_CLOSED);
}

static void test_frame_floods(void **state)
{
    static const struct {
        const char *name;
        uint8_t type, flags;
        uint32_t id;
        const char *payload;
        size_t len;
    } cases[] = {
        {"empty DATA", F_DATA, 0, 1, NULL, 0},
        {"DATA of padding", F_DATA, FLAG_PADDED, 1, "\5\0\0\0\0\0", 6},
        {"PING", F_PING, 0, 0, "01234567", 8},
        {"PING ack", F_PING, FLAG_ACK, 0, "01234567", 8},
        {"SETTINGS", F_SETTINGS, 0, 0, NULL, 0},
        {"SETTINGS window", F_SETTINGS, 0, 0, "\0\4\0\1\0\0\0\4\0\0\xff\xff", 12},
        {"PRIORITY", F_PRIORITY, 0, 1, "\0\0\0\0\5", 5},
        {"PRIORITY of idle streams", F_PRIORITY, 0, 77, "\0\0\0\0\5", 5},
        {"WINDOW_UPDATE of the connection", F_WINDOW, 0, 0, "\0\0\0\1", 4},
        {"WINDOW_UPDATE of a stream", F_WINDOW, 0, 1, "\0\0\0\1", 4},
        {"unknown type", 0x42, 0, 0, "x", 1},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fix f;
        uint8_t frame[64];
        size_t n = raw_put_frame(frame, cases[i].type, cases[i].flags, cases[i].id,
                                 cases[i].payload, cases[i].len);

        setup(&f);
        assert_true(open_stream(&f, 1, 0));
        /* Some are no harm. */
        if (!flood(&f, frame, n, 3000))
            fail_msg("%s: cut too early", cases[i].name);
        if (flood(&f, frame, n, 20000))
            fail_msg("%s: not cut", cases[i].name);
        check_cut(&f, H2_ENHANCE_YOUR_CALM);
        teardown(&f);
    }
}

/* Empty DATA with END_STREAM on a stream that is long gone reaches nobody. */
static void test_flood_on_closed_stream(void **state)
{
    struct fix f;
    uint8_t frame[64];
    size_t n = raw_put_frame(frame, F_DATA, FLAG_END_STREAM, 1, NULL, 0);

    (void)state;
    setup(&f);
    assert_true(open_stream(&f, 1, 0));
    KIT_UNTIL(&f.k, f.server.recs_count == 1);
    h2_stream_reset(f.server.last->s, H2_CANCEL);
    (void)raw_await(&f.raw, F_RST);
    assert_false(flood(&f, frame, n, 20000));
    check_cut(&f, H2_ENHANCE_YOUR_CALM);
    teardown(&f);
}

static bool open_and_reset(struct fix *f, unsigned from, unsigned count)
{
    uint8_t block[200], frames[300];
    size_t block_len = raw_put_request(block);

    for (unsigned i = from; i < from + count; i++) {
        size_t n = raw_put_frame(frames, F_HEADERS, FLAG_END_HEADERS, i * 2 + 1, block, block_len);

        n += raw_put_frame(frames + n, F_RST, 0, i * 2 + 1, "\0\0\0\x08", 4);
        if (!raw_write(&f->raw, frames, n))
            return false;
        if (i % 64 == 0) {
            kit_turn(&f->k);
            raw_read(&f->raw);
        }
    }
    return !raw_await_eof(&f->raw, 50);
}

/* CVE-2023-44487. Nine thousand calls that time out at once are legal, endless ones are not. */
static void test_rapid_reset(void **state)
{
    struct fix f;

    (void)state;
    setup(&f);
    assert_true(open_and_reset(&f, 0, 9000));
    assert_int_equal(f.server.recs_count, 9000);
    assert_int_equal(h2_conn_stream_count(f.server.c), 0);
    assert_false(open_and_reset(&f, 9000, 30000));
    check_cut(&f, H2_ENHANCE_YOUR_CALM);
    teardown(&f);
}

static void refuse(struct rec *r)
{
    assert_int_equal(h2_respond(r->s, kit_trailers_only, true), ERR_OK);
}

/* Calls that are answered at once, and over, by a client that reads no answer: useful frames, all
 * of them, but what is queued for it does not grow for ever. */
static void test_answers_that_nobody_reads(void **state)
{
    enum { COUNT = 200000 };
    struct fix f;

    (void)state;
    setup(&f);
    f.server.on_request = refuse;
    /* Without a table what it has us answer is larger than what it asks. */
    assert_true(raw_frame(&f.raw, F_SETTINGS, 0, 0, "\0\1\0\0\0\0", 6));
    for (uint32_t i = 0; i < COUNT && f.server.lost_count == 0; i++) {
        assert_true(open_stream(&f, 2 * i + 1, 0));
        assert_true(raw_frame(&f.raw, F_DATA, FLAG_END_STREAM, 2 * i + 1, "x", 1));
        assert_in_range(f.server.c->control.len, 0, 5 * 1024 * 1024);
    }
    assert_int_equal(f.server.lost_count, 1);
    assert_true(raw_await_eof(&f.raw, 5000));
    check_cut(&f, H2_ENHANCE_YOUR_CALM);
    teardown(&f);
}

static void begin_answer(struct rec *r)
{
    assert_int_equal(h2_respond(r->s, kit_response, false), ERR_OK);
}

/* Watches that were answered: as many as one likes may end at once. */
static void test_many_watches_end_at_once(void **state)
{
    enum { COUNT = 25000, PART = 500 };
    struct fix f;

    (void)state;
    setup(&f);
    f.server.on_request = begin_answer;
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_true(open_stream(&f, 2 * i + 1, 0));
        if (i % PART == PART - 1) {
            KIT_UNTIL(&f.k, h2_conn_stream_count(f.server.c) == i + 1);
            raw_read(&f.raw);
        }
    }
    kit_turn(&f.k);
    for (uint32_t i = 0; i < COUNT; i++)
        assert_true(raw_frame(&f.raw, F_RST, 0, 2 * i + 1, "\0\0\0\010", 4));
    KIT_UNTIL(&f.k, h2_conn_stream_count(f.server.c) == 0);
    assert_int_equal(f.server.lost_count, 0);
    teardown(&f);
}

/* SETTINGS that change the window of many streams cost more than others. */
static void test_settings_cost_by_streams(void **state)
{
    static const struct {
        size_t streams;
        unsigned allowed;
    } cases[] = {{0, 10000}, {255, 10000}, {256 * 9, 1000}, {256 * 999, 10}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct h2__guard g;

        h2__guard_init(&g, 1000);
        for (unsigned k = 0; k < cases[i].allowed; k++)
            assert_true(h2__guard_frame(&g, F_SETTINGS, cases[i].streams, 1000));
        assert_false(h2__guard_frame(&g, F_SETTINGS, cases[i].streams, 1000));
    }
}

/* Resets that the client makes us send: malformed requests. */
static void test_made_to_reset_by_headers(void **state)
{
    struct fix f;
    uint8_t block[200];
    size_t n = raw_put_request(block);
    bool is_cut = false;

    (void)state;
    setup(&f);
    n += raw_put_field(block + n, "Upper", "case");
    for (uint32_t i = 0; i < 2000 && !is_cut; i++) {
        is_cut =
            !raw_frame(&f.raw, F_HEADERS, FLAG_END_HEADERS | FLAG_END_STREAM, i * 2 + 1, block, n);
        if (i == 90) {
            assert_false(raw_await_eof(&f.raw, 20));
            assert_int_equal(f.server.lost_count, 0);
        }
    }
    assert_true(is_cut || raw_await_eof(&f.raw, 1000));
    raw_read(&f.raw);
    check_cut(&f, H2_ENHANCE_YOUR_CALM);
    assert_int_equal(f.server.recs_count, 0);
    teardown(&f);
}

/* CVE-2025-8671: stream windows made to overflow. */
static void test_made_to_reset_by_windows(void **state)
{
    struct fix f;
    uint8_t block[200], frames[300];
    size_t block_len = raw_put_request(block);
    bool is_cut = false;

    (void)state;
    setup(&f);
    for (uint32_t i = 0; i < 2000 && !is_cut; i++) {
        size_t n = raw_put_frame(frames, F_HEADERS, FLAG_END_HEADERS, i * 2 + 1, block, block_len);

        n += raw_put_frame(frames + n, F_WINDOW, 0, i * 2 + 1, "\x7f\xff\xff\xff", 4);
        is_cut = !raw_write(&f.raw, frames, n);
        if (i == 90) {
            assert_false(raw_await_eof(&f.raw, 20));
            assert_int_equal(f.server.recs_count, 91);
        }
    }
    assert_true(is_cut || raw_await_eof(&f.raw, 1000));
    raw_read(&f.raw);
    check_cut(&f, H2_ENHANCE_YOUR_CALM);
    teardown(&f);
}

static void answer(struct rec *r)
{
    rec_answer(r, 50);
}

/* A client at work: each call with a PING and two WINDOW_UPDATEs, as fast as it goes. */
static void test_busy_client_is_not_cut(void **state)
{
    struct fix f;
    uint8_t block[200], frames[400];
    size_t block_len = raw_put_request(block);

    (void)state;
    setup(&f);
    f.server.on_end = answer;
    for (uint32_t i = 0; i < 15000; i++) {
        size_t n = raw_put_frame(frames, F_HEADERS, FLAG_END_HEADERS, i * 2 + 1, block, block_len);

        n += raw_put_frame(frames + n, F_DATA, FLAG_END_STREAM, i * 2 + 1, "\0\0\0\0\1x", 6);
        n += raw_put_frame(frames + n, F_PING, 0, 0, "\2\4\x10\x10\x9\xe\7\7", 8);
        n += raw_put_frame(frames + n, F_WINDOW, 0, 0, "\0\0\0\x32", 4);
        n += raw_put_frame(frames + n, F_WINDOW, 0, i * 2 + 1, "\0\0\0\x32", 4);
        assert_true(raw_write(&f.raw, frames, n));
        if (i % 100 == 0) {
            kit_turn(&f.k);
            raw_read(&f.raw);
            f.raw.at = f.raw.in_len = 0; /* not looked at */
        }
    }
    KIT_UNTIL(&f.k, f.server.recs_count == 15000 && h2_conn_stream_count(f.server.c) == 0);
    assert_int_equal(f.server.lost_count, 0);
    LIST_FOREACH(it, &f.server.recs)
        assert_int_equal(LIST_ENTRY(it, struct rec, node)->how, H2_END_COMPLETE);
    teardown(&f);
}

static void answer_big(struct rec *r)
{
    rec_answer(r, 5000000);
}

/* A reader with a small window that acknowledges every frame of a large answer for the stream and
 * the connection, with a PING on top: three frames for each of ours. */
static void test_eager_reader_is_not_cut(void **state)
{
    struct fix f;
    struct raw_frame r;
    size_t got = 0;

    (void)state;
    setup(&f);
    f.server.on_end = answer_big;
    assert_true(raw_frame(&f.raw, F_SETTINGS, 0, 0, "\0\4\0\0\x03\xe8", 6));
    assert_true(open_stream(&f, 1, 0));
    assert_true(raw_frame(&f.raw, F_DATA, FLAG_END_STREAM, 1, "x", 1));
    while (got < 5000000) {
        uint8_t frames[100];
        size_t n;

        raw_read(&f.raw);
        assert_false(f.raw.is_eof);
        while (raw_next(&f.raw, &r)) {
            uint8_t inc[4] = {0, 0, (uint8_t)(r.len >> 8), (uint8_t)r.len};

            if (r.type != F_DATA || r.len == 0)
                continue;
            assert_true(r.len <= 1000 && kit_is_pattern(r.p, got, r.len));
            got += r.len;
            n = raw_put_frame(frames, F_WINDOW, 0, 0, inc, 4);
            n += raw_put_frame(frames + n, F_WINDOW, 0, 1, inc, 4);
            n += raw_put_frame(frames + n, F_PING, 0, 0, "01234567", 8);
            assert_true(raw_write(&f.raw, frames, n));
        }
        memmove(f.raw.in, f.raw.in + f.raw.at, f.raw.in_len - f.raw.at);
        f.raw.in_len -= f.raw.at;
        f.raw.at = 0;
        kit_turn(&f.k);
    }
    assert_int_equal(f.server.lost_count, 0);
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bucket),
        cmocka_unit_test(test_every_frame_costs),
        cmocka_unit_test(test_frame_floods),
        cmocka_unit_test(test_flood_on_closed_stream),
        cmocka_unit_test(test_rapid_reset),
        cmocka_unit_test(test_answers_that_nobody_reads),
        cmocka_unit_test(test_many_watches_end_at_once),
        cmocka_unit_test(test_settings_cost_by_streams),
        cmocka_unit_test(test_made_to_reset_by_headers),
        cmocka_unit_test(test_made_to_reset_by_windows),
        cmocka_unit_test(test_busy_client_is_not_cut),
        cmocka_unit_test(test_eager_reader_is_not_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
