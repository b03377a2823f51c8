/* SPDX-License-Identifier: Apache-2.0 */
/* A server that is a proxy of ours is not asked for anything; but where a proxy was, as while
 * servers move, etcd may be later on. */
#include "sweep/etcd.h"

#include "fake_clock.h"
#include "fake_etcd.h"

#define REFUSED_MS 60000u

struct fixture {
    struct fake_site site;
    struct sweep_etcd *etcd;
    struct sweep_call call;
    struct net_url urls[2];
    enum err err;
};

static void on_answer(void *arg, const struct client_answer *a)
{
    struct fixture *f = arg;

    f->err = a->err;
    f->site.is_over = true;
}

static enum err ask(struct fixture *f)
{
    f->site.is_over = false;
    sweep_call_start(&f->call, f->etcd, ETCD_RANGE_PATH, bytes_of(NULL, 0), 4096, on_answer, f);
    for (int i = 0; i < 1000 && !f->site.is_over; i++) /* no time passes */
        (void)uv_run(&f->site.loop.uv, UV_RUN_NOWAIT);
    assert_true(f->site.is_over);
    return f->err;
}

static void begin(struct fixture *f, size_t url_count)
{
    const struct sweep_etcd_opts o = {.loop = &f->site.loop,
                                      .urls = f->urls,
                                      .url_count = url_count,
                                      .first_ms = 1000,
                                      .away_ms = 1000};
    const char *reason;

    *f = (struct fixture){0};
    fake_reset();
    fake_site_init(&f->site);
    fake.connection = 1;
    assert_int_equal(net_url_parse("http://127.0.0.1:1", &f->urls[0], &reason), ERR_OK);
    assert_int_equal(net_url_parse("http://127.0.0.1:2", &f->urls[1], &reason), ERR_OK);
    assert_int_equal(sweep_etcd_new(&o, &f->etcd), ERR_OK);
}

static void end(struct fixture *f)
{
    sweep_etcd_close(f->etcd);
    fake_site_fini(&f->site);
}

/* It is asked who it is once a minute, however often there is something to ask. */
static void test_stays_a_proxy(void **state)
{
    struct fixture f;

    (void)state;
    begin(&f, 1);
    fake.is_proxy = true;
    for (unsigned minute = 1; minute <= 3; minute++) {
        for (int i = 0; i < 4; i++) {
            assert_int_equal(ask(&f), ERR_CONFIG);
            assert_int_equal(fake.calls, minute);
        }
        fake_clock_pass(&f.site.loop, REFUSED_MS);
    }
    assert_int_equal(fake.ranges, 0);
    end(&f);
}

static void test_etcd_again(void **state)
{
    struct fixture f;

    (void)state;
    begin(&f, 1);
    fake.is_proxy = true;
    assert_int_equal(ask(&f), ERR_CONFIG);
    fake.is_proxy = false;
    assert_int_equal(ask(&f), ERR_CONFIG);
    fake_clock_pass(&f.site.loop, REFUSED_MS);
    assert_int_equal(ask(&f), ERR_OK);
    assert_int_equal(fake.ranges, 1);
    end(&f);
}

static enum fake_other first_is_proxy(const char *port, const char *path, struct bytes request,
                                      struct etcd_message *answer)
{
    (void)path, (void)request, (void)answer;
    fake.is_proxy = strcmp(port, "1") == 0;
    return FAKE_HERE;
}

/* One of several: the next one is asked then. */
static void test_of_two(void **state)
{
    struct fixture f;

    (void)state;
    begin(&f, 2);
    fake.other = first_is_proxy;
    assert_int_equal(ask(&f), ERR_CONFIG);
    fake_clock_pass(&f.site.loop, REFUSED_MS);
    assert_int_equal(ask(&f), ERR_OK);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_stays_a_proxy),
                                       cmocka_unit_test(test_etcd_again),
                                       cmocka_unit_test(test_of_two)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
