/* SPDX-License-Identifier: Apache-2.0 */
/* The connections to an endpoint: how many there are, which class goes where, when one is replaced
 * or closed, and what is lost with it. */
#include "upstream_kit.h"

#include <string.h>

#define STREAMS_MAX 600

static struct stream streams[STREAMS_MAX];

static void streams_end(struct fix *f, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (streams[i].s != NULL)
            h2_stream_reset(streams[i].s, H2_CANCEL);
    for (unsigned i = 0; i < n; i++)
        UNTIL(f, streams[i].closes == 1);
}

/* --- which connection ------------------------------------------------------------------------ */

/* However many users there are: unary calls of all share one connection. */
static void test_unary_is_shared(void **state)
{
    enum { USERS = 20 };
    struct user *u[USERS];
    struct fix f;

    (void)state;
    fix_init(&f, 1);
    for (int i = 0; i < USERS; i++)
        u[i] = i % 2 == 0 ? user_new(&f) : user_ready(&f);
    for (int i = 0; i < USERS; i++)
        stream_for(&f, u[i], UPSTREAM_UNARY, &streams[i]);
    assert_int_equal(f.servers[0].count, 1);
    for (int i = 0; i < USERS; i++)
        assert_int_equal(u[i]->backs, 1);
    streams_end(&f, USERS);
    for (int i = 0; i < USERS; i++)
        user_free(u[i]);
    fix_fini(&f);
}

/* 250 watches a connection, then another, as often as needed; where one ends the next has room. */
static void test_watches(void **state)
{
    struct fix f;
    struct user *u[2];

    (void)state;
    fix_init(&f, 1);
    u[0] = user_ready(&f);
    u[1] = user_ready(&f);
    for (int i = 0; i < STREAMS_MAX - 1; i++)
        stream_for(&f, u[i % 2], UPSTREAM_WATCH, &streams[i]);
    assert_int_equal(f.servers[0].count, 1 + 3);
    assert_int_equal(f.servers[0].ends[0].recs_count, 0); /* the base */
    assert_int_equal(f.servers[0].ends[1].recs_count, 250);
    assert_int_equal(f.servers[0].ends[2].recs_count, 250);
    stream_end(&f, &streams[7]);
    stream_for(&f, u[1], UPSTREAM_WATCH, &streams[7]);
    assert_int_equal(f.servers[0].ends[1].recs_count, 251);
    streams_end(&f, STREAMS_MAX - 1);
    user_free(u[0]);
    user_free(u[1]);
    fix_fini(&f);
}

/* How many streams are open on a connection of etcd. */
static size_t open_on(const struct end *e)
{
    return e->c == NULL ? 0 : h2_conn_stream_count(e->c);
}

/* A list has a connection to itself, until there are eight; then the one with the fewest. */
static void test_lists(void **state)
{
    struct fix f;
    struct user *u;

    (void)state;
    fix_init(&f, 1);
    u = user_ready(&f);
    for (unsigned i = 0; i < 8; i++) {
        stream_for(&f, u, UPSTREAM_LIST, &streams[i]);
        assert_int_equal(f.servers[0].count, 2 + i);
    }
    stream_end(&f, &streams[3]);
    stream_for(&f, u, UPSTREAM_LIST, &streams[3]);
    assert_ptr_equal(streams[3].conn, h2_stream_conn(streams[3].s));
    for (unsigned i = 8; i < 16; i++)
        stream_for(&f, u, UPSTREAM_LIST, &streams[i]);
    assert_int_equal(f.servers[0].count, 9);
    assert_int_equal(open_on(&f.servers[0].ends[0]), 0);
    for (unsigned i = 1; i < 9; i++)
        assert_int_equal(open_on(&f.servers[0].ends[i]), 2);
    streams_end(&f, 16);
    user_free(u);
    fix_fini(&f);
}

/* Waiters that open a stream from inside. */
static void open_stream(struct waiter *w)
{
    struct stream *s = &streams[w - w->user->waiters];

    assert_non_null(w->conn);
    *s = (struct stream){.conn = w->conn};
    assert_int_equal(h2_request(w->conn, kit_request, true, &stream_ops, s, &s->s), ERR_OK);
}

/* Those that come all at once are spread as well. */
static void test_lists_at_once(void **state)
{
    struct fix f;
    struct user *u;

    (void)state;
    for (int is_ready = 0; is_ready < 2; is_ready++) {
        fix_init(&f, 1);
        u = is_ready ? user_ready(&f) : user_new(&f);
        u->at_wait = open_stream;
        for (int i = 0; i < 12; i++)
            assert_null(ask_for(u, UPSTREAM_LIST, i));
        UNTIL(&f, server_streams(&f.servers[0]) == 12);
        assert_int_equal(f.servers[0].count, 9);
        for (unsigned i = 1; i < 9; i++)
            assert_in_range(open_on(&f.servers[0].ends[i]), 1, 2);
        streams_end(&f, 12);
        user_free(u);
        fix_fini(&f);
    }
}

/* The limit is the worker's: who uses another endpoint has at least one. */
static void test_lists_of_two_endpoints(void **state)
{
    struct fix f;
    struct user *u[2];

    (void)state;
    fix_init(&f, 2);
    u[0] = user_ready(&f);
    u[1] = user_ready(&f);
    for (unsigned i = 0; i < 8; i++)
        stream_for(&f, u[0], UPSTREAM_LIST, &streams[i]);
    for (unsigned i = 8; i < 11; i++)
        stream_for(&f, u[1], UPSTREAM_LIST, &streams[i]);
    assert_int_equal(f.servers[0].count, 9);
    assert_int_equal(f.servers[1].count, 2);
    streams_end(&f, 11);
    user_free(u[0]);
    user_free(u[1]);
    fix_fini(&f);
}

/* etcd's own limit is kept: another connection, or a wait until a stream is over. */
static void test_etcds_limit(void **state)
{
    struct fix f;
    struct user *u;

    (void)state;
    fix_init(&f, 1);
    f.servers[0].opts.max_streams = 2;
    u = user_ready(&f);
    assert_int_equal(upstream_max_streams(&u->up), 2);
    for (unsigned i = 0; i < 5; i++)
        stream_for(&f, u, UPSTREAM_UNARY, &streams[i]);
    assert_int_equal(f.servers[0].count, 3);
    for (unsigned i = 5; i < 10; i++)
        stream_for(&f, u, UPSTREAM_WATCH, &streams[i]);
    assert_int_equal(f.servers[0].count, 6);
    for (unsigned i = 10; i < 26; i++)
        stream_for(&f, u, UPSTREAM_LIST, &streams[i]);
    assert_int_equal(f.servers[0].count, 14);
    for (unsigned i = 0; i < 14; i++)
        assert_in_range(open_on(&f.servers[0].ends[i]), 1, 2);
    assert_null(ask_for(u, UPSTREAM_LIST, 0));
    assert_null(ask_for(u, UPSTREAM_LIST, 1));
    run_ms(&f, 50);
    assert_int_equal(u->waiters[0].told + u->waiters[1].told, 0);
    stream_end(&f, &streams[12]);
    UNTIL(&f, u->waiters[0].told == 1);
    assert_non_null(u->waiters[0].conn);
    streams_end(&f, 26);
    user_free(u);
    fix_fini(&f);
}

/* Where etcd allows no stream at all, calls wait for what is there: another connection would be the
 * same, and the next. Of each class one is tried, and again behind a second. */
static void test_no_stream_allowed(void **state)
{
    struct fix f;
    struct user *u;

    (void)state;
    fix_init(&f, 1);
    f.servers[0].opts.max_streams = 0;
    u = user_ready(&f);
    for (int i = 0; i < UPSTREAM_CLASSES; i++)
        assert_null(ask_for(u, (enum upstream_class)i, i));
    run_ms(&f, 300);
    assert_int_equal(f.servers[0].count, 1 + UPSTREAM_CLASSES);
    skip_ms(&f, 1000);
    for (int i = UPSTREAM_CLASSES; i < 10; i++)
        assert_null(ask_for(u, UPSTREAM_UNARY, i));
    run_ms(&f, 300);
    assert_int_equal(f.servers[0].count, 1 + 2 * UPSTREAM_CLASSES);
    assert_int_equal(u->told, 0);
    user_free(u);
    fix_fini(&f);
}

/* --- replaced -------------------------------------------------------------------------------- */

/* Stream ids run out: another connection takes over, nobody waits for it, and the old one ends
 * behind its last stream. */
static void test_ids_run_out(void **state)
{
    static const enum upstream_class classes[] = {UPSTREAM_UNARY, UPSTREAM_WATCH, UPSTREAM_LIST};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(classes); i++) {
        struct stream first, s;
        struct fix f;
        struct user *u;

        fix_init(&f, 1);
        f.pool.conn_streams = 5;
        u = user_ready(&f);
        stream_for(&f, u, classes[i], &first);
        for (int n = 0; n < 40; n++) {
            stream_for(&f, u, classes[i], &s);
            stream_end(&f, &s);
            run_ms(&f, 1);
            skip_ms(&f, 1000);
        }
        assert_true(f.servers[0].count >= 6);
        for (unsigned n = 0; n < f.servers[0].count; n++)
            assert_in_range(f.servers[0].ends[n].recs_count, 0, 7);
        assert_int_equal(u->backs, 1);
        assert_int_equal(first.closes, 0);
        stream_end(&f, &first);
        run_ms(&f, 20);
        assert_in_range(server_conns(&f.servers[0]), 1, 3);
        user_free(u);
        fix_fini(&f);
    }
}

/* --- closed ---------------------------------------------------------------------------------- */

/* An endpoint's connections stay for 30 s after its last user, and a new one finds them. */
static void test_last_user(void **state)
{
    struct fix f;
    struct user *u;

    (void)state;
    fix_init(&f, 1);
    user_free(user_ready(&f));
    skip_ms(&f, 25000);
    u = user_ready(&f);
    assert_int_equal(f.servers[0].count, 1);
    skip_ms(&f, 100000);
    assert_int_equal(server_conns(&f.servers[0]), 1);
    user_free(u);
    skip_ms(&f, 29000);
    assert_int_equal(server_conns(&f.servers[0]), 1);
    skip_ms(&f, 2000);
    UNTIL(&f, server_conns(&f.servers[0]) == 0);
    user_free(user_ready(&f));
    assert_int_equal(f.servers[0].count, 2);
    fix_fini(&f);
}

/* What is there beyond the base goes when it was idle for 30 s, and not while it has streams. */
static void test_idle(void **state)
{
    struct stream watch, list;
    struct fix f;
    struct user *u;

    (void)state;
    fix_init(&f, 1);
    u = user_ready(&f);
    stream_for(&f, u, UPSTREAM_WATCH, &watch);
    stream_for(&f, u, UPSTREAM_LIST, &list);
    skip_ms(&f, 61000);
    assert_int_equal(server_conns(&f.servers[0]), 3);
    stream_end(&f, &list);
    skip_ms(&f, 25000);
    assert_int_equal(server_conns(&f.servers[0]), 3);
    skip_ms(&f, 7000);
    UNTIL(&f, server_conns(&f.servers[0]) == 2);
    stream_end(&f, &watch);
    skip_ms(&f, 32000);
    UNTIL(&f, server_conns(&f.servers[0]) == 1);
    assert_non_null(ask(u, 0));
    user_free(u);
    fix_fini(&f);
}

/* Of many that are not needed any more only one waits so long. */
static void test_spare(void **state)
{
    struct fix f;
    struct user *u;

    (void)state;
    fix_init(&f, 1);
    u = user_ready(&f);
    for (int i = 0; i < STREAMS_MAX; i++)
        stream_for(&f, u, UPSTREAM_WATCH, &streams[i]);
    assert_int_equal(server_conns(&f.servers[0]), 4);
    streams_end(&f, STREAMS_MAX);
    skip_ms(&f, 2500);
    UNTIL(&f, server_conns(&f.servers[0]) == 2);
    skip_ms(&f, 20000);
    assert_int_equal(server_conns(&f.servers[0]), 2);
    user_free(u);
    fix_fini(&f);
}

/* --- lost ------------------------------------------------------------------------------------ */

static void lose(struct end *e)
{
    h2_conn_close(e->c, H2_INTERNAL_ERROR, 0);
}

/* The endpoint does not answer any more: all users and all classes are at the other one together,
 * and no stream goes on at the old one. */
static void test_endpoint_lost(void **state)
{
    static const enum upstream_class classes[] = {UPSTREAM_UNARY, UPSTREAM_WATCH, UPSTREAM_LIST};
    struct fix f;
    struct user *u[3];

    (void)state;
    fix_init(&f, 2);
    for (int i = 0; i < 3; i++)
        u[i] = user_ready(&f); /* the second at the other endpoint */
    for (unsigned i = 0; i < 3; i++)
        stream_for(&f, u[i % 2 * 2], classes[i], &streams[i]);
    assert_int_equal(f.servers[0].count, 3);
    run_ms(&f, 2 * LIMIT_REDIAL_MS);
    server_refuse(&f.servers[0]);
    lose(&f.servers[0].ends[0]);
    UNTIL(&f, u[0]->backs == 2 && u[2]->backs == 2);
    assert_int_equal(u[1]->backs, 1);
    for (unsigned i = 0; i < 3; i++) {
        UNTIL(&f, streams[i].closes == 1);
        assert_int_equal(streams[i].how, H2_END_LOST);
    }
    for (unsigned i = 0; i < 3; i++)
        stream_for(&f, u[i], classes[i], &streams[i]);
    assert_int_equal(server_streams(&f.servers[1]), 3);
    assert_int_equal(f.servers[1].count, 3);
    streams_end(&f, 3);
    for (int i = 0; i < 3; i++)
        user_free(u[i]);
    fix_fini(&f);
}

/* One of its connections is lost, and the endpoint answers: that concerns nobody else. */
static void test_one_lost(void **state)
{
    struct stream watch, unary;
    struct fix f;
    struct user *u;

    (void)state;
    fix_init(&f, 1);
    u = user_ready(&f);
    stream_for(&f, u, UPSTREAM_UNARY, &unary);
    stream_for(&f, u, UPSTREAM_WATCH, &watch);
    lose(&f.servers[0].ends[1]);
    UNTIL(&f, watch.closes == 1);
    assert_int_equal(watch.how, H2_END_LOST);
    assert_non_null(ask(u, 0));
    stream_for(&f, u, UPSTREAM_WATCH, &watch);
    assert_int_equal(unary.closes, 0);
    assert_int_equal(u->backs, 1);
    assert_int_equal(f.servers[0].count, 3);
    /* The base is lost, and back: watches go on. */
    lose(&f.servers[0].ends[0]);
    UNTIL(&f, u->backs == 2);
    assert_int_equal(unary.closes, 1);
    assert_int_equal(watch.closes, 0);
    stream_end(&f, &watch);
    user_free(u);
    fix_fini(&f);
}

static void test_one_says_goaway(void **state)
{
    struct stream old, young;
    struct fix f;
    struct user *u;

    (void)state;
    fix_init(&f, 1);
    u = user_ready(&f);
    stream_for(&f, u, UPSTREAM_WATCH, &old);
    h2_conn_shutdown(f.servers[0].ends[1].c);
    run_ms(&f, 50);
    stream_for(&f, u, UPSTREAM_WATCH, &young);
    assert_int_equal(f.servers[0].ends[2].recs_count, 1);
    assert_int_equal(old.closes, 0);
    assert_int_equal(u->backs, 1);
    stream_end(&f, &old);
    UNTIL(&f, f.servers[0].ends[1].lost_count == 1);
    stream_end(&f, &young);
    user_free(u);
    fix_fini(&f);
}

/* The base is lost while its replacement is dialled, and the last user has left meanwhile: what
 * comes of the dial is nobody's any more, and the next user finds an endpoint that answers. */
static void test_lost_without_users(void **state)
{
    struct fix f;
    struct user *u;

    (void)state;
    for (int is_refused = 0; is_refused < 2; is_refused++) {
        fix_init(&f, 1);
        f.pool.conn_streams = 1;
        u = user_ready(&f);
        if (is_refused)
            server_refuse(&f.servers[0]);
        assert_non_null(ask(u, 0));
        assert_non_null(ask(u, 1)); /* its ids have run out: another one is dialled */
        lose(&f.servers[0].ends[0]);
        user_free(u);
        run_ms(&f, 100);
        if (is_refused)
            server_listen(&f.servers[0]);
        u = user_ready(&f);
        assert_non_null(ask(u, 0));
        user_free(u);
        skip_ms(&f, 32000);
        UNTIL(&f, server_conns(&f.servers[0]) == 0);
        fix_fini(&f);
    }
}

/* Only new connections fail: the classes share what there is, and nobody has to go. */
static void test_no_further_connection(void **state)
{
    static const enum upstream_class classes[] = {UPSTREAM_WATCH, UPSTREAM_LIST};
    struct fix f;
    struct user *u;

    (void)state;
    for (int is_silent = 0; is_silent < 2; is_silent++) {
        fix_init(&f, 1);
        u = user_ready(&f);
        if (is_silent)
            f.servers[0].is_silent = true;
        else
            server_refuse(&f.servers[0]);
        for (unsigned i = 0; i < 2; i++)
            stream_for(&f, u, classes[i], &streams[i]);
        assert_int_equal(f.servers[0].ends[0].recs_count, 2);
        skip_ms(&f, 1000);
        f.servers[0].is_silent = false;
        if (f.servers[0].listener < 0)
            server_listen(&f.servers[0]);
        skip_ms(&f, 1000);
        (void)ask_for(u, UPSTREAM_LIST, 0); /* tries again, and does not wait for it */
        UNTIL(&f, f.servers[0].count == 2);
        run_ms(&f, 20);
        stream_for(&f, u, UPSTREAM_LIST, &streams[2]);
        assert_int_equal(f.servers[0].ends[1].recs_count, 1);
        assert_int_equal(u->backs, 1);
        assert_int_equal(u->aways, 0);
        streams_end(&f, 3);
        user_free(u);
        fix_fini(&f);
    }
}

/* What there is has no room, and new connections fail for a while: who waits for one gets it when
 * etcd can be reached again, without anybody asking anew. */
static void test_further_connection_is_tried_again(void **state)
{
    (void)state;
    for (int i = 0; i < 2 * UPSTREAM_CLASSES; i++) {
        enum upstream_class class = (enum upstream_class)(i / 2);
        struct user *u;
        struct fix f;

        fix_init(&f, 1);
        f.servers[0].opts.max_streams = 1;
        u = user_ready(&f);
        stream_for(&f, u, UPSTREAM_UNARY, &streams[0]);
        if (i % 2 == 0)
            f.servers[0].is_silent = true;
        else
            server_refuse(&f.servers[0]);
        assert_null(ask_for(u, class, 0));
        for (int k = 0; k < 4; k++)
            skip_ms(&f, 1000);
        assert_int_equal(u->told, 0);
        f.servers[0].is_silent = false;
        if (f.servers[0].listener < 0)
            server_listen(&f.servers[0]);
        for (int k = 0; k < 3; k++)
            skip_ms(&f, 1000);
        UNTIL(&f, u->waiters[0].told == 1);
        assert_non_null(u->waiters[0].conn);
        assert_int_equal(u->aways, 0);
        streams_end(&f, 1);
        user_free(u);
        fix_fini(&f);
    }
}

/* A connection with streams fell silent; the base, which may have none, is dead as well or is not:
 * a new one is dialled to find out. */
static void test_silent_connection(void **state)
{
    struct stream watch;
    struct fix f;
    struct user *u;
    struct h2_conn *conn;

    (void)state;
    for (int is_dead = 0; is_dead < 2; is_dead++) {
        fix_init(&f, 2);
        u = user_ready(&f);
        f.servers[0].is_silent = f.servers[0].greets = true;
        conn = await(&f, u, UPSTREAM_WATCH);
        watch = (struct stream){.conn = conn};
        assert_int_equal(h2_request(conn, kit_request, true, &stream_ops, &watch, &watch.s),
                         ERR_OK);
        f.servers[0].is_silent = f.servers[0].greets = false;
        if (is_dead)
            server_refuse(&f.servers[0]);
        skip_ms(&f, LIMIT_PING_MS + LIMIT_PING_ACK_MS + 1000);
        UNTIL(&f, watch.closes == 1);
        assert_int_equal(watch.how, H2_END_LOST);
        UNTIL(&f, f.servers[0].ends[0].lost_count == 1);
        UNTIL(&f, u->backs == (is_dead ? 2 : 1));
        stream_for(&f, u, UPSTREAM_UNARY, &watch);
        assert_int_equal(server_streams(&f.servers[is_dead]), 1);
        stream_end(&f, &watch);
        user_free(u);
        fix_fini(&f);
    }
}

/* --- at random ------------------------------------------------------------------------------- */

enum { USERS = 6, OPEN = 60 };

struct chance {
    struct fix f;
    struct user *u[USERS];
    uint32_t seed;
};

static unsigned pick(struct chance *c, unsigned n)
{
    c->seed = c->seed * 1664525u + 1013904223u;
    return (c->seed >> 8) % n;
}

static void no_stream(struct waiter *w)
{
    (void)w;
}

/* A stream in the first free place; none: the connection is not used. */
static void open_at_random(struct h2_conn *conn)
{
    for (int i = 0; i < OPEN && conn != NULL; i++) {
        if (streams[i].s != NULL)
            continue;
        streams[i] = (struct stream){.conn = conn};
        assert_int_equal(
            h2_request(conn, kit_request, true, &stream_ops, &streams[i], &streams[i].s), ERR_OK);
        return;
    }
}

static void open_from_wait(struct waiter *w)
{
    open_at_random(w->conn);
}

static void one_step(struct chance *c)
{
    struct user **u = &c->u[pick(c, USERS)];
    struct server *s = &c->f.servers[pick(c, 2)];
    unsigned i = pick(c, WAITS);

    switch (pick(c, 12)) {
    case 0:
        if (*u != NULL)
            user_free(*u);
        *u = NULL;
        return;
    case 1:
        if (s->listener >= 0)
            server_refuse(s);
        else
            server_listen(s);
        return;
    case 2:
        if (s->count > 0 && s->ends[s->count - 1].c != NULL && pick(c, 3) == 0)
            lose(&s->ends[s->count - 1]);
        return;
    case 3:
        if (streams[i].s != NULL)
            h2_stream_reset(streams[i].s, H2_CANCEL);
        return;
    default:
        break;
    }
    if (*u == NULL) {
        *u = user_new(&c->f);
        (*u)->at_wait = pick(c, 4) == 0 ? no_stream : open_from_wait;
    } else if (!list_is_empty(&(*u)->waiters[i].wait.node)) {
        upstream_wait_cancel(&(*u)->waiters[i].wait);
    } else {
        open_at_random(ask_for(*u, pick(c, UPSTREAM_CLASSES), (int)i));
    }
}

/* Whatever happens in whatever order: streams end once, and nothing is left. */
static void test_at_random(void **state)
{
    (void)state;
    for (uint32_t seed = 1; seed <= 12; seed++) {
        static struct chance c;

        memset(&c, 0, sizeof c);
        memset(streams, 0, sizeof streams);
        c.seed = seed;
        fix_init(&c.f, 2);
        c.f.pool.conn_streams = 20;
        for (int step = 0; step < 400 && c.f.servers[0].count + c.f.servers[1].count < 50; step++) {
            one_step(&c);
            skip_ms(&c.f, pick(&c, 4));
            if (pick(&c, 20) == 0)
                skip_ms(&c.f, pick(&c, 2000));
        }
        for (int i = 0; i < USERS; i++)
            if (c.u[i] != NULL)
                user_free(c.u[i]);
        for (int i = 0; i < OPEN; i++)
            if (streams[i].s != NULL)
                h2_stream_reset(streams[i].s, H2_CANCEL);
        for (int i = 0; i < OPEN; i++)
            UNTIL(&c.f, streams[i].s == NULL && streams[i].closes <= 1);
        fix_fini(&c.f);
        for (size_t i = 0; i < UPSTREAM_CLASSES; i++)
            assert_int_equal(c.f.pool.waiting[i], 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unary_is_shared),
        cmocka_unit_test(test_watches),
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_lists_at_once),
        cmocka_unit_test(test_lists_of_two_endpoints),
        cmocka_unit_test(test_etcds_limit),
        cmocka_unit_test(test_no_stream_allowed),
        cmocka_unit_test(test_ids_run_out),
        cmocka_unit_test(test_last_user),
        cmocka_unit_test(test_idle),
        cmocka_unit_test(test_spare),
        cmocka_unit_test(test_endpoint_lost),
        cmocka_unit_test(test_one_lost),
        cmocka_unit_test(test_one_says_goaway),
        cmocka_unit_test(test_lost_without_users),
        cmocka_unit_test(test_no_further_connection),
        cmocka_unit_test(test_further_connection_is_tried_again),
        cmocka_unit_test(test_silent_connection),
        cmocka_unit_test(test_at_random),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
