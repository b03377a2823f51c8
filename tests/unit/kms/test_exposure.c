/* SPDX-License-Identifier: Apache-2.0 */
/* An answer of Encrypt that shows the secret is found out wherever and however it does. The encoder
 * of the expected texts is OpenSSL's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/evp.h>

#include "kms/exposure_int.h"

static const uint8_t secret[32] = {0xfb, 0xff, 0x00, 0x3e, 0x3f, 0xfe, 7,  8,  9,  10,  11,
                                   12,   13,   14,   15,   16,   17,   18, 19, 20, 21,  22,
                                   23,   24,   25,   26,   27,   28,   29, 30, 31, 0xff};

static bool exposes(struct bytes wrapped)
{
    const struct dek_id id = {
        .type = DEK_HKDF_SEED, .key_id = BYTES_LIT("key"), .wrapped = wrapped};

    return kms_answer_exposes(&id, bytes_of(secret, sizeof secret));
}

/* before bytes of something else, the secret, after bytes. Returns the length. */
static size_t surrounded(uint8_t *out, size_t before, size_t after)
{
    memset(out, 0x5a, before + sizeof secret + after);
    memcpy(out + before, secret, sizeof secret);
    return before + sizeof secret + after;
}

static void as_it_is_at_any_place(void **state)
{
    uint8_t v[128];

    (void)state;
    for (size_t before = 0; before < 20; before++) {
        for (size_t after = 0; after < 20; after++)
            assert_true(exposes(bytes_of(v, surrounded(v, before, after))));
    }
}

static void in_hex(void **state)
{
    char v[sizeof secret * 2 + 8];

    (void)state;
    for (int upper = 0; upper < 2; upper++) {
        size_t n = (size_t)snprintf(v, sizeof v, "x");

        for (size_t i = 0; i < sizeof secret; i++)
            n += (size_t)snprintf(v + n, sizeof v - n, upper ? "%02X" : "%02x", secret[i]);
        assert_true(exposes(bytes_of(v, n)));
    }
}

static void in_base64_at_every_alignment(void **state)
{
    uint8_t v[64], text[128];

    (void)state;
    for (size_t before = 0; before < 7; before++) {
        for (size_t after = 0; after < 7; after++) {
            int n = EVP_EncodeBlock(text, v, (int)surrounded(v, before, after));

            assert_true(exposes(bytes_of(text, (size_t)n)));
            for (int i = 0; i < n; i++)
                text[i] = text[i] == '+' ? '-' : text[i] == '/' ? '_' : text[i];
            assert_true(exposes(bytes_of(text, (size_t)n)));
        }
    }
}

static void in_every_part_that_is_stored(void **state)
{
    const struct bytes shown = bytes_of(secret, sizeof secret), harmless = BYTES_LIT("harmless");
    struct dek_annotation a[2] = {{harmless, harmless}, {harmless, harmless}};
    struct dek_id id = {.type = DEK_HKDF_SEED,
                        .key_id = harmless,
                        .wrapped = harmless,
                        .annotation_count = 2,
                        .annotations = a};
    struct bytes *parts[] = {&id.key_id,  &id.wrapped, &a[0].key,
                             &a[0].value, &a[1].key,   &a[1].value};

    (void)state;
    assert_false(kms_answer_exposes(&id, shown));
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        *parts[i] = shown;
        assert_true(kms_answer_exposes(&id, shown));
        *parts[i] = harmless;
    }
}

static void what_is_wrapped_passes(void **state)
{
    uint8_t v[1024];

    (void)state;
    assert_false(exposes(bytes_of(NULL, 0)));
    assert_false(exposes(bytes_of(secret, sizeof secret - 1)));
    assert_false(exposes(bytes_of(secret + 1, sizeof secret - 1)));
    for (size_t i = 0; i < sizeof v; i++)
        v[i] = (uint8_t)(i * i + 1);
    assert_false(exposes(bytes_of(v, sizeof v)));
    for (size_t i = 0; i < sizeof secret; i++) {
        surrounded(v, 4, 4);
        v[4 + i] ^= 1;
        assert_false(exposes(bytes_of(v, 40)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_it_is_at_any_place),
        cmocka_unit_test(in_hex),
        cmocka_unit_test(in_base64_at_every_alignment),
        cmocka_unit_test(in_every_part_that_is_stored),
        cmocka_unit_test(what_is_wrapped_passes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
