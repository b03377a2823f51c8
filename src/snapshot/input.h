/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: nothing. Gives: where the reader has its bytes from. Owns: nothing. Thread: any. */
#ifndef SNAPSHOT_INPUT_H
#define SNAPSHOT_INPUT_H

#include "base/err.h"

/* Room for what is wrong with a file, in words. */
#define SNAPSHOT_WHY_MAX 300u

/* The database, without a hash behind it. Bytes are copied out (a file's by pread) rather than
 * mapped: a mapped file that is cut short meanwhile ends the program with SIGBUS, and of one that
 * is written meanwhile a length could change between its check and its use. */
struct snapshot_input {
    /* Exactly n bytes from at on; at + n <= size. Errors: ERR_SYSTEM, ERR_FILE_DAMAGED (the bytes
     * are not there any more). */
    enum err (*read)(void *arg, uint64_t at, uint8_t *out, size_t n);
    void *arg;
    uint64_t size;
};

#endif
