/* SPDX-License-Identifier: Apache-2.0 */
/* Requests: what passes byte for byte, what is refused and why, what is asked. */
#include "fixture.h"

#include "pb/pb.h"

#define SECRET "/registry/secrets/default/a"
#define OPEN_KEY "/elsewhere/a"

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

static struct run request(enum etcd_content content, const struct buf *in, struct etcd_ask *ask)
{
    struct chain msg;
    struct run r;

    fix_chain_random(&fix, in->p, in->n, fix_random(&fix, 4), &msg);
    fix_request(&fix, content, &msg, ask, &r);
    return r;
}

/* These take the message. */
static void passes(enum etcd_content content, struct buf in)
{
    struct run r = request(content, &in, NULL);

    assert_int_equal(r.err, ERR_OK);
    assert_int_equal(r.verdict, ETCD_AS_IS);
    assert_int_equal(r.out.n, in.n);
    assert_memory_equal(r.out.p, in.p, in.n);
    run_free(&r);
    buf_free(&in);
}

static void refused(enum etcd_content content, struct buf in, enum err want, const char *key)
{
    struct run r = request(content, &in, NULL);

    assert_int_equal(r.err, want);
    assert_int_equal(r.out.n, 0);
    assert_string_equal(r.bad_key, key);
    run_free(&r);
    buf_free(&in);
}

static struct buf put(const char *key, const char *value)
{
    struct buf b = {0};

    buf_str(&b, 1, key);
    if (value != NULL)
        buf_str(&b, 2, value);
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

static struct buf with_raw(struct buf b, const char *raw, size_t n)
{
    buf_add(&b, raw, n);
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

/* Txn { success { op } } */
static struct buf txn(uint32_t op, struct buf sub)
{
    return wrap(2, wrap(op, sub));
}

/* --- Put ------------------------------------------------------------------------------------- */

static void test_unprotected_put_passes(void **state)
{
    (void)state;
    passes(ETCD_PUT, put(OPEN_KEY, "value"));
    passes(ETCD_PUT, put(OPEN_KEY, "k8s:enc:whatever"));
    passes(ETCD_PUT, put(OPEN_KEY, NULL));
    passes(ETCD_PUT, put("/registry/open/a", "value"));
    passes(ETCD_PUT, with_varint(put(OPEN_KEY, NULL), 5, 1));
    passes(ETCD_PUT, with_str(put(OPEN_KEY, "one"), 2, "two"));
    passes(ETCD_PUT, with_str(put(OPEN_KEY, "one"), 99, "unknown"));
    passes(ETCD_PUT, with_raw(put(OPEN_KEY, "one"), "\xa3\x06\x08\x01\xa4\x06", 6));
    passes(ETCD_TXN, txn(2, put(OPEN_KEY, "value")));
    passes(ETCD_TXN, txn(2, with_str(put(OPEN_KEY, "value"), 99, "unknown")));
}

/* What is unknown inside of a Txn or of its operations could be an operation with a value, and etcd
 * logs a Txn whole: never forwarded. */
static void test_unknown_operations(void **state)
{
    struct buf cmp = {0}, range = {0}, del = {0};

    (void)state;
    refused(ETCD_TXN, with_str(txn(2, put(OPEN_KEY, "v")), 9, "x"), ERR_REQ_UNKNOWN_FIELD, "");
    refused(ETCD_TXN, wrap(4, put(SECRET, "v")), ERR_REQ_UNKNOWN_FIELD, "");
    refused(ETCD_TXN, txn(100, put(SECRET, "v")), ERR_REQ_UNKNOWN_FIELD, "");
    refused(ETCD_TXN, with_varint((struct buf){0}, 2, 1), ERR_REQ_WIRE_TYPE, "");
    refused(ETCD_PUT, with_str(put(OPEN_KEY, "one"), 3, "x"), ERR_REQ_WIRE_TYPE, "");
    refused(ETCD_TXN, wrap(1, with_str((struct buf){0}, 2, "x")), ERR_REQ_WIRE_TYPE, "");
    /* Without a key it could be about any. */
    refused(ETCD_TXN, wrap(1, with_str((struct buf){0}, 99, "x")), ERR_REQ_UNKNOWN_FIELD, "");
    refused(ETCD_TXN, txn(1, with_str((struct buf){0}, 99, "x")), ERR_REQ_UNKNOWN_FIELD, "");
    /* An operation that only names a protected key makes the message strict, too. */
    buf_str(&cmp, 3, SECRET);
    buf_str(&cmp, 99, "x");
    refused(ETCD_TXN, wrap(1, cmp), ERR_REQ_UNKNOWN_FIELD, SECRET);
    buf_str(&range, 1, SECRET);
    buf_str(&range, 99, "x");
    refused(ETCD_TXN, txn(1, range), ERR_REQ_UNKNOWN_FIELD, SECRET);
    buf_str(&del, 1, SECRET);
    buf_str(&del, 99, "x");
    refused(ETCD_DELETE_RANGE, del, ERR_REQ_UNKNOWN_FIELD, SECRET);
}

static void test_strict_when_protected(void **state)
{
    (void)state;
    refused(ETCD_PUT, with_str(put(SECRET, "v"), 99, "x"), ERR_REQ_UNKNOWN_FIELD, SECRET);
    refused(ETCD_PUT, with_varint(put(SECRET, "v"), 7, 1), ERR_REQ_UNKNOWN_FIELD, SECRET);
    refused(ETCD_PUT, with_str(put(SECRET, "v"), 2, "w"), ERR_REQ_DOUBLED, SECRET);
    refused(ETCD_PUT, with_str(put(SECRET, "v"), 1, SECRET), ERR_REQ_DOUBLED, SECRET);
    refused(ETCD_PUT, with_varint(with_varint(put(SECRET, "v"), 3, 1), 3, 2), ERR_REQ_DOUBLED,
            SECRET);
    refused(ETCD_PUT, with_str(put(SECRET, "v"), 3, "x"), ERR_REQ_WIRE_TYPE, "");
    refused(ETCD_PUT, with_varint(put(SECRET, NULL), 2, 5), ERR_REQ_WIRE_TYPE, "");
    refused(ETCD_PUT, with_raw(put(SECRET, "v"), "\xa3\x06\x08\x01\xa4\x06", 6),
            ERR_REQ_UNKNOWN_FIELD, SECRET);
    refused(ETCD_PUT, with_raw(put(SECRET, "v"), "\x13\x14", 2), ERR_REQ_WIRE_TYPE, "");
    /* fixed-width forms of known fields */
    refused(ETCD_PUT, with_raw(put(SECRET, "v"), "\x1d\0\0\0\0", 5), ERR_REQ_WIRE_TYPE, "");
}

/* The final key decides, but a protected one that it overrides counts, too. */
static void test_overridden_key(void **state)
{
    (void)state;
    refused(ETCD_PUT, with_str(put(SECRET, "v"), 1, OPEN_KEY), ERR_REQ_DOUBLED, SECRET);
    refused(ETCD_PUT, with_str(put(OPEN_KEY, "v"), 1, SECRET), ERR_REQ_DOUBLED, SECRET);
    passes(ETCD_PUT, with_str(put(OPEN_KEY, "v"), 1, "/elsewhere/b"));
}

/* Strictness goes for the whole message. */
static void test_strict_everywhere(void **state)
{
    struct buf cmp = {0}, range = {0};

    (void)state;
    buf_str(&cmp, 3, OPEN_KEY);
    buf_varint(&cmp, 99, 1);
    refused(ETCD_TXN, with_sub(wrap(1, cmp), 2, wrap(2, put(SECRET, "v"))), ERR_REQ_UNKNOWN_FIELD,
            SECRET);
    buf_str(&range, 1, OPEN_KEY);
    buf_varint(&range, 3, 1);
    buf_varint(&range, 3, 2);
    refused(ETCD_TXN, with_sub(txn(2, put(SECRET, "v")), 3, wrap(1, range)), ERR_REQ_DOUBLED,
            SECRET);
    refused(ETCD_TXN,
            with_sub(txn(2, put(SECRET, "v")), 2, wrap(2, with_varint(put(OPEN_KEY, "v"), 8, 1))),
            ERR_REQ_UNKNOWN_FIELD, SECRET);
}

static void test_key_and_ignore_value(void **state)
{
    struct buf b = {0};

    (void)state;
    buf_str(&b, 2, "value");
    refused(ETCD_PUT, b, ERR_REQ_EMPTY_KEY, "");
    refused(ETCD_PUT, put("", "value"), ERR_REQ_EMPTY_KEY, "");
    refused(ETCD_TXN, txn(2, put("", "value")), ERR_REQ_EMPTY_KEY, "");
    refused(ETCD_PUT, (struct buf){0}, ERR_REQ_EMPTY_KEY, "");
    refused(ETCD_PUT, with_varint(put(SECRET, "v"), 5, 1), ERR_REQ_VALUE_PROVIDED, SECRET);
    refused(ETCD_PUT, with_varint(put(OPEN_KEY, "v"), 5, 1), ERR_REQ_VALUE_PROVIDED, OPEN_KEY);
    passes(ETCD_PUT, with_varint(put(SECRET, NULL), 5, 1));
    passes(ETCD_PUT, with_varint(put(SECRET, ""), 5, 1));
    /* true is any varint but 0 */
    passes(ETCD_PUT, with_varint(put(SECRET, NULL), 5, 1ull << 40));
}

static void test_malformed(void **state)
{
    static const char *const bad[] = {
        "\x0a", /* a tag alone */
        "\x0a\x05"
        "ab",   /* length past the end */
        "\x07", /* wire type 7 */
        "\x06", /* wire type 6 */
        "\x02\x01"
        "a",                                                /* field 0 */
        "\x0c",                                             /* a stray end of group */
        "\x0b\x14",                                         /* a group that closes as another */
        "\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", /* 11 bytes of varint */
        "\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",     /* 65 bits */
        "\x8a\x80\x80\x80\x80\x02\x01"
        "a", /* field number over 2^29: int32 would alias */
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct buf raw = buf_of(bad[i], strlen(bad[i]));

        refused(ETCD_PUT, with_raw(put(OPEN_KEY, "v"), bad[i], strlen(bad[i])), ERR_PROTOBUF, "");
        refused(ETCD_PUT, with_raw(put(SECRET, "v"), bad[i], strlen(bad[i])), ERR_PROTOBUF, "");
        refused(ETCD_TXN, wrap(2, wrap(2, raw)), ERR_PROTOBUF, "");
    }
}

static void test_value_before_key(void **state)
{
    struct buf in = {0};
    struct run r;

    (void)state;
    buf_str(&in, 2, "MARKER");
    buf_str(&in, 1, SECRET);
    r = request(ETCD_PUT, &in, NULL);
    assert_int_equal(r.verdict, ETCD_EDIT);
    assert_int_equal(r.sealed, 1);
    assert_false(bytes_contain(r.out.p, r.out.n, "MARKER"));
    run_free(&r);
    buf_free(&in);
}

/* --- sealed values --------------------------------------------------------------------------- */

static void test_sealed_value_stays(void **state)
{
    struct buf sealed = fix_seal(&fix, 2, SECRET, "text", 4), in = {0};
    struct run r;

    (void)state;
    buf_str(&in, 1, SECRET);
    buf_field(&in, 2, sealed.p, sealed.n);
    r = request(ETCD_PUT, &in, NULL);
    assert_int_equal(r.verdict, ETCD_EDIT);
    assert_int_equal(r.err, ERR_OK);
    assert_int_equal(r.needs, 1);
    assert_int_equal(r.sealed, 0);
    assert_int_equal(r.out.n, in.n);
    assert_memory_equal(r.out.p, in.p, in.n);
    run_free(&r);
    buf_free(&in);
    buf_free(&sealed);
}

static void sealed_refused(const char *key, const void *value, size_t n)
{
    struct buf in = {0};

    buf_str(&in, 1, key);
    buf_field(&in, 2, value, n);
    refused(ETCD_PUT, in, ERR_REQ_SEALED_VALUE, key);
}

static void test_sealed_value_that_does_not_open(void **state)
{
    struct buf sealed = fix_seal(&fix, 0, SECRET, "text", 4);
    static const char *const texts[] = {"k8s:enc:", "k8s:enc:aescbc:v1:key:xxxxxxxxxxxxxxxxxxxx",
                                        "k8s:enc:kms:v2:other:x",
                                        "k8s:enc:kms:v2:one:", "k8s:enc:kms:v2:one:garbage"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        sealed_refused(SECRET, texts[i], strlen(texts[i]));
        sealed_refused("/registry/configmaps/a", texts[i], strlen(texts[i]));
        sealed_refused("/registry/moving/a", texts[i], strlen(texts[i]));
    }
    sealed_refused("/registry/secrets/default/b", sealed.p, sealed.n);
    for (size_t i = 0; i < 30; i++) { /* info, nonce */
        sealed.p[sealed.n / 4 + i] ^= 1;
        sealed_refused(SECRET, sealed.p, sealed.n);
        sealed.p[sealed.n / 4 + i] ^= 1;
    }
    buf_free(&sealed);
}

static void test_identity_first(void **state)
{
    struct buf sealed = fix_seal(&fix, 0, "/registry/moving/a", "text", 4), in = {0};
    struct run r;

    (void)state;
    passes(ETCD_PUT, put("/registry/moving/a", "plain, as configured"));
    passes(ETCD_PUT, put("/registry/moving/a", NULL));
    refused(ETCD_PUT, with_varint(put("/registry/moving/a", "v"), 99, 1), ERR_REQ_UNKNOWN_FIELD,
            "/registry/moving/a");
    buf_str(&in, 1, "/registry/moving/a");
    buf_field(&in, 2, sealed.p, sealed.n);
    r = request(ETCD_PUT, &in, NULL);
    assert_int_equal(r.err, ERR_OK);
    assert_int_equal(r.out.n, in.n);
    run_free(&r);
    buf_free(&in);
    buf_free(&sealed);
}

/* --- Txn ------------------------------------------------------------------------------------- */

static void test_doubled_members_always_refused(void **state)
{
    struct buf op;

    (void)state;
    /* one member twice, two members, in an unprotected Txn as well */
    op = with_sub(wrap(2, put(OPEN_KEY, "v")), 2, put(OPEN_KEY, "w"));
    refused(ETCD_TXN, wrap(2, op), ERR_REQ_DOUBLED, "");
    op = with_sub(wrap(2, put(OPEN_KEY, "v")), 1, put(OPEN_KEY, NULL));
    refused(ETCD_TXN, wrap(3, op), ERR_REQ_ONEOF, "");
    op = with_sub(wrap(2, put(SECRET, "v")), 2, put(SECRET, "w"));
    refused(ETCD_TXN, wrap(2, op), ERR_REQ_DOUBLED, "");
    refused(ETCD_TXN,
            wrap(1, with_varint(with_varint(with_str((struct buf){0}, 3, "k"), 6, 0), 6, 0)),
            ERR_REQ_DOUBLED, "");
    refused(ETCD_TXN,
            wrap(1, with_varint(with_varint(with_str((struct buf){0}, 3, "k"), 6, 0), 4, 0)),
            ERR_REQ_ONEOF, "");
}

/* A list without providers, one whose provider has no keys: protected all the same. */
static void test_nobody_seals(void **state)
{
    static const struct provider keyless = {.kind = PROVIDER_AESGCM,
                                            .prefix = BYTES_LIT("k8s:enc:aesgcm:v1:")};
    static const struct provider *const v[] = {&keyless};
    const struct provider_list lists[] = {{NULL, 0, "secrets"},
                                          {(const struct provider **)v, 1, "secrets"}};
    struct etcd_rules *rules = fix.rules;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        struct etcd_rule rule = {BYTES_LIT("/registry/secrets"), false, &lists[i]};

        assert_int_equal(etcd_rules_new(&rule, 1, &fix.rules), ERR_OK);
        refused(ETCD_PUT, put(SECRET, "v"), ERR_NO_WRITE_KEY, SECRET);
        refused(ETCD_PUT, put(SECRET, NULL), ERR_NO_WRITE_KEY, SECRET);
        refused(ETCD_TXN, txn(2, put(SECRET, "v")), ERR_NO_WRITE_KEY, SECRET);
        passes(ETCD_PUT, put(OPEN_KEY, "v"));
        etcd_rules_free(fix.rules);
    }
    fix.rules = rules;
}

static struct buf deep(unsigned levels, struct buf inner)
{
    for (unsigned i = 0; i < levels; i++)
        inner = txn(4, inner);
    return inner;
}

static void test_depth(void **state)
{
    struct buf in;
    struct run r;

    (void)state;
    in = deep(7, txn(2, put(SECRET, "MARKER")));
    r = request(ETCD_TXN, &in, NULL);
    assert_int_equal(r.err, ERR_OK);
    assert_int_equal(r.sealed, 1);
    assert_false(bytes_contain(r.out.p, r.out.n, "MARKER"));
    run_free(&r);
    buf_free(&in);
    refused(ETCD_TXN, deep(8, txn(2, put(SECRET, "v"))), ERR_REQ_DEPTH, "");
    refused(ETCD_TXN, deep(8, txn(2, put(OPEN_KEY, "v"))), ERR_REQ_DEPTH, "");
    refused(ETCD_TXN, deep(2000, txn(2, put(OPEN_KEY, "v"))), ERR_REQ_DEPTH, "");
}

static void test_too_many_ops(void **state)
{
    struct buf in = {0}, compares = {0};

    (void)state;
    for (unsigned i = 0; i < LIMIT_TXN_OPS; i++)
        buf_str(&in, 2 + i % 2, "");
    passes(ETCD_TXN, buf_of(in.p, in.n));
    buf_str(&in, 2, "");
    refused(ETCD_TXN, in, ERR_REQ_TOO_MANY_OPS, "");
    for (unsigned i = 0; i <= LIMIT_TXN_OPS; i++)
        buf_str(&compares, 1, "");
    refused(ETCD_TXN, compares, ERR_REQ_TOO_MANY_OPS, "");
}

static struct buf compare(const char *key, const char *end, int target, const char *value)
{
    struct buf b = {0};

    if (target > 0)
        buf_varint(&b, 2, (uint64_t)target);
    buf_str(&b, 3, key);
    if (value != NULL)
        buf_str(&b, 7, value);
    if (end != NULL)
        buf_str(&b, 64, end);
    return wrap(1, b);
}

static void test_value_compare(void **state)
{
    struct buf b = {0};

    (void)state;
    refused(ETCD_TXN, compare(SECRET, NULL, 3, "v"), ERR_REQ_VALUE_COMPARE, SECRET);
    refused(ETCD_TXN, compare(SECRET, NULL, 3, NULL), ERR_REQ_VALUE_COMPARE, SECRET);
    refused(ETCD_TXN, compare(SECRET, NULL, 2, "v"), ERR_REQ_VALUE_COMPARE, SECRET);
    refused(ETCD_TXN, compare(SECRET, NULL, 0, ""), ERR_REQ_VALUE_COMPARE, SECRET);
    refused(ETCD_TXN, compare("/", "0", 3, "v"), ERR_REQ_VALUE_COMPARE, "/");
    refused(ETCD_TXN, deep(1, compare(SECRET, NULL, 3, "v")), ERR_REQ_VALUE_COMPARE, SECRET);
    passes(ETCD_TXN, compare(OPEN_KEY, NULL, 3, "v"));
    passes(ETCD_TXN, compare("/registry/open/", "/registry/open0", 3, "v"));
    passes(ETCD_TXN, compare(SECRET, NULL, 2, NULL));
    /* enums are int32: the upper bits of the varint don't count */
    buf_varint(&b, 2, (1ull << 32) + 3);
    buf_str(&b, 3, SECRET);
    refused(ETCD_TXN, wrap(1, b), ERR_REQ_VALUE_COMPARE, SECRET);
    /* an overridden protected key counts */
    b = (struct buf){0};
    buf_str(&b, 3, SECRET);
    buf_str(&b, 3, OPEN_KEY);
    buf_str(&b, 7, "v");
    refused(ETCD_TXN, wrap(1, b), ERR_REQ_VALUE_COMPARE, OPEN_KEY);
}

static struct buf sorted(const char *key, const char *end, uint64_t target)
{
    struct buf b = {0};

    buf_str(&b, 1, key);
    if (end != NULL)
        buf_str(&b, 2, end);
    buf_varint(&b, 6, target);
    return b;
}

static void test_value_sort(void **state)
{
    (void)state;
    refused(ETCD_RANGE, sorted("/registry/secrets/", "/registry/secrets0", 4), ERR_REQ_VALUE_SORT,
            "/registry/secrets/");
    refused(ETCD_RANGE_STREAM, sorted("/", "0", 4), ERR_REQ_VALUE_SORT, "/");
    refused(ETCD_RANGE, sorted("/", "0", (7ull << 32) + 4), ERR_REQ_VALUE_SORT, "/");
    refused(ETCD_TXN, txn(1, sorted("/", "0", 4)), ERR_REQ_VALUE_SORT, "/");
    passes(ETCD_RANGE, sorted("/", "0", 3));
    passes(ETCD_RANGE, sorted(SECRET, NULL, 4));
    passes(ETCD_RANGE, sorted("/elsewhere/", "/elsewhere0", 4));
}

/* --- what is asked --------------------------------------------------------------------------- */

static bool holds(const struct etcd_ask *ask, uint32_t op, const char *key)
{
    bool keys_only;

    return etcd_ask_holds(ask, op, bytes_str(key), &keys_only);
}

/* Which Range asks for a list: that decides which of etcd's connections it takes. */
static void test_ask_of_list(void **state)
{
    static const struct {
        const char *end;
        uint32_t field; /* one more, with value */
        uint64_t value;
        bool is_list;
    } cases[] = {
        {"/r0", 0, 0, true},  {NULL, 0, 0, false},  {"/r0", 3, 499, false}, {"/r0", 3, 500, true},
        {"/r0", 8, 1, false}, {"/r0", 9, 1, false}, {"/r0", 8, 0, true},    {NULL, 3, 500, false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct etcd_ask ask = {0};
        struct buf in = {0};
        struct run r;

        buf_str(&in, 1, "/r/");
        if (cases[i].end != NULL)
            buf_str(&in, 2, cases[i].end);
        if (cases[i].field != 0)
            buf_varint(&in, cases[i].field, cases[i].value);
        r = request(ETCD_RANGE, &in, &ask);
        assert_int_equal(ask.is_list, cases[i].is_list);
        run_free(&r);
        buf_free(&in);
        etcd_ask_fini(&ask);
    }
}

/* Txn { compare; success: put; failure: range, Txn { failure: delete } }, in another order. */
static void test_ask_of_txn(void **state)
{
    struct etcd_ask ask = {0};
    struct buf range = put("/r/", "/r0"), del = put("/d", "/e"), in;
    uint32_t op, inner;
    struct run r;
    bool keys_only;

    (void)state;
    buf_varint(&range, 8, 1);
    in = with_sub((struct buf){0}, 3, wrap(1, range));
    in = with_sub(in, 2, wrap(2, put("/elsewhere/p", "v")));
    in = with_sub(in, 3, wrap(4, wrap(3, wrap(3, del))));
    in = with_sub(in, 1, with_str((struct buf){0}, 3, "/compared"));
    r = request(ETCD_TXN, &in, &ask);
    assert_int_equal(r.verdict, ETCD_AS_IS);
    assert_int_equal(ask.op_count, 5);
    assert_int_equal(ask.ops[0].kind, ETCD_ASKED_TXN);
    op = ask.ops[0].first[true];
    assert_int_equal(ask.ops[op].kind, ETCD_ASKED_PUT);
    assert_true(holds(&ask, op, "/elsewhere/p"));
    assert_false(holds(&ask, op, "/elsewhere/pp"));
    assert_false(holds(&ask, op, "/r/x"));
    assert_int_equal(ask.ops[op].next, 0);
    op = ask.ops[0].first[false];
    assert_int_equal(ask.ops[op].kind, ETCD_ASKED_RANGE);
    assert_true(etcd_ask_holds(&ask, op, bytes_str("/r/x"), &keys_only));
    assert_true(keys_only);
    op = ask.ops[op].next;
    assert_int_equal(ask.ops[op].kind, ETCD_ASKED_TXN);
    assert_int_equal(ask.ops[op].next, 0);
    assert_int_equal(ask.ops[op].first[true], 0);
    inner = ask.ops[op].first[false];
    assert_int_equal(ask.ops[inner].kind, ETCD_ASKED_DELETE);
    assert_true(holds(&ask, inner, "/dzz"));
    assert_false(holds(&ask, inner, "/compared"));
    run_free(&r);
    buf_free(&in);
    etcd_ask_fini(&ask);
}

static void test_watch_requests(void **state)
{
    struct etcd_ask ask = {0};
    struct buf in = wrap(1, put("/registry/secrets/", "/registry/secrets0"));
    struct run r = request(ETCD_WATCH, &in, &ask);

    (void)state;
    assert_int_equal(r.verdict, ETCD_AS_IS);
    assert_int_equal(ask.create_count, 1);
    run_free(&r);
    buf_free(&in);
    in = wrap(1, (struct buf){0}); /* everything from the first key on? no: the first key */
    r = request(ETCD_WATCH, &in, &ask);
    assert_int_equal(ask.create_count, 2);
    assert_int_equal(ask.creates[1].range.key.n, 1);
    assert_int_equal(ask.creates[1].range.key.p[0], 0);
    assert_int_equal(ask.creates[1].id, 0);
    run_free(&r);
    buf_free(&in);
    in = wrap(1, with_varint(put("/a", NULL), 7, 42));
    r = request(ETCD_WATCH, &in, &ask);
    assert_int_equal(ask.creates[2].id, 42);
    run_free(&r);
    buf_free(&in);
    etcd_ask_fini(&ask);
    passes(ETCD_WATCH, wrap(2, with_varint((struct buf){0}, 1, 5)));
    passes(ETCD_WATCH, wrap(3, (struct buf){0}));
    passes(ETCD_WATCH, with_str(wrap(1, with_str(put("/a", NULL), 5, "\x01")), 77, "x"));
    refused(ETCD_WATCH, with_sub(wrap(1, put("/a", NULL)), 1, put("/b", NULL)), ERR_REQ_DOUBLED,
            "");
    refused(ETCD_WATCH, with_sub(wrap(1, put("/a", NULL)), 3, (struct buf){0}), ERR_REQ_ONEOF, "");
    refused(ETCD_WATCH, wrap(1, with_raw((struct buf){0}, "\x0a", 1)), ERR_PROTOBUF, "");
}

static void test_contents_without_scan(void **state)
{
    struct etcd_plan p = {0};
    struct chain msg;

    (void)state;
    passes(ETCD_OPAQUE, buf_of("\xff\xff", 2));
    passes(ETCD_MEMBERS, buf_of("", 0));
    refused(ETCD_REFUSED, buf_of("", 0), ERR_UNKNOWN_METHOD, "");
    fix_chain(&fix, "", 0, NULL, 0, &msg);
    assert_int_equal(etcd_scan_answer(&p, ETCD_OPAQUE, fix.rules, &msg, NULL), ETCD_AS_IS);
    assert_int_equal(etcd_scan_answer(&p, ETCD_MEMBERS, fix.rules, &msg, NULL), ETCD_REJECT);
    assert_int_equal(etcd_scan_answer(&p, ETCD_REFUSED, fix.rules, &msg, NULL), ETCD_REJECT);
    etcd_plan_fini(&p);
}

/* Puts n unknown fields of two bytes behind what is in b. */
static struct buf odd(struct buf b, size_t n)
{
    size_t at = b.n;

    b.p = realloc(b.p, at + 2 * n);
    assert_non_null(b.p);
    for (size_t i = 0; i < n; i++) {
        b.p[at + 2 * i] = 15 << 3;
        b.p[at + 2 * i + 1] = 1;
    }
    b.n += 2 * n;
    b.cap = 0;
    return b;
}

/* Walking them would hold the worker; an unprotected put may have some. */
static void test_too_many_odd_fields(void **state)
{
    struct buf limits = {0};

    (void)state;
    passes(ETCD_PUT, odd(put(OPEN_KEY, "value"), LIMIT_ODD_FIELDS));
    refused(ETCD_PUT, odd(put(OPEN_KEY, "value"), 2 * LIMIT_ODD_FIELDS), ERR_REQ_TOO_MANY_FIELDS,
            "");
    refused(ETCD_RANGE, odd((struct buf){0}, 2 * LIMIT_ODD_FIELDS), ERR_REQ_TOO_MANY_FIELDS, "");
    for (size_t i = 0; i < 2 * LIMIT_ODD_FIELDS; i++)
        buf_varint(&limits, 3, 1); /* a scalar again and again */
    refused(ETCD_RANGE, limits, ERR_REQ_TOO_MANY_FIELDS, "");
}

/* A later etcd's KeyValues may have one more field each. */
static void test_an_unknown_field_in_each_of_many_kvs(void **state)
{
    struct buf one = {0}, all = {0};
    struct etcd_ask ask = {0};
    struct chain msg;
    struct run r;

    (void)state;
    fix_ask(&ask, "/elsewhere/", "/elsewhere0", false);
    buf_str(&one, 1, OPEN_KEY);
    buf_varint(&one, 2, 5);
    buf_varint(&one, 15, 5);
    for (size_t i = 0; i < 4 * LIMIT_ODD_FIELDS; i++)
        buf_field(&all, 2, one.p, one.n);
    fix_chain_random(&fix, all.p, all.n, 4, &msg);
    fix_answer(&fix, ETCD_RANGE, &msg, &ask, &r);
    assert_int_equal(r.err, ERR_OK);
    run_free(&r);
    etcd_ask_fini(&ask);
    buf_free(&all);
    all = odd((struct buf){0}, 2 * LIMIT_ODD_FIELDS); /* but nothing else */
    fix_ask(&ask, "/elsewhere/", "/elsewhere0", false);
    fix_chain(&fix, all.p, all.n, NULL, 0, &msg);
    fix_answer(&fix, ETCD_RANGE, &msg, &ask, &r);
    assert_int_equal(r.err, ERR_ANS_MALFORMED);
    run_free(&r);
    etcd_ask_fini(&ask);
    buf_free(&all);
    buf_free(&one);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unprotected_put_passes),
        cmocka_unit_test(test_unknown_operations),
        cmocka_unit_test(test_strict_when_protected),
        cmocka_unit_test(test_overridden_key),
        cmocka_unit_test(test_ask_of_list),
        cmocka_unit_test(test_strict_everywhere),
        cmocka_unit_test(test_key_and_ignore_value),
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_value_before_key),
        cmocka_unit_test(test_sealed_value_stays),
        cmocka_unit_test(test_sealed_value_that_does_not_open),
        cmocka_unit_test(test_identity_first),
        cmocka_unit_test(test_doubled_members_always_refused),
        cmocka_unit_test(test_nobody_seals),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_too_many_ops),
        cmocka_unit_test(test_too_many_odd_fields),
        cmocka_unit_test(test_an_unknown_field_in_each_of_many_kvs),
        cmocka_unit_test(test_value_compare),
        cmocka_unit_test(test_value_sort),
        cmocka_unit_test(test_ask_of_txn),
        cmocka_unit_test(test_watch_requests),
        cmocka_unit_test(test_contents_without_scan),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
