/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: the KMS providers of one rule set, unwrap requests by mail. Gives: write keys and
 * unwrapped DEKs by mail. Owns: the connections to the plugins, the life cycle of each write DEK,
 * the cache of confirmed DEKs. Thread: control.
 *
 * The life cycle is kube-apiserver's own, number for number (its kmsv2PluginProbe): Status at
 * start, every 60 s while healthy and every 10 s while not; a new 32-byte seed at start and when
 * the key_id changes; writes until 180 s after the last good Status. See lifecycle_int.h for the
 * pure part. KMS v1 has none of this: a DEK is made and wrapped for each value when it is asked
 * for. */
#ifndef KMS_MANAGER_H
#define KMS_MANAGER_H

#include "envelope/envelope.h"
#include "kms/keyring.h"
#include "loop/mailbox.h"

struct kms_manager;

struct kms_plugin_opts {
    const struct provider *provider; /* its slot is the index in the array below */
    const char *endpoint;            /* unix:///path as configured */
    uint64_t timeout_ms;             /* of each call; default 3000 */
};

struct kms_manager_opts {
    struct loop *loop; /* the control thread's */
    const struct kms_plugin_opts *plugins;
    size_t plugin_count;
    bool is_of_tool; /* that a plugin is well, and with which key, is no event then: debug */
};

/* Errors: ERR_CONFIG (logged: an endpoint, or a provider that is no KMS), ERR_NOMEM,
 * ERR_SYSTEM. */
MUST_CHECK enum err kms_manager_new(const struct kms_manager_opts *o, struct kms_manager **out);
/* The mailbox to which key rings send their requests. */
struct mailbox *kms_manager_mailbox(struct kms_manager *m);
/* A worker's key ring joins: from now on it is told of every change of state, at once of the
 * present one. Control thread. worker_box is the worker's mailbox, ring the key ring there. */
MUST_CHECK enum err kms_manager_join(struct kms_manager *m, struct mailbox *worker_box,
                                     struct keyring *ring);
/* The ring is told nothing any more; what is already in the worker's mailbox still comes. */
void kms_manager_leave(struct kms_manager *m, struct keyring *ring);
/* First checks of all plugins are over (good or bad): called once, for the start-up report. */
void kms_manager_on_primed(struct kms_manager *m, void (*fn)(void *arg), void *arg);

/* A health endpoint was asked: checks every plugin whose last result is older than kube-apiserver
 * keeps one (20 s good, 3 s bad), so that a plugin that came back is known before its next poll.
 * Returns at once. */
void kms_manager_check(struct kms_manager *m);
/* A check of any plugin is under way. */
bool kms_manager_is_checking(const struct kms_manager *m);

/* The rule set is not in use any more, but messages of it are left: no plugin is polled, write keys
 * last until they expire, and connections are kept only while a key is asked for. */
void kms_manager_rest(struct kms_manager *m);

struct kms_plugin_state {
    bool is_healthy;        /* the last check was good */
    bool has_state;         /* there was a good one */
    char key_id_hash[72];   /* "sha256:..." of the key id in use; "" without state */
    char why[1024];         /* the last check's error; "" when good */
    int64_t writes_until_s; /* the DEK in use is written with until then, in seconds since 1970; 0:
                               there is none, or each value gets one of its own (KMS v1) */
};
void kms_manager_state(const struct kms_manager *m, size_t slot, struct kms_plugin_state *out);
/* Ends calls and timers, drops all keys; fn (may be NULL) is called from the loop when all is
 * closed. Frees m. Every ring that sends to its mailbox must be freed before. */
void kms_manager_close(struct kms_manager *m, void (*fn)(void *arg), void *arg);

#endif
