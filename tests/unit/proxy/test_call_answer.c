/* SPDX-License-Identifier: Apache-2.0 */
/* The rule of etcd's answer: it is handed on only when all of it is an answer of gRPC, one and
 * whole. Anything else becomes a status of ours, which is never OK, and etcd's stream is reset. */
#include "rig.h"

#define LIT(s) s, sizeof(s) - 1

static struct rig r;

static void trailers_only(void **state)
{
    struct rec *c = rig_range(r.client, SECRET_KEY), *watch;

    (void)state;
    rig_trailers_only(rig_await(&r, 1), "5");
    rig_expect(&r, c, 5);
    assert_true(c->headers_end);
    assert_int_equal(rig_tally(&r, "NotFound", RANGE), 1);
    watch = rig_begin(r.client, WATCH, NULL); /* the client's side stays open */
    rig_trailers_only(rig_await_headers(&r, 2), "16");
    RIG_UNTIL(&r, watch->headers_end);
    assert_int_equal(rig_status(watch), 16);
    rig_pass(&r, 4000);
    rig_expect(&r, watch, 16);
    RIG_UNTIL(&r, rig_is_idle(&r));
}

struct odd_answer {
    const char *status, *content_type, *extra_name, *extra_value;
    int want;
};

static void odd_headers_are_no_answers(void **state)
{
    static const struct odd_answer odd[] = {
        {"503", "application/grpc", "x", "y", 14},
        {"404", "application/grpc", "x", "y", 12},
        {"401", "application/grpc", "x", "y", 16},
        {"429", "application/grpc", "x", "y", 14},
        {"400", "application/grpc", "x", "y", 13},
        {"302", "application/grpc", "x", "y", 2},
        {"200", "text/html", "x", "y", 2},
        {"200", "application/grpc", "grpc-encoding", "gzip", 13},
        {"200", "application/grpc", "grpc-status", "0", 14}, /* and no end */
    };

    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(odd); i++) {
        struct rec *c = rig_range(r.client, SECRET_KEY), *s = rig_await(&r, i + 1);
        struct h2_field f[] = {{BYTES_LIT(":status"), bytes_str(odd[i].status)},
                               {BYTES_LIT("content-type"), bytes_str(odd[i].content_type)},
                               {bytes_str(odd[i].extra_name), bytes_str(odd[i].extra_value)}};

        assert_int_equal(h2_respond(s->s, (struct h2_fields){f, ARRAY_LEN(f)}, false), ERR_OK);
        RIG_UNTIL(&r, c->close_count == 1);
        if (rig_status(c) != odd[i].want)
            fail_msg("answer %u: status %d", i, rig_status(c));
        RIG_UNTIL(&r, s->close_count == 1); /* nobody reads what would follow */
        assert_int_equal(s->code, H2_CANCEL);
    }
}

/* Bodies behind good headers; END_STREAM without trailers where trailers is NULL. */
static void odd_bodies_are_no_answers(void **state)
{
    static const struct {
        const char *body;
        size_t n;
        const char *trailers;
        int want;
    } odd[] = {
        {LIT("\1\0\0\0\0"), "0", 13},            /* compressed */
        {LIT("\3\0\0\0\0"), "0", 15},            /* a flag that nobody knows */
        {LIT("\0\0\0\0"), "0", 13},              /* cut */
        {LIT("\0\0\0\0\2\40"), "0", 13},         /* cut */
        {LIT("\0\0\0\0\0"), NULL, 13},           /* no trailers */
        {LIT("\0\0\0\0\0\0\0\0\0\0"), "0", 15},  /* two messages */
        {LIT("\0\0\0\0\2\22\7"), "0", 15},       /* no protobuf */
        {LIT("\0\0\0\0\5\22\3\12\1z"), "0", 15}, /* another key */
        {LIT("\0\0\0\0\34\22\32\12\26/registry/secrets/ns/a*\0"), "0", 15}, /* no sealed value */
    };

    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(odd); i++) {
        struct rec *c = rig_range(r.client, SECRET_KEY), *s = rig_await(&r, i + 1);

        rig_respond(s);
        rig_send(s, odd[i].body, odd[i].n, odd[i].trailers == NULL);
        if (odd[i].trailers != NULL)
            rig_trailers(s, odd[i].trailers);
        RIG_UNTIL(&r, c->close_count == 1);
        if (rig_status(c) != odd[i].want)
            fail_msg("answer %u: status %d", i, rig_status(c));
    }
}

static void two_statuses_are_none(void **state)
{
    struct rec *c = rig_range(r.client, SECRET_KEY), *s = rig_await(&r, 1);
    struct h2_field f[] = {{BYTES_LIT("grpc-status"), BYTES_LIT("0")},
                           {BYTES_LIT("grpc-status"), BYTES_LIT("14")}};

    (void)state;
    rig_respond(s);
    assert_int_equal(h2_stream_trailers(s->s, (struct h2_fields){f, 2}), ERR_OK);
    rig_expect(&r, c, 14);
    assert_non_null(strstr(c->trailers, "etcd-envelope")); /* ours, not etcd's */
}

/* A stream's answers that are passed on as they come, cut at each byte as etcd is lost: between two
 * messages the status says so; within one, where clients would see an "unexpected EOF" in place of
 * any status, it is the reset that they take for the same. */
static void an_opaque_answer_that_is_cut(void **state)
{
    static const uint8_t two[] = {0, 0, 0, 0, 3, 1, 2, 3, 0, 0, 0, 0, 0};

    (void)state;
    for (size_t at = 0; at <= sizeof two; at++) {
        struct buf m = {0};
        struct rec *c = rig_call(r.client, SNAPSHOT, &m), *s = rig_await(&r, rig_calls(&r) + 1);

        rig_respond(s);
        rig_send(s, two, at, false);
        RIG_UNTIL(&r, c->body_len == at - (at > 8 && at < 13 ? at - 8 : at < 5 ? at : 0));
        h2_conn_close(s->end->c, H2_INTERNAL_ERROR, 0);
        RIG_UNTIL(&r, c->close_count == 1);
        if (c->body_len == 0 || c->body_len == 8 || c->body_len == 13) {
            assert_int_equal(rig_status(c), 14);
        } else {
            assert_int_equal(c->trailers_count, 0);
            assert_int_equal(c->code, H2_REFUSED_STREAM);
        }
    }
    assert_int_equal(rig_tally(&r, "Unavailable", SNAPSHOT), sizeof two + 1);
}

int main(void)
{
#define TEST(fn) RIG_TEST_WITH_CLIENT(fn, &r)
    const struct CMUnitTest tests[] = {
        TEST(trailers_only),
        TEST(odd_headers_are_no_answers),
        TEST(odd_bodies_are_no_answers),
        TEST(two_statuses_are_none),
        TEST(an_opaque_answer_that_is_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
