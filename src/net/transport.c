/* SPDX-License-Identifier: Apache-2.0 */
/* The two transports. Plain: recv(2), and sendmsg(2) that gathers up to 64 slices. TLS: OpenSSL on
 * the descriptor itself.
 *
 * TLS, in the order of a connection's life:
 *   1. SSL_do_handshake until it is done;
 *   2. SSL_read, one record a call; read-ahead keeps further records inside OpenSSL, so has_pending
 *      tells the caller to go on although poll is silent;
 *   3. SSL_write, one record of at most 16 KiB a call: from a slice directly when it fills a
 *      record, else gathered in a scratch buffer. After WANT_WRITE the same bytes are offered
 *      again, possibly from elsewhere and with more behind them, which
 *      SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER allows;
 *   4. SSL_shutdown sends close_notify.
 *
 * Failure modes:
 *  - OpenSSL's error queue belongs to the thread, not to the session, so that one connection's
 *    error would condemn the next in SSL_get_error: the queue is cleared before every call;
 *  - a peer closes without close_notify (RFC 8446 section 6.1): a failure, not an end. */
#include "net/net_int.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/metrics.h"
#include "base/secret.h"

#define GATHER_MAX 64
#define RECORD_MAX 16384    /* RFC 8446 section 5.1 */
#define KEY_UPDATES_MAX 16u /* that one read goes on behind */

const char *net__errno_text(int error, char *buf, size_t len)
{
    return strerror_r(error, buf, len); /* glibc's own, which may return other memory than buf */
}

void net__tune(int fd)
{
    static const struct {
        int level, name, value;
    } opts[] = {
        {IPPROTO_TCP, TCP_NODELAY, 1},   {SOL_SOCKET, SO_KEEPALIVE, 1},
        {IPPROTO_TCP, TCP_KEEPIDLE, 30}, {IPPROTO_TCP, TCP_KEEPINTVL, 10},
        {IPPROTO_TCP, TCP_KEEPCNT, 3},
    };
    int domain = 0;
    socklen_t len = sizeof domain;

    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) != 0 || domain == AF_UNIX)
        return;
    /* Tuning only: a socket that refuses one of them still carries bytes. */
    for (size_t i = 0; i < ARRAY_LEN(opts); i++)
        (void)setsockopt(fd, opts[i].level, opts[i].name, &opts[i].value, sizeof opts[i].value);
}

static enum net__io_result system_fail(struct net_conn *c, const char *what, int error)
{
    char buf[64];

    net__conn_set_fail(c, ERR_SYSTEM, "%s: %s", what, net__errno_text(error, buf, sizeof buf));
    return NET__IO_FAIL;
}

/* --- plain --- */

static enum net__io_result plain_ok(struct net_conn *c)
{
    (void)c;
    return NET__IO_OK;
}

static enum net__io_result plain_read(struct net_conn *c, uint8_t *p, size_t cap, size_t *n)
{
    ssize_t got;

    do {
        got = recv(c->fd, p, cap, 0);
    } while (got < 0 && errno == EINTR);
    if (got == 0)
        return NET__IO_EOF;
    if (got < 0)
        return errno == EAGAIN ? NET__IO_WANT_READ : system_fail(c, "read", errno);
    *n = (size_t)got;
    return NET__IO_OK;
}

static enum net__io_result plain_write(struct net_conn *c, size_t *n)
{
    NOT_CLEARED struct iovec iov[GATHER_MAX];
    struct msghdr msg = {.msg_iov = iov};
    size_t total = 0;
    ssize_t sent;

    for (uint32_t i = 0; i < c->out.count && i < GATHER_MAX; i++) {
        struct slice s = *chain_at(&c->out, i);

        iov[msg.msg_iovlen++] = (struct iovec){slice_data(s), s.len};
        total += s.len;
    }
    do {
        sent = sendmsg(c->fd, &msg, MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    if (sent < 0)
        return errno == EAGAIN ? NET__IO_WANT_WRITE : system_fail(c, "write", errno);
    *n = (size_t)sent;
    /* Less than offered: the socket is full, and trying again would only cost a system call. */
    return (size_t)sent < total ? NET__IO_WANT_WRITE : NET__IO_OK;
}

static bool plain_has_pending(const struct net_conn *c)
{
    (void)c;
    return false;
}

const struct net__io net__io_plain = {
    .handshake = plain_ok,
    .read = plain_read,
    .write = plain_write,
    .shutdown = plain_ok,
    .has_pending = plain_has_pending,
};

/* --- TLS --- */

/* Translates the result of an SSL call; error is the errno that it left. */
static enum net__io_result tls_result(struct net_conn *c, int ret, int error)
{
    char why[128];

    switch (SSL_get_error(c->ssl, ret)) {
    case SSL_ERROR_NONE:
        return NET__IO_OK;
    case SSL_ERROR_WANT_READ:
        return NET__IO_WANT_READ;
    case SSL_ERROR_WANT_WRITE:
        return NET__IO_WANT_WRITE;
    case SSL_ERROR_ZERO_RETURN:
        return NET__IO_EOF;
    case SSL_ERROR_SYSCALL:
        if (ERR_peek_error() == 0 && error != 0)
            return system_fail(c, "tls", error);
        break;
    default:
        break;
    }
    net__tls_why(c->ssl, why, sizeof why);
    net__conn_set_fail(c, ERR_TLS, "tls: %s", why);
    return NET__IO_FAIL;
}

/* A server that chose no protocol may speak anything, so we don't speak HTTP/2 to it. */
static enum net__io_result tls_settled(struct net_conn *c)
{
    c->alpn = net__tls_alpn(c->ssl);
    if (!net__tls_demands_h2(c->tls) || c->alpn == NET_ALPN_H2)
        return NET__IO_OK;
    net__conn_set_fail(c, ERR_TLS, "tls: the server does not speak HTTP/2 (ALPN)");
    return NET__IO_FAIL;
}

/* A server that closes instead of answering our first message, as etcd's listener for http does. */
static bool is_unanswered(const SSL *ssl, int error)
{
    return error == SSL_ERROR_SSL && !SSL_is_server(ssl) &&
           SSL_get_state(ssl) == TLS_ST_CW_CLNT_HELLO &&
           ERR_GET_REASON(ERR_peek_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING;
}

static enum net__io_result tls_handshake(struct net_conn *c)
{
    enum net__io_result r;
    int ret;

    ERR_clear_error();
    errno = 0;
    ret = SSL_do_handshake(c->ssl);
    if (ret == 1)
        return tls_settled(c);
    if (is_unanswered(c->ssl, SSL_get_error(c->ssl, ret))) {
        net__conn_set_fail(c, ERR_TLS,
                           "tls: closed by the peer before it said anything (https "
                           "where it should be http?)");
        return NET__IO_FAIL;
    }
    r = tls_result(c, ret, errno);
    if (r == NET__IO_EOF || r == NET__IO_OK) {
        net__conn_set_fail(c, ERR_TLS, "tls: closed by the peer during the handshake");
        return NET__IO_FAIL;
    }
    return r;
}

/* Behind a KeyUpdate SSL_read says WANT_READ although there may be more that was read ahead, of
 * which SSL_has_pending does not tell from OpenSSL 3.2 on, and poll neither. errno says that the
 * socket was not asked in vain. Not for ever, for a peer may send nothing else. */
static enum net__io_result tls_read(struct net_conn *c, uint8_t *p, size_t cap, size_t *n)
{
    int ret = 0, error = 0;

    for (unsigned i = 0; i < KEY_UPDATES_MAX && error == 0; i++) {
        ERR_clear_error();
        errno = 0;
        ret = SSL_read_ex(c->ssl, p, cap, n);
        if (ret == 1)
            return NET__IO_OK;
        error = errno;
        if (SSL_get_error(c->ssl, ret) != SSL_ERROR_WANT_READ)
            break;
    }
    *n = 0;
    return tls_result(c, ret, error);
}

/* Collects up to one record from the head of out. *is_secret: a slab was SLAB_SECRET. */
static size_t gather(const struct chain *out, uint8_t scratch[static RECORD_MAX], bool *is_secret)
{
    size_t n = 0;

    for (uint32_t i = 0; i < out->count && n < RECORD_MAX; i++) {
        struct slice s = *chain_at(out, i);
        size_t part = s.len < RECORD_MAX - n ? s.len : RECORD_MAX - n;

        memcpy(scratch + n, slice_data(s), part);
        n += part;
        *is_secret |= (s.slab->flags & SLAB_SECRET) != 0;
    }
    metric_add(METRIC_bytes_copied_total, n);
    return n;
}

static enum net__io_result tls_write(struct net_conn *c, size_t *n)
{
    uint8_t scratch[RECORD_MAX];
    struct slice head = *chain_at(&c->out, 0);
    const uint8_t *p = slice_data(head);
    size_t len = head.len < RECORD_MAX ? head.len : RECORD_MAX;
    size_t used = 0;
    bool is_secret = false;
    int ret, error;

    /* Small slices are copied together to fill a record: a record of its own for each frame header
     * would cost a system call and a TCP segment. */
    if (head.len < RECORD_MAX && c->out.count > 1) {
        len = used = gather(&c->out, scratch, &is_secret);
        p = scratch;
    }
    ERR_clear_error();
    errno = 0;
    ret = SSL_write_ex(c->ssl, p, len, n);
    error = errno;
    if (is_secret)
        secret_wipe(scratch, used);
    if (ret == 1)
        return NET__IO_OK;
    *n = 0;
    return tls_result(c, ret, error);
}

static enum net__io_result tls_shutdown(struct net_conn *c)
{
    int ret;

    ERR_clear_error();
    errno = 0;
    ret = SSL_shutdown(c->ssl);
    if (ret >= 0)
        return NET__IO_OK; /* ours is sent; 0: the peer's has not come yet, and it need not */
    return tls_result(c, ret, errno);
}

static bool tls_has_pending(const struct net_conn *c)
{
    return SSL_has_pending(c->ssl) == 1;
}

const struct net__io net__io_tls = {
    .handshake = tls_handshake,
    .read = tls_read,
    .write = tls_write,
    .shutdown = tls_shutdown,
    .has_pending = tls_has_pending,
};
