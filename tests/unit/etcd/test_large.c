/* SPDX-License-Identifier: Apache-2.0 */
/* Large answers: fed in every way, the result is what a small answer would have become; aborted
 * anywhere, the message still parses and has the announced length. */
#include "large_kit.h"

#include "pb/pb.h"

/* --- FILL ------------------------------------------------------------------------------------ */

static void fill_once(enum etcd_content content, const struct buf *in, const struct buf *want,
                      size_t max)
{
    struct feed f;
    struct buf out, got;

    feed_init(&f, content, in);
    feed_all(&f, in, in->n, max);
    assert_int_equal(f.err, ERR_OK);
    assert_true(f.is_done);
    assert_int_equal(etcd_large_left(f.large), 0);
    assert_int_equal(f.in.len, 0);
    out = buf_chain(&f.out);
    assert_int_equal(out.n, in->n);
    got = kit_canonical(content, &out);
    assert_buf_equal(&got, want);
    buf_free(&out);
    buf_free(&got);
    feed_fini(&f);
}

static void fill_try(enum etcd_content content, struct buf in, struct buf clear)
{
    struct buf want = kit_canonical(content, &clear);
    static const size_t sizes[] = {1, 2, 3, 7, 50, 1000, 20000, 5000000};

    for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
        fill_once(content, &in, &want, sizes[i]);
    for (int i = 0; i < 30; i++)
        fill_once(content, &in, &want, 1 + fix_random(&fix, 400));
    buf_free(&in);
    buf_free(&clear);
    buf_free(&want);
}

static void test_fill(void **state)
{
    (void)state;
    for (int n = 0; n < 12; n++)
        fill_try(ETCD_RANGE, kit_range(n, (size_t)(n * n * 7), true),
                 kit_range(n, (size_t)(n * n * 7), false));
    fill_try(ETCD_PUT, kit_put(true), kit_put(false));
    fill_try(ETCD_DELETE_RANGE, kit_delete_range(9, true), kit_delete_range(9, false));
    for (unsigned depth = 0; depth < 7; depth++)
        fill_try(ETCD_TXN, kit_txn(depth, true), kit_txn(depth, false));
}

/* Several lane turns, and fillers over 64 KiB and over three bytes of length. */
static void test_fill_large(void **state)
{
    struct buf in = kit_range(21000, 10, true), clear = kit_range(21000, 10, false);
    struct buf want = kit_canonical(ETCD_RANGE, &clear);

    (void)state;
    assert_true(in.n - clear.n > 2097152);
    fill_once(ETCD_RANGE, &in, &want, 40000);
    fill_once(ETCD_RANGE, &in, &want, 100000000);
    buf_free(&in);
    buf_free(&clear);
    buf_free(&want);
}

/* A value over the slab size, arriving in small pieces. */
static void test_fill_large_value(void **state)
{
    (void)state;
    struct buf in = kit_range(3, 200000, true), clear = kit_range(3, 200000, false);
    struct buf want = kit_canonical(ETCD_RANGE, &clear);

    fill_once(ETCD_RANGE, &in, &want, 3000);
    buf_free(&in);
    buf_free(&clear);
    buf_free(&want);
}

static void test_fill_empty(void **state)
{
    struct etcd_plan p = {0};
    struct feed f;

    (void)state;
    feed_init(&f, ETCD_RANGE, &(struct buf){0});
    feed_run(&f);
    assert_true(f.is_done);
    assert_int_equal(f.out.len, 0);
    etcd_plan_fini(&p);
    feed_fini(&f);
}

/* Unknown fields pass in pieces, even large ones. */
static void test_fill_unknown(void **state)
{
    struct buf in = {0}, zeros = {calloc(1, 100000), 100000, 0}, out;
    struct feed f;
    size_t tail;

    (void)state;
    kit_add_header(&in);
    kit_add_kv(&in, 2, 0, 10, true, 1);
    buf_field(&in, 77, zeros.p, zeros.n);
    tail = in.n;
    kit_add_kv(&in, 2, 4, 10, true, 1);
    buf_varint(&in, 78, 5);
    feed_init(&f, ETCD_RANGE, &in);
    feed_all(&f, &in, 5000, 100);
    assert_true(f.in.len < 10); /* nothing of it is held */
    assert_true(f.out.len > 4000);
    feed_all(&f, &in, in.n, 100);
    assert_int_equal(f.err, ERR_OK);
    assert_true(f.is_done);
    out = buf_chain(&f.out);
    assert_int_equal(out.n, in.n);
    assert_non_null(memmem(out.p, out.n, in.p + tail, in.n - tail));
    buf_free(&out);
    buf_free(&in);
    buf_free(&zeros);
    feed_fini(&f);
}

/* --- abort ----------------------------------------------------------------------------------- */

static void abort_and_check(struct feed *f, enum etcd_content content, size_t announced)
{
    struct buf out, got;

    assert_int_equal(etcd_large_fill(f->large, &fix.pool, announced - f->fed, &f->out), ERR_OK);
    assert_true(etcd_large_is_filled(f->large));
    out = buf_chain(&f->out);
    assert_int_equal(out.n, announced);
    got = kit_canonical(content, &out); /* parses, and holds nothing unknown but fillers */
    buf_free(&got);
    buf_free(&out);
}

static void abort_everywhere(enum etcd_content content, struct buf in)
{
    for (size_t upto = 0; upto <= in.n; upto++) {
        static const size_t sizes[] = {60, 100000};

        for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
            struct feed f;

            feed_init(&f, content, &in);
            feed_all(&f, &in, upto, sizes[i]);
            assert_int_equal(f.err, ERR_OK);
            abort_and_check(&f, content, in.n);
            feed_fini(&f);
        }
    }
    buf_free(&in);
}

static void test_abort_everywhere(void **state)
{
    struct buf unknown = {0};

    (void)state;
    abort_everywhere(ETCD_RANGE, kit_range(6, 20, true));
    abort_everywhere(ETCD_PUT, kit_put(true));
    abort_everywhere(ETCD_TXN, kit_txn(1, true));
    kit_add_kv(&unknown, 2, 0, 10, true, 1);
    buf_str(&unknown, 19999, "twelve bytes");
    buf_str(&unknown, 15, "of a known number of ours");
    abort_everywhere(ETCD_RANGE, unknown);
}

/* The n-th value does not open: its batch adds nothing, and the message can be completed. */
static void test_fail_and_abort(void **state)
{
    (void)state;
    for (int bad = 0; bad < 4; bad++) {
        for (size_t max = 1; max < 2000; max = max * 3 + 1) {
            struct buf in = {0}, del = {0};
            struct feed f;

            kit_add_header(&in);
            for (int i = 0; i < 4; i++) {
                kit_add_kv(&del, 3, i, 30, true, 5);
                if (i == bad)
                    del.p[del.n - 70] ^= 1;
            }
            kit_add_response(&in, 1, kit_range(2, 5, true));
            kit_add_response(&in, 3, del);
            kit_add_response(&in, 2, kit_put(true));
            feed_init(&f, ETCD_TXN, &in);
            feed_all(&f, &in, in.n, max);
            assert_int_not_equal(f.err, ERR_OK);
            assert_int_equal(err_status(f.err), GRPC_DATA_LOSS);
            assert_memory_equal(f.bad_key, SECRET, strlen(SECRET));
            assert_int_equal(f.bad_key[strlen(SECRET) + 3], '0' + bad);
            abort_and_check(&f, ETCD_TXN, in.n);
            feed_fini(&f);
            buf_free(&in);
        }
    }
}

/* What is missing goes out at once when it is at most LIMIT_FILLER or what has come; else never
 * more than has come, and the rest when that is enough. */
static void fill_in_steps(size_t announced, size_t step)
{
    size_t here = 2000, good; /* of etcd's bytes, as the caller counts them */
    struct buf in = kit_range(3, 10, true);
    struct feed f;

    feed_init_batch(&f, ETCD_RANGE, &in, announced, LIMIT_LANE_TURN);
    feed_all(&f, &in, in.n - 100, 50);
    assert_int_equal(f.err, ERR_OK);
    good = f.out.len;
    for (;;) {
        size_t allowed = here > LIMIT_FILLER ? here : LIMIT_FILLER;

        assert_int_equal(etcd_large_fill(f.large, &fix.pool, announced - here, &f.out), ERR_OK);
        assert_int_equal(etcd_large_is_filled(f.large), f.out.len == announced);
        assert_true(f.out.len - good <= allowed);
        if (announced - good <= allowed)
            break;
        assert_true(f.out.len <= here + 2 * PB_VARINT_MAX);
        assert_true(f.out.len >= here);
        here = here + step < announced ? here + step : announced;
    }
    assert_true(etcd_large_is_filled(f.large));
    buf_free(&in);
    feed_fini(&f);
}

static void test_filler_is_bounded(void **state)
{
    static const size_t sizes[] = {3000,
                                   1u << 20,
                                   LIMIT_FILLER,
                                   LIMIT_FILLER + 1999,
                                   LIMIT_FILLER + 5000,
                                   2 * LIMIT_FILLER,
                                   2000000000};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        fill_in_steps(sizes[i], 16384);
        fill_in_steps(sizes[i], 100000000);
    }
}

/* Is it well formed, but for what lies in headers (they pass unread)? */
static bool is_well_formed(enum etcd_content content, const struct buf *in)
{
    ProtobufCMessage *m = protobuf_c_message_unpack(kit_type_of(content), NULL, in->n, in->p);
    struct etcd_range all = {.key = bytes_of("", 1), .end = bytes_of("", 1)};
    struct etcd_plan p = {0};
    struct etcd_ask ask = {0};
    struct etcd_rules *rules;
    struct chain msg;
    bool is_good = m != NULL;

    if (m != NULL) {
        protobuf_c_message_free_unpacked(m, NULL);
        return true;
    }
    assert_int_equal(etcd_rules_new(NULL, 0, &rules), ERR_OK);
    ask_like(&ask, content, bytes_of(in->p, in->n), &all, 0);
    fix_chain(&fix, in->p, in->n, NULL, 0, &msg);
    /* A mutation may have made it answer what nobody can ask. */
    is_good =
        etcd_scan_answer(&p, content, rules, &msg, &ask) == ETCD_AS_IS || p.err == ERR_ANS_OUTSIDE;
    etcd_plan_fini(&p);
    etcd_ask_fini(&ask);
    etcd_rules_free(rules);
    chain_fini(&msg);
    return is_good;
}

/* Whatever etcd sends: never a message that does not parse, never one of another length. */
static void test_mutations(void **state)
{
    struct buf clean[] = {kit_range(3, 9, true), kit_txn(1, true)};
    size_t refused = 0;

    (void)state;
    for (int round = 0; round < 3000; round++) {
        enum etcd_content content = round % 3 == 0 ? ETCD_RANGE : ETCD_TXN;
        const struct buf *from = &clean[content == ETCD_RANGE ? 0 : 1];
        struct buf in = buf_of(from->p, from->n), out;
        struct feed f;

        for (uint32_t i = 0; i <= fix_random(&fix, 3); i++)
            in.p[fix_random(&fix, (uint32_t)in.n)] ^= (uint8_t)(1u << fix_random(&fix, 8));
        feed_init(&f, content, &in);
        feed_all(&f, &in, in.n, 1 + fix_random(&fix, 300));
        if (f.err != ERR_OK) {
            refused++;
            assert_int_equal(etcd_large_fill(f.large, &fix.pool, 0, &f.out), ERR_OK);
        } else {
            assert_true(f.is_done);
        }
        out = buf_chain(&f.out);
        assert_int_equal(out.n, in.n);
        if (!is_well_formed(content, &out))
            fail_msg("round %d does not parse, error %s", round, err_reason(f.err));
        buf_free(&out);
        buf_free(&in);
        feed_fini(&f);
    }
    assert_true(refused > 500);
    buf_free(&clean[0]);
    buf_free(&clean[1]);
}

static void bad(enum etcd_content content, struct buf in, enum err want)
{
    for (size_t max = 1; max < 1000; max = max * 2 + 1) {
        struct feed f;

        feed_init(&f, content, &in);
        feed_all(&f, &in, in.n, max);
        assert_int_equal(f.err, want);
        if (content != ETCD_WATCH && content != ETCD_RANGE_STREAM)
            abort_and_check(&f, content, in.n);
        feed_fini(&f);
    }
    buf_free(&in);
}

/* The rules hold across batches. */
static void test_rules(void **state)
{
    struct buf in = {0}, a = {0}, b = {0};

    (void)state;
    kit_add_header(&in);
    kit_add_kv(&in, 2, 0, 10, true, 1);
    kit_add_header(&in);
    bad(ETCD_RANGE, in, ERR_ANS_DOUBLED);
    in = (struct buf){0};
    kit_add_kv(&in, 2, 0, 10, true, 1);
    buf_varint(&in, 2, 1);
    bad(ETCD_RANGE, in, ERR_ANS_WIRE_TYPE);
    in = kit_put(true);
    kit_add_kv(&in, 2, 1, 10, true, 1);
    bad(ETCD_PUT, in, ERR_ANS_DOUBLED);
    a = kit_range(2, 10, true);
    buf_sub(&b, 1, &a);
    a = kit_put(true);
    buf_sub(&b, 2, &a);
    in = (struct buf){0};
    buf_sub(&in, 3, &b);
    bad(ETCD_TXN, in, ERR_ANS_DOUBLED);
    in = (struct buf){0};
    buf_str(&a, 1, "/elsewhere");
    buf_sub(&in, 2, &a);
    bad(ETCD_RANGE, in, ERR_ANS_OUTSIDE);
    in = kit_range(2, 10, true);
    buf_add(&in, "\x12\x7f\x01", 3);
    bad(ETCD_RANGE, in, ERR_ANS_MALFORMED);
    in = kit_range(2, 10, true);
    buf_add(&in, "\x12", 1); /* a rest of one byte */
    bad(ETCD_RANGE, in, ERR_ANS_MALFORMED);
    in = (struct buf){0};
    buf_str(&a, 1, "x"); /* a message of one byte */
    buf_sub(&in, 3, &a);
    bad(ETCD_TXN, in, ERR_ANS_MALFORMED);
}

static void test_limits(void **state)
{
    static const uint8_t kv[] = {0x12, 0x81, 0x80, 0x80, 0x20, 0x0a, 0x01, 'k'}; /* 64 MiB + 1 */
    static const uint8_t header[] = {0x0a, 0x81, 0x80, 0x40};                    /* 1 MiB + 1 */
    struct feed f;

    (void)state;
    feed_init_batch(&f, ETCD_RANGE, &(struct buf){0}, 100u << 20, LIMIT_LANE_TURN);
    feed_bytes(&f, kv, sizeof kv);
    assert_int_equal(f.err, ERR_MEMORY_LIMIT);
    feed_fini(&f);
    feed_init_batch(&f, ETCD_RANGE, &(struct buf){0}, 100u << 20, LIMIT_LANE_TURN);
    feed_bytes(&f, header, sizeof header);
    assert_int_equal(f.err, ERR_MEMORY_LIMIT);
    feed_fini(&f);
    feed_init_batch(&f, ETCD_WATCH, &(struct buf){0}, 100u << 20, LIMIT_LANE_TURN);
    feed_bytes(&f, header, sizeof header);
    assert_int_equal(f.err, ERR_MEMORY_LIMIT);
    feed_fini(&f);
}

/* What waits for the last piece: each field, and all of them together. */
static void test_limits_of_what_waits(void **state)
{
    static const uint8_t alone[] = {0x92, 0x06, 0x81, 0x80, 0x40};        /* 1 MiB + 1 */
    static uint8_t one_of_16[5 + 65535] = {0x92, 0x06, 0xff, 0xff, 0x03}; /* field 98 */
    struct feed f;

    (void)state;
    feed_init_batch(&f, ETCD_RANGE_STREAM, &(struct buf){0}, 100u << 20, LIMIT_LANE_TURN);
    feed_bytes(&f, alone, sizeof alone);
    assert_int_equal(f.err, ERR_MEMORY_LIMIT);
    feed_fini(&f);
    feed_init_batch(&f, ETCD_RANGE_STREAM, &(struct buf){0}, 100u << 20, LIMIT_LANE_TURN);
    for (int i = 0; i < 16; i++) {
        feed_bytes(&f, one_of_16, sizeof one_of_16);
        assert_int_equal(f.err, ERR_OK);
    }
    feed_bytes(&f, one_of_16, sizeof one_of_16);
    assert_int_equal(f.err, ERR_MEMORY_LIMIT);
    feed_fini(&f);
}

/* --- SPLIT_KV -------------------------------------------------------------------------------- */

struct pieces {
    struct buf kvs; /* of all pieces, as fields 2 */
    size_t count, with_tail;
};

static void on_range_piece(void *arg, const struct buf *piece)
{
    struct pieces *p = arg;
    Etcdserverpb__RangeStreamResponse *m =
        etcdserverpb__range_stream_response__unpack(NULL, piece->n, piece->p);
    Etcdserverpb__RangeResponse *r;

    assert_non_null(m);
    r = m->range_response;
    assert_non_null(r);
    assert_int_equal(p->with_tail, 0); /* nothing behind the last */
    p->count++;
    for (size_t i = 0; i < r->n_kvs; i++) {
        struct buf kv = {malloc(2000000), 0, 0};

        kv.n = mvccpb__key_value__pack(r->kvs[i], kv.p);
        buf_sub(&p->kvs, 2, &kv);
    }
    if (r->header != NULL) {
        p->with_tail++;
        assert_int_equal(r->count, 12345);
        assert_true(r->more);
        assert_int_equal(r->base.n_unknown_fields, 1);
        assert_int_equal(m->base.n_unknown_fields, 1);
    } else {
        assert_int_equal(r->count, 0);
        assert_false(r->more);
        assert_true(r->n_kvs > 0);
        assert_int_equal(r->base.n_unknown_fields + m->base.n_unknown_fields, 0);
    }
    etcdserverpb__range_stream_response__free_unpacked(m, NULL);
}

static struct buf range_stream(int n, bool is_stored)
{
    struct buf inner = kit_range(n, 50, is_stored), b = {0};

    buf_str(&inner, 99, "unknown inside");
    buf_sub(&b, 1, &inner);
    buf_str(&b, 98, "unknown outside");
    return b;
}

static void test_split_kv(void **state)
{
    struct buf in = range_stream(40, true), want = {0};

    (void)state;
    for (int i = 0; i < 40; i++)
        kit_add_kv(&want, 2, i, 50, false, 100 + i);
    for (int round = 0; round < 60; round++) {
        struct pieces p = {0};
        struct feed f;

        feed_init(&f, ETCD_RANGE_STREAM, &in);
        f.on_piece = on_range_piece;
        f.arg = &p;
        feed_all(&f, &in, in.n, round < 4 ? (size_t)round + 1 : 1 + fix_random(&fix, 3000));
        assert_int_equal(f.err, ERR_OK);
        assert_true(f.is_done);
        assert_int_equal(p.with_tail, 1);
        assert_true(round >= 4 || p.count > 30);
        assert_buf_equal(&p.kvs, &want);
        buf_free(&p.kvs);
        feed_fini(&f);
    }
    buf_free(&in);
    buf_free(&want);
}

static void on_any_piece(void *arg, const struct buf *piece)
{
    (*(size_t *)arg)++;
    assert_true(piece->n > 0);
}

static void test_split_kv_fails(void **state)
{
    struct buf inner = kit_range(5, 50, true), in = {0};
    size_t pieces = 0;
    struct feed f;

    (void)state;
    inner.p[inner.n - 200] ^= 1; /* in the fourth, the last one that is sealed */
    buf_sub(&in, 1, &inner);
    feed_init(&f, ETCD_RANGE_STREAM, &in);
    f.on_piece = on_any_piece;
    f.arg = &pieces;
    feed_all(&f, &in, in.n, 20);
    assert_int_equal(err_status(f.err), GRPC_DATA_LOSS);
    assert_int_equal(pieces, 3);
    feed_fini(&f);
    buf_free(&in);
}

/* --- SPLIT_REV ------------------------------------------------------------------------------- */

static void add_event(struct buf *b, int i, int64_t revision, bool is_stored)
{
    struct buf event = {0};

    kit_add_kv(&event, 2, i, 60, is_stored, revision);
    buf_sub(b, 11, &event);
}

static const int64_t revisions[] = {10, 10, 10, 11, 12, 12, 15, 16, 16, 16, 16, 20};
#define EVENTS ((int)ARRAY_LEN(revisions))

static struct buf watch(bool is_fragment, bool is_stored)
{
    struct buf b = {0};

    kit_add_header(&b);
    buf_varint(&b, 2, 7);
    buf_str(&b, 6, "goes with the last piece");
    if (is_fragment)
        buf_varint(&b, 7, 1);
    for (int i = 0; i < EVENTS; i++)
        add_event(&b, i, revisions[i], is_stored);
    return b;
}

struct watch_pieces {
    struct buf events;
    int64_t last; /* revision */
    size_t count, fragments, reasons, total;
};

static void on_watch_piece(void *arg, const struct buf *piece)
{
    struct watch_pieces *p = arg;
    Etcdserverpb__WatchResponse *m = etcdserverpb__watch_response__unpack(NULL, piece->n, piece->p);

    assert_non_null(m);
    assert_non_null(m->header);
    assert_int_equal(m->header->revision, 0x63);
    assert_int_equal(m->watch_id, 7);
    assert_true(m->n_events > 0); /* else it would read as progress */
    assert_int_equal(p->fragments, 0);
    p->fragments += m->fragment ? 1 : 0;
    p->reasons += m->cancel_reason[0] != 0 ? 1 : 0;
    p->count++;
    for (size_t i = 0; i < m->n_events; i++) {
        struct buf e = {malloc(100000), 0, 0};
        int64_t revision = m->events[i]->kv->mod_revision;

        assert_true(i > 0 || revision > p->last); /* no revision in two pieces */
        p->last = revision;
        e.n = mvccpb__event__pack(m->events[i], e.p);
        buf_sub(&p->events, 11, &e);
        p->total++;
    }
    etcdserverpb__watch_response__free_unpacked(m, NULL);
}

static void test_split_rev(void **state)
{
    (void)state;
    for (int round = 0; round < 100; round++) {
        bool is_fragment = round % 2 == 1;
        struct buf in = watch(is_fragment, true), want = {0};
        struct watch_pieces p = {0};
        struct feed f;

        for (int i = 0; i < EVENTS; i++)
            add_event(&want, i, revisions[i], false);
        feed_init(&f, ETCD_WATCH, &in);
        f.on_piece = on_watch_piece;
        f.arg = &p;
        feed_all(&f, &in, in.n, round < 6 ? (size_t)round / 2 + 1 : 1 + fix_random(&fix, 2000));
        assert_int_equal(f.err, ERR_OK);
        assert_true(f.is_done);
        assert_int_equal(f.plan.watch.watch_id, 7);
        assert_int_equal(etcd_large_header(f.large).n, 4);
        assert_int_equal(p.fragments, is_fragment ? 1 : 0);
        assert_int_equal(p.reasons, 1);
        assert_true(round >= 6 || p.count == 5); /* the last two become known at once */
        assert_buf_equal(&p.events, &want);
        buf_free(&p.events);
        buf_free(&in);
        buf_free(&want);
        feed_fini(&f);
    }
}

/* Of a revision that does not open, nothing goes out; all before it does. */
static void test_split_rev_fails(void **state)
{
    (void)state;
    for (int bad_event = 0; bad_event < EVENTS; bad_event++) {
        for (size_t max = 1; max < 20000; max = max * 5) {
            struct buf in = {0};
            struct watch_pieces p = {0};
            struct feed f;
            size_t want = 0;

            if (bad_event % 5 == 4)
                continue; /* not protected */
            kit_add_header(&in);
            buf_varint(&in, 2, 7);
            buf_str(&in, 6, "goes with the last piece");
            for (int i = 0; i < EVENTS; i++) {
                add_event(&in, i, revisions[i], true);
                if (i == bad_event)
                    in.p[in.n - 80] ^= 1;
                want += revisions[i] < revisions[bad_event] ? 1 : 0;
            }
            feed_init(&f, ETCD_WATCH, &in);
            f.on_piece = on_watch_piece;
            f.arg = &p;
            feed_all(&f, &in, in.n, max);
            assert_int_equal(err_status(f.err), GRPC_DATA_LOSS);
            assert_int_equal(p.total, want);
            assert_int_equal(p.reasons, 0);
            buf_free(&p.events);
            buf_free(&in);
            feed_fini(&f);
        }
    }
}

static void test_watch_rules(void **state)
{
    struct buf in = {0}, event = {0};
    struct feed f;

    (void)state;
    in = watch(false, true);
    buf_varint(&in, 2, 7); /* a known field behind the events */
    bad(ETCD_WATCH, in, ERR_ANS_MALFORMED);
    in = (struct buf){0};
    kit_add_header(&in);
    buf_varint(&in, 2, 8);
    add_event(&in, 0, 1, true);
    bad(ETCD_WATCH, in, ERR_ANS_UNKNOWN_WATCH);
    in = (struct buf){0};
    kit_add_header(&in);
    kit_add_header(&in);
    bad(ETCD_WATCH, in, ERR_ANS_DOUBLED);
    in = (struct buf){0};
    kit_add_header(&in);
    buf_varint(&in, 2, 7);
    buf_str(&event, 2, "\x0a\x0a/elsewhere");
    buf_sub(&in, 11, &event);
    bad(ETCD_WATCH, in, ERR_ANS_OUTSIDE);

    in = (struct buf){0};
    kit_add_header(&in);
    buf_varint(&in, 2, 9);
    buf_varint(&in, 3, 1); /* created, with events: in pieces they would come before it */
    add_event(&in, 0, 1, true);
    bad(ETCD_WATCH, in, ERR_ANS_MALFORMED);

    /* a watch that we ended: nothing is looked at, and the canceled answer ends the swallowing */
    in = (struct buf){0};
    kit_add_header(&in);
    buf_varint(&in, 2, 7);
    buf_varint(&in, 4, 1);
    buf_str(&event, 2, "\x0a\x0a/elsewhere");
    buf_sub(&in, 11, &event);
    feed_init(&f, ETCD_WATCH, &in);
    etcd_ask_watch(&f.ask, 7)->state = ETCD_WATCH_SWALLOW;
    feed_all(&f, &in, in.n, 3);
    assert_int_equal(f.err, ERR_OK);
    assert_true(f.is_done);
    assert_null(etcd_ask_watch(&f.ask, 7));
    feed_fini(&f);
    buf_free(&in);
}

/* No events at all: one piece, as it came. */
static void test_watch_without_events(void **state)
{
    struct buf in = {0}, out;
    struct feed f;

    (void)state;
    kit_add_header(&in);
    buf_varint(&in, 2, 7);
    buf_varint(&in, 4, 1);
    buf_str(&in, 6, "because");
    feed_init(&f, ETCD_WATCH, &in);
    feed_all(&f, &in, in.n, 2);
    assert_true(f.is_done);
    assert_int_equal(f.batches, 1);
    out = buf_chain(&f.out);
    assert_buf_equal(&out, &in);
    assert_null(etcd_ask_watch(&f.ask, 7));
    buf_free(&in);
    buf_free(&out);
    feed_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fill),
        cmocka_unit_test(test_fill_large),
        cmocka_unit_test(test_fill_large_value),
        cmocka_unit_test(test_fill_empty),
        cmocka_unit_test(test_fill_unknown),
        cmocka_unit_test(test_abort_everywhere),
        cmocka_unit_test(test_fail_and_abort),
        cmocka_unit_test(test_filler_is_bounded),
        cmocka_unit_test(test_mutations),
        cmocka_unit_test(test_rules),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_limits_of_what_waits),
        cmocka_unit_test(test_split_kv),
        cmocka_unit_test(test_split_kv_fails),
        cmocka_unit_test(test_split_rev),
        cmocka_unit_test(test_split_rev_fails),
        cmocka_unit_test(test_watch_rules),
        cmocka_unit_test(test_watch_without_events),
    };

    return cmocka_run_group_tests(tests, kit_setup, kit_teardown);
}
