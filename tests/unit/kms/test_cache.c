/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/metrics.h"
#include "base/secret.h"
#include "kms/cache_int.h"

struct fixture {
    struct dek_cache c;
    struct dek *deks[8];
    uint8_t digests[8][DEK_DIGEST_LEN];
};

static struct fixture f;

static struct dek_id id_of(const uint8_t *number)
{
    return (struct dek_id){
        .type = DEK_HKDF_SEED, .key_id = BYTES_LIT("A"), .wrapped = bytes_of(number, 1)};
}

static int setup(void **state)
{
    static const uint8_t secret[32] = {7};

    (void)state;
    for (uint8_t i = 0; i < 8; i++) {
        struct dek_id id = id_of(&i);

        assert_int_equal(dek_new(&id, bytes_of(secret, sizeof secret), &f.deks[i]), ERR_OK);
        assert_int_equal(dek_id_digest(&id, f.digests[i]), ERR_OK);
    }
    assert_int_equal(dek_cache_init(&f.c, 6, true), ERR_OK);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    dek_cache_fini(&f.c);
    assert_int_equal(metric_get(METRIC_dek_cache_size), 0);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(f.deks[i]->refs.n, 1);
        dek_drop(f.deks[i]);
    }
    return 0;
}

static struct dek *find(int i, uint64_t now)
{
    const struct dek_cache_entry *e = dek_cache_find(&f.c, f.digests[i], now);

    return e == NULL ? NULL : e->dek;
}

static void put(int i, uint64_t until)
{
    dek_cache_put(&f.c, f.digests[i], f.deks[i], ERR_OK, until);
}

static void what_is_put_is_found_until_its_time(void **state)
{
    (void)state;
    assert_null(find(0, 0));
    put(0, 100);
    assert_ptr_equal(find(0, 99), f.deks[0]);
    assert_int_equal(f.deks[0]->refs.n, 2);
    assert_int_equal(metric_get(METRIC_dek_cache_size), 1);
    assert_null(find(0, 100));
    assert_int_equal(f.c.count, 0);
    assert_int_equal(f.deks[0]->refs.n, 1);
}

static void putting_again_renews(void **state)
{
    (void)state;
    put(0, 100);
    put(0, 200);
    assert_int_equal(f.c.count, 1);
    assert_int_equal(f.deks[0]->refs.n, 2);
    assert_ptr_equal(find(0, 150), f.deks[0]);
    dek_cache_put(&f.c, f.digests[0], f.deks[1], ERR_OK, 200);
    assert_ptr_equal(find(0, 150), f.deks[1]);
}

static void the_least_used_makes_room(void **state)
{
    (void)state;
    for (int i = 0; i < 6; i++)
        put(i, 100);
    assert_non_null(find(0, 1)); /* used: 1 is the oldest now */
    put(6, 100);
    assert_int_equal(f.c.count, 6);
    assert_null(find(1, 1));
    assert_non_null(find(0, 1));
    dek_cache_evict(&f.c, 100);
    assert_int_equal(f.c.count, 0);
}

static void refusals_are_kept_without_a_dek(void **state)
{
    const struct dek_cache_entry *e;

    (void)state;
    dek_cache_put(&f.c, f.digests[0], NULL, ERR_KMS_ERROR, 100);
    e = dek_cache_find(&f.c, f.digests[0], 0);
    assert_non_null(e);
    assert_null(e->dek);
    assert_int_equal(e->err, ERR_KMS_ERROR);
}

static void recent_looks_at_the_last_four(void **state)
{
    const uint8_t one = 1, five = 5;
    struct dek_id id1 = id_of(&one), id5 = id_of(&five);

    (void)state;
    for (int i = 0; i < 6; i++)
        put(i, 100);
    assert_null(dek_cache_recent(&f.c, &id1, 0));
    assert_false(dek_cache_has_recent(&f.c, f.deks[1], 0));
    assert_ptr_equal(dek_cache_recent(&f.c, &id5, 0), f.deks[5]);
    assert_true(dek_cache_has_recent(&f.c, f.deks[5], 0));
    assert_null(dek_cache_recent(&f.c, &id5, 100));
    assert_false(dek_cache_has_recent(&f.c, f.deks[5], 100));
}

static void digest_of(uint32_t number, uint8_t out[static DEK_DIGEST_LEN])
{
    uint64_t spread = number * 0x9e3779b97f4a7c15ull;

    memset(out, 0, DEK_DIGEST_LEN);
    memcpy(out, &spread, sizeof spread);
    memcpy(out + sizeof spread, &number, sizeof number);
}

/* The bound is whatever a configuration says: memory follows the entries, chains stay short, and
 * what was put before the table grew is found after it. */
static void memory_follows_the_entries(void **state)
{
    enum { COUNT = 10000 };
    uint8_t digest[DEK_DIGEST_LEN];
    struct dek_cache c;

    (void)state;
    assert_int_equal(dek_cache_init(&c, INT32_MAX, false), ERR_OK);
    assert_true(c.bucket_count <= 1024);
    for (uint32_t i = 0; i < COUNT; i++) {
        digest_of(i, digest);
        dek_cache_put(&c, digest, NULL, ERR_KMS_ERROR, 100);
    }
    assert_int_equal(c.count, COUNT);
    assert_true(c.bucket_count >= COUNT && c.bucket_count <= COUNT * 4);
    dek_cache_evict(&c, 1); /* growing did not change who is the oldest */
    for (uint32_t i = 0; i < COUNT; i++) {
        digest_of(i, digest);
        if (i == 0)
            assert_null(dek_cache_find(&c, digest, 0));
        else
            assert_non_null(dek_cache_find(&c, digest, 0));
    }
    dek_cache_fini(&c);
}

static int group_setup(void **state)
{
    (void)state;
    return secret_init() == ERR_OK ? 0 : -1;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_is_put_is_found_until_its_time), TEST(putting_again_renews),
        TEST(the_least_used_makes_room),           TEST(refusals_are_kept_without_a_dek),
        TEST(recent_looks_at_the_last_four),       TEST(memory_follows_the_entries),
    };

    return cmocka_run_group_tests(tests, group_setup, NULL);
}
