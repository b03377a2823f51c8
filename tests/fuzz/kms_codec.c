/* SPDX-License-Identifier: Apache-2.0 */
/* Targets: codec_status_read, codec_wrapped_read, codec_secret_read, codec_decrypt_write,
 * kms_clean_text.
 * What a plugin answers is refused or understood as protobuf-c does; what names its DEK can be said
 * to it again without a change.
 *
 * Input: which answer, the answer. */
#include "kms/codec_int.h"

#include <string.h>

#include "fuzz.h"
#include "kms/text.h"
#include "kms_v2.pb-c.h"
#include "pb/pb.h"

static bool is_text(struct bytes s)
{
    return pb_utf8_valid(s) && (s.n == 0 || memchr(s.p, 0, s.n) == NULL);
}

static void status(struct bytes in)
{
    struct codec_status s;
    char text[40];

    if (codec_status_read(in, &s) != ERR_OK)
        return;
    CHECK(is_text(s.s.version) && is_text(s.s.healthz) && is_text(s.s.key_id));
    (void)kms_clean_text(s.s.healthz, text, sizeof text);
    CHECK(strlen(text) < sizeof text && strpbrk(text, "\"\r\n") == NULL);
    codec_status_fini(&s);
    fuzz_deep();
}

static void secret(struct bytes in)
{
    struct codec_secret s;

    if (codec_secret_read(in, &s) != ERR_OK)
        return;
    CHECK(s.secret.n == 0 || bytes_contain(in, s.secret));
    codec_secret_fini(&s);
    fuzz_deep();
}

static void check_said(const struct dek_id *id, struct bytes said)
{
    V2__DecryptRequest *m = v2__decrypt_request__unpack(NULL, said.n, said.p);

    CHECK(m != NULL && m->n_annotations == id->annotation_count);
    CHECK(bytes_eq(bytes_str(m->key_id), id->key_id) && strcmp(m->uid, "uid") == 0);
    CHECK(bytes_eq(bytes_of(m->ciphertext.data, m->ciphertext.len), id->wrapped));
    for (size_t i = 0; i < m->n_annotations; i++) {
        const V2__DecryptRequest__AnnotationsEntry *e = m->annotations[i];

        CHECK(bytes_eq(bytes_str(e->key), id->annotations[i].key));
        CHECK(bytes_eq(bytes_of(e->value.data, e->value.len), id->annotations[i].value));
        CHECK(i == 0 || strcmp(m->annotations[i - 1]->key, e->key) < 0);
    }
    v2__decrypt_request__free_unpacked(m, NULL);
}

static void wrapped(struct bytes in)
{
    uint8_t digest[DEK_DIGEST_LEN];
    struct codec_wrapped w;
    struct codec_request r;

    if (codec_wrapped_read(in, &w) != ERR_OK)
        return;
    CHECK(codec_decrypt_write(&w.id, "uid", &r) == ERR_OK);
    check_said(&w.id, codec_request_bytes(&r));
    codec_request_fini(&r);
    if (dek_id_validate(&w.id) == ERR_OK) {
        CHECK(dek_id_digest(&w.id, digest) == ERR_OK);
        fuzz_deep();
    }
    codec_wrapped_fini(&w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes in = bytes_of(data, size);

    (void)kit_get(0); /* for the memory of secrets */
    switch (fuzz_u8(&in) % 3) {
    case 0:
        status(in);
        break;
    case 1:
        wrapped(in);
        break;
    default:
        secret(in);
    }
    return 0;
}
