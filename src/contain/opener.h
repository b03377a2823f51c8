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
 * ends when the worker's end of the socket is closed, however the worker ends (a signal at its
 * parent's death would not do: a parent of another user may not send it to root's). Signals it
 * ignores from its first moment, but SIGKILL and those of its own faults.
 *
 * It cannot be made again, since a contained process may not fork. If it ends even so the worker
 * goes on with what it has read, says so wherever it is asked, and cannot read any file again. If
 * it does not answer (a network file system that hangs) each file is unreadable until it does.
 */
#ifndef CONTAIN_OPENER_H
#define CONTAIN_OPENER_H

#include "base/err.h"

#define OPENER_FILES_MAX 16u

/* Before threads and secrets. paths: as given; they outlive the need for them. NULLs are skipped,
 * and so are pipes and descriptors, which are the process's own and not read again. Errors:
 * ERR_SYSTEM with errno. */
MUST_CHECK enum err opener_start(const char *const *paths, size_t count);
/* base/file.h asks it from now on: errors of its functions may be FILE_OPENER_GONE and
 * FILE_OPENER_LATE then. Without opener_start nothing changes. Errors: ERR_SYSTEM with why: it does
 * not answer. */
MUST_CHECK enum err opener_use(char *why, size_t why_len);
/* On SIGCHLD: if it has ended the log says so, once. */
void opener_look(void);
/* NULL while files can be read, or when there is no opener; else why they cannot. */
const char *opener_problem(void);
/* Ends it. */
void opener_stop(void);

#endif
