/* SPDX-License-Identifier: Apache-2.0 */
/* What a message may cost the plugin. The rule for values that do not open: a DEK that opened
 * nothing is not kept, and the pair of it and the value is remembered for 3 s, by the value's bytes
 * and by the key that it lies under. */
#include "base/metric_series.h"
#include "grpc/grpc.h"
#include "rig.h"

#define OTHER_KEY "/registry/secrets/ns/b"
#define DATA_LOSS 15
#define INVALID_ARGUMENT 3

static struct rig r;
static unsigned etcd_calls;

static int setup(void **state)
{
    etcd_calls = 0;
    return rig_setup_with_client(state);
}

/* --- refused values -------------------------------------------------------------------------- */

/* Its middle is within the ciphertext. */
static struct buf damaged(unsigned dek, const char *key, size_t n)
{
    uint8_t *value = calloc(1, n);
    struct buf sealed = rig_seal(&r, dek, key, value, n);

    sealed.p[sealed.n / 2] ^= 1;
    free(value);
    return sealed;
}

static struct rec *answered(const char *key, const struct buf *stored)
{
    struct rec *c = rig_range(r.client, key);
    struct buf m = range_response(key, stored);

    rig_answer(rig_await(&r, ++etcd_calls), &m);
    return c;
}

/* A read of key, as which etcd has stored. */
static void read_as(const char *key, const struct buf *stored, int status)
{
    rig_expect(&r, answered(key, stored), status);
}

/* Values that are opened to the output, and those that are opened where they lie. */
static void a_damaged_value_is_unwrapped_for_once_in_3_s(void **state)
{
    static const size_t sizes[] = {400, 20000, 200000};
    unsigned calls = 0;

    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(sizes); i++) {
        struct buf bad = damaged(i, SECRET_KEY, sizes[i]);

        for (unsigned round = 0; round < 2; round++) {
            calls++;
            for (unsigned n = 0; n < 25; n++) {
                read_as(SECRET_KEY, &bad, DATA_LOSS);
                assert_int_equal(r.plugin.decrypt.calls, calls);
            }
            rig_pass(&r, LIMIT_NEGATIVE_MS);
        }
        buf_free(&bad);
    }
}

static void reads_at_the_same_time_are_one_call(void **state)
{
    struct buf bad = damaged(1, SECRET_KEY, 400);
    struct rec *c[20];

    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(c); i++)
        c[i] = answered(SECRET_KEY, &bad);
    for (unsigned i = 0; i < ARRAY_LEN(c); i++)
        rig_expect(&r, c[i], DATA_LOSS);
    assert_int_equal(r.plugin.decrypt.calls, 1);
    buf_free(&bad);
}

static void another_value_of_the_dek_is_tried(void **state)
{
    struct buf bad = damaged(1, SECRET_KEY, 400), good = rig_seal(&r, 1, OTHER_KEY, "treasure", 8);
    struct rec *c;

    (void)state;
    read_as(SECRET_KEY, &bad, DATA_LOSS);
    c = answered(OTHER_KEY, &good);
    rig_expect(&r, c, 0);
    rig_check_value(rig_message_at(c, 0), "treasure", 8);
    assert_int_equal(r.plugin.decrypt.calls, 2);
    read_as(SECRET_KEY, &bad, DATA_LOSS); /* its DEK is at hand by now, and does not open it */
    assert_int_equal(r.plugin.decrypt.calls, 2);
    buf_free(&bad);
    buf_free(&good);
}

/* Whoever can write etcd may copy a value to a key of his: that must not end reads of its own. */
static void the_same_bytes_under_another_key_are_another_value(void **state)
{
    struct buf good = rig_seal(&r, 1, OTHER_KEY, "treasure", 8);
    struct rec *c;

    (void)state;
    read_as(SECRET_KEY, &good, DATA_LOSS);
    c = answered(OTHER_KEY, &good);
    rig_expect(&r, c, 0);
    rig_check_value(rig_message_at(c, 0), "treasure", 8);
    buf_free(&good);
}

/* The first refused value is named, and none of the others is asked for. */
static void a_list_with_a_refused_value_asks_for_nothing(void **state)
{
    struct buf bad = damaged(1, OTHER_KEY, 400), m = put_response();
    struct rec *c;

    (void)state;
    read_as(OTHER_KEY, &bad, DATA_LOSS);
    for (unsigned i = 0; i < 30; i++) {
        struct buf good = rig_seal(&r, 2 + i, SECRET_KEY, "treasure", 8);

        add_kv(&m, 2, SECRET_KEY, good.p, good.n);
        buf_free(&good);
    }
    add_kv(&m, 2, OTHER_KEY, bad.p, bad.n);
    c = rig_range_all(r.client);
    rig_answer(rig_await(&r, ++etcd_calls), &m);
    rig_expect(&r, c, DATA_LOSS);
    assert_non_null(strstr(c->trailers, OTHER_KEY));
    assert_int_equal(r.plugin.decrypt.calls, 1);
    buf_free(&bad);
}

/* DEKs that the manager was asked for, of all tests until now. */
static unsigned asked_for(void)
{
    static const char name[] = "\napiserver_storage_envelope_transformation_cache_misses_total ";
    char *text = NULL;
    const char *at;
    unsigned n;
    size_t len;
    FILE *f = open_memstream(&text, &len);

    assert_non_null(f);
    assert_int_equal(series_write(f), ERR_OK);
    assert_int_equal(fclose(f), 0);
    at = strstr(text, name);
    n = at == NULL ? 0 : (unsigned)strtoul(at + sizeof name - 1, NULL, 10);
    free(text);
    return n;
}

/* However many DEKs an answer names. */
static void a_message_asks_for_64_deks_at_a_time(void **state)
{
    unsigned before = asked_for();
    struct buf m = put_response();
    struct rec *c;

    (void)state;
    r.plugin.decrypt.how = FAKE_SILENT;
    for (unsigned i = 0; i < 200; i++) {
        struct buf good = rig_seal(&r, 1000 + i, SECRET_KEY, "treasure", 8);

        add_kv(&m, 2, SECRET_KEY, good.p, good.n);
        buf_free(&good);
    }
    c = rig_range_all(r.client);
    rig_answer(rig_await(&r, ++etcd_calls), &m);
    rig_settle(&r);
    assert_int_equal(asked_for() - before, 64);
    assert_int_equal(c->close_count, 0);
    r.plugin.decrypt.how = FAKE_ANSWERS;
    fake_speak(&r.plugin);
    rig_expect(&r, c, 0);
    assert_int_equal(asked_for() - before, 200);
}

static void a_damaged_sealed_put_is_unwrapped_for_once(void **state)
{
    struct buf bad = damaged(1, SECRET_KEY, 400);

    (void)state;
    for (unsigned i = 0; i < 20; i++) {
        struct buf m = put_request(SECRET_KEY, bad.p, bad.n);

        rig_expect(&r, rig_call(r.client, PUT, &m), INVALID_ARGUMENT);
    }
    assert_int_equal(r.plugin.decrypt.calls, 1);
    assert_int_equal(rig_calls(&r), 0);
    buf_free(&bad);
}

/* A watch that is begun anew gets the event again and again. */
static void a_damaged_event_is_unwrapped_for_once(void **state)
{
    struct buf bad = damaged(1, SECRET_KEY, 400);

    (void)state;
    for (unsigned i = 0; i < 10; i++) {
        struct rec *c = rig_begin(r.client, WATCH, NULL), *s = rig_await_headers(&r, ++etcd_calls);
        struct buf create = watch_create("/registry/", "/registry0"), created = watch_created(0);
        struct buf framed = rig_framed(&create), m = watch_event(0, SECRET_KEY, &bad);

        rig_respond(s);
        rig_send(c, framed.p, framed.n, false);
        RIG_UNTIL(&r, rig_message_count(s) == 1);
        rig_message(s, &created, false);
        rig_message(s, &m, false);
        RIG_UNTIL(&r, rig_message_count(c) == 2); /* created, canceled */
        h2_stream_reset(c->s, H2_CANCEL);
        RIG_UNTIL(&r, s->close_count == 1);
        buf_free(&framed);
    }
    assert_int_equal(r.plugin.decrypt.calls, 1);
    buf_free(&bad);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_prestate_setup_teardown(fn, setup, rig_teardown, &r)
    const struct CMUnitTest tests[] = {
        TEST(a_damaged_value_is_unwrapped_for_once_in_3_s),
        TEST(reads_at_the_same_time_are_one_call),
        TEST(another_value_of_the_dek_is_tried),
        TEST(the_same_bytes_under_another_key_are_another_value),
        TEST(a_list_with_a_refused_value_asks_for_nothing),
        TEST(a_message_asks_for_64_deks_at_a_time),
        TEST(a_damaged_sealed_put_is_unwrapped_for_once),
        TEST(a_damaged_event_is_unwrapped_for_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
