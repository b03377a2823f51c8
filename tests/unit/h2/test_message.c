/* SPDX-License-Identifier: Apache-2.0 */
/* Which field lists are messages of HTTP: every byte at every place, and what comes of it on the
 * wire, in requests, answers and trailers. */
#include "h2/h2_int.h"
#include "kit.h"

static bool is_legal(enum h2__block kind, struct bytes name, struct bytes value)
{
    struct h2__headers h = {0};

    h2__message_begin(&h, kind);
    h2__message_field(&h, name, value);
    return !h.is_malformed;
}

/* RFC 9110 section 5.5: no control bytes but the tab. */
static void test_every_byte_of_a_value(void **state)
{
    uint8_t value[27];

    (void)state;
    for (size_t n = 1; n <= sizeof value; n++) {
        for (size_t at = 0; at < n; at++) {
            for (unsigned b = 0; b < 256; b++) {
                bool wanted = b == '\t' || (b >= 0x20 && b != 0x7f);

                memset(value, at % 2 == 0 ? 'v' : '\t', sizeof value);
                value[at] = (uint8_t)b;
                assert_int_equal(is_legal(H2__ANSWER, BYTES_LIT("x"), bytes_of(value, n)), wanted);
            }
        }
    }
    assert_true(is_legal(H2__REQUEST, BYTES_LIT("x"), bytes_of(NULL, 0)));
    assert_false(is_legal(H2__REQUEST, BYTES_LIT(":authority"), BYTES_LIT("a\nb")));
}

/* RFC 9110 section 5.6.2: tokens; RFC 9113 section 8.2: no capitals. */
static void test_every_byte_of_a_name(void **state)
{
    static const char legal[] = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz";

    (void)state;
    for (unsigned at = 0; at < 3; at++) {
        for (unsigned b = 0; b < 256; b++) {
            uint8_t name[] = "abc";

            name[at] = (uint8_t)b;
            assert_int_equal(is_legal(H2__REQUEST, bytes_of(name, 3), BYTES_LIT("v")),
                             b != 0 && strchr(legal, (int)b) != NULL);
        }
    }
    assert_false(is_legal(H2__REQUEST, bytes_of("", 0), BYTES_LIT("v")));
    assert_false(is_legal(H2__REQUEST, BYTES_LIT(":"), BYTES_LIT("v")));
}

static void test_pseudo_headers(void **state)
{
    static const char *const names[] = {":method", ":scheme",   ":path",   ":authority",
                                        ":status", ":protocol", ":Status", ":pathx"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct bytes name = bytes_str(names[i]);
        struct h2__headers h = {0};

        assert_int_equal(is_legal(H2__REQUEST, name, BYTES_LIT("v")), i < 4);
        assert_int_equal(is_legal(H2__ANSWER, name, BYTES_LIT("v")), i == 4);
        assert_false(is_legal(H2__TRAILERS, name, BYTES_LIT("v")));
        if (i > 4)
            continue;
        /* Twice; behind another field. */
        h2__message_begin(&h, i < 4 ? H2__REQUEST : H2__ANSWER);
        h2__message_field(&h, name, BYTES_LIT("v"));
        assert_false(h.is_malformed);
        h2__message_field(&h, name, BYTES_LIT("v"));
        assert_true(h.is_malformed);
        h2__message_begin(&h, i < 4 ? H2__REQUEST : H2__ANSWER);
        h2__message_field(&h, BYTES_LIT("x"), BYTES_LIT("v"));
        assert_false(h.is_malformed);
        h2__message_field(&h, name, BYTES_LIT("v"));
        assert_true(h.is_malformed);
    }
}

/* What etcd's servers forgive. */
static void test_odd_requests_that_are_none_the_less(void **state)
{
    static const char *const odd[][2] = {
        {":authority", "#initially=[http://127.0.0.1:2379]"},
        {":authority", ""},
        {":authority", "/run/etcd.sock"},
        {":scheme", ""},
        {":method", "no such"},
        {":path", "no slash"},
        {"te", "gzip"},
        {"content-length", "x"},
        {"keep-alive", "timeout=5"},
        {"upgrade", "h2c"},
        {"proxy-connection", "close"},
        {"transfer-encoding", "chunked"},
        {"host", "a b"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(odd); i++)
        assert_true(is_legal(H2__REQUEST, bytes_str(odd[i][0]), bytes_str(odd[i][1])));
    assert_false(is_legal(H2__REQUEST, BYTES_LIT("connection"), BYTES_LIT("close")));
    assert_true(is_legal(H2__ANSWER, BYTES_LIT("connection"), BYTES_LIT("close")));
}

/* --- on the wire ------------------------------------------------------------------------------ */

struct fix {
    struct kit k;
    struct end e; /* h2, server or client */
    struct raw raw;
};

static void setup(struct fix *f, const struct h2_opts *opts)
{
    int fd[2];

    kit_init(&f->k);
    kit_socketpair(fd);
    end_init(&f->e, &f->k, fd[0], opts);
    raw_init(&f->raw, &f->k, fd[1]);
    if (opts->is_server) {
        raw_hello(&f->raw);
        (void)raw_await(&f->raw, F_SETTINGS);
        assert_true(raw_frame(&f->raw, F_SETTINGS, FLAG_ACK, 0, NULL, 0));
        return;
    }
    assert_true(raw_frame(&f->raw, F_SETTINGS, 0, 0, NULL, 0));
    KIT_UNTIL(&f->k, f->e.ready_count == 1);
    raw_read(&f->raw);
    f->raw.at = 24; /* the preface */
}

static void teardown(struct fix *f)
{
    end_close(&f->e);
    raw_fini(&f->raw);
    kit_fini(&f->k);
}

static void await_reset(struct fix *f, uint32_t id)
{
    struct raw_frame r = raw_await(&f->raw, F_RST);

    assert_int_equal(r.id, id);
    assert_int_equal(r.p[3], H2_PROTOCOL_ERROR);
}

static const char *const bad[][2] = {
    {"Upper", "case"},   {"bad name", "x"}, {"x", "bell\a"},    {"x", "new\nline"},
    {"x", "cr\rreturn"}, {":unknown", "x"}, {":path", "/late"}, {":status", "200"},
};

/* Malformed requests: reset, not heard of, and the connection lives. */
static void test_malformed_requests(void **state)
{
    struct fix f;
    uint8_t block[300];
    uint32_t id = 1;
    size_t n;

    (void)state;
    setup(&f, &kit_server_opts);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++, id += 2) {
        n = raw_put_request(block);
        n += raw_put_field(block + n, bad[i][0], bad[i][1]);
        assert_true(raw_frame(&f.raw, F_HEADERS, FLAG_END_HEADERS | FLAG_END_STREAM, id, block, n));
        await_reset(&f, id);
        assert_int_equal(f.e.recs_count, 0);
    }
    n = raw_put_request(block);
    assert_true(raw_frame(&f.raw, F_HEADERS, FLAG_END_HEADERS | FLAG_END_STREAM, id, block, n));
    KIT_UNTIL(&f.k, f.e.recs_count == 1);
    teardown(&f);
}

/* Trailers that are malformed, or that do not end the stream: the request has no end. */
static void test_malformed_request_trailers(void **state)
{
    struct fix f;
    uint8_t block[300];
    uint32_t id = 1;

    (void)state;
    setup(&f, &kit_server_opts);
    for (size_t i = 0; i <= ARRAY_LEN(bad); i++, id += 2) {
        bool is_last = i == ARRAY_LEN(bad);
        size_t n = raw_put_request(block);

        assert_true(raw_frame(&f.raw, F_HEADERS, FLAG_END_HEADERS, id, block, n));
        n = raw_put_field(block, is_last ? "fine" : bad[i][0], is_last ? "but early" : bad[i][1]);
        assert_true(raw_frame(&f.raw, F_HEADERS,
                              is_last ? FLAG_END_HEADERS : FLAG_END_HEADERS | FLAG_END_STREAM, id,
                              block, n));
        if (is_last)
            assert_true(raw_frame(&f.raw, F_DATA, FLAG_END_STREAM, id, "end", 3));
        await_reset(&f, id);
        KIT_UNTIL(&f.k, f.e.last->close_count == 1);
        assert_int_equal(f.e.last->trailers_count + f.e.last->end_count, 0);
        assert_int_equal(f.e.last->body_len, 0);
        assert_int_equal(f.e.last->how, H2_END_RESET);
    }
    teardown(&f);
}

static bool was_malformed;

static void note_malformed(struct rec *r)
{
    was_malformed = h2_stream_is_malformed(r->s);
}

/* The same field in an answer's headers (first round) and in its trailers. */
static void check_answer(struct fix *f, uint32_t id, const char *const field[2], bool in_trailers)
{
    struct rec *r = end_request(&f->e, kit_request, true);
    uint8_t block[300];
    size_t n = raw_put_field(block, ":status", "200");

    n += raw_put_field(block + n, "content-type", "application/grpc");
    if (in_trailers) {
        assert_true(raw_frame(&f->raw, F_HEADERS, FLAG_END_HEADERS, id, block, n));
        n = raw_put_field(block, "grpc-status", "0");
    }
    n += raw_put_field(block + n, field[0], field[1]);
    was_malformed = false;
    assert_true(raw_frame(&f->raw, F_HEADERS,
                          in_trailers ? FLAG_END_HEADERS | FLAG_END_STREAM : FLAG_END_HEADERS, id,
                          block, n));
    KIT_UNTIL(&f->k, r->close_count == 1);
    assert_true(was_malformed);
    assert_int_equal(r->how, H2_END_RESET);
    assert_int_equal(r->headers_count, in_trailers ? 1 : 0);
    assert_int_equal(r->trailers_count + r->end_count, 0);
}

static void test_malformed_answers(void **state)
{
    struct fix f;
    uint32_t id = 1;

    (void)state;
    setup(&f, &kit_client_opts);
    f.e.on_close = note_malformed;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++, id += 4) {
        check_answer(&f, id, bad[i], false);
        check_answer(&f, id + 2, bad[i], true);
    }
    assert_int_equal(f.e.lost_count, 0);
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_byte_of_a_value),
        cmocka_unit_test(test_every_byte_of_a_name),
        cmocka_unit_test(test_pseudo_headers),
        cmocka_unit_test(test_odd_requests_that_are_none_the_less),
        cmocka_unit_test(test_malformed_requests),
        cmocka_unit_test(test_malformed_request_trailers),
        cmocka_unit_test(test_malformed_answers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
