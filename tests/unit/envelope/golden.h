/* SPDX-License-Identifier: Apache-2.0 */
/* Reading of tests/golden/: the files, our differences, the key service that the vectors had. */
#ifndef TESTS_GOLDEN_H
#define TESTS_GOLDEN_H

#include <stdio.h>

#include <jansson.h>
#include <openssl/evp.h>

#include "envelope_test.h"

static json_t *differences; /* "FILE ID" -> answer */

/* --- JSON ------------------------------------------------------------------------------------ */

struct buf {
    uint8_t *p;
    size_t n;
};

static struct bytes view(struct buf b)
{
    return bytes_of(b.p, b.n);
}

static struct buf buf_new(size_t n)
{
    struct buf b = {malloc(n == 0 ? 1 : n), n};

    assert_non_null(b.p);
    return b;
}

static uint8_t nibble(char c)
{
    if (c >= '0' && c <= '9')
        return (uint8_t)(c - '0');
    assert_in_range(c, 'a', 'f');
    return (uint8_t)(c - 'a' + 10);
}

static struct buf from_hex(const char *hex)
{
    struct buf b = buf_new(strlen(hex) / 2);

    for (size_t i = 0; i < b.n; i++)
        b.p[i] = (uint8_t)(nibble(hex[2 * i]) << 4 | nibble(hex[2 * i + 1]));
    return b;
}

static const char *text(const json_t *o, const char *name)
{
    const json_t *v = json_object_get(o, name);

    assert_true(json_is_string(v));
    return json_string_value(v);
}

static struct bytes text_bytes(const json_t *o, const char *name)
{
    const json_t *v = json_object_get(o, name);

    assert_true(json_is_string(v));
    return bytes_of(json_string_value(v), json_string_length(v));
}

static struct buf hex_of(const json_t *o, const char *name)
{
    return from_hex(text(o, name));
}

static json_t *load(const char *name)
{
    char path[512];
    json_error_t err;
    json_t *file;

    snprintf(path, sizeof path, "%s/%s.json", GOLDEN_DIR, name);
    file = json_load_file(path, JSON_ALLOW_NUL, &err);
    if (file == NULL)
        fail_msg("%s: %s", path, err.text);
    return file;
}

static void load_differences(void)
{
    char path[512], line[256], file[64], id[64], answer[64], name[130];
    FILE *f;

    snprintf(path, sizeof path, "%s/DIFFERENCES", GOLDEN_DIR);
    f = fopen(path, "r");
    assert_non_null(f);
    differences = json_object();
    while (fgets(line, sizeof line, f) != NULL) {
        if (line[0] == '#' || sscanf(line, "%63s %63s %63s", file, id, answer) != 3)
            continue;
        snprintf(name, sizeof name, "%s %s", file, id);
        json_object_set_new(differences, name, json_string(answer));
    }
    fclose(f);
}

static void check_sha256(struct bytes b, const char *hex)
{
    struct buf want = from_hex(hex);
    uint8_t got[32];

    assert_int_equal(EVP_Digest(b.p, b.n, got, NULL, EVP_sha256(), NULL), 1);
    assert_memory_equal(got, want.p, sizeof got);
    free(want.p);
}

/* --- the key service of the vectors ---------------------------------------------------------- */

/* wrapped = nonce(12) AES-256-GCM(SHA-256("etcd-envelope test kek:" key_id), nonce, DEK). */
static enum err unwrap_by_rule(struct bytes wrapped, struct bytes key_id, struct buf *out)
{
    static const char label[] = "etcd-envelope test kek:";
    uint8_t text_[sizeof label + LIMIT_KEY_ID], kek[32];
    EVP_CIPHER_CTX *c;
    int n, ok;

    memcpy(text_, label, sizeof label - 1);
    memcpy(text_ + sizeof label - 1, key_id.p, key_id.n);
    EVP_Digest(text_, sizeof label - 1 + key_id.n, kek, NULL, EVP_sha256(), NULL);
    if (wrapped.n < 28)
        return ERR_KMS_ERROR;
    *out = buf_new(wrapped.n - 28);
    c = EVP_CIPHER_CTX_new();
    EVP_DecryptInit_ex(c, EVP_aes_256_gcm(), NULL, kek, wrapped.p);
    EVP_DecryptUpdate(c, out->p, &n, wrapped.p + 12, (int)out->n);
    EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_SET_TAG, 16, (void *)(uintptr_t)(wrapped.p + 12 + out->n));
    ok = EVP_DecryptFinal_ex(c, out->p, &n);
    EVP_CIPHER_CTX_free(c);
    if (ok == 1)
        return ERR_OK;
    free(out->p);
    return ERR_KMS_ERROR;
}

static void check_annotations(const json_t *want, const struct dek_id *id)
{
    size_t i;
    const json_t *a;

    assert_int_equal(json_array_size(want), id->annotation_count);
    json_array_foreach(want, i, a) {
        struct buf value = hex_of(a, "value_hex");

        assert_true(bytes_eq(text_bytes(a, "key"), id->annotations[i].key));
        assert_true(bytes_eq(view(value), id->annotations[i].value));
        free(value.p);
    }
}

/* Answers as the plugin did when the vector was made: the id must be the one that it was asked for.
 */
static enum err unwrap(const json_t *vector, const struct dek_id *id, struct buf *out)
{
    const json_t *call = json_array_get(json_object_get(vector, "kms_decrypt_calls"), 0);
    struct buf wrapped;

    if (call == NULL)
        return unwrap_by_rule(id->wrapped,
                              id->type == DEK_KMS_V1_KEY ? BYTES_LIT("v1") : id->key_id, out);
    wrapped = hex_of(call, "ciphertext_hex");
    assert_true(bytes_eq(view(wrapped), id->wrapped));
    free(wrapped.p);
    if (id->type != DEK_KMS_V1_KEY) /* which has neither */
        assert_true(bytes_eq(text_bytes(call, "key_id"), id->key_id));
    check_annotations(json_object_get(call, "annotations"), id);
    if (json_object_get(call, "error") != NULL)
        return ERR_KMS_ERROR;
    /* An empty answer is left out. */
    *out =
        from_hex(json_object_get(call, "plaintext_hex") != NULL ? text(call, "plaintext_hex") : "");
    return ERR_OK;
}

#endif
