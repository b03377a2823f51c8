/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: values, KMS requests. Gives: sealed values, KMS answers. Owns: one seed.
 * Thread: one.
 *
 * A KMS v2 plugin for measuring: "wrapping" is a fixed XOR, so the stub can make sealed values
 * whose seed every proxy of the run gets by asking. It protects nothing. */
#ifndef BENCH_SEAL_H
#define BENCH_SEAL_H

#include "wire.h"

#define SEAL_PROVIDER "bench" /* the plugin's name in the EncryptionConfiguration */

void seal_init(void);
void seal_value(struct bytes key, struct bytes value, uint32_t number, struct buf *out);
/* The answer to a request of the plugin API; path as in /v2.KeyManagementService/Status. */
void seal_kms_answer(struct bytes path, struct bytes request, struct buf *out);

#endif
