/* SPDX-License-Identifier: Apache-2.0 */
/* Of all errors there are, which let a value be moved: a new one does not, until somebody says so
 * here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tools/quarantine_int.h"

/* The key was there and did not open it, or no key could. */
static const enum err proven[] = {
    ERR_AUTH_FAILED,          ERR_TOO_SHORT,    ERR_BAD_BLOCK_SIZE,       ERR_BAD_PADDING,
    ERR_PROTOBUF_MALFORMED,   ERR_INVALID_UTF8, ERR_ENCRYPTED_DATA_EMPTY, ERR_DEK_SOURCE_EMPTY,
    ERR_DEK_SOURCE_TOO_LONG,  ERR_KEY_ID_EMPTY, ERR_KEY_ID_TOO_LONG,      ERR_ANNOTATIONS_INVALID,
    ERR_V1_BAD_LENGTH_PREFIX,
};

static bool is_proven(enum err e)
{
    for (size_t i = 0; i < ARRAY_LEN(proven); i++)
        if (proven[i] == e)
            return true;
    return false;
}

static bool may_move(const struct tools_quarantine_opts *o, struct tools__case k)
{
    const struct quarantine q = {.o = o};

    tools__quarantine_judge(&q, &k);
    assert_true(k.fate == TOOLS__ALLOWED || k.fate == TOOLS__REFUSED);
    assert_int_equal(k.why == NULL, k.fate == TOOLS__ALLOWED);
    return k.fate == TOOLS__ALLOWED;
}

static void only_what_is_proven(void **state)
{
    const struct tools_quarantine_opts plain = {0}, more = {.has_plaintext = true};

    (void)state;
    for (unsigned e = 0; e < ERR_COUNT; e++) {
        struct tools__case k = {.is_found = true, .state = SWEEP_UNREADABLE, .err = (enum err)e};

        assert_int_equal(may_move(&plain, k), is_proven((enum err)e));
        assert_int_equal(may_move(&more, k), is_proven((enum err)e));
        k.is_found = false;
        assert_false(may_move(&more, k));
        for (unsigned s = SWEEP_OTHER; s < SWEEP_STATE_COUNT; s++) { /* it opens */
            k = (struct tools__case){
                .is_found = true, .state = (enum sweep_state)s, .err = (enum err)e};
            assert_false(may_move(&more, k));
        }
        k.state = SWEEP_PLAINTEXT;
        assert_false(may_move(&plain, k));
        assert_int_equal(may_move(&more, k), e != ERR_OK);
    }
}

static void kms_v1_of_old(void **state)
{
    const struct tools_quarantine_opts o = {0};
    struct provider p = {.kind = PROVIDER_KMS_V1};
    struct tools__case k = {
        .is_found = true, .state = SWEEP_UNREADABLE, .err = ERR_AUTH_FAILED, .provider = &p};

    (void)state;
    assert_false(may_move(&o, k));
    p.cbc_reads = true;
    assert_true(may_move(&o, k));
    p = (struct provider){.kind = PROVIDER_KMS_V2};
    assert_true(may_move(&o, k));
}

static void back(void **state)
{
    (void)state;
    for (unsigned bits = 0; bits < 64; bits++) {
        const struct tools_quarantine_opts o = {.is_restore = true,
                                                .has_plaintext = (bits & 1) != 0,
                                                .has_unreadable = (bits & 2) != 0};
        const struct tools__case k = {.is_found = (bits & 4) != 0,
                                      .is_in_the_way = (bits & 8) != 0,
                                      .state =
                                          (bits & 16) != 0 ? SWEEP_PLAINTEXT : SWEEP_UNREADABLE,
                                      .err = (bits & 32) != 0 ? ERR_OK : ERR_AUTH_FAILED};
        bool may_state =
            k.state == SWEEP_UNREADABLE ? o.has_unreadable : k.err == ERR_OK || o.has_plaintext;

        assert_int_equal(may_move(&o, k), k.is_found && !k.is_in_the_way && may_state);
    }
}

/* More than that share of any kind: none of them. */
static void share_of_a_kind(void **state)
{
    (void)state;
    for (unsigned percent = 0; percent <= 100; percent += 1 + percent / 3)
        for (uint64_t count = 1; count < 500; count += 7)
            for (uint64_t bad = 0; bad <= count; bad += 1 + bad / 4) {
                const struct tools_quarantine_opts o = {.percent = percent};
                struct tools_resource_count v[2] = {
                    {.resource = "good", .count = 9},
                    {.resource = "bad", .count = count, .unread_plain = bad / 2}};
                const struct quarantine q = {.o = &o, .counts = {.v = v, .count = 2}};

                v[1].states[SWEEP_UNREADABLE] = bad - bad / 2;
                assert_int_equal(tools__quarantine_bad_kind(&q) != NULL,
                                 (double)bad / (double)count > percent / 100.0);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_what_is_proven),
        cmocka_unit_test(kms_v1_of_old),
        cmocka_unit_test(back),
        cmocka_unit_test(share_of_a_kind),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
