/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: Prometheus' text format. Gives: one sample after the other. Owns: nothing. Thread: any.
 * */
#ifndef TOOLS_SAMPLES_H
#define TOOLS_SAMPLES_H

#include "base/bytes.h"

/* Borrows from the text. */
struct tools_sample {
    struct bytes name;
    struct bytes labels; /* between the braces; empty when there are none */
    double value;
};

/* The next sample of the text; lines that are none (comments above all) are skipped. False: no more
 * are left. */
MUST_CHECK bool tools_samples_next(struct bytes *text, struct tools_sample *out);
/* The value of a label, as it is written: escapes are not undone. Empty when there is none. */
struct bytes tools_sample_label(const struct tools_sample *s, const char *name);

#endif
