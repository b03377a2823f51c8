/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "pb/pb.h"

static void every_wire_type(void **state)
{
    struct bytes in = BYTES_LIT("\x08\x96\x01"                         /* 1: 150 */
                                "\x11\x01\x02\x03\x04\x05\x06\x07\x08" /* 2: fixed64 */
                                "\x1a\x03"
                                "abc"                      /* 3: bytes */
                                "\x23\x08\x01\x2b\x2c\x24" /* 4: group with group 5 */
                                "\x35\x01\x00\x00\x80"     /* 6: fixed32 */
                                "\x3a\x00");               /* 7: no bytes */
    struct pb_span f;

    (void)state;
    assert_int_equal(pb_span_next(&in, &f), PB_FIELD);
    assert_int_equal(f.number, 1);
    assert_int_equal(f.wire, PB_VARINT);
    assert_int_equal(f.varint, 150);
    assert_true(bytes_eq(f.value, BYTES_LIT("\x96\x01")));
    assert_int_equal(pb_span_next(&in, &f), PB_FIELD);
    assert_int_equal(f.wire, PB_FIXED64);
    assert_true(f.varint == 0x0807060504030201ull);
    assert_int_equal(pb_span_next(&in, &f), PB_FIELD);
    assert_int_equal(f.number, 3);
    assert_int_equal(f.wire, PB_LEN);
    assert_true(bytes_eq(f.value, BYTES_LIT("abc")));
    assert_int_equal(pb_span_next(&in, &f), PB_FIELD);
    assert_int_equal(f.number, 4);
    assert_int_equal(f.wire, PB_GROUP);
    assert_true(bytes_eq(f.value, BYTES_LIT("\x08\x01\x2b\x2c\x24")));
    assert_int_equal(pb_span_next(&in, &f), PB_FIELD);
    assert_int_equal(f.wire, PB_FIXED32);
    assert_true(f.varint == 0x80000001u);
    assert_int_equal(pb_span_next(&in, &f), PB_FIELD);
    assert_int_equal(f.number, 7);
    assert_int_equal(f.value.n, 0);
    assert_int_equal(pb_span_next(&in, &f), PB_END);
}

static void long_varints_are_legal(void **state)
{
    struct bytes in = BYTES_LIT("\x8a\x80\x80\x80\x80\x80\x80\x80\x80\x00" /* tag of 1, PB_LEN */
                                "\x82\x80\x80\x80\x80\x80\x80\x80\x80\x00" /* length 2 */
                                "hi"
                                "\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01");
    struct pb_span f;

    (void)state;
    assert_int_equal(pb_span_next(&in, &f), PB_FIELD);
    assert_int_equal(f.number, 1);
    assert_true(bytes_eq(f.value, BYTES_LIT("hi")));
    assert_int_equal(pb_span_next(&in, &f), PB_FIELD);
    assert_true(f.varint == UINT64_MAX);
    assert_int_equal(pb_span_next(&in, &f), PB_END);
}

static void highest_number(void **state)
{
    struct bytes in = BYTES_LIT("\xf8\xff\xff\xff\x0f\x01");
    struct pb_span f;

    (void)state;
    assert_int_equal(pb_span_next(&in, &f), PB_FIELD);
    assert_int_equal(f.number, 536870911);
}

static void malformed_is_refused(void **state)
{
    static const struct bytes bad[] = {
        BYTES_LIT("\x00\x01"),                                         /* number 0 */
        BYTES_LIT("\x80\x80\x80\x80\x10\x01"),                         /* number 2^29 */
        BYTES_LIT("\xf8\xff\xff\xff\xff\xff\xff\xff\xff\x01\x01"),     /* number far above */
        BYTES_LIT("\x0e"),                                             /* wire type 6 */
        BYTES_LIT("\x0f"),                                             /* wire type 7 */
        BYTES_LIT("\x0c"),                                             /* stray end */
        BYTES_LIT("\x08"),                                             /* cut varint */
        BYTES_LIT("\x88"),                                             /* cut tag */
        BYTES_LIT("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"),     /* 65 bits */
        BYTES_LIT("\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00"), /* 11 bytes */
        BYTES_LIT("\x0a\x01"),                                         /* length beyond the end */
        BYTES_LIT("\x0a"),
        BYTES_LIT("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01x"), /* length 2^64-1 */
        BYTES_LIT("\x09\x01\x02\x03\x04\x05\x06\x07"),              /* cut fixed64 */
        BYTES_LIT("\x0d\x01\x02\x03"),                              /* cut fixed32 */
        BYTES_LIT("\x0b"),                                          /* group without end */
        BYTES_LIT("\x0b\x14"),                                      /* closed by another number */
        BYTES_LIT("\x0b\x13\x0c\x14"),                              /* crossed */
        BYTES_LIT("\x0b\x0a\x05\x0c"),                              /* length beyond, in a group */
        BYTES_LIT("\x0b\x00\x0c"),                                  /* number 0, in a group */
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct bytes in = bad[i];
        struct pb_span f;

        assert_int_equal(pb_span_next(&in, &f), PB_BAD);
        assert_ptr_equal(in.p, bad[i].p);
        assert_int_equal(in.n, bad[i].n);
    }
}

static void groups_nest_up_to_the_limit(void **state)
{
    uint8_t buf[2 * (PB_GROUP_DEPTH + 1)];
    struct pb_span f;
    struct bytes in;

    (void)state;
    memset(buf, 0x0b, PB_GROUP_DEPTH);
    memset(buf + PB_GROUP_DEPTH, 0x0c, PB_GROUP_DEPTH);
    in = bytes_of(buf, 2 * PB_GROUP_DEPTH);
    assert_int_equal(pb_span_next(&in, &f), PB_FIELD);
    assert_int_equal(f.value.n, 2 * PB_GROUP_DEPTH - 1);
    assert_int_equal(pb_span_next(&in, &f), PB_END);

    memset(buf, 0x0b, PB_GROUP_DEPTH + 1);
    memset(buf + PB_GROUP_DEPTH + 1, 0x0c, PB_GROUP_DEPTH + 1);
    in = bytes_of(buf, sizeof buf);
    assert_int_equal(pb_span_next(&in, &f), PB_BAD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_wire_type),
        cmocka_unit_test(long_varints_are_legal),
        cmocka_unit_test(highest_number),
        cmocka_unit_test(malformed_is_refused),
        cmocka_unit_test(groups_nest_up_to_the_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
