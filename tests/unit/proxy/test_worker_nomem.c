/* SPDX-License-Identifier: Apache-2.0 */
/* The orders of a worker's thread that must not fail, and the reports that somebody waits for, on
 * both sides without any memory: none needs it, none is lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/secret.h"
#include "failing_alloc.h"
#include "kms/manager.h"
#include "proxy/worker.h"

#define REPORTS_MAX 16

static struct loop loop;
static struct mailbox control;
static struct settings settings;
static struct proxy_env env;
static struct budget budget;
static struct worker *worker;
static struct kms_manager *manager;
static struct ruleset *rules;
static struct worker_report reports[REPORTS_MAX];
static unsigned report_count, seen_count;

static void on_report(void *arg, const struct worker_report *r)
{
    (void)arg;
    assert_true(report_count < REPORTS_MAX);
    reports[report_count++] = *r;
}

static const struct worker_report *next_report(enum worker_event want)
{
    const struct worker_report *r = &reports[seen_count];
    uint64_t end = loop_hrtime_ns() + 20ull * 1000000000;

    while (report_count == seen_count) {
        CHECK(loop_hrtime_ns() < end);
        uv_run(&loop.uv, UV_RUN_ONCE);
    }
    seen_count++;
    assert_int_equal(r->event, want);
    assert_ptr_equal(r->worker, worker);
    return r;
}

/* --- the worker's thread runs out of memory ----------------------------------------------------
 */

static void fail_all(struct mail *self, bool delivered)
{
    (void)self;
    CHECK(delivered);
    alloc_fail_from(1);
}

static void work_again(struct mail *self, bool delivered)
{
    (void)self;
    CHECK(delivered);
    (void)alloc_recover();
}

static struct mail failing = {.deliver = fail_all}, working = {.deliver = work_again};

/* --- life ------------------------------------------------------------------------------------- */

static struct ruleset *load_rules(void)
{
    static const char yaml[] =
        "apiVersion: apiserver.config.k8s.io/v1\n"
        "kind: EncryptionConfiguration\n"
        "resources:\n"
        "- resources: [secrets]\n"
        "  providers:\n"
        "  - aesgcm: {keys: [{name: k, secret: AAECAwQFBgcICQoLDA0ODw==}]}\n";
    const struct enc_options options = {.is_reload = false};
    const struct key_rules_opts keys = {.etcd_prefix = "/registry"};
    const struct ruleset_opts o = {.allow_identity_writes = false};
    struct enc_config *config;
    struct key_rules *key_rules;
    struct ruleset *r;
    char why[256];

    assert_int_equal(enc_config_parse(bytes_str(yaml), &options, &config, why, sizeof why), ERR_OK);
    assert_int_equal(key_rules_build(config, &keys, &key_rules, why, sizeof why), ERR_OK);
    assert_int_equal(ruleset_new(config, key_rules, &o, &r, why, sizeof why), ERR_OK);
    return r;
}

static int setup(void **state)
{
    struct kms_manager_opts o = {.loop = &loop};

    (void)state;
    report_count = seen_count = 0;
    budget_init(&budget, 1 << 26, 1);
    env = (struct proxy_env){.settings = &settings, .budget = &budget};
    if (loop_init(&loop) != ERR_OK || mailbox_init(&control, &loop) != ERR_OK ||
        kms_manager_new(&o, &manager) != ERR_OK)
        return -1;
    rules = load_rules();
    return worker_start(&env, 0, &control, on_report, NULL, &worker) == ERR_OK ? 0 : -1;
}

static void set_flag(void *arg)
{
    *(bool *)arg = true;
}

static int teardown(void **state)
{
    bool is_closed = false;

    (void)state;
    alloc_fail_from(1);
    worker_stop(worker);
    (void)alloc_recover();
    kms_manager_close(manager, set_flag, &is_closed);
    while (!is_closed)
        uv_run(&loop.uv, UV_RUN_ONCE);
    ruleset_drop(rules);
    mailbox_close(&control);
    loop_stop(&loop);
    loop_run(&loop);
    mailbox_fini(&control);
    loop_fini(&loop);
    return 0;
}

static struct keyset *make_keyset(void *owner)
{
    const struct worker_report *r;

    assert_int_equal(worker_make_keyset(worker, rules, manager, owner), ERR_OK);
    r = next_report(WORKER_KEYSET_MADE);
    assert_ptr_equal(r->keys_owner, owner);
    return r->keys;
}

/* --- tests ------------------------------------------------------------------------------------ */

static void a_key_set_comes_and_goes_without_memory_for_reports(void **state)
{
    int first, second;
    struct keyset *old = make_keyset(&first), *new = make_keyset(&second);
    const struct worker_report *r;

    (void)state;
    mailbox_post(&worker->mailbox, &failing);
    assert_int_equal(worker_use_keyset(worker, old), ERR_OK);
    next_report(WORKER_KEYSET_IN_USE);
    assert_int_equal(worker_use_keyset(worker, new), ERR_OK);
    next_report(WORKER_KEYSET_IN_USE);
    r = next_report(WORKER_KEYSET_UNUSED);
    assert_ptr_equal(r->keys, old);
    alloc_fail_from(1);
    worker_free_keyset(worker, old);
    assert_int_equal(alloc_count(), 0);
    (void)alloc_recover();
    assert_ptr_equal(next_report(WORKER_KEYSET_FREED)->keys_owner, &first);
    mailbox_post(&worker->mailbox, &working);
}

static void a_key_set_that_cannot_be_made_is_reported_as_freed(void **state)
{
    int owner;

    (void)state;
    mailbox_post(&worker->mailbox, &failing);
    assert_int_equal(worker_make_keyset(worker, rules, manager, &owner), ERR_OK);
    assert_ptr_equal(next_report(WORKER_KEYSET_FREED)->keys_owner, &owner);
    mailbox_post(&worker->mailbox, &working);
    worker_free_keyset(worker, make_keyset(&owner)); /* and the next one can */
    next_report(WORKER_KEYSET_FREED);
}

/* Each allocation of the order: the socket or the rules are not taken, and nobody waits. */
static void an_order_without_memory_is_an_error(void **state)
{
    enum err e = ERR_NOMEM;
    int fd[2];

    (void)state;
    for (size_t n = 1; e == ERR_NOMEM; n++) {
        alloc_fail_once(n);
        e = worker_make_keyset(worker, rules, manager, NULL);
        assert_int_equal(alloc_recover(), e == ERR_NOMEM);
        assert_true(n < 20);
    }
    worker_free_keyset(worker, next_report(WORKER_KEYSET_MADE)->keys);
    next_report(WORKER_KEYSET_FREED);
    for (size_t n = 1; n <= 2; n++) {
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
        alloc_fail_once(n);
        assert_int_equal(worker_give_socket(worker, fd[0], NULL), ERR_NOMEM);
        assert_true(alloc_recover());
        assert_int_equal(read(fd[1], &e, 1), 0); /* closed */
        close(fd[1]);
    }
    assert_int_equal(report_count, 2);
}

static void a_connection_that_finds_no_memory_is_reported_as_closed(void **state)
{
    int fd[2];
    char byte;

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
    mailbox_post(&worker->mailbox, &failing);
    assert_int_equal(worker_give_socket(worker, fd[0], NULL), ERR_OK);
    next_report(WORKER_LINK_CLOSED);
    assert_int_equal(read(fd[1], &byte, 1), 0);
    close(fd[1]);
    mailbox_post(&worker->mailbox, &working);
}

static void draining_needs_no_memory(void **state)
{
    (void)state;
    mailbox_post(&worker->mailbox, &failing);
    alloc_fail_from(1);
    worker_drain(worker, 1000);
    assert_int_equal(alloc_count(), 0);
    (void)alloc_recover();
    next_report(WORKER_DRAINED);
}

static int group_setup(void **state)
{
    (void)state;
    return secret_init() == ERR_OK ? 0 : -1;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_key_set_comes_and_goes_without_memory_for_reports),
        TEST(a_key_set_that_cannot_be_made_is_reported_as_freed),
        TEST(an_order_without_memory_is_an_error),
        TEST(a_connection_that_finds_no_memory_is_reported_as_closed),
        TEST(draining_needs_no_memory),
    };

    return cmocka_run_group_tests(tests, group_setup, NULL);
}
