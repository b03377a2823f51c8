/* SPDX-License-Identifier: Apache-2.0 */
/* Response i of a Txn answers operation i of the branch that succeeded names, at every depth:
 * random Txns, their genuine answers, and each way to lie in one place of these. */
#include "large_kit.h"

#include <stdio.h>

#define OPS_MAX 3
#define DEPTH 3

enum lie {
    HONEST = 0,
    OTHER_KEY,      /* the key of another operation of the same Txn */
    EMPTY,          /* a value that is not there although it was asked for */
    OTHER_MEMBER,   /* of another operation kind */
    NO_MEMBER,      /* an empty response */
    EMPTY_TXN,      /* a Txn's response without any of its own, to what was none */
    DROPPED,        /* the response is missing */
    TWICE,          /* the response is there twice */
    OTHER_BRANCH,   /* succeeded says the other branch, behind which are other operations */
    LATE_SUCCEEDED, /* succeeded stands behind the responses */
    CHANGED,        /* succeeded says the other branch behind the responses of this one */
    LIES,
};

/* An operation, and what its answer looks like. */
struct op {
    enum etcd_asked kind;
    int id; /* its key */
    bool keys_only, succeeded;
    struct op *ops[2][OPS_MAX]; /* of a Txn: failure, success */
    int count[2];
};

static int next_id;

/* kind 0: any. */
static struct op *op_new(enum etcd_asked kind, unsigned depth)
{
    struct op *o = calloc(1, sizeof *o);

    assert_non_null(o);
    o->kind = kind != 0 ? kind : (enum etcd_asked)(1 + fix_random(&fix, depth < DEPTH ? 4 : 3));
    o->id = next_id++;
    o->keys_only = o->kind == ETCD_ASKED_RANGE && fix_random(&fix, 3) == 0;
    o->succeeded = fix_random(&fix, 2) == 0;
    for (int branch = 0; o->kind == ETCD_ASKED_TXN && branch < 2; branch++) {
        o->count[branch] = 1 + (int)fix_random(&fix, OPS_MAX);
        for (int i = 0; i < o->count[branch]; i++)
            o->ops[branch][i] = op_new(0, depth + 1);
    }
    return o;
}

static void op_free(struct op *o)
{
    for (int branch = 0; branch < 2; branch++) {
        for (int i = 0; i < o->count[branch]; i++)
            op_free(o->ops[branch][i]);
    }
    free(o);
}

static void key_of(int id, char key[static 64])
{
    (void)snprintf(key, 64, SECRET "%d", id);
}

/* --- the request ----------------------------------------------------------------------------- */

static struct buf request_of(const struct op *o)
{
    struct buf b = {0};
    char key[64];

    key_of(o->id, key);
    for (int branch = 0; branch < 2; branch++) {
        for (int i = 0; i < o->count[branch]; i++) {
            struct buf op = {0}, body = request_of(o->ops[branch][i]);

            buf_sub(&op, (uint32_t)o->ops[branch][i]->kind, &body);
            buf_sub(&b, branch == 1 ? 2 : 3, &op);
        }
    }
    if (o->kind != ETCD_ASKED_TXN)
        buf_str(&b, 1, key);
    if (o->kind == ETCD_ASKED_PUT)
        buf_str(&b, 2, "new");
    if (o->keys_only)
        buf_varint(&b, 8, 1);
    return b;
}

static void ask_of(const struct op *root, struct etcd_ask *ask)
{
    struct buf in = request_of(root);
    struct chain msg;
    struct run r;

    fix_chain(&fix, in.p, in.n, NULL, 0, &msg);
    fix_request(&fix, ETCD_TXN, &msg, ask, &r);
    assert_int_equal(r.err, ERR_OK);
    run_free(&r);
    buf_free(&in);
}

/* --- the answer ------------------------------------------------------------------------------ */

struct teller {
    enum lie lie;
    int at; /* operation that it concerns, counted from the root */
    int seen;
    bool has_lied;
};

static void add_kv(struct buf *b, uint32_t number, const struct op *o, enum lie lie)
{
    struct buf kv = {0};
    char key[64];

    key_of(lie == OTHER_KEY ? (o->id + 1) % next_id : o->id, key);
    buf_str(&kv, 1, key);
    if (!o->keys_only && lie != EMPTY) {
        struct buf value = fix_seal(&fix, 0, key, "old", 3);

        buf_field(&kv, 5, value.p, value.n);
        buf_free(&value);
    }
    buf_sub(b, number, &kv);
}

static struct buf answer_of(const struct op *o, struct teller *t, enum lie lie);

static void add_response(struct buf *b, const struct op *o, struct teller *t)
{
    enum lie lie = t->seen++ == t->at ? t->lie : HONEST;
    uint32_t member = (uint32_t)o->kind;
    struct buf body, op = {0};

    if ((lie == EMPTY && (o->keys_only || o->kind == ETCD_ASKED_TXN)) ||
        (o->kind == ETCD_ASKED_TXN && (lie == OTHER_KEY || lie == EMPTY_TXN)) ||
        (o->kind != ETCD_ASKED_TXN && lie >= OTHER_BRANCH))
        lie = HONEST;
    t->has_lied = t->has_lied || lie != HONEST;
    body = answer_of(o, t, lie);
    if (lie == OTHER_MEMBER)
        member = member % 4 + 1;
    if (lie == EMPTY_TXN) {
        member = ETCD_ASKED_TXN;
        buf_free(&body);
        body = (struct buf){0};
        kit_add_header(&body);
    }
    if (lie == NO_MEMBER)
        buf_free(&body);
    else
        buf_sub(&op, member, &body);
    if (lie == TWICE) {
        struct buf again = buf_of(op.p, op.n);

        buf_sub(b, 3, &again);
    }
    if (lie == DROPPED)
        buf_free(&op);
    else
        buf_sub(b, 3, &op);
}

static struct buf answer_of(const struct op *o, struct teller *t, enum lie lie)
{
    bool says = lie == OTHER_BRANCH ? !o->succeeded : o->succeeded;
    struct buf b = {0};

    kit_add_header(&b);
    if (o->kind != ETCD_ASKED_TXN) {
        add_kv(&b, o->kind == ETCD_ASKED_DELETE ? 3 : 2, o, lie);
        return b;
    }
    if (lie == LATE_SUCCEEDED)
        buf_varint(&b, 2, !o->succeeded); /* the responses are of the other branch */
    else if (says)
        buf_varint(&b, 2, 1);
    for (int i = 0; i < o->count[o->succeeded]; i++)
        add_response(&b, o->ops[o->succeeded][i], t);
    if (lie == LATE_SUCCEEDED)
        buf_varint(&b, 2, o->succeeded);
    if (lie == CHANGED)
        buf_varint(&b, 2, !o->succeeded);
    return b;
}

/* --- */

static void whole(const struct op *root, const struct buf *in, bool is_honest)
{
    struct etcd_ask ask = {0};
    struct chain msg;
    struct run r;

    ask_of(root, &ask);
    fix_chain_random(&fix, in->p, in->n, 3, &msg);
    fix_answer(&fix, ETCD_TXN, &msg, &ask, &r);
    assert_int_equal(r.err == ERR_OK, is_honest);
    if (!is_honest)
        assert_int_equal(err_status(r.err), GRPC_DATA_LOSS);
    run_free(&r);
    etcd_ask_fini(&ask);
}

static void streamed(const struct op *root, const struct buf *in, bool is_honest)
{
    struct feed f;

    feed_init(&f, ETCD_TXN, &(struct buf){0});
    etcd_large_free(f.large);
    etcd_ask_fini(&f.ask);
    ask_of(root, &f.ask);
    assert_int_equal(etcd_large_new(ETCD_TXN, fix.rules, &f.ask, (uint32_t)in->n,
                                    1 + fix_random(&fix, 300), &f.large),
                     ERR_OK);
    feed_all(&f, in, in->n, 1 + fix_random(&fix, 400));
    assert_int_equal(f.err == ERR_OK, is_honest);
    assert_int_equal(f.is_done, is_honest);
    if (is_honest)
        assert_int_equal(f.out.len, in->n);
    else
        assert_int_equal(err_status(f.err), GRPC_DATA_LOSS);
    feed_fini(&f);
}

static void tell(const struct op *root, enum lie lie, int at, bool *has_lied)
{
    struct teller t = {.lie = lie, .at = at, .seen = 1};
    bool is_at_root = at == 0 && lie >= OTHER_BRANCH;
    struct buf in = answer_of(root, &t, is_at_root ? lie : HONEST);

    *has_lied = t.has_lied || is_at_root;
    whole(root, &in, !*has_lied);
    streamed(root, &in, !*has_lied);
    buf_free(&in);
}

static void test_lies(void **state)
{
    int told[LIES] = {0};

    (void)state;
    for (int round = 0; round < 150; round++) {
        struct op *root;

        next_id = 0;
        root = op_new(ETCD_ASKED_TXN, 0);

        for (int lie = HONEST; lie < LIES; lie++) {
            for (int at = 0; at < 12; at++) {
                bool has_lied;

                tell(root, (enum lie)lie, at, &has_lied);
                told[lie] += has_lied ? 1 : 0;
            }
        }
        op_free(root);
    }
    for (int lie = HONEST + 1; lie < LIES; lie++)
        assert_true(told[lie] > 100);
}

/* As it was found: the value of the first operation is kept back under cover of the second, which
 * asked for the key alone. */
static void test_empty_value_of_another_operation(void **state)
{
    struct op both = {.kind = ETCD_ASKED_TXN, .succeeded = true, .count = {0, 2}};
    struct op get = {.kind = ETCD_ASKED_RANGE, .id = 1};
    struct op keys = {.kind = ETCD_ASKED_RANGE, .id = 1, .keys_only = true};
    bool has_lied;

    (void)state;
    both.ops[1][0] = &get;
    both.ops[1][1] = &keys;
    next_id = 2;
    tell(&both, HONEST, 0, &has_lied);
    assert_false(has_lied);
    tell(&both, EMPTY, 1, &has_lied);
    assert_true(has_lied);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lies),
        cmocka_unit_test(test_empty_value_of_another_operation),
    };

    return cmocka_run_group_tests(tests, kit_setup, kit_teardown);
}
