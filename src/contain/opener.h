/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: the files that a process reads again and again. Gives: descriptors of them, also when
 * the process may not open anything any more. Owns: a process that was forked at the start.
 * Thread: control.
 *
 * Files are replaced by others of their name, symbolic links on their way are switched (in volumes
 * of Kubernetes those of directories), and some are root's alone. Landlock binds to directories as
 * they were at the start and a user's rights are fewer than root's, so somebody who kept the right
 * to look has to do so: the opener. It is made before there is a secret in memory, and knows the
 * names from then. A request is a number of its list, never a name:
 *
 *   worker                              opener
 *   {LOOK or OPEN, index}  ---------->  stat(2), or open(2) to read
 *                          <----------  {errno, mode}, and the descriptor (SCM_RIGHTS)
 *
 * It hands out regular files only, has no capability but to read, a list of 20 system calls, and
 * ends when the worker's end of the socket is closed. */
#ifndef CONTAIN_OPENER_H
#define CONTAIN_OPENER_H

#include "base/err.h"

#define OPENER_FILES_MAX 16u

/* Before threads and secrets. paths: as given, NULLs are skipped; they outlive the process's need.
 * Errors: ERR_SYSTEM. */
MUST_CHECK enum err opener_start(const char *const *paths, size_t count);
/* base/file.h asks it from now on. Without opener_start nothing changes. */
void opener_use(void);
/* Ends it. */
void opener_stop(void);

#endif
