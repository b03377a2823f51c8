/* SPDX-License-Identifier: Apache-2.0 */
#include "tls_pair.h"

#include <signal.h>

#include "certs.h"

static struct certs certs;
struct net_tls *server_tls, *client_tls;

int tls_pair_setup(void **state)
{
    char cert[CERTS_PATH_MAX], key[CERTS_PATH_MAX], ca[CERTS_PATH_MAX], why[256];
    struct net_tls_server_opts server = {0};
    struct net_tls_client_opts client = {.alpn_h2 = true};

    (void)state;
    signal(SIGPIPE, SIG_IGN);
    certs_init(&certs);
    certs_make(&certs, &(struct cert_opts){.name = "ca", .cn = "ca"});
    certs_make(&certs, &(struct cert_opts){.name = "leaf", .issuer = "ca", .san = "IP:127.0.0.1"});
    server.cert_file = certs_path(&certs, "leaf", "pem", cert);
    server.key_file = certs_path(&certs, "leaf", "key", key);
    client.ca_file = certs_path(&certs, "ca", "pem", ca);
    if (net_tls_server_new(&server, &server_tls, why, sizeof why) != ERR_OK)
        return -1;
    return net_tls_client_new(&client, &client_tls, why, sizeof why) == ERR_OK ? 0 : -1;
}

int tls_pair_teardown(void **state)
{
    (void)state;
    net_tls_drop(server_tls);
    net_tls_drop(client_tls);
    certs_remove(&certs);
    return 0;
}
