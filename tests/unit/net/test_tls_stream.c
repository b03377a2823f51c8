/* SPDX-License-Identifier: Apache-2.0 */
/* An open TLS connection whose peer is OpenSSL in the hands of the test: its records are cut
 * anywhere, it renews keys at any moment and asks for ours (RFC 8446 section 4.6.3), and for a
 * while it takes nothing, so that our writes stop in the middle of a record. What it sends is
 * echoed: every byte comes back once and in order, and its close_notify is the end. */
#include <errno.h>
#include <openssl/ssl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "net/conn.h"
#include "tls_pair.h"

#define ROUNDS 12u
#define BYTES 3000000u
#define WAY_MAX 600000u /* bytes that are on their way at most */

static struct loop loop;
static struct slab_pool pool;
static uint32_t seed;

/* Ours. */
static struct {
    struct net_conn *c;
    bool is_eof;
    enum err why;
    char text[160];
} end;

/* The peer. */
static struct {
    SSL *ssl;
    BIO *in, *out;
    int fd;
    uint8_t wire[65536]; /* what has not gone out yet */
    size_t wire_at, wire_len;
    size_t sent, got;
    size_t renewed_at; /* sent before the last new key */
    unsigned keys;
    bool is_deaf;
} peer;

static uint32_t below(uint32_t n)
{
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 8) % n;
}

static uint8_t pattern(size_t at)
{
    return (uint8_t)((uint32_t)at * 2654435761u >> 17);
}

/* --- ours --- */

static void on_read(struct net_conn *c, struct slice *s)
{
    struct chain out = {0};

    assert_int_equal(chain_push(&out, s), ERR_OK);
    (void)!net_conn_write(c, &out); /* on_eof says why it was not taken */
    chain_fini(&out);
    net_conn_flush(c);
}

static void on_eof(struct net_conn *c, enum err why)
{
    end.is_eof = true;
    end.why = why;
    (void)snprintf(end.text, sizeof end.text, "%s", net_conn_why(c));
}

static void on_closed(struct net_conn *c)
{
    (void)c;
    end.c = NULL;
}

static const struct net_conn_ops ops = {
    .on_read = on_read, .on_eof = on_eof, .on_closed = on_closed};

/* --- the peer --- */

static void peer_out(void)
{
    ssize_t n;

    if (peer.wire_at == peer.wire_len) {
        int got = BIO_read(peer.out, peer.wire, sizeof peer.wire);

        peer.wire_at = 0;
        peer.wire_len = got > 0 ? (size_t)got : 0;
    }
    if (peer.wire_len == 0)
        return;
    n = send(peer.fd, peer.wire + peer.wire_at, 1 + below((uint32_t)(peer.wire_len - peer.wire_at)),
             MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n > 0)
        peer.wire_at += (size_t)n;
}

static void peer_in(void)
{
    static uint8_t buf[40000];
    ssize_t n = recv(peer.fd, buf, 1 + below(sizeof buf), MSG_DONTWAIT);
    int got;

    if (n > 0)
        assert_int_equal(BIO_write(peer.in, buf, (int)n), n);
    if (!SSL_is_init_finished(peer.ssl)) {
        (void)SSL_do_handshake(peer.ssl);
        return;
    }
    while ((got = SSL_read(peer.ssl, buf, sizeof buf)) > 0)
        for (int i = 0; i < got; i++)
            assert_int_equal(buf[i], pattern(peer.got++));
    assert_int_equal(SSL_get_error(peer.ssl, got), SSL_ERROR_WANT_READ);
}

static void peer_send(void)
{
    static uint8_t buf[40000];
    size_t n = 1 + below(below(3) == 0 ? sizeof buf : 300);

    if (peer.sent - peer.got > WAY_MAX)
        return;
    n = n < BYTES - peer.sent ? n : BYTES - peer.sent;
    for (size_t i = 0; i < n; i++)
        buf[i] = pattern(peer.sent + i);
    if (n > 0)
        assert_int_equal(SSL_write(peer.ssl, buf, (int)n), n);
    peer.sent += n;
}

/* Not again before we have answered: two in a row, while a record of ours is stuck, are too much
 * for OpenSSL. */
static void peer_renew(void)
{
    int type = below(2) == 0 ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED;

    if (SSL_version(peer.ssl) != TLS1_3_VERSION || peer.got < peer.renewed_at)
        return;
    peer.renewed_at = peer.sent + 1;
    assert_int_equal(SSL_key_update(peer.ssl, type), 1);
    assert_int_equal(SSL_do_handshake(peer.ssl), 1);
    peer.keys++;
}

static void step(void)
{
    if (below(100) == 0)
        peer.is_deaf = !peer.is_deaf && peer.sent - peer.got > WAY_MAX / 2;
    switch (below(8)) {
    case 0:
        if (SSL_is_init_finished(peer.ssl))
            peer_send();
        break;
    case 1:
        if (SSL_is_init_finished(peer.ssl) && below(4) == 0)
            peer_renew();
        break;
    case 2:
    case 3:
        peer_out();
        break;
    case 4:
    case 5:
        if (!peer.is_deaf)
            peer_in();
        break;
    default:
        (void)uv_run(&loop.uv, UV_RUN_NOWAIT);
        break;
    }
    if (end.is_eof)
        fail_msg("the end after %zu of %zu bytes: %s", peer.got, peer.sent, end.text);
}

/* --- rounds --- */

static void begin(SSL_CTX *ctx)
{
    int fd[2], size = 8192;

    memset(&peer, 0, sizeof peer);
    memset(&end, 0, sizeof end);
    assert_int_equal(loop_init(&loop), ERR_OK);
    slab_pool_init(&pool, 4);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
    assert_int_equal(setsockopt(fd[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size), 0);
    assert_int_equal(
        net_conn_accept(&loop, &pool, SLAB_SECRET, fd[0], server_tls, &ops, NULL, &end.c), ERR_OK);
    peer.fd = fd[1];
    peer.ssl = SSL_new(ctx);
    peer.in = BIO_new(BIO_s_mem());
    peer.out = BIO_new(BIO_s_mem());
    assert_true(peer.ssl != NULL && peer.in != NULL && peer.out != NULL);
    SSL_set_bio(peer.ssl, peer.in, peer.out);
    SSL_set_connect_state(peer.ssl);
    (void)SSL_do_handshake(peer.ssl);
}

static void finish(void)
{
    (void)SSL_shutdown(peer.ssl);
    while (!end.is_eof) {
        peer_out();
        (void)uv_run(&loop.uv, UV_RUN_NOWAIT);
    }
    assert_int_equal(end.why, ERR_CLOSED);
    net_conn_close(end.c, 0);
    SSL_free(peer.ssl);
    close(peer.fd);
    loop_stop(&loop);
    loop_run(&loop);
    assert_null(end.c);
    loop_fini(&loop);
    slab_pool_settle(&pool);
    assert_int_equal(pool.live_bytes, 0);
    slab_pool_fini(&pool);
}

static void run(int version)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    unsigned keys = 0;

    assert_non_null(ctx);
    assert_int_equal(SSL_CTX_set_max_proto_version(ctx, version), 1);
    for (uint32_t n = 1; n <= ROUNDS; n++) {
        seed = n;
        begin(ctx);
        while (peer.got < BYTES)
            step();
        assert_int_equal(peer.got, peer.sent);
        keys += peer.keys;
        finish();
    }
    assert_int_equal(keys > 0, version == TLS1_3_VERSION);
    SSL_CTX_free(ctx);
}

static void test_tls_13(void **state)
{
    (void)state;
    run(TLS1_3_VERSION);
}

static void test_tls_12(void **state)
{
    (void)state;
    run(TLS1_2_VERSION);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tls_13),
        cmocka_unit_test(test_tls_12),
    };

    return cmocka_run_group_tests(tests, tls_pair_setup, tls_pair_teardown);
}
