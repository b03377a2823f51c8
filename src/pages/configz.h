/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: a state. Gives: the body of /configz: the settings and the encryption
 * configuration in use, as YAML, without any secret. Owns: nothing. Thread: control. */
#ifndef PAGES_CONFIGZ_H
#define PAGES_CONFIGZ_H

#include <stdio.h>

#include "pages/state.h"

/* Errors: ERR_NOMEM. */
MUST_CHECK enum err pages__configz_write(const struct pages_state *st, FILE *f);

#endif
