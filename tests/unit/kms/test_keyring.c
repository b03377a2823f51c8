/* SPDX-License-Identifier: Apache-2.0 */
/* One key ring whose manager is the test: kms__request_deliver and kms__confirm_deliver are defined
 * here in place of manager.c's, so that each request lies in our hands until it is answered. The
 * clock is the test's, too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/secret.h"
#include "fake_clock.h"
#include "kms/cache_int.h"
#include "kms/kms_int.h"

#define SLOT_V2 0u
#define SLOT_V1 1u
#define SECRET "thirty-two bytes of a secret....."
#define REQUESTS_MAX 2048

static struct loop loop;
static struct mailbox manager_box, worker_box;
static struct keyring *ring;
static struct provider v2, v1;

/* --- the manager ------------------------------------------------------------------------------ */

static struct dek_request *requests[REQUESTS_MAX]; /* delivered and not answered */
static unsigned request_count, confirm_count;

void kms__request_deliver(struct mail *self, bool delivered)
{
    struct dek_request *a = CONTAINER_OF(self, struct dek_request, mail);

    if (!delivered) {
        kms__request_free(a);
        return;
    }
    assert_true(request_count < REQUESTS_MAX);
    requests[request_count++] = a;
}

void kms__confirm_deliver(struct mail *self, bool delivered)
{
    struct kms_confirm *c = CONTAINER_OF(self, struct kms_confirm, mail);

    confirm_count += delivered;
    dek_drop(c->dek);
    free(c);
}

static void turn(void)
{
    fake_clock_pass(&loop, 0);
}

static struct dek *make_dek(const struct dek_id *id)
{
    struct dek *dek;

    assert_int_equal(dek_new(id, bytes_of((const uint8_t *)SECRET, 32), &dek), ERR_OK);
    return dek;
}

/* Answers request i, which stays in the list as NULL. */
static void answer(unsigned i, enum err err, uint64_t until_ms)
{
    struct dek_id wrapped = {.type = DEK_KMS_V1_KEY, .wrapped = BYTES_LIT("wrapped")};
    struct dek_request *a = requests[i];

    requests[i] = NULL;
    a->err = err;
    a->until_ms = until_ms;
    a->dek = err == ERR_OK ? make_dek(a->is_wrap ? &wrapped : &a->id) : NULL;
    a->mail.deliver = kms__answer_deliver;
    mailbox_post(&worker_box, &a->mail);
}

static void post_news(enum kms_news_kind kind, uint32_t slot, struct dek *dek, uint64_t expiry_ms)
{
    struct kms_news *n = calloc(1, sizeof *n);

    n->ring = kms__ring_handle(ring);
    n->kind = kind;
    n->slot = slot;
    n->dek = dek == NULL ? NULL : dek_ref(dek);
    n->expiry_ms = expiry_ms;
    n->mail.deliver = kms__news_deliver;
    mailbox_post(&worker_box, &n->mail);
}

/* --- the waiters ------------------------------------------------------------------------------ */

struct waiter {
    struct key_wait wait;
    uint64_t began_ms, took_ms;
    unsigned place; /* among all that were done, from 1; 0: not done */
    void (*then)(struct waiter *w);
    struct waiter *other;
};

static unsigned done_count;

static void on_done(struct key_wait *wait)
{
    struct waiter *w = CONTAINER_OF(wait, struct waiter, wait);

    assert_int_equal(w->place, 0);
    assert_false(wait->is_pending);
    assert_int_equal(wait->err == ERR_OK, wait->dek != NULL);
    w->place = ++done_count;
    w->took_ms = loop_now_ms(&loop) - w->began_ms;
    if (wait->dek != NULL)
        dek_drop(wait->dek);
    if (w->then != NULL)
        w->then(w);
}

static struct waiter waiter(void)
{
    return (struct waiter){.wait.on_done = on_done, .began_ms = loop_now_ms(&loop)};
}

static struct dek_id v2_id(const char *wrapped)
{
    return (struct dek_id){
        .type = DEK_HKDF_SEED, .key_id = BYTES_LIT("kek"), .wrapped = bytes_str(wrapped)};
}

static struct dek_id v1_id(const char *wrapped)
{
    return (struct dek_id){.type = DEK_KMS_V1_KEY, .wrapped = bytes_str(wrapped)};
}

static enum err get_of(const struct provider *p, struct dek_id id, struct waiter *w)
{
    enum err e;

    *w = waiter();
    e = keyring_get(ring, p, &id, &w->wait);
    assert_int_equal(w->wait.is_pending, e == ERR_AGAIN);
    assert_int_equal(w->wait.dek != NULL, e == ERR_OK);
    if (e == ERR_OK)
        dek_drop(w->wait.dek);
    return e;
}

static enum err get(const char *wrapped, struct waiter *w)
{
    return get_of(&v2, v2_id(wrapped), w);
}

static enum err wrap(struct waiter *w)
{
    *w = waiter();
    return keyring_wrap(ring, &v1, &w->wait);
}

static void confirm(const struct provider *p, struct dek_id id)
{
    struct dek *dek = make_dek(&id);

    keyring_confirm(ring, p, dek);
    dek_drop(dek);
}

/* Whether the ring has it; a request that this makes is taken back. */
static bool has(const struct provider *p, struct dek_id id)
{
    struct waiter w;
    enum err e = get_of(p, id, &w);

    keyring_cancel(&w.wait);
    return e == ERR_OK;
}

/* --- life ------------------------------------------------------------------------------------- */

static int setup(void **state)
{
    (void)state;
    request_count = confirm_count = done_count = 0;
    v2 = (struct provider){.kind = PROVIDER_KMS_V2, .slot = SLOT_V2, .name = "v2"};
    v1 = (struct provider){.kind = PROVIDER_KMS_V1, .slot = SLOT_V1, .name = "v1", .cache_size = 3};
    if (loop_init(&loop) != ERR_OK || mailbox_init(&manager_box, &loop) != ERR_OK ||
        mailbox_init(&worker_box, &loop) != ERR_OK)
        return -1;
    return keyring_new(&loop, &manager_box, &worker_box, 2, &ring) == ERR_OK ? 0 : -1;
}

static void ring_free(void)
{
    keyring_free(ring);
    ring = NULL;
}

static int teardown(void **state)
{
    (void)state;
    if (ring != NULL)
        ring_free();
    mailbox_close(&manager_box);
    mailbox_close(&worker_box);
    for (unsigned i = 0; i < request_count; i++) {
        if (requests[i] != NULL)
            kms__request_free(requests[i]);
    }
    loop_stop(&loop);
    loop_run(&loop);
    mailbox_fini(&manager_box);
    mailbox_fini(&worker_box);
    loop_fini(&loop);
    return 0;
}

/* --- asking ----------------------------------------------------------------------------------- */

static void equal_gets_are_one_request_and_end_in_their_order(void **state)
{
    struct waiter w[5], other;

    (void)state;
    for (int i = 0; i < 5; i++)
        assert_int_equal(get("a", &w[i]), ERR_AGAIN);
    assert_int_equal(get("b", &other), ERR_AGAIN);
    turn();
    assert_int_equal(request_count, 2);
    assert_int_equal(done_count, 0);
    answer(0, ERR_OK, 0);
    turn();
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(w[i].place, i + 1);
        assert_int_equal(w[i].wait.err, ERR_OK);
    }
    assert_int_equal(other.place, 0);
    answer(1, ERR_KMS_ERROR, 0);
    turn();
    assert_int_equal(other.wait.err, ERR_KMS_ERROR);
}

static void what_is_asked_is_a_copy(void **state)
{
    char key_id[] = "kek", wrapped[] = "bytes", name[] = "a.b", value[] = "c";
    struct dek_annotation annotation = {bytes_str(name), bytes_str(value)};
    struct dek_id id = {DEK_HKDF_SEED, bytes_str(key_id), bytes_str(wrapped), 1, &annotation};
    struct dek_annotation same = {BYTES_LIT("a.b"), BYTES_LIT("c")};
    const struct dek_id want = {DEK_HKDF_SEED, BYTES_LIT("kek"), BYTES_LIT("bytes"), 1, &same};
    uint8_t digest[DEK_DIGEST_LEN];
    struct waiter w;

    (void)state;
    assert_int_equal(get_of(&v2, id, &w), ERR_AGAIN);
    memset(key_id, 'x', 3);
    memset(wrapped, 'x', 5);
    memset(name, 'x', 3);
    memset(value, 'x', 1);
    turn();
    assert_true(dek_id_eq(&requests[0]->id, &want));
    assert_int_equal(dek_id_digest(&want, digest), ERR_OK);
    assert_memory_equal(requests[0]->digest, digest, sizeof digest);
    assert_int_equal(requests[0]->slot, SLOT_V2);
    assert_false(requests[0]->is_wrap);
    assert_int_equal(requests[0]->deadline_ms, w.began_ms + LIMIT_KEY_WAIT_MS);
    keyring_cancel(&w.wait);
}

static void the_same_id_of_two_plugins_is_two_requests(void **state)
{
    struct provider other = v2;
    struct waiter a, b;

    (void)state;
    other.slot = SLOT_V1;
    assert_int_equal(get_of(&v2, v2_id("a"), &a), ERR_AGAIN);
    assert_int_equal(get_of(&other, v2_id("a"), &b), ERR_AGAIN);
    turn();
    assert_int_equal(request_count, 2);
    answer(1, ERR_OK, 0);
    turn();
    assert_int_equal(b.place, 1);
    assert_int_equal(a.place, 0);
    keyring_cancel(&a.wait);
}

/* --- cancelling ------------------------------------------------------------------------------- */

static void cancelled_waits_are_told_nothing_wherever_they_stood(void **state)
{
    struct waiter w[4];

    (void)state;
    for (int i = 0; i < 4; i++)
        assert_int_equal(get("a", &w[i]), ERR_AGAIN);
    keyring_cancel(&w[0].wait);
    keyring_cancel(&w[2].wait);
    turn();
    keyring_cancel(&w[3].wait);
    answer(0, ERR_OK, 0);
    turn();
    assert_int_equal(done_count, 1);
    assert_int_equal(w[1].place, 1);
    keyring_cancel(&w[1].wait); /* over: harmless */
}

static void an_answer_that_nobody_waits_for_is_dropped_but_a_refusal_kept(void **state)
{
    struct waiter a, b;

    (void)state;
    assert_int_equal(get("a", &a), ERR_AGAIN);
    assert_int_equal(get("b", &b), ERR_AGAIN);
    turn();
    keyring_cancel(&a.wait);
    keyring_cancel(&b.wait);
    answer(0, ERR_OK, 0);
    answer(1, ERR_KMS_ERROR, loop_now_ms(&loop) + 1000);
    turn();
    assert_int_equal(done_count, 0);
    assert_int_equal(get("b", &b), ERR_KMS_ERROR);
    assert_int_equal(get("a", &a), ERR_AGAIN);
    keyring_cancel(&a.wait);
}

static void cancelled_and_asked_again_the_first_answer_counts(void **state)
{
    struct waiter w;

    (void)state;
    assert_int_equal(get("a", &w), ERR_AGAIN);
    keyring_cancel(&w.wait);
    assert_int_equal(get("a", &w), ERR_AGAIN);
    turn();
    assert_int_equal(request_count, 2);
    answer(0, ERR_OK, 0);
    turn();
    assert_int_equal(w.place, 1);
    answer(1, ERR_OK, 0);
    turn();
    assert_int_equal(done_count, 1);
}

static void cancel_other(struct waiter *w)
{
    keyring_cancel(&w->other->wait);
}

static void a_callback_may_cancel_the_next_of_the_same_answer(void **state)
{
    struct waiter a, b, c;

    (void)state;
    assert_int_equal(get("a", &a), ERR_AGAIN);
    assert_int_equal(get("a", &b), ERR_AGAIN);
    assert_int_equal(get("a", &c), ERR_AGAIN);
    a.then = cancel_other;
    a.other = &b;
    turn();
    answer(0, ERR_OK, 0);
    turn();
    assert_int_equal(done_count, 2);
    assert_int_equal(b.place, 0);
    assert_false(b.wait.is_pending);
    assert_int_equal(c.place, 2);
}

/* --- time ------------------------------------------------------------------------------------- */

static void each_wait_ends_after_its_own_10_s(void **state)
{
    struct waiter a, b, c;

    (void)state;
    assert_int_equal(get("a", &a), ERR_AGAIN);
    fake_clock_pass(&loop, 4000);
    assert_int_equal(get("a", &b), ERR_AGAIN);
    assert_int_equal(get("c", &c), ERR_AGAIN);
    fake_clock_pass(&loop, 5900);
    assert_int_equal(done_count, 0);
    post_news(KMS_NEWS_STATE, SLOT_V2, NULL, 0); /* reached from now on */
    fake_clock_pass(&loop, 4500);
    assert_int_equal(done_count, 3);
    assert_int_equal(a.took_ms, LIMIT_KEY_WAIT_MS);
    assert_int_equal(b.took_ms, LIMIT_KEY_WAIT_MS);
    assert_int_equal(c.took_ms, LIMIT_KEY_WAIT_MS);
    assert_int_equal(a.wait.err, ERR_KMS_AWAY);
    answer(0, ERR_OK, 0); /* too late for all of them */
    turn();
    assert_int_equal(done_count, 3);
}

static void without_any_good_check_the_end_is_another_error(void **state)
{
    struct waiter w;

    (void)state;
    assert_int_equal(get("a", &w), ERR_AGAIN);
    fake_clock_pass(&loop, LIMIT_KEY_WAIT_MS);
    assert_int_equal(w.wait.err, ERR_NO_STATE);
}

static void away_is_asked_again_for_those_who_came_later(void **state)
{
    struct waiter old, young;
    struct dek_request *request;

    (void)state;
    assert_int_equal(get("a", &old), ERR_AGAIN);
    turn();
    fake_clock_pass(&loop, 3000);
    assert_int_equal(get("a", &young), ERR_AGAIN);
    fake_clock_pass(&loop, 6950);
    request = requests[0];
    answer(0, ERR_KMS_AWAY, 0); /* old has 50 ms left */
    turn();
    assert_int_equal(request_count, 2);
    assert_ptr_equal(requests[1], request);
    assert_int_equal(request->deadline_ms, young.wait.deadline_ms);
    assert_int_equal(done_count, 0);
    fake_clock_pass(&loop, 100);
    assert_int_equal(done_count, 1);
    assert_int_equal(old.wait.err, ERR_NO_STATE);
    answer(1, ERR_OK, 0);
    turn();
    assert_int_equal(young.wait.err, ERR_OK);
}

/* Whatever lies at the manager for a DEK that is waited for says so: else the manager drops it. */
static void away_for_those_who_gave_up_is_no_matter_of_those_who_ask_now(void **state)
{
    struct waiter gone, now;
    unsigned asked = 0;

    (void)state;
    assert_int_equal(get("a", &gone), ERR_AGAIN);
    turn();
    answer(0, ERR_KMS_AWAY, 0);
    keyring_cancel(&gone.wait); /* with the answer on its way */
    assert_int_equal(get("a", &now), ERR_AGAIN);
    turn();
    turn();
    for (unsigned i = 0; i < request_count; i++) {
        if (requests[i] != NULL) {
            assert_false(atomic_load(&requests[i]->ticket->is_given_up));
            asked++;
        }
    }
    assert_int_equal(asked, 1);
    assert_int_equal(now.place, 0);
    answer(1, ERR_OK, 0);
    turn();
    assert_int_equal(now.wait.err, ERR_OK);
}

static void away_at_the_end_of_all_waits_is_the_answer(void **state)
{
    struct waiter w;

    (void)state;
    assert_int_equal(get("a", &w), ERR_AGAIN);
    turn();
    fake_clock_pass(&loop, LIMIT_KEY_WAIT_MS - 50);
    answer(0, ERR_KMS_AWAY, 0);
    turn();
    assert_int_equal(request_count, 1);
    assert_int_equal(w.place, 1);
    assert_int_equal(w.wait.err, ERR_KMS_AWAY);
    assert_int_equal(get("a", &w), ERR_AGAIN); /* nothing was remembered */
    keyring_cancel(&w.wait);
}

static void a_refusal_lasts_until_the_time_that_came_with_it(void **state)
{
    struct waiter w;

    (void)state;
    assert_int_equal(get("a", &w), ERR_AGAIN);
    turn();
    answer(0, ERR_BAD_DEK_SIZE, loop_now_ms(&loop) + 3000);
    turn();
    assert_int_equal(w.wait.err, ERR_BAD_DEK_SIZE);
    fake_clock_pass(&loop, 2999);
    assert_int_equal(get("a", &w), ERR_BAD_DEK_SIZE);
    fake_clock_pass(&loop, 1);
    assert_int_equal(get("a", &w), ERR_AGAIN);
    turn();
    answer(1, ERR_KMS_ERROR, 0); /* without a time it is not remembered */
    turn();
    assert_int_equal(get("a", &w), ERR_AGAIN);
    keyring_cancel(&w.wait);
}

/* Which of so many refused values, by their number, is known as one. */
static bool is_refused(const struct provider *p, unsigned i)
{
    uint8_t digest[DEK_DIGEST_LEN] = {0};
    enum err e;

    memcpy(digest, &i, sizeof i);
    e = keyring_value_refusal(ring, p, digest);
    assert_true(e == ERR_OK || e == ERR_AUTH_FAILED);
    return e != ERR_OK;
}

static void refuse_value(const struct provider *p, unsigned i)
{
    uint8_t digest[DEK_DIGEST_LEN] = {0};

    memcpy(digest, &i, sizeof i);
    keyring_refuse_value(ring, p, digest, ERR_AUTH_FAILED);
}

static void a_refused_value_is_known_for_3_s_and_to_its_provider(void **state)
{
    (void)state;
    assert_false(keyring_has_refused_values(ring));
    refuse_value(&v2, 1);
    assert_true(is_refused(&v2, 1));
    assert_false(is_refused(&v2, 2));
    assert_false(is_refused(&v1, 1));
    fake_clock_pass(&loop, LIMIT_NEGATIVE_MS - 1);
    assert_true(keyring_has_refused_values(ring));
    assert_true(is_refused(&v2, 1));
    fake_clock_pass(&loop, 1);
    assert_false(keyring_has_refused_values(ring));
    assert_false(is_refused(&v2, 1));
}

static void of_refused_values_the_newest_are_known(void **state)
{
    unsigned known = 0;

    (void)state;
    for (unsigned i = 0; i < 100000; i++)
        refuse_value(&v2, i);
    for (unsigned i = 0; i < 100000; i++)
        known += is_refused(&v2, i);
    assert_int_equal(known, 1024);
    assert_true(is_refused(&v2, 99999));
    assert_false(is_refused(&v2, 0));
}

/* --- who is gone ------------------------------------------------------------------------------ */

static void a_ring_may_be_freed_wherever_its_mail_is(void **state)
{
    struct waiter at_manager, at_home, on_its_way;
    const struct dek_id id = v2_id("write");
    struct dek *dek = make_dek(&id);

    (void)state;
    assert_int_equal(get("a", &at_manager), ERR_AGAIN);
    assert_int_equal(get("b", &at_home), ERR_AGAIN);
    turn();
    assert_int_equal(get("c", &on_its_way), ERR_AGAIN);
    answer(1, ERR_OK, loop_now_ms(&loop) + 1000);
    post_news(KMS_NEWS_STATE, SLOT_V2, dek, loop_now_ms(&loop) + 1000);
    post_news(KMS_NEWS_MAKE_ROOM, 0, NULL, 0);
    keyring_cancel(&at_manager.wait);
    keyring_cancel(&at_home.wait);
    keyring_cancel(&on_its_way.wait);
    ring_free();
    turn();
    answer(0, ERR_OK, 0);
    answer(2, ERR_KMS_AWAY, 0);
    turn();
    fake_clock_pass(&loop, LIMIT_KEY_WAIT_MS);
    assert_int_equal(done_count, 0);
    assert_int_equal(request_count, 3);
    dek_drop(dek);
}

static void free_ring(struct waiter *w)
{
    (void)w;
    ring_free();
}

static void the_last_callback_of_the_timer_may_free_the_ring(void **state)
{
    struct waiter a, b;

    (void)state;
    assert_int_equal(get("a", &a), ERR_AGAIN);
    assert_int_equal(get("b", &b), ERR_AGAIN);
    b.then = free_ring;
    fake_clock_pass(&loop, LIMIT_KEY_WAIT_MS);
    assert_int_equal(done_count, 2);
    assert_null(ring);
}

static void the_last_callback_of_an_answer_may_free_the_ring(void **state)
{
    struct waiter a;

    (void)state;
    assert_int_equal(get("a", &a), ERR_AGAIN);
    a.then = free_ring;
    turn();
    answer(0, ERR_OK, 0);
    turn();
    assert_null(ring);
}

static void with_the_manager_gone_waits_end_in_time_and_nothing_leaks(void **state)
{
    struct waiter queued, late, write, known;

    (void)state;
    assert_int_equal(get("a", &queued), ERR_AGAIN);
    mailbox_close(&manager_box); /* with the request in it */
    assert_int_equal(get("b", &late), ERR_AGAIN);
    assert_int_equal(wrap(&write), ERR_AGAIN);
    confirm(&v2, v2_id("c"));
    assert_int_equal(get("c", &known), ERR_OK);
    fake_clock_pass(&loop, LIMIT_KEY_WAIT_MS);
    assert_int_equal(queued.wait.err, ERR_NO_STATE);
    assert_int_equal(late.wait.err, ERR_NO_STATE);
    assert_int_equal(write.wait.err, ERR_NO_STATE);
    assert_int_equal(request_count, 0);
    assert_int_equal(confirm_count, 0);
}

/* --- KMS v1's writes -------------------------------------------------------------------------- */

static void every_wrap_is_its_own_request_and_gets_its_own_answer(void **state)
{
    struct waiter w[3];

    (void)state;
    for (int i = 0; i < 3; i++)
        assert_int_equal(wrap(&w[i]), ERR_AGAIN);
    turn();
    assert_int_equal(request_count, 3);
    for (int i = 0; i < 3; i++) {
        assert_true(requests[i]->is_wrap);
        assert_int_equal(requests[i]->slot, SLOT_V1);
        assert_int_equal(requests[i]->id.wrapped.n, 0);
    }
    answer(2, ERR_OK, 0);
    answer(0, ERR_NO_WRITE_KEY, 0);
    answer(1, ERR_DEK_SOURCE_EXPOSED, 0);
    turn();
    assert_int_equal(w[2].place, 1);
    assert_int_equal(w[2].wait.err, ERR_OK);
    assert_int_equal(w[0].wait.err, ERR_NO_WRITE_KEY);
    assert_int_equal(w[1].wait.err, ERR_DEK_SOURCE_EXPOSED);
}

static void a_write_is_told_at_once_that_the_plugin_is_away(void **state)
{
    struct waiter w;

    (void)state;
    assert_int_equal(wrap(&w), ERR_AGAIN);
    turn();
    answer(0, ERR_KMS_AWAY, 0);
    turn();
    assert_int_equal(w.wait.err, ERR_KMS_AWAY);
    assert_int_equal(request_count, 1);
    assert_int_equal(wrap(&w), ERR_AGAIN); /* and the next one is tried afresh */
    keyring_cancel(&w.wait);
}

static void a_key_that_was_made_for_one_value_serves_no_other(void **state)
{
    struct waiter w;

    (void)state;
    assert_int_equal(wrap(&w), ERR_AGAIN);
    turn();
    answer(0, ERR_OK, 0);
    turn();
    assert_int_equal(w.wait.err, ERR_OK);
    assert_false(has(&v1, v1_id("wrapped")));
    assert_int_equal(wrap(&w), ERR_AGAIN);
    keyring_cancel(&w.wait);
    turn();
    answer(1, ERR_OK, 0); /* cancelled while the plugin wraps */
    turn();
    assert_int_equal(done_count, 1);
}

/* --- what is kept ----------------------------------------------------------------------------- */

static void of_kms_v1_as_many_are_kept_as_configured_the_oldest_use_goes(void **state)
{
    static const char *const names[] = {"a", "b", "c", "d", "e", "f"};

    (void)state;
    v1.cache_size = ARRAY_LEN(names);
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        confirm(&v1, v1_id(names[i]));
    assert_true(has(&v1, v1_id("a")));
    confirm(&v1, v1_id("a")); /* known: neither a seventh, nor mail */
    turn();
    assert_int_equal(confirm_count, ARRAY_LEN(names));
    confirm(&v1, v1_id("g"));
    assert_false(has(&v1, v1_id("b")));
    assert_true(has(&v1, v1_id("a")));
    for (size_t i = 2; i < ARRAY_LEN(names); i++)
        assert_true(has(&v1, v1_id(names[i])));
    assert_true(has(&v1, v1_id("g")));
}

static void without_a_cache_nothing_is_kept_nor_told(void **state)
{
    (void)state;
    v1.cache_size = 0;
    confirm(&v1, v1_id("a"));
    assert_false(has(&v1, v1_id("a")));
    turn();
    assert_int_equal(confirm_count, 0);
}

static void a_ring_keeps_1024_deks_for_a_day(void **state)
{
    char name[8];

    (void)state;
    for (int i = 0; i <= 1024; i++) {
        snprintf(name, sizeof name, "%d", i);
        confirm(&v2, v2_id(name));
    }
    assert_false(has(&v2, v2_id("0")));
    assert_true(has(&v2, v2_id("1")));
    assert_true(has(&v2, v2_id("1024")));
    fake_clock_pass(&loop, DEK_CACHE_TTL_MS - 1);
    assert_true(has(&v2, v2_id("1")));
    fake_clock_pass(&loop, 1);
    assert_false(has(&v2, v2_id("1")));
    assert_false(has(&v2, v2_id("1024")));
}

static void make_room_lets_go_of_the_older_half(void **state)
{
    char name[8];

    (void)state;
    for (int i = 0; i < 600; i++) {
        snprintf(name, sizeof name, "%d", i);
        confirm(&v2, v2_id(name));
    }
    post_news(KMS_NEWS_MAKE_ROOM, 0, NULL, 0);
    turn();
    assert_false(has(&v2, v2_id("511")));
    assert_true(has(&v2, v2_id("512")));
    assert_true(has(&v2, v2_id("599")));
}

/* --- news ------------------------------------------------------------------------------------- */

static void a_write_key_lasts_to_its_expiry_and_reads_beyond(void **state)
{
    const struct dek_id a = v2_id("a"), b = v2_id("b");
    struct dek *first = make_dek(&a), *second = make_dek(&b), *out;
    uint64_t now = loop_now_ms(&loop);

    (void)state;
    assert_int_equal(keyring_write_key(ring, &v2, &out), ERR_NO_WRITE_KEY);
    post_news(KMS_NEWS_STATE, SLOT_V2, first, now + 1000);
    turn();
    assert_int_equal(keyring_write_key(ring, &v2, &out), ERR_OK);
    assert_ptr_equal(out, first);
    assert_int_equal(keyring_write_key(ring, &v1, &out), ERR_NO_WRITE_KEY);
    fake_clock_pass(&loop, 1000);
    assert_int_equal(keyring_write_key(ring, &v2, &out), ERR_OK);
    fake_clock_pass(&loop, 1);
    assert_int_equal(keyring_write_key(ring, &v2, &out), ERR_NO_WRITE_KEY);
    assert_null(out);
    assert_true(has(&v2, a));
    post_news(KMS_NEWS_STATE, SLOT_V2, first, loop_now_ms(&loop) + 1000);
    turn();
    assert_int_equal(keyring_write_key(ring, &v2, &out), ERR_OK);
    post_news(KMS_NEWS_STATE, SLOT_V2, second, loop_now_ms(&loop) + 1000);
    turn();
    assert_int_equal(keyring_write_key(ring, &v2, &out), ERR_OK);
    assert_ptr_equal(out, second);
    assert_true(has(&v2, a)); /* rotated: it still reads */
    assert_true(has(&v2, b));
    assert_int_equal(request_count, 0);
    dek_drop(first);
    dek_drop(second);
}

/* --- askers ----------------------------------------------------------------------------------- */

#define MANY 300u

static struct key_asker greedy, modest;
static struct waiter many[MANY];
static struct dek_id many_ids[MANY];
static char many_names[MANY][16];

static enum err get_for(struct key_asker *asker, const struct dek_id *id, struct waiter *w)
{
    *w = waiter();
    w->wait.asker = asker;
    return keyring_get(ring, &v2, id, &w->wait);
}

/* MANY unknown DEKs for one asker, and none for another yet. */
static void ask_for_many(void)
{
    key_asker_init(&greedy, &loop, 1);
    key_asker_init(&modest, &loop, 2);
    for (unsigned i = 0; i < MANY; i++) {
        (void)snprintf(many_names[i], sizeof many_names[i], "dek %u", i);
        many_ids[i] = v2_id(many_names[i]);
        assert_int_equal(get_for(&greedy, &many_ids[i], &many[i]), ERR_AGAIN);
    }
    turn();
}

static void end_many(void)
{
    for (unsigned i = 0; i < MANY; i++)
        keyring_cancel(&many[i].wait);
    key_asker_fini(&greedy);
    key_asker_fini(&modest);
}

static void an_asker_has_so_many_with_the_manager_and_its_others_follow_in_order(void **state)
{
    struct waiter w;

    (void)state;
    ask_for_many();
    assert_int_equal(request_count, LIMIT_KEYS_A_CONNECTION);
    assert_int_equal(requests[0]->asker, 1);
    struct dek_id own = v2_id("own");
    assert_int_equal(get_for(&modest, &own, &w), ERR_AGAIN);
    turn();
    assert_int_equal(request_count, LIMIT_KEYS_A_CONNECTION + 1);
    for (unsigned i = 0; i < MANY + 1; i++) {
        assert_true(i < request_count);
        answer(i, ERR_OK, 0);
        turn();
        turn();
    }
    assert_int_equal(done_count, MANY + 1);
    for (unsigned i = 1; i < MANY; i++)
        assert_true(many[i].place > many[i - 1].place);
    end_many();
}

static void a_held_wait_joins_what_others_ask_for_and_takes_what_is_known(void **state)
{
    struct waiter w;

    (void)state;
    ask_for_many();
    /* Somebody else asks for a DEK that is held, and for one that is not: */
    assert_int_equal(get_for(&modest, &many_ids[200], &w), ERR_AGAIN);
    turn();
    assert_int_equal(request_count, LIMIT_KEYS_A_CONNECTION + 1);
    confirm(&v2, many_ids[201]);
    for (unsigned i = 0; i < 128; i++)
        answer(i, ERR_OK, 0);
    turn();
    turn();
    /* 128 more of its own, without the two: the first is joined, the second was there. */
    assert_int_equal(many[201].place > 0, true);
    assert_int_equal(many[200].place, 0);
    answer(LIMIT_KEYS_A_CONNECTION, ERR_OK, 0);
    turn();
    assert_int_not_equal(many[200].place, 0);
    assert_int_not_equal(w.place, 0);
    end_many();
}

static void held_waits_may_be_cancelled_and_end_in_time(void **state)
{
    (void)state;
    ask_for_many();
    for (unsigned i = 250; i < MANY; i++)
        keyring_cancel(&many[i].wait);
    fake_clock_pass(&loop, LIMIT_KEY_WAIT_MS);
    assert_int_equal(done_count, 250);
    for (unsigned i = 0; i < 250; i++) {
        assert_int_equal(many[i].wait.err, ERR_NO_STATE);
        assert_int_equal(many[i].took_ms, LIMIT_KEY_WAIT_MS);
    }
    end_many();
}

static void what_is_given_up_makes_room_and_says_so_to_the_manager(void **state)
{
    (void)state;
    ask_for_many();
    assert_false(atomic_load(&requests[5]->ticket->is_given_up));
    keyring_cancel(&many[5].wait);
    assert_true(atomic_load(&requests[5]->ticket->is_given_up));
    turn();
    turn();
    assert_int_equal(request_count, LIMIT_KEYS_A_CONNECTION + 1);
    end_many();
    turn();
    assert_int_equal(done_count, 0);
}

static struct waiter next_wait;
static struct dek_id next_id;

static void ask_for_next(struct waiter *w)
{
    (void)w;
    assert_int_equal(get_for(&greedy, &next_id, &next_wait), ERR_AGAIN);
}

/* A list asks for the next of its DEKs as soon as one is there: not before those that wait. */
static void a_new_wait_does_not_overtake_those_that_are_held(void **state)
{
    (void)state;
    ask_for_many();
    next_id = v2_id("next");
    many[0].then = ask_for_next;
    answer(0, ERR_OK, 0);
    turn();
    turn();
    assert_int_equal(request_count, LIMIT_KEYS_A_CONNECTION + 1);
    assert_true(
        dek_id_eq(&requests[LIMIT_KEYS_A_CONNECTION]->id, &many_ids[LIMIT_KEYS_A_CONNECTION]));
    for (unsigned i = 1; i < MANY + 1; i++) {
        assert_true(i < request_count);
        answer(i, ERR_OK, 0);
        turn();
        turn();
    }
    assert_int_equal(next_wait.place, MANY + 1);
    end_many();
}

/* Others have joined what the asker was charged for: it goes, and their waits go on. */
static void an_asker_may_go_while_others_wait_for_what_it_asked_for(void **state)
{
    struct waiter w;

    (void)state;
    ask_for_many();
    assert_int_equal(get_for(&modest, &many_ids[3], &w), ERR_AGAIN);
    for (unsigned i = 0; i < MANY; i++)
        keyring_cancel(&many[i].wait);
    key_asker_fini(&greedy);
    assert_false(atomic_load(&requests[3]->ticket->is_given_up));
    answer(3, ERR_OK, 0);
    turn();
    assert_int_equal(w.place, 1);
    key_asker_fini(&modest);
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
        TEST(equal_gets_are_one_request_and_end_in_their_order),
        TEST(what_is_asked_is_a_copy),
        TEST(the_same_id_of_two_plugins_is_two_requests),
        TEST(cancelled_waits_are_told_nothing_wherever_they_stood),
        TEST(an_answer_that_nobody_waits_for_is_dropped_but_a_refusal_kept),
        TEST(cancelled_and_asked_again_the_first_answer_counts),
        TEST(a_callback_may_cancel_the_next_of_the_same_answer),
        TEST(each_wait_ends_after_its_own_10_s),
        TEST(without_any_good_check_the_end_is_another_error),
        TEST(away_is_asked_again_for_those_who_came_later),
        TEST(away_for_those_who_gave_up_is_no_matter_of_those_who_ask_now),
        TEST(away_at_the_end_of_all_waits_is_the_answer),
        TEST(a_refusal_lasts_until_the_time_that_came_with_it),
        TEST(a_refused_value_is_known_for_3_s_and_to_its_provider),
        TEST(of_refused_values_the_newest_are_known),
        TEST(a_ring_may_be_freed_wherever_its_mail_is),
        TEST(the_last_callback_of_the_timer_may_free_the_ring),
        TEST(the_last_callback_of_an_answer_may_free_the_ring),
        TEST(with_the_manager_gone_waits_end_in_time_and_nothing_leaks),
        TEST(every_wrap_is_its_own_request_and_gets_its_own_answer),
        TEST(a_write_is_told_at_once_that_the_plugin_is_away),
        TEST(a_key_that_was_made_for_one_value_serves_no_other),
        TEST(of_kms_v1_as_many_are_kept_as_configured_the_oldest_use_goes),
        TEST(without_a_cache_nothing_is_kept_nor_told),
        TEST(a_ring_keeps_1024_deks_for_a_day),
        TEST(make_room_lets_go_of_the_older_half),
        TEST(a_write_key_lasts_to_its_expiry_and_reads_beyond),
        TEST(an_asker_has_so_many_with_the_manager_and_its_others_follow_in_order),
        TEST(a_held_wait_joins_what_others_ask_for_and_takes_what_is_known),
        TEST(held_waits_may_be_cancelled_and_end_in_time),
        TEST(what_is_given_up_makes_room_and_says_so_to_the_manager),
        TEST(a_new_wait_does_not_overtake_those_that_are_held),
        TEST(an_asker_may_go_while_others_wait_for_what_it_asked_for),
    };

    return cmocka_run_group_tests(tests, group_setup, NULL);
}
