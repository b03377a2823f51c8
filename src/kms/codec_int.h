/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: KMS v2 and v1 answers, what to ask. Gives: their parts, request messages. Owns:
 * unpacked answers until their fini. Thread: any.
 *
 * Memory of answers and requests is wiped when freed. Refused as malformed, beside what protobuf-c
 * refuses: strings that are not UTF-8 (as Go does) and strings with a NUL byte (a difference: Go
 * takes them, protobuf-c would cut them short and so mistake one key id for another). */
#ifndef KMS_CODEC_INT_H
#define KMS_CODEC_INT_H

#include "envelope/envelope.h"
#include "kms/lifecycle_int.h"

/* 32 KiB of annotations in the smallest pieces, with room. */
#define CODEC_ANSWER_MAX (256u * 1024)

struct codec_status {
    struct lifecycle_status s; /* points into msg */
    void *msg;
};

struct codec_wrapped {
    struct dek_id
        id; /* of type DEK_HKDF_SEED; not validated yet; points into msg and annotations */
    struct dek_annotation *annotations;
    void *msg;
};

struct codec_secret {
    struct bytes secret;
    void *msg;
};

/* Errors of all three: ERR_KMS_ERROR (malformed, over CODEC_ANSWER_MAX), ERR_NOMEM; then there is
 * nothing to fini. Annotations come sorted by key; of a repeated key the last counts. */
MUST_CHECK enum err codec_status_read(struct bytes body, struct codec_status *out);
void codec_status_fini(struct codec_status *s);
MUST_CHECK enum err codec_wrapped_read(struct bytes body, struct codec_wrapped *out);
void codec_wrapped_fini(struct codec_wrapped *w);
MUST_CHECK enum err codec_secret_read(struct bytes body, struct codec_secret *out);
void codec_secret_fini(struct codec_secret *s);

/* --- KMS v1 --- */

/* What a v1 plugin answered with: of Version a text, of Encrypt the wrapped DEK, of Decrypt the
 * secret. Borrowed from msg. */
struct codec_v1_answer {
    struct bytes value;
    void *msg;
};

/* Errors: as above; an empty wrapped DEK is ERR_KMS_ERROR, for nobody could unwrap it again, and a
 * value that was written with it would be lost. */
MUST_CHECK enum err codec_v1_version_read(struct bytes body, struct codec_v1_answer *out);
MUST_CHECK enum err codec_v1_wrapped_read(struct bytes body, struct codec_v1_answer *out);
MUST_CHECK enum err codec_v1_secret_read(struct bytes body, struct codec_v1_answer *out);
void codec_v1_answer_fini(struct codec_v1_answer *a);

/* --- requests --- */

struct codec_request {
    uint8_t *p;
    size_t n;
    bool is_secret; /* in secret memory */
};

/* Errors: ERR_NOMEM; codec_decrypt_write also ERR_KMS_ERROR for an id with a NUL byte, which
 * protobuf-c's strings cannot hold. */
MUST_CHECK enum err codec_encrypt_write(struct bytes seed, const char *uid,
                                        struct codec_request *out);
MUST_CHECK enum err codec_decrypt_write(const struct dek_id *id, const char *uid,
                                        struct codec_request *out);
/* The only version of KMS v1, in every request and in the answer of Version. */
#define CODEC_V1_VERSION "v1beta1"
MUST_CHECK enum err codec_v1_version_write(struct codec_request *out);
MUST_CHECK enum err codec_v1_encrypt_write(struct bytes secret, struct codec_request *out);
MUST_CHECK enum err codec_v1_decrypt_write(struct bytes wrapped, struct codec_request *out);
void codec_request_fini(struct codec_request *r);
static inline struct bytes codec_request_bytes(const struct codec_request *r)
{
    return bytes_of(r->p, r->n);
}

#endif
