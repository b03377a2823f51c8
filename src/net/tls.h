/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: certificate files. Gives: TLS contexts. Owns: SSL_CTX objects. Thread: made on the
 * control thread, then immutable and shared (SSL_CTX is refcounted).
 *
 * TLS 1.2 (ECDHE + AEAD) and 1.3 only, no renegotiation, no compression, no early data, tickets
 * off, SSL_OP_CLEANSE_PLAINTEXT, ALPN as given. */
#ifndef NET_TLS_H
#define NET_TLS_H

#include "base/err.h"

struct net_tls; /* an SSL_CTX with our settings; refcounted */

struct net_tls_server_opts {
    const char *cert_file, *key_file; /* PEM, chain first */
    const char *ca_file;              /* NULL: client certificates are not asked for */
    const char *crl_file;             /* PEM or DER; certificates in it are refused; NULL: none */
    bool require_client_cert;         /* etcd: ca_file alone already demands one */
    const char *const *allowed_names; /* CN or SAN (DNS, IP, URI, email) of the client; NULL: any */
    size_t allowed_count;
    bool http1_only; /* ALPN: http/1.1 alone; else h2 before http/1.1 */
};

struct net_tls_client_opts {
    const char *ca_file;              /* NULL: the system's store */
    const char *cert_file, *key_file; /* NULL: no client certificate */
    bool alpn_h2;                     /* demand h2; false: offer http/1.1 */
};

/* why[0..why_len) gets a text that names the file. Errors: ERR_TLS. */
MUST_CHECK enum err net_tls_server_new(const struct net_tls_server_opts *o, struct net_tls **out,
                                       char *why, size_t why_len);
MUST_CHECK enum err net_tls_client_new(const struct net_tls_client_opts *o, struct net_tls **out,
                                       char *why, size_t why_len);
/* When the own certificate ends, in seconds since 1970. False: there is none. */
MUST_CHECK bool net_tls_expiry(const struct net_tls *t, int64_t *unix_s);
/* How many certificates crl_file takes back, and when the first of its lists is out of date, in
 * seconds since 1970; INT64_MAX: none says so. False: there is no such file. */
MUST_CHECK bool net_tls_revoked(const struct net_tls *t, size_t *count, int64_t *unix_s);
/* The own certificate names the host, a DNS name or an IP address. */
MUST_CHECK bool net_tls_names_host(const struct net_tls *t, const char *host);
struct net_tls *net_tls_ref(struct net_tls *t);
void net_tls_drop(struct net_tls *t);

#endif
