/* SPDX-License-Identifier: Apache-2.0 */
/* Messages under the providers that have their keys in the configuration: written without a key of
 * the key ring; read in place and aside; values that arrive sealed. */
#include <stdio.h>

#include "fixture.h"

static struct fix fix;

/* local[i] is kinds[i]'s provider, two keys each; old[i] is the same with the second key alone. */
static const enum provider_kind kinds[] = {PROVIDER_AESGCM, PROVIDER_AESCBC, PROVIDER_SECRETBOX};
#define KINDS ARRAY_LEN(kinds)
#define KEY "/registry/secrets/default/a"

static struct local_key keys[KINDS][2];
static struct provider local[KINDS], old[KINDS];
/* Each kind first, the others behind it. */
static const struct provider *first[KINDS][KINDS + 1];
static struct provider_list lists[KINDS];
static struct etcd_rules *rules[KINDS];
static struct etcd_rules *fixture_rules;

static void provider_init(size_t i)
{
    static const char *const prefixes[] = {
        "k8s:enc:aesgcm:v1:", "k8s:enc:aescbc:v1:", "k8s:enc:secretbox:v1:"};
    uint8_t key[32];

    for (size_t k = 0; k < 2; k++) {
        memset(key, (int)(1 + 16 * i + k), sizeof key);
        keys[i][k].prefix = bytes_str(k == 0 ? "new:" : "old:");
        assert_int_equal(dek_new_local(kinds[i], bytes_of(key, sizeof key), &keys[i][k].dek),
                         ERR_OK);
    }
    local[i] = (struct provider){.kind = kinds[i],
                                 .name = "",
                                 .prefix = bytes_str(prefixes[i]),
                                 .keys = keys[i],
                                 .key_count = 2};
    old[i] = local[i];
    old[i].keys = &keys[i][1];
    old[i].key_count = 1;
}

static int setup(void **state)
{
    (void)state;
    fix_init(&fix);
    fixture_rules = fix.rules;
    for (size_t i = 0; i < KINDS; i++)
        provider_init(i);
    for (size_t i = 0; i < KINDS; i++) {
        for (size_t k = 0; k < KINDS; k++)
            first[i][k] = &local[(i + k) % KINDS];
        first[i][KINDS] = &fix.kms;
        lists[i] = (struct provider_list){first[i], KINDS + 1, "secrets"};
        const struct etcd_rule rule = {BYTES_LIT("/registry/secrets"), false, &lists[i]};

        assert_int_equal(etcd_rules_new(&rule, 1, &rules[i]), ERR_OK);
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fix.rules = fixture_rules;
    for (size_t i = 0; i < KINDS; i++) {
        etcd_rules_free(rules[i]);
        dek_drop(keys[i][0].dek);
        dek_drop(keys[i][1].dek);
    }
    fix_fini(&fix);
    return 0;
}

static uint8_t plain_byte(size_t i)
{
    return (uint8_t)(i * 31 + 7);
}

static struct buf plain_of(size_t n)
{
    struct buf b = buf_of("", 0);

    for (size_t i = 0; i < n; i++) {
        uint8_t byte = plain_byte(i);

        buf_add(&b, &byte, 1);
    }
    return b;
}

static struct buf seal(const struct provider *p, const char *key, size_t n)
{
    struct buf plain = plain_of(n), b = {0};
    struct chain in;
    size_t len;

    fix_chain(&fix, plain.p, n, NULL, 0, &in);
    assert_int_equal(envelope_sealed_len(p, NULL, n, &len), ERR_OK);
    b.p = malloc(len);
    b.n = len;
    assert_non_null(b.p);
    assert_int_equal(envelope_seal(fix.ctx, p, NULL, bytes_str(key), chain_begin(&in), n, b.p),
                     ERR_OK);
    chain_fini(&in);
    buf_free(&plain);
    return b;
}

static void check_opens_by(const struct provider *p, const char *key, const uint8_t *value,
                           size_t n, size_t plain_len)
{
    const struct provider_list list = {&p, 1, "secrets"};
    struct envelope_opened opened;
    struct arena arena = {0};
    struct envelope_value v;
    struct slice plain;
    struct chain in;

    fix_chain(&fix, value, n, NULL, 0, &in);
    assert_int_equal(envelope_identify(&list, chain_begin(&in), n, &arena, NULL, &v), ERR_OK);
    assert_int_equal(envelope_open_scratch(fix.ctx, &list, &v, NULL, bytes_str(key), &in, 0, n,
                                           &fix.pool, &plain, &opened),
                     ERR_OK);
    assert_false(opened.stale);
    assert_int_equal(plain.len, plain_len);
    for (size_t i = 0; i < plain_len; i++)
        assert_int_equal(slice_data(plain)[i], plain_byte(i));
    slice_drop(&plain);
    chain_fini(&in);
    arena_fini(&arena);
}

static struct buf put_of(const struct buf *value)
{
    struct buf b = buf_of("", 0);

    buf_str(&b, 1, KEY);
    if (value->n > 0)
        buf_field(&b, 2, value->p, value->n);
    buf_varint(&b, 3, 77);
    return b;
}

static void put(const struct buf *value, size_t cuts, struct run *r)
{
    struct buf b = put_of(value);
    struct chain msg;

    fix_chain_random(&fix, b.p, b.n, cuts, &msg);
    fix_request(&fix, ETCD_PUT, &msg, NULL, r);
    buf_free(&b);
}

/* The value of a Put of KEY as put_of makes it. */
static struct bytes value_of(const struct buf *b)
{
    size_t at = 2 + sizeof KEY - 1, len = 0;
    uint32_t shift = 0;

    assert_int_equal(b->p[at], 2 << 3 | 2);
    do {
        at++;
        len |= (size_t)(b->p[at] & 0x7f) << shift;
        shift += 7;
    } while (b->p[at] & 0x80);
    return bytes_of(b->p + at + 1, len);
}

/* The first provider's first key seals; the key ring isn't asked. */
static void puts_are_sealed(void **state)
{
    static const size_t lens[] = {0, 1, 15, 16, 17, 500, 600, 70000};

    (void)state;
    for (size_t i = 0; i < KINDS; i++) {
        fix.rules = rules[i];
        for (size_t k = 0; k < ARRAY_LEN(lens); k++) {
            for (size_t cuts = 0; cuts < 40; cuts += 13) {
                struct buf value = plain_of(lens[k]);
                struct bytes stored;
                struct run r;

                put(&value, cuts, &r);
                assert_int_equal(r.verdict, ETCD_EDIT);
                assert_int_equal(r.err, ERR_OK);
                assert_int_equal(r.needs, 0);
                assert_int_equal(r.sealed, 1);
                stored = value_of(&r.out);
                assert_true(bytes_has_prefix(stored, local[i].prefix));
                check_opens_by(&local[i], KEY, stored.p, stored.n, lens[k]);
                assert_memory_equal(r.out.p + r.out.n - 2, "\x18\x4d", 2); /* lease */
                run_free(&r);
                buf_free(&value);
            }
        }
    }
}

static void add_kv(struct buf *answer, const char *key, const struct buf *value)
{
    struct buf kv = buf_of("", 0);

    buf_str(&kv, 1, key);
    buf_varint(&kv, 3, 12);
    buf_field(&kv, 5, value->p, value->n);
    buf_sub(answer, 2, &kv);
}

/* The answer to a Range of secrets with a value of each kind, new and old key, several sizes; or as
 * it should come out. */
static struct buf range_of(bool is_sealed)
{
    static const size_t lens[] = {0, 5, 600, 66000};
    struct buf b = buf_of("", 0);

    buf_str(&b, 1, "header");
    for (size_t i = 0; i < KINDS * 2 * ARRAY_LEN(lens); i++) {
        size_t kind = i % KINDS, n = lens[i / (2 * KINDS)];
        struct buf value;
        char key[64];

        snprintf(key, sizeof key, "/registry/secrets/default/%zu", i);
        value =
            is_sealed ? seal(i / KINDS % 2 == 0 ? &local[kind] : &old[kind], key, n) : plain_of(n);
        if (value.n > 0) {
            add_kv(&b, key, &value);
        } else { /* an empty value is left out */
            struct buf kv = buf_of("", 0);

            buf_str(&kv, 1, key);
            buf_varint(&kv, 3, 12);
            buf_sub(&b, 2, &kv);
        }
        buf_free(&value);
    }
    buf_varint(&b, 4, 24);
    return b;
}

static void answers_are_opened(void **state)
{
    struct buf in = range_of(true), want = range_of(false);

    (void)state;
    for (size_t i = 0; i < KINDS; i++) {
        fix.rules = rules[i];
        for (size_t cuts = 0; cuts < 200; cuts += 33) {
            struct etcd_ask ask = {0};
            struct chain msg;
            struct run r;

            fix_ask(&ask, "/registry/secrets/", "/registry/secrets0", false);
            fix_chain_random(&fix, in.p, in.n, cuts, &msg);
            fix_answer(&fix, ETCD_RANGE, &msg, &ask, &r);
            assert_int_equal(r.verdict, ETCD_EDIT);
            assert_int_equal(r.err, ERR_OK);
            assert_int_equal(r.needs, 0);
            assert_int_equal(r.opened, 24);
            assert_int_equal(r.out.n, want.n);
            assert_memory_equal(r.out.p, want.p, want.n);
            run_free(&r);
            etcd_ask_fini(&ask);
        }
    }
    buf_free(&in);
    buf_free(&want);
}

/* One damaged value, and nothing of the answer comes out. */
static void a_damaged_value_fails_the_answer(void **state)
{
    static const enum err want[] = {ERR_AUTH_FAILED, ERR_BAD_BLOCK_SIZE, ERR_AUTH_FAILED};

    (void)state;
    for (size_t i = 0; i < KINDS; i++) {
        struct buf good = seal(&local[0], "/registry/secrets/default/a", 700);
        struct buf bad = seal(&local[i], "/registry/secrets/default/b", 700);
        struct buf b = buf_of("", 0);
        struct etcd_ask ask = {0};
        struct chain msg;
        struct run r;

        bad.n--;
        add_kv(&b, "/registry/secrets/default/a", &good);
        add_kv(&b, "/registry/secrets/default/b", &bad);
        fix.rules = rules[0];
        fix_ask(&ask, "/registry/secrets/", "/registry/secrets0", false);
        fix_chain_random(&fix, b.p, b.n, 5, &msg);
        fix_answer(&fix, ETCD_RANGE, &msg, &ask, &r);
        assert_int_equal(r.err, want[i]);
        assert_string_equal(r.bad_key, "/registry/secrets/default/b");
        assert_int_equal(r.verdict == ETCD_EDIT ? r.out.n : 0, 0);
        run_free(&r);
        etcd_ask_fini(&ask);
        buf_free(&good), buf_free(&bad), buf_free(&b);
    }
}

/* A value that arrives sealed stays when its tag proves it; aescbc proves nothing and is sealed
 * anew with the first provider's key. */
static void sealed_puts(void **state)
{
    (void)state;
    for (size_t list = 0; list < KINDS; list++) {
        fix.rules = rules[list];
        for (size_t i = 0; i < KINDS; i++) {
            struct buf value = seal(&old[i], KEY, 300);
            struct bytes stored;
            struct run r;

            put(&value, 7, &r);
            assert_int_equal(r.verdict, ETCD_EDIT);
            assert_int_equal(r.err, ERR_OK);
            assert_int_equal(r.needs, 0);
            stored = value_of(&r.out);
            if (kinds[i] == PROVIDER_AESCBC) {
                assert_int_equal(r.sealed, 1);
                assert_true(bytes_has_prefix(stored, local[list].prefix));
                check_opens_by(&local[list], KEY, stored.p, stored.n, 300);
            } else {
                assert_int_equal(r.sealed, 0);
                assert_true(bytes_eq(stored, bytes_of(value.p, value.n)));
            }
            run_free(&r);
            /* a byte too few */
            value.n--;
            put(&value, 7, &r);
            assert_int_equal(r.err, ERR_REQ_SEALED_VALUE);
            assert_int_equal(r.verdict == ETCD_EDIT ? r.out.n : 0, 0);
            run_free(&r);
            buf_free(&value);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(puts_are_sealed),
        cmocka_unit_test(answers_are_opened),
        cmocka_unit_test(a_damaged_value_fails_the_answer),
        cmocka_unit_test(sealed_puts),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
