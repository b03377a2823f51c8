/* SPDX-License-Identifier: Apache-2.0 */
/* No message holds the worker for long: sealing goes in turns, in which others have theirs. Between
 * two of them the call may be given up, its client may go, and the rules may change: it ends with
 * those that it began with. (What a turn does is seen by the memory that it takes.) */
#include "etcd/large.h"
#include "pb/pb.h"
#include "rig.h"

#define MIB (1024u * 1024)
#define PUTS 10u
#define LEN (MIB + MIB / 2)

static struct rig r;
static uint64_t before, most; /* slabs at the begin of the worker's turn; what a turn took */

static void on_worker(bool begins)
{
    uint64_t now = r.w->pool.live_bytes;

    if (begins)
        before = now;
    else if (now > before && now - before > most)
        most = now - before;
}

static int setup(void **state)
{
    int e = rig_setup_with_client(state);

    most = 0;
    r.on_worker = on_worker;
    return e;
}

/* A Txn of 15 MiB, all of which is to be sealed. */
static struct rec *large_txn(void)
{
    uint8_t *value = calloc(1, LEN);
    struct buf m = {0};

    for (unsigned i = 0; i < PUTS; i++) {
        struct buf put = put_request(SECRET_KEY, value, LEN), op = {0};

        buf_sub(&op, 2, &put);
        buf_sub(&m, 2, &op);
    }
    free(value);
    return rig_call(r.client, "/etcdserverpb.KV/Txn", &m);
}

static unsigned count_events(struct bytes m)
{
    struct chain c = {0};
    struct pb_reader reader;
    struct pb_field f;
    unsigned n = 0;

    assert_int_equal(chain_push_copy(&c, &r.outside.pool, m.p, m.n, 0), ERR_OK);
    reader = pb_reader_all(&c);
    while (pb_next(&reader, &f) == PB_FIELD)
        n += f.number == 11;
    chain_fini(&c);
    return n;
}

static bool has_begun(void)
{
    return most > 3 * MIB;
}

static unsigned count(const struct rec *s, const char *what)
{
    const uint8_t *p = s->body, *end = s->body + s->body_len;
    unsigned n = 0;

    while ((p = memmem(p, (size_t)(end - p), what, strlen(what))) != NULL) {
        n++;
        p++;
    }
    return n;
}

static void sealing_takes_turns(void **state)
{
    struct rec *c = large_txn();
    struct buf m = put_response();
    struct rec *s = rig_await(&r, 1);

    (void)state;
    assert_true(has_begun());
    assert_true(most < LIMIT_APPLY_TURN + LEN + 2 * MIB);
    assert_int_equal(count(s, "k8s:enc:kms:v2:"), PUTS);
    rig_answer(s, &m);
    RIG_UNTIL(&r, c->close_count == 1);
}

/* Many of them, of several clients, hold the worker no longer than one: a turn of the loop is for
 * one of them. */
static void only_one_in_a_turn(void **state)
{
    enum { CLIENTS = 3 };
    struct end *clients[CLIENTS] = {r.client, rig_client(&r), rig_client(&r)};
    struct end *first = r.client;

    (void)state;
    rig_limit(&r, 512ull * MIB);
    for (unsigned i = 0; i < CLIENTS; i++) {
        r.client = clients[i];
        large_txn();
    }
    r.client = first;
    rig_await(&r, CLIENTS);
    assert_true(has_begun());
    assert_true(most < LIMIT_APPLY_TURN + LEN + 3 * MIB);
    for (unsigned i = 0; i < CLIENTS; i++)
        h2_conn_close(clients[i]->c, H2_NO_ERROR, 0);
    RIG_UNTIL(&r, rig_is_idle(&r));
}

static void a_call_may_be_cancelled_between(void **state)
{
    struct rec *c = large_txn();

    (void)state;
    RIG_UNTIL(&r, has_begun());
    h2_stream_reset(c->s, H2_CANCEL);
    RIG_UNTIL(&r, rig_is_idle(&r));
    assert_int_equal(rig_calls(&r), 0);
}

static void its_client_may_go_between(void **state)
{
    (void)state;
    large_txn();
    RIG_UNTIL(&r, has_begun());
    h2_conn_close(r.client->c, H2_NO_ERROR, 0);
    RIG_UNTIL(&r, list_is_empty(&r.w->links));
    RIG_UNTIL(&r, rig_is_idle(&r));
    assert_int_equal(rig_calls(&r), 0);
}

static void a_reload_between_changes_nothing(void **state)
{
    struct rec *c = large_txn(), *s;
    struct buf m = put_response();

    (void)state;
    RIG_UNTIL(&r, has_begun());
    rig_reload(&r);
    s = rig_await(&r, 1);
    assert_int_equal(count(s, "k8s:enc:kms:v2:"), PUTS);
    assert_int_equal(count(s, "k8s:enc:aesgcm:"), 0);
    rig_answer(s, &m);
    RIG_UNTIL(&r, c->close_count == 1);
    RIG_UNTIL(&r, r.freed_count == 1);
}

/* --- watches --------------------------------------------------------------------------------- */

#define EVENTS 40000u

/* A watch of the client, to which etcd sends a revision of so many events. */
static struct rec *large_revision(void)
{
    struct buf create = watch_create("/registry/", "/registry0"), created = watch_created(0);
    struct rec *c = rig_begin(r.client, WATCH, NULL), *s;
    struct buf m = put_response(), framed = rig_framed(&create);

    rig_send(c, framed.p, framed.n, false);
    buf_free(&framed);
    s = rig_await_headers(&r, 1);
    RIG_UNTIL(&r, rig_message_count(s) == 1);
    rig_respond(s);
    rig_message(s, &created, false);
    RIG_UNTIL(&r, rig_message_count(c) == 1);
    for (unsigned i = 0; i < EVENTS; i++) {
        struct buf event = {0};

        add_kv(&event, 2, POD_KEY, "value", 5);
        buf_sub(&m, 11, &event);
    }
    rig_message(s, &m, false);
    return c;
}

/* So much of it is planned that it has yielded. */
static bool is_planned_in_part(void)
{
    return !list_is_empty(&r.w->turns);
}

/* Whoever comes while it is planned has his turns. */
static void a_revision_takes_turns(void **state)
{
    struct end *other = rig_client(&r);
    struct rec *c = large_revision(), *p;
    unsigned turns = 0;

    (void)state;
    RIG_UNTIL(&r, is_planned_in_part());
    p = rig_put(other, POD_KEY, "small");
    while (rig_calls(&r) == 1) {
        rig_turn(&r);
        turns++;
    }
    assert_int_equal(rig_message_count(c), 1);
    assert_in_range(turns, 1, EVENTS / (LIMIT_LANE_TURN / ETCD_LARGE_EVENT_COST) / 2);
    rig_answer_put(&r, p, 2);
    RIG_UNTIL(&r, rig_message_count(c) == 2);
    assert_int_equal(count_events(rig_message_at(c, 1)), EVENTS);
    h2_stream_reset(c->s, H2_CANCEL);
    RIG_UNTIL(&r, rig_is_idle(&r));
}

static void a_watch_may_be_cancelled_between(void **state)
{
    struct rec *c = large_revision();

    (void)state;
    RIG_UNTIL(&r, is_planned_in_part());
    h2_stream_reset(c->s, H2_CANCEL);
    RIG_UNTIL(&r, rig_is_idle(&r));
    assert_true(list_is_empty(&r.w->turns));
}

/* --- connections to etcd --------------------------------------------------------------------- */

#define CROWD 200u
#define PART 40000u

static struct rec *put_part(struct end *client)
{
    uint8_t *value = calloc(1, PART);
    struct buf m = put_request(POD_KEY, value, PART);

    free(value);
    return rig_call(client, PUT, &m);
}

/* One client has 200 puts on their way to etcd, which takes little at a time; then another has one.
 * It is through when the first has had about as much. */
static void clients_share_a_connection_to_etcd(void **state)
{
    struct end *other = rig_client(&r);
    size_t crowd = 0, alone_at = 0;

    (void)state;
    r.etcd_opts.conn_window = 65535;
    rig_etcd_lost(&r);
    RIG_UNTIL(&r, r.etcd != NULL && r.etcd->lost_count == 0);
    for (unsigned i = 0; i < CROWD; i++)
        put_part(r.client);
    RIG_UNTIL(&r, rig_calls(&r) == CROWD);
    put_part(other);
    RIG_UNTIL(&r, rig_calls(&r) == CROWD + 1);
    alone_at = r.etcd->last->body_len;
    RIG_UNTIL(&r, r.etcd->last->end_count == 1);
    LIST_FOREACH(it, &r.etcd->recs)
        crowd += LIST_ENTRY(it, struct rec, node)->body_len;
    assert_true(alone_at < PART);
    assert_true(crowd < CROWD * 16384 / 2);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_prestate_setup_teardown(fn, setup, rig_teardown, &r)
    const struct CMUnitTest tests[] = {
        TEST(sealing_takes_turns),
        TEST(only_one_in_a_turn),
        TEST(a_call_may_be_cancelled_between),
        TEST(its_client_may_go_between),
        TEST(a_reload_between_changes_nothing),
        TEST(a_revision_takes_turns),
        TEST(a_watch_may_be_cancelled_between),
        TEST(clients_share_a_connection_to_etcd),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
