/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/secret.h"
#include "kms_v2.pb-c.h"
#include "localkms/service.h"

#define KEYS                                                                                       \
    "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n//////////////////////////////////////////8=\n"

static struct kek_set *keys;

static struct service_answer call(enum service_method method, struct bytes request)
{
    struct service_answer a;

    service_call(keys, method, request, &a);
    assert_true(a.status == GRPC_OK || (a.body == NULL && a.message[0] != '\0'));
    return a;
}

static enum grpc_status status_of(enum service_method method, struct bytes request)
{
    struct service_answer a = call(method, request);

    service_answer_fini(&a);
    return a.status;
}

static void methods(void **state)
{
    (void)state;
    assert_int_equal(service_method_of(BYTES_LIT("/v2.KeyManagementService/Status")),
                     SERVICE_STATUS);
    assert_int_equal(service_method_of(BYTES_LIT("/v2.KeyManagementService/Encrypt")),
                     SERVICE_ENCRYPT);
    assert_int_equal(service_method_of(BYTES_LIT("/v2.KeyManagementService/Decrypt")),
                     SERVICE_DECRYPT);
    assert_int_equal(service_method_of(BYTES_LIT("/v1beta1.KeyManagementService/Decrypt")),
                     SERVICE_UNKNOWN);
    assert_int_equal(service_method_of(BYTES_LIT("/v2.KeyManagementService/decrypt")),
                     SERVICE_UNKNOWN);
    assert_int_equal(service_method_of((struct bytes){0}), SERVICE_UNKNOWN);
    assert_int_equal(status_of(SERVICE_UNKNOWN, (struct bytes){0}), GRPC_UNIMPLEMENTED);
}

static void status(void **state)
{
    struct service_answer a = call(SERVICE_STATUS, (struct bytes){0});
    V2__StatusResponse *m = v2__status_response__unpack(NULL, a.body_len, a.body);

    (void)state;
    assert_non_null(m);
    assert_string_equal(m->version, "v2");
    assert_string_equal(m->healthz, "ok");
    assert_string_equal(m->key_id, keys->keys[0].id);
    v2__status_response__free_unpacked(m, NULL);
    service_answer_fini(&a);
}

/* plaintext "secret seed", uid "u 1" */
static V2__EncryptResponse *wrap(void)
{
    struct service_answer a = call(SERVICE_ENCRYPT, BYTES_LIT("\x0a\x0bsecret seed\x12\x03u 1"));
    V2__EncryptResponse *m;

    assert_int_equal(a.status, GRPC_OK);
    assert_string_equal(a.uid, "u?1");
    m = v2__encrypt_response__unpack(NULL, a.body_len, a.body);
    assert_non_null(m);
    service_answer_fini(&a);
    return m;
}

static struct service_answer unwrap(ProtobufCBinaryData wrapped, char *key_id, size_t annotations)
{
    V2__DecryptRequest req = V2__DECRYPT_REQUEST__INIT;
    V2__DecryptRequest__AnnotationsEntry entry = V2__DECRYPT_REQUEST__ANNOTATIONS_ENTRY__INIT;
    V2__DecryptRequest__AnnotationsEntry *list[] = {&entry};
    static uint8_t buf[4096];
    size_t n;

    req.ciphertext = wrapped;
    req.key_id = key_id;
    req.n_annotations = annotations;
    req.annotations = list;
    n = v2__decrypt_request__get_packed_size(&req);
    assert_true(n <= sizeof buf);
    v2__decrypt_request__pack(&req, buf);
    return call(SERVICE_DECRYPT, bytes_of(buf, n));
}

static void wrapped_by_the_first_unwrapped_by_its_id(void **state)
{
    V2__EncryptResponse *w = wrap();
    struct service_answer a;
    V2__DecryptResponse *m;

    (void)state;
    assert_string_equal(w->key_id, keys->keys[0].id);
    assert_int_equal(w->n_annotations, 0);
    a = unwrap(w->ciphertext, w->key_id, 0);
    assert_int_equal(a.status, GRPC_OK);
    m = v2__decrypt_response__unpack(NULL, a.body_len, a.body);
    assert_int_equal(m->plaintext.len, 11);
    assert_memory_equal(m->plaintext.data, "secret seed", 11);
    v2__decrypt_response__free_unpacked(m, NULL);
    service_answer_fini(&a);
    v2__encrypt_response__free_unpacked(w, NULL);
}

static void unwrapping_refuses(void **state)
{
    V2__EncryptResponse *w = wrap();
    ProtobufCBinaryData c = w->ciphertext;
    char unknown[] = "local-00";

    (void)state;
    assert_int_equal(unwrap(c, unknown, 0).status, GRPC_NOT_FOUND);
    assert_int_equal(unwrap(c, keys->keys[1].id, 0).status, GRPC_INVALID_ARGUMENT);
    assert_int_equal(unwrap(c, w->key_id, 1).status, GRPC_INVALID_ARGUMENT);
    c.data[20] ^= 1;
    assert_int_equal(unwrap(c, w->key_id, 0).status, GRPC_INVALID_ARGUMENT);
    c.len = 29;
    assert_int_equal(unwrap(c, w->key_id, 0).status, GRPC_INVALID_ARGUMENT);
    c.len = 0;
    assert_int_equal(unwrap(c, w->key_id, 0).status, GRPC_INVALID_ARGUMENT);
    v2__encrypt_response__free_unpacked(w, NULL);
}

static void malformed_requests_are_refused(void **state)
{
    static const struct bytes bad[] = {BYTES_LIT("\x0a"), BYTES_LIT("\x0a\x05x"), BYTES_LIT("\x07"),
                                       BYTES_LIT("\xff\xff\xff\xff\xff")};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(status_of(SERVICE_STATUS, bad[i]), GRPC_INTERNAL);
        assert_int_equal(status_of(SERVICE_ENCRYPT, bad[i]), GRPC_INTERNAL);
        assert_int_equal(status_of(SERVICE_DECRYPT, bad[i]), GRPC_INTERNAL);
    }
    assert_int_equal(status_of(SERVICE_ENCRYPT, (struct bytes){0}), GRPC_INVALID_ARGUMENT);
    assert_int_equal(status_of(SERVICE_DECRYPT, (struct bytes){0}), GRPC_NOT_FOUND);
}

static int group_setup(void **state)
{
    char why[128];

    (void)state;
    if (secret_init() != ERR_OK)
        return -1;
    return kek_set_parse(BYTES_LIT(KEYS), &keys, why, sizeof why) == ERR_OK ? 0 : -1;
}

static int group_teardown(void **state)
{
    (void)state;
    kek_set_free(keys);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(methods),
        cmocka_unit_test(status),
        cmocka_unit_test(wrapped_by_the_first_unwrapped_by_its_id),
        cmocka_unit_test(unwrapping_refuses),
        cmocka_unit_test(malformed_requests_are_refused),
    };

    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
