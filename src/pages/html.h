/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: markup of ours and values of anybody's. Gives: HTML in which no value can be markup.
 * Owns: nothing. Thread: any. */
#ifndef PAGES_HTML_H
#define PAGES_HTML_H

#include <stdio.h>

#include "base/base.h"

/* Writes the markup, which is constant text of ours, with a value in place of each %s, for text
 * between tags or within a quoted attribute. What HTML reads as markup there is escaped, and what
 * is no UTF-8 or a control character becomes U+FFFD. %s is the only conversion. */
PRINTF_LIKE(2, 3) void pages__html(FILE *f, const char *markup, ...);

#endif
