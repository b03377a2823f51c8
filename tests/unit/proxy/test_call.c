/* SPDX-License-Identifier: Apache-2.0 */
/* The rule of a call: whatever client, etcd and plugin do, and at whatever moment, it ends once.
 * The client gets etcd's answer or one status of ours, which says truly whether it may repeat; etcd
 * is told when nobody waits any more; nothing of a refused request reaches it; and nothing stays
 * behind. That each call is counted once, and that nothing stays, rig_fini checks for all tests. */
#include "rig.h"

static struct rig r;

/* --- the happy path -------------------------------------------------------------------------- */

static void puts_are_sealed_and_answered(void **state)
{
    static const char *const keys[] = {SECRET_KEY, LOCAL_KEY};

    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(keys); i++) {
        struct rec *c = rig_put(r.client, keys[i], "treasure");
        struct rec *s = rig_await(&r, i + 1);
        struct buf m = put_response(), want = put_response();

        assert_int_equal(rig_message_count(s), 1);
        rig_check_put(&r, rig_message_at(s, 0), keys[i], "treasure");
        rig_answer(s, &m);
        rig_expect(&r, c, 0);
        assert_int_equal(c->how, H2_END_COMPLETE);
        assert_true(bytes_eq(rig_message_at(c, 0), bytes_of(want.p, want.n)));
        buf_free(&want);
    }
    assert_int_equal(rig_tally(&r, "OK", PUT), ARRAY_LEN(keys));
    RIG_UNTIL(&r, rig_is_idle(&r));
}

static void unprotected_goes_as_it_is(void **state)
{
    struct rec *c = rig_put(r.client, POD_KEY, "no secret"), *s = rig_await(&r, 1);
    struct buf want = put_request(POD_KEY, "no secret", 9), m = put_response();

    (void)state;
    assert_true(bytes_eq(rig_message_at(s, 0), bytes_of(want.p, want.n)));
    rig_answer(s, &m);
    rig_expect(&r, c, 0);
    buf_free(&want);
}

static void values_are_opened(void **state)
{
    static const char *const keys[] = {SECRET_KEY, LOCAL_KEY};

    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(keys); i++) {
        struct rec *c = rig_range(r.client, keys[i]), *s = rig_await(&r, i + 1);
        struct buf stored = rig_seal(&r, i, keys[i], "treasure", 8);
        struct buf m = range_response(keys[i], &stored);

        rig_answer(s, &m);
        rig_expect(&r, c, 0);
        assert_int_equal(rig_message_count(c), 1);
        rig_check_value(rig_message_at(c, 0), "treasure", 8);
        buf_free(&stored);
    }
    assert_int_equal(r.plugin.decrypt.calls, 1);
    assert_int_equal(rig_tally(&r, "OK", RANGE), ARRAY_LEN(keys));
}

static void headers_are_handed_on(void **state)
{
    const struct h2_field extra = {BYTES_LIT("authorization"), BYTES_LIT("a token of etcd's")};
    struct rec *c = rig_begin(r.client, RANGE, &extra), *s;
    struct buf m = range_request(POD_KEY, NULL), framed = rig_framed(&m);

    (void)state;
    rig_send(c, framed.p, framed.n, true);
    s = rig_await(&r, 1);
    assert_non_null(strstr(s->headers, ":path: " RANGE "\n"));
    assert_non_null(strstr(s->headers, "authorization: a token of etcd's\n"));
    assert_non_null(strstr(s->headers, "te: trailers\n"));
    assert_null(strstr(s->headers, "grpc-timeout"));
    rig_respond(s);
    RIG_UNTIL(&r, c->headers_count == 1); /* etcd's headers do not wait for its message */
    assert_non_null(strstr(c->headers, ":status: 200\n"));
    rig_trailers(s, "7");
    rig_expect(&r, c, 7);
    assert_non_null(strstr(c->trailers, "grpc-message: of etcd\n"));
    assert_int_equal(rig_tally(&r, "PermissionDenied", RANGE), 1);
    buf_free(&framed);
}

static void many_at_a_time(void **state)
{
    struct rec *c[100];
    unsigned n = 0;

    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(c); i++)
        c[i] = rig_put(r.client, i % 2 == 0 ? SECRET_KEY : LOCAL_KEY, "treasure");
    RIG_UNTIL(&r, r.etcd->recs_count == ARRAY_LEN(c));
    RIG_UNTIL(&r, r.etcd->last->end_count == 1);
    LIST_FOREACH(it, &r.etcd->recs) {
        struct buf m = put_response();

        n++;
        rig_answer(LIST_ENTRY(it, struct rec, node), &m);
    }
    assert_int_equal(n, ARRAY_LEN(c));
    for (unsigned i = 0; i < ARRAY_LEN(c); i++)
        rig_expect(&r, c[i], 0);
    rig_check_sealed(&r, "treasure");
    assert_int_equal(rig_tally(&r, "OK", PUT), ARRAY_LEN(c));
}

/* --- refusals -------------------------------------------------------------------------------- */

#define LIT(s) s, sizeof(s) - 1

/* Raw bodies: prefix and message. */
static const struct refusal {
    const char *path, *body;
    size_t n;
    int status;
} refusals[] = {
    {"/etcdserverpb.KV/Putt", LIT(""), 12},
    {"/etcdserverpb.KV/put", LIT(""), 12},
    {"/v3lockpb.Secret/Lock", LIT("\0\0\0\0\0"), 12},
    {PUT, LIT(""), 13},                           /* no message */
    {PUT, LIT("\0\0\0\0"), 13},                   /* not even its prefix */
    {PUT, LIT("\0\0\0\0\5\12\1k"), 13},           /* cut */
    {PUT, LIT("\0\0\0\0\3\12\1k\0\0\0\0\0"), 13}, /* two */
    {PUT, LIT("\1\0\0\0\3\12\1k"), 12},           /* compressed */
    {PUT, LIT("\2\0\0\0\3\12\1k"), 13},           /* a flag that nobody knows */
    {PUT, LIT("\0\0\0\0\3\12\5k"), 13},           /* no protobuf */
    {PUT, LIT("\0\0\0\0\4\22\2vv"), 3},           /* no key */
    {PUT, LIT("\0\0\0\0\34\12\25/registry/secrets/a/b\22\1v\170\1"), 3},    /* unknown field 15 */
    {PUT, LIT("\0\0\0\0\35\12\25/registry/secrets/a/b\22\1v\22\1w"), 3},    /* two values */
    {PUT, LIT("\0\0\0\0\42\12\25/registry/secrets/a/b\22\11k8s:enc:x"), 3}, /* opens with no key */
    {RANGE, LIT("\0\0\0\0\34\12\25/registry/secrets/a/b\22\1\0\60\4"), 3},  /* sort by value */
    {PUT, LIT("\0\1\0\0\1\12\1k"), 8}, /* more than --max-request-bytes */
};

static void refused_requests_never_reach_etcd(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(refusals); i++) {
        const struct refusal *f = &refusals[i];
        struct rec *c = rig_begin(r.client, f->path, NULL);

        rig_settle(&r);
        if (c->s != NULL)
            rig_send(c, f->body, f->n, true);
        RIG_UNTIL(&r, c->close_count == 1);
        if (rig_status(c) != f->status)
            fail_msg("refusal %zu (%s): status %d: %s", i, f->path, rig_status(c), c->headers);
        assert_int_equal(c->headers_count, 1);
        assert_true(c->headers_end);
        assert_int_equal(c->body_len, 0);
        assert_non_null(strstr(c->headers, "grpc-message: "));
    }
    assert_int_equal(r.etcd->recs_count, 0);
    assert_int_equal(rig_tally(&r, "Unimplemented", "unknown"), 3);
    assert_int_equal(rig_tally(&r, "ResourceExhausted", PUT), 1);
    assert_true(rig_is_idle(&r));
}

static int max_request_256(void **state)
{
    int rc = rig_setup_with_client(state);

    r.settings.max_request_bytes = 256;
    return rc;
}

static void compressed_requests_are_refused_before_their_body(void **state)
{
    const struct h2_field gzip = {BYTES_LIT("grpc-encoding"), BYTES_LIT("gzip")};
    struct rec *c = rig_begin(r.client, PUT, &gzip);

    (void)state;
    rig_expect(&r, c, 12);
    assert_non_null(strstr(c->headers, "grpc-accept-encoding: identity\n"));
    assert_int_equal(r.etcd->recs_count, 0);
}

/* Whether anything follows the message is known at the end of the stream alone. */
static void nothing_is_sent_before_the_request_ends(void **state)
{
    static const char *const keys[] = {SECRET_KEY, POD_KEY};

    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(keys); i++) {
        struct buf m = put_request(keys[i], "treasure", 8), framed = rig_framed(&m);
        struct rec *c = rig_begin(r.client, PUT, NULL);

        rig_send(c, framed.p, framed.n, false);
        rig_pass(&r, 1000);
        assert_int_equal(rig_calls(&r), i);
        rig_send(c, NULL, 0, true);
        rig_answer_put(&r, c, i + 1);
        buf_free(&framed);
    }
}

static void no_grpc_is_answered_as_http(void **state)
{
    struct h2_field f[] = {{BYTES_LIT(":method"), BYTES_LIT("POST")},
                           {BYTES_LIT(":scheme"), BYTES_LIT("http")},
                           {BYTES_LIT(":path"), BYTES_LIT(PUT)},
                           {BYTES_LIT(":authority"), BYTES_LIT("etcd")},
                           {BYTES_LIT("content-type"), BYTES_LIT("application/json")}};
    struct rec *c = end_request(r.client, (struct h2_fields){f, ARRAY_LEN(f)}, true);

    (void)state;
    RIG_UNTIL(&r, c->close_count == 1);
    assert_null(strstr(c->headers, ":status: 200"));
    assert_int_equal(r.etcd->recs_count, 0);
}

/* --- stages ---------------------------------------------------------------------------------- */

enum stage {
    HEADERS,        /* of the request */
    BODY,           /* half of it */
    REQUEST_KEY,    /* the request waits for a key: its value came sealed */
    SENT,           /* etcd has it whole */
    ANSWER_HEADERS, /* the client has etcd's headers */
    ANSWER_HALF,    /* of etcd's message */
    ANSWER_KEY,     /* the answer waits for a key */
    ANSWER_WHOLE,   /* but for the trailers */
    STAGES,
};

static bool is_up(enum stage stage)
{
    return stage >= SENT;
}

static unsigned new_dek(void)
{
    static unsigned last = 100;

    return ++last;
}

static struct rec *half_a_put(bool has_body)
{
    struct rec *c = rig_begin(r.client, PUT, NULL);
    struct buf m = put_request(SECRET_KEY, "treasure", 8), framed = rig_framed(&m);

    if (has_body)
        rig_send(c, framed.p, framed.n / 2, false);
    rig_settle(&r);
    buf_free(&framed);
    return c;
}

static struct rec *put_that_waits(void)
{
    struct buf sealed = rig_seal(&r, new_dek(), SECRET_KEY, "treasure", 8);
    struct buf m = put_request(SECRET_KEY, sealed.p, sealed.n);
    unsigned waiting = r.plugin.decrypt.now;
    struct rec *c = rig_call(r.client, PUT, &m);

    RIG_UNTIL(&r, r.plugin.decrypt.now == waiting + 1);
    buf_free(&sealed);
    return c;
}

static void answer_up_to(enum stage stage, struct rec *c, struct rec *s)
{
    struct buf sealed = rig_seal(&r, new_dek(), SECRET_KEY, "treasure", 8);
    struct buf m = range_response(SECRET_KEY, &sealed), framed = rig_framed(&m);
    unsigned waiting = r.plugin.decrypt.now;

    if (stage > SENT) {
        rig_respond(s);
        RIG_UNTIL(&r, c->headers_count == 1);
    }
    if (stage == ANSWER_WHOLE)
        r.plugin.decrypt.how = FAKE_ANSWERS;
    if (stage > ANSWER_HEADERS)
        rig_send(s, framed.p, stage == ANSWER_HALF ? framed.n / 2 : framed.n, false);
    rig_settle(&r);
    if (stage == ANSWER_KEY)
        RIG_UNTIL(&r, r.plugin.decrypt.now == waiting + 1);
    if (stage == ANSWER_WHOLE)
        RIG_UNTIL(&r, rig_message_count(c) == 1);
    r.plugin.decrypt.how = FAKE_SILENT;
    buf_free(&sealed);
    buf_free(&framed);
}

/* A call at that stage; *up is etcd's end of it, if there is one. */
static struct rec *call_at(enum stage stage, struct rec **up)
{
    unsigned before = r.etcd->recs_count;
    struct rec *c;

    *up = NULL;
    r.plugin.decrypt.how = FAKE_SILENT;
    if (stage <= BODY)
        return half_a_put(stage == BODY);
    if (stage == REQUEST_KEY)
        return put_that_waits();
    c = rig_range(r.client, SECRET_KEY);
    *up = rig_await(&r, before + 1);
    answer_up_to(stage, c, *up);
    return c;
}

/* --- the client gives up --------------------------------------------------------------------- */

static void client_resets_at_each_stage(void **state)
{
    (void)state;
    for (enum stage stage = 0; stage < STAGES; stage++) {
        struct rec *s, *c = call_at(stage, &s);

        h2_stream_reset(c->s, H2_CANCEL);
        RIG_UNTIL(&r, c->close_count == 1);
        if (s != NULL) {
            RIG_UNTIL(&r, s->close_count == 1);
            assert_int_equal(s->code, H2_CANCEL);
        }
        RIG_UNTIL(&r, rig_is_idle(&r));
        assert_int_equal(rig_tally(&r, "Canceled", is_up(stage) ? RANGE : PUT),
                         is_up(stage) ? stage - BODY - 1 : stage + 1);
    }
    fake_speak(&r.plugin); /* keys that nobody waits for any more */
    rig_settle(&r);
    assert_true(rig_is_idle(&r));
}

static void client_is_lost_at_each_stage(void **state)
{
    (void)state;
    for (enum stage stage = 0; stage < STAGES; stage++) {
        struct rec *s;

        (void)call_at(stage, &s);
        h2_conn_close(r.client->c, H2_NO_ERROR, 0);
        if (s != NULL)
            RIG_UNTIL(&r, s->close_count == 1);
        RIG_UNTIL(&r, r.closed_count == stage + 1u && rig_is_idle(&r));
        RIG_UNTIL(&r, r.etcd->c == NULL);
        r.client = rig_client(&r);
    }
    rig_check_sealed(&r, "treasure");
}

/* --- etcd gives up --------------------------------------------------------------------------- */

static const struct reset {
    enum h2_code code;
    int status;
} resets[] = {
    {H2_NO_ERROR, 13},
    {H2_INTERNAL_ERROR, 13},
    {H2_CANCEL, 14}, /* CANCELLED would make clients repeat a write */
    {H2_ENHANCE_YOUR_CALM, 8},
};

static void etcd_resets_at_each_stage(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(resets); i++) {
        for (enum stage stage = SENT; stage < STAGES; stage++) {
            struct rec *s, *c = call_at(stage, &s);

            h2_stream_reset(s->s, resets[i].code);
            rig_expect(&r, c, resets[i].status);
            assert_int_equal(rig_message_count(c), stage == ANSWER_WHOLE ? 1 : 0);
            RIG_UNTIL(&r, rig_is_idle(&r));
        }
    }
}

/* Not processed: said so to the client, which repeats it by itself; but only while it has no answer
 * of ours. */
static void etcd_refuses_the_stream(void **state)
{
    (void)state;
    for (enum stage stage = SENT; stage < STAGES; stage++) {
        struct rec *s, *c = call_at(stage, &s);

        h2_stream_reset(s->s, H2_REFUSED_STREAM);
        RIG_UNTIL(&r, c->close_count == 1);
        if (stage == SENT) {
            assert_int_equal(c->headers_count, 0);
            assert_int_equal(c->code, H2_REFUSED_STREAM);
        } else {
            assert_int_equal(rig_status(c), 13);
        }
        RIG_UNTIL(&r, rig_is_idle(&r));
    }
    assert_int_equal(rig_tally(&r, "Unavailable", RANGE), 1);
}

static void etcd_is_lost_at_each_stage(void **state)
{
    (void)state;
    for (enum stage stage = SENT; stage < STAGES; stage++) {
        struct rec *s, *c = call_at(stage, &s);
        struct end *lost = r.etcd;

        rig_etcd_lost(&r);
        rig_expect(&r, c, 14);
        RIG_UNTIL(&r, r.etcd != lost && r.etcd->ready_count == 1); /* it dials again */
        RIG_UNTIL(&r, rig_is_idle(&r));
    }
    assert_int_equal(rig_tally(&r, "Unavailable", RANGE), STAGES - SENT);
}

/* GOAWAY lets the calls in flight finish, and new ones go to the next connection. */
static void etcd_says_goaway_at_each_stage(void **state)
{
    (void)state;
    for (enum stage stage = SENT; stage < ANSWER_WHOLE; stage++) {
        struct rec *s, *c = call_at(stage, &s), *second;
        struct end *old = r.etcd;
        struct buf m = put_response();

        h2_conn_shutdown(old->c);
        old->is_deaf = true;
        RIG_UNTIL(&r, r.etcd != old && r.etcd->ready_count == 1);
        second = rig_put(r.client, POD_KEY, "x");
        rig_answer(rig_await(&r, 1), &m);
        rig_expect(&r, second, 0);
        assert_int_equal(c->close_count, 0);
        if (stage < ANSWER_HALF) {
            m = put_response();
            if (stage == SENT)
                rig_respond(s);
            rig_message(s, &m, false);
        }
        if (stage == ANSWER_KEY)
            fake_speak(&r.plugin);
        rig_trailers(s, "0");
        rig_expect(&r, c, stage == ANSWER_HALF ? 13 : 0); /* half a message is no answer */
        RIG_UNTIL(&r, old->c == NULL);                    /* closed behind its last stream */
    }
}

/* --- etcd is away ---------------------------------------------------------------------------- */

static void calls_wait_for_etcd(void **state)
{
    struct end *lost = r.etcd;
    struct rec *c;
    struct buf m = put_response();

    (void)state;
    rig_pass(&r, 100);
    rig_etcd_away(&r);
    rig_etcd_lost(&r);
    c = rig_put(r.client, SECRET_KEY, "treasure");
    rig_pass(&r, 300);
    assert_int_equal(c->close_count, 0);
    rig_etcd_back(&r);
    rig_pass(&r, 100);
    RIG_UNTIL(&r, r.etcd != lost);
    rig_check_put(&r, rig_message_at(rig_await(&r, 1), 0), SECRET_KEY, "treasure");
    rig_answer(r.etcd->last, &m);
    rig_expect(&r, c, 0);
}

static void calls_wait_no_longer_than_a_second(void **state)
{
    struct rec *unary, *watch, *gone;

    (void)state;
    rig_pass(&r, 100);
    rig_etcd_away(&r);
    rig_etcd_lost(&r);
    unary = rig_put(r.client, SECRET_KEY, "treasure");
    watch = rig_begin(r.client, WATCH, NULL);
    gone = rig_put(r.client, LOCAL_KEY, "treasure");
    rig_pass(&r, 100);
    h2_stream_reset(gone->s, H2_CANCEL);
    rig_pass(&r, 1000);
    rig_expect(&r, unary, 14);
    rig_expect(&r, watch, 14);
    assert_int_equal(rig_tally(&r, "Canceled", PUT), 1);
    assert_int_equal(rig_tally(&r, "Unavailable", PUT), 1);
    assert_int_equal(rig_tally(&r, "Unavailable", WATCH), 1);
    rig_etcd_back(&r);
}

/* --- deadlines ------------------------------------------------------------------------------- */

static void what_is_left_of_the_deadline_goes_to_etcd(void **state)
{
    const struct h2_field timeout = {BYTES_LIT("grpc-timeout"), BYTES_LIT("5S")};
    struct rec *c = rig_begin(r.client, PUT, &timeout), *s;
    struct buf m = put_request(POD_KEY, "x", 1), framed = rig_framed(&m);
    const char *at;
    unsigned long left;

    (void)state;
    rig_settle(&r);
    rig_pass(&r, 2000);
    rig_send(c, framed.p, framed.n, true);
    s = rig_await(&r, 1);
    at = strstr(s->headers, "grpc-timeout: ");
    assert_non_null(at);
    left = strtoul(at + 14, (char **)(uintptr_t)&at, 10);
    assert_int_equal(*at, 'u'); /* as many digits as there may be */
    assert_in_range(left, 2990000, 3000000);
    m = put_response();
    rig_answer(s, &m);
    rig_expect(&r, c, 0);
    buf_free(&framed);
}

static void nothing_is_sent_after_the_deadline(void **state)
{
    const struct h2_field timeout = {BYTES_LIT("grpc-timeout"), BYTES_LIT("500m")};
    struct rec *c = rig_begin(r.client, PUT, &timeout);
    struct buf m = put_request(POD_KEY, "x", 1), framed = rig_framed(&m);

    (void)state;
    rig_settle(&r);
    rig_pass(&r, 600);
    rig_send(c, framed.p, framed.n, true);
    rig_expect(&r, c, 4);
    assert_int_equal(r.etcd->recs_count, 0);
    assert_int_equal(rig_tally(&r, "DeadlineExceeded", PUT), 1);
    buf_free(&framed);
}

/* --- keys ------------------------------------------------------------------------------------ */

static void a_value_that_does_not_open_ends_the_call(void **state)
{
    struct rec *c = rig_range(r.client, SECRET_KEY), *s = rig_await(&r, 1);
    struct buf stored = rig_seal(&r, 1, SECRET_KEY, "treasure", 8), m;

    (void)state;
    stored.p[60] ^= 1;
    m = range_response(SECRET_KEY, &stored);
    rig_answer(s, &m);
    rig_expect(&r, c, 15);
    assert_int_equal(c->body_len, 0);
    buf_free(&stored);
}

static void no_key_within_its_time(void **state)
{
    struct rec *s, *put = call_at(REQUEST_KEY, &s), *range = call_at(ANSWER_KEY, &s);

    (void)state;
    rig_trailers(s, "0"); /* etcd's end does not overtake the message */
    rig_pass(&r, 9000);
    assert_int_equal(put->close_count + range->close_count, 0);
    rig_pass(&r, 2000);
    rig_expect(&r, put, 14);
    rig_expect(&r, range, 9);
    assert_int_equal(range->body_len, 0);
    assert_int_equal(rig_tally(&r, "FailedPrecondition", RANGE), 1);
    assert_int_equal(rig_tally(&r, "Unavailable", PUT), 1);
}

static void the_plugin_refuses_the_key(void **state)
{
    struct rec *c = rig_range(r.client, SECRET_KEY), *s = rig_await(&r, 1);
    struct buf stored = rig_seal(&r, 2, SECRET_KEY, "treasure", 8);
    struct buf m = range_response(SECRET_KEY, &stored);

    (void)state;
    r.plugin.decrypt.how = FAKE_FAILS;
    r.plugin.decrypt.code = GRPC_INVALID_ARGUMENT;
    rig_answer(s, &m);
    RIG_UNTIL(&r, c->close_count == 1);
    assert_int_not_equal(rig_status(c), 0);
    assert_int_equal(c->body_len, 0);
    buf_free(&stored);
}

/* A write needs the key that is there already: the plugin may be gone. */
static void writes_need_no_plugin(void **state)
{
    struct rec *c;
    struct buf m = put_response();

    (void)state;
    fake_gone(&r.plugin);
    c = rig_put(r.client, SECRET_KEY, "treasure");
    rig_check_put(&r, rig_message_at(rig_await(&r, 1), 0), SECRET_KEY, "treasure");
    rig_answer(r.etcd->last, &m);
    rig_expect(&r, c, 0);
    rig_pass(&r, 200000); /* longer than a write key is good for */
    RIG_UNTIL(&r, r.client->c == NULL || rig_is_idle(&r));
    c = rig_put(r.client, SECRET_KEY, "treasure");
    rig_expect(&r, c, 14);
    assert_int_equal(r.etcd->recs_count, 1);
}

int main(void)
{
#define TEST(fn) RIG_TEST_WITH_CLIENT(fn, &r)
    const struct CMUnitTest tests[] = {
        TEST(puts_are_sealed_and_answered),
        TEST(unprotected_goes_as_it_is),
        TEST(values_are_opened),
        TEST(headers_are_handed_on),
        TEST(many_at_a_time),
        cmocka_unit_test_prestate_setup_teardown(refused_requests_never_reach_etcd, max_request_256,
                                                 rig_teardown, &r),
        TEST(compressed_requests_are_refused_before_their_body),
        TEST(nothing_is_sent_before_the_request_ends),
        TEST(no_grpc_is_answered_as_http),
        TEST(client_resets_at_each_stage),
        TEST(client_is_lost_at_each_stage),
        TEST(etcd_resets_at_each_stage),
        TEST(etcd_refuses_the_stream),
        TEST(etcd_is_lost_at_each_stage),
        TEST(etcd_says_goaway_at_each_stage),
        TEST(calls_wait_for_etcd),
        TEST(calls_wait_no_longer_than_a_second),
        TEST(what_is_left_of_the_deadline_goes_to_etcd),
        TEST(nothing_is_sent_after_the_deadline),
        TEST(a_value_that_does_not_open_ends_the_call),
        TEST(no_key_within_its_time),
        TEST(the_plugin_refuses_the_key),
        TEST(writes_need_no_plugin),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
