/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"

#include "etcd/output_int.h"

static struct slab_pool pool;

/* Field by field, as answers are filled up. */
static void push_filler(struct chain *out, size_t n)
{
    uint8_t head[2 * PB_VARINT_MAX];

    while (n > 0) {
        size_t payload, len = etcd__filler_field(n, head, &payload);

        assert_true(len + payload <= n);
        assert_int_equal(chain_push_copy(out, &pool, head, len, 0), ERR_OK);
        assert_int_equal(etcd__push_zeros(out, payload), ERR_OK);
        n -= len + payload;
    }
}

/* Exactly n bytes, made of whole fields that no answer knows; how many. */
static unsigned check(size_t n)
{
    struct chain out = {0};
    struct pb_reader r;
    struct pb_field f;
    unsigned count = 0;
    enum pb_result res;

    push_filler(&out, n);
    assert_int_equal(out.len, n);
    r = pb_reader_all(&out);
    while ((res = pb_next(&r, &f)) == PB_FIELD) {
        struct chain_pos pos = f.value;
        struct bytes b;

        count++;
        assert_int_equal(f.wire, PB_LEN);
        assert_int_equal(f.number, n < 4 ? 15 : 19999);
        /* no over-long varints */
        assert_int_equal(f.value_at - f.at,
                         pb_varint_len(pb_tag(f.number, PB_LEN)) + pb_varint_len(f.value_len));
        for (size_t left = f.value_len; left > 0; left -= b.n) {
            b = chain_peek(&pos, left);
            assert_true(b.p[0] == 0 && memcmp(b.p, b.p + 1, b.n - 1) == 0);
            chain_skip(&pos, b.n);
        }
    }
    assert_int_equal(res, PB_END);
    chain_fini(&out);
    return count;
}

static void test_every_size(void **state)
{
    unsigned twos = 0;

    (void)state;
    assert_int_equal(check(0), 0);
    for (size_t n = 2; n < 40000; n++) {
        unsigned count = check(n);

        assert_true(count == 1 || count == 2);
        twos += count - 1;
    }
    /* where the length gets one byte longer: 3 + 1 + 128, 3 + 2 + 16384 */
    assert_int_equal(twos, 2);
    assert_int_equal(check(132), 2);
    assert_int_equal(check(16389), 2);
}

static void test_large_sizes(void **state)
{
    static const size_t sizes[] = {65535, 65536, 65540, 2097157, 2097158, 2097159, 5000000};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
        (void)check(sizes[i]);
    assert_int_equal(check(2097158), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_size),
        cmocka_unit_test(test_large_sizes),
    };
    int failed;

    slab_pool_init(&pool, 8);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    slab_pool_fini(&pool);
    return failed;
}
