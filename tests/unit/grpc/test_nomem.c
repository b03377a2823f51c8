/* SPDX-License-Identifier: Apache-2.0 */
/* This module allocates nothing: prefixes, timeouts and messages work where no allocation does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "failing_alloc.h"
#include "grpc/grpc.h"

static void a_prefix_across_slices_allocates_nothing(void **state)
{
    static const uint8_t prefix[] = {0, 0, 0, 1, 2};
    static struct slab slabs[sizeof prefix];
    struct chain c = {0};
    struct grpc_prefix got;

    (void)state;
    for (size_t i = 0; i < sizeof prefix; i++) {
        struct slice s = slice_static(&slabs[i], prefix + i, 1);

        assert_int_equal(chain_push(&c, &s), ERR_OK);
    }
    alloc_fail_from(1);
    assert_true(grpc_prefix_peek(&c, &got));
    assert_int_equal(alloc_count(), 0);
    assert_false(alloc_recover());
    assert_int_equal(got.length, 258);
    chain_fini(&c);
}

static void texts_allocate_nothing(void **state)
{
    uint8_t prefix[GRPC_PREFIX_LEN];
    char text[100], timeout[GRPC_TIMEOUT_MAX];
    uint64_t ns;

    (void)state;
    alloc_fail_from(1);
    grpc_prefix_put(prefix, 1);
    assert_true(grpc_timeout_parse(BYTES_LIT("10S"), &ns));
    assert_int_equal(grpc_timeout_format(ns, timeout), strlen("10000000u"));
    assert_int_equal(grpc_message_encode(BYTES_LIT("50% \n"), text, sizeof text),
                     strlen("50%25 %0A"));
    assert_int_equal(grpc_message_decode(bytes_str("50%25 %0A"), text, sizeof text), 5);
    assert_true(grpc_content_type_ok(BYTES_LIT("application/grpc+proto")));
    assert_int_equal(alloc_count(), 0);
    assert_false(alloc_recover());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prefix_across_slices_allocates_nothing),
        cmocka_unit_test(texts_allocate_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
