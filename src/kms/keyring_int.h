/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by keyring.c (what a ring knows, and what is asked of it) and waits.c (what it waits
 * for). Thread: the ring's. */
#ifndef KMS_KEYRING_INT_H
#define KMS_KEYRING_INT_H

#include "kms/cache_int.h"
#include "kms/kms_int.h"

#define KEYRING_BUCKETS 256u

struct slot {
    bool was_reached;      /* the plugin was healthy once */
    struct dek *write_dek; /* NULL while it was not, and with KMS v1 */
    uint64_t expiry_ms;
    struct dek_cache cache;
    struct dek_cache refused;
    struct dek_cache refused_values; /* by the digest of the value, not of a DEK */
};

/* All waits for one DEK. Lives as long as it has any. */
struct key_pending {
    struct list bucket;
    struct list waits;
    struct list charged;     /* in its asker's sent */
    struct key_asker *asker; /* NULL: nobody is charged */
    struct dek_ticket *ticket;
    uint64_t deadline_ms; /* of the wait that waits longest */
    uint32_t slot;
    bool is_wrap; /* has one wait, and never another */
    uint8_t digest[DEK_DIGEST_LEN];
};

struct keyring {
    struct loop *loop;
    struct mailbox *manager_box;
    struct ring_handle *handle;
    struct list buckets[KEYRING_BUCKETS];
    struct list waits; /* oldest first: all wait equally long */
    struct loop_timer timer;
    uint64_t wrap_count;
    uint64_t values_until_ms; /* until then some of the slots have refused values */
    uint32_t slot_count;
    struct slot slots[];
};

/* --- keyring.c --- */

/* The DEK that w wants, borrowed, or a refusal, if one of them is known here; ERR_AGAIN: neither,
 * and digest is set. */
MUST_CHECK enum err kms__known(struct keyring *r, const struct key_wait *w,
                               uint8_t digest[static DEK_DIGEST_LEN], struct dek **dek);

/* --- waits.c --- */

void kms__waits_init(struct keyring *r);
void kms__waits_fini(struct keyring *r);
/* w is for later: joins the entry of its DEK, which is asked for when it is the first, or is held.
 * ERR_AGAIN: so it is; ERR_NOMEM. digest is not looked at for a wrap. */
MUST_CHECK enum err kms__wait_begin(struct keyring *r, const uint8_t *digest, struct key_wait *w);

#endif
