/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: a URL and a path. Gives: what one HTTP/1.1 GET brings. Owns: the connection.
 * Thread: its loop's. */
#ifndef CLIENT_HTTP_GET_H
#define CLIENT_HTTP_GET_H

#include "http1/http1.h"
#include "net/conn.h"

struct client_http_get;

/* r NULL: there is no answer, and why says so. Both are borrowed for the call. */
typedef void (*client_http_fn)(void *arg, const struct http1_response *r, const char *why);

/* fn is called once, from the loop, after at most ms. tls: for an https URL, without ALPN h2. g
 * frees itself when its connection is closed, which the loop waits for. Errors: ERR_NOMEM. */
MUST_CHECK enum err client_http_get(struct loop *loop, const struct net_url *url,
                                    struct net_tls *tls, const char *path, uint64_t ms,
                                    client_http_fn fn, void *arg, struct client_http_get **out);
/* fn is not called any more. Only before it was. */
void client_http_cancel(struct client_http_get *g);

#endif
