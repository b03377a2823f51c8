/* SPDX-License-Identifier: Apache-2.0 */
/* The rule of turns: where memory is short, room goes round by connection. So large calls of a
 * client that gets on are served within a second, however many calls others have begun and left,
 * and however long ago. */
#include "proxy/lane.h"
#include "rig.h"

#define MIB (1024u * 1024)
#define LIMIT (48u * MIB)
#define LEFT_LEN (4u * MIB) /* of requests that are begun and left */
#define PUT_LEN (1400u * 1024)
#define PUTS 30u
#define SECOND_MS 1000u
#define LEFT_MAX 200u
#define CROWD 14u

/* Clients that begin requests and leave them. */
struct attack {
    unsigned clients, calls;
    struct end *client[CROWD];
    struct rec *left[LEFT_MAX];
};

static struct rig r;
static uint8_t *value;

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

/* All of a Put but its last byte: it goes as far as there is credit. */
static struct rec *begin_and_leave(struct end *client)
{
    struct buf m = put_request(POD_KEY, value, LEFT_LEN), framed = rig_framed(&m);
    struct rec *c = rig_begin(client, PUT, NULL);

    rig_send(c, framed.p, framed.n - 1, false);
    buf_free(&framed);
    return c;
}

/* Milliseconds that it took. */
static uint64_t put(struct end *client)
{
    struct buf m = put_request(POD_KEY, value, PUT_LEN), answer = put_response();
    uint64_t began = rig_now_ms();
    unsigned calls = rig_calls(&r);
    struct rec *c = rig_call(client, PUT, &m);

    RIG_UNTIL(&r, c->close_count > 0 || (rig_calls(&r) > calls && r.call->end_count == 1));
    if (c->close_count == 0)
        rig_answer(r.call, &answer);
    else
        buf_free(&answer);
    rig_expect(&r, c, 0);
    return rig_now_ms() - began;
}

/* Whose call was refused begins another. */
static void begin_again(struct attack *a)
{
    for (unsigned i = 0; i < a->clients * a->calls; i++) {
        if (a->left[i] == NULL || a->left[i]->close_count > 0)
            a->left[i] = begin_and_leave(a->client[i / a->calls]);
    }
}

/* ms: how long it takes until there is room. */
static void beside(unsigned clients, unsigned calls, uint64_t ms)
{
    struct attack a = {.clients = clients, .calls = calls};
    struct end *honest = rig_client(&r);
    uint64_t most = 0;

    assert_in_range(clients * calls, 1, LEFT_MAX);
    for (unsigned i = 0; i < clients; i++)
        a.client[i] = rig_client(&r);
    begin_again(&a);
    rig_pass(&r, ms);
    for (unsigned i = 0; i < PUTS; i++) {
        uint64_t took = put(honest);

        most = took > most ? took : most;
        rig_pass(&r, 300);
        assert_in_range(worker_held(r.w), 0, LIMIT);
        begin_again(&a);
    }
    assert_in_range(most, 0, SECOND_MS);
}

static void beside_one_client(void **state)
{
    (void)state;
    beside(1, 60, 0);
}

static void beside_few_clients(void **state)
{
    (void)state;
    beside(4, 20, 0);
}

static void beside_clients_with_a_call_each(void **state)
{
    (void)state;
    beside(CROWD, 1, 0);
}

/* So many that what every call may send without asking is more than is kept for that. Nobody is
 * refused before he has waited for 5 s. */
static void beside_many_calls(void **state)
{
    (void)state;
    beside(CROWD, 10, 6000);
}

/* ... or more than the limit has. */
static void beside_more_than_the_limit(void **state)
{
    (void)state;
    beside(CROWD, 14, 6000);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_prestate_setup_teardown(fn, setup, teardown, &r)
    const struct CMUnitTest tests[] = {
        TEST(beside_one_client),
        TEST(beside_few_clients),
        TEST(beside_clients_with_a_call_each),
        TEST(beside_many_calls),
        TEST(beside_more_than_the_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
