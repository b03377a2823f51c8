/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: what a process that serves may still need. Gives: a process that can do little else,
 * and what of it is in force. Owns: nothing. Thread: the only one of the process, for capabilities
 * and Landlock are a thread's own, and threads that are made later inherit them.
 *
 * Decisions:
 *  - Files that are read again later (the configuration, keys, certificates) are opened by a helper
 *    that was made before: see opener.h. The process itself then needs no file at all, but what
 *    libraries read by themselves.
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

#include <sys/types.h>

#include "base/err.h"

enum contain_part {
    CONTAIN_USER,       /* another user than root */
    CONTAIN_PRIVILEGES, /* no_new_privs, no capabilities */
    CONTAIN_LANDLOCK,
    CONTAIN_SECCOMP,
    CONTAIN_OPENER, /* another process opens files: see opener.h. It may end before this one */
    CONTAIN_PARTS,
};

#define CONTAIN_GROUPS_MAX 64
#define CONTAIN_FOLDERS_MAX 32

struct contain_user {
    const char *name;
    uid_t uid;
    gid_t gid;
    gid_t groups[CONTAIN_GROUPS_MAX];
    size_t group_count;
};

/* The lists end with NULL. */
struct contain_opts {
    bool drop_privileges;
    bool landlock;
    bool seccomp;
    bool seccomp_log; /* calls that are not on the list are let through; the kernel logs them */
    bool is_required; /* a part that was asked for and cannot be had is an error */
    const struct contain_user *user;                      /* NULL: as now */
    const char *read_folders[CONTAIN_FOLDERS_MAX + 1];    /* what libraries read by themselves */
    const char *socket_folders[CONTAIN_FOLDERS_MAX + 1];  /* sockets are removed there at the end */
    const char *connect_sockets[CONTAIN_FOLDERS_MAX + 1]; /* we have to be let in there */
};

/* A part of containment: whether it holds, and how, or why not. */
struct contain_state {
    bool is_in_force;
    char text[120];
};

/* Before anything else of the process: libuv is not to use io_uring, whose operations no filter
 * sees. It has an environment variable for that, which since 1.49 does not concern the ring that
 * each loop has for epoll_ctl; so with seccomp, which would refuse calls for that ring later on,
 * the kernel lets nobody make one from here on. no_new_privs is set then. */
void contain_prepare(bool seccomp);
/* Errors: ERR_SYSTEM with why, which names --user: there is none such, or we are not root. */
MUST_CHECK enum err contain_find_user(const char *name, struct contain_user *out, char *why,
                                      size_t why_len);
/* What contain_process would find of o->user, in its words, without becoming it. closed: one of
 * o->socket_folders in which the user could not remove a socket; NULL: none. Errors: ERR_SYSTEM
 * with why. */
MUST_CHECK enum err contain_try_user(const struct contain_opts *o, const char **closed, char *why,
                                     size_t why_len);
/* Once; the opener is used from here on. Errors: ERR_SYSTEM with why, which ends the start: what is
 * done by then can't be undone. */
MUST_CHECK enum err contain_process(const struct contain_opts *o, char *why, size_t why_len);
/* As contain_process left it, but that the opener may have ended since; before, or in a process
 * without it: not in force. */
const struct contain_state *contain_state(enum contain_part part);
/* "user", "privileges", "landlock", "seccomp", "opener". */
const char *contain_part_name(enum contain_part part);
/* One line of the log. */
void contain_log(void);

#endif
