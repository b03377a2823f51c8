/* SPDX-License-Identifier: Apache-2.0 */
/* Published known answers (tests/vectors), sealed and opened as values of a provider: whole, and
 * cut at many places; once as usual and once with the ways of FIPS mode. The counts are asserted,
 * so a file that was cut short fails. */
#include <ctype.h>
#include <stdio.h>

#include <openssl/provider.h>

#include "base/fips.h"
#include "envelope/envelope_int.h"
#include "envelope_test.h"

#include "fips_provider.h"

#define FIELDS_MAX 7
#define LINE_MAX_LEN 8192

struct fact {
    const char *verdict;
    struct bytes f[FIELDS_MAX]; /* the other fields, decoded */
    char line[LINE_MAX_LEN];
    uint8_t room[LINE_MAX_LEN];
};

static struct bytes decode(const char *hex, uint8_t **at)
{
    struct bytes out = bytes_of(*at, 0);

    if (strcmp(hex, "-") == 0)
        return out;
    for (; hex[0] != '\0' && hex[1] != '\0'; hex += 2) {
        unsigned byte;

        assert_true(isxdigit((unsigned char)hex[0]) && isxdigit((unsigned char)hex[1]));
        assert_int_equal(sscanf(hex, "%2x", &byte), 1);
        (*at)[out.n++] = (uint8_t)byte;
    }
    assert_int_equal(hex[0], '\0');
    *at += out.n;
    return out;
}

/* The next line that is no comment. has_verdict: its first field is a word. */
static bool next(FILE *file, struct fact *fact, size_t fields, bool has_verdict)
{
    uint8_t *at = fact->room;
    char *save, *word;

    do {
        if (fgets(fact->line, sizeof fact->line, file) == NULL)
            return false;
        assert_non_null(strchr(fact->line, '\n')); /* whole */
    } while (fact->line[0] == '#');
    word = strtok_r(fact->line, " \n", &save);
    fact->verdict = has_verdict ? word : "valid";
    if (has_verdict)
        word = strtok_r(NULL, " \n", &save);
    for (size_t i = 0; i < fields; i++) {
        assert_non_null(word);
        fact->f[i] = decode(word, &at);
        word = strtok_r(NULL, " \n", &save);
    }
    assert_null(word);
    return true;
}

static FILE *open_vectors(const char *name)
{
    char path[4096];
    FILE *file;

    snprintf(path, sizeof path, GOLDEN_DIR "/../vectors/%s.txt", name);
    file = fopen(path, "r");
    assert_non_null(file);
    return file;
}

/* --- values ----------------------------------------------------------------------------------- */

struct cipher {
    const char *file;
    enum provider_kind kind;
    const char *prefix;
    size_t fields;
    /* Places in the line. */
    size_t aad, text, data[2]; /* data: in the order of the stored value; aad, data[1] 0: none */
    unsigned valid, invalid, blocks;
};

static const struct cipher ciphers[] = {
    {"gcm", PROVIDER_AESGCM, "k8s:enc:aesgcm:v1:", 6, 2, 3, {4, 5}, 71, 68, 0},
    {"cbc", PROVIDER_AESCBC, "k8s:enc:aescbc:v1:", 4, 0, 2, {3, 0}, 12, 11, 30},
    {"secretbox", PROVIDER_SECRETBOX, "k8s:enc:secretbox:v1:", 4, 0, 2, {3, 0}, 2, 20, 0},
};

struct value {
    struct provider p;
    struct local_key key;
    struct bytes aad, text;
    uint8_t stored[LINE_MAX_LEN];
    size_t head, n;
};

static void append(struct value *v, struct bytes b)
{
    assert_in_range(v->n + b.n, 0, sizeof v->stored);
    memcpy(v->stored + v->n, b.p, b.n);
    v->n += b.n;
}

static void value_init(struct value *v, const struct cipher *c, const struct fact *fact)
{
    v->key = (struct local_key){.prefix = BYTES_LIT("k:")};
    assert_int_equal(dek_new_local(c->kind, fact->f[0], &v->key.dek), ERR_OK);
    v->p = (struct provider){.kind = c->kind,
                             .name = "",
                             .prefix = bytes_str(c->prefix),
                             .keys = &v->key,
                             .key_count = 1};
    v->aad = c->aad > 0 ? fact->f[c->aad] : BYTES_LIT("/registry/secrets/a/b");
    v->text = fact->f[c->text];
    v->n = 0;
    append(v, v->p.prefix);
    append(v, v->key.prefix);
    v->head = v->n;
    append(v, fact->f[1]);
    append(v, fact->f[c->data[0]]);
    if (c->data[1] > 0)
        append(v, fact->f[c->data[1]]);
}

static void check_seal(struct envelope_ctx *ctx, const struct value *v, const struct fact *fact,
                       size_t step, bool has_padding)
{
    static uint8_t out[LINE_MAX_LEN];
    struct chain c = {0};
    size_t n;

    test_slice_up(&c, v->text, step);
    test_random_left = fact->f[1];
    assert_int_equal(envelope_sealed_len(&v->p, NULL, v->text.n, &n), ERR_OK);
    assert_int_equal(n, v->n + (has_padding ? 0 : ENVELOPE__BLOCK_LEN));
    assert_int_equal(envelope_seal(ctx, &v->p, NULL, v->aad, chain_begin(&c), v->text.n, out),
                     ERR_OK);
    assert_memory_equal(out, v->stored, v->n);
    assert_int_equal(test_random_left.n, 0);
    chain_fini(&c);
}

static void check_open(struct envelope_ctx *ctx, const struct value *v, size_t step, bool is_valid)
{
    const struct provider *const one[] = {&v->p};
    const struct provider_list list = {one, 1, "secrets"};
    struct arena arena = {0};
    struct envelope_value found;
    struct envelope_opened opened;
    struct chain c = {0};
    struct slice out = {0};
    enum err e;

    test_slice_up(&c, bytes_of(v->stored, v->n), step);
    e = envelope_identify(&list, chain_begin(&c), v->n, &arena, NULL, &found);
    if (e == ERR_OK)
        e = envelope_open_scratch(ctx, &list, &found, NULL, v->aad, &c, 0, v->n, &test_pool, &out,
                                  &opened);
    if (is_valid) {
        assert_int_equal(e, ERR_OK);
        assert_int_equal(out.len, v->text.n);
        if (out.len > 0)
            assert_memory_equal(slice_bytes(out).p, v->text.p, out.len);
    } else {
        assert_int_not_equal(e, ERR_OK);
        assert_null(out.slab);
    }
    slice_drop(&out);
    chain_fini(&c);
    arena_fini(&arena);
}

static void check_fact(struct envelope_ctx *ctx, const struct cipher *c, const struct fact *fact)
{
    static const size_t steps[] = {1, 7, 16, 33, LINE_MAX_LEN};
    static struct value v;
    bool has_padding = strcmp(fact->verdict, "blocks") != 0;
    bool is_valid = strcmp(fact->verdict, "invalid") != 0;

    value_init(&v, c, fact);
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        if (is_valid)
            check_seal(ctx, &v, fact, steps[i], has_padding);
        if (has_padding)
            check_open(ctx, &v, steps[i], is_valid);
    }
    dek_drop(v.key.dek);
}

static void check_cipher(const struct cipher *c)
{
    static struct fact fact;
    unsigned valid = 0, invalid = 0, blocks = 0;
    struct envelope_ctx *ctx;
    FILE *file = open_vectors(c->file);

    assert_int_equal(envelope_ctx_new(test_random, NULL, &ctx), ERR_OK);
    while (next(file, &fact, c->fields, true)) {
        valid += strcmp(fact.verdict, "valid") == 0;
        invalid += strcmp(fact.verdict, "invalid") == 0;
        blocks += strcmp(fact.verdict, "blocks") == 0;
        check_fact(ctx, c, &fact);
    }
    fclose(file);
    envelope_ctx_free(ctx);
    assert_int_equal(valid, c->valid);
    assert_int_equal(invalid, c->invalid);
    assert_int_equal(blocks, c->blocks);
}

static void usual(void **state)
{
    (void)state;
    assert_false(fips_is_on());
    for (size_t i = 0; i < ARRAY_LEN(ciphers); i++)
        check_cipher(&ciphers[i]);
}

static void hkdf(void **state)
{
    static struct fact fact;
    void *derived = secret_alloc(envelope__hmac_size());
    uint8_t got[ENVELOPE__KEY_MAX];
    struct envelope__kdf kdf;
    FILE *file = open_vectors("hkdf");
    unsigned count = 0;

    (void)state;
    assert_non_null(derived);
    assert_int_equal(envelope__kdf_init(&kdf), ERR_OK);
    for (; next(file, &fact, 3, false); count++) {
        envelope__hmac_init(derived, fact.f[0]);
        envelope__hkdf_expand(derived, fact.f[1], got);
        assert_int_equal(fact.f[2].n, sizeof got);
        assert_memory_equal(got, fact.f[2].p, sizeof got);
        if (fact.f[1].n == 0)
            continue; /* the contract of kdf.c's way */
        assert_int_equal(envelope__kdf_expand(&kdf, fact.f[0], fact.f[1], got), ERR_OK);
        assert_memory_equal(got, fact.f[2].p, sizeof got);
    }
    assert_int_equal(count, 3);
    fclose(file);
    envelope__kdf_fini(&kdf);
    secret_free(derived, envelope__hmac_size());
}

static void fips(void **state)
{
    const char *missing;
    OSSL_PROVIDER *provider;

    (void)state;
    assert_int_equal(OSSL_PROVIDER_add_builtin(NULL, "fips", fake_fips_init), 1);
    provider = OSSL_PROVIDER_load(NULL, "fips");
    assert_non_null(provider);
    assert_int_equal(EVP_set_default_properties(NULL, "fips=yes"), 1);
    assert_int_equal(fips_init(&missing), ERR_OK);
    for (size_t i = 0; i < ARRAY_LEN(ciphers); i++)
        if (provider_kind_traits(ciphers[i].kind)->is_fips)
            check_cipher(&ciphers[i]);
    hkdf(state);
    OSSL_PROVIDER_unload(provider);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(usual),
        cmocka_unit_test(hkdf),
        cmocka_unit_test(fips),
    };

    return cmocka_run_group_tests(tests, test_setup, test_teardown);
}
