/* SPDX-License-Identifier: Apache-2.0 */
/* A turn: wait; read each readable connection until it is empty, feeding nghttp2; then flush the
 * dirty ones. Failure modes: end of file, a reset, a TLS or HTTP/2 error make the connection dead:
 * it is taken out of the set and handed to on_dead at the end of the turn, when nobody stands on it
 * any more. */
#include "peer.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>

#define IN_MAX (256u * 1024)
#define TURN_EVENTS 256
#define TURN_READS 8 /* of one connection before the others have their turn */

void die(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(1);
}

uint64_t peer_clock(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void peer_loop_init(struct peer_loop *loop, void (*on_dead)(struct peer *p))
{
    *loop = (struct peer_loop){.epoll = epoll_create1(EPOLL_CLOEXEC), .on_dead = on_dead};
    loop->in = malloc(IN_MAX);
    if (loop->epoll < 0 || loop->in == NULL)
        die("no loop: %s", strerror(errno));
    signal(SIGPIPE, SIG_IGN); /* OpenSSL writes without MSG_NOSIGNAL */
    loop->now = peer_clock();
}

/* --- sockets --------------------------------------------------------------------------------- */

union address {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_un un;
};

static socklen_t parse_address(const char *where, union address *out)
{
    const char *colon = strrchr(where, ':');
    char host[64];
    struct addrinfo hints = {.ai_family = AF_INET, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
    struct addrinfo *info;

    memset(out, 0, sizeof *out);
    if (strncmp(where, "unix:", 5) == 0) {
        out->un.sun_family = AF_UNIX;
        if (strlen(where + 5) >= sizeof out->un.sun_path)
            die("%s: too long", where);
        memcpy(out->un.sun_path, where + 5, strlen(where + 5) + 1);
        return sizeof out->un;
    }
    if (colon == NULL || (size_t)(colon - where) >= sizeof host)
        die("%s: not host:port or unix:/path", where);
    memcpy(host, where, (size_t)(colon - where));
    host[colon - where] = '\0';
    if (getaddrinfo(host, colon + 1, &hints, &info) != 0)
        die("%s: not a numeric address", where);
    memcpy(&out->in, info->ai_addr, sizeof out->in);
    freeaddrinfo(info);
    return sizeof out->in;
}

static void set_nodelay(int fd)
{
    int one = 1;

    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* fails on unix sockets */
}

int peer_connect(const char *where)
{
    union address a;
    socklen_t n = parse_address(where, &a);
    int fd = socket(a.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || connect(fd, &a.any, n) != 0)
        die("%s: %s", where, strerror(errno));
    set_nodelay(fd);
    (void)fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

int peer_listen(const char *where)
{
    union address a;
    socklen_t n = parse_address(where, &a);
    int one = 1, fd = socket(a.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        die("%s: %s", where, strerror(errno));
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (a.any.sa_family == AF_UNIX)
        (void)unlink(a.un.sun_path);
    if (bind(fd, &a.any, n) != 0 || listen(fd, 1024) != 0)
        die("%s: %s", where, strerror(errno));
    return fd;
}

int peer_accept(int listener)
{
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd >= 0)
        set_nodelay(fd);
    return fd;
}

/* --- connections ----------------------------------------------------------------------------- */

static void control(struct peer *p, int op, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.ptr = p};

    if (epoll_ctl(p->loop->epoll, op, p->fd, &e) != 0)
        die("epoll_ctl: %s", strerror(errno));
}

/* Watches are told from connections by the lowest bit of the pointer. */
void peer_watch_add(struct peer_loop *loop, struct peer_watch *w)
{
    struct epoll_event e = {.events = EPOLLIN, .data.u64 = (uintptr_t)w | 1};

    if (epoll_ctl(loop->epoll, EPOLL_CTL_ADD, w->fd, &e) != 0)
        die("epoll_ctl: %s", strerror(errno));
}

struct peer *peer_new(struct peer_loop *loop, int fd, SSL_CTX *tls, bool is_server,
                      const nghttp2_session_callbacks *callbacks, void *owner)
{
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 10000},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, PEER_WINDOW},
    };
    struct peer *p = calloc(1, sizeof *p);
    nghttp2_option *option;

    if (p == NULL || nghttp2_option_new(&option) != 0)
        die("out of memory");
    *p = (struct peer){.loop = loop, .fd = fd, .owner = owner, .is_ready = tls == NULL};
    nghttp2_option_set_no_http_messaging(option, 1);
    if ((is_server ? nghttp2_session_server_new2
                   : nghttp2_session_client_new2)(&p->session, callbacks, p, option) != 0)
        die("out of memory");
    nghttp2_option_del(option);
    if (nghttp2_submit_settings(p->session, NGHTTP2_FLAG_NONE, settings, 2) != 0 ||
        nghttp2_session_set_local_window_size(p->session, NGHTTP2_FLAG_NONE, 0, PEER_WINDOW * 4) !=
            0)
        die("out of memory");
    if (tls != NULL) {
        p->ssl = SSL_new(tls);
        if (p->ssl == NULL || SSL_set_fd(p->ssl, fd) != 1)
            die("out of memory");
        if (is_server)
            SSL_set_accept_state(p->ssl);
        else
            SSL_set_connect_state(p->ssl);
    }
    control(p, EPOLL_CTL_ADD, EPOLLIN);
    peer_touch(p);
    return p;
}

void peer_free(struct peer *p)
{
    nghttp2_session_del(p->session);
    SSL_free(p->ssl);
    close(p->fd);
    free(p->out);
    free(p);
}

void peer_touch(struct peer *p)
{
    if (p->is_dirty || p->is_dead)
        return;
    p->is_dirty = true;
    p->next_dirty = p->loop->dirty;
    p->loop->dirty = p;
}

void peer_probe(struct peer *p)
{
    if (p->ping_is_out || nghttp2_submit_ping(p->session, NGHTTP2_FLAG_NONE, NULL) != 0)
        return;
    p->ping_is_out = true;
    peer_touch(p);
}

static void condemn(struct peer *p)
{
    if (p->is_dead)
        return;
    control(p, EPOLL_CTL_DEL, 0);
    p->is_dead = true;
    if (p->is_dirty) /* stays in the dirty list until the flush has passed */
        return;
    p->next_dirty = p->loop->dead;
    p->loop->dead = p;
}

static void want_out(struct peer *p, bool wants)
{
    if (p->wants_out == wants)
        return;
    p->wants_out = wants;
    control(p, EPOLL_CTL_MOD, wants ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

/* As read(2) and write(2); -1 with EAGAIN when it has to wait, with EPROTO when TLS failed. */
static ssize_t tls_result(struct peer *p, int n)
{
    int e;

    if (n > 0)
        return n;
    e = SSL_get_error(p->ssl, n);
    if (e == SSL_ERROR_ZERO_RETURN)
        return 0;
    errno = e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE ? EAGAIN : EPROTO;
    return -1;
}

static ssize_t peer_read(struct peer *p, uint8_t *to, size_t n)
{
    if (p->ssl == NULL)
        return read(p->fd, to, n);
    ERR_clear_error();
    return tls_result(p, SSL_read(p->ssl, to, (int)n));
}

static ssize_t peer_write(struct peer *p, const uint8_t *from, size_t n)
{
    if (p->ssl == NULL)
        return send(p->fd, from, n, MSG_NOSIGNAL);
    ERR_clear_error();
    return tls_result(p, SSL_write(p->ssl, from, (int)n));
}

static bool handshake(struct peer *p)
{
    int r, e;

    if (p->is_ready)
        return true;
    ERR_clear_error();
    r = SSL_do_handshake(p->ssl);
    if (r == 1) {
        p->is_ready = true;
        peer_touch(p);
        return true;
    }
    e = SSL_get_error(p->ssl, r);
    if (e != SSL_ERROR_WANT_READ && e != SSL_ERROR_WANT_WRITE)
        condemn(p);
    return false;
}

/* In clear a short read means that the socket is empty. TLS is read to the end: epoll does not know
 * of what it holds. */
static void read_all(struct peer *p)
{
    for (int i = 0; p->ssl != NULL || i < TURN_READS; i++) {
        ssize_t n = peer_read(p, p->loop->in, IN_MAX);

        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0 || nghttp2_session_mem_recv(p->session, p->loop->in, (size_t)n) != n) {
            condemn(p);
            return;
        }
        peer_touch(p);
        if (p->ssl == NULL && (size_t)n < IN_MAX)
            return;
    }
}

/* False: the socket is full, or the connection dead. */
static bool write_out(struct peer *p)
{
    while (p->out_at < p->out_len) {
        ssize_t n = peer_write(p, p->out + p->out_at, p->out_len - p->out_at);

        if (n < 0 && errno == EAGAIN) {
            want_out(p, true);
            return false;
        }
        if (n <= 0) {
            condemn(p);
            return false;
        }
        p->out_at += (size_t)n;
    }
    p->out_at = p->out_len = 0;
    return true;
}

/* Fills the buffer with frames. False: there are none left. */
static bool gather(struct peer *p)
{
    if (p->out == NULL && (p->out = malloc(PEER_OUT_MAX)) == NULL)
        die("out of memory");
    while (PEER_OUT_MAX - p->out_len >= 17 * 1024) {
        const uint8_t *frame;
        ssize_t n = nghttp2_session_mem_send(p->session, &frame);

        if (n < 0) {
            condemn(p);
            return false;
        }
        if (n == 0)
            return false;
        if ((size_t)n > PEER_OUT_MAX - p->out_len)
            die("a frame of %zd bytes", n);
        memcpy(p->out + p->out_len, frame, (size_t)n);
        p->out_len += (size_t)n;
    }
    return true;
}

static void flush(struct peer *p)
{
    bool more = true;

    if (p->is_dead || !handshake(p) || !write_out(p)) /* a client speaks first */
        return;
    while (more && !p->is_dead) {
        more = gather(p);
        if (p->is_dead || !write_out(p))
            return;
    }
    want_out(p, false);
    free(p->out);
    p->out = NULL;
}

static void flush_dirty(struct peer_loop *loop)
{
    while (loop->dirty != NULL) {
        struct peer *p = loop->dirty;

        loop->dirty = p->next_dirty;
        flush(p);
        p->is_dirty = false;
        if (p->is_dead) {
            p->next_dirty = loop->dead;
            loop->dead = p;
        }
    }
    while (loop->dead != NULL) {
        struct peer *p = loop->dead;

        loop->dead = p->next_dirty;
        loop->on_dead(p);
    }
}

static void on_event(struct peer_loop *loop, const struct epoll_event *e)
{
    struct peer *p = e->data.ptr;

    (void)loop;
    if (e->data.u64 & 1) {
        struct peer_watch *w = (struct peer_watch *)(uintptr_t)(e->data.u64 & ~1ull);

        w->on_readable(w);
        return;
    }
    if (p->is_dead || !handshake(p))
        return;
    if (e->events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        read_all(p);
    if (e->events & EPOLLOUT)
        peer_touch(p);
}

void peer_turn(struct peer_loop *loop, uint64_t timeout_ns)
{
    struct epoll_event events[TURN_EVENTS];
    struct timespec t = {(time_t)(timeout_ns / 1000000000u), (long)(timeout_ns % 1000000000u)};
    int n;

    flush_dirty(loop);
    n = epoll_pwait2(loop->epoll, events, TURN_EVENTS, timeout_ns == UINT64_MAX ? NULL : &t, NULL);
    loop->now = peer_clock();
    for (int i = 0; i < n; i++)
        on_event(loop, &events[i]);
    flush_dirty(loop);
}

/* --- TLS ------------------------------------------------------------------------------------- */

static const uint8_t alpn_h2[] = {2, 'h', '2'};

static int choose_h2(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                     const unsigned char *in, unsigned in_len, void *arg)
{
    (void)ssl;
    (void)arg;
    if (SSL_select_next_proto((unsigned char **)out, out_len, alpn_h2, sizeof alpn_h2, in,
                              in_len) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    return SSL_TLSEXT_ERR_OK;
}

static SSL_CTX *tls_new(const SSL_METHOD *method)
{
    SSL_CTX *ctx = SSL_CTX_new(method);

    if (ctx == NULL || SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_ciphersuites(ctx, "TLS_AES_128_GCM_SHA256") != 1)
        die("no TLS context");
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(ctx, 1);
    return ctx;
}

SSL_CTX *peer_tls_client(const char *ca)
{
    SSL_CTX *ctx = tls_new(TLS_client_method());

    if (SSL_CTX_set_alpn_protos(ctx, alpn_h2, sizeof alpn_h2) != 0)
        die("no ALPN");
    if (ca != NULL && SSL_CTX_load_verify_locations(ctx, ca, NULL) != 1)
        die("%s: no certificates", ca);
    SSL_CTX_set_verify(ctx, ca != NULL ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
    return ctx;
}

SSL_CTX *peer_tls_server(const char *cert, const char *key)
{
    SSL_CTX *ctx = tls_new(TLS_server_method());

    if (SSL_CTX_use_certificate_chain_file(ctx, cert) != 1 ||
        SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1)
        die("%s, %s: no certificate or key", cert, key);
    SSL_CTX_set_alpn_select_cb(ctx, choose_h2, NULL);
    return ctx;
}
