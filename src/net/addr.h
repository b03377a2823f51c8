/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: URLs as etcd writes them. Gives: socket addresses. Owns: nothing. Thread: any. */
#ifndef NET_ADDR_H
#define NET_ADDR_H

#include <netinet/in.h>
#include <sys/un.h>

#include "base/err.h"

/* http://HOST:PORT  https://HOST:PORT  unix://PATH  unixs://PATH (also unix:PATH, unix:///PATH).
 * As with etcd, unix://NAME:PORT is the socket file "NAME:PORT" in the working directory and
 * unix:///RUN/A.SOCK the absolute path; a path that begins with '@' is an abstract socket. HOST may
 * be a bracketed IPv6 address; a URL with another path than "" or "/", a query or user is refused.
 */
struct net_url {
    bool is_tls;
    bool is_unix;
    char host[256]; /* without brackets; for unix the socket path */
    char port[8];   /* "" for unix */
};

/* Errors: ERR_CONFIG with the reason in why (static text). */
MUST_CHECK enum err net_url_parse(const char *text, struct net_url *out, const char **why);
/* True for loopback addresses, "localhost" and unix sockets: what other machines cannot reach. */
bool net_url_is_local(const struct net_url *u);
/* "https://host:port" in normal form; returns out. */
#define NET_URL_MAX 300
const char *net_url_text(const struct net_url *u, char out[static NET_URL_MAX]);

#endif
