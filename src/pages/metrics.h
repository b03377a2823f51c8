/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: a state. Gives: the body of /metrics. Owns: nothing. Thread: control. */
#ifndef PAGES_METRICS_H
#define PAGES_METRICS_H

#include <stdio.h>

#include "pages/state.h"

/* At the start: what does not change, and the hash of the configuration. */
void pages__metrics_init(const struct pages_state *st);
/* Brings up to date what is looked at only now, then writes everything. Errors: ERR_NOMEM. */
MUST_CHECK enum err pages__metrics_write(const struct pages_state *st, FILE *f);

#endif
