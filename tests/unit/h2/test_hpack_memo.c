/* SPDX-License-Identifier: Apache-2.0 */
/* Header blocks that are remembered: which, for how long, and that no credential is. */
#include "hpack_kit.h"

#define PURE "828604036162630f0d0378797a" /* static fields and literals without indexing */

static void test_pure_blocks_are_known(void **state)
{
    struct fix f;
    char first[2048];

    (void)state;
    setup(&f);
    assert_int_equal(decode_as(&f, "4001610162", H2__REQUEST, NO_LIMITS), ERR_OK);
    assert_int_equal(decode_as(&f, PURE "be", H2__REQUEST, NO_LIMITS), ERR_OK);
    assert_false(is_known(&f));
    (void)snprintf(first, sizeof first, "%s", text_of(f.h));
    know(&f, PURE "be");
    assert_true(is_known(&f));
    assert_string_equal(text_of(f.h), first);
    assert_false(f.h->is_malformed);

    /* Another kind: another verdict. */
    assert_int_equal(decode_as(&f, PURE "be", H2__ANSWER, NO_LIMITS), ERR_OK);
    assert_false(is_known(&f));
    assert_true(f.h->is_malformed);
    /* Other limits. */
    assert_int_equal(decode_as(&f, PURE "be", H2__REQUEST, (struct h2__hpack_limits){9999, 4}),
                     ERR_OK);
    assert_true(f.h->is_over && f.h->count == 4);
    assert_int_equal(decode_as(&f, PURE "be", H2__REQUEST, (struct h2__hpack_limits){100, 9}),
                     ERR_OK);
    assert_true(f.h->is_over);
    know(&f, PURE "be");
    assert_true(is_known(&f));
    /* A list of which something is gone is not one to remember. */
    for (int i = 0; i < 3; i++)
        assert_int_equal(decode_as(&f, "828486", H2__REQUEST, (struct h2__hpack_limits){9999, 1}),
                         ERR_OK);
    assert_int_equal(decode_as(&f, "828486", H2__REQUEST, NO_LIMITS), ERR_OK);
    assert_int_equal(f.h->count, 3);
    teardown(&f);
}

/* An insertion and a size update change what indexes mean. */
static void test_a_changed_table_forgets(void **state)
{
    static const char *const changes[] = {"4001630164", "3fe11f", "20", "4001630164be"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
        struct fix f;

        setup(&f);
        assert_int_equal(decode(&f, "4001650166"), ERR_OK);
        assert_int_equal(decode(&f, "4001610162"), ERR_OK);
        know(&f, "82bf");
        assert_true(is_known(&f));
        assert_string_equal(text_of(f.h), ":method: GET\ne: f\n");
        assert_int_equal(decode(&f, changes[i]), ERR_OK);
        assert_int_equal(decode_as(&f, "82bf", H2__REQUEST, NO_LIMITS),
                         i == 2 ? ERR_CLOSED : ERR_OK);
        if (i != 2) {
            assert_false(is_known(&f));
            assert_string_equal(text_of(f.h),
                                i == 1 ? ":method: GET\ne: f\n" : ":method: GET\na: b\n");
        }
        teardown(&f);
    }
}

#define TEN_ZEROS "30303030303030303030"

/* So does a field that is larger than the table: it is empty then. */
static void test_a_field_that_is_too_large_forgets(void **state)
{
    struct fix f;

    (void)state;
    setup(&f);
    assert_int_equal(decode(&f, "3f25"), ERR_OK); /* 68 bytes */
    assert_int_equal(decode(&f, "4001650166"), ERR_OK);
    assert_int_equal(decode(&f, "4001610162"), ERR_OK);
    know(&f, "82bf");
    assert_true(is_known(&f));
    assert_int_equal(decode(&f, "40017828" TEN_ZEROS TEN_ZEROS TEN_ZEROS TEN_ZEROS), ERR_OK);
    assert_int_equal(decode_as(&f, "82bf", H2__REQUEST, NO_LIMITS), ERR_CLOSED);
    teardown(&f);
}

/* A credential that the peer has in the table is wiped there when it goes, and in text. */
static void test_secrets_are_wiped(void **state)
{
    struct fix f;

    (void)state;
    setup(&f);
    assert_int_equal(decode(&f, "4005746f6b656e06736563726574"), ERR_OK);
    assert_string_equal(text_of(f.h), "token: secret\n");
    h2__hpack_release(&f.in);
    assert_null(memmem(f.in.text, f.in.text_cap, "secret", 6));
#ifndef __SANITIZE_ADDRESS__ /* which takes freed objects away; else they stay where they are */
    const uint8_t *data = h2__hpack_dynamic(&f.in.table, 0)->data;

    assert_memory_equal(data, "tokensecret", 11);
    assert_int_equal(decode(&f, "20"), ERR_OK);
    for (size_t i = 0; i < 11; i++)
        assert_int_equal(data[i], 0);
#endif
    teardown(&f);
}

/* Credentials, and what the peer says is never to be indexed, are not kept. */
static void test_secrets_are_not_known(void **state)
{
    static const char *const blocks[] = {
        "820005746f6b656e06736563726574",                 /* token, as a name */
        "820f0806736563726574",                           /* authorization, by index */
        "82000d617574686f72697a6174696f6e06736563726574", /* as a name */
        "8210017006736563726574",                         /* another that is never indexed */
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(blocks); i++) {
        struct fix f;

        setup(&f);
        for (int k = 0; k < 4; k++) {
            know(&f, blocks[i]);
            assert_false(is_known(&f));
            assert_int_equal(f.h->count, 2);
            assert_memory_equal(f.h->v[1].value.p, "secret", 6);
        }
        for (size_t k = 0; k < H2__HPACK_MEMOS; k++)
            assert_null(f.in.memos[k]);
        if (i < 3) { /* and what decoding them took is wiped */
            assert_non_null(memmem(f.in.text, f.in.text_cap, "secret", 6));
            h2__hpack_release(&f.in);
            assert_null(memmem(f.in.text, f.in.text_cap, "secret", 6));
        }
        teardown(&f);
    }
}

/* More blocks than there are places, in turn: each is right, and the places are not outgrown. */
static void test_more_blocks_than_places(void **state)
{
    struct fix f;

    (void)state;
    setup(&f);
    for (unsigned round = 0; round < 200; round++) {
        uint8_t block[] = {0x82, 0x04, 0x01, (uint8_t)('a' + round % 7 * (round / 60))};

        assert_int_equal(
            h2__hpack_decode(&f.in, bytes_of(block, sizeof block), H2__REQUEST, NO_LIMITS, &f.h),
            ERR_OK);
        assert_int_equal(f.h->count, 2);
        assert_int_equal(f.h->v[1].value.p[0], block[3]);
    }
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pure_blocks_are_known),
        cmocka_unit_test(test_a_changed_table_forgets),
        cmocka_unit_test(test_a_field_that_is_too_large_forgets),
        cmocka_unit_test(test_secrets_are_wiped),
        cmocka_unit_test(test_secrets_are_not_known),
        cmocka_unit_test(test_more_blocks_than_places),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
