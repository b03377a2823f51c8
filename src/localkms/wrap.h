/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: DEK sources, plain or wrapped. Gives: them wrapped or plain. Owns: nothing. Thread:
 * any.
 *
 * wrapped = 0x01 nonce(12, random) ciphertext tag(16): AES-256-GCM under the key encryption key,
 * with its id as additional data. A key wraps a few DEK sources a day, far from the 2^32 messages
 * that random nonces allow. */
#ifndef LOCALKMS_WRAP_H
#define LOCALKMS_WRAP_H

#include "localkms/keyfile.h"

#define WRAP_OVERHEAD 29u

/* Writes plain.n + WRAP_OVERHEAD bytes. Errors: ERR_RANDOM, ERR_CRYPTO. */
MUST_CHECK enum err wrap_seal(const struct kek *kek, struct bytes plain, uint8_t *out);
/* Writes wrapped.n - WRAP_OVERHEAD bytes; nothing of out may be used on error. Errors:
 * ERR_AUTH_FAILED (not wrapped by this key; too short; another version), ERR_CRYPTO. */
MUST_CHECK enum err wrap_open(const struct kek *kek, struct bytes wrapped, uint8_t *out);

#endif
