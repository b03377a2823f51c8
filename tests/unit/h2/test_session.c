/* SPDX-License-Identifier: Apache-2.0 */
/* The wire: input cut anywhere, limits, what is announced, what is refused. */
#include <sys/socket.h>

#include "base/metrics.h"
#include "kit.h"

struct fix {
    struct kit k;
    struct end e; /* h2, server or client */
    struct raw raw;
};

static void setup_server_opts(struct fix *f, const struct h2_opts *opts)
{
    int fd[2];

    kit_init(&f->k);
    kit_socketpair(fd);
    end_init(&f->e, &f->k, fd[0], opts);
    raw_init(&f->raw, &f->k, fd[1]);
}

static void setup_server(struct fix *f)
{
    setup_server_opts(f, &kit_server_opts);
    raw_hello(&f->raw);
    (void)raw_await(&f->raw, F_SETTINGS);
    assert_true(raw_frame(&f->raw, F_SETTINGS, FLAG_ACK, 0, NULL, 0));
}

/* h2 is the client, the raw peer the server. */
static void setup_client(struct fix *f)
{
    setup_server_opts(f, &kit_client_opts);
    assert_true(raw_frame(&f->raw, F_SETTINGS, 0, 0, NULL, 0));
    KIT_UNTIL(&f->k, f->e.ready_count == 1);
    raw_read(&f->raw);
    assert_memory_equal(f->raw.in, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
    f->raw.at = 24;
}

static void teardown(struct fix *f)
{
    end_close(&f->e);
    raw_fini(&f->raw);
    kit_fini(&f->k);
}

static void answer(struct rec *r)
{
    rec_answer(r, 70);
}

/* A client's whole connection: preface, a request in HEADERS and CONTINUATION, padded and empty
 * DATA, trailers. */
static size_t put_script(uint8_t *to)
{
    uint8_t block[200], trailers[50];
    size_t block_len = raw_put_request(block);
    size_t trailers_len = raw_put_field(trailers, "x-check", "sum");
    size_t n = 24;

    memcpy(to, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
    n += raw_put_frame(to + n, F_SETTINGS, 0, 0, NULL, 0);
    n += raw_put_frame(to + n, F_HEADERS, 0, 1, block, 20);
    n += raw_put_frame(to + n, F_CONT, FLAG_END_HEADERS, 1, block + 20, block_len - 20);
    n += raw_put_frame(to + n, F_DATA, 0, 1, "hel", 3);
    n += raw_put_frame(to + n, F_DATA, FLAG_PADDED, 1, "\4lo \0\0\0\0", 8);
    n += raw_put_frame(to + n, F_PING, 0, 0, "01234567", 8);
    n += raw_put_frame(to + n, F_DATA, 0, 1, NULL, 0);
    n += raw_put_frame(to + n, 0x77, 3, 1, "what?", 5);
    n += raw_put_frame(to + n, F_DATA, 0, 1, "world", 5);
    n += raw_put_frame(to + n, F_HEADERS, FLAG_END_HEADERS | FLAG_END_STREAM, 1, trailers,
                       trailers_len);
    return n;
}

static void check_script(struct fix *f)
{
    struct rec *r;
    struct raw_frame ping;

    KIT_UNTIL(&f->k, f->e.recs_count == 1 && f->e.last->close_count == 1);
    r = f->e.last;
    assert_string_equal(r->headers, ":method: POST\n:scheme: http\n:path: /a.B/C\n:authority: x\n");
    assert_int_equal(r->body_len, 11);
    assert_memory_equal(r->body, "hello world", 11);
    assert_string_equal(r->trailers, "x-check: sum\n");
    assert_int_equal(r->trailers_count, 1);
    assert_int_equal(r->end_count, 0);
    assert_int_equal(r->how, H2_END_COMPLETE);
    ping = raw_await(&f->raw, F_PING);
    assert_int_equal(ping.flags, FLAG_ACK);
    assert_memory_equal(ping.p, "01234567", 8);
}

static void test_byte_by_byte(void **state)
{
    struct fix f;
    uint8_t script[600];
    size_t n = put_script(script);

    (void)state;
    setup_server_opts(&f, &kit_server_opts);
    f.e.on_end = answer;
    for (size_t i = 0; i < n; i++) {
        assert_true(raw_write(&f.raw, script + i, 1));
        kit_turn(&f.k);
    }
    check_script(&f);
    teardown(&f);
}

static void test_cut_in_two_anywhere(void **state)
{
    uint8_t script[600];
    size_t n = put_script(script);

    (void)state;
    for (size_t cut = 1; cut < n; cut++) {
        struct fix f;

        setup_server_opts(&f, &kit_server_opts);
        f.e.on_end = answer;
        assert_true(raw_write(&f.raw, script, cut));
        kit_turn(&f.k);
        kit_turn(&f.k);
        assert_true(raw_write(&f.raw, script + cut, n - cut));
        check_script(&f);
        teardown(&f);
    }
}

/* The connection ends in the middle of anything: lost, once, and nothing is left. */
static void test_ends_anywhere(void **state)
{
    uint8_t script[600];
    size_t n = put_script(script);

    (void)state;
    for (size_t cut = 0; cut < n; cut++) {
        struct fix f;

        setup_server_opts(&f, &kit_server_opts);
        assert_true(raw_write(&f.raw, script, cut));
        kit_turn(&f.k);
        assert_int_equal(shutdown(f.raw.fd, SHUT_RDWR), 0);
        KIT_UNTIL(&f.k, f.e.c == NULL);
        assert_int_equal(f.e.lost_count, 1);
        teardown(&f);
    }
}

static uint32_t setting(const struct raw_frame *f, uint16_t id)
{
    for (uint32_t i = 0; i + 6 <= f->len; i += 6)
        if ((f->p[i] << 8 | f->p[i + 1]) == id)
            return (uint32_t)f->p[i + 2] << 24 | (uint32_t)f->p[i + 3] << 16 |
                   (uint32_t)f->p[i + 4] << 8 | f->p[i + 5];
    return UINT32_MAX;
}

static void test_settings_of_server(void **state)
{
    struct fix f;
    struct raw_frame s;

    (void)state;
    setup_server_opts(&f, &kit_server_opts);
    s = raw_await(&f.raw, F_SETTINGS);
    assert_int_equal(f.raw.at, 9 + s.len);        /* the first frame */
    assert_int_equal(setting(&s, 3), UINT32_MAX); /* as etcd's */
    assert_int_equal(setting(&s, 4), LIMIT_STREAM_WINDOW);
    assert_int_equal(setting(&s, 5), 16384);
    assert_int_equal(setting(&s, 6), LIMIT_HEADER_BYTES);
    s = raw_await(&f.raw, F_WINDOW);
    assert_int_equal(s.id, 0);
    assert_int_equal(s.p[0] << 24 | s.p[1] << 16 | s.p[2] << 8 | s.p[3], LIMIT_CONN_WINDOW - 65535);
    teardown(&f);
}

static void test_settings_of_client(void **state)
{
    struct fix f;
    struct raw_frame s;

    (void)state;
    setup_client(&f);
    s = raw_await(&f.raw, F_SETTINGS);
    assert_int_equal(f.raw.at, 24 + 9 + s.len);
    assert_int_equal(setting(&s, 2), 0);
    assert_int_equal(setting(&s, 3), UINT32_MAX);
    assert_int_equal(setting(&s, 4), LIMIT_STREAM_WINDOW);
    assert_int_equal(setting(&s, 5), 1024 * 1024);
    teardown(&f);
}

/* A request with count fields "x: value" of value_len bytes behind the four that it needs. */
static void send_fields(struct fix *f, uint32_t id, uint8_t flags, unsigned count, size_t value_len)
{
    static uint8_t block[2 * LIMIT_HEADER_BYTES];
    char value[127];
    size_t n = raw_put_request(block), at = 0;
    bool is_first = true;

    memset(value, 'v', sizeof value);
    value[value_len] = '\0';
    for (unsigned i = 0; i < count; i++)
        n += raw_put_field(block + n, "x", value);
    while (at < n) {
        size_t part = n - at < 16384 ? n - at : 16384;
        uint8_t fl = at + part == n ? FLAG_END_HEADERS : 0;

        assert_true(raw_frame(&f->raw, is_first ? F_HEADERS : F_CONT,
                              is_first ? (uint8_t)(fl | flags) : fl, id, block + at, part));
        is_first = false;
        at += part;
    }
}

static void check_431(struct fix *f, uint32_t id)
{
    struct raw_frame h = raw_await(&f->raw, F_HEADERS);

    assert_int_equal(h.id, id);
    assert_int_equal(h.flags, FLAG_END_HEADERS | FLAG_END_STREAM);
    /* Its first time a literal with the name's index 8, later an entry of the dynamic table. */
    if (h.len >= 5)
        assert_memory_equal(h.p, "\x48\x03\x34\x33\x31", 5);
    else
        assert_true(h.len == 1 && h.p[0] >= 0x80 + 62);
    assert_int_equal(f->e.lost_count, 0);
}

static void test_header_limits(void **state)
{
    struct fix f;
    struct raw_frame r;
    unsigned seen = 0;

    (void)state;
    setup_server(&f);
    f.e.on_end = answer;
    /* 1,000 fields are allowed, 1,001 are not. */
    send_fields(&f, 1, 0, 996, 1);
    seen++;
    KIT_UNTIL(&f.k, f.e.recs_count == seen);
    send_fields(&f, 3, FLAG_END_STREAM, 997, 1);
    check_431(&f, 3);
    /* 128 KiB: four fields of 181 bytes together, and 99 + 32 + 1 for each other. */
    send_fields(&f, 5, 0, (LIMIT_HEADER_BYTES - 181) / 132, 99);
    seen++;
    KIT_UNTIL(&f.k, f.e.recs_count == seen);
    send_fields(&f, 7, FLAG_END_STREAM, (LIMIT_HEADER_BYTES - 181) / 132 + 1, 99);
    check_431(&f, 7);
    /* With a body to come: answered, and the client is told to stop. */
    send_fields(&f, 11, 0, 1100, 1);
    check_431(&f, 11);
    r = raw_await(&f.raw, F_RST);
    assert_int_equal(r.id, 11);
    assert_int_equal(r.p[3], H2_NO_ERROR);
    assert_true(raw_frame(&f.raw, F_DATA, FLAG_END_STREAM, 11, "late", 4));
    /* The owner heard of none of them, and the connection works. */
    assert_int_equal(f.e.recs_count, seen);
    send_fields(&f, 13, FLAG_END_STREAM, 0, 1);
    KIT_UNTIL(&f.k, f.e.recs_count == seen + 1);
    teardown(&f);
}

/* One field of 64 KiB (a token), its block byte by byte, which is the worst for the counting of
 * CONTINUATION frames. */
static void test_large_field(void **state)
{
    static uint8_t block[70000], frames[80000];
    struct fix f;
    size_t n = raw_put_request(block), out = 0;

    (void)state;
    setup_server(&f);
    n += raw_put_field(block + n, "token", "");
    block[n - 1] = 127; /* a value of 127 + 65409 bytes: RFC 7541 section 5.1 */
    block[n++] = 0x80 | (65409 & 0x7f);
    block[n++] = 0x80 | (65409 >> 7 & 0x7f);
    block[n++] = 65409 >> 14;
    memset(block + n, 't', 65536);
    n += 65536;
    for (size_t at = 0; at < n; at += 16384) {
        bool is_last = n - at <= 16384;

        out += raw_put_frame(
            frames + out, at == 0 ? F_HEADERS : F_CONT,
            (uint8_t)((at == 0 ? FLAG_END_STREAM : 0) | (is_last ? FLAG_END_HEADERS : 0)), 1,
            block + at, is_last ? n - at : 16384);
    }
    for (size_t i = 0; i < out; i++) {
        bool is_near_head = i % 16393 < 10 || i % 16393 > 16383;
        size_t part = is_near_head ? 1 : 16384 - i % 16393;

        part = part < out - i ? part : out - i;
        assert_true(raw_write(&f.raw, frames + i, part));
        kit_turn(&f.k);
        i += part - 1;
    }
    KIT_UNTIL(&f.k, f.e.recs_count == 1);
    assert_int_equal(strlen(f.e.last->headers),
                     strlen(":method: POST\n:scheme: http\n:path: /a.B/C\n:authority: x\n") +
                         strlen("token: \n") + 65536);
    teardown(&f);
}

static void test_trailer_limits(void **state)
{
    struct fix f;
    struct raw_frame r;
    static uint8_t block[8000];
    size_t n = 0;

    (void)state;
    setup_server(&f);
    send_fields(&f, 1, 0, 0, 1);
    for (int i = 0; i < 1001; i++)
        n += raw_put_field(block + n, "x", "y");
    assert_true(raw_frame(&f.raw, F_HEADERS, FLAG_END_HEADERS | FLAG_END_STREAM, 1, block, n));
    r = raw_await(&f.raw, F_RST);
    assert_int_equal(r.p[3], H2_ENHANCE_YOUR_CALM);
    KIT_UNTIL(&f.k, f.e.last->close_count == 1);
    assert_int_equal(f.e.last->trailers_count, 0);
    assert_int_equal(f.e.last->how, H2_END_RESET);
    teardown(&f);
}

/* Streams above the announced number: REFUSED_STREAM each, also after the client has acknowledged
 * the SETTINGS, and the others go on. */
static void test_stream_limit(void **state)
{
    struct fix f;
    struct h2_opts opts = kit_server_opts;

    (void)state;
    opts.max_streams = 5;
    setup_server_opts(&f, &opts);
    raw_hello(&f.raw);
    (void)raw_await(&f.raw, F_SETTINGS);
    assert_true(raw_frame(&f.raw, F_SETTINGS, FLAG_ACK, 0, NULL, 0));
    f.e.on_end = answer;
    for (uint32_t i = 0; i < 5; i++)
        send_fields(&f, i * 2 + 1, 0, 0, 1);
    KIT_UNTIL(&f.k, f.e.recs_count == 5);
    for (uint32_t i = 5; i < 40; i++) {
        struct raw_frame r;

        send_fields(&f, i * 2 + 1, FLAG_END_STREAM, 0, 1);
        r = raw_await(&f.raw, F_RST);
        assert_int_equal(r.id, i * 2 + 1);
        assert_int_equal(r.p[3], H2_REFUSED_STREAM);
    }
    assert_int_equal(f.e.recs_count, 5);
    assert_true(raw_frame(&f.raw, F_DATA, FLAG_END_STREAM, 1, "x", 1));
    (void)raw_await(&f.raw, F_DATA);
    KIT_UNTIL(&f.k, h2_conn_stream_count(f.e.c) == 4);
    send_fields(&f, 101, FLAG_END_STREAM, 0, 1);
    KIT_UNTIL(&f.k, f.e.recs_count == 6);
    teardown(&f);
}

/* Three times the window in padding: it is given back without the owner. */
static void test_padding_is_credited(void **state)
{
    struct fix f;
    uint8_t payload[257] = {255, 'x'};

    (void)state;
    setup_server(&f);
    send_fields(&f, 1, 0, 0, 1);
    KIT_UNTIL(&f.k, f.e.recs_count == 1);
    for (size_t i = 0; i < 3 * LIMIT_STREAM_WINDOW / sizeof payload; i++) {
        assert_true(raw_frame(&f.raw, F_DATA, FLAG_PADDED, 1, payload, sizeof payload));
        if (i % 16 == 0)
            kit_turn(&f.k);
    }
    KIT_UNTIL(&f.k, f.e.last->body_len == 3 * LIMIT_STREAM_WINDOW / sizeof payload);
    assert_int_equal(f.e.last->close_count + f.e.lost_count, 0);
    teardown(&f);
}

/* More than the window: a flow control error of the stream. */
static void test_window_overrun(void **state)
{
    struct fix f;
    static uint8_t payload[16384];

    (void)state;
    setup_server(&f);
    send_fields(&f, 1, 0, 0, 1);
    KIT_UNTIL(&f.k, f.e.recs_count == 1);
    f.e.last->is_hungry = false;
    for (size_t i = 0; i < 80 && !f.raw.is_eof; i++) {
        (void)raw_frame(&f.raw, F_DATA, 0, 1, payload, sizeof payload);
        kit_turn(&f.k);
    }
    KIT_UNTIL(&f.k, f.e.last->close_count == 1);
    assert_int_equal(f.e.last->body_len, LIMIT_STREAM_WINDOW);
    assert_int_equal(f.e.last->code, H2_FLOW_CONTROL_ERROR);
    teardown(&f);
}

/* What we send is at most 16 KiB a frame, even if the peer would take more. */
static void test_frame_size(void **state)
{
    struct fix f;
    struct raw_frame r;
    size_t got = 0;

    (void)state;
    setup_server(&f);
    assert_true(raw_frame(&f.raw, F_SETTINGS, 0, 0, "\0\5\0\x10\0\0\0\4\0\x10\0\0", 12));
    assert_true(raw_frame(&f.raw, F_WINDOW, 0, 0, "\0\x10\0\0", 4));
    send_fields(&f, 1, FLAG_END_STREAM, 0, 1);
    KIT_UNTIL(&f.k, f.e.recs_count == 1);
    rec_answer(f.e.last, 500000);
    while (got < 500000) {
        r = raw_await(&f.raw, F_DATA);
        assert_in_range(r.len, 1, 16384);
        assert_true(kit_is_pattern(r.p, got, r.len));
        got += r.len;
    }
    teardown(&f);
}

/* Slab-sized pieces go through both ends without a copy. */
static void test_no_copies(void **state)
{
    struct kit k;
    struct end client, server;
    struct rec *r;
    uint64_t copied;

    (void)state;
    kit_init(&k);
    end_pair(&k, &client, NULL, &server, NULL);
    KIT_UNTIL(&k, client.ready_count == 1);
    r = end_request(&client, kit_request, false);
    copied = metric_get(METRIC_bytes_copied_total);
    rec_send(r, 0, 16 * 65536, 65536, true);
    KIT_UNTIL(&k, server.recs_count == 1 && server.last->end_count == 1);
    assert_int_equal(server.last->body_len, 16 * 65536);
    /* The window may cut one frame short; the cut leaves no more than one small piece. */
    assert_in_range(metric_get(METRIC_bytes_copied_total) - copied, 0, 2 * LIMIT_SMALL_COPY);
    end_close(&client);
    end_close(&server);
    kit_fini(&k);
}

/* Nothing but credentials is marked never-indexed (RFC 7541 section 6.2.3), and the second request
 * is much shorter than the first. */
static void test_hpack(void **state)
{
    struct fix f;
    struct raw_frame first, second;

    (void)state;
    setup_client(&f);
    (void)end_request(&f.e, kit_request, true);
    first = raw_await(&f.raw, F_HEADERS);
    assert_non_null(memmem(first.p, first.len, "\x1f\x08", 2)); /* authorization is entry 23 */
    (void)end_request(&f.e, kit_request, true);
    second = raw_await(&f.raw, F_HEADERS);
    assert_true(second.len < 40 && second.len * 2 < first.len);
    teardown(&f);
}

static size_t put_answer(uint8_t *to, const char *status)
{
    size_t n = raw_put_field(to, ":status", status);

    return n + raw_put_field(to + n, "content-type", "application/grpc");
}

/* 100 and 103 are dropped; a grpc-message with a space at its end is kept. */
static void test_informational(void **state)
{
    struct fix f;
    struct rec *r;
    uint8_t block[200];
    size_t n;

    (void)state;
    setup_client(&f);
    r = end_request(&f.e, kit_request, true);
    (void)raw_await(&f.raw, F_HEADERS);
    assert_true(raw_frame(&f.raw, F_HEADERS, FLAG_END_HEADERS, 1, block,
                          raw_put_field(block, ":status", "100")));
    assert_true(raw_frame(&f.raw, F_HEADERS, FLAG_END_HEADERS, 1, block,
                          raw_put_field(block, ":status", "103")));
    kit_run_ms(&f.k, 20);
    assert_int_equal(r->headers_count + r->trailers_count, 0);
    assert_true(raw_frame(&f.raw, F_HEADERS, FLAG_END_HEADERS, 1, block, put_answer(block, "200")));
    assert_true(raw_frame(&f.raw, F_DATA, 0, 1, "abc", 3));
    n = raw_put_field(block, "grpc-message", "ends with a space ");
    assert_true(raw_frame(&f.raw, F_HEADERS, FLAG_END_HEADERS | FLAG_END_STREAM, 1, block, n));
    KIT_UNTIL(&f.k, r->close_count == 1);
    assert_string_equal(r->headers, ":status: 200\ncontent-type: application/grpc\n");
    assert_string_equal(r->trailers, "grpc-message: ends with a space \n");
    assert_int_equal(r->headers_count, 1);
    assert_int_equal(r->how, H2_END_COMPLETE);
    teardown(&f);
}

static void reset_it(struct rec *r)
{
    h2_stream_reset(r->s, H2_CANCEL);
}

/* An owner that lets go of a stream in its last callback makes no RST_STREAM of it. */
static void test_no_reset_of_complete_streams(void **state)
{
    struct fix f;
    struct rec *r;
    struct raw_frame frame;
    uint8_t block[200];

    (void)state;
    setup_client(&f);
    f.e.on_end = reset_it;
    r = end_request(&f.e, kit_request, true);
    (void)raw_await(&f.raw, F_HEADERS);
    assert_true(raw_frame(&f.raw, F_HEADERS, FLAG_END_HEADERS, 1, block, put_answer(block, "200")));
    assert_true(raw_frame(&f.raw, F_HEADERS, FLAG_END_HEADERS | FLAG_END_STREAM, 1, block,
                          raw_put_field(block, "grpc-status", "0")));
    KIT_UNTIL(&f.k, r->close_count == 1);
    assert_int_equal(r->how, H2_END_COMPLETE);
    assert_int_equal(r->code, H2_NO_ERROR);
    kit_run_ms(&f.k, 20);
    raw_read(&f.raw);
    while (raw_next(&f.raw, &frame))
        assert_int_not_equal(frame.type, F_RST);
    teardown(&f);
}

/* An answer's field list above 1 MiB (by many references to one table entry). */
static void test_answer_header_limit(void **state)
{
    struct fix f;
    struct rec *r;
    struct raw_frame rst;
    static uint8_t block[16384];
    char value[126];
    size_t n;

    (void)state;
    setup_client(&f);
    r = end_request(&f.e, kit_request, true);
    (void)raw_await(&f.raw, F_HEADERS);
    memset(value, 'v', sizeof value);
    value[125] = '\0';
    n = put_answer(block, "200");
    n += raw_put_field(block + n, "x", value);
    block[n - 129] = 0x40; /* the field's first byte: into the table (RFC 7541 section 6.2.1) */
    memset(block + n, 0x80 | 62, 10000);
    assert_true(raw_frame(&f.raw, F_HEADERS, FLAG_END_HEADERS, 1, block, n + 10000));
    rst = raw_await(&f.raw, F_RST);
    assert_int_equal(rst.p[3], H2_INTERNAL_ERROR);
    KIT_UNTIL(&f.k, r->close_count == 1);
    assert_int_equal(r->headers_count, 0);
    assert_int_equal(f.e.lost_count, 0);
    teardown(&f);
}

/* What ends a connection: GOAWAY with the code, on_lost, and the descriptor closed. */
static void test_connection_errors(void **state)
{
    static const struct {
        uint8_t type, flags;
        uint32_t id;
        const char *payload;
        size_t len;
        uint32_t code;
    } cases[] = {
        {F_DATA, 0, 0, "x", 1, 1},
        {F_DATA, 0, 5, "x", 1, 1},                                          /* idle stream */
        {F_HEADERS, FLAG_END_HEADERS, 2, "x", 1, 1},                        /* even id */
        {F_HEADERS, FLAG_END_HEADERS, 1, "\xff\xff\xff\xff\xff\xff", 6, 9}, /* HPACK */
        {F_PING, 0, 0, "short", 5, 6},
        {F_PUSH, FLAG_END_HEADERS, 1, "\0\0\0\2x", 5, 1},
        {F_CONT, FLAG_END_HEADERS, 1, "x", 1, 1},
        {F_WINDOW, 0, 0, "\0\0\0\0", 4, 1},
        {F_WINDOW, 0, 0, "\x7f\xff\xff\xff", 4, 3},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fix f;
        struct raw_frame g;

        setup_server(&f);
        assert_true(raw_frame(&f.raw, cases[i].type, cases[i].flags, cases[i].id, cases[i].payload,
                              cases[i].len));
        g = raw_await(&f.raw, F_GOAWAY);
        assert_int_equal(g.p[7], cases[i].code);
        KIT_UNTIL(&f.k, f.e.lost_count == 1);
        assert_int_equal(f.e.lost_err, ERR_CLOSED);
        assert_true(raw_await_eof(&f.raw, 2000));
        teardown(&f);
    }
}

static void test_not_http2(void **state)
{
    struct fix f;

    (void)state;
    setup_server_opts(&f, &kit_server_opts);
    assert_true(raw_write(&f.raw, "GET /health HTTP/1.1\r\nHost: x\r\n\r\n", 34));
    KIT_UNTIL(&f.k, f.e.lost_count == 1);
    assert_true(raw_await_eof(&f.raw, 2000));
    assert_int_equal(f.e.recs_count, 0);
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_byte_by_byte),
        cmocka_unit_test(test_cut_in_two_anywhere),
        cmocka_unit_test(test_ends_anywhere),
        cmocka_unit_test(test_settings_of_server),
        cmocka_unit_test(test_settings_of_client),
        cmocka_unit_test(test_header_limits),
        cmocka_unit_test(test_large_field),
        cmocka_unit_test(test_trailer_limits),
        cmocka_unit_test(test_stream_limit),
        cmocka_unit_test(test_padding_is_credited),
        cmocka_unit_test(test_window_overrun),
        cmocka_unit_test(test_frame_size),
        cmocka_unit_test(test_no_copies),
        cmocka_unit_test(test_hpack),
        cmocka_unit_test(test_informational),
        cmocka_unit_test(test_no_reset_of_complete_streams),
        cmocka_unit_test(test_answer_header_limit),
        cmocka_unit_test(test_connection_errors),
        cmocka_unit_test(test_not_http2),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
