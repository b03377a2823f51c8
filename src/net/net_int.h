/* SPDX-License-Identifier: Apache-2.0 */
/* Receives / Gives: what the files of net/ share. Owns: nothing. Thread: the connection's loop. */
#ifndef NET_NET_INT_H
#define NET_NET_INT_H

#include <netdb.h>
#include <openssl/ssl.h>

#include "net/conn.h"

/* Reads in one turn of the loop, so that a connection with much to say delays nobody. */
#define NET__READS_PER_TURN 4
#define NET__BYTES_PER_TURN (256u * 1024) /* then the other connections have their turn */

enum net__state {
    NET__DEAD = 0,  /* never came up: no descriptor, on_eof was called, the owner has to close */
    NET__DIALLING,  /* resolving or connecting */
    NET__HANDSHAKE, /* connected; TLS handshake, or a plain conn before its first turn */
    NET__OPEN,      /* bytes go both ways; after EOF or a failure only outwards or not at all */
    NET__LINGER,    /* closing: what is queued is written, what comes in is discarded */
    NET__DRAIN,     /* closing: our end is shut down, we wait for the peer's */
    NET__CLOSED,    /* no descriptor; the next task calls on_closed and frees */
};

enum net__io_result {
    NET__IO_FAIL = 0, /* c->fail and c->why say what */
    NET__IO_OK,
    NET__IO_WANT_READ,
    NET__IO_WANT_WRITE,
    NET__IO_EOF,
};

/* The two transports, plain and TLS. All work on c->fd and never block. */
struct net__io {
    enum net__io_result (*handshake)(struct net_conn *c);
    /* Reads *n <= cap bytes; *n > 0 only with NET__IO_OK. */
    enum net__io_result (*read)(struct net_conn *c, uint8_t *p, size_t cap, size_t *n);
    /* Writes *n bytes from the head of c->out, which it does not consume. OK: go on. */
    enum net__io_result (*write)(struct net_conn *c, size_t *n);
    /* Tells the peer that nothing more comes, before SHUT_WR. */
    enum net__io_result (*shutdown)(struct net_conn *c);
    /* Bytes lie inside the transport, where poll does not see them. */
    bool (*has_pending)(const struct net_conn *c);
};

extern const struct net__io net__io_plain, net__io_tls;

struct net__dial {
    struct net_conn *conn; /* NULL: closed while the name was being resolved */
    uv_getaddrinfo_t req;
    bool is_resolving; /* req is uv's until its callback */
    struct addrinfo *list, *next;
    uint64_t deadline_ms; /* 0: not begun */
    struct net_url url;
};

struct net_conn {
    struct loop *loop;
    struct slab_pool *pool;
    const struct net_conn_ops *ops;
    void *user;
    const struct net__io *io;
    SSL *ssl;               /* NULL: plain */
    bool has_freed_buffers; /* of ssl, once at least */
    struct net_tls *tls;    /* its context's settings */
    struct net__dial *dial;
    uv_poll_t *poll; /* apart, freed by uv's close callback; NULL without a descriptor */
    int fd;
    int events;      /* watched now */
    int read_wants;  /* the event that the next read (or handshake step) waits for */
    int write_wants; /* the event that ends is_blocked */
    enum net__state state;
    enum err fail; /* reading or writing failed for good */
    enum net_alpn alpn;
    uint32_t slab_flags;
    bool is_reading;   /* the owner wants on_read */
    bool is_eof;       /* on_eof was called */
    bool is_peer_done; /* the peer ended its sending side */
    bool is_blocked;   /* the socket took no more: write_wants */
    bool is_over;      /* out was above LIMIT_CONN_OUT, on_writable is due */
    bool is_flushing;
    bool is_lost;       /* queued bytes were lost for want of memory */
    bool is_busy;       /* bytes moved since the last trim */
    bool forgets;       /* SO_LINGER is set: a close resets */
    uint8_t full_reads; /* in a row, of reads that found more than there was room for */
    struct slab *in;    /* partly filled slab of the last read; NULL while idle */
    struct chain out, unread;
    bool is_put_back; /* net_conn_unread was called in this turn of reading */
    struct loop_task task;
    struct loop_timer timer; /* dial, handshake and linger deadline; in NET__OPEN the trim */
    char peer[80];
    char why[160];
};

/* --- conn.c --- */
/* Notes why the connection failed. */
void net__conn_set_fail(struct net_conn *c, enum err e, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Takes fd over (also on error, when it is closed). Errors: ERR_NOMEM, ERR_SYSTEM. */
MUST_CHECK enum err net__conn_attach(struct net_conn *c, int fd);
void net__conn_detach(struct net_conn *c);
void net__conn_watch(struct net_conn *c, int events);
/* A dialled socket is connected: goes on with the handshake. */
void net__conn_connected(struct net_conn *c);
/* The connection never came up, because of c->fail. */
void net__conn_dead(struct net_conn *c);

/* The owner wants bytes, and the peer may have some. */
bool net__conn_can_read(const struct net_conn *c);
/* Watches what the present wants need. */
void net__conn_update_events(struct net_conn *c);
/* The poll event that a result waits for. */
int net__conn_wants_of(enum net__io_result r);
/* Calls on_eof, once. */
void net__conn_give_eof(struct net_conn *c, enum err why);

/* --- conn_io.c --- */
/* Reads and gives what there is, up to a turn's share. */
void net__conn_read_turn(struct net_conn *c);
/* Bytes are there that poll does not see. */
bool net__conn_has_hidden_bytes(const struct net_conn *c);
/* Memory ran out with bytes queued: the connection fails, for a stream with a hole must not go
 * on. */
/* Whether the kernel drops what it holds for a TCP peer when the socket is closed. */
void net__conn_forget(struct net_conn *c, bool is_on);
void net__conn_lose_bytes(struct net_conn *c);
/* Starts the wait for idleness; gives back what an idle connection does not need. */
void net__conn_arm_trim(struct net_conn *c);
void net__conn_trim(struct net_conn *c);
/* Frees what OpenSSL has of the connection, if it is one over TLS. */
void net__conn_free_tls(struct net_conn *c);

/* --- addr.c --- */
/* path as in net_url.host; returns the length for bind and connect. */
socklen_t net__unix_addr(const char *path, struct sockaddr_un *out);

/* --- inherit.c --- */
/* The inherited socket that listens on this address, now the caller's; -1: there is none. */
int net__inherit_take(const struct net_url *url);

/* --- dial.c --- */
void net__dial_start(struct net_conn *c);
void net__dial_on_poll(struct net_conn *c);
void net__dial_on_timer(struct net_conn *c);
void net__dial_free(struct net_conn *c);

/* --- transport.c --- */
/* "connection refused" and so on, in buf. */
const char *net__errno_text(int error, char *buf, size_t len);
/* NODELAY and keepalive for TCP; nothing for unix sockets. */
void net__tune(int fd);

/* --- tls.c --- */
/* A session for one connection; host is the name to verify, NULL on the server's side. */
MUST_CHECK enum err net__tls_session(struct net_tls *t, const char *host, SSL **out);
enum net_alpn net__tls_alpn(const SSL *ssl);
/* The name in the peer's certificate: its CN, else its first DNS name; cut, printable. False: it
 * has none. */
MUST_CHECK bool net__tls_peer_name(const SSL *ssl, char *out, size_t cap);
/* Is a connection of t over when the server does not choose h2? */
bool net__tls_demands_h2(const struct net_tls *t);
/* Writes why the last call on ssl failed. */
void net__tls_why(const SSL *ssl, char *why, size_t why_len);

/* --- tls_files.c --- */

/* To read a file by. NULL with errno. */
BIO *net__file_bio(const char *path);
/* The first certificate and those behind it; its key; authorities to trust; their names, which a
 * server shows to clients. False or NULL: OpenSSL's queue has the reason. */
bool net__use_chain_file(SSL_CTX *ctx, const char *path);
bool net__use_key_file(SSL_CTX *ctx, const char *path);
bool net__trust_file(SSL_CTX *ctx, const char *path);
STACK_OF(X509_NAME) * net__ca_names(const char *path);

/* --- tls_crl.c: immutable, so of any thread --- */

struct net__crl;
/* The lists of a file in PEM, or the one in DER; the caller's. NULL: OpenSSL's errors say why. */
struct net__crl *net__crl_read(const char *path);
/* Is the certificate's serial number in one of them? c may be NULL: no. */
bool net__crl_has(const struct net__crl *c, X509 *cert);
/* How many serial numbers are in them. */
size_t net__crl_count(const struct net__crl *c);
/* When the first of them is out of date, in seconds since 1970. False: none says so. */
bool net__crl_ends(const struct net__crl *c, int64_t *unix_s);
void net__crl_free(struct net__crl *c);

#endif
