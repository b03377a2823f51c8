/* SPDX-License-Identifier: Apache-2.0 */
/* Flow control against a model: whatever the order of sends, credits and SETTINGS, every byte
 * comes, and never more than the window lets. */
#include "h2/h2_int.h"
#include "duo.h"

static uint32_t random_seed;

static uint32_t random_below(uint32_t n)
{
    random_seed = random_seed * 1103515245u + 12345u;
    return (random_seed >> 8) % n;
}

static void send_u32(struct duo *d, uint8_t type, uint32_t id, uint32_t v)
{
    uint8_t p[4];

    h2__put_u32(p, v);
    assert_true(raw_frame(&d->raw, type, 0, id, p, 4));
}

static void send_initial(struct duo *d, uint32_t v)
{
    uint8_t p[6] = {0, 4};

    h2__put_u32(p + 2, v);
    assert_true(raw_frame(&d->raw, F_SETTINGS, 0, 0, p, 6));
}

/* --- what we send --- */

#define STREAMS 5u
#define INITIALS_MAX 64u

/* A client's books. A WINDOW_UPDATE counts when it is sent; a new initial size counts when it is
 * sent if it is larger, else when it is acknowledged. */
struct books {
    struct duo d;
    int64_t conn, stream[STREAMS];
    size_t want[STREAMS], got[STREAMS];
    bool is_over[STREAMS];
    uint32_t initials[INITIALS_MAX]; /* the sizes sent, the default first */
    unsigned sent, acked;
    size_t frames;
};

static void change_initial(struct books *b, int64_t by)
{
    for (unsigned i = 0; i < STREAMS; i++)
        b->stream[i] += by;
}

static void books_settings(struct books *b, uint32_t size)
{
    int64_t by = (int64_t)size - b->initials[b->sent];

    if (b->sent + 1 == INITIALS_MAX)
        return;
    b->initials[++b->sent] = size;
    send_initial(&b->d, size);
    if (by > 0)
        change_initial(b, by);
}

static void books_ack(struct books *b)
{
    int64_t by = (int64_t)b->initials[b->acked + 1] - b->initials[b->acked];

    b->acked++;
    if (by < 0)
        change_initial(b, by);
}

static void books_read(struct books *b)
{
    struct raw_frame f;

    kit_turn(&b->d.k);
    raw_read(&b->d.raw);
    assert_false(b->d.raw.is_eof);
    while (raw_next(&b->d.raw, &f)) {
        unsigned i = (f.id - 1) / 2;

        assert_true(f.type != F_GOAWAY && f.type != F_RST);
        if (f.type == F_SETTINGS && (f.flags & FLAG_ACK) != 0 && b->acked < b->sent)
            books_ack(b);
        if (f.type == F_HEADERS && (f.flags & FLAG_END_STREAM) != 0)
            b->is_over[i] = true;
        if (f.type != F_DATA)
            continue;
        assert_true(f.len <= 16384 && f.len <= b->conn && f.len <= b->stream[i]);
        assert_true(kit_is_pattern(f.p, b->got[i], f.len));
        b->conn -= f.len;
        b->stream[i] -= f.len;
        b->got[i] += f.len;
        b->frames++;
        assert_true(b->got[i] <= b->want[i] && !b->is_over[i]);
    }
}

static void books_step(struct books *b)
{
    unsigned i = random_below(STREAMS);
    uint32_t n = 1 + random_below(random_below(4) == 0 ? 40000 : 500);

    switch (random_below(8)) {
    case 0:
        books_settings(b, random_below(3) == 0 ? 0 : random_below(100000));
        break;
    case 1:
    case 2:
        if (!b->is_over[i]) {
            b->stream[i] += n;
            send_u32(&b->d, F_WINDOW, 2 * i + 1, n);
        }
        break;
    case 3:
    case 4:
        b->conn += n;
        send_u32(&b->d, F_WINDOW, 0, n);
        break;
    default:
        books_read(b);
        break;
    }
}

static void books_open(struct books *b)
{
    for (unsigned i = 0; i < STREAMS; i++) {
        b->want[i] = random_below(5) == 0 ? 0 : random_below(400000);
        duo_open(&b->d, 2 * i + 1, FLAG_END_STREAM);
        KIT_UNTIL(&b->d.k, b->d.e.recs_count == i + 1);
        assert_int_equal(h2_respond(b->d.e.last->s, kit_response, false), ERR_OK);
        rec_send(b->d.e.last, 0, b->want[i], 1 + random_below(70000), false);
        assert_int_equal(h2_stream_trailers(b->d.e.last->s, kit_trailers), ERR_OK);
    }
}

static bool books_are_closed(const struct books *b)
{
    for (unsigned i = 0; i < STREAMS; i++)
        if (!b->is_over[i])
            return false;
    return b->acked == b->sent;
}

static void run_sending(uint32_t seed)
{
    static struct books b;

    random_seed = seed;
    b = (struct books){.conn = 65535, .initials = {65535}};
    duo_server(&b.d, NULL);
    change_initial(&b, 65535);
    books_open(&b);
    for (int i = 0; i < 400; i++)
        books_step(&b);
    /* All that is left. */
    books_settings(&b, 1000000);
    b.conn += 1u << 30;
    send_u32(&b.d, F_WINDOW, 0, 1u << 30);
    for (unsigned i = 0; i < STREAMS; i++) {
        b.stream[i] += 500000;
        if (!b.is_over[i])
            send_u32(&b.d, F_WINDOW, 2 * i + 1, 500000);
    }
    for (int i = 0; i < 1000 && !books_are_closed(&b); i++)
        books_read(&b);
    for (unsigned i = 0; i < STREAMS; i++)
        assert_int_equal(b.got[i], b.want[i]);
    assert_true(books_are_closed(&b));
    duo_stop(&b.d);
}

static void test_what_we_send(void **state)
{
    (void)state;
    for (uint32_t seed = 1; seed <= 60; seed++)
        run_sending(seed);
}

/* An end without bytes needs no window: neither trailers nor an empty DATA frame. */
static void test_ends_need_no_window(void **state)
{
    struct duo d;
    struct rec *r;
    struct chain none = {0};
    struct raw_frame f;

    (void)state;
    duo_server(&d, NULL);
    send_initial(&d, 0);
    duo_open(&d, 1, FLAG_END_STREAM);
    KIT_UNTIL(&d.k, d.e.recs_count == 1);
    assert_int_equal(h2_respond(d.e.last->s, kit_response, false), ERR_OK);
    kit_run_ms(&d.k, 10);
    assert_int_equal(h2_stream_trailers(d.e.last->s, kit_trailers), ERR_OK);
    KIT_UNTIL(&d.k, d.e.last->close_count == 1);
    assert_int_equal(d.e.last->how, H2_END_COMPLETE);
    duo_stop(&d);

    duo_client(&d, NULL);
    send_initial(&d, 0);
    (void)raw_await(&d.raw, F_SETTINGS);
    r = end_request(&d.e, kit_request, false);
    kit_run_ms(&d.k, 10);
    assert_int_equal(h2_stream_send(r->s, &none, true), ERR_OK);
    f = raw_await(&d.raw, F_DATA);
    assert_int_equal(f.len, 0);
    assert_int_equal(f.flags, FLAG_END_STREAM);
    duo_stop(&d);
}

/* --- what the peer sends --- */

/* A peer that sends as much as it may, to an owner that gives back what it likes, when it likes. */
static void run_receiving(uint32_t seed, uint32_t window)
{
    static const uint8_t zeros[16384];
    struct duo d;
    struct h2_opts opts = kit_server_opts;
    /* Until our SETTINGS are acknowledged a peer goes by the default. */
    int64_t conn = 65535, stream = 65535, total = 0;
    size_t held = 0, seen = 0, updates = 0;

    random_seed = seed;
    opts.stream_window = window;
    duo_server(&d, &opts);
    d.raw.at = 0;
    stream += (int64_t)window - 65535;
    duo_open(&d, 1, 0);
    KIT_UNTIL(&d.k, d.e.recs_count == 1);
    d.e.last->is_hungry = false;
    for (int i = 0; i < 3000 && total < 6 * (int64_t)window; i++) {
        int64_t max = stream < conn ? stream : conn;
        struct raw_frame f;

        max = max < 16384 ? max : 16384;
        if (max > 0) {
            uint32_t n = 1 + random_below((uint32_t)max);

            assert_true(raw_frame(&d.raw, F_DATA, 0, 1, zeros, n));
            conn -= n;
            stream -= n;
            total += n;
        }
        kit_turn(&d.k);
        held += d.e.last->body_len - seen;
        seen = d.e.last->body_len;
        if (held > 0 && (max <= 0 || random_below(3) == 0)) {
            uint32_t n = 1 + random_below((uint32_t)held);

            h2_stream_credit(d.e.last->s, n);
            held -= n;
        }
        raw_read(&d.raw);
        while (raw_next(&d.raw, &f)) {
            assert_true(f.type != F_GOAWAY && f.type != F_RST);
            if (f.type != F_WINDOW)
                continue;
            *(f.id == 0 ? &conn : &stream) += h2__u32(f.p);
            updates += f.id != 0;
            assert_true(conn <= LIMIT_CONN_WINDOW && stream <= window);
        }
    }
    assert_true(total >= 6 * (int64_t)window);
    assert_true(updates <= 2 * (size_t)total / window + 1);
    duo_stop(&d);
}

static void test_what_the_peer_sends(void **state)
{
    (void)state;
    for (uint32_t seed = 1; seed <= 5; seed++) {
        run_receiving(seed, 65535);
        run_receiving(seed, 200000);
        run_receiving(seed, 1000); /* less than the default */
    }
}

/* A peer that has not seen our SETTINGS yet goes by the default window, which is larger than ours
 * here; once it has acknowledged them, by ours. */
static void test_default_window_before_the_ack(void **state)
{
    static const uint8_t zeros[16384];
    struct h2_opts opts = kit_server_opts;
    struct duo d;
    char text[30];
    int fd[2];

    (void)state;
    opts.stream_window = 1000;
    kit_init(&d.k);
    kit_socketpair(fd);
    end_init(&d.e, &d.k, fd[0], &opts);
    raw_init(&d.raw, &d.k, fd[1]);
    raw_hello(&d.raw);
    duo_open(&d, 1, 0);
    KIT_UNTIL(&d.k, d.e.recs_count == 1);
    d.e.last->is_hungry = false;
    for (int left = 65535; left > 0; left -= 16384)
        assert_true(raw_frame(&d.raw, F_DATA, 0, 1, zeros, left < 16384 ? (size_t)left : 16384));
    duo_outcome(&d, 1, text, sizeof text);
    assert_string_equal(text, "alive");
    assert_int_equal(d.e.last->body_len, 65535);
    assert_true(raw_frame(&d.raw, F_SETTINGS, FLAG_ACK, 0, NULL, 0));
    /* What is empty needs no window, also below nothing. */
    assert_true(raw_frame(&d.raw, F_DATA, 0, 1, NULL, 0));
    duo_outcome(&d, 1, text, sizeof text);
    assert_string_equal(text, "alive");
    /* The peer's window is 65535 below nothing; what is given back counts from there. */
    h2_stream_credit(d.e.last->s, 65535);
    assert_true(raw_frame(&d.raw, F_DATA, 0, 1, zeros, 1000));
    duo_outcome(&d, 1, text, sizeof text);
    assert_string_equal(text, "alive");
    assert_true(raw_frame(&d.raw, F_DATA, 0, 1, zeros, 1));
    duo_outcome(&d, 1, text, sizeof text);
    assert_string_equal(text, "rst 3");
    duo_stop(&d);
}

static void send_data(struct duo *d, uint32_t len)
{
    static const uint8_t zeros[16384];

    for (uint32_t n, left = len; left > 0; left -= n) {
        n = left < sizeof zeros ? left : (uint32_t)sizeof zeros;
        assert_true(raw_frame(&d->raw, F_DATA, 0, 1, zeros, n));
    }
}

/* An owner that gives back more than has come does not open the window any further. */
static void test_credit_beyond_what_came(void **state)
{
    static const uint32_t came[] = {1, 40000, 65535};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(came); i++) {
        struct h2_opts opts = kit_server_opts;
        struct duo d;
        char text[30];

        opts.stream_window = 65535;
        duo_server(&d, &opts);
        duo_open(&d, 1, 0);
        KIT_UNTIL(&d.k, d.e.recs_count == 1);
        d.e.last->is_hungry = false;
        send_data(&d, came[i]);
        KIT_UNTIL(&d.k, d.e.last->body_len == came[i]);
        h2_stream_credit(d.e.last->s, came[i] + 70000);
        h2_stream_credit(d.e.last->s, came[i]);
        h2_stream_credit(d.e.last->s, 1u << 20);
        send_data(&d, came[i] < 65535 / 2 ? 65535 - came[i] : 65535); /* below that none is told */
        duo_outcome(&d, 1, text, sizeof text);
        assert_string_equal(text, "alive");
        send_data(&d, 1);
        duo_outcome(&d, 1, text, sizeof text);
        assert_string_equal(text, "rst 3");
        duo_stop(&d);
    }
}

/* A window that is widened meanwhile is as good as one that was so large from the begin: to the
 * byte, whatever had come by then. */
static void test_a_wider_window(void **state)
{
    static const uint8_t zeros[16384];
    static const uint32_t before[] = {0, 1, 40000, 65535}, widths[] = {65536, 100000, 1u << 20};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(before) * ARRAY_LEN(widths); i++) {
        uint32_t first = before[i % ARRAY_LEN(before)], width = widths[i / ARRAY_LEN(before)];
        struct h2_opts opts = kit_server_opts;
        struct duo d;
        char text[30];

        opts.stream_window = 65535;
        duo_server(&d, &opts);
        duo_open(&d, 1, 0);
        KIT_UNTIL(&d.k, d.e.recs_count == 1);
        d.e.last->is_hungry = false;
        for (uint32_t n, at = 0; at < width; at += n) {
            uint32_t end = at < first ? first : width;

            if (at == first) {
                KIT_UNTIL(&d.k, d.e.last->body_len == first);
                h2_stream_widen(d.e.last->s, width);
                h2_stream_widen(d.e.last->s, width / 2); /* never narrower */
            }
            n = end - at < sizeof zeros ? end - at : (uint32_t)sizeof zeros;
            assert_true(raw_frame(&d.raw, F_DATA, 0, 1, zeros, n));
        }
        duo_outcome(&d, 1, text, sizeof text);
        assert_string_equal(text, "alive");
        h2_stream_credit(d.e.last->s, width / 2 + 1);
        assert_true(raw_frame(&d.raw, F_DATA, 0, 1, zeros, 1));
        duo_outcome(&d, 1, text, sizeof text);
        assert_string_equal(text, "alive");
        for (uint32_t n, left = width / 2; left > 0; left -= n) {
            n = left < sizeof zeros ? left : (uint32_t)sizeof zeros;
            assert_true(raw_frame(&d.raw, F_DATA, 0, 1, zeros, n));
        }
        duo_outcome(&d, 1, text, sizeof text);
        assert_string_equal(text, "alive");
        assert_true(raw_frame(&d.raw, F_DATA, 0, 1, "x", 1));
        duo_outcome(&d, 1, text, sizeof text);
        assert_string_equal(text, "rst 3");
        duo_stop(&d);
    }
}

/* One byte more than the stream's window, however it is cut into frames. */
static void test_one_byte_too_many(void **state)
{
    static const uint8_t zeros[16384];

    (void)state;
    for (uint32_t piece = 1; piece <= 16384; piece = piece * 2 + 1) {
        struct duo d;
        struct h2_opts opts = kit_server_opts;
        char text[30];

        opts.stream_window = 70000;
        duo_server(&d, &opts);
        duo_open(&d, 1, 0);
        KIT_UNTIL(&d.k, d.e.recs_count == 1);
        d.e.last->is_hungry = false;
        for (uint32_t n, at = 0; at < 70000; at += n) {
            n = 70000 - at < piece ? 70000 - at : piece;
            assert_true(raw_frame(&d.raw, F_DATA, 0, 1, zeros, n));
        }
        duo_outcome(&d, 1, text, sizeof text);
        assert_string_equal(text, "alive");
        assert_true(raw_frame(&d.raw, F_DATA, 0, 1, "x", 1));
        duo_outcome(&d, 1, text, sizeof text);
        assert_string_equal(text, "rst 3");
        assert_int_equal(d.e.last->body_len, 70000);
        assert_int_equal(d.e.last->code, H2_FLOW_CONTROL_ERROR);
        duo_stop(&d);
    }
}

/* The same for the connection, whose window many streams share. Its credit goes back at once, so
 * the peer has to send it all in one go. */
static void test_connection_overrun(void **state)
{
    static uint8_t frames[64 * 1024];
    struct h2_opts opts = kit_server_opts;
    struct duo d;
    size_t n = 0;
    char text[30];

    (void)state;
    opts.conn_window = 65535;
    opts.max_frame_size = 1u << 20;
    duo_server(&d, &opts);
    duo_open(&d, 1, 0);
    /* The head alone announces more than the window. */
    h2__put_head(frames, 65536, H2__DATA, 0, 1);
    n = H2__HEAD_LEN;
    assert_true(raw_write(&d.raw, frames, n));
    duo_outcome(&d, 1, text, sizeof text);
    assert_string_equal(text, "goaway 3");
    duo_stop(&d);
}

/* --- windows that overflow --- */

static void test_overflow(void **state)
{
    static const struct {
        uint32_t id, first, second;
        const char *wanted;
    } cases[] = {
        {0, 0x7fffffff - 65535, 0, "alive"}, {0, 0x7fffffff - 65535, 1, "goaway 3"},
        {1, 0x7fffffff - 65535, 0, "alive"}, {1, 0x7fffffff - 65535, 1, "rst 3"},
        {0, 0x7fffffff, 0, "goaway 3"},      {1, 0x7fffffff, 0, "rst 3"},
        {0, 0x80000001, 0, "alive"}, /* the first bit is reserved */
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct duo d;
        char text[30];

        duo_server(&d, NULL);
        duo_open(&d, 1, 0);
        send_u32(&d, F_WINDOW, cases[i].id, cases[i].first);
        if (cases[i].second != 0)
            send_u32(&d, F_WINDOW, cases[i].id, cases[i].second);
        duo_outcome(&d, 1, text, sizeof text);
        assert_string_equal(text, cases[i].wanted);
        duo_stop(&d);
    }
}

static void test_zero_increment(void **state)
{
    struct duo d;
    char text[30];

    (void)state;
    duo_server(&d, NULL);
    duo_open(&d, 1, 0);
    send_u32(&d, F_WINDOW, 1, 0);
    duo_outcome(&d, 1, text, sizeof text);
    assert_string_equal(text, "rst 1");
    send_u32(&d, F_WINDOW, 0, 0);
    duo_outcome(&d, 1, text, sizeof text);
    assert_string_equal(text, "goaway 1");
    duo_stop(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_we_send),
        cmocka_unit_test(test_ends_need_no_window),
        cmocka_unit_test(test_what_the_peer_sends),
        cmocka_unit_test(test_credit_beyond_what_came),
        cmocka_unit_test(test_a_wider_window),
        cmocka_unit_test(test_one_byte_too_many),
        cmocka_unit_test(test_connection_overrun),
        cmocka_unit_test(test_overflow),
        cmocka_unit_test(test_zero_increment),
        cmocka_unit_test(test_default_window_before_the_ack),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
