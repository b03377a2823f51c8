/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: why a stored value does not open. Gives: that in words. Owns: nothing. Thread: any. */
#ifndef TOOLS_WORDS_H
#define TOOLS_WORDS_H

#include "base/err.h"

/* What the class of a stored value that does not open means. Static storage. */
const char *tools_words(enum err e);

#endif
