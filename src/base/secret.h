/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: sizes. Gives: memory for keys: locked, not in core files, wiped when freed, empty
 * in a process that is forked.
 * Owns: the process's secret arena (OpenSSL's secure heap). Thread: any after init. */
#ifndef BASE_SECRET_H
#define BASE_SECRET_H

#include "base/err.h"

/* Once, before threads start. Makes the process non-dumpable, sets RLIMIT_CORE to 0 and reserves
 * memory, locked if it can be (RLIMIT_MEMLOCK): see secret_is_locked. Errors: ERR_SYSTEM with
 * errno. */
MUST_CHECK enum err secret_init(void);
/* Can the memory for keys not be written to swap? False before init. */
bool secret_is_locked(void);
/* Why not, as errno has it. */
int secret_lock_error(void);
/* Zeroed memory. NULL when the arena is full or secret_init was not called. */
MUST_CHECK void *secret_alloc(size_t n);
/* Wipes and frees; p may be NULL. n as allocated. */
void secret_free(void *p, size_t n);
/* Wipes memory of any kind so that the compiler keeps it. */
void secret_wipe(void *p, size_t n);
/* Wipes what calls that are over left on the stack below the caller: ciphers and memcpy leave
 * pieces of what they worked on in their frames. 64 KiB, some microseconds: for a thread that has
 * done its work. */
void secret_wipe_stack(void);
/* Are the n bytes the same? In a time that n alone decides: for keys, tags, and what is compared
 * with them. */
MUST_CHECK bool secret_eq(const void *a, const void *b, size_t n);

/* Heap memory for what is a secret for a moment, in callers that do not say how long it is when
 * they free it (unpacked messages): neither locked nor zeroed, but wiped when freed. NULL: no
 * memory. p may be NULL. */
MUST_CHECK void *secret_heap_alloc(size_t n);
void secret_heap_free(void *p);

#endif
