/* SPDX-License-Identifier: Apache-2.0 */
/* A large answer says the same, in as many bytes as were announced, wherever its input is cut and
 * wherever a batch ends: every method, every level, every boundary. */
#include "large_kit.h"

struct answer {
    enum etcd_content content;
    struct buf in;    /* as etcd sends it */
    struct buf first; /* what came out of the first run; all others are equal */
};

static void answer_free(struct answer *a)
{
    buf_free(&a->in);
    buf_free(&a->first);
}

/* The input arrives in two pieces, a batch has at most about batch_max bytes. */
static struct buf run(const struct answer *a, size_t cut, size_t batch_max)
{
    struct feed f;
    struct buf out;

    feed_init_batch(&f, a->content, &a->in, a->in.n, batch_max);
    if (cut > 0)
        feed_bytes(&f, a->in.p, cut);
    if (cut < a->in.n)
        feed_bytes(&f, a->in.p + cut, a->in.n - cut);
    if (f.err != ERR_OK || !f.is_done)
        fail_msg("content %d: %s at cut %zu, batch %zu", (int)a->content, err_reason(f.err), cut,
                 batch_max);
    out = buf_chain(&f.out);
    feed_fini(&f);
    return out;
}

static void check(const struct answer *a, size_t cut, size_t batch_max)
{
    struct buf out = run(a, cut, batch_max);

    if (out.n != a->in.n)
        fail_msg("content %d: %zu bytes announced, %zu sent; cut %zu, batch %zu", (int)a->content,
                 a->in.n, out.n, cut, batch_max);
    assert_memory_equal(out.p, a->first.p, out.n);
    buf_free(&out);
}

/* Takes in and clear. */
static void answer_init(struct answer *a, enum etcd_content content, struct buf in,
                        struct buf clear)
{
    struct buf want = kit_canonical(content, &clear), got;

    *a = (struct answer){.content = content, .in = in};
    a->first = run(a, in.n, in.n);
    assert_int_equal(a->first.n, in.n);
    got = kit_canonical(content, &a->first);
    assert_buf_equal(&got, &want);
    buf_free(&got);
    buf_free(&want);
    buf_free(&clear);
}

/* Small ones: every cut with every size of a batch. Others: every cut and every size, each with a
 * few of the other. */
static void every_boundary(enum etcd_content content, struct buf in, struct buf clear)
{
    struct answer a;

    answer_init(&a, content, in, clear);
    for (size_t i = 1; i <= a.in.n; i++) {
        for (size_t j = 1; a.in.n < 300 && j <= a.in.n; j++)
            check(&a, i, j);
        for (int round = 0; round < 2; round++) {
            check(&a, i, 1 + fix_random(&fix, (uint32_t)a.in.n));
            check(&a, 1 + fix_random(&fix, (uint32_t)a.in.n), i);
        }
        check(&a, a.in.n, i);
    }
    answer_free(&a);
}

static void test_range(void **state)
{
    (void)state;
    every_boundary(ETCD_RANGE, kit_range(1, 3, true), kit_range(1, 3, false));
    every_boundary(ETCD_RANGE, kit_range(6, 20, true), kit_range(6, 20, false));
}

/* Without count and more: the message ends with a KeyValue. */
static void test_range_without_count(void **state)
{
    struct buf in = {0}, clear = {0};

    (void)state;
    for (int i = 0; i < 3; i++) {
        kit_add_kv(&in, 2, i, 9, true, 1);
        kit_add_kv(&clear, 2, i, 9, false, 1);
    }
    every_boundary(ETCD_RANGE, in, clear);
}

static void test_put(void **state)
{
    (void)state;
    every_boundary(ETCD_PUT, kit_put(true), kit_put(false));
}

static void test_delete_range(void **state)
{
    (void)state;
    every_boundary(ETCD_DELETE_RANGE, kit_delete_range(1, true), kit_delete_range(1, false));
    every_boundary(ETCD_DELETE_RANGE, kit_delete_range(4, true), kit_delete_range(4, false));
}

static void test_txn(void **state)
{
    (void)state;
    for (unsigned depth = 0; depth < 4; depth++)
        every_boundary(ETCD_TXN, kit_txn(depth, true), kit_txn(depth, false));
}

/* prev_kv is the last thing at every level. */
static struct buf txn_of_put(unsigned depth, bool is_stored)
{
    struct buf b = {0};

    kit_add_header(&b);
    buf_varint(&b, 2, 1);
    if (depth > 0)
        kit_add_response(&b, 4, txn_of_put(depth - 1, is_stored));
    else
        kit_add_response(&b, 2, kit_put(is_stored));
    return b;
}

static void test_txn_of_put(void **state)
{
    (void)state;
    for (unsigned depth = 0; depth < 5; depth++)
        every_boundary(ETCD_TXN, txn_of_put(depth, true), txn_of_put(depth, false));
}

/* As it was found: the last KeyValue alone uses a lane's turn up. */
static void test_whole_turns(void **state)
{
    static const size_t around[] = {0, 1, 2, 100, 1000};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(around); i++) {
        struct buf in = {0}, clear = {0};
        struct answer a;

        kit_add_header(&in);
        kit_add_kv(&in, 2, 1, LIMIT_LANE_TURN + around[i], true, 5);
        kit_add_header(&clear);
        kit_add_kv(&clear, 2, 1, LIMIT_LANE_TURN + around[i], false, 5);
        answer_init(&a, ETCD_PUT, in, clear);
        check(&a, a.in.n, LIMIT_LANE_TURN);
        check(&a, a.in.n - 1, LIMIT_LANE_TURN);
        answer_free(&a);
    }
}

/* --- split answers --------------------------------------------------------------------------- */

/* Read one behind the other, the pieces of a RangeStream answer hold the same KeyValues. */
static void on_piece(void *arg, const struct buf *piece)
{
    buf_add(arg, piece->p, piece->n);
}

static struct buf split(enum etcd_content content, const struct buf *in, size_t cut,
                        size_t batch_max)
{
    struct buf all = {0}, said;
    struct feed f;

    feed_init_batch(&f, content, in, in->n, batch_max);
    f.on_piece = on_piece;
    f.arg = &all;
    feed_bytes(&f, in->p, cut);
    if (cut < in->n)
        feed_bytes(&f, in->p + cut, in->n - cut);
    assert_int_equal(f.err, ERR_OK);
    assert_true(f.is_done);
    feed_fini(&f);
    said = kit_canonical(content, &all);
    buf_free(&all);
    return said;
}

static void every_split(enum etcd_content content, struct buf in, struct buf clear)
{
    struct buf want = kit_canonical(content, &clear);

    for (size_t i = 1; i <= in.n; i++) {
        for (int round = 0; round < 6; round++) {
            size_t other = 1 + fix_random(&fix, (uint32_t)in.n);
            struct buf got =
                split(content, &in, round % 2 == 0 ? i : other, round % 2 == 0 ? other : i);

            assert_buf_equal(&got, &want);
            buf_free(&got);
        }
    }
    buf_free(&in);
    buf_free(&clear);
    buf_free(&want);
}

static struct buf range_stream(bool is_stored)
{
    struct buf inner = kit_range(5, 50, is_stored), b = {0};

    buf_sub(&b, 1, &inner);
    return b;
}

static void test_range_stream(void **state)
{
    (void)state;
    every_split(ETCD_RANGE_STREAM, range_stream(true), range_stream(false));
}

/* One revision, for the pieces of several repeat the header. */
static struct buf watch(bool is_stored)
{
    struct buf b = {0};

    kit_add_header(&b);
    buf_varint(&b, 2, 7);
    for (int i = 0; i < 4; i++) {
        struct buf event = {0};

        kit_add_kv(&event, 2, i, 30, is_stored, 9);
        buf_sub(&b, 11, &event);
    }
    return b;
}

static void test_watch(void **state)
{
    (void)state;
    every_split(ETCD_WATCH, watch(true), watch(false));
}

/* --- many small pieces ----------------------------------------------------------------------- */

/* Byte for byte, none of them joined with its neighbour. */
static void feed_single_bytes(struct feed *f, const struct buf *in)
{
    static struct slab slabs[2]; /* of the same memory; never freed, for one reference is ours */

    for (size_t i = 0; i < ARRAY_LEN(slabs); i++)
        slabs[i] = (struct slab){
            .data = in->p, .cap = (uint32_t)in->n, .fill = (uint32_t)in->n, .refs = 1};
    for (size_t i = 0; i < in->n; i++) {
        struct slice one = {&slabs[i % 2], (uint32_t)i, 1};

        slab_ref(one.slab);
        assert_int_equal(chain_push(&f->in, &one), ERR_OK);
        feed_run(f);
    }
}

/* The time has to grow with the length, not with its square: else these take hours. */
static void single_bytes(enum etcd_content content, struct buf in)
{
    struct buf all = {0};
    struct feed f;

    feed_init(&f, content, &in);
    f.on_piece = on_piece;
    f.arg = &all;
    feed_single_bytes(&f, &in);
    assert_int_equal(f.err, ERR_OK);
    assert_true(f.is_done);
    assert_true(all.n > 0);
    buf_free(&all);
    buf_free(&in);
    feed_fini(&f);
}

static struct buf event_of(int i, size_t len, int64_t revision)
{
    struct buf event = {0};

    kit_add_kv(&event, 2, i, len, true, revision);
    return event;
}

static void test_single_bytes_of_watch(void **state)
{
    struct buf one_revision = {0}, many = {0}, large = {0}, *all[] = {&one_revision, &many, &large};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        kit_add_header(all[i]);
        buf_varint(all[i], 2, 7);
    }
    for (int i = 0; i < 2000; i++) {
        struct buf a = event_of(i, 3, 9), b = event_of(i, 3, i + 1);

        buf_sub(&one_revision, 11, &a);
        buf_sub(&many, 11, &b);
    }
    for (int i = 0; i < 2; i++) {
        struct buf a = event_of(i, 300000, i + 1);

        buf_sub(&large, 11, &a);
    }
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        single_bytes(ETCD_WATCH, *all[i]);
}

/* An unknown group, of which only its end tells how long it is. */
static void add_group(struct buf *b)
{
    buf_add(b, "\xa3\x06", 2); /* field 100 */
    for (int i = 0; i < 60000; i++)
        buf_varint(b, 1, 5);
    buf_add(b, "\xa4\x06", 2);
}

static void test_single_bytes_of_a_group(void **state)
{
    struct buf range = kit_range(3, 10, true), inner = kit_range(3, 10, true), stream = {0};
    struct buf watched = {0};

    (void)state;
    add_group(&range);
    kit_add_kv(&range, 2, 0, 10, true, 1);
    single_bytes(ETCD_RANGE, range);
    add_group(&inner);
    buf_sub(&stream, 1, &inner);
    single_bytes(ETCD_RANGE_STREAM, stream);
    kit_add_header(&watched);
    buf_varint(&watched, 2, 7);
    add_group(&watched);
    for (int i = 0; i < 2; i++) {
        struct buf event = event_of(i, 5, i + 1);

        buf_sub(&watched, 11, &event);
        add_group(&watched);
    }
    single_bytes(ETCD_WATCH, watched);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_range),
        cmocka_unit_test(test_range_without_count),
        cmocka_unit_test(test_put),
        cmocka_unit_test(test_delete_range),
        cmocka_unit_test(test_txn),
        cmocka_unit_test(test_txn_of_put),
        cmocka_unit_test(test_whole_turns),
        cmocka_unit_test(test_range_stream),
        cmocka_unit_test(test_watch),
        cmocka_unit_test(test_single_bytes_of_watch),
        cmocka_unit_test(test_single_bytes_of_a_group),
    };

    return cmocka_run_group_tests(tests, kit_setup, kit_teardown);
}
