/* SPDX-License-Identifier: Apache-2.0 */
/* A server's and a client's settings of TLS whose certificates are made for each other, for as long
 * as a group of tests runs. The client verifies 127.0.0.1, and wants h2. */
#ifndef TLS_PAIR_H
#define TLS_PAIR_H

#include "net/tls.h"

extern struct net_tls *server_tls, *client_tls;

/* For cmocka_run_group_tests. SIGPIPE is ignored from then on. */
int tls_pair_setup(void **state);
int tls_pair_teardown(void **state);

#endif
