/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: file names. Gives: one call soon after what they name may have changed. Owns: its
 * handles. Thread: its loop's.
 *
 * Every directory entry through which a name resolves is watched, symlinks and their targets
 * included. So it notices a file that is replaced, a link or directory on the way that is switched,
 * and a file that appears. Whether the content really differs is for the caller to find out. */
#ifndef LOOP_WATCH_H
#define LOOP_WATCH_H

#include "loop/loop.h"

struct loop_watch;

/* fn is called once soon, for what changed before it was watched, then at most every 100 ms after
 * events, and every interval_ms in any case: for what cannot be watched that is all. Relative names
 * are resolved in the present working directory. Errors: ERR_NOMEM. */
MUST_CHECK enum err loop_watch_new(struct loop *loop, const char *const *paths, size_t count,
                                   uint64_t interval_ms, void (*fn)(void *arg), void *arg,
                                   struct loop_watch **out);
/* w may be NULL. fn is not called any more. */
void loop_watch_close(struct loop_watch *w);

#endif
