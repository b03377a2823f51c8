/* SPDX-License-Identifier: Apache-2.0 */
#include "failing_alloc.h"

#include <dlfcn.h>
#include <execinfo.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/crypto.h>

#include "base/secret.h"

#define TRIES_MAX 10000u

static _Thread_local size_t count;
static _Thread_local size_t first = SIZE_MAX, last; /* these fail */
static _Thread_local bool has_failed, is_paused;

/* Of the environment: the allocation of the program that fails, and how many there were. */
static bool is_counted;
static unsigned long ordered;
static atomic_ulong allocations;
static bool (*is_sealed_fn)(void);

/* The first allocation of each way to it: of the six functions that stand behind one another. */
#define FRAMES 6
#define OWN_FRAMES 2 /* ours, which stand before them */
#define SITES_MAX 32768u
#define LOOKED_AT 200000u /* allocations beyond that are counted, and that is all */
static struct {
    uint64_t hash; /* 0: free */
    unsigned long number;
} sites[SITES_MAX];
static size_t site_count;
static atomic_flag sites_busy = ATOMIC_FLAG_INIT;

#if defined(__SANITIZE_ADDRESS__)
int __lsan_do_recoverable_leak_check(void);
void __lsan_register_root_region(const void *p, size_t n);
#endif
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

/* --- FAILING_ALLOC --- */

__attribute__((constructor)) static void read_environment(void)
{
    const char *n = getenv("FAILING_ALLOC");

    is_counted = n != NULL;
    if (is_counted)
        ordered = strtoul(n, NULL, 10);
}

__attribute__((destructor)) static void say_count(void)
{
    if (!is_counted)
        return;
    (void)fprintf(stderr, "allocations: %lu\nsites:", atomic_load(&allocations));
    for (size_t i = 0; i < SITES_MAX; i++)
        if (sites[i].hash != 0)
            (void)fprintf(stderr, " %lu", sites[i].number);
    (void)fputc('\n', stderr);
}

static void note_site(uint64_t hash, unsigned long number)
{
    size_t i = hash % SITES_MAX;

    while (atomic_flag_test_and_set(&sites_busy))
        ;
    while (sites[i].hash != 0 && sites[i].hash != hash)
        i = (i + 1) % SITES_MAX;
    if (sites[i].hash == 0 && site_count < SITES_MAX / 2) {
        site_count++;
        sites[i].hash = hash;
        sites[i].number = number;
    }
    atomic_flag_clear(&sites_busy);
}

NEVER_INLINE static void note(unsigned long number)
{
    void *frames[OWN_FRAMES + FRAMES] = {NULL};
    uint64_t hash = 1469598103934665603u; /* FNV-1a */

    (void)backtrace(frames, OWN_FRAMES + FRAMES);
    for (size_t i = OWN_FRAMES; i < OWN_FRAMES + FRAMES; i++)
        hash = (hash ^ (uint64_t)(uintptr_t)frames[i]) * 1099511628211u;
    note_site(hash, number);
}

static bool fails_by_environment(void)
{
    unsigned long number;

    if (!is_counted)
        return false;
    number = atomic_fetch_add(&allocations, 1) + 1;
    if (ordered == 0 && number <= LOOKED_AT)
        note(number);
    return number == ordered;
}

static bool has_failed_by_environment(void)
{
    return ordered > 0 && atomic_load(&allocations) >= ordered;
}

void alloc_on_assertion(bool (*is_sealed)(void))
{
    is_sealed_fn = is_sealed;
}

#if defined(__SANITIZE_ADDRESS__)
/* OpenSSL has states of its own in there that point to more, and the sanitizer would not look. */
static void show_secret_heap(void)
{
    bool is_there = CRYPTO_secure_malloc_initialized() == 1;
    uintptr_t p = is_there ? (uintptr_t)OPENSSL_secure_malloc(1) : 0, start, end;
    FILE *maps = p == 0 ? NULL : fopen("/proc/self/maps", "re");
    char line[512];

    while (maps != NULL && fgets(line, sizeof line, maps) != NULL)
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR, &start, &end) == 2 && start <= p && p < end)
            __lsan_register_root_region((const void *)start, end - start);
    if (maps != NULL)
        (void)fclose(maps);
}
#endif

/* The check opens files of /proc, also where the test has left no descriptor. */
static int find_leaks(void)
{
#if defined(__SANITIZE_ADDRESS__)
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
    show_secret_heap();
    return __lsan_do_recoverable_leak_check();
#else
    return 0;
#endif
}

/* cmocka's: every failed assertion comes here, from the library as well. */
void _fail(const char *const file, const int line)
{
    void (*cmocka)(const char *, int);
    int status = ALLOC_ASSERTED;

    if (has_failed_by_environment()) {
        if (is_sealed_fn != NULL && !is_sealed_fn())
            status = ALLOC_LET_OUT;
        if (find_leaks() != 0)
            status = 99;
        (void)fflush(NULL);
        _exit(status);
    }
    *(void **)&cmocka = dlsym(RTLD_NEXT, "_fail");
    cmocka(file, line);
    abort();
}

bool alloc_fails(void)
{
    if (fails_by_environment())
        return true;
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
