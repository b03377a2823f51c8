/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/secret.h"
#include "kms/codec_int.h"
#include "kms_v2.pb-c.h"

static enum err status_err(struct bytes body)
{
    struct codec_status s;
    enum err e = codec_status_read(body, &s);

    if (e == ERR_OK)
        codec_status_fini(&s);
    return e;
}

static void status(void **state)
{
    struct codec_status s;

    (void)state;
    assert_int_equal(codec_status_read(BYTES_LIT("\x0a\x02v2\x12\x02ok\x1a\x01"
                                                 "A"),
                                       &s),
                     ERR_OK);
    assert_true(bytes_eq(s.s.version, BYTES_LIT("v2")));
    assert_true(bytes_eq(s.s.healthz, BYTES_LIT("ok")));
    assert_true(bytes_eq(s.s.key_id, BYTES_LIT("A")));
    codec_status_fini(&s);

    assert_int_equal(codec_status_read((struct bytes){0}, &s), ERR_OK);
    assert_int_equal(s.s.version.n + s.s.healthz.n + s.s.key_id.n, 0);
    codec_status_fini(&s);
}

static void last_of_a_repeated_string_counts_and_unknown_fields_pass(void **state)
{
    struct codec_status s;

    (void)state;
    assert_int_equal(codec_status_read(BYTES_LIT("\x1a\x01"
                                                 "A\x22\x01x\x1a\x01"
                                                 "B"),
                                       &s),
                     ERR_OK);
    assert_true(bytes_eq(s.s.key_id, BYTES_LIT("B")));
    codec_status_fini(&s);
}

static void malformed_answers_are_refused(void **state)
{
    static const struct bytes bad[] = {
        BYTES_LIT("\x0a"),       /* a tag and nothing */
        BYTES_LIT("\x0a\x05v2"), /* cut */
        BYTES_LIT("\x07"),       /* wire type 7 */
        BYTES_LIT("\x00"),       /* field 0 */
        BYTES_LIT("\x1a\x02"
                  "A\0"),              /* NUL: would be cut to "A" */
        BYTES_LIT("\x1a\x01\xff"),     /* not UTF-8 */
        BYTES_LIT("\x1a\x02\xc0\x80"), /* overlong NUL */
        BYTES_LIT("\x1a\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01"),
        BYTES_LIT("\x1a\xff\xff\xff\xff\x0f"
                  "A"),
        BYTES_LIT("\x18\x01"), /* key_id as a varint */
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(status_err(bad[i]), ERR_KMS_ERROR);
}

static void an_answer_over_the_limit_is_refused(void **state)
{
    uint8_t *big = calloc(1, CODEC_ANSWER_MAX + 1);

    (void)state;
    assert_non_null(big);
    assert_int_equal(status_err(bytes_of(big, CODEC_ANSWER_MAX + 1)), ERR_KMS_ERROR);
    free(big);
}

static void wrapped_with_annotations_sorted(void **state)
{
    struct codec_wrapped w;

    (void)state;
    assert_int_equal(codec_wrapped_read(BYTES_LIT("\x0a\x03wwt\x12\x01"
                                                  "A"
                                                  "\x1a\x08\x0a\x03z.a\x12\x01"
                                                  "1"
                                                  "\x1a\x08\x0a\x03"
                                                  "a.b\x12\x01"
                                                  "2"
                                                  "\x1a\x05\x0a\x03z.a"),
                                        &w),
                     ERR_OK);
    assert_int_equal(w.id.type, DEK_HKDF_SEED);
    assert_true(bytes_eq(w.id.wrapped, BYTES_LIT("wwt")));
    assert_true(bytes_eq(w.id.key_id, BYTES_LIT("A")));
    assert_int_equal(w.id.annotation_count, 2);
    assert_true(bytes_eq(w.id.annotations[0].key, BYTES_LIT("a.b")));
    assert_true(bytes_eq(w.id.annotations[0].value, BYTES_LIT("2")));
    assert_true(bytes_eq(w.id.annotations[1].key, BYTES_LIT("z.a")));
    assert_int_equal(w.id.annotations[1].value.n, 0); /* the last counts, and it is empty */
    codec_wrapped_fini(&w);
}

static void annotation_keys_with_nul_are_refused(void **state)
{
    struct codec_wrapped w;

    (void)state;
    assert_int_equal(codec_wrapped_read(BYTES_LIT("\x1a\x07\x0a\x05"
                                                  "a.b\0x"),
                                        &w),
                     ERR_KMS_ERROR);
    /* in a value it is just a byte */
    assert_int_equal(codec_wrapped_read(BYTES_LIT("\x1a\x05\x12\x03\0\xff\0"), &w), ERR_OK);
    assert_int_equal(w.id.annotation_count, 1);
    assert_int_equal(w.id.annotations[0].value.n, 3);
    codec_wrapped_fini(&w);
}

static void secrets(void **state)
{
    struct codec_secret s;

    (void)state;
    assert_int_equal(codec_secret_read(BYTES_LIT("\x0a\x03\0\xff\x01"), &s), ERR_OK);
    assert_true(bytes_eq(s.secret, BYTES_LIT("\0\xff\x01")));
    codec_secret_fini(&s);
    assert_int_equal(codec_secret_read((struct bytes){0}, &s), ERR_OK);
    assert_int_equal(s.secret.n, 0);
    codec_secret_fini(&s);
    assert_int_equal(codec_secret_read(BYTES_LIT("\x0a\x04\0"), &s), ERR_KMS_ERROR);
}

static void encrypt_request(void **state)
{
    struct codec_request r;

    (void)state;
    assert_int_equal(codec_encrypt_write(BYTES_LIT("\0seed"), "uid", &r), ERR_OK);
    assert_true(r.is_secret);
    assert_true(bytes_eq(codec_request_bytes(&r), BYTES_LIT("\x0a\x05\0seed\x12\x03uid")));
    codec_request_fini(&r);
}

static void decrypt_request(void **state)
{
    struct dek_annotation a[] = {{BYTES_LIT("a.b"), BYTES_LIT("\0\x01")},
                                 {BYTES_LIT("c.d"), BYTES_LIT("")}};
    struct dek_id id = {.type = DEK_AES_GCM_KEY,
                        .key_id = BYTES_LIT("key"),
                        .wrapped = BYTES_LIT("\0w"),
                        .annotations = a,
                        .annotation_count = 2};
    struct codec_request r;
    V2__DecryptRequest *m;

    (void)state;
    assert_int_equal(codec_decrypt_write(&id, "uid", &r), ERR_OK);
    m = v2__decrypt_request__unpack(NULL, r.n, r.p);
    assert_non_null(m);
    assert_string_equal(m->key_id, "key");
    assert_string_equal(m->uid, "uid");
    assert_int_equal(m->ciphertext.len, 2);
    assert_memory_equal(m->ciphertext.data, "\0w", 2);
    assert_int_equal(m->n_annotations, 2);
    assert_string_equal(m->annotations[0]->key, "a.b");
    assert_memory_equal(m->annotations[0]->value.data, "\0\x01", 2);
    assert_string_equal(m->annotations[1]->key, "c.d");
    assert_int_equal(m->annotations[1]->value.len, 0);
    v2__decrypt_request__free_unpacked(m, NULL);
    codec_request_fini(&r);
}

static void a_key_id_with_nul_cannot_be_said(void **state)
{
    struct dek_id id = {.key_id = BYTES_LIT("A\0B"), .wrapped = BYTES_LIT("w")};
    struct codec_request r;

    (void)state;
    assert_int_equal(codec_decrypt_write(&id, "uid", &r), ERR_KMS_ERROR);
}

static int group_setup(void **state)
{
    (void)state;
    return secret_init() == ERR_OK ? 0 : -1;
}

/* --- KMS v1: bytes written out by hand from the published field numbers --- */

static void check_request(struct codec_request *r, struct bytes want)
{
    assert_true(bytes_eq(codec_request_bytes(r), want));
    codec_request_fini(r);
}

static void v1_requests(void **state)
{
    struct codec_request r;

    (void)state;
    assert_int_equal(codec_v1_version_write(&r), ERR_OK);
    check_request(&r, BYTES_LIT("\x0a\x07v1beta1"));
    assert_int_equal(codec_v1_encrypt_write(BYTES_LIT("dek"), &r), ERR_OK);
    assert_true(r.is_secret);
    check_request(&r, BYTES_LIT("\x0a\x07v1beta1\x12\x03"
                                "dek"));
    assert_int_equal(codec_v1_decrypt_write(BYTES_LIT("w"), &r), ERR_OK);
    check_request(&r, BYTES_LIT("\x0a\x07v1beta1\x12\x01w"));
    /* Nothing was wrapped: passed on as it is. */
    assert_int_equal(codec_v1_decrypt_write((struct bytes){0}, &r), ERR_OK);
    check_request(&r, BYTES_LIT("\x0a\x07v1beta1"));
}

static void v1_answers(void **state)
{
    struct codec_v1_answer a;

    (void)state;
    assert_int_equal(codec_v1_version_read(BYTES_LIT("\x0a\x07v1beta1\x12\x01x"), &a), ERR_OK);
    assert_true(bytes_eq(a.value, BYTES_LIT(CODEC_V1_VERSION)));
    codec_v1_answer_fini(&a);
    assert_int_equal(codec_v1_wrapped_read(BYTES_LIT("\x0a\x02\xff\x00"), &a), ERR_OK);
    assert_true(bytes_eq(a.value, BYTES_LIT("\xff\x00")));
    codec_v1_answer_fini(&a);
    assert_int_equal(codec_v1_secret_read((struct bytes){0}, &a), ERR_OK);
    assert_int_equal(a.value.n, 0);
    codec_v1_answer_fini(&a);
    assert_int_equal(codec_v1_version_read(BYTES_LIT("\x0a\x01\xff"), &a), ERR_KMS_ERROR);
    assert_int_equal(codec_v1_wrapped_read(BYTES_LIT("\x0a\x05x"), &a), ERR_KMS_ERROR);
    assert_int_equal(codec_v1_secret_read(BYTES_LIT("\x0f"), &a), ERR_KMS_ERROR);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(status),
        cmocka_unit_test(last_of_a_repeated_string_counts_and_unknown_fields_pass),
        cmocka_unit_test(malformed_answers_are_refused),
        cmocka_unit_test(an_answer_over_the_limit_is_refused),
        cmocka_unit_test(wrapped_with_annotations_sorted),
        cmocka_unit_test(annotation_keys_with_nul_are_refused),
        cmocka_unit_test(secrets),
        cmocka_unit_test(encrypt_request),
        cmocka_unit_test(decrypt_request),
        cmocka_unit_test(a_key_id_with_nul_cannot_be_said),
        cmocka_unit_test(v1_requests),
        cmocka_unit_test(v1_answers),
    };

    return cmocka_run_group_tests(tests, group_setup, NULL);
}
