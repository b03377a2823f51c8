/* SPDX-License-Identifier: Apache-2.0 */
/* The rule when memory is out: whichever allocation of the worker fails, from the accepted socket
 * to the end of a call, that call ends with a status, or its connection does; nothing crashes,
 * leaks or waits for ever, no value goes to etcd in clear, and the next client is served. Beside
 * malloc and its like those functions of base/ fail that have memory in stock, and all of them only
 * while the worker's loop runs, so that its peers have all the memory they want. What shared
 * libraries allocate by themselves works; nghttp2 asks base/. */
#include "failing_alloc.h"
#include "rig.h"

#define VALUE "a treasure that nobody may see"

/* RESULT __wrap_NAME(ARGS) is called in place of NAME, which is then __real_NAME. */
#define WRAP(name, result, args, ...)                                                              \
    result __real_##name args;                                                                     \
    result __wrap_##name args;                                                                     \
    result __wrap_##name args                                                                      \
    {                                                                                              \
        return alloc_fails() ? NULL : __real_##name(__VA_ARGS__);                                  \
    }

WRAP(objects_alloc, void *, (struct objects * o, size_t n), o, n)
WRAP(objects_calloc, void *, (struct objects * o, size_t count, size_t n), o, count, n)
WRAP(objects_realloc, void *, (struct objects * o, void *p, size_t n), o, p, n)
WRAP(slab_new, struct slab *, (struct slab_pool * pool, size_t n, uint32_t flags), pool, n, flags)
WRAP(slab_gather, struct slab *, (struct slab_pool * pool, size_t n, uint32_t flags), pool, n,
     flags)

static void on_worker(bool begins)
{
    alloc_pause(!begins);
}

static struct rig r;

static struct buf bad_event(void)
{
    struct buf sealed = rig_seal(&r, 1, SECRET_KEY, VALUE, sizeof VALUE - 1), m;

    sealed.p[sealed.n / 2] ^= 1;
    m = watch_event(0, SECRET_KEY, &sealed);
    buf_free(&sealed);
    return m;
}

/* A range's answer: under a new key; beyond the threshold where the scenario has one. */
static struct buf range_answer(void)
{
    static unsigned dek = 100;
    struct buf m = put_response(), sealed;

    sealed = rig_seal(&r, ++dek, SECRET_KEY, VALUE, sizeof VALUE - 1);
    add_kv(&m, 2, SECRET_KEY, sealed.p, sealed.n);
    buf_free(&sealed);
    return m;
}

/* What etcd does when a unary request is whole. */
static void etcd_answers(struct rec *s)
{
    struct buf m = strstr(s->headers, PUT) != NULL ? put_response() : range_answer();

    if (strstr(s->headers, WATCH) == NULL)
        rig_answer(s, &m);
    else
        buf_free(&m);
}

/* And what it says to a watch's first message: created, and a value that does not open. */
static void etcd_hears(struct rec *s, size_t n)
{
    struct buf m;

    (void)n;
    if (strstr(s->headers, WATCH) == NULL || s->headers_count > 1 || rig_message_count(s) != 1)
        return;
    s->headers_count = 2; /* said */
    rig_respond(s);
    m = watch_created(0);
    rig_message(s, &m, false);
    m = bad_event();
    rig_message(s, &m, false);
}

/* Every connection that etcd has accepted by now answers. */
static void etcd_turn(void)
{
    for (size_t i = 0; i < r.etcd_count; i++) {
        r.etcds[i]->on_end = etcd_answers;
        r.etcds[i]->on_data = etcd_hears;
    }
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

static bool can_call(const struct end *client)
{
    return client->c != NULL && h2_conn_can_request(client->c);
}

/* Where a status came, whole messages came before it. */
static bool is_whole(const struct rec *c)
{
    size_t at = 0;

    while (c->body_len - at >= 5) {
        size_t n = (size_t)c->body[at + 1] << 24 | (size_t)c->body[at + 2] << 16 |
                   (size_t)c->body[at + 3] << 8 | c->body[at + 4];

        if (c->body[at] != 0 || n > c->body_len - at - 5)
            return false;
        at += 5 + n;
    }
    return at == c->body_len;
}

/* Waits for the call's end. False: it ended with a status of ours, with a reset where the stream
 * could not have one, or with its connection. */
static bool is_answered(const struct end *client, const struct rec *c)
{
    int status;

    NOMEM_UNTIL(c->close_count == 1);
    status = rig_status(c);
    if (status < 0)
        assert_true(client->c == NULL || client->lost_count > 0 || c->code != H2_NO_ERROR);
    else
        assert_true((status == 0 || status == 8 || status == 9 || status == 13 || status == 14) &&
                    is_whole(c));
    return status == 0;
}

/* --- scenarios: each returns whether all was as if there were memory ---------------------- */

static bool puts_one(struct end *client)
{
    return can_call(client) && is_answered(client, rig_put(client, SECRET_KEY, VALUE));
}

/* Its key has to be asked for. */
static bool ranges_one(struct end *client)
{
    struct rec *c;

    if (!can_call(client))
        return false;
    c = rig_range(client, SECRET_KEY);
    if (!is_answered(client, c))
        return false;
    assert_int_equal(rig_message_count(c), 1);
    rig_check_value(rig_message_at(c, 0), VALUE, sizeof VALUE - 1);
    return true;
}

static bool puts_and_ranges(struct end *client)
{
    bool has_put = puts_one(client);

    return ranges_one(client) && has_put;
}

/* The answer is taken KeyValue by KeyValue. */
static bool ranges_large(struct end *client)
{
    r.settings.stream_threshold = 16;
    return ranges_one(client);
}

/* A watch whose value does not open is cancelled; then the client goes. */
static bool watches(struct end *client)
{
    struct buf create = watch_create("/registry/", "/registry0"), framed = rig_framed(&create);
    struct rec *c = can_call(client) ? rig_begin(client, WATCH, NULL) : NULL;
    bool is_good = false;

    if (c != NULL) {
        rig_send(c, framed.p, framed.n, false);
        NOMEM_UNTIL(c->close_count == 1 || rig_message_count(c) == 2);
        is_good = c->close_count == 0;
        if (is_good)
            assert_null(memmem(c->body, c->body_len, VALUE, sizeof VALUE - 1));
        if (is_good)
            h2_stream_reset(c->s, H2_CANCEL);
        NOMEM_UNTIL(c->close_count == 1);
    }
    buf_free(&framed);
    return is_good;
}

/* etcd is lost while a put is under way; the next one waits for it to come back. */
static bool loses_etcd(struct end *client)
{
    if (!can_call(client) || r.etcd->c == NULL)
        return false;
    rig_pass(&r, 100);
    if (r.etcd->c == NULL)
        return false;
    h2_conn_close(r.etcd->c, H2_INTERNAL_ERROR, 0);
    etcd_turn();
    return puts_one(client);
}

static bool gives_up(struct end *client)
{
    struct rec *c;

    if (!can_call(client))
        return false;
    c = rig_begin(client, PUT, NULL);
    etcd_turn();
    etcd_turn();
    if (c->s != NULL)
        h2_stream_reset(c->s, H2_CANCEL);
    NOMEM_UNTIL(c->close_count == 1);
    return true;
}

typedef bool scenario_fn(struct end *client);

static bool live(scenario_fn *scenario)
{
    struct end *client = rig_connect(&r, NULL);

    NOMEM_UNTIL(client->ready_count == 1 || client->c == NULL);
    return scenario(client);
}

/* True when the n-th allocation was reached. */
static bool run(scenario_fn *scenario, unsigned n)
{
    bool is_good, has_failed;

    rig_init(&r);
    r.on_worker = on_worker;
    alloc_fail_once(n);
    alloc_pause(true);
    is_good = live(scenario);
    has_failed = alloc_recover();
    r.on_worker = NULL;
    assert_true(is_good || has_failed);
    r.settings.stream_threshold = LIMIT_STREAM_THRESHOLD;
    assert_true(live(puts_and_ranges)); /* the next client */
    rig_check_sealed(&r, VALUE);
    r.may_miss_tallies = has_failed;
    rig_fini(&r);
    return has_failed;
}

static void run_all(scenario_fn *scenario)
{
    unsigned n = 1;

    while (run(scenario, n))
        n++;
    print_message("%u allocations\n", n - 1);
    assert_in_range(n, 30, 2000);
}

#define SCENARIO(fn)                                                                               \
    static void test_##fn(void **state)                                                            \
    {                                                                                              \
        (void)state;                                                                               \
        run_all(fn);                                                                               \
    }

SCENARIO(puts_and_ranges)
SCENARIO(ranges_large)
SCENARIO(watches)
SCENARIO(loses_etcd)
SCENARIO(gives_up)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_puts_and_ranges), cmocka_unit_test(test_ranges_large),
        cmocka_unit_test(test_watches),         cmocka_unit_test(test_loses_etcd),
        cmocka_unit_test(test_gives_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
