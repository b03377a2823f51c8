/* SPDX-License-Identifier: Apache-2.0 */
/* Each allocation fails in turn while a message is worked on: ERR_NOMEM each time, no leak, nothing
 * in the output, and never an abort. */
#include "fixture.h"

#include "etcd/direct.h"
#include "etcd/members.h"
#include "etcd/large.h"
#include "failing_alloc.h"

static struct fix fix;

static int setup(void **state)
{
    (void)state;
    fix_init(&fix);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fix_fini(&fix);
    return 0;
}

/* Values over a slab: when the second one fails, the first is in the output already. */
static struct buf put_request(void)
{
    static const char *const keys[] = {"/registry/secrets/a", "/registry/secrets/b"};
    struct buf txn = {0}, value = {calloc(1, 70000), 70000, 0};

    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        struct buf put = {0}, op = {0};

        buf_str(&put, 1, keys[i]);
        buf_field(&put, 2, value.p, value.n);
        buf_sub(&op, 2, &put);
        buf_sub(&txn, 2, &op);
    }
    buf_free(&value);
    return txn;
}

static struct buf range_answer_of(size_t value_len)
{
    struct buf b = {0};

    for (size_t i = 0; i < 12; i++) {
        char key[] = "/registry/secrets/a", text[40000] = {0};
        struct buf sealed, kv = {0};

        key[sizeof key - 2] = (char)('a' + i);
        sealed = fix_seal(&fix, i % FIX_DEKS, key, text, value_len);
        buf_str(&kv, 1, key);
        buf_field(&kv, 5, sealed.p, sealed.n);
        buf_sub(&b, 2, &kv);
        buf_free(&sealed);
    }
    return b;
}

static struct buf range_answer(void)
{
    return range_answer_of(600);
}

/* One lane: returns its error. */
static enum err request_once(struct chain *msg, struct chain *out)
{
    struct etcd_plan p = {0};
    struct etcd_ask ask = {0};
    struct sealed_msg sealed = {0};
    enum err e = ERR_OK;

    if (etcd_scan_request(&p, ETCD_TXN, fix.rules, msg, &ask) == ETCD_REJECT) {
        e = p.err;
    } else {
        fix_resolve(&fix, &p);
        e = etcd_apply_request(&p, fix.ctx, &fix.pool, msg, &sealed);
    }
    sealed_msg_release(&sealed, out);
    etcd_plan_fini(&p);
    etcd_ask_fini(&ask);
    return e;
}

static enum err answer_once(struct chain *msg, struct chain *out)
{
    struct etcd_range all = {.key = bytes_of("", 1), .end = bytes_of("", 1)};
    struct etcd_plan p = {0};
    struct etcd_ask ask = {0};
    enum err e = etcd_ask_add(&ask, ETCD_ASKED_RANGE, &all);

    if (e == ERR_OK && etcd_scan_answer(&p, ETCD_RANGE, fix.rules, msg, &ask) == ETCD_REJECT)
        e = p.err;
    if (e == ERR_OK) {
        fix_resolve(&fix, &p);
        e = etcd_apply_answer(&p, fix.ctx, &fix.pool, msg, out);
    }
    etcd_plan_fini(&p);
    etcd_ask_fini(&ask);
    return e;
}

static struct dek *find(void *user, const struct provider *provider, const struct dek_id *id,
                        struct bytes tail)
{
    (void)user;
    (void)provider;
    for (size_t i = 0; i < FIX_DEKS; i++) {
        if (id != NULL ? dek_id_eq(&fix.deks[i]->id, id) : bytes_eq(fix.deks[i]->tail, tail))
            return fix.deks[i];
    }
    return NULL;
}

/* What there is no memory for in one pass is left to the plan, and may fail there. */
static enum err direct_once(struct chain *msg, struct chain *out)
{
    const struct etcd_direct with = {fix.ctx, &fix.pool, find, NULL};
    struct etcd_range all = {.key = bytes_of("", 1), .end = bytes_of("", 1)};
    struct etcd_plan p = {0};
    struct etcd_ask ask = {0};
    enum err e = etcd_ask_add(&ask, ETCD_ASKED_RANGE, &all);
    enum etcd_verdict verdict = ETCD_REJECT;

    if (e == ERR_OK) {
        verdict = etcd_direct_answer(&p, ETCD_RANGE, fix.rules, msg, &ask, &with, out);
        e = p.err;
    }
    if (e == ERR_OK && verdict == ETCD_EDIT) {
        fix_resolve(&fix, &p);
        e = etcd_apply_answer(&p, fix.ctx, &fix.pool, msg, out);
    }
    etcd_plan_fini(&p);
    etcd_ask_fini(&ask);
    return e;
}

static enum err large_batch(struct etcd_large *st, struct chain *msg, struct chain *out,
                            bool *is_over)
{
    struct etcd_plan p = {0};
    struct chain batch = {0};
    enum etcd_large_step step;
    enum err e = ERR_OK;

    do {
        step = etcd_large_next(st, msg, &p, &batch);
    } while (step == ETCD_LARGE_AGAIN);

    if (step == ETCD_LARGE_BAD)
        e = p.err;
    if (step == ETCD_LARGE_BATCH) {
        fix_resolve(&fix, &p);
        e = etcd_large_apply(st, &p, fix.ctx, &fix.pool, &batch, out);
    }
    *is_over = step != ETCD_LARGE_BATCH;
    etcd_plan_fini(&p);
    chain_fini(&batch);
    return e;
}

static enum err large_once(struct chain *msg, struct chain *out)
{
    struct etcd_range all = {.key = bytes_of("", 1), .end = bytes_of("", 1)};
    struct etcd_ask ask = {0};
    struct etcd_large *st = NULL;
    bool is_over = false;
    enum err e = etcd_ask_add(&ask, ETCD_ASKED_RANGE, &all);

    if (e == ERR_OK)
        e = etcd_large_new(ETCD_RANGE, fix.rules, &ask, (uint32_t)msg->len, LIMIT_LANE_TURN, &st);
    while (e == ERR_OK && !is_over)
        e = large_batch(st, msg, out, &is_over);
    etcd_large_free(st);
    etcd_ask_fini(&ask);
    return e;
}

static enum err members_once(struct chain *msg, struct chain *out)
{
    static const struct etcd_advertise_url url[] = {{"a", "https://proxy:1"}};
    const struct etcd_advertise adv = {url, 1};

    return etcd_members_rewrite(ETCD_MEMBERS, &adv, &fix.pool, msg, out);
}

static struct {
    struct buf in;
    enum err (*work)(struct chain *msg, struct chain *out);
    unsigned done_without; /* of the metrics' counts and envelope's memo */
} trial;

/* The message itself is there whatever fails. */
static enum err try_once(void)
{
    size_t cuts[] = {trial.in.n / 3, trial.in.n / 2};
    struct chain msg, out = {0};
    enum err e;

    alloc_pause(true);
    fix_chain(&fix, trial.in.p, trial.in.n, cuts, ARRAY_LEN(cuts), &msg);
    alloc_pause(false);
    e = trial.work(&msg, &out);
    assert_int_equal(e == ERR_OK, out.len > 0);
    chain_fini(&out);
    chain_fini(&msg);
    if (e == ERR_OK && alloc_has_failed()) {
        trial.done_without++;
        return ERR_NOMEM; /* as alloc_fail_each wants it */
    }
    return e;
}

/* done_without: so many allocations may fail and the work succeed. */
static void fail_each(struct buf in, enum err (*work)(struct chain *msg, struct chain *out),
                      unsigned done_without)
{
    trial.in = in;
    trial.work = work;
    trial.done_without = 0;
    assert_true(alloc_fail_each(try_once, &fix.pool) > 1);
    assert_in_range(trial.done_without, 0, done_without);
    assert_int_equal(fix.pool.live_bytes, 0);
    buf_free(&in);
}

static void test_request(void **state)
{
    (void)state;
    fail_each(put_request(), request_once, 4);
}

static void test_answer(void **state)
{
    (void)state;
    fail_each(range_answer(), answer_once, 4);
}

static void test_direct(void **state)
{
    (void)state;
    fail_each(range_answer(), direct_once, 16);         /* the plan has another try */
    fail_each(range_answer_of(40000), direct_once, 16); /* the plan has another try */
}

static void test_large(void **state)
{
    (void)state;
    fail_each(range_answer(), large_once, 4);
}

static void test_members(void **state)
{
    struct buf m = {0}, list = {0};

    (void)state;
    buf_str(&m, 2, "a");
    buf_sub(&list, 2, &m);
    fail_each(list, members_once, 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_request), cmocka_unit_test(test_answer),
        cmocka_unit_test(test_direct),  cmocka_unit_test(test_large),
        cmocka_unit_test(test_members),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
