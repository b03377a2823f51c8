/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that runs out to order. A program that links the library failing_alloc has malloc, calloc,
 * realloc, strdup, asprintf, vasprintf and secret_alloc of our own code turned into those here (by
 * the linker's --wrap); calls inside of shared libraries are not met. Each thread counts for
 * itself.
 *
 * Every unit test links it, for FAILING_ALLOC=n in the environment has the n-th allocation of the
 * whole program fail, whatever the test orders (fail_each.py tries one n after the other): of
 * src/, not those of tests, which are compiled to call malloc itself (envelope_test_memory in
 * CMakeLists.txt). n = 0: none fails. Then a failed assertion ends the program at once, with status
 * ALLOC_ASSERTED, when memory was out before: the test did not expect it. LeakSanitizer looks for
 * leaks at that moment, while all that the test holds is still in reach. At the end of the program
 * "allocations: N" is written to standard error, and with n = 0 "sites: ...": the number of the
 * first of each that is reached by another way, which is told by six functions. */
#ifndef TESTS_FAILING_ALLOC_H
#define TESTS_FAILING_ALLOC_H

#include <stdbool.h>
#include <stddef.h>

#include "base/slice.h"

/* The n-th allocation from now on fails, n = 1, 2, ...; those behind it work. */
void alloc_fail_once(size_t n);
/* The n-th and all behind it fail. */
void alloc_fail_from(size_t n);
/* One has failed since. */
bool alloc_has_failed(void);
/* All work again. Returns whether one has failed. */
bool alloc_recover(void);
/* Allocations of this thread since the last of the three above. */
size_t alloc_count(void);
/* While is_paused all work, and none counts: for what the test itself needs meanwhile. */
void alloc_pause(bool is_paused);
/* The status of a program that ended by an assertion behind a failed allocation; and of one where
 * the check below found something. */
#define ALLOC_ASSERTED 77
#define ALLOC_LET_OUT 78
/* Is called at that moment, and says whether nothing secret was let out until then; NULL: no. */
void alloc_on_assertion(bool (*is_sealed)(void));
/* For a wrapper of the test's own, around a function that has memory in stock: counts as an
 * allocation; whether it is to fail. */
bool alloc_fails(void);

/* The rule of a function that reports ERR_NOMEM. Runs once() with the first allocation failing,
 * then with the second, ..., until none is left to fail; for each twice: that one alone fails, then
 * it and all behind it. once() has to return ERR_NOMEM where one has failed and ERR_OK where none
 * has, and to leave in pool (may be NULL; is emptied of free slabs here) what was there; more it
 * checks itself. Returns how many allocations have failed in turn: at least one, at most 10,000. */
size_t alloc_fail_each(enum err (*once)(void), struct slab_pool *pool);

#endif
