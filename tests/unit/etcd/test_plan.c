/* SPDX-License-Identifier: Apache-2.0 */
/* Needs are collapsed, and a plan can be used again and again. */
#include "fixture.h"

#include "etcd/plan_int.h"

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

static void test_one_dek_one_need(void **state)
{
    struct etcd_plan p = {0};
    struct etcd_ask ask = {0};
    struct buf sealed = fix_seal(&fix, 1, "/registry/secrets/a", "text", 4), in = {0};
    struct chain msg;

    (void)state;
    for (int i = 0; i < 5000; i++) {
        struct buf kv = {0};

        buf_str(&kv, 1, "/registry/secrets/a");
        buf_field(&kv, 5, sealed.p, sealed.n);
        buf_sub(&in, 2, &kv);
    }
    fix_ask(&ask, "/", "0", false);
    fix_chain_random(&fix, in.p, in.n, 50, &msg);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(etcd_scan_answer(&p, ETCD_RANGE, fix.rules, &msg, &ask), ETCD_EDIT);
        assert_int_equal(p.need_count, 1);
        assert_false(p.needs[0].is_write);
        assert_true(dek_id_eq(&p.needs[0].id, &fix.deks[1]->id));
        fix_resolve(&fix, &p);
    }
    etcd_plan_fini(&p);
    chain_fini(&msg);
    etcd_ask_fini(&ask);
    buf_free(&sealed);
    buf_free(&in);
}

static void test_many_deks(void **state)
{
    enum { COUNT = 5000 };
    struct etcd_plan p = {0};
    uint32_t first[COUNT], again;

    (void)state;
    for (int round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < COUNT; i++) {
            uint32_t wrapped[8] = {i, 1, 2, 3, 4, 5, 6, 7};
            struct dek_id id = {.type = DEK_HKDF_SEED,
                                .key_id = bytes_str("key"),
                                .wrapped = bytes_of(wrapped, sizeof wrapped)};

            assert_int_equal(etcd__plan_need(&p, &fix.kms, &id, &again), ERR_OK);
            if (round == 0)
                first[i] = again;
            assert_int_equal(first[i], again);
            if (i % 100 == 0) {
                assert_int_equal(etcd__plan_need_write(&p, &fix.kms, &again), ERR_OK);
                assert_true(p.needs[again].is_write);
            }
        }
    }
    assert_int_equal(p.need_count, COUNT + 1);
    etcd_plan_reset(&p);
    assert_int_equal(p.need_count, 0);
    etcd_plan_fini(&p);
}

/* What differs in anything but the wrapped bytes is another need. */
static void test_other_id_other_need(void **state)
{
    struct dek_annotation note = {bytes_str("a.example"), bytes_str("x")};
    struct dek_id ids[] = {
        {.type = 1, .key_id = bytes_str("k"), .wrapped = bytes_str("w")},
        {.type = 0, .key_id = bytes_str("k"), .wrapped = bytes_str("w")},
        {.type = 1, .key_id = bytes_str("l"), .wrapped = bytes_str("w")},
        {.type = 1,
         .key_id = bytes_str("k"),
         .wrapped = bytes_str("w"),
         .annotation_count = 1,
         .annotations = &note},
    };
    struct provider other = fix.kms;
    struct etcd_plan p = {0};
    uint32_t i;

    (void)state;
    for (int round = 0; round < 3; round++) {
        for (size_t n = 0; n < ARRAY_LEN(ids); n++)
            assert_int_equal(etcd__plan_need(&p, &fix.kms, &ids[n], &i), ERR_OK);
        assert_int_equal(etcd__plan_need(&p, &other, &ids[0], &i), ERR_OK);
    }
    assert_int_equal(p.need_count, ARRAY_LEN(ids) + 1);
    /* copied */
    assert_true(p.needs[0].id.wrapped.p != ids[0].wrapped.p);
    assert_true(dek_id_eq(&p.needs[3].id, &ids[3]));
    etcd_plan_fini(&p);
}

/* Values share the write key of kms v2; kms v1 has a DEK for each. */
static void test_write_needs(void **state)
{
    struct provider v1 = {.kind = PROVIDER_KMS_V1, .name = "one"};
    struct etcd_plan p = {0};
    uint32_t i;

    (void)state;
    for (int round = 0; round < 3; round++) {
        assert_int_equal(etcd__plan_need_write(&p, &fix.kms, &i), ERR_OK);
        assert_int_equal(etcd__plan_need_write(&p, &v1, &i), ERR_OK);
    }
    assert_int_equal(p.need_count, 4);
    etcd_plan_fini(&p);
}

/* The references that the lane put in are dropped, whatever became of the plan. */
static void test_reset_drops_deks(void **state)
{
    struct etcd_plan p = {0};
    uint32_t i;

    (void)state;
    assert_int_equal(etcd__plan_need_write(&p, &fix.kms, &i), ERR_OK);
    p.needs[i].dek = dek_ref(fix.deks[0]);
    assert_int_equal(atomic_load(&fix.deks[0]->refs.n), 2);
    etcd_plan_reset(&p);
    assert_int_equal(atomic_load(&fix.deks[0]->refs.n), 1);
    etcd_plan_fini(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_dek_one_need),    cmocka_unit_test(test_many_deks),
        cmocka_unit_test(test_other_id_other_need), cmocka_unit_test(test_write_needs),
        cmocka_unit_test(test_reset_drops_deks),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
