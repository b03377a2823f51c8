/* SPDX-License-Identifier: Apache-2.0 */
/* Answers: every rule on KeyValues, each broken once. */
#include "fixture.h"

#define SECRET "/registry/secrets/default/a"
#define CONFIG "/registry/configmaps/a"

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

static struct run answer(enum etcd_content content, const struct buf *in, struct etcd_ask *ask)
{
    struct chain msg;
    struct run r;

    fix_chain_random(&fix, in->p, in->n, fix_random(&fix, 4), &msg);
    fix_answer(&fix, content, &msg, ask, &r);
    return r;
}

static void default_ask(enum etcd_content content, const struct buf *in, struct etcd_ask *ask)
{
    struct etcd_range r = {bytes_str("/registry/"), bytes_str("/registry0"), false};

    ask_like(ask, content, bytes_of(in->p, in->n), &r, 0);
}

/* These take the message. */
static void refused(enum etcd_content content, struct buf in, enum err want, const char *key)
{
    struct etcd_ask ask = {0};
    struct run r;

    default_ask(content, &in, &ask);
    r = answer(content, &in, &ask);
    assert_int_equal(r.err, want);
    assert_string_equal(r.bad_key, key);
    assert_int_equal(r.out.n, 0);
    run_free(&r);
    buf_free(&in);
    etcd_ask_fini(&ask);
}

/* Unchanged; plain: identity reads. */
static void passes(enum etcd_content content, struct buf in, size_t plain)
{
    struct etcd_ask ask = {0};
    struct run r;

    default_ask(content, &in, &ask);
    r = answer(content, &in, &ask);
    assert_int_equal(r.err, ERR_OK);
    assert_int_equal(r.verdict, ETCD_AS_IS);
    assert_int_equal(r.plain, plain);
    run_free(&r);
    buf_free(&in);
    etcd_ask_fini(&ask);
}

static struct buf kv(const char *key, const char *value)
{
    struct buf b = {0};

    if (key != NULL)
        buf_str(&b, 1, key);
    if (value != NULL)
        buf_str(&b, 5, value);
    return b;
}

static struct buf sealed_kv(const char *key, const char *sealed_for)
{
    struct buf sealed = fix_seal(&fix, 0, sealed_for, "text", 4), b = {0};

    buf_str(&b, 1, key);
    buf_field(&b, 5, sealed.p, sealed.n);
    buf_free(&sealed);
    return b;
}

static struct buf wrap(uint32_t number, struct buf sub)
{
    struct buf b = {0};

    buf_sub(&b, number, &sub);
    return b;
}

static struct buf with_sub(struct buf b, uint32_t number, struct buf sub)
{
    buf_sub(&b, number, &sub);
    return b;
}

static struct buf with_varint(struct buf b, uint32_t number, uint64_t v)
{
    buf_varint(&b, number, v);
    return b;
}

static struct buf with_str(struct buf b, uint32_t number, const char *s)
{
    buf_str(&b, number, s);
    return b;
}

static void test_outside(void **state)
{
    (void)state;
    refused(ETCD_RANGE, wrap(2, kv("/elsewhere", "v")), ERR_ANS_OUTSIDE, "/elsewhere");
    refused(ETCD_RANGE, wrap(2, kv("/elsewhere", NULL)), ERR_ANS_OUTSIDE, "/elsewhere");
    refused(ETCD_RANGE, wrap(2, kv(NULL, NULL)), ERR_ANS_OUTSIDE, "");
    refused(ETCD_PUT, wrap(2, kv("/elsewhere", "v")), ERR_ANS_OUTSIDE, "/elsewhere");
    refused(ETCD_DELETE_RANGE, wrap(3, kv("/elsewhere", "v")), ERR_ANS_OUTSIDE, "/elsewhere");
    refused(ETCD_TXN, wrap(3, wrap(1, wrap(2, kv("/elsewhere", "v")))), ERR_ANS_OUTSIDE,
            "/elsewhere");
    refused(ETCD_TXN, wrap(3, wrap(4, wrap(3, wrap(2, wrap(2, kv("/elsewhere", "v")))))),
            ERR_ANS_OUTSIDE, "/elsewhere");
    refused(ETCD_RANGE_STREAM, wrap(1, wrap(2, kv("/elsewhere", "v"))), ERR_ANS_OUTSIDE,
            "/elsewhere");
    refused(ETCD_WATCH, wrap(11, wrap(2, kv("/elsewhere", "v"))), ERR_ANS_OUTSIDE, "/elsewhere");
}

static void test_values(void **state)
{
    (void)state;
    refused(ETCD_RANGE, wrap(2, kv(NULL, "v")), ERR_ANS_NO_KEY, "");
    refused(ETCD_RANGE, wrap(2, kv("", "v")), ERR_ANS_NO_KEY, "");
    refused(ETCD_RANGE, wrap(2, kv(SECRET, "planted")), ERR_NO_MATCHING_PREFIX, SECRET);
    refused(ETCD_RANGE, wrap(2, kv(SECRET, NULL)), ERR_NO_MATCHING_PREFIX, SECRET);
    refused(ETCD_RANGE, wrap(2, kv(SECRET, "")), ERR_NO_MATCHING_PREFIX, SECRET);
    refused(ETCD_RANGE, wrap(2, kv(CONFIG, "k8s:enc:aescbc:v1:k:")), ERR_NO_MATCHING_PREFIX,
            CONFIG);
    refused(ETCD_RANGE, wrap(2, sealed_kv(SECRET, CONFIG)), ERR_AUTH_FAILED, SECRET);
    passes(ETCD_RANGE, wrap(2, kv(CONFIG, "plain")), 1);
    passes(ETCD_RANGE, wrap(2, kv(CONFIG, NULL)), 1);
    passes(ETCD_RANGE, wrap(2, kv("/registry/open/a", "plain")), 0);
    passes(ETCD_RANGE, wrap(2, kv("/registry/open/a", "k8s:enc:x")), 0);
    passes(ETCD_RANGE, (struct buf){0}, 0);
}

/* Values whose tails have one length are not taken for one another: whichever bit differs, the
 * second needs a DEK of its own, or is refused. */
static void test_like_the_last(void **state)
{
    struct buf one = fix_seal(&fix, 0, SECRET, "v", 1), two = buf_of(one.p, one.n);
    size_t tail = fix.deks[0]->tail.n;

    (void)state;
    for (size_t bit = 0; bit < 8 * tail; bit++) {
        size_t at = one.n - tail + bit / 8;
        struct etcd_ask ask = {0};
        struct buf in = {0};
        struct run r;

        two.p[at] ^= (uint8_t)(1u << bit % 8);
        for (unsigned i = 0; i < 2; i++) {
            struct buf kv = {0};

            buf_str(&kv, 1, SECRET);
            buf_field(&kv, 5, i == 0 ? one.p : two.p, one.n);
            buf_sub(&in, 2, &kv);
        }
        default_ask(ETCD_RANGE, &in, &ask);
        r = answer(ETCD_RANGE, &in, &ask);
        assert_true(r.needs == 2 || (r.verdict == ETCD_REJECT && r.err != ERR_OK));
        two.p[at] = one.p[at];
        run_free(&r);
        buf_free(&in);
        etcd_ask_fini(&ask);
    }
    buf_free(&one);
    buf_free(&two);
}

static void test_keys_only(void **state)
{
    struct etcd_ask ask = {0};
    struct buf in = wrap(2, kv(SECRET, NULL));
    struct run r;

    (void)state;
    fix_ask(&ask, "/registry/", "/registry0", true);
    r = answer(ETCD_RANGE, &in, &ask);
    assert_int_equal(r.verdict, ETCD_AS_IS);
    run_free(&r);
    buf_free(&in);
    in = wrap(2, kv(SECRET, "planted"));
    r = answer(ETCD_RANGE, &in, &ask);
    assert_int_equal(r.err, ERR_NO_MATCHING_PREFIX);
    run_free(&r);
    buf_free(&in);
    etcd_ask_fini(&ask);
}

static void test_doubled(void **state)
{
    (void)state;
    refused(ETCD_RANGE, wrap(2, with_str(sealed_kv(SECRET, SECRET), 5, "x")), ERR_ANS_DOUBLED, "");
    refused(ETCD_RANGE, wrap(2, with_str(sealed_kv(SECRET, SECRET), 1, SECRET)), ERR_ANS_DOUBLED,
            "");
    refused(ETCD_RANGE, with_str(wrap(1, (struct buf){0}), 1, ""), ERR_ANS_DOUBLED, "");
    refused(ETCD_PUT, with_sub(wrap(2, sealed_kv(SECRET, SECRET)), 2, kv(SECRET, NULL)),
            ERR_ANS_DOUBLED, "");
    refused(ETCD_TXN, wrap(3, with_sub(wrap(1, (struct buf){0}), 1, (struct buf){0})),
            ERR_ANS_DOUBLED, "");
    refused(ETCD_TXN, wrap(3, with_sub(wrap(1, (struct buf){0}), 3, (struct buf){0})),
            ERR_ANS_DOUBLED, "");
    refused(ETCD_RANGE_STREAM, with_sub(wrap(1, (struct buf){0}), 1, (struct buf){0}),
            ERR_ANS_DOUBLED, "");
    refused(ETCD_WATCH, wrap(11, with_sub(wrap(2, sealed_kv(SECRET, SECRET)), 2, kv(SECRET, NULL))),
            ERR_ANS_DOUBLED, "");
    refused(ETCD_WATCH, with_str(wrap(1, (struct buf){0}), 1, ""), ERR_ANS_DOUBLED, "");
    /* revisions are plain scalars, kvs are repeated */
    passes(ETCD_RANGE, wrap(2, with_varint(with_varint(kv(CONFIG, "p"), 3, 1), 3, 2)), 1);
    passes(ETCD_RANGE, with_sub(wrap(2, kv(CONFIG, "p")), 2, kv(CONFIG, "q")), 2);
}

static void test_wire_types(void **state)
{
    (void)state;
    refused(ETCD_RANGE, wrap(2, with_varint(kv(SECRET, NULL), 5, 1)), ERR_ANS_WIRE_TYPE, "");
    refused(ETCD_RANGE, wrap(2, with_str(kv(SECRET, NULL), 3, "x")), ERR_ANS_WIRE_TYPE, "");
    refused(ETCD_RANGE, with_varint((struct buf){0}, 2, 1), ERR_ANS_WIRE_TYPE, "");
    refused(ETCD_RANGE, with_varint((struct buf){0}, 1, 1), ERR_ANS_WIRE_TYPE, "");
    refused(ETCD_TXN, wrap(3, with_varint((struct buf){0}, 1, 1)), ERR_ANS_WIRE_TYPE, "");
    refused(ETCD_WATCH, with_varint((struct buf){0}, 11, 1), ERR_ANS_WIRE_TYPE, "");
    refused(ETCD_RANGE, buf_of("\x13\x14", 2), ERR_ANS_WIRE_TYPE, "");
}

static void test_malformed(void **state)
{
    struct buf deep = wrap(2, kv(CONFIG, "p"));

    (void)state;
    refused(ETCD_RANGE, buf_of("\x12\x05", 2), ERR_ANS_MALFORMED, "");
    refused(ETCD_RANGE, wrap(2, buf_of("\x0a\x7f", 2)), ERR_ANS_MALFORMED, "");
    refused(ETCD_WATCH, wrap(11, wrap(2, buf_of("\x0a\x7f", 2))), ERR_ANS_MALFORMED, "");
    deep = wrap(3, wrap(1, deep));
    for (int i = 0; i < 7; i++)
        deep = wrap(3, wrap(4, deep));
    passes(ETCD_TXN, buf_of(deep.p, deep.n), 1);
    deep = wrap(3, wrap(4, deep));
    refused(ETCD_TXN, deep, ERR_ANS_MALFORMED, "");
}

/* --- Watch ----------------------------------------------------------------------------------- */

static struct buf event(uint64_t type, struct buf sub)
{
    struct buf b = {0};

    if (type != 0)
        buf_varint(&b, 1, type);
    buf_sub(&b, 2, &sub);
    return b;
}

static void test_events(void **state)
{
    struct buf odd = {0};

    (void)state;
    passes(ETCD_WATCH, wrap(11, event(1, kv(SECRET, NULL))), 0);
    refused(ETCD_WATCH, wrap(11, event(0, kv(SECRET, NULL))), ERR_NO_MATCHING_PREFIX, SECRET);
    refused(ETCD_WATCH, wrap(11, event(1, kv(SECRET, "planted"))), ERR_NO_MATCHING_PREFIX, SECRET);
    /* the type may come last; an enum is an int32 */
    odd = with_varint(wrap(2, kv(SECRET, NULL)), 1, (1ull << 32) + 1);
    passes(ETCD_WATCH, wrap(11, odd), 0);
    refused(ETCD_WATCH, wrap(11, with_sub(event(1, kv(SECRET, NULL)), 3, kv(SECRET, NULL))),
            ERR_NO_MATCHING_PREFIX, SECRET);
    refused(ETCD_WATCH,
            wrap(11, with_sub(event(1, kv(SECRET, NULL)), 3, sealed_kv(CONFIG, CONFIG))),
            ERR_ANS_PREV_KEY, CONFIG);
    refused(ETCD_WATCH, wrap(11, wrap(3, sealed_kv(SECRET, SECRET))), ERR_ANS_PREV_KEY, SECRET);
}

/* prev_kv before kv: both are opened, in wire order. */
static void test_event_order(void **state)
{
    struct etcd_ask ask = {0};
    struct buf in =
        wrap(11, with_sub(wrap(3, sealed_kv(SECRET, SECRET)), 2, sealed_kv(SECRET, SECRET)));
    struct buf want = wrap(11, with_sub(wrap(3, kv(SECRET, "text")), 2, kv(SECRET, "text")));
    struct run r;

    (void)state;
    default_ask(ETCD_WATCH, &in, &ask);
    r = answer(ETCD_WATCH, &in, &ask);
    assert_int_equal(r.opened, 2);
    assert_int_equal(r.out.n, want.n);
    assert_memory_equal(r.out.p, want.p, want.n);
    run_free(&r);
    buf_free(&in);
    buf_free(&want);
    etcd_ask_fini(&ask);
}

static struct buf watch(int64_t id, bool created, bool canceled)
{
    struct buf b = {0};

    buf_str(&b, 1, "\x18\x09");
    buf_varint(&b, 2, (uint64_t)id);
    if (created)
        buf_varint(&b, 3, 1);
    if (canceled)
        buf_varint(&b, 4, 1);
    return b;
}

static enum err watch_answer(struct etcd_ask *ask, struct buf in, struct etcd_watch_info *info)
{
    struct run r = answer(ETCD_WATCH, &in, ask);
    enum err e = r.err;

    if (e == ERR_OK)
        assert_int_equal(r.verdict, ETCD_AS_IS);
    *info = r.watch;
    run_free(&r);
    buf_free(&in);
    return e;
}

static void test_watch_life(void **state)
{
    struct etcd_ask ask = {0};
    struct etcd_range one = {bytes_str(SECRET), bytes_of(NULL, 0), false};
    struct etcd_watch_info info;

    (void)state;
    assert_int_equal(watch_answer(&ask, watch(5, true, false), &info), ERR_ANS_UNKNOWN_WATCH);
    assert_int_equal(etcd_ask_create(&ask, 0, &one), ERR_OK);
    assert_int_equal(watch_answer(&ask, watch(5, true, false), &info), ERR_OK);
    assert_true(info.created && !info.canceled && !info.has_events && info.has_header);
    assert_int_equal(info.watch_id, 5);
    assert_int_equal(info.header_at, 2);
    assert_int_equal(info.header_len, 2);
    assert_int_equal(etcd_ask_watch(&ask, 5)->state, ETCD_WATCH_OPEN);
    /* progress, for one watch and for all */
    assert_int_equal(watch_answer(&ask, watch(5, false, false), &info), ERR_OK);
    assert_int_equal(watch_answer(&ask, watch(-1, false, false), &info), ERR_OK);
    assert_int_equal(info.watch_id, -1);
    /* events of another watch, and the right one */
    assert_int_equal(
        watch_answer(&ask, with_sub(watch(6, false, false), 11, event(1, kv(SECRET, NULL))), &info),
        ERR_ANS_UNKNOWN_WATCH);
    assert_int_equal(
        watch_answer(&ask, with_sub(watch(5, false, false), 11, event(1, kv(SECRET, NULL))), &info),
        ERR_OK);
    assert_true(info.has_events);
    assert_int_equal(
        watch_answer(&ask, with_sub(watch(5, false, false), 11, event(1, kv(CONFIG, NULL))), &info),
        ERR_ANS_OUTSIDE);
    /* the id may come behind the events */
    assert_int_equal(
        watch_answer(&ask, with_varint(wrap(11, event(1, kv(SECRET, NULL))), 2, 5), &info), ERR_OK);
    assert_int_equal(watch_answer(&ask, watch(5, false, true), &info), ERR_OK);
    assert_null(etcd_ask_watch(&ask, 5));
    assert_int_equal(watch_answer(&ask, watch(5, false, true), &info), ERR_OK);
    etcd_ask_fini(&ask);
}

static void test_swallow(void **state)
{
    struct etcd_ask ask = {0};
    struct etcd_watch_info info;

    (void)state;
    default_ask(ETCD_WATCH, &(struct buf){0}, &ask);
    etcd_ask_watch(&ask, 0)->state = ETCD_WATCH_SWALLOW;
    assert_int_equal(
        watch_answer(&ask, with_sub(watch(0, false, false), 11, event(0, kv(SECRET, "planted"))),
                     &info),
        ERR_OK);
    assert_true(info.has_events);
    assert_true(info.is_swallowed);
    assert_int_equal(etcd_ask_watch(&ask, 0)->state, ETCD_WATCH_SWALLOW);
    assert_int_equal(watch_answer(&ask, watch(0, false, true), &info), ERR_OK);
    assert_true(info.is_swallowed);
    assert_null(etcd_ask_watch(&ask, 0));
    etcd_ask_fini(&ask);
}

/* etcd refuses a create with the id that was asked for (for want of a permission), which may be
 * that of a watch that we have ended: the answer is the create's. */
static void test_refused_beside_swallowed(void **state)
{
    struct etcd_ask ask = {0};
    struct etcd_range one = {bytes_str(SECRET), bytes_of(NULL, 0), false};
    struct etcd_watch_info info;

    (void)state;
    for (int64_t id = 0; id < 2; id++) {
        assert_int_equal(etcd_ask_create(&ask, id, &one), ERR_OK);
        assert_int_equal(watch_answer(&ask, watch(id, true, false), &info), ERR_OK);
        etcd_ask_watch(&ask, id)->state = ETCD_WATCH_SWALLOW;
        assert_int_equal(etcd_ask_create(&ask, id, &one), ERR_OK);
        assert_int_equal(watch_answer(&ask, watch(id, true, true), &info), ERR_OK);
        assert_false(info.is_swallowed);
        assert_int_equal(etcd_ask_watch(&ask, id)->state, ETCD_WATCH_SWALLOW);
        assert_int_equal(watch_answer(&ask, watch(id, false, true), &info), ERR_OK);
        assert_true(info.is_swallowed);
        assert_null(etcd_ask_watch(&ask, id));
    }
    etcd_ask_fini(&ask);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_outside),       cmocka_unit_test(test_values),
        cmocka_unit_test(test_like_the_last), cmocka_unit_test(test_keys_only),
        cmocka_unit_test(test_doubled),       cmocka_unit_test(test_wire_types),
        cmocka_unit_test(test_malformed),     cmocka_unit_test(test_events),
        cmocka_unit_test(test_event_order),   cmocka_unit_test(test_watch_life),
        cmocka_unit_test(test_swallow),       cmocka_unit_test(test_refused_beside_swallowed),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
