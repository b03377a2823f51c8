/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: what a plugin answered to Encrypt, and the secret that it was given. Gives: whether the
 * answer shows the secret. Owns: nothing. Thread: any. */
#ifndef KMS_EXPOSURE_INT_H
#define KMS_EXPOSURE_INT_H

#include "envelope/envelope.h"

#define KMS_EXPOSURE_SECRET_MAX 32u
#define KMS_EXPOSURE_TEXT "the answer of Encrypt holds the DEK source itself, it is not wrapped"

/* Everything of the answer would be stored in etcd beside the values: wrapped DEK source, key id,
 * annotations. True when one of them is or contains the secret, as it is or in hex or base64 (each
 * alphabet, each alignment). secret.n <= KMS_EXPOSURE_SECRET_MAX. */
bool kms_answer_exposes(const struct dek_id *answer, struct bytes secret);

#endif
