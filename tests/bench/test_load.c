/* SPDX-License-Identifier: Apache-2.0 */
/* What the bench's figures rest on: the histogram, the reference, and what generator and stub say.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "load/hist.h"
#include "load/wire.h"
#include "micro/micro.h"
#include "micro/reference.h"

static struct hist hist;

/* A percentile is never below the value and at most 1.6 % above it, from 1 ns to 17 minutes. */
static void percentiles_are_right(void **state)
{
    static const double shares[] = {0.001, 0.5, 0.99, 0.999, 1};

    (void)state;
    for (uint64_t unit = 1; unit < 100000000; unit *= 7) {
        hist = (struct hist){0};
        for (uint64_t i = 1; i <= 10000; i++)
            hist_add(&hist, i * unit);
        for (size_t i = 0; i < ARRAY_LEN(shares); i++) {
            double wanted = shares[i] * 10000 * (double)unit;
            double found = (double)hist_at(&hist, shares[i]);

            assert_true(found >= wanted - 0.5 && found <= wanted * 1.016 + 1);
        }
        assert_int_equal(hist_at(&hist, 1), 10000 * unit);
    }
}

static void no_values_no_percentile(void **state)
{
    (void)state;
    hist = (struct hist){0};
    assert_int_equal(hist_at(&hist, 0.5), 0);
    hist_add(&hist, UINT64_MAX);
    assert_int_equal(hist_at(&hist, 0.5) > 1000000000000u, 1);
}

static void events_are_counted(void **state)
{
    struct buf answer = {0};
    struct bytes value = {0};

    (void)state;
    wire_watch_created(&answer);
    assert_int_equal(wire_count_events(bytes_of(answer.p, answer.n), &value), 0);
    for (uint32_t i = 0; i < 3; i++)
        wire_watch_event(&answer, i, NULL);
    assert_int_equal(wire_count_events(bytes_of(answer.p, answer.n), &value), 3);
    assert_int_equal(value.n, 1024);
    assert_true(bytes_has_prefix(value, BYTES_LIT("k8s {\"key\":\"" WIRE_WATCH_KEYS "object\"")));
    buf_free(&answer);
}

/* The end of a range is its beginning with the last byte one up. */
static void watchers_see_their_keys_alone(void **state)
{
    struct buf request = {0};

    (void)state;
    wire_request(&request, KIND_WATCH, "/registry/secrets/watch/a-", 0, 0);
    assert_int_equal(request.n, 2 + 2 * (2 + 26) + 2);
    assert_memory_equal(request.p + 4, "/registry/secrets/watch/a-", 26);
    assert_memory_equal(request.p + 4 + 26 + 2, "/registry/secrets/watch/a.", 26);
    buf_free(&request);
}

/* What we seal the reference opens: it does the same work and not less. */
static void the_reference_is_the_same_crypto(void **state)
{
    static const char aad[] = MICRO_KEY;
    static struct micro m;
    uint8_t seed[32] = {7}, wrapped[60] = {1}, plain[1000], sealed[1400], data[1400];
    const struct dek_id id = {.type = DEK_HKDF_SEED,
                              .key_id = BYTES_LIT("test"),
                              .wrapped = bytes_of(wrapped, sizeof wrapped)};
    struct envelope_value found;
    struct arena arena = {0};
    struct chain in = {0}, out = {0};
    struct dek *dek;
    size_t n;

    (void)state;
    memset(plain, 'x', sizeof plain);
    micro_init(&m);
    reference_init(seed);
    assert_int_equal(dek_new(&id, bytes_of(seed, sizeof seed), &dek), ERR_OK);
    assert_int_equal(envelope_sealed_len(&m.provider, dek, sizeof plain, &n), ERR_OK);
    assert_true(n <= sizeof sealed);
    assert_int_equal(chain_push_copy(&in, &m.pool, plain, sizeof plain, 0), ERR_OK);
    assert_int_equal(envelope_seal(m.ctx, &m.provider, dek, BYTES_LIT(MICRO_KEY), chain_begin(&in),
                                   sizeof plain, sealed),
                     ERR_OK);
    assert_int_equal(chain_push_copy(&out, &m.pool, sealed, n, 0), ERR_OK);
    assert_int_equal(envelope_identify(&m.list, chain_begin(&out), n, &arena, NULL, &found),
                     ERR_OK);
    assert_int_equal(found.data_len, REFERENCE_HEAD + sizeof plain + REFERENCE_TAG);
    memcpy(data, sealed + found.data_at, found.data_len);
    reference_open(data, sizeof plain, aad, sizeof aad - 1);
    assert_memory_equal(data + REFERENCE_HEAD, plain, sizeof plain);
    reference_seal(data, sizeof plain, aad, sizeof aad - 1);
    assert_memory_not_equal(data + REFERENCE_HEAD, plain, sizeof plain);
    reference_open(data, sizeof plain, aad, sizeof aad - 1);
    assert_memory_equal(data + REFERENCE_HEAD, plain, sizeof plain);
    chain_fini(&in);
    chain_fini(&out);
    arena_fini(&arena);
    dek_drop(dek);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(percentiles_are_right),
        cmocka_unit_test(no_values_no_percentile),
        cmocka_unit_test(events_are_counted),
        cmocka_unit_test(watchers_see_their_keys_alone),
        cmocka_unit_test(the_reference_is_the_same_crypto),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
