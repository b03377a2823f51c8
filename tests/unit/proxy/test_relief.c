/* SPDX-License-Identifier: Apache-2.0 */
/* The rule of the memory limit: over it calls end with RESOURCE_EXHAUSTED, or its HTTP/2 code where
 * a status would wait behind bytes that nobody reads, until the worker is below it. The client that
 * holds most pays, with its newest calls first; the others are served on; and the oldest message on
 * its way is spared, so that something always gets done. */
#include <unistd.h>

#include "base/metrics.h"
#include "proxy/lane.h"
#include "proxy/link.h"
#include "rig.h"

#define MIB (1024u * 1024)
#define LIMIT (8 * MIB)
#define LARGE 900000u     /* an answer that is collected as a whole */
#define LARGEST (8 * MIB) /* of what is put, the rest of it zeros */
#define MANY 20u

static struct rig r;
static struct end *heavy, *light;
static char *large;

static int setup(void **state)
{
    (void)rig_setup(state);
    rig_limit(&r, LIMIT);
    light = rig_client(&r);
    heavy = rig_client(&r);
    large = calloc(1, LARGEST);
    if (large == NULL)
        return -1;
    memset(large, 'x', LARGE);
    return 0;
}

static int teardown(void **state)
{
    free(large);
    return rig_teardown(state);
}

static uint64_t held(void)
{
    return worker_held(r.w);
}

/* A range whose answer waits for a key that the plugin keeps back. */
static struct rec *waiting_range(struct end *client, size_t len)
{
    struct rec *c = rig_range(client, SECRET_KEY), *s;
    struct buf sealed = rig_seal(&r, 1, SECRET_KEY, large, len), m;
    unsigned n = rig_calls(&r);

    r.plugin.decrypt.how = FAKE_SILENT;
    RIG_UNTIL(&r, rig_calls(&r) == n + 1 || c->close_count == 1);
    s = r.call;
    if (c->close_count == 0) {
        RIG_UNTIL(&r, s->end_count == 1);
        m = range_response(SECRET_KEY, &sealed);
        rig_answer(s, &m);
        rig_settle(&r);
    }
    buf_free(&sealed);
    return c;
}

/* The rest of c, from to on, has the status; what is before it has not ended. */
static void check_newest_ended(struct rec **c, unsigned count, unsigned from)
{
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(c[i]->close_count, i >= from);
        if (i >= from)
            assert_int_equal(rig_status(c[i]), 8);
    }
}

static unsigned count_open(struct rec **c, unsigned count)
{
    unsigned n = 0;

    for (unsigned i = 0; i < count; i++)
        n += c[i]->close_count == 0;
    return n;
}

/* More than there is room for does not come before there is. */
static void credit_stops_first(void **state)
{
    struct rec *c[MANY];

    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(c); i++) {
        c[i] = waiting_range(heavy, LARGE);
        assert_in_range(held(), 0, LIMIT);
    }
    assert_in_range(held(), 3 * LARGE, LIMIT);
    check_newest_ended(c, ARRAY_LEN(c), ARRAY_LEN(c));
    fake_speak(&r.plugin);
    for (unsigned i = 0; i < ARRAY_LEN(c); i++) {
        rig_expect(&r, c[i], 0);
        rig_check_value(rig_message_at(c[i], 0), large, LARGE);
    }
}

/* When nobody got room for 5 s, the newest go. */
static void answers_newest_first(void **state)
{
    struct rec *small = waiting_range(light, 1000), *c[MANY];
    unsigned open;

    (void)state;
    for (unsigned i = 0; i < MANY; i++)
        c[i] = waiting_range(heavy, LARGE);
    rig_pass(&r, 4000);
    assert_int_equal(count_open(c, MANY), MANY);
    rig_pass(&r, 2000);
    open = count_open(c, MANY);
    assert_in_range(open, 2, MANY - 1);
    check_newest_ended(c, MANY, open);
    assert_int_equal(small->close_count, 0);
    fake_speak(&r.plugin);
    rig_expect(&r, small, 0);
    for (unsigned i = 0; i < MANY; i++) {
        RIG_UNTIL(&r, c[i]->close_count == 1);
        assert_true(rig_status(c[i]) == 0 || rig_status(c[i]) == 8);
        if (rig_status(c[i]) == 8)
            assert_int_equal(c[i]->body_len, 0);
    }
    assert_int_equal(rig_status(c[0]), 0);
    assert_int_equal(rig_tally(&r, "ResourceExhausted", RANGE), MANY - open);
    assert_int_equal(rig_tally(&r, "OK", RANGE), open + 1);
}

/* The heavy client's are older: it pays all the same. */
static void whoever_holds_most_pays(void **state)
{
    struct rec *c[7], *small[3];

    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(c); i++)
        c[i] = waiting_range(heavy, LARGE);
    for (unsigned i = 0; i < ARRAY_LEN(small); i++)
        small[i] = waiting_range(light, LARGE);
    rig_pass(&r, 5500);
    check_newest_ended(small, ARRAY_LEN(small), ARRAY_LEN(small));
    assert_in_range(count_open(c, ARRAY_LEN(c)), 1, ARRAY_LEN(c) - 1);
    check_newest_ended(c, ARRAY_LEN(c), count_open(c, ARRAY_LEN(c)));
    fake_speak(&r.plugin);
    for (unsigned i = 0; i < ARRAY_LEN(small); i++)
        rig_expect(&r, small[i], 0);
    rig_expect(&r, c[0], 0);
}

/* Puts, all but their last byte. */
static struct rec *half_put(struct end *client, size_t len, struct buf *rest)
{
    struct buf m = put_request(POD_KEY, large, len), framed = rig_framed(&m);
    struct rec *c = rig_begin(client, PUT, NULL);

    rig_send(c, framed.p, framed.n - 1, false);
    rig_settle(&r);
    *rest = buf_of(framed.p + framed.n - 1, 1);
    buf_free(&framed);
    return c;
}

/* Etcd answers all Puts that have come. */
static void answer_puts(void)
{
    for (size_t i = 0; i < r.etcd_count; i++) {
        LIST_FOREACH(it, &r.etcds[i]->recs) {
            struct rec *s = LIST_ENTRY(it, struct rec, node);
            struct buf m;

            if (s->end_count == 0 || s->close_count > 0)
                continue;
            m = put_response();
            rig_answer(s, &m);
            rig_settle(&r);
        }
    }
}

/* The same of requests; and whoever comes later, with little or with much, has his turn. */
static void requests_wait_for_their_turn(void **state)
{
    struct rec *c[MANY], *other;
    struct buf rest;

    (void)state;
    rig_limit(&r, 2 * LIMIT);
    for (unsigned i = 0; i < MANY; i++) {
        c[i] = half_put(heavy, LARGE, &rest);
        buf_free(&rest);
        assert_in_range(held(), 0, 2 * LIMIT);
    }
    assert_in_range(held(), 2 * LARGE, MANY * LARGE / 2);
    other = rig_put(light, SECRET_KEY, "treasure");
    rig_answer_put(&r, other, 1);
    other = half_put(light, LARGE, &rest);
    rig_send(other, rest.p, rest.n, true);
    buf_free(&rest);
    rig_answer_put(&r, other, 2);
    for (unsigned i = 0; i < MANY; i++)
        rig_send(c[i], "x", 1, true);
    while (count_open(c, MANY) > 0) {
        answer_puts();
        rig_pass(&r, 1);
        assert_in_range(held(), 0, 2 * LIMIT);
    }
    for (unsigned i = 0; i < MANY; i++)
        rig_expect(&r, c[i], 0);
}

/* Half a message each, on many connections, and none of them goes on: those with little go on, and
 * when nobody got room for 5 s somebody has to make it. */
static void hunger_ends(void **state)
{
    enum { PUTS = 4 };
    struct rec *c[RIG_CLIENTS][PUTS], *other;
    struct buf rest;
    unsigned ended = 0, clients = 6;

    (void)state;
    for (unsigned i = 0; i < clients; i++) {
        struct end *client = rig_client(&r);

        for (unsigned k = 0; k < PUTS; k++) {
            c[i][k] = half_put(client, LARGE, &rest);
            buf_free(&rest);
        }
        assert_in_range(held(), 0, LIMIT);
    }
    other = rig_put(light, SECRET_KEY, "treasure");
    rig_answer_put(&r, other, 1);
    rig_pass(&r, 3000);
    for (unsigned i = 0; i < clients * PUTS; i++)
        assert_int_equal(c[i / PUTS][i % PUTS]->close_count, 0);
    other = half_put(light, 3 * LIMIT_STREAM_FIRST, &rest);
    rig_send(other, rest.p, rest.n, true);
    buf_free(&rest);
    rig_answer_put(&r, other, 2);
    rig_pass(&r, 8000);
    for (unsigned i = 0; i < clients * PUTS; i++) {
        if (c[i / PUTS][i % PUTS]->close_count == 1) {
            assert_int_equal(rig_status(c[i / PUTS][i % PUTS]), 8);
            ended++;
        }
    }
    assert_in_range(ended, 1, clients * PUTS - 1);
    assert_in_range(held(), 0, LIMIT);
    for (unsigned i = 0; i < clients * PUTS; i++)
        if (c[i / PUTS][i % PUTS]->s != NULL)
            h2_stream_reset(c[i / PUTS][i % PUTS]->s, H2_CANCEL);
    RIG_UNTIL(&r, rig_is_idle(&r));
}

/* Every second somebody gives up and another gets the room: whoever has none for 10 s is told so
 * all the same. */
static void nobody_is_hungry_for_ever(void **state)
{
    enum { CLIENTS = 6, PUTS = 5, SECONDS = 14 };
    struct rec *c[CLIENTS * PUTS];
    struct buf rest;
    unsigned refused = 0;

    (void)state;
    for (unsigned i = 0; i < CLIENTS; i++) {
        struct end *client = rig_client(&r);

        for (unsigned k = 0; k < PUTS; k++) {
            c[i * PUTS + k] = half_put(client, LARGE, &rest);
            buf_free(&rest);
        }
    }
    assert_false(list_is_empty(&r.w->hungry));
    for (unsigned i = 0; i < SECONDS; i++) {
        if (c[i]->s != NULL)
            h2_stream_reset(c[i]->s, H2_CANCEL);
        rig_pass(&r, 1000);
        assert_in_range(lane_hunger_ms(r.w), 0, 11500);
        assert_in_range(held(), 0, LIMIT);
    }
    for (unsigned i = SECONDS; i < CLIENTS * PUTS; i++)
        refused += c[i]->close_count == 1 && rig_status(c[i]) == 8;
    assert_in_range(refused, 1, CLIENTS * PUTS);
    for (unsigned i = 0; i < CLIENTS * PUTS; i++)
        if (c[i]->s != NULL)
            h2_stream_reset(c[i]->s, H2_CANCEL);
    RIG_UNTIL(&r, rig_is_idle(&r));
}

/* The only message there is may be much more than the limit while it comes; what else comes
 * meanwhile is refused. */
static void the_oldest_is_spared(void **state)
{
    struct rec *c, *refused, *after, *watches[2];
    struct buf rest, m = put_response();

    (void)state;
    rig_limit(&r, 300000);
    for (unsigned i = 0; i < ARRAY_LEN(watches); i++)
        watches[i] = rig_begin(heavy, WATCH, NULL);
    rig_settle(&r);
    c = half_put(heavy, LARGE, &rest);
    assert_int_equal(c->close_count, 0);
    assert_true(worker_is_over_limit(r.w));
    for (unsigned i = 0; i < ARRAY_LEN(watches); i++) /* older, but they hold no message */
        rig_expect(&r, watches[i], 8);
    refused = rig_put(light, SECRET_KEY, "treasure");
    rig_expect(&r, refused, 8);
    assert_int_equal(rig_calls(&r), 2);
    rig_send(c, rest.p, rest.n, true);
    RIG_UNTIL(&r, rig_calls(&r) == 3);
    RIG_UNTIL(&r, r.call->end_count == 1);
    rig_answer(r.call, &m);
    rig_expect(&r, c, 0);
    after = rig_put(light, SECRET_KEY, "treasure");
    m = put_response();
    rig_answer(rig_await(&r, rig_calls(&r) + 1), &m);
    rig_expect(&r, after, 0);
    buf_free(&rest);
}

/* Streams whose client reads nothing hold what etcd has sent for them; a status would wait behind
 * it. The others are served. */
static void who_does_not_read_is_reset(void **state)
{
    struct rec *c[MANY], *s, *small;
    struct buf message = {0}, framed, m;
    unsigned reset = 0;

    (void)state;
    r.settings.connection_memory_limit = LIMIT / 4;
    buf_add(&message, large, LARGE);
    framed = rig_framed(&message);
    for (unsigned i = 0; i < MANY; i++) {
        m = (struct buf){0};
        c[i] = rig_call(heavy, SNAPSHOT, &m);
        c[i]->is_hungry = false;
        RIG_UNTIL(&r, rig_calls(&r) == i + 1 && r.call->end_count == 1);
        s = r.call;
        rig_respond(s);
        for (unsigned k = 0; k < 4; k++)
            rig_send(s, framed.p, framed.n, false);
        rig_settle(&r);
        assert_in_range(held(), 0, LIMIT / 2);
    }
    for (unsigned i = 0; i < MANY; i++) {
        if (c[i]->close_count == 0)
            continue;
        assert_int_equal(c[i]->code, H2_ENHANCE_YOUR_CALM);
        reset++;
    }
    assert_in_range(reset, 5, MANY - 1);
    small = rig_put(light, SECRET_KEY, "treasure");
    m = put_response();
    rig_answer(rig_await(&r, rig_calls(&r) + 1), &m);
    rig_expect(&r, small, 0);
    assert_int_equal(rig_tally(&r, "ResourceExhausted", SNAPSHOT), reset);
    buf_free(&framed);
}

/* A call that has more than its own bound ends at once, whatever room there is; whoever shares its
 * connection stays. */
static void who_is_over_its_own_bound_ends_at_once(void **state)
{
    enum { CALLS = 12, STEP = 512 * 1024, STAY = 8, END = STAY + LIMIT_STREAM_WINDOW / STEP };
    uint64_t before = metric_refused_get(ERR_STREAM_MEMORY);
    struct rec *c[CALLS];
    struct buf rest;
    unsigned ended = 0;

    (void)state;
    rig_limit(&r, 16 * LIMIT);
    r.settings.stream_memory_limit = STAY * STEP;
    for (unsigned i = 0; i < CALLS; i++) {
        c[i] = half_put(heavy, (i + 1) * STEP + (i < STAY ? 0 : STEP), &rest);
        buf_free(&rest);
    }
    for (unsigned i = 0; i < CALLS; i++) {
        if (i < STAY || i >= END)
            assert_int_equal(c[i]->close_count, i >= END);
        if (c[i]->close_count == 0)
            h2_stream_reset(c[i]->s, H2_CANCEL);
        else
            assert_int_equal(rig_status(c[i]), 8);
        ended += c[i]->close_count;
    }
    assert_int_equal(metric_refused_get(ERR_STREAM_MEMORY), before + ended);
    RIG_UNTIL(&r, rig_is_idle(&r));
}

/* Who has part of an answer, and has read all that came of it, is not told a status behind that
 * part, which no client could see for the message that ends too early: its stream is reset. */
static void no_status_behind_half_an_answer(void **state)
{
    struct buf value = {0}, m, framed;
    struct rec *c, *s;

    (void)state;
    rig_limit(&r, 16 * LIMIT);
    r.settings.stream_memory_limit = MIB;
    buf_add(&value, large, 4 * MIB);
    m = range_response(SECRET_KEY, &value);
    framed = rig_framed(&m);
    c = rig_range(heavy, SECRET_KEY);
    s = rig_await(&r, 1);
    rig_respond(s);
    rig_send(s, framed.p, 1000, false);
    RIG_UNTIL(&r, c->body_len > 0); /* the prefix of what it is promised */
    assert_int_equal(c->close_count, 0);
    rig_send(s, framed.p + 1000, framed.n - 1001, false);
    RIG_UNTIL(&r, c->close_count == 1);
    assert_int_equal(c->trailers_count, 0);
    assert_int_equal(c->how, H2_END_RESET);
    assert_int_equal(c->code, H2_ENHANCE_YOUR_CALM);
    assert_int_equal(rig_tally(&r, "ResourceExhausted", RANGE), 1);
    buf_free(&framed);
    buf_free(&value);
}

/* Who had to wait for room has the time of everybody to get on, and no more. */
static void who_was_hungry_has_to_get_on(void **state)
{
    struct buf m = put_request(POD_KEY, large, 4 * MIB), framed = rig_framed(&m);
    struct rec *c[7], *put;

    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(c); i++)
        c[i] = waiting_range(heavy, LARGE);
    put = rig_begin(light, PUT, NULL);
    rig_send(put, framed.p, 60000, false);
    rig_pass(&r, 3000);
    assert_false(list_is_empty(&r.w->hungry));
    fake_speak(&r.plugin);
    for (unsigned i = 0; i < ARRAY_LEN(c); i++)
        RIG_UNTIL(&r, c[i]->close_count == 1);
    RIG_UNTIL(&r, list_is_empty(&r.w->hungry));
    assert_int_equal(put->close_count, 0);
    rig_pass_in(&r, LIMIT_PROGRESS_MS + 3000, 100);
    assert_int_equal(put->close_count, 1);
    assert_int_equal(put->code, H2_ENHANCE_YOUR_CALM);
    buf_free(&framed);
}

/* Calls hold memory also when they hold no message. */
static void calls_that_only_wait_count_too(void **state)
{
    enum { STREAMS = 400 };
    struct rec *c[STREAMS], *small;
    struct buf m = put_response();
    unsigned open;

    (void)state;
    rig_limit(&r, 600000);
    for (unsigned i = 0; i < STREAMS; i++)
        c[i] = rig_begin(heavy, WATCH, NULL);
    rig_settle(&r);
    assert_in_range(r.w->kept_bytes, 100000, 600000);
    open = count_open(c, STREAMS);
    assert_in_range(open, 50, STREAMS - 1);
    small = rig_put(light, SECRET_KEY, "treasure");
    rig_answer(rig_await(&r, rig_calls(&r) + 1), &m);
    rig_expect(&r, small, 0);
    for (unsigned i = 0; i < STREAMS; i++)
        if (c[i]->close_count == 1)
            assert_int_equal(rig_status(c[i]), 8);
}

/* The keys that a call asked for are kept until its answer is whole, and count as long. */
static void what_was_asked_counts(void **state)
{
    enum { CALLS = 10 };
    struct rec *c[CALLS];
    uint64_t before;

    (void)state;
    rig_limit(&r, 8 * LIMIT);
    large[LARGE / 2] = 0;
    before = r.w->kept_bytes;
    for (unsigned i = 0; i < CALLS; i++) {
        c[i] = rig_range(heavy, large);
        (void)rig_await(&r, i + 1);
        assert_in_range(r.w->kept_bytes - before, (i + 1) * (LARGE / 2), (i + 2) * (LARGE / 2));
    }
    for (unsigned i = 0; i < CALLS; i++)
        h2_stream_reset(c[i]->s, H2_CANCEL);
    RIG_UNTIL(&r, rig_is_idle(&r));
    assert_int_equal(r.w->kept_bytes, before);
}

/* ... and not longer, if the client takes its time to read it. */
static void what_was_asked_goes_with_the_answer(void **state)
{
    struct buf value = {0}, m;
    struct rec *c, *s;

    (void)state;
    buf_add(&value, large, LARGE - 200000); /* with its key more than the client's window takes */
    large[LARGE / 2] = 0;
    c = rig_range(heavy, large);
    c->is_hungry = false;
    s = rig_await(&r, 1);
    m = range_response(large, &value);
    rig_answer(s, &m);
    rig_settle(&r);
    assert_int_equal(c->close_count, 0);
    assert_in_range(r.w->kept_bytes, 1, LARGE / 4);
    h2_stream_reset(c->s, H2_CANCEL);
    buf_free(&value);
}

/* What is to be done with an answer of many values takes more memory than the answer. */
static void plans_that_wait_count(void **state)
{
    enum { VALUES = 2000 };
    struct buf sealed = rig_seal(&r, 1, SECRET_KEY, "treasure", 8), m = {0};
    struct rec *c = rig_range_all(heavy), *s;
    uint64_t before;

    (void)state;
    r.plugin.decrypt.how = FAKE_SILENT;
    s = rig_await(&r, 1);
    for (unsigned i = 0; i < VALUES; i++)
        add_kv(&m, 2, SECRET_KEY, sealed.p, sealed.n);
    before = r.w->kept_bytes;
    rig_answer(s, &m);
    rig_settle(&r);
    assert_in_range(r.w->kept_bytes - before, VALUES * 200, VALUES * 2000);
    h2_stream_reset(c->s, H2_CANCEL);
    RIG_UNTIL(&r, rig_is_idle(&r));
    buf_free(&sealed);
}

/* A client costs what it is known to take, and what it says before it is known to speak HTTP/2 is
 * not left lying in a slab. */
static void clients_count(void **state)
{
    enum { CLIENTS = 50 };
    static const char first[] = "PRI";
    uint64_t before;
    int fd[CLIENTS];

    (void)state;
    assert_int_equal(rig_held(&r), 0);
    before = worker_held(r.w);
    for (unsigned i = 0; i < CLIENTS; i++) {
        fd[i] = rig_raw_client(&r);
        assert_int_equal(write(fd[i], first, i % 4), i % 4);
    }
    rig_settle(&r);
    assert_int_equal(rig_held(&r), 0);
    assert_int_equal(worker_held(r.w), before + CLIENTS * LINK_COST);
    for (unsigned i = 0; i < CLIENTS; i++)
        close(fd[i]);
    RIG_UNTIL(&r, rig_held(&r) == 0 && worker_held(r.w) == before);
}

/* What was set free is free: no call of before counts any more. */
static void it_is_over_when_they_have_gone(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 3; round++) {
        struct rec *c[MANY];

        for (unsigned i = 0; i < MANY; i++)
            c[i] = waiting_range(heavy, LARGE);
        RIG_UNTIL(&r, held() <= LIMIT);
        for (unsigned i = 0; i < MANY; i++)
            if (c[i]->s != NULL)
                h2_stream_reset(c[i]->s, H2_CANCEL);
        RIG_UNTIL(&r, rig_is_idle(&r));
    }
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_prestate_setup_teardown(fn, setup, teardown, &r)
    const struct CMUnitTest tests[] = {
        TEST(credit_stops_first),
        TEST(answers_newest_first),
        TEST(whoever_holds_most_pays),
        TEST(requests_wait_for_their_turn),
        TEST(hunger_ends),
        TEST(nobody_is_hungry_for_ever),
        TEST(the_oldest_is_spared),
        TEST(who_is_over_its_own_bound_ends_at_once),
        TEST(who_does_not_read_is_reset),
        TEST(no_status_behind_half_an_answer),
        TEST(who_was_hungry_has_to_get_on),
        TEST(calls_that_only_wait_count_too),
        TEST(it_is_over_when_they_have_gone),
        TEST(what_was_asked_counts),
        TEST(what_was_asked_goes_with_the_answer),
        TEST(plans_that_wait_count),
        TEST(clients_count),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
