/* SPDX-License-Identifier: Apache-2.0 */
/* Every allocation of HPACK fails, in turn, once or with all behind it: ERR_NOMEM or none the less
 * the right list, nothing leaks, and a decoder that has failed takes no further block. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "failing_alloc.h"
#include "h2/hpack_int.h"

#define FIELD(n, v)                                                                                \
    {                                                                                              \
        BYTES_LIT(n), BYTES_LIT(v)                                                                 \
    }

#define CALLS 160u
#define LARGE 5000u /* beyond what is taken from the pool of small objects */

struct fix {
    struct objects mem;
    struct h2__hpack_in in;
    struct h2__hpack_out out;
};

static uint8_t large[LARGE];

/* The i-th list: insertions, evictions, repetitions, secrets, large ones. */
static size_t list_of(unsigned i, char text[32], struct h2_field v[20])
{
    size_t n = 0;

    v[n++] = (struct h2_field)FIELD(":method", "POST");
    v[n++] = (struct h2_field)FIELD(":path", "/etcdserverpb.KV/Range");
    if (i % 4 != 0) {
        v[n++] = (struct h2_field)FIELD("grpc-timeout", "1m");
        return n;
    }
    v[n++] = (struct h2_field){BYTES_LIT("x-new"),
                               bytes_of(text, (size_t)snprintf(text, 32, "%u", i * 7919))};
    v[n++] = (struct h2_field){BYTES_LIT("x-large"), bytes_of(large, i % 3 == 0 ? LARGE : i * 9)};
    if (i % 5 == 0)
        v[n++] = (struct h2_field)FIELD("token", "secret");
    while (i % 7 == 0 && n < 20)
        v[n++] = (struct h2_field)FIELD("te", "trailers");
    return n;
}

static enum err call(struct fix *f, unsigned i)
{
    struct h2_field v[20];
    char text[32];
    size_t n = list_of(i, text, v);
    const struct h2__headers *h;
    struct bytes block;

    TRY(h2__hpack_encode(&f->out, (struct h2_fields){v, n}, &block));
    TRY(h2__hpack_decode(&f->in, block, H2__REQUEST, (struct h2__hpack_limits){SIZE_MAX, SIZE_MAX},
                         &h));
    assert_int_equal(h->count, n);
    for (size_t k = 0; k < 2; k++)
        assert_true(bytes_eq(h->v[k].name, v[k].name) && bytes_eq(h->v[k].value, v[k].value));
    return ERR_OK;
}

/* All that an end does with its blocks. */
static enum err life(struct fix *f)
{
    enum err e = h2__hpack_in_init(&f->in, &f->mem);

    if (e == ERR_OK)
        e = h2__hpack_out_init(&f->out, &f->mem);
    for (unsigned i = 0; i < CALLS && e == ERR_OK; i++)
        e = call(f, i);
    if (e != ERR_OK && f->in.is_broken) {
        const struct h2__headers *h;

        assert_int_equal(h2__hpack_decode(&f->in, BYTES_LIT("\x82"), H2__REQUEST,
                                          (struct h2__hpack_limits){9999, 99}, &h),
                         ERR_CLOSED);
    }
    h2__hpack_in_fini(&f->in);
    h2__hpack_out_fini(&f->out);
    objects_fini(&f->mem);
    return e;
}

static size_t fail_in_turn(void (*order)(size_t n), size_t *count)
{
    size_t errors = 0, n = 1;

    for (;; n++) {
        struct fix f = {0};
        enum err e;

        order(n);
        e = life(&f);
        if (!alloc_recover()) {
            assert_int_equal(e, ERR_OK);
            break;
        }
        assert_true(e == ERR_OK || e == ERR_NOMEM);
        errors += e == ERR_NOMEM;
    }
    *count = n - 1;
    return errors;
}

static void test_every_allocation(void **state)
{
    size_t once, from;

    (void)state;
    assert_true(fail_in_turn(alloc_fail_once, &once) > 50);
    assert_true(fail_in_turn(alloc_fail_from, &from) > 50);
    assert_true(once > 100 && from > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_allocation),
    };

    memset(large, 'l', sizeof large);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
