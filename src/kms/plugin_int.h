/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: an endpoint, unwrap requests. Gives: the write DEK and until when it may be used,
 * unwrapped secrets. Owns: the connection to one plugin, its polls, the write DEK. Thread: control.
 */
#ifndef KMS_PLUGIN_INT_H
#define KMS_PLUGIN_INT_H

#include "client/client.h"
#include "kms/codec_int.h"
#include "kms/lifecycle_int.h"
#include "kms/manager.h"

#define PLUGIN_TIMEOUT_MS 3000u
#define PLUGIN_SOCKET_MAX 108u /* sun_path of Linux */

struct plugin {
    struct loop *loop;
    const struct provider *provider;
    const struct plugin_ops *ops; /* of its version of the KMS API */
    uint64_t timeout_ms;
    char socket_path[PLUGIN_SOCKET_MAX];
    bool has_judged_socket; /* the socket was there, so warnings about its mode were given */
    struct client *client;
    struct lifecycle life;
    struct dek *dek; /* NULL while life.has_state is false, and with KMS v1 */
    struct loop_timer poll;
    /* the check under way */
    struct client_call *call;
    uint64_t call_began_ns; /* for metrics */
    uint8_t *seed;          /* secret memory; KMS v1: what the check has wrapped */
    char uid[37];
    uint64_t check_ends_ms; /* KMS v1: deadline of the section under way */
    bool was_healthy;       /* when the log was told last */
    bool has_failed;        /* some check has */
    bool is_of_tool;        /* see struct kms_manager_opts */
    bool is_resting;        /* no polls, no connection that no call needs */
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
MUST_CHECK enum err plugin_init(struct plugin *p, struct loop *loop,
                                const struct kms_plugin_opts *o);
void plugin_fini(struct plugin *p);
/* Begins a check now, unless one is on its way. Where ops->is_polled is false one follows only when
 * it failed or is asked for. */
void plugin_check(struct plugin *p);

/* No more polls: the write DEK stays until it expires. Unwraps go on, and the connection is only
 * there while they need it. */
void plugin_rest(struct plugin *p);

enum plugin_verdict {
    PLUGIN_REFUSES = 0, /* it answered, and not with a secret */
    PLUGIN_AWAY,        /* no connection, no answer in time, UNAVAILABLE: worth another try */
    PLUGIN_FAILED,      /* ourselves: err */
    PLUGIN_UNWRAPPED,
};

struct plugin_answer {
    enum plugin_verdict verdict;
    enum err err;        /* not PLUGIN_UNWRAPPED */
    struct bytes secret; /* PLUGIN_UNWRAPPED; borrowed, wiped afterwards */
    struct dek_id id;    /* of plugin_wrap: what names it; borrowed, too */
    char why[256];       /* the others */
};

/* One Decrypt call, or one Encrypt call for plugin_wrap; embedded in its owner. */
struct plugin_unwrap {
    void (*on_done)(struct plugin_unwrap *self, const struct plugin_answer *a); /* from the loop */
    struct client_call *call; /* NULL while none is under way */
    const struct plugin *plugin;
    uint64_t began_ns;
    uint8_t *secret; /* plugin_wrap: the new DEK, in secret memory */
};

/* Begins the call, within the plugin's timeout or max_ms if that is less. Errors: ERR_NOMEM,
 * ERR_RANDOM, ERR_KMS_ERROR (the id cannot be put into a request: codec_decrypt_write). */
MUST_CHECK enum err plugin_unwrap(struct plugin *p, const struct dek_id *id, uint64_t max_ms,
                                  struct plugin_unwrap *u);
/* For a provider with a DEK for each value: makes one of 32 bytes and has it wrapped. Within the
 * same times; errors: ERR_NOMEM, ERR_RANDOM. */
MUST_CHECK enum err plugin_wrap(struct plugin *p, uint64_t max_ms, struct plugin_unwrap *u);
/* on_done will not be called any more. */
void plugin_unwrap_cancel(struct plugin_unwrap *u);

/* So many DEKs, of at most max, are kept now: sets the metric. */
void plugin_note_cache(const struct plugin *p, size_t count, size_t max);

/* --- between plugin.c and the files of the versions: plugin_v2.c, plugin_v1.c --- */

#define PLUGIN_SECRET_LEN 32u

/* What a decoded answer of Decrypt is kept in. */
union plugin_secret {
    struct codec_secret v2;
    struct codec_v1_answer v1;
};

/* What the versions of the KMS API differ in. */
struct plugin_ops {
    bool is_polled;     /* each check is followed by the next one, not only a bad one */
    bool has_latencies; /* kube-apiserver measures its calls */
    /* Begins a check, which ends with plugin_end_check, maybe at once. */
    void (*check)(struct plugin *p);
    const char *decrypt; /* the method */
    enum err (*decrypt_write)(const struct dek_id *id, struct codec_request *req);
    /* *out borrows from room. decrypt_fini is due in any case, and wipes. */
    enum err (*decrypt_read)(struct bytes body, union plugin_secret *room, struct bytes *out);
    void (*decrypt_fini)(union plugin_secret *room);
    /* plugin_wrap; NULL: there is no DEK for each value. */
    enum err (*wrap)(struct plugin *p, uint64_t timeout_ms, struct plugin_unwrap *u);
    void (*note_cache)(const struct plugin *p, size_t count, size_t max);
};

extern const struct plugin_ops plugin_v2_ops, plugin_v1_ops;

/* The life cycle has the result: tells the log and the manager, and sets the next poll. */
void plugin_end_check(struct plugin *p, bool has_changed);
struct lifecycle_time plugin_time(const struct plugin *p);
/* PLUGIN_SECRET_LEN random bytes in secret memory. Errors: ERR_NOMEM, ERR_RANDOM. */
MUST_CHECK enum err plugin_random_secret(struct plugin *p, uint8_t **out);
/* The same for a DEK or a seed: counted as such. */
MUST_CHECK enum err plugin_make_secret(struct plugin *p, uint8_t **out);
/* What kube-apiserver would have got. Its calls wait for a connection: without one their deadline
 * passes. */
enum grpc_status plugin_call_status(const struct client_answer *a);
/* The error of a failed call, in Go's words. Returns out. */
const char *plugin_call_text(const struct client_answer *a, char *out, size_t cap);
/* The metric of a call's latency. */
void plugin_note_call(const struct plugin *p, const char *method, uint64_t began_ns,
                      const struct client_answer *a);
enum plugin_verdict plugin_judge(const struct client_answer *a);

#endif
