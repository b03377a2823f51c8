/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: listen URLs. Gives: accepted fds. Owns: listening sockets. Thread: its loop's
 * (control).
 *
 * When file descriptors run out, accepting pauses for 100 ms at a time; a reserve fd lets the
 * connection in front be closed instead of waiting for ever. */
#ifndef NET_LISTEN_H
#define NET_LISTEN_H

#include "loop/loop.h"
#include "net/addr.h"

struct net_listener;

/* fd is non-blocking, close-on-exec, TCP_NODELAY; the callback owns it. */
typedef void (*net_accept_fn)(void *arg, int fd);

/* Binds and listens. A unix socket gets mode 0600; a stale socket file (nobody answers) is
 * replaced, a live one is ERR_SYSTEM. why gets a text. Where a socket with this address was
 * inherited (net/inherit.h) it is taken, and its file stays when it is closed. */
MUST_CHECK enum err net_listen(struct loop *loop, const struct net_url *url,
                               net_accept_fn on_accept, void *arg, struct net_listener **out,
                               char *why, size_t why_len);
/* What net_listen would say of a unix socket's folder, and of what lies in its place; whether one
 * is in use is not looked at. Errors: ERR_SYSTEM with why. */
MUST_CHECK enum err net_listen_try(const struct net_url *url, char *why, size_t why_len);
/* The port that was bound (for port 0); 0 for unix. */
uint16_t net_listener_port(const struct net_listener *l);
/* Stops accepting, removes a unix socket's file and frees l (from the loop). */
void net_listener_close(struct net_listener *l);

#endif
