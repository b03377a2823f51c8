/* SPDX-License-Identifier: Apache-2.0 */
/* The rewriter against protobuf-c: messages are built and taken apart by it, the slow way is
 * decode, edit, encode. Where our input is canonical the bytes must be equal. */
#include "fixture.h"

#include "base/metrics.h"
#include "etcd_rpc.pb-c.h"

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

/* --- oracles --------------------------------------------------------------------------------- */

static struct buf pack(const ProtobufCMessage *m)
{
    struct buf b = {malloc(protobuf_c_message_get_packed_size(m) + 1), 0, 0};

    assert_non_null(b.p);
    b.n = protobuf_c_message_pack(m, b.p);
    return b;
}

static const ProtobufCMessageDescriptor *request_type(enum etcd_content content)
{
    switch (content) {
    case ETCD_PUT:
        return &etcdserverpb__put_request__descriptor;
    case ETCD_TXN:
        return &etcdserverpb__txn_request__descriptor;
    default:
        return &etcdserverpb__range_request__descriptor;
    }
}

static bool is_secret(ProtobufCBinaryData key)
{
    return key.len > 17 && memcmp(key.data, "/registry/secrets", 17) == 0;
}

static size_t seal_put(Etcdserverpb__PutRequest *in, const Etcdserverpb__PutRequest *out)
{
    char key[256];
    struct buf plain;

    if (!is_secret(in->key) || in->ignore_value)
        return 0;
    assert_true(in->key.len < sizeof key);
    memcpy(key, in->key.data, in->key.len);
    key[in->key.len] = 0;
    plain = fix_open(&fix, key, out->value.data, out->value.len);
    assert_int_equal(plain.n, in->value.len);
    assert_true(plain.n == 0 || memcmp(plain.p, in->value.data, plain.n) == 0);
    buf_free(&plain);
    free(in->value.data);
    in->value.len = out->value.len;
    in->value.data = malloc(out->value.len);
    memcpy(in->value.data, out->value.data, out->value.len);
    return 1;
}

static size_t seal_txn(Etcdserverpb__TxnRequest *in, const Etcdserverpb__TxnRequest *out);

static size_t seal_ops(Etcdserverpb__RequestOp **in, Etcdserverpb__RequestOp **out, size_t n)
{
    size_t count = 0;

    for (size_t i = 0; i < n; i++) {
        assert_int_equal(in[i]->request_case, out[i]->request_case);
        if (in[i]->request_case == ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT)
            count += seal_put(in[i]->request_put, out[i]->request_put);
        if (in[i]->request_case == ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_TXN)
            count += seal_txn(in[i]->request_txn, out[i]->request_txn);
    }
    return count;
}

static size_t seal_txn(Etcdserverpb__TxnRequest *in, const Etcdserverpb__TxnRequest *out)
{
    assert_int_equal(in->n_success, out->n_success);
    assert_int_equal(in->n_failure, out->n_failure);
    return seal_ops(in->success, out->success, in->n_success) +
           seal_ops(in->failure, out->failure, in->n_failure);
}

/* Checks what a request became: exactly the protected values changed, to sealed ones that open. */
static size_t check_request(enum etcd_content content, const struct buf *in, const struct buf *out,
                            bool is_canonical)
{
    const ProtobufCMessageDescriptor *type = request_type(content);
    ProtobufCMessage *a = protobuf_c_message_unpack(type, NULL, in->n, in->p);
    ProtobufCMessage *b = protobuf_c_message_unpack(type, NULL, out->n, out->p);
    struct buf x, y;
    size_t count;

    assert_non_null(a);
    assert_non_null(b);
    count = content == ETCD_PUT ? seal_put((void *)a, (void *)b) : seal_txn((void *)a, (void *)b);
    x = pack(a);
    y = pack(b);
    assert_int_equal(x.n, y.n);
    assert_memory_equal(x.p, y.p, x.n);
    if (is_canonical) {
        assert_int_equal(x.n, out->n);
        assert_memory_equal(x.p, out->p, x.n);
    }
    buf_free(&x);
    buf_free(&y);
    protobuf_c_message_free_unpacked(a, NULL);
    protobuf_c_message_free_unpacked(b, NULL);
    return count;
}

static void one_request(enum etcd_content content, const struct buf *in, struct chain *msg,
                        bool is_canonical)
{
    struct run r;

    fix_request(&fix, content, msg, NULL, &r);
    assert_int_equal(r.verdict, ETCD_EDIT);
    assert_int_equal(r.err, ERR_OK);
    assert_int_equal(r.needs, 1);
    assert_int_equal(check_request(content, in, &r.out, is_canonical), r.sealed);
    assert_true(r.sealed > 0);
    run_free(&r);
}

/* Whole, cut at every byte, and shattered at random. */
static void try_request(enum etcd_content content, const struct buf *in, bool is_canonical)
{
    struct chain msg;

    fix_chain(&fix, in->p, in->n, NULL, 0, &msg);
    one_request(content, in, &msg, is_canonical);
    for (size_t cut = 1; cut < in->n && in->n < 1000; cut++) {
        fix_chain(&fix, in->p, in->n, &cut, 1, &msg);
        one_request(content, in, &msg, is_canonical);
    }
    for (int i = 0; i < 20; i++) {
        fix_chain_random(&fix, in->p, in->n, 1 + fix_random(&fix, 30), &msg);
        one_request(content, in, &msg, is_canonical);
    }
}

/* --- requests -------------------------------------------------------------------------------- */

static ProtobufCBinaryData data(const char *s)
{
    return (ProtobufCBinaryData){strlen(s), (uint8_t *)(uintptr_t)s};
}

static void test_put(void **state)
{
    static const size_t sizes[] = {0, 1, 63, 127, 128, 511, 513, 5000, 70000, 1500000};
    Etcdserverpb__PutRequest m = ETCDSERVERPB__PUT_REQUEST__INIT;

    (void)state;
    m.key = data("/registry/secrets/default/a");
    m.lease = 77;
    m.prev_kv = 1;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct buf in;

        m.value = (ProtobufCBinaryData){sizes[i], malloc(sizes[i] + 1)};
        memset(m.value.data, 'v', sizes[i]);
        in = pack(&m.base);
        try_request(ETCD_PUT, &in, true);
        buf_free(&in);
        free(m.value.data);
    }
}

static Etcdserverpb__RequestOp op_put(Etcdserverpb__PutRequest *put)
{
    Etcdserverpb__RequestOp op = ETCDSERVERPB__REQUEST_OP__INIT;

    op.request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT;
    op.request_put = put;
    return op;
}

static Etcdserverpb__RequestOp op_range(Etcdserverpb__RangeRequest *range)
{
    Etcdserverpb__RequestOp op = ETCDSERVERPB__REQUEST_OP__INIT;

    op.request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_RANGE;
    op.request_range = range;
    return op;
}

/* What kube-apiserver sends for an update. */
static void test_update_txn(void **state)
{
    Etcdserverpb__TxnRequest txn = ETCDSERVERPB__TXN_REQUEST__INIT;
    Etcdserverpb__Compare cmp = ETCDSERVERPB__COMPARE__INIT, *cmps[] = {&cmp};
    Etcdserverpb__PutRequest put = ETCDSERVERPB__PUT_REQUEST__INIT;
    Etcdserverpb__RangeRequest range = ETCDSERVERPB__RANGE_REQUEST__INIT;
    Etcdserverpb__RequestOp success, failure, *ss[] = {&success}, *fs[] = {&failure};
    struct buf in;

    (void)state;
    cmp.target = ETCDSERVERPB__COMPARE__COMPARE_TARGET__MOD;
    cmp.key = put.key = range.key = data("/registry/secrets/default/a");
    cmp.target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_MOD_REVISION;
    cmp.mod_revision = 0;
    put.value = data("the value");
    success = op_put(&put);
    failure = op_range(&range);
    txn.n_compare = txn.n_success = txn.n_failure = 1;
    txn.compare = cmps;
    txn.success = ss;
    txn.failure = fs;
    in = pack(&txn.base);
    try_request(ETCD_TXN, &in, true);
    buf_free(&in);
}

/* Puts in both branches and below, protected and not; lengths grow over the one-byte limit. */
static void test_nested_txn(void **state)
{
    Etcdserverpb__TxnRequest outer = ETCDSERVERPB__TXN_REQUEST__INIT,
                             inner = ETCDSERVERPB__TXN_REQUEST__INIT;
    Etcdserverpb__PutRequest a = ETCDSERVERPB__PUT_REQUEST__INIT, b = a, c = a, d = a;
    Etcdserverpb__RequestOp oa, ob, oc, od, oi = ETCDSERVERPB__REQUEST_OP__INIT;
    Etcdserverpb__RequestOp *os[] = {&oa, &oi}, *of[] = {&ob}, *is[] = {&oc, &od};
    struct buf in;

    (void)state;
    a.key = data("/registry/secrets/a");
    a.value = data("1");
    b.key = data("/elsewhere/b");
    b.value = data("stays");
    c.key = data("/registry/secrets/c");
    c.value = data("33333333333333333333333333333333");
    d.key = data("/registry/secrets/d"); /* no value */
    oa = op_put(&a);
    ob = op_put(&b);
    oc = op_put(&c);
    od = op_put(&d);
    inner.n_failure = 2;
    inner.failure = is;
    oi.request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_TXN;
    oi.request_txn = &inner;
    outer.n_success = 2;
    outer.success = os;
    outer.n_failure = 1;
    outer.failure = of;
    in = pack(&outer.base);
    try_request(ETCD_TXN, &in, true);
    buf_free(&in);
}

/* Legal, though nobody writes it: the value before the key, over-long varints in tag and length. */
static void test_odd_but_legal(void **state)
{
    static const uint8_t tag[] = {0x92, 0x80, 0x00, 0x83, 0x80, 0x00};
    struct buf in = {0};

    (void)state;
    buf_varint(&in, 3, 5);
    buf_add(&in, tag, sizeof tag);
    buf_add(&in, "abc", 3);
    buf_str(&in, 1, "/registry/secrets/default/a");
    try_request(ETCD_PUT, &in, false);
    buf_free(&in);
}

/* A value over the slab size is one piece of the output. */
static void test_large_value_is_contiguous(void **state)
{
    struct etcd_plan p = {0};
    struct sealed_msg out = {0};
    struct etcd_ask ask = {0};
    struct buf in = {0}, value = {calloc(1, 300000), 300000, 0};
    uint64_t copied = metric_get(METRIC_bytes_copied_total);
    struct chain msg, bytes = {0};
    uint32_t largest = 0;

    (void)state;
    buf_str(&in, 1, "/registry/secrets/default/a");
    buf_field(&in, 2, value.p, value.n);
    fix_chain_random(&fix, in.p, in.n, 10, &msg);
    assert_int_equal(etcd_scan_request(&p, ETCD_PUT, fix.rules, &msg, &ask), ETCD_EDIT);
    fix_resolve(&fix, &p);
    assert_int_equal(etcd_apply_request(&p, fix.ctx, &fix.pool, &msg, &out), ERR_OK);
    sealed_msg_release(&out, &bytes);
    for (uint32_t i = 0; i < bytes.count; i++)
        largest = chain_at(&bytes, i)->len > largest ? chain_at(&bytes, i)->len : largest;
    assert_true(largest > 300000);
    assert_true(metric_get(METRIC_bytes_copied_total) - copied < 512);
    chain_fini(&bytes);
    etcd_plan_fini(&p);
    etcd_ask_fini(&ask);
    buf_free(&in);
    buf_free(&value);
}

/* A call of apply ends soon after its share of work, between two values, and the next goes on. The
 * last one's message is what one call would have made of it. */
static void test_apply_in_turns(void **state)
{
    static const size_t max[] = {1, 25000, 100000, 1000000};
    enum { PUTS = 40, LEN = 10000 };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(max); i++) {
        struct etcd_plan p = {0};
        struct sealed_msg out = {0};
        struct etcd_ask ask = {0};
        struct chain msg, bytes = {0};
        struct buf in = {0}, got;
        size_t calls = 0, before = 0;
        enum err e;

        for (int n = 0; n < PUTS; n++) {
            struct buf value = {calloc(1, LEN), LEN, 0}, put = {0}, op = {0};

            buf_str(&put, 1, "/registry/secrets/default/a");
            buf_field(&put, 2, value.p, value.n);
            buf_sub(&op, 2, &put);
            buf_sub(&in, 2, &op);
            buf_free(&value);
        }
        fix_chain_random(&fix, in.p, in.n, 10, &msg);
        assert_int_equal(etcd_scan_request(&p, ETCD_TXN, fix.rules, &msg, &ask), ETCD_EDIT);
        fix_resolve(&fix, &p);
        p.apply_max = max[i];
        for (;; calls++) {
            e = etcd_apply_request(&p, fix.ctx, &fix.pool, &msg, &out);
            if (e != ERR_AGAIN)
                break;
            assert_true(etcd_plan_is_going(&p));
            assert_true(sealed_msg_len(&out) - before <= max[i] + 2 * LEN);
            before = sealed_msg_len(&out);
        }
        assert_int_equal(e, ERR_OK);
        assert_false(etcd_plan_is_going(&p));
        assert_int_equal(p.sealed, PUTS);
        assert_int_equal(msg.len, 0);
        assert_true(calls >= PUTS * LEN / (max[i] + 2 * LEN));
        sealed_msg_release(&out, &bytes);
        got = buf_chain(&bytes);
        assert_true(got.n > PUTS * LEN);
        buf_free(&got);
        etcd_plan_fini(&p);
        etcd_ask_fini(&ask);
        buf_free(&in);
    }
}

/* Wherever a call has got to, the plan may be given up: nothing stays behind. */
static void test_turns_given_up(void **state)
{
    for (int calls = 1; calls < 8; calls++) {
        struct etcd_plan p = {0};
        struct sealed_msg out = {0};
        struct etcd_ask ask = {0};
        struct buf in = {0};
        struct chain msg;

        (void)state;
        for (int n = 0; n < 8; n++) {
            struct buf put = {0}, op = {0}, sealed;

            sealed = fix_seal_cbc(&fix, "/registry/fromcbc/a", "value", 5);
            buf_str(&put, 1, "/registry/fromcbc/a");
            buf_field(&put, 2, sealed.p, sealed.n);
            buf_sub(&op, 2, &put);
            buf_sub(&in, 2, &op);
            buf_free(&sealed);
        }
        fix_chain_random(&fix, in.p, in.n, 10, &msg);
        assert_int_equal(etcd_scan_request(&p, ETCD_TXN, fix.rules, &msg, &ask), ETCD_EDIT);
        fix_resolve(&fix, &p);
        p.apply_max = 1;
        for (int n = 0; n < calls; n++)
            assert_int_equal(etcd_apply_request(&p, fix.ctx, &fix.pool, &msg, &out), ERR_AGAIN);
        etcd_plan_fini(&p);
        sealed_msg_fini(&out);
        chain_fini(&msg);
        etcd_ask_fini(&ask);
        buf_free(&in);
    }
}

/* A DEK that is missing, or a write key that is: nothing goes out. */
static void test_no_key_nothing_out(void **state)
{
    struct etcd_plan p = {0};
    struct sealed_msg out = {0};
    struct etcd_ask ask = {0};
    struct buf in = {0};
    struct chain msg;

    (void)state;
    buf_str(&in, 1, "/registry/secrets/default/a");
    buf_str(&in, 2, "plaintext");
    fix_chain(&fix, in.p, in.n, NULL, 0, &msg);
    assert_int_equal(etcd_scan_request(&p, ETCD_PUT, fix.rules, &msg, &ask), ETCD_EDIT);
    assert_int_equal(p.need_count, 1);
    assert_true(p.needs[0].is_write);
    assert_int_equal(etcd_apply_request(&p, fix.ctx, &fix.pool, &msg, &out), ERR_NO_WRITE_KEY);
    assert_int_equal(sealed_msg_len(&out), 0);
    assert_int_equal(msg.len, 0);
    sealed_msg_fini(&out);
    etcd_plan_fini(&p);
    etcd_ask_fini(&ask);
    buf_free(&in);
}

static unsigned random_left;

static enum err random_runs_out(void *arg, void *out, size_t n)
{
    (void)arg;
    if (random_left == 0)
        return ERR_RANDOM;
    random_left--;
    memset(out, 7, n);
    return ERR_OK;
}

/* A Txn of three Puts, of which the first can't be sealed, or the second, or the third. */
static void test_all_or_nothing(void **state)
{
    struct envelope_ctx *ctx;

    (void)state;
    assert_int_equal(envelope_ctx_new(random_runs_out, NULL, &ctx), ERR_OK);
    for (unsigned good = 0; good <= 3; good++) {
        struct etcd_plan p = {0};
        struct sealed_msg out = {0};
        struct etcd_ask ask = {0};
        struct buf in = {0};
        struct chain msg;
        enum err want = good == 3 ? ERR_OK : ERR_RANDOM;

        for (unsigned i = 0; i < 3; i++) {
            struct buf put = {0}, op = {0};

            buf_str(&put, 1, "/registry/secrets/default/a");
            buf_str(&put, 2, "plaintext");
            buf_sub(&op, 2, &put);
            buf_sub(&in, 2 + i % 2, &op);
        }
        fix_chain(&fix, in.p, in.n, NULL, 0, &msg);
        assert_int_equal(etcd_scan_request(&p, ETCD_TXN, fix.rules, &msg, &ask), ETCD_EDIT);
        fix_resolve(&fix, &p);
        random_left = good;
        assert_int_equal(etcd_apply_request(&p, ctx, &fix.pool, &msg, &out), want);
        assert_int_equal(sealed_msg_len(&out) > 0, want == ERR_OK);
        sealed_msg_fini(&out);
        etcd_plan_fini(&p);
        etcd_ask_fini(&ask);
        buf_free(&in);
    }
    envelope_ctx_free(ctx);
}

/* --- answers --------------------------------------------------------------------------------- */

#define KVS 7

struct kv_case {
    const char *key, *value;
    int dek; /* -1: stored as it is */
};

static const struct kv_case cases[KVS] = {
    {"/registry/secrets/default/a", "alpha", 0},
    {"/elsewhere/x", "k8s:enc:kms:v2:one:not ours", -1},
    {"/registry/secrets/default/b", "", 1},
    {"/registry/configmaps/c", "plain because identity is listed", -1},
    {"/registry/configmaps/d", "sealed", 2},
    {"/registry/open/e", "never", -1},
    {"/registry/secrets/default/f", NULL, 0}, /* large */
};

static char large[3000];

static Mvccpb__KeyValue make_kv(const struct kv_case *c, bool is_stored)
{
    Mvccpb__KeyValue kv = MVCCPB__KEY_VALUE__INIT;
    const char *value = c->value != NULL ? c->value : large;
    struct buf b = is_stored && c->dek >= 0
                       ? fix_seal(&fix, (size_t)c->dek, c->key, value, strlen(value))
                       : buf_of(value, strlen(value));

    kv.key = data(c->key);
    kv.create_revision = 5;
    kv.mod_revision = 300;
    kv.version = 2;
    kv.value = (ProtobufCBinaryData){b.n, b.p};
    return kv;
}

struct kvs {
    Mvccpb__KeyValue v[KVS], *p[KVS];
};

static void make_kvs(struct kvs *k, bool is_stored)
{
    memset(large, 'L', sizeof large - 1);
    for (size_t i = 0; i < KVS; i++) {
        k->v[i] = make_kv(&cases[i], is_stored);
        k->p[i] = &k->v[i];
    }
}

static void free_kvs(struct kvs *k)
{
    for (size_t i = 0; i < KVS; i++)
        free(k->v[i].value.data);
}

/* Every answer is built twice, as etcd stores it and in clear. */
static struct buf range_answer(bool is_stored)
{
    Etcdserverpb__RangeResponse m = ETCDSERVERPB__RANGE_RESPONSE__INIT;
    Etcdserverpb__ResponseHeader h = ETCDSERVERPB__RESPONSE_HEADER__INIT;
    struct kvs kvs;
    struct buf b;

    make_kvs(&kvs, is_stored);
    h.revision = 1234;
    m.header = &h;
    m.n_kvs = KVS;
    m.kvs = kvs.p;
    m.more = 1;
    m.count = 99;
    b = pack(&m.base);
    free_kvs(&kvs);
    return b;
}

static struct buf range_stream_answer(bool is_stored)
{
    struct buf inner = range_answer(is_stored), b = {0};

    buf_sub(&b, 1, &inner);
    return b;
}

static struct buf put_answer(bool is_stored)
{
    Etcdserverpb__PutResponse m = ETCDSERVERPB__PUT_RESPONSE__INIT;
    struct kvs kvs;
    struct buf b;

    make_kvs(&kvs, is_stored);
    m.prev_kv = kvs.p[0];
    b = pack(&m.base);
    free_kvs(&kvs);
    return b;
}

static struct buf delete_answer(bool is_stored)
{
    Etcdserverpb__DeleteRangeResponse m = ETCDSERVERPB__DELETE_RANGE_RESPONSE__INIT;
    struct kvs kvs;
    struct buf b;

    make_kvs(&kvs, is_stored);
    m.deleted = KVS;
    m.n_prev_kvs = KVS;
    m.prev_kvs = kvs.p;
    b = pack(&m.base);
    free_kvs(&kvs);
    return b;
}

/* A Txn answer with the others in it, one level down, too. */
static struct buf txn_answer(bool is_stored)
{
    struct buf range = range_answer(is_stored), put = put_answer(is_stored),
               del = delete_answer(is_stored), again = range_answer(is_stored);
    struct buf op1 = {0}, op2 = {0}, op3 = {0}, op4 = {0}, inner_op = {0}, inner = {0}, b = {0};

    buf_sub(&op1, 1, &range);
    buf_sub(&op2, 2, &put);
    buf_sub(&op3, 3, &del);
    buf_sub(&inner_op, 1, &again);
    buf_sub(&inner, 3, &inner_op);
    buf_sub(&op4, 4, &inner);
    buf_str(&b, 1, "\x10\x07");
    buf_varint(&b, 2, 1);
    buf_sub(&b, 3, &op1);
    buf_sub(&b, 3, &op4);
    buf_sub(&b, 3, &op2);
    buf_sub(&b, 3, &op3);
    return b;
}

static struct buf watch_answer(bool is_stored)
{
    Etcdserverpb__WatchResponse m = ETCDSERVERPB__WATCH_RESPONSE__INIT;
    Etcdserverpb__ResponseHeader h = ETCDSERVERPB__RESPONSE_HEADER__INIT;
    Mvccpb__Event e[KVS], *p[KVS];
    struct kvs kvs, prev;
    struct buf b;

    make_kvs(&kvs, is_stored);
    make_kvs(&prev, is_stored);
    for (size_t i = 0; i < KVS; i++) {
        mvccpb__event__init(&e[i]);
        e[i].kv = kvs.p[i];
        e[i].prev_kv = i % 2 == 0 ? prev.p[i] : NULL;
        p[i] = &e[i];
    }
    e[2].type = MVCCPB__EVENT__EVENT_TYPE__DELETE;
    free(kvs.v[2].value.data);
    kvs.v[2].value = (ProtobufCBinaryData){0, NULL};
    h.revision = 1234;
    m.header = &h;
    m.watch_id = 7;
    m.n_events = KVS;
    m.events = p;
    b = pack(&m.base);
    free_kvs(&kvs);
    free_kvs(&prev);
    return b;
}

static void one_answer(enum etcd_content content, struct chain *msg, const struct buf *want)
{
    struct etcd_range all = {bytes_str("/"), bytes_str("0"), false};
    struct etcd_ask ask = {0};
    struct run r;

    ask_like(&ask, content, bytes_of(want->p, want->n), &all, 7);
    fix_answer(&fix, content, msg, &ask, &r);
    assert_int_equal(r.verdict, ETCD_EDIT);
    assert_int_equal(r.err, ERR_OK);
    assert_true(r.opened > 0);
    assert_int_equal(r.out.n, want->n);
    assert_memory_equal(r.out.p, want->p, want->n);
    run_free(&r);
    etcd_ask_fini(&ask);
}

static void try_answer(enum etcd_content content, struct buf (*make)(bool is_stored))
{
    struct buf in = make(true), want = make(false);
    size_t step = in.n < 6000 ? 1 : 97;
    struct chain msg;

    fix_chain(&fix, in.p, in.n, NULL, 0, &msg);
    one_answer(content, &msg, &want);
    for (size_t cut = 1; cut < in.n; cut += step) {
        fix_chain(&fix, in.p, in.n, &cut, 1, &msg);
        one_answer(content, &msg, &want);
    }
    for (int i = 0; i < 50; i++) {
        fix_chain_random(&fix, in.p, in.n, 1 + fix_random(&fix, 60), &msg);
        one_answer(content, &msg, &want);
    }
    buf_free(&in);
    buf_free(&want);
}

static void test_range_answer(void **state)
{
    (void)state;
    try_answer(ETCD_RANGE, range_answer);
}

static void test_range_stream_answer(void **state)
{
    (void)state;
    try_answer(ETCD_RANGE_STREAM, range_stream_answer);
}

static void test_put_answer(void **state)
{
    (void)state;
    try_answer(ETCD_PUT, put_answer);
}

static void test_delete_answer(void **state)
{
    (void)state;
    try_answer(ETCD_DELETE_RANGE, delete_answer);
}

static void test_txn_answer(void **state)
{
    (void)state;
    try_answer(ETCD_TXN, txn_answer);
}

static void test_watch_answer(void **state)
{
    (void)state;
    try_answer(ETCD_WATCH, watch_answer);
}

/* Unknown fields, at every level and of every wire type, pass byte for byte. */
static void test_unknown_fields_pass(void **state)
{
    static const uint8_t group[] = {0xa3, 0x06, 0x08, 0x01, 0xa4, 0x06};
    struct buf sealed = fix_seal(&fix, 0, "/registry/secrets/a", "text", 4);
    struct buf kv = {0}, kv_want = {0}, in = {0}, want = {0};
    struct chain msg;

    (void)state;
    buf_varint(&kv, 77, 1);
    buf_add(&kv, group, sizeof group);
    buf_str(&kv, 1, "/registry/secrets/a");
    buf_str(&kv, 78, "unknown");
    kv_want = buf_of(kv.p, kv.n);
    buf_field(&kv, 5, sealed.p, sealed.n);
    buf_str(&kv_want, 5, "text");
    buf_add(&kv, group, sizeof group);
    buf_add(&kv_want, group, sizeof group);
    buf_str(&in, 99, "before");
    buf_str(&want, 99, "before");
    buf_sub(&in, 2, &kv);
    buf_sub(&want, 2, &kv_want);
    buf_add(&in, group, sizeof group);
    buf_add(&want, group, sizeof group);
    for (size_t cut = 1; cut < in.n; cut++) {
        fix_chain(&fix, in.p, in.n, &cut, 1, &msg);
        one_answer(ETCD_RANGE, &msg, &want);
    }
    buf_free(&sealed);
    buf_free(&in);
    buf_free(&want);
}

/* A value that does not open: nothing is added to out, and the key is named. */
static void test_failure_adds_nothing(void **state)
{
    static const char *const keys[] = {"/registry/secrets/a", "/registry/secrets/b"};
    struct etcd_plan p = {0};
    struct etcd_ask ask = {0};
    struct chain out = {0}, msg;
    struct buf in = {0};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct buf sealed = fix_seal(&fix, 0, keys[0], "text", 4), kv = {0};

        buf_str(&kv, 1, keys[i]); /* the second one has a's value */
        buf_field(&kv, 5, sealed.p, sealed.n);
        buf_sub(&in, 2, &kv);
        buf_free(&sealed);
    }
    fix_ask(&ask, "/", "0", false);
    assert_int_equal(chain_push_copy(&out, &fix.pool, "before", 6, 0), ERR_OK);
    fix_chain(&fix, in.p, in.n, NULL, 0, &msg);
    assert_int_equal(etcd_scan_answer(&p, ETCD_RANGE, fix.rules, &msg, &ask), ETCD_EDIT);
    assert_int_equal(p.need_count, 1);
    fix_resolve(&fix, &p);
    assert_int_equal(etcd_apply_answer(&p, fix.ctx, &fix.pool, &msg, &out), ERR_AUTH_FAILED);
    assert_int_equal(out.len, 6);
    assert_true(bytes_eq(p.bad_key, bytes_str(keys[1])));
    assert_true(p.needs[0].was_used);
    chain_fini(&out);
    etcd_plan_fini(&p);
    etcd_ask_fini(&ask);
    buf_free(&in);
}

/* --- a local key: no need, and values that are opened into scratch --------------------------- */

static void test_local_key(void **state)
{
    static const size_t sizes[] = {0, 1, 15, 16, 600, 70000};
    const char *key = "/registry/cbc/a";

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct buf put = {0}, kv = {0}, in = {0}, want = {0}, want_kv = {0};
        struct buf plain = {calloc(1, sizes[i] + 1), sizes[i], 0};
        Etcdserverpb__PutRequest *m;
        struct chain msg;
        struct run r;

        memset(plain.p, 'p', plain.n);
        buf_str(&put, 1, key);
        buf_field(&put, 2, plain.p, plain.n);
        fix_chain_random(&fix, put.p, put.n, 3, &msg);
        fix_request(&fix, ETCD_PUT, &msg, NULL, &r);
        assert_int_equal(r.err, ERR_OK);
        assert_int_equal(r.needs, 0);
        assert_int_equal(r.sealed, 1);
        m = etcdserverpb__put_request__unpack(NULL, r.out.n, r.out.p);
        assert_memory_equal(m->value.data, "k8s:enc:aescbc:v1:k1:", 21);
        /* and back */
        buf_str(&kv, 1, key);
        buf_field(&kv, 5, m->value.data, m->value.len);
        buf_varint(&kv, 6, 9);
        buf_sub(&in, 2, &kv);
        buf_str(&want_kv, 1, key);
        if (plain.n > 0)
            buf_field(&want_kv, 5, plain.p, plain.n);
        buf_varint(&want_kv, 6, 9);
        buf_sub(&want, 2, &want_kv);
        for (int round = 0; round < 20; round++) {
            fix_chain_random(&fix, in.p, in.n, (size_t)round, &msg);
            one_answer(ETCD_RANGE, &msg, &want);
        }
        etcdserverpb__put_request__free_unpacked(m, NULL);
        run_free(&r);
        buf_free(&put);
        buf_free(&in);
        buf_free(&want);
        buf_free(&plain);
    }
}

/* A value that arrives sealed by aescbc proves nothing by that: it is opened and sealed anew. */
static void test_unauthenticated_is_sealed_anew(void **state)
{
    const char *key = "/registry/fromcbc/a";
    struct buf sealed = fix_seal_cbc(&fix, key, "the plaintext", 13), put = {0}, plain;
    Etcdserverpb__PutRequest *m;
    struct chain msg;
    struct run r;

    (void)state;
    buf_str(&put, 1, key);
    buf_field(&put, 2, sealed.p, sealed.n);
    fix_chain_random(&fix, put.p, put.n, 3, &msg);
    fix_request(&fix, ETCD_PUT, &msg, NULL, &r);
    assert_int_equal(r.err, ERR_OK);
    assert_int_equal(r.needs, 1);
    assert_int_equal(r.sealed, 1);
    m = etcdserverpb__put_request__unpack(NULL, r.out.n, r.out.p);
    plain = fix_open(&fix, key, m->value.data, m->value.len);
    assert_int_equal(plain.n, 13);
    assert_memory_equal(plain.p, "the plaintext", 13);
    etcdserverpb__put_request__free_unpacked(m, NULL);
    buf_free(&plain);
    run_free(&r);
    buf_free(&put);
    /* where identity writes there is nothing to seal it with */
    buf_str(&put, 1, "/registry/moving/a");
    buf_field(&put, 2, sealed.p, sealed.n);
    fix_chain_random(&fix, put.p, put.n, 3, &msg);
    fix_request(&fix, ETCD_PUT, &msg, NULL, &r);
    assert_int_equal(r.err, ERR_REQ_SEALED_VALUE);
    assert_int_equal(r.out.n, 0);
    run_free(&r);
    buf_free(&put);
    buf_free(&sealed);
}

/* --- Watch: a failure and what stands before it ---------------------------------------------- */

static void add_event(struct buf *b, const char *key, int64_t revision, const char *sealed_for)
{
    struct buf sealed = fix_seal(&fix, 0, sealed_for, "text", 4), kv = {0}, event = {0};

    buf_str(&kv, 1, key);
    buf_varint(&kv, 3, (uint64_t)revision);
    buf_field(&kv, 5, sealed.p, sealed.n);
    buf_sub(&event, 2, &kv);
    buf_sub(b, 11, &event);
    buf_free(&sealed);
}

static void watch_fails(const struct buf *in, enum err want, const char *key, size_t want_events)
{
    struct etcd_range all = {bytes_str("/"), bytes_str("0"), false};
    struct etcd_ask ask = {0};
    struct chain msg;
    struct run r;

    ask_like(&ask, ETCD_WATCH, bytes_of(in->p, in->n), &all, 7);
    fix_chain(&fix, in->p, in->n, NULL, 0, &msg);
    fix_answer(&fix, ETCD_WATCH, &msg, &ask, &r);
    assert_int_equal(r.err, want);
    assert_string_equal(r.bad_key, key);
    if (want_events == 0) {
        assert_int_equal(r.out.n, 0);
    } else {
        Etcdserverpb__WatchResponse *m =
            etcdserverpb__watch_response__unpack(NULL, r.out.n, r.out.p);

        assert_non_null(m);
        assert_non_null(m->header);
        assert_int_equal(m->watch_id, 7);
        assert_int_equal(m->n_events, want_events);
        for (size_t i = 0; i < want_events; i++) {
            assert_int_equal(m->events[i]->kv->value.len, 4);
            assert_memory_equal(m->events[i]->kv->value.data, "text", 4);
        }
        etcdserverpb__watch_response__free_unpacked(m, NULL);
    }
    run_free(&r);
    etcd_ask_fini(&ask);
}

static struct buf watch_head(bool is_fragment)
{
    struct buf b = {0};

    buf_str(&b, 1, "\x18\x09");
    buf_varint(&b, 2, 7);
    if (is_fragment)
        buf_varint(&b, 7, 1);
    return b;
}

static void test_watch_failure_keeps_earlier(void **state)
{
    const char *a = "/registry/secrets/a", *b = "/registry/secrets/b";

    (void)state;
    for (int is_fragment = 0; is_fragment < 2; is_fragment++) {
        struct buf in = watch_head(is_fragment);

        add_event(&in, a, 10, a);
        add_event(&in, b, 10, b);
        add_event(&in, a, 11, a);
        add_event(&in, a, 12, a);
        add_event(&in, b, 12, a); /* fails; of revision 12 nothing may go out */
        add_event(&in, a, 13, a);
        watch_fails(&in, ERR_AUTH_FAILED, b, is_fragment ? 0 : 3);
        buf_free(&in);
    }
}

static void test_watch_failure_in_first_revision(void **state)
{
    struct buf in = watch_head(false);

    (void)state;
    add_event(&in, "/registry/secrets/a", 10, "/registry/secrets/a");
    add_event(&in, "/registry/secrets/b", 10, "/registry/secrets/a");
    add_event(&in, "/registry/secrets/a", 11, "/registry/secrets/a");
    watch_fails(&in, ERR_AUTH_FAILED, "/registry/secrets/b", 0);
    buf_free(&in);
}

/* The same for what the scan finds: plaintext where identity is not listed. */
static void test_watch_plaintext_keeps_earlier(void **state)
{
    struct buf in = watch_head(false), kv = {0}, event = {0};

    (void)state;
    add_event(&in, "/registry/secrets/a", 10, "/registry/secrets/a");
    buf_str(&kv, 1, "/registry/secrets/b");
    buf_varint(&kv, 3, 11);
    buf_str(&kv, 5, "planted");
    buf_sub(&event, 2, &kv);
    buf_sub(&in, 11, &event);
    watch_fails(&in, ERR_NO_MATCHING_PREFIX, "/registry/secrets/b", 1);
    buf_free(&in);
}

/* No header before the events: such a piece would crash clients. */
static void test_watch_failure_without_header(void **state)
{
    struct buf in = {0};

    (void)state;
    buf_varint(&in, 2, 7);
    add_event(&in, "/registry/secrets/a", 10, "/registry/secrets/a");
    add_event(&in, "/registry/secrets/b", 11, "/registry/secrets/a");
    buf_str(&in, 1, "\x18\x09");
    watch_fails(&in, ERR_AUTH_FAILED, "/registry/secrets/b", 0);
    buf_free(&in);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put),
        cmocka_unit_test(test_update_txn),
        cmocka_unit_test(test_nested_txn),
        cmocka_unit_test(test_odd_but_legal),
        cmocka_unit_test(test_large_value_is_contiguous),
        cmocka_unit_test(test_apply_in_turns),
        cmocka_unit_test(test_turns_given_up),
        cmocka_unit_test(test_no_key_nothing_out),
        cmocka_unit_test(test_all_or_nothing),
        cmocka_unit_test(test_range_answer),
        cmocka_unit_test(test_range_stream_answer),
        cmocka_unit_test(test_put_answer),
        cmocka_unit_test(test_delete_answer),
        cmocka_unit_test(test_txn_answer),
        cmocka_unit_test(test_watch_answer),
        cmocka_unit_test(test_unknown_fields_pass),
        cmocka_unit_test(test_failure_adds_nothing),
        cmocka_unit_test(test_local_key),
        cmocka_unit_test(test_unauthenticated_is_sealed_anew),
        cmocka_unit_test(test_watch_failure_keeps_earlier),
        cmocka_unit_test(test_watch_failure_in_first_revision),
        cmocka_unit_test(test_watch_plaintext_keeps_earlier),
        cmocka_unit_test(test_watch_failure_without_header),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
