/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: nothing. Gives: what the pages say of the program and its process. Owns: nothing.
 * Thread: control. */
#ifndef PAGES_PROCESS_H
#define PAGES_PROCESS_H

#include "base/base.h"

struct pages_build {
    const char *version, *compiler, *platform;
};
extern const struct pages_build pages__build;

/* The name of the machine, as it was when it was asked for first; "" when it has none. */
const char *pages__host(void);
/* Opens what the next two read, while the process may still open it. */
void pages__process_open(void);
/* Open descriptors; 0: not known. */
size_t pages__descriptors(void);
/* Resident memory; 0: not known. */
uint64_t pages__resident_bytes(void);

#endif
