/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: the facts of a stored value. Gives: a report on them. Owns: nothing. Thread: any. */
#ifndef TOOLS_EXPLAIN_H
#define TOOLS_EXPLAIN_H

#include <stdio.h>

#include "tools/facts.h"

/* Writes the report: lines for people, or one JSON object. */
void tools_explain(const struct tools_facts *f, FILE *out, bool is_json);

#endif
