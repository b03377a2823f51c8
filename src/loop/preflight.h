/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: how many descriptors and threads a process is about to take. Gives: whether it can have
 * them. Owns: nothing. Thread: one that starts a process, before it serves.
 *
 * libuv ends the process by abort(3), without a word, where it cannot make the threads of its pool
 * (pids limit of a cgroup, RLIMIT_NPROC) or the pipes of its signals (RLIMIT_NOFILE). So both are
 * tried before libuv is asked for anything, and the pool is made at the start, not when the first
 * name is looked up weeks later. */
#ifndef LOOP_PREFLIGHT_H
#define LOOP_PREFLIGHT_H

#include "loop/loop.h"

/* A loop, the pipes that all loops share, and what the start of a process opens besides. */
#define LOOP_DESCRIPTORS 16u

/* What of the system decides whether there may be another process or thread: for the text of an
 * error. */
#define LOOP_PIDS_LIMITS                                                                           \
    "the limit of processes and threads (pids.max of the cgroup: systemd's TasksMax=, a "          \
    "container's pids limit; or RLIMIT_NPROC: ulimit -u, LimitNPROC=)"

/* Can count more be open at a time? None is when it returns. Errors: ERR_SYSTEM with why, which
 * names the limit. */
MUST_CHECK enum err loop_try_descriptors(unsigned count, char *why, size_t why_len);
/* Can count more threads, as libuv makes them, live at a time? None does when it returns. Errors:
 * ERR_SYSTEM with why, which names the limits. */
MUST_CHECK enum err loop_try_threads(unsigned count, char *why, size_t why_len);
/* How many threads look up names, by UV_THREADPOOL_SIZE. */
unsigned loop_pool_threads(void);
/* Makes these now. Errors: ERR_SYSTEM, which does not happen. */
MUST_CHECK enum err loop_start_pool(struct loop *l);

#endif
