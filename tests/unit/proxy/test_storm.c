/* SPDX-License-Identifier: Apache-2.0 */
/* Many things at once, in an order that nobody thought of: clients that call, stop in the middle of
 * a message, read nothing, give up, say GOAWAY or are gone; an etcd that answers in pieces, resets,
 * breaks off, says GOAWAY with any last id, changes its SETTINGS, is lost, silent or away; a plugin
 * that does not answer; little memory. When all of them behave again every unary call comes to its
 * end, what etcd has for a watch gets through, and nothing stays behind (rig_fini). */
#include "storm.h"

#define STEPS 400

/* --- the plugin, and time --------------------------------------------------------------------- */

static void plugin_any(void)
{
    static const enum fake_how hows[] = {FAKE_ANSWERS, FAKE_ANSWERS, FAKE_SILENT, FAKE_FAILS,
                                         FAKE_RESETS};

    r.plugin.decrypt.how = hows[storm_any(ARRAY_LEN(hows))];
    if (storm_one_in(2))
        fake_speak(&r.plugin);
}

static void time_passes(void)
{
    switch (storm_any(8)) {
    case 0:
        rig_pass(&r, storm_any(300));
        return;
    case 1:
        rig_settle(&r);
        return;
    case 2:
        if (r.how == ETCD_SILENT || r.how == ETCD_GREETS) /* dialled again and again */
            r.how = ETCD_SPEAKS;
        if (storm_one_in(8))
            rig_pass_in(&r, storm_any(40000), 100);
        return;
    default:
        for (unsigned i = storm_one_in(2) ? storm_any(4) : 0; i > 0; i--)
            rig_turn(&r);
        return;
    }
}

static void step(void)
{
    struct storm_job *j;
    uint32_t what = storm_any(100);

    storm_etcd_listens();
    if (what < 25) {
        for (unsigned i = storm_one_in(4) ? 12 : 1; i > 0; i--)
            storm_call();
    } else if (what < 45) {
        j = storm_any_open(storm_client_jobs, storm_client_count);
        if (j != NULL)
            storm_client_goes_on(j);
    } else if (what < 90) {
        j = storm_any_open(storm_etcd_jobs, storm_etcd_count);
        if (j != NULL)
            storm_etcd_goes_on(j);
    } else if (what < 92) {
        storm_connect();
    } else if (what < 94) {
        storm_client_holds_window();
    } else if (what < 95) {
        storm_client_ends();
    } else if (what < 98) {
        storm_etcd_changes();
    } else {
        plugin_any();
    }
    time_passes();
}

/* --- the calm behind it ----------------------------------------------------------------------- */

static void all_behave(void)
{
    r.how = ETCD_SPEAKS;
    if (r.servers[0].listener == NULL)
        rig_etcd_back(&r);
    r.plugin.decrypt.how = FAKE_ANSWERS;
    fake_speak(&r.plugin);
    storm_clients_behave();
}

static void every_unary_call_ends(void)
{
    for (unsigned i = 0; i < 1200 && storm_open_calls() > 0; i++) {
        storm_etcd_answers();
        rig_pass(&r, 50);
    }
    for (size_t i = 0; i < storm_client_count; i++)
        if (storm_is_open(&storm_client_jobs[i]) && storm_client_jobs[i].kind != K_WATCH)
            fail_msg("call %zu of kind %d hangs", i, storm_client_jobs[i].kind);
}

static void what_is_watched_gets_through(void)
{
    for (unsigned k = 0; k < 20; k++) {
        storm_etcd_tells();
        rig_pass(&r, 10);
    }
    rig_pass_in(&r, 20000, 100);
    storm_etcd_check();
}

static void jobs_free(struct storm_job *jobs, size_t count)
{
    for (size_t i = 0; i < count; i++)
        buf_free(&jobs[i].out);
}

static void storm(uint64_t number)
{
    static const uint64_t limits[] = {2u << 20, 8u << 20, 64u << 20, LIMIT_MEMORY};

    storm_seed = number;
    (void)storm_any(2);
    storm_client_count = 0;
    storm_etcd_init();
    rig_init(&r);
    rig_limit(&r, limits[storm_any(ARRAY_LEN(limits))]);
    if (storm_one_in(2))
        r.settings.stream_threshold = 4096;
    if (storm_one_in(2))
        r.settings.stall_timeout_ms = 3000;
    r.etcd_opts.max_streams = storm_one_in(3) ? 3 : 500;
    if (storm_one_in(3))
        r.etcd_opts.conn_window = 65535;
    for (unsigned i = 0; i < 3; i++)
        (void)rig_client_of(&r, (uint8_t)storm_any(2));
    for (unsigned i = 0; i < STEPS; i++)
        step();
    all_behave();
    every_unary_call_ends();
    what_is_watched_gets_through();
    if (storm_one_in(3)) {
        worker_drain(r.w, 5000);
        rig_pass(&r, 6000);
        assert_int_equal(r.drained_count, 1);
    }
    jobs_free(storm_client_jobs, storm_client_count);
    jobs_free(storm_etcd_jobs, storm_etcd_count);
    rig_fini(&r);
}

/* The same few each time; STORM_FROM and STORM_COUNT are for those who hunt. */
static void test_storms(void **state)
{
    const char *from = getenv("STORM_FROM"), *count = getenv("STORM_COUNT");
    uint64_t first = from == NULL ? 1 : strtoull(from, NULL, 10);
    uint64_t n = count == NULL ? 10 : strtoull(count, NULL, 10);

    (void)state;
    storm_filler = malloc(STORM_FILLER);
    assert_non_null(storm_filler);
    memset(storm_filler, 'x', STORM_FILLER);
    for (uint64_t i = first; i < first + n; i++) {
        print_message("storm %llu\n", (unsigned long long)i); /* to repeat one that failed */
        storm(i);
    }
    free(storm_filler);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_storms),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
