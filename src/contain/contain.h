/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: what a process that serves may still need. Gives: a process that can do little else,
 * and what of it is in force. Owns: nothing. Thread: the only one of the process, for capabilities
 * and Landlock are a thread's own, and threads that are made later inherit them.
 *
 * Decisions:
 *  - Everything happens at one place of the start: listeners are bound and files were read, no
 *    thread and no loop runs yet.
 *  - A part that the kernel, or a container around the process, refuses is left out: the start line
 *    and /configz say so. Only is_required makes it an error.
 *  - A system call that is not on the list answers EPERM, for a library's rare wish must not end
 *    the proxy in front of a cluster. Only what no library wishes, a new program or a look into
 *    another process, ends it. clone3 answers ENOSYS: its flags can't be judged, and libc takes
 *    clone instead.
 *  - Builds with sanitizers or coverage (CONTAIN_INSTRUMENTED) have a longer list, since their
 *    runtimes stop threads and write files. */
#ifndef CONTAIN_CONTAIN_H
#define CONTAIN_CONTAIN_H

#include "base/err.h"

enum contain_part {
    CONTAIN_PRIVILEGES, /* no_new_privs, no capabilities */
    CONTAIN_SECCOMP,
    CONTAIN_PARTS,
};

struct contain_opts {
    bool drop_privileges;
    bool seccomp;
    bool seccomp_log; /* calls that are not on the list are let through; the kernel logs them */
    bool is_required; /* a part that was asked for and cannot be had is an error */
};

/* A part of containment: whether it holds, and how, or why not. */
struct contain_state {
    bool is_in_force;
    char text[120];
};

/* Before anything else of the process: libuv is not to use io_uring, whose calls no filter sees. */
void contain_prepare(void);
/* Once. Errors: ERR_SYSTEM with why, which ends the start: what is done by then can't be undone. */
MUST_CHECK enum err contain_process(const struct contain_opts *o, char *why, size_t why_len);
/* As contain_process left it; before, or in a process without it: not in force. */
const struct contain_state *contain_state(enum contain_part part);
/* "privileges", "seccomp". */
const char *contain_part_name(enum contain_part part);
/* One line of the log. */
void contain_log(void);

#endif
