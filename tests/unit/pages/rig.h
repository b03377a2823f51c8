/* SPDX-License-Identifier: Apache-2.0 */
/* A server that serves nobody, for pages to look at: its etcd and its plugins are not there. */
#ifndef TESTS_PAGES_RIG_H
#define TESTS_PAGES_RIG_H

#include "pages/state.h"
#include "server/server_int.h"

#define RIG_HEAD                                                                                   \
    "apiVersion: apiserver.config.k8s.io/v1\n"                                                     \
    "kind: EncryptionConfiguration\n"                                                              \
    "resources:\n"                                                                                 \
    "- resources: [secrets]\n"                                                                     \
    "  providers:\n"
#define RIG_PLUGINS                                                                                \
    RIG_HEAD "  - kms: {apiVersion: v2, name: new, endpoint: 'unix:///nobody/new'}\n"              \
             "  - kms: {apiVersion: v1, name: old, endpoint: 'unix:///nobody/old'}\n"
#define RIG_LOCAL RIG_HEAD "  - aesgcm: {keys: [{name: k, secret: MDEyMzQ1Njc4OWFiY2RlZg==}]}\n"

extern struct pages_rig {
    struct settings settings;
    struct server s;
    struct server_set set;
    struct net_url etcd_url;
    struct pages_source source;
} rig;

/* For cmocka_run_group_tests. */
int rig_setup_all(void **state);
/* For each test. */
int rig_setup(void **state);
int rig_teardown(void **state);
/* The server's rule set is made of this configuration. */
void rig_use(const char *yaml);

#endif
