/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: calls of client/client.h, which it takes the place of. Gives: the answers of a small
 * etcd without a network. Owns: its keys. Thread: one.
 *
 * A program that links it has no connections: what sweep/ sends is answered from memory, in the
 * loop's next turn, unless a test has it lie. */
#ifndef TESTS_SWEEP_FAKE_ETCD_H
#define TESTS_SWEEP_FAKE_ETCD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "client/client.h"
#include "etcd/message.h"
#include "policy/ruleset.h"
#include "sweep/judge.h"

#define FAKE_KEYS 256
#define FAKE_KEY 96
#define FAKE_VALUE 512

struct fake_kv {
    char key[FAKE_KEY];
    uint8_t value[FAKE_VALUE];
    size_t len;
    int64_t mod_revision, lease;
    unsigned writes; /* by a Txn */
};

enum fake_other {
    FAKE_HERE,     /* it is carried out here */
    FAKE_ANSWERED, /* answer is the body */
    FAKE_LOST,     /* the connection is */
};

struct fake_etcd {
    struct fake_kv v[FAKE_KEYS]; /* in order */
    size_t count;
    int64_t revision, compacted; /* reads below it are refused */
    unsigned calls, ranges, txns, max_limit;
    /* What goes wrong: */
    unsigned away;       /* so many calls from now on are not answered */
    unsigned lost;       /* so many Txns are carried out, and their answer is lost */
    uint64_t connection; /* its number */
    bool is_proxy;       /* texts are those of a proxy of ours */
    size_t answer_max;   /* a larger RangeResponse is refused, as by the client; 0: none is */
    enum grpc_status txn_status;
    const char *txn_message;
    bool is_fence_down; /* Txns that have a fence are not carried out */
    unsigned fenced;    /* so many had one */
    /* Authentication: NULL, it is off. Then calls need the token with the present number. */
    const char *user, *password;
    unsigned token, logins; /* logins: so many were given out */
    unsigned token_calls;   /* so many calls a token is good for; 0: all */
    unsigned token_used;
    void (*before)(const char *path); /* before each call is carried out */
    /* Another etcd than this one: answers the call, or has it carried out here. port: of the URL
     * that the client was made for. */
    enum fake_other (*other)(const char *port, const char *path, struct bytes request,
                             struct etcd_message *answer);
};

extern struct fake_etcd fake;

void fake_reset(void);
/* Puts a value, as a writer does; count grows or the revision moves. */
void fake_put(const char *key, const void *value, size_t len, int64_t lease);
void fake_delete(const char *key);
struct fake_kv *fake_find(const char *key);

/* --- rule sets and values --------------------------------------------------------------------- */

/* Of an EncryptionConfiguration. */
struct ruleset *fake_rules_of(const char *yaml, const char *etcd_prefix);
/* secrets and configmaps: aesgcm with the keys new and old, then aescbc with cbc, then identity if
 * asked for. */
struct ruleset *fake_rules(bool has_identity);
/* What such a writer stores: with new, old, or of cbc. out has room; returns the length. */
enum fake_writer { FAKE_NEW, FAKE_OLD, FAKE_CBC };
size_t fake_seal(enum fake_writer w, const char *key, const char *plain,
                 uint8_t out[static FAKE_VALUE]);
/* Opens what the new key has sealed; out is NUL-terminated. False: it does not open with it. */
bool fake_opens(const struct fake_kv *kv, char out[static FAKE_VALUE]);

/* A loop with what a run needs. */
struct fake_site {
    struct loop loop;
    struct mailbox box;
    struct keyring *ring;
    struct envelope_ctx *ctx;
    struct slab_pool pool;
    struct sweep_judge_env judge;
    bool is_over;
};

void fake_site_init(struct fake_site *s);
/* Turns the loop until is_over, or the test fails after some seconds. */
void fake_site_run(struct fake_site *s);
/* Everything that ran on it must be closed. */
void fake_site_fini(struct fake_site *s);

#endif
