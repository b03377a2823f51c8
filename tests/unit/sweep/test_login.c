/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a token, step by step and answer by answer; what a refusal keeps from being asked;
 * connections that share a login; and memory that runs out at each step. */
#include "sweep/login.h"

#include <stdio.h>
#include <string.h>

#include "base/secret.h"
#include "failing_alloc.h"
#include "fake_etcd.h"
#include "sweep/etcd.h"

#define AGAIN_MS 60000u
#define AWAY_MS 900u

static unsigned changes;

static void on_change(void *arg)
{
    (void)arg;
    changes++;
}

static struct sweep_login *new_login(void)
{
    static const struct sweep_user user = {"name", "letmein"};
    struct sweep_login *l;

    assert_int_equal(sweep_login_new(&user, &l), ERR_OK);
    sweep_login_watch(l, on_change, NULL);
    changes = 0;
    return l;
}

/* --- answers ---------------------------------------------------------------------------------- */

enum answer { TOKEN, OFF, WRONG, OTHER, EMPTY, BENT, LONG, ANSWER_COUNT };

static struct client_answer answer_of(enum answer k)
{
    static uint8_t body[16 * 1024];
    static char longest[8194]; /* one byte too much */
    const char *token = k == TOKEN ? "abc.12" : k == BENT ? "a\nb" : k == LONG ? longest : "";
    struct client_answer a = {.err = ERR_OK, .status = GRPC_OK, .message = ""};
    struct etcd_message m;

    memset(longest, 'x', sizeof longest - 1);
    if (k == OFF || k == WRONG || k == OTHER) {
        a.status = k == OFF ? GRPC_FAILED_PRECONDITION : GRPC_INVALID_ARGUMENT;
        a.message = k == OFF     ? "etcdserver: authentication is not enabled"
                    : k == WRONG ? "etcdserver: authentication failed, invalid user ID or password"
                                 : "etcdserver: something else";
        return a;
    }
    etcd_message_init(&m, body, sizeof body);
    etcd_message_put_bytes(&m, 2, bytes_str(token));
    assert_int_equal(etcd_message_body(&m, &a.body), ERR_OK);
    return a;
}

static enum sweep_login_state state_after(enum answer k)
{
    return k == TOKEN ? SWEEP_LOGIN_IN : k == OFF ? SWEEP_LOGIN_OFF : SWEEP_LOGIN_REFUSED;
}

static bool same_text(enum answer a, enum answer b)
{
    bool is_bad_a = a >= EMPTY, is_bad_b = b >= EMPTY; /* all are "no token" */

    return a == b || (is_bad_a && is_bad_b);
}

/* Each answer behind each other one: the state is the last one's, and is told when it is news. */
static void test_answers(void **state)
{
    (void)state;
    for (enum answer first = 0; first < ANSWER_COUNT; first++)
        for (enum answer then = 0; then < ANSWER_COUNT; then++) {
            struct sweep_login *l = new_login();
            struct client_answer a = answer_of(first), refusal;

            assert_true(sweep_login_is_due(l));
            assert_int_equal(sweep_login_state(l), SWEEP_LOGIN_UNKNOWN);
            assert_int_equal(sweep_login_take(l, 1000, &a), ERR_OK);
            assert_int_equal(changes, 1);
            a = answer_of(then);
            assert_int_equal(sweep_login_take(l, 2000, &a), ERR_OK);
            assert_int_equal(changes, same_text(first, then) ? 1 : 2);
            assert_int_equal(sweep_login_state(l), state_after(then));
            assert_int_equal(sweep_login_is_refused(l, 2000, &refusal),
                             state_after(then) == SWEEP_LOGIN_REFUSED);
            assert_int_equal(sweep_login_why(l)[0] != '\0',
                             state_after(then) == SWEEP_LOGIN_REFUSED);
            assert_int_equal(sweep_login_is_due(l), then != TOKEN && then != OFF && first != TOKEN);
            sweep_login_drop(l);
        }
}

/* A refusal counts for a minute, or until there is another password, or somebody insists. */
static void test_refusal(void **state)
{
    static const struct {
        const char *password;
        bool is_forced, counts;
    } v[] = {{"letmein", false, true},
             {"letmein", true, false},
             {"other", false, false},
             {"letmei", false, false},
             {"letmeinn", true, false}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(v); i++) {
        struct sweep_login *l = new_login();
        struct client_answer a = answer_of(WRONG), refusal;

        assert_int_equal(sweep_login_take(l, 5000, &a), ERR_OK);
        assert_true(sweep_login_is_refused(l, 5000 + AGAIN_MS - 1, &refusal));
        assert_int_equal(refusal.status, GRPC_INVALID_ARGUMENT);
        assert_non_null(strstr(refusal.message, "name: etcdserver: authentication failed"));
        assert_null(strstr(refusal.message, "letmein"));
        assert_false(sweep_login_is_refused(l, 5000 + AGAIN_MS, &refusal));
        assert_int_equal(sweep_login_change(l, v[i].password, v[i].is_forced), ERR_OK);
        assert_int_equal(sweep_login_is_refused(l, 5001, &refusal), v[i].counts);
        assert_int_equal(changes, v[i].counts ? 1 : 2);
        assert_true(sweep_login_is_due(l));
        sweep_login_drop(l);
    }
}

/* A token that does not count any more is forgotten once; one that came since then stays. Another
 * password makes one due, the same one does not. */
static void test_tokens(void **state)
{
    struct sweep_login *l = new_login();
    struct client_answer a = answer_of(TOKEN);
    unsigned first, second;

    (void)state;
    assert_int_equal(sweep_login_take(l, 1, &a), ERR_OK);
    first = sweep_login_number(l);
    sweep_login_forget(l, first - 1);
    assert_false(sweep_login_is_due(l));
    sweep_login_forget(l, first);
    assert_true(sweep_login_is_due(l));
    assert_int_equal(sweep_login_take(l, 1, &a), ERR_OK);
    second = sweep_login_number(l);
    assert_int_not_equal(first, second);
    sweep_login_forget(l, first);
    assert_false(sweep_login_is_due(l));
    assert_int_equal(sweep_login_change(l, "letmein", true), ERR_OK);
    assert_int_equal(sweep_login_number(l), second);
    assert_int_equal(sweep_login_change(l, "other", false), ERR_OK);
    assert_true(sweep_login_is_due(l));
    a = answer_of(OFF);
    assert_int_equal(sweep_login_take(l, 1, &a), ERR_OK);
    assert_false(sweep_login_is_due(l));
    sweep_login_forget(l, sweep_login_number(l)); /* it has users again, and says so */
    assert_true(sweep_login_is_due(l));
    assert_int_equal(sweep_login_state(l), SWEEP_LOGIN_UNKNOWN);
    sweep_login_drop(l);
}

static void test_nobody(void **state)
{
    struct client_answer a = {.status = GRPC_INVALID_ARGUMENT,
                              .message = "etcdserver: user name is empty"};

    (void)state;
    assert_false(sweep_login_is_due(NULL));
    assert_false(sweep_login_is_asked(NULL, &a));
    assert_false(sweep_login_is_refused(NULL, 0, &a));
    assert_int_equal(sweep_login_number(NULL), 0);
    assert_string_equal(sweep_login_name(NULL), "");
    sweep_login_drop(NULL);
}

/* --- connections ------------------------------------------------------------------------------ */

struct conn {
    struct fake_site *site;
    struct sweep_etcd *etcd;
    struct sweep_call call;
    enum err err;
    enum grpc_status status;
};

static void on_answer(void *arg, const struct client_answer *a)
{
    struct conn *c = arg;

    c->err = a->err;
    c->status = a->status;
    c->site->is_over = true;
}

static void conn_open(struct conn *c, struct fake_site *site, struct sweep_login *l)
{
    static struct net_url url;
    const char *reason;
    const struct sweep_etcd_opts o = {.loop = &site->loop,
                                      .urls = &url,
                                      .url_count = 1,
                                      .login = l,
                                      .first_ms = AWAY_MS,
                                      .away_ms = AWAY_MS};

    assert_int_equal(net_url_parse("http://127.0.0.1:1", &url, &reason), ERR_OK);
    *c = (struct conn){.site = site};
    assert_int_equal(sweep_etcd_new(&o, &c->etcd), ERR_OK);
}

static enum grpc_status ask(struct conn *c)
{
    c->site->is_over = false;
    sweep_call_start(&c->call, c->etcd, ETCD_RANGE_PATH, bytes_of(NULL, 0), 4096, on_answer, c);
    fake_site_run(c->site);
    return c->status;
}

/* Whichever of them gets a token, the others use it; and what they are refused they ask once. */
static void test_shared(void **state)
{
    struct sweep_login *l = new_login();
    struct fake_site site;
    struct conn v[3];

    (void)state;
    fake_reset();
    fake_site_init(&site);
    fake.user = "name";
    fake.password = "letmein";
    for (size_t i = 0; i < ARRAY_LEN(v); i++)
        conn_open(&v[i], &site, l);
    for (unsigned round = 1; round <= 3; round++) {
        for (size_t i = 0; i < ARRAY_LEN(v); i++)
            assert_int_equal(ask(&v[(i + round) % ARRAY_LEN(v)]), GRPC_OK);
        assert_int_equal(fake.logins, round);
        fake.token += 100; /* it was restarted */
    }
    assert_int_equal(changes, 1);
    fake.password = "other";
    fake.calls = 0;
    for (unsigned round = 0; round < 10; round++)
        assert_int_equal(ask(&v[round % ARRAY_LEN(v)]), GRPC_INVALID_ARGUMENT);
    assert_int_equal(fake.calls, 2); /* the one that had an old token, and the login that failed */
    assert_int_equal(sweep_login_change(l, "other", false), ERR_OK);
    for (size_t i = 0; i < ARRAY_LEN(v); i++)
        assert_int_equal(ask(&v[i]), GRPC_OK);
    for (size_t i = 0; i < ARRAY_LEN(v); i++)
        sweep_etcd_close(v[i].etcd);
    fake_site_fini(&site);
    sweep_login_drop(l);
}

static struct {
    struct sweep_login *login;
    unsigned at; /* the call before which the password changes */
} change;

static void change_password(const char *path)
{
    (void)path;
    if (fake.calls != change.at)
        return;
    fake.password = "other"; /* in etcd first, as it has to be, and in the file at once */
    assert_int_equal(sweep_login_change(change.login, "other", false), ERR_OK);
}

/* A password may change while etcd judges the one before: that it refuses that one says nothing of
 * the new one. Before each call in turn, with a token at hand and without. */
static void test_changes_meanwhile(void **state)
{
    (void)state;
    for (unsigned warm = 0; warm < 2; warm++)
        for (change.at = 1; change.at <= 6; change.at++) {
            struct sweep_login *l = new_login();
            struct fake_site site;
            struct conn c;

            fake_reset();
            fake_site_init(&site);
            fake.user = "name";
            fake.password = "letmein";
            change.login = l;
            conn_open(&c, &site, l);
            if (warm)
                assert_int_equal(ask(&c), GRPC_OK);
            fake.token += warm; /* it was restarted */
            fake.calls = 0;
            fake.before = change_password;
            assert_int_equal(ask(&c), GRPC_OK);
            assert_int_not_equal(sweep_login_state(l), SWEEP_LOGIN_REFUSED);
            fake.before = NULL;
            assert_int_equal(ask(&c), GRPC_OK);
            assert_int_equal(sweep_login_state(l), SWEEP_LOGIN_IN);
            sweep_etcd_close(c.etcd);
            fake_site_fini(&site);
            sweep_login_drop(l);
        }
}

/* --- memory ----------------------------------------------------------------------------------- */

static enum err live(struct sweep_login *l)
{
    struct client_answer a;

    alloc_pause(true);
    a = answer_of(TOKEN);
    alloc_pause(false);
    TRY(sweep_login_take(l, 1, &a));
    TRY(sweep_login_change(l, "another", false));
    return sweep_login_take(l, 1, &a);
}

static enum err live_once(void)
{
    static const struct sweep_user user = {"name", "letmein"};
    struct sweep_login *l;
    enum err e = sweep_login_new(&user, &l);

    if (e != ERR_OK) {
        assert_null(l);
        return e;
    }
    e = live(l);
    sweep_login_drop(l);
    return e;
}

static void test_no_memory(void **state)
{
    (void)state;
    alloc_fail_each(live_once, NULL);
}

/* Where a password cannot be taken the old one stays in use. */
static void test_no_memory_for_a_password(void **state)
{
    struct sweep_login *l = new_login();
    struct client_answer a = answer_of(TOKEN);

    (void)state;
    assert_int_equal(sweep_login_take(l, 1, &a), ERR_OK);
    alloc_fail_once(1);
    assert_int_equal(sweep_login_change(l, "other", true), ERR_NOMEM);
    assert_true(alloc_recover());
    assert_false(sweep_login_is_due(l));
    assert_int_equal(sweep_login_state(l), SWEEP_LOGIN_IN);
    sweep_login_drop(l);
}

/* A call that logs in first ends, whatever allocation fails: it was tried again, or says why not;
 * the next one is carried out. */
static void test_no_memory_while_logging_in(void **state)
{
    struct fake_site site;
    bool has_failed = true;

    (void)state;
    for (size_t n = 1; has_failed; n++) {
        struct sweep_login *l = new_login();
        struct conn c;

        fake_reset();
        fake_site_init(&site);
        fake.user = "name";
        fake.password = "letmein";
        conn_open(&c, &site, l);
        alloc_fail_once(n);
        (void)ask(&c);
        has_failed = alloc_recover();
        assert_true(c.err == ERR_OK || c.err == ERR_NOMEM || c.err == ERR_UPSTREAM_AWAY);
        assert_int_equal(ask(&c), GRPC_OK);
        sweep_etcd_close(c.etcd);
        fake_site_fini(&site);
        sweep_login_drop(l);
    }
}

static int setup(void **state)
{
    (void)state;
    return secret_init() == ERR_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_answers),
                                       cmocka_unit_test(test_refusal),
                                       cmocka_unit_test(test_tokens),
                                       cmocka_unit_test(test_nobody),
                                       cmocka_unit_test(test_shared),
                                       cmocka_unit_test(test_changes_meanwhile),
                                       cmocka_unit_test(test_no_memory),
                                       cmocka_unit_test(test_no_memory_for_a_password),
                                       cmocka_unit_test(test_no_memory_while_logging_in)};

    return cmocka_run_group_tests(tests, setup, NULL);
}
