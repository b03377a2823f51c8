/* SPDX-License-Identifier: Apache-2.0 */
#include "envelope/envelope_int.h"
#include "envelope_test.h"

static enum err parse(struct bytes in, struct envelope__object *o, struct arena *arena)
{
    arena_reset(arena);
    return envelope__object_parse(in, arena, o);
}

static void any_order_last_wins(void **state)
{
    struct arena arena = {0};
    struct envelope__object o;

    (void)state;
    assert_int_equal(parse(BYTES_LIT("\x28\x01"
                                     "\x22\x0a\x12\x01v\x0a\x03z.z\x18\x07"
                                     "\x1a\x01x\x1a\x02wd"
                                     "\x12\x01x\x12\x02id"
                                     "\x0a\x01x\x0a\x02"
                                     "da"
                                     "\x22\x05\x0a\x03"
                                     "a.a"),
                           &o, &arena),
                     ERR_OK);
    assert_true(o.has_data);
    assert_true(bytes_eq(o.data, BYTES_LIT("da")));
    assert_true(bytes_eq(o.id.key_id, BYTES_LIT("id")));
    assert_true(bytes_eq(o.id.wrapped, BYTES_LIT("wd")));
    assert_int_equal(o.id.type, 1);
    assert_int_equal(o.id.annotation_count, 2);
    assert_true(bytes_eq(o.id.annotations[0].key, BYTES_LIT("a.a")));
    assert_int_equal(o.id.annotations[0].value.n, 0);
    assert_true(bytes_eq(o.id.annotations[1].key, BYTES_LIT("z.z")));
    assert_true(bytes_eq(o.id.annotations[1].value, BYTES_LIT("v")));
    arena_fini(&arena);
}

static void nothing_at_all(void **state)
{
    struct arena arena = {0};
    struct envelope__object o;

    (void)state;
    assert_int_equal(parse(BYTES_LIT(""), &o, &arena), ERR_OK);
    assert_false(o.has_data);
    assert_int_equal(o.id.annotation_count, 0);
    assert_int_equal(o.id.type, 0);
    arena_fini(&arena);
}

static void data_may_be_empty_but_there(void **state)
{
    struct arena arena = {0};
    struct envelope__object o;

    (void)state;
    assert_int_equal(parse(BYTES_LIT("\x0a\x00"), &o, &arena), ERR_OK);
    assert_true(o.has_data);
    assert_int_equal(o.data.n, 0);
    arena_fini(&arena);
}

/* Another wire type makes a known number an unknown field. */
static void other_wire_types_are_skipped(void **state)
{
    struct arena arena = {0};
    struct envelope__object o;

    (void)state;
    assert_int_equal(parse(BYTES_LIT("\x08\x01\x10\x01\x18\x01\x20\x01\x2a\x01x"
                                     "\x0d\x01\x02\x03\x04\x0b\x0c"),
                           &o, &arena),
                     ERR_OK);
    assert_false(o.has_data);
    assert_int_equal(o.id.key_id.n + o.id.wrapped.n + o.id.annotation_count + o.id.type, 0);
    arena_fini(&arena);
}

static void type_is_32_bits(void **state)
{
    struct arena arena = {0};
    struct envelope__object o;

    (void)state;
    assert_int_equal(parse(BYTES_LIT("\x28\x81\x80\x80\x80\x10"), &o, &arena), ERR_OK);
    assert_int_equal(o.id.type, 1);
    assert_int_equal(parse(BYTES_LIT("\x28\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), &o, &arena),
                     ERR_OK);
    assert_int_equal(o.id.type, UINT32_MAX);
    arena_fini(&arena);
}

/* Go stops at the first field that is wrong. */
static void first_error_counts(void **state)
{
    struct arena arena = {0};
    struct envelope__object o;

    (void)state;
    assert_int_equal(parse(BYTES_LIT("\x12\x01\xff\x0f"), &o, &arena), ERR_INVALID_UTF8);
    assert_int_equal(parse(BYTES_LIT("\x0f\x12\x01\xff"), &o, &arena), ERR_PROTOBUF_MALFORMED);
    assert_int_equal(parse(BYTES_LIT("\x22\x03\x0a\x01\xff\x0f"), &o, &arena), ERR_INVALID_UTF8);
    assert_int_equal(parse(BYTES_LIT("\x22\x03\x0a\x05x"), &o, &arena), ERR_PROTOBUF_MALFORMED);
    /* An overwritten wrong string is wrong all the same. */
    assert_int_equal(parse(BYTES_LIT("\x12\x01\xff\x12\x01k"), &o, &arena), ERR_INVALID_UTF8);
    /* Bytes may be anything. */
    assert_int_equal(parse(BYTES_LIT("\x0a\x01\xff\x1a\x01\xff\x22\x03\x12\x01\xff"), &o, &arena),
                     ERR_OK);
    arena_fini(&arena);
}

/* count entries with the 6-byte key "NNNN.x" of the number mod distinct. */
static struct bytes many_entries(uint32_t count, uint32_t distinct, uint8_t *buf)
{
    uint8_t *p = buf;

    for (uint32_t i = 0; i < count; i++) {
        uint32_t k = i % distinct;

        memcpy(p, "\x22\x08\x0a\x06____.x", 10);
        for (int digit = 0; digit < 4; digit++, k /= 36)
            p[4 + digit] = (uint8_t) "0123456789abcdefghijklmnopqrstuvwxyz"[k % 36];
        p += 10;
    }
    return bytes_of(buf, (size_t)(p - buf));
}

/* Memory stays bounded: more different keys than can be valid are refused at once, one key over and
 * over again is just one. */
static void many_annotations(void **state)
{
    uint8_t *buf = malloc(10 * 200000);
    struct arena arena = {0};
    struct envelope__object o;

    (void)state;
    assert_non_null(buf);
    assert_int_equal(parse(many_entries(200000, 7, buf), &o, &arena), ERR_OK);
    assert_int_equal(o.id.annotation_count, 7);
    assert_int_equal(parse(many_entries(60000, 4000, buf), &o, &arena), ERR_OK);
    assert_int_equal(o.id.annotation_count, 4000);
    assert_int_equal(parse(many_entries(60000, 30000, buf), &o, &arena), ERR_ANNOTATIONS_INVALID);
    arena_fini(&arena);
    free(buf);
}

static void tail_there_and_back(void **state)
{
    static uint8_t value[20000];
    struct arena arena = {0};

    (void)state;
    for (uint32_t count = 0; count <= 20; count++) {
        struct dek_annotation a[20], copies[20];
        struct dek_id id = {.type = count % 2,
                            .key_id = BYTES_LIT("key"),
                            .wrapped = bytes_of(value, 40 * count),
                            .annotations = a,
                            .annotation_count = count};
        struct dek_id copy;
        struct envelope__object o;
        char keys[20][8];
        uint8_t *buf;
        size_t n;

        for (uint32_t i = 0; i < count; i++) {
            memcpy(keys[i], "aa.x", 4);
            keys[i][0] = (char)('a' + i);
            a[i] = (struct dek_annotation){bytes_of(keys[i], 4), bytes_of(value, i * i * 50)};
        }
        n = envelope__object_tail_len(&id);
        buf = malloc(n); /* made to measure, for the sanitizer */
        assert_non_null(buf);
        envelope__object_tail_put(buf, &id, &copy, copies);
        assert_true(dek_id_eq(&copy, &id));
        assert_int_equal(parse(bytes_of(buf, n), &o, &arena), ERR_OK);
        assert_true(dek_id_eq(&o.id, &id));
        assert_false(o.has_data);
        free(buf);
    }
    arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_order_last_wins),
        cmocka_unit_test(nothing_at_all),
        cmocka_unit_test(data_may_be_empty_but_there),
        cmocka_unit_test(other_wire_types_are_skipped),
        cmocka_unit_test(type_is_32_bits),
        cmocka_unit_test(first_error_counts),
        cmocka_unit_test(many_annotations),
        cmocka_unit_test(tail_there_and_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
