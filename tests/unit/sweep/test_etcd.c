/* SPDX-License-Identifier: Apache-2.0 */
/* Calls to an etcd that is there and yet does not serve: each ends, within the time that it may
 * take, whatever else is answered meanwhile; and a pause in the asking is not held against it. */
#include "sweep/etcd.h"

#include <stdio.h>

#include "base/secret.h"
#include "etcd/message.h"
#include "fake_etcd.h"

#define FIRST_MS 300u
#define AWAY_MS 900u

struct asked {
    struct fixture *f;
    struct sweep_call call;
    const char *path;
    unsigned answers;
    enum err err;
    enum grpc_status status;
    char message[256];
    bool goes_on; /* asks again after each answer */
};

struct fixture {
    struct fake_site site;
    struct net_url url;
    struct sweep_etcd *etcd;
    struct sweep_login *login;
    struct asked range, status;
};

static void on_answer(void *arg, const struct client_answer *a);

static void ask(struct asked *q)
{
    sweep_call_start(&q->call, q->f->etcd, q->path, bytes_of(NULL, 0), 4096, on_answer, q);
}

static void on_answer(void *arg, const struct client_answer *a)
{
    struct asked *q = arg;

    q->answers++;
    q->err = a->err;
    q->status = a->status;
    snprintf(q->message, sizeof q->message, "%s", a->message);
    if (q->goes_on && a->err == ERR_OK)
        ask(q);
    else if (q == &q->f->range)
        q->f->site.is_over = true;
}

static struct sweep_user user; /* of the next fixture */

static void init(struct fixture *f)
{
    const char *reason;
    struct sweep_etcd_opts o = {.urls = &f->url, .url_count = 1};

    memset(f, 0, sizeof *f);
    fake_reset();
    fake_site_init(&f->site);
    o.loop = &f->site.loop;
    o.first_ms = FIRST_MS;
    o.away_ms = AWAY_MS;
    f->login = NULL;
    if (user.name != NULL)
        assert_int_equal(sweep_login_new(&user, &f->login), ERR_OK);
    o.login = f->login;
    f->range = (struct asked){.f = f, .path = ETCD_RANGE_PATH};
    f->status = (struct asked){.f = f, .path = ETCD_STATUS_PATH};
    assert_int_equal(net_url_parse("http://127.0.0.1:1", &f->url, &reason), ERR_OK);
    assert_int_equal(sweep_etcd_new(&o, &f->etcd), ERR_OK);
}

static void fini(struct fixture *f)
{
    sweep_call_cancel(&f->range.call);
    sweep_call_cancel(&f->status.call);
    sweep_etcd_close(f->etcd);
    sweep_login_drop(f->login);
    fake_site_fini(&f->site);
}

static void run(struct fixture *f)
{
    f->site.is_over = false;
    ask(&f->range);
    fake_site_run(&f->site);
}

/* A member without a leader: it knows its methods, and tells its Status. */
static void no_leader(const char *path)
{
    if (strcmp(path, ETCD_RANGE_PATH) == 0)
        fake.away = 1;
}

static void test_no_leader(void **state)
{
    (void)state;
    for (size_t was_well = 0; was_well < 2; was_well++)
        for (size_t beside = 0; beside < 2; beside++) {
            struct fixture f;
            uint64_t began;

            init(&f);
            if (was_well == 1) {
                run(&f);
                assert_int_equal(f.range.err, ERR_OK);
            }
            if (beside == 1) {
                f.status.goes_on = true;
                ask(&f.status);
            }
            fake.before = no_leader;
            began = loop_now_ms(&f.site.loop);
            run(&f);
            assert_int_equal(f.range.err, ERR_UPSTREAM_AWAY);
            assert_in_range(loop_now_ms(&f.site.loop) - began,
                            was_well + beside > 0 ? AWAY_MS : FIRST_MS, 3 * AWAY_MS);
            assert_true(beside == 0 || f.status.answers > 1);
            fini(&f);
        }
}

static void on_timer(struct loop_timer *t)
{
    (void)t;
}

/* Nobody asked for longer than etcd may be away; it was restarted meanwhile. */
static void test_idle(void **state)
{
    struct fixture f;
    struct loop_timer timer;
    uint64_t began;

    (void)state;
    init(&f);
    run(&f);
    assert_int_equal(f.range.err, ERR_OK);
    loop_timer_init(&timer, on_timer);
    assert_int_equal(loop_timer_start(&f.site.loop, &timer, AWAY_MS + 200), ERR_OK);
    began = loop_now_ms(&f.site.loop);
    while (loop_now_ms(&f.site.loop) - began < AWAY_MS + 200)
        uv_run(&f.site.loop.uv, UV_RUN_ONCE);
    loop_timer_fini(&timer);
    fake.away = 1;
    run(&f);
    assert_int_equal(f.range.err, ERR_OK);
    fini(&f);
}

/* The connection was lost while nobody asked, and somebody else is there now: he is asked who he is
 * before he gets a request. */
static void test_another_one_behind_a_new_connection(void **state)
{
    (void)state;
    for (int is_proxy = 0; is_proxy < 2; is_proxy++) {
        struct fixture f;

        init(&f);
        run(&f);
        assert_int_equal(f.range.err, ERR_OK);
        assert_int_equal(fake.calls, 2); /* who? and the Range */
        run(&f);
        assert_int_equal(fake.calls, 3);
        fake.connection++;
        fake.is_proxy = is_proxy != 0;
        run(&f);
        assert_int_equal(f.range.err, is_proxy != 0 ? ERR_CONFIG : ERR_OK);
        assert_int_equal(fake.ranges, is_proxy != 0 ? 2 : 3);
        assert_int_equal(fake.calls, is_proxy != 0 ? 4 : 5);
        fini(&f);
    }
}

/* An etcd that says for ever that it has too much to do is waited for as one that is away is. */
static void test_too_busy(void **state)
{
    struct fixture f;
    uint64_t began;

    (void)state;
    init(&f);
    run(&f);
    fake.txn_status = GRPC_RESOURCE_EXHAUSTED;
    fake.txn_message = "etcdserver: too many requests";
    f.range.path = ETCD_TXN_PATH;
    began = loop_now_ms(&f.site.loop);
    run(&f);
    assert_int_equal(f.range.err, ERR_UPSTREAM_AWAY);
    assert_in_range(loop_now_ms(&f.site.loop) - began, AWAY_MS, 3 * AWAY_MS);
    assert_in_range(fake.txns, 2, 10);
    fini(&f);
}

/* --- users ------------------------------------------------------------------------------------ */

#define MANY 40u

struct many {
    struct fixture *f;
    struct sweep_call v[MANY];
    unsigned left, failed;
};

static void on_one(void *arg, const struct client_answer *a)
{
    struct many *m = arg;

    m->failed += a->err != ERR_OK || a->status != GRPC_OK;
    if (--m->left == 0)
        m->f->site.is_over = true;
}

/* Asks MANY at once. */
static void run_many(struct fixture *f, struct many *m)
{
    *m = (struct many){.f = f, .left = MANY};
    f->site.is_over = false;
    for (size_t i = 0; i < MANY; i++)
        sweep_call_start(&m->v[i], f->etcd, ETCD_RANGE_PATH, bytes_of(NULL, 0), 4096, on_one, m);
    fake_site_run(&f->site);
}

/* However often a token ends, each call is carried out, and each token that is asked for was due:
 * those that were refused together are answered by one. */
static void test_tokens_end(void **state)
{
    static const unsigned good_for[] = {0, 10, MANY - 1, MANY};

    (void)state;
    user = (struct sweep_user){"name", "letmein"};
    for (size_t i = 0; i < ARRAY_LEN(good_for); i++) {
        struct fixture f;
        struct many m;

        init(&f);
        fake.user = "name";
        fake.password = "letmein";
        fake.token_calls = good_for[i];
        run_many(&f, &m);
        assert_int_equal(m.failed, 0);
        assert_int_equal(fake.logins,
                         good_for[i] == 0 ? 1 : (MANY + good_for[i] - 1) / good_for[i]);
        fake.token_calls = 0;
        fake.token++; /* users have changed, or it was restarted */
        fake.logins = 0;
        run_many(&f, &m);
        assert_int_equal(m.failed, 0);
        assert_int_equal(fake.logins, 1);
        run(&f);
        assert_int_equal(f.range.status, GRPC_OK);
        assert_int_equal(fake.logins, 1);
        fini(&f);
    }
    user = (struct sweep_user){0};
}

/* A user that etcd does not know, or without authentication. */
static void test_users(void **state)
{
    (void)state;
    for (int is_known = 0; is_known < 2; is_known++) {
        struct fixture f;

        user = (struct sweep_user){"name", "letmein"};
        init(&f);
        fake.user = is_known ? NULL : "name";
        fake.password = "other";
        for (int again = 0; again < 2; again++) {
            run(&f);
            assert_int_equal(f.range.err, ERR_OK);
            assert_int_equal(f.range.status, is_known ? GRPC_OK : GRPC_INVALID_ARGUMENT);
            assert_true(is_known || strstr(f.range.message, "user name: etcdserver: ") != NULL);
            assert_null(strstr(f.range.message, "letmein"));
        }
        assert_int_equal(fake.ranges, is_known ? 2 : 0);
        fini(&f);
    }
    user = (struct sweep_user){0};
}

/* A call that is refused whatever token it has ends with that answer. */
static void test_no_token_is_good(void **state)
{
    struct fixture f;

    (void)state;
    user = (struct sweep_user){"name", "letmein"};
    init(&f);
    fake.txn_status = GRPC_UNAUTHENTICATED;
    fake.txn_message = "etcdserver: invalid auth token";
    fake.user = "name";
    fake.password = "letmein";
    f.range.path = ETCD_TXN_PATH;
    run(&f);
    assert_int_equal(f.range.err, ERR_OK);
    assert_int_equal(f.range.status, GRPC_UNAUTHENTICATED);
    assert_in_range(fake.txns, 2, 10);
    fini(&f);
    user = (struct sweep_user){0};
}

static int setup(void **state)
{
    (void)state;
    return secret_init() == ERR_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_no_leader),
                                       cmocka_unit_test(test_idle),
                                       cmocka_unit_test(test_another_one_behind_a_new_connection),
                                       cmocka_unit_test(test_too_busy),
                                       cmocka_unit_test(test_tokens_end),
                                       cmocka_unit_test(test_users),
                                       cmocka_unit_test(test_no_token_is_good)};

    return cmocka_run_group_tests(tests, setup, NULL);
}
