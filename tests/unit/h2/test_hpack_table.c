/* SPDX-License-Identifier: Apache-2.0 */
/* The decoder's tables. That the dynamic one is nghttp2's after any sequence of blocks is tested in
 * test_hpack_like.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "h2/hpack_int.h"

/* Appendix A as nghttp2 has it, and what message.c says of its fields. */
static void test_static_table(void **state)
{
    nghttp2_hd_inflater *theirs;
    struct objects mem = {0};
    struct h2__hpack_table t;
    struct h2__hpack_item item = {0};

    (void)state;
    assert_int_equal(nghttp2_hd_inflate_new(&theirs), 0);
    h2__hpack_table_init(&t, &mem);
    for (uint32_t i = 1; i <= H2__HPACK_STATIC; i++) {
        const nghttp2_nv *nv = nghttp2_hd_inflate_get_table_entry(theirs, i);

        assert_true(h2__hpack_lookup(&t, i, &item));
        assert_true(bytes_eq(item.field.name, bytes_of(nv->name, nv->namelen)));
        assert_true(bytes_eq(item.field.value, bytes_of(nv->value, nv->valuelen)));
        assert_int_equal(item.class,
                         h2__message_name(item.field.name) | h2__message_value(item.field.value));
        assert_null(item.entry);
    }
    assert_false(h2__hpack_lookup(&t, 0, &item));
    assert_false(h2__hpack_lookup(&t, H2__HPACK_STATIC + 1, &item));
    assert_false(h2__hpack_lookup(&t, UINT32_MAX, &item));
    nghttp2_hd_inflate_del(theirs);
    h2__hpack_table_fini(&t);
    objects_fini(&mem);
}

/* Entries of every size, through every size of the table: the newest are there, in order, as many
 * as fit (section 4.4). */
static void test_what_fits_stays(void **state)
{
    (void)state;
    for (uint32_t max = 0; max <= H2__HPACK_TABLE; max += max < 140 ? 1 : 193) {
        for (size_t len = 0; len < 70; len += 23) {
            struct objects mem = {0};
            struct h2__hpack_table t;
            uint8_t text[100];
            size_t size = 32 + 1 + len;

            h2__hpack_table_init(&t, &mem);
            h2__hpack_resize(&t, max);
            for (unsigned i = 0; i < 300; i++) {
                struct h2__hpack_entry *e;
                struct h2__hpack_item item = {0};
                uint32_t count = (uint32_t)(max / size < i + 1 ? max / size : i + 1);

                memset(text, (int)('a' + i % 20), sizeof text);
                assert_int_equal(
                    h2__hpack_insert(&t, (struct h2_field){bytes_of(text, 1), bytes_of(text, len)},
                                     0, &e),
                    ERR_OK);
                assert_int_equal(e != NULL, size <= max);
                assert_int_equal(t.count, count);
                assert_int_equal(t.size, count * size);
                for (uint32_t k = 0; k < count; k++) {
                    assert_true(h2__hpack_lookup(&t, H2__HPACK_STATIC + 1 + k, &item));
                    assert_int_equal(item.field.name.p[0], 'a' + (i - k) % 20);
                    assert_int_equal(item.field.value.n, len);
                }
                assert_false(h2__hpack_lookup(&t, H2__HPACK_STATIC + 1 + count, &item));
            }
            assert_null(t.dead); /* nobody points into them */
            h2__hpack_table_fini(&t);
            objects_fini(&mem);
        }
    }
}

/* The name of a new entry may be that of one that goes for it. */
static void test_a_name_of_an_entry_that_goes(void **state)
{
    struct objects mem = {0};
    struct h2__hpack_table t;
    struct h2__hpack_entry *e;

    (void)state;
    h2__hpack_table_init(&t, &mem);
    h2__hpack_resize(&t, 40);
    assert_int_equal(
        h2__hpack_insert(&t, (struct h2_field){BYTES_LIT("name"), BYTES_LIT("v")}, 0, &e), ERR_OK);
    for (char c = 'a'; c <= 'z'; c++) {
        struct bytes name = h2__hpack_item_of(h2__hpack_dynamic(&t, 0)).field.name;

        assert_int_equal(h2__hpack_insert(&t, (struct h2_field){name, bytes_of(&c, 1)}, 0, &e),
                         ERR_OK);
        assert_int_equal(t.count, 1);
        assert_memory_equal(e->data, "name", 4);
        assert_int_equal(e->data[4], c);
    }
    h2__hpack_table_fini(&t);
    objects_fini(&mem);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_static_table),
        cmocka_unit_test(test_what_fits_stays),
        cmocka_unit_test(test_a_name_of_an_entry_that_goes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
