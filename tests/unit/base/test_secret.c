/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/crypto.h>

#include "base/secret.h"

/* Runs first. */
static void nothing_before_init(void **state)
{
    (void)state;
    assert_null(secret_alloc(32));
}

static void init_closes_the_ways_out(void **state)
{
    struct rlimit core;

    (void)state;
    assert_int_equal(secret_init(), ERR_OK);
    assert_int_equal(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0), 0);
    assert_int_equal(getrlimit(RLIMIT_CORE, &core), 0);
    assert_int_equal(core.rlim_max, 0);
    assert_true(secret_is_locked());
    assert_int_equal(secret_init(), ERR_OK);
}

static void memory_is_zeroed_and_comes_back(void **state)
{
    size_t before = CRYPTO_secure_used();
    uint8_t *p = secret_alloc(48);

    (void)state;
    assert_non_null(p);
    assert_true(CRYPTO_secure_allocated(p));
    for (size_t i = 0; i < 48; i++)
        assert_int_equal(p[i], 0);
    memset(p, 's', 48);
    secret_free(p, 48);
    assert_int_equal(CRYPTO_secure_used(), before);
    p = secret_alloc(48);
    assert_non_null(p);
    for (size_t i = 0; i < 48; i++)
        assert_int_equal(p[i], 0);
    secret_free(p, 48);
    secret_free(NULL, 48);
}

/* Whatever lies in the heap: a child has none of it. */
static void a_child_gets_zeros(void **state)
{
    uint8_t *small = secret_alloc(32), *large = secret_alloc(100000);
    int status;
    pid_t pid;

    (void)state;
    assert_non_null(small);
    assert_non_null(large);
    memset(small, 's', 32);
    memset(large, 'l', 100000);
    pid = fork();
    if (pid == 0) {
        for (size_t i = 0; i < 100000; i++)
            if (large[i] != 0 || small[i % 32] != 0)
                _exit(1);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(small[31], 's');
    secret_free(small, 32);
    secret_free(large, 100000);
}

static void full_is_null(void **state)
{
    static void *p[64];
    size_t n = 0;

    (void)state;
    while ((p[n] = secret_alloc(256 * 1024)) != NULL)
        assert_in_range(++n, 1, ARRAY_LEN(p) - 1);
    assert_int_not_equal(n, 0);
    while (n > 0)
        secret_free(p[--n], 256 * 1024);
    assert_null(secret_alloc(64 * 1024 * 1024));
}

static void wipe(void **state)
{
    uint8_t p[] = "secret";

    (void)state;
    secret_wipe(p, 3);
    assert_memory_equal(p, "\0\0\0ret", 6);
}

/* Of any size, too large ones refused; ASan sees what is written beside a block. */
static void heap(void **state)
{
    (void)state;
    secret_heap_free(NULL);
    for (size_t n = 0; n < 300; n += 7) {
        uint8_t *p = secret_heap_alloc(n);

        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 16, 0);
        memset(p, 0xa5, n);
        secret_heap_free(p);
    }
    assert_null(secret_heap_alloc(SIZE_MAX));
    assert_null(secret_heap_alloc(SIZE_MAX - 8));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_before_init),
        cmocka_unit_test(init_closes_the_ways_out),
        cmocka_unit_test(memory_is_zeroed_and_comes_back),
        cmocka_unit_test(a_child_gets_zeros),
        cmocka_unit_test(full_is_null),
        cmocka_unit_test(wipe),
        cmocka_unit_test(heap),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
