/* SPDX-License-Identifier: Apache-2.0 */
#include "base/secret.h"

#include <errno.h>
#include <inttypes.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>

/* Room for some 4,000 DEKs with what is derived from them. OpenSSL's secure heap is locked in
 * memory, left out of core files, lies between guard pages and has a mutex of its own. */
#define SECRET_HEAP (4u * 1024 * 1024)
#define SECRET_MIN_BLOCK 64

static bool is_locked;
static int lock_error; /* errno, where it is not locked */

/* The mapping that an address lies in, from what the kernel tells; OpenSSL does not. */
static bool find_mapping(const void *p, uintptr_t *start, uintptr_t *end)
{
    FILE *f = fopen("/proc/self/maps", "re");
    char line[512];
    bool is_found = false;

    while (f != NULL && !is_found && fgets(line, sizeof line, f) != NULL)
        is_found = sscanf(line, "%" SCNxPTR "-%" SCNxPTR, start, end) == 2 &&
                   *start <= (uintptr_t)p && (uintptr_t)p < *end;
    if (f != NULL)
        fclose(f);
    return is_found;
}

/* A process that is forked gets zeros in place of keys. Guard pages keep the heap's mapping apart
 * from others, so nothing else is wiped; a mapping of another size is not the heap. */
static void wipe_on_fork(void)
{
    void *p = OPENSSL_secure_malloc(1);
    uintptr_t start, end;

    if (p != NULL && find_mapping(p, &start, &end) && end - start == SECRET_HEAP)
        (void)madvise((void *)start, end - start, MADV_WIPEONFORK);
    OPENSSL_secure_free(p);
}

enum err secret_init(void)
{
    const struct rlimit none = {0, 0};
    int done;

    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 || setrlimit(RLIMIT_CORE, &none) != 0)
        return ERR_SYSTEM;
    if (CRYPTO_secure_malloc_initialized())
        return ERR_OK;
    /* 1 = in place and locked, 2 = in place but not locked, 0 = failed. errno is that of the call
     * which failed, since those behind it leave it alone. */
    errno = 0;
    done = CRYPTO_secure_malloc_init(SECRET_HEAP, SECRET_MIN_BLOCK);
    is_locked = done == 1;
    lock_error = errno != 0 ? errno : ENOMEM;
    if (done != 0)
        wipe_on_fork();
    errno = lock_error;
    return done == 0 ? ERR_SYSTEM : ERR_OK;
}

int secret_lock_error(void)
{
    return lock_error;
}

bool secret_is_locked(void)
{
    return is_locked;
}

void *secret_alloc(size_t n)
{
    return CRYPTO_secure_malloc_initialized() ? OPENSSL_secure_zalloc(n) : NULL;
}

void secret_free(void *p, size_t n)
{
    OPENSSL_secure_clear_free(p, n);
}

void secret_wipe(void *p, size_t n)
{
    explicit_bzero(p, n); /* as sure as OPENSSL_cleanse, and many times faster on a whole slab */
}

/* Not inlined: else the frame would be the caller's, which is alive. */
__attribute__((noinline)) void secret_wipe_stack(void)
{
    uint8_t dead[64 * 1024];

    explicit_bzero(dead, sizeof dead);
}

bool secret_eq(const void *a, const void *b, size_t n)
{
    return CRYPTO_memcmp(a, b, n) == 0;
}

/* --- the heap: a block remembers its length --------------------------------------------------- */

struct heap_block {
    _Alignas(16) size_t n;
    _Alignas(16) uint8_t data[];
};

void *secret_heap_alloc(size_t n)
{
    struct heap_block *b = n > SIZE_MAX - sizeof *b ? NULL : malloc(sizeof *b + n);

    if (b == NULL)
        return NULL;
    b->n = n;
    return b->data;
}

void secret_heap_free(void *p)
{
    struct heap_block *b;

    if (p == NULL)
        return;
    b = CONTAINER_OF(p, struct heap_block, data);
    secret_wipe(b->data, b->n);
    free(b);
}
