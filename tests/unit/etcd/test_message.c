/* SPDX-License-Identifier: Apache-2.0 */
/* Requests of our own, read back by protobuf-c, and what is read of etcd's answers. */
#include "fixture.h"

#include "etcd/message.h"
#include "etcd_rpc.pb-c.h"

/* The body of a message in a buffer of exactly its size, so that a sanitizer sees a byte too many.
 */
static struct buf range_of(const struct etcd_range_request *r)
{
    uint8_t room[256];
    struct etcd_message m;
    struct bytes body;
    struct buf exact;

    etcd_message_init(&m, room, sizeof room);
    etcd_message_put_range(&m, r);
    assert_int_equal(etcd_message_body(&m, &body), ERR_OK);
    exact = buf_of(body.p, body.n);
    etcd_message_init(&m, exact.p, exact.n);
    etcd_message_put_range(&m, r);
    assert_int_equal(etcd_message_body(&m, &body), ERR_OK);
    assert_int_equal(body.n, exact.n);
    assert_memory_equal(body.p, room, exact.n);
    return exact;
}

static void test_range(void **state)
{
    static const struct etcd_range_request requests[] = {
        {.key = BYTES_LIT("health")},
        {.key = BYTES_LIT("/registry/"),
         .range_end = BYTES_LIT("/registry0"),
         .limit = 1,
         .keys_only = true},
        {.key = BYTES_LIT("\0"),
         .range_end = BYTES_LIT("\0"),
         .limit = INT64_MAX,
         .revision = INT64_MAX},
        {.key = BYTES_LIT("a"), .revision = 300},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
        const struct etcd_range_request *r = &requests[i];
        struct buf b = range_of(r);
        Etcdserverpb__RangeRequest *m = etcdserverpb__range_request__unpack(NULL, b.n, b.p);

        assert_non_null(m);
        assert_true(bytes_eq(bytes_of(m->key.data, m->key.len), r->key));
        assert_true(bytes_eq(bytes_of(m->range_end.data, m->range_end.len), r->range_end));
        assert_int_equal(m->limit, r->limit);
        assert_int_equal(m->revision, r->revision);
        assert_int_equal(m->keys_only, r->keys_only);
        assert_false(m->count_only);
        assert_false(m->serializable); /* only a member with a leader answers */
        assert_int_equal(m->base.n_unknown_fields, 0);
        etcdserverpb__range_request__free_unpacked(m, NULL);
        buf_free(&b);
    }
}

/* What etcd's own health check sends. */
static void test_health_bytes(void **state)
{
    struct etcd_range_request r = {.key = BYTES_LIT("health")};
    struct buf b = range_of(&r);

    (void)state;
    assert_true(bytes_eq(bytes_of(b.p, b.n), BYTES_LIT("\x0a\x06health")));
    buf_free(&b);
}

static void test_watch_cancel(void **state)
{
    static const int64_t ids[] = {0, 1, 127, 128, INT64_MAX, -1, INT64_MIN};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
        uint8_t room[ETCD_WATCH_CANCEL_MAX];
        Etcdserverpb__WatchRequest *w;
        struct etcd_message m;
        struct bytes body;

        etcd_message_init(&m, room, sizeof room);
        etcd_message_put_watch_cancel(&m, ids[i]);
        assert_int_equal(etcd_message_body(&m, &body), ERR_OK);
        w = etcdserverpb__watch_request__unpack(NULL, body.n, body.p);
        assert_non_null(w);
        assert_int_equal(w->request_union_case,
                         ETCDSERVERPB__WATCH_REQUEST__REQUEST_UNION_CANCEL_REQUEST);
        assert_int_equal(w->cancel_request->watch_id, ids[i]);
        etcdserverpb__watch_request__free_unpacked(w, NULL);
    }
}

/* With too little room there is no body, and what is written later does not make one. */
static void test_no_room(void **state)
{
    struct etcd_range_request r = {.key = BYTES_LIT("/registry/"),
                                   .range_end = BYTES_LIT("/registry0"),
                                   .limit = 500,
                                   .revision = 70000,
                                   .keys_only = true};
    struct buf whole = range_of(&r);

    (void)state;
    for (size_t cap = 0; cap < whole.n; cap++) {
        uint8_t *room = malloc(cap + 1);
        struct etcd_message m;
        struct bytes body;

        etcd_message_init(&m, room, cap);
        etcd_message_put_range(&m, &r);
        assert_int_equal(etcd_message_body(&m, &body), ERR_MESSAGE_TOO_LARGE);
        assert_true(m.len <= cap);
        free(room);
    }
    buf_free(&whole);
}

/* Lengths that would overflow when added up are refused as well. */
static void test_no_room_for_any_length(void **state)
{
    uint8_t room[32];
    struct etcd_message m;
    struct bytes body;

    (void)state;
    etcd_message_init(&m, room, sizeof room);
    etcd_message_put_bytes(&m, 1, bytes_of(room, SIZE_MAX));
    etcd_message_put_varint(&m, 2, 1);
    assert_int_equal(etcd_message_body(&m, &body), ERR_MESSAGE_TOO_LARGE);
    assert_int_equal(m.len, 0);
}

static struct buf answer_of(int64_t revision, size_t kvs)
{
    Etcdserverpb__ResponseHeader header = ETCDSERVERPB__RESPONSE_HEADER__INIT;
    Etcdserverpb__RangeResponse m = ETCDSERVERPB__RANGE_RESPONSE__INIT;
    Mvccpb__KeyValue kv = MVCCPB__KEY_VALUE__INIT, *list[8];
    struct buf b = {0};

    header.cluster_id = 7;
    header.revision = revision;
    m.header = revision == 0 ? NULL : &header;
    kv.key.data = (uint8_t *)"k";
    kv.key.len = 1;
    for (size_t i = 0; i < kvs; i++)
        list[i] = &kv;
    m.kvs = list;
    m.n_kvs = kvs;
    m.count = (int64_t)kvs;
    b.n = etcdserverpb__range_response__get_packed_size(&m);
    b.p = malloc(b.n + 1);
    etcdserverpb__range_response__pack(&m, b.p);
    return b;
}

static void test_read_range(void **state)
{
    static const int64_t revisions[] = {0, 1, 70000, INT64_MAX};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(revisions); i++) {
        for (size_t kvs = 0; kvs < 3; kvs++) {
            struct buf b = answer_of(revisions[i], kvs);
            struct etcd_range_answer a;

            assert_int_equal(etcd_message_read_range(bytes_of(b.p, b.n), &a), ERR_OK);
            assert_int_equal(a.header.revision, revisions[i]);
            assert_int_equal(a.kv_count, kvs);
            buf_free(&b);
        }
    }
}

/* Whatever the lengths are, protobuf-c reads what was meant, and there is room. */
static void test_replace(void **state)
{
    static const size_t lens[] = {0, 1, 100, 127, 128, 5000, 20000, 300000};
    static const int64_t revisions[] = {1, 127, 128, INT64_MAX};
    uint8_t *bytes = malloc(300000);

    (void)state;
    assert_non_null(bytes);
    memset(bytes, 'v', 300000);
    for (size_t i = 0; i < ARRAY_LEN(lens); i++)
        for (size_t k = 1; k < ARRAY_LEN(lens) - 1; k++) {
            const struct etcd_replace_request r = {.key = bytes_of(bytes, lens[k]),
                                                   .value = bytes_of(bytes, lens[i]),
                                                   .mod_revision = revisions[i % 4]};
            size_t cap = etcd_replace_max(&r);
            uint8_t *room = malloc(cap);
            Etcdserverpb__TxnRequest *t;
            Etcdserverpb__PutRequest *put;
            struct etcd_message m;
            struct bytes body;

            assert_non_null(room);
            etcd_message_init(&m, room, cap);
            etcd_message_put_replace(&m, &r);
            assert_int_equal(etcd_message_body(&m, &body), ERR_OK);
            t = etcdserverpb__txn_request__unpack(NULL, body.n, body.p);
            assert_non_null(t);
            assert_int_equal(t->n_compare, 1);
            assert_int_equal(t->compare[0]->target, ETCDSERVERPB__COMPARE__COMPARE_TARGET__MOD);
            assert_int_equal(t->compare[0]->result, ETCDSERVERPB__COMPARE__COMPARE_RESULT__EQUAL);
            assert_int_equal(t->compare[0]->mod_revision, r.mod_revision);
            assert_int_equal(t->compare[0]->key.len, r.key.n);
            assert_int_equal(t->n_success, 1);
            put = t->success[0]->request_put;
            assert_non_null(put);
            assert_int_equal(put->key.len, r.key.n);
            assert_int_equal(put->value.len, r.value.n);
            assert_true(put->ignore_lease && !put->ignore_value && put->lease == 0);
            assert_int_equal(t->n_failure, 1);
            assert_non_null(t->failure[0]->request_range);
            assert_int_equal(t->failure[0]->request_range->key.len, r.key.n);
            etcdserverpb__txn_request__free_unpacked(t, NULL);
            free(room);
        }
    free(bytes);
}

/* Three compares then, and still room. */
static void test_replace_behind_a_fence(void **state)
{
    static const int64_t revisions[] = {1, 127, 128, INT64_MAX - 1};
    uint8_t bytes[300] = {'/'};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(revisions); i++)
        for (size_t n = 1; n <= 300; n += 23) {
            const struct etcd_fence fence = {.lock = bytes_of(bytes, n),
                                             .lock_revision = revisions[i],
                                             .watched = bytes_of(bytes, 301 - n),
                                             .watched_end = bytes_of(bytes, n),
                                             .seen_revision = revisions[i]};
            const struct etcd_replace_request r = {.key = bytes_of(bytes, n),
                                                   .value = bytes_of(bytes, 10),
                                                   .mod_revision = 7,
                                                   .fence = &fence};
            uint8_t *room = malloc(etcd_replace_max(&r));
            Etcdserverpb__TxnRequest *t;
            struct etcd_message m;
            struct bytes body;

            assert_non_null(room);
            etcd_message_init(&m, room, etcd_replace_max(&r));
            etcd_message_put_replace(&m, &r);
            assert_int_equal(etcd_message_body(&m, &body), ERR_OK);
            t = etcdserverpb__txn_request__unpack(NULL, body.n, body.p);
            assert_non_null(t);
            assert_int_equal(t->n_compare, 3);
            assert_int_equal(t->compare[0]->target, ETCDSERVERPB__COMPARE__COMPARE_TARGET__CREATE);
            assert_int_equal(t->compare[0]->result, ETCDSERVERPB__COMPARE__COMPARE_RESULT__EQUAL);
            assert_int_equal(t->compare[0]->create_revision, fence.lock_revision);
            assert_int_equal(t->compare[0]->key.len, n);
            assert_int_equal(t->compare[1]->target, ETCDSERVERPB__COMPARE__COMPARE_TARGET__MOD);
            assert_int_equal(t->compare[1]->result, ETCDSERVERPB__COMPARE__COMPARE_RESULT__LESS);
            assert_int_equal(t->compare[1]->mod_revision, fence.seen_revision + 1);
            assert_int_equal(t->compare[1]->key.len, 301 - n);
            assert_int_equal(t->compare[1]->range_end.len, n);
            assert_int_equal(t->compare[2]->mod_revision, 7);
            assert_int_equal(t->n_success, 1);
            assert_int_equal(t->n_failure, 1);
            etcdserverpb__txn_request__free_unpacked(t, NULL);
            free(room);
        }
}

static void test_next_kv(void **state)
{
    static const char body[] = "\x0a\x02\x18\x05" /* header */
                               "\x12\x08\x0a\x01"
                               "a\x18\x07\x2a\x01v" /* a = v at 7 */
                               "\x18\x01"           /* more */
                               "\x12\x05\x0a\x01"
                               "b\x30\x09" /* b, with a lease */
                               "\x20\x02"; /* count */
    struct bytes rest = bytes_of(body, sizeof body - 1);
    struct etcd_range_answer a;
    struct etcd_kv kv;
    bool has;

    (void)state;
    assert_int_equal(etcd_message_read_range(rest, &a), ERR_OK);
    assert_int_equal(a.kv_count, 2);
    assert_int_equal(a.count, 2);
    assert_true(a.has_more);
    assert_int_equal(etcd_message_next_kv(&rest, &kv, &has), ERR_OK);
    assert_true(has && bytes_eq(kv.key, BYTES_LIT("a")) && bytes_eq(kv.value, BYTES_LIT("v")));
    assert_true(kv.mod_revision == 7 && kv.lease == 0);
    assert_int_equal(etcd_message_next_kv(&rest, &kv, &has), ERR_OK);
    assert_true(has && bytes_eq(kv.key, BYTES_LIT("b")) && kv.value.n == 0 && kv.lease == 9);
    assert_int_equal(etcd_message_next_kv(&rest, &kv, &has), ERR_OK);
    assert_false(has);
}

/* The operations of a Txn that moves a value, as protobuf-c reads them. */
static void check_move(const Etcdserverpb__TxnRequest *t, const struct etcd_move_request *r)
{
    const Etcdserverpb__PutRequest *put;
    const Etcdserverpb__DeleteRangeRequest *del;

    assert_int_equal(t->n_compare, 2);
    assert_int_equal(t->compare[0]->target, ETCDSERVERPB__COMPARE__COMPARE_TARGET__MOD);
    assert_int_equal(t->compare[0]->mod_revision, r->mod_revision);
    assert_int_equal(t->compare[0]->key.len, r->from.n);
    assert_int_equal(t->compare[1]->target, ETCDSERVERPB__COMPARE__COMPARE_TARGET__CREATE);
    assert_int_equal(t->compare[1]->create_revision, 0);
    assert_int_equal(t->compare[1]->key.len, r->to.n);
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(t->compare[i]->result, ETCDSERVERPB__COMPARE__COMPARE_RESULT__EQUAL);
    assert_int_equal(t->n_success, 2);
    put = t->success[0]->request_put;
    assert_true(bytes_eq(bytes_of(put->key.data, put->key.len), r->to));
    assert_true(bytes_eq(bytes_of(put->value.data, put->value.len), r->value));
    assert_true(!put->ignore_lease && !put->ignore_value && put->lease == 0);
    del = t->success[1]->request_delete_range;
    assert_true(bytes_eq(bytes_of(del->key.data, del->key.len), r->from));
    assert_int_equal(del->range_end.len, 0);
    assert_int_equal(t->n_failure, 2);
    for (size_t i = 0; i < 2; i++) {
        const Etcdserverpb__RangeRequest *range = t->failure[i]->request_range;

        assert_true(bytes_eq(bytes_of(range->key.data, range->key.len), i == 0 ? r->from : r->to));
        assert_int_equal(range->range_end.len, 0);
    }
}

static void test_move(void **state)
{
    static const size_t lens[] = {1, 100, 127, 128, 5000, 300000};
    uint8_t *bytes = malloc(300000);

    (void)state;
    assert_non_null(bytes);
    memset(bytes, 'v', 300000);
    for (size_t i = 0; i < 6 * 6 * 6; i++) {
        const struct etcd_move_request r = {.from = bytes_of(bytes, lens[i % 6]),
                                            .to = bytes_of(bytes, lens[i / 6 % 6]),
                                            .value = bytes_of(bytes, lens[i / 36]),
                                            .mod_revision = i % 2 == 0 ? 300 : INT64_MAX};
        size_t cap = etcd_move_max(r.from.n, r.to.n, r.value.n);
        uint8_t *room = malloc(cap);
        Etcdserverpb__TxnRequest *t;
        struct etcd_message m;
        struct bytes body;

        assert_non_null(room);
        etcd_message_init(&m, room, cap);
        etcd_message_put_move(&m, &r);
        assert_int_equal(etcd_message_body(&m, &body), ERR_OK);
        t = etcdserverpb__txn_request__unpack(NULL, body.n, body.p);
        assert_non_null(t);
        check_move(t, &r);
        etcdserverpb__txn_request__free_unpacked(t, NULL);
        free(room);
    }
    free(bytes);
}

/* The copy goes only while both keys have the revisions that were seen. */
static void test_discard(void **state)
{
    static const size_t lens[] = {1, 100, 127, 128, 5000};
    static uint8_t bytes[5000] = {'v'};

    (void)state;
    for (size_t i = 0; i < 5 * 5; i++) {
        const struct etcd_discard_request r = {.copy = bytes_of(bytes, lens[i % 5]),
                                               .original = bytes_of(bytes, lens[i / 5]),
                                               .copy_revision = i % 2 == 0 ? 300 : INT64_MAX,
                                               .original_revision = 7};
        size_t cap = etcd_move_max(r.copy.n, r.original.n, 0);
        uint8_t *room = malloc(cap);
        const Etcdserverpb__DeleteRangeRequest *del;
        Etcdserverpb__TxnRequest *t;
        struct etcd_message m;
        struct bytes body;

        assert_non_null(room);
        etcd_message_init(&m, room, cap);
        etcd_message_put_discard(&m, &r);
        assert_int_equal(etcd_message_body(&m, &body), ERR_OK);
        t = etcdserverpb__txn_request__unpack(NULL, body.n, body.p);
        assert_non_null(t);
        assert_int_equal(t->n_compare, 2);
        assert_int_equal(t->compare[0]->mod_revision, r.copy_revision);
        assert_int_equal(t->compare[0]->key.len, r.copy.n);
        assert_int_equal(t->compare[1]->mod_revision, 7);
        assert_int_equal(t->compare[1]->key.len, r.original.n);
        for (size_t k = 0; k < 2; k++)
            assert_int_equal(t->compare[k]->target, ETCDSERVERPB__COMPARE__COMPARE_TARGET__MOD);
        assert_int_equal(t->n_success, 1);
        del = t->success[0]->request_delete_range;
        assert_int_equal(del->key.len, r.copy.n);
        assert_int_equal(del->range_end.len, 0);
        assert_int_equal(t->n_failure, 2);
        assert_int_equal(t->failure[0]->request_range->key.len, r.copy.n);
        assert_int_equal(t->failure[1]->request_range->key.len, r.original.n);
        etcdserverpb__txn_request__free_unpacked(t, NULL);
        free(room);
    }
}

/* AuthenticateRequest and its answer, as protobuf has them. */
static void test_authenticate(void **state)
{
    uint8_t room[64];
    struct etcd_message m;
    struct bytes body, token;

    (void)state;
    etcd_message_init(&m, room, sizeof room);
    etcd_message_put_authenticate(&m, BYTES_LIT("root"), BYTES_LIT("a:b"));
    assert_int_equal(etcd_message_body(&m, &body), ERR_OK);
    assert_true(bytes_eq(body, BYTES_LIT("\x0a\x04root\x12\x03"
                                         "a:b")));
    assert_int_equal(
        etcd_message_read_authenticate(BYTES_LIT("\x0a\x02\x18\x05\x12\x03tok"), &token), ERR_OK);
    assert_true(bytes_eq(token, BYTES_LIT("tok")));
    assert_int_equal(etcd_message_read_authenticate(BYTES_LIT("\x0a\x02\x18\x05"), &token),
                     ERR_ANS_MALFORMED);
    assert_int_equal(etcd_message_read_authenticate(BYTES_LIT("\x12\x09tok"), &token),
                     ERR_ANS_MALFORMED);
}

static void test_read_move(void **state)
{
    static const char both[] = "\x1a\x05\x0a\x03\x12\x01x\x1a\x05\x0a\x03\x12\x01y";
    struct etcd_move_answer a;

    (void)state;
    assert_int_equal(etcd_message_read_move(BYTES_LIT("\x0a\x02\x18\x05\x10\x01"), &a), ERR_OK);
    assert_true(a.is_done);
    assert_int_equal(etcd_message_read_move(bytes_of(both, sizeof both - 1), &a), ERR_OK);
    assert_false(a.is_done);
    assert_true(bytes_eq(a.from, BYTES_LIT("\x12\x01x")));
    assert_true(bytes_eq(a.to, BYTES_LIT("\x12\x01y")));
    /* neither done nor read; cut short */
    assert_int_equal(etcd_message_read_move(BYTES_LIT(""), &a), ERR_ANS_MALFORMED);
    assert_int_equal(etcd_message_read_move(bytes_of(both, 7), &a), ERR_ANS_MALFORMED);
    assert_int_equal(etcd_message_read_move(bytes_of(both, 13), &a), ERR_ANS_MALFORMED);
}

static void test_read_replace(void **state)
{
    struct etcd_replace_answer a;

    (void)state;
    assert_int_equal(etcd_message_read_replace(BYTES_LIT("\x0a\x02\x18\x05\x10\x01"), &a), ERR_OK);
    assert_true(a.is_done && a.header.revision == 5 && a.read.n == 0);
    assert_int_equal(
        etcd_message_read_replace(BYTES_LIT("\x0a\x02\x18\x05\x1a\x05\x0a\x03\x12\x01x"), &a),
        ERR_OK);
    assert_true(!a.is_done && bytes_eq(a.read, BYTES_LIT("\x12\x01x")));
    assert_int_equal(etcd_message_read_replace(BYTES_LIT("\x1a\x05\x0a"), &a), ERR_ANS_MALFORMED);
}

static void test_read_status(void **state)
{
    struct etcd_status s;

    (void)state;
    assert_int_equal(
        etcd_message_read_status(BYTES_LIT("\x0a\x04\x08\x0b\x10\x16\x12\x06"
                                           "3.5.16\x18\x80\x01\x48\x40\x60\x80\x02\x42\x11"
                                           "1 alarm:NOSPACE x"),
                                 &s),
        ERR_OK);
    assert_string_equal(s.version, "3.5.16");
    assert_true(s.db_size == 128 && s.db_size_in_use == 64 && s.db_quota == 256 && s.has_no_space);
    assert_true(s.header.cluster_id == 11 && s.header.member_id == 22);
    assert_int_equal(etcd_message_read_status(BYTES_LIT("\x42\x03no "), &s), ERR_OK);
    assert_false(s.has_no_space);
    assert_int_equal(etcd_message_read_status(BYTES_LIT("\x12\x09"), &s), ERR_ANS_MALFORMED);
}

static void test_read_malformed(void **state)
{
    static const struct bytes bad[] = {
        BYTES_LIT("\x0a"),             /* no length */
        BYTES_LIT("\x0a\x05\x18"),     /* cut */
        BYTES_LIT("\x0a\x01\x18"),     /* cut inside of the header */
        BYTES_LIT("\x0a\x02\x18\x80"), /* its varint has no end */
        BYTES_LIT("\x12\x02"
                  "a"),                    /* a cut KeyValue */
        BYTES_LIT("\x0a\x02\x18\x05\x07"), /* wire type 7 behind it */
    };
    struct etcd_range_answer a;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (etcd_message_read_range(bad[i], &a) != ERR_ANS_MALFORMED)
            fail_msg("case %zu is taken", i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_range),
        cmocka_unit_test(test_health_bytes),
        cmocka_unit_test(test_watch_cancel),
        cmocka_unit_test(test_no_room),
        cmocka_unit_test(test_no_room_for_any_length),
        cmocka_unit_test(test_read_range),
        cmocka_unit_test(test_replace),
        cmocka_unit_test(test_replace_behind_a_fence),
        cmocka_unit_test(test_next_kv),
        cmocka_unit_test(test_read_replace),
        cmocka_unit_test(test_move),
        cmocka_unit_test(test_discard),
        cmocka_unit_test(test_authenticate),
        cmocka_unit_test(test_read_move),
        cmocka_unit_test(test_read_status),
        cmocka_unit_test(test_read_malformed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
