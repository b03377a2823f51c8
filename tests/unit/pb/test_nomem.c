/* SPDX-License-Identifier: Apache-2.0 */
/* This module allocates nothing: whatever is read or written, in one piece or across slices, works
 * where no allocation does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "failing_alloc.h"
#include "pb/pb.h"

/* 1: varint 300, 2: "text", 3: group of 4: fixed32, 5: fixed64, 6: message of 1: varint 1 */
static const uint8_t message[] = {0x08, 0xac, 0x02, 0x12, 4, 't',  'e', 'x', 't', 0x1b,
                                  0x25, 1,    2,    3,    4, 0x1c, 41,  1,   2,   3,
                                  4,    5,    6,    7,    8, 50,   2,   8,   1};
#define FIELDS 5u

static void read_chain(const struct chain *c)
{
    struct pb_reader r = pb_reader_all(c), sub;
    struct pb_field f, inner;

    for (unsigned i = 0; i < FIELDS; i++)
        assert_int_equal(pb_next(&r, &f), PB_FIELD);
    assert_int_equal(pb_next(&r, &inner), PB_END);
    sub = pb_reader_sub(&f);
    assert_int_equal(pb_next(&sub, &inner), PB_FIELD);
    assert_int_equal(inner.varint, 1);
    r = pb_reader_all(c);
    assert_int_equal(pb_next_head(&r, &f), PB_FIELD);
    assert_int_equal(pb_next_head(&r, &f), PB_FIELD);
    assert_int_equal(r.pos.at, f.value_at);
}

static void readers_allocate_nothing(void **state)
{
    static struct slab slabs[sizeof message];

    (void)state;
    for (size_t step = 1; step <= sizeof message; step++) {
        struct chain c = {0};

        for (size_t at = 0; at < sizeof message; at += step) {
            size_t n = sizeof message - at < step ? sizeof message - at : step;
            struct slice s = slice_static(&slabs[at], message + at, (uint32_t)n);

            assert_int_equal(chain_push(&c, &s), ERR_OK);
        }
        alloc_fail_from(1);
        read_chain(&c);
        assert_int_equal(alloc_count(), 0);
        assert_false(alloc_recover());
        chain_fini(&c);
    }
}

static void spans_and_writing_allocate_nothing(void **state)
{
    struct bytes in = bytes_of(message, sizeof message);
    uint8_t out[PB_VARINT_MAX];
    struct pb_span f;

    (void)state;
    alloc_fail_from(1);
    for (unsigned i = 0; i < FIELDS; i++)
        assert_int_equal(pb_span_next(&in, &f), PB_FIELD);
    assert_int_equal(pb_span_next(&in, &f), PB_END);
    assert_int_equal(pb_put_varint(out, UINT64_MAX), PB_VARINT_MAX);
    assert_true(pb_utf8_valid(BYTES_LIT("text")));
    assert_int_equal(alloc_count(), 0);
    assert_false(alloc_recover());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(readers_allocate_nothing),
        cmocka_unit_test(spans_and_writing_allocate_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
