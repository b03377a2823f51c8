/* SPDX-License-Identifier: Apache-2.0 */
/* The life of the write DEK against what kube-apiserver's own code did
 * (golden/kmsv2-lifecycle.json), then the figures of polls, caches and expiry. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "kms/lifecycle_int.h"
#include "kms/text.h"

#define START_UNIX 1767225600 /* 2026-01-01T00:00:00Z, the start of the vectors' clock */

/* --- the vectors ------------------------------------------------------------------------------ */

struct wrapped {
    uint8_t v[2048];
    size_t n;
};

/* One process of the vectors. */
struct run {
    struct lifecycle lc;
    struct lifecycle_time now;
    int encrypt_calls;       /* in this step */
    int wrap_count;          /* makes wrapped DEKs differ */
    struct wrapped state;    /* what the lifecycle let us install last */
    struct wrapped seen[16]; /* different wrapped DEKs of writes, in order */
    int seen_count;
    char first_key_id[LIMIT_KEY_ID + 1]; /* of the first value written */
};

static const char *text(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));

    return s == NULL ? "" : s;
}

static size_t from_hex(const char *hex, uint8_t *out, size_t cap)
{
    size_t n = strlen(hex) / 2;

    assert_true(n <= cap);
    for (size_t i = 0; i < n; i++) {
        unsigned v;

        assert_int_equal(sscanf(hex + 2 * i, "%2x", &v), 1);
        out[i] = (uint8_t)v;
    }
    return n;
}

static enum grpc_status status_of(const char *name)
{
    return strcmp(name, "UNAVAILABLE") == 0 ? GRPC_UNAVAILABLE : GRPC_INTERNAL;
}

static void fill_wrapped(struct run *r, const json_t *encrypt, struct wrapped *out)
{
    if (json_object_get(encrypt, "ciphertext_hex") != NULL) {
        out->n = from_hex(text(encrypt, "ciphertext_hex"), out->v, sizeof out->v);
        return;
    }
    out->n = (size_t)snprintf((char *)out->v, sizeof out->v, "wrapped %d", r->wrap_count++);
}

static void do_encrypt(struct run *r, const json_t *encrypt)
{
    static uint8_t values[2][40000];
    struct dek_annotation annotations[2];
    const json_t *list = json_object_get(encrypt, "annotations");
    const char *code = text(encrypt, "grpc_code");
    struct wrapped w;
    struct dek_id id;
    char rpc[256];

    r->encrypt_calls++;
    if (code[0] != '\0') {
        kms_rpc_text(status_of(code), "no", rpc, sizeof rpc);
        lifecycle_on_wrap_error(&r->lc, r->now, rpc, "UID");
        return;
    }
    fill_wrapped(r, encrypt, &w);
    id = (struct dek_id){.type = DEK_HKDF_SEED,
                         .key_id = bytes_str(text(encrypt, "key_id")),
                         .wrapped = bytes_of(w.v, w.n),
                         .annotations = annotations};
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *a = json_array_get(list, i);
        size_t n = from_hex(text(a, "value_hex"), values[i], sizeof values[i]);

        annotations[i] = (struct dek_annotation){bytes_str(text(a, "key")), bytes_of(values[i], n)};
        id.annotation_count++;
    }
    if (lifecycle_on_wrapped(&r->lc, r->now, &id, "UID") != LIFECYCLE_INSTALL)
        return;
    r->state = w;
    lifecycle_installed(&r->lc, r->now);
}

static void do_check(struct run *r, const json_t *detail)
{
    const json_t *status = json_object_get(detail, "status");
    const char *code = text(status, "grpc_code");
    struct lifecycle_status s = {bytes_str(text(status, "version")),
                                 bytes_str(text(status, "healthz")),
                                 bytes_str(text(status, "key_id"))};
    char rpc[256];

    r->encrypt_calls = 0;
    lifecycle_begin(&r->lc, r->now);
    if (code[0] != '\0') {
        kms_rpc_text(status_of(code), "down", rpc, sizeof rpc);
        lifecycle_on_status_error(&r->lc, r->now, rpc);
    } else if (lifecycle_on_status(&r->lc, r->now, &s) == LIFECYCLE_WRAP) {
        do_encrypt(r, json_object_get(detail, "encrypt"));
    }
    assert_int_equal(r->lc.phase, LIFECYCLE_IDLE);
}

/* The number of the DEK that a write would carry now. */
static int dek_number(struct run *r)
{
    for (int i = 0; i < r->seen_count; i++) {
        if (bytes_eq(bytes_of(r->seen[i].v, r->seen[i].n), bytes_of(r->state.v, r->state.n)))
            return i + 1;
    }
    if (r->seen_count == 0)
        snprintf(r->first_key_id, sizeof r->first_key_id, "%.*s", (int)r->lc.key_id.n,
                 (const char *)r->lc.key_id.v);
    r->seen[r->seen_count++] = r->state;
    return r->seen_count;
}

static bool is_different(const char *id, const char *field)
{
    char line[256], file[64], got_id[64], got_field[64];
    bool found = false;
    FILE *f = fopen(GOLDEN_DIR "/DIFFERENCES", "r");

    assert_non_null(f);
    while (fgets(line, sizeof line, f) != NULL) {
        if (sscanf(line, "%63s %63s %63s", file, got_id, got_field) == 3 &&
            strcmp(file, "kmsv2-lifecycle.json") == 0 && strcmp(got_id, id) == 0 &&
            strcmp(got_field, field) == 0)
            found = true;
    }
    fclose(f);
    return found;
}

static void check_health(const struct run *r, const char *id, const json_t *expect)
{
    const char *want = text(expect, "health_error");
    static const char endpoint[] = "kms-provider-0: ";

    assert_int_equal(r->lc.is_healthy, json_is_true(json_object_get(expect, "healthy")));
    if (strncmp(want, endpoint, sizeof endpoint - 1) == 0)
        want += sizeof endpoint - 1;
    if (is_different(id, "health_error")) {
        assert_true(r->lc.why[0] != '\0');
        assert_string_not_equal(r->lc.why, want);
    } else {
        assert_string_equal(r->lc.why, want);
    }
}

/* As a key ring judges what it was told (keyring_write_key). */
static bool can_write(const struct lifecycle *lc, uint64_t now_ms)
{
    return lc->has_state && now_ms <= lc->expiry.ms;
}

static void check_step(struct run *r, const char *id, const json_t *expect)
{
    bool is_writable = can_write(&r->lc, r->now.ms);
    struct bytes key_id = lifecycle_key_id_bytes(&r->lc.key_id);
    const json_t *stale = json_object_get(expect, "read_stale");

    check_health(r, id, expect);
    assert_int_equal(r->encrypt_calls,
                     json_integer_value(json_object_get(expect, "encrypt_calls")));
    assert_int_equal(is_writable, json_is_true(json_object_get(expect, "write_ok")));
    if (is_writable) {
        assert_true(bytes_eq(key_id, bytes_str(text(expect, "key_id"))));
        assert_int_equal(dek_number(r), json_integer_value(json_object_get(expect, "dek_number")));
    }
    assert_int_equal(r->lc.has_state, json_is_true(json_object_get(expect, "read_ok")));
    if (stale != NULL)
        assert_int_equal(!bytes_eq(key_id, bytes_str(r->first_key_id)), json_is_true(stale));
}

static void golden(void **state)
{
    json_t *file = json_load_file(GOLDEN_DIR "/kmsv2-lifecycle.json", 0, NULL);
    json_t *vectors = json_object_get(file, "vectors");
    static struct run r;
    size_t steps = 0;
    char name[32];

    (void)state;
    assert_non_null(file);
    for (; steps < json_array_size(vectors); steps++) {
        const json_t *v = json_array_get(vectors, steps), *d = json_object_get(v, "detail");
        long long advance_s = json_integer_value(json_object_get(d, "advance_s"));

        if (json_integer_value(json_object_get(d, "step")) == 0) {
            snprintf(name, sizeof name, "lifevisible%d",
                     (int)json_integer_value(json_object_get(d, "sequence")));
            r = (struct run){.now = {1000, START_UNIX}};
            lifecycle_init(&r.lc, name);
        }
        r.now.ms += (uint64_t)advance_s * 1000;
        r.now.unix_s += advance_s;
        do_check(&r, d);
        check_step(&r, text(v, "id"), json_object_get(v, "expect"));
    }
    assert_int_equal(steps, 24);
    json_decref(file);
}

/* --- figures ---------------------------------------------------------------------------------- */

static const struct lifecycle_status good = {BYTES_LIT("v2"), BYTES_LIT("ok"), BYTES_LIT("A")};

static struct lifecycle_time at(uint64_t ms)
{
    return (struct lifecycle_time){ms, START_UNIX + (int64_t)(ms / 1000)};
}

static void install(struct lifecycle *lc, uint64_t ms)
{
    struct dek_id id = {.type = DEK_HKDF_SEED, .key_id = BYTES_LIT("A"), .wrapped = BYTES_LIT("w")};

    lifecycle_begin(lc, at(ms));
    assert_int_equal(lifecycle_on_status(lc, at(ms), &good), LIFECYCLE_WRAP);
    assert_int_equal(lifecycle_on_wrapped(lc, at(ms), &id, "u"), LIFECYCLE_INSTALL);
    lifecycle_installed(lc, at(ms));
}

static void nothing_before_the_first_check(void **state)
{
    struct lifecycle lc;

    (void)state;
    lifecycle_init(&lc, "p");
    assert_false(lc.is_healthy);
    assert_false(can_write(&lc, 0));
    assert_false(lifecycle_is_fresh(&lc, 0));
}

static void polls_and_result_cache(void **state)
{
    struct lifecycle lc;

    (void)state;
    lifecycle_init(&lc, "p");
    install(&lc, 5000);
    assert_int_equal(lifecycle_next_ms(&lc), 65000);
    assert_true(lifecycle_is_fresh(&lc, 24999));
    assert_false(lifecycle_is_fresh(&lc, 25000));
    lifecycle_begin(&lc, at(65000));
    lifecycle_on_status_error(&lc, at(68000), "x");
    assert_int_equal(lifecycle_next_ms(&lc), 75000);
    assert_true(lifecycle_is_fresh(&lc, 70999));
    assert_false(lifecycle_is_fresh(&lc, 71000));
}

static void expiry_starts_before_encrypt_and_ends_after_180_s(void **state)
{
    struct dek_id id = {.type = DEK_HKDF_SEED, .key_id = BYTES_LIT("A"), .wrapped = BYTES_LIT("w")};
    struct lifecycle lc;

    (void)state;
    lifecycle_init(&lc, "p");
    lifecycle_begin(&lc, at(0));
    assert_int_equal(lifecycle_on_status(&lc, at(1000), &good), LIFECYCLE_WRAP);
    assert_false(can_write(&lc, 1000));
    assert_int_equal(lifecycle_on_wrapped(&lc, at(3000), &id, "u"), LIFECYCLE_INSTALL);
    assert_false(can_write(&lc, 3000));
    lifecycle_installed(&lc, at(3000));
    assert_true(can_write(&lc, 181000));
    assert_false(can_write(&lc, 181001));
}

static void a_dek_that_cannot_be_made_changes_nothing(void **state)
{
    struct dek_id id = {.type = DEK_HKDF_SEED, .key_id = BYTES_LIT("B"), .wrapped = BYTES_LIT("w")};
    struct lifecycle_status b = {BYTES_LIT("v2"), BYTES_LIT("ok"), BYTES_LIT("B")};
    struct lifecycle lc;

    (void)state;
    lifecycle_init(&lc, "p");
    install(&lc, 0);
    lifecycle_begin(&lc, at(60000));
    assert_int_equal(lifecycle_on_status(&lc, at(60000), &b), LIFECYCLE_WRAP);
    assert_int_equal(lifecycle_on_wrapped(&lc, at(60000), &id, "u"), LIFECYCLE_INSTALL);
    lifecycle_on_wrap_error(&lc, at(60000), "out of memory", "u");
    assert_false(lc.is_healthy);
    assert_true(bytes_eq(lifecycle_key_id_bytes(&lc.key_id), BYTES_LIT("A")));
    assert_int_equal(lc.expiry.ms, 180000);
}

static void texts_of_a_peer_are_tamed_and_cut(void **state)
{
    static uint8_t big[100000];
    struct lifecycle_status s = {bytes_of(big, sizeof big), bytes_of(big, sizeof big),
                                 bytes_of(big, sizeof big)};
    struct lifecycle lc;

    (void)state;
    memset(big, '"', sizeof big);
    memset(big + 20, '\n', 20);
    lifecycle_init(&lc, "p");
    lifecycle_begin(&lc, at(0));
    assert_int_equal(lifecycle_on_status(&lc, at(0), &s), LIFECYCLE_NOTHING);
    assert_false(lc.is_healthy);
    assert_true(strlen(lc.why) < sizeof lc.why);
    assert_null(strchr(lc.why, '\n'));
    assert_non_null(strstr(lc.why, "healthz status: ''''"));
    assert_string_equal(lc.version, "");
}

static void two_versions_are_known(void **state)
{
    static const struct {
        const char *version;
        bool is_known;
    } cases[] = {{"v2", true},       {"v2beta1", true},  {"", false},         {"v", false},
                 {"v1", false},      {"v1beta1", false}, {"v2 ", false},      {"v20", false},
                 {"V2", false},      {"v2beta", false},  {"v2beta11", false}, {"v2beta2", false},
                 {"v2alpha1", false}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct lifecycle_status s = good;
        struct lifecycle lc;

        s.version = bytes_str(cases[i].version);
        lifecycle_init(&lc, "p");
        lifecycle_begin(&lc, at(0));
        assert_int_equal(lifecycle_on_status(&lc, at(0), &s), LIFECYCLE_WRAP);
        assert_int_equal(lc.problem_count, cases[i].is_known ? 0 : 1);
    }
}

static void an_invalid_version_is_never_the_remembered_one(void **state)
{
    struct lifecycle_status s = {BYTES_LIT("v2\0"), BYTES_LIT("ok"), BYTES_LIT("A")};
    struct lifecycle lc;

    (void)state;
    lifecycle_init(&lc, "p");
    install(&lc, 0);
    lifecycle_begin(&lc, at(1));
    assert_int_equal(lifecycle_on_status(&lc, at(1), &s), LIFECYCLE_EXTENDED);
    assert_false(lc.is_healthy);
    lifecycle_begin(&lc, at(2));
    assert_int_equal(lifecycle_on_status(&lc, at(2), &good), LIFECYCLE_EXTENDED);
    assert_true(lc.is_healthy);
    assert_string_equal(lc.why, "");
}

/* KMS v1: no key of its own, only whether it was ever reached and how the last check went. */
static void a_v1_plugin_is_reached_or_not(void **state)
{
    struct lifecycle lc;

    (void)state;
    lifecycle_init(&lc, "old");
    lifecycle_begin(&lc, at(0));
    lifecycle_v1_end(&lc, at(1), "encrypt", "no");
    assert_false(lc.has_state);
    assert_false(lc.is_healthy);
    assert_string_equal(
        lc.why, "failed to perform encrypt section of the healthz check for KMS Provider old, "
                "error: no");
    lifecycle_begin(&lc, at(11));
    lifecycle_v1_reached(&lc);
    lifecycle_v1_end(&lc, at(12), "decrypt", NULL);
    assert_true(lc.has_state && lc.is_healthy);
    assert_string_equal(lc.why, "");
    lifecycle_begin(&lc, at(40));
    lifecycle_v1_end(&lc, at(41), "decrypt", "no");
    assert_true(lc.has_state);
    assert_false(lc.is_healthy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden),
        cmocka_unit_test(nothing_before_the_first_check),
        cmocka_unit_test(polls_and_result_cache),
        cmocka_unit_test(expiry_starts_before_encrypt_and_ends_after_180_s),
        cmocka_unit_test(a_dek_that_cannot_be_made_changes_nothing),
        cmocka_unit_test(texts_of_a_peer_are_tamed_and_cut),
        cmocka_unit_test(two_versions_are_known),
        cmocka_unit_test(an_invalid_version_is_never_the_remembered_one),
        cmocka_unit_test(a_v1_plugin_is_reached_or_not),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
