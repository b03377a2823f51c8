/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: nothing. Gives: random bytes of the kernel, fetched in bulk.
 * Owns: its buffer; a byte is wiped as it is handed out. Thread: one pool per thread.
 *
 * A call of the library's generator or of getrandom(2) costs 1 to 2 us whatever its length, more
 * than sealing 1 KiB: so 8 KiB at a time. */
#ifndef BASE_RANDPOOL_H
#define BASE_RANDPOOL_H

#include "base/err.h"

struct randpool {
    uint32_t left; /* unused bytes, at the end of buf */
    uint8_t buf[8192];
};

/* Zero-initialised is empty and valid. */
/* n fresh bytes, n <= sizeof buf. Errors: ERR_RANDOM; then nothing of out may be used. */
MUST_CHECK enum err randpool_get(struct randpool *pool, void *out, size_t n);
void randpool_wipe(struct randpool *pool);
/* A random UUID (RFC 9562 version 4) in text form, NUL-terminated. Errors: ERR_RANDOM. */
MUST_CHECK enum err randpool_uuid(struct randpool *pool, char out[static 37]);

#endif
