/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: nothing. Gives: random bytes: the kernel's own, or, where OpenSSL's configuration asks
 * for fips=yes (base/fips.h), of its generator, with fresh ones of the kernel mixed in.
 * Owns: a pool's prefetched bytes. Thread: random_get any; one pool per thread.
 *
 * A machine that was restored from a snapshot twice runs twice with the same memory. Random bytes
 * that were fetched before the snapshot are then the same in both, and a nonce that two values
 * share under one key gives both away. The kernel is told of it (VM Generation ID) and goes on with
 * fresh randomness, a program is not. So nothing is fetched ahead, except within one turn of a
 * loop, and only where asking the kernel is a system call. */
#ifndef BASE_RANDPOOL_H
#define BASE_RANDPOOL_H

#include "base/err.h"

/* n fresh bytes; none are fetched ahead. Errors: ERR_RANDOM; then nothing of out may be used. */
MUST_CHECK enum err random_get(void *out, size_t n);
/* A random UUID (RFC 9562 version 4) in text form, NUL-terminated. Errors: ERR_RANDOM. */
MUST_CHECK enum err random_uuid(char out[static 37]);
/* getrandom(3) of the C library does without a system call (glibc 2.41 or newer, Linux 6.11 or
 * newer): its bytes are the kernel's own fresh ones, clones and forks included. */
bool random_is_cheap(void);

#define RANDPOOL_MAX 1024u

/* The prefetched bytes. They have a page of their own that the kernel zeroes in a fork's child
 * (MADV_WIPEONFORK), and a zeroed page is an empty pool. */
struct randpool_page {
    uint32_t left; /* unused bytes, at the end of the filled part */
    uint32_t fill; /* length of that part, at the start of buf */
    uint8_t buf[RANDPOOL_MAX];
};

struct randpool {
    struct randpool_page *page; /* NULL: every value is fetched on its own */
};

/* Prefetches only where random_get costs a system call and such a page can be had. */
void randpool_init(struct randpool *pool);
/* The same with the choice made by the caller: for tests and measurements. */
void randpool_init_as(struct randpool *pool, bool prefetches);
void randpool_fini(struct randpool *pool);
/* n fresh bytes; what is handed out is wiped in the pool. The first value of a turn is fetched
 * alone, for the next ones more and more is fetched ahead. Errors: as random_get. */
MUST_CHECK enum err randpool_get(struct randpool *pool, void *out, size_t n);
/* It was used in this turn: randpool_drop has to be called before the thread sleeps. */
static inline bool randpool_wants_drop(const struct randpool *pool)
{
    return pool->page != NULL && pool->page->fill > 0;
}
/* The turn is over: wipes what is left, and begins anew. */
void randpool_drop(struct randpool *pool);

#endif
