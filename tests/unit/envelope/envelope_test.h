/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of envelope/ share: chains cut to order, injected randomness, a provider list. */
#ifndef TESTS_ENVELOPE_TEST_H
#define TESTS_ENVELOPE_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/secret.h"
#include "envelope/envelope.h"

#define TEST_UNUSED __attribute__((unused))

static struct slab_pool test_pool;

/* Randomness to order: what is there is handed out, then there is none. */
static struct bytes test_random_left;

TEST_UNUSED static enum err test_random(void *arg, void *out, size_t n)
{
    (void)arg;
    if (test_random_left.n < n)
        return ERR_RANDOM;
    memcpy(out, test_random_left.p, n);
    test_random_left = bytes_of(test_random_left.p + n, test_random_left.n - n);
    return ERR_OK;
}

/* Never runs out, never the same. */
TEST_UNUSED static enum err test_random_endless(void *arg, void *out, size_t n)
{
    static uint8_t next;

    (void)arg;
    for (size_t i = 0; i < n; i++)
        ((uint8_t *)out)[i] = (uint8_t)(next += 73);
    return ERR_OK;
}

TEST_UNUSED static int test_setup(void **state)
{
    (void)state;
    if (secret_init() != ERR_OK)
        return -1;
    slab_pool_init(&test_pool, 64);
    return 0;
}

TEST_UNUSED static int test_teardown(void **state)
{
    (void)state;
    slab_pool_fini(&test_pool); /* checks that every slab came back */
    return 0;
}

/* A slab made to measure per piece, so that pieces are never joined and a read past one is seen. */
TEST_UNUSED static void test_push(struct chain *c, const uint8_t *p, size_t n)
{
    struct slab *slab;
    struct slice s;

    if (n == 0)
        return;
    slab = slab_new(&test_pool, n, 0);
    assert_non_null(slab);
    memcpy(slab->data, p, n);
    slab->fill = (uint32_t)n;
    s = (struct slice){slab, 0, (uint32_t)n};
    assert_int_equal(chain_push(c, &s), ERR_OK);
}

/* The bytes in two pieces; at 0 or b.n in one. */
TEST_UNUSED static void test_cut(struct chain *c, struct bytes b, size_t at)
{
    test_push(c, b.p, at);
    test_push(c, b.p + at, b.n - at);
}

/* Pieces of step bytes. */
TEST_UNUSED static void test_slice_up(struct chain *c, struct bytes b, size_t step)
{
    for (size_t at = 0; at < b.n; at += step)
        test_push(c, b.p + at, b.n - at < step ? b.n - at : step);
}

TEST_UNUSED static const struct provider test_identity = {.kind = PROVIDER_IDENTITY, .name = ""};

TEST_UNUSED static struct provider test_kmsv2(const char *name, const char *prefix)
{
    return (struct provider){.kind = PROVIDER_KMS_V2, .name = name, .prefix = bytes_str(prefix)};
}

TEST_UNUSED static struct dek *test_dek(uint32_t type, const char *key_id, size_t secret_len)
{
    static const uint8_t secret[200] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    struct dek_annotation a = {BYTES_LIT("kek.example.com"), BYTES_LIT("v7")};
    struct dek_id id = {.type = type,
                        .key_id = bytes_str(key_id),
                        .wrapped = BYTES_LIT("wrapped by the plugin"),
                        .annotations = &a,
                        .annotation_count = 1};
    struct dek *dek;

    assert_int_equal(dek_new(&id, bytes_of(secret, secret_len), &dek), ERR_OK);
    return dek;
}

/* In place, for a value of a chain: *plain_at is the chain offset of the plaintext. */
TEST_UNUSED static inline enum err test_open_in_place(struct envelope_ctx *ctx,
                                                      const struct envelope_value *v,
                                                      const struct dek *dek, struct bytes aad,
                                                      struct chain *in, size_t *plain_at)
{
    *plain_at = v->data_at + v->plain_at;
    return envelope_open(ctx, v, dek, aad, chain_seek(in, v->data_at), NULL);
}

#endif
