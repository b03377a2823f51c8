/* SPDX-License-Identifier: Apache-2.0 */
/* Users of the pool: who is told what, and when, while endpoints refuse, are silent, are lost and
 * come back. */
#include "upstream_kit.h"

#include <string.h>
#include <sys/socket.h>

#include "failing_alloc.h"

/* --- the good path --------------------------------------------------------------------------- */

static void test_one_user(void **state)
{
    struct fix f;
    struct user *u;
    struct stream s;
    struct h2_conn *conn;

    (void)state;
    fix_init(&f, 1);
    u = user_new(&f);
    assert_null(ask(u, 0)); /* nothing yet: it waits */
    UNTIL(&f, u->backs == 1);
    assert_int_equal(u->waiters[0].told, 1);
    conn = ask(u, 1);
    assert_ptr_equal(conn, u->waiters[0].conn);
    assert_string_equal(upstream_scheme(conn), "http");
    assert_true(upstream_max_streams(&u->up) > 1000);
    stream_open(&f, conn, &s);
    assert_int_equal(h2_respond(f.servers[0].ends[0].last->s, kit_trailers_only, true), ERR_OK);
    UNTIL(&f, s.closes == 1);
    assert_true(s.is_answered);
    assert_int_equal(s.how, H2_END_COMPLETE);
    user_free(u);
    run_ms(&f, 50);
    assert_int_equal(server_conns(&f.servers[0]), 1); /* the next user will want it */
    assert_int_equal(f.servers[0].count, 1);
    fix_fini(&f);
}

/* Every class is served, and no request of one waits for another's. */
static void test_classes(void **state)
{
    static const enum upstream_class classes[] = {UPSTREAM_UNARY, UPSTREAM_WATCH, UPSTREAM_LIST};
    struct fix f;
    struct user *u;

    (void)state;
    fix_init(&f, 1);
    u = user_ready(&f);
    for (size_t i = 0; i < ARRAY_LEN(classes); i++) {
        struct stream s;

        stream_for(&f, u, classes[i], &s);
        stream_end(&f, &s);
    }
    user_free(u);
    fix_fini(&f);
}

/* Users begin at the endpoints in turn, and what befalls one is no news to the other. */
static void test_two_users(void **state)
{
    struct fix f;
    struct user *u[2];

    (void)state;
    fix_init(&f, 2);
    u[0] = user_ready(&f);
    u[1] = user_ready(&f);
    assert_int_equal(f.servers[0].count, 1);
    assert_int_equal(f.servers[1].count, 1);
    end_close(&f.servers[0].ends[0]);
    UNTIL(&f, u[0]->backs == 2);
    assert_int_equal(u[1]->backs, 1);
    assert_non_null(ask(u[1], 0));
    user_free(u[0]);
    assert_non_null(ask(u[1], 0));
    user_free(u[1]);
    fix_fini(&f);
}

/* --- no etcd --------------------------------------------------------------------------------- */

static void test_refused_endpoint(void **state)
{
    struct fix f;
    struct user *u;
    uint64_t start = loop_hrtime_ns();

    (void)state;
    fix_init(&f, 2);
    server_refuse(&f.servers[0]);
    u = user_ready(&f);
    assert_int_equal(f.servers[1].count, 1);
    assert_true(since_ms(start) < 500); /* the next one comes at once */
    user_free(u);
    fix_fini(&f);
}

static void test_nobody_there(void **state)
{
    struct fix f;
    struct user *u;
    uint64_t start = loop_hrtime_ns();

    (void)state;
    fix_init(&f, 2);
    server_refuse(&f.servers[0]);
    server_refuse(&f.servers[1]);
    u = user_new(&f);
    assert_null(ask(u, 0));
    assert_null(ask(u, 1));
    UNTIL(&f, u->aways == 1);
    assert_true(since_ms(start) >= LIMIT_UPSTREAM_WAIT_MS - 5);
    assert_int_equal(u->backs, 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(u->waiters[i].told, 1);
        assert_int_equal(u->waiters[i].order, i + 1);
        assert_null(u->waiters[i].conn);
    }
    /* It stays so. */
    assert_null(ask(u, 0));
    run_ms(&f, 150);
    assert_int_equal(u->waiters[0].told, 1);
    assert_int_equal(u->aways, 1);
    user_free(u);
    fix_fini(&f);
}

/* One that takes connections and says nothing has 1 s when there is another. */
static void test_silent_endpoint(void **state)
{
    struct fix f;
    struct user *u;
    uint64_t start = loop_hrtime_ns();

    (void)state;
    fix_init(&f, 2);
    f.servers[0].is_silent = true;
    u = user_ready(&f);
    assert_int_equal(f.servers[0].silent_count, 1);
    assert_int_equal(f.servers[1].count, 1);
    assert_true(since_ms(start) >= 950);
    user_free(u);
    fix_fini(&f);
}

/* When calls may wait it has less. */
static void test_silent_at_redial(void **state)
{
    struct fix f;
    struct user *u;
    uint64_t start;

    (void)state;
    fix_init(&f, 2);
    u = user_ready(&f);
    run_ms(&f, 2 * LIMIT_REDIAL_MS);
    f.servers[0].is_silent = true;
    start = loop_hrtime_ns();
    end_close(&f.servers[0].ends[0]);
    UNTIL(&f, u->backs == 2);
    assert_int_equal(f.servers[1].count, 1);
    assert_true(since_ms(start) >= LIMIT_UPSTREAM_WAIT_MS / 2 - 5);
    assert_true(since_ms(start) < 950);
    user_free(u);
    fix_fini(&f);
}

/* --- lost ------------------------------------------------------------------------------------ */

static void test_lost_and_back(void **state)
{
    struct fix f;
    struct user *u;
    struct stream s;

    (void)state;
    fix_init(&f, 1);
    u = user_ready(&f);
    stream_open(&f, ask(u, 0), &s);
    run_ms(&f, 2 * LIMIT_REDIAL_MS);
    server_refuse(&f.servers[0]);
    end_close(&f.servers[0].ends[0]);
    UNTIL(&f, s.closes == 1);
    assert_int_equal(s.how, H2_END_LOST);
    assert_int_equal(s.code, H2_INTERNAL_ERROR);
    for (int i = 0; i < WAITS; i++)
        assert_null(ask(u, i));
    upstream_wait_cancel(&u->waiters[1].wait);
    upstream_wait_cancel(&u->waiters[1].wait);
    run_ms(&f, 2 * LIMIT_REDIAL_MS);
    assert_int_equal(u->told, 0);
    server_listen(&f.servers[0]);
    UNTIL(&f, u->backs == 2);
    assert_int_equal(u->waiters[0].order, 1);
    assert_int_equal(u->waiters[2].order, 2);
    assert_int_equal(u->waiters[1].told, 0);
    assert_int_equal(u->aways, 0);
    stream_open(&f, u->waiters[0].conn, &s);
    user_free(u);
    stream_end(&f, &s); /* it was its owner's to end */
    fix_fini(&f);
}

static void test_lost_for_good(void **state)
{
    struct fix f;
    struct user *u;

    (void)state;
    fix_init(&f, 1);
    u = user_ready(&f);
    server_refuse(&f.servers[0]);
    end_close(&f.servers[0].ends[0]);
    UNTIL(&f, ask(u, 0) == NULL);
    UNTIL(&f, u->aways == 1);
    assert_int_equal(u->waiters[0].told, 1);
    assert_null(u->waiters[0].conn);
    assert_int_equal(u->backs, 1);
    user_free(u);
    fix_fini(&f);
}

/* One that greets and leaves is dialled again and again, but with LIMIT_REDIAL_MS between. */
static void test_greets_and_leaves(void **state)
{
    struct fix f;
    struct user *u;
    uint64_t start = loop_hrtime_ns();

    (void)state;
    fix_init(&f, 1);
    u = user_new(&f);
    for (unsigned i = 1; i <= 5; i++) {
        UNTIL(&f, u->backs == i);
        end_close(&f.servers[0].ends[i - 1]);
    }
    assert_true(since_ms(start) >= 4 * (LIMIT_REDIAL_MS - 5));
    user_free(u);
    fix_fini(&f);
}

/* --- GOAWAY ---------------------------------------------------------------------------------- */

static void test_goaway(void **state)
{
    struct fix f;
    struct user *u;
    struct stream old, young;
    struct end *first;

    (void)state;
    fix_init(&f, 1);
    u = user_ready(&f);
    run_ms(&f, 2 * LIMIT_REDIAL_MS);
    first = &f.servers[0].ends[0];
    stream_open(&f, ask(u, 0), &old);
    h2_conn_shutdown(first->c);
    UNTIL(&f, u->backs == 2);
    assert_int_equal(f.servers[0].count, 2);
    stream_open(&f, ask(u, 0), &young);
    assert_int_equal(f.servers[0].ends[1].recs_count, 1);
    /* The old connection goes on for its stream, and is closed behind it. */
    run_ms(&f, 50);
    assert_int_equal(old.closes, 0);
    assert_int_equal(first->lost_count, 0);
    assert_int_equal(h2_respond(first->last->s, kit_trailers_only, true), ERR_OK);
    UNTIL(&f, first->lost_count == 1);
    assert_int_equal(old.how, H2_END_COMPLETE);
    assert_int_equal(young.closes, 0);
    user_free(u);
    stream_end(&f, &young);
    fix_fini(&f);
}

static void test_goaway_without_streams(void **state)
{
    struct fix f;
    struct user *u;

    (void)state;
    fix_init(&f, 1);
    u = user_ready(&f);
    h2_conn_shutdown(f.servers[0].ends[0].c);
    UNTIL(&f, f.servers[0].ends[0].lost_count == 1);
    UNTIL(&f, u->backs == 2);
    user_free(u);
    fix_fini(&f);
}

/* --- leaving at any time --------------------------------------------------------------------- */

/* At every turn between joining and being served there is a state to leave in. */
static void test_leave_while_dialling(void **state)
{
    (void)state;
    for (int turns = 0; turns < 6; turns++) {
        struct fix f;
        struct user *u;

        fix_init(&f, 1);
        f.servers[0].is_silent = turns % 2 == 1;
        u = user_new(&f);
        (void)ask(u, 0);
        for (int i = 0; i < turns; i++)
            turn(&f);
        user_free(u);
        fix_fini(&f);
    }
}

static void test_leave_between_rounds(void **state)
{
    struct fix f;
    struct user *u;

    (void)state;
    fix_init(&f, 1);
    server_refuse(&f.servers[0]);
    u = user_new(&f);
    (void)ask(u, 0);
    run_ms(&f, LIMIT_REDIAL_MS / 2); /* refused; the timer runs */
    user_free(u);
    run_ms(&f, 2 * LIMIT_REDIAL_MS);
    fix_fini(&f);
}

static void test_leave_from_on_back(void **state)
{
    struct fix f;
    struct user *u;

    (void)state;
    fix_init(&f, 1);
    u = user_new(&f);
    assert_null(ask(u, 0));
    u->at_back = user_free_from_inside;
    UNTIL(&f, u->up.ops != &user_ops);
    run_ms(&f, 20);
    free(u);
    fix_fini(&f);
}

static void test_leave_from_on_away(void **state)
{
    struct fix f;
    struct user *u;

    (void)state;
    fix_init(&f, 1);
    server_refuse(&f.servers[0]);
    u = user_new(&f);
    u->at_away = user_free_from_inside;
    UNTIL(&f, u->up.ops != &user_ops);
    run_ms(&f, 20);
    free(u);
    fix_fini(&f);
}

static void leave_from_wait(struct waiter *w)
{
    user_free_from_inside(w->user);
}

/* The waits behind it hear nothing, whether etcd is back or away. */
static void test_leave_from_a_wait(void **state)
{
    (void)state;
    for (int is_away = 0; is_away < 2; is_away++) {
        struct fix f;
        struct user *u;

        fix_init(&f, 1);
        if (is_away)
            server_refuse(&f.servers[0]);
        u = user_new(&f);
        for (int i = 0; i < WAITS; i++)
            assert_null(ask(u, i));
        u->at_wait = leave_from_wait;
        UNTIL(&f, u->up.ops != &user_ops);
        run_ms(&f, 20);
        free(u);
        fix_fini(&f);
    }
}

static void cancel_the_next(struct waiter *w)
{
    if (w == &w->user->waiters[0])
        upstream_wait_cancel(&w->user->waiters[1].wait);
}

static void test_cancel_from_a_wait(void **state)
{
    struct fix f;
    struct user *u;

    (void)state;
    fix_init(&f, 1);
    u = user_new(&f);
    for (int i = 0; i < WAITS; i++)
        assert_null(ask(u, i));
    u->at_wait = cancel_the_next;
    UNTIL(&f, u->told == WAITS - 1);
    assert_int_equal(u->waiters[1].told, 0);
    assert_int_equal(u->waiters[2].told, 1);
    user_free(u);
    fix_fini(&f);
}

static void ask_again(struct waiter *w)
{
    assert_null(ask(w->user, (int)(w - w->user->waiters)));
}

/* A wait that fails and begins anew from inside is not failed a second time. */
static void test_ask_again_when_away(void **state)
{
    struct fix f;
    struct user *u;

    (void)state;
    fix_init(&f, 1);
    server_refuse(&f.servers[0]);
    u = user_new(&f);
    assert_null(ask(u, 0));
    u->at_wait = ask_again;
    UNTIL(&f, u->told == 1);
    run_ms(&f, 20);
    assert_int_equal(u->told, 1);
    user_free(u);
    fix_fini(&f);
}

static void test_ask_after_leaving(void **state)
{
    struct fix f;
    struct user *u;

    (void)state;
    fix_init(&f, 1);
    u = user_ready(&f);
    upstream_leave(&u->up);
    assert_null(ask(u, 0));
    assert_true(list_is_empty(&u->waiters[0].wait.node));
    user_free(u);
    fix_fini(&f);
}

/* --- no memory ------------------------------------------------------------------------------- */

/* Joins, waits, is served, loses etcd and waits again, while one allocation fails. Whichever it is,
 * each wait hears once of a connection or that there is none, and nothing is left over. */
static void live_with_failure(struct fix *f, struct user *u)
{
    if (upstream_join(&f->pool, &u->up, &user_ops) != ERR_OK) {
        assert_true(alloc_has_failed());
        assert_null(ask(u, 0));
        return;
    }
    assert_null(ask(u, 0));
    UNTIL(f, u->backs + u->aways > 0);
    assert_int_equal(u->waiters[0].told, 1);
    if (u->backs == 1 && u->aways == 0) {
        assert_int_equal(shutdown(f->servers[0].silent[f->servers[0].silent_count - 1], SHUT_RDWR),
                         0);
        UNTIL(f, u->aways > 0 || ask(u, 1) == NULL);
        UNTIL(f, u->aways > 0 || u->backs == 2);
        assert_true(u->aways > 0 || u->waiters[1].told == 1);
    }
    upstream_leave(&u->up);
}

static void leave(struct user *u)
{
    upstream_leave(&u->up);
}

static void no_memory(bool leaves_from_inside)
{
    unsigned n = 0;
    bool has_failed;

    do {
        struct fix f;
        struct user *u = user_alloc();

        fix_init(&f, 1);
        f.servers[0].is_silent = f.servers[0].greets = true;
        u->at_away = leaves_from_inside ? leave : NULL;
        alloc_fail_once(++n);
        live_with_failure(&f, u);
        has_failed = alloc_recover();
        assert_true(u->aways <= 1);
        free(u);
        fix_fini(&f);
    } while (has_failed);
    assert_true(n > 10);
}

static void test_no_memory(void **state)
{
    (void)state;
    no_memory(false);
    no_memory(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_user),
        cmocka_unit_test(test_classes),
        cmocka_unit_test(test_two_users),
        cmocka_unit_test(test_refused_endpoint),
        cmocka_unit_test(test_nobody_there),
        cmocka_unit_test(test_silent_endpoint),
        cmocka_unit_test(test_silent_at_redial),
        cmocka_unit_test(test_lost_and_back),
        cmocka_unit_test(test_lost_for_good),
        cmocka_unit_test(test_greets_and_leaves),
        cmocka_unit_test(test_goaway),
        cmocka_unit_test(test_goaway_without_streams),
        cmocka_unit_test(test_leave_while_dialling),
        cmocka_unit_test(test_leave_between_rounds),
        cmocka_unit_test(test_leave_from_on_back),
        cmocka_unit_test(test_leave_from_on_away),
        cmocka_unit_test(test_leave_from_a_wait),
        cmocka_unit_test(test_cancel_from_a_wait),
        cmocka_unit_test(test_ask_again_when_away),
        cmocka_unit_test(test_ask_after_leaving),
        cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
