/* SPDX-License-Identifier: Apache-2.0 */
/* Handshakes: our server against our client over a socket pair that the test listens on, and our
 * server against a bare OpenSSL client (in a thread) where the client has to be unlike ours. */
#include "net/tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "certs.h"
#include "net/conn.h"
#include "net/listen.h"

static struct certs certs;
static struct loop loop;
static struct slab_pool pool;

struct end {
    struct net_conn *c;
    bool is_open;
    enum net_alpn alpn;
    enum err failed;
    char why[160];
    size_t received;
};

static struct end client, server;
static struct net_tls *server_tls;
static struct net_listener *listener;

/* --- callbacks: both ends close as soon as the outcome is known on both sides --- */

static void on_open(struct net_conn *c)
{
    struct end *e = net_conn_user(c);
    struct chain out = {0};

    e->is_open = true;
    e->alpn = net_conn_alpn(c);
    /* With TLS 1.3 a client learns that it was refused only from the server's next bytes. */
    assert_int_equal(chain_push_copy(&out, &pool, "hello", 5, 0), ERR_OK);
    assert_int_equal(net_conn_write(c, &out), ERR_OK);
    chain_fini(&out);
    net_conn_flush(c);
}

static void on_read(struct net_conn *c, struct slice *s)
{
    struct end *e = net_conn_user(c);

    e->received += s->len;
    slice_drop(s);
    if (e == &client)
        net_conn_close(c, 1000);
}

static void on_eof(struct net_conn *c, enum err why)
{
    struct end *e = net_conn_user(c);

    if (why != ERR_CLOSED) {
        e->failed = why;
        (void)snprintf(e->why, sizeof e->why, "%s", net_conn_why(c));
    }
    net_conn_close(c, 1000);
}

static void on_closed(struct net_conn *c)
{
    struct end *e = net_conn_user(c);

    e->c = NULL;
}

static const struct net_conn_ops ops = {
    .on_open = on_open, .on_read = on_read, .on_eof = on_eof, .on_closed = on_closed};

static void on_accept(void *arg, int fd)
{
    (void)arg;
    assert_int_equal(
        net_conn_accept(&loop, &pool, SLAB_SECRET, fd, server_tls, &ops, &server, &server.c),
        ERR_OK);
}

/* --- the stage --- */

static int setup(void **state)
{
    (void)state;
    client = server = (struct end){0};
    server_tls = NULL;
    listener = NULL;
    slab_pool_init(&pool, 4);
    return loop_init(&loop) == ERR_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    if (listener != NULL)
        net_listener_close(listener);
    loop_stop(&loop);
    loop_run(&loop);
    loop_fini(&loop);
    slab_pool_fini(&pool);
    net_tls_drop(server_tls);
    return 0;
}

/* What a case says; NULL file names mean none. */
struct plan {
    const char *server_cert; /* default "server" */
    const char *client_ca;   /* default "ca" */
    const char *client_cert;
    const char *server_ca; /* clients' CA */
    const char *const *allowed;
    size_t allowed_count;
    const char *host; /* dialled; default 127.0.0.1 */
    bool is_http1;
    bool is_unix;
};

static struct net_tls *make_server(const struct plan *p)
{
    char cert[CERTS_PATH_MAX], key[CERTS_PATH_MAX], ca[CERTS_PATH_MAX], why[300] = "";
    const char *name = p->server_cert != NULL ? p->server_cert : "server";
    struct net_tls_server_opts o = {.cert_file = certs_path(&certs, name, "pem", cert),
                                    .key_file = certs_path(&certs, name, "key", key),
                                    .allowed_names = p->allowed,
                                    .allowed_count = p->allowed_count};
    struct net_tls *t;

    if (p->server_ca != NULL)
        o.ca_file = certs_path(&certs, p->server_ca, "pem", ca);
    if (net_tls_server_new(&o, &t, why, sizeof why) != ERR_OK)
        fail_msg("%s", why);
    return t;
}

static struct net_tls *make_client(const struct plan *p)
{
    char cert[CERTS_PATH_MAX], key[CERTS_PATH_MAX], ca[CERTS_PATH_MAX], why[300] = "";
    const char *name = p->client_ca != NULL ? p->client_ca : "ca";
    struct net_tls_client_opts o = {.ca_file = certs_path(&certs, name, "pem", ca),
                                    .alpn_h2 = !p->is_http1};
    struct net_tls *t;

    if (p->client_cert != NULL) {
        o.cert_file = certs_path(&certs, p->client_cert, "pem", cert);
        o.key_file = certs_path(&certs, p->client_cert, "key", key);
    }
    if (net_tls_client_new(&o, &t, why, sizeof why) != ERR_OK)
        fail_msg("%s", why);
    return t;
}

static void connect_ends(const struct plan *p)
{
    struct net_url url = {.is_tls = true, .is_unix = p->is_unix, .host = "127.0.0.1", .port = "0"};
    struct net_tls *client_tls = make_client(p);
    char why[200] = "";

    server_tls = make_server(p);
    if (p->is_unix)
        (void)snprintf(url.host, sizeof url.host, "@test-tls-%d", getpid());
    assert_int_equal(net_listen(&loop, &url, on_accept, NULL, &listener, why, sizeof why), ERR_OK);
    (void)snprintf(url.port, sizeof url.port, "%u", net_listener_port(listener));
    if (p->host != NULL)
        (void)snprintf(url.host, sizeof url.host, "%s", p->host);
    assert_int_equal(net_conn_dial(&loop, &pool, 0, &url, client_tls, &ops, &client, &client.c),
                     ERR_OK);
    net_tls_drop(client_tls); /* the connection holds its own reference */
    while (client.c != NULL || server.c != NULL)
        (void)uv_run(&loop.uv, UV_RUN_ONCE);
}

static void expect_success(const struct plan *p)
{
    connect_ends(p);
    if (!client.is_open || client.received == 0)
        fail_msg("client: %s; server: %s", client.why, server.why);
    assert_true(server.is_open);
    assert_int_equal(client.failed, ERR_OK);
    assert_int_equal(server.failed, ERR_OK);
}

/* The server must never have seen an open connection; why: part of the client's reason. */
static void expect_client_refuses(const struct plan *p, const char *why)
{
    connect_ends(p);
    assert_false(client.is_open);
    assert_false(server.is_open);
    assert_int_equal(client.failed, ERR_TLS);
    if (strstr(client.why, why) == NULL)
        fail_msg("\"%s\" lacks \"%s\"", client.why, why);
    assert_int_equal(server.failed, ERR_TLS);
    assert_non_null(strstr(server.why, "alert"));
}

static void expect_server_refuses(const struct plan *p, const char *why)
{
    connect_ends(p);
    assert_false(server.is_open);
    assert_int_equal(server.failed, ERR_TLS);
    if (strstr(server.why, why) == NULL)
        fail_msg("\"%s\" lacks \"%s\"", server.why, why);
    assert_int_equal(client.received, 0);
    assert_int_equal(client.failed, ERR_TLS);
    assert_non_null(strstr(client.why, "alert"));
}

/* --- the server's certificate --- */

static void a_good_server_by_ip(void **state)
{
    (void)state;
    expect_success(&(struct plan){0});
    assert_int_equal(client.alpn, NET_ALPN_H2);
    assert_int_equal(server.alpn, NET_ALPN_H2);
}

static void a_good_server_by_name(void **state)
{
    (void)state;
    expect_success(&(struct plan){.host = "localhost"});
}

static void a_good_server_on_a_unix_socket_is_localhost(void **state)
{
    (void)state;
    expect_success(&(struct plan){.is_unix = true});
}

static void an_ip_only_server_is_not_localhost(void **state)
{
    (void)state;
    expect_client_refuses(&(struct plan){.is_unix = true, .server_cert = "server-ip"},
                          "certificate verify failed: hostname mismatch");
}

static void a_server_with_another_ip(void **state)
{
    (void)state;
    expect_client_refuses(&(struct plan){.server_cert = "server-other"},
                          "certificate verify failed: IP address mismatch");
}

static void a_server_with_another_name(void **state)
{
    (void)state;
    expect_client_refuses(&(struct plan){.server_cert = "server-other", .host = "localhost"},
                          "certificate verify failed: hostname mismatch");
}

static void a_server_with_the_name_in_its_cn_only(void **state)
{
    (void)state;
    expect_client_refuses(&(struct plan){.server_cert = "server-cn", .host = "localhost"},
                          "certificate verify failed: hostname mismatch");
}

static void an_ip_as_a_dns_name_does_not_count(void **state)
{
    (void)state;
    expect_client_refuses(&(struct plan){.server_cert = "server-ip-dns"},
                          "certificate verify failed: IP address mismatch");
}

static void a_server_of_another_ca(void **state)
{
    (void)state;
    expect_client_refuses(&(struct plan){.client_ca = "ca2"}, "certificate verify failed: unable");
}

static void an_expired_server(void **state)
{
    (void)state;
    expect_client_refuses(&(struct plan){.server_cert = "server-old"},
                          "certificate verify failed: certificate has expired");
}

static void a_server_from_the_future(void **state)
{
    (void)state;
    expect_client_refuses(&(struct plan){.server_cert = "server-new"},
                          "certificate verify failed: certificate is not yet valid");
}

static void a_leaf_is_no_ca(void **state)
{
    (void)state;
    expect_client_refuses(&(struct plan){.server_cert = "server-by-leaf"},
                          "certificate verify failed");
}

static void an_intermediate_may_be_the_anchor(void **state)
{
    (void)state;
    expect_success(&(struct plan){.server_cert = "server-by-inter", .client_ca = "inter"});
}

/* --- the client's certificate --- */

static void a_client_with_a_certificate(void **state)
{
    (void)state;
    expect_success(&(struct plan){.server_ca = "ca2", .client_cert = "client"});
}

static void a_client_without_one(void **state)
{
    (void)state;
    expect_server_refuses(&(struct plan){.server_ca = "ca2"}, "did not return a certificate");
}

static void a_client_of_another_ca(void **state)
{
    (void)state;
    expect_server_refuses(&(struct plan){.server_ca = "ca2", .client_cert = "server"},
                          "certificate verify failed");
}

static void an_expired_client(void **state)
{
    (void)state;
    expect_server_refuses(&(struct plan){.server_ca = "ca2", .client_cert = "client-old"},
                          "certificate verify failed: certificate has expired");
}

static void allowed_names(void **state)
{
    static const char *const names[] = {"nobody", "etcd-client",  "CLIENT.example", "10.1.2.3",
                                        "::1",    "spiffe://x/y", "a@example"};

    (void)state;
    for (size_t i = 1; i < ARRAY_LEN(names); i++) {
        const char *const two[] = {names[0], names[i]};

        expect_success(&(struct plan){
            .server_ca = "ca2", .client_cert = "client", .allowed = two, .allowed_count = 2});
        assert_int_equal(teardown(NULL), 0);
        assert_int_equal(setup(NULL), 0);
    }
}

static void names_that_are_not_allowed(void **state)
{
    static const char *const names[] = {
        "nobody",    "etcd-clien", "etcd-client2",  "ETCD-CLIENT", "example",
        "*.example", "10.1.2.4",   "::2",           "spiffe://x/", "spiffe://X/y",
        "",          "client",     "client.exampl", "O=client"};

    (void)state;
    expect_server_refuses(&(struct plan){.server_ca = "ca2",
                                         .client_cert = "client",
                                         .allowed = names,
                                         .allowed_count = ARRAY_LEN(names)},
                          "names are not allowed");
}

/* --- ALPN and protocol versions, with a client unlike ours --- */

struct bare_client {
    int fd;
    const char *alpn; /* wire form; NULL: none */
    unsigned alpn_len;
    int max_version;
    const char *ciphers; /* of TLS 1.2 */
    /* outcome */
    bool is_open;
    char selected[32];
    char error[160];
};

static void *bare_main(void *arg)
{
    struct bare_client *b = arg;
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL *ssl;
    const uint8_t *p;
    unsigned n;
    char buf[16];

    SSL_CTX_set_security_level(ctx, 0);
    SSL_CTX_set_min_proto_version(ctx, TLS1_VERSION);
    if (b->max_version != 0)
        SSL_CTX_set_max_proto_version(ctx, b->max_version);
    if (b->ciphers != NULL)
        SSL_CTX_set_cipher_list(ctx, b->ciphers);
    if (b->alpn != NULL)
        SSL_CTX_set_alpn_protos(ctx, (const uint8_t *)b->alpn, b->alpn_len);
    ssl = SSL_new(ctx);
    SSL_set_fd(ssl, b->fd);
    ERR_clear_error();
    b->is_open = SSL_connect(ssl) == 1 && SSL_read(ssl, buf, sizeof buf) == 5;
    if (!b->is_open) {
        const char *reason = ERR_reason_error_string(ERR_peek_error());

        (void)snprintf(b->error, sizeof b->error, "%s", reason != NULL ? reason : "?");
    }
    SSL_get0_alpn_selected(ssl, &p, &n);
    if (n > 0)
        memcpy(b->selected, p, n);
    SSL_shutdown(ssl);
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    close(b->fd);
    ERR_clear_error();
    return NULL;
}

static void run_bare(struct bare_client *b)
{
    int fds[2];
    pthread_t thread;

    server_tls = make_server(&(struct plan){0});
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    b->fd = fds[1];
    on_accept(NULL, fds[0]);
    assert_int_equal(pthread_create(&thread, NULL, bare_main, b), 0);
    while (server.c != NULL)
        (void)uv_run(&loop.uv, UV_RUN_ONCE);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(server.is_open, b->is_open);
}

static void expect_bare_open(struct bare_client b, enum net_alpn alpn, const char *selected)
{
    run_bare(&b);
    if (!b.is_open)
        fail_msg("client: %s; server: %s", b.error, server.why);
    assert_int_equal(server.alpn, alpn);
    assert_string_equal(b.selected, selected);
}

static void expect_bare_refused(struct bare_client b, const char *error)
{
    run_bare(&b);
    assert_false(b.is_open);
    assert_int_equal(server.failed, ERR_TLS);
    if (strstr(b.error, error) == NULL)
        fail_msg("\"%s\" lacks \"%s\" (server: %s)", b.error, error, server.why);
}

#define ALPN(s) .alpn = (s), .alpn_len = sizeof(s) - 1

static void no_alpn(void **state)
{
    (void)state;
    expect_bare_open((struct bare_client){0}, NET_ALPN_NONE, "");
}

static void alpn_h2(void **state)
{
    (void)state;
    expect_bare_open((struct bare_client){ALPN("\2h2")}, NET_ALPN_H2, "h2");
}

static void alpn_http1(void **state)
{
    (void)state;
    expect_bare_open((struct bare_client){ALPN("\10http/1.1")}, NET_ALPN_HTTP1, "http/1.1");
}

static void alpn_h2_wins(void **state)
{
    (void)state;
    expect_bare_open((struct bare_client){ALPN("\3foo\10http/1.1\2h2")}, NET_ALPN_H2, "h2");
}

static void alpn_with_http1_behind_others(void **state)
{
    (void)state;
    expect_bare_open((struct bare_client){ALPN("\3foo\10http/1.1\3h2c")}, NET_ALPN_HTTP1,
                     "http/1.1");
}

static void alpn_of_neither_is_an_alert(void **state)
{
    (void)state;
    expect_bare_refused((struct bare_client){ALPN("\3foo\3h2c\10http/1.0")},
                        "no application protocol");
}

static void alpn_of_our_http1_client(void **state)
{
    (void)state;
    expect_success(&(struct plan){.is_http1 = true});
    assert_int_equal(client.alpn, NET_ALPN_HTTP1);
}

/* A server that knows nothing of ALPN: what it speaks nobody knows. */
struct bare_server {
    int listener, max_version;
    SSL_CTX *ctx;
    bool is_open;    /* its handshake went well */
    bool got_a_byte; /* of what a client would say next */
};

static void *bare_serve(void *arg)
{
    struct bare_server *b = arg;
    int fd = accept(b->listener, NULL, NULL);
    SSL *ssl = SSL_new(b->ctx);
    char byte;

    SSL_set_fd(ssl, fd);
    ERR_clear_error();
    b->is_open = SSL_accept(ssl) == 1;
    b->got_a_byte = SSL_read(ssl, &byte, 1) == 1;
    SSL_free(ssl);
    close(fd);
    ERR_clear_error();
    return NULL;
}

static void bare_listen(struct bare_server *b, struct net_url *url)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    char cert[CERTS_PATH_MAX], key[CERTS_PATH_MAX];
    socklen_t len = sizeof addr;

    b->ctx = SSL_CTX_new(TLS_server_method());
    SSL_CTX_set_max_proto_version(b->ctx, b->max_version);
    assert_int_equal(
        SSL_CTX_use_certificate_chain_file(b->ctx, certs_path(&certs, "server", "pem", cert)), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey_file(b->ctx, certs_path(&certs, "server", "key", key),
                                                 SSL_FILETYPE_PEM),
                     1);
    b->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(b->listener, (struct sockaddr *)&addr, sizeof addr), 0);
    assert_int_equal(listen(b->listener, 1), 0);
    assert_int_equal(getsockname(b->listener, (struct sockaddr *)&addr, &len), 0);
    (void)snprintf(url->port, sizeof url->port, "%u", ntohs(addr.sin_port));
}

static void dial_bare(struct bare_server *b, bool is_http1)
{
    struct net_url url = {.is_tls = true, .host = "127.0.0.1"};
    struct net_tls *tls = make_client(&(struct plan){.is_http1 = is_http1});
    pthread_t thread;

    bare_listen(b, &url);
    assert_int_equal(pthread_create(&thread, NULL, bare_serve, b), 0);
    assert_int_equal(net_conn_dial(&loop, &pool, 0, &url, tls, &ops, &client, &client.c), ERR_OK);
    net_tls_drop(tls);
    if (is_http1) {
        while (!client.is_open)
            (void)uv_run(&loop.uv, UV_RUN_ONCE);
        net_conn_close(client.c, 0);
    }
    while (client.c != NULL)
        (void)uv_run(&loop.uv, UV_RUN_ONCE);
    assert_int_equal(pthread_join(thread, NULL), 0);
    close(b->listener);
    SSL_CTX_free(b->ctx);
}

static void h2_is_demanded_of_servers(void **state)
{
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
        struct bare_server b = {.max_version = versions[i]};

        client = (struct end){0};
        dial_bare(&b, false);
        assert_true(b.is_open);
        assert_false(b.got_a_byte);
        assert_false(client.is_open);
        assert_int_equal(client.failed, ERR_TLS);
        assert_string_equal(client.why, "tls: the server does not speak HTTP/2 (ALPN)");
        /* HTTP/1.1 is what is spoken without ALPN. */
        client = (struct end){0};
        dial_bare(&b, true);
        assert_int_equal(client.failed, ERR_OK);
    }
}

static void tls_12_is_good(void **state)
{
    (void)state;
    expect_bare_open((struct bare_client){ALPN("\2h2"), .max_version = TLS1_2_VERSION}, NET_ALPN_H2,
                     "h2");
}

static void tls_11_is_refused(void **state)
{
    (void)state;
    expect_bare_refused((struct bare_client){ALPN("\2h2"), .max_version = TLS1_1_VERSION},
                        "protocol version");
}

static void tls_12_without_aead_is_refused(void **state)
{
    (void)state;
    expect_bare_refused((struct bare_client){ALPN("\2h2"), .max_version = TLS1_2_VERSION,
                                             .ciphers = "ECDHE-ECDSA-AES128-SHA256:"
                                                        "ECDHE-ECDSA-AES256-SHA"},
                        "handshake failure");
}

static void noise_is_not_tls(void **state)
{
    int fds[2];

    (void)state;
    server_tls = make_server(&(struct plan){0});
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(write(fds[1], "GET / HTTP/1.1\r\n\r\n", 18), 18);
    on_accept(NULL, fds[0]);
    while (server.c != NULL)
        (void)uv_run(&loop.uv, UV_RUN_ONCE);
    assert_int_equal(server.failed, ERR_TLS);
    assert_false(server.is_open);
    close(fds[1]);
}

static void a_silent_client_is_given_up(void **state)
{
    uint64_t begin = loop_hrtime_ns(), ms;
    int fds[2];

    (void)state;
    server_tls = make_server(&(struct plan){0});
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    on_accept(NULL, fds[0]);
    while (server.c != NULL)
        (void)uv_run(&loop.uv, UV_RUN_ONCE);
    ms = (loop_hrtime_ns() - begin) / 1000000;
    assert_int_equal(server.failed, ERR_TIMEOUT);
    assert_true(ms >= LIMIT_HANDSHAKE_MS - 100 && ms < LIMIT_HANDSHAKE_MS + 3000);
    close(fds[1]);
}

/* One connection's failure leaves its traces in the thread's error queue; the next must not mind.
 */
static void a_failure_does_not_spill_over(void **state)
{
    (void)state;
    connect_ends(&(struct plan){.server_cert = "server-other"});
    assert_int_equal(client.failed, ERR_TLS);
    assert_int_equal(teardown(NULL), 0);
    assert_int_equal(setup(NULL), 0);
    ERR_raise(ERR_LIB_SSL, SSL_R_BAD_LENGTH);
    expect_success(&(struct plan){0});
}

/* --- constructors --- */

static void server_files_are_checked(void **state)
{
    char cert[CERTS_PATH_MAX], key[CERTS_PATH_MAX], other[CERTS_PATH_MAX];
    const char *good_cert = certs_path(&certs, "server", "pem", cert);
    const char *good_key = certs_path(&certs, "server", "key", key);
    const char *other_key = certs_path(&certs, "client", "key", other);
    static const char *const names[] = {"x"};
    const struct {
        struct net_tls_server_opts o;
        const char *why;
    } cases[] = {
        {{.cert_file = "/nonexistent.pem", .key_file = good_key},
         "/nonexistent.pem: No such file or directory"},
        {{.cert_file = good_cert, .key_file = "/nonexistent.key"},
         "/nonexistent.key: No such file or directory"},
        {{.cert_file = good_cert}, "missing"},
        {{.key_file = good_key}, "missing"},
        {{.cert_file = good_cert, .key_file = other_key}, other_key},
        {{.cert_file = good_key, .key_file = good_key}, good_key},
        {{.cert_file = good_cert, .key_file = good_cert}, good_cert},
        {{.cert_file = good_cert, .key_file = good_key, .ca_file = "/nonexistent.ca"},
         "/nonexistent.ca: No such file or directory"},
        {{.cert_file = good_cert, .key_file = good_key, .ca_file = good_key}, good_key},
        {{.cert_file = good_cert, .key_file = good_key, .require_client_cert = true}, "CA"},
        {{.cert_file = good_cert, .key_file = good_key, .allowed_names = names, .allowed_count = 1},
         "CA"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct net_tls *t = (struct net_tls *)&cases;
        char why[400] = "";

        assert_int_equal(net_tls_server_new(&cases[i].o, &t, why, sizeof why), ERR_TLS);
        assert_null(t);
        if (strstr(why, cases[i].why) == NULL)
            fail_msg("case %zu: \"%s\" lacks \"%s\"", i, why, cases[i].why);
    }
}

static void hosts_that_a_certificate_names(void **state)
{
    static const struct {
        const char *cert, *host;
        bool is_named;
    } cases[] = {
        {"server", "localhost", true},
        {"server", "127.0.0.1", true},
        {"server", "::1", true},
        {"server", "127.0.0.2", false},
        {"server", "localhost2", false},
        {"server-ip", "localhost", false},
        {"server-ip", "127.0.0.1", true},
        {"server-ip-dns", "127.0.0.1", false},
        {"server-by-inter", "127.0.0.1", true},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct plan p = {.server_cert = cases[i].cert};
        struct net_tls *t = make_server(&p);

        if (net_tls_names_host(t, cases[i].host) != cases[i].is_named)
            fail_msg("%s, %s", cases[i].cert, cases[i].host);
        net_tls_drop(t);
    }
}

static void client_files_are_checked(void **state)
{
    char cert[CERTS_PATH_MAX], key[CERTS_PATH_MAX];
    const char *good_cert = certs_path(&certs, "server", "pem", cert);
    const char *good_key = certs_path(&certs, "server", "key", key);
    const struct {
        struct net_tls_client_opts o;
        const char *why;
    } cases[] = {
        {{.ca_file = "/nonexistent.ca"}, "/nonexistent.ca: No such file or directory"},
        {{.ca_file = good_cert, .cert_file = good_cert}, "missing"},
        {{.ca_file = good_cert, .key_file = good_key}, "missing"},
        {{.ca_file = good_key}, good_key},
    };
    struct net_tls *t;
    char why[400] = "";

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(net_tls_client_new(&cases[i].o, &t, why, sizeof why), ERR_TLS);
        assert_null(t);
        if (strstr(why, cases[i].why) == NULL)
            fail_msg("case %zu: \"%s\" lacks \"%s\"", i, why, cases[i].why);
    }
    assert_int_equal(net_tls_client_new(&(struct net_tls_client_opts){0}, &t, why, sizeof why),
                     ERR_OK); /* the system's store */
    assert_ptr_equal(net_tls_ref(t), t);
    net_tls_drop(t);
    net_tls_drop(t);
    net_tls_drop(NULL);
}

/* --- certificates --- */

static int group_setup(void **state)
{
    static const struct cert_opts all[] = {
        {.name = "ca", .cn = "ca"},
        {.name = "ca2", .cn = "ca2"},
        {.name = "inter", .issuer = "ca", .cn = "inter", .is_ca = true},
        {.name = "server", .issuer = "ca", .san = "DNS:localhost,IP:127.0.0.1,IP:::1"},
        {.name = "server-ip", .issuer = "ca", .san = "IP:127.0.0.1"},
        {.name = "server-other",
         .issuer = "ca",
         .san = "DNS:localhost2,DNS:*.localhost,IP:127.0.0.2"},
        {.name = "server-cn", .issuer = "ca", .cn = "localhost"},
        {.name = "server-ip-dns", .issuer = "ca", .cn = "127.0.0.1", .san = "DNS:127.0.0.1"},
        {.name = "server-old",
         .issuer = "ca",
         .san = "IP:127.0.0.1",
         .from_s = -7200,
         .to_s = -3600},
        {.name = "server-new", .issuer = "ca", .san = "IP:127.0.0.1", .from_s = 3600, .to_s = 7200},
        {.name = "server-by-leaf", .issuer = "server", .san = "IP:127.0.0.1"},
        {.name = "server-by-inter", .issuer = "inter", .san = "IP:127.0.0.1"},
        {.name = "client",
         .issuer = "ca2",
         .cn = "etcd-client",
         .san = "DNS:client.example,IP:10.1.2.3,IP:::1,URI:spiffe://x/y,email:a@example"},
        {.name = "client-old", .issuer = "ca2", .cn = "c", .from_s = -7200, .to_s = -3600},
    };

    (void)state;
    signal(SIGPIPE, SIG_IGN);
    certs_init(&certs);
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        certs_make(&certs, &all[i]);
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    certs_remove(&certs);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        T(a_good_server_by_ip),
        T(a_good_server_by_name),
        T(a_good_server_on_a_unix_socket_is_localhost),
        T(an_ip_only_server_is_not_localhost),
        T(a_server_with_another_ip),
        T(a_server_with_another_name),
        T(a_server_with_the_name_in_its_cn_only),
        T(an_ip_as_a_dns_name_does_not_count),
        T(a_server_of_another_ca),
        T(an_expired_server),
        T(a_server_from_the_future),
        T(a_leaf_is_no_ca),
        T(an_intermediate_may_be_the_anchor),
        T(a_client_with_a_certificate),
        T(a_client_without_one),
        T(a_client_of_another_ca),
        T(an_expired_client),
        T(allowed_names),
        T(names_that_are_not_allowed),
        T(no_alpn),
        T(alpn_h2),
        T(alpn_http1),
        T(alpn_h2_wins),
        T(alpn_with_http1_behind_others),
        T(alpn_of_neither_is_an_alert),
        T(alpn_of_our_http1_client),
        T(h2_is_demanded_of_servers),
        T(tls_12_is_good),
        T(tls_11_is_refused),
        T(tls_12_without_aead_is_refused),
        T(noise_is_not_tls),
        T(a_silent_client_is_given_up),
        T(a_failure_does_not_spill_over),
        T(server_files_are_checked),
        T(hosts_that_a_certificate_names),
        T(client_files_are_checked),
    };

    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
