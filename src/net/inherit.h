/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: listening sockets that a service manager opened and passed (LISTEN_FDS, LISTEN_PID and
 * LISTEN_FDNAMES: sd_listen_fds(3)). Gives: them to net_listen, which takes the one with its URL's
 * address instead of opening another. Owns: those that nobody has taken. Thread: main's before
 * there are others, then control.
 *
 * The manager keeps the sockets open over a restart: whoever connects meanwhile waits in their
 * queue, and nobody is refused. */
#ifndef NET_INHERIT_H
#define NET_INHERIT_H

#include "net/addr.h"

#define NET_INHERIT_MAX 32

/* Takes over what the environment announces for this process, and takes it out of the environment.
 * Before there are other threads. Errors: ERR_CONFIG with why: something that is no listening
 * stream socket, or a socket file to which everybody may connect. */
MUST_CHECK enum err net_inherit(char *why, size_t why_len);
/* If exactly one socket has this name (FileDescriptorName=) the address in url becomes that
 * socket's; is_tls stays. */
void net_inherit_address(const char *name, struct net_url *url);
/* The address of a socket that net_listen has not taken, with out as its memory; NULL: all are
 * taken. Nobody would answer on it. */
const char *net_inherit_left(char out[static NET_URL_MAX]);

#endif
