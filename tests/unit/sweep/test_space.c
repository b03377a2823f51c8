/* SPDX-License-Identifier: Apache-2.0 */
/* While nothing is written for want of room, only the asking for it finds out that etcd is gone, or
 * refuses to tell: then it ends, and who waits is told so. */
#include "sweep/space.h"

#include <stdio.h>

#include "base/secret.h"
#include "fake_etcd.h"

#define AWAY_MS 600u

struct fixture {
    struct loop loop;
    struct sweep_etcd *etcd;
    struct sweep_space space;
    struct net_url url;
    unsigned rooms;
    bool is_over;
    enum err err;
    char why[512];
};

static void on_room(void *arg)
{
    struct fixture *f = arg;

    f->rooms++;
}

static void on_stop(void *arg, enum err e, const char *why)
{
    struct fixture *f = arg;

    assert_false(f->is_over);
    f->is_over = true;
    f->err = e;
    snprintf(f->why, sizeof f->why, "%s", why);
}

static void init(struct fixture *f, int64_t db_size)
{
    const char *reason;
    struct sweep_etcd_opts o = {
        .urls = &f->url, .url_count = 1, .first_ms = AWAY_MS, .away_ms = AWAY_MS};
    const struct etcd_status status = {.db_size = db_size};
    struct sweep_space_opts space = {.loop = &f->loop,
                                     .status = &status,
                                     .max_bytes = 1024u * 1024,
                                     .flag = "--max-db-size",
                                     .then = "",
                                     .on_room = on_room,
                                     .on_stop = on_stop,
                                     .arg = f};

    memset(f, 0, sizeof *f);
    fake_reset();
    assert_int_equal(loop_init(&f->loop), ERR_OK);
    o.loop = &f->loop;
    assert_int_equal(net_url_parse("http://127.0.0.1:1", &f->url, &reason), ERR_OK);
    assert_int_equal(sweep_etcd_new(&o, &f->etcd), ERR_OK);
    space.etcd = f->etcd;
    assert_int_equal(sweep_space_start(&f->space, &space), ERR_OK);
}

static void run(struct fixture *f)
{
    uint64_t end = loop_hrtime_ns() + 10000000000ull;

    while (!f->is_over && loop_hrtime_ns() < end)
        uv_run(&f->loop.uv, UV_RUN_ONCE);
    assert_true(f->is_over);
}

static void fini(struct fixture *f)
{
    sweep_space_stop(&f->space);
    sweep_etcd_close(f->etcd);
    loop_stop(&f->loop);
    loop_run(&f->loop);
    loop_fini(&f->loop);
}

static void test_tight_and_gone(void **state)
{
    static const struct {
        unsigned away;
        enum err err;
        const char *why;
    } cases[] = {
        {100000, ERR_UPSTREAM_AWAY, "does not answer"},
        {0, ERR_SYSTEM, "UNIMPLEMENTED"}, /* the small etcd has no Status */
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fixture f;

        init(&f, 900 * 1024);
        assert_int_equal(f.rooms, 1);
        sweep_space_note(&f.space, 100 * 1024);
        assert_true(sweep_space_is_tight(&f.space));
        fake.away = cases[i].away;
        run(&f);
        assert_int_equal(f.err, cases[i].err);
        assert_non_null(strstr(f.why, cases[i].why));
        assert_int_equal(f.rooms, 1);
        fini(&f);
    }
}

static void test_full_from_the_start(void **state)
{
    struct fixture f;

    (void)state;
    init(&f, 1024 * 1024);
    assert_true(f.is_over);
    assert_int_equal(f.err, ERR_SYSTEM);
    assert_int_equal(f.rooms, 0);
    assert_non_null(strstr(f.why, "--max-db-size"));
    fini(&f);
}

static int setup(void **state)
{
    (void)state;
    return secret_init() == ERR_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_tight_and_gone),
                                       cmocka_unit_test(test_full_from_the_start)};

    return cmocka_run_group_tests(tests, setup, NULL);
}
