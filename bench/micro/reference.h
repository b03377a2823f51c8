/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: a seed. Gives: the least that sealing and opening one KMS v2 value can cost with
 * OpenSSL. Owns: two cipher contexts, two hash states, random bytes. Thread: one.
 *
 * What we are measured against: key derivation from two copied SHA-256 states, contexts that keep
 * their cipher, random bytes in bulk; one contiguous buffer, in place; no envelope, no checks. It
 * stands by itself and shares no code with src/envelope. */
#ifndef BENCH_REFERENCE_H
#define BENCH_REFERENCE_H

#include <stddef.h>
#include <stdint.h>

#define REFERENCE_HEAD 44u /* info and nonce, before the data */
#define REFERENCE_TAG 16u  /* behind it */
#define REFERENCE_KEY 32u  /* an info, and a value's key */

void reference_init(const uint8_t seed[static 32]);
void reference_derive(const uint8_t info[static REFERENCE_KEY], uint8_t key[static REFERENCE_KEY]);
/* HEAD bytes, n bytes of data, TAG bytes at p: seals the data where it lies. */
void reference_seal(uint8_t *p, size_t n, const char *aad, size_t aad_len);
/* Opens it where it lies. Ends the program when the tag is wrong. */
void reference_open(uint8_t *p, size_t n, const char *aad, size_t aad_len);

#endif
