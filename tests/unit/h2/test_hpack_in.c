/* SPDX-License-Identifier: Apache-2.0 */
/* Decoding header blocks: the examples of RFC 7541 appendix C and every bound. What is remembered:
 * test_hpack_memo.c; random blocks beside nghttp2's: test_hpack_like.c. */
#include "hpack_kit.h"
#include "hpack_like.h"

/* --- appendix C ------------------------------------------------------------------------------- */

/* C.1 */
static void test_integers(void **state)
{
    static const struct {
        const char *hex;
        unsigned bits;
        bool is_good;
        uint32_t value;
    } rows[] = {
        {"0a", 5, true, 10},
        {"ea", 5, true, 10},
        {"1f9a0a", 5, true, 1337},
        {"2a", 8, true, 42},
        {"1e", 5, true, 30},
        {"1f00", 5, true, 31},
        {"1f8080808000", 5, true, 31}, /* zeros that say nothing */
        {"1f808080808000", 5, false, 0},
        {"1fe0ffffff0f", 5, true, UINT32_MAX},
        {"1fe1ffffff0f", 5, false, 0},
        {"1fffffffff7f", 5, false, 0},
        {"1f", 5, false, 0},
        {"1f80", 5, false, 0},
        {"1f80808080", 5, false, 0},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint8_t in[16];
        size_t n = from_hex(rows[i].hex, in);
        const uint8_t *p = in;
        uint32_t value = 0;

        assert_int_equal(h2__hpack_int(&p, in + n, rows[i].bits, &value), rows[i].is_good);
        if (!rows[i].is_good)
            continue;
        assert_int_equal(value, rows[i].value);
        assert_ptr_equal(p, in + n);
    }
}

struct example {
    const char *hex, *fields;
    uint32_t table_size, table_count; /* behind it */
};

static void check_examples(const struct example *e, size_t count, const char *size_update)
{
    struct fix f;

    setup(&f);
    if (size_update != NULL)
        assert_int_equal(decode(&f, size_update), ERR_OK);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(decode(&f, e[i].hex), ERR_OK);
        assert_string_equal(text_of(f.h), e[i].fields);
        assert_int_equal(f.in.table.size, e[i].table_size);
        assert_int_equal(f.in.table.count, e[i].table_count);
    }
    teardown(&f);
}

/* C.2: each with a table of its own. */
static void test_representations(void **state)
{
    static const struct example rows[] = {
        {"400a637573746f6d2d6b65790d637573746f6d2d686561646572", "custom-key: custom-header\n", 55,
         1},
        {"040c2f73616d706c652f70617468", ":path: /sample/path\n", 0, 0},
        {"100870617373776f726406736563726574", "password: secret\n", 0, 0},
        {"82", ":method: GET\n", 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        check_examples(&rows[i], 1, NULL);
}

#define FIRST ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\n"
#define SECOND FIRST "cache-control: no-cache\n"
#define THIRD                                                                                      \
    ":method: GET\n:scheme: https\n:path: /index.html\n:authority: www.example.com\n"              \
    "custom-key: custom-value\n"

/* C.3 and C.4 */
static void test_requests(void **state)
{
    static const struct example clear[] = {
        {"828684410f7777772e6578616d706c652e636f6d", FIRST, 57, 1},
        {"828684be58086e6f2d6361636865", SECOND, 110, 2},
        {"828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565", THIRD, 164, 3},
    };
    static const struct example coded[] = {
        {"828684418cf1e3c2e5f23a6ba0ab90f4ff", FIRST, 57, 1},
        {"828684be5886a8eb10649cbf", SECOND, 110, 2},
        {"828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf", THIRD, 164, 3},
    };

    (void)state;
    check_examples(clear, ARRAY_LEN(clear), NULL);
    check_examples(coded, ARRAY_LEN(coded), NULL);
}

#define ANSWER(status, second)                                                                     \
    ":status: " status "\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:" second            \
    " GMT\nlocation: https://www.example.com\n"
#define COOKIE                                                                                     \
    "content-encoding: gzip\n"                                                                     \
    "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1\n"

/* C.5 and C.6, with a table of 256 bytes. */
static void test_answers(void **state)
{
    static const struct example clear[] = {
        {"4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d5"
         "4"
         "6e1768747470733a2f2f7777772e6578616d706c652e636f6d",
         ANSWER("302", "21"), 222, 4},
        {"4803333037c1c0bf", ANSWER("307", "21"), 222, 4},
        {"88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6"
         "f"
         "3d4153444a4b48514b425a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b207"
         "6"
         "657273696f6e3d31",
         ANSWER("200", "22") COOKIE, 215, 3},
    };
    static const struct example coded[] = {
        {"488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78"
         "f"
         "0b97c8e9ae82ae43d3",
         ANSWER("302", "21"), 222, 4},
        {"4883640effc1c0bf", ANSWER("307", "21"), 222, 4},
        {"88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335d"
         "f"
         "dfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
         ANSWER("200", "22") COOKIE, 215, 3},
    };

    (void)state;
    check_examples(clear, ARRAY_LEN(clear), "3fe101");
    check_examples(coded, ARRAY_LEN(coded), "3fe101");
}

/* --- errors ----------------------------------------------------------------------------------- */

/* Each is an error also for nghttp2, and the decoder takes nothing afterwards. */
static void test_errors(void **state)
{
    static const char *const bad[] = {
        "80",                 /* index 0 */
        "be",                 /* above the tables */
        "ff80808008",         /* far above */
        "7f0001610162",       /* the same as the name of a literal */
        "0f3001610162",       /* without indexing */
        "ff",                 /* integers */
        "ffffffffffff7f",     /* above 32 bits */
        "00",                 /* no name */
        "0001",               /* cut in the name */
        "000161",             /* no value */
        "00016102",           /* cut in the value */
        "00016103",           /* longer than the block */
        "0001617fffffffff0f", /* far longer */
        "0001618100",         /* padding of zeros */
        "00016182ffff",       /* more than 7 bits of padding */
        "00016184ffffffff",   /* EOS */
        "00016185ffffffffff", /* and ones */
        "000161811e",         /* padding that is cut: 'a' needs 3 ones, there is "110" */
        "823f00",             /* a size update behind a field */
        "3fe21f",             /* above 4096 */
        "3fffffffff0f",       /* far above */
        "203fe21f",           /* below, and then above */
        "20be",               /* of an entry that the update has evicted */
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct hpack_like *l = hpack_like_new();
        uint8_t block[BLOCK_MAX];
        struct fix f;

        assert_false(
            hpack_like_decode(l, bytes_of(block, from_hex(bad[i], block)), 0, SIZE_MAX, SIZE_MAX));
        hpack_like_free(l);
        setup(&f);
        assert_int_equal(decode(&f, "4001610162"), ERR_OK);
        if (i != 1) { /* which is there now */
            assert_int_equal(decode(&f, bad[i]), ERR_CLOSED);
            assert_int_equal(decode(&f, "82"), ERR_CLOSED);
        }
        teardown(&f);
    }
}

/* A block that is cut anywhere, or has any one byte changed: what nghttp2 says of it. */
static void test_every_cut_and_every_byte(void **state)
{
    static const char *const blocks[] = {
        "203fe11f828684418cf1e3c2e5f23a6ba0ab90f4ff408825a849e95ba97d7f8925a849e95bb8e8b4bf",
        "82be5886a8eb10649cbf0f1f0a6170706c69636174696f6e100870617373776f726406736563726574c0",
    };
    uint8_t good[BLOCK_MAX], block[BLOCK_MAX];

    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(blocks); k++) {
        size_t n = from_hex(blocks[k], good);

        for (size_t at = 0; at < n; at++) {
            for (unsigned b = 0; b <= 256; b++) {
                struct hpack_like *l = hpack_like_new();
                uint8_t first[BLOCK_MAX];

                memcpy(block, good, n);
                block[at] = (uint8_t)b;
                (void)hpack_like_decode(l, bytes_of(first, from_hex(blocks[0], first)), 0, SIZE_MAX,
                                        SIZE_MAX);
                (void)hpack_like_decode(l, bytes_of(block, b == 256 ? at : n), 0, SIZE_MAX,
                                        SIZE_MAX);
                (void)hpack_like_decode(l, bytes_of(good, n), 0, SIZE_MAX, SIZE_MAX);
                hpack_like_free(l);
            }
        }
    }
}

/* --- limits ----------------------------------------------------------------------------------- */

/* Every limit on a list of every sort of field: what is within is kept, and the table does not
 * depend on it (hpack_like.c compares). */
static void test_every_limit(void **state)
{
    static const char hex[] = "4001610162be82828400016303646566be410167bf0f1f0174";
    uint8_t block[BLOCK_MAX];
    size_t n = from_hex(hex, block);

    (void)state;
    for (size_t bytes = 0; bytes < 480; bytes++) {
        for (size_t fields = 0; fields < 14; fields += bytes % 34 == 0 ? 1 : 13) {
            struct hpack_like *l = hpack_like_new();

            for (int i = 0; i < 3; i++)
                assert_true(hpack_like_decode(l, bytes_of(block, n), 0, bytes, fields));
            hpack_like_free(l);
        }
    }
}

/* Strings of any length, which nghttp2 takes up to 64 KiB of. */
static void test_long_strings(void **state)
{
    static const size_t lengths[] = {126, 127, 128, 65535, 65536, 65537, 1u << 20};
    uint8_t *block = malloc((1u << 20) + 100);

    (void)state;
    assert_non_null(block);
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        size_t n = lengths[i], at = from_hex("000178", block);
        struct fix f;

        block[at++] = (uint8_t)(n < 127 ? n : 127);
        for (size_t rest = n - 127; n >= 127; rest >>= 7) {
            block[at++] = (uint8_t)(rest & 0x7f) | (rest > 127 ? 0x80 : 0);
            if (rest <= 127)
                break;
        }
        memset(block + at, 'v', n);
        setup(&f);
        assert_int_equal(
            h2__hpack_decode(&f.in, bytes_of(block, at + n), H2__REQUEST, NO_LIMITS, &f.h), ERR_OK);
        assert_int_equal(f.h->count, 1);
        assert_memory_equal(f.h->v[0].value.p, block + at, n);
        assert_int_equal(f.h->v[0].value.n, n);
        h2__hpack_release(&f.in);
        assert_true(f.in.text_cap <= 4096); /* a large one does not stay */
        teardown(&f);
    }
    free(block);
}

/* Coded strings of the shortest code alone, which grow the most: as much as there is room for. */
static void test_strings_that_grow(void **state)
{
    uint8_t block[1000];

    (void)state;
    for (size_t n = 0; n < 600; n += 5) {
        size_t at = from_hex("0001787f", block);
        struct fix f;

        block[at - 1] = (uint8_t)(0x80 | (n < 127 ? n : 127));
        if (n >= 127) {
            block[at++] = (uint8_t)((n - 127) & 0x7f) | (n - 127 > 127 ? 0x80 : 0);
            if (n - 127 > 127)
                block[at++] = (uint8_t)((n - 127) >> 7);
        }
        memset(block + at, 0, n); /* '0' is 00000 */
        setup(&f);
        assert_int_equal(
            h2__hpack_decode(&f.in, bytes_of(block, at + n), H2__REQUEST, NO_LIMITS, &f.h), ERR_OK);
        assert_int_equal(f.h->v[0].value.n, n * 8 / 5);
        for (size_t i = 0; i < f.h->v[0].value.n; i++)
            assert_int_equal(f.h->v[0].value.p[i], '0');
        teardown(&f);
    }
}

/* A block of a few bytes a field that has 4 KiB inserted and evicted by each: what has gone does
 * not stay, whether the limit is passed or not, but for what the list points into. */
static void test_evictions_do_not_pile_up(void **state)
{
    struct fix f;
    uint8_t *block = malloc(40000);
    size_t n = 0, dead = 0;

    (void)state;
    assert_non_null(block);
    setup(&f);
    block[n++] = 0x40; /* a name of 4000 bytes */
    n += from_hex("7fa11e", block + n);
    memset(block + n, 'n', 4000);
    n += 4000;
    block[n++] = 0;
    for (int i = 0; i < 10000; i++)
        n += from_hex("7e0161", block + n); /* the newest entry's name, another value */
    assert_int_equal(h2__hpack_decode(&f.in, bytes_of(block, n), H2__REQUEST,
                                      (struct h2__hpack_limits){128 * 1024, 1000}, &f.h),
                     ERR_OK);
    assert_true(f.h->is_over);
    for (const struct h2__hpack_entry *e = f.in.table.dead; e != NULL; e = e->next)
        dead++;
    assert_true(dead <= f.h->count);
    assert_int_equal(f.h->count, 128 * 1024 / 4032);
    for (size_t i = 0; i < f.h->count; i++)
        assert_int_equal(f.h->v[i].name.p[3999], 'n');
    h2__hpack_release(&f.in);
    assert_null(f.in.table.dead);
    teardown(&f);
    free(block);
}

/* Fields of the last list are there until the next, also when the block has evicted them. */
static void test_evicted_within_the_block(void **state)
{
    struct fix f;

    (void)state;
    setup(&f);
    assert_int_equal(decode(&f, "4001610162"), ERR_OK);
    /* That entry, as a field and as a name, then a table of 34 bytes, by a field that fills it. */
    assert_int_equal(decode(&f, "3f03"), ERR_OK);
    assert_int_equal(decode(&f, "be0f2f017a400178017940017701760f2f0130"), ERR_OK);
    assert_string_equal(text_of(f.h), "a: b\na: z\nx: y\nw: v\nw: 0\n");
    /* One that is too large for it empties it; its name is of an entry. */
    assert_int_equal(decode(&f, "7e0a30313233343536373839"), ERR_OK);
    assert_string_equal(text_of(f.h), "w: 0123456789\n");
    assert_int_equal(f.in.table.count, 0);
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_integers),
        cmocka_unit_test(test_representations),
        cmocka_unit_test(test_requests),
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_every_cut_and_every_byte),
        cmocka_unit_test(test_every_limit),
        cmocka_unit_test(test_long_strings),
        cmocka_unit_test(test_strings_that_grow),
        cmocka_unit_test(test_evictions_do_not_pile_up),
        cmocka_unit_test(test_evicted_within_the_block),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
