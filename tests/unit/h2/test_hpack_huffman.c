/* SPDX-License-Identifier: Apache-2.0 */
/* Huffman-coded strings, made by an encoder of the test's own from the code's lengths as nghttp2
 * has them: every symbol, every pair, every padding. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "h2/hpack_codes.h"
#include "h2/hpack_int.h"

/* The code of a symbol as nghttp2 writes it: it is the start of a string of that symbol and many
 * zeros ("0" has the code 00000), which is as long as the code says. */
struct code {
    uint32_t bits;
    unsigned len;
};

#define ZEROS 72u

static struct code code_of(uint8_t symbol)
{
    uint8_t value[8 + ZEROS], out[400];
    nghttp2_nv nv = {(uint8_t *)(uintptr_t) "x", value, 1, sizeof value, NGHTTP2_NV_FLAG_NO_INDEX};
    nghttp2_hd_deflater *d;
    struct code c = {0, 0};
    const uint8_t *p = out;
    uint32_t n;
    ssize_t total;

    memset(value, symbol, 8);
    memset(value + 8, '0', ZEROS);
    assert_int_equal(nghttp2_hd_deflate_new(&d, 4096), 0);
    total = nghttp2_hd_deflate_hd(d, out, sizeof out, &nv, 1);
    nghttp2_hd_deflate_del(d);
    assert_true(total > 4 && (out[0] & 0xf0) == 0x10);
    p += 2 + (out[1] & 0x7f); /* the name */
    assert_true((*p & 0x80) != 0);
    assert_true(h2__hpack_int(&p, out + total, 7, &n));
    c.len = n - ZEROS * 5 / 8; /* bytes of 8 codes: bits of one */
    for (unsigned i = 0; i < c.len; i++)
        c.bits = c.bits << 1 | (p[i / 8] >> (7 - i % 8) & 1);
    return c;
}

static struct code codes[257];

static int codes_init(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 256; i++)
        codes[i] = code_of((uint8_t)i);
    codes[256] = (struct code){0x3fffffff, 30}; /* EOS: RFC 7541 appendix B */
    return 0;
}

struct coded {
    uint8_t p[4096];
    size_t bits;
};

static void put(struct coded *c, struct code code)
{
    for (unsigned i = code.len; i-- > 0; c->bits++) {
        uint8_t mask = (uint8_t)(0x80 >> c->bits % 8);

        if (c->bits % 8 == 0)
            c->p[c->bits / 8] = 0;
        if ((code.bits >> i & 1) != 0)
            c->p[c->bits / 8] |= mask;
    }
}

/* Fills the last byte with ones. */
static void pad(struct coded *c)
{
    while (c->bits % 8 != 0)
        put(c, (struct code){1, 1});
}

static bool decodes_to(const struct coded *c, const uint8_t *wanted, size_t n)
{
    size_t len = c->bits / 8, got;
    uint8_t *in = malloc(len + 1), *out = malloc(len * 8 / 5 + 1);
    bool is_same;

    assert_non_null(in);
    assert_non_null(out);
    memcpy(in, c->p, len);
    is_same = h2__huffman_decode(bytes_of(in, len), out, &got) && got == n &&
              (n == 0 || memcmp(out, wanted, n) == 0);
    free(in);
    free(out);
    return is_same;
}

static bool is_error(const struct coded *c)
{
    uint8_t out[8192];
    size_t n;

    return !h2__huffman_decode(bytes_of(c->p, c->bits / 8), out, &n);
}

/* The table is nghttp2's, symbol by symbol. */
static void test_the_code(void **state)
{
    unsigned at = 0;
    uint64_t sum = 0;

    (void)state;
    for (unsigned i = 0; i <= 256; i++) {
        sum += 1ull << (32 - codes[i].len);
        if (codes[i].len <= 8) {
            unsigned from = codes[i].bits << (8 - codes[i].len);

            for (unsigned k = 0; k < 1u << (8 - codes[i].len); k++, at++)
                assert_int_equal(h2__huffman_first[from + k], codes[i].len << 8 | i);
        }
    }
    assert_int_equal(sum, 1ull << 32); /* complete */
    for (unsigned i = 0; i < 256; i++)
        at += h2__huffman_first[i] == 0;
    assert_int_equal(at, 256);
}

/* Each symbol behind each, at each of the 8 places that a code may begin at in a byte. */
static void test_every_pair(void **state)
{
    (void)state;
    for (unsigned a = 0; a < 256; a++) {
        for (unsigned b = 0; b < 256; b++) {
            uint8_t wanted[12];
            struct coded c = {.bits = 0};
            unsigned lead = (a * 7 + b) % 9;

            memset(wanted, '0', sizeof wanted);
            for (unsigned i = 0; i < lead; i++)
                put(&c, codes['0']);
            put(&c, codes[a]);
            put(&c, codes[b]);
            wanted[lead] = (uint8_t)a;
            wanted[lead + 1] = (uint8_t)b;
            pad(&c);
            assert_true(decodes_to(&c, wanted, lead + 2));
        }
    }
}

static void test_long_strings(void **state)
{
    uint64_t seed = 1;

    (void)state;
    for (size_t n = 0; n < 300; n++) {
        uint8_t wanted[300];
        struct coded c = {.bits = 0};

        for (size_t i = 0; i < n; i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            wanted[i] = (uint8_t)(seed >> 40);
            if (n % 3 != 0)
                wanted[i] = 'a' + wanted[i] % 26;
            put(&c, codes[wanted[i]]);
        }
        pad(&c);
        assert_true(decodes_to(&c, wanted, n));
    }
}

/* Section 5.2: at most 7 bits of padding, all ones. */
static void test_every_padding(void **state)
{
    (void)state;
    for (unsigned lead = 0; lead < 20; lead++) {
        for (unsigned bits = 1; bits < 24; bits++) {
            for (unsigned zero = 0; zero <= bits; zero++) { /* which one is a zero; bits: none */
                struct coded c = {.bits = 0};

                for (unsigned i = 0; i < lead; i++)
                    put(&c, codes['0']);
                if ((c.bits + bits) % 8 != 0)
                    continue;
                for (unsigned i = 0; i < bits; i++)
                    put(&c, (struct code){i != zero, 1});
                if (zero == bits)
                    assert_int_equal(is_error(&c), bits > 7);
                else if (bits < 5) /* no code is as short */
                    assert_true(is_error(&c));
            }
        }
    }
}

/* EOS, wherever it stands, is an error. */
static void test_eos(void **state)
{
    (void)state;
    for (unsigned lead = 0; lead < 40; lead++) {
        for (unsigned rest = 0; rest < 40; rest++) {
            struct coded c = {.bits = 0};

            for (unsigned i = 0; i < lead; i++)
                put(&c, codes['0']);
            put(&c, codes[256]);
            for (unsigned i = 0; i < rest; i++)
                put(&c, codes['0']);
            pad(&c);
            assert_true(is_error(&c));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_code),     cmocka_unit_test(test_every_pair),
        cmocka_unit_test(test_long_strings), cmocka_unit_test(test_every_padding),
        cmocka_unit_test(test_eos),
    };

    return cmocka_run_group_tests(tests, codes_init, NULL);
}
