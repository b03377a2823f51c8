/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: sockets. Gives: bytes in order, both ways, plain or TLS alike. Owns: the fd, its
 * uv_poll_t handle and the TLS session. Thread: its loop's.
 *
 * Reads, gathered writes and OpenSSL work directly on the descriptor (no memory BIO). Nothing above
 * net/ can tell plain from TLS. Callbacks may call net_conn_close from inside; the memory goes only
 * after on_closed, which comes later from the loop, never from inside net_conn_close.
 *
 * Of the callbacks only on_wrote and on_writable may come from inside a call of the owner
 * (net_conn_flush); all others come from the loop. on_open, on_writable and on_wrote may be NULL.
 * The program has to ignore SIGPIPE: OpenSSL writes with write(2). */
#ifndef NET_CONN_H
#define NET_CONN_H

#include "base/slice.h"
#include "loop/loop.h"
#include "net/addr.h"
#include "net/tls.h"

struct net_conn;

enum net_alpn { NET_ALPN_NONE, NET_ALPN_H2, NET_ALPN_HTTP1 };

struct net_conn_ops {
    /* The connection can carry bytes: TCP connected (dialled side), TLS handshake done. Comes at
     * most once, before any on_read. For a plain accepted fd it comes from the loop, soon after. */
    void (*on_open)(struct net_conn *c);
    /* Bytes came in: take *s (leave SLICE_EMPTY). At most LIMIT_SLAB_LARGE at once; after a few
     * calls the loop gets its turn. */
    void (*on_read)(struct net_conn *c, struct slice *s);
    /* The queue went below LIMIT_CONN_OUT / 2 after it had been above LIMIT_CONN_OUT. */
    void (*on_writable)(struct net_conn *c);
    /* The kernel took n of the queued bytes. */
    void (*on_wrote)(struct net_conn *c, size_t n);
    /* The peer ended its sending side or the connection failed; why is ERR_CLOSED for a clean end.
     * Nothing can be read any more. The receiver calls net_conn_close sooner or later. */
    void (*on_eof)(struct net_conn *c, enum err why);
    /* Last call; c is freed behind it. */
    void (*on_closed)(struct net_conn *c);
};

/* Takes over an accepted non-blocking fd (also on error, when it is closed). tls NULL: plain. Slabs
 * are of pool and flagged slab_flags. user is the caller's pointer. Errors: ERR_NOMEM, ERR_TLS. */
MUST_CHECK enum err net_conn_accept(struct loop *loop, struct slab_pool *pool, uint32_t slab_flags,
                                    int fd, struct net_tls *tls, const struct net_conn_ops *ops,
                                    void *user, struct net_conn **out);
/* Resolves (in uv's thread pool) and dials url; every address of the name is tried in turn, 5 s in
 * all. Failure comes as on_eof, then on_closed after net_conn_close. With tls the certificate's SAN
 * is checked against the url's host (for unix: "localhost"). */
MUST_CHECK enum err net_conn_dial(struct loop *loop, struct slab_pool *pool, uint32_t slab_flags,
                                  const struct net_url *url, struct net_tls *tls,
                                  const struct net_conn_ops *ops, void *user,
                                  struct net_conn **out);

void *net_conn_user(const struct net_conn *c);
enum net_alpn net_conn_alpn(const struct net_conn *c);
/* Text for logs: "127.0.0.1:2379", "unix", with the reason of the last failure. */
const char *net_conn_peer(const struct net_conn *c);
const char *net_conn_why(const struct net_conn *c);

/* Who the peer of an accepted socket is, for counting: its address without port (of IPv6 the
 * network, a /64, for one machine has as many addresses as it likes), "unix", "?". */
#define NET_WHO_MAX 128
void net_who(int fd, char out[static NET_WHO_MAX]);
/* The same, and behind a slash the name in its client certificate, when it has shown one. */
void net_conn_who(const struct net_conn *c, char out[static NET_WHO_MAX]);

/* Queues bytes: takes all of out (also on error). They leave at the next net_conn_flush. */
MUST_CHECK enum err net_conn_write(struct net_conn *c, struct chain *out);
/* Writes what the socket takes now, the rest when it is writable. */
void net_conn_flush(struct net_conn *c);
size_t net_conn_queued(const struct net_conn *c);
/* Does the kernel hold bytes that the peer's has not acknowledged? */
bool net_conn_has_unacked(const struct net_conn *c);
/* Reading stops, so that the kernel pushes back; or goes on. */
void net_conn_read_stop(struct net_conn *c);
void net_conn_read_start(struct net_conn *c);
/* Puts bytes that were read back in front of what comes (the sniffed first bytes, for a new owner;
 * or, inside on_read, what the owner has no time for): they are given to on_read from the loop, in
 * its next turn, and nothing before them. Takes in. */
MUST_CHECK enum err net_conn_unread(struct net_conn *c, struct chain *in);
/* Changes the owner: the sniffer hands the connection to h2 or http1. */
void net_conn_set_ops(struct net_conn *c, const struct net_conn_ops *ops, void *user);
/* Writes what is queued (bounded by ms), then closes. 0: closes at once. Idempotent; a later call
 * with 0 ends a lingering close. Afterwards only on_wrote and on_closed come. */
void net_conn_close(struct net_conn *c, uint64_t linger_ms);
/* The same at once, and what the kernel still holds for a TCP peer is forgotten, too. Of a socket
 * that is only closed it goes on being sent, for minutes if the peer is silent. */
void net_conn_reset(struct net_conn *c);
/* The same happens when the process ends without having closed it, however that comes: requests
 * that nobody waits for any more are not delivered. */
void net_conn_forget_at_exit(struct net_conn *c);

#endif
