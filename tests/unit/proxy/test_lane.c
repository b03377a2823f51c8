/* SPDX-License-Identifier: Apache-2.0 */
/* The rule of a lane: what goes out depends on the messages that came, and not on how they were cut
 * or when. Nothing overtakes a message that waits for a key, and what waits keeps nobody else from
 * going on. A side that does not read stops its own stream alone. What has no values passes byte
 * for byte. (Answers that are too large to be collected: test_lane_large.c.) */
#include "grpc/grpc.h"
#include "rig.h"
#include "pb/pb.h"

#define MIB (1024u * 1024)

static struct rig r;

static void send_bytewise(struct rec *s, const struct buf *b, bool end)
{
    for (size_t i = 0; i < b->n; i++) {
        rig_send(s, b->p + i, 1, end && i + 1 == b->n);
        rig_settle(&r);
    }
}

/* --- cuts ------------------------------------------------------------------------------------ */

static void requests_cut_at_every_byte(void **state)
{
    struct buf m = put_request(SECRET_KEY, "treasure", 8), framed = rig_framed(&m);
    unsigned nth = 0;

    (void)state;
    for (size_t at = 0; at <= framed.n; at++) {
        struct rec *c = rig_begin(r.client, PUT, NULL);

        if (at == framed.n)
            send_bytewise(c, &framed, true);
        else
            rig_send_cut(&r, c, &framed, at, true);
        rig_check_put(&r, rig_message_at(rig_await(&r, ++nth), 0), SECRET_KEY, "treasure");
        assert_int_equal(rig_message_count(r.etcd->last), 1);
        rig_answer_put(&r, c, nth);
    }
    buf_free(&framed);
}

/* Sealed under two kinds of keys, and not at all. */
static struct buf mixed_answer(void)
{
    struct buf m = put_response(), secret = rig_seal(&r, 1, SECRET_KEY, "treasure", 8),
               local = rig_seal(&r, 1, LOCAL_KEY, "booty", 5);

    add_kv(&m, 2, LOCAL_KEY, local.p, local.n);
    add_kv(&m, 2, POD_KEY, "plain", 5);
    add_kv(&m, 2, SECRET_KEY, secret.p, secret.n);
    buf_varint(&m, 4, 3);
    buf_free(&secret);
    buf_free(&local);
    return m;
}

static struct buf mixed_opened(void)
{
    struct buf m = put_response();

    add_kv(&m, 2, LOCAL_KEY, "booty", 5);
    add_kv(&m, 2, POD_KEY, "plain", 5);
    add_kv(&m, 2, SECRET_KEY, "treasure", 8);
    buf_varint(&m, 4, 3);
    return m;
}

static void answers_cut_at_every_byte(void **state)
{
    struct buf m = mixed_answer(), framed = rig_framed(&m), want = mixed_opened();
    unsigned nth = 0;

    (void)state;
    for (size_t at = 0; at <= framed.n; at++) {
        struct rec *c = rig_range_all(r.client), *s = rig_await(&r, ++nth);

        rig_respond(s);
        if (at == framed.n)
            send_bytewise(s, &framed, false);
        else
            rig_send_cut(&r, s, &framed, at, false);
        rig_trailers(s, "0");
        rig_expect(&r, c, 0);
        assert_int_equal(rig_message_count(c), 1);
        assert_true(bytes_eq(rig_message_at(c, 0), bytes_of(want.p, want.n)));
    }
    assert_int_equal(r.plugin.decrypt.calls, 1);
    buf_free(&framed);
    buf_free(&want);
}

/* --- watches --------------------------------------------------------------------------------- */

static void add_framed(struct buf *to, struct buf m)
{
    struct buf framed = rig_framed(&m);

    buf_add(to, framed.p, framed.n);
    buf_free(&framed);
}

/* A stream with count watches of everything, ids from 0; *up is etcd's end. */
static struct rec *watch_open(unsigned count, struct rec **up)
{
    unsigned before = r.etcd->recs_count;
    struct rec *c = rig_begin(r.client, WATCH, NULL), *s = rig_await_headers(&r, before + 1);

    rig_respond(s);
    for (unsigned i = 0; i < count; i++) {
        struct buf create = watch_create("/registry/", "/registry0"), created = watch_created(i);
        struct buf framed = rig_framed(&create);

        rig_send(c, framed.p, framed.n, false);
        RIG_UNTIL(&r, rig_message_count(s) == i + 1);
        rig_message(s, &created, false);
        RIG_UNTIL(&r, rig_message_count(c) == i + 1);
        buf_free(&framed);
    }
    *up = s;
    return c;
}

static struct buf sealed_event(uint64_t id, unsigned dek, const char *key, const char *value)
{
    struct buf sealed = rig_seal(&r, dek, key, value, strlen(value)),
               m = watch_event(id, key, &sealed);

    buf_free(&sealed);
    return m;
}

static void check_event(struct bytes m, const char *key, const char *value)
{
    struct bytes kv = field_of(field_of(m, 11), 2);

    assert_true(bytes_eq(field_of(kv, 1), bytes_str(key)));
    assert_true(bytes_eq(field_of(kv, 5), bytes_str(value)));
}

static void close_watch(struct rec *c, struct rec *s)
{
    h2_stream_reset(c->s, H2_CANCEL);
    RIG_UNTIL(&r, s->close_count == 1);
}

static void events_cut_at_every_byte(void **state)
{
    struct rec *s, *c = watch_open(1, &s);
    struct buf plain = buf_of("plain", 5), all = {0};
    size_t before = 1;

    (void)state;
    add_framed(&all, sealed_event(0, 1, SECRET_KEY, "treasure"));
    add_framed(&all, watch_event(0, POD_KEY, &plain));
    add_framed(&all, sealed_event(0, 1, LOCAL_KEY, "booty"));
    for (size_t at = 0; at < all.n; at++, before += 3) {
        rig_send_cut(&r, s, &all, at, false);
        RIG_UNTIL(&r, rig_message_count(c) == before + 3);
        check_event(rig_message_at(c, before), SECRET_KEY, "treasure");
        check_event(rig_message_at(c, before + 1), POD_KEY, "plain");
        check_event(rig_message_at(c, before + 2), LOCAL_KEY, "booty");
    }
    close_watch(c, s);
    buf_free(&all);
    buf_free(&plain);
}

/* The client's messages on a stream, several in a piece or one in several. */
static void watch_requests_cut_at_every_byte(void **state)
{
    struct buf create = watch_create("/registry/", "/registry0"), framed = rig_framed(&create);
    struct rec *s, *c = watch_open(0, &s);
    size_t sent = 0;

    (void)state;
    for (size_t at = 1; at < framed.n; at++) {
        rig_send(c, framed.p, framed.n, false);
        rig_send_cut(&r, c, &framed, at, false);
        sent += 2;
        RIG_UNTIL(&r, rig_message_count(s) == sent);
        assert_int_equal(s->body_len, sent * framed.n);
        assert_memory_equal(s->body + s->body_len - framed.n, framed.p, framed.n);
    }
    h2_stream_credit(s->s, 0);
    close_watch(c, s);
    buf_free(&framed);
}

static void the_clients_end_is_handed_on(void **state)
{
    struct rec *s, *c = watch_open(1, &s);

    (void)state;
    rig_send(c, NULL, 0, true);
    RIG_UNTIL(&r, s->end_count == 1);
    assert_int_equal(c->close_count, 0);
    rig_trailers(s, "0");
    rig_expect(&r, c, 0);
}

/* --- parked ---------------------------------------------------------------------------------- */

static void nothing_overtakes_a_message_that_waits(void **state)
{
    struct rec *s, *c = watch_open(1, &s);
    struct buf plain = buf_of("plain", 5), progress = put_response(), m;

    (void)state;
    r.plugin.decrypt.how = FAKE_SILENT;
    m = sealed_event(0, 7, SECRET_KEY, "first");
    rig_message(s, &m, false);
    m = watch_event(0, POD_KEY, &plain);
    rig_message(s, &m, false);
    rig_message(s, &progress, false);
    m = sealed_event(0, 8, SECRET_KEY, "fourth");
    rig_message(s, &m, false);
    rig_trailers(s, "11");
    RIG_UNTIL(&r, r.plugin.decrypt.now == 1);
    rig_pass(&r, 1000);
    assert_int_equal(rig_message_count(c), 1); /* created */
    fake_speak(&r.plugin);
    RIG_UNTIL(&r, rig_message_count(c) == 4);
    assert_int_equal(c->close_count, 0);
    RIG_UNTIL(&r, r.plugin.decrypt.now == 1);
    fake_speak(&r.plugin);
    rig_expect(&r, c, 11);
    assert_int_equal(rig_message_count(c), 5);
    check_event(rig_message_at(c, 1), SECRET_KEY, "first");
    check_event(rig_message_at(c, 2), POD_KEY, "plain");
    check_event(rig_message_at(c, 4), SECRET_KEY, "fourth");
    buf_free(&plain);
}

/* What comes behind a message that waits is of no use yet: etcd may send a window of it. */
static void who_waits_stops_its_stream(void **state)
{
    struct rec *s, *c = watch_open(1, &s);
    struct buf big = {calloc(1, 100000), 100000, 0};
    struct buf sealed = rig_seal(&r, 12, SECRET_KEY, big.p, big.n);
    unsigned n = 50;

    (void)state;
    r.plugin.decrypt.how = FAKE_SILENT;
    for (unsigned i = 0; i < n; i++) {
        struct buf m = watch_event(0, SECRET_KEY, &sealed);

        rig_message(s, &m, false);
    }
    RIG_UNTIL(&r, r.plugin.decrypt.now == 1);
    rig_pass(&r, 1000);
    assert_in_range(s->drained, 1, MIB);
    fake_speak(&r.plugin);
    RIG_UNTIL(&r, rig_message_count(c) == n + 1);
    close_watch(c, s);
    buf_free(&big);
    buf_free(&sealed);
}

static void who_waits_holds_nobody_up(void **state)
{
    struct rec *waits = rig_range(r.client, SECRET_KEY), *s = rig_await(&r, 1);
    struct buf sealed = rig_seal(&r, 9, SECRET_KEY, "treasure", 8);
    struct buf m = range_response(SECRET_KEY, &sealed);

    (void)state;
    r.plugin.decrypt.how = FAKE_SILENT;
    rig_answer(s, &m);
    RIG_UNTIL(&r, r.plugin.decrypt.now == 1);
    for (unsigned i = 2; i < 12; i++)
        rig_answer_put(&r, rig_put(r.client, SECRET_KEY, "treasure"), i);
    assert_int_equal(waits->close_count, 0);
    fake_speak(&r.plugin);
    rig_expect(&r, waits, 0);
    rig_check_value(rig_message_at(waits, 0), "treasure", 8);
    buf_free(&sealed);
}

static void one_key_is_asked_for_once(void **state)
{
    struct rec *c[20];
    struct buf sealed = rig_seal(&r, 10, SECRET_KEY, "treasure", 8);

    (void)state;
    r.plugin.decrypt.how = FAKE_SILENT;
    for (unsigned i = 0; i < ARRAY_LEN(c); i++) {
        struct buf m = range_response(SECRET_KEY, &sealed);

        c[i] = rig_range(r.client, SECRET_KEY);
        rig_answer(rig_await(&r, i + 1), &m);
    }
    rig_settle(&r);
    assert_int_equal(r.plugin.decrypt.now, 1);
    fake_speak(&r.plugin);
    for (unsigned i = 0; i < ARRAY_LEN(c); i++) {
        rig_expect(&r, c[i], 0);
        rig_check_value(rig_message_at(c[i], 0), "treasure", 8);
    }
    assert_int_equal(r.plugin.decrypt.calls, 1);
    buf_free(&sealed);
}

/* A put whose value came sealed waits for the key that opens it. */
static void a_request_waits_for_its_key(void **state)
{
    struct buf sealed = rig_seal(&r, 11, SECRET_KEY, "treasure", 8);
    struct buf m = put_request(SECRET_KEY, sealed.p, sealed.n);
    struct rec *c;

    (void)state;
    r.plugin.decrypt.how = FAKE_SILENT;
    c = rig_call(r.client, PUT, &m);
    RIG_UNTIL(&r, r.plugin.decrypt.now == 1);
    assert_int_equal(r.etcd->recs_count, 0);
    fake_speak(&r.plugin);
    rig_check_put(&r, rig_message_at(rig_await(&r, 1), 0), SECRET_KEY, "treasure");
    rig_answer_put(&r, c, 1);
    buf_free(&sealed);
}

/* --- one watch of many ----------------------------------------------------------------------- */

static bool has_flag(struct bytes m, uint32_t number)
{
    struct pb_span f;

    while (pb_span_next(&m, &f) == PB_FIELD)
        if (f.number == number && f.wire == PB_VARINT)
            return f.varint != 0;
    return false;
}

static void a_bad_value_ends_its_watch_alone(void **state)
{
    struct rec *s, *c = watch_open(2, &s);
    struct buf bad = sealed_event(0, 1, SECRET_KEY, "treasure"), m, want = {0}, id = {0};

    (void)state;
    bad.p[bad.n - 60] ^= 1; /* within the ciphertext's key id and wrapped key, or the tag */
    m = sealed_event(1, 1, SECRET_KEY, "before");
    rig_message(s, &m, false);
    m = buf_of(bad.p, bad.n);
    rig_message(s, &m, false);
    RIG_UNTIL(&r, rig_message_count(c) == 4 && rig_message_count(s) == 3);
    check_event(rig_message_at(c, 2), SECRET_KEY, "before");
    assert_true(has_flag(rig_message_at(c, 3), 4));  /* canceled */
    assert_false(has_flag(rig_message_at(c, 3), 2)); /* of watch 0 */
    assert_true(rig_message_at(s, 2).n <= 4 && rig_message_at(s, 2).p[0] == 0x12);
    /* What etcd still says of it stays here; the other one goes on. */
    m = sealed_event(0, 1, SECRET_KEY, "too late");
    rig_message(s, &m, false);
    m = put_response();
    buf_varint(&m, 4, 1);
    rig_message(s, &m, false);
    m = sealed_event(1, 1, SECRET_KEY, "behind");
    rig_message(s, &m, false);
    RIG_UNTIL(&r, rig_message_count(c) >= 5);
    check_event(rig_message_at(c, 4), SECRET_KEY, "behind");
    assert_false(bytes_contain(c->body, c->body_len, "too late"));
    close_watch(c, s);
    buf_free(&bad);
    buf_free(&want);
    buf_free(&id);
}

/* --- credit ---------------------------------------------------------------------------------- */

/* etcd sends as much as it may. */
static void flood(struct rec *s, size_t total, size_t message)
{
    struct buf m = {calloc(1, message), message, 0}, framed;

    assert_non_null(m.p);
    framed = rig_framed(&m);
    for (size_t sent = 0; sent < total; sent += message)
        rig_send(s, framed.p, framed.n, false);
    buf_free(&framed);
}

static void a_client_that_does_not_read_stops_its_stream(void **state)
{
    struct buf m = {0};
    struct rec *c = rig_call(r.client, SNAPSHOT, &m), *s = rig_await(&r, 1);
    uint64_t held;

    (void)state;
    c->is_hungry = false;
    rig_respond(s);
    flood(s, 32 * MIB, 64 * 1024);
    rig_pass(&r, 100);
    assert_in_range(s->drained, MIB, 4 * MIB); /* two windows and a queue */
    held = rig_held(&r);
    assert_in_range(held, 1, 4 * MIB);
    for (unsigned i = 2; i < 6; i++) /* the connection is free for others */
        rig_answer_put(&r, rig_put(r.client, SECRET_KEY, "treasure"), i);
    rig_pass(&r, 1000);
    assert_int_equal(rig_held(&r) <= held, 1);
    c->is_hungry = true;
    h2_stream_credit(c->s, c->body_len);
    rig_trailers(s, "0");
    rig_expect(&r, c, 0);
    assert_int_equal(c->body_len, 512 * (64 * 1024 + GRPC_PREFIX_LEN));
}

/* The same where values are opened: they may be of any number. */
static void a_watcher_that_does_not_read_stops_its_stream(void **state)
{
    struct rec *s, *c = watch_open(1, &s);
    struct buf big = {calloc(1, 100000), 100000, 0};
    struct buf sealed = rig_seal(&r, 1, SECRET_KEY, big.p, big.n);
    unsigned n = 100;

    (void)state;
    c->is_hungry = false;
    for (unsigned i = 0; i < n; i++) {
        struct buf m = watch_event(0, SECRET_KEY, &sealed);

        rig_message(s, &m, false);
    }
    rig_pass(&r, 100);
    assert_in_range(s->drained, MIB, 5 * MIB);
    assert_in_range(rig_held(&r), 1, 6 * MIB);
    c->is_hungry = true;
    h2_stream_credit(c->s, c->body_len);
    RIG_UNTIL(&r, rig_message_count(c) == n + 1);
    close_watch(c, s);
    buf_free(&big);
    buf_free(&sealed);
}

/* Nor is it heard: etcd would leave its requests unread, and with them the credit of a connection
 * that others share. */
static void a_watcher_that_does_not_read_is_not_heard(void **state)
{
    struct rec *s, *c = watch_open(1, &s);
    struct buf big = {calloc(1, 100000), 100000, 0};
    struct buf sealed = rig_seal(&r, 1, SECRET_KEY, big.p, big.n);
    char *key = calloc(1, 20001);
    unsigned creates = 200, events = 20;
    size_t before;

    (void)state;
    memset(key, 'k', 20000);
    c->is_hungry = false;
    for (unsigned i = 0; i < events; i++) {
        struct buf m = watch_event(0, SECRET_KEY, &sealed);

        rig_message(s, &m, false);
    }
    rig_pass(&r, 100);
    before = rig_message_count(s);
    for (unsigned i = 0; i < creates; i++) {
        struct buf m = watch_create(key, NULL), framed = rig_framed(&m);

        rig_send(c, framed.p, framed.n, false);
        buf_free(&framed);
    }
    rig_pass(&r, 100);
    assert_int_equal(rig_message_count(s), before);
    assert_in_range(c->drained, LIMIT_STREAM_FIRST / 2,
                    2 * LIMIT_STREAM_FIRST); /* its window, and no credit */
    rig_answer_put(&r, rig_put(r.client, SECRET_KEY, "treasure"), 2);
    c->is_hungry = true;
    h2_stream_credit(c->s, c->body_len);
    RIG_UNTIL(&r, rig_message_count(s) == before + creates);
    RIG_UNTIL(&r, rig_message_count(c) == events + 1);
    close_watch(c, s);
    buf_free(&big);
    buf_free(&sealed);
    free(key);
}

/* An etcd that does not read. */
static void requests_are_held_back_too(void **state)
{
    struct rec *s, *c = watch_open(0, &s);
    char *key = calloc(1, 20001);
    unsigned n = 400;

    (void)state;
    memset(key, 'k', 20000);
    s->is_hungry = false;
    for (unsigned i = 0; i < n; i++) {
        struct buf m = watch_create(key, NULL), framed = rig_framed(&m);

        rig_send(c, framed.p, framed.n, false);
        buf_free(&framed);
    }
    rig_pass(&r, 100);
    assert_in_range(c->drained, MIB, 4 * MIB);
    rig_answer_put(&r, rig_put(r.client, SECRET_KEY, "treasure"), 2);
    s->is_hungry = true;
    h2_stream_credit(s->s, s->body_len);
    RIG_UNTIL(&r, rig_message_count(s) == n);
    close_watch(c, s);
    free(key);
}

/* --- opaque ---------------------------------------------------------------------------------- */

/* Values in it would pass unopened: nothing looks into it. */
static void opaque_answers_pass_byte_for_byte(void **state)
{
    struct buf sealed = rig_seal(&r, 1, SECRET_KEY, "treasure", 8), all = {0};
    unsigned nth = 0;

    (void)state;
    add_framed(&all, range_response(SECRET_KEY, &sealed));
    add_framed(&all, (struct buf){0});
    add_framed(&all, buf_of("\xff\xff\xff", 3));
    for (size_t at = 0; at < all.n; at++) {
        struct buf m = {0};
        struct rec *c = rig_call(r.client, SNAPSHOT, &m), *s = rig_await(&r, ++nth);

        rig_respond(s);
        rig_send_cut(&r, s, &all, at, false);
        rig_trailers(s, "0");
        rig_expect(&r, c, 0);
        assert_int_equal(c->body_len, all.n);
        assert_memory_equal(c->body, all.p, all.n);
    }
    assert_int_equal(r.plugin.decrypt.calls, 0);
    buf_free(&sealed);
    buf_free(&all);
}

static void opaque_answers_begin_before_they_are_whole(void **state)
{
    struct buf m = {0}, big = {calloc(1, 100000), 100000, 0}, framed = rig_framed(&big);
    struct rec *c = rig_call(r.client, SNAPSHOT, &m), *s = rig_await(&r, 1);

    (void)state;
    rig_respond(s);
    rig_send(s, framed.p, 50000, false);
    RIG_UNTIL(&r, c->body_len == 50000);
    rig_trailers(s, "0"); /* which it never is */
    rig_expect(&r, c, 13);
    buf_free(&framed);
}

static void compressed_opaque_answers_are_refused(void **state)
{
    struct buf m = {0};
    struct rec *c = rig_call(r.client, SNAPSHOT, &m), *s = rig_await(&r, 1);

    (void)state;
    rig_respond(s);
    rig_send(s, "\1\0\0\0\1x", 6, false);
    rig_expect(&r, c, 13);
    assert_int_equal(c->body_len, 0);
}

int main(void)
{
#define TEST(fn) RIG_TEST_WITH_CLIENT(fn, &r)
    const struct CMUnitTest tests[] = {
        TEST(requests_cut_at_every_byte),
        TEST(answers_cut_at_every_byte),
        TEST(events_cut_at_every_byte),
        TEST(watch_requests_cut_at_every_byte),
        TEST(the_clients_end_is_handed_on),
        TEST(nothing_overtakes_a_message_that_waits),
        TEST(who_waits_holds_nobody_up),
        TEST(who_waits_stops_its_stream),
        TEST(one_key_is_asked_for_once),
        TEST(a_request_waits_for_its_key),
        TEST(a_bad_value_ends_its_watch_alone),
        TEST(a_client_that_does_not_read_stops_its_stream),
        TEST(a_watcher_that_does_not_read_stops_its_stream),
        TEST(a_watcher_that_does_not_read_is_not_heard),
        TEST(requests_are_held_back_too),
        TEST(opaque_answers_pass_byte_for_byte),
        TEST(opaque_answers_begin_before_they_are_whole),
        TEST(compressed_opaque_answers_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
