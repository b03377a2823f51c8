/* SPDX-License-Identifier: Apache-2.0 */
/* The rule of clients: where memory is short it goes by who claims least, whoever's connections
 * they are, and however many. A client with one connection is served within a second beside one
 * with sixty; what there was of order between connections stays within a client. */
#include "proxy/holder.h"

#include "proxy/call.h"
#include "proxy/lane.h"
#include "proxy/link.h"
#include "rig.h"

#define MIB (1024u * 1024)
#define LIMIT (32u * MIB)
#define LEFT_LEN (1400u * 1024) /* of requests that are begun and left */
#define PUT_LEN (1400u * 1024)
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define IS_SLOW true /* 20 times */
#define PUTS 2u
#else
#define IS_SLOW false
#define PUTS 6u
#endif
#define SECOND_MS 1000u
#define CROWD 60u /* connections of the attacker */
#define CALLS 20u /* of each, at most */
#define AGAIN_MS 50u

enum { HONEST = 1, ATTACKER, THIRD };

static struct rig r;
static uint8_t *value;

struct attack {
    unsigned clients, calls;
    size_t len; /* that comes of each call */
    uint64_t began_ms;
    struct end *client[CROWD];
    struct rec *left[CROWD * CALLS];
};
static struct attack attack;

static int setup(void **state)
{
    (void)rig_setup(state);
    rig_limit(&r, LIMIT);
    value = calloc(1, LEFT_LEN);
    return value == NULL ? -1 : 0;
}

static int teardown(void **state)
{
    free(value);
    return rig_teardown(state);
}

/* The first n bytes of a Put: they go as far as there is credit. */
static struct rec *begin_and_leave(struct end *client, size_t n)
{
    struct buf m = put_request(POD_KEY, value, LEFT_LEN), framed = rig_framed(&m);
    struct rec *c = rig_begin(client, PUT, NULL);

    rig_send(c, framed.p, n < framed.n ? n : framed.n - 1, false);
    buf_free(&framed);
    return c;
}

static void connect_all(struct attack *a)
{
    for (unsigned i = 0; i < a->clients; i++)
        a->client[i] = rig_client_of(&r, ATTACKER);
}

/* Whose call was refused begins another, after a while. */
static void begin_again(struct attack *a)
{
    if (rig_now_ms() - a->began_ms < AGAIN_MS)
        return;
    a->began_ms = rig_now_ms();
    for (unsigned i = 0; i < a->clients * a->calls; i++) {
        if (a->left[i] == NULL || a->left[i]->close_count > 0)
            a->left[i] = begin_and_leave(a->client[i / a->calls], a->len);
    }
}

/* Milliseconds that it took. The attacker begins anew meanwhile, when he may. */
static uint64_t put(struct end *client, struct attack *a)
{
    struct buf m = put_request(POD_KEY, value, PUT_LEN), answer = put_response();
    uint64_t began = rig_now_ms();
    unsigned calls = rig_calls(&r);
    struct rec *c = rig_call(client, PUT, &m);

    while (c->close_count == 0 && (rig_calls(&r) == calls || r.call->end_count == 0)) {
        rig_turn(&r);
        begin_again(a);
        assert_in_range(rig_now_ms() - began, 0, 10 * SECOND_MS);
    }
    if (c->close_count == 0)
        rig_answer(r.call, &answer);
    else
        buf_free(&answer);
    rig_expect(&r, c, 0);
    return rig_now_ms() - began;
}

/* What all have, by call, by connection and by holder, is the same. */
static void check_sums(void)
{
    size_t links = 0, held_links = 0;

    LIST_FOREACH(it, &r.w->holders) {
        const struct holder *h = LIST_ENTRY(it, struct holder, node);
        uint64_t sum = 0;

        LIST_FOREACH(at, &r.w->links) {
            if (link_holder(link_of_node(at)) == h)
                sum += link_claims(link_of_node(at));
        }
        assert_int_equal(h->claims, sum);
        held_links += h->link_count;
    }
    LIST_FOREACH(it, &r.w->links) {
        const struct link *l = link_of_node(it);
        uint64_t sum = 0;

        LIST_FOREACH(at, &r.w->calls) {
            const struct call *c = LIST_ENTRY(at, struct call, age_node);

            sum += c->link == l ? c->claims : 0;
        }
        assert_int_equal(link_claims(l), sum);
        links += link_holder(l) != NULL;
    }
    assert_int_equal(links, held_links);
}

static uint64_t puts_beside(struct end *honest, struct attack *a)
{
    uint64_t most = 0;

    for (unsigned i = 0; i < PUTS; i++) {
        uint64_t took = put(honest, a);

        most = took > most ? took : most;
        rig_pass(&r, 100);
        check_sums();
        assert_in_range(worker_held(r.w), 0, LIMIT + LIMIT / 32);
        begin_again(a);
    }
    return most;
}

/* Both are there, and the honest client has nothing to do when it begins. */
static void beside(unsigned clients, unsigned calls, size_t len)
{
    struct attack *a = &attack;
    struct end *honest = rig_client_of(&r, HONEST);

    attack = (struct attack){.clients = clients, .calls = calls, .len = len};
    connect_all(a);
    begin_again(a);
    rig_settle(&r);
    assert_in_range(puts_beside(honest, a), 0, SECOND_MS);
}

static void beside_forty(void **state)
{
    (void)state;
    beside(40, 1, LEFT_LEN);
}

static void beside_sixty(void **state)
{
    (void)state;
    beside(60, 1, LEFT_LEN);
}

static void beside_calls_of_each(void **state)
{
    (void)state;
    beside(30, 6, 300000);
}

/* Each has less than what it may have without asking; together it is more than the limit. */
static void beside_what_asks_nobody(void **state)
{
    (void)state;
    if (IS_SLOW)
        skip();
    beside(35, CALLS, 60000);
}

/* All was there for the one client, and is taken when the other one comes. */
static void beside_who_was_there_first(void **state)
{
    struct attack *a = &attack;

    (void)state;
    attack = (struct attack){.clients = 40, .calls = 2, .len = LEFT_LEN};
    connect_all(a);
    begin_again(a);
    rig_pass(&r, 3000);
    assert_in_range(puts_beside(rig_client_of(&r, HONEST), a), 0, SECOND_MS);
}

/* One call of a client that may stay holds all there is, and a little more: the other's small calls
 * are served, that client's are refused. */
static void who_holds_most_is_refused(void **state)
{
    struct end *honest = rig_client_of(&r, HONEST), *heavy = rig_client_of(&r, ATTACKER);
    struct rec *large, *c;
    uint64_t held;

    (void)state;
    large = begin_and_leave(heavy, LEFT_LEN);
    rig_settle(&r);
    held = worker_held(r.w);
    assert_in_range(held, LEFT_LEN, LIMIT);
    rig_limit(&r, held - 1024);
    for (unsigned i = 0; i < 10; i++) {
        assert_true(worker_is_over_limit(r.w));
        c = rig_put(honest, SECRET_KEY, "treasure");
        rig_answer_put(&r, c, i + 1);
        rig_expect(&r, rig_put(heavy, SECRET_KEY, "treasure"), 8);
        rig_pass(&r, 150);
    }
    assert_int_equal(large->close_count, 0);
    h2_stream_reset(large->s, H2_CANCEL);
    RIG_UNTIL(&r, rig_is_idle(&r));
}

/* --- any order of clients, claims and releases ----------------------------------------------- */

#define HOSTS 3u
#define LINKS 9u
#define OPEN_MAX 60u
#define STEPS 250u
#define SPARED (LEFT_LEN + 2 * LIMIT_STREAM_FIRST)

static struct {
    struct rec *c;
    uint8_t host; /* whose it is */
} begun[OPEN_MAX];

static unsigned random_below(unsigned n)
{
    static uint32_t x = 20261128;

    x = x * 1664525u + 1013904223u;
    return (x >> 8) % n;
}

struct claim {
    const struct holder *of;
    uint64_t claims, least; /* the least it may be when its call has gone */
    bool is_hungry;
};

/* spared: a call of its is about to go, with what it claims. */
static size_t claims_now(struct claim *c, unsigned spared)
{
    size_t n = 0;
    char who[16];

    (void)snprintf(who, sizeof who, "10.0.0.%u", spared);

    LIST_FOREACH(it, &r.w->holders) {
        const struct holder *h = LIST_ENTRY(it, struct holder, node);

        c[n] = (struct claim){h, h->claims, h->claims, h->hungry > 0};
        if (strcmp(h->who, who) == 0)
            c[n].least -= h->claims < SPARED ? h->claims : SPARED;
        n++;
    }
    return n;
}

/* Room was made, and nobody asked for any meanwhile: whoever got some had no more than any that was
 * hungry before and is still. What a holder that has little needs, and the one call that may go
 * beyond, stand beside that rule. */
static void check_order(const struct claim *before, const struct claim *now, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        bool is_beyond = r.w->beyond != NULL && link_holder(r.w->beyond->link) == now[i].of;

        if (now[i].claims <= before[i].claims || is_beyond || now[i].claims <= 4 * MIB)
            continue;
        for (size_t k = 0; k < n; k++) {
            if (before[k].is_hungry && now[k].is_hungry)
                assert_true(before[i].least <= before[k].claims ||
                            now[k].claims > before[k].claims);
        }
    }
}

static uint8_t host_of(unsigned link)
{
    return link == 0 ? HONEST : link < 4 ? ATTACKER : THIRD;
}

static void any_order(void **state)
{
    struct end *client[LINKS];
    struct claim before[HOSTS + 1], now[HOSTS + 1];
    unsigned grown = 0;

    (void)state;
    memset(begun, 0, sizeof begun);
    for (unsigned i = 0; i < LINKS; i++) /* one has one connection, the others have more */
        client[i] = rig_client_of(&r, host_of(i));
    for (unsigned step = 0; step < STEPS; step++) {
        unsigned at = random_below(OPEN_MAX);
        struct rec **c = &begun[at].c;
        unsigned link = random_below(LINKS);
        size_t n;

        if (*c != NULL && (*c)->close_count > 0)
            *c = NULL;
        if (*c == NULL) {
            *c = begin_and_leave(client[link], 1 + random_below(LEFT_LEN));
            begun[at].host = host_of(link);
            rig_pass(&r, random_below(20));
            check_sums();
            continue;
        }
        rig_settle(&r);
        n = claims_now(before, begun[at].host);
        h2_stream_reset((*c)->s, H2_CANCEL);
        rig_settle(&r);
        assert_int_equal(claims_now(now, 0), n);
        check_order(before, now, n);
        for (size_t i = 0; i < n; i++)
            grown += now[i].claims > before[i].least;
        check_sums();
    }
    assert_in_range(grown, 10, STEPS);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_prestate_setup_teardown(fn, setup, teardown, &r)
    const struct CMUnitTest tests[] = {
        TEST(beside_forty),
        TEST(beside_sixty),
        TEST(beside_calls_of_each),
        TEST(beside_what_asks_nobody),
        TEST(beside_who_was_there_first),
        TEST(who_holds_most_is_refused),
        TEST(any_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
