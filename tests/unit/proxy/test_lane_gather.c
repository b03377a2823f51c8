/* SPDX-License-Identifier: Apache-2.0 */
/* The rule of small pieces: what a message holds while it comes is about what has come of it,
 * however small its frames are, whoever sends it and whatever it waits for. */
#include "rig.h"

#define LEN 12000u
/* A slab that is being read into, one that outputs gather in, and twice what was copied. */
#define ALLOWED(len) (2 * LIMIT_SLAB_SIZE + 3 * (uint64_t)(len) + 4096)

static struct rig r;
static char value[LEN + 1];

static int setup(void **state)
{
    memset(value, 'v', LEN);
    return rig_setup_with_client(state);
}

/* Frames of n bytes each; at each stop, what the worker holds has to be in proportion. */
static void send_in_pieces(struct rec *s, const struct buf *b, size_t n, bool end)
{
    uint64_t before = worker_held(r.w);

    for (size_t at = 0; at < b->n; at += n) {
        size_t part = b->n - at < n ? b->n - at : n;

        rig_send(s, b->p + at, part, end && at + part == b->n);
        if (at / n % 500 == 0)
            rig_settle(&r);
        if (worker_held(r.w) > before + ALLOWED(at + part))
            fail_msg("%zu bytes in pieces of %zu hold %zu", at + part, n,
                     (size_t)(worker_held(r.w) - before));
    }
    rig_settle(&r);
}

static const size_t sizes[] = {1, 2, 7, 100, 1000, 4095, 4096, 5000};

static void requests(void **state)
{
    unsigned calls = 0;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct buf m = put_request(SECRET_KEY, value, LEN), framed = rig_framed(&m);
        struct rec *c = rig_begin(r.client, PUT, NULL), *s;

        send_in_pieces(c, &framed, sizes[i], true);
        s = rig_await(&r, ++calls);
        rig_check_put(&r, rig_message_at(s, 0), SECRET_KEY, value);
        m = put_response();
        rig_answer(s, &m);
        rig_expect(&r, c, 0);
        buf_free(&framed);
    }
}

static void answers(void **state)
{
    unsigned calls = 0;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct buf sealed = rig_seal(&r, 1, SECRET_KEY, value, LEN);
        struct buf m = range_response(SECRET_KEY, &sealed), framed = rig_framed(&m);
        struct rec *c = rig_range(r.client, SECRET_KEY), *s = rig_await(&r, ++calls);

        rig_respond(s);
        send_in_pieces(s, &framed, sizes[i], false);
        rig_trailers(s, "0");
        rig_expect(&r, c, 0);
        rig_check_value(rig_message_at(c, 0), value, LEN);
        buf_free(&framed);
        buf_free(&sealed);
    }
}

/* What is passed on as it comes waits in the queue of a client that does not read. */
static void unread(void **state)
{
    enum { MANY = 60000, FRAME = 3 };
    static uint8_t bytes[LIMIT_STREAM_WINDOW + MANY];
    struct buf none = {0}, m = {0}, framed;
    struct rec *c = rig_call(r.client, SNAPSHOT, &none), *s = rig_await(&r, 1);
    uint64_t before;

    (void)state;
    c->is_hungry = false;
    buf_add(&m, bytes, sizeof bytes);
    framed = rig_framed(&m);
    rig_respond(s);
    rig_send(s, framed.p, LIMIT_STREAM_WINDOW + 100,
             false); /* the client's window, and some more */
    rig_settle(&r);
    before = worker_held(r.w);
    for (size_t at = 0; at < MANY / 2; at += FRAME) {
        rig_send(s, framed.p + LIMIT_STREAM_WINDOW + 100 + at, FRAME, false);
        if (at % 1500 == 0)
            rig_settle(&r);
    }
    rig_settle(&r);
    assert_in_range(worker_held(r.w), 0, before + ALLOWED(MANY));
    h2_stream_reset(c->s, H2_CANCEL);
    buf_free(&framed);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_prestate_setup_teardown(fn, setup, rig_teardown, &r)
    const struct CMUnitTest tests[] = {TEST(requests), TEST(answers), TEST(unread)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
