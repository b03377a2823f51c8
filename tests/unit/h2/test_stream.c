/* SPDX-License-Identifier: Apache-2.0 */
/* Streams, both roles against each other: messages, flow control, resets, lifetimes. */
#include "kit.h"

struct fix {
    struct kit k;
    struct end client, server;
};

static void setup(struct fix *f)
{
    kit_init(&f->k);
    end_pair(&f->k, &f->client, NULL, &f->server, NULL);
    KIT_UNTIL(&f->k, f->client.ready_count == 1 && f->server.ready_count == 1);
}

static void teardown(struct fix *f)
{
    end_close(&f->client);
    end_close(&f->server);
    kit_fini(&f->k);
}

static void answer_100(struct rec *r)
{
    rec_answer(r, 100);
}

static void test_unary(void **state)
{
    struct fix f;
    struct rec *r, *s;

    (void)state;
    setup(&f);
    f.server.on_end = answer_100;
    assert_true(h2_conn_can_request(f.client.c));
    r = end_request(&f.client, kit_request, false);
    rec_send(r, 0, 3000, 1000, true);
    KIT_UNTIL(&f.k, r->close_count == 1);
    s = f.server.last;
    KIT_UNTIL(&f.k, s->close_count == 1);
    assert_string_equal(s->headers,
                        ":method: POST\n:scheme: http\n:path: /a.B/C\n:authority: localhost\n"
                        "te: trailers\ncontent-type: application/grpc\nauthorization: pssst\n");
    assert_false(s->headers_end);
    assert_int_equal(s->body_len, 3000);
    assert_true(kit_is_pattern(s->body, 0, 3000));
    assert_int_equal(s->end_count, 1);
    assert_int_equal(s->drained, 100);
    assert_int_equal(s->how, H2_END_COMPLETE);
    assert_int_equal(s->code, H2_NO_ERROR);
    assert_string_equal(r->headers, ":status: 200\ncontent-type: application/grpc\n");
    assert_false(r->headers_end);
    assert_int_equal(r->body_len, 100);
    assert_int_equal(r->drained, 3000);
    /* A space at the end of a value passes. */
    assert_string_equal(r->trailers, "grpc-status: 0\ngrpc-message: fine \n");
    assert_int_equal(r->end_count, 0);
    assert_int_equal(r->how, H2_END_COMPLETE);
    assert_int_equal(r->code, H2_NO_ERROR);
    assert_int_equal(h2_conn_stream_count(f.client.c), 0);
    assert_int_equal(h2_conn_stream_count(f.server.c), 0);
    teardown(&f);
}

static void answer_trailers_only(struct rec *r);

/* on_idle comes behind each on_close that leaves no stream open, and only then. */
static void test_idle(void **state)
{
    struct fix f;
    struct rec *r[2];

    (void)state;
    setup(&f);
    r[0] = end_request(&f.client, kit_request, true);
    r[1] = end_request(&f.client, kit_request, true);
    KIT_UNTIL(&f.k, f.server.recs_count == 2);
    h2_stream_reset(r[0]->s, H2_CANCEL);
    KIT_UNTIL(&f.k, r[0]->close_count == 1);
    assert_int_equal(f.client.idle_count, 0);
    rec_answer(f.server.last, 100);
    KIT_UNTIL(&f.k, r[1]->close_count == 1);
    assert_int_equal(f.client.idle_count, 1);
    teardown(&f);
}

/* A request that nobody takes is refused, and the connection goes on. */
static void test_request_without_owner(void **state)
{
    struct fix f;
    struct rec *r;

    (void)state;
    setup(&f);
    f.server.is_deaf = true;
    r = end_request(&f.client, kit_request, false);
    rec_send(r, 0, 100, 100, false);
    KIT_UNTIL(&f.k, r->close_count == 1);
    assert_int_equal(r->code, H2_REFUSED_STREAM);
    assert_int_equal(r->how, H2_END_RESET);
    f.server.is_deaf = false;
    f.server.on_request = answer_trailers_only;
    r = end_request(&f.client, kit_request, true);
    KIT_UNTIL(&f.k, r->close_count == 1);
    assert_int_equal(r->how, H2_END_COMPLETE);
    teardown(&f);
}

static void answer_trailers_only(struct rec *r)
{
    assert_int_equal(h2_respond(r->s, kit_trailers_only, true), ERR_OK);
}

static void test_trailers_only_and_no_body(void **state)
{
    struct fix f;
    struct rec *r;

    (void)state;
    setup(&f);
    f.server.on_request = answer_trailers_only;
    r = end_request(&f.client, kit_request, true);
    KIT_UNTIL(&f.k, r->close_count == 1);
    assert_true(r->headers_end);
    assert_int_equal(r->how, H2_END_COMPLETE);
    assert_int_equal(r->trailers_count + r->end_count, 0);
    assert_true(f.server.last->headers_end);
    teardown(&f);
}

static void answer_empty(struct rec *r)
{
    assert_int_equal(h2_respond(r->s, kit_response, false), ERR_OK);
    assert_int_equal(h2_stream_trailers(r->s, kit_trailers), ERR_OK);
}

/* Headers, then trailers, nothing between; and a request that ends by an empty DATA frame. */
static void test_no_message(void **state)
{
    struct fix f;
    struct rec *r;
    struct chain none = {0};

    (void)state;
    setup(&f);
    f.server.on_end = answer_empty;
    r = end_request(&f.client, kit_request, false);
    kit_run_ms(&f.k, 10);
    assert_int_equal(h2_stream_send(r->s, &none, true), ERR_OK);
    KIT_UNTIL(&f.k, r->close_count == 1);
    assert_int_equal(r->trailers_count, 1);
    assert_int_equal(f.server.last->end_count, 1);
    assert_int_equal(r->how, H2_END_COMPLETE);
    teardown(&f);
}

/* f in one object of the connection's pool, as whoever hands a list over has it. */
static struct h2_fields own_list(struct kit *k, struct h2_fields f)
{
    struct h2_field *v = objects_alloc(&k->pool.objects, f.count * sizeof *v);

    assert_non_null(v);
    memcpy(v, f.v, f.count * sizeof *v); /* the bytes are constants */
    return (struct h2_fields){v, f.count};
}

static size_t taken_body; /* of an answer */

/* Trailers are taken while bytes wait before them, when none do, and when it is too late. */
static void answer_taken(struct rec *r)
{
    struct h2_fields trailers = own_list(r->end->k, kit_trailers);

    assert_int_equal(h2_respond(r->s, kit_response, false), ERR_OK);
    if (taken_body > 0)
        rec_send(r, 0, taken_body, taken_body, false);
    assert_int_equal(h2_stream_trailers_take(r->s, &trailers), ERR_OK);
    assert_null(trailers.v);
    trailers = own_list(r->end->k, kit_trailers);
    assert_int_equal(h2_stream_trailers_take(r->s, &trailers), ERR_CLOSED);
    assert_null(trailers.v);
}

/* Lists that are handed over say what copied ones do; nothing of them is left (kit_fini). */
static void test_taken_lists(void **state)
{
    struct fix f;

    (void)state;
    setup(&f);
    f.server.on_request = answer_taken;
    for (taken_body = 0; taken_body <= 100; taken_body += 50) {
        struct h2_fields request = own_list(&f.k, kit_request);
        struct rec *copied = end_request(&f.client, kit_request, true);
        struct rec *taken = end_request_take(&f.client, &request, true);

        assert_null(request.v);
        KIT_UNTIL(&f.k, copied->close_count == 1 && taken->close_count == 1);
        assert_string_equal(f.server.last->headers,
                            ":method: POST\n:scheme: http\n:path: /a.B/C\n:authority: localhost\n"
                            "te: trailers\ncontent-type: application/grpc\nauthorization: pssst\n");
        assert_string_equal(taken->trailers, "grpc-status: 0\ngrpc-message: fine \n");
        assert_int_equal(taken->body_len, taken_body);
        assert_string_equal(taken->trailers, copied->trailers);
    }
    teardown(&f);
}

/* A list is taken, too, when there will be no stream, or when it is reset before it began. */
static void test_taken_lists_of_nothing(void **state)
{
    struct fix f;
    struct h2_fields request;
    struct h2_stream *s;
    struct rec *r;

    (void)state;
    setup(&f);
    request = own_list(&f.k, kit_request);
    r = end_request_take(&f.client, &request, true);
    h2_stream_reset(r->s, H2_CANCEL);
    KIT_UNTIL(&f.k, r->close_count == 1);
    h2_conn_close(f.client.c, H2_NO_ERROR, 0);
    request = own_list(&f.k, kit_request);
    assert_int_equal(h2_request_take(f.client.c, &request, true, NULL, NULL, &s), ERR_CLOSED);
    assert_null(request.v);
    teardown(&f);
}

static void start_stream(struct rec *r)
{
    assert_int_equal(h2_respond(r->s, kit_response, false), ERR_OK);
}

static void echo(struct rec *r, size_t n)
{
    rec_send(r, r->body_len - n, n, n, false);
}

static void end_ok(struct rec *r)
{
    assert_int_equal(h2_stream_trailers(r->s, kit_trailers), ERR_OK);
}

/* Both sides talk in turns; nothing is lost, doubled or out of order. */
static void test_bidi(void **state)
{
    struct fix f;
    struct rec *r;
    size_t sent = 0;

    (void)state;
    setup(&f);
    f.server.on_request = start_stream;
    f.server.on_data = echo;
    f.server.on_end = end_ok;
    r = end_request(&f.client, kit_request, false);
    for (size_t i = 1; i < 60; i++) {
        rec_send(r, sent, i * 37, 11, false);
        sent += i * 37;
        KIT_UNTIL(&f.k, r->body_len == sent);
    }
    rec_send(r, sent, 5, 5, true);
    KIT_UNTIL(&f.k, r->close_count == 1);
    assert_int_equal(r->body_len, sent + 5);
    assert_true(kit_is_pattern(r->body, 0, r->body_len));
    assert_int_equal(r->drained, sent + 5);
    teardown(&f);
}

#define BIG (24u * 1024 * 1024)

static void answer_big(struct rec *r)
{
    rec_answer(r, r->end->recs_count == 1 ? BIG : 100);
}

/* 24 MiB that nobody reads: they wait in the server's stream, another call passes by, and they come
 * when credit is given. */
static void test_unread_stream_beside_another(void **state)
{
    struct fix f;
    struct rec *big, *small;

    (void)state;
    setup(&f);
    f.server.on_end = answer_big;
    big = end_request(&f.client, kit_request, false);
    big->is_hungry = false;
    big->is_forgetful = true;
    rec_send(big, 0, 1, 1, true);
    KIT_UNTIL(&f.k, big->body_len == LIMIT_STREAM_WINDOW);
    kit_run_ms(&f.k, 50);
    assert_int_equal(big->body_len, LIMIT_STREAM_WINDOW);
    assert_int_equal(h2_stream_queued(f.server.last->s), BIG - LIMIT_STREAM_WINDOW);
    for (int i = 0; i < 20; i++) {
        small = end_request(&f.client, kit_request, false);
        rec_send(small, 0, 1, 1, true);
        KIT_UNTIL(&f.k, small->close_count == 1);
        assert_int_equal(small->body_len, 100);
    }
    big->is_hungry = true;
    h2_stream_credit(big->s, big->body_len);
    KIT_UNTIL(&f.k, big->close_count == 1);
    assert_int_equal(big->body_len, BIG);
    assert_int_equal(big->trailers_count, 1);
    teardown(&f);
}

/* Many unread streams use up no connection window: one more still works. */
static void test_unread_streams_do_not_hold_the_connection(void **state)
{
    struct fix f;
    struct rec *r[12], *small;

    (void)state;
    setup(&f);
    f.server.on_end = answer_big;
    for (size_t i = 0; i < ARRAY_LEN(r); i++) {
        f.server.recs_count = 0; /* each one gets the big answer */
        r[i] = end_request(&f.client, kit_request, false);
        r[i]->is_hungry = false;
        r[i]->is_forgetful = true;
        rec_send(r[i], 0, 1, 1, true);
        KIT_UNTIL(&f.k, r[i]->body_len == LIMIT_STREAM_WINDOW);
    }
    small = end_request(&f.client, kit_request, false);
    rec_send(small, 0, 1, 1, true);
    KIT_UNTIL(&f.k, small->close_count == 1);
    assert_int_equal(small->body_len, 100);
    teardown(&f);
}

/* A large upload, in pieces above and below the copying limit. */
static void test_upload(void **state)
{
    struct fix f;
    struct rec *r;

    (void)state;
    setup(&f);
    f.server.on_end = answer_100;
    r = end_request(&f.client, kit_request, false);
    rec_send(r, 0, 3000000, 700, false);
    rec_send(r, 3000000, 1000000, 300, false);
    rec_send(r, 4000000, 2000000, 100000, true);
    KIT_UNTIL(&f.k, r->close_count == 1);
    assert_int_equal(f.server.last->body_len, 6000000);
    assert_true(kit_is_pattern(f.server.last->body, 0, 6000000));
    assert_int_equal(r->drained, 6000000);
    teardown(&f);
}

static void test_client_resets(void **state)
{
    struct fix f;
    struct rec *r;

    (void)state;
    setup(&f);
    f.server.on_request = start_stream;
    r = end_request(&f.client, kit_request, false);
    rec_send(r, 0, 10, 10, false);
    KIT_UNTIL(&f.k, r->headers_count == 1);
    rec_send(r, 10, 10, 10, false);
    h2_stream_reset(r->s, H2_CANCEL);
    assert_int_equal(r->close_count, 0); /* not from inside the call */
    h2_stream_reset(r->s, H2_INTERNAL_ERROR);
    assert_int_equal(h2_conn_stream_count(f.client.c), 0);
    assert_int_equal(h2_stream_queued(r->s), 0);
    KIT_UNTIL(&f.k, r->close_count == 1);
    assert_int_equal(r->code, H2_CANCEL);
    assert_int_equal(r->how, H2_END_RESET);
    KIT_UNTIL(&f.k, f.server.last->close_count == 1);
    assert_int_equal(f.server.last->code, H2_CANCEL);
    assert_int_equal(f.server.last->how, H2_END_RESET);
    teardown(&f);
}

static void test_server_resets(void **state)
{
    struct fix f;
    struct rec *r;

    (void)state;
    setup(&f);
    r = end_request(&f.client, kit_request, false);
    rec_send(r, 0, 10, 10, false);
    KIT_UNTIL(&f.k, f.server.recs_count == 1);
    h2_stream_reset(f.server.last->s, H2_REFUSED_STREAM);
    KIT_UNTIL(&f.k, r->close_count == 1 && f.server.last->close_count == 1);
    assert_int_equal(r->code, H2_REFUSED_STREAM);
    assert_int_equal(f.server.last->code, H2_REFUSED_STREAM);
    teardown(&f);
}

/* A request that is reset before it left: the server never hears of it, the next one works. */
static void test_reset_before_sent(void **state)
{
    struct fix f;
    struct rec *r, *next;

    (void)state;
    setup(&f);
    f.server.on_end = answer_100;
    r = end_request(&f.client, kit_request, false);
    rec_send(r, 0, 10, 10, false);
    h2_stream_reset(r->s, H2_CANCEL);
    next = end_request(&f.client, kit_request, false);
    rec_send(next, 0, 10, 10, true);
    KIT_UNTIL(&f.k, r->close_count == 1 && next->close_count == 1);
    assert_int_equal(r->code, H2_CANCEL);
    assert_int_equal(next->how, H2_END_COMPLETE);
    assert_int_equal(f.server.recs_count, 1);
    teardown(&f);
}

/* A reset while the peer still sends: its bytes fall on the floor, the connection's window does not
 * shrink (more than the window is thrown away, again and again). */
static void test_bytes_of_reset_streams_are_credited(void **state)
{
    struct fix f;

    (void)state;
    setup(&f);
    f.server.on_end = answer_big;
    for (int i = 0; i < 20; i++) {
        struct rec *r = end_request(&f.client, kit_request, false);

        f.server.recs_count = 0;
        r->is_hungry = false;
        r->is_forgetful = true;
        rec_send(r, 0, 1, 1, true);
        KIT_UNTIL(&f.k, r->body_len > 0);
        h2_stream_reset(r->s, H2_CANCEL);
    }
    {
        struct rec *r = end_request(&f.client, kit_request, false);

        f.server.recs_count = 0;
        r->is_forgetful = true;
        rec_send(r, 0, 1, 1, true);
        KIT_UNTIL(&f.k, r->close_count == 1);
        assert_int_equal(r->body_len, BIG);
    }
    teardown(&f);
}

/* The answer is complete before the request is: the client is told to stop, without an error. */
static void test_early_answer(void **state)
{
    struct fix f;
    struct rec *r;

    (void)state;
    setup(&f);
    f.server.on_request = answer_trailers_only;
    r = end_request(&f.client, kit_request, false);
    rec_send(r, 0, 4000000, 60000, false);
    KIT_UNTIL(&f.k, r->close_count == 1);
    assert_true(r->headers_end);
    assert_int_equal(r->code, H2_NO_ERROR);
    assert_int_equal(r->how, H2_END_RESET);
    KIT_UNTIL(&f.k, f.server.last->close_count == 1);
    assert_int_equal(f.server.last->code, H2_NO_ERROR);
    teardown(&f);
}

static void reset_it(struct rec *r)
{
    h2_stream_reset(r->s, H2_INTERNAL_ERROR);
    assert_int_equal(r->close_count, 0);
}

static void reset_on_data(struct rec *r, size_t n)
{
    (void)n;
    reset_it(r);
}

/* Resets from inside every callback. */
static void test_reset_inside_callbacks(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++) {
        struct fix f;
        struct rec *r;

        setup(&f);
        f.server.on_end = answer_big;
        if (i == 0)
            f.server.on_request = reset_it;
        if (i == 1)
            f.server.on_data = reset_on_data;
        if (i == 2)
            f.server.on_drained = reset_it;
        if (i == 3)
            f.client.on_response = reset_it;
        if (i == 4)
            f.client.on_data = reset_on_data;
        r = end_request(&f.client, kit_request, false);
        r->is_forgetful = true;
        rec_send(r, 0, 5, 5, true);
        KIT_UNTIL(&f.k, r->close_count == 1 && f.server.last->close_count == 1);
        assert_int_equal(r->code, H2_INTERNAL_ERROR);
        assert_int_equal(f.server.last->code, H2_INTERNAL_ERROR);
        teardown(&f);
    }
}

static void use_dead_stream(struct rec *r)
{
    struct chain c = {0};

    assert_int_equal(chain_push_copy(&c, &r->end->k->pool, "abc", 3, 0), ERR_OK);
    assert_int_equal(h2_stream_send(r->s, &c, true), ERR_CLOSED);
    h2_stream_credit(r->s, 10);
    h2_stream_reset(r->s, H2_CANCEL);
}

/* What the owner does with a stream in its on_close changes nothing. */
static void test_use_inside_on_close(void **state)
{
    struct fix f;
    struct rec *r;

    (void)state;
    setup(&f);
    f.server.on_end = answer_100;
    f.server.on_close = use_dead_stream;
    f.client.on_close = use_dead_stream;
    r = end_request(&f.client, kit_request, false);
    rec_send(r, 0, 5, 5, true);
    KIT_UNTIL(&f.k, r->close_count == 1 && f.server.last->close_count == 1);
    assert_int_equal(r->how, H2_END_COMPLETE);
    teardown(&f);
}

static void test_send_after_end(void **state)
{
    struct fix f;
    struct rec *r;
    struct chain c = {0};

    (void)state;
    setup(&f);
    r = end_request(&f.client, kit_request, true);
    assert_int_equal(chain_push_copy(&c, &f.k.pool, "abc", 3, 0), ERR_OK);
    assert_int_equal(h2_stream_send(r->s, &c, false), ERR_CLOSED);
    assert_int_equal(c.len, 0);
    h2_stream_reset(r->s, H2_CANCEL);
    assert_int_equal(h2_stream_send(r->s, &c, false), ERR_CLOSED);
    teardown(&f);
}

/* A token of kilobytes, many fields, and an answer with a list of 500 KiB. */
static void answer_long(struct rec *r)
{
    static char value[5000];
    struct h2_field v[102];

    memset(value, 'v', sizeof value);
    for (size_t i = 0; i < ARRAY_LEN(v); i++)
        v[i] = (struct h2_field){BYTES_LIT("x-long"), bytes_of(value, sizeof value)};
    v[0] = (struct h2_field){BYTES_LIT(":status"), BYTES_LIT("200")};
    value[0] = ' ';
    value[0] = 'w';
    assert_int_equal(h2_respond(r->s, (struct h2_fields){v, ARRAY_LEN(v)}, true), ERR_OK);
}

static void test_long_headers(void **state)
{
    struct fix f;
    struct rec *r;
    char token[12000];
    struct h2_field v[8];

    (void)state;
    setup(&f);
    f.server.on_request = answer_long;
    memset(token, 't', sizeof token);
    memcpy(v, kit_request.v, 7 * sizeof v[0]);
    v[7] = (struct h2_field){BYTES_LIT("token"), bytes_of(token, sizeof token)};
    for (int i = 0; i < 3; i++) {
        r = end_request(&f.client, (struct h2_fields){v, 8}, true);
        KIT_UNTIL(&f.k, r->close_count == 1);
        assert_int_equal(r->how, H2_END_COMPLETE);
        assert_true(strlen(f.server.last->headers) > sizeof token);
        assert_true(strlen(r->headers) > 101 * 5000);
    }
    teardown(&f);
}

static void test_many_at_once(void **state)
{
    struct fix f;
    struct rec *r[300];

    (void)state;
    setup(&f);
    f.server.on_end = answer_100;
    for (int round = 0; round < 20; round++) {
        for (size_t i = 0; i < ARRAY_LEN(r); i++) {
            r[i] = end_request(&f.client, kit_request, false);
            rec_send(r[i], 0, 1000, 1000, true);
        }
        for (size_t i = 0; i < ARRAY_LEN(r); i++) {
            KIT_UNTIL(&f.k, r[i]->close_count == 1);
            assert_int_equal(r[i]->how, H2_END_COMPLETE);
        }
    }
    assert_int_equal(f.client.lost_count + f.server.lost_count, 0);
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unary),
        cmocka_unit_test(test_trailers_only_and_no_body),
        cmocka_unit_test(test_no_message),
        cmocka_unit_test(test_taken_lists),
        cmocka_unit_test(test_taken_lists_of_nothing),
        cmocka_unit_test(test_bidi),
        cmocka_unit_test(test_unread_stream_beside_another),
        cmocka_unit_test(test_unread_streams_do_not_hold_the_connection),
        cmocka_unit_test(test_upload),
        cmocka_unit_test(test_client_resets),
        cmocka_unit_test(test_server_resets),
        cmocka_unit_test(test_reset_before_sent),
        cmocka_unit_test(test_bytes_of_reset_streams_are_credited),
        cmocka_unit_test(test_early_answer),
        cmocka_unit_test(test_reset_inside_callbacks),
        cmocka_unit_test(test_use_inside_on_close),
        cmocka_unit_test(test_send_after_end),
        cmocka_unit_test(test_idle),
        cmocka_unit_test(test_request_without_owner),
        cmocka_unit_test(test_long_headers),
        cmocka_unit_test(test_many_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
