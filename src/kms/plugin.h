/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: an endpoint, unwrap requests. Gives: the write DEK and until when it may be used,
 * unwrapped secrets. Owns: the connection to one plugin, its polls, the write DEK. Thread: control.
 */
#ifndef KMS_PLUGIN_H
#define KMS_PLUGIN_H

#include "base/randpool.h"
#include "client/client.h"
#include "kms/lifecycle.h"
#include "kms/manager.h"

#define PLUGIN_TIMEOUT_MS 3000u

struct plugin {
    struct loop *loop;
    struct randpool *pool; /* in secret memory */
    const struct provider *provider;
    uint64_t timeout_ms;
    struct client *client;
    struct lifecycle life;
    struct dek *dek; /* NULL while life.has_state is false */
    struct loop_timer poll;
    /* the check under way */
    struct client_call *call;
    uint64_t call_began_ns; /* for metrics */
    uint8_t *seed;          /* secret memory */
    char uid[37];
    bool was_healthy; /* when the log was told last */
    /* A check is over. has_changed: the DEK or its expiry is new. */
    void (*on_checked)(struct plugin *p, bool has_changed);
    /* Secret memory is full: free some of it. */
    void (*on_no_room)(struct plugin *p);
    void *user;
};

/* The unix URL's path alone, percent-decoded; "/@name" is the abstract socket "@name" (k8s.io/kms
 * pkg/util). Errors: ERR_CONFIG. */
MUST_CHECK enum err plugin_endpoint_parse(const char *endpoint, struct net_url *out);

/* Errors: ERR_CONFIG (endpoint), ERR_NOMEM. p need not be fini'd then. */
MUST_CHECK enum err plugin_init(struct plugin *p, struct loop *loop, struct randpool *pool,
                                const struct kms_plugin_opts *o);
void plugin_fini(struct plugin *p);
/* Begins a check now, unless one is on its way. */
void plugin_check(struct plugin *p);

enum plugin_verdict {
    PLUGIN_REFUSES = 0, /* it answered, and not with a secret */
    PLUGIN_AWAY,        /* no connection, no answer in time, UNAVAILABLE: worth another try */
    PLUGIN_FAILED,      /* ourselves: err */
    PLUGIN_UNWRAPPED,
};

struct plugin_answer {
    enum plugin_verdict verdict;
    enum err err;        /* PLUGIN_FAILED */
    struct bytes secret; /* PLUGIN_UNWRAPPED; borrowed, wiped afterwards */
    char why[256];       /* the others */
};

/* One Decrypt call; embedded in its owner. */
struct plugin_unwrap {
    void (*on_done)(struct plugin_unwrap *self, const struct plugin_answer *a); /* from the loop */
    struct client_call *call; /* NULL while none is on its way */
    const struct plugin *plugin;
    uint64_t began_ns;
};

/* Begins the call, within the plugin's timeout or max_ms if that is less. Errors: ERR_NOMEM,
 * ERR_RANDOM, ERR_KMS_ERROR (the id cannot be said in a request). */
MUST_CHECK enum err plugin_unwrap(struct plugin *p, const struct dek_id *id, uint64_t max_ms,
                                  struct plugin_unwrap *u);
/* on_done will not be called any more. */
void plugin_unwrap_cancel(struct plugin_unwrap *u);

#endif
