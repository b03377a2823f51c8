/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"

#include "etcd/watch_cancel.h"
#include "etcd_rpc.pb-c.h"

static struct slab_pool pool;

static void test_cancel_request(void **state)
{
    static const int64_t ids[] = {0, 1, 127, 128, INT64_MAX, -1, INT64_MIN};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
        Etcdserverpb__WatchRequest *m;
        struct sealed_msg msg = {{0}};
        struct chain bytes = {0};
        struct buf b;

        assert_int_equal(etcd_watch_cancel_request(ids[i], &pool, &msg), ERR_OK);
        sealed_msg_release(&msg, &bytes);
        b = buf_chain(&bytes);
        m = etcdserverpb__watch_request__unpack(NULL, b.n, b.p);
        assert_non_null(m);
        assert_int_equal(m->request_union_case,
                         ETCDSERVERPB__WATCH_REQUEST__REQUEST_UNION_CANCEL_REQUEST);
        assert_int_equal(m->cancel_request->watch_id, ids[i]);
        etcdserverpb__watch_request__free_unpacked(m, NULL);
        buf_free(&b);
    }
}

static void test_canceled_response(void **state)
{
    static const int64_t ids[] = {0, 5, -1};
    struct bytes header = BYTES_LIT("\x08\x05\x18\x63");

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
        Etcdserverpb__WatchResponse *m;
        struct chain out = {0};
        struct buf b;

        assert_int_equal(
            etcd_watch_canceled_response(header, ids[i], "cannot decrypt /a", &pool, &out), ERR_OK);
        b = buf_chain(&out);
        m = etcdserverpb__watch_response__unpack(NULL, b.n, b.p);
        assert_non_null(m);
        assert_int_equal(m->header->revision, 0x63);
        assert_int_equal(m->watch_id, ids[i]);
        assert_true(m->canceled);
        assert_false(m->created);
        assert_int_equal(m->compact_revision, 0);
        assert_string_equal(m->cancel_reason, "cannot decrypt /a");
        assert_int_equal(m->n_events, 0);
        etcdserverpb__watch_response__free_unpacked(m, NULL);
        buf_free(&b);
    }
}

/* A header that was empty is still a header. */
static void test_empty_header(void **state)
{
    Etcdserverpb__WatchResponse *m;
    struct chain out = {0};
    struct buf b;

    (void)state;
    assert_int_equal(etcd_watch_canceled_response(bytes_of(NULL, 0), 1, "", &pool, &out), ERR_OK);
    b = buf_chain(&out);
    m = etcdserverpb__watch_response__unpack(NULL, b.n, b.p);
    assert_non_null(m);
    assert_non_null(m->header);
    etcdserverpb__watch_response__free_unpacked(m, NULL);
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cancel_request),
        cmocka_unit_test(test_canceled_response),
        cmocka_unit_test(test_empty_header),
    };
    int failed;

    slab_pool_init(&pool, 8);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    slab_pool_fini(&pool);
    return failed;
}
