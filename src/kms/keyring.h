/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: DEK ids that a lane needs. Gives: DEKs, at once from its cache or later from the
 * manager. Owns: a reference to every cached DEK. Thread: its worker's; one ring per worker and
 * rule set.
 *
 * A ring collapses its own requests per DEK, the manager those of all rings. A DEK is cached only
 * after a value was opened with it (keyring_confirm). A refusal of the plugin is remembered for 3
 * s, and so is a value that its DEK did not open; that a plugin is away is not remembered. */
#ifndef KMS_KEYRING_H
#define KMS_KEYRING_H

#include "envelope/envelope.h"
#include "loop/mailbox.h"

struct keyring;

/* For whom DEKs are asked: one client's connection. At most LIMIT_KEYS_A_CONNECTION of its unknown
 * DEKs are with the manager, the others wait here until one of those is done; and the manager lets
 * askers take turns at a plugin. So a client that lists thousands of unknown DEKs does not keep
 * others from theirs. Embedded in its owner. Thread: the rings'. */
struct key_asker {
    struct loop *loop;
    uint64_t id; /* unlike any other asker's of the process; 0 is for those that have none */
    uint32_t in_flight;
    struct list sent; /* the pending entries that it is charged for, in_flight of them */
    struct list held; /* waits whose turn has not come */
    struct loop_task task;
};
void key_asker_init(struct key_asker *a, struct loop *loop, uint64_t id);
/* Every wait of it must be done or cancelled. */
void key_asker_fini(struct key_asker *a);

/* A wait for one DEK; embedded in its owner (of a lane, in its work). */
struct key_wait {
    struct list node;   /* in the ring's pending entry, or in its asker's held */
    struct list by_age; /* in the ring's list of all waits */
    struct keyring *ring;
    const struct provider *provider;
    const struct dek_id *id;
    struct key_pending *pending; /* NULL: held */
    struct key_asker *asker;     /* the caller's to set; NULL: no bound */
    uint64_t deadline_ms;
    bool is_pending;
    bool is_wrap;
    enum err err;    /* when done */
    struct dek *dek; /* when done with ERR_OK: a reference, the waiter's to drop */
    /* From the loop, never from inside keyring_get, keyring_wrap or keyring_cancel. */
    void (*on_done)(struct key_wait *self);
    void *user;
};

/* manager_box: where requests go; slot_count: number of KMS providers of the rule set. worker_box:
 * the worker's own mailbox, for the answers; its memory has to outlive the manager. A ring is
 * freed before its manager is closed. */
MUST_CHECK enum err keyring_new(struct loop *loop, struct mailbox *manager_box,
                                struct mailbox *worker_box, uint32_t slot_count,
                                struct keyring **out);
/* Every wait must be done or cancelled. Answers still on their way find no ring and are dropped. */
void keyring_free(struct keyring *r);

/* The DEK that id names under provider. ERR_OK: w->dek is set. ERR_AGAIN: w is queued and on_done
 * comes. Errors at once: ERR_KMS_ERROR, ERR_BAD_DEK_SIZE (remembered refusals), ERR_NOMEM,
 * ERR_CRYPTO. Later, in w->err: those, ERR_KMS_AWAY (not to be had within LIMIT_KEY_WAIT_MS),
 * ERR_NO_STATE (the plugin was never healthy and is not within that time), ERR_MEMORY_LIMIT (too
 * many DEKs are waited for). provider and id have to live until the wait is over. asker, on_done
 * and user are the caller's to set before; the rest is the ring's. */
MUST_CHECK enum err keyring_get(struct keyring *r, const struct provider *provider,
                                const struct dek_id *id, struct key_wait *w);
/* What nobody waits for any more is not asked of the plugin. */
void keyring_cancel(struct key_wait *w);
/* The same without a wait: the DEK if it is at hand, borrowed until the loop's next turn, else
 * NULL; then nothing has changed and nobody is asked. By its id, or by its tail (struct dek). The
 * tail finds only those that were used last. */
struct dek *keyring_find(struct keyring *r, const struct provider *provider,
                         const struct dek_id *id);
struct dek *keyring_find_tail(struct keyring *r, const struct provider *provider,
                              struct bytes tail);
/* A value was opened and authenticated with dek: keep it. */
void keyring_confirm(struct keyring *r, const struct provider *provider, struct dek *dek);
/* A DEK that was unwrapped for a value did not open it, but failed with err. For LIMIT_NEGATIVE_MS
 * that is known of the value, by its digest (envelope_value_digest), and the DEK need not be
 * unwrapped for it; nothing of the DEK is kept. Of so many values the one that was looked up
 * longest ago is forgotten. Other workers' rings are not told: each asks the plugin once. */
void keyring_refuse_value(struct keyring *r, const struct provider *provider,
                          const uint8_t digest[static DEK_DIGEST_LEN], enum err err);
/* That err, or ERR_OK: nothing is known. */
MUST_CHECK enum err keyring_value_refusal(struct keyring *r, const struct provider *provider,
                                          const uint8_t digest[static DEK_DIGEST_LEN]);
/* False: nothing is known of any value, so none need be looked up. */
bool keyring_has_refused_values(const struct keyring *r);
/* The DEK for writing now, borrowed until the loop's next turn. Errors: ERR_NO_WRITE_KEY (never
 * healthy, or the last good Status is more than 180 s ago). No call is ever made for it. */
MUST_CHECK enum err keyring_write_key(struct keyring *r, const struct provider *provider,
                                      struct dek **out);
/* KMS v1: a new DEK for one value, wrapped by the plugin. ERR_AGAIN: w is queued and on_done
 * comes; ERR_NOMEM. Later, in w->err: ERR_KMS_AWAY, ERR_NO_STATE (within the plugin's timeout),
 * ERR_NO_WRITE_KEY (it refuses), ERR_DEK_SOURCE_EXPOSED (it does not wrap), ERR_NOMEM,
 * ERR_RANDOM, ERR_MEMORY_LIMIT. */
MUST_CHECK enum err keyring_wrap(struct keyring *r, const struct provider *provider,
                                 struct key_wait *w);
/* The DEK that is or was last for writing, expired or not: what is stale is told by its key id.
 * Borrowed until the loop's next turn; NULL while the plugin was never healthy. */
struct dek *keyring_state(const struct keyring *r, const struct provider *provider);

#endif
