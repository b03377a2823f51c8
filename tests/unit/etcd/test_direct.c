/* SPDX-License-Identifier: Apache-2.0 */
/* One pass against scan and apply: whatever the answer is, however it is cut and whichever keys
 * are at hand, the bytes, the error, the key that it names and the counts are the same. And an
 * answer of the usual form is opened in one pass, wherever its slices end. */
#include "counts.h"
#include "large_kit.h"

#include "etcd/direct.h"
#include "failing_alloc.h"

#define ALL_AT_HAND 0xffu
#define PLAIN_MAX 70000

struct way {
    struct etcd_ask ask;
    struct etcd_plan plan;
    struct counts counts;
    enum etcd_verdict verdict;
    enum err err;
    struct buf out;
    struct buf bad_key;
};

static unsigned at_hand;
static struct etcd_range asked = {BYTES_LIT("/registry/"), BYTES_LIT("/registry0"), false};

static struct dek *find(void *user, const struct provider *provider, const struct dek_id *id,
                        struct bytes tail)
{
    (void)user;
    assert_ptr_equal(provider, &fix.kms);
    for (size_t i = 0; i < FIX_DEKS; i++) {
        struct dek *dek = fix.deks[i];

        if ((at_hand >> i & 1) != 0 &&
            (id != NULL ? dek_id_eq(&dek->id, id) : bytes_eq(dek->tail, tail)))
            return dek;
    }
    return NULL;
}

/* --- messages -------------------------------------------------------------------------------- */

/* All but the value, which is last; lease 0: none. */
static void add_kv(struct buf *b, uint32_t number, const char *key, size_t dek, size_t plain_len,
                   uint64_t lease)
{
    static char plain[PLAIN_MAX];
    struct buf kv = {0}, sealed;

    assert_true(plain_len <= sizeof plain);
    memset(plain, key[strlen(key) - 1], plain_len);
    sealed = fix_seal(&fix, dek, key, plain, plain_len);
    buf_str(&kv, 1, key);
    buf_varint(&kv, 2, 300);
    buf_varint(&kv, 3, 70000);
    buf_varint(&kv, 4, 1);
    buf_field(&kv, 5, sealed.p, sealed.n);
    if (lease != 0)
        buf_varint(&kv, 6, lease);
    buf_sub(b, number, &kv);
    buf_free(&sealed);
}

static struct buf secrets(size_t plain_len)
{
    struct buf b = {0};

    kit_add_header(&b);
    add_kv(&b, 2, SECRET "a", 0, plain_len, 0);
    add_kv(&b, 2, SECRET "b", 0, plain_len + 1, 0x7fffffffffffff);
    add_kv(&b, 2, SECRET "c", 1, 200, 5);
    buf_varint(&b, 3, 1);
    buf_varint(&b, 4, 3);
    return b;
}

static void add_event(struct buf *b, bool is_delete, size_t plain_len, bool has_prev)
{
    struct buf event = {0};

    if (is_delete) {
        struct buf bare = {0};

        buf_varint(&event, 1, 1);
        buf_str(&bare, 1, SECRET "w");
        buf_varint(&bare, 3, 9);
        buf_sub(&event, 2, &bare);
    } else {
        add_kv(&event, 2, SECRET "w", 0, plain_len, 3);
    }
    if (has_prev)
        add_kv(&event, 3, SECRET "w", 1, plain_len / 2 + 1, 0);
    buf_sub(b, 11, &event);
}

static struct buf watched(size_t plain_len)
{
    struct buf b = {0};

    kit_add_header(&b);
    buf_varint(&b, 2, 7);
    add_event(&b, false, plain_len, false);
    add_event(&b, false, plain_len, true);
    add_event(&b, true, plain_len, true);
    add_event(&b, true, plain_len, false);
    return b;
}

/* --- both ways ------------------------------------------------------------------------------- */

static void begin(struct way *w, enum etcd_content content, const struct buf *in)
{
    memset(w, 0, sizeof *w);
    ask_like(&w->ask, content, bytes_of(in->p, in->n), &asked, 7);
}

static void note(struct way *w, enum err e)
{
    counts_take(&w->counts, &w->plan);
    w->err = e;
    if (e == ERR_OK || w->plan.bad_key.n == 0)
        return;
    buf_free(&w->bad_key);
    w->bad_key = buf_of(w->plan.bad_key.p, w->plan.bad_key.n);
}

static void end(struct way *w, struct chain *out)
{
    w->out = buf_chain(out);
    etcd_ask_fini(&w->ask);
    etcd_plan_fini(&w->plan);
}

static void run(struct way *w, enum etcd_content content, struct chain *msg, const struct buf *in,
                bool is_direct)
{
    const struct etcd_direct with = {fix.ctx, &fix.pool, find, NULL};
    struct chain out = {0};

    begin(w, content, in);
    if (is_direct)
        w->verdict = etcd_direct_answer(&w->plan, content, fix.rules, msg, &w->ask, &with, &out);
    else
        w->verdict = etcd_scan_answer(&w->plan, content, fix.rules, msg, &w->ask);
    assert_true(w->verdict == ETCD_EDIT || w->verdict == ETCD_OPENED || out.len == 0);
    if (w->verdict == ETCD_EDIT) {
        fix_resolve(&fix, &w->plan);
        note(w, etcd_apply_answer(&w->plan, fix.ctx, &fix.pool, msg, &out));
    } else {
        note(w, w->plan.err);
    }
    if (w->verdict == ETCD_AS_IS)
        assert_int_equal(chain_append(&out, msg), ERR_OK);
    end(w, &out);
    chain_fini(msg);
}

static void way_free(struct way *w)
{
    buf_free(&w->out);
    buf_free(&w->bad_key);
}

static void assert_same(struct way *a, struct way *b)
{
    assert_int_equal(a->err, b->err);
    assert_buf_equal(&a->out, &b->out);
    assert_buf_equal(&a->bad_key, &b->bad_key);
    assert_true(counts_same(&a->counts, &b->counts));
    way_free(a);
    way_free(b);
}

/* Returns what the one pass said. */
static enum etcd_verdict both(enum etcd_content content, const struct buf *in, const size_t *cuts,
                              size_t count)
{
    struct way plan, direct;
    struct chain msg;

    fix_chain(&fix, in->p, in->n, cuts, count, &msg);
    run(&plan, content, &msg, in, false);
    fix_chain(&fix, in->p, in->n, cuts, count, &msg);
    run(&direct, content, &msg, in, true);
    assert_same(&plan, &direct);
    return direct.verdict;
}

static void each_cut(enum etcd_content content, struct buf in)
{
    at_hand = ALL_AT_HAND;
    assert_int_equal(both(content, &in, NULL, 0), ETCD_OPENED);
    for (size_t cut = 1; cut < in.n; cut++)
        assert_int_equal(both(content, &in, &cut, 1), ETCD_OPENED);
    for (size_t size = 1; size < 40; size += 3) {
        size_t cuts[4096], count = 0;

        for (size_t at = size; at < in.n && count < ARRAY_LEN(cuts); at += size)
            cuts[count++] = at;
        assert_int_equal(both(content, &in, cuts, count), ETCD_OPENED);
    }
    buf_free(&in);
}

static void test_each_cut(void **state)
{
    (void)state;
    each_cut(ETCD_RANGE, secrets(1));
    each_cut(ETCD_RANGE, secrets(400));
    each_cut(ETCD_WATCH, watched(1));
    each_cut(ETCD_WATCH, watched(300));
}

/* A byte changed, a byte more, a byte less, the end cut off. */
static void each_change(enum etcd_content content, struct buf in)
{
    static const uint8_t changes[] = {0x01, 0x08, 0x80, 0xff};
    struct buf odd = {malloc(in.n + 1), in.n, 0};

    for (size_t at = 0; at < in.n; at++) {
        size_t cut = 1 + fix_random(&fix, (uint32_t)in.n - 1);

        for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
            memcpy(odd.p, in.p, in.n);
            odd.n = in.n;
            odd.p[at] ^= changes[i];
            both(content, &odd, &cut, 1);
        }
        memmove(odd.p + at + 1, in.p + at, in.n - at);
        odd.n = in.n + 1;
        both(content, &odd, &cut, 1);
        memcpy(odd.p, in.p, at);
        memcpy(odd.p + at, in.p + at + 1, in.n - at - 1);
        odd.n = in.n - 1;
        both(content, &odd, NULL, 0);
        odd.n = at;
        both(content, &odd, NULL, 0);
    }
    buf_free(&odd);
    buf_free(&in);
}

static void test_each_change(void **state)
{
    (void)state;
    at_hand = ALL_AT_HAND;
    each_change(ETCD_RANGE, secrets(30));
    each_change(ETCD_WATCH, watched(20));
}

/* Lengths around those where a varint grows, a value stays where it lies or fills a slab. */
static void test_each_length(void **state)
{
    static const size_t lengths[] = {0,     1,     17,    80,    127,   128,   16000,
                                     16383, 16384, 16385, 20000, 65000, 65536, PLAIN_MAX - 1};

    (void)state;
    at_hand = ALL_AT_HAND;
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        struct buf range = secrets(lengths[i]), events = watched(lengths[i]);
        size_t cut = 1 + fix_random(&fix, (uint32_t)range.n - 1);
        enum etcd_verdict verdict = both(ETCD_RANGE, &range, &cut, 1);

        assert_int_equal(verdict, lengths[i] == 0 ? ETCD_EDIT : ETCD_OPENED);
        both(ETCD_WATCH, &events, &cut, 1);
        buf_free(&range);
        buf_free(&events);
    }
}

/* What is opened where it lies can't be opened again: the one behind it may be of any kind. */
static void test_odd_behind_large(void **state)
{
    static const char *const keys[] = {"/registry/open/x", "/elsewhere", "/registry/moving/x", ""};

    (void)state;
    at_hand = ALL_AT_HAND;
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        struct buf b = {0}, kv = {0};

        kit_add_header(&b);
        add_kv(&b, 2, SECRET "a", 0, 30000, 1);
        buf_str(&kv, 1, keys[i]);
        buf_str(&kv, 5, "plaintext");
        buf_sub(&b, 2, &kv);
        add_kv(&b, 2, SECRET "b", 2, 30000, 0);
        both(ETCD_RANGE, &b, NULL, 0);
        buf_free(&b);
    }
}

static void test_keys_at_hand(void **state)
{
    struct buf range = secrets(50), events = watched(50);

    (void)state;
    for (at_hand = 0; at_hand < 1u << FIX_DEKS; at_hand++) {
        bool has_both = (at_hand & 3) == 3;

        assert_int_equal(both(ETCD_RANGE, &range, NULL, 0), has_both ? ETCD_OPENED : ETCD_EDIT);
        assert_int_equal(both(ETCD_WATCH, &events, NULL, 0), has_both ? ETCD_OPENED : ETCD_EDIT);
    }
    buf_free(&range);
    buf_free(&events);
}

/* Keys that were not asked for: the first, one in the middle, the last, the event's. */
static void test_outside(void **state)
{
    static const struct {
        const char *key, *end;
        enum etcd_verdict range, watch;
    } cases[] = {
        {SECRET "a", SECRET "d", ETCD_OPENED, ETCD_REJECT},
        {SECRET "b", SECRET "z", ETCD_REJECT, ETCD_OPENED},
        {SECRET "a", SECRET "c", ETCD_REJECT, ETCD_REJECT},
        {SECRET "a", "", ETCD_REJECT, ETCD_REJECT},
        {SECRET "w", "", ETCD_REJECT, ETCD_OPENED},
        {SECRET "v", "", ETCD_REJECT, ETCD_REJECT},
    };
    struct etcd_range all = asked;

    (void)state;
    at_hand = ALL_AT_HAND;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf range = secrets(50), events = watched(50);

        asked = (struct etcd_range){bytes_str(cases[i].key), bytes_str(cases[i].end), false};
        assert_int_equal(both(ETCD_RANGE, &range, NULL, 0), cases[i].range);
        assert_int_equal(both(ETCD_WATCH, &events, NULL, 0), cases[i].watch);
        buf_free(&range);
        buf_free(&events);
    }
    asked = all;
}

/* The nth allocation of the one pass fails, and then there is memory again. False: there was no
 * nth. */
static bool fails_once(size_t n, enum etcd_content content, const struct buf *in,
                       const struct way *want)
{
    const struct etcd_direct with = {fix.ctx, &fix.pool, find, NULL};
    struct chain msg, out = {0};
    bool has_failed;
    struct way w;
    enum err e;

    fix_chain(&fix, in->p, in->n, NULL, 0, &msg);
    begin(&w, content, in);
    slab_pool_settle(&fix.pool);
    slab_pool_trim(&fix.pool, 0);
    alloc_fail_once(n);
    w.verdict = etcd_direct_answer(&w.plan, content, fix.rules, &msg, &w.ask, &with, &out);
    has_failed = alloc_recover();
    e = w.plan.err;
    if (w.verdict == ETCD_EDIT) {
        fix_resolve(&fix, &w.plan);
        e = etcd_apply_answer(&w.plan, fix.ctx, &fix.pool, &msg, &out);
    }
    assert_true(e == ERR_OK || (has_failed && e == ERR_NOMEM && out.len == 0));
    end(&w, &out);
    if (e == ERR_OK)
        assert_buf_equal(&w.out, &want->out);
    way_free(&w);
    chain_fini(&msg);
    return has_failed;
}

/* What one pass has begun to write and gives up is not seen: the plan goes on where it was. */
static void test_memory_runs_out(void **state)
{
    static const size_t lengths[] = {50, 30000, PLAIN_MAX - 1};

    (void)state;
    at_hand = ALL_AT_HAND;
    for (size_t i = 0; i < 2 * ARRAY_LEN(lengths); i++) {
        enum etcd_content content = i % 2 == 0 ? ETCD_RANGE : ETCD_WATCH;
        size_t len = lengths[i / 2];
        struct buf in = i % 2 == 0 ? secrets(len) : watched(len);
        struct way want;
        struct chain msg;
        size_t n = 1;

        fix_chain(&fix, in.p, in.n, NULL, 0, &msg);
        run(&want, content, &msg, &in, false);
        while (fails_once(n, content, &in, &want))
            n++;
        assert_true(n > 1);
        way_free(&want);
        buf_free(&in);
    }
}

/* Of a Txn, DeleteRange or Put the plan is the only way. */
static void test_other_answers(void **state)
{
    struct buf txn = kit_txn(1, true), del = kit_delete_range(3, true), put = kit_put(true);

    (void)state;
    at_hand = ALL_AT_HAND;
    assert_int_equal(both(ETCD_TXN, &txn, NULL, 0), ETCD_EDIT);
    assert_int_equal(both(ETCD_DELETE_RANGE, &del, NULL, 0), ETCD_EDIT);
    assert_int_equal(both(ETCD_PUT, &put, NULL, 0), ETCD_EDIT);
    buf_free(&txn);
    buf_free(&del);
    buf_free(&put);
}

/* --- large answers --------------------------------------------------------------------------- */

/* Feeds in pieces of 1..max bytes. Returns how many batches took no plan. */
static size_t run_large(struct way *w, enum etcd_content content, const struct buf *in,
                        size_t batch_max, size_t max, bool is_direct)
{
    const struct etcd_direct with = {fix.ctx, &fix.pool, find, NULL};
    struct chain arrived = {0}, out = {0}, batch = {0}, piece;
    enum etcd_direct_step said = ETCD_DIRECT_NONE;
    enum etcd_large_step step = ETCD_LARGE_MORE;
    struct etcd_large *st;
    size_t fed = 0, opened = 0;

    begin(w, content, in);
    assert_int_equal(etcd_large_new(content, fix.rules, &w->ask, (uint32_t)in->n, batch_max, &st),
                     ERR_OK);
    while (w->err == ERR_OK && step != ETCD_LARGE_DONE) {
        if (step == ETCD_LARGE_MORE && fed < in->n) {
            size_t n = 1 + fix_random(&fix, (uint32_t)max);

            n = n < in->n - fed ? n : in->n - fed;
            fix_chain(&fix, in->p + fed, n, NULL, 0, &piece);
            assert_int_equal(chain_append(&arrived, &piece), ERR_OK);
            chain_fini(&piece);
            fed += n;
        }
        if (is_direct)
            said = etcd_large_direct(st, &arrived, &w->plan, &with, &out);
        assert_int_not_equal(said, ETCD_DIRECT_BAD);
        if (said == ETCD_DIRECT_BATCH) {
            step = ETCD_LARGE_BATCH;
            opened++;
            note(w, ERR_OK);
            continue;
        }
        step = etcd_large_next(st, &arrived, &w->plan, &batch);
        assert_true(said == ETCD_DIRECT_NONE || step == ETCD_LARGE_MORE);
        if (step == ETCD_LARGE_BATCH) {
            fix_resolve(&fix, &w->plan);
            w->err = etcd_large_apply(st, &w->plan, fix.ctx, &fix.pool, &batch, &out);
        }
        note(w, step == ETCD_LARGE_BAD ? w->plan.err : w->err);
    }
    assert_int_equal(etcd_large_is_filled(st), w->err == ERR_OK && content == ETCD_RANGE);
    etcd_large_free(st);
    chain_fini(&batch);
    chain_fini(&arrived);
    end(w, &out);
    return opened;
}

static void both_large(enum etcd_content content, const struct buf *in, size_t batch_max,
                       size_t max)
{
    struct way plan, direct;
    size_t opened;

    (void)run_large(&plan, content, in, batch_max, max, false);
    opened = run_large(&direct, content, in, batch_max, max, true);
    assert_true(opened > 0 || content == ETCD_RANGE_STREAM);
    if (content == ETCD_RANGE_STREAM) { /* cut elsewhere; together they say the same */
        struct buf a = kit_canonical(content, &plan.out), b = kit_canonical(content, &direct.out);

        buf_free(&plan.out);
        buf_free(&direct.out);
        plan.out = a;
        direct.out = b;
    }
    assert_same(&plan, &direct);
}

/* Secrets, some large, and now and then a key that is not protected. */
static struct buf long_list(int n)
{
    struct buf b = {0};

    kit_add_header(&b);
    for (int i = 0; i < n; i++)
        kit_add_kv(&b, 2, i, i % 7 == 3 ? 17000 : 100 + (size_t)i, true, 100 + i);
    buf_varint(&b, 3, 1);
    buf_varint(&b, 4, 12345);
    return b;
}

static void test_large(void **state)
{
    static const size_t maxima[] = {1, 7, 300, 5000, 1u << 20};
    struct buf range = long_list(20), inner = long_list(20), stream = {0};

    (void)state;
    buf_sub(&stream, 1, &inner);
    for (size_t i = 0; i < ARRAY_LEN(maxima); i++) {
        at_hand = ALL_AT_HAND;
        both_large(ETCD_RANGE, &range, 1 + fix_random(&fix, 40000), maxima[i]);
        both_large(ETCD_RANGE_STREAM, &stream, 1 + fix_random(&fix, 40000), maxima[i]);
        at_hand = 1;
        both_large(ETCD_RANGE, &range, 1 + fix_random(&fix, 40000), maxima[i]);
    }
    buf_free(&range);
    buf_free(&stream);
}

/* GCM's cipher is a stream: what was decrypted twice is what it was at first. So where plaintext
 * was put in place of its ciphertext, the tag would be right the second time. */
static void test_plaintext_for_ciphertext(void **state)
{
    static const size_t lengths[] = {100, 17000, 40000};

    (void)state;
    at_hand = ALL_AT_HAND;
    for (size_t i = 0; i < 2 * ARRAY_LEN(lengths); i++) {
        size_t n = lengths[i / 2];
        struct way plan, direct;
        struct buf b = {0};

        if (i % 2 == 1)
            add_kv(&b, 2, SECRET "a", 0, 50, 0);
        add_kv(&b, 2, SECRET "b", 0, n, 0);
        memset(b.p + b.n - fix.deks[0]->tail.n - 16 - n, 'b', n);
        both(ETCD_RANGE, &b, NULL, 0);
        (void)run_large(&plan, ETCD_RANGE, &b, 1u << 20, b.n, false);
        (void)run_large(&direct, ETCD_RANGE, &b, 1u << 20, b.n, true);
        assert_int_equal(plan.err, ERR_AUTH_FAILED);
        assert_int_equal(direct.err, ERR_AUTH_FAILED);
        way_free(&plan);
        way_free(&direct);
        buf_free(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_cut),     cmocka_unit_test(test_each_change),
        cmocka_unit_test(test_each_length),  cmocka_unit_test(test_odd_behind_large),
        cmocka_unit_test(test_outside),      cmocka_unit_test(test_memory_runs_out),
        cmocka_unit_test(test_keys_at_hand), cmocka_unit_test(test_other_answers),
        cmocka_unit_test(test_large),        cmocka_unit_test(test_plaintext_for_ciphertext),
    };

    return cmocka_run_group_tests(tests, kit_setup, kit_teardown);
}
