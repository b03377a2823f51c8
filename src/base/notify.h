/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: what a service manager should know. Gives: one datagram on the socket that
 * NOTIFY_SOCKET names (sd_notify(3)), so that nobody needs libsystemd for it. Owns: nothing.
 * Thread: any. */
#ifndef BASE_NOTIFY_H
#define BASE_NOTIFY_H

#include "base/base.h"

/* state: lines such as "READY=1", without a line feed at the end; "": only the status changes.
 * status: for people, one line; its control characters are replaced, for it may come from a file,
 * and a line of its own would be one more assignment. Without NOTIFY_SOCKET nothing happens; never
 * blocks. False: there is a manager, and it was not told. */
bool notify_manager(const char *state, const char *status);

#endif
