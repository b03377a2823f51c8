/* SPDX-License-Identifier: Apache-2.0 */
/* HKDF-Expand against OpenSSL's own HMAC, and a vector of the genuine code. */
#include <openssl/hmac.h>

#include "envelope/envelope_int.h"
#include "envelope_test.h"

static void like_hmac(void **state)
{
    static const size_t lens[] = {32, 33, 63, 64, 65, 127, 128, 200};
    uint8_t key[200], message[33], want[32], got[32];
    void *derived = secret_alloc(envelope__hmac_size());

    (void)state;
    assert_non_null(derived);
    for (size_t i = 0; i < sizeof key; i++)
        key[i] = (uint8_t)(i * 7 + 1);
    for (size_t i = 0; i < 32; i++)
        message[i] = (uint8_t)(i * 11);
    message[32] = 1;
    for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
        assert_non_null(HMAC(EVP_sha256(), key, (int)lens[i], message, sizeof message, want, NULL));
        envelope__hmac_init(derived, bytes_of(key, lens[i]));
        envelope__hkdf_expand(derived, bytes_of(message, 32), got);
        assert_memory_equal(got, want, sizeof want);
        envelope__hkdf_expand(derived, bytes_of(message, 32), got); /* the states are not used up */
        assert_memory_equal(got, want, sizeof want);
    }
    secret_free(derived, envelope__hmac_size());
}

/* kmsv2-seed-a0-0-0: seed, info, derived key. */
static void like_kubernetes(void **state)
{
    static const uint8_t seed[] =
        "\xce\x75\x23\x91\xbe\x0c\x93\x2d\x88\x15\x90\xdf\x94\x7f\xc9\xe2\x59\x35\x8b\xd4\x07\x1c"
        "\xe2\x18\x2a\xd3\xba\x9f\x59\xde\xf8\x3a";
    static const uint8_t info[] =
        "\xeb\x23\x36\x57\x84\xfa\x73\xe0\x25\x0b\x26\x07\xa5\x50\xce\xa3\x5f\x5f\x4e\x4b\xdb\xbe"
        "\xbb\x08\x4f\xc5\x4a\x42\x4b\x4f\x8b\xfa";
    static const uint8_t want[] =
        "\x20\xd5\xbb\xff\x5f\x40\x5c\x00\x7e\x55\x83\xa8\x99\x21\x1d\xe4\xbe\x29\xc1\x60\x59\xe7"
        "\x73\x9c\x70\xaf\x9a\x9f\xcf\x96\x25\x0a";
    void *derived = secret_alloc(envelope__hmac_size());
    uint8_t got[32];

    (void)state;
    assert_non_null(derived);
    envelope__hmac_init(derived, bytes_of(seed, 32));
    envelope__hkdf_expand(derived, bytes_of(info, 32), got);
    assert_memory_equal(got, want, sizeof got);
    secret_free(derived, envelope__hmac_size());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(like_hmac),
        cmocka_unit_test(like_kubernetes),
    };

    return cmocka_run_group_tests(tests, test_setup, test_teardown);
}
