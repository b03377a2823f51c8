/* SPDX-License-Identifier: Apache-2.0 */
/* A signal may come in any turn of the loop, whatever etcd answers in the same one: the run ends,
 * nothing is asked any more, and its report is true. */
#include "tools/cluster.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/secret.h"
#include "fake_etcd.h"
#include "tools/reencrypt.h"
#include "tools/verify.h"

#define VALUES 12
#define TURNS_MAX 2000u /* far more than a run takes */
#define HANGS_S 100u    /* then something was left that keeps the loop going */

/* The signal comes in the turn-th turn. Its task is the first one of each turn. */
static struct {
    struct tools_cluster *c;
    struct loop_task task;
    unsigned turn, count;
    bool has_come;
} signal_at;

static void on_turn(struct loop_task *t)
{
    struct tools_cluster *c = signal_at.c;

    if (c->is_over)
        return;
    if (++signal_at.count < signal_at.turn) {
        loop_task_want(&c->loop, t);
        return;
    }
    signal_at.has_come = true;
    c->on_interrupt(c->arg);
}

static enum fake_other other(const char *port, const char *path, struct bytes request,
                             struct etcd_message *answer)
{
    (void)port;
    if (strcmp(path, ETCD_STATUS_PATH) == 0) {
        etcd_message_put_varint(answer, 12, 1u << 30); /* the quota: nobody asks for metrics */
        return FAKE_ANSWERED;
    }
    if (memmem(request.p, request.n, "/place/lock", 11) != NULL)
        return FAKE_ANSWERED; /* proxies are told that values were rewritten */
    return FAKE_HERE;
}

static void fill(int values)
{
    uint8_t sealed[FAKE_VALUE];
    char key[FAKE_KEY];

    fake_reset();
    fake.connection = 1;
    fake.other = other;
    for (int i = 0; i < values; i++) {
        snprintf(key, sizeof key, "/registry/secrets/ns/%02d", i);
        fake_put(key, sealed, fake_seal(FAKE_OLD, key, "plain", sealed), 0);
    }
}

/* Runs the tool; returns its result. */
typedef int (*run_fn)(struct tools_cluster *c, FILE *out);

static int verify(struct tools_cluster *c, FILE *out)
{
    const struct tools_verify_opts o = {
        .is_open = true, .is_json = true, .version = "1", .out = out, .beside = out};

    return (int)tools_verify(c, &o);
}

static int reencrypt(struct tools_cluster *c, FILE *out)
{
    const struct tools_reencrypt_opts o = {.parallel = 2, .is_json = true, .out = out};

    return (int)tools_reencrypt(c, &o);
}

static int dry_run(struct tools_cluster *c, FILE *out)
{
    const struct tools_reencrypt_opts o = {
        .is_dry_run = true, .parallel = 2, .is_json = true, .out = out};

    return (int)tools_reencrypt(c, &o);
}

/* One run with the signal in that turn. False: it was over before. */
static bool run_with_signal(run_fn run, int values, unsigned turn, char **report)
{
    static char url[] = "http://127.0.0.1:1", place[] = "/place";
    static char *urls[] = {url};
    const struct settings o = {.etcd_servers = urls, .etcd_server_count = 1, .converge_key = place};
    static const struct sweep_user nobody = {NULL, NULL};
    struct ruleset *rules = fake_rules(true);
    struct tools_cluster c;
    size_t len;
    FILE *out = open_memstream(report, &len);
    int result;

    fill(values);
    assert_non_null(out);
    assert_int_equal(
        tools_cluster_init(&c, &o, rules, TOOLS_WANTS_ETCD | TOOLS_WANTS_KEYS, &nobody), ERR_OK);
    signal_at.c = &c;
    signal_at.turn = turn;
    signal_at.count = 0;
    signal_at.has_come = false;
    loop_task_init(&signal_at.task, on_turn);
    loop_task_want(&c.loop, &signal_at.task);
    result = run(&c, out);
    assert_true(c.err == ERR_OK || (c.err == ERR_CLOSED && signal_at.has_come));
    assert_int_equal(result == 0, c.err != ERR_OK); /* 0 is each tool's for a run that has failed */
    tools_cluster_fini(&c);
    ruleset_drop(rules);
    fclose(out);
    return signal_at.has_come;
}

/* In every turn from the first one to the last. has_time: the report says how long it took. */
static void run_each(run_fn run, int values, bool has_time)
{
    static const char time_of[] = "\"milliseconds\":";
    unsigned turn = 1;
    bool is_cut = true;

    for (; is_cut; turn++) {
        char *report = NULL;
        const char *at;

        assert_true(turn < TURNS_MAX);
        is_cut = run_with_signal(run, values, turn, &report);
        at = strstr(report, time_of);
        assert_int_equal(at != NULL, has_time);
        if (has_time)
            assert_true(strtoll(at + strlen(time_of), NULL, 10) < HANGS_S * 1000);
        free(report);
    }
    assert_true(turn > 5); /* there were some */
}

/* An etcd with values, and one where they are looked for elsewhere. */
static void run_all(run_fn run, bool has_time)
{
    run_each(run, VALUES, has_time);
    run_each(run, 0, has_time);
}

static void test_verify(void **state)
{
    (void)state;
    run_all(verify, false);
}

static void test_reencrypt(void **state)
{
    (void)state;
    run_all(reencrypt, true);
}

static void test_dry_run(void **state)
{
    (void)state;
    run_all(dry_run, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_verify),
                                       cmocka_unit_test(test_reencrypt),
                                       cmocka_unit_test(test_dry_run)};

    (void)alarm(HANGS_S);
    if (secret_init() != ERR_OK)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
