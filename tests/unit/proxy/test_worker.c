/* SPDX-License-Identifier: Apache-2.0 */
/* The rule of a worker: orders are carried out in the order in which they came. A new rule set is
 * for messages that begin after it; one that is under way ends with the set that it began with, and
 * a set that nobody uses is reported and freed once. A worker that ends gives back everything that
 * it was sent, whether it has come to it or not. */
#include <sys/socket.h>
#include <unistd.h>

#include "rig.h"

static struct rig r;

static void check_prefix(const struct rec *s, const char *prefix)
{
    assert_true(bytes_has_prefix(field_of(rig_message_at(s, 0), 2), bytes_str(prefix)));
}

static void put_as(unsigned nth, const char *prefix)
{
    struct rec *c = rig_put(r.client, SECRET_KEY, "treasure"), *s = rig_await(&r, nth);
    struct buf m = put_response();

    check_prefix(s, prefix);
    rig_check_put(&r, rig_message_at(s, 0), SECRET_KEY, "treasure");
    rig_answer(s, &m);
    rig_expect(&r, c, 0);
}

static void new_messages_use_the_new_rules(void **state)
{
    (void)state;
    put_as(1, "k8s:enc:kms:v2:vault:");
    rig_reload(&r);
    put_as(2, "k8s:enc:aesgcm:v1:k1:");
    RIG_UNTIL(&r, r.freed_count == 1);
    put_as(3, "k8s:enc:aesgcm:v1:k1:");
}

/* Its answer waits for a key of the old set's ring. */
static void a_message_under_way_ends_with_its_own_rules(void **state)
{
    struct rec *c = rig_range(r.client, SECRET_KEY), *s = rig_await(&r, 1);
    struct buf sealed = rig_seal(&r, 1, SECRET_KEY, "treasure", 8);
    struct buf m = range_response(SECRET_KEY, &sealed);

    (void)state;
    r.plugin.decrypt.how = FAKE_SILENT;
    rig_answer(s, &m);
    RIG_UNTIL(&r, r.plugin.decrypt.now == 1);
    rig_reload(&r);
    put_as(2, "k8s:enc:aesgcm:v1:k1:");
    rig_pass(&r, 500);
    assert_int_equal(r.freed_count, 0);
    fake_speak(&r.plugin);
    rig_expect(&r, c, 0);
    rig_check_value(rig_message_at(c, 0), "treasure", 8);
    RIG_UNTIL(&r, r.freed_count == 1);
    buf_free(&sealed);
}

/* So does one that its client gives up on. */
static void a_message_that_is_given_up_lets_go_of_its_rules(void **state)
{
    struct rec *c = rig_range(r.client, SECRET_KEY), *s = rig_await(&r, 1);
    struct buf sealed = rig_seal(&r, 1, SECRET_KEY, "treasure", 8);
    struct buf m = range_response(SECRET_KEY, &sealed);

    (void)state;
    r.plugin.decrypt.how = FAKE_SILENT;
    rig_answer(s, &m);
    RIG_UNTIL(&r, r.plugin.decrypt.now == 1);
    rig_reload(&r);
    assert_int_equal(r.freed_count, 0);
    h2_stream_reset(c->s, H2_CANCEL);
    RIG_UNTIL(&r, r.freed_count == 1);
    buf_free(&sealed);
}

/* A stream changes its rules between two messages. */
static void a_watch_goes_on_with_the_new_rules(void **state)
{
    struct rec *c = rig_begin(r.client, WATCH, NULL), *s = rig_await_headers(&r, 1);
    struct buf create = watch_create("/registry/", "/registry0"), framed = rig_framed(&create);
    struct buf kms = rig_seal(&r, 1, SECRET_KEY, "before", 6), local, m = watch_created(0);

    (void)state;
    rig_respond(s);
    rig_send(c, framed.p, framed.n, false);
    RIG_UNTIL(&r, rig_message_count(s) == 1);
    rig_message(s, &m, false);
    m = watch_event(0, SECRET_KEY, &kms);
    rig_message(s, &m, false);
    RIG_UNTIL(&r, rig_message_count(c) == 2);
    rig_reload(&r);
    RIG_UNTIL(&r, r.freed_count == 1); /* the stream alone holds no rules */
    local = rig_seal(&r, 1, SECRET_KEY, "behind", 6);
    m = watch_event(0, SECRET_KEY, &local);
    rig_message(s, &m, false);
    m = watch_event(0, SECRET_KEY, &kms);
    rig_message(s, &m, false);
    RIG_UNTIL(&r, rig_message_count(c) == 4);
    assert_true(bytes_contain(c->body, c->body_len, "behind"));
    assert_int_equal(r.plugin.decrypt.calls, 2); /* once for each set */
    h2_stream_reset(c->s, H2_CANCEL);
    buf_free(&framed);
    buf_free(&kms);
    buf_free(&local);
}

/* --- another worker, and its end ------------------------------------------------------------- */

static unsigned reports[WORKER_DRAINED + 1];

static void on_report(void *arg, const struct worker_report *report)
{
    (void)arg;
    reports[report->event]++;
}

static struct worker *second_worker(void)
{
    struct worker *w;

    memset(reports, 0, sizeof reports);
    assert_int_equal(worker_new(&r.env, 2, &r.control, on_report, NULL, &w), ERR_OK);
    return w;
}

static void its_end_alone(void **state)
{
    struct worker *w = second_worker();

    (void)state;
    worker_end(w);
    loop_run(&w->loop);
    worker_free(w);
}

static void its_end_with_orders_before_and_behind(void **state)
{
    struct worker *w = second_worker();
    int before[2], behind[2];

    (void)state;
    kit_socketpair(before);
    kit_socketpair(behind);
    assert_int_equal(worker_make_keyset(w, r.rules, r.manager, NULL), ERR_OK);
    worker_drain(w, 1000);
    assert_int_equal(worker_give_socket(w, before[1], NULL), ERR_OK); /* too late: it drains */
    worker_end(w);
    assert_int_equal(worker_give_socket(w, behind[1], NULL), ERR_OK);
    assert_int_equal(worker_make_keyset(w, r.rules, r.manager, NULL), ERR_OK);
    loop_run(&w->loop);
    assert_true(rig_is_closed(before[0]) && rig_is_closed(behind[0]));
    worker_free(w);
    rig_settle(&r);
    assert_int_equal(reports[WORKER_KEYSET_MADE], 1);
    assert_int_equal(reports[WORKER_DRAINED], 1);
    assert_int_equal(reports[WORKER_LINK_CLOSED], 1);
    close(before[0]);
    close(behind[0]);
}

static void orders_after_its_end(void **state)
{
    struct worker *w = second_worker();
    int fd[2];

    (void)state;
    worker_end(w);
    loop_run(&w->loop);
    kit_socketpair(fd);
    assert_int_equal(worker_give_socket(w, fd[1], NULL), ERR_OK);
    assert_int_equal(worker_make_keyset(w, r.rules, r.manager, NULL), ERR_OK);
    worker_drain(w, 1000);
    assert_true(rig_is_closed(fd[0]));
    worker_free(w);
    close(fd[0]);
}

/* Calls that come before any rule set are refused: nothing passes unjudged. */
static void without_rules_nothing_passes(void **state)
{
    struct worker *w = second_worker(), *first = r.w;
    struct rec *c;

    (void)state;
    r.w = w; /* the rig runs it in place of the first */
    r.client = rig_client(&r);
    c = rig_put(r.client, POD_KEY, "x");
    RIG_UNTIL(&r, c->close_count == 1);
    assert_true(rig_status(c) > 0);
    assert_int_equal(r.etcd->recs_count, 0);
    h2_conn_close(r.client->c, H2_NO_ERROR, 0);
    RIG_UNTIL(&r, reports[WORKER_LINK_CLOSED] == 1);
    worker_end(w);
    loop_run(&w->loop);
    worker_free(w);
    r.w = first;
}

int main(void)
{
#define TEST(fn) RIG_TEST_WITH_CLIENT(fn, &r)
    const struct CMUnitTest tests[] = {
        TEST(new_messages_use_the_new_rules),
        TEST(a_message_under_way_ends_with_its_own_rules),
        TEST(a_message_that_is_given_up_lets_go_of_its_rules),
        TEST(a_watch_goes_on_with_the_new_rules),
        TEST(its_end_alone),
        TEST(its_end_with_orders_before_and_behind),
        TEST(orders_after_its_end),
        TEST(without_rules_nothing_passes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
