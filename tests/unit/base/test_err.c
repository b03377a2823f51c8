/* SPDX-License-Identifier: Apache-2.0 */
/* What the columns of the table of errors owe each other, so that no new line falls on the wrong
 * side of a decision that is taken by scope. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"

static void every_error_has_a_reason_of_its_own(void **state)
{
    (void)state;
    for (unsigned e = 0; e < ERR_COUNT; e++) {
        assert_true(strlen(err_reason((enum err)e)) > 0);
        for (unsigned other = 0; other < e; other++)
            assert_string_not_equal(err_reason((enum err)e), err_reason((enum err)other));
    }
}

/* DATA_LOSS tells a client that what is stored, or what etcd says of it, is of no use. */
static void data_loss_is_of_a_value_or_of_an_answer(void **state)
{
    (void)state;
    for (unsigned e = 0; e < ERR_COUNT; e++) {
        enum err_scope scope = err_scope((enum err)e);

        assert_int_equal(scope == SCOPE_VALUE || scope == SCOPE_ANSWER,
                         err_status((enum err)e) == GRPC_DATA_LOSS);
    }
}

/* The plugin is to blame for a DEK that is not there, or for one that opens nothing. */
static void errors_of_the_kms_leave_the_call_to_others(void **state)
{
    (void)state;
    for (unsigned e = 0; e < ERR_COUNT; e++) {
        enum err_scope scope = err_scope((enum err)e);

        if (err_fault((enum err)e) == FAULT_KMS)
            assert_true(scope == SCOPE_DEK || scope == SCOPE_VALUE);
        else
            assert_int_not_equal(scope, SCOPE_DEK);
    }
}

static void our_own_and_the_clients_errors_end_the_call(void **state)
{
    (void)state;
    for (unsigned e = 0; e < ERR_COUNT; e++) {
        enum err_fault fault = err_fault((enum err)e);

        if (fault == FAULT_NONE || fault == FAULT_CLIENT || fault == FAULT_US)
            assert_int_equal(err_scope((enum err)e), SCOPE_CALL);
    }
}

static void what_ends_one_watch_alone(void **state)
{
    static const struct {
        enum err err;
        bool is_of_value, spares_earlier;
    } cases[] = {
        {ERR_AUTH_FAILED, true, true},    {ERR_NO_MATCHING_PREFIX, true, true},
        {ERR_KMS_ERROR, true, true},      {ERR_BAD_DEK_SIZE, true, true},
        {ERR_KMS_AWAY, false, true},      {ERR_NO_STATE, false, true},
        {ERR_ANS_OUTSIDE, false, true},   {ERR_ANS_PREV_KEY, false, true},
        {ERR_ANS_MALFORMED, false, true}, {ERR_ANS_CUT, false, false},
        {ERR_NOMEM, false, false},        {ERR_CRYPTO, false, false},
        {ERR_RANDOM, false, false},       {ERR_MEMORY_LIMIT, false, false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(err_is_of_value(cases[i].err), cases[i].is_of_value);
        assert_int_equal(err_spares_earlier(cases[i].err), cases[i].spares_earlier);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_error_has_a_reason_of_its_own),
        cmocka_unit_test(data_loss_is_of_a_value_or_of_an_answer),
        cmocka_unit_test(errors_of_the_kms_leave_the_call_to_others),
        cmocka_unit_test(our_own_and_the_clients_errors_end_the_call),
        cmocka_unit_test(what_ends_one_watch_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
