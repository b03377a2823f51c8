/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: a state. Gives: the page at /, which is whole without its script, and with it renews
 * itself. Owns: nothing. Thread: control. */
#ifndef PAGES_STATUS_PAGE_H
#define PAGES_STATUS_PAGE_H

#include <stdio.h>

#include "pages/diagnosis.h"

/* Errors: ERR_NOMEM. */
MUST_CHECK enum err pages__status_page_write(const struct pages_state *st, FILE *f);
/* The page's Content-Security-Policy: its own script and style, which may ask this server alone.
 * Static storage. */
const char *pages__status_page_policy(void);

#endif
