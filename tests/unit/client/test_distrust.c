/* SPDX-License-Identifier: Apache-2.0 */
/* A server that is distrusted and lies, frame by frame. Whatever it sends, the call ends by itself,
 * or at the latest with its deadline; meanwhile it pins little memory; and a server that goes on
 * sending what is of no use loses its connection. */
#include "client/client_int.h"

#include <unistd.h>

#include "grpc/grpc.h"
#include "kit.h"
#include "net/listen.h"

#define ANSWER_MAX 65536u
#define LIVE_MAX (1024u * 1024) /* of the client's slabs: what it reads into is among them */
#define FRAMES_MAX 400000u      /* far above what a bucket holds (guard.c) */

struct fix {
    struct kit k;
    char dir[32], path[64];
    struct net_listener *listener;
    struct raw peer;
    bool has_peer;
    struct client *client;
    unsigned answers;
    struct client_answer answer; /* without its bytes */
    size_t body_len;
    uint64_t live_max;
};

static struct fix f;

static void on_accept(void *arg, int fd)
{
    (void)arg;
    if (f.has_peer) { /* a second connection finds nobody */
        close(fd);
        return;
    }
    raw_init(&f.peer, &f.k, fd);
    f.has_peer = true;
}

static int setup(void **state)
{
    struct net_url url;
    const char *why;
    char text[100], reason[200];

    (void)state;
    memset(&f, 0, sizeof f);
    kit_init(&f.k);
    (void)snprintf(f.dir, sizeof f.dir, "/tmp/distrust-XXXXXX");
    assert_non_null(mkdtemp(f.dir));
    (void)snprintf(f.path, sizeof f.path, "%s/sock", f.dir);
    (void)snprintf(text, sizeof text, "unix://%s", f.path);
    assert_int_equal(net_url_parse(text, &url, &why), ERR_OK);
    assert_int_equal(
        net_listen(&f.k.loop, &url, on_accept, NULL, &f.listener, reason, sizeof reason), ERR_OK);
    assert_int_equal(client_new(&f.k.loop, &url, NULL, "localhost", &f.client), ERR_OK);
    client_distrust(f.client, ANSWER_MAX);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    client_close(f.client);
    net_listener_close(f.listener);
    if (f.has_peer)
        raw_fini(&f.peer);
    kit_run_ms(&f.k, 10);
    kit_fini(&f.k);
    (void)unlink(f.path);
    assert_int_equal(rmdir(f.dir), 0);
    return 0;
}

static void on_answer(void *arg, const struct client_answer *a)
{
    (void)arg;
    assert_int_equal(f.answers++, 0);
    f.answer = *a;
    f.body_len = a->body.n;
}

/* A call whose request has reached the server, on stream 1. */
static void begin(uint64_t deadline_ms)
{
    struct client_call *c;

    assert_int_equal(
        client_call(f.client, "/svc/Method", bytes_str("x"), deadline_ms, on_answer, NULL, &c),
        ERR_OK);
    KIT_UNTIL(&f.k, f.has_peer);
    assert_true(raw_frame(&f.peer, F_SETTINGS, 0, 0, NULL, 0));
    f.peer.at = 24; /* its preface */
    raw_await(&f.peer, F_DATA);
}

static void respond(void)
{
    uint8_t block[100];
    size_t n = raw_put_field(block, ":status", "200");

    n += raw_put_field(block + n, "content-type", "application/grpc");
    assert_true(raw_frame(&f.peer, F_HEADERS, FLAG_END_HEADERS, 1, block, n));
}

/* Sends the same bytes so many times, reading all answers. False: the client has hung up. */
static bool send_many(const uint8_t *p, size_t n, unsigned times)
{
    for (unsigned i = 0; i < times; i++) {
        if (!raw_write(&f.peer, p, n))
            return false;
        if (i % 64 > 0)
            continue;
        kit_turn(&f.k);
        raw_read(&f.peer);
        f.peer.in_len = f.peer.at = 0; /* WINDOW_UPDATEs and acknowledgements */
        if (f.client->pool.live_bytes > f.live_max)
            f.live_max = f.client->pool.live_bytes;
        if (f.peer.is_eof)
            return false;
    }
    return true;
}

static bool send_frames(uint8_t type, uint8_t flags, uint32_t id, const void *p, size_t n)
{
    uint8_t frame[400];

    return send_many(frame, raw_put_frame(frame, type, flags, id, p, n), FRAMES_MAX);
}

static void check_lost(void)
{
    KIT_UNTIL(&f.k, f.answers == 1);
    assert_int_equal(f.answer.err, ERR_UPSTREAM_LOST);
    assert_true(f.live_max < LIVE_MAX);
}

/* --- what is of use, in odd pieces ----------------------------------------------------------- */

static void send_message(unsigned piece, unsigned pad)
{
    uint8_t message[GRPC_PREFIX_LEN + ANSWER_MAX] = {0}, body[300] = {0}, block[100], frame[400];

    grpc_prefix_put(message, ANSWER_MAX);
    for (size_t at = 0; at < sizeof message; at += piece) {
        size_t n = piece < sizeof message - at ? piece : sizeof message - at, len = 0;

        if (pad > 0)
            body[len++] = (uint8_t)pad;
        memcpy(body + len, message + at, n);
        len += n + pad;
        len = raw_put_frame(frame, F_DATA, pad > 0 ? FLAG_PADDED : 0, 1, body, len);
        assert_true(send_many(frame, len, 1));
    }
    assert_true(raw_frame(&f.peer, F_HEADERS, FLAG_END_HEADERS | FLAG_END_STREAM, 1, block,
                          raw_put_field(block, "grpc-status", "0")));
}

static void the_largest_answer_pins_what_it_says(unsigned piece, unsigned pad)
{
    begin(60000);
    respond();
    send_message(piece, pad);
    KIT_UNTIL(&f.k, f.answers == 1);
    assert_int_equal(f.answer.err, ERR_OK);
    assert_int_equal(f.answer.status, GRPC_OK);
    assert_int_equal(f.body_len, ANSWER_MAX);
    assert_true(f.live_max < LIVE_MAX);
}

static void one_byte_a_frame(void **state)
{
    (void)state;
    the_largest_answer_pins_what_it_says(1, 0);
}

static void one_byte_and_255_of_padding_a_frame(void **state)
{
    (void)state;
    the_largest_answer_pins_what_it_says(1, 255);
}

static void larger_pieces(void **state)
{
    (void)state;
    the_largest_answer_pins_what_it_says(37, 100);
}

/* --- too much --------------------------------------------------------------------------------- */

static void an_answer_without_end(void **state)
{
    static const uint8_t piece[256];

    (void)state;
    begin(60000);
    respond();
    assert_false(send_frames(F_DATA, 0, 1, piece, sizeof piece));
    KIT_UNTIL(&f.k, f.answers == 1);
    assert_int_equal(f.answer.err, ERR_OK);
    assert_int_equal(f.answer.status, GRPC_RESOURCE_EXHAUSTED);
    assert_true(f.live_max < LIVE_MAX);
}

static void headers_without_end(void **state)
{
    static const uint8_t piece[256];

    (void)state;
    begin(60000);
    assert_true(raw_frame(&f.peer, F_HEADERS, 0, 1, piece, 0));
    assert_false(send_frames(F_CONT, 0, 1, piece, sizeof piece));
    check_lost();
}

/* Within one block, but more than a client might send. */
static void huge_headers(void **state)
{
    static uint8_t block[16000];
    size_t n = 0;

    (void)state;
    begin(60000);
    while (n + 200 < sizeof block)
        n +=
            raw_put_field(block + n, "x-field",
                          "0123456789012345678901234567890123456789012345678901234567890123456789");
    assert_true(raw_frame(&f.peer, F_HEADERS, 0, 1, block, n));
    for (int i = 0; i < 9; i++)
        assert_true(raw_frame(&f.peer, F_CONT, i == 8 ? FLAG_END_HEADERS : 0, 1, block, n));
    check_lost();
}

static void headers_that_are_early_without_end(void **state)
{
    uint8_t block[100];
    size_t n = raw_put_field(block, ":status", "103");

    (void)state;
    begin(60000);
    assert_false(send_frames(F_HEADERS, FLAG_END_HEADERS, 1, block, n));
    check_lost();
}

/* --- nothing at all --------------------------------------------------------------------------- */

static void floods(void **state)
{
    static const uint8_t zeros[64], one[4] = {0, 0, 0, 1};
    static const struct {
        uint8_t type;
        uint32_t id;
        const uint8_t *p;
        size_t n;
    } table[] = {
        {F_PING, 0, zeros, 8}, {F_SETTINGS, 0, zeros, 0}, {F_PRIORITY, 1, zeros, 5},
        {F_WINDOW, 1, one, 4}, {F_DATA, 1, zeros, 0},     {F_RST, 99, zeros, 4},
        {F_WINDOW, 0, one, 4}, {200, 0, zeros, 64},
    };
    uintptr_t i = (uintptr_t)*state;

    assert_true(i < ARRAY_LEN(table));
    begin(60000);
    respond();
    assert_false(send_frames(table[i].type, 0, table[i].id, table[i].p, table[i].n));
    check_lost();
}

static void one_byte_at_a_time_ends_with_the_deadline(void **state)
{
    uint8_t block[100], frame[120];
    size_t n = raw_put_field(block, ":status", "200"), len;
    uint64_t began = loop_hrtime_ns();

    (void)state;
    len = raw_put_frame(frame, F_HEADERS, FLAG_END_HEADERS, 1, block, n);
    begin(300);
    for (size_t at = 0; f.answers == 0; at = at + 1 < len - 1 ? at + 1 : at) {
        if (at + 1 < len - 1)
            assert_true(raw_write(&f.peer, frame + at, 1));
        kit_run_ms(&f.k, 20);
    }
    assert_int_equal(f.answer.err, ERR_TIMEOUT);
    assert_true(loop_hrtime_ns() - began >= 290000000);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
#define FLOOD(i)                                                                                   \
    {                                                                                              \
        "flood " #i, floods, setup, teardown, (void *)(uintptr_t)(i)                               \
    }
    const struct CMUnitTest tests[] = {
        TEST(one_byte_a_frame),
        TEST(one_byte_and_255_of_padding_a_frame),
        TEST(larger_pieces),
        TEST(an_answer_without_end),
        TEST(headers_without_end),
        TEST(huge_headers),
        TEST(headers_that_are_early_without_end),
        FLOOD(0),
        FLOOD(1),
        FLOOD(2),
        FLOOD(3),
        FLOOD(4),
        FLOOD(5),
        FLOOD(6),
        FLOOD(7),
        TEST(one_byte_at_a_time_ends_with_the_deadline),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
