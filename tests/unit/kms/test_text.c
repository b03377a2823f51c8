/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kms/text.h"

static void hashes(void **state)
{
    char out[KMS_HASH_TEXT];

    (void)state;
    assert_string_equal(kms_hash_text(BYTES_LIT(""), out), "");
    assert_string_equal(kms_hash_text(BYTES_LIT("A"), out),
                        "sha256:559aead08264d5795d3909718cdd05abd49572e84fe55590eef31a88a08fdffd");
}

static void clean_text(void **state)
{
    char out[8];

    (void)state;
    assert_string_equal(kms_clean_text(BYTES_LIT("a\"\n\x80z"), out, sizeof out), "a'??z");
    assert_string_equal(kms_clean_text(BYTES_LIT("0123456789"), out, sizeof out), "0123456");
    assert_string_equal(kms_clean_text((struct bytes){0}, out, sizeof out), "");
}

static void rpc_text(void **state)
{
    char out[64];

    (void)state;
    assert_string_equal(kms_rpc_text(GRPC_DEADLINE_EXCEEDED, "late\n", out, sizeof out),
                        "rpc error: code = DeadlineExceeded desc = late?");
    assert_string_equal(kms_rpc_text(GRPC_CANCELLED, NULL, out, sizeof out),
                        "rpc error: code = Canceled desc = ");
    assert_string_equal(kms_rpc_text((enum grpc_status)99, "x", out, sizeof out),
                        "rpc error: code = Unknown desc = x");
}

static void time_text(void **state)
{
    char out[KMS_TIME_TEXT];

    (void)state;
    assert_string_equal(kms_time_text(1767226980, out), "2026-01-01T00:23:00Z");
    assert_string_equal(kms_time_text(INT64_MAX, out), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hashes),
        cmocka_unit_test(clean_text),
        cmocka_unit_test(rpc_text),
        cmocka_unit_test(time_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
