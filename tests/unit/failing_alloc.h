/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that runs out to order. A program that links the library failing_alloc has malloc, calloc,
 * realloc, strdup and secret_alloc of our own code turned into those here (by the linker's --wrap);
 * calls inside of shared libraries are not met. Each thread counts for itself. */
#ifndef TESTS_FAILING_ALLOC_H
#define TESTS_FAILING_ALLOC_H

#include <stdbool.h>
#include <stddef.h>

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

#endif
