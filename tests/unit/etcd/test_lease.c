/* SPDX-License-Identifier: Apache-2.0 */
/* Requests of our own about leases and keys under them: protobuf-c reads what was meant. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "etcd/lease.h"
#include "etcd_rpc.pb-c.h"

static const int64_t leases[] = {1, 127, 128, 0x7587868fbb2c1e01, INT64_MAX};

static void test_lock(void **state)
{
    uint8_t room[2048], bytes[400] = {'/'};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(leases); i++)
        for (size_t n = 1; n < 400; n += 42) {
            Etcdserverpb__TxnRequest *t;
            Etcdserverpb__PutRequest *put;
            struct etcd_message m;
            struct bytes body;

            etcd_message_init(&m, room, sizeof room);
            etcd_lease_put_lock(&m, bytes_of(bytes, n), bytes_of(bytes, 400 - n), leases[i]);
            assert_int_equal(etcd_message_body(&m, &body), ERR_OK);
            t = etcdserverpb__txn_request__unpack(NULL, body.n, body.p);
            assert_non_null(t);
            assert_int_equal(t->n_compare, 1);
            assert_int_equal(t->compare[0]->target, ETCDSERVERPB__COMPARE__COMPARE_TARGET__CREATE);
            assert_int_equal(t->compare[0]->result, ETCDSERVERPB__COMPARE__COMPARE_RESULT__EQUAL);
            assert_int_equal(t->compare[0]->create_revision, 0);
            assert_int_equal(t->compare[0]->key.len, n);
            assert_int_equal(t->n_success, 1);
            assert_int_equal(t->n_failure, 0);
            put = t->success[0]->request_put;
            assert_non_null(put);
            assert_int_equal(put->key.len, n);
            assert_int_equal(put->value.len, 400 - n);
            assert_int_equal(put->lease, leases[i]);
            etcdserverpb__txn_request__free_unpacked(t, NULL);
        }
}

/* Nothing but the mod_revision changes, and only of a key that is there. */
static void test_touch(void **state)
{
    uint8_t room[1024], key[300] = {'/'};

    (void)state;
    for (size_t n = 1; n < sizeof key; n++) {
        Etcdserverpb__TxnRequest *t;
        Etcdserverpb__PutRequest *put;
        struct etcd_message m;
        struct bytes body;

        etcd_message_init(&m, room, etcd_lease_touch_max(n));
        etcd_lease_put_touch(&m, bytes_of(key, n));
        assert_int_equal(etcd_message_body(&m, &body), ERR_OK);
        t = etcdserverpb__txn_request__unpack(NULL, body.n, body.p);
        assert_non_null(t);
        assert_int_equal(t->n_compare, 1);
        assert_int_equal(t->compare[0]->target, ETCDSERVERPB__COMPARE__COMPARE_TARGET__CREATE);
        assert_int_equal(t->compare[0]->result, ETCDSERVERPB__COMPARE__COMPARE_RESULT__GREATER);
        assert_int_equal(t->compare[0]->create_revision, 0);
        assert_int_equal(t->compare[0]->key.len, n);
        assert_int_equal(t->n_success, 1);
        assert_int_equal(t->n_failure, 0);
        put = t->success[0]->request_put;
        assert_non_null(put);
        assert_memory_equal(put->key.data, key, n);
        assert_true(put->key.len == n && put->value.len == 0 && put->lease == 0);
        assert_true(put->ignore_value && put->ignore_lease);
        etcdserverpb__txn_request__free_unpacked(t, NULL);
    }
}

static void test_key(void **state)
{
    uint8_t room[256];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(leases); i++) {
        Etcdserverpb__PutRequest *put;
        struct etcd_message m;
        struct bytes body;

        etcd_message_init(&m, room, sizeof room);
        etcd_lease_put_key(&m, BYTES_LIT("/place/proxies/1"), BYTES_LIT("record"), leases[i]);
        assert_int_equal(etcd_message_body(&m, &body), ERR_OK);
        put = etcdserverpb__put_request__unpack(NULL, body.n, body.p);
        assert_non_null(put);
        assert_int_equal(put->lease, leases[i]);
        assert_memory_equal(put->value.data, "record", 6);
        etcdserverpb__put_request__free_unpacked(put, NULL);
    }
}

/* Answers of etcd 3.5, and what is cut off. */
static void test_read(void **state)
{
    static const char answer[] = "\x0a\x04\x18\x05\x20\x02" /* header */
                                 "\x10\x81\x80\x01"         /* ID */
                                 "\x18\x0a";                /* TTL */
    static const char gone[] = "\x0a\x04\x18\x05\x20\x02\x10\x07";
    struct etcd_lease l;

    (void)state;
    assert_int_equal(etcd_lease_read(bytes_of(answer, sizeof answer - 1), &l), ERR_OK);
    assert_true(l.id == 16385 && l.ttl_s == 10);
    assert_int_equal(etcd_lease_read(bytes_of(gone, sizeof gone - 1), &l), ERR_OK);
    assert_true(l.id == 7 && l.ttl_s == 0);
    assert_int_equal(etcd_lease_read(bytes_of(NULL, 0), &l), ERR_OK);
    assert_true(l.id == 0 && l.ttl_s == 0);
    for (size_t n = 1; n < sizeof answer - 1; n++)
        if (n != 6 && n != 10) /* where a field ends */
            assert_int_equal(etcd_lease_read(bytes_of(answer, n), &l), ERR_ANS_MALFORMED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_lock), cmocka_unit_test(test_touch),
                                       cmocka_unit_test(test_key), cmocka_unit_test(test_read)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
