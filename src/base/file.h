/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: an open file or pipe. Gives: its bytes to their end. Owns: nothing. Thread: any; with a
 * wait only before serving starts, since it blocks. */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include <errno.h>
#include <limits.h>

#include "base/err.h"

/* How long a start waits for a pipe's writer, such as `sops -d` in <(sops -d FILE). */
#define FILE_WAIT_MS 10000u

/* Values of errno that are not those of the file: see contain/opener.h. */
#define FILE_OPENER_GONE EOWNERDEAD
#define FILE_OPENER_LATE ETIME

/* Who looks at files and opens them in place of this process, which may not do it itself any more.
 * Both leave -1 with errno when they can't. */
struct file_opener {
    /* The file's mode, as stat(2) tells it. */
    int (*look)(const char *path, unsigned *mode);
    /* As file_open. */
    int (*open)(const char *path);
};
/* From now on all functions here ask it. It stays in place; NULL: nobody. Thread: the one that
 * opens files, control. */
void file_use_opener(const struct file_opener *o);

/* True for what is there once, at the start: a pipe, a terminal or the like, and whatever is named
 * by a descriptor of this process (/dev/stdin, /dev/fd/N, /proc/self/fd/N), be it a file. False for
 * files, directories and what is missing. */
bool file_is_read_once(const char *path);
/* The mode of a file with secrets when it gives others than owner and group any right; else 0, and
 * when it cannot be looked at, too. */
unsigned file_open_mode(const char *path);
/* False: nobody can look at this file at present, for who does so for this process does not answer,
 * or has ended. A system call of our own might hang, then. */
bool file_can_be_looked_at(const char *path);
/* Takes the first name off a path that is walked step by step. False: there is none left, or it is
 * longer than any file's. */
bool file_path_next(char *path, char name[static NAME_MAX + 1]);
/* Opens for file_read_all: never blocks, also where nobody has opened a FIFO to write. Returns the
 * descriptor, or -1 with errno. */
int file_open(const char *path);
/* The same by this process itself, whoever opens for it. */
int file_open_here(const char *path);
/* The text of errno after file_open: strerror's, but where the opener is to blame. */
const char *file_open_problem(int error);
/* Reads to the end, or until cap bytes are there, and waits at most wait_ms in all for a pipe's
 * writers. Errors: ERR_SYSTEM with errno, which is ETIMEDOUT when they did not close it by then. */
MUST_CHECK enum err file_read_all(int fd, uint8_t *buf, size_t cap, unsigned wait_ms, size_t *len);
/* The text of errno after file_read_all: strerror's, but for a pipe that was not closed. */
const char *file_read_problem(int error);

#endif
