/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: figures. Gives: them in words, for people. Owns: nothing. Thread: any. */
#ifndef PAGES_WORDS_H
#define PAGES_WORDS_H

#include "base/base.h"

#define PAGES_WORDS 48

/* All return out. "12.3 MiB", "0 bytes". */
const char *pages__size_words(uint64_t bytes, char out[static PAGES_WORDS]);
/* The two largest units: "3 days 4 hours", "1 minute 1 second". */
const char *pages__duration_words(int64_t seconds, char out[static PAGES_WORDS]);
/* Three digits: "0.12", "12.3", "1,230". */
const char *pages__number_words(double v, char out[static PAGES_WORDS]);
/* A whole number, in groups of three digits. */
const char *pages__count_words(uint64_t n, char out[static PAGES_WORDS]);
/* "4.56 ms", microseconds below that; "-" for NaN. */
const char *pages__latency_words(double seconds, char out[static PAGES_WORDS]);

#endif
