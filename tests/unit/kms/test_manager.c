/* SPDX-License-Identifier: Apache-2.0 */
/* Manager and key rings on one loop against a fake plugin: what is asked how often, what is
 * remembered, what is waited for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/metrics.h"
#include "base/secret.h"
#include "fake_clock.h"
#include "fake_plugin.h"
#include "kms/kms_int.h"
#include "kms/manager.h"

#define RINGS 2

struct fixture {
    struct loop loop;
    struct mailbox worker_box;
    struct fake_plugin fake;
    struct provider provider;
    struct kms_manager *manager;
    struct keyring *rings[RINGS];
    bool is_primed, is_closed;
};

static struct fixture f;

/* A wait with what it became. */
struct wish {
    struct key_wait wait;
    uint64_t began_ms, took_ms;
    bool is_done;
};

static unsigned done_count;

static void on_done(struct key_wait *w)
{
    struct wish *wish = CONTAINER_OF(w, struct wish, wait);

    assert_false(wish->is_done);
    assert_false(w->is_pending);
    wish->is_done = true;
    wish->took_ms = loop_now_ms(&f.loop) - wish->began_ms;
    done_count++;
}

static enum err get(int ring, const char *wrapped, struct wish *wish)
{
    struct dek_id id = {
        .type = DEK_HKDF_SEED, .key_id = BYTES_LIT("old"), .wrapped = bytes_str(wrapped)};
    enum err e;

    *wish = (struct wish){.wait.on_done = on_done, .began_ms = loop_now_ms(&f.loop)};
    e = keyring_get(f.rings[ring], &f.provider, &id, &wish->wait);
    assert_false(wish->is_done);
    assert_int_equal(wish->wait.is_pending, e == ERR_AGAIN);
    return e;
}

#define SECRET_A "an old wrapped seed of the vault"
#define SECRET_B "another old seed that is wrapped"

static void turn(void)
{
    fake_clock_turn(&f.loop, 1000);
}

static void until(const unsigned *n, unsigned want)
{
    fake_clock_until_count(&f.loop, n, want);
}

static void until_true(const bool *flag)
{
    fake_clock_until(&f.loop, flag);
}

static void pass_ms(uint64_t ms)
{
    fake_clock_pass(&f.loop, ms);
}

static struct wish fetch(int ring, const char *wrapped)
{
    static struct wish wish;
    enum err e = get(ring, wrapped, &wish);

    if (e == ERR_AGAIN)
        until_true(&wish.is_done);
    else
        wish.wait.err = e;
    return wish;
}

static void on_primed(void *arg)
{
    *(bool *)arg = true;
}

static void until_healthy(void)
{
    struct kms_plugin_state s;

    do {
        turn();
        kms_manager_state(f.manager, 0, &s);
    } while (!s.is_healthy);
    pass_ms(5); /* the news */
}

/* Asks for a check until there is one: the last result may be a few ms too young. */
static void check_now(void)
{
    unsigned before = f.fake.status.calls;

    while (f.fake.status.calls == before) {
        kms_manager_check(f.manager);
        pass_ms(20);
    }
    pass_ms(300);
}

static void open_manager(const char *endpoint)
{
    struct kms_plugin_opts plugin = {
        .provider = &f.provider, .endpoint = endpoint, .timeout_ms = 1000};
    struct kms_manager_opts o = {.loop = &f.loop, .plugins = &plugin, .plugin_count = 1};

    assert_int_equal(kms_manager_new(&o, &f.manager), ERR_OK);
    kms_manager_on_primed(f.manager, on_primed, &f.is_primed);
    for (int i = 0; i < RINGS; i++) {
        assert_int_equal(
            keyring_new(&f.loop, kms_manager_mailbox(f.manager), &f.worker_box, 1, &f.rings[i]),
            ERR_OK);
        assert_int_equal(kms_manager_join(f.manager, &f.worker_box, f.rings[i]), ERR_OK);
    }
}

static int setup_ill(void **state)
{
    (void)state;
    memset(&f, 0, sizeof f);
    done_count = 0;
    f.provider = (struct provider){.kind = PROVIDER_KMS_V2, .name = "fake"};
    if (loop_init(&f.loop) != ERR_OK || mailbox_init(&f.worker_box, &f.loop) != ERR_OK)
        return -1;
    fake_start(&f.fake, &f.loop);
    f.fake.status.how = FAKE_FAILS;
    f.fake.status.code = GRPC_INTERNAL;
    open_manager(f.fake.endpoint);
    until_true(&f.is_primed);
    return 0;
}

static int setup(void **state)
{
    (void)state;
    memset(&f, 0, sizeof f);
    done_count = 0;
    f.provider = (struct provider){.kind = PROVIDER_KMS_V2, .name = "fake"};
    if (loop_init(&f.loop) != ERR_OK || mailbox_init(&f.worker_box, &f.loop) != ERR_OK)
        return -1;
    fake_start(&f.fake, &f.loop);
    open_manager(f.fake.endpoint);
    until_true(&f.is_primed);
    until_healthy();
    return 0;
}

static void on_closed(void *arg)
{
    *(bool *)arg = true;
}

static int teardown(void **state)
{
    (void)state;
    for (int i = 0; i < RINGS; i++) {
        if (f.rings[i] != NULL)
            keyring_free(f.rings[i]);
    }
    if (f.manager != NULL) {
        kms_manager_close(f.manager, on_closed, &f.is_closed);
        assert_false(f.is_closed);
        until_true(&f.is_closed);
    }
    mailbox_close(&f.worker_box);
    fake_stop(&f.fake);
    loop_stop(&f.loop);
    loop_run(&f.loop);
    mailbox_fini(&f.worker_box);
    fake_fini(&f.fake);
    loop_fini(&f.loop);
    assert_int_equal(metric_get(METRIC_dek_cache_size), 0);
    return 0;
}

/* --- write keys ------------------------------------------------------------------------------- */

static void the_write_key_comes_to_every_ring_and_costs_no_call(void **state)
{
    struct dek *a, *b;
    struct key_wait w = {0};

    (void)state;
    assert_int_equal(keyring_write_key(f.rings[0], &f.provider, &a), ERR_OK);
    assert_int_equal(keyring_write_key(f.rings[1], &f.provider, &b), ERR_OK);
    assert_ptr_equal(a, b);
    assert_true(bytes_eq(a->id.key_id, BYTES_LIT("A")));
    assert_ptr_equal(keyring_state(f.rings[0], &f.provider), a);
    assert_int_equal(keyring_get(f.rings[0], &f.provider, &a->id, &w), ERR_OK);
    assert_ptr_equal(w.dek, a);
    dek_drop(w.dek);
    assert_int_equal(f.fake.decrypt.calls, 0);
    assert_int_equal(metric_get(METRIC_dek_cache_size), 1);
}

static void a_ring_that_joins_late_is_told_at_once(void **state)
{
    struct keyring *late;
    struct dek *dek;

    (void)state;
    assert_int_equal(keyring_new(&f.loop, kms_manager_mailbox(f.manager), &f.worker_box, 1, &late),
                     ERR_OK);
    assert_int_equal(keyring_write_key(late, &f.provider, &dek), ERR_NO_WRITE_KEY);
    assert_int_equal(kms_manager_join(f.manager, &f.worker_box, late), ERR_OK);
    pass_ms(5);
    assert_int_equal(keyring_write_key(late, &f.provider, &dek), ERR_OK);
    kms_manager_leave(f.manager, late);
    keyring_free(late);
}

static void post_news(struct keyring *r, struct dek *dek, uint64_t expiry_ms)
{
    struct kms_news *n = calloc(1, sizeof *n);

    n->ring = kms__ring_handle(r);
    n->dek = dek == NULL ? NULL : dek_ref(dek);
    n->expiry_ms = expiry_ms;
    n->mail.deliver = kms__news_deliver;
    mailbox_post(&f.worker_box, &n->mail);
}

static void an_expired_write_key_is_refused_but_still_reads(void **state)
{
    struct dek *dek, *none;
    struct key_wait w = {0};
    uint64_t now;

    (void)state;
    assert_int_equal(keyring_write_key(f.rings[0], &f.provider, &dek), ERR_OK);
    now = loop_now_ms(&f.loop);
    post_news(f.rings[0], dek, now + 100);
    pass_ms(10);
    assert_int_equal(keyring_write_key(f.rings[0], &f.provider, &none), ERR_OK);
    while (loop_now_ms(&f.loop) <= now + 100)
        pass_ms(5);
    assert_int_equal(keyring_write_key(f.rings[0], &f.provider, &none), ERR_NO_WRITE_KEY);
    assert_null(none);
    assert_ptr_equal(keyring_state(f.rings[0], &f.provider), dek);
    assert_int_equal(keyring_get(f.rings[0], &f.provider, &dek->id, &w), ERR_OK);
    dek_drop(w.dek);
    /* the old key_id after expiry: the same DEK writes again */
    post_news(f.rings[0], dek, loop_now_ms(&f.loop) + 1000);
    pass_ms(10);
    assert_int_equal(keyring_write_key(f.rings[0], &f.provider, &none), ERR_OK);
}

static void a_rotation_reaches_the_rings_and_old_values_cost_nothing(void **state)
{
    struct dek *old, *new;
    struct key_wait w = {0};

    (void)state;
    /* healthz is bad, so that the result is kept for 3 s only */
    f.fake.status.how = FAKE_ANSWERS;
    f.fake.healthz = "ill";
    check_now();
    assert_int_equal(keyring_write_key(f.rings[0], &f.provider, &old), ERR_OK);
    dek_ref(old);
    f.fake.key_id = "B";
    kms_manager_check(f.manager); /* within 3 s of a bad result: no call */
    pass_ms(100);
    assert_int_equal(f.fake.status.calls, 2);
    check_now();
    assert_int_equal(f.fake.status.calls, 3);
    assert_int_equal(keyring_write_key(f.rings[0], &f.provider, &new), ERR_OK);
    assert_true(bytes_eq(new->id.key_id, BYTES_LIT("B")));
    assert_int_equal(keyring_get(f.rings[0], &f.provider, &old->id, &w), ERR_OK);
    assert_ptr_equal(w.dek, old);
    dek_drop(w.dek);
    dek_drop(old);
    assert_int_equal(f.fake.decrypt.calls, 0);
}

/* --- reading ---------------------------------------------------------------------------------- */

static void equal_wishes_are_one_call(void **state)
{
    struct wish w[40];
    uint8_t secret[32];

    (void)state;
    f.fake.decrypt.delay_ms = 50;
    for (int i = 0; i < 40; i++)
        assert_int_equal(get(i % RINGS, SECRET_A, &w[i]), ERR_AGAIN);
    until(&done_count, 40);
    assert_int_equal(f.fake.decrypt.calls, 1);
    assert_string_equal(f.fake.last_key_id, "old");
    fake_wrap((const uint8_t *)SECRET_A, 32, secret);
    for (int i = 0; i < 40; i++) {
        assert_int_equal(w[i].wait.err, ERR_OK);
        assert_memory_equal(w[i].wait.dek->secret, secret, 32);
        dek_drop(w[i].wait.dek);
    }
}

static void only_what_opened_a_value_is_kept(void **state)
{
    struct wish w = fetch(0, SECRET_A);

    (void)state;
    assert_int_equal(w.wait.err, ERR_OK);
    dek_drop(w.wait.dek); /* not confirmed */
    w = fetch(0, SECRET_A);
    assert_int_equal(f.fake.decrypt.calls, 2);
    keyring_confirm(f.rings[0], &f.provider, w.wait.dek);
    keyring_confirm(f.rings[0], &f.provider, w.wait.dek);
    dek_drop(w.wait.dek);
    w = fetch(0, SECRET_A);
    assert_false(w.is_done); /* at once */
    dek_drop(w.wait.dek);
    pass_ms(10);
    w = fetch(1, SECRET_A); /* the other ring has it of the manager */
    assert_int_equal(w.wait.err, ERR_OK);
    dek_drop(w.wait.dek);
    assert_int_equal(f.fake.decrypt.calls, 2);
    assert_int_equal(metric_get(METRIC_dek_cache_size), 2);
}

static void ids_that_differ_anywhere_are_different_deks(void **state)
{
    struct dek_annotation a = {BYTES_LIT("a.b"), BYTES_LIT("c")};
    struct dek_id ids[] = {
        {DEK_HKDF_SEED, BYTES_LIT("k"), BYTES_LIT(SECRET_A), 0, NULL},
        {DEK_HKDF_SEED, BYTES_LIT("l"), BYTES_LIT(SECRET_A), 0, NULL},
        {DEK_AES_GCM_KEY, BYTES_LIT("k"), BYTES_LIT(SECRET_A), 0, NULL},
        {DEK_HKDF_SEED, BYTES_LIT("k"), BYTES_LIT(SECRET_B), 0, NULL},
        {DEK_HKDF_SEED, BYTES_LIT("k"), BYTES_LIT(SECRET_A), 1, &a},
    };
    struct wish w[ARRAY_LEN(ids)];

    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(ids); i++) {
        w[i] = (struct wish){.wait.on_done = on_done};
        assert_int_equal(keyring_get(f.rings[0], &f.provider, &ids[i], &w[i].wait), ERR_AGAIN);
    }
    until(&done_count, ARRAY_LEN(ids));
    assert_int_equal(f.fake.decrypt.calls, ARRAY_LEN(ids));
    for (unsigned i = 0; i < ARRAY_LEN(ids); i++) {
        assert_true(dek_id_eq(&w[i].wait.dek->id, &ids[i]));
        keyring_confirm(f.rings[0], &f.provider, w[i].wait.dek);
        dek_drop(w[i].wait.dek);
    }
    for (unsigned i = 0; i < ARRAY_LEN(ids); i++) {
        assert_int_equal(keyring_get(f.rings[0], &f.provider, &ids[i], &w[i].wait), ERR_OK);
        assert_true(dek_id_eq(&w[i].wait.dek->id, &ids[i]));
        dek_drop(w[i].wait.dek);
    }
}

static void a_refusal_is_remembered_for_3_s_by_every_ring(void **state)
{
    uint64_t began;
    struct wish w;

    (void)state;
    f.fake.decrypt.how = FAKE_FAILS;
    f.fake.decrypt.code = GRPC_NOT_FOUND;
    w = fetch(0, SECRET_A);
    began = loop_now_ms(&f.loop);
    assert_int_equal(w.wait.err, ERR_KMS_ERROR);
    assert_null(w.wait.dek);
    f.fake.decrypt.how = FAKE_ANSWERS;
    assert_int_equal(get(0, SECRET_A, &w), ERR_KMS_ERROR);
    w = fetch(1, SECRET_A);
    assert_int_equal(w.wait.err, ERR_KMS_ERROR);
    assert_int_equal(get(1, SECRET_A, &w), ERR_KMS_ERROR);
    assert_int_equal(f.fake.decrypt.calls, 1);
    w = fetch(0, SECRET_B); /* another DEK */
    assert_int_equal(w.wait.err, ERR_OK);
    dek_drop(w.wait.dek);
    while (loop_now_ms(&f.loop) < began + LIMIT_NEGATIVE_MS + 50)
        pass_ms(20);
    w = fetch(1, SECRET_A); /* the second hand of a refusal does not make it last longer */
    assert_int_equal(w.wait.err, ERR_OK);
    dek_drop(w.wait.dek);
}

static void a_secret_of_a_wrong_size_is_an_error_that_is_remembered(void **state)
{
    struct wish w;

    (void)state;
    f.fake.decrypt.how = FAKE_SHORT;
    w = fetch(0, SECRET_A);
    assert_int_equal(w.wait.err, ERR_BAD_DEK_SIZE);
    assert_int_equal(get(0, SECRET_A, &w), ERR_BAD_DEK_SIZE);
    f.fake.decrypt.how = FAKE_GARBAGE;
    w = fetch(0, SECRET_B);
    assert_int_equal(w.wait.err, ERR_KMS_ERROR);
    assert_int_equal(f.fake.decrypt.calls, 2);
}

static void a_short_outage_is_waited_out_and_not_remembered(void **state)
{
    struct wish w;

    (void)state;
    f.fake.decrypt.how = FAKE_FAILS;
    f.fake.decrypt.code = GRPC_UNAVAILABLE;
    assert_int_equal(get(0, SECRET_A, &w), ERR_AGAIN);
    pass_ms(500);
    assert_false(w.is_done);
    assert_in_range(f.fake.decrypt.calls, 3, 6); /* 0, 50, 150, 350 ms */
    f.fake.decrypt.how = FAKE_ANSWERS;
    until_true(&w.is_done);
    assert_int_equal(w.wait.err, ERR_OK);
    assert_true(w.took_ms < 2000);
    dek_drop(w.wait.dek);
}

static void hang_up_and_timeout_are_tried_again(void **state)
{
    struct wish w;

    (void)state;
    f.fake.decrypt.how = FAKE_HANGS_UP;
    assert_int_equal(get(0, SECRET_A, &w), ERR_AGAIN);
    until(&f.fake.decrypt.calls, 2);
    f.fake.decrypt.how = FAKE_SILENT; /* the call's own timeout is 1 s */
    until(&f.fake.decrypt.calls, 3);
    f.fake.decrypt.how = FAKE_ANSWERS;
    until_true(&w.is_done);
    assert_int_equal(w.wait.err, ERR_OK);
    assert_in_range(w.took_ms, 1000, 4000);
    dek_drop(w.wait.dek);
}

static void gone_and_back(void **state)
{
    struct wish w;

    (void)state;
    fake_gone(&f.fake);
    pass_ms(20);
    assert_int_equal(get(0, SECRET_A, &w), ERR_AGAIN);
    pass_ms(1500);
    assert_false(w.is_done);
    fake_listen(&f.fake);
    until_true(&w.is_done);
    assert_int_equal(w.wait.err, ERR_OK);
    assert_true(w.took_ms < 3700); /* service is back within 2 s */
    dek_drop(w.wait.dek);
}

static void away_for_10_s_is_an_error_for_each_after_its_own_10_s(void **state)
{
    struct wish a, b;
    struct dek *dek;

    (void)state;
    fake_gone(&f.fake);
    assert_int_equal(get(0, SECRET_A, &a), ERR_AGAIN);
    pass_ms(2000);
    assert_int_equal(get(0, SECRET_A, &b), ERR_AGAIN);
    until_true(&a.is_done);
    assert_int_equal(a.wait.err, ERR_KMS_AWAY);
    assert_in_range(a.took_ms, 9990, 10300);
    assert_false(b.is_done);
    /* writes go on meanwhile */
    assert_int_equal(keyring_write_key(f.rings[0], &f.provider, &dek), ERR_OK);
    pass_ms(300);
    fake_listen(&f.fake);
    until_true(&b.is_done);
    assert_int_equal(b.wait.err, ERR_OK);
    dek_drop(b.wait.dek);
}

static void calls_are_bounded_and_the_rest_waits(void **state)
{
    static struct wish w[200];
    char wrapped[33];

    (void)state;
    f.fake.decrypt.delay_ms = 30;
    for (int i = 0; i < 200; i++) {
        snprintf(wrapped, sizeof wrapped, "%032d", i);
        assert_int_equal(get(0, wrapped, &w[i]), ERR_AGAIN);
    }
    until(&done_count, 200);
    assert_int_equal(f.fake.decrypt.calls, 200);
    assert_in_range(f.fake.decrypt.peak, 32, 64);
    for (int i = 0; i < 200; i++) {
        assert_int_equal(w[i].wait.err, ERR_OK);
        dek_drop(w[i].wait.dek);
    }
}

static void what_waits_is_bounded_in_bytes(void **state)
{
    static uint8_t big[32000];
    static struct wish w[1200];
    struct dek_annotation a = {BYTES_LIT("a.b"), bytes_of(big, sizeof big)};
    struct dek_id id = {.type = DEK_HKDF_SEED,
                        .key_id = BYTES_LIT("old"),
                        .annotation_count = 1,
                        .annotations = &a};
    unsigned refused = 0;
    char wrapped[33];

    (void)state;
    f.fake.decrypt.how = FAKE_SILENT;
    for (unsigned i = 0; i < ARRAY_LEN(w); i++) {
        snprintf(wrapped, sizeof wrapped, "%032u", i);
        id.wrapped = bytes_str(wrapped);
        w[i] = (struct wish){.wait.on_done = on_done};
        assert_int_equal(keyring_get(f.rings[0], &f.provider, &id, &w[i].wait), ERR_AGAIN);
    }
    pass_ms(300);
    for (unsigned i = 0; i < ARRAY_LEN(w); i++) {
        if (w[i].is_done) {
            assert_int_equal(w[i].wait.err, ERR_MEMORY_LIMIT);
            refused++;
        }
        keyring_cancel(&w[i].wait);
    }
    assert_in_range(refused, 150, 175); /* 32 MiB hold some 1,040 of them */
}

static void cancelled_waits_get_nothing_and_storms_of_them_are_one_call(void **state)
{
    struct wish w, keep;

    (void)state;
    f.fake.decrypt.how = FAKE_SILENT;
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(get(0, SECRET_A, &w), ERR_AGAIN);
        keyring_cancel(&w.wait);
        assert_false(w.wait.is_pending);
        keyring_cancel(&w.wait); /* harmless */
    }
    assert_int_equal(get(0, SECRET_A, &keep), ERR_AGAIN);
    until(&f.fake.decrypt.calls, 1);
    pass_ms(50);
    fake_speak(&f.fake);
    until_true(&keep.is_done);
    assert_int_equal(keep.wait.err, ERR_OK);
    dek_drop(keep.wait.dek);
    assert_int_equal(f.fake.decrypt.calls, 1);
    assert_int_equal(done_count, 1);
}

static struct wish *cancel_in_callback, *get_in_callback;

static void on_done_that_meddles(struct key_wait *w)
{
    on_done(w);
    keyring_cancel(&cancel_in_callback->wait);
    assert_int_equal(get(0, SECRET_B, get_in_callback), ERR_AGAIN);
}

static void callbacks_may_use_the_ring(void **state)
{
    struct wish a, b, c;

    (void)state;
    assert_int_equal(get(0, SECRET_A, &a), ERR_AGAIN);
    assert_int_equal(get(0, SECRET_A, &b), ERR_AGAIN);
    a.wait.on_done = on_done_that_meddles;
    cancel_in_callback = &b;
    get_in_callback = &c;
    until_true(&a.is_done);
    assert_false(b.wait.is_pending);
    until_true(&c.is_done);
    assert_false(b.is_done);
    dek_drop(a.wait.dek);
    dek_drop(c.wait.dek);
}

static void on_done_that_frees(struct key_wait *w)
{
    on_done(w);
    kms_manager_leave(f.manager, f.rings[0]);
    keyring_free(f.rings[0]);
    f.rings[0] = NULL;
}

static void the_last_callback_may_free_the_ring(void **state)
{
    struct wish a;

    (void)state;
    assert_int_equal(get(0, SECRET_A, &a), ERR_AGAIN);
    a.wait.on_done = on_done_that_frees;
    until_true(&a.is_done);
    dek_drop(a.wait.dek);
    pass_ms(10);
}

static void a_ring_may_go_while_its_answers_are_under_way(void **state)
{
    struct wish a;

    (void)state;
    f.fake.decrypt.how = FAKE_SILENT;
    assert_int_equal(get(0, SECRET_A, &a), ERR_AGAIN);
    until(&f.fake.decrypt.calls, 1);
    keyring_cancel(&a.wait);
    keyring_free(f.rings[0]); /* has not even left */
    fake_speak(&f.fake);
    pass_ms(50);
    kms_manager_leave(f.manager, f.rings[0]);
    f.rings[0] = NULL;
}

static void closing_with_everything_under_way(void **state)
{
    static struct wish w[100];
    char wrapped[33];

    (void)state;
    f.fake.decrypt.how = FAKE_SILENT;
    for (int i = 0; i < 100; i++) {
        snprintf(wrapped, sizeof wrapped, "%032d", i);
        assert_int_equal(get(0, wrapped, &w[i]), ERR_AGAIN);
    }
    until(&f.fake.decrypt.calls, 64);
    for (int i = 0; i < 100; i++)
        keyring_cancel(&w[i].wait);
}

static void a_full_cache_makes_room_in_the_secret_memory(void **state)
{
    static const size_t sizes[] = {2 << 20, 1 << 20, 512 << 10, 256 << 10};
    void *ballast[ARRAY_LEN(sizes)];
    unsigned failed = 0;
    char wrapped[33];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        ballast[i] = secret_alloc(sizes[i]);
        assert_non_null(ballast[i]);
    }
    /* more DEKs than the rest holds at once, one after the other */
    for (int i = 0; i < 1200; i++) {
        struct wish w;

        snprintf(wrapped, sizeof wrapped, "%032d", i);
        w = fetch(i % RINGS, wrapped);
        if (w.wait.err != ERR_OK) {
            assert_int_equal(w.wait.err, ERR_NOMEM);
            failed++;
            continue;
        }
        keyring_confirm(f.rings[i % RINGS], &f.provider, w.wait.dek);
        dek_drop(w.wait.dek);
    }
    assert_in_range(metric_get(METRIC_dek_cache_size), 200, 1000); /* so it was full */
    assert_in_range(failed, 0, 40);
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
        secret_free(ballast[i], sizes[i]);
}

/* --- without state ---------------------------------------------------------------------------- */

static void reads_wait_for_the_first_good_check(void **state)
{
    struct kms_plugin_state s;
    struct wish w;
    struct dek *dek;

    (void)state;
    kms_manager_state(f.manager, 0, &s);
    assert_false(s.is_healthy);
    assert_false(s.has_state);
    assert_string_equal(s.key_id_hash, "");
    assert_non_null(strstr(s.why, "to order"));
    assert_int_equal(keyring_write_key(f.rings[0], &f.provider, &dek), ERR_NO_WRITE_KEY);
    assert_null(keyring_state(f.rings[0], &f.provider));

    assert_int_equal(get(0, SECRET_A, &w), ERR_AGAIN);
    pass_ms(3100);
    assert_int_equal(f.fake.decrypt.calls, 0);
    assert_false(w.is_done);
    f.fake.status.how = FAKE_ANSWERS;
    check_now();
    until_true(&w.is_done);
    assert_int_equal(w.wait.err, ERR_OK);
    dek_drop(w.wait.dek);
    kms_manager_state(f.manager, 0, &s);
    assert_true(s.is_healthy);
    assert_true(s.has_state);
    assert_string_equal(s.key_id_hash,
                        "sha256:559aead08264d5795d3909718cdd05abd49572e84fe55590eef31a88a08fdffd");
    assert_string_equal(s.why, "");
}

static void without_state_for_10_s_reads_fail(void **state)
{
    struct wish w = fetch(0, SECRET_A);

    (void)state;
    assert_int_equal(w.wait.err, ERR_NO_STATE);
    assert_in_range(w.took_ms, 9990, 10300);
    assert_int_equal(f.fake.decrypt.calls, 0);
}

/* --- at rest ---------------------------------------------------------------------------------- */

static void at_rest_there_is_no_connection_but_for_a_read(void **state)
{
    struct wish w;
    struct dek *dek;
    unsigned checks = f.fake.status.calls;

    (void)state;
    assert_false(list_is_empty(&f.fake.conns));
    kms_manager_rest(f.manager);
    pass_ms(50);
    assert_true(list_is_empty(&f.fake.conns));
    assert_int_equal(keyring_write_key(f.rings[0], &f.provider, &dek), ERR_OK);
    for (int i = 0; i < 2; i++) {
        w = fetch(i, i == 0 ? SECRET_A : SECRET_B);
        assert_int_equal(w.wait.err, ERR_OK);
        dek_drop(w.wait.dek);
        pass_ms(50);
        assert_true(list_is_empty(&f.fake.conns));
    }
    assert_int_equal(f.fake.decrypt.calls, 2);
    /* Gone for a while: waited out, as ever. */
    fake_gone(&f.fake);
    assert_int_equal(get(0, "a third seed of thirty-two bytes", &w), ERR_AGAIN);
    pass_ms(200);
    fake_listen(&f.fake);
    until_true(&w.is_done);
    assert_int_equal(w.wait.err, ERR_OK);
    dek_drop(w.wait.dek);
    assert_int_equal(f.fake.status.calls, checks);
}

/* Nobody polls a plugin that was never well, so the one who waits for it has it checked. */
static void at_rest_without_state_a_read_still_waits(void **state)
{
    struct wish w;

    (void)state;
    kms_manager_rest(f.manager);
    assert_int_equal(get(0, SECRET_A, &w), ERR_AGAIN);
    pass_ms(700);
    assert_false(w.is_done);
    f.fake.status.how = FAKE_ANSWERS;
    until_true(&w.is_done);
    assert_int_equal(w.wait.err, ERR_OK);
    dek_drop(w.wait.dek);
    assert_in_range(w.took_ms, 700, 3000);
}

/* --- making ----------------------------------------------------------------------------------- */

static void unusable_options_are_refused(void **state)
{
    struct provider other = {.kind = PROVIDER_AESGCM, .name = "other"};
    struct kms_plugin_opts plugin = {.provider = &f.provider, .endpoint = "tcp://localhost:1"};
    struct kms_manager_opts o = {.loop = &f.loop, .plugins = &plugin, .plugin_count = 1};
    struct kms_manager *m;

    (void)state;
    assert_int_equal(kms_manager_new(&o, &m), ERR_CONFIG);
    plugin = (struct kms_plugin_opts){.provider = &other, .endpoint = "unix:///run/x"};
    assert_int_equal(kms_manager_new(&o, &m), ERR_CONFIG);
}

static void a_manager_without_plugins_is_primed_at_once(void **state)
{
    struct kms_manager_opts o = {.loop = &f.loop};
    struct kms_manager *m;
    bool is_primed = false, is_closed = false;

    (void)state;
    assert_int_equal(kms_manager_new(&o, &m), ERR_OK);
    kms_manager_on_primed(m, on_primed, &is_primed);
    assert_false(is_primed);
    until_true(&is_primed);
    kms_manager_close(m, on_closed, &is_closed);
    until_true(&is_closed);
}

static int group_setup(void **state)
{
    (void)state;
    return secret_init() == ERR_OK ? 0 : -1;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define TEST_ILL(name) cmocka_unit_test_setup_teardown(name, setup_ill, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_write_key_comes_to_every_ring_and_costs_no_call),
        TEST(a_ring_that_joins_late_is_told_at_once),
        TEST(an_expired_write_key_is_refused_but_still_reads),
        TEST_ILL(a_rotation_reaches_the_rings_and_old_values_cost_nothing),
        TEST(equal_wishes_are_one_call),
        TEST(only_what_opened_a_value_is_kept),
        TEST(ids_that_differ_anywhere_are_different_deks),
        TEST(a_refusal_is_remembered_for_3_s_by_every_ring),
        TEST(a_secret_of_a_wrong_size_is_an_error_that_is_remembered),
        TEST(a_short_outage_is_waited_out_and_not_remembered),
        TEST(hang_up_and_timeout_are_tried_again),
        TEST(gone_and_back),
        TEST(away_for_10_s_is_an_error_for_each_after_its_own_10_s),
        TEST(calls_are_bounded_and_the_rest_waits),
        TEST(what_waits_is_bounded_in_bytes),
        TEST(cancelled_waits_get_nothing_and_storms_of_them_are_one_call),
        TEST(callbacks_may_use_the_ring),
        TEST(the_last_callback_may_free_the_ring),
        TEST(a_ring_may_go_while_its_answers_are_under_way),
        TEST(closing_with_everything_under_way),
        TEST(a_full_cache_makes_room_in_the_secret_memory),
        TEST_ILL(reads_wait_for_the_first_good_check),
        TEST_ILL(without_state_for_10_s_reads_fail),
        TEST(at_rest_there_is_no_connection_but_for_a_read),
        TEST_ILL(at_rest_without_state_a_read_still_waits),
        TEST(unusable_options_are_refused),
        TEST(a_manager_without_plugins_is_primed_at_once),
    };

    return cmocka_run_group_tests(tests, group_setup, NULL);
}
