/* SPDX-License-Identifier: Apache-2.0 */
#include "failing_alloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/secret.h"

#define TRIES_MAX 10000u

static _Thread_local size_t count;
static _Thread_local size_t first = SIZE_MAX, last; /* these fail */
static _Thread_local bool has_failed, is_paused;

void *__real_malloc(size_t n);
void *__real_calloc(size_t items, size_t n);
void *__real_realloc(void *p, size_t n);
char *__real_strdup(const char *s);
int __real_vasprintf(char **out, const char *fmt, va_list args);
void *__real_secret_alloc(size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t items, size_t n);
void *__wrap_realloc(void *p, size_t n);
char *__wrap_strdup(const char *s);
int __wrap_asprintf(char **out, const char *fmt, ...);
int __wrap_vasprintf(char **out, const char *fmt, va_list args);
void *__wrap_secret_alloc(size_t n);

static void order(size_t from, size_t to)
{
    count = 0;
    first = from;
    last = to;
    has_failed = false;
    is_paused = false;
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

void alloc_pause(bool paused)
{
    is_paused = paused;
}

bool alloc_fails(void)
{
    if (is_paused)
        return false;
    count++;
    if (count < first || count > last)
        return false;
    has_failed = true;
    return true;
}

void *__wrap_malloc(size_t n)
{
    return alloc_fails() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t items, size_t n)
{
    return alloc_fails() ? NULL : __real_calloc(items, n);
}

void *__wrap_realloc(void *p, size_t n)
{
    return alloc_fails() ? NULL : __real_realloc(p, n);
}

char *__wrap_strdup(const char *s)
{
    return alloc_fails() ? NULL : __real_strdup(s);
}

int __wrap_vasprintf(char **out, const char *fmt, va_list args)
{
    return alloc_fails() ? -1 : __real_vasprintf(out, fmt, args);
}

int __wrap_asprintf(char **out, const char *fmt, ...)
{
    va_list args;
    int n;

    va_start(args, fmt);
    n = __wrap_vasprintf(out, fmt, args);
    va_end(args);
    return n;
}

void *__wrap_secret_alloc(size_t n)
{
    return alloc_fails() ? NULL : __real_secret_alloc(n);
}

/* And no slab in stock, so that each try asks for the same. */
static uint64_t live_bytes(struct slab_pool *pool)
{
    if (pool == NULL)
        return 0;
    slab_pool_settle(pool);
    slab_pool_trim(pool, 0);
    return pool->live_bytes;
}

/* True when the order was carried out. */
static bool fails_well(void (*give_order)(size_t n), size_t n, enum err (*once)(void),
                       struct slab_pool *pool)
{
    uint64_t before = live_bytes(pool);
    enum err e;
    bool had_failed;

    give_order(n);
    e = once();
    had_failed = alloc_recover();
    assert_int_equal(e, had_failed ? ERR_NOMEM : ERR_OK);
    assert_int_equal(live_bytes(pool), before);
    return had_failed;
}

size_t alloc_fail_each(enum err (*once)(void), struct slab_pool *pool)
{
    size_t n = 1;

    while (fails_well(alloc_fail_once, n, once, pool)) {
        assert_true(fails_well(alloc_fail_from, n, once, pool));
        n++;
        assert_true(n < TRIES_MAX);
    }
    assert_true(n > 1);
    return n - 1;
}
