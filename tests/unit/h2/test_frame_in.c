/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes into frames: the same events wherever the input is cut, what a frame may look like, and how
 * much of a header block is put together. */
#include "h2/h2_int.h"

#include <malloc.h>
#include <sys/socket.h>

#include "duo.h"

/* --- turns --- */

static size_t turn_len, turn_max;

static void on_turn_data(struct rec *r, size_t n)
{
    (void)r;
    turn_len += n;
}

static void turn_over(struct kit *k)
{
    turn_len = 0;
    kit_turn(k);
    turn_max = turn_len > turn_max ? turn_len : turn_max;
}

/* A client with frames of a byte does not keep the loop from others, and loses none of them. */
static void test_tiny_frames_take_turns(void **state)
{
    enum { FRAMES = 60000, TURN_MAX = 2600 };
    uint8_t *wire = malloc(FRAMES * 10);
    struct duo d;
    size_t n = 0;

    (void)state;
    duo_server(&d, NULL);
    duo_open(&d, 1, 0);
    KIT_UNTIL(&d.k, d.e.recs_count == 1);
    d.e.on_data = on_turn_data;
    turn_max = 0;
    for (size_t i = 0; i < FRAMES; i++) {
        uint8_t byte = (uint8_t)i;

        n += raw_put_frame(wire + n, F_DATA, i == FRAMES - 1 ? FLAG_END_STREAM : 0, 1, &byte, 1);
    }
    for (size_t at = 0; at < n || d.e.last->end_count == 0;) {
        ssize_t put = at == n ? 0 : send(d.raw.fd, wire + at, n - at, MSG_NOSIGNAL | MSG_DONTWAIT);

        at += put > 0 ? (size_t)put : 0;
        turn_over(&d.k);
    }
    assert_int_equal(d.e.last->body_len, FRAMES);
    for (size_t i = 0; i < FRAMES; i++)
        assert_int_equal(d.e.last->body[i], (uint8_t)i);
    assert_in_range(turn_max, 1, TURN_MAX);
    free(wire);
    duo_stop(&d);
}

/* --- cuts --- */

struct script {
    uint8_t bytes[1200];
    size_t len;
};

static void put(struct script *s, uint8_t type, uint8_t flags, uint32_t id, const void *p, size_t n)
{
    s->len += raw_put_frame(s->bytes + s->len, type, flags, id, p, n);
}

/* A padded HEADERS frame with priority that has the first part of a block, then the rest in
 * CONTINUATION frames, one of them empty. */
static void put_joined(struct script *s, uint8_t flags, uint32_t id, const uint8_t *block, size_t n)
{
    uint8_t payload[64] = {7, 0x80, 0, 0, 1, 16};

    memcpy(payload + 6, block, 11);
    put(s, F_HEADERS, (uint8_t)(flags | FLAG_PADDED | 0x20), id, payload, 6 + 11 + 7);
    put(s, F_CONT, 0, id, block + 11, 9);
    put(s, F_CONT, 0, id, NULL, 0);
    put(s, F_CONT, FLAG_END_HEADERS, id, block + 20, n - 20);
}

/* Every frame type a client may send. */
static void script_of_client(struct script *s)
{
    uint8_t block[200], trailers[50];
    size_t n = raw_put_request(block), t = raw_put_field(trailers, "x-check", "sum");

    memcpy(s->bytes, H2__PREFACE, H2__PREFACE_LEN);
    s->len = H2__PREFACE_LEN;
    put(s, F_SETTINGS, 0, 0, "\0\4\0\2\0\0\0\3\0\0\0\5", 12);
    put_joined(s, 0, 1, block, n);
    put(s, F_PRIORITY, 0, 3, "\0\0\0\1\20", 5);
    put(s, F_DATA, 0, 1, "hel", 3);
    put(s, F_DATA, FLAG_PADDED, 1, "\4lo \0\0\0\0", 8);
    put(s, F_DATA, FLAG_PADDED, 1, "\3\0\0\0", 4);
    put(s, F_SETTINGS, FLAG_ACK, 0, NULL, 0);
    put(s, F_HEADERS, FLAG_END_HEADERS, 3, block, n);
    put(s, F_DATA, 0, 3, "three", 5);
    put(s, F_RST, 0, 3, "\0\0\0\x08", 4);
    put(s, F_PING, 0, 0, "01234567", 8);
    put(s, F_DATA, 0, 1, NULL, 0);
    put(s, 0x77, 3, 1, "what?", 5);
    put(s, 0xff, 0xff, 0, NULL, 0);
    put(s, F_WINDOW, 0, 1, "\0\0\1\0", 4);
    put(s, F_WINDOW, 0, 0, "\0\0\1\0", 4);
    put(s, F_HEADERS, FLAG_END_HEADERS, 5, block, n);
    put(s, F_DATA, FLAG_END_STREAM | FLAG_PADDED, 5, "\2five\0\0", 7);
    put(s, F_DATA, 0, 1, "world", 5);
    put(s, F_HEADERS, FLAG_END_HEADERS | FLAG_END_STREAM, 1, trailers, t);
    put(s, F_GOAWAY, 0, 0, "\0\0\0\0\0\0\0\0bye", 11);
    put(s, F_PING, 0, 0, "the last", 8);
}

/* And a server, that has three requests. */
static void script_of_server(struct script *s)
{
    uint8_t block[200], trailers[50];
    size_t n = raw_put_field(block, ":status", "200"), t;

    n += raw_put_field(block + n, "content-type", "application/grpc");
    t = raw_put_field(trailers, "grpc-status", "0");
    s->len = 0;
    put(s, F_SETTINGS, 0, 0, NULL, 0);
    put(s, F_SETTINGS, FLAG_ACK, 0, NULL, 0);
    put(s, F_HEADERS, FLAG_END_HEADERS, 1,
        "\x08\x03"
        "103",
        5);
    put_joined(s, 0, 1, block, n);
    put(s, F_DATA, FLAG_PADDED, 1, "\4lo \0\0\0\0", 8);
    put(s, F_RST, 0, 3, "\0\0\0\x07", 4);
    put(s, F_PING, 0, 0, "01234567", 8);
    put(s, 0x77, 3, 1, "what?", 5);
    put(s, F_HEADERS, FLAG_END_HEADERS | FLAG_END_STREAM, 1, trailers, t);
    put(s, F_GOAWAY, 0, 0, "\0\0\0\3\0\0\0\2", 8);
    put(s, F_PING, 0, 0, "the last", 8);
}

static void write_events(struct end *e, unsigned acks, char *text, size_t len)
{
    size_t at =
        (size_t)snprintf(text, len, "ready %u goaway %u code %d lost %u acks %u\n", e->ready_count,
                         e->goaway_count, (int)e->goaway_code, e->lost_count, acks);

    LIST_FOREACH(it, &e->recs) {
        const struct rec *r = LIST_ENTRY(it, struct rec, node);

        at += (size_t)snprintf(text + at, len - at, "[%s] %d [%.*s] [%s] %u %u %u %d %d\n",
                               r->headers != NULL ? r->headers : "", r->headers_end,
                               (int)r->body_len, r->body != NULL ? (const char *)r->body : "",
                               r->trailers != NULL ? r->trailers : "", r->headers_count,
                               r->end_count, r->close_count, (int)r->code, (int)r->how);
        assert_true(at < len);
    }
}

/* Runs the script in pieces that end at the cuts; returns when the last PING is answered. */
static void run_script(const struct script *s, bool is_server, const size_t *cuts, size_t count,
                       char *text, size_t len)
{
    struct duo d;
    unsigned acks = 0;
    struct raw_frame f;
    int fd[2];

    kit_init(&d.k);
    kit_socketpair(fd);
    end_init(&d.e, &d.k, fd[0], is_server ? &kit_server_opts : &kit_client_opts);
    raw_init(&d.raw, &d.k, fd[1]);
    d.raw.at = is_server ? 0 : 24;
    for (int i = 0; i < 3 && !is_server; i++)
        (void)end_request(&d.e, kit_request, true);
    (void)raw_await(&d.raw, F_SETTINGS);
    for (size_t i = 0, at = 0; i <= count; i++) {
        size_t end = i < count ? cuts[i] : s->len;

        assert_true(raw_write(&d.raw, s->bytes + at, end - at));
        kit_turn(&d.k);
        at = end;
    }
    do {
        f = raw_await(&d.raw, F_PING);
        acks += (f.flags & FLAG_ACK) != 0;
    } while (memcmp(f.p, "the last", 8) != 0);
    write_events(&d.e, acks, text, len);
    duo_stop(&d);
}

static void check_cuts(const struct script *s, bool is_server, const char *whole)
{
    static size_t every[1200];
    static char text[4096];

    for (size_t cut = 1; cut < s->len; cut++) {
        size_t two[2] = {cut, cut + 1 + cut * 7 % 13}; /* a short piece of any length between */

        run_script(s, is_server, two, two[1] < s->len ? 2 : 1, text, sizeof text);
        assert_string_equal(text, whole);
        every[cut - 1] = cut;
    }
    run_script(s, is_server, every, s->len - 1, text, sizeof text);
    assert_string_equal(text, whole);
}

static void test_cuts(void **state)
{
    static struct script s;
    static char whole[4096];

    (void)state;
    script_of_client(&s);
    run_script(&s, true, NULL, 0, whole, sizeof whole);
    assert_non_null(strstr(whole, "[hello world] [x-check: sum\n]"));
    assert_non_null(strstr(whole, "[three] [] 1 0 1 8 0\n")); /* reset by the client */
    assert_non_null(strstr(whole, "[five] [] 1 1 0 "));
    assert_non_null(strstr(whole, "ready 1 goaway 1 code 0 lost 0 acks 2\n"));
    check_cuts(&s, true, whole);
    script_of_server(&s);
    run_script(&s, false, NULL, 0, whole, sizeof whole);
    assert_non_null(strstr(whole, "[lo ] [grpc-status: 0\n] 1 0 1 0 1\n"));
    assert_non_null(strstr(whole, "ready 1 goaway 1 code 2 lost 0 acks 2\n"));
    check_cuts(&s, false, whole);
}

/* --- what a frame may look like --- */

struct frame_case {
    uint8_t type, flags;
    uint32_t id, len;
    const char *payload, *wanted;
};

static void run_frame(const struct frame_case *c, bool is_server)
{
    static uint8_t payload[70000];
    struct duo d;
    char text[30];

    if (is_server) {
        duo_server(&d, NULL);
        duo_open(&d, 1, 0);
    } else {
        duo_client(&d, NULL);
        (void)end_request(&d.e, kit_request, false);
        (void)raw_await(&d.raw, F_HEADERS);
        duo_answer(&d, 1, 0);
    }
    memset(payload, 0, sizeof payload);
    memcpy(payload, c->payload, strlen(c->payload));
    (void)raw_frame(&d.raw, c->type, c->flags, c->id, payload, c->len);
    duo_outcome(&d, 1, text, sizeof text);
    if (strcmp(text, c->wanted) != 0)
        fail_msg("type %u flags %u id %u len %u: %s, not %s", c->type, c->flags, c->id, c->len,
                 text, c->wanted);
    duo_stop(&d);
}

/* Every length around the one that a type has (RFC 9113 section 6). */
static void test_lengths(void **state)
{
    static const struct {
        uint8_t type;
        uint32_t id, min, max;
    } types[] = {
        {F_PRIORITY, 1, 5, 5}, {F_RST, 1, 4, 4},    {F_PING, 0, 8, 8},
        {F_WINDOW, 1, 4, 4},   {F_WINDOW, 0, 4, 4}, {F_GOAWAY, 0, 8, 16384},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        for (uint32_t len = 0; len < 12; len++) {
            bool is_right = len >= types[i].min && len <= types[i].max;
            struct frame_case c = {types[i].type, 0,      types[i].id,
                                   len,           "\1\1", is_right ? "alive" : "goaway 6"};

            run_frame(&c, true);
            run_frame(&c, false);
        }
    }
    for (uint32_t len = 0; len < 14; len++) {
        struct frame_case c = {F_SETTINGS, 0, 0, len, "", len % 6 == 0 ? "alive" : "goaway 6"};

        run_frame(&c, true);
        c.flags = FLAG_ACK;
        c.wanted = len == 0 ? "alive" : "goaway 6";
        run_frame(&c, true);
    }
}

/* Above the size that we announced, whatever the type; the payload need not come. */
static void test_too_large(void **state)
{
    (void)state;
    for (unsigned type = 0; type < 12; type++) {
        struct frame_case c = {(uint8_t)type, 0, 1, 16385, "", "goaway 6"};

        run_frame(&c, true);
    }
    run_frame(&(struct frame_case){F_DATA, 0, 1, 16384, "", "alive"}, true);
    run_frame(&(struct frame_case){0x42, 0, 1, 16384, "", "alive"}, true);
    run_frame(&(struct frame_case){F_DATA, 0, 1, 16385, "", "alive"}, false); /* 1 MiB is */
}

/* Padding of every length against a payload of some: RFC 9113 sections 6.1 and 6.2. */
static void test_padding(void **state)
{
    (void)state;
    for (uint32_t len = 0; len < 6; len++) {
        for (unsigned pad = 0; pad < 6; pad++) {
            char payload[2] = {(char)pad, '\0'};
            struct frame_case c = {F_DATA, FLAG_PADDED, 1, len, payload, "goaway 1"};

            if (len > 0 && pad <= len - 1)
                c.wanted = "alive";
            run_frame(&c, true);
        }
    }
    /* Padding and priority leave nothing of HEADERS, or less. */
    run_frame(&(struct frame_case){F_HEADERS, 0x2d, 3, 0, "", "goaway 1"}, true);
    run_frame(&(struct frame_case){F_HEADERS, 0x2d, 3, 5, "", "goaway 1"}, true);
    run_frame(&(struct frame_case){F_HEADERS, 0x2d, 3, 6, "\1", "goaway 1"}, true);
    run_frame(&(struct frame_case){F_HEADERS, 0x2d, 3, 6, "", "alive"}, true);
    run_frame(&(struct frame_case){F_HEADERS, 0x2d, 3, 7, "\1", "alive"}, true);
}

/* Nothing may come between the frames of a header block (section 6.10). */
static void test_interrupted_block(void **state)
{
    (void)state;
    for (unsigned type = 0; type < 12; type++) {
        for (uint32_t id = 0; id < 6; id += type == F_CONT ? 3 : 1) {
            struct duo d;
            uint8_t block[200];
            size_t n = raw_put_request(block);
            char text[30];

            duo_server(&d, NULL);
            assert_true(raw_frame(&d.raw, F_HEADERS, FLAG_END_STREAM, 1, block, n));
            assert_true(raw_frame(&d.raw, (uint8_t)type, 0, id, "\0\0\0\1\0\0\0\0", 8));
            duo_outcome(&d, 1, text, sizeof text);
            assert_string_equal(text, "goaway 1");
            assert_int_equal(d.e.recs_count, 0);
            duo_stop(&d);
        }
    }
}

/* --- how much of a header block is put together --- */

/* A block of n bytes, in frames of the given size; what comes of it. */
static void send_block(struct duo *d, size_t n, size_t frame, char *text, size_t len)
{
    static uint8_t block[300000];
    size_t at = raw_put_request(block);

    /* One field with a long value (RFC 7541 section 5.1: a length above 127 in three bytes). */
    at += raw_put_field(block + at, "x", "");
    n -= at + 3;
    block[at - 1] = 127;
    block[at++] = (uint8_t)(0x80 | ((n - 127) & 0x7f));
    block[at++] = (uint8_t)(0x80 | ((n - 127) >> 7 & 0x7f));
    block[at++] = (uint8_t)((n - 127) >> 14);
    memset(block + at, 'v', n);
    n += at;
    for (size_t from = 0; from < n; from += frame) {
        size_t part = n - from < frame ? n - from : frame;
        uint8_t flags = from + part == n ? FLAG_END_HEADERS : 0;

        if (!raw_frame(&d->raw, from == 0 ? F_HEADERS : F_CONT,
                       from == 0 ? FLAG_END_STREAM | flags : flags, 1, block + from, part))
            break;
    }
    duo_outcome(d, 1, text, len);
}

static void test_block_limits(void **state)
{
    static const struct {
        size_t len, frame;
        const char *wanted;
        unsigned requests;
    } cases[] = {
        {10000, 101, "alive", 1},       /* 100 frames */
        {10000, 99, "goaway 11", 0},    /* 102 */
        {120000, 16384, "alive", 1},    /* within the field list's limit */
        {140000, 16384, "alive", 0},    /* above: 431 */
        {262144, 16384, "alive", 0},    /* all that is put together */
        {262145, 16384, "goaway 11", 0} /* more */
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct duo d;
        char text[30];

        duo_server(&d, NULL);
        send_block(&d, cases[i].len, cases[i].frame, text, sizeof text);
        assert_string_equal(text, cases[i].wanted);
        assert_int_equal(d.e.recs_count, cases[i].requests);
        duo_stop(&d);
    }
}

/* A stream that cannot begin is refused by the first frame of its block. */
static void test_block_of_no_stream(void **state)
{
    struct duo d;
    char text[30];

    (void)state;
    duo_server(&d, NULL);
    assert_true(raw_frame(&d.raw, F_HEADERS, 0, 2, "\x82", 1));
    kit_run_ms(&d.k, 10);
    assert_int_equal(d.e.lost_count, 1);
    duo_outcome(&d, 2, text, sizeof text);
    assert_string_equal(text, "goaway 1");
    duo_stop(&d);
}

/* Frames that never end a block, even empty ones. */
static void test_endless_block(void **state)
{
    struct duo d;
    uint8_t block[200];
    char text[30];

    (void)state;
    duo_server(&d, NULL);
    assert_true(raw_frame(&d.raw, F_HEADERS, 0, 1, block, raw_put_request(block)));
    for (int i = 0; i < 200; i++)
        (void)raw_frame(&d.raw, F_CONT, 0, 1, NULL, 0);
    duo_outcome(&d, 1, text, sizeof text);
    assert_string_equal(text, "goaway 11");
    duo_stop(&d);
}

/* Cut off in the middle of anything: no memory stays behind (kit_fini and the sanitizer look). */
static void test_ends_anywhere(void **state)
{
    static struct script s;

    (void)state;
    script_of_client(&s);
    for (size_t cut = 0; cut < s.len; cut++) {
        struct duo d;
        int fd[2];

        kit_init(&d.k);
        kit_socketpair(fd);
        end_init(&d.e, &d.k, fd[0], &kit_server_opts);
        raw_init(&d.raw, &d.k, fd[1]);
        assert_true(raw_write(&d.raw, s.bytes, cut));
        kit_turn(&d.k);
        raw_fini(&d.raw);
        KIT_UNTIL(&d.k, d.e.c == NULL);
        end_close(&d.e);
        kit_fini(&d.k);
    }
}

static void test_first_frames(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
    } cases[] = {
        {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r", 24},                   /* the last byte */
        {"XRI", 3},                                                 /* the first */
        {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\1\0\0\0\0", 33}, /* an ACK */
        {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x08\6\0\0\0\0\0"
         "01234567",
         41},                                                         /* PING */
        {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x77\0\0\0\0\0", 33}, /* unknown */
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct duo d;
        struct raw_frame f;
        int fd[2];

        kit_init(&d.k);
        kit_socketpair(fd);
        end_init(&d.e, &d.k, fd[0], &kit_server_opts);
        raw_init(&d.raw, &d.k, fd[1]);
        assert_true(raw_write(&d.raw, cases[i].bytes, cases[i].len));
        f = raw_await(&d.raw, F_GOAWAY);
        assert_int_equal(f.p[7], H2_PROTOCOL_ERROR);
        KIT_UNTIL(&d.k, d.e.lost_count == 1);
        assert_int_equal(d.e.ready_count, 0);
        duo_stop(&d);
    }
}

/* A server that is none of HTTP/2 is called what it is: most often a slip in a URL. */
static void test_other_protocols(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
        const char *why;
    } cases[] = {
        {"\x15\3\1\0\2\2\x46\0\0\0", 10, "the server speaks TLS"}, /* a fatal alert */
        {"HTTP/1.1 400 Bad Request\r\n\r\n", 28, "the server speaks HTTP/1"},
        {"\x7f\xff\xff\0\0\0\0\0\0", 9, "frame too large"},
        {"", 0, "before it said anything"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct duo d;
        int fd[2];

        kit_init(&d.k);
        kit_socketpair(fd);
        end_init(&d.e, &d.k, fd[0], &kit_client_opts);
        raw_init(&d.raw, &d.k, fd[1]);
        if (cases[i].len > 0)
            assert_true(raw_write(&d.raw, cases[i].bytes, cases[i].len));
        else
            assert_int_equal(shutdown(fd[1], SHUT_WR), 0);
        KIT_UNTIL(&d.k, d.e.lost_count == 1);
        assert_non_null(strstr(d.e.lost_why, cases[i].why));
        duo_stop(&d);
    }
}

/* --- what is put together --- */

#define CREDENTIAL "pssst-do-not-tell"

static bool is_watching;
static unsigned given_away;

void __real_free(void *p);
void __wrap_free(void *p);

void __wrap_free(void *p)
{
    size_t room = p == NULL ? 0 : malloc_usable_size(p);

    if (room > 0 && memmem(p, room, CREDENTIAL, sizeof CREDENTIAL - 1) != NULL) {
        given_away += is_watching;
        memset(p, 0, room); /* whoever gets the memory next has not given it away */
    }
    __real_free(p);
}

/* A credential that came in pieces is in no memory that is given back, wherever it was cut, also
 * when the connection ends before it is whole. */
static void test_pieces_are_wiped(void **state)
{
    uint8_t block[300], all[700];
    size_t first, n = raw_put_request(block), len = 0;

    (void)state;
    n += raw_put_field(block + n, "token", CREDENTIAL);
    first = n;
    n += raw_put_field(block + n, "x-filler",
                       "as much again as what came before, so that the block "
                       "has to move to where there is more room for it");
    len = raw_put_frame(all, F_HEADERS, 0, 1, block, first);
    for (size_t at = first; at < n; at += 60)
        len += raw_put_frame(all + len, F_CONT, at + 60 >= n ? FLAG_END_HEADERS : 0, 1, block + at,
                             n - at < 60 ? n - at : 60);
    for (size_t cut = 1; cut <= len; cut += 7) {
        struct duo d;

        duo_server(&d, NULL);
        is_watching = true;
        assert_true(raw_write(&d.raw, all, cut));
        kit_run_ms(&d.k, 2);
        if (cut % 2 == 0) {
            assert_true(raw_write(&d.raw, all + cut, len - cut));
            KIT_UNTIL(&d.k, d.e.recs_count == 1);
        }
        h2_conn_close(d.e.c, H2_NO_ERROR, 0);
        KIT_UNTIL(&d.k, d.e.c == NULL);
        is_watching = false;
        duo_stop(&d);
        assert_int_equal(given_away, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cuts),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_too_large),
        cmocka_unit_test(test_padding),
        cmocka_unit_test(test_interrupted_block),
        cmocka_unit_test(test_block_limits),
        cmocka_unit_test(test_endless_block),
        cmocka_unit_test(test_block_of_no_stream),
        cmocka_unit_test(test_ends_anywhere),
        cmocka_unit_test(test_first_frames),
        cmocka_unit_test(test_other_protocols),
        cmocka_unit_test(test_tiny_frames_take_turns),
        cmocka_unit_test(test_pieces_are_wiped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
