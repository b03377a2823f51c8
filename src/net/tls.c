/* SPDX-License-Identifier: Apache-2.0 */
/* TLS contexts and what is checked of a peer's certificate.
 *
 * As a server: client certificates are demanded as soon as a CA is configured, which is what etcd
 * does (client/pkg/transport ServerConfig); the names of the leaf are checked inside the handshake,
 * so that a client that is not allowed gets an alert and no session.
 *
 * As a client: the chain, and the SAN against the host that was dialled, never the CN (RFC 9525).
 *
 * Failure modes: every unreadable or mismatching file is an error of the constructor; a check that
 * cannot be made refuses. */
#include "net/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/file.h"
#include "base/refcount.h"
#include "net/net_int.h"

/* Four records, so that a long answer takes a quarter of the system calls. Freed while idle. */
#define READ_BUFFER_LEN (4 * 17 * 1024)
#define CIPHERS_12                                                                                 \
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"                                   \
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"                                   \
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
#define CIPHERS_13 "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"

struct net_tls {
    struct refcount refs;
    SSL_CTX *ctx;
    bool is_server;
    bool http1_only;      /* server */
    bool demands_h2;      /* client */
    struct net__crl *crl; /* NULL: none */
    char **allowed;
    size_t allowed_count;
};

/* --- texts --- */

static const char *first_reason(void)
{
    unsigned long error = ERR_peek_error();
    const char *text = ERR_reason_error_string(error);

    /* OpenSSL's "wrong version number" is what whoever mixes the two up would have to read. */
    if (ERR_GET_LIB(error) == ERR_LIB_SSL && ERR_GET_REASON(error) == SSL_R_WRONG_VERSION_NUMBER)
        return "the peer does not speak TLS (https where it should be http?)";
    return text != NULL ? text : "unknown error";
}

static enum err tls_fail(char *why, size_t why_len, const char *what, const char *file)
{
    (void)snprintf(why, why_len, "%s%s%s: %s", what, file != NULL ? " " : "",
                   file != NULL ? file : "", first_reason());
    return ERR_TLS;
}

void net__tls_why(const SSL *ssl, char *why, size_t why_len)
{
    long verify = SSL_get_verify_result(ssl);

    if (verify == X509_V_ERR_APPLICATION_VERIFICATION)
        (void)snprintf(why, why_len, "the client certificate's names are not allowed");
    else if (verify != X509_V_OK && SSL_get_verify_mode(ssl) != SSL_VERIFY_NONE)
        (void)snprintf(why, why_len, "certificate verify failed: %s",
                       X509_verify_cert_error_string(verify));
    else
        (void)snprintf(why, why_len, "%s", first_reason());
}

/* --- the names of a client certificate --- */

static bool asn1_is(const ASN1_STRING *s, const char *name, bool is_dns)
{
    struct bytes want = bytes_str(name);
    struct bytes have = bytes_of(ASN1_STRING_get0_data(s), (size_t)ASN1_STRING_length(s));

    if (have.n != want.n) /* also keeps a NUL inside the name from cutting it */
        return false;
    if (is_dns)
        return strncasecmp((const char *)have.p, name, have.n) == 0;
    return bytes_eq(have, want);
}

static bool ip_is(const ASN1_OCTET_STRING *s, const char *name)
{
    uint8_t ip[16];
    size_t n;

    if (inet_pton(AF_INET, name, ip) == 1)
        n = 4;
    else if (inet_pton(AF_INET6, name, ip) == 1)
        n = 16;
    else
        return false;
    return bytes_eq(bytes_of(ASN1_STRING_get0_data(s), (size_t)ASN1_STRING_length(s)),
                    bytes_of(ip, n));
}

static bool san_is(const GENERAL_NAME *san, const char *name)
{
    switch (san->type) {
    case GEN_DNS:
        return asn1_is(san->d.dNSName, name, true);
    case GEN_EMAIL:
        return asn1_is(san->d.rfc822Name, name, false);
    case GEN_URI:
        return asn1_is(san->d.uniformResourceIdentifier, name, false);
    case GEN_IPADD:
        return ip_is(san->d.iPAddress, name);
    default:
        return false;
    }
}

static bool cn_is(X509 *cert, const char *name)
{
    X509_NAME *subject = X509_get_subject_name(cert);

    for (int i = -1; (i = X509_NAME_get_index_by_NID(subject, NID_commonName, i)) >= 0;) {
        const X509_NAME_ENTRY *entry = X509_NAME_get_entry(subject, i);
        uint8_t *utf8 = NULL;
        int n = ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(entry));
        bool is_same = n >= 0 && bytes_eq(bytes_of(utf8, (size_t)n), bytes_str(name));

        OPENSSL_free(utf8);
        if (is_same)
            return true;
    }
    return false;
}

static bool copy_name(const ASN1_STRING *s, char *out, size_t cap)
{
    uint8_t *utf8 = NULL;
    int n = ASN1_STRING_to_UTF8(&utf8, s);
    size_t len = n < 0 ? 0 : (size_t)n < cap - 1 ? (size_t)n : cap - 1;

    for (size_t i = 0; i < len; i++)
        out[i] = (char)(utf8[i] > 0x20 && utf8[i] < 0x7f ? utf8[i] : '?');
    out[len] = '\0';
    OPENSSL_free(utf8);
    return len > 0;
}

bool net__tls_peer_name(const SSL *ssl, char *out, size_t cap)
{
    X509 *cert = SSL_get0_peer_certificate(ssl);
    X509_NAME *subject = cert == NULL ? NULL : X509_get_subject_name(cert);
    int i = subject == NULL ? -1 : X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    GENERAL_NAMES *sans;
    bool ok = false;

    if (i >= 0 && copy_name(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, i)), out, cap))
        return true;
    sans = cert == NULL ? NULL : X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    for (i = 0; i < sk_GENERAL_NAME_num(sans) && !ok; i++) {
        const GENERAL_NAME *san = sk_GENERAL_NAME_value(sans, i);

        ok = san->type == GEN_DNS && copy_name(san->d.dNSName, out, cap);
    }
    GENERAL_NAMES_free(sans);
    return ok;
}

static bool cert_is_allowed(const struct net_tls *t, X509 *cert)
{
    GENERAL_NAMES *sans = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    bool is_allowed = false;

    for (size_t i = 0; i < t->allowed_count && !is_allowed; i++) {
        is_allowed = cn_is(cert, t->allowed[i]);
        for (int k = 0; k < sk_GENERAL_NAME_num(sans) && !is_allowed; k++)
            is_allowed = san_is(sk_GENERAL_NAME_value(sans, k), t->allowed[i]);
    }
    GENERAL_NAMES_free(sans);
    return is_allowed;
}

static bool is_refused(X509_STORE_CTX *store, int error)
{
    X509_STORE_CTX_set_error(store, error);
    return false;
}

/* Called for each certificate of a chain, the leaf (depth 0) last; may only turn yes into no. */
static int on_verify(int is_ok, X509_STORE_CTX *store)
{
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    const struct net_tls *t = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));

    if (is_ok != 1)
        return is_ok;
    if (net__crl_has(t->crl, X509_STORE_CTX_get_current_cert(store)))
        return is_refused(store, X509_V_ERR_CERT_REVOKED);
    if (X509_STORE_CTX_get_error_depth(store) != 0 || t->allowed_count == 0 ||
        cert_is_allowed(t, X509_STORE_CTX_get_current_cert(store)))
        return 1;
    return is_refused(store, X509_V_ERR_APPLICATION_VERIFICATION);
}

/* --- ALPN --- */

static const uint8_t alpn_h2[] = {2, 'h', '2'};
static const uint8_t alpn_http1[] = {8, 'h', 't', 't', 'p', '/', '1', '.', '1'};

/* h2 before http/1.1, whatever order the client has (RFC 7301 section 3.2: the server chooses). */
static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                   const unsigned char *in, unsigned in_len, void *arg)
{
    static const struct bytes ours[] = {{alpn_h2, sizeof alpn_h2}, {alpn_http1, sizeof alpn_http1}};

    const struct net_tls *t = arg;

    (void)ssl;
    for (size_t i = t->http1_only ? 1 : 0; i < ARRAY_LEN(ours); i++) {
        /* OpenSSL has checked that the list is well formed. */
        for (unsigned at = 0; at < in_len; at += in[at] + 1u) {
            if (!bytes_has_prefix(bytes_of(in + at, in_len - at), ours[i]))
                continue;
            *out = in + at + 1;
            *out_len = in[at];
            return SSL_TLSEXT_ERR_OK;
        }
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

enum net_alpn net__tls_alpn(const SSL *ssl)
{
    const unsigned char *p = NULL;
    unsigned n = 0;

    SSL_get0_alpn_selected(ssl, &p, &n);
    if (bytes_eq(bytes_of(p, n), BYTES_LIT("h2")))
        return NET_ALPN_H2;
    if (bytes_eq(bytes_of(p, n), BYTES_LIT("http/1.1")))
        return NET_ALPN_HTTP1;
    return NET_ALPN_NONE;
}

bool net__tls_demands_h2(const struct net_tls *t)
{
    return t->demands_h2;
}

/* --- contexts --- */

/* Without this callback OpenSSL would ask for the passphrase on the terminal. */
static int no_passphrase(char *buf, int size, int is_writing, void *arg)
{
    (void)buf, (void)size, (void)is_writing, (void)arg;
    return -1;
}

static bool set_protocol(SSL_CTX *ctx)
{
    SSL_CTX_set_options(ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET |
                                 SSL_OP_CLEANSE_PLAINTEXT);
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_clear_mode(ctx, SSL_MODE_AUTO_RETRY);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_read_ahead(ctx, 1);
    SSL_CTX_set_default_read_buffer_len(ctx, READ_BUFFER_LEN);
    SSL_CTX_set_default_passwd_cb(ctx, no_passphrase);
    return SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) == 1 &&
           SSL_CTX_set_cipher_list(ctx, CIPHERS_12) == 1 &&
           SSL_CTX_set_ciphersuites(ctx, CIPHERS_13) == 1 && SSL_CTX_set_num_tickets(ctx, 0) == 1 &&
           SSL_CTX_set_max_early_data(ctx, 0) == 1;
}

static struct net_tls *tls_new(const SSL_METHOD *method, bool is_server)
{
    struct net_tls *t = calloc(1, sizeof *t);

    if (t == NULL)
        return NULL;
    refcount_init(&t->refs);
    t->is_server = is_server;
    ERR_clear_error();
    t->ctx = SSL_CTX_new(method);
    if (t->ctx == NULL || !set_protocol(t->ctx)) {
        net_tls_drop(t);
        return NULL;
    }
    SSL_CTX_set_app_data(t->ctx, t);
    return t;
}

/* A pipe is refused: OpenSSL would wait for its writer without end, and the file is read more than
 * once, to see whether it has changed and to load it again. Of a file that it cannot open OpenSSL
 * tells no reason. */
static enum err check_file(const char *what, const char *path, char *why, size_t why_len)
{
    int fd;

    if (file_is_read_once(path)) {
        (void)snprintf(
            why, why_len,
            "%s %s: it is a pipe or a descriptor; it has to be a file, which is read again", what,
            path);
        return ERR_TLS;
    }
    fd = file_open(path);
    if (fd < 0) {
        (void)snprintf(why, why_len, "%s %s: %s", what, path, file_open_problem(errno));
        return ERR_TLS;
    }
    close(fd);
    return ERR_OK;
}

static enum err load_pair(struct net_tls *t, const char *cert_file, const char *key_file, char *why,
                          size_t why_len)
{
    if (cert_file == NULL || key_file == NULL) {
        (void)snprintf(why, why_len, "a certificate and its key come together: one is missing");
        return ERR_TLS;
    }
    TRY(check_file("certificate file", cert_file, why, why_len));
    TRY(check_file("key file", key_file, why, why_len));
    ERR_clear_error();
    if (!net__use_chain_file(t->ctx, cert_file))
        return tls_fail(why, why_len, "certificate file", cert_file);
    if (!net__use_key_file(t->ctx, key_file))
        return tls_fail(why, why_len, "key file", key_file);
    if (SSL_CTX_check_private_key(t->ctx) != 1)
        return tls_fail(why, why_len, "key file", key_file);
    return ERR_OK;
}

/* Certificates of the file are trusted as they are, intermediates too, as in Go. */
static enum err load_ca(struct net_tls *t, const char *ca_file, char *why, size_t why_len)
{
    TRY(check_file("CA file", ca_file, why, why_len));
    ERR_clear_error();
    if (!net__trust_file(t->ctx, ca_file))
        return tls_fail(why, why_len, "CA file", ca_file);
    X509_STORE_set_flags(SSL_CTX_get_cert_store(t->ctx), X509_V_FLAG_PARTIAL_CHAIN);
    return ERR_OK;
}

static enum err demand_client_cert(struct net_tls *t, const char *ca_file, char *why,
                                   size_t why_len)
{
    STACK_OF(X509_NAME) * names;

    TRY(load_ca(t, ca_file, why, why_len));
    names = net__ca_names(ca_file);
    if (names == NULL)
        return tls_fail(why, why_len, "CA file", ca_file);
    SSL_CTX_set_client_CA_list(t->ctx, names);
    SSL_CTX_set_verify(t->ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, on_verify);
    return ERR_OK;
}

static enum err load_crl(struct net_tls *t, const char *crl_file, char *why, size_t why_len)
{
    if (crl_file == NULL)
        return ERR_OK;
    TRY(check_file("CRL file", crl_file, why, why_len));
    t->crl = net__crl_read(crl_file);
    return t->crl != NULL ? ERR_OK : tls_fail(why, why_len, "CRL file", crl_file);
}

static enum err copy_allowed(struct net_tls *t, const struct net_tls_server_opts *o)
{
    if (o->allowed_names == NULL || o->allowed_count == 0)
        return ERR_OK;
    t->allowed = calloc(o->allowed_count, sizeof *t->allowed);
    if (t->allowed == NULL)
        return ERR_NOMEM;
    for (; t->allowed_count < o->allowed_count; t->allowed_count++) {
        t->allowed[t->allowed_count] = strdup(o->allowed_names[t->allowed_count]);
        if (t->allowed[t->allowed_count] == NULL)
            return ERR_NOMEM;
    }
    return ERR_OK;
}

static enum err server_init(struct net_tls *t, const struct net_tls_server_opts *o, char *why,
                            size_t why_len)
{
    TRY(load_pair(t, o->cert_file, o->key_file, why, why_len));
    SSL_CTX_set_options(t->ctx, SSL_OP_CIPHER_SERVER_PREFERENCE);
    t->http1_only = o->http1_only;
    SSL_CTX_set_alpn_select_cb(t->ctx, on_alpn, t);
    if (copy_allowed(t, o) != ERR_OK) {
        (void)snprintf(why, why_len, "out of memory");
        return ERR_TLS;
    }
    TRY(load_crl(t, o->crl_file, why, why_len));
    if (o->ca_file != NULL)
        return demand_client_cert(t, o->ca_file, why, why_len);
    if (o->require_client_cert || t->allowed_count > 0 || t->crl != NULL) {
        (void)snprintf(why, why_len, "client certificates cannot be checked without a CA file");
        return ERR_TLS;
    }
    return ERR_OK;
}

static enum err client_init(struct net_tls *t, const struct net_tls_client_opts *o, char *why,
                            size_t why_len)
{
    const uint8_t *alpn = o->alpn_h2 ? alpn_h2 : alpn_http1;
    unsigned alpn_len = o->alpn_h2 ? sizeof alpn_h2 : sizeof alpn_http1;

    t->demands_h2 = o->alpn_h2;
    SSL_CTX_set_verify(t->ctx, SSL_VERIFY_PEER, NULL);
    ERR_clear_error();
    if (SSL_CTX_set_alpn_protos(t->ctx, alpn, alpn_len) != 0) /* this one returns 0 on success */
        return tls_fail(why, why_len, "ALPN", NULL);
    if (o->cert_file != NULL || o->key_file != NULL)
        TRY(load_pair(t, o->cert_file, o->key_file, why, why_len));
    if (o->ca_file != NULL)
        return load_ca(t, o->ca_file, why, why_len);
    if (SSL_CTX_set_default_verify_paths(t->ctx) != 1)
        return tls_fail(why, why_len, "the system's CA store", NULL);
    return ERR_OK;
}

enum err net_tls_server_new(const struct net_tls_server_opts *o, struct net_tls **out, char *why,
                            size_t why_len)
{
    struct net_tls *t = tls_new(TLS_server_method(), true);
    enum err e;

    *out = NULL;
    if (t == NULL)
        return tls_fail(why, why_len, "TLS context", NULL);
    e = server_init(t, o, why, why_len);
    if (e != ERR_OK) {
        net_tls_drop(t);
        return e;
    }
    *out = t;
    return ERR_OK;
}

enum err net_tls_client_new(const struct net_tls_client_opts *o, struct net_tls **out, char *why,
                            size_t why_len)
{
    struct net_tls *t = tls_new(TLS_client_method(), false);
    enum err e;

    *out = NULL;
    if (t == NULL)
        return tls_fail(why, why_len, "TLS context", NULL);
    e = client_init(t, o, why, why_len);
    if (e != ERR_OK) {
        net_tls_drop(t);
        return e;
    }
    *out = t;
    return ERR_OK;
}

bool net_tls_expiry(const struct net_tls *t, int64_t *unix_s)
{
    const X509 *cert = SSL_CTX_get0_certificate(t->ctx);
    struct tm tm;

    if (cert == NULL || ASN1_TIME_to_tm(X509_get0_notAfter(cert), &tm) != 1)
        return false;
    *unix_s = timegm(&tm);
    return true;
}

bool net_tls_revoked(const struct net_tls *t, size_t *count, int64_t *unix_s)
{
    if (t->crl == NULL)
        return false;
    *count = net__crl_count(t->crl);
    if (!net__crl_ends(t->crl, unix_s))
        *unix_s = INT64_MAX;
    return true;
}

/* As Go's clients do: an IP address by its own kind of name alone, and never by the subject. */
bool net_tls_names_host(const struct net_tls *t, const char *host)
{
    X509 *cert = SSL_CTX_get0_certificate(t->ctx);
    int is_named = cert == NULL ? 0 : X509_check_ip_asc(cert, host, 0);

    if (is_named == -2) /* it is no IP address */
        is_named = X509_check_host(cert, host, 0, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT, NULL);
    return is_named == 1;
}

struct net_tls *net_tls_ref(struct net_tls *t)
{
    refcount_ref(&t->refs);
    return t;
}

void net_tls_drop(struct net_tls *t)
{
    if (t == NULL || !refcount_drop(&t->refs))
        return;
    SSL_CTX_free(t->ctx);
    for (size_t i = 0; i < t->allowed_count; i++)
        free(t->allowed[i]);
    free(t->allowed);
    net__crl_free(t->crl);
    free(t);
}

/* The name that the server's certificate has to carry in its SAN. */
static bool set_server_name(SSL *ssl, const char *host)
{
    uint8_t ip[16];

    SSL_set_hostflags(ssl,
                      X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (inet_pton(AF_INET, host, ip) == 1 || inet_pton(AF_INET6, host, ip) == 1)
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) == 1;
    /* SNI carries names only (RFC 6066 section 3). */
    return SSL_set1_host(ssl, host) == 1 && SSL_set_tlsext_host_name(ssl, host) == 1;
}

enum err net__tls_session(struct net_tls *t, const char *host, SSL **out)
{
    SSL *ssl;

    CHECK(t->is_server == (host == NULL));
    ERR_clear_error();
    ssl = SSL_new(t->ctx);
    if (ssl == NULL)
        return ERR_NOMEM;
    if (t->is_server) {
        SSL_set_accept_state(ssl);
    } else {
        SSL_set_connect_state(ssl);
        /* An empty name would switch the check off. */
        if (host[0] == '\0' || !set_server_name(ssl, host)) {
            SSL_free(ssl);
            return ERR_TLS;
        }
    }
    *out = ssl;
    return ERR_OK;
}
