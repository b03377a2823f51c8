/* SPDX-License-Identifier: Apache-2.0 */
/* aesgcm, aescbc and secretbox as providers: several keys and several providers, which one opens,
 * what is stale, which error counts, damage. */
#include "envelope_test.h"

#define AAD BYTES_LIT("/registry/secrets/default/db-password")
#define KEYS_MAX 4

static struct envelope_ctx *ctx;

static const enum provider_kind kinds[] = {PROVIDER_AESGCM, PROVIDER_AESCBC, PROVIDER_SECRETBOX};

struct ring {
    struct provider p;
    struct local_key keys[KEYS_MAX];
};

/* Of each name the first byte is the key's number: so names may come twice. */
static void ring_init(struct ring *r, enum provider_kind kind, const char *const *names,
                      uint32_t count)
{
    static const char *const prefixes[] = {[PROVIDER_AESGCM] = "k8s:enc:aesgcm:v1:",
                                           [PROVIDER_AESCBC] = "k8s:enc:aescbc:v1:",
                                           [PROVIDER_SECRETBOX] = "k8s:enc:secretbox:v1:"};

    r->p = (struct provider){.kind = kind,
                             .name = "",
                             .prefix = bytes_str(prefixes[kind]),
                             .keys = r->keys,
                             .key_count = count};
    for (uint32_t i = 0; i < count; i++) {
        uint8_t key[32];

        memset(key, names[i][0], sizeof key);
        r->keys[i].prefix = bytes_str(names[i] + 1);
        assert_int_equal(dek_new_local(kind, bytes_of(key, 32), &r->keys[i].dek), ERR_OK);
    }
}

static void ring_fini(struct ring *r)
{
    for (uint32_t i = 0; i < r->p.key_count; i++)
        dek_drop(r->keys[i].dek);
}

struct sealed {
    uint8_t p[700];
    size_t n;
};

static uint8_t plain_byte(size_t i)
{
    return (uint8_t)(i * 31 + 7);
}

/* Sealed by the provider's key of this index. */
static struct sealed seal_by(const struct ring *r, uint32_t index, size_t plain_len)
{
    struct provider p = r->p;
    uint8_t plain[600];
    struct chain c = {0};
    struct sealed s;

    p.keys = &r->keys[index];
    p.key_count = 1;
    for (size_t i = 0; i < plain_len; i++)
        plain[i] = plain_byte(i);
    test_slice_up(&c, bytes_of(plain, plain_len), 11);
    assert_int_equal(envelope_sealed_len(&p, NULL, plain_len, &s.n), ERR_OK);
    assert_in_range(s.n, 1, sizeof s.p);
    memset(s.p, 'X', sizeof s.p);
    assert_int_equal(envelope_seal(ctx, &p, NULL, AAD, chain_begin(&c), plain_len, s.p), ERR_OK);
    for (size_t i = s.n; i < sizeof s.p; i++)
        assert_int_equal(s.p[i], 'X');
    chain_fini(&c);
    return s;
}

struct outcome {
    enum envelope_form form;
    enum err err;
    struct envelope_opened opened;
    size_t plain_len; /* and the plaintext was right */
};

static size_t check_plain(struct chain *c, size_t at, size_t n)
{
    struct chain_pos pos = chain_seek(c, at);

    for (size_t i = 0; i < n; i++)
        assert_int_equal(chain_next(&pos), plain_byte(i));
    return n;
}

static void open_aside(const struct provider_list *list, const struct envelope_value *v,
                       struct bytes aad, const struct chain *c, struct outcome *o)
{
    struct chain scratch = {0};
    struct slice s;

    o->err = envelope_open_scratch(ctx, list, v, NULL, aad, c, 7, c->len - 7, &test_pool, &s,
                                   &o->opened);
    if (o->err != ERR_OK)
        assert_null(s.slab);
    if (s.slab != NULL)
        assert_true(s.slab->flags & SLAB_SECRET);
    assert_int_equal(chain_push(&scratch, &s), ERR_OK);
    o->plain_len = check_plain(&scratch, 0, scratch.len);
    chain_fini(&scratch);
}

static void open_here(const struct envelope_value *v, struct bytes aad, struct chain *c,
                      const struct outcome *o)
{
    size_t at;

    assert_int_equal(test_open_in_place(ctx, v, NULL, aad, c, &at), o->err);
    if (o->err != ERR_OK)
        return;
    assert_int_equal(v->plain_len, o->plain_len);
    assert_int_equal(v->is_stale, o->opened.stale);
    assert_true(o->opened.authentic);
    check_plain(c, at, o->plain_len);
}

/* Opens the value, which lies behind seven other bytes, in every way that there is. */
static struct outcome open_step(const struct provider *const *v, uint32_t count,
                                struct bytes stored, struct bytes aad, size_t step)
{
    const struct provider_list list = {.v = v, .count = count, .resource = "secrets"};
    struct arena arena = {0};
    struct chain c = {0};
    struct envelope_value value;
    struct outcome o = {0};

    test_push(&c, (const uint8_t *)"seven..", 7);
    test_slice_up(&c, stored, step);
    o.err = envelope_identify(&list, chain_seek(&c, 7), stored.n, &arena, NULL, &value);
    o.form = value.form;
    if (o.err == ERR_OK) {
        assert_false(value.needs_dek);
        open_aside(&list, &value, aad, &c, &o);
    }
    if (value.form == ENVELOPE_IN_PLACE)
        open_here(&value, aad, &c, &o);
    chain_fini(&c);
    arena_fini(&arena);
    return o;
}

static struct outcome open_ring(const struct ring *r, const struct sealed *s)
{
    const struct provider *v[] = {&r->p};

    return open_step(v, 1, bytes_of(s->p, s->n), AAD, 13);
}

static bool is_cbc(enum provider_kind kind)
{
    return kind == PROVIDER_AESCBC;
}

static void sizes_and_cuts(void **state)
{
    static const char *const names[] = {"1key1:"};

    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        struct ring r;
        const struct provider *v[] = {&r.p};

        ring_init(&r, kinds[k], names, 1);
        for (size_t n = 0; n <= 600; n += n < 70 ? 1 : 53) {
            struct sealed s = seal_by(&r, 0, n);

            for (size_t step = 1; step < 800; step += step < 70 ? 1 : 101) {
                struct outcome o = open_step(v, 1, bytes_of(s.p, s.n), AAD, step);

                assert_int_equal(o.err, ERR_OK);
                assert_int_equal(o.form, is_cbc(kinds[k]) ? ENVELOPE_SCRATCH : ENVELOPE_IN_PLACE);
                assert_int_equal(o.plain_len, n);
                assert_int_equal(o.opened.authentic, !is_cbc(kinds[k]));
                assert_false(o.opened.stale);
            }
        }
        ring_fini(&r);
    }
}

/* A value of any key is read; of all but the first it is stale. */
static void key_order(void **state)
{
    static const char *const names[] = {"1new:", "2old:", "3older:"};

    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        struct ring r;

        ring_init(&r, kinds[k], names, 3);
        for (uint32_t i = 0; i < 3; i++) {
            struct sealed s = seal_by(&r, i, 40);
            struct outcome o = open_ring(&r, &s);

            assert_int_equal(o.err, ERR_OK);
            assert_int_equal(o.form, is_cbc(kinds[k]) ? ENVELOPE_SCRATCH : ENVELOPE_IN_PLACE);
            assert_int_equal(o.opened.stale, i != 0);
        }
        ring_fini(&r);
    }
}

/* One name for two keys: both are tried, which one opened tells what is stale. Nothing is opened in
 * place, for the wrong key would spoil it. */
static void one_name_twice(void **state)
{
    static const char *const names[] = {"1key:", "2key:", "3key:"};

    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        struct ring r;

        ring_init(&r, kinds[k], names, 3);
        for (uint32_t i = 0; i < 3; i++) {
            /* 45 bytes: of aescbc's wrong keys none has the padding by chance, for this IV */
            struct sealed s = seal_by(&r, i, 45);
            struct outcome o = open_ring(&r, &s);

            assert_int_equal(o.form, ENVELOPE_SCRATCH);
            assert_int_equal(o.err, ERR_OK);
            assert_int_equal(o.plain_len, 45);
            assert_int_equal(o.opened.stale, i != 0);
            assert_int_equal(o.opened.authentic, !is_cbc(kinds[k]));
        }
        ring_fini(&r);
    }
}

/* "a:" is how a value of "a:b" begins, too. */
static void nested_names(void **state)
{
    static const char *const names[] = {"1a:", "2a:b:"}, *const turned[] = {"2a:b:", "1a:"};

    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        struct ring r, t;
        struct sealed s, inner;
        struct outcome o;

        ring_init(&r, kinds[k], names, 2);
        ring_init(&t, kinds[k], turned, 2);
        s = seal_by(&r, 0, 45);
        inner = seal_by(&r, 1, 45);
        o = open_ring(&r, &s);
        assert_int_equal(o.err, ERR_OK);
        assert_false(o.opened.stale);
        o = open_ring(&r, &inner);
        assert_int_equal(o.err, ERR_OK);
        assert_int_equal(o.form, ENVELOPE_SCRATCH);
        assert_true(o.opened.stale);
        o = open_ring(&t, &inner);
        assert_int_equal(o.err, ERR_OK);
        assert_false(o.opened.stale);
        o = open_ring(&t, &s);
        assert_int_equal(o.err, ERR_OK);
        assert_true(o.opened.stale);
        ring_fini(&r);
        ring_fini(&t);
    }
}

/* Two providers of a kind, as when two entries name one resource. */
static void several_providers(void **state)
{
    static const char *const first[] = {"1key:", "2other:"}, *const second[] = {"3key:", "4last:"};

    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        struct ring a, b;
        const struct provider *v[] = {&test_identity, &a.p, &b.p};
        struct sealed s;
        struct outcome o;

        ring_init(&a, kinds[k], first, 2);
        ring_init(&b, kinds[k], second, 2);
        s = seal_by(&b, 0, 45); /* "key:" of a fits, too */
        o = open_step(v, 3, bytes_of(s.p, s.n), AAD, 9);
        assert_int_equal(o.err, ERR_OK);
        assert_int_equal(o.form, ENVELOPE_SCRATCH);
        assert_true(o.opened.stale);
        s = seal_by(&a, 0, 45);
        o = open_step(v, 3, bytes_of(s.p, s.n), AAD, 9);
        assert_int_equal(o.err, ERR_OK);
        assert_true(o.opened.stale); /* identity is first */
        o = open_step(v + 1, 2, bytes_of(s.p, s.n), AAD, 9);
        assert_int_equal(o.err, ERR_OK);
        assert_false(o.opened.stale);
        s = seal_by(&b, 1, 45); /* a has no such key: only one fits */
        o = open_step(v + 1, 2, bytes_of(s.p, s.n), AAD, 9);
        assert_int_equal(o.err, ERR_OK);
        assert_int_equal(o.form, is_cbc(kinds[k]) ? ENVELOPE_SCRATCH : ENVELOPE_IN_PLACE);
        assert_true(o.opened.stale);
        ring_fini(&a);
        ring_fini(&b);
    }
}

/* The error is that of the first element whose prefix fits, wherever it was found. */
static void first_error_counts(void **state)
{
    static const char *const other[] = {"1other:"}, *const names[] = {"2a:b:", "3a:"};
    static const char gcm[] = "k8s:enc:aesgcm:v1:a:b:short";
    struct ring a, b;
    const struct provider *v[] = {&a.p, &b.p};
    struct outcome o;
    struct sealed s;

    (void)state;
    ring_init(&a, PROVIDER_AESGCM, other, 1);
    ring_init(&b, PROVIDER_AESGCM, names, 2);
    /* provider a: no such key; that is the answer though b's tag is wrong */
    s = seal_by(&b, 0, 40);
    s.p[s.n - 1] ^= 1;
    o = open_step(v, 2, bytes_of(s.p, s.n), AAD, 9);
    assert_int_equal(o.err, ERR_NO_MATCHING_KEY);
    s = seal_by(&b, 1, 40);
    s.p[s.n - 1] ^= 1;
    o = open_step(v, 2, bytes_of(s.p, s.n), AAD, 9);
    assert_int_equal(o.form, ENVELOPE_IN_PLACE);
    assert_int_equal(o.err, ERR_NO_MATCHING_KEY);
    assert_int_equal(open_step(v + 1, 1, bytes_of(s.p, s.n), AAD, 9).err, ERR_AUTH_FAILED);
    /* "a:b:" has 5 bytes, too short; "a:" has 7 */
    o = open_step(v + 1, 1, bytes_of(gcm, sizeof gcm - 1), AAD, 9);
    assert_int_equal(o.form, ENVELOPE_NONE);
    assert_int_equal(o.err, ERR_TOO_SHORT);
    ring_fini(&a);
    ring_fini(&b);
}

/* "a:b:" with 27 bytes is no aesgcm value, "a:" with 29 may be one, and isn't. */
static void earlier_error_in_place(void **state)
{
    static const char *const names[] = {"2a:b:", "3a:"};
    static const char value[] = "k8s:enc:aesgcm:v1:a:b:12345678901";
    static const char longer[] = "k8s:enc:aesgcm:v1:a:b:1234567890123456789012345"; /* 25, 27 */
    static const char fits[] = "k8s:enc:aesgcm:v1:a:b:123456789012345678901234567"; /* 27, 29 */
    struct ring r;
    const struct provider *v[] = {&r.p};
    struct outcome o;

    (void)state;
    ring_init(&r, PROVIDER_AESGCM, names, 2);
    assert_int_equal(open_step(v, 1, bytes_of(value, sizeof value - 1), AAD, 5).err, ERR_TOO_SHORT);
    o = open_step(v, 1, bytes_of(longer, sizeof longer - 1), AAD, 5);
    assert_int_equal(o.err, ERR_AUTH_FAILED);
    assert_int_equal(o.form, ENVELOPE_NONE);
    o = open_step(v, 1, bytes_of(fits, sizeof fits - 1), AAD, 5);
    assert_int_equal(o.err, ERR_AUTH_FAILED);
    assert_int_equal(o.form, ENVELOPE_IN_PLACE);
    ring_fini(&r);
}

/* Every bit of aesgcm and secretbox; of aescbc nothing is promised, but that it ends. */
static void damage(void **state)
{
    static const char *const names[] = {"1key1:"};

    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        struct ring r;
        const struct provider *v[] = {&r.p};
        struct sealed s;
        size_t head;

        if (is_cbc(kinds[k]))
            continue;
        ring_init(&r, kinds[k], names, 1);
        s = seal_by(&r, 0, 50);
        head = r.p.prefix.n + 5;
        for (size_t i = 0; i < s.n; i++) {
            struct outcome o;

            for (uint32_t bit = 1; bit < 256; bit <<= 1) {
                s.p[i] ^= (uint8_t)bit;
                o = open_step(v, 1, bytes_of(s.p, s.n), AAD, 30);
                s.p[i] ^= (uint8_t)bit;
                assert_int_equal(o.err, i < r.p.prefix.n ? ERR_NO_MATCHING_PREFIX
                                        : i < head       ? ERR_NO_MATCHING_KEY
                                                         : ERR_AUTH_FAILED);
                assert_false(o.opened.authentic || o.opened.stale);
            }
            o = open_step(v, 1, bytes_of(s.p, i), AAD, 30);
            assert_int_not_equal(o.err, ERR_OK);
        }
        ring_fini(&r);
    }
}

/* aesgcm binds a value to its etcd key, the other two do not. */
static void another_place(void **state)
{
    static const char *const names[] = {"1key1:"};

    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        struct ring r;
        const struct provider *v[] = {&r.p};
        struct sealed s;

        ring_init(&r, kinds[k], names, 1);
        s = seal_by(&r, 0, 50);
        assert_int_equal(
            open_step(v, 1, bytes_of(s.p, s.n), BYTES_LIT("/registry/secrets/x"), 30).err,
            kinds[k] == PROVIDER_AESGCM ? ERR_AUTH_FAILED : ERR_OK);
        ring_fini(&r);
    }
}

/* AES keys of all three lengths. */
static void aes_key_lengths(void **state)
{
    static const size_t lens[] = {16, 24, 32};
    static const uint8_t secret[32] = "another key, of 16, 24, 32 bytes";

    (void)state;
    for (size_t k = 0; k < 2; k++) {
        for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
            struct ring r = {.p = {.kind = kinds[k],
                                   .name = "",
                                   .prefix = BYTES_LIT("k8s:enc:x:v1:"),
                                   .keys = r.keys,
                                   .key_count = 1}};
            struct sealed s;

            r.keys[0].prefix = BYTES_LIT("k:");
            assert_int_equal(dek_new_local(kinds[k], bytes_of(secret, lens[i]), &r.keys[0].dek),
                             ERR_OK);
            s = seal_by(&r, 0, 33);
            assert_int_equal(open_ring(&r, &s).err, ERR_OK);
            envelope_ctx_wipe(ctx);
            assert_int_equal(open_ring(&r, &s).err, ERR_OK);
            ring_fini(&r);
        }
    }
}

/* A list has thousands of values: what was opened aside takes about as much memory as it is long.
 * What did not open leaves nothing behind. */
static void small_values_share_slabs(void **state)
{
    static const char *const names[] = {"1key:", "2key:"};
    struct slice plain[1000];
    struct arena arena = {0};
    struct ring r;
    const struct provider *v[] = {&r.p};
    const struct provider_list list = {.v = v, .count = 1, .resource = "secrets"};

    (void)state;
    ring_init(&r, PROVIDER_AESCBC, names, 2);
    for (size_t i = 0; i < ARRAY_LEN(plain); i++) {
        struct sealed s = seal_by(&r, 0, 200);
        struct envelope_opened opened;
        struct envelope_value value;
        struct chain c = {0};

        s.p[s.n - 1] ^= (uint8_t)(i % 2); /* every second one fails */
        test_push(&c, s.p, s.n);
        assert_int_equal(envelope_identify(&list, chain_begin(&c), s.n, &arena, NULL, &value),
                         ERR_OK);
        if (envelope_open_scratch(ctx, &list, &value, NULL, AAD, &c, 0, s.n, &test_pool, &plain[i],
                                  &opened) == ERR_OK &&
            i % 2 == 0)
            assert_int_equal(plain[i].len, 200);
        chain_fini(&c);
    }
    assert_in_range(test_pool.live_bytes, 100000, 3 * LIMIT_SLAB_SIZE);
    for (size_t i = 0; i < ARRAY_LEN(plain); i++) {
        for (size_t k = 0; i % 2 == 0 && k < 200; k++)
            assert_int_equal(slice_data(plain[i])[k], plain_byte(k));
        slice_drop(&plain[i]);
    }
    arena_fini(&arena);
    ring_fini(&r);
}

static void what_is_not_written(void **state)
{
    static const char *const names[] = {"1key1:"};
    size_t n;

    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        struct provider none = {.kind = kinds[k], .name = "", .prefix = BYTES_LIT("k8s:enc:")};
        struct ring r;

        ring_init(&r, kinds[k], names, 1);
        assert_int_equal(envelope_sealed_len(&none, NULL, 1, &n), ERR_NO_WRITE_KEY);
        assert_int_equal(envelope_sealed_len(&r.p, NULL, 1u << 30, &n), ERR_MESSAGE_TOO_LARGE);
        assert_int_equal(envelope_sealed_len(&r.p, NULL, SIZE_MAX, &n), ERR_MESSAGE_TOO_LARGE);
        ring_fini(&r);
    }
}

static enum err no_random(void *arg, void *out, size_t n)
{
    (void)arg, (void)out, (void)n;
    return ERR_RANDOM;
}

static void no_randomness_no_value(void **state)
{
    static const char *const names[] = {"1key1:"};
    struct envelope_ctx *dry;
    struct chain c = {0};

    (void)state;
    assert_int_equal(envelope_ctx_new(no_random, NULL, &dry), ERR_OK);
    test_push(&c, (const uint8_t *)"value", 5);
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        struct sealed s;
        struct ring r;

        ring_init(&r, kinds[k], names, 1);
        assert_int_equal(envelope_seal(dry, &r.p, NULL, AAD, chain_begin(&c), 5, s.p), ERR_RANDOM);
        ring_fini(&r);
    }
    chain_fini(&c);
    envelope_ctx_free(dry);
}

static int setup(void **state)
{
    return test_setup(state) == 0 && envelope_ctx_new(test_random_endless, NULL, &ctx) == ERR_OK
               ? 0
               : -1;
}

static int teardown(void **state)
{
    envelope_ctx_free(ctx);
    return test_teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_and_cuts),
        cmocka_unit_test(key_order),
        cmocka_unit_test(one_name_twice),
        cmocka_unit_test(nested_names),
        cmocka_unit_test(several_providers),
        cmocka_unit_test(first_error_counts),
        cmocka_unit_test(earlier_error_in_place),
        cmocka_unit_test(damage),
        cmocka_unit_test(another_place),
        cmocka_unit_test(aes_key_lengths),
        cmocka_unit_test(small_values_share_slabs),
        cmocka_unit_test(what_is_not_written),
        cmocka_unit_test(no_randomness_no_value),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
