/* SPDX-License-Identifier: Apache-2.0 */
/* The rule of a write under KMS v1: each value has a DEK of its own, for which the lane waits until
 * the plugin has wrapped it. Until then etcd hears nothing of the call, nobody else is held up, and
 * whoever gives up takes the call with him; without the DEK nothing is written. */
#include "rig.h"

static struct rig r;

static int setup(void **state)
{
    rig_init_with(*state, &(struct rig_opts){.has_kms_v1 = true});
    r.client = rig_client(&r);
    return 0;
}

/* A put that waits for its DEK. */
static struct rec *parked_put(void)
{
    struct rec *c;

    r.plugin.encrypt.how = FAKE_SILENT;
    c = rig_put(r.client, SECRET_KEY, "treasure");
    RIG_UNTIL(&r, r.plugin.encrypt.now == 1);
    rig_settle(&r);
    assert_int_equal(r.etcd->recs_count, 0);
    assert_int_equal(c->close_count, 0);
    return c;
}

static void a_put_waits_for_its_key(void **state)
{
    struct rec *c = parked_put();

    (void)state;
    rig_pass(&r, 500);
    assert_int_equal(r.etcd->recs_count, 0);
    fake_speak(&r.plugin);
    rig_check_put(&r, rig_message_at(rig_await(&r, 1), 0), SECRET_KEY, "treasure");
    rig_answer_put(&r, c, 1);
    assert_int_equal(rig_tally(&r, "OK", PUT), 1);
}

static struct bytes wrapped_key_of(const struct rec *s)
{
    static const char mark[] = "k8s:enc:kms:v1:vault:";
    struct bytes stored = field_of(rig_message_at(s, 0), 2);

    assert_true(bytes_has_prefix(stored, bytes_str(mark)));
    assert_true(stored.n > sizeof mark - 1 + 2 + 32);
    return bytes_of(stored.p + sizeof mark - 1 + 2, 32); /* behind its length */
}

static void each_value_has_a_key_of_its_own(void **state)
{
    unsigned before = r.plugin.encrypt.calls;
    uint8_t seen[3][32];

    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(seen); i++) {
        struct rec *c = rig_put(r.client, SECRET_KEY, "treasure");

        memcpy(seen[i], wrapped_key_of(rig_await(&r, i + 1)).p, sizeof seen[i]);
        for (unsigned j = 0; j < i; j++)
            assert_memory_not_equal(seen[i], seen[j], sizeof seen[i]);
        rig_answer_put(&r, c, i + 1);
    }
    assert_int_equal(r.plugin.encrypt.calls - before, ARRAY_LEN(seen));
}

static void who_waits_holds_nobody_up(void **state)
{
    struct rec *c = parked_put();

    (void)state;
    rig_answer_put(&r, rig_put(r.client, LOCAL_KEY, "treasure"), 1);
    rig_answer_put(&r, rig_put(r.client, POD_KEY, "no secret"), 2);
    assert_int_equal(c->close_count, 0);
    fake_speak(&r.plugin);
    rig_answer_put(&r, c, 3);
}

static void who_gives_up_is_forgotten(void **state)
{
    struct rec *c = parked_put();

    (void)state;
    h2_stream_reset(c->s, H2_CANCEL);
    RIG_UNTIL(&r, c->close_count == 1 && rig_is_idle(&r));
    fake_speak(&r.plugin);
    rig_pass(&r, 500);
    assert_int_equal(r.etcd->recs_count, 0);
    r.plugin.encrypt.how = FAKE_ANSWERS;
    rig_answer_put(&r, rig_put(r.client, SECRET_KEY, "treasure"), 1);
}

static void a_client_that_goes_is_forgotten(void **state)
{
    struct rec *c = parked_put();

    (void)state;
    h2_conn_close(r.client->c, H2_NO_ERROR, 0);
    RIG_UNTIL(&r, c->close_count == 1 && r.closed_count == 1);
    assert_int_equal(r.etcd->recs_count, 0);
    fake_speak(&r.plugin);
    rig_pass(&r, 500);
    assert_true(rig_is_idle(&r));
}

/* By an error of the plugin's, by its going, by its silence: the client may try again. */
static void without_a_key_nothing_is_written(void **state)
{
    static const enum fake_how hows[] = {FAKE_FAILS,   FAKE_HANGS_UP, FAKE_RESETS,
                                         FAKE_GARBAGE, FAKE_EMPTY,    FAKE_SILENT};

    (void)state;
    r.plugin.encrypt.code = GRPC_UNAVAILABLE;
    for (unsigned i = 0; i < ARRAY_LEN(hows); i++) {
        struct rec *c;

        r.plugin.encrypt.how = hows[i];
        c = rig_put(r.client, SECRET_KEY, "treasure");
        RIG_UNTIL(&r, c->close_count == 1);
        if (rig_status(c) != 14)
            fail_msg("way %u: status %d", i, rig_status(c));
        assert_int_equal(r.etcd->recs_count, 0);
        assert_null(strstr(c->trailers != NULL ? c->trailers : c->headers, "treasure"));
    }
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_prestate_setup_teardown(fn, setup, rig_teardown, &r)
    const struct CMUnitTest tests[] = {
        TEST(a_put_waits_for_its_key),         TEST(each_value_has_a_key_of_its_own),
        TEST(who_waits_holds_nobody_up),       TEST(who_gives_up_is_forgotten),
        TEST(a_client_that_goes_is_forgotten), TEST(without_a_key_nothing_is_written),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
