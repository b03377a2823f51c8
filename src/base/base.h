/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: nothing. Gives: the few macros that every file needs. Owns: nothing.
 * Thread: any. */
#ifndef BASE_BASE_H
#define BASE_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MUST_CHECK __attribute__((warn_unused_result))
/* For the rare path of a hot function: inlined, it would make every call save more registers. */
#define NEVER_INLINE __attribute__((noinline))
/* For the body of a hot loop that is made of several functions: all of them become one. */
#define FLATTEN __attribute__((flatten))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
/* For a large local of which nothing is read before it is written: the hardened build
 * (-ftrivial-auto-var-init=zero) would clear all of it at every call. */
#define NOT_CLEARED __attribute__((uninitialized))
#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define CONTAINER_OF(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

/* Prints where and what to stderr and aborts. */
_Noreturn void base_check_failed(const char *file, int line, const char *what);

/* CHECK is for our own bugs and always on; what a peer sends can never reach one.
 * DCHECK is the same for hot loops, in debug builds only. */
#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (!(cond))                                                                               \
            base_check_failed(__FILE__, __LINE__, #cond);                                          \
    } while (0)
#ifdef NDEBUG
#define DCHECK(cond) ((void)sizeof(!(cond)))
#else
#define DCHECK(cond) CHECK(cond)
#endif

/* Allocates or aborts: only before serving starts. */
MUST_CHECK void *base_xcalloc(size_t count, size_t size);
MUST_CHECK char *base_xstrdup(const char *s);

#endif
