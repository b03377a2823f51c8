/* SPDX-License-Identifier: Apache-2.0 */
/* Rewriting on a small etcd in memory, with a writer who comes in between: what he wrote is never
 * lost; each value that is due is sealed with the new key, once; whatever fails, no plaintext takes
 * the place of anything. */
#include "sweep/rewrite.h"

#include <stdio.h>

#include "base/secret.h"
#include "failing_alloc.h"
#include "fake_etcd.h"
#include "sweep/source_etcd.h"

static const struct sweep_filter all = {0};

struct fixture {
    struct fake_site site;
    struct ruleset *rules;
    struct net_url url;
    struct sweep_etcd *etcd;
    struct sweep_source *source;
    struct sweep *sweep;
    struct sweep_rewriter *rewriter;
    size_t outcomes[SWEEP_REWRITTEN + 1];
    unsigned conflicts;
    bool is_swept;
    bool has_fence;
    unsigned allowed; /* so many values may be written, if it has one */
    enum err err;
    char why[512];
};

static void over(struct fixture *f, enum err e, const char *why)
{
    if (!f->site.is_over)
        snprintf(f->why, sizeof f->why, "%s", why);
    if (!f->site.is_over)
        f->err = e;
    f->site.is_over = true;
}

static enum sweep_go on_value(void *user, const struct sweep_value *v)
{
    struct fixture *f = user;

    if (f->site.is_over)
        return SWEEP_WAIT;
    if (!v->verdict->is_due)
        return SWEEP_GO;
    if (sweep_rewriter_take(f->rewriter, v) != ERR_OK)
        return SWEEP_NO_MEMORY;
    return sweep_rewriter_has_room(f->rewriter) ? SWEEP_GO : SWEEP_WAIT;
}

static void on_end(void *user, enum err e, const char *why)
{
    struct fixture *f = user;

    f->is_swept = true;
    if (e != ERR_OK || sweep_rewriter_is_idle(f->rewriter))
        over(f, e, why);
}

static void on_done(void *user, const struct sweep_rewritten *r)
{
    struct fixture *f = user;

    f->outcomes[r->outcome]++;
    f->conflicts += r->conflict_count;
    sweep_resume(f->sweep);
    if (f->is_swept && sweep_rewriter_is_idle(f->rewriter))
        over(f, ERR_OK, "");
}

static bool may_write(void *user, const struct provider *p, struct etcd_fence *fence)
{
    struct fixture *f = user;

    assert_non_null(p);
    *fence = (struct etcd_fence){.lock = BYTES_LIT("/place/lock"),
                                 .lock_revision = 70000,
                                 .watched = BYTES_LIT("/place/proxies/"),
                                 .watched_end = BYTES_LIT("/place/proxies0"),
                                 .seen_revision = INT64_MAX - 1};
    return f->allowed-- > 0;
}

static void on_failed(void *user, enum err e, const char *why)
{
    over(user, e, why);
}

static void init(struct fixture *f)
{
    const char *reason;

    memset(f, 0, sizeof *f);
    fake_site_init(&f->site);
    f->rules = fake_rules(true);
    assert_int_equal(net_url_parse("http://127.0.0.1:1", &f->url, &reason), ERR_OK);
}

static enum err begin(struct fixture *f, unsigned parallel)
{
    const struct sweep_etcd_opts etcd = {
        .loop = &f->site.loop, .urls = &f->url, .url_count = 1, .first_ms = 100, .away_ms = 600};
    struct sweep_opts o = {.rules = f->rules,
                           .filter = &all,
                           .judge = &f->site.judge,
                           .on_value = on_value,
                           .on_end = on_end,
                           .user = f};
    struct sweep_rewrite_opts r = {.judge = &f->site.judge,
                                   .parallel = parallel,
                                   .on_done = on_done,
                                   .on_failed = on_failed,
                                   .user = f};

    if (f->has_fence)
        r.may_write = may_write;
    TRY(sweep_etcd_new(&etcd, &f->etcd));
    TRY(sweep_source_etcd_new(f->etcd, &f->source));
    r.etcd = f->etcd;
    TRY(sweep_rewriter_new(&r, &f->rewriter));
    o.source = f->source;
    return sweep_start(&o, &f->sweep);
}

static void fini(struct fixture *f)
{
    if (f->rewriter != NULL)
        sweep_rewriter_free(f->rewriter);
    if (f->sweep != NULL)
        sweep_stop(f->sweep);
    if (f->source != NULL)
        f->source->ops->close(f->source);
    if (f->etcd != NULL)
        sweep_etcd_close(f->etcd);
    fake_site_fini(&f->site);
    ruleset_drop(f->rules);
}

static void run(struct fixture *f, unsigned parallel)
{
    assert_int_equal(begin(f, parallel), ERR_OK);
    fake_site_run(&f->site);
}

/* --- what lies there -------------------------------------------------------------------------- */

static const char *key_of(size_t i)
{
    static char key[FAKE_KEY];

    snprintf(key, sizeof key, "/registry/secrets/ns/%03zu", i);
    return key;
}

static void put(size_t i, const char *plain, int kind)
{
    uint8_t value[FAKE_VALUE];
    size_t n;

    if (kind == 3) {
        fake_put(key_of(i), plain, strlen(plain), 0);
        return;
    }
    n = fake_seal((enum fake_writer)kind, key_of(i), plain, value);
    fake_put(key_of(i), value, n, 0);
}

static void fill(size_t count)
{
    fake_reset();
    for (size_t i = 0; i < count; i++)
        put(i, key_of(i), (int)(i % 4));
}

static void check_value(size_t i, const char *plain, unsigned writes)
{
    const struct fake_kv *kv = fake_find(key_of(i));
    char got[FAKE_VALUE];

    assert_non_null(kv);
    assert_true(fake_opens(kv, got));
    assert_string_equal(got, plain);
    assert_int_equal(kv->writes, writes);
}

/* --- tests ------------------------------------------------------------------------------------ */

static void test_all(void **state)
{
    static const unsigned parallels[] = {1, 2, 7, 100};

    (void)state;
    for (size_t p = 0; p < ARRAY_LEN(parallels); p++) {
        struct fixture f;

        fill(40);
        init(&f);
        run(&f, parallels[p]);
        assert_int_equal(f.err, ERR_OK);
        assert_int_equal(f.outcomes[SWEEP_REWRITTEN], 30);
        assert_int_equal(fake.txns, 30);
        for (size_t i = 0; i < 40; i++)
            check_value(i, key_of(i), i % 4 != 0);
        fini(&f);
    }
}

/* Before the n-th Txn somebody else writes the key that it is about (key 1, by plaintext), in every
 * way there is; n counts on, so that he comes again after each try. */
static size_t times, kind_written;

static void write_between(const char *path)
{
    if (strcmp(path, ETCD_TXN_PATH) != 0 || times == 0)
        return;
    times--;
    if (kind_written == 4)
        fake_put(key_of(1), "k8s:enc:lost:", 13, 0);
    else if (kind_written == 5 && fake_find(key_of(1)) != NULL)
        fake_delete(key_of(1));
    else if (kind_written < 4)
        put(1, "by somebody else", (int)kind_written);
}

static void test_somebody_else(void **state)
{
    (void)state;
    for (kind_written = 0; kind_written < 6; kind_written++)
        for (size_t n = 1; n < 4; n++) {
            struct fixture f;
            const struct fake_kv *kv;

            fill(2);
            times = n;
            fake.before = write_between;
            init(&f);
            run(&f, 3);
            assert_int_equal(f.err, ERR_OK);
            kv = fake_find(key_of(1));
            if (kind_written == 4) {
                assert_int_equal(f.outcomes[SWEEP_NOT_READABLE], 1);
                assert_memory_equal(kv->value, "k8s:enc:lost:", 13);
            } else if (kind_written == 5) {
                assert_null(kv);
                assert_int_equal(f.outcomes[SWEEP_BY_OTHERS], 1);
            } else {
                check_value(1, "by somebody else", kind_written != FAKE_NEW);
                assert_int_equal(f.outcomes[SWEEP_REWRITTEN], kind_written != FAKE_NEW);
                assert_int_equal(f.conflicts, kind_written == FAKE_NEW ? 1 : n);
            }
            fini(&f);
        }
}

/* The answer of a Txn that was carried out is lost: sent again it meets what it wrote. */
static void test_lost_answer(void **state)
{
    struct fixture f;

    (void)state;
    fill(8);
    fake.lost = 2;
    init(&f);
    run(&f, 2);
    assert_int_equal(f.err, ERR_OK);
    assert_int_equal(f.outcomes[SWEEP_REWRITTEN], 6);
    assert_int_equal(f.conflicts, 0);
    for (size_t i = 0; i < 8; i++)
        check_value(i, key_of(i), i % 4 != 0);
    fini(&f);
}

static void test_refused(void **state)
{
    static const struct {
        enum grpc_status status;
        const char *message, *why;
        bool goes_on;
    } cases[] = {
        {GRPC_INVALID_ARGUMENT, "etcdserver: request is too large", NULL, true},
        {GRPC_RESOURCE_EXHAUSTED, "grpc: received message larger than max (9 vs. 8)", NULL, true},
        {GRPC_RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded", "NOSPACE", false},
        {GRPC_PERMISSION_DENIED, "etcdserver: permission denied", "permission denied", false},
        {GRPC_UNKNOWN, "who knows", "who knows", false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fixture f;

        fill(8);
        fake.txn_status = cases[i].status;
        fake.txn_message = cases[i].message;
        init(&f);
        run(&f, 3);
        assert_int_equal(f.outcomes[SWEEP_REWRITTEN], 0);
        if (cases[i].goes_on) {
            assert_int_equal(f.err, ERR_OK);
            assert_int_equal(f.outcomes[SWEEP_TOO_LARGE], 6);
        } else {
            assert_int_equal(f.err, ERR_SYSTEM);
            assert_non_null(strstr(f.why, cases[i].why));
            assert_true(fake.txns <= 3);
        }
        fini(&f);
    }
}

static size_t fence_until; /* it is down from this Txn on */

static void fence_falls(const char *path)
{
    fake.is_fence_down = strcmp(path, ETCD_TXN_PATH) == 0 && fake.txns >= fence_until;
}

/* At whatever Txn the fence goes down, or permission ends: what was written by then is, and nothing
 * is behind it. */
static void test_fence(void **state)
{
    (void)state;
    for (size_t n = 0; n < 8; n++)
        for (int by_us = 0; by_us < 2; by_us++) {
            size_t written = 0;
            struct fixture f;

            fill(8);
            init(&f);
            f.has_fence = true;
            f.allowed = by_us != 0 ? (unsigned)n : 1000;
            fence_until = by_us != 0 ? 1000 : n;
            fake.before = fence_falls;
            run(&f, 1);
            for (size_t i = 0; i < 8; i++)
                written += fake_find(key_of(i))->writes;
            assert_int_equal(written, n < 6 ? n : 6);
            assert_int_equal(f.err, n < 6 ? ERR_AGAIN : ERR_OK);
            assert_int_equal(fake.fenced, fake.txns);
            fini(&f);
            fake.before = NULL;
        }
}

static void away_forever(const char *path)
{
    if (strcmp(path, ETCD_TXN_PATH) == 0 && fake.txns == 2)
        fake.away = 100000;
}

static void test_away(void **state)
{
    struct fixture f;

    (void)state;
    fill(16);
    fake.before = away_forever;
    init(&f);
    run(&f, 3);
    assert_int_equal(f.err, ERR_UPSTREAM_AWAY);
    fini(&f);
    fake.before = NULL;
    fake.away = 0;
    init(&f);
    run(&f, 3); /* goes on where work is left */
    assert_int_equal(f.err, ERR_OK);
    for (size_t i = 0; i < 16; i++)
        check_value(i, key_of(i), i % 4 != 0);
    fini(&f);
}

/* Each allocation fails in turn, with a writer in between: either all is as it should be, or the
 * run failed; and everything that was sealed before opens, with its own content. */
static void test_no_memory(void **state)
{
    bool was_whole = false;

    (void)state;
    kind_written = FAKE_OLD;
    for (size_t n = 1; n < 4000 && !was_whole; n++) {
        struct fixture f;
        enum err e;

        fill(6);
        times = 0;
        init(&f);
        alloc_fail_once(n);
        e = begin(&f, 2);
        if (e == ERR_OK)
            fake_site_run(&f.site);
        was_whole = !alloc_recover();
        assert_true(e == ERR_OK || e == ERR_NOMEM);
        if (e == ERR_OK && f.err == ERR_OK)
            assert_int_equal(f.outcomes[SWEEP_REWRITTEN], 4);
        else
            assert_false(was_whole);
        for (size_t i = 0; i < 6; i++) {
            const struct fake_kv *kv = fake_find(key_of(i));

            assert_non_null(kv);
            if (kv->writes > 0 || i % 4 == 0)
                check_value(i, key_of(i), kv->writes);
            assert_true(kv->writes <= 1);
        }
        fini(&f);
    }
    assert_true(was_whole);
}

static int setup(void **state)
{
    (void)state;
    return secret_init() == ERR_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all),         cmocka_unit_test(test_somebody_else),
        cmocka_unit_test(test_lost_answer), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_fence),       cmocka_unit_test(test_away),
        cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests(tests, setup, NULL);
}
