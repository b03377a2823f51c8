/* SPDX-License-Identifier: Apache-2.0 */
/* The rule when memory is out: whichever allocation of the worker fails, from the accepted socket to
 * the end of a put and a range, that call ends with a status, or its connection does; nothing
 * crashes, leaks or waits for ever, no value goes to etcd in clear, and the next client is served.
 * The linker turns malloc and its like into the functions here; they fail only while the worker's
 * loop runs, so that its peers have all the memory they want. Those inside of shared libraries
 * work. */
#include "kit.h"

#define VALUE "a treasure that nobody may see"
#define CONN_END (-2) /* in place of a status: the connection has ended */

static bool is_armed, is_worker;
static unsigned left; /* allocations until the one that fails */
static bool has_failed;

static bool fails(void)
{
    if (!is_armed || !is_worker || has_failed || --left > 0)
        return false;
    has_failed = true;
    return true;
}

void *__real_malloc(size_t n);
void *__real_calloc(size_t count, size_t n);
void *__real_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t count, size_t n);
void *__wrap_realloc(void *p, size_t n);

void *__wrap_malloc(size_t n)
{
    return fails() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t count, size_t n)
{
    return fails() ? NULL : __real_calloc(count, n);
}

void *__wrap_realloc(void *p, size_t n)
{
    return fails() ? NULL : __real_realloc(p, n);
}

static void on_worker(bool begins)
{
    is_worker = begins;
}

static struct rig r;

/* What etcd does: it answers every put, and every range with the value under a new key. */
static void etcd_answers(struct rec *s)
{
    static unsigned dek = 100;
    struct buf m;

    if (strstr(s->headers, PUT) != NULL) {
        m = put_response();
    } else {
        struct buf sealed = rig_seal(&r, ++dek, SECRET_KEY, VALUE, sizeof VALUE - 1);

        m = range_response(SECRET_KEY, &sealed);
        buf_free(&sealed);
    }
    rig_answer(s, &m);
}

/* Every connection that etcd has accepted by now answers. */
static void etcd_turn(void)
{
    for (size_t i = 0; i < r.etcd_count; i++)
        r.etcds[i]->on_end = etcd_answers;
    rig_turn(&r);
}

#define NOMEM_UNTIL(cond)                                                                          \
    do {                                                                                           \
        uint64_t end_ = rig_now_ms() + 20000;                                                      \
        while (!(cond)) {                                                                          \
            if (rig_now_ms() > end_)                                                               \
                fail_msg("hangs, waiting for: %s", #cond);                                         \
            etcd_turn();                                                                           \
        }                                                                                          \
    } while (0)

/* The call's status, or how else it ended. */
static int end_of(const struct end *client, const struct rec *c)
{
    NOMEM_UNTIL(c->close_count == 1);
    if (rig_status(c) >= 0)
        return rig_status(c);
    return client->c == NULL || client->lost_count > 0 ? CONN_END : -1;
}

static void check_range(const struct rec *c)
{
    assert_int_equal(rig_message_count(c), 1);
    rig_check_value(rig_message_at(c, 0), VALUE, sizeof VALUE - 1);
}

/* A status of an error of ours or of the connection's; or, where the stream could not have one, its
 * reset. */
static void check_end(const struct rec *c, int end)
{
    if (end == -1)
        assert_int_not_equal(c->code, H2_NO_ERROR);
    else
        assert_true(end == CONN_END || end == 0 || end == 8 || end == 13 || end == 14 || end == 9);
}

static bool can_call(const struct end *client)
{
    return client->c != NULL && h2_conn_can_request(client->c);
}

/* A client's whole life but for its end. Returns how many of its calls were answered. */
static unsigned live(void)
{
    struct end *client = rig_connect(&r, NULL);
    struct rec *put, *range;
    int ended;

    NOMEM_UNTIL(client->ready_count == 1 || client->c == NULL);
    if (!can_call(client))
        return 0;
    put = rig_put(client, SECRET_KEY, VALUE);
    ended = end_of(client, put);
    check_end(put, ended);
    if (!can_call(client))
        return ended == 0;
    range = rig_range(client, SECRET_KEY);
    if (end_of(client, range) == 0) {
        check_range(range);
        return 1 + (ended == 0);
    }
    check_end(range, end_of(client, range));
    return ended == 0;
}

/* True when the n-th allocation was reached. */
static bool run(unsigned n)
{
    unsigned answered;

    rig_init(&r);
    r.on_worker = on_worker;
    left = n;
    has_failed = false;
    is_armed = true;
    answered = live();
    is_armed = false;
    if (!has_failed)
        assert_int_equal(answered, 2);
    assert_int_equal(live(), 2); /* the next client */
    rig_check_sealed(&r, VALUE);
    r.may_miss_tallies = has_failed;
    rig_fini(&r);
    return has_failed;
}

static void each_allocation_fails_once(void **state)
{
    unsigned n = 1;

    (void)state;
    while (run(n))
        n++;
    print_message("%u allocations\n", n - 1);
    assert_in_range(n, 30, 2000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_allocation_fails_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
