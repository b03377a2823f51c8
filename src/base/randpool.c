/* SPDX-License-Identifier: Apache-2.0 */
/* The happy path within a turn of the loop: the first value is fetched alone, for the next ones
 * more and more is fetched ahead; randpool_drop at the turn's end wipes what is left.
 *
 *   buf   | used: wiped | left | unused |
 *         0                    fill
 *
 * Failure modes: no such page: every value is fetched on its own; no randomness: ERR_RANDOM.
 *
 * What a value of 44 bytes costs (2 virtual CPUs, AMD EPYC, Linux 6.18), in ns:
 *   alone, glibc 2.41, whose getrandom is served by the vDSO     143
 *   alone, glibc 2.36, a system call                             335
 *   fetched ahead, glibc 2.36: 1 value a turn 355, 4: 371, 8: 190, 32: 147, 256: 98
 * With the vDSO fetching ahead saves too little to risk that a nonce comes twice. */
#include "base/randpool.h"

#include <dlfcn.h>
#include <errno.h>
#include <gnu/libc-version.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#include <openssl/evp.h>
#include <openssl/rand.h>

#include "base/fips.h"
#include "base/secret.h"

#define FIRST_AHEAD 128u
#define FRESH_LEN 32u /* of the kernel, into each request to the generator */

/* --- without a pool --------------------------------------------------------------------------- */

static enum err kernel_get(void *out, size_t n)
{
    uint8_t *at = out;

    while (n > 0) {
        ssize_t got = getrandom(at, n, 0);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return ERR_RANDOM;
        at += got;
        n -= (size_t)got;
    }
    return ERR_OK;
}

/* OpenSSL's generator, with fresh bytes of the kernel as additional input (SP 800-90A section 9.3):
 * two copies of this memory, which hold the same generator, go on apart all the same. */
static enum err drbg_get(void *out, size_t n)
{
    EVP_RAND_CTX *drbg = RAND_get0_private(NULL); /* this thread's */
    uint8_t fresh[FRESH_LEN];
    enum err e = kernel_get(fresh, sizeof fresh);

    if (e == ERR_OK &&
        (drbg == NULL || EVP_RAND_generate(drbg, out, n, 0, 0, fresh, sizeof fresh) != 1))
        e = ERR_RANDOM;
    secret_wipe(fresh, sizeof fresh);
    return e;
}

enum err random_get(void *out, size_t n)
{
    return fips_is_on() ? drbg_get(out, n) : kernel_get(out, n);
}

enum err random_uuid(char out[static 37])
{
    uint8_t u[16];

    TRY(random_get(u, sizeof u));
    u[6] = (uint8_t)((u[6] & 0x0f) | 0x40);
    u[8] = (uint8_t)((u[8] & 0x3f) | 0x80);
    snprintf(out, 37, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0],
             u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13],
             u[14], u[15]);
    return ERR_OK;
}

static bool libc_uses_vdso(void)
{
    unsigned major = 0, minor = 0;

    return sscanf(gnu_get_libc_version(), "%u.%u", &major, &minor) == 2 &&
           (major > 2 || (major == 2 && minor >= 41));
}

/* The vDSO is in the list of loaded objects: nothing is loaded here. */
static bool kernel_has_vdso(void)
{
    void *vdso = dlopen("linux-vdso.so.1", RTLD_LAZY | RTLD_NOLOAD);
    bool has;

    if (vdso == NULL)
        return false;
    has = dlsym(vdso, "__vdso_getrandom") != NULL || dlsym(vdso, "__kernel_getrandom") != NULL;
    dlclose(vdso);
    return has;
}

bool random_is_cheap(void)
{
    return libc_uses_vdso() && kernel_has_vdso();
}

/* --- the pool --------------------------------------------------------------------------------- */

static struct randpool_page *page_new(void)
{
    const size_t n = sizeof(struct randpool_page);
    void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        return NULL;
    if (madvise(p, n, MADV_WIPEONFORK) != 0 || madvise(p, n, MADV_DONTDUMP) != 0) {
        (void)munmap(p, n);
        return NULL;
    }
    return p;
}

void randpool_init_as(struct randpool *pool, bool prefetches)
{
    pool->page = prefetches ? page_new() : NULL;
}

void randpool_init(struct randpool *pool)
{
    randpool_init_as(pool, !random_is_cheap());
}

void randpool_drop(struct randpool *pool)
{
    struct randpool_page *page = pool->page;

    if (page == NULL)
        return;
    secret_wipe(page->buf + page->fill - page->left, page->left);
    page->left = page->fill = 0;
}

void randpool_fini(struct randpool *pool)
{
    if (pool->page == NULL)
        return;
    randpool_drop(pool);
    (void)munmap(pool->page, sizeof *pool->page);
    pool->page = NULL;
}

/* The first fill of a turn is what is asked for; each later one is twice the one before. */
static uint32_t next_fill(const struct randpool_page *page, size_t n)
{
    uint32_t fill = page->fill == 0 ? 0 : page->fill * 2;

    if (fill > 0 && fill < FIRST_AHEAD)
        fill = FIRST_AHEAD;
    if (fill < n)
        fill = (uint32_t)n;
    return fill < RANDPOOL_MAX ? fill : RANDPOOL_MAX;
}

static enum err refill(struct randpool_page *page, size_t n)
{
    uint32_t fill = next_fill(page, n);

    secret_wipe(page->buf + page->fill - page->left, page->left);
    page->left = 0;
    TRY(random_get(page->buf, fill));
    page->left = page->fill = fill;
    return ERR_OK;
}

enum err randpool_get(struct randpool *pool, void *out, size_t n)
{
    struct randpool_page *page = pool->page;
    uint8_t *from;

    if (page == NULL || n > RANDPOOL_MAX)
        return random_get(out, n);
    if (page->left < n)
        TRY(refill(page, n));
    from = page->buf + page->fill - page->left;
    memcpy(out, from, n);
    secret_wipe(from, n);
    page->left -= (uint32_t)n;
    return ERR_OK;
}
