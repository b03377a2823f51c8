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
        cmocka_unit_test(test_read_malformed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
