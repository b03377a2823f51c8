/* SPDX-License-Identifier: Apache-2.0 */
/* The rule of an answer that is too large to be collected: the client gets a message of the length
 * that it was promised, with no value in it that did not authenticate, wherever it fails and
 * however it was cut; then the status. What is missing is made up at once, or, where that is more
 * than anybody may have us make up, as etcd sends it; where it never does the stream is reset. */
#include "base/metrics.h"
#include "grpc/grpc.h"
#include "rig.h"
#include "pb/pb.h"

#define THRESHOLD 4096u
#define VALUES 5u
#define VALUE_LEN 1800u
#define MIB (1024u * 1024)

static struct rig r;

static int setup(void **state)
{
    (void)rig_setup(state);
    r.settings.stream_threshold = THRESHOLD;
    r.client = rig_client(&r);
    return 0;
}

/* --- filler --------------------------------------------------------------------------- */

static void key_of(unsigned i, char key[static 40])
{
    (void)snprintf(key, 40, "/registry/secrets/ns/%03u", i);
}

static void value_of(unsigned i, uint8_t value[static VALUE_LEN])
{
    memset(value, 'a' + (int)i % 26, VALUE_LEN);
}

/* VALUES values; that at bad (if any) does not open. ends[i]: behind which byte of the framed
 * message value i is whole. */
static struct buf large_answer(unsigned bad, size_t ends[static VALUES])
{
    struct buf m = put_response();
    uint8_t value[VALUE_LEN];
    char key[40];

    for (unsigned i = 0; i < VALUES; i++) {
        struct buf sealed;

        key_of(i, key);
        value_of(i, value);
        sealed = rig_seal(&r, 1, key, value, sizeof value);
        if (i == bad)
            sealed.p[sealed.n / 2] ^= 1;
        add_kv(&m, 2, key, sealed.p, sealed.n);
        ends[i] = GRPC_PREFIX_LEN + m.n;
        buf_free(&sealed);
    }
    buf_varint(&m, 4, VALUES);
    return rig_framed(&m);
}

/* Checks the one message that came: as long as etcd's, with the first count values, or fewer of
 * them, and the rest nothing but filler. */
static void check_filled(const struct rec *c, size_t framed_len, unsigned count, bool is_whole)
{
    struct bytes m = rig_message_at(c, 0);
    uint8_t want[VALUE_LEN];
    struct pb_span f;
    enum pb_result got;
    unsigned kvs = 0;

    assert_int_equal(c->body_len, framed_len);
    while ((got = pb_span_next(&m, &f)) == PB_FIELD) {
        if (f.number == 2) {
            value_of(kvs++, want);
            assert_true(bytes_eq(field_of(f.value, 5), bytes_of(want, sizeof want)));
        } else if (f.number == 19999 && f.wire == PB_LEN) {
            for (size_t i = 0; i < f.value.n; i++)
                assert_int_equal(f.value.p[i], 0);
        } else {
            assert_true(f.number == 1 || f.number == 4);
        }
    }
    assert_int_equal(got, PB_END);
    assert_in_range(kvs, is_whole ? count : 0, count);
}

static void large_answers_cut_at_many_places(void **state)
{
    size_t ends[VALUES];
    struct buf framed = large_answer(VALUES, ends);
    uint64_t streamed = metric_get(METRIC_messages_streamed_total);
    unsigned nth = 0;

    (void)state;
    for (size_t at = 1; at < framed.n; at += at < 100 ? 1 : 97) {
        struct rec *c = rig_range_all(r.client), *s = rig_await(&r, ++nth);

        rig_respond(s);
        rig_send_cut(&r, s, &framed, at, false);
        rig_trailers(s, "0");
        rig_expect(&r, c, 0);
        check_filled(c, framed.n, VALUES, true);
    }
    assert_int_equal(metric_get(METRIC_messages_streamed_total), streamed + nth);
    buf_free(&framed);
}

/* Each in turn, and all of it sent at once or value by value. */
static void a_large_answer_fails_at_each_value(void **state)
{
    unsigned nth = 0;

    (void)state;
    for (unsigned bad = 0; bad < VALUES; bad++) {
        for (unsigned piecewise = 0; piecewise < 2; piecewise++) {
            size_t ends[VALUES], at = 0;
            struct buf framed = large_answer(bad, ends);
            struct rec *c = rig_range_all(r.client), *s = rig_await(&r, ++nth);

            rig_respond(s);
            for (unsigned i = 0; i < bad && piecewise; i++) {
                rig_send(s, framed.p + at, ends[i] - at, false);
                at = ends[i];
                rig_settle(&r);
            }
            rig_send(s, framed.p + at, framed.n - at, false);
            rig_expect(&r, c, 15);
            check_filled(c, framed.n, bad, false);
            RIG_UNTIL(&r, s->close_count == 1);
            buf_free(&framed);
        }
    }
    RIG_UNTIL(&r, rig_is_idle(&r));
    assert_int_equal(rig_tally(&r, "DataLoss", RANGE), nth);
}

static void a_large_answer_that_etcd_cuts(void **state)
{
    size_t ends[VALUES];
    struct buf framed = large_answer(VALUES, ends);
    unsigned nth = 0;

    (void)state;
    for (unsigned i = 0; i < VALUES; i++) {
        struct rec *c = rig_range_all(r.client), *s = rig_await(&r, ++nth);

        rig_respond(s);
        rig_send(s, framed.p, ends[i] - 1, false);
        rig_settle(&r);
        if (i % 2 == 0)
            rig_trailers(s, "0");
        else
            h2_stream_reset(s->s, H2_INTERNAL_ERROR);
        rig_expect(&r, c, 13);
        check_filled(c, framed.n, i, true);
    }
    buf_free(&framed);
}

static void a_large_answer_whose_key_is_refused(void **state)
{
    size_t ends[VALUES];
    struct buf framed = large_answer(VALUES, ends);
    struct rec *c = rig_range_all(r.client), *s = rig_await(&r, 1);

    (void)state;
    r.plugin.decrypt.how = FAKE_FAILS;
    r.plugin.decrypt.code = GRPC_INVALID_ARGUMENT;
    rig_respond(s);
    rig_send(s, framed.p, framed.n, false);
    RIG_UNTIL(&r, c->close_count == 1);
    assert_int_not_equal(rig_status(c), 0);
    check_filled(c, framed.n, 0, true);
    buf_free(&framed);
}

/* No more is opened than the client takes. */
static void a_client_that_does_not_read_a_large_answer(void **state)
{
    enum { COUNT = 10000 };
    struct rec *c = rig_range_all(r.client), *s = rig_await(&r, 1);
    uint64_t opened = metric_get(METRIC_values_opened_total);
    uint8_t value[VALUE_LEN];
    struct buf sealed, m = put_response();
    char key[40];

    (void)state;
    key_of(0, key);
    value_of(0, value);
    sealed = rig_seal(&r, 1, key, value, sizeof value);
    for (unsigned i = 0; i < COUNT; i++)
        add_kv(&m, 2, key, sealed.p, sealed.n);
    c->is_hungry = false;
    rig_respond(s);
    rig_message(s, &m, false);
    rig_trailers(s, "0");
    rig_pass(&r, 500);
    assert_in_range(metric_get(METRIC_values_opened_total) - opened, 500, 2 * MIB / VALUE_LEN);
    assert_in_range(rig_held(&r), 1, 4 * MIB);
    assert_int_equal(r.w->idle_work_count, 1); /* nor does it keep a plan, which nobody counts */
    c->is_hungry = true;
    h2_stream_credit(c->s, c->body_len);
    rig_expect(&r, c, 0);
    assert_int_equal(metric_get(METRIC_values_opened_total) - opened, COUNT);
    buf_free(&sealed);
}

static void a_client_resets_within_a_large_answer(void **state)
{
    size_t ends[VALUES];
    struct buf framed = large_answer(VALUES, ends);
    unsigned nth = 0;

    (void)state;
    for (unsigned i = 0; i < VALUES; i++) {
        struct rec *c = rig_range_all(r.client), *s = rig_await(&r, ++nth);

        rig_respond(s);
        rig_send(s, framed.p, ends[i] - 1, false);
        RIG_UNTIL(&r, c->body_len > 0);
        h2_stream_reset(c->s, H2_CANCEL);
        RIG_UNTIL(&r, s->close_count == 1);
        RIG_UNTIL(&r, rig_is_idle(&r));
    }
    buf_free(&framed);
}

/* --- more than may be made up ---------------------------------------------------------------- */

/* An answer of 70 MiB, as its prefix says, whose first value does not open: what is missing is more
 * than anybody may have us make up, so the status waits for etcd's bytes. */
static struct rec *failing_giant(struct rec **up, unsigned nth)
{
    size_t ends[VALUES];
    struct buf framed = large_answer(0, ends);
    struct rec *c = rig_range_all(r.client);

    *up = rig_await(&r, nth);
    grpc_prefix_put(framed.p, 70 * MIB);
    rig_respond(*up);
    rig_send(*up, framed.p, ends[0], false);
    rig_pass(&r, 100);
    assert_int_equal(c->close_count, 0);
    assert_int_equal((*up)->close_count, 0);
    buf_free(&framed);
    return c;
}

static void a_giant_is_filled_as_etcd_sends_it(void **state)
{
    struct rec *s, *c = failing_giant(&s, 1);
    uint8_t *zeros = calloc(1, MIB);

    (void)state;
    for (unsigned i = 1; i <= 70 && s->s != NULL; i++) {
        assert_int_equal(c->close_count, 0);
        rig_send(s, zeros, MIB, false);
        rig_settle(&r);
        assert_in_range(c->body_len, (i - 1) * MIB, 70 * MIB + GRPC_PREFIX_LEN);
        assert_in_range(rig_held(&r), 0, 3 * MIB);
    }
    rig_expect(&r, c, 15);
    assert_int_equal(c->body_len, 70 * MIB + GRPC_PREFIX_LEN);
    assert_int_equal(rig_message_count(c), 1);
    RIG_UNTIL(&r, s->close_count == 1);
    assert_int_equal(rig_tally(&r, "DataLoss", RANGE), 1);
    free(zeros);
}

/* It cannot be completed: only a reset tells the client. */
static void a_giant_that_etcd_does_not_send(void **state)
{
    (void)state;
    for (unsigned how = 0; how < 4; how++) {
        struct rec *s, *c = failing_giant(&s, how < 3 ? how + 1 : 1);

        if (how == 0)
            rig_trailers(s, "0");
        else if (how == 1)
            h2_stream_reset(s->s, H2_CANCEL);
        else if (how == 2)
            rig_etcd_lost(&r);
        else
            h2_stream_reset(c->s, H2_CANCEL); /* or it loses patience */
        RIG_UNTIL(&r, c->close_count == 1);
        assert_int_equal(rig_status(c), -1);
        if (how < 3)
            assert_int_equal(c->code, H2_INTERNAL_ERROR);
        RIG_UNTIL(&r, s->close_count == 1 && rig_is_idle(&r));
    }
    assert_int_equal(rig_tally(&r, "DataLoss", RANGE), 4);
}

/* Nor does it wait for etcd for ever where it had to wait for the plugin first. */
static void a_giant_that_stops_while_its_key_is_away(void **state)
{
    size_t ends[VALUES];
    struct buf framed = large_answer(VALUES, ends);
    struct rec *c = rig_range_all(r.client), *s = rig_await(&r, 1);

    (void)state;
    r.plugin.decrypt.how = FAKE_SILENT;
    grpc_prefix_put(framed.p, 70 * MIB);
    rig_respond(s);
    rig_send(s, framed.p, ends[0], false);
    rig_pass_in(&r, LIMIT_KEY_WAIT_MS + LIMIT_PROGRESS_MS + 3000, 100);
    assert_int_equal(c->close_count, 1);
    assert_int_equal(rig_status(c), -1);
    assert_int_equal(c->code, H2_INTERNAL_ERROR);
    assert_int_equal(s->close_count, 1);
    assert_int_equal(rig_tally(&r, "FailedPrecondition", RANGE), 1);
    buf_free(&framed);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_prestate_setup_teardown(fn, setup, rig_teardown, &r)
    const struct CMUnitTest tests[] = {
        TEST(large_answers_cut_at_many_places),
        TEST(a_large_answer_fails_at_each_value),
        TEST(a_large_answer_that_etcd_cuts),
        TEST(a_large_answer_whose_key_is_refused),
        TEST(a_client_that_does_not_read_a_large_answer),
        TEST(a_client_resets_within_a_large_answer),
        TEST(a_giant_is_filled_as_etcd_sends_it),
        TEST(a_giant_that_etcd_does_not_send),
        TEST(a_giant_that_stops_while_its_key_is_away),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
