/* SPDX-License-Identifier: Apache-2.0 */
/* The rule of a value's digest: it depends on the etcd key and the stored bytes alone, on each of
 * them wholly and apart, and on the context; not on how the bytes are cut. */
#include "envelope/envelope_int.h"
#include "envelope_test.h"

#define LEN 300u

static struct envelope_ctx *ctx;

static void digest_in(struct envelope_ctx *in, struct bytes aad, struct bytes value, size_t cut,
                      uint8_t *out)
{
    struct chain c = {0};

    test_cut(&c, value, cut);
    assert_int_equal(envelope_value_digest(in, aad, chain_begin(&c), value.n, out), ERR_OK);
    chain_fini(&c);
}

static void depends_on_every_byte_and_on_no_cut(void **state)
{
    uint8_t bytes[LEN], want[DEK_DIGEST_LEN], got[DEK_DIGEST_LEN];
    const struct bytes aad = bytes_str("/registry/secrets/ns/a");

    (void)state;
    for (size_t i = 0; i < LEN; i++)
        bytes[i] = (uint8_t)(i * 7);
    digest_in(ctx, aad, bytes_of(bytes, LEN), 0, want);
    for (size_t i = 0; i < LEN; i++) {
        digest_in(ctx, aad, bytes_of(bytes, LEN), i, got);
        assert_memory_equal(got, want, sizeof got);
        bytes[i] ^= 1;
        digest_in(ctx, aad, bytes_of(bytes, LEN), 0, got);
        assert_memory_not_equal(got, want, sizeof got);
        bytes[i] ^= 1;
        digest_in(ctx, aad, bytes_of(bytes, i), 0, got); /* shorter */
        assert_memory_not_equal(got, want, sizeof got);
    }
}

/* What is cut from one and put to the other gives other digests. */
static void key_and_value_are_apart(void **state)
{
    const uint8_t *all = (const uint8_t *)"/registry/secrets/ns/ak8s:enc:kms:v2:";
    size_t n = strlen((const char *)all);
    uint8_t got[40][DEK_DIGEST_LEN];

    (void)state;
    for (size_t i = 0; i <= n; i++) {
        digest_in(ctx, bytes_of(all, i), bytes_of(all + i, n - i), 0, got[i]);
        for (size_t j = 0; j < i; j++)
            assert_memory_not_equal(got[i], got[j], DEK_DIGEST_LEN);
    }
}

static void each_context_has_its_own(void **state)
{
    const struct bytes aad = bytes_str("a"), value = bytes_str("value");
    uint8_t mine[DEK_DIGEST_LEN], again[DEK_DIGEST_LEN], other[DEK_DIGEST_LEN];
    struct envelope_ctx *second;

    (void)state;
    assert_int_equal(envelope_ctx_new(test_random_endless, NULL, &second), ERR_OK);
    digest_in(ctx, aad, value, 0, mine);
    digest_in(second, aad, value, 0, other);
    assert_memory_not_equal(mine, other, sizeof mine);
    envelope_ctx_wipe(ctx); /* after a burst: what was remembered is still good */
    digest_in(ctx, aad, value, 0, again);
    assert_memory_equal(mine, again, sizeof mine);
    envelope_ctx_free(second);
}

static void without_randomness_there_is_none(void **state)
{
    uint8_t out[DEK_DIGEST_LEN];
    struct envelope_ctx *dry;
    struct chain c = {0};

    (void)state;
    assert_int_equal(envelope_ctx_new(test_random, NULL, &dry), ERR_OK);
    assert_int_equal(envelope_value_digest(dry, bytes_str("a"), chain_begin(&c), 0, out),
                     ERR_RANDOM);
    envelope_ctx_free(dry);
}

static int setup(void **state)
{
    if (test_setup(state) != 0)
        return -1;
    return envelope_ctx_new(test_random_endless, NULL, &ctx) == ERR_OK ? 0 : -1;
}

static int teardown(void **state)
{
    envelope_ctx_free(ctx);
    return test_teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(depends_on_every_byte_and_on_no_cut),
        cmocka_unit_test(key_and_value_are_apart),
        cmocka_unit_test(each_context_has_its_own),
        cmocka_unit_test(without_randomness_there_is_none),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
