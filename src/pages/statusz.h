/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: a state. Gives: the body of /statusz, the state as JSON; README.md, "Fields of
 * /statusz", has the fields, which are a contract. Owns: nothing. Thread: control. */
#ifndef PAGES_STATUSZ_H
#define PAGES_STATUSZ_H

#include <stdio.h>

#include "pages/diagnosis.h"

/* Errors: ERR_NOMEM. */
MUST_CHECK enum err pages__statusz_write(const struct pages_state *st, FILE *f);

#endif
