/* SPDX-License-Identifier: Apache-2.0 */
#include "failing_alloc.h"

#include <stdint.h>

#include "base/secret.h"

static _Thread_local size_t count;
static _Thread_local size_t first = SIZE_MAX, last; /* these fail */
static _Thread_local bool has_failed;

void *__real_malloc(size_t n);
void *__real_calloc(size_t items, size_t n);
void *__real_realloc(void *p, size_t n);
char *__real_strdup(const char *s);
void *__real_secret_alloc(size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t items, size_t n);
void *__wrap_realloc(void *p, size_t n);
char *__wrap_strdup(const char *s);
void *__wrap_secret_alloc(size_t n);

static void order(size_t from, size_t to)
{
    count = 0;
    first = from;
    last = to;
    has_failed = false;
}

void alloc_fail_once(size_t n)
{
    order(n, n);
}

void alloc_fail_from(size_t n)
{
    order(n, SIZE_MAX);
}

bool alloc_has_failed(void)
{
    return has_failed;
}

bool alloc_recover(void)
{
    bool had_failed = has_failed;

    order(SIZE_MAX, 0);
    return had_failed;
}

size_t alloc_count(void)
{
    return count;
}

static bool fails(void)
{
    count++;
    if (count < first || count > last)
        return false;
    has_failed = true;
    return true;
}

void *__wrap_malloc(size_t n)
{
    return fails() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t items, size_t n)
{
    return fails() ? NULL : __real_calloc(items, n);
}

void *__wrap_realloc(void *p, size_t n)
{
    return fails() ? NULL : __real_realloc(p, n);
}

char *__wrap_strdup(const char *s)
{
    return fails() ? NULL : __real_strdup(s);
}

void *__wrap_secret_alloc(size_t n)
{
    return fails() ? NULL : __real_secret_alloc(n);
}
