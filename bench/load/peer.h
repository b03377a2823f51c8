/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: sockets. Gives: HTTP/2 sessions on them. Owns: descriptors, TLS and nghttp2 sessions,
 * one epoll set. Thread: one.
 *
 * What load generator and stub share. In a turn of the loop every readable connection is read and
 * fed to its session; then what all of them have to say is written, one write a connection where it
 * fits. */
#ifndef BENCH_PEER_H
#define BENCH_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <nghttp2/nghttp2.h>
#include <openssl/ssl.h>

#define PEER_OUT_MAX (256u * 1024)
#define PEER_WINDOW (4 * 1024 * 1024) /* of a stream; of the connection four times as much */

struct peer_loop;

struct peer {
    struct peer_loop *loop;
    int fd;
    SSL *ssl; /* NULL in clear */
    nghttp2_session *session;
    void *owner;
    bool is_ready; /* handshake done */
    bool is_dead;  /* no more input or output; the owner frees it */
    bool is_dirty, wants_out;
    bool ping_is_out; /* a bandwidth probe of ours is not answered yet */
    struct peer *next_dirty;
    size_t out_at, out_len;
    uint8_t *out; /* PEER_OUT_MAX bytes, only while something is queued */
};

/* Something else to be told of, a listening socket. */
struct peer_watch {
    void (*on_readable)(struct peer_watch *w);
    int fd;
};

struct peer_loop {
    int epoll;
    uint64_t now; /* CLOCK_MONOTONIC in ns at the start of the turn */
    struct peer *dirty;
    uint8_t *in;                     /* read buffer */
    void (*on_dead)(struct peer *p); /* called once, at the end of a turn */
    struct peer *dead;
};

uint64_t peer_clock(void);
void peer_loop_init(struct peer_loop *loop, void (*on_dead)(struct peer *p));
void peer_watch_add(struct peer_loop *loop, struct peer_watch *w);

/* "host:port" (numeric) or "unix:/path". Dies on failure. */
int peer_connect(const char *where);
int peer_listen(const char *where);
int peer_accept(int listener); /* -1: none left */

/* A session on a connected, non-blocking socket, with our SETTINGS queued. tls may be NULL. */
struct peer *peer_new(struct peer_loop *loop, int fd, SSL_CTX *tls, bool is_server,
                      const nghttp2_session_callbacks *callbacks, void *owner);
void peer_free(struct peer *p);
/* Its session has something to send: it is flushed at the end of this turn. */
void peer_touch(struct peer *p);
/* As grpc-go does on DATA: one PING at a time, to probe the bandwidth. */
void peer_probe(struct peer *p);
/* Waits at most timeout_ns (UINT64_MAX: for ever), then reads and writes. */
void peer_turn(struct peer_loop *loop, uint64_t timeout_ns);

/* Contexts that speak h2 over TLS 1.3 with AES-128-GCM, which Go's client and server agree on.
 * ca may be NULL: then nothing is verified. */
SSL_CTX *peer_tls_client(const char *ca);
SSL_CTX *peer_tls_server(const char *cert, const char *key);

_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
